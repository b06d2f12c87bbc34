/* Box-Muller: two uniforms give the radius and the angle of two independent normals.
 *
 * G. E. P. Box, M. E. Muller, "A Note on the Generation of Random Normal Deviates",
 * Ann. Math. Statist. 29 (1958).
 *
 * The polynomials are minimax fits (Sollya's fpminimax, relative error), those of float32 with
 * no more terms than keep z0 and z1 within 5 units in the last place: its kernels are bound by
 * the instructions they have.  Errors, in such units, as tests/core/test_accuracy.py reads them here
 * and measures them: in float32 the first three at every argument that occurs, all others in
 * sweeps of some 2^20.
 *
 *   function         of                     float32   float64
 *   -2 log u         u, or 1 - u near 1        4.09      2.29
 *   sin x            x in [-pi/4, pi/4]        1.57      0.65
 *   cos x            x in [-pi/4, pi/4]        1.41      0.87
 *   sqrt(-2 log u)   the bits drawn            2.58      2.16
 *   z0, z1           the bits drawn            4.38      3.38
 *
 * No branch and no select between polynomials: a choice is a mask over bits, which
 * every compiler vectorises.
 */
#ifndef FI_NORMAL_H
#define FI_NORMAL_H

#include "fma.h"

static inline uint32_t mask_if(int condition) { return 0u - (uint32_t)condition; }
static inline uint64_t mask64_if(int condition) { return 0u - (uint64_t)condition; }
static inline uint32_t mask_if_negative(uint32_t b) { return (uint32_t)((int32_t)b >> 31); }

/* -2 log (2^e * (1 + t)), t in [-1/2, 0]; e is left where an exponent is, 23 bits up. */
static inline float minus_2_log_parts32(int32_t e, float t)
{
    float q = 0x1.292386p1f;
    q = fma32(q, t, 0x1.094380p1f);
    q = fma32(q, t, 0x1.80d21cp0f);
    q = fma32(q, t, -0x1.a05cacp-4f);
    q = fma32(q, t, 0x1.142232p-1f);
    q = fma32(q, t, -0x1.5419c4p-1f);
    q = fma32(q, t, 0x1.000338p0f);
    q = fma32(q, t, -2.0f);
    return fma32((float)e, -0x1.62e43p-23f, q * t);
}

/* -2 log u, from u, or where the mask near_1 says so from u - 1, which alone knows how far away
 * 1 is; u >= 1/2 there.  u = 2^e * f with f in [1/2, 1), and t is f - 1 or u - 1. */
static inline float minus_2_log32(float u, float u_minus_1, uint32_t near_1)
{
    const uint32_t half = 0x3f000000u;
    int32_t e = (int32_t)((bits32(u) - half) & 0xff800000u & ~near_1);
    float f = float_of((bits32(u) & 0x7fffffu) | half);
    float t = float_of((bits32(u_minus_1) & near_1) | (bits32(f - 1.0f) & ~near_1));
    return minus_2_log_parts32(e, t);
}

/* The same from one number v, which is u below 1/2, and u - 1, so negative, from there on.  There e
 * is 0 and f is v: and v - 1 has the larger magnitude, which as an integer is more.  Else f is
 * positive and f - 1 is not, which as an integer is less. */
static inline float minus_2_log_signed32(float v)
{
    const uint32_t half = 0x3f000000u, exponent = bits32(v) & 0xff800000u;
    int32_t e = (int32_t)((exponent < half ? exponent : half) - half);
    int32_t f = (int32_t)bits32(v) - e, f_minus_1 = (int32_t)bits32(float_of((uint32_t)f) - 1.0f);
    return minus_2_log_parts32(e, float_of((uint32_t)(f < f_minus_1 ? f : f_minus_1)));
}

/* Sine and cosine of x = pi/2 * r, r in (-1/2, 1/2). */
static inline float sin32(float r)
{
    float y = r * r, q = -0x1.2f5992p-8f;
    q = fma32(q, y, 0x1.466b2p-4f);
    q = fma32(q, y, -0x1.4abbecp-1f);
    q = fma32(q, y, 0x1.921fb6p0f);
    return q * r;
}

static inline float cos32(float r)
{
    float y = r * r, q = -0x1.4e84d8p-6f;
    q = fma32(q, y, 0x1.03b07cp-2f);
    q = fma32(q, y, -0x1.3bd39cp0f);
    return fma32(q, y, 1.0f);
}

/* Of u's 40 bits, d0 and the low 8 of d1, at the middle of their interval, so that neither u nor
 * 1 - u is ever 0, and the radius reaches sqrt(2 * 41 * log 2) = 7.54.  As a signed number d0
 * is u below 1/2, and u - 1 from there on. */
static inline float radius32(uint32_t d0, uint32_t d1)
{
    float low = float_of(0x37000000u | (d1 & 0xffu)) - (0x1p-17f - 0x1p-41f);
    float v = fma32((float)(int32_t)d0, 0x1p-32f, low);
    return __builtin_sqrtf(minus_2_log_signed32(v));
}

/* Two standard normals of draws d0, d1.
 *
 * Angle: 24 bits.  Bit 31 is the cosine's sign, bit 30 says which of the pair gets the
 * cosine, the other 22 choose an odd multiple of (pi/2) / 2^23 in (-pi/4, pi/4): every
 * quarter of the circle once, without a range reduction, and never exactly 0.  They are a
 * float's mantissa, their top bit turned as in two's complement. */
static inline void normal_pair32(uint32_t d0, uint32_t d1, float *z0, float *z1)
{
    float radius = radius32(d0, d1);
    float r = float_of((d1 >> 7 & 0x7ffffeu) ^ 0x3fc00001u) - 1.5f;
    uint32_t s = bits32(sin32(r));
    uint32_t c = bits32(cos32(r)) ^ (d1 & 0x80000000u);
    uint32_t swap = (s ^ c) & mask_if_negative(d1 << 1);
    *z0 = radius * float_of(c ^ swap);
    *z1 = radius * float_of(s ^ swap);
}

/* -2 log u, from u and from 1 - u, each correctly rounded: near u = 1 only the second still
 * knows how far away 1 is.  u = 2^e * f with f in [sqrt(1/2), sqrt(2)); log f = 2 atanh(s)
 * with s = t / (2 + t), an odd series in s (as fdlibm's e_log.c does it; FreeBSD, lib/msun/src). */
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

/* u and 1 - u, of all 64 bits of a word at the middle of their interval. */
typedef struct {
    double u, rest;
} fraction64;

static inline fraction64 fraction_of_word(uint64_t w)
{
    double high = double_of_uint32(w >> 32), low = double_of_uint32(w & 0xffffffffu);
    fraction64 f;
    f.u = fma64(high, 0x1p-32, fma64(low, 0x1p-64, 0x1p-65));
    f.rest = fma64(0xffffffff - high, 0x1p-32, fma64(0xffffffff - low, 0x1p-64, 0x1p-65));
    return f;
}

/* As radius32; it reaches sqrt(2 * 65 * log 2) = 9.49. */
static inline double radius64(uint64_t w)
{
    fraction64 f = fraction_of_word(w);
    return __builtin_sqrt(minus_2_log64(f.u, f.rest));
}

/* As normal_pair32, of 64-bit words: the angle from the top 53 bits of w1. */
static inline void normal_pair64(uint64_t w0, uint64_t w1, double *z0, double *z1)
{
    double radius = radius64(w0);
    double x = double_of_int52(((w1 >> 10) & 0xfffffffffffffu) | 1) * 0x1.921fb54442d18p-52;
    uint64_t s = bits64(sin64(x));
    uint64_t c = bits64(cos64(x)) ^ (w1 & 0x8000000000000000u);
    uint64_t swap = (s ^ c) & mask64_if((w1 & 0x4000000000000000u) != 0);
    *z0 = radius * double_of(c ^ swap);
    *z1 = radius * double_of(s ^ swap);
}

#endif
