"""What `test_keras` runs once for each backend of Keras."""

import doctest
import inspect
import random
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy import stats

import fastinit as fi
import fastinit.keras as init

BACKEND = keras.config.backend()
SHAPE = (3, 3, 40, 50)
RANDOM = {
    name for name, thing in vars(keras.initializers).items()
    if inspect.isclass(thing) and "seed" in inspect.signature(thing).parameters
}  # fmt: skip
# What fastinit's NumPy face calls them; Keras's "normal" ones are truncated.
NUMPY = {
    "RandomNormal": lambda s, **o: fi.normal(s, std=0.05, **o),
    "TruncatedNormal": lambda s, **o: fi.truncated_normal(s, std=0.05, **o),
    "RandomUniform": lambda s, **o: fi.uniform(s, -0.05, 0.05, **o),
    "VarianceScaling": lambda s, **o: fi.variance_scaling(s, 1, "fan_in", "truncated_normal", **o),
    "GlorotUniform": fi.glorot_uniform,
    "GlorotNormal": fi.glorot_truncated_normal,
    "LecunUniform": fi.lecun_uniform,
    "LecunNormal": fi.lecun_truncated_normal,
    "HeUniform": fi.he_uniform,
    "HeNormal": fi.he_truncated_normal,
    "Orthogonal": fi.orthogonal,
}


def values(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def bits(tensor):
    if BACKEND == "torch":
        import torch

        return tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return np.asarray(tensor).tobytes()


def the_same_classes() -> None:
    assert {getattr(keras.initializers, n) for n in RANDOM} == {
        getattr(keras.initializers, n) for n in init.__all__
    }
    for name in init.__all__:
        ours, theirs = getattr(init, name), getattr(keras.initializers, name)
        assert issubclass(ours, theirs)
        assert inspect.signature(ours) == inspect.signature(theirs)


def numpys_values() -> None:
    for name in init.__all__:
        made = getattr(init, name)(seed=42)
        assert bits(made(SHAPE)) == NUMPY[name](SHAPE, rng=42).tobytes(), name
    for dtype in ("float16", "bfloat16"):
        w = init.HeNormal(seed=42)(SHAPE, dtype=dtype)
        assert keras.backend.standardize_dtype(w.dtype) == dtype
        assert bits(w) == fi.he_truncated_normal(SHAPE, rng=42, dtype=dtype).tobytes()
    wide = init.HeNormal(seed=42)(SHAPE, dtype="float64")
    expected = fi.he_truncated_normal(SHAPE, rng=42, dtype=str(values(wide).dtype))
    assert bits(wide) == expected.tobytes()  # float32 in JAX without x64


def kerass_distributions() -> None:
    """By Kolmogorov and Smirnov, at 1e-6 each; fixed seeds, so it fails always or never."""
    options = [{}, {"input_axes": [0, 2], "output_axes": [3]}]
    for name in init.__all__:
        takes = inspect.signature(getattr(init, name)).parameters
        for chosen in options[: 1 + ("input_axes" in takes)]:
            ours, theirs = (
                values(getattr(m, name)(seed=42, **chosen)(SHAPE)).ravel()
                for m in (init, keras.initializers)
            )
            # An orthogonal matrix' elements depend on one another: one of a row.
            step = SHAPE[-1] if name == "Orthogonal" else 1
            assert stats.ks_2samp(ours[::step], theirs[::step]).pvalue > 1e-6, (name, chosen)
    for distribution in ("uniform", "truncated_normal", "untruncated_normal", "normal"):
        for mode in ("fan_in", "fan_out", "fan_avg"):
            for shape in (SHAPE, (2000,)):
                ours, theirs = (
                    values(m.VarianceScaling(2.0, mode, distribution, seed=7)(shape)).ravel()
                    for m in (init, keras.initializers)
                )
                assert stats.ks_2samp(ours, theirs).pvalue > 1e-6, (distribution, mode, shape)


def seeds() -> None:
    fixed = init.RandomNormal(seed=42)
    assert bits(fixed((3,))) == bits(fixed((3,)))
    generator = keras.random.SeedGenerator(42)
    moving = init.RandomNormal(seed=generator)
    first, second = bits(moving((3,))), bits(moving((3,)))
    assert first == bits(fixed((3,)))
    assert second == fi.normal(3, std=0.05, rng=42 + 2**32).tobytes()
    random.seed(3)
    one = init.RandomNormal()
    random.seed(3)
    assert bits(one((3,))) == bits(init.RandomNormal()((3,))) == bits(one((3,)))
    assert bits(one((3,))) != bits(init.RandomNormal()((3,)))
    assert bits(init.RandomNormal(seed=-1)((3,))) == bits(init.RandomNormal(seed=2**64 - 1)((3,)))


def configurations() -> None:
    for name in init.__all__:
        made = getattr(init, name)(seed=3)
        clone = made.clone()
        assert type(clone) is type(made)
        assert clone.get_config() == made.get_config()
        again = keras.initializers.deserialize(keras.initializers.serialize(made))
        assert type(again) is type(made)
        assert bits(again((4, 5))) == bits(made((4, 5)))
    seeded = init.HeNormal(seed=keras.random.SeedGenerator(5))
    again = keras.initializers.deserialize(keras.initializers.serialize(seeded))
    assert bits(again((4, 5))) == fi.he_truncated_normal((4, 5), rng=5).tobytes()


def models(directory: Path) -> None:
    layers = [
        keras.layers.Conv2D(4, 3, kernel_initializer=init.HeNormal(seed=1)),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, kernel_initializer=init.Orthogonal(0.5, seed=2)),
    ]
    model = keras.Sequential([keras.Input((8, 8, 2)), *layers])
    kernel = values(model.layers[0].kernel.value)
    assert kernel.tobytes() == fi.he_truncated_normal((3, 3, 2, 4), rng=1).tobytes()
    path = directory / f"{BACKEND}.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert type(loaded.layers[0].kernel_initializer) is init.HeNormal
    assert type(loaded.layers[2].kernel_initializer) is init.Orthogonal
    np.testing.assert_array_equal(values(loaded.layers[0].kernel.value), kernel)
    if BACKEND != "numpy":  # it does not train
        model.compile("sgd", "mse")
        x, y = np.ones((4, 8, 8, 2), np.float32), np.ones((4, 3), np.float32)
        assert np.isfinite(model.fit(x, y, verbose=0).history["loss"]).all()


def no_copies() -> None:
    arrays = []
    allocate = fi._fill.empty
    for module in {fi.keras, *([sys.modules["fastinit.jax"]] if BACKEND == "jax" else [])}:
        module.empty = lambda *a: arrays.append(allocate(*a)) or arrays[-1]
    for dtype in ("float32", "bfloat16"):
        w = init.HeNormal(seed=1)((64, 64), dtype=dtype)
        address = {
            "torch": lambda w=w: w.data_ptr(),
            "jax": lambda w=w: w.unsafe_buffer_pointer(),
            "numpy": lambda w=w: w.ctypes.data,
        }[BACKEND]()
        assert address == arrays[-1].ctypes.data


def errors() -> None:
    for call, words in [
        (lambda: init.RandomNormal(stddev=-1.0, seed=1)((3,)), r"\(\): stddev=-1.0 must be 0 or"),
        (lambda: init.RandomNormal(seed=1)((-3,)), "must not be negative"),
        (lambda: init.Orthogonal(seed=1)((3,)), "two axes or more"),
        (lambda: init.VarianceScaling(0.0), "must be positive"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def parts() -> None:
    """On eight devices each makes its own part of a kernel: no array is larger."""
    import jax

    lib, shapes, allocate = keras.distribution, [], fi.jax.empty
    mesh = lib.DeviceMesh((2, 4), ("data", "model"), lib.list_devices())
    layout = lib.LayoutMap(mesh)
    layout["dense.*kernel"] = (None, "model")
    lib.set_distribution(lib.ModelParallel(layout_map=layout, batch_dim_name="data"))
    fi.jax.empty = lambda *a: shapes.append(tuple(a[0])) or allocate(*a)
    for maker in (init.HeNormal(seed=1), init.HeNormal(seed=keras.random.SeedGenerator(1))):
        shapes.clear()
        dense = keras.layers.Dense(16, kernel_initializer=maker)
        dense.build((None, 8))
        expected = fi.he_truncated_normal((8, 16), rng=1)
        assert bits(dense.kernel.value) == expected.tobytes()
        assert dense.kernel.value.sharding.spec == jax.sharding.PartitionSpec(None, "model")
        assert shapes == [(8, 4)] * 4
    orthogonal = keras.layers.Dense(16, kernel_initializer=init.Orthogonal(seed=1))
    orthogonal.build((None, 8))
    assert bits(orthogonal.kernel.value) == fi.orthogonal((8, 16), rng=1).tobytes()


def examples() -> None:
    names = {"init": init, "fi": fi, "np": np}
    runner = doctest.DocTestRunner(verbose=False)
    for name in init.__all__:
        thing = getattr(init, name)
        tests = doctest.DocTestFinder(recurse=False).find(thing, name, module=False, globs=names)
        assert tests[0].examples, name
        runner.run(tests[0])
    assert runner.summarize(verbose=True).failed == 0


def main(directory: Path) -> None:
    the_same_classes()
    numpys_values()
    kerass_distributions()
    seeds()
    configurations()
    models(directory)
    errors()
    if BACKEND == "numpy":
        examples()
    no_copies()
    if BACKEND == "jax":
        parts()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
