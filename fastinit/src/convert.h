/* From float32 to the 16-bit floats, rounded to nearest even, in integer arithmetic that
 * every instruction set vectorises.  The input is finite: parameters are checked before. */
#ifndef FI_CONVERT_H
#define FI_CONVERT_H

#include "fma.h"

static inline uint16_t bfloat16_of(float x)
{
    uint32_t b = bits32(x);
    return (uint16_t)((b + 0x7fffu + ((b >> 16) & 1)) >> 16);
}

/* Below 2^-14 a float16 is a multiple of 2^-24: adding 0.5, whose float32 spacing that
 * is, rounds there and leaves the result in the last bits (F. Giesen, "Float->half
 * variants", 2012).  2^16 - 2^4 and more rounds to infinity, as in NumPy. */
static inline uint16_t float16_of(float x)
{
    uint32_t b = bits32(x), sign = b >> 16 & 0x8000u, magnitude = b & 0x7fffffffu;
    uint32_t small = bits32(float_of(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
    uint32_t is_small = 0u - (uint32_t)(magnitude < 0x38800000u);
    uint32_t is_large = 0u - (uint32_t)(magnitude >= 0x477ff000u);
    uint32_t h = (small & is_small) | (normal & ~is_small);
    return (uint16_t)(sign | (0x7c00u & is_large) | (h & ~is_large));
}

#endif
