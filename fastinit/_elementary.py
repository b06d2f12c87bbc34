"""exp, log, sine and cosine of float64 arrays, with the same bits on every machine.

NumPy's and libm's differ from one CPU and system to another in the last place. These use
``+ - * /`` and powers of two alone, which IEEE 754 defines; `tests/reference.py` has the same
steps for one number. Relative errors are below 5e-16, where the text does not say otherwise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LARGEST_ANGLE = 2.0**28
"""Beyond it `sine` is not exact."""

_LOG2_E = float.fromhex("0x1.71547652b82fep0")
# log(2) in two parts: the first has 33 bits, so that its product with an exponent is exact.
_LOG_2 = float.fromhex("0x1.62e42fefap-1"), float.fromhex("0x1.cf79abc9e3b3ap-40")
_TWO_OVER_PI = float.fromhex("0x1.45f306dc9c883p-1")
# pi / 2 in four parts: three of 24 bits, so that products with 29 bits are exact, and the rest.
_HALF_PI = (
    float.fromhex("0x1.921fb4p0"),
    float.fromhex("0x1.4442dp-24"),
    float.fromhex("0x1.846988p-48"),
    float.fromhex("0x1.8cc51701b839ap-72"),
)


def _exp_series(x: Floats, first: int) -> Floats:
    """Return 1 + x / first * (1 + x / (first + 1) * ( ... (1 + x / 18)))."""
    s = np.ones_like(x)
    for i in range(18, first - 1, -1):
        s = 1.0 + x * s / i
    return s


def exp(x: Floats) -> Floats:
    """Return e**x, for x from -700 to 700."""
    k = np.floor(x * _LOG2_E + 0.5)
    return np.ldexp(_exp_series((x - k * _LOG_2[0]) - k * _LOG_2[1], 1), k.astype(np.int32))


def expm1(x: Floats) -> Floats:
    """Return e**x - 1, for x from -700 to 700."""
    near = np.abs(x) <= 0.5
    small = np.where(near, x, 0.0)
    return np.where(near, small * _exp_series(small, 2), exp(x) - 1.0)


def log(x: Floats) -> Floats:
    """Return the natural logarithm of positive numbers."""
    m, e = np.frexp(x)
    below = m < 0.7071067811865476
    m, k = np.where(below, 2.0 * m, m), e - below.astype(np.float64)
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    q = np.full_like(s, 1.0 / 21.0)
    for i in range(19, 0, -2):  # atanh(s) / s = 1 + s**2 / 3 + s**4 / 5 + ...
        q = 1.0 / i + square * q
    return k * _LOG_2[0] + (2.0 * s * q + k * _LOG_2[1])


def _reduced(x: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return x less the nearest multiple of pi / 2, and which multiple that is."""
    n = np.floor(x * _TWO_OVER_PI + 0.5)
    for part in _HALF_PI:
        x = x - n * part
    return x, n.astype(np.int64)


def _alternating(square: Floats, first: int) -> Floats:
    """Return 1 - y / (first (first + 1)) (1 - y / ((first + 2) (first + 3)) ( ... ))."""
    s = np.ones_like(square)
    for i in range(first + 18, first - 1, -2):
        s = 1.0 - square * s / (i * (i + 1))
    return s


def sine(x: Floats, quarter: int | NDArray[np.int64] = 0) -> Floats:
    """Return sin(x + quarter * pi / 2), for |x| to `LARGEST_ANGLE`; 1 of quarter is the cosine.

    The absolute error is below 4e-16.
    """
    r, n = _reduced(x)
    square = r * r
    n = n + quarter
    value = np.where(n % 2 == 0, r * _alternating(square, 2), _alternating(square, 1))
    return np.where(n % 4 < 2, value, -value)
