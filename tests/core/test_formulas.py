"""Initializers by a formula: bits of the specification, exactness, and the models they are for."""

import math

import numpy as np
import pytest
import reference
from scipy.special import expit
from scipy.stats import ks_1samp

import fastinit as fi
from fastinit import _elementary

FLOATS = list(reference.FORMATS)
WORDS = {1: "u1", 2: "<u2", 4: "<u4", 8: "<u8"}
KEY = reference.key(7)


def bits(x):
    return x.view(WORDS[x.itemsize]).ravel().tolist()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("log_uniform", {"low": 0.001, "high": 0.1}),
        ("log_uniform", {"low": 0.3, "high": 0.3}),
        ("log_uniform", {"low": 0.01, "high": 200.0}),
        ("dt_bias", {"low": 0.001, "high": 0.1, "floor": 0.002}),
        ("dt_bias", {"low": 0.2, "high": 100.0, "floor": 0.0001}),
        ("a_log", {"low": 1.0, "high": 16.0}),
        ("a_log", {"low": 0.001, "high": 3.0}),
    ],
)
def test_draws_are_the_references(name, arguments, dtype):
    x = getattr(fi, name)((3, 500), **arguments, dtype=dtype, rng=7)
    draw = getattr(reference, name)
    values = [draw(KEY, i, *arguments.values()) for i in range(x.size)]
    assert bits(x) == [reference.by_formula(value, dtype) for value in values]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize(("start", "stop"), [(1.0, 1e-4), (2.0, 96.0), (0.3, 0.3)])
def test_geomspace_is_the_references(start, stop, endpoint, dtype):
    x = fi.geomspace((1, 33), start, stop, endpoint=endpoint, dtype=dtype)
    values = [reference.geomspace(i, 33, start, stop, endpoint) for i in range(33)]
    assert bits(x) == [reference.by_formula(value, dtype) for value in values]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize(("layout", "columns"), [("interleaved", 7), ("halves", 8)])
@pytest.mark.parametrize(("base", "start"), [(10000.0, 0.0), (100.0, 1e6 + 0.5), (1.0, -3.0)])
def test_sinusoids_are_the_references(base, start, layout, columns, endpoint, dtype):
    shape = (20, columns)
    x = fi.sinusoid(shape, base, start, layout=layout, endpoint=endpoint, dtype=dtype)
    values = [
        reference.sinusoid(p, c, columns, base, start, layout, endpoint)
        for p, c in np.ndindex(shape)
    ]
    assert bits(x) == [reference.by_formula(value, dtype) for value in values]


def test_functions_are_as_exact_as_they_say():
    """Against libm, which is right to less than a last place."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-700, 700, 20000)
    assert np.abs(_elementary.exp(x) / np.exp(x) - 1).max() < 6e-16
    x = np.concatenate([rng.uniform(-2, 2, 20000), 10 ** rng.uniform(-300, 0, 20000)])
    assert np.abs(_elementary.expm1(x) / np.expm1(x) - 1).max() < 6e-16
    x = np.concatenate([10 ** rng.uniform(-300, 300, 20000), rng.uniform(0.5, 2, 20000)])
    assert np.abs(_elementary.log(x) - np.log(x)).max() < 1.2e-13  # a last place of log(1e300)
    assert np.abs(_elementary.log(x[20000:]) - np.log(x[20000:])).max() < 4e-16
    for most in (1, 100, 1e6, _elementary.LARGEST_ANGLE):
        x = rng.uniform(-most, most, 20000)
        assert np.abs(_elementary.sine(x) - np.sin(x)).max() < 4e-16
        assert np.abs(_elementary.sine(x, 1) - np.cos(x)).max() < 4e-16


def test_functions_are_exact_where_models_need_it():
    assert (_elementary.exp(np.zeros(1)), _elementary.log(np.ones(1))) == (1, 0)
    assert (_elementary.sine(np.zeros(1)), _elementary.sine(np.zeros(1), 1)) == (0, 1)
    assert fi.geomspace(8, 0.3, 7.0, dtype="float64")[0] == 0.3
    assert (fi.geomspace(8, 1, 2**8) == 2.0 ** np.arange(8)).all()


def test_log_uniform_is_uniform_in_the_logarithm():
    x = fi.log_uniform(20000, 0.001, 0.1, rng=1, dtype="float64")
    assert ks_1samp(np.log(x / 0.001) / math.log(100), lambda u: np.clip(u, 0, 1)).pvalue > 1e-4
    assert 0.001 <= x.min() < x.max() <= 0.1


def test_dt_bias_is_mambas():
    """As in mamba_ssm and in transformers, of the same uniforms."""
    u = fi.uniform(5000, rng=3, dtype="float64")
    dt = np.exp(u * (math.log(0.1) - math.log(0.001)) + math.log(0.001)).clip(min=0.0015)
    expected = dt + np.log(-np.expm1(-dt))
    x = fi.dt_bias(5000, 0.001, 0.1, 0.0015, rng=3, dtype="float64")
    assert np.abs(x / expected - 1).max() < 1e-12
    assert (np.log1p(np.exp(x)) >= 0.0015 * (1 - 1e-12)).all()


def test_a_log_is_mamba_2s():
    a = fi.uniform(5000, 1, 16, rng=3, dtype="float64")
    x = fi.a_log(5000, rng=3, dtype="float64")
    assert np.abs(x - np.log(a)).max() < 1e-15


def test_draws_of_one_element():
    for function in (fi.log_uniform, fi.dt_bias, fi.a_log):
        assert function((), 0.25, 0.5, rng=1) == function(1, 0.25, 0.5, rng=1)[0]


def test_draws_take_the_tensors_indices():
    for function in (fi.log_uniform, fi.dt_bias, fi.a_log):
        rng = fi.default_rng(1)
        function((3, 5), 0.25, 0.5, rng=rng)
        assert rng.position == 15


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "int8", "uint64", "uint8"])
def test_ranges_of_integers_are_exact(dtype):
    limits = np.iinfo(dtype)
    first = int(limits.max) - 3 * 40
    assert fi.arange(41, first, 3, dtype=dtype).tolist() == [*range(first, limits.max + 1, 3)]
    down = fi.arange((41, 2), int(limits.min) + 120, -3, axis=0, dtype=dtype)
    assert down[:, 1].tolist() == [*range(limits.min + 120, limits.min - 1, -3)]
    for start, step in ((first + 1, 3), (int(limits.min) + 119, -3)):
        with pytest.raises(ValueError, match=f"is no {dtype}"):
            fi.arange(41, start, step, dtype=dtype)
    with pytest.raises(TypeError, match=r"step=0\.5 must be an integer"):
        fi.arange(3, 0, 0.5, dtype=dtype)


def test_ranges_of_floats():
    assert fi.arange(5, -1, 0.25).tolist() == [-1, -0.75, -0.5, -0.25, 0]
    assert fi.arange((2, 300), dtype="bfloat16")[1, 256:259].tolist() == [256, 256, 258]
    with pytest.raises(ValueError, match=r"start=0\.0, step=1e\+300: .* finite in float32"):
        fi.arange(3, 0, 1e300)
    with pytest.raises(TypeError, match="x has dtype 'bool'; allowed: integers, float32"):
        fi.arange_(np.empty(3, bool))


def test_a_range_of_logarithms_is_mambas():
    x = fi.arange((4, 16), 1, log=True)
    assert (x == np.log(np.arange(1, 17)).astype(np.float32)).all()
    with pytest.raises(ValueError, match=r"0\.0 has no logarithm"):
        fi.arange(3, 0, log=True)
    with pytest.raises(ValueError, match="log=True: x has dtype int32; allowed: floating ones"):
        fi.arange_(np.empty(3, np.int32), 1, log=True)


def test_log_uniforms_are_positive_in_their_dtype():
    x = fi.log_uniform(1000, 6e-8, 1e-6, dtype="float16", rng=1)
    assert x.min() > 0
    for low, high, name in ((1e-8, 1e-6, "low=1e-08"), (1e-9, 1e-8, "low=1e-09")):
        with pytest.raises(ValueError, match=f"{name} is 0 in float16"):
            fi.log_uniform(3, low, high, dtype="float16")


def test_frequencies_of_rotary_positions():
    expected = 1 / 500000 ** (np.arange(0, 128, 2) / 128)
    x = fi.geomspace(64, 1, 1 / 500000, dtype="float64")
    assert np.abs(x / expected - 1).max() < 1e-14


def test_sinusoids_of_the_paper_and_of_fairseq():
    p, i = np.arange(50)[:, None], np.arange(16)
    paper = p / 10000 ** (2 * i / 32)
    x = fi.sinusoid((50, 32), dtype="float64")
    assert np.allclose(x[:, 0::2], np.sin(paper), atol=1e-13)
    assert np.allclose(x[:, 1::2], np.cos(paper), atol=1e-13)
    fairseq = (p + 2) * np.exp(i * -(math.log(10000) / 15))
    y = fi.sinusoid((50, 32), start=2, layout="halves", endpoint=True, dtype="float64")
    assert np.allclose(y, np.concatenate([np.sin(fairseq), np.cos(fairseq)], 1), atol=1e-13)
    assert (fi.sinusoid((3, 50, 32), dtype="float64") == x).all()


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda: fi.log_uniform(3, 1e-3, 1e300), ValueError, r"high=1e\+300 must be finite in flo"),
        (lambda: fi.log_uniform(3, 1e-300, 1e10, dtype="float64"), ValueError, r"at most e\*\*700"),
        (lambda: fi.geomspace(3, 1e-300, 1e10, dtype="float64"), ValueError, r"beyond e\*\*700"),
        (
            lambda: fi.dt_bias(3, 1e-250, 1, 1e-250, dtype="float8_e4m3fn"),
            ValueError,
            "the value -575.646 must be finite in float8_e4m3fn",
        ),
        (
            lambda: fi.a_log(3, 1e-300, 1, dtype="float8_e4m3fn"),
            ValueError,
            "the value -690.776 must be finite in float8_e4m3fn",
        ),
        (lambda: fi.sinusoid(8), ValueError, r"shape=\(8,\); sinusoid needs two axes"),
        (lambda: fi.sinusoid((2, 3), layout="halves"), ValueError, "3 columns; allowed: an even"),
        (lambda: fi.sinusoid((2, 4), start=2.0**28), ValueError, "start=268435456.0: positions"),
        (
            lambda: fi.arange(3, log=True),
            ValueError,
            r"log=True, start=0\.0, .* no logarithm; allow",
        ),
        (lambda: fi.arange(()), ValueError, r"axis=-1 is not an axis of shape \(\)"),
    ],
)
def test_what_has_no_values_is_refused(function, error, message):
    with pytest.raises(error, match=message):
        function()


def test_a_softplus_undoes_the_bias_of_large_steps():
    x = fi.dt_bias(1000, 50, 70, rng=1, dtype="float64")
    dt = fi.log_uniform(1000, 50, 70, rng=1, dtype="float64")
    assert np.abs(x / dt - 1).max() < 1e-15
    assert np.allclose(x + -np.log(expit(x)), dt)
