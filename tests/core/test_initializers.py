"""Fans, gains, and that each initializer has the spread that its formula says."""

import math
import re

import numpy as np
import pytest
from scipy.special import expit, ndtr

import fastinit as fi

SHAPE = (400, 300)
IN, OUT = SHAPE


@pytest.mark.parametrize(
    ("draw", "std"),
    [
        (fi.xavier_uniform, math.sqrt(2 / (IN + OUT))),
        (fi.xavier_normal, math.sqrt(2 / (IN + OUT))),
        (fi.he_uniform, math.sqrt(2 / IN)),
        (fi.he_normal, math.sqrt(2 / IN)),
        (fi.lecun_uniform, math.sqrt(1 / IN)),
        (fi.lecun_normal, math.sqrt(1 / IN)),
    ],
)
def test_standard_deviations(draw, std):
    x = draw(SHAPE, rng=1, dtype="float64")
    # 120,000 values: the relative standard error is below 0.0021; 5 of them
    assert abs(x.std() / std - 1) < 0.0103
    assert abs(x.mean()) < 5 * std / math.sqrt(x.size)
    if "uniform" in draw.__name__:
        assert std * math.sqrt(3) * 0.999 < np.abs(x).max() <= std * math.sqrt(3)
    else:
        assert np.abs(x).max() > 3.5 * std


@pytest.mark.parametrize(
    ("options", "variance"),
    [
        ({"mode": "fan_in"}, 2 / IN),
        ({"mode": "fan_out"}, 2 / OUT),
        ({"mode": "fan_avg"}, 4 / (IN + OUT)),
        ({"mode": "fan_geo_avg"}, 2 / math.sqrt(IN * OUT)),
        ({"mode": "fan_geo_avg", "fan_in": 50}, 2 / math.sqrt(50 * OUT)),
        ({"mode": "fan_out", "in_axis": 1, "out_axis": 0}, 2 / IN),
        ({"fan_in": 50}, 2 / 50),
        ({"mode": "fan_avg", "fan_in": 50}, 4 / (50 + OUT)),
        ({"mode": "fan_avg", "fan_in": 50, "fan_out": 70}, 4 / 120),
    ],
)
def test_modes_and_fans(options, variance):
    x = fi.variance_scaling(SHAPE, 2.0, rng=1, **options)
    assert x.tobytes() == fi.normal(SHAPE, 0.0, math.sqrt(variance), rng=1).tobytes()


def test_he_takes_the_gain_of_what_follows():
    for nonlinearity, a in (("relu", 0.0), ("tanh", 0.0), ("leaky_relu", 0.2), ("linear", 0.0)):
        x = fi.he_normal(SHAPE, nonlinearity=nonlinearity, a=a, rng=1)
        variance = fi.calculate_gain(nonlinearity, a) ** 2 / IN
        assert x.tobytes() == fi.normal(SHAPE, 0.0, math.sqrt(variance), rng=1).tobytes()


def test_fans_of_a_part_are_those_of_the_whole():
    whole = fi.xavier_uniform(SHAPE, rng=1)
    part = fi.xavier_uniform((7, 300), rng=1, global_shape=SHAPE, offset=(100, 0))
    assert part.tobytes() == whole[100:107].tobytes()


@pytest.mark.parametrize(
    ("shape", "axes", "fans"),
    [
        ((20, 30), {}, (20, 30)),
        ((3, 3, 16, 32), {}, (144, 288)),
        ((32, 16, 3, 3), {"in_axis": 1, "out_axis": 0}, (144, 288)),
        ((5, 20, 30), {"batch_axis": 0}, (20, 30)),
        ((64, 8, 16), {"in_axis": 0, "out_axis": (1, 2)}, (64, 128)),
        ((0, 3), {}, (0, 3)),
        ((7,), {"in_axis": 0, "out_axis": ()}, (7, 1)),
    ],
)
def test_compute_fans(shape, axes, fans):
    assert fi.compute_fans(shape, **axes) == fans


def test_aliases_are_the_same_functions():
    for ours, other in (("he", "kaiming"), ("xavier", "glorot")):
        for kind in ("normal", "uniform", "truncated_normal"):
            for end in ("", "_"):
                assert getattr(fi, f"{ours}_{kind}{end}") is getattr(fi, f"{other}_{kind}{end}")
    assert fi.identity_ is fi.eye_


def test_zero_size():
    assert fi.he_normal_(np.empty((0, 3), np.float32), rng=1).shape == (0, 3)
    assert fi.xavier_uniform((0, 0), rng=1).shape == (0, 0)


def second_moment(f):
    """E f(z)^2, z standard normal: 200-point Gauss-Legendre quadrature on each side of 0."""
    x, weight = np.polynomial.legendre.leggauss(200)
    z = np.concatenate([6 * (x - 1), 6 * (x + 1)])  # 12 sigma: beyond lies less than 1e-32
    weight = 6 * np.concatenate([weight, weight])
    return weight @ (f(z) ** 2 * np.exp(-z * z / 2)) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize(
    ("nonlinearity", "f"),
    [
        ("linear", lambda z: z),
        ("relu", lambda z: np.maximum(z, 0)),
        ("leaky_relu", lambda z: np.where(z > 0, z, 0.01 * z)),
        ("gelu", lambda z: z * ndtr(z)),
        ("silu", lambda z: z * expit(z)),
        ("swish", lambda z: z * expit(z)),
        ("mish", lambda z: z * np.tanh(np.logaddexp(0, z))),
        ("elu", lambda z: np.where(z > 0, z, np.expm1(z))),
        ("softplus", lambda z: np.logaddexp(0, z)),
        ("sine", np.sin),
        ("relu2", lambda z: np.maximum(z, 0) ** 2),
        ("swiglu", lambda z: z * expit(z)),  # times a normal of variance 1
    ],
)
def test_gains_keep_the_second_moment(nonlinearity, f):
    expected = 1 / math.sqrt(second_moment(f))
    assert math.isclose(fi.calculate_gain(nonlinearity), expected, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("nonlinearity", "f", "by_formula", "habit"),
    [
        ("tanh", np.tanh, 1.5925, 5 / 3),
        ("sigmoid", expit, 1.8462, 1.0),
        (
            "selu",
            lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(z)),
            1.0,
            0.75,
        ),
    ],
)
def test_gains_that_are_pytorchs_habit(nonlinearity, f, by_formula, habit):
    assert abs(1 / math.sqrt(second_moment(f)) - by_formula) < 5e-5
    assert fi.calculate_gain(nonlinearity) == habit


def test_gains_of_leaky_relu():
    assert fi.calculate_gain("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))
    assert fi.calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / (1 + 0.2**2))
    assert fi.calculate_gain("leaky_relu", 0) == fi.calculate_gain("relu")


def test_truncated_specialisations():
    for draw, std in [
        (fi.xavier_truncated_normal, math.sqrt(2 / (IN + OUT))),
        (fi.he_truncated_normal, math.sqrt(2 / IN)),
        (fi.lecun_truncated_normal, math.sqrt(1 / IN)),
    ]:
        x = draw(SHAPE, rng=1, dtype="float64")
        assert abs(x.std() / std - 1) < 0.0103  # as above
        widened = 2 * std / 0.87962566103423978
        assert widened * 0.999 < np.abs(x).max() <= widened


def test_a_means_the_slope_unless_a_nonlinearity_is_named():
    assert (fi.he_normal(SHAPE, 0.3, rng=1) == fi.he_normal(SHAPE, a=0.3, rng=1)).all()
    relu = fi.he_normal(SHAPE, nonlinearity="relu", rng=1)
    assert (fi.he_normal(SHAPE, rng=1) == relu).all()


@pytest.mark.parametrize(
    "activation",
    [
        "relu",
        "leaky_relu",
        "gelu",
        "silu",
        "tanh",
        "selu",
        "linear",
        "mish",
        "elu",
        "softplus",
        "sigmoid",
    ],
)
@pytest.mark.parametrize(
    "layer",
    ["dense", "conv", "attention", "residual", "recurrent", "embedding", "output", "norm", "bias"],
)
def test_recommendations_can_be_followed(activation, layer):
    for depth in (1, 48):
        advice = fi.recommend(activation, layer, depth)
        x = advice.initializer.fill(np.empty((32, 32), np.float32))
        assert np.isfinite(x).all()
        assert str(advice).startswith(f"{advice.initializer}: ")
        assert f"\nSource: {advice.source}." in str(advice)
        assert any(year in advice.source for year in map(str, range(1998, 2027)))


def test_some_recommendations():
    assert fi.recommend("relu").initializer.name == "he_normal"
    assert fi.recommend("tanh").initializer.name == "xavier_uniform"
    assert fi.recommend("tanh", depth=100).initializer.name == "orthogonal"
    assert fi.recommend("selu").initializer.name == "lecun_normal"
    assert fi.recommend(layer="recurrent").initializer.name == "eye"
    assert fi.recommend("tanh", "recurrent").initializer.name == "orthogonal"
    residual = fi.recommend(layer="residual", depth=12).initializer
    assert residual == fi.Initializer("normal", std=0.02 / math.sqrt(24))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("swoosh",), ValueError, "activation='swoosh' is unknown; allowed: linear, id"),
        (("relu", "wide"), ValueError, "layer='wide' is unknown; allowed: dense, conv"),
        (("relu", "residual"), ValueError, "layer='residual' needs depth"),
        (("relu", "dense", 0), ValueError, "depth=0 must be 1 or greater"),
        (("relu", "dense", 1.5), TypeError, "depth=1.5 must be an integer"),
    ],
)
def test_refused_recommendations(arguments, error, message):
    with pytest.raises(error, match=message):
        fi.recommend(*arguments)


# Here glibc's pow(x, 2) is not x * x rounded, so that values would depend on the C library.
ODD_SQUARES = (0.9477, 8.1632, 1.3795, 0.6352, 5.7748, 0.0588)


@pytest.mark.parametrize("gain", ODD_SQUARES)
def test_squares_are_products_and_not_the_c_librarys_powers(gain):
    shape, std = (4, 6), math.sqrt(gain * gain / 5)
    x = fi.xavier_normal(shape, gain, dtype="float64", rng=1)
    assert x.tobytes() == fi.normal(shape, std=std, dtype="float64", rng=1).tobytes()
    slope = gain
    gain = math.sqrt(2 / (1 + slope * slope))
    assert fi.calculate_gain("leaky_relu", slope) == gain
    x = fi.he_normal(shape, nonlinearity="leaky_relu", a=slope, dtype="float64", rng=1)
    std = math.sqrt(gain * gain / 4)
    assert x.tobytes() == fi.normal(shape, std=std, dtype="float64", rng=1).tobytes()


@pytest.mark.parametrize("gain", [1e200, 1e-200])
def test_gains_whose_squares_are_no_numbers(gain):
    for fill in (fi.xavier_normal, fi.xavier_uniform, fi.xavier_truncated_normal):
        with pytest.raises(ValueError, match=rf"gain={re.escape(repr(gain))}: its square must be"):
            fill((4, 6), gain)
    if gain > 1:
        for fill in (fi.he_normal, fi.he_uniform, fi.he_truncated_normal):
            with pytest.raises(ValueError, match=r"a=1e\+200: its square must be finite"):
                fill((4, 6), a=gain, nonlinearity="leaky_relu")
