"""fastinit.jax against jax.nn.initializers: the same functions, over the stream."""

import doctest
import importlib
import inspect
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from adapters import adapter
from scipy import stats

import fastinit as fi
from fastinit import _fill

jax = adapter("jax")
init = importlib.import_module("fastinit.jax")
theirs = jax.nn.initializers
jnp = jax.numpy
KEY = jax.random.key(42)


@pytest.fixture(autouse=True)
def usual_widths():
    """As JAX starts; a benchmark of JAX in the same process asks for 64 bits."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", before)


MAKERS = [n for n in init.__all__ if n not in ("Initializer", "generator", "ones", "zeros")]
DRAWING = [n for n in MAKERS if n != "constant"]
DIVISIBLE = [n for n in DRAWING if "orthogonal" not in n]
ARGUMENTS = {"variance_scaling": (3.0, "fan_geo_avg", "normal"), "constant": (0.5,)}
DTYPES = ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]

# What fastinit's NumPy face calls them; JAX's "normal" ones are truncated.
NUMPY = {
    "normal": lambda s, **o: fi.normal(s, std=0.01, **o),
    "uniform": lambda s, **o: fi.uniform(s, high=0.01, **o),
    "truncated_normal": lambda s, **o: fi.truncated_normal(s, std=0.01, **o),
    "variance_scaling": lambda s, **o: fi.variance_scaling(s, 3.0, "fan_geo_avg", "normal", **o),
    "glorot_uniform": fi.glorot_uniform,
    "glorot_normal": fi.glorot_truncated_normal,
    "lecun_uniform": fi.lecun_uniform,
    "lecun_normal": fi.lecun_truncated_normal,
    "he_uniform": fi.he_uniform,
    "he_normal": fi.he_truncated_normal,
}


def made(name, module=init):
    return getattr(module, name)(*ARGUMENTS.get(name, ()))


def bits(x):
    return np.asarray(x).tobytes()


class TestTheSameFace:
    def test_every_name_is_there(self):
        assert {n for n in dir(theirs) if not n.startswith("_")} <= set(init.__all__)

    @pytest.mark.parametrize("name", MAKERS)
    def test_arguments_and_defaults(self, name):
        for ours, their in (
            (getattr(init, name), getattr(theirs, name)),
            (made(name), made(name, theirs)),
        ):
            ours, their = inspect.signature(ours), inspect.signature(their)
            assert [(p.name, p.default, p.kind) for p in ours.parameters.values()] == [
                (p.name, p.default, p.kind) for p in their.parameters.values()
            ]

    @pytest.mark.parametrize("name", DIVISIBLE)
    def test_the_same_distribution_as_jaxs(self, name):
        """By Kolmogorov and Smirnov, at 1e-6 each; fixed keys, so it fails always or never."""
        ours, their = (np.asarray(made(name, m)(KEY, (3, 50, 200))).ravel() for m in (init, theirs))
        assert stats.ks_2samp(ours, their).pvalue > 1e-6

    @pytest.mark.parametrize("name", ["orthogonal", "delta_orthogonal"])
    @pytest.mark.parametrize("axis", [-1, -2])
    def test_orthogonal_in_jaxs_layout(self, name, axis):
        arguments = 2.0, axis
        shape = (4, 3, 5, 8)
        ours, their = (np.asarray(getattr(m, name)(*arguments)(KEY, shape)) for m in (init, theirs))
        assert (ours != 0).sum() == (their != 0).sum()
        rows = (
            np.moveaxis(w, axis, -1).reshape(-1, shape[axis]) if name == "orthogonal" else w[1, 1]
            for w in (ours, their)
        )
        grams = [w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T for w in rows]
        np.testing.assert_allclose(grams[0], grams[1], atol=1e-5)
        np.testing.assert_allclose(grams[0], 4 * np.eye(len(grams[0])), atol=1e-5)

    def test_what_fastinit_lacks_is_jaxs_and_said(self, monkeypatch):
        monkeypatch.setattr(_fill, "_said", set())
        for name, dtype in (
            ("orthogonal", jnp.complex64),
            ("he_normal", jnp.float8_e4m3b11fnuz),
        ):
            their = getattr(theirs, name)()(KEY, (4, 5), dtype)
            with pytest.warns(UserWarning, match="JAX drew the values of tensors of dtype"):
                ours = getattr(init, name)()(KEY, (4, 5), dtype)
            assert ours.dtype == dtype
            assert bits(ours) == bits(their)

    @pytest.mark.parametrize("name", ["normal", "he_normal", "lecun_uniform", "glorot_normal"])
    def test_complex_numbers_are_jaxs_distributions(self, name):
        shape, dtype = (200, 300), jnp.complex64
        ours, their = (np.asarray(getattr(m, name)()(KEY, shape, dtype)) for m in (init, theirs))
        compiled = jax.jit(getattr(init, name)(), static_argnums=(1, 2))(KEY, shape, dtype)
        assert bits(ours) == bits(np.asarray(compiled))
        # JAX's truncated ones are wider by sqrt(1 - exp(-4)): docs/adapters.md.
        factor = math.sqrt(-math.expm1(-4)) if name in ("he_normal", "glorot_normal") else 1.0
        for of in (np.abs, np.real, np.imag, np.angle):
            scale = 1.0 if of is np.angle else factor
            assert stats.ks_2samp(of(ours).ravel(), scale * of(their).ravel()).pvalue > 1e-4
        assert (abs(ours) ** 2).mean() == pytest.approx((abs(their) ** 2).mean() * factor**2, 0.03)


class TestValues:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", DIVISIBLE)
    def test_are_those_of_numpys_face(self, name, dtype):
        shape = (3, 30, 41)
        expected = NUMPY[name if name in NUMPY else alias(name)](shape, rng=42, dtype=dtype)
        w = made(name)(KEY, shape, dtype)
        assert w.dtype == dtype
        assert bits(w) == bits(expected)
        compiled = jax.jit(made(name), static_argnums=(1, 2))
        assert bits(compiled(KEY, shape, dtype)) == bits(expected)

    def test_typed_raw_and_other_keys(self):
        shape = (5, 7)
        w = init.normal()(jax.random.PRNGKey(42), shape)
        assert bits(w) == bits(init.normal()(KEY, shape))
        words = [int(n) for n in jax.random.key_data(jax.random.key(2**40 + 3, impl="rbg"))]
        seed = sum(word << 32 * place for place, word in enumerate(reversed(words)))
        wide = init.normal()(jax.random.key(2**40 + 3, impl="rbg"), shape)
        assert bits(wide) == bits(fi.normal(shape, std=0.01, rng=seed))
        assert len({bits(init.normal()(k, shape)) for k in jax.random.split(KEY, 9)}) == 9

    def test_the_generator_of_a_key(self):
        assert init.generator(KEY).key == fi.default_rng(42).key

    def test_vmap_takes_several_keys(self):
        keys = jax.random.split(KEY, 3)
        rows = jax.vmap(lambda key: init.he_normal()(key, (4, 5)))(keys)
        assert bits(rows) == bits(np.stack([init.he_normal()(key, (4, 5)) for key in keys]))

    def test_scan_and_grad(self):
        """As in a training step: nothing is differentiated through, nothing stands still."""

        def loss(w, key):
            keys = jax.random.split(key, 3)
            noise = jax.lax.scan(
                lambda s, k: (s + init.normal()(k, (4,)), None), jnp.zeros(4), keys
            )
            return (w * noise[0]).sum()

        grad = jax.jit(jax.grad(loss))(jnp.ones(4), KEY)
        expected = sum(np.asarray(init.normal()(k, (4,))) for k in jax.random.split(KEY, 3))
        np.testing.assert_allclose(grad, expected, rtol=1e-6)

    def test_a_key_that_jit_closes_over_is_no_constant_of_the_program(self):
        for key in (KEY, jax.random.PRNGKey(42)):
            shape = jax.eval_shape(lambda key=key: init.normal()(key, (2**20, 2**20)))
            assert shape.shape == (2**20, 2**20)

    @pytest.mark.parametrize("shape", [(), (0, 3), (1,)])
    def test_small_shapes(self, shape):
        for f in (init.normal(), jax.jit(init.normal(), static_argnums=1)):
            assert bits(f(KEY, shape)) == bits(fi.normal(shape, std=0.01, rng=42))


def alias(name):
    function = getattr(init, name)
    return next(n for n in NUMPY if getattr(init, n) is function)


def test_memory_is_handed_over_and_not_copied(monkeypatch):
    arrays = []
    monkeypatch.setattr(init, "empty", lambda *a: arrays.append(fi._fill.empty(*a)) or arrays[-1])
    for dtype in DTYPES:
        w = init.normal()(KEY, (256, 256), dtype)
        assert w.unsafe_buffer_pointer() == arrays[-1].ctypes.data


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: init.normal()(42, (2,)), TypeError, "key=42 must be a JAX key"),
        (lambda: init.normal()(jnp.ones(2), (2,)), TypeError, "key has dtype float32"),
        (lambda: init.normal()(jax.random.split(KEY), (2,)), ValueError, "allowed: one key"),
        (
            lambda: init.normal(-1)(KEY, (2,)),
            ValueError,
            r"^normal\(\): stddev=-1.0 must be 0 or greater",
        ),
        (lambda: init.he_normal()(KEY, (2,)), ValueError, "in_axis=-2 is not an axis"),
        (lambda: init.he_normal(0, 0)(KEY, (2, 3)), ValueError, "must be different axes"),
        (lambda: init.orthogonal()(KEY, (2,)), ValueError, "two axes or more"),
        (lambda: init.delta_orthogonal()(KEY, (3, 3, 2)), ValueError, "no more inputs"),
        (lambda: init.normal()(KEY, (-2,)), ValueError, "must not be negative"),
        (lambda: init.normal()(KEY, (2,), out_sharding="a"), TypeError, "out_sharding='a'"),
        (
            lambda: init.normal()(KEY, (2,), out_sharding=jax.sharding.PartitionSpec("a")),
            ValueError,
            "needs a mesh around it",
        ),
    ],
)
def test_errors_name_the_argument_while_jit_traces_too(call, error, words):
    with pytest.raises(error, match=words):
        call()
    with pytest.raises(error, match=words):
        jax.eval_shape(call)


@pytest.mark.parametrize("name", [n for n in init.__all__ if n not in dir(theirs)] + DRAWING)
def test_docstring_examples(name):
    names = {"init": init, "jax": jax, "fi": fi, "np": np}
    tests = doctest.DocTestFinder().find(getattr(init, name), name, module=False, globs=names)
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests:
        runner.run(test)
    results = runner.summarize(verbose=False)
    assert results.attempted > 0
    assert results.failed == 0


def run(script, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        env={**os.environ, "FASTINIT_NUM_THREADS": "2", **environment},
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_any_mesh_gives_the_same_array():
    """On eight devices, each a part of this machine's CPU, and with 64-bit floats."""
    run(
        Path(__file__).parents[1] / "processes" / "meshed.py",
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
        JAX_ENABLE_X64="1",
    )


def test_the_example_of_flax():
    pytest.importorskip("flax", reason="the example is of Flax: pip install flax")
    run(Path(__file__).parents[2] / "examples" / "jax_flax.py")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda key: init.normal(0.1)(key, 1.5), TypeError, "shape=1.5 must be an integer or"),
        (lambda key: init.normal(0.1)(key, True), TypeError, "shape=True must be an integer or"),
        (lambda key: init.normal(0.1)(key, (3,), "x"), TypeError, "dtype='x' is not a dtype"),
        (lambda key: init.normal(None)(key, (3,)), TypeError, "stddev=None must be a real number"),
        (lambda key: init.uniform("x")(key, (3,)), TypeError, "scale='x' must be a real number"),
        (lambda key: init.normal(10**400)(key, (3,)), ValueError, "stddev=1000"),
        (lambda key: init.orthogonal(1j)(key, (3, 3)), TypeError, "scale=1j must be a real number"),
        (lambda _: init.normal(0.1)(3, (3,)), TypeError, "key=3 must be a JAX key"),
        (
            lambda _: init.normal(0.1)(jax.numpy.zeros(3, "uint32"), (3,)),
            ValueError,
            "key has 3 words; allowed: a key of jax.random.key",
        ),
        (
            lambda key: jax.jit(lambda std: init.normal(std)(key, (3,)))(0.1),
            TypeError,
            r"stddev=.* is traced; allowed: a number",
        ),
    ],
)
def test_wrong_values_are_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call(jax.random.key(1))


def test_a_shape_may_be_an_integer_as_everywhere_and_a_number_jaxs():
    key = jax.random.key(1)
    assert init.normal(jax.numpy.float32(0.5))(key, 3).tolist() == (
        init.normal(0.5)(key, (3,)).tolist()
    )
