/* The kernels for any CPU of the architecture: SSE2 on x86-64, NEON on aarch64. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FI_HAS_FMA 1
#else
#define FI_HAS_FMA 0
#endif
#define FI_VECTOR 16

#define FI_TABLE fi_table_base
#define FI_ISA "base"
#include "kernels.inc.h"
