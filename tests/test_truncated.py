"""The truncated normal: against SciPy, its bounds, its symmetry, its narrow types."""

import math

import numpy as np
import pytest
from scipy.stats import ks_1samp, truncnorm

import fastinit as fi
from fastinit import _kernels

INF = math.inf
INTERVALS = [
    (-2, 2),
    (-3, 3),
    (-0.5, 0.1),
    (0, INF),
    (2, 3),
    (5, 6),
    (-INF, -4),
    (-8, 8),
    (-1000, 1000),
    (1, 1 + 1e-3),
    (-INF, INF),
    (8, INF),
    (-20.01, -20),
    (-101, -100),  # as of a mean far outside absolute bounds
]
N = 10**7
NARROW = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


def moments(low, high):
    """Mean, standard deviation, skewness and kurtosis by quadrature (SciPy's own fail far out)."""
    nearest = min(max(0, low), high)
    reach = 13 if abs(nearest) < 8 else 45 / abs(nearest)
    low, high = max(low, nearest - reach), min(high, nearest + reach)
    x, weight = np.polynomial.legendre.leggauss(200)
    x = low + (x + 1) / 2 * (high - low)
    weight = weight * np.exp((nearest - x) * (nearest + x) / 2)
    weight /= weight.sum()
    mean = weight @ x
    std = math.sqrt(weight @ (x - mean) ** 2)
    return mean, std, *(weight @ ((x - mean) / std) ** k for k in (3, 4))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_distribution(low, high, dtype):
    n = N if dtype == "float32" else N // 10
    x = fi.truncated_normal(n, 0, 1, low, high, rng=1, dtype=dtype).astype(np.float64)
    assert low <= x.min() <= x.max() <= high
    exact = truncnorm(low, high)
    mean, std, skew, kurtosis = moments(low, high)
    z = (x - mean) / std
    # Moments within 5 standard errors (false alarm 6e-7 each); those of the sample moments of
    # order k are sqrt((m_2k - m_k^2) / n), the m from the sample itself.
    for order, expected in ((1, 0.0), (2, 1.0), (3, skew), (4, kurtosis)):
        power = z**order
        assert abs(power.mean() - expected) < 5 * power.std() / math.sqrt(n) + 1e-7
    # KS at p = 1e-4, fixed seed. float32 leaves steps: those of the interval's ends.
    step = np.spacing(np.float32(max(abs(x.min()), abs(x.max())))) if dtype == "float32" else 0
    statistic = ks_1samp(x[: 10**6], exact.cdf).statistic
    assert statistic < 2.23 / 1000 + exact.pdf(x[:1000]).max() * step


@pytest.mark.parametrize(("low", "high"), INTERVALS)
def test_both_methods_draw_the_same_normals(low, high):
    """A value depends on its interval's method by rounding only: float32's from float64's."""
    narrow = fi.truncated_normal(10**5, 0, 1, low, high, rng=3)
    wide = fi.truncated_normal(10**5, 0, 1, low, high, rng=3, dtype="float64")
    pdf = truncnorm(low, high).pdf
    # 2^-32 of probability, or some units in the last place
    allowed = 2**-32 / pdf(wide) + 4e-7 * np.maximum(abs(wide), 1)
    assert (abs(narrow - wide) <= allowed).all()


@pytest.mark.parametrize("bound", [0.3, 2.0, 2.9, 3.0, 6.0, 8.0, INF])
def test_symmetric_intervals_are_antisymmetric(bound):
    n = 10**6
    draws = np.empty(n, np.uint32)
    rng = fi.default_rng(1)
    _kernels.fill(_kernels.BITS, _kernels.UINT32, draws, 0, rng.key, (), 1)
    x = fi.truncated_normal(n, 0, 1, -bound, bound, rng=rng)
    # Among 10^6 draws some 116 pairs are each other's complement.
    _, here, there = np.intersect1d(draws, ~draws, return_indices=True)
    assert len(here) > 50
    assert np.array_equal(x[here], -x[there])


@pytest.mark.parametrize("dtype", ["float32", *NARROW])
@pytest.mark.parametrize("std", [0.02, 0.3, 1.0, 7.7])
def test_never_outside_in_any_dtype(dtype, std):
    for low, high in ((-2, 2), (-0.7, 1.3), (0.5, 9), (-INF, -1)):
        x = fi.truncated_normal(10**5, 0.1, std, low, high, rng=2, dtype=dtype).astype(np.float64)
        assert 0.1 + low * std <= x.min()
        assert x.max() <= 0.1 + high * std


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_types_are_the_rounded_float32_pulled_inside(dtype):
    narrow = fi.truncated_normal(10**5, 0.1, 0.3, rng=2, dtype=dtype)
    rounded = fi.truncated_normal(10**5, 0.1, 0.3, rng=2).astype(narrow.dtype)
    lowest, highest = narrow.min(), narrow.max()
    assert np.array_equal(narrow, np.clip(rounded, lowest, highest))


def test_wide_bounds_are_the_normal_itself():
    x = fi.truncated_normal(10**6, 0, 1, -INF, INF, rng=4, dtype="float64")
    assert (
        x.tobytes()
        == fi.truncated_normal(10**6, 0, 1, -1000, 1000, rng=4, dtype="float64").tobytes()
    )
    assert np.abs(x).max() > 4.5


@pytest.mark.parametrize(("low", "high"), [(1, 1), (-INF, INF), (-2, 2)])
def test_degenerate(low, high):
    assert (fi.truncated_normal(100, 3, 0, low, high, rng=1) == 3).all()
    assert (fi.truncated_normal(100, 3, 2, 1, 1, rng=1) == 5).all()
