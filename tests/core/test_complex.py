"""Complex weights: independent parts, disks, parts of tensors, and what is refused."""

import math

import numpy as np
import pytest
import reference
from scipy.stats import ks_1samp

import fastinit as fi
from fastinit import cuda

PARTS = {"complex64": "float32", "complex128": "float64"}
WORDS = {"float32": "<u4", "float64": "<u8"}
SCALED = [
    name
    for name in fi.__all__
    if name.startswith(("xavier", "he_", "lecun", "variance")) and name.endswith("_")
]
NORMAL = [name for name in SCALED if name.endswith("normal_") and "truncated" not in name]


def bits(x):
    return np.ascontiguousarray(x).view(WORDS[x.dtype.name]).ravel().tolist()


@pytest.mark.parametrize("dtype", PARTS)
def test_parts_of_a_normal_are_normals_of_half_the_variance(dtype):
    x = fi.normal((30, 40), std=3.0, dtype=dtype, rng=7)
    rng, part = fi.default_rng(7), PARTS[dtype]
    std = 3.0 * 0.7071067811865476
    assert (x.real == fi.normal((30, 40), std=std, dtype=part, rng=rng)).all()
    assert (x.imag == fi.normal((30, 40), std=std, dtype=part, rng=rng.stream("imaginary"))).all()
    for values, key in (
        (x.real, reference.key(7)),
        (x.imag, reference.key(7, "imaginary")),
    ):
        expected = reference.values("normal", part, key, 0, 100, (0.0, std))
        assert bits(values)[:100] == expected


@pytest.mark.parametrize("dtype", PARTS)
@pytest.mark.parametrize("distribution", ["truncated_normal", "uniform"])
def test_disks_are_the_references(distribution, dtype):
    x = fi.variance_scaling((20, 15), 2.0, "fan_in", distribution, dtype=dtype, rng=7)
    keys, cut = (reference.key(7), reference.key(7, "imaginary")), distribution != "uniform"
    values = [reference.complex_disk(*keys, i, 2.0 / 20, cut) for i in range(x.size)]
    for part, ours in zip(zip(*values, strict=True), (x.real, x.imag), strict=True):
        assert bits(ours) == [reference.by_formula(value, PARTS[dtype]) for value in part]


@pytest.mark.parametrize("name", SCALED)
def test_the_variance_is_that_of_real_weights(name):
    shape = (300, 200)
    z = getattr(fi, name)(np.empty(shape, np.complex128), rng=3)
    real = getattr(fi, name)(np.empty(shape), rng=3)
    expected, n = real.var(), real.size
    assert abs((abs(z) ** 2).mean() / expected - 1) < 6 / math.sqrt(n)
    for part in (z.real, z.imag):
        assert abs((part**2).mean() / expected - 0.5) < 6 / math.sqrt(n)
        assert abs(part.mean()) < 6 * math.sqrt(expected / n)
    assert abs((z.real * z.imag).mean()) < 6 * expected / math.sqrt(n)
    assert ks_1samp(np.angle(z).ravel() / (2 * math.pi) + 0.5, lambda u: u).pvalue > 1e-4


def test_moduli_are_those_that_jax_cuts():
    std = 1 / 20
    cut = abs(fi.lecun_truncated_normal((400, 300), rng=3, dtype="complex128"))
    wide = std / math.sqrt((1 - 5 * math.exp(-4)) / (1 - math.exp(-4)))
    assert 1.9 * wide < cut.max() < 2 * wide
    mass = 1 - math.exp(-4)
    assert ks_1samp(cut.ravel(), lambda r: -np.expm1(-((r / wide) ** 2)) / mass).pvalue > 1e-4
    disk = abs(fi.lecun_uniform((400, 300), rng=3, dtype="complex128"))
    assert ks_1samp(disk.ravel(), lambda r: (r / std) ** 2 / 2).pvalue > 1e-4


@pytest.mark.parametrize("dtype", PARTS)
@pytest.mark.parametrize("name", ["normal_", "he_normal_", "he_truncated_normal_", "he_uniform_"])
def test_parts_of_tensors_threads_and_strides(name, dtype):
    function = getattr(fi, name)
    rng = fi.default_rng(5).advance(3)
    whole = function(np.empty((70, 500), dtype), rng=rng)
    assert rng.position == 3 + whole.size
    strided = np.empty((140, 1000), dtype)[::-2, ::2]
    function(strided, rng=fi.default_rng(5).advance(3), threads=3)
    assert (strided == whole).all()
    part = np.empty((9, 77), dtype)
    rng = fi.default_rng(5).advance(3)
    function(part, rng=rng, global_shape=(70, 500), offset=(60, 420))
    assert (part == whole[60:69, 420:497]).all()
    assert rng.position == 3 + whole.size
    assert function(np.empty((), dtype), rng=1, **fans(name)).shape == ()
    assert function(np.empty((0, 3), dtype), rng=1).shape == (0, 3)


@pytest.mark.parametrize("name", ["normal_", "he_normal_", "he_uniform_"])
def test_the_memory_of_a_gpu_is_refused(name):
    x = cuda.OnGPU(np.full((4, 6), 7, np.complex64), None)
    with pytest.raises(TypeError, match="is no array; allowed: a NumPy array"):
        getattr(fi, name)(x, rng=1)
    assert (x.array == 7).all()


@pytest.mark.parametrize("name", ["he_normal_", "he_uniform_"])
def test_numba_gives_the_same_complex_numbers(name):
    pytest.importorskip("numba")
    ours, numbas = (
        getattr(fi, name)(np.empty((30, 50), np.complex64), rng=5, backend=backend)
        for backend in ("c", "numba")
    )
    assert (ours == numbas).all()


def fans(name):
    return {} if name == "normal_" else {"fan_in": 3.0}


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (
            lambda x: fi.normal_(x, 1.0),
            TypeError,
            "mean=1.0, std=1.0: x has dtype 'complex64'; all",
        ),
        (fi.uniform_, TypeError, "low=0.0, high=1.0, .*: x has dtype 'complex64'; allowed"),
        (fi.truncated_normal_, TypeError, "x has dtype 'complex64'; allowed: real numbers; of"),
        (fi.trunc_normal_, TypeError, "x has dtype 'complex64'; allowed: real numbers; of"),
        (fi.orthogonal_, TypeError, "x has dtype 'complex64'; allowed: float32"),
        (fi.embedding_, TypeError, "x has dtype 'complex64'; allowed: float32"),
        (lambda x: fi.sparse_(x, 0.5), TypeError, "x has dtype 'complex64'; allowed: float32"),
        (fi.arange_, TypeError, "x has dtype 'complex64'; allowed: integers"),
        (lambda x: fi.normal_([x]), TypeError, r"x\[0\]: x has dtype 'complex64'; allowed"),
        (lambda x: fi.normal_(x, std=1e39), ValueError, "must be finite in float32"),
        (lambda x: fi.he_uniform_(x, fan_in=1e-78), ValueError, "must be finite in float32"),
        (lambda x: fi.normal_(x.astype(">c8")), TypeError, "native byte order"),
        (lambda x: fi.he_uniform_(x.astype(">c8")), TypeError, "native byte order"),
        (lambda x: fi.normal_(x, threads=0), ValueError, "threads=0"),
        (lambda x: fi.he_uniform_(x, backend="x"), ValueError, "backend='x'"),
        (lambda x: fi.he_normal_(x, global_shape=(9, 9), offset=(9, 0)), ValueError, "does not f"),
    ],
)
def test_what_has_no_complex_values_is_refused(function, error, message):
    x = np.full((4, 6), 7, np.complex64)
    with pytest.raises(error, match=message):
        function(x)
    assert (x == 7).all()
    with pytest.raises(ValueError, match="read-only"):
        fi.he_uniform_(np.broadcast_to(np.complex64(7), (4, 6)))
    with pytest.raises(ValueError, match="overlapping"):
        fi.normal_(np.lib.stride_tricks.as_strided(x, (4, 6), (8, 8)))
