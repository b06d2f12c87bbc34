/* Fused multiply-add, exact on every CPU: fma(a, b, c) = a * b + c rounded once.
 *
 * Never contracted by the compiler (-ffp-contract=off), always written out, so that
 * one text gives one answer.  Where the instruction set has none, libm's fma is exact
 * but a call; for float32 it is built from float64 operations, which vectorise.
 */
#ifndef FI_FMA_H
#define FI_FMA_H

#include <stdint.h>
#include <string.h>

static inline uint32_t bits32(float x)
{
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static inline float float_of(uint32_t b)
{
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

static inline uint64_t bits64(double x)
{
    uint64_t b;
    memcpy(&b, &x, sizeof b);
    return b;
}

static inline double double_of(uint64_t b)
{
    double x;
    memcpy(&x, &b, sizeof x);
    return x;
}

#if FI_HAS_FMA

static inline float fma32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double fma64(double a, double b, double c) { return __builtin_fma(a, b, c); }

#else

#include <math.h>

/* The product of two float32 is exact in float64.  Their sum with c is rounded to odd
 * (S. Boldo, G. Melquiond, "Emulation of FMA and Correctly Rounded Sums", IEEE TC 57,
 * 2008): an inexact sum gets an odd last bit, so that rounding it again, to float32,
 * equals rounding once.  `error` is Knuth's two-sum. */
static inline float fma32(float a, float b, float c)
{
    double p = (double)a * b, s = p + c;
    double v = s - p, error = (p - (s - v)) + (c - v);
    uint64_t nearer = (bits64(s) ^ bits64(error)) >> 63; /* 1: the exact sum is nearer to 0 */
    double odd = double_of((bits64(s) - nearer) | 1);
    return (float)(error != 0 ? odd : s);
}

static inline double fma64(double a, double b, double c) { return fma(a, b, c); }

#endif
#endif
