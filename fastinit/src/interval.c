/* What a truncated normal's kernels need to know of an interval, computed once a fill.
 *
 * In plain arithmetic: the C library's exp and erfc differ from system to system, and
 * these numbers enter every value. */
#include <math.h>

#include "float_mode.h"
#include "internal.h"
#define FI_HAS_FMA 0
#include "truncated.h"

/* exp(-t) for 0 <= t < 700, to some units in the last place. */
static double exp_minus(double t)
{
    double k = (double)(int)(t * 0x1.71547652b82fep0 + 0.5); /* t / log 2, rounded */
    double r = (t - k * 0x1.62e42fefap-1) - k * 0x1.cf79abc9e3b3ap-40;
    double sum = 1.0;
    for (int i = 18; i > 0; i--)
        sum = 1.0 - r * sum / i;
    return sum * double_of((uint64_t)(1023 - (int)k) << 52);
}

/* 1 - exp(-t), exact for small t as well. */
static double one_minus_exp_minus(double t)
{
    if (t > 0.5)
        return t < 700 ? 1.0 - exp_minus(t) : 1.0;
    double sum = 1.0;
    for (int i = 18; i > 1; i--)
        sum = 1.0 - t * sum / i;
    return t * sum;
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

/* The probability above x: below 2 by the series of all positive terms (J. Marsaglia,
 * "Evaluating the Normal Distribution", J. Stat. Soft. 11, 2004), above by Mills' ratio. */
static double above(double x)
{
    const double one_over_root_two_pi = 0x1.9884533d43651p-2;
    if (x < 0)
        return 1.0 - above(-x);
    if (x > 37)
        return 0.0;
    double density = one_over_root_two_pi * exp_minus(0.5 * x * x);
    if (x > 2)
        return density * mills_ratio(x, 100);
    double term = x, sum = x;
    for (int i = 3; i < 120; i += 2)
        sum += term *= x * x / i;
    return 0.5 - density * sum;
}

static void far_interval(fi_truncated *t, double low, double high)
{
    double length = high - low;
    t->method = FI_TRUNCATED_FAR;
    t->bound = low;
    t->inverse = 1.0 / (low * low);
    t->mass = 1.0;
    t->q_high = 0.0;
    if (isfinite(length)) {
        double r = mills_ratio(high, 12) / mills_ratio(low, 12); /* enough terms from 8 on */
        double e = low * length + 0.5 * length * length + 0.5 * minus_2_log64(r, 1.0 - r);
        t->mass = one_minus_exp_minus(e);
        t->q_high = e < 700 ? exp_minus(e) : 0.0;
    }
}

static void body_interval(fi_truncated *t, double low, double high)
{
    t->p_low = above(-low);
    t->q_high = above(high);
    if (low > 0)
        t->mass = above(low) - t->q_high;
    else if (high < 0)
        t->mass = above(-high) - t->p_low;
    else
        t->mass = (0.5 - t->p_low) + (0.5 - t->q_high);

    double p = t->p_low + t->mass * 0x1p-33, q = t->q_high + t->mass * 0x1p-33;
    t->method = FI_TRUNCATED_BODY;
    if (high - low < 0.125) /* where float32 would leave too few values of y */
        return;
    if (low >= -2.9 && high <= 2.9)
        t->method = FI_TRUNCATED_CENTRAL;
    else if (p >= 0x1p-34 && q >= 0x1p-34)
        t->method = FI_TRUNCATED_WIDE;
}

/* Not inlined, so that none of it is done before the mode is set. */
__attribute__((noinline)) static void set_up(fi_truncated *t, double mean, double std, double low,
                                             double high)
{
    *t = (fi_truncated){.mean = mean, .std = std};
    t->side = high <= -8 ? -1 : 1;
    if (low >= 8)
        far_interval(t, low, high);
    else if (high <= -8)
        far_interval(t, -high, -low);
    else
        body_interval(t, low, high);
    t->low = std > 0 ? mean + low * std : mean;
    t->high = std > 0 ? mean + high * std : mean;
}

void fi_truncate(fi_truncated *t, double mean, double std, double low, double high)
{
    const fi_float_mode before = enter_float_mode();
    set_up(t, mean, std, low, high);
    leave_float_mode(before);
}
