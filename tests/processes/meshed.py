"""What `test_jax` runs with eight devices: arrays sharded over meshes equal the whole."""

from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import fastinit as fi
import fastinit.jax as init

KEY = jax.random.key(42)
SHAPE = (16, 24)
MESHES = {(8,): ("x",), (4, 2): ("x", "y"), (2, 2, 2): ("x", "y", "z")}


def shardings() -> Iterator[NamedSharding]:
    for lengths, names in MESHES.items():
        for kind in (AxisType.Auto, AxisType.Explicit)[: len(names)]:
            mesh = jax.make_mesh(lengths, names, axis_types=(kind,) * len(names))
            specs = [(), (None, "x")] if len(names) == 1 else [("x",), (names,), ("y", names[:1])]
            for spec in specs:
                yield NamedSharding(mesh, PartitionSpec(*spec))


def check(made: jax.Array, expected: np.ndarray, sharding: NamedSharding) -> None:
    assert made.sharding.is_equivalent_to(sharding, expected.ndim), (made.sharding, sharding)
    assert made.dtype == expected.dtype
    for part in made.addressable_shards:
        assert np.asarray(part.data).tobytes() == expected[part.index].tobytes(), sharding


def any_mesh() -> None:
    """Whoever gives the sharding, and whether inside jit or not."""
    maker = init.he_normal()
    expected = fi.he_truncated_normal(SHAPE, rng=42)
    for given in shardings():
        check(maker(KEY, SHAPE, np.float32, given), expected, given)
        check(
            jax.jit(lambda key, to=given: maker(key, SHAPE, np.float32, to))(KEY), expected, given
        )
        asked = jax.jit(lambda key: maker(key, SHAPE, np.float32), out_shardings=given)
        check(asked(KEY), expected, given)
        with jax.set_mesh(given.mesh):
            check(maker(KEY, SHAPE, np.float32, given.spec), expected, given)
            check(
                jax.jit(lambda key, to=given.spec: maker(key, SHAPE, np.float32, to))(KEY),
                expected,
                given,
            )


def any_dtype() -> None:
    sharding = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec("x"))
    for dtype in ("float64", "bfloat16", "float8_e5m2"):
        expected = fi.normal(SHAPE, std=0.01, rng=42, dtype=dtype)
        check(init.normal()(KEY, SHAPE, dtype, sharding), expected, sharding)
        inside = jax.jit(lambda key, to=dtype: init.normal()(key, SHAPE, to, sharding))
        check(inside(KEY), expected, sharding)
    assert init.normal()(KEY, SHAPE).dtype == np.float64  # JAX's own default under x64


def made_as_a_whole() -> None:
    sharding = NamedSharding(jax.make_mesh((8,), ("x",)), PartitionSpec(None, "x"))
    expected = np.asarray(init.orthogonal()(KEY, SHAPE, np.float32))
    check(init.orthogonal()(KEY, SHAPE, np.float32, sharding), expected, sharding)
    inside = jax.jit(lambda key: init.orthogonal()(key, SHAPE, np.float32, sharding))
    check(inside(KEY), expected, sharding)


def replicas_are_drawn_once_and_are_their_owns() -> None:
    """Parts that devices share are one piece of memory; a donated one stays as it was."""
    mesh = jax.make_mesh((2, 4), ("x", "y"))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    made = init.normal()(KEY, (256, 256), np.float32, sharding)
    assert len({s.data.unsafe_buffer_pointer() for s in made.addressable_shards}) == 2
    expected = np.array(made) + np.float32(1)
    donated = jax.jit(lambda x: x + np.float32(1), donate_argnums=0)(made)
    check(donated, expected, sharding)


if __name__ == "__main__":
    assert jax.device_count() == 8
    any_mesh()
    any_dtype()
    made_as_a_whole()
    replicas_are_drawn_once_and_are_their_owns()
