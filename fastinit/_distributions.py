"""What is drawn: a distribution with checked parameters, as the kernels take them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from fastinit import _kernels
from fastinit._arguments import interval, real, spread
from fastinit._errors import value_error


class Distribution(NamedTuple):
    """What is drawn: a kernel's number and its parameters, finite and checked."""

    kernel: int
    params: tuple[float, ...]
    largest: float  # magnitude that the dtype must be able to hold
    text: str  # of the parameters, for errors
    bounded: bool = False  # params begin with bounds, which become numbers of the dtype
    reach: float = 0.0  # magnitude of the largest value there can be, unless it is bounded
    reach64: float = 0.0  # that in float64, whose normals have longer tails


def _distribution(kernel: int, names: tuple[str, ...], params: tuple[float, ...]) -> Distribution:
    text = ", ".join(f"{name}={value!r}" for name, value in zip(names, params, strict=True))
    if not all(map(math.isfinite, params)):
        raise value_error(f"{text} must be finite")
    largest = max(map(abs, params))
    return Distribution(kernel, params, largest, text, reach=largest, reach64=largest)


# The largest |z| of a normal, of 40 random bits and of float64's 64 (`normal.h`), rounded up.
_RADIUS, _RADIUS64 = 7.55, 9.5


_MEAN_AND_STD = ("mean", "std")


@lru_cache
def _normal(mean: float, std: float, names: tuple[str, str] | None = None) -> Distribution:
    names = names or _MEAN_AND_STD
    spread(names[1], std)
    distribution = _distribution(_kernels.NORMAL, names, (mean, std))
    reach, reach64 = (abs(mean) + radius * std for radius in (_RADIUS, _RADIUS64))
    return distribution._replace(reach=reach, reach64=reach64)


@lru_cache
def _uniform(low: float, high: float, names: tuple[str, str]) -> Distribution:
    # The kernels need the width itself: of two finite bounds it can still be infinite.
    of_three = (*names, f"{names[1]} - {names[0]}")
    distribution = _distribution(_kernels.UNIFORM, of_three, (low, high, high - low))
    interval(names[0], low, names[1], high)
    return distribution


@lru_cache
def _truncated_normal(mean: float, std: float, low: float, high: float) -> Distribution:
    names = ("mean", "std", "low", "high")
    text = ", ".join(f"{n}={v!r}" for n, v in zip(names, (mean, std, low, high), strict=True))
    if not (math.isfinite(mean) and math.isfinite(std)):
        raise value_error(f"{text}: mean and std must be finite")
    spread("std", std)
    interval("low", low, "high", high)
    params = _kernels.truncate(mean, std, low, high)
    return Distribution(_kernels.TRUNCATED_NORMAL, params, max(abs(mean), std), text, bounded=True)


def normal_distribution(
    mean: float, std: float, names: tuple[str, str] | None = None
) -> Distribution:
    """Return the normal distribution; raise TypeError or ValueError if it is none."""
    if type(mean) is not float or type(std) is not float:  # mostly they are, and need no call
        mean_name, std_name = names or _MEAN_AND_STD
        mean, std = real(mean_name, mean), real(std_name, std)
    # + 0.0 turns a mean of -0.0 into 0.0, which the cache cannot tell apart. It finds two arguments
    # faster than three (measured: 3 % of a call for 64 values).
    return _normal(mean + 0.0, std) if names is None else _normal(mean + 0.0, std, names)


def of_parts(distribution: Distribution) -> Distribution | None:
    """Return the distribution of a complex number's parts, if it has one for complex numbers.

    The parts of a normal are independent, each with half the variance.
    """
    if distribution.kernel != _kernels.NORMAL or distribution.params[0] != 0.0:
        return None
    return normal_of_parts(*distribution.params)


def normal_of_parts(mean: float, std: float) -> Distribution:
    """Return the normal of each part of complex numbers: of this mean, and half the variance."""
    mean, std = normal_distribution(mean, std).params  # refuses the numbers that were given
    return _normal(mean, std * 0.7071067811865476)


def truncated_normal_distribution(mean: float, std: float, low: float, high: float) -> Distribution:
    """Return the normal within low to high standard deviations; raise if it is none."""
    return _truncated_normal(
        real("mean", mean) + 0.0, real("std", std), real("low", low) + 0.0, real("high", high) + 0.0
    )


@lru_cache
def _absolute_truncated_normal(mean: float, std: float, a: float, b: float) -> Distribution:
    _kernels.check_rounding()
    text = f"mean={mean!r}, std={std!r}, a={a!r}, b={b!r}"
    if not (math.isfinite(mean) and math.isfinite(std)):
        raise value_error(f"{text}: mean and std must be finite")
    spread("std", std)
    interval("a", a, "b", b)
    low, high = (_sigmas(bound - mean, std) for bound in (a, b))
    try:
        distribution = _truncated_normal(mean, std, low, high)
    except ValueError as error:
        raise value_error(f"{text}: in standard deviations from the mean, {error}") from None
    # The bounds as given: mean + low * std may round to one beyond them.
    return distribution._replace(params=(a, b, *distribution.params[2:]), text=text)


def _sigmas(distance: float, std: float) -> float:
    """Return distance / std; with no spread, everything but the mean is infinitely far."""
    if std:
        return distance / std
    return math.copysign(math.inf, distance) if distance else 0.0


def absolute_truncated_normal_distribution(
    mean: float, std: float, a: float, b: float
) -> Distribution:
    """Return the normal within the values a and b; raise TypeError or ValueError if none."""
    return _absolute_truncated_normal(
        real("mean", mean) + 0.0, real("std", std), real("a", a) + 0.0, real("b", b) + 0.0
    )


@lru_cache
def truncated_std(low: float, high: float) -> float:
    """Return the standard deviation of the standard normal within low to high.

    By the Taylor series of the density, panel after panel away from its highest point, in plain
    arithmetic: the result enters values, and exp and erf differ from system to system. Relative
    error below 1e-14 (`tests/core/test_truncated.py`).
    """
    _kernels.check_rounding()
    low, high = real("low", low), real("high", high)
    if not low < high:
        raise value_error(f"low={low!r} must be less than high={high!r} for a standard deviation")
    top = min(max(low, 0.0), high)
    reach = 45.0 / max(abs(top), 3.5)  # beyond it lies less than exp(-45) of the mass
    left = _density_integrals(top, max(low - top, -reach))
    right = _density_integrals(top, min(high - top, reach))
    mass, first, second = (r - m for m, r in zip(left, right, strict=True))
    return math.sqrt(second / mass - (first / mass) ** 2)


def _density_integrals(start: float, length: float, panels: int = 64) -> list[float]:
    """Return the integrals over s from 0 to length of s^j f(start + s) / f(start), j = 0 to 2.

    f is the normal density: f' = -x f gives its Taylor coefficients at any x, one by one.
    """
    step, value, moments = length / panels, 1.0, [0.0, 0.0, 0.0]
    for panel in range(panels):
        at = panel * step
        previous, term, parts = 0.0, value, [0.0, 0.0, 0.0]
        value = 0.0
        for k in range(40):
            parts = [part + term * step / (k + 1 + j) for j, part in enumerate(parts)]
            value += term
            previous, term = term, -step * ((start + at) * term + step * previous) / (k + 1)
        zeroth, first, second = parts[0], parts[1] * step, parts[2] * step * step
        moments[0] += zeroth
        moments[1] += at * zeroth + first
        moments[2] += at * (at * zeroth + 2 * first) + second
    return moments


def uniform_distribution(
    low: float, high: float, names: tuple[str, str] = ("low", "high")
) -> Distribution:
    """Return the uniform distribution; raise TypeError or ValueError if it is none."""
    if type(low) is not float or type(high) is not float:
        low, high = real(names[0], low), real(names[1], high)
    return _uniform(low, high, names)
