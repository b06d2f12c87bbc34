"""The truncated normal: against SciPy, its bounds, its symmetry, its narrow types."""

import math

import numpy as np
import pytest
from scipy.stats import ks_1samp, truncnorm

import fastinit as fi
from fastinit import _kernels
from fastinit._distributions import truncated_std

INF = math.inf
INTERVALS = [
    (-2, 2),
    (-3, 3),
    (-0.5, 0.1),
    (0, INF),
    (2, 3),
    (5, 6),
    (-6.4, 6.4),  # float64's ratio for the tail past exp(-25) is left out up to 6.44
    (-6.44, -6.3),
    (6.3, 6.6),
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
    # KS at p = 1e-4, fixed seed, of all values at every hundredth of them. float32 leaves steps:
    # those of the interval's ends.
    step = np.spacing(np.float32(max(abs(x.min()), abs(x.max())))) if dtype == "float32" else 0
    x.sort()
    statistic = abs(exact.cdf(x[::100]) - np.arange(0.5, n, 100) / n).max()
    assert statistic < 2.23 / math.sqrt(n) + 100 / n + exact.pdf(x[:: n // 1000]).max() * step


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


@pytest.mark.parametrize(("low", "high"), [*INTERVALS, (0, 0.1), (-1, 30), (100, INF)])
def test_standard_deviation(low, high):
    expected = moments(low, high)[1] if math.isfinite(low * high) or low < 8 else None
    found = truncated_std(low, high)
    if expected is not None:
        assert math.isclose(found, expected, rel_tol=1e-11)  # that of the quadrature above
    if low >= 8:  # Mills' ratio: the tail is nearly exponential
        assert math.isclose(found, 1 / low, rel_tol=3 / low**2 + 0.001 * (high < INF))


def test_standard_deviation_at_2_sigma():
    assert math.isclose(truncated_std(-2, 2), 0.87962566103423978, rel_tol=1e-15)
    assert math.isclose(truncated_std(-INF, INF), 1, rel_tol=1e-15)


@pytest.mark.parametrize(("low", "high"), [(-2, 2), (-0.5, 0.1), (2, 3), (0, INF), (-INF, -4)])
def test_corrected(low, high):
    x = fi.truncated_normal(10**6, 0.3, 0.02, low, high, corrected=True, rng=1, dtype="float64")
    z = x - x.mean()
    error = np.sqrt(((z**4).mean() / x.var() ** 2 - 1) / x.size) / 2
    assert abs(x.std() / 0.02 - 1) < 5 * error  # false alarm 6e-7
    wide = 0.02 / truncated_std(low, high)
    plain = fi.truncated_normal(10**6, 0.3, wide, low, high, rng=1, dtype="float64")
    assert x.tobytes() == plain.tobytes()


def test_corrected_refuses_an_interval_without_spread():
    with pytest.raises(ValueError, match=r"low=1\.0 must be less than high=1\.0"):
        fi.truncated_normal(3, low=1, high=1, corrected=True)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        (0, 1, -2, 2),
        (0, 0.02, -2, 2),
        (0.1, 0.3, -0.1, 0.7),
        (5, 1, -1, 1),
        (-30, 2, -1, 1),
        (0, 1, 0.5, INF),
        (1e-3, 1e-4, 0, 1e-3),
    ],
)
def test_absolute_bounds(mean, std, a, b):
    x = fi.trunc_normal(10**5, mean, std, a, b, rng=1, dtype="float64")
    assert a <= x.min() <= x.max() <= b
    exact = truncnorm((a - mean) / std, (b - mean) / std, mean, std)
    assert ks_1samp(x, exact.cdf).statistic < 2.23 / math.sqrt(10**5)  # p = 1e-4
    relative = fi.truncated_normal(
        10**5, mean, std, (a - mean) / std, (b - mean) / std, rng=1, dtype="float64"
    )
    assert np.allclose(x, relative, rtol=1e-12, atol=0)


def test_absolute_bounds_are_kept_exactly():
    """Given in standard deviations, they may round to values beyond them."""
    rng = np.random.default_rng(1)
    for mean, std in rng.uniform(0.01, 1, (200, 2)):
        x = fi.trunc_normal(2000, mean, std, mean, mean + std / 1000, rng=1, dtype="float64")
        assert mean <= x.min() <= x.max() <= mean + std / 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 2, 1), r"a=2\.0 must not be greater than b=1\.0"),
        ((0, -1, -2, 2), r"^trunc_normal_\(\): std=-1\.0 must be 0 or greater"),
        ((0, 1, math.nan, 2), "a=nan"),
        ((0, 0, 1, 2), "low=inf, high=inf must be bounds: no NaN, and not the same infinity"),
        ((0, 1, 1 + 1e-9, 1 + 2e-9), "no float32 lies between"),
    ],
)
def test_refused_absolute_bounds(arguments, message):
    x = np.full(3, 7, np.float32)
    with pytest.raises(ValueError, match=message):
        fi.trunc_normal_(x, *arguments)
    assert (x == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", *NARROW])
@pytest.mark.parametrize("mean", [0.1, -1 / 3, 3.0, 1e-3, 0.0])
def test_a_mean_without_spread_is_rounded_as_the_normal_is(mean, dtype):
    x = fi.truncated_normal(100, mean, 0.0, rng=1, dtype=dtype)
    assert x.tobytes() == fi.normal(100, mean, 0.0, rng=1, dtype=dtype).tobytes()
    assert len(np.unique(x.astype(np.float64))) == 1
    y = fi.trunc_normal(100, mean, 0.0, mean, mean, rng=1, dtype=dtype)
    assert y.tobytes() == x.tobytes()


def test_a_mean_without_spread_that_no_number_is_near():
    with pytest.raises(ValueError, match="must be finite in float16"):
        fi.truncated_normal(3, 7e4, 0.0, dtype="float16")


def test_absolute_bounds_without_spread():
    assert (fi.trunc_normal(9, 3, 0, 2, 4) == 3).all()
    assert (fi.trunc_normal(9, 3, 0, 3, 4) == 3).all()
