"""Uniforms stay within their bounds, and what is promised of the upper one holds for each dtype."""

import ctypes
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import fastinit as fi

Array = NDArray[Any]

LIBRARY = """
#include <stddef.h>
#define FI_HAS_FMA 0
#include "affine.h"

#define ENDS(WIDTH, T, LARGEST)                                                                    \
    void ends##WIDTH(size_t n, const double *low, const double *high, T *scale, T *first, T *last) \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            const double params[] = {low[i], high[i]};                                             \
            const affine##WIDTH a = uniform_affine##WIDTH(params);                                 \
            scale[i] = a.scale;                                                                    \
            first[i] = fma##WIDTH(0, a.scale, a.shift);                                            \
            last[i] = fma##WIDTH(LARGEST, a.scale, a.shift);                                       \
        }                                                                                          \
    }
ENDS(32, float, 1.0f - 0x1p-24f)
ENDS(64, double, 1.0 - 0x1p-53)
"""

WIDTHS = {"float32": 32, "float64": 64}
NARROW = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


def intervals(dtype: str, n: int = 2**20) -> tuple[Array, Array]:
    """Far from 0 and around it, of all widths, many of a few units in the last place."""
    rng = np.random.default_rng(8)
    bits = np.finfo(dtype).nmant + 4
    low = rng.uniform(-1, 1, n) * np.exp2(rng.uniform(-60, 60, n))
    high = low + np.abs(low) * np.exp2(rng.uniform(-bits, 8, n))
    low[: n // 4], high[: n // 4] = -high[: n // 4], -low[: n // 4]
    low[: n // 64] = 0.0
    high[n // 64 : n // 32] = 0.0
    tiny = slice(n // 32, n // 16)
    low[tiny] *= 2.0**-100 if dtype == "float32" else 2.0**-1000
    high[tiny] *= 2.0**-100 if dtype == "float32" else 2.0**-1000
    high[n // 16 : n // 12] = low[n // 16 : n // 12]
    return np.minimum(low, high), np.maximum(low, high)


Ends = Callable[[Array, Array], tuple[Array, Array, Array]]


@pytest.fixture(scope="module", params=WIDTHS)
def dtype(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def ends(dtype: str, compiled: Callable[[str], ctypes.CDLL]) -> Ends:
    """Of intervals: what u is multiplied by, and the values of the smallest and largest u."""
    function = getattr(compiled(LIBRARY), f"ends{WIDTHS[dtype]}")

    def of(low: Array, high: Array) -> tuple[Array, Array, Array]:
        scale, first, last = np.empty((3, low.size), dtype)
        arrays = (low, high, scale, first, last)
        function(ctypes.c_size_t(low.size), *(ctypes.c_void_p(x.ctypes.data) for x in arrays))
        return scale, first, last

    return of


def test_the_smallest_and_largest_value_of_a_million_intervals(dtype: str, ends: Ends) -> None:
    """Rounding is monotone, so that no u has a value outside these two."""
    low, high = intervals(dtype)
    scale, first, last = ends(low, high)
    lowest, highest = low.astype(dtype), high.astype(dtype)
    proper = lowest < highest
    assert np.array_equal(first, lowest)
    assert np.all(last[proper] < highest[proper])
    assert np.array_equal(last[~proper], lowest[~proper])

    width = (high - low).astype(dtype)
    unit = np.spacing(np.maximum(np.abs(lowest), np.abs(highest)))
    assert 0.01 < np.mean(scale != width) < 0.9  # it was needed, and not everywhere
    assert np.all(np.abs(scale - width) <= 2 * unit)


def test_symmetric_intervals_need_no_other_width(dtype: str, ends: Ends) -> None:
    """Nor those from 0 on: the initializers' own have the bits of every earlier stream."""
    bound = np.exp2(np.random.default_rng(9).uniform(-60, 60, 2**16))
    for low in (-bound, 0 * bound):
        scale, *_ = ends(low, bound)
        assert np.array_equal(scale, (bound - low).astype(dtype))


BOUNDS = [
    (0.0, 1.0),
    (-0.96, -0.92),
    (-0.3, 0.7),
    (1.0, 1.5),
    (3.0, 3.0),
    (-2.0, 0.0),
]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_what_is_drawn_is_within_the_rounded_bounds(bounds: tuple[float, float]) -> None:
    """float32 and float64: from low on, below high. Narrower: float32's values, rounded."""
    low, high = bounds
    for dtype in WIDTHS:
        x = fi.uniform((2**22,), low, high, rng=5, dtype=dtype)
        first, last = np.array([low, high], dtype)
        assert x.min() >= first
        assert x.max() < last if first < last else np.all(x == first)
    whole = fi.uniform((2**22,), low, high, rng=5, dtype="float32")
    for narrow in NARROW.values():
        x = fi.uniform((2**22,), low, high, rng=5, dtype=narrow)
        assert np.array_equal(x, whole.astype(narrow))
        first, last = np.array([low, high], np.float32).astype(narrow).astype(np.float32)
        assert np.all((x.astype(np.float32) >= first) & (x.astype(np.float32) <= last))


def test_how_often_bfloat16_is_the_upper_bound() -> None:
    """As often as float32's value is nearer to it than to the number below: half a spacing."""
    x = fi.uniform((2**22,), rng=6, dtype=ml_dtypes.bfloat16)
    assert np.mean(x.astype(np.float32) == 1.0) == pytest.approx(2.0**-9, rel=0.1)
