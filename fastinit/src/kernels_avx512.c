/* The kernels for AVX-512 (F, BW, DQ, VL): Intel from Skylake-SP, AMD from Zen 4 on. */
#include "target.h"
#if defined(__x86_64__)
#include <immintrin.h>

FI_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,fma")
#define FI_HAS_FMA 1
#define FI_VECTOR 64
#define FI_TABLE fi_table_avx512
#define FI_ISA "avx512"
#include "kernels.inc.h"
FI_TARGET_END

#else
typedef int no_such_isa_here; /* ISO C wants a declaration in every file */
#endif
