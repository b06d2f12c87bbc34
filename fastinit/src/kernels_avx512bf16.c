/* The kernels for AVX-512 with its conversion to bfloat16: Intel from Sapphire Rapids, AMD from
 * Zen 4 on (measured: 13 % less for a normal bfloat16). */
#include "internal.h"
#include "target.h"
#if FI_KNOWS_AVX512BF16
#include <immintrin.h>

FI_TARGET_BEGIN("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")
#define FI_HAS_FMA 1
#define FI_VECTOR 64
#define FI_BFLOAT16_32(to, x)                                                                      \
    do {                                                                                           \
        __m512bh v = _mm512_cvtne2ps_pbh(_mm512_loadu_ps((x) + 16), _mm512_loadu_ps(x));           \
        memcpy(to, &v, sizeof v);                                                                  \
    } while (0)
#define FI_TABLE fi_table_avx512bf16
#define FI_ISA "avx512bf16"
#include "kernels.inc.h"
FI_TARGET_END

#else
typedef int no_such_isa_here; /* ISO C wants a declaration in every file */
#endif
