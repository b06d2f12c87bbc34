"""The stream fastinit-1, as a specification: slow, and without a trick of the C code.

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

STREAM = "fastinit-1"
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
    "-0x1.665dcap-3 0x1.255856p-2 -0x1.318864p-2 0x1.534d96p-2 -0x1.98d11ap-2"
    " 0x1.000514p-1 -0x1.5556fcp-1 0x1.fffff8p-1 -0x1p1"
)
LOG64 = hexes(
    "-0x1.2f1eb18cb8e09p-2 -0x1.399f3838deaf9p-2 -0x1.746657fd76585p-2 -0x1.c71c518cabffdp-2"
    " -0x1.2492494290e03p-1 -0x1.999999997f18bp-1 -0x1.5555555555595p0 -0x1p2"
)
SIN32 = hexes("-0x1.992cf8p-13 0x1.1106e6p-7 -0x1.555544p-3")
SIN64 = hexes(
    "0x1.5d8e4fb4e7ee1p-33 -0x1.ae5e54bf8deb3p-26 0x1.71de355f53bf5p-19"
    " -0x1.a01a019bf261fp-13 0x1.111111110f75ep-7 -0x1.5555555555548p-3"
)
COS32 = hexes("0x1.99e912p-16 -0x1.6c0c2ap-10 0x1.55554ap-5 -0x1p-1 0x1p0")
COS64 = hexes(
    "-0x1.9073edbb62cbp-37 0x1.1eeb586f405a7p-29 -0x1.27e4fa0384523p-22 0x1.a01a019f38ba5p-16"
    " -0x1.6c16c16c168ccp-10 0x1.5555555555555p-5 -0x1p-1 0x1p0"
)
MINUS_2_LOG_2 = {
    FLOAT32: float.fromhex("-0x1.62e43p0"),
    FLOAT64: float.fromhex("-0x1.62e42fefa39efp0"),
}
HALF_PI = {FLOAT32: float.fromhex("0x1.921fb6p0"), FLOAT64: float.fromhex("0x1.921fb54442d18p0")}
SQRT_HALF = {
    FLOAT32: float.fromhex("0x1.6a09e6p-1"),
    FLOAT64: float.fromhex("0x1.6a09e667f3bcdp-1"),
}


def minus_2_log(u: float, one_minus_u: float, to: Format) -> float:
    """-2 log u.  u = 2**e * f, with f from sqrt(1/2) to sqrt(2)."""
    f, e = math.frexp(u)
    if f < SQRT_HALF[to]:
        f, e = 2 * f, e - 1
    t = -one_minus_u if e == 0 else f - 1
    if to == FLOAT32:
        log_f = convert(t * horner(LOG32, t, to), to)
    else:
        s = t / (2 + t)
        log_f = s * horner(LOG64, s * s, to)
    return fma(e, MINUS_2_LOG_2[to], log_f, to)


def sin(x: float, to: Format) -> float:
    y = convert(x * x, to)
    q = horner(SIN32 if to == FLOAT32 else SIN64, y, to)
    return fma(q, convert(y * x, to), x, to)


def cos(x: float, to: Format) -> float:
    y = convert(x * x, to)
    return horner(COS32 if to == FLOAT32 else COS64, y, to)


def box_muller(radius_bits: int, of: int, sign: int, swap: int, angle: int, to: Format) -> Pair:
    """Two standard normals.

    u = (radius_bits + 1/2) / 2**of gives the radius.  The angle is an odd multiple of
    (pi/2) / 2**p, of less than pi/4 either way; `swap` and `sign` bring it to the other
    quarters of the circle.
    """
    r, p = 2 * radius_bits + 1, to.precision - 1
    u = rounded(r, -of - 1, to)
    one_minus_u = rounded(2 ** (of + 1) - r, -of - 1, to)
    radius = convert(math.sqrt(minus_2_log(u, one_minus_u, to)), to)
    x = convert(angle * math.ldexp(HALF_PI[to], -p), to)
    s, c = sin(x, to), -cos(x, to) if sign else cos(x, to)
    z = (s, c) if swap else (c, s)
    return convert(radius * z[0], to), convert(radius * z[1], to)


def odd_signed(field: int, bits: int) -> int:
    """2 * field + 1, field being a two's complement number of so many bits."""
    return 2 * (field - (field >> bits - 1 << bits)) + 1


@lru_cache(maxsize=2**18)
def normal_pair32(key: Key, index: int) -> Pair:
    """Of indices index (even) and index + 1: 40 bits for the radius, 24 for the angle."""
    d0, d1 = draw(key, index), draw(key, index + 1)
    angle = odd_signed(d1 >> 8 & 2**22 - 1, 22)
    return box_muller(d0 << 8 | d1 & 0xFF, 40, d1 >> 31, d1 >> 30 & 1, angle, FLOAT32)


@lru_cache(maxsize=2**18)
def normal_pair64(key: Key, index: int) -> Pair:
    """As normal_pair32, with 64 bits for the radius and 53 for the angle."""
    w0, w1 = word(key, index), word(key, index + 1)
    angle = odd_signed(w1 >> 11 & 2**51 - 1, 51)
    return box_muller(w0, 64, w1 >> 63, w1 >> 62 & 1, angle, FLOAT64)


def standard_normal(key: Key, index: int, to: Format) -> float:
    pair = normal_pair32 if to == FLOAT32 else normal_pair64
    return pair(key, index & MASK64 & ~1)[index & 1]


def standard_uniform(key: Key, index: int, to: Format) -> float:
    """On [0, 1), as NumPy."""
    if to == FLOAT32:
        return math.ldexp(draw(key, index) >> 8, -24)
    return math.ldexp(word(key, index) >> 11, -53)


# A value.


FORMATS = {
    "float8_e4m3fn": FLOAT8_E4M3FN,
    "float8_e5m2": FLOAT8_E5M2,
    "float16": FLOAT16,
    "bfloat16": BFLOAT16,
    "float32": FLOAT32,
    "float64": FLOAT64,
}


def value(distribution: str, dtype: str, key: Key, index: int, params: Sequence[float] = ()) -> int:
    """The bit pattern at an index.

    The distributions are

        constant  params (pattern,)    dtypes uint8, uint16, uint32, uint64
        bits      params ()            dtypes uint32, uint64
        uniform   params (low, high)   the dtypes of FORMATS
        normal    params (mean, std)   the dtypes of FORMATS
    """
    if distribution == "constant":
        return int(params[0])
    if distribution == "bits":
        return draw(key, index) if dtype == "uint32" else word(key, index)
    computed = FLOAT64 if dtype == "float64" else FLOAT32
    if distribution == "uniform":
        low, high = params
        x, scale, shift = standard_uniform(key, index, computed), high - low, low
    else:
        shift, scale = params
        x = standard_normal(key, index, computed)
    scale, shift = convert(scale, computed), convert(shift, computed)
    return pattern(convert(fma(x, scale, shift, computed), FORMATS[dtype]), dtype)


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
