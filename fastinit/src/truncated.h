/* The truncated normal by its inverse distribution function: one draw an element.
 *
 * With u the draw, p = p_low + u * mass is the probability below the value, q = q_high +
 * (1 - u) * mass that above, and y = p - q; each comes from u or 1 - u by one rounding, so
 * that both tails keep their relative precision and a symmetric interval gives exactly
 * opposite values for opposite draws.  The value is y * R(w), w = -log(4 p q) = -log(1 -
 * y^2), with R smooth (M. Giles, "Approximating the erfinv function", GPU Computing Gems
 * Jade Edition, 2011; coefficients by an own minimax fit).
 *
 * truncated.c chooses the method for an interval, once a fill:
 *   central  both bounds within 2.9 sigma: R is one polynomial, log of 1 - y^2
 *   wide     R is two, one of them past 2.9 sigma, to 6.6 sigma; log of 4 p q
 *   body     anything whose nearer bound is within 8 sigma of the mean, in float64
 *   far      beyond, where p and q underflow: the excess over the bound, in float64
 * The first two are for the 32-bit types and narrower.  Every result is clamped to the
 * bounds: an interval's ends are rounded values as well.
 *
 * Relative errors, as tests/test_accuracy.py reads them here and measures them in sweeps of
 * 2^17 or more.  Towards 2.9 sigma central32's is that of y, which float32 rounds:
 *
 *   function                 of                             error
 *   central_ratio32          2w in [0, 10]                  2.5e-7
 *   tail_ratio32             2w in [10, 45]                 2.5e-7
 *   central32, to 2 sigma    the draw                       3.8e-7
 *   central32, to 2.9 sigma  the draw                       2.3e-6
 *   wide32, to 6.6 sigma     the draw                       3.4e-7
 *   above                    x in [-8, 37]; truncated.c     5.8e-14
 *   quantile64               p and 1 - p, from 2^-120 on    7.2e-16
 *   a + far_excess           a from 8 on, 2E up to 91       7.3e-12
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

/* The normal's quantile at p, with q = 1 - p.
 * M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution",
 * Appl. Statist. 37 (1988), PPND16. */
static inline double quantile64(double p, double q)
{
    static const double ratio[3][2][8] = {
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
    double centre = 0.5 * (p - q), tail = p < q ? p : q;
    double root = __builtin_sqrt(0.5 * minus_2_log64(tail, 1.0 - tail));
    int region = centre * centre <= 0.180625 ? 0 : root <= 5.0 ? 1 : 2;
    double x = region == 0 ? 0.180625 - centre * centre : root - (region == 1 ? 1.6 : 5.0);
    double above = ratio[region][0][0], below = ratio[region][1][0];
    for (int i = 1; i < 8; i++) {
        above = fma64(above, x, ratio[region][0][i]);
        below = fma64(below, x, ratio[region][1][i]);
    }
    double r = above / below;
    return region == 0 ? centre * r : centre < 0 ? -r : r;
}

/* Mills' ratio, the probability above x over the density at x, for x >= 2: Laplace's
 * continued fraction 1/(x + 1/(x + 2/(x + ...))). */
static inline double mills_ratio(double x, int terms)
{
    double m = x;
    for (int k = terms; k > 0; k--)
        m = x + k / m;
    return 1.0 / m;
}

/* The excess t over a bound a >= 8 that a share of what lies above a has: the root of
 * a t + t^2 / 2 + log(M(a) / M(a + t)) = E, which is -log of what is left.  The density's
 * own part gives a start within 2 %; two steps of Newton's method follow. */
static inline double far_excess(double two_e, double a, double mills)
{
    double t = two_e / (a + __builtin_sqrt(a * a + two_e));
    for (int step = 0; step < 2; step++) {
        double m = mills_ratio(a + t, FI_MILLS_TERMS), r = m / mills;
        double excess = 2.0 * a * t + t * t + minus_2_log64(r, 1.0 - r) - two_e;
        t -= 0.5 * excess * m;
    }
    return t;
}

static inline double hard64(double u, double rest, const fi_truncated *t)
{
    if (t->method == FI_TRUNCATED_FAR) {
        double share = t->side > 0 ? u : rest, left = t->side > 0 ? rest : u;
        double two_e = minus_2_log64(fma64(left, t->mass, t->q_high), share * t->mass);
        return t->side * (t->bound + far_excess(two_e, t->bound, t->mills));
    }
    return quantile64(fma64(u, t->mass, t->p_low), fma64(rest, t->mass, t->q_high));
}

static inline double hard_of_draw(uint32_t d, const fi_truncated *t)
{
    return hard64((d + 0.5) * 0x1p-32, ((double)(0xffffffffu - d) + 0.5) * 0x1p-32, t);
}

static inline double hard_of_word(uint64_t w, const fi_truncated *t)
{
    fraction64 f = fraction_of_word(w);
    return hard64(f.u, f.rest, t);
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

#endif
