"""Fans, gains, and that each initializer has the spread that its formula says."""

import math

import numpy as np
import pytest

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
        for kind in ("normal", "uniform", "normal_", "uniform_"):
            assert getattr(fi, f"{ours}_{kind}") is getattr(fi, f"{other}_{kind}")


def test_zero_size():
    assert fi.he_normal_(np.empty((0, 3), np.float32), rng=1).shape == (0, 3)
    assert fi.xavier_uniform((0, 0), rng=1).shape == (0, 0)


def test_gains():
    assert fi.calculate_gain("leaky_relu") == math.sqrt(2 / (1 + 0.01**2))
    assert fi.calculate_gain("tanh") == 5 / 3
    assert fi.calculate_gain("selu") == 0.75
