/* From float32 to the narrow floats, rounded to nearest even, in integer arithmetic that
 * every instruction set vectorises.  The input is finite: parameters are checked before. */
#ifndef FI_CONVERT_H
#define FI_CONVERT_H

#include "fma.h"

static inline uint16_t bfloat16_of(float x)
{
    uint32_t b = bits32(x);
    return (uint16_t)((b + 0x7fffu + ((b >> 16) & 1)) >> 16);
}

/* The code, without its sign, of a format with `mantissa` stored bits and exponent bias
 * `bias`; `top` is the code that stands for all that is too large.
 *
 * Below the least normal number the format is a grid: adding a power of two whose float32
 * spacing that is, rounds there and leaves the result in the last bits (F. Giesen,
 * "Float->half variants", 2012). */
static inline uint32_t narrow_code(uint32_t magnitude, int mantissa, int bias, uint32_t top)
{
    const int shift = 23 - mantissa;
    const uint32_t least_normal = (uint32_t)(128 - bias) << 23;
    const uint32_t grid = (uint32_t)(151 - bias - mantissa) << 23;
    uint32_t small = bits32(float_of(magnitude) + float_of(grid)) - grid;
    uint32_t half_up = (1u << (shift - 1)) - 1 + ((magnitude >> shift) & 1);
    uint32_t normal = (magnitude - ((uint32_t)(127 - bias) << 23) + half_up) >> shift;
    uint32_t is_small = 0u - (uint32_t)(magnitude < least_normal);
    uint32_t code = (small & is_small) | (normal & ~is_small);
    return code < top ? code : top;
}

/* Too large rounds to infinity, as in NumPy. */
static inline uint16_t float16_of(float x)
{
    uint32_t b = bits32(x);
    return (uint16_t)((b >> 16 & 0x8000u) | narrow_code(b & 0x7fffffffu, 10, 15, 0x7c00u));
}

static inline uint8_t float8_e5m2_of(float x)
{
    uint32_t b = bits32(x);
    return (uint8_t)((b >> 24 & 0x80u) | narrow_code(b & 0x7fffffffu, 2, 15, 0x7cu));
}

/* No infinities: too large rounds to NaN, as in ml_dtypes. */
static inline uint8_t float8_e4m3fn_of(float x)
{
    uint32_t b = bits32(x);
    return (uint8_t)((b >> 24 & 0x80u) | narrow_code(b & 0x7fffffffu, 3, 7, 0x7fu));
}

#endif
