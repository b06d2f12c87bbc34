/* The truncated normal by its inverse distribution function: one draw an element.
 *
 * With u the draw, p = p_low + u * mass is the probability below the value, q = q_high +
 * (1 - u) * mass that above, and y = p - q; each comes from u or 1 - u by one rounding, so
 * that both tails keep their relative precision and a symmetric interval gives exactly
 * opposite values for opposite draws.  The value is y * R(w), w = -log(4 p q) = -log(1 -
 * y^2), with R smooth (M. Giles, "Approximating the erfinv function", GPU Computing Gems
 * Jade Edition, 2011; coefficients by an own minimax fit).
 *
 * interval.c chooses the method for an interval, once a fill:
 *   central  both bounds within 2.9 sigma: R is one polynomial, log of 1 - y^2
 *   wide     R is two, one of them past 2.9 sigma, to 6.6 sigma; log of 4 p q
 *   body     anything whose nearer bound is within 8 sigma of the mean, in float64
 *   far      beyond, where p and q underflow: from the nearer bound on, in float64
 * The first two are for the 32-bit types and narrower.  Every result is clamped to the
 * bounds: an interval's ends are rounded values as well.
 *
 * Relative errors, as tests/core/test_accuracy.py reads them here and measures them in sweeps of
 * 2^17 or more.  Towards 2.9 sigma central32's is that of y, which float32 rounds:
 *
 *   function                 of                             error
 *   central_ratio32          2w in [0, 10]                  2.5e-7
 *   tail_ratio32             2w in [10, 45]                 2.5e-7
 *   central32, to 2 sigma    the draw                       3.8e-7
 *   central32, to 2.9 sigma  the draw                       2.3e-6
 *   wide32, to 6.6 sigma     the draw                       3.4e-7
 *   above                    x in [-8, 37]; interval.c      5.8e-14
 *   quantile64               p and 1 - p, from 2^-120 on    7.2e-16
 *   far_quantile64           a from 8 on, 2E up to 91       2.8e-16
 */
#ifndef FI_TRUNCATED_H
#define FI_TRUNCATED_H

#include "internal.h"
#include "normal.h"

/* u and 1 - u at the middle of their interval of 2^-32. */
typedef struct {
    float u, rest;
} fraction32;

static inline fraction32 fraction_of_draw(uint32_t d)
{
    float high = (float)(int32_t)(d >> 16), low = (float)(int32_t)(d & 0xffffu);
    fraction32 f;
    f.u = fma32(high, 0x1p-16f, fma32(low, 0x1p-32f, 0x1p-33f));
    f.rest = fma32(0xffff - high, 0x1p-16f, fma32(0xffff - low, 0x1p-32f, 0x1p-33f));
    return f;
}

/* (2u - 1) * 2^31, to an odd number, so that opposite draws have opposite ones, also rounded. */
static inline float centred_draw(uint32_t d)
{
    return (float)(int32_t)((d ^ 0x80000000u) | 1);
}

/* -2 log(4 p q), 4 p q being 1 - y^2. */
static inline float two_w32(float four_p_q, float y)
{
    return minus_2_log32(four_p_q, -(y * y), mask_if_negative(bits32(y * y - 0.5f)));
}

/* R for 2w in [0, 10]. */
static inline float central_ratio32(float two_w)
{
    float k = two_w - 5.0f, r = 0x1.567022p-33f;
    r = fma32(r, k, 0x1.047d8ep-28f);
    r = fma32(r, k, -0x1.4e94aap-24f);
    r = fma32(r, k, -0x1.a0b83p-23f);
    r = fma32(r, k, 0x1.4426fap-16f);
    r = fma32(r, k, -0x1.d0ca24p-13f);
    r = fma32(r, k, -0x1.833274p-10f);
    r = fma32(r, k, 0x1.652c88p-3f);
    return fma32(r, k, 0x1.0fc8bep+1f);
}

/* R for 2w in [10, 45]. */
static inline float tail_ratio32(float two_w)
{
    float k = __builtin_sqrtf(two_w) - 5.0f, r = 0x1.1dc9c4p-19f;
    r = fma32(r, k, 0x1.ded674p-20f);
    r = fma32(r, k, -0x1.3178dap-15f);
    r = fma32(r, k, 0x1.53404ap-14f);
    r = fma32(r, k, -0x1.0e612ep-13f);
    r = fma32(r, k, 0x1.5b0a9p-12f);
    r = fma32(r, k, -0x1.fda3b4p-11f);
    r = fma32(r, k, 0x1.1cd682p-9f);
    r = fma32(r, k, 0x1.01f1ep+0f);
    return fma32(r, k, 0x1.312248p+2f);
}

typedef struct {
    float p_low, q_high, mass, mass_of_1, middle; /* mass_of_1: of one of centred_draw's units */
} interval32;

static inline interval32 interval32_of(const void *params)
{
    const fi_truncated *t = (const fi_truncated *)params;
    const interval32 made = {(float)t->p_low, (float)t->q_high, (float)t->mass,
                        (float)(t->mass * 0x1p-31), (float)(t->p_low - t->q_high)};
    return made;
}

static inline float central32(uint32_t d, interval32 i)
{
    float y = fma32(centred_draw(d), i.mass_of_1, i.middle);
    return y * central_ratio32(two_w32(fma32(-y, y, 1.0f), y));
}

static inline float wide32(uint32_t d, interval32 i)
{
    fraction32 f = fraction_of_draw(d);
    float y = fma32(centred_draw(d), i.mass_of_1, i.middle);
    float p = fma32(f.u, i.mass, i.p_low), q = fma32(f.rest, i.mass, i.q_high);
    float two_w = two_w32(4.0f * p * q, y);
    uint32_t central = mask_if(two_w < 10.0f);
    uint32_t r = (bits32(central_ratio32(two_w)) & central) | (bits32(tail_ratio32(two_w)) & ~central);
    return y * float_of(r);
}

/* Numerators and denominators near the median, then in the tail to exp(-25), then past it.
 * M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution",
 * Appl. Statist. 37 (1988), PPND16. */
static const double ppnd16[3][2][8] = {
    {{2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
      4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
      1.3314166789178437745e2, 3.3871328727963666080e0},
     {5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
      2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
      4.2313330701600911252e1, 1.0}},
    {{7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
      1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
      4.63033784615654529590e0, 1.42343711074968357734e0},
     {1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
      1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
      2.05319162663775882187e0, 1.0}},
    {{2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
      2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
      5.46378491116411436990e0, 6.65790464350110377720e0},
     {2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
      7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
      5.99832206555887937690e-1, 1.0}}};

static inline double horner8(const double c[8], double x)
{
    double q = c[0];
    for (int i = 1; i < 8; i++)
        q = fma64(q, x, c[i]);
    return q;
}

static inline double select64(uint64_t mask, double x, double y)
{
    return double_of((bits64(x) & mask) | (bits64(y) & ~mask));
}

/* The normal's quantile at p, with q = 1 - p, neither of them below exp(-25) unless it is `deep`.  All
 * ratios that there may be are computed, as only then the compiler makes vectors of it (measured: a
 * third of the time); but one alone where that is worth nothing: where a fused multiply-add is a call,
 * and on a GPU. */
static inline double quantile64(double p, double q, int deep)
{
    const double centre = 0.5 * (p - q), square = centre * centre, tail = p < q ? p : q;
    const double root = __builtin_sqrt(0.5 * minus_2_log64(tail, 1.0 - tail));
    const double x0 = 0.180625 - square, x1 = root - 1.6, x2 = root - 5.0;
#if FI_HAS_FMA && !defined(__CUDACC__)
    const uint64_t median = mask64_if(square <= 0.180625);
    double above = horner8(ppnd16[1][0], x1), below = horner8(ppnd16[1][1], x1);
    if (deep) {
        const uint64_t near = mask64_if(root <= 5.0);
        above = select64(near, above, horner8(ppnd16[2][0], x2));
        below = select64(near, below, horner8(ppnd16[2][1], x2));
    }
    const double sign = double_of(bits64(1.0) | (bits64(centre) & 0x8000000000000000u));
    const double r = select64(median, horner8(ppnd16[0][0], x0), above) /
                     select64(median, horner8(ppnd16[0][1], x0), below);
    return r * select64(median, centre, sign);
#else
    (void)deep;
    const int region = square <= 0.180625 ? 0 : root <= 5.0 ? 1 : 2;
    const double x = region == 0 ? x0 : region == 1 ? x1 : x2;
    const double r = horner8(ppnd16[region][0], x) / horner8(ppnd16[region][1], x);
    return region == 0 ? centre * r : centre < 0 ? -r : r;
#endif
}

/* -2 log(x M(x)), M being Mills' ratio, the probability above x over the density at x; of s = 1/x^2
 * for x >= 8.  It goes to 0 as 2 s does.  By Estrin's scheme, as far_quantile64 waits for it. */
static inline double far_term64(double s)
{
    const double s2 = s * s, s4 = s2 * s2;
    const double c01 = fma64(-0x1.3ffffffe5a506p+2, s, 0x1.ffffffffffd67p+0);
    const double c23 = fma64(-0x1.60ff18558eea9p+7, s, 0x1.8aaaa7e54f8b2p+4);
    const double c45 = fma64(-0x1.1db6de1db277cp+14, s, 0x1.97f34549e7e95p+10);
    const double c67 = fma64(-0x1.4e39d2dfe7ddap+21, s, 0x1.c228145c373b4p+17);
    const double upper = fma64(0x1.3518eef4d1359p+24, s4, fma64(c67, s2, c45));
    return s * fma64(upper, s4, fma64(c23, s2, c01));
}

/* log(1 - x) for x in [0, 0.006]: its series. */
static inline double log_near_1(double x)
{
    double q = -0x1.5555555555555p-3;
    q = fma64(q, x, -0x1.999999999999ap-3);
    q = fma64(q, x, -0.25);
    q = fma64(q, x, -0x1.5555555555555p-2);
    q = fma64(q, x, -0.5);
    q = fma64(q, x, -1.0);
    return q * x;
}

/* What is above x has the share exp(-E) of what is above a >= 8.
 *
 * As -2 log of the probability above x is x^2 + log x^2 + far_term(1/x^2) and a constant, x^2 =
 * a^2 (1 + v) with a^2 v + w = 2E and w = log(1 + v) + far_term(1/x^2) - far_term(1/a^2).  Let
 * e = 2E / a^2.  Then 1 + v = (1 + e) (1 - d) with d = w / a^2 / (1 + e) below 0.006.  The start is
 * right to the first order in 1/a^2, within 6e-4; a step's factor is the inverse of the equation's
 * derivative to within 6e-6, and two steps leave nothing.  `inverse` is 1/a^2. */
static inline double far_step64(double w, double per_w, double known)
{
    const double d = per_w * w, s = per_w / (1.0 - d);
    const double error = known - w + (log_near_1(d) + far_term64(s));
    return fma64(error, fma64(s, fma64(s, fma64(s, -14.0, 3.0), -1.0), 1.0), w);
}

static inline double far_quantile64(double two_e, double a, double inverse)
{
    const double e = two_e * inverse, c = 1.0 / (1.0 + e), per_w = inverse * c;
    const double log_1_e = 0.5 * minus_2_log64(c, e * c), known = log_1_e - far_term64(inverse);
    double w = fma64(per_w, 2.0 - log_1_e, fma64(-2.0, inverse, log_1_e));
    w = far_step64(far_step64(w, per_w, known), per_w, known);
    return a * __builtin_sqrt(1.0 + fma64(-inverse, w, e));
}

static inline double body64(fraction64 f, const fi_truncated *t)
{
    return quantile64(fma64(f.u, t->mass, t->p_low), fma64(f.rest, t->mass, t->q_high), 1);
}

/* The same, for bounds beyond which there is more than exp(-25) on either side. */
static inline double near64(fraction64 f, const fi_truncated *t)
{
    return quantile64(fma64(f.u, t->mass, t->p_low), fma64(f.rest, t->mass, t->q_high), 0);
}

static inline double far64(fraction64 f, const fi_truncated *t)
{
    const double share = t->side > 0 ? f.u : f.rest, left = t->side > 0 ? f.rest : f.u;
    const double two_e = minus_2_log64(fma64(left, t->mass, t->q_high), share * t->mass);
    return t->side * far_quantile64(two_e, t->bound, t->inverse);
}

/* u and 1 - u of a draw, exactly. */
static inline fraction64 exact_fraction_of_draw(uint32_t d)
{
    fraction64 f = {(double_of_uint32(d) + 0.5) * 0x1p-32,
                    (double_of_uint32(0xffffffffu - d) + 0.5) * 0x1p-32};
    return f;
}

static inline float clamp32(float x, float low, float high)
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

static inline double clamp64(double x, double low, double high)
{
    x = x > low ? x : low;
    return x < high ? x : high;
}

/* By either, for one value at a time. */
static inline double hard64(fraction64 f, const fi_truncated *t)
{
    return t->method == FI_TRUNCATED_FAR ? far64(f, t) : body64(f, t);
}

static inline double hard_of_draw(uint32_t d, const fi_truncated *t)
{
    return hard64(exact_fraction_of_draw(d), t);
}

static inline double hard_of_word(uint64_t w, const fi_truncated *t)
{
    return hard64(fraction_of_word(w), t);
}

/* The values by one of them: of a word, and of a draw. */
#define FI_HARD(METHOD)                                                                            \
    static inline double METHOD##_of_word(uint64_t w, const fi_truncated *t)                       \
    {                                                                                              \
        const double z = METHOD##64(fraction_of_word(w), t);                                       \
        return clamp64(fma64(z, t->std, t->mean), t->low, t->high);                                \
    }                                                                                              \
    static inline float METHOD##_of_draw(uint32_t d, const fi_truncated *t)                        \
    {                                                                                              \
        const double z = METHOD##64(exact_fraction_of_draw(d), t);                                 \
        return clamp32((float)fma64(z, t->std, t->mean), (float)t->low, (float)t->high);           \
    }

FI_HARD(body)
FI_HARD(near)
FI_HARD(far)

#endif
