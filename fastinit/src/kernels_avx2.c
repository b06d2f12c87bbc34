/* The kernels for AVX2 and FMA: Intel from Haswell, AMD from Excavator on. */
#include "target.h"
#if defined(__x86_64__)
#include <immintrin.h>

FI_TARGET_BEGIN("avx2,fma")
#define FI_HAS_FMA 1
#define FI_VECTOR 32
#define FI_TABLE fi_table_avx2
#define FI_ISA "avx2"
#include "kernels.inc.h"
FI_TARGET_END

#else
typedef int no_such_isa_here; /* ISO C wants a declaration in every file */
#endif
