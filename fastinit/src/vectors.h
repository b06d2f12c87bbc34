/* What C has no word for: every other element of two vectors, as one.  GCC before 12 has
 * another name for it than Clang. */
#ifndef FI_VECTORS_H
#define FI_VECTORS_H

#if FI_VECTOR == 16
#define FI_INDICES(FROM) FROM, FROM + 2, FROM + 4, FROM + 6
#elif FI_VECTOR == 32
#define FI_INDICES(FROM)                                                                           \
    FROM, FROM + 2, FROM + 4, FROM + 6, FROM + 8, FROM + 10, FROM + 12, FROM + 14
#else
#define FI_INDICES(FROM)                                                                           \
    FROM, FROM + 2, FROM + 4, FROM + 6, FROM + 8, FROM + 10, FROM + 12, FROM + 14, FROM + 16,      \
        FROM + 18, FROM + 20, FROM + 22, FROM + 24, FROM + 26, FROM + 28, FROM + 30
#endif

#if defined(__clang__)
#define FI_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FI_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (__typeof__(a)){__VA_ARGS__})
#endif
#define FI_EVEN(a, b) FI_SHUFFLE(a, b, FI_INDICES(0))
#define FI_ODD(a, b) FI_SHUFFLE(a, b, FI_INDICES(1))

#define FI_BIG_ENDIAN (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

#endif
