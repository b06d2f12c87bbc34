/* Box-Muller: two uniforms give the radius and the angle of two independent normals.
 *
 * G. E. P. Box, M. E. Muller, "A Note on the Generation of Random Normal Deviates",
 * Ann. Math. Statist. 29 (1958).
 *
 * The polynomials are minimax fits (Sollya's fpminimax, relative error).  Errors, in units
 * in the last place, as tests/test_accuracy.py reads them here and measures them: in float32
 * the first three at every argument that occurs, all others in sweeps of some 2^20.
 *
 *   function         of                     float32   float64
 *   -2 log u         u, or 1 - u near 1        1.95      2.29
 *   sin x            x in [-pi/4, pi/4]        0.68      0.65
 *   cos x            x in [-pi/4, pi/4]        0.88      0.87
 *   sqrt(-2 log u)   the bits drawn            1.83      2.16
 *   z0, z1           the bits drawn            3.67      3.38
 *
 * No branch and no select between polynomials: a choice is a mask over bits, which
 * every compiler vectorises.
 */
#ifndef FI_NORMAL_H
#define FI_NORMAL_H

#include "fma.h"

static inline uint32_t mask_if(int condition) { return 0u - (uint32_t)condition; }
static inline uint64_t mask64_if(int condition) { return 0u - (uint64_t)condition; }

/* -2 log u, from u and from 1 - u, each correctly rounded: near u = 1 only the second
 * still knows how far away 1 is.  u = 2^e * f with f in [sqrt(1/2), sqrt(2)). */
static inline float minus_2_log32(float u, float one_minus_u)
{
    const uint32_t sqrt_half = 0x3f3504f3u;
    uint32_t scaled = bits32(u) - sqrt_half;
    int32_t e = (int32_t)scaled >> 23;
    float f = float_of((scaled & 0x7fffffu) + sqrt_half);
    uint32_t near_1 = mask_if(e == 0);
    float t = float_of((bits32(-one_minus_u) & near_1) | (bits32(f - 1.0f) & ~near_1));
    float q = -0x1.665dcap-3f;
    q = fma32(q, t, 0x1.255856p-2f);
    q = fma32(q, t, -0x1.318864p-2f);
    q = fma32(q, t, 0x1.534d96p-2f);
    q = fma32(q, t, -0x1.98d11ap-2f);
    q = fma32(q, t, 0x1.000514p-1f);
    q = fma32(q, t, -0x1.5556fcp-1f);
    q = fma32(q, t, 0x1.fffff8p-1f);
    q = fma32(q, t, -2.0f);
    return fma32((float)e, -0x1.62e43p0f, q * t);
}

static inline float sin32(float x)
{
    float y = x * x, q = -0x1.992cf8p-13f;
    q = fma32(q, y, 0x1.1106e6p-7f);
    q = fma32(q, y, -0x1.555544p-3f);
    return fma32(q, y * x, x);
}

static inline float cos32(float x)
{
    float y = x * x, q = 0x1.99e912p-16f;
    q = fma32(q, y, -0x1.6c0c2ap-10f);
    q = fma32(q, y, 0x1.55554ap-5f);
    q = fma32(q, y, -0.5f);
    return fma32(q, y, 1.0f);
}

/* Two standard normals of draws d0, d1.
 *
 * Radius: 40 bits, d0 and the low 8 of d1, at the middle of their interval, so that
 * neither u nor 1 - u is ever 0, and the radius reaches sqrt(2 * 41 * log 2) = 7.54.
 * Rounded, u may be 1: the logarithm then is that of 1 - u.
 * Angle: 24 bits.  Bit 31 is the cosine's sign, bit 30 says which of the pair gets the
 * cosine, the other 22 choose an odd multiple of (pi/2) / 2^23 in (-pi/4, pi/4): every
 * quarter of the circle once, without a range reduction, and never exactly 0. */
static inline void normal_pair32(uint32_t d0, uint32_t d1, float *z0, float *z1)
{
    float high = (float)(int32_t)(d0 >> 8);
    float low = float_of(0x4b000000u | (d0 << 8 & 0xff00u) | (d1 & 0xffu)); /* and 2^23 */
    float rest = fma32(low, 0x1p-40f, 0x1p-41f - 0x1p-17f);
    float u = fma32(high, 0x1p-24f, rest);
    float one_minus_u = fma32(0x1p24f - high, 0x1p-24f, -rest);
    float radius = __builtin_sqrtf(minus_2_log32(u, one_minus_u));

    float x = fma32((float)((int32_t)(d1 << 2) >> 10), 0x1.921fb6p-22f, 0x1.921fb6p-23f);
    uint32_t s = bits32(sin32(x));
    uint32_t c = bits32(cos32(x)) ^ (d1 & 0x80000000u);
    uint32_t swap = (s ^ c) & mask_if((d1 & 0x40000000u) != 0);
    *z0 = radius * float_of(c ^ swap);
    *z1 = radius * float_of(s ^ swap);
}

/* As minus_2_log32; log f = 2 atanh(s) with s = t / (2 + t), an odd series in s
 * (as fdlibm's e_log.c does it; FreeBSD, lib/msun/src). */
static inline double minus_2_log64(double u, double one_minus_u)
{
    const uint64_t sqrt_half = 0x3fe6a09e667f3bcdu;
    uint64_t scaled = bits64(u) - sqrt_half;
    int32_t e = (int32_t)(scaled >> 32) >> 20;
    double f = double_of((scaled & 0xfffffffffffffu) + sqrt_half);
    uint64_t near_1 = mask64_if(e == 0);
    double t = double_of((bits64(-one_minus_u) & near_1) | (bits64(f - 1.0) & ~near_1));
    double s = t / (2.0 + t), y = s * s, q = -0x1.2f1eb18cb8e09p-2;
    q = fma64(q, y, -0x1.399f3838deaf9p-2);
    q = fma64(q, y, -0x1.746657fd76585p-2);
    q = fma64(q, y, -0x1.c71c518cabffdp-2);
    q = fma64(q, y, -0x1.2492494290e03p-1);
    q = fma64(q, y, -0x1.999999997f18bp-1);
    q = fma64(q, y, -0x1.5555555555595p0);
    q = fma64(q, y, -4.0);
    return fma64((double)e, -0x1.62e42fefa39efp0, q * s);
}

static inline double sin64(double x)
{
    double y = x * x, q = 0x1.5d8e4fb4e7ee1p-33;
    q = fma64(q, y, -0x1.ae5e54bf8deb3p-26);
    q = fma64(q, y, 0x1.71de355f53bf5p-19);
    q = fma64(q, y, -0x1.a01a019bf261fp-13);
    q = fma64(q, y, 0x1.111111110f75ep-7);
    q = fma64(q, y, -0x1.5555555555548p-3);
    return fma64(q, y * x, x);
}

static inline double cos64(double x)
{
    double y = x * x, q = -0x1.9073edbb62cbp-37;
    q = fma64(q, y, 0x1.1eeb586f405a7p-29);
    q = fma64(q, y, -0x1.27e4fa0384523p-22);
    q = fma64(q, y, 0x1.a01a019f38ba5p-16);
    q = fma64(q, y, -0x1.6c16c16c168ccp-10);
    q = fma64(q, y, 0x1.5555555555555p-5);
    q = fma64(q, y, -0.5);
    return fma64(q, y, 1.0);
}

/* Integers become doubles by arithmetic on bits, as AVX2 has no conversion from 64-bit
 * integers: 2^52 + n has n in its last bits, and so, 2^51 added, for a signed n. */
static inline double double_of_uint32(uint64_t n)
{
    return double_of(n | 0x4330000000000000u) - 0x1p52;
}

static inline double double_of_int52(uint64_t n)
{
    return double_of(n ^ 0x4338000000000000u) - 0x1.8p52;
}

/* As normal_pair32, of 64-bit words: the radius from all 64 bits of w0 (reaching
 * sqrt(2 * 65 * log 2) = 9.49), the angle from the top 53 bits of w1. */
static inline void normal_pair64(uint64_t w0, uint64_t w1, double *z0, double *z1)
{
    double high = double_of_uint32(w0 >> 32), low = double_of_uint32(w0 & 0xffffffffu);
    double u = fma64(high, 0x1p-32, fma64(low, 0x1p-64, 0x1p-65));
    double one_minus_u =
        fma64(0xffffffff - high, 0x1p-32, fma64(0xffffffff - low, 0x1p-64, 0x1p-65));
    double radius = __builtin_sqrt(minus_2_log64(u, one_minus_u));

    double x = double_of_int52(((w1 >> 10) & 0xfffffffffffffu) | 1) * 0x1.921fb54442d18p-52;
    uint64_t s = bits64(sin64(x));
    uint64_t c = bits64(cos64(x)) ^ (w1 & 0x8000000000000000u);
    uint64_t swap = (s ^ c) & mask64_if((w1 & 0x4000000000000000u) != 0);
    *z0 = radius * double_of(c ^ swap);
    *z1 = radius * double_of(s ^ swap);
}

#endif
