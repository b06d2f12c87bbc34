/* What a uniform's or a normal's parameters do to it: x * scale + shift, one fused multiply-add.
 *
 * Parameters, and a uniform's width, are computed in double and rounded once.  But low + u * width is
 * rounded as well, which may bring it to high, or past it where high was rounded down.  As
 * rounding is monotone, the largest u alone tells: where it leaves [low, high), the width
 * becomes that from low to the last number below high.  Then u * width is less than the exact
 * width, as u is at most 1 - eps and the rounding of the width adds less than eps of it:
 * hence no value is above that number.  The check costs nothing an element, and leaves the bits of
 * [0, 1), and of what is symmetric, as they are. */
#ifndef FI_AFFINE_H
#define FI_AFFINE_H

#include "fma.h"

typedef struct {
    float scale, shift;
} affine32;

typedef struct {
    double scale, shift;
} affine64;

/* The next number below. */
static inline float below32(float x)
{
    return x > 0 ? float_of(bits32(x) - 1) : x < 0 ? float_of(bits32(x) + 1) : -0x1p-149f;
}

static inline double below64(double x)
{
    return x > 0 ? double_of(bits64(x) - 1) : x < 0 ? double_of(bits64(x) + 1) : -0x1p-1074;
}

static inline affine32 uniform_affine32(const void *params)
{
    const double *p = (const double *)params;
    const float low = (float)p[0], high = (float)p[1], last = low < high ? below32(high) : low;
    const float width = (float)(p[1] - p[0]);
    affine32 a = {fma32(1.0f - 0x1p-24f, width, low) > last ? last - low : width, low};
    return a;
}

static inline affine64 uniform_affine64(const void *params)
{
    const double *p = (const double *)params;
    const double low = p[0], high = p[1], last = low < high ? below64(high) : low;
    const double width = high - low;
    affine64 a = {fma64(1.0 - 0x1p-53, width, low) > last ? last - low : width, low};
    return a;
}

/* Of integer_pair32; exact, unless the width is tiny. */
static inline affine32 integer_affine32(const void *params)
{
    affine32 a = uniform_affine32(params);
    a.scale *= 0x1p-24f;
    return a;
}

static inline affine64 normal_affine64(const void *params)
{
    const double *p = (const double *)params;
    affine64 a = {p[1], p[0]};
    return a;
}

static inline affine32 normal_affine32(const void *params)
{
    const affine64 a = normal_affine64(params);
    affine32 rounded = {(float)a.scale, (float)a.shift};
    return rounded;
}

#endif
