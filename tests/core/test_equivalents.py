"""Every initializer of PyTorch, JAX and Keras against ours: signature, structure, distribution."""

import importlib
import inspect
import math
import os

import numpy as np
import pytest
from adapters import adapter
from scipy.stats import ks_2samp

import fastinit as fi

# These libraries warn about their own matters, at import and later.
pytestmark = pytest.mark.filterwarnings("ignore")

DENSE = (400, 500)
PYTORCH = {"in_axis": 1, "out_axis": 0}


def same_distribution(ours, theirs):
    """Two samples: KS at p = 1e-5 (fixed seeds), four moments within 6 standard errors."""
    ours, theirs = (np.asarray(x, np.float64).ravel() for x in (ours, theirs))
    assert ks_2samp(ours, theirs).pvalue > 1e-5
    for k in range(1, 5):
        scale = theirs.std()
        a, b = ((x / scale) ** k for x in (ours, theirs))
        error = math.hypot(a.std() / math.sqrt(a.size), b.std() / math.sqrt(b.size))
        assert abs(a.mean() - b.mean()) < 6 * error


def equal(ours, theirs):
    assert np.array_equal(ours, theirs)


def same_sparsity(ours, theirs):
    assert np.array_equal((ours == 0).sum(axis=0), (theirs == 0).sum(axis=0))
    assert len({tuple(column) for column in (ours == 0).T}) == ours.shape[1]
    same_distribution(ours[ours != 0], theirs[theirs != 0])


def same_orthogonality(ours, theirs):
    """Both have the same products of rows and of columns, and entries of one distribution."""
    for product in (lambda x: x @ x.T, lambda x: x.T @ x):
        grams = [product(np.asarray(x, np.float64).reshape(len(x), -1)) for x in (ours, theirs)]
        units = [np.allclose(g, g[0, 0] * np.eye(len(g)), atol=1e-5) for g in grams]
        assert units[0] == units[1]
        if units[0]:
            assert np.allclose(*grams, atol=1e-5)
    same_distribution(ours, theirs)


# name: (its arguments, our function's, how to compare, shape)
TORCH = {
    "uniform_": ((-0.1, 0.3), {}, same_distribution, DENSE),
    "normal_": ((0.5, 0.1), {}, same_distribution, DENSE),
    "trunc_normal_": ((0.1, 1.0, -0.5, 2.0), {}, same_distribution, DENSE),
    "constant_": ((0.25,), {}, equal, DENSE),
    "ones_": ((), {}, equal, DENSE),
    "zeros_": ((), {}, equal, DENSE),
    "eye_": ((), {}, equal, (5, 7)),
    "dirac_": ((3,), PYTORCH, equal, (12, 5, 3, 4)),
    "xavier_uniform_": ((1.5,), PYTORCH, same_distribution, (64, 32, 5)),
    "xavier_normal_": ((1.5,), PYTORCH, same_distribution, (64, 32, 5)),
    "kaiming_uniform_": ((0.3, "fan_out"), PYTORCH, same_distribution, (64, 32, 5)),
    "kaiming_normal_": ((0.3, "fan_out"), PYTORCH, same_distribution, (64, 32, 5)),
    "orthogonal_": ((1.5,), {"column_axis": 0}, same_orthogonality, (40, 20, 5)),
    "sparse_": ((0.3,), {}, same_sparsity, DENSE),
}


@pytest.mark.parametrize("name", TORCH)
def test_torch(name):
    torch = adapter("torch")
    arguments, options, compare, shape = TORCH[name]
    theirs = torch.empty(shape)
    torch.manual_seed(1)
    getattr(torch.nn.init, name)(theirs, *arguments)
    ours = np.empty(shape, np.float32)
    random = {} if compare is equal else {"rng": 1}
    getattr(fi, name)(ours, *arguments, **options, **random)
    compare(ours, theirs.numpy())


def test_torch_has_no_others():
    init = adapter("torch").nn.init
    names = {n for n in dir(init) if n.endswith("_") and not n.startswith("_")}
    assert names == set(TORCH)


# The same argument, but PyTorch's name says less.
RENAMED = {"val": "value", ("uniform_", "a"): "low", ("uniform_", "b"): "high"}


@pytest.mark.parametrize("name", [*TORCH, "calculate_gain"])
def test_torch_signatures(name):
    theirs = inspect.signature(getattr(adapter("torch").nn.init, name)).parameters
    ours = inspect.signature(getattr(fi, name)).parameters
    skipped = 0 if name == "calculate_gain" else 1  # the array
    mine = list(ours.values())[skipped:]
    for i, parameter in enumerate(p for p in list(theirs.values())[skipped:]):
        if parameter.name == "generator":
            continue
        expected = RENAMED.get((name, parameter.name), RENAMED.get(parameter.name, parameter.name))
        assert (mine[i].name, mine[i].default) == (expected, parameter.default)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("shape", [(8, 3, 5), (8, 9, 4, 3), (4, 4, 1, 2, 3), (8, 2, 0)])
def test_torch_dirac(shape, groups):
    torch = adapter("torch")
    if 0 in shape:
        assert fi.dirac(shape, groups, **PYTORCH).shape == shape
        return
    theirs = torch.nn.init.dirac_(torch.empty(shape), groups)
    assert np.array_equal(fi.dirac(shape, groups, **PYTORCH), theirs.numpy())


# name: (its arguments, our function, our arguments, how to compare, shape)
JAX = {
    "zeros": (None, "zeros", {}, equal, DENSE),
    "ones": (None, "ones", {}, equal, DENSE),
    "constant": ((0.25,), "constant", {"value": 0.25}, equal, DENSE),
    "uniform": ((0.3,), "uniform", {"high": 0.3}, same_distribution, DENSE),
    "normal": ((0.3,), "normal", {"std": 0.3}, same_distribution, DENSE),
    "truncated_normal": (
        (0.3,),
        "truncated_normal",
        {"std": 0.3},
        same_distribution,
        DENSE,
    ),
    "glorot_uniform": ((), "glorot_uniform", {}, same_distribution, (3, 40, 50)),
    "glorot_normal": ((), "glorot_truncated_normal", {}, same_distribution, (3, 40, 50)),
    "xavier_uniform": ((), "xavier_uniform", {}, same_distribution, (3, 40, 50)),
    "xavier_normal": ((), "xavier_truncated_normal", {}, same_distribution, (3, 40, 50)),
    "he_uniform": ((), "he_uniform", {}, same_distribution, (3, 40, 50)),
    "he_normal": ((), "he_truncated_normal", {}, same_distribution, (3, 40, 50)),
    "kaiming_uniform": ((), "kaiming_uniform", {}, same_distribution, (3, 40, 50)),
    "kaiming_normal": ((), "kaiming_truncated_normal", {}, same_distribution, (3, 40, 50)),
    "lecun_uniform": ((), "lecun_uniform", {}, same_distribution, (3, 40, 50)),
    "lecun_normal": ((), "lecun_truncated_normal", {}, same_distribution, (3, 40, 50)),
    "variance_scaling": (
        (1.7, "fan_geo_avg", "truncated_normal"),
        "variance_scaling",
        {"scale": 1.7, "mode": "fan_geo_avg", "distribution": "truncated_normal"},
        same_distribution,
        (3, 40, 50),
    ),
    "orthogonal": ((1.5,), "orthogonal", {"gain": 1.5}, same_orthogonality, (4, 20, 50)),
    "delta_orthogonal": (
        (1.5,),
        "delta_orthogonal",
        {"gain": 1.5},
        lambda ours, theirs: (
            equal(ours == 0, theirs == 0),
            same_orthogonality(ours[1, 2], theirs[1, 2]),
        ),
        (3, 5, 80, 100),
    ),
}


@pytest.mark.parametrize("name", JAX)
def test_jax(name):
    jax = adapter("jax")
    arguments, our_name, options, compare, shape = JAX[name]
    initializer = getattr(jax.nn.initializers, name)
    if arguments is not None:
        initializer = initializer(*arguments)
    theirs = np.asarray(initializer(jax.random.key(1), shape))
    random = {} if compare is equal else {"rng": 1}
    compare(getattr(fi, our_name)(shape, **options, **random), theirs)


def test_jax_has_no_others():
    module = adapter("jax").nn.initializers
    names = {n for n in dir(module) if not n.startswith("_") and n != "Initializer"}
    assert names == set(JAX)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
def test_jax_variance_scaling(mode, distribution):
    jax = adapter("jax")
    axes = {"in_axis": (1, 2), "out_axis": 3, "batch_axis": 0}
    shape = (8, 4, 20, 50)
    theirs = jax.nn.initializers.variance_scaling(1.3, mode, distribution, **axes)
    ours = fi.variance_scaling(shape, 1.3, mode, distribution, **axes, rng=1)
    same_distribution(ours, theirs(jax.random.key(1), shape))


def test_jax_signatures():
    theirs = inspect.signature(adapter("jax").nn.initializers.variance_scaling).parameters
    ours = inspect.signature(fi.variance_scaling_).parameters
    for name, parameter in theirs.items():
        if name != "dtype":
            assert name in ours
            assert parameter.default in (parameter.empty, ours[name].default)


FACTORIES = set(JAX) - {"zeros", "ones", "delta_orthogonal"}  # ours has in_axis and out_axis


@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_jax_axes_have_the_same_defaults(name):
    theirs = inspect.signature(getattr(adapter("jax").nn.initializers, name)).parameters
    ours = dict(inspect.signature(getattr(fi, JAX[name][1])).parameters)
    if "options" in ours:  # those of variance_scaling
        ours |= inspect.signature(fi.variance_scaling).parameters
    for axis in ("in_axis", "out_axis", "batch_axis", "column_axis"):
        if axis in theirs:
            assert ours[axis].default == theirs[axis].default


@pytest.fixture(scope="module")
def keras():
    if "KERAS_BACKEND" not in os.environ:
        os.environ["KERAS_BACKEND"] = "jax"
    adapter(os.environ["KERAS_BACKEND"])
    return adapter("keras")


@pytest.fixture(scope="module")
def keras_fans(keras):  # noqa: ARG001  its backend must be chosen first
    return adapter("keras.src.initializers.random_initializers").compute_fans


# Class: (its arguments, our function, our arguments, how to compare, shape)
KERAS = {
    "Zeros": ({}, "zeros", {}, equal, DENSE),
    "Ones": ({}, "ones", {}, equal, DENSE),
    "Constant": ({"value": 0.25}, "constant", {"value": 0.25}, equal, DENSE),
    "Identity": ({"gain": 0.5}, "identity", {"gain": 0.5}, equal, (5, 7)),
    "RandomUniform": (
        {"minval": -0.1, "maxval": 0.3},
        "uniform",
        {"low": -0.1, "high": 0.3},
        same_distribution,
        DENSE,
    ),
    "RandomNormal": (
        {"mean": 0.5, "stddev": 0.1},
        "normal",
        {"mean": 0.5, "std": 0.1},
        same_distribution,
        DENSE,
    ),
    "TruncatedNormal": (
        {"mean": 0.5, "stddev": 0.1},
        "truncated_normal",
        {"mean": 0.5, "std": 0.1},
        same_distribution,
        DENSE,
    ),
    "VarianceScaling": (
        {"scale": 1.7, "mode": "fan_out", "distribution": "untruncated_normal"},
        "variance_scaling",
        {"scale": 1.7, "mode": "fan_out", "distribution": "normal"},
        same_distribution,
        (3, 40, 50),
    ),
    "GlorotUniform": ({}, "glorot_uniform", {}, same_distribution, (3, 40, 50)),
    "GlorotNormal": ({}, "glorot_truncated_normal", {}, same_distribution, (3, 40, 50)),
    "HeUniform": ({}, "he_uniform", {}, same_distribution, (3, 40, 50)),
    "HeNormal": ({}, "he_truncated_normal", {}, same_distribution, (3, 40, 50)),
    "LecunUniform": ({}, "lecun_uniform", {}, same_distribution, (3, 40, 50)),
    "LecunNormal": ({}, "lecun_truncated_normal", {}, same_distribution, (3, 40, 50)),
    "Orthogonal": ({"gain": 1.5}, "orthogonal", {"gain": 1.5}, same_orthogonality, (4, 20, 50)),
}


@pytest.mark.parametrize("name", KERAS)
def test_keras(keras, name):
    arguments, our_name, options, compare, shape = KERAS[name]
    seed, random = ({}, {}) if compare is equal else ({"seed": 1}, {"rng": 1})
    theirs = getattr(keras.initializers, name)(**arguments, **seed)(shape)
    ours = getattr(fi, our_name)(shape, **options, **random)
    compare(ours, keras.ops.convert_to_numpy(theirs))


def test_keras_has_no_others(keras):
    module = keras.initializers
    classes = {getattr(module, n) for n in dir(module) if inspect.isclass(getattr(module, n))}
    # STFT is a transform written as a convolution, and no initial weight.
    known = {getattr(module, n) for n in [*KERAS, "Initializer", "STFT"]}
    assert classes == known


def test_timm_truncates_in_standard_deviations():
    torch = adapter("torch")
    importlib.import_module("without_operators").define_torchvision()
    pytest.importorskip("torchvision", reason="timm needs torchvision, and is not there")
    timm = pytest.importorskip("timm.layers.weight_init")
    torch.manual_seed(1)
    theirs = timm.trunc_normal_tf_(torch.empty(DENSE), 0.5, 0.1, -1.0, 2.0)
    same_distribution(fi.truncated_normal(DENSE, 0.5, 0.1, -1.0, 2.0, rng=1), theirs.numpy())


# Fans. Each row: shape in (..., in, out), shape in PyTorch's layout, our options for each.
FANS = {
    "dense": ((20, 30), (30, 20), {}),
    "conv 1-D": ((5, 20, 30), (30, 20, 5), {}),
    "conv 2-D": ((3, 5, 20, 30), (30, 20, 3, 5), {}),
    "conv 3-D": ((2, 3, 5, 20, 30), (30, 20, 2, 3, 5), {}),
    "depthwise, counted as one": ((3, 3, 1, 30), (30, 1, 3, 3), {}),
    "grouped, counted as one": ((3, 3, 5, 30), (30, 5, 3, 3), {}),
    "transposed": ((3, 3, 30, 20), (30, 20, 3, 3), {"torch": "transposed"}),
    "embedding": ((1000, 64), (64, 1000), {}),
    "fused": ((64, 192), (192, 64), {}),
}


@pytest.mark.parametrize("name", FANS)
def test_fans(keras_fans, name):
    torch, jax = adapter("torch"), adapter("jax._src.nn.initializers")
    ours, pytorch, options = FANS[name]
    fans = fi.compute_fans(ours)
    assert fans == jax._compute_fans(ours) == keras_fans(ours)
    theirs = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(pytorch))
    assert theirs == fi.compute_fans(pytorch, **PYTORCH)
    # PyTorch takes a transposed convolution's (in, out, ...) for (out, in, ...).
    assert theirs == (fans[::-1] if options else fans)
    if options:
        assert fans == fi.compute_fans(pytorch, in_axis=0, out_axis=1)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 8, 16), {"in_axis": 0, "out_axis": (1, 2)}),
        ((8, 16, 64), {"in_axis": (0, 1), "out_axis": 2}),
        ((6, 64, 32), {"batch_axis": 0}),
        ((3, 3, 1, 30), {"out_axis": (), "batch_axis": -1}),
        ((7,), {"in_axis": 0, "out_axis": ()}),
        ((4, 7), {"in_axis": -1, "out_axis": (), "batch_axis": 0}),
    ],
    ids=["attention in", "attention out", "experts", "depthwise", "1-D", "batched 1-D"],
)
def test_fans_by_axes(shape, axes):
    jax = adapter("jax._src.nn.initializers")
    assert fi.compute_fans(shape, **axes) == jax._compute_fans(shape, **axes)


@pytest.mark.parametrize("shape", [(), (7,)])
def test_fans_of_no_axis_or_one(keras_fans, shape):
    """PyTorch and JAX refuse them, and so do we; Keras has 1 and 1, and n and n."""
    torch, jax = adapter("torch"), adapter("jax._src.nn.initializers")
    for fans in (
        lambda: fi.compute_fans(shape),
        lambda: jax._compute_fans(shape),
        lambda: torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape)),
    ):
        with pytest.raises(ValueError, match=r"axis|dimension"):
            fans()
    n = math.prod(shape)
    assert keras_fans(shape) == (n, n)
    assert fi.xavier_normal(shape, fan_in=n, fan_out=n, rng=1).shape == shape
