"""How far the functions of normal.h and truncated.h are from the mathematical ones.

The C text itself is compiled and measured; the bounds are those its header comments state, in
units in the last place for normal.h, as relative errors for truncated.h.  float32 is measured
against float64, float64 against long double.
"""

import ctypes
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from cases import Array
from conftest import SRC
from scipy.special import erfinv, ndtr, ndtri

LONG = np.longdouble
HALF_PI = LONG("1.57079632679489661923132169163975144")

LIBRARY = """
#define FI_HAS_FMA 0
#include <stddef.h>
#include "normal.h"

#define FUNCTION(F, A, T)                                                                          \
    void F##s(size_t n, const A *x, T *out) { for (size_t i = 0; i < n; i++) out[i] = F(x[i]); }
#define FUNCTION_OF_2(F, A, T)                                                                     \
    void F##s(size_t n, const A *x, const A *y, T *out)                                            \
    { for (size_t i = 0; i < n; i++) out[i] = F(x[i], y[i]); }
#define PAIR(F, D, T)                                                                              \
    void F##s(size_t n, const D *d0, const D *d1, T *z0, T *z1)                                    \
    { for (size_t i = 0; i < n; i++) F(d0[i], d1[i], &z0[i], &z1[i]); }

FUNCTION(sin32, float, float)
FUNCTION(cos32, float, float)
FUNCTION(sin64, double, double)
FUNCTION(cos64, double, double)
#define log32(u, one_minus_u) minus_2_log32(u, -one_minus_u, mask_if(one_minus_u < 0.5f))
#define log64(u, one_minus_u) minus_2_log64(u, one_minus_u)
FUNCTION_OF_2(log32, float, float)
FUNCTION_OF_2(log64, double, double)
FUNCTION_OF_2(radius32, uint32_t, float)
FUNCTION(radius64, uint64_t, double)
PAIR(normal_pair32, uint32_t, float)
PAIR(normal_pair64, uint64_t, double)
"""


class Functions:
    """The functions of normal.h in one width, over arrays."""

    def __init__(self, library: ctypes.CDLL, width: int) -> None:
        self.library, self.width = library, width
        self.float: Any = np.float32 if width == 32 else np.float64
        self.exact: Any = np.float64 if width == 32 else LONG
        self.radius_bits = 40 if width == 32 else 64
        self.angle_bits = 22 if width == 32 else 51

    def __call__(self, name: str, *arguments: Array, results: int = 1) -> list[Array]:
        out = [np.empty(arguments[0].size, self.float) for _ in range(results)]
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in (*arguments, *out)]
        getattr(self.library, f"{name}{self.width}s")(ctypes.c_size_t(out[0].size), *pointers)
        return out

    def ulps(self, x: Array, exact: Array) -> float:
        """The largest error of x, in units in the last place of the exact value."""
        unit = np.abs(np.spacing(exact.astype(self.float)))
        return float(np.max(np.abs(x - exact) / unit))

    def angles(self, fields: Array) -> tuple[Array, Array]:
        """The angles in (-pi/4, pi/4) that so many bits choose, and what sin and cos take for them:
        in float32 their share of pi/2, in float64 the angle, rounded."""
        odd = 2 * (fields.astype(np.int64) - (1 << (self.angle_bits - 1))) + 1
        share = np.ldexp(odd.astype(self.exact), -self.angle_bits - 1)
        unit = 1 if self.width == 32 else self.float(HALF_PI)
        return share * self.exact(HALF_PI), share.astype(self.float) * unit

    def draws(self, radius_bits: Array, turn: Array, angle_bits: Array) -> tuple[Array, Array]:
        """The two draws or words with these bits; `turn` has the sign and the swap in place. The
        angle's bits are in two's complement, so its top one is turned."""
        angle = angle_bits ^ np.uint64(1 << (self.angle_bits - 1))
        if self.width == 64:
            return radius_bits, turn | angle << np.uint64(11)
        low = radius_bits & np.uint64(0xFF)
        d0, d1 = radius_bits >> np.uint64(8), turn | angle << np.uint64(8) | low
        return d0.astype(np.uint32), d1.astype(np.uint32)


@pytest.fixture(scope="module", params=[32, 64], ids=["float32", "float64"])
def functions(request: pytest.FixtureRequest, compiled: Callable[[str], ctypes.CDLL]) -> Functions:
    if request.param == 64 and np.finfo(LONG).nmant < 63:
        pytest.skip("needs a long double wider than double")
    return Functions(compiled(LIBRARY), request.param)


def check(functions: Functions, function: str, worst: float) -> None:
    """The header states this error, rounded up: neither less nor idly more."""
    text = (SRC / "normal.h").read_text()
    row = re.search(rf"^ \*   {re.escape(function)}  .* ([\d.]+) +([\d.]+)$", text, re.MULTILINE)
    assert row, f"normal.h states no error of {function}"
    stated = float(row[1 if functions.width == 32 else 2])
    assert worst <= stated < worst + 0.02


def in_threads(function: Callable[[Any], float], over: Iterator[Any]) -> float:
    with ThreadPoolExecutor() as pool:
        return max(pool.map(function, over))


CHUNK = 2**19


def small_numbers(width: int) -> Iterator[Array]:
    """In (0, 0.71). All float32 that the 40 bits of a radius reach, and some more; for float64
    random ones, as many below each power of two down to 2^-64."""
    if width == 32:
        yield from (np.arange(k, k + CHUNK) * 2.0**-40 + 2.0**-41 for k in range(0, 2**23, CHUNK))
        first, last = np.array([2.0**-17, 0.71], np.float32).view(np.uint32).tolist()
        for bits in range(first, last, CHUNK):
            yield np.arange(bits, min(bits + CHUNK, last), dtype=np.uint32).view(np.float32)
    else:
        rng = np.random.default_rng(1)
        for exponent in range(-65, 0):
            yield np.ldexp(1 + rng.random(2**15), exponent)


def test_log(functions: Functions) -> None:
    """Of u where that is small, of 1 - u where u is near 1."""
    near_1 = functions.float(0.5 if functions.width == 32 else np.sqrt(LONG(0.5)))

    def of_u(u: Array) -> float:
        u = u.astype(functions.float)
        u = u[u < near_1]
        if u.size == 0:
            return 0.0
        (x,) = functions("log", u, 1 - u)
        return functions.ulps(x, -2 * np.log(u.astype(functions.exact)))

    def of_one_minus_u(v: Array) -> float:
        v = v.astype(functions.float)
        v = v[1 - v >= near_1]
        if v.size == 0:
            return 0.0
        (x,) = functions("log", 1 - v, v)
        return functions.ulps(x, -2 * np.log1p(-v.astype(functions.exact)))

    worst = in_threads(of_u, small_numbers(functions.width))
    worst = max(worst, in_threads(of_one_minus_u, small_numbers(functions.width)))
    check(functions, "-2 log u", worst)


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sin_and_cos(name: str, functions: Functions) -> None:
    """float32: at every angle. float64: at 2^20 of them, and at the smallest and largest."""
    fields = np.arange(2**22)
    if functions.width == 64:
        middle = 1 << 50
        random = np.random.default_rng(2).integers(0, 1 << 51, 2**20)
        ends = [np.arange(1000), middle - 500 + np.arange(1000), 2 * middle - 1 - np.arange(1000)]
        fields = np.concatenate([random, *ends])
    exact, x = functions.angles(fields)
    if functions.width == 64:
        exact = x.astype(LONG)  # its rounding is the angle's, not the function's
    (y,) = functions(name, x)
    check(functions, f"{name} x", functions.ulps(y, getattr(np, name)(exact)))


def radii(functions: Functions) -> tuple[Array, Array]:
    """Radius fields, dense near u = 0 and near u = 1, and the radii they stand for."""
    rng, bits = np.random.default_rng(3), functions.radius_bits
    fields = rng.integers(0, 2**bits - 1, 2**20, np.uint64, endpoint=True)
    fields >>= rng.integers(0, bits, fields.size, np.uint64)
    fields[::2] = np.uint64(2**bits - 1) - fields[::2]
    fields[:4] = 0, 1, 2**bits - 2, 2**bits - 1
    low = fields < np.uint64(2 ** (bits - 1))
    from_end = np.where(low, fields, np.uint64(2**bits - 1) - fields)
    u = np.ldexp(from_end.astype(functions.exact) + functions.exact(0.5), -bits)
    return fields, np.sqrt(-2 * np.where(low, np.log(u), np.log1p(-u)))


def test_radius(functions: Functions) -> None:
    """From the bits that were drawn: the rounding of u and of 1 - u counts as error, too."""
    fields, exact = radii(functions)
    zeros = np.zeros_like(fields)
    draws = functions.draws(fields, zeros, zeros)
    (x,) = functions("radius", *(draws if functions.width == 32 else draws[:1]))
    check(functions, "sqrt(-2 log u)", functions.ulps(x, exact))


def test_normal_pair(functions: Functions) -> None:
    """The two normals, from the bits that were drawn, on the whole circle."""
    fields, radius = radii(functions)
    rng, n = np.random.default_rng(4), fields.size
    signed, swapped = rng.integers(0, 2, (2, n), np.uint64)
    angle = rng.integers(0, 2**functions.angle_bits, n, np.uint64)
    turn = signed << np.uint64(functions.width - 1) | swapped << np.uint64(functions.width - 2)
    z = functions("normal_pair", *functions.draws(fields, turn, angle), results=2)

    x, _ = functions.angles(angle)
    sine, cosine = radius * np.sin(x), radius * np.cos(x) * np.where(signed == 1, -1, 1)
    exact = np.where(swapped == 1, (sine, cosine), (cosine, sine))
    check(functions, "z0, z1", max(functions.ulps(z[0], exact[0]), functions.ulps(z[1], exact[1])))


# The truncated normal.

TRUNCATED = """
#include <stddef.h>
#include "interval.c"

#define OF_1(NAME, T, VALUE)                                                                       \
    void NAME(size_t n, const T *x, T *out)                                                        \
    { for (size_t i = 0; i < n; i++) out[i] = VALUE(x[i]); }
#define OF_2(NAME, T, VALUE)                                                                       \
    void NAME(size_t n, const T *x, const T *y, T *out)                                            \
    { for (size_t i = 0; i < n; i++) out[i] = VALUE(x[i], y[i]); }
#define OF_DRAW(NAME, VALUE)                                                                \
    void NAME(size_t n, const uint32_t *d, const double *bound, float *out)                        \
    {                                                                                              \
        fi_truncated t;                                                                            \
        fi_truncate(&t, 0, 1, -*bound, *bound);                                                    \
        for (size_t i = 0; i < n; i++) out[i] = VALUE(d[i], interval32_of(&t));                    \
    }
#define BODY(p, q) quantile64(p, q, 1)
#define FAR(two_e, a) far_quantile64(two_e, a, 1.0 / (a * a))

OF_1(central_ratios, float, central_ratio32)
OF_1(tail_ratios, float, tail_ratio32)
OF_DRAW(centrals, central32)
OF_DRAW(wides, wide32)
OF_1(aboves, double, above)
OF_2(quantiles, double, BODY)
OF_2(fars, double, FAR)
"""


class TruncatedFunctions:
    """The functions of truncated.h and interval.c, over arrays."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def __call__(self, name: str, *arguments: Array) -> Array:
        out = np.empty(arguments[0].size, f"f{arguments[0].itemsize}")
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in (*arguments, out)]
        getattr(self.library, name)(ctypes.c_size_t(out.size), *pointers)
        return out


@pytest.fixture(scope="module")
def truncated(compiled: Callable[[str], ctypes.CDLL]) -> TruncatedFunctions:
    return TruncatedFunctions(compiled(TRUNCATED))


needs_long_double = pytest.mark.skipif(
    np.finfo(LONG).nmant < 63, reason="needs a long double wider than double"
)


def check_relative(function: str, errors: Array) -> None:
    """The header states the largest of the errors, rounded up to two digits."""
    text = (SRC / "truncated.h").read_text()
    row = re.search(rf"^ \*   {re.escape(function)}  .* ([\d.]+e-\d+)$", text, re.MULTILINE)
    assert row, f"truncated.h states no error of {function}"
    worst, stated = float(np.max(np.abs(errors))), float(row[1])
    assert worst <= stated < 1.1 * worst


def normal_quantile(p: Array, y: Array) -> Array:
    """Of p < 1/2 in float64, y being 2p - 1 without that difference's rounding."""
    return np.where(p > 0.1, np.sqrt(2) * erfinv(y), ndtri(p))


@pytest.mark.parametrize(("name", "low", "high"), [("central", 0, 10), ("tail", 10, 45)])
def test_ratio(name: str, low: float, high: float, truncated: TruncatedFunctions) -> None:
    """Of the quantile to y, in w = -log(1 - y^2)."""
    two_w = np.linspace(low, high, 2**20)[1:].astype(np.float32)
    w = two_w.astype(float) / 2
    y = np.sqrt(-np.expm1(-w))
    exact = normal_quantile(np.exp(-w) / (1 + y) / 2, -y) / -y
    check_relative(f"{name}_ratio32", truncated(f"{name}_ratios", two_w) / exact - 1)


@pytest.mark.parametrize(("method", "bound"), [("central", 2), ("central", 2.9), ("wide", 6.6)])
def test_float32_of_draw(method: str, bound: float, truncated: TruncatedFunctions) -> None:
    """The rounding of the interval counts as error, too. Draws dense at both ends of one half.
    Of 2u - 1 the kernels take 31 bits, which shows next to the median alone."""
    rng = np.random.default_rng(5)
    draws = rng.integers(0, 2**31, 2**20, np.uint32) >> rng.integers(0, 31, 2**20, np.uint32)
    draws[::2] = np.uint32(2**31 - 1) - draws[::2]
    u, p_low = (draws + 0.5) * 2.0**-32, ndtr(-bound)
    mass = 1 - 2 * p_low
    centred = ((draws | 1) * 2.0**-31 - 1) * mass
    exact = normal_quantile(p_low + u * mass, centred)
    ends = np.array([bound], float)
    z = truncated(f"{method}s", draws, ends)
    assert np.array_equal(truncated(f"{method}s", ~draws, ends), -z)
    check_relative(f"{method}32, to {bound} sigma", z / exact - 1)


def density(x: Array) -> Array:
    return np.exp(-x * x / 2) / np.sqrt(4 * HALF_PI)


def mills_ratio(x: Array) -> Array:
    """From 3 on in long double: Laplace's continued fraction, run to its limit."""
    m = x
    for k in range(300, 0, -1):
        m = x + k / m
    return 1 / m


def inside(x: Array) -> Array:
    """The probability between 0 and x, to 3 in long double: a series of positive terms."""
    term = total = x
    for i in range(3, 150, 2):
        term = term * (x * x / i)
        total = total + term
    return density(x) * total


@needs_long_double
def test_above(truncated: TruncatedFunctions) -> None:
    x = np.linspace(-8, 37, 2**17)
    z = np.abs(x.astype(LONG))
    upper = np.where(z > 3, mills_ratio(np.maximum(z, 3)) * density(z), LONG(0.5) - inside(z % 4))
    exact = np.where(x < 0, 1 - upper, upper)
    check_relative("above", (truncated("aboves", x) - exact) / exact)


@needs_long_double
def test_quantile(truncated: TruncatedFunctions) -> None:
    """By what its probability differs from p, over the density. Above 2^-10 1 - p is exact, too."""
    rng = np.random.default_rng(6)
    p = np.concatenate(
        [rng.integers(2**43, 2**52, 2**17) * 2.0**-53, np.exp2(-10 - 110 * rng.random(2**17))]
    )
    z = truncated("quantiles", p, 1 - p)
    assert np.array_equal(truncated("quantiles", 1 - p, p), -z)
    x, p = -z.astype(LONG), p.astype(LONG)
    near = (LONG(0.5) - p - inside(x % 4)) / density(x)
    far = p / density(x) - mills_ratio(np.maximum(x, 3))
    check_relative("quantile64", np.where(x < 3, near, far) / x)


@needs_long_double
def test_far(truncated: TruncatedFunctions) -> None:
    """By what is left of -log of the share above it, over that one's derivative."""
    rng = np.random.default_rng(7)
    a = 8 * np.exp2(20 * rng.random(2**17) ** 4)
    two_e = 91 * np.exp2(-50 * rng.random(a.size) ** 4)
    x = truncated("fars", two_e, a).astype(LONG)
    low, t = a.astype(LONG), x - a
    m_low, m = mills_ratio(low), mills_ratio(x)
    rest = low * t + t * t / 2 + np.log1p((m_low - m) / m) - two_e.astype(LONG) / 2
    check_relative("far_quantile64", rest * m / x)
