"""Exact statistics of a sample, unit norms, and layers scaled by their output."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

import fastinit as fi
from fastinit._fill import FLOAT_FORMATS, boxes

SHAPES = [(7,), (300, 40), (3, 1000, 500), (2, 3, 4, 5, 6), (600_001,), (20_000, 30)]


def axes_of(shape):
    yield None
    for k in range(1, len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), k):
            if math.prod(shape[a] for a in axes) > 3:
                yield axes


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.3, 0.02), (-5.0, 0.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_sample_moments_are_exact(shape, mean, std):
    for axis in axes_of(shape):
        x = fi.normal(shape, 2.0, 3.0, rng=1, dtype="float64")
        assert fi.standardize_(x, mean, std, axis) is x
        assert np.abs(x.mean(axis=axis) - mean).max() < 1e-13 * max(1, abs(mean))
        assert np.abs(x.std(axis=axis) - std).max() < 1e-13


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_other_dtypes_are_exact_up_to_their_rounding(dtype):
    x = fi.normal((500, 400), 0.1, 0.5, rng=1, dtype=dtype)
    wide = fi.standardize_(x.astype(np.float64), 0.0, 0.02)
    fi.standardize_(x, 0.0, 0.02)
    assert x.tobytes() == wide.astype(np.float32).astype(x.dtype).tobytes() or (
        np.abs(x.astype(np.float64) - wide).max() <= 0.02 * 8 * 2**-8
    )
    units = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
    assert abs(x.astype(np.float64).mean()) < 5 * 0.02 * units / math.sqrt(x.size) + 1e-12
    assert abs(x.astype(np.float64).std() / 0.02 - 1) < units


def test_far_from_zero_nothing_cancels():
    x = fi.normal((1000, 1000), 1e8, 1.0, rng=1, dtype="float64")
    fi.standardize_(x)
    # A unit in the last place of 1e8: NumPy's mean of the result is rounded as well.
    assert abs(x.mean()) < 2**-26
    assert abs(x.std() - 1) < 1e-10  # the boxes' means have such units, too


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
def test_threads_and_strides_do_not_matter(axis):
    shape = (700, 1500)  # several boxes
    one = fi.standardize_(fi.normal(shape, rng=1), axis=axis, threads=1)
    for threads in (2, 3, 7):
        again = fi.standardize_(fi.normal(shape, rng=1), axis=axis, threads=threads)
        assert again.tobytes() == one.tobytes()
    for x in (np.empty(shape[::-1], np.float32).T, np.empty((1400, 3000), np.float32)[::-2, ::2]):
        fi.standardize_(fi.normal_(x, rng=1), axis=axis)
        assert x.tobytes() == one.tobytes()


@pytest.mark.parametrize("axis", [0, 1, (0, 2), (1, 2), None])
def test_unit_norms(axis):
    x = fi.normal((300, 40, 50), rng=1, dtype="float64")
    before = x.copy()
    fi.normalize_(x, 2.0, axis)
    norms = np.sqrt((x**2).sum(axis=axis))
    assert np.abs(norms - 2).max() < 1e-13
    direction = np.sqrt((before**2).sum(axis=axis, keepdims=True))
    assert np.allclose(x, 2 * before / direction, rtol=1e-13)


def test_lsuv_on_layers_with_rectifiers():
    signal = fi.normal((512, 100), rng=1, dtype="float64")
    for layer in range(8):
        w = fi.orthogonal((100, 100), rng=layer, dtype="float64")
        fi.lsuv_(w, lambda signal=signal, w=w: np.maximum(signal @ w, 0))
        signal = np.maximum(signal @ w, 0)
        assert abs(signal.std() - 1) <= 0.01


def test_lsuv_counts_its_calls_and_stops():
    calls = []
    w = np.full((4, 4), 2.0)

    def linear():
        calls.append(1)
        return np.array([-1.0, 1.0]) * w[0, 0]

    fi.lsuv_(w, linear)
    assert len(calls) == 2
    assert (w == 1).all()
    with pytest.raises(ValueError, match=r"after iterations=3 .* deviation 2\.0, not std=1\.0"):
        fi.lsuv_(w, lambda: np.array([-2.0, 2.0]), iterations=3)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_no_temporary_of_the_arrays_size(axis):
    x = fi.normal((4096, 4096), rng=1)
    tracemalloc.start()
    try:
        fi.standardize_(x, axis=axis, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 4


def holding(value):
    x = fi.normal((6, 8), rng=1)
    x[3, 4] = value
    return x


@pytest.mark.parametrize(
    ("x", "call", "error", "message"),
    [
        (holding(math.nan), fi.standardize_, ValueError, "x holds values that are not finite"),
        (holding(math.inf), fi.standardize_, ValueError, "x holds values that are not finite"),
        (holding(math.inf), fi.normalize_, ValueError, "x holds values that are not finite"),
        (np.full((6, 8), 3.0), fi.standardize_, ValueError, "std=1.0: x has elements that are all"),
        (
            np.arange(12.0).reshape(4, 3) // 3,
            lambda x: fi.standardize_(x, axis=1),
            ValueError,
            "all equal",
        ),
        (np.eye(3)[:2], fi.normalize_, ValueError, "norm=1.0: x has a line of zeros along axis=0"),
        (holding(1), lambda x: fi.standardize_(x, axis=2), ValueError, "axis=2 is not an axis"),
        (holding(1), lambda x: fi.standardize_(x, axis=()), ValueError, r"axis=\(\) must name an"),
        (
            holding(1),
            lambda x: fi.standardize_(x, std=-1),
            ValueError,
            "std=-1 must be finite",
        ),
        (
            holding(1),
            lambda x: fi.standardize_(x, math.nan),
            ValueError,
            "mean=nan, std=1",
        ),
        (holding(1), lambda x: fi.standardize_(x, 1e39), ValueError, r"mean=1e\+39 must be finite"),
        (
            holding(1),
            lambda x: fi.standardize_(x, "0"),
            TypeError,
            "mean='0' must be a real",
        ),
        (holding(1), lambda x: fi.standardize_(x, threads=0), ValueError, "threads=0 must be 1 to"),
        (holding(1), lambda x: fi.normalize_(x, 0), ValueError, "norm=0 must be positive"),
        (np.arange(6), fi.standardize_, TypeError, "x has dtype 'int64'; allowed: float32"),
        (holding(1), lambda x: fi.lsuv_(x, lambda: np.ones(3)), ValueError, r"deviation 0\.0: it"),
        (holding(1), lambda x: fi.lsuv_(x, lambda: [math.nan]), ValueError, "deviation nan: it"),
        (holding(1), lambda x: fi.lsuv_(x, list, 0), ValueError, "std=0 must be positive"),
        (
            holding(1),
            lambda x: fi.lsuv_(x, list, iterations=0),
            ValueError,
            "iterations=0 must be 1 or",
        ),
    ],
)
def test_refused_arguments_leave_the_array_untouched(x, call, error, message):
    before = x.tobytes()
    with pytest.raises(error, match=message):
        call(x)
    assert x.tobytes() == before


def test_a_bad_line_is_found_before_the_first_is_written():
    x = fi.normal((4000, 300), rng=1)  # several boxes of lines
    x[-1] = 1
    before = x.tobytes()
    with pytest.raises(ValueError, match="all equal"):
        fi.standardize_(x, axis=1)
    assert x.tobytes() == before


def test_empty_and_0d():
    assert fi.standardize_(np.empty((0, 3))).shape == (0, 3)
    assert fi.standardize_(np.empty((3, 0)), axis=1).shape == (3, 0)
    assert fi.standardize_(np.array(5.0), 2.0, 0.0) == 2


@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 7, 3)])
@pytest.mark.parametrize("size", [0, 1, 2, 5, 8, 100])
def test_boxes_cut_a_shape(shape, size):
    seen = np.zeros(shape, int)
    for box in boxes(shape, size):
        assert seen[box].size <= max(1, size)
        seen[box] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("power", [-1070, -1000, -540, -451, 449, 600, 1020])
def test_magnitudes_whose_squares_are_no_numbers(power):
    """A power of two changes no digit, except of what becomes subnormal."""
    x = np.round(np.random.default_rng(1).normal(3.0, 2.0, (70, 50)), 3 if power > -1022 else 0)
    expected = fi.standardize_(x.copy(), std=2.0, axis=0)
    assert fi.standardize_(np.ldexp(x, power), std=2.0, axis=0).tobytes() == expected.tobytes()
    expected = fi.normalize_(x.copy(), axis=1)
    assert fi.normalize_(np.ldexp(x, power), axis=1).tobytes() == expected.tobytes()


def test_lines_of_very_different_magnitudes():
    x = np.array([[1.0, 2.0, 3.0]]).T * [[5e-324, 1e-200, 1.0, 1e200]]
    expected = np.array([[-1.0], [0.0], [1.0]]) * np.sqrt(1.5)
    assert np.allclose(fi.standardize_(x, axis=0), np.broadcast_to(expected, (3, 4)), atol=1e-15)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1e-310, 1e300, 5e-324])
@pytest.mark.parametrize("n", [2, 7, 1000, 10**6])
def test_elements_that_are_all_equal_are_seen_whatever_their_mean_rounds_to(value, n):
    x = np.full(n, value)
    with pytest.raises(ValueError, match="all equal"):
        fi.standardize_(x)
    assert (x == value).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn"])
def test_values_that_the_dtype_does_not_hold_are_refused(dtype):
    """They would be infinite, or NaN in float8_e4m3fn."""
    x = fi.normal((20, 50), dtype=dtype, rng=3)
    before, largest = x.tobytes(), float(FLOAT_FORMATS[dtype].max)
    for axis in (None, 0):
        with pytest.raises(ValueError, match=rf"x would have values up to .* largest of {dtype}"):
            fi.standardize_(x, std=largest / 2, axis=axis)
    with pytest.raises(ValueError, match="x would have values up to"):
        fi.lsuv_(x, lambda: np.array([-1.0, 1.0]) * 1e-3, std=largest / 1e3)
    assert x.tobytes() == before
    fi.standardize_(x, std=largest / 8)
    assert np.isfinite(x.astype(np.float64)).all()
