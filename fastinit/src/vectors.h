/* What C has no word for: vectors of 32-bit numbers, taken apart, put together and rotated.
 *
 * The first two work within each 16 bytes, which is one instruction everywhere (on x86 shufps and unpck);
 * in natural order across a whole vector they would be two, or want an index in a register
 * (measured: 4 % of a normal on AVX-512, 6 % on AVX2).  So between FI_SPLIT and FI_ZIP numbers
 * lie in an order of their own, which the second undoes: of each 16 bytes, two come from the
 * first vector and two from the second.
 *
 * The vectors are floats, as GCC knows shufps for them alone. */
#ifndef FI_VECTORS_H
#define FI_VECTORS_H

#include <stdint.h>
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "fma.h"

typedef float fi_vector __attribute__((vector_size(FI_VECTOR)));
typedef int32_t fi_indices __attribute__((vector_size(FI_VECTOR)));

/* FI_SPLIT: every other number of two vectors, from number N on; FI_ZIP: the numbers of two
 * vectors in turn, from numbers N and N + 1 of each 16 bytes on. */
#define FI_SPLIT_16(N, OF) N, N + 2, OF + N, OF + N + 2
#define FI_ZIP_16(N, OF) N, OF + N, N + 1, OF + N + 1

#if FI_VECTOR == 16
#define FI_EACH_16(LIST, N) LIST(N, 4)
#elif FI_VECTOR == 32
#define FI_EACH_16(LIST, N) LIST(N, 8), LIST(N + 4, 8)
#else
#define FI_EACH_16(LIST, N) LIST(N, 16), LIST(N + 4, 16), LIST(N + 8, 16), LIST(N + 12, 16)
#endif

/* GCC before 12 has another name for it than Clang. */
#if defined(__clang__)
#define FI_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FI_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (fi_indices){__VA_ARGS__})
#endif
#define FI_SPLIT(a, b, N) FI_SHUFFLE(a, b, FI_EACH_16(FI_SPLIT_16, N))
#define FI_ZIP(a, b, N) FI_SHUFFLE(a, b, FI_EACH_16(FI_ZIP_16, N))

/* The same order undone where a 32-bit number is a pair already: two such make one of 64 bits. */
typedef uint64_t fi_wide_vector __attribute__((vector_size(FI_VECTOR)));
typedef int64_t fi_wide_indices __attribute__((vector_size(FI_VECTOR)));

#if defined(__clang__)
#define FI_SHUFFLE_WIDE(a, ...) __builtin_shufflevector(a, a, __VA_ARGS__)
#else
#define FI_SHUFFLE_WIDE(a, ...) __builtin_shuffle(a, (fi_wide_indices){__VA_ARGS__})
#endif

#if FI_VECTOR == 16
#define FI_NATURAL(a) (a)
#elif FI_VECTOR == 32
#define FI_NATURAL(a) FI_SHUFFLE_WIDE(a, 0, 2, 1, 3)
#else
#define FI_NATURAL(a) FI_SHUFFLE_WIDE(a, 0, 2, 4, 6, 1, 3, 5, 7)
#endif

/* A vector of 32-bit numbers, each rotated right by its own count, which GCC has not by itself:
 * AVX-512 has an instruction for it (measured: 9 % of a normal), and AVX2 shifts that make 0 of what is
 * shifted by 32. */
#if FI_VECTOR == 64
#define FI_ROTATE(x, r)                                                                            \
    _mm512_storeu_si512(x, _mm512_rorv_epi32(_mm512_loadu_si512(x), _mm512_loadu_si512(r)))
#elif FI_VECTOR == 32
#define FI_ROTATE(x, r)                                                                            \
    do {                                                                                           \
        const __m256i whole = _mm256_loadu_si256((const __m256i *)(x));                            \
        const __m256i right = _mm256_loadu_si256((const __m256i *)(r));                            \
        const __m256i left = _mm256_sub_epi32(_mm256_set1_epi32(32), right);                       \
        _mm256_storeu_si256((__m256i *)(x), _mm256_or_si256(_mm256_srlv_epi32(whole, right),       \
                                                            _mm256_sllv_epi32(whole, left)));      \
    } while (0)
#endif

/* The products of the lower halves of 64-bit numbers, where there is an instruction for it and none
 * for the product of all 64 bits. */
#if FI_VECTOR == 32
#define FI_MULTIPLY_LOW(a, b) ((fi_wide_vector)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#endif

/* Fused multiply-add of vectors: neither GCC's nor Clang's vectors know it, and what is left to
 * the vectoriser is not kept in registers. */
#if FI_VECTOR == 64
#define FI_FMA_float(a, b, c) (vector_float) _mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c))
#define FI_FMA_double(a, b, c)                                                                     \
    (vector_double) _mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c))
#elif FI_VECTOR == 32
#define FI_FMA_float(a, b, c) (vector_float) _mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#define FI_FMA_double(a, b, c)                                                                     \
    (vector_double) _mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c))
#elif defined(__aarch64__)
#define FI_FMA_float(a, b, c)                                                                      \
    (vector_float) vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b))
#define FI_FMA_double(a, b, c)                                                                     \
    (vector_double) vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b))
#else
#define FI_FMA_float fused_float
#define FI_FMA_double fused_double
#define FI_FUSED(REAL, FMA)                                                                        \
    typedef REAL vector_of_##REAL __attribute__((vector_size(FI_VECTOR)));                         \
    static inline vector_of_##REAL fused_##REAL(vector_of_##REAL a, vector_of_##REAL b,            \
                                                vector_of_##REAL c)                                \
    {                                                                                              \
        for (int l = 0; l < (int)(FI_VECTOR / sizeof(REAL)); l++)                                  \
            c[l] = FMA(a[l], b[l], c[l]);                                                          \
        return c;                                                                                  \
    }
FI_FUSED(float, fma32)
FI_FUSED(double, fma64)
#endif

/* Arrays of lanes begin where a vector may.  GCC sees to that by itself.  Clang leaves them wherever the
 * stack is, and vectors that lie in two cache lines are slow (measured on AVX2: a normal takes 0.9 or
 * 1.5 ns, as the caller's stack happens to be). */
#define FI_ALIGNED _Alignas(FI_VECTOR)

/* Before a loop over lanes: four of its vectors are computed in turns, so that they wait less for each
 * other; of AVX-512 it has two.  Clang does so where it is told (measured on AVX2: a normal takes 0.87 of
 * the time, a truncated one 0.6).  GCC does by the options in flags.txt if it unrolls the loop: a long
 * one of AVX2 where it is told (measured: a truncated normal of more than 2.9 sigma takes 0.75 of the
 * time, one of float64 0.77).  It unrolls those of AVX-512 by itself; with NEON nobody has measured it. */
#if defined(__clang__) && FI_VECTOR == 64
#define FI_IN_TURNS _Pragma("clang loop interleave_count(2)")
#elif defined(__clang__)
#define FI_IN_TURNS _Pragma("clang loop interleave_count(4)")
#elif FI_VECTOR == 32
#define FI_IN_TURNS _Pragma("GCC unroll 4")
#else
#define FI_IN_TURNS
#endif

/* The array is in memory from here on, so that the loop before and the loop after it stay apart.  Woven into
 * one they need more registers than most have (measured on AVX2, for float16 and float8: 0.9 of the time
 * with GCC, and 0.65 with Clang, which computes one vector after the other of both loops).  GCC has
 * enough with AVX-512, where this would be 3 % more instructions. */
#if FI_VECTOR < 64 || defined(__clang__)
#define FI_IN_MEMORY(array) __asm__ volatile("" : : "r"(array) : "memory")
#else
#define FI_IN_MEMORY(array)
#endif

/* What is read through the pointer from here on is read after the vector is made: else GCC reads
 * ahead until no register is left, and keeps sums in memory. It costs no instruction. */
#if defined(__x86_64__)
#define FI_AFTER(pointer, vector) __asm__("" : "+r"(pointer), "+x"(vector))
#elif defined(__aarch64__)
#define FI_AFTER(pointer, vector) __asm__("" : "+r"(pointer), "+w"(vector))
#else
#define FI_AFTER(pointer, vector)
#endif

#define FI_BIG_ENDIAN (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

#endif
