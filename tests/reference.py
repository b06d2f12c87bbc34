"""The stream fastinit-3, as a specification: slow, and without a trick of the C code.

A value is a function of (key, index, distribution and its parameters, dtype), and of nothing
else; `value` is that function, and returns the bit pattern.

Numbers are Python floats, which hold every float64 and every narrower number exactly.
Python's ``+ - * /`` and `math.sqrt` are IEEE 754's in float64.  In float32 they are the same,
rounded to float32: that a result was rounded before does no harm where the first rounding
keeps 2 * 24 + 2 bits (S. A. Figueroa, "When is double rounding innocuous?", ACM SIGNUM
Newsletter 30, 1995).  For an fma it would, so that is done on integers and rounded once.
"""

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from numpy.random import SeedSequence

Key = tuple[int, int]
Pair = tuple[float, float]

STREAM = "fastinit-3"
BLOCK = 1024
MASK32, MASK64 = 2**32 - 1, 2**64 - 1


# The key: NumPy's hash of a seed, and of the names below it.


def key(seed: int, *names: str) -> Key:
    words = [word for name in names for word in words_of(name)]
    k0, k1 = SeedSequence(seed, spawn_key=words).generate_state(2, "uint64").tolist()
    return k0, k1


def words_of(name: str) -> tuple[int, ...]:
    return struct.unpack("<4I", blake2b(name.encode("utf-8"), digest_size=16).digest())


# The draws: every block of 1024 indices has a PCG32 of its own, which draws 2048 times.


def mix64(z: int) -> int:
    """SplitMix64's finaliser."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK64
    return z ^ z >> 31


def pcg32_step(state: int, inc: int) -> int:
    return (state * 6364136223846793005 + inc) & MASK64


def pcg32_output(state: int) -> int:
    """XSH-RR: an xorshift of the high bits, rotated right by the top five."""
    x, r = (state >> 18 ^ state) >> 27 & MASK32, state >> 59
    return (x >> r | x << (32 - r)) & MASK32


@lru_cache(maxsize=4096)
def draws(key: Key, block: int) -> list[int]:
    k0, k1 = key
    gamma = block * 0x9E3779B97F4A7C15
    state, inc = mix64((k0 + gamma) & MASK64), mix64((k1 + gamma) & MASK64) | 1
    drawn = []
    for _ in range(2 * BLOCK):
        drawn.append(pcg32_output(state))
        state = pcg32_step(state, inc)
    return drawn


def draw(key: Key, index: int) -> int:
    """32 random bits: what the types of at most 32 bits are made of."""
    block, e = divmod(index & MASK64, BLOCK)
    return draws(key, block)[e]


def word(key: Key, index: int) -> int:
    """64 random bits: what float64 is made of."""
    block, e = divmod(index & MASK64, BLOCK)
    return draws(key, block)[e] << 32 | draws(key, block)[BLOCK + e]


# Binary floating point.


class Format(NamedTuple):
    """A binary format of IEEE 754's kind."""

    precision: int  # bits of the significand, the leading one included
    least: int  # the smallest positive number is 2**least
    limit: int  # 2**limit is the first power of two that is too large


FLOAT8_E4M3FN = Format(4, -9, 9)
FLOAT8_E5M2 = Format(3, -16, 16)
FLOAT16 = Format(11, -24, 16)
BFLOAT16 = Format(8, -133, 128)
FLOAT32 = Format(24, -149, 128)
FLOAT64 = Format(53, -1074, 1024)


def dyadic(x: float) -> tuple[int, int]:
    """Integers m and e with x = m * 2**e, exactly."""
    m, e = math.frexp(x)
    return int(m * 2**53), e - 53


def rounded(m: int, e: int, to: Format) -> float:
    """m * 2**e, which is not 0, rounded once: to nearest, a tie to even."""
    drop = max(m.bit_length() - to.precision, to.least - e, 0)
    kept, rest = divmod(abs(m), 1 << drop)
    kept += 2 * rest + kept % 2 > 1 << drop
    e += drop
    magnitude = math.inf if kept.bit_length() + e > to.limit else math.ldexp(kept, e)
    return -magnitude if m < 0 else magnitude


def convert(x: float, to: Format) -> float:
    return x if x == 0 or math.isinf(x) else rounded(*dyadic(x), to)


def fma(a: float, b: float, c: float, to: Format) -> float:
    """a * b + c, rounded once."""
    (ma, ea), (mb, eb), (mc, ec) = dyadic(a), dyadic(b), dyadic(c)
    e = min(ea + eb, ec)
    m = (ma * mb << ea + eb - e) + (mc << ec - e)
    return rounded(m, e, to) if m else a * b + c  # the zero's sign is IEEE 754's


def horner(coefficients: Sequence[float], x: float, to: Format) -> float:
    """The polynomial, its highest power first, in fused steps."""
    q = coefficients[0]
    for c in coefficients[1:]:
        q = fma(q, x, c, to)
    return q


# Two standard normals from two draws or words: Box-Muller.


def hexes(text: str) -> list[float]:
    return [float.fromhex(number) for number in text.split()]


LOG32 = hexes(
    "0x1.292386p1 0x1.09438p1 0x1.80d21cp0 -0x1.a05cacp-4 0x1.142232p-1 -0x1.5419c4p-1"
    " 0x1.000338p0 -0x1p1"
)
LOG64 = hexes(
    "-0x1.2f1eb18cb8e09p-2 -0x1.399f3838deaf9p-2 -0x1.746657fd76585p-2 -0x1.c71c518cabffdp-2"
    " -0x1.2492494290e03p-1 -0x1.999999997f18bp-1 -0x1.5555555555595p0 -0x1p2"
)
SIN32 = hexes("-0x1.2f5992p-8 0x1.466b2p-4 -0x1.4abbecp-1 0x1.921fb6p0")
SIN64 = hexes(
    "0x1.5d8e4fb4e7ee1p-33 -0x1.ae5e54bf8deb3p-26 0x1.71de355f53bf5p-19"
    " -0x1.a01a019bf261fp-13 0x1.111111110f75ep-7 -0x1.5555555555548p-3"
)
COS32 = hexes("-0x1.4e84d8p-6 0x1.03b07cp-2 -0x1.3bd39cp0 0x1p0")
COS64 = hexes(
    "-0x1.9073edbb62cbp-37 0x1.1eeb586f405a7p-29 -0x1.27e4fa0384523p-22 0x1.a01a019f38ba5p-16"
    " -0x1.6c16c16c168ccp-10 0x1.5555555555555p-5 -0x1p-1 0x1p0"
)
MINUS_2_LOG_2 = {
    FLOAT32: float.fromhex("-0x1.62e43p0"),
    FLOAT64: float.fromhex("-0x1.62e42fefa39efp0"),
}
HALF_PI = float.fromhex("0x1.921fb54442d18p0")
SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")


def minus_2_log(u: float, one_minus_u: float, to: Format) -> float:
    """-2 log u, also where u, rounded, no longer knows how far away 1 is."""
    f, e = math.frexp(u)
    if to == FLOAT32:  # u = 2**e * f, with f from 1/2 to 1
        t, e = (-one_minus_u, 0) if one_minus_u < 0.5 else (f - 1, e)
        log_f = convert(t * horner(LOG32, t, to), to)
    else:  # with f from sqrt(1/2) to sqrt(2)
        f, e = (f, e) if f >= SQRT_HALF else (2 * f, e - 1)
        t = -one_minus_u if e == 0 else f - 1
        s = t / (2 + t)
        log_f = s * horner(LOG64, s * s, to)
    return fma(e, MINUS_2_LOG_2[to], log_f, to)


def sin32(r: float) -> float:
    """The sine of pi/2 * r."""
    return convert(r * horner(SIN32, convert(r * r, FLOAT32), FLOAT32), FLOAT32)


def cos32(r: float) -> float:
    return horner(COS32, convert(r * r, FLOAT32), FLOAT32)


def sin64(x: float) -> float:
    return fma(horner(SIN64, x * x, FLOAT64), x * x * x, x, FLOAT64)


def cos64(x: float) -> float:
    return horner(COS64, x * x, FLOAT64)


def fraction(bits: int, of: int, to: Format) -> Pair:
    """u = (bits + 1/2) / 2**of, which is in (0, 1), and 1 - u: each rounded once, perhaps to 1."""
    numerator = 2 * bits + 1
    return rounded(numerator, -of - 1, to), rounded(2 ** (of + 1) - numerator, -of - 1, to)


def box_muller(two_e: float, s: float, c: float, sign: int, swap: int, to: Format) -> Pair:
    """Two standard normals, from the square of the radius and from an angle's sine and cosine.

    The angle is less than pi/4 either way; `swap` and `sign` bring it to the other quarters of
    the circle.
    """
    radius = convert(math.sqrt(two_e), to)
    c = -c if sign else c
    z = (s, c) if swap else (c, s)
    return convert(radius * z[0], to), convert(radius * z[1], to)


def signed(field: int, bits: int) -> int:
    """A two's complement number of so many bits."""
    return field - (field >> bits - 1 << bits)


@lru_cache(maxsize=2**18)
def normal_pair32(key: Key, index: int) -> Pair:
    """Of indices index (even) and index + 1: 40 bits for the radius, 24 for the angle.

    u = (bits + 1/2) / 2**40 from 0 to 1/2, and u - 1 from there on, is made of a rounded number
    of 32 bits and an exact one of 8.  The angle is an odd multiple of (pi/2) / 2**23.
    """
    d0, d1 = draw(key, index), draw(key, index + 1)
    low = rounded(2 * (d1 & 0xFF) + 1, -41, FLOAT32)
    v = fma(convert(signed(d0, 32), FLOAT32), 2**-32, low, FLOAT32)
    two_e = minus_2_log(v, 1.0, FLOAT32) if v >= 0 else minus_2_log(1.0, -v, FLOAT32)
    r = math.ldexp(2 * signed(d1 >> 8 & 2**22 - 1, 22) + 1, -23)
    return box_muller(two_e, sin32(r), cos32(r), d1 >> 31, d1 >> 30 & 1, FLOAT32)


@lru_cache(maxsize=2**18)
def normal_pair64(key: Key, index: int) -> Pair:
    """As normal_pair32, with 64 bits for the radius, at once, and 53 for the angle."""
    w0, w1 = word(key, index), word(key, index + 1)
    two_e = minus_2_log(*fraction(w0, 64, FLOAT64), FLOAT64)
    x = (2 * signed(w1 >> 11 & 2**51 - 1, 51) + 1) * math.ldexp(HALF_PI, -52)
    return box_muller(two_e, sin64(x), cos64(x), w1 >> 63, w1 >> 62 & 1, FLOAT64)


def standard_normal(key: Key, index: int, to: Format) -> float:
    pair = normal_pair32 if to == FLOAT32 else normal_pair64
    return pair(key, index & MASK64 & ~1)[index & 1]


def number_below(x: float, to: Format) -> float:
    """The format's largest number less than x, which is one of its numbers."""
    m, e = math.frexp(x)
    if m == 0.5:  # below a power of two they are as close as below the next smaller one
        e -= 1
    return x - math.ldexp(1, max(e - to.precision, to.least) if x else to.least)


def width(low: float, high: float, to: Format) -> float:
    """What a uniform's u is multiplied by, so that no value reaches high, rounded to the format."""
    whole, low, high = convert(high - low, to), convert(low, to), convert(high, to)
    last = number_below(high, to) if low < high else low
    largest = fma(1 - 2.0**-to.precision, whole, low, to)
    return convert(last - low, to) if largest > last else whole


def standard_uniform(key: Key, index: int, to: Format) -> float:
    """On [0, 1), as NumPy."""
    if to == FLOAT32:
        return math.ldexp(draw(key, index) >> 8, -24)
    return math.ldexp(word(key, index) >> 11, -53)


# The truncated normal: the quantile of a probability that is spread over the interval.
#
# A draw's fraction u of the interval's `mass` leaves the probability p below the value and q
# above it.  Where neither bound is far out, p and q give the value, through y = p - q; past 8
# sigma they are nothing, and a value is given by how far above its bound it is.


def mills_ratio(x: float, terms: int) -> float:
    """The probability above x over the density at x: 1 / (x + 1 / (x + 2 / (x + ...)))."""
    m = x
    for k in range(terms, 0, -1):
        m = x + k / m
    return 1 / m


def mills(x: float) -> float:
    """Mills' ratio from 8 on."""
    return mills_ratio(x, 12)


def alternating(t: float, last: int) -> float:
    """1 - t / last * (1 - t / (last + 1) * ( ... (1 - t / 18)))."""
    s = 1.0
    for i in range(18, last - 1, -1):
        s = 1 - t * s / i
    return s


LOG2_E = float.fromhex("0x1.71547652b82fep0")
LOG_2 = hexes("0x1.62e42fefap-1 0x1.cf79abc9e3b3ap-40")  # in two parts, the first one short
ONE_OVER_ROOT_TWO_PI = float.fromhex("0x1.9884533d43651p-2")


def exp_minus(t: float) -> float:
    """exp(-t) for t in [0, 700)."""
    k = int(t * LOG2_E + 0.5)
    return math.ldexp(alternating((t - k * LOG_2[0]) - k * LOG_2[1], 1), -k)


def one_minus_exp_minus(t: float) -> float:
    if t <= 0.5:
        return t * alternating(t, 2)
    return 1 - exp_minus(t) if t < 700 else 1.0


def above(x: float) -> float:
    """The probability that a standard normal is above x."""
    if x < 0:
        return 1 - above(-x)
    if x > 37:
        return 0.0
    density = ONE_OVER_ROOT_TWO_PI * exp_minus(0.5 * x * x)
    if x > 2:
        return density * mills_ratio(x, 100)
    term = total = x  # x + x**3 / 3 + x**5 / (3 * 5) + ...
    for i in range(3, 120, 2):
        term *= x * x / i
        total += term
    return 0.5 - density * total


class Interval(NamedTuple):
    """What of an interval enters its values, in float64; the fields' order is that of C."""

    low: float  # the bounds in units of the value
    high: float
    mean: float
    std: float
    method: str
    p_low: float  # the probability below it; far: 0
    q_high: float  # above it; far: as a share of what is above the nearer bound
    mass: float  # inside it; far: as such a share
    side: float = 1.0  # of the mean: -1 if the interval ends at -8 sigma or below
    bound: float = 0.0  # far: the nearer bound's distance from the mean, in sigma
    inverse: float = 0.0  # far: 1 / bound**2


@lru_cache
def interval(mean: float, std: float, low: float, high: float) -> Interval:
    """Of a normal within `low` to `high` standard deviations from its mean."""
    ends = (mean + low * std, mean + high * std) if std > 0 else (mean, mean)
    side = -1.0 if high <= -8 else 1.0
    if low >= 8 or high <= -8:
        near, far = (low, high) if side > 0 else (-high, -low)
        masses = (0.0, *far_masses(near, far))
        return Interval(*ends, mean, std, "far", *masses, side, near, 1 / (near * near))

    p_low, q_high = above(-low), above(high)
    if low > 0:
        mass = above(low) - q_high
    elif high < 0:
        mass = above(-high) - p_low
    else:
        mass = (0.5 - p_low) + (0.5 - q_high)
    method = "body"
    if high - low >= 0.125:
        if low >= -2.9 and high <= 2.9:
            method = "central"
        elif min(p_low, q_high) + mass * 2.0**-33 >= 2.0**-34:  # the least p or q of a draw
            method = "wide"
    return Interval(*ends, mean, std, method, p_low, q_high, mass, side)


def far_masses(near: float, far: float) -> Pair:
    """How much of what is above `near` is above `far`, too, and how much is not."""
    length = far - near
    if math.isinf(length):
        return 0.0, 1.0
    r = mills(far) / mills(near)
    e = near * length + 0.5 * length * length + 0.5 * minus_2_log(r, 1 - r, FLOAT64)
    return exp_minus(e) if e < 700 else 0.0, one_minus_exp_minus(e)


CENTRAL_RATIO = hexes(
    "0x1.567022p-33 0x1.047d8ep-28 -0x1.4e94aap-24 -0x1.a0b83p-23 0x1.4426fap-16"
    " -0x1.d0ca24p-13 -0x1.833274p-10 0x1.652c88p-3 0x1.0fc8bep1"
)
TAIL_RATIO = hexes(
    "0x1.1dc9c4p-19 0x1.ded674p-20 -0x1.3178dap-15 0x1.53404ap-14 -0x1.0e612ep-13"
    " 0x1.5b0a9p-12 -0x1.fda3b4p-11 0x1.1cd682p-9 0x1.01f1ep0 0x1.312248p2"
)


def ratio(two_w: float) -> float:
    """The quantile over y, from -2 log(1 - y**2), in float32."""
    if two_w < 10:
        return horner(CENTRAL_RATIO, convert(two_w - 5, FLOAT32), FLOAT32)
    root = convert(math.sqrt(two_w), FLOAT32)
    return horner(TAIL_RATIO, convert(root - 5, FLOAT32), FLOAT32)


def easy_quantile(d: int, i: Interval) -> float:
    """The methods "central" and "wide": float32, of a draw."""
    u, rest = fraction(d, 32, FLOAT32)
    centred = rounded(2 * (d >> 1) + 1 - 2**31, -31, FLOAT32)  # 2u - 1
    p_low, q_high, mass, middle = (
        convert(x, FLOAT32) for x in (i.p_low, i.q_high, i.mass, i.p_low - i.q_high)
    )
    y = fma(centred, mass, middle, FLOAT32)
    if i.method == "central":
        four_p_q = fma(-y, y, 1.0, FLOAT32)
    else:
        p, q = fma(u, mass, p_low, FLOAT32), fma(rest, mass, q_high, FLOAT32)
        four_p_q = convert(4 * p * q, FLOAT32)
    two_w = minus_2_log(four_p_q, convert(y * y, FLOAT32), FLOAT32)
    return convert(y * ratio(two_w), FLOAT32)


# M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Appl.
# Statist. 37 (1988), PPND16: numerator and denominator near the median, then in the tail to
# exp(-25), then past it.
PPND16 = [
    (
        [2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
         4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
         1.3314166789178437745e2, 3.3871328727963666080e0],
        [5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
         2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
         4.2313330701600911252e1, 1.0],
    ),
    (
        [7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
         1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
         4.63033784615654529590e0, 1.42343711074968357734e0],
        [1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
         1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
         2.05319162663775882187e0, 1.0],
    ),
    (
        [2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
         2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
         5.46378491116411436990e0, 6.65790464350110377720e0],
        [2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
         7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
         5.99832206555887937690e-1, 1.0],
    ),
]  # fmt: skip


def quantile(p: float, q: float) -> float:
    """The method "body"."""
    centre, tail = 0.5 * (p - q), min(p, q)
    root = math.sqrt(0.5 * minus_2_log(tail, 1 - tail, FLOAT64))
    region = 0 if centre * centre <= 0.180625 else 1 if root <= 5 else 2
    x = (0.180625 - centre * centre, root - 1.6, root - 5)[region]
    above, below = (horner(coefficients, x, FLOAT64) for coefficients in PPND16[region])
    if region == 0:
        return centre * (above / below)
    return math.copysign(above / below, centre)


FAR_TERM = hexes(
    "0x1.3518eef4d1359p24 -0x1.4e39d2dfe7ddap21 0x1.c228145c373b4p17 -0x1.1db6de1db277cp14"
    " 0x1.97f34549e7e95p10 -0x1.60ff18558eea9p7 0x1.8aaaa7e54f8b2p4 -0x1.3ffffffe5a506p2"
    " 0x1.ffffffffffd67p0"
)
LOG_NEAR_1 = [-1 / 6, -1 / 5, -1 / 4, -1 / 3, -1 / 2, -1.0]


def far_term(s: float) -> float:
    """-2 log(x M(x)), M being Mills' ratio, of s = 1 / x**2; pairs of coefficients first."""
    c8, c7, c6, c5, c4, c3, c2, c1, c0 = FAR_TERM
    s2, to = s * s, FLOAT64
    upper = fma(c8, s2 * s2, fma(fma(c7, s, c6, to), s2, fma(c5, s, c4, to), to), to)
    lower = fma(fma(c3, s, c2, to), s2, fma(c1, s, c0, to), to)
    return s * fma(upper, s2 * s2, lower, to)


def far_quantile(share: float, left: float, i: Interval) -> float:
    """The method "far": of the `share` of the interval that is nearer to the mean.

    What is above x = a sqrt(1 + v) has the share exp(-E) of what is above the bound a, where
    a**2 v + w = 2E and w = log(1 + v) + far_term(1 / x**2) - far_term(1 / a**2). In terms of e =
    2E / a**2, 1 + v is (1 + e) (1 - d), and d is small.
    """
    to = FLOAT64
    e = i.inverse * minus_2_log(fma(left, i.mass, i.q_high, to), share * i.mass, to)
    c = 1 / (1 + e)
    log_1_e, per_w = 0.5 * minus_2_log(c, e * c, to), i.inverse * c
    known = log_1_e - far_term(i.inverse)
    w = fma(per_w, 2 - log_1_e, fma(-2.0, i.inverse, log_1_e, to), to)
    for _ in range(2):
        d = per_w * w
        s = per_w / (1 - d)
        error = known - w + (horner(LOG_NEAR_1, d, to) * d + far_term(s))
        w = fma(error, fma(s, fma(s, fma(s, -14.0, 3.0, to), -1.0, to), 1.0, to), w, to)
    return i.side * (i.bound * math.sqrt(1 + fma(-i.inverse, w, e, to)))


@lru_cache(maxsize=2**18)
def truncated_normal(key: Key, index: int, i: Interval, to: Format) -> float:
    """With mean and standard deviation; not yet held to the bounds that rounding may leave."""
    if to == FLOAT32 and i.method in ("central", "wide"):
        z = easy_quantile(draw(key, index), i)
        return fma(z, convert(i.std, to), convert(i.mean, to), to)
    bits, of = (draw(key, index), 32) if to == FLOAT32 else (word(key, index), 64)
    u, rest = fraction(bits, of, FLOAT64)
    if i.method == "far":
        z = far_quantile(u, rest, i) if i.side > 0 else far_quantile(rest, u, i)
    else:
        z = quantile(fma(u, i.mass, i.p_low, FLOAT64), fma(rest, i.mass, i.q_high, FLOAT64))
    return convert(fma(z, i.std, i.mean, FLOAT64), to)


# An orthogonal matrix: a product of reflections, each of a vector of normals.
#
# G. W. Stewart, "The Efficient Generation of Random Orthogonal Matrices with an Application to
# Condition Estimators", SIAM J. Numer. Anal. 17 (1980): Q = H_1 H_2 ... H_k D. The vector of H_j is
# x + sign(x_1) |x| e_1, for k vectors x of normals, the first of m numbers, each one shorter than
# the one before; D are the signs that would make the diagonal of R positive in x = Q R.
# R. Schreiber, C. Van Loan, "A Storage-Efficient WY Representation for Products of Householder
# Transformations", SIAM J. Sci. Stat. Comput. 10 (1989): the reflections of a block are
# I - V T V', T being a triangle.

Matrix = list[list[float]]

REFLECTIONS = 48  # in a block
SEGMENT = 96  # terms in a chain of fused multiply-adds


def product(a: Matrix, b: Matrix, to: Format) -> Matrix:
    """a @ b: of each 96 terms a chain from 0, in order; and their sum, in order, from 0."""

    def element(row: Sequence[float], column: Sequence[float]) -> float:
        total = 0.0
        for first in range(0, len(row), SEGMENT):
            chain, last = 0.0, first + SEGMENT
            for x, y in zip(row[first:last], column[first:last], strict=True):
                chain = fma(x, y, chain, to)
            total = convert(total + chain, to)
        return total

    columns = transposed(b)
    return [[element(row, column) for column in columns] for row in a]


def transposed(a: Matrix) -> Matrix:
    return [list(column) for column in zip(*a, strict=True)]


def block_of_normals(key: Key, start: int, m: int, k: int, first: int, to: Format) -> Matrix:
    """Vectors `first` to first + 47 of k, as columns from row `first` on, 0 above the diagonal.

    Row i of the block's m rows has the indices from start + m * first + i * (its columns) on.
    """
    n = min(REFLECTIONS, k - first)
    begin = start + m * first
    return [
        [standard_normal(key, begin + i * n + a, to) if i - first >= a else 0.0 for a in range(n)]
        for i in range(first, m)
    ]


def triangle(v: Matrix, to: Format) -> tuple[Matrix, list[float]]:
    """-T, rounded, and the first numbers of the reflections' vectors, from a block of normals.

    In float64, whatever the vectors are in, and without fused multiply-adds.
    """
    n = len(v[0])
    gram = product(transposed(v), v, to)
    t = [[0.0] * n for _ in range(n)]
    heads = []
    for a in range(n):
        x, square = v[a][a], gram[a][a]
        head = convert(x - math.sqrt(square) if x < 0 else x + math.sqrt(square), to)
        norm = square - x * x + head * head
        tau = 2 / norm if norm > 0 else 0.0
        s = [gram[c][a] + v[a][c] * (head - x) for c in range(a)]
        for c in range(a):
            total = 0.0
            for e in range(c, a):
                total += t[c][e] * s[e]
            t[c][a] = -tau * total
        t[a][a] = tau
        heads.append(head)
    return [[convert(-x, to) for x in row] for row in t], heads


@lru_cache
def tall_orthogonal(key: Key, start: int, m: int, k: int, to: Format) -> Matrix:
    """Of m rows and k <= m orthonormal columns."""
    q = [[0.0] * k for _ in range(m)]
    blocks = []
    for first in range(0, k, REFLECTIONS):
        v = block_of_normals(key, start, m, k, first, to)
        u, heads = triangle(v, to)
        for a, head in enumerate(heads):
            v[a][a] = head
            q[first + a][first + a] = 1.0 if head < 0 else -1.0
        blocks.append((first, v, u))
    for first, v, u in reversed(blocks):
        below = q[first:]
        added = product(v, product(u, product(transposed(v), below, to), to), to)
        for row, more in zip(below, added, strict=True):
            row[:] = [convert(x + y, to) for x, y in zip(row, more, strict=True)]
    return q


def orthogonal(
    dtype: str, key: Key, start: int, rows: int, columns: int, gain: float = 1.0
) -> list[list[int]]:
    """The bit patterns of `gain` times a matrix whose shorter side is orthonormal.

    It is made of the rows * columns indices from `start` on. A wide matrix is a tall one, turned.
    """
    computed = FLOAT64 if dtype == "float64" else FLOAT32
    q = tall_orthogonal(key, start, max(rows, columns), min(rows, columns), computed)
    if columns > rows:
        q = transposed(q)

    def bits(x: float) -> int:
        x = convert(max(-1.0, min(1.0, x)) * gain, computed)
        return pattern(convert(x, FORMATS[dtype]), dtype)

    return [[bits(x) for x in row] for row in q]


# A value.


FORMATS = {
    "float8_e4m3fn": FLOAT8_E4M3FN,
    "float8_e5m2": FLOAT8_E5M2,
    "float16": FLOAT16,
    "bfloat16": BFLOAT16,
    "float32": FLOAT32,
    "float64": FLOAT64,
}

LARGEST = {
    dtype: (2 - 2.0 ** (1 - to.precision)) * 2.0 ** (to.limit - 1) for dtype, to in FORMATS.items()
}
LARGEST["float8_e4m3fn"] = 448.0  # the next number's place is NaN's


def at_least(x: float, dtype: str) -> float:
    """The dtype's least finite number that is not below x; of two zeros the one with x's sign."""
    to = FORMATS[dtype]
    x = max(x, -LARGEST[dtype])
    if x == 0 or x > LARGEST[dtype]:
        return x
    m, e = dyadic(x)
    drop = max(m.bit_length() - to.precision, to.least - e, 0)
    return math.copysign(math.ldexp(-(-m >> drop), e + drop), x)


def inward(i: Interval, dtype: str) -> Pair:
    """The interval's ends, rounded to numbers of the dtype that lie in it.

    Without a spread they are the mean itself, which rounds to the nearest, as a normal's.
    """
    if i.std == 0 and i.low == i.high:
        mean = convert(convert(i.mean, FLOAT64 if dtype == "float64" else FLOAT32), FORMATS[dtype])
        return mean, mean
    return at_least(i.low, dtype), -at_least(-i.high, dtype)


def clamp(x: float, low: float, high: float) -> float:
    """An equal bound replaces x: their zeros may differ."""
    x = x if x > low else low
    return x if x < high else high


def value(distribution: str, dtype: str, key: Key, index: int, params: Sequence[float] = ()) -> int:
    """The bit pattern at an index.

    The distributions are

        constant  params (pattern,)    dtypes uint8, uint16, uint32, uint64
        bits      params ()            dtypes uint32, uint64
        uniform   params (low, high)   the dtypes of FORMATS
        normal    params (mean, std)   the dtypes of FORMATS
        truncated_normal
                  params (mean, std, low, high), the bounds in standard deviations from the
                  mean; the dtypes of FORMATS
    """
    if distribution == "constant":
        return int(params[0])
    if distribution == "bits":
        return draw(key, index) if dtype == "uint32" else word(key, index)
    computed = FLOAT64 if dtype == "float64" else FLOAT32
    if distribution == "truncated_normal":
        i = interval(*params)
        low, high = inward(i, dtype)
        x = low if low == high else truncated_normal(key, index, i, computed)
        x = clamp(x, low, high)
        return pattern(convert(x, FORMATS[dtype]), dtype)
    if distribution == "uniform":
        low, high = params
        x, scale, shift = standard_uniform(key, index, computed), width(low, high, computed), low
    else:
        shift, scale = params
        x = standard_normal(key, index, computed)
    scale, shift = convert(scale, computed), convert(shift, computed)
    return pattern(convert(fma(x, scale, shift, computed), FORMATS[dtype]), dtype)


# Formulas. Computed in float64 by + - * / alone, whatever the dtype is, and rounded to it: to
# float32 first where it is narrower.


def exp_series(x: float, first: int) -> float:
    """1 + x / first * (1 + x / (first + 1) * ( ... (1 + x / 18)))."""
    s = 1.0
    for i in range(18, first - 1, -1):
        s = 1 + x * s / i
    return s


def exp(x: float) -> float:
    k = math.floor(x * LOG2_E + 0.5)
    return math.ldexp(exp_series((x - k * LOG_2[0]) - k * LOG_2[1], 1), k)


def expm1(x: float) -> float:
    return x * exp_series(x, 2) if abs(x) <= 0.5 else exp(x) - 1


def log(x: float) -> float:
    m, k = math.frexp(x)
    if m < 0.7071067811865476:
        m, k = 2 * m, k - 1
    s = (m - 1) / (m + 1)
    q = 1 / 21
    for i in range(19, 0, -2):  # atanh(s) / s
        q = 1 / i + s * s * q
    return k * LOG_2[0] + (2 * s * q + k * LOG_2[1])


TWO_OVER_PI = float.fromhex("0x1.45f306dc9c883p-1")
HALF_PI_IN_PARTS = hexes("0x1.921fb4p0 0x1.4442dp-24 0x1.846988p-48 0x1.8cc51701b839ap-72")


def sine(x: float, quarter: int = 0) -> float:
    """sin(x + quarter * pi / 2)."""
    n = math.floor(x * TWO_OVER_PI + 0.5)
    for part in HALF_PI_IN_PARTS:
        x = x - n * part
    first = 2 - (n + quarter) % 2
    s = 1.0
    for i in range(first + 18, first - 1, -2):
        s = 1 - x * x * s / (i * (i + 1))
    s = x * s if first == 2 else s
    return -s if (n + quarter) % 4 >= 2 else s


def log_uniform(key: Key, index: int, low: float, high: float) -> float:
    u = standard_uniform(key, index, FLOAT64)
    return min(low * exp(u * (log(high) - log(low))), high)


def dt_bias(key: Key, index: int, low: float, high: float, floor: float) -> float:
    """The inverse of softplus."""
    dt = max(log_uniform(key, index, low, high), floor)
    return dt + log(-expm1(-min(dt, 60.0)))


def a_log(key: Key, index: int, low: float, high: float) -> float:
    u = standard_uniform(key, index, FLOAT64)
    return log(fma(u, width(low, high, FLOAT64), low, FLOAT64))


def geomspace(i: int, length: int, start: float, stop: float, endpoint: bool) -> float:
    n = max(1, length - endpoint)
    return start * exp((log(stop) - log(start)) * i / n)


def sinusoid(
    p: int, column: int, columns: int, base: float, start: float, layout: str, endpoint: bool
) -> float:
    pairs = (columns + 1) // 2
    i, cosine = divmod(column, 2) if layout == "interleaved" else divmod(column, pairs)[::-1]
    n = max(1, pairs - 1) if endpoint else columns / 2
    return sine((start + p) * exp(-log(base) * i / n), cosine)


CUT_MASS, CUT_STD = 0.9816843611112658, 0.9619618280082135  # of a complex normal within 2


def complex_disk(key: Key, other: Key, index: int, variance: float, cut: bool) -> Pair:
    """The parts of a complex number: its modulus is from one key, its angle from the other."""
    u, v = (standard_uniform(k, index, FLOAT64) for k in (key, other))
    if cut:
        radius = math.sqrt(variance) / CUT_STD * math.sqrt(-log(1 - u * CUT_MASS))
    else:
        radius = math.sqrt(2 * variance) * math.sqrt(u)
    n = math.floor(4 * v + 0.5)
    angle = (4 * v - n) * HALF_PI
    return radius * sine(angle, n + 1), radius * sine(angle, n)


def by_formula(x: float, dtype: str) -> int:
    """The bits of what a formula gives."""
    wide = convert(x, FLOAT64 if dtype == "float64" else FLOAT32)
    return pattern(convert(wide, FORMATS[dtype]), dtype)


def pattern(x: float, dtype: str) -> int:
    """The bits of a number that the dtype holds exactly."""
    if dtype == "bfloat16":  # float32's upper half
        return pattern(x, "float32") >> 16
    if dtype == "float8_e5m2":  # float16's upper half
        return pattern(x, "float16") >> 8
    if dtype == "float8_e4m3fn":  # as float16, but for 7 bits, and 8 in the exponent's bias;
        code = pattern(min(abs(x), 480.0) / 2**8, "float16") >> 7  # in 480's place is NaN
        return code | (0x80 if math.copysign(1.0, x) < 0 else 0)
    floating, integer = {
        "float16": ("<e", "<H"),
        "float32": ("<f", "<I"),
        "float64": ("<d", "<Q"),
    }[dtype]
    bits: int = struct.unpack(integer, struct.pack(floating, x))[0]
    return bits


def values(
    distribution: str, dtype: str, key: Key, start: int, n: int, params: Sequence[float] = ()
) -> list[int]:
    """The bit patterns at n indices from `start` on, modulo 2**64."""
    return [value(distribution, dtype, key, start + i, params) for i in range(n)]
