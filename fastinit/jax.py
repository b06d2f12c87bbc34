"""JAX: `jax.nn.initializers` over fastinit's stream, on one device, sharded, and inside `jit`.

``from fastinit.jax import he_normal`` in place of ``from jax.nn.initializers import he_normal``;
docs/adapters.md on keys, meshes and `jit`.

Memory is JAX's or becomes JAX's: nothing is copied on a CPU. Outside of `jit` an array is filled
and handed over (it begins on a cache line, so JAX takes it as it is); inside, XLA calls back
with the buffer of the result, by its foreign function interface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import numpy as np
from jax.experimental.buffer_callback import buffer_callback
from jax.nn.initializers import Initializer, constant, ones, zeros
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec, Sharding
from numpy.typing import NDArray

import fastinit
from fastinit import _arguments, cuda
from fastinit._errors import SHAPE_AND_DTYPE, name_of_call, renamed, type_error, value_error
from fastinit._fill import FLOAT_FORMATS, empty, say_drawn_by
from fastinit.random import Generator, default_rng

__all__ = [
    "Initializer",
    "constant",
    "delta_orthogonal",
    "generator",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Axes: TypeAlias = int | Sequence[int]
Shape: TypeAlias = tuple[int, ...]


def generator(key: jax.Array) -> Generator:
    """Return the fastinit generator of a JAX key, which makes the same values with NumPy.

    The key's words, read as one number, are the seed: ``jax.random.key(42)`` is ``rng=42``.

    Parameters
    ----------
    key : jax.Array
        One key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`), not traced.

    Returns
    -------
    Generator
        At position 0.

    Raises
    ------
    TypeError, ValueError
        If `key` is no key, or several.

    Examples
    --------
    >>> w = init.he_normal()(jax.random.key(42), (8, 4))
    >>> bool((w == fi.he_truncated_normal((8, 4), rng=init.generator(jax.random.key(42)))).all())
    True
    """
    return _generator(np.asarray(_words(key)))


def _words(key: jax.Array) -> jax.Array:
    """Return the 32-bit words of one key; traced inside jit, even if the key is not."""
    if not isinstance(key, jax.Array):
        raise type_error(f"key={_arguments.shown(key)} must be a JAX key: jax.random.key(seed)")
    typed = jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if typed else jax.numpy.copy(key)
    if words.dtype != np.uint32:
        raise type_error(f"key has dtype {key.dtype}; allowed: a key of jax.random.key")
    if words.ndim != 1:
        raise value_error(f"key has shape {key.shape}; allowed: one key (jax.vmap takes several)")
    if words.size not in (2, 4):  # of the generators that JAX has
        raise value_error(f"key has {words.size} words; allowed: a key of jax.random.key")
    return words


def _generator(words: NDArray[np.uint32]) -> Generator:
    return default_rng(int.from_bytes(words.astype(">u4").tobytes(), "big"))


def _number(name: str, value: object) -> float:
    """Return a number, which may be JAX's, but not one that is known when XLA runs alone."""
    if isinstance(value, jax.core.Tracer):
        raise type_error(f"{name}={_arguments.shown(value)} is traced; allowed: a number")
    if isinstance(value, jax.Array | np.ndarray) and value.ndim == 0:
        value = value.item()
    return _arguments.real(name, value)


def _initializer(ours: Drawn, jaxs: Initializer, dtype: Any, **names: str) -> Initializer:
    """Return JAX's kind of function for one of fastinit's initializers.

    Where fastinit does not know the dtype, JAX's own function draws, and a warning says so. Our
    arguments have these names in JAX.
    """

    def init(
        key: jax.Array, shape: Sequence[int], dtype: Any = dtype, out_sharding: Any = None
    ) -> jax.Array:
        try:
            known = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
        except TypeError:
            raise type_error(f"dtype={_arguments.shown(dtype)} is not a dtype of JAX's") from None
        lengths = _arguments.shape("shape", cast(_arguments.Shape, shape))
        of_complex = known.kind == "c" and getattr(ours, "name", None) in _OF_COMPLEX
        if known.name not in FLOAT_FORMATS and not of_complex:
            drawn = jaxs(key, lengths, dtype, out_sharding)
            say_drawn_by("JAX", f"tensors of dtype {known.name}")
            return drawn
        words = _words(key)
        try:
            ours.check(lengths, known)  # inside jit the fill itself would raise too late
        except (TypeError, ValueError) as error:
            raise renamed(error, {**SHAPE_AND_DTYPE, **names}) from None
        return draw(words, lengths, known, out_sharding, ours)

    # Tracebacks and errors show which function of ours has made it.
    name = name_of_call().removesuffix("()")
    init.__code__ = init.__code__.replace(co_name=name)
    return init


# These draw complex numbers as JAX does.
_OF_COMPLEX = ("normal", "variance_scaling")


def draw(
    words: jax.Array, shape: Shape, dtype: np.dtype[Any], out_sharding: object, initializer: Drawn
) -> jax.Array:
    """Return an array of JAX's, drawn from the generator that a key's words are the seed of.

    The initializer has been checked for this shape and dtype.
    """
    traced = isinstance(words, jax.core.Tracer)
    sharding = _sharding(out_sharding, traced)
    if traced:
        return _traced(words, shape, dtype, sharding, initializer)
    return _concrete(_generator(np.asarray(words)), shape, dtype, sharding, initializer)


def _sharding(given: object, traced: bool) -> Sharding | None:
    """Return a sharding; of the mesh around, as `jax.set_mesh` sets it, if it brings no devices."""
    if isinstance(given, NamedSharding) and isinstance(given.mesh, AbstractMesh) and not traced:
        given = given.spec
    if isinstance(given, PartitionSpec):
        mesh = jax.sharding.get_abstract_mesh() if traced else jax.sharding.get_mesh()
        if mesh.empty:
            raise value_error(f"out_sharding={given} needs a mesh around it: jax.set_mesh")
        return NamedSharding(mesh, given)
    if isinstance(given, NamedSharding if traced else Sharding) or given is None:
        return given
    raise type_error(
        f"out_sharding={_arguments.shown(given)} must be a NamedSharding or a PartitionSpec"
    )


def _concrete(
    rng: Generator,
    shape: Shape,
    dtype: np.dtype[Any],
    sharding: Sharding | None,
    initializer: Drawn,
) -> jax.Array:
    """Fill new memory and hand it to JAX; of a sharded array each part once."""

    def part(box: tuple[slice, ...]) -> NDArray[Any]:
        bounds = [line.indices(length) for line, length in zip(box, shape, strict=True)]
        offset = tuple(start for start, _, _ in bounds)
        if offset not in made:
            made[offset] = empty([stop - start for start, stop, _ in bounds], dtype)
            whole = Generator(rng.seed_seq)  # each part of it at its place
            initializer.fill(made[offset], rng=whole, global_shape=shape, offset=offset)
        return made[offset]

    made: dict[Shape, NDArray[Any]] = {}
    by_gpus = getattr(initializer, "name", None) in _OF_EACH_ELEMENT and dtype.kind != "c"
    if by_gpus and _on_gpus(sharding):
        return _by_gpus(rng, shape, dtype, sharding, initializer)
    if sharding is None:
        return jax.device_put(part(tuple(slice(None) for _ in shape)))
    return jax.make_array_from_callback(shape, sharding, part, dtype=dtype)


# These draw each element by itself, so a GPU draws the elements that it holds.
_OF_EACH_ELEMENT = ("normal", "uniform", "truncated_normal", "variance_scaling")


def _on_gpus(sharding: Sharding | None) -> bool:
    """Return whether all parts are on NVIDIA GPUs that can be filled where they are."""
    devices = [jax.devices()[0]] if sharding is None else sharding.addressable_devices
    of_nvidia = all("cuda" in device.client.platform_version.lower() for device in devices)
    return of_nvidia and cuda.missing() is None


def _by_gpus(
    rng: Generator,
    shape: Shape,
    dtype: np.dtype[Any],
    sharding: Sharding | None,
    initializer: Drawn,
) -> jax.Array:
    """Fill each GPU's part in the memory that JAX has given it; nothing passes through the host."""
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    parts = []
    for device, box in sharding.addressable_devices_indices_map(shape).items():
        bounds = [line.indices(length) for line, length in zip(box, shape, strict=True)]
        local = tuple(stop - start for start, stop, _ in bounds)
        # New memory that nobody else has seen: an array of JAX's must not change after that.
        part = jax.numpy.zeros(local, dtype, device=device).block_until_ready()
        array = cuda.array_at(part.unsafe_buffer_pointer(), local, dtype)
        memory = cuda.OnGPU(array, partial(cuda.fill, wait=True))
        offset = tuple(start for start, _, _ in bounds)
        initializer.fill(memory, rng=Generator(rng.seed_seq), global_shape=shape, offset=offset)
        parts.append(part)
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _traced(
    words: jax.Array,
    shape: Shape,
    dtype: np.dtype[Any],
    sharding: NamedSharding | None,
    initializer: Drawn,
) -> jax.Array:
    """Have XLA call back when it runs; each device of a mesh for its own part."""
    if sharding is None:
        return _called(words, np.zeros(len(shape), np.int32), shape, shape, dtype, initializer)
    spec, local = sharding.spec, sharding.shard_shape(shape)

    def part(words: jax.Array) -> jax.Array:
        # Which part, not where: an offset may need more than 32 bits.
        at = [jax.lax.axis_index(names) if names else 0 for names in spec]
        at += [0] * (len(shape) - len(at))
        return _called(words, jax.numpy.array(at, np.int32), local, shape, dtype, initializer)

    sharded = jax.shard_map(
        part, mesh=sharding.mesh, in_specs=PartitionSpec(), out_specs=spec, check_vma=False
    )
    return sharded(words)


def _called(
    words: jax.Array,
    at: Any,
    local: Shape,
    shape: Shape,
    dtype: np.dtype[Any],
    initializer: Drawn,
) -> jax.Array:
    """Return the part number `at` along each axis, made by a call back when XLA runs."""

    def write(x: NDArray[Any], words: Any, at: Any) -> NDArray[Any]:
        offset = [int(n) * length for n, length in zip(np.asarray(at), local, strict=True)]
        initializer.fill(x, rng=_generator(np.asarray(words)), global_shape=shape, offset=offset)
        return x

    def in_place(_: object, out: Any, words: Any, at: Any) -> None:
        write(np.asarray(out), words, at)

    kind = jax.ShapeDtypeStruct(local, dtype)
    to_host = partial(jax.pure_callback, lambda *given: write(empty(local, dtype), *given), kind)
    made: jax.Array = jax.lax.platform_dependent(
        words,
        at,
        cpu=buffer_callback(in_place, kind, vmap_method="sequential"),
        default=partial(to_host, vmap_method="sequential"),
    )
    return made


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initializer of normals; as `jax.nn.initializers.normal`.

    Parameters
    ----------
    stddev : float
        0 or greater, and not traced.
    dtype : dtype, optional
        Unless the call says: float32, or float64 under x64.

    Returns
    -------
    Initializer
        ``init(key, shape, dtype=dtype, out_sharding=None)``. The values are those of
        `fastinit.normal` with ``rng=generator(key)``, whatever the mesh.

    Raises
    ------
    TypeError, ValueError
        By the initializer, before it allocates, if an argument is not as described.

    Examples
    --------
    >>> init.normal(0.02)(jax.random.key(42), (2, 3)).shape
    (2, 3)
    """
    ours = fastinit.Initializer("normal", std=_number("stddev", stddev))
    return _initializer(ours, jax.nn.initializers.normal(stddev), dtype, std="stddev")


def uniform(scale: Any = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initializer of uniforms on [0, scale); as `jax.nn.initializers.uniform`.

    Parameters
    ----------
    scale : float
        0 or greater, and not traced.
    dtype : dtype, optional
        As in `normal`.

    Returns
    -------
    Initializer
        As `normal`'s, with the values of `fastinit.uniform`.

    Raises
    ------
    TypeError, ValueError
        As `normal`.

    Examples
    --------
    >>> bool(init.uniform(0.1)(jax.random.key(42), (100,)).max() <= 0.1)
    True
    """
    ours = fastinit.Initializer("uniform", high=_number("scale", scale))
    return _initializer(ours, jax.nn.initializers.uniform(scale), dtype, high="scale")


def truncated_normal(
    stddev: Any = 1e-2, dtype: Any = None, lower: Any = -2.0, upper: Any = 2.0
) -> Initializer:
    """Return an initializer of truncated normals; as `jax.nn.initializers.truncated_normal`.

    Parameters
    ----------
    stddev : float
        Of the normal before it is cut; 0 or greater, and not traced.
    dtype : dtype, optional
        As in `normal`.
    lower, upper : float
        The bounds in standard deviations.

    Returns
    -------
    Initializer
        As `normal`'s, with the values of `fastinit.truncated_normal`.

    Raises
    ------
    TypeError, ValueError
        As `normal`.

    Examples
    --------
    >>> bool(abs(init.truncated_normal(0.1)(jax.random.key(42), (100,))).max() <= 0.2)
    True
    """
    ours = fastinit.Initializer(
        "truncated_normal",
        std=_number("stddev", stddev),
        low=_number("lower", lower),
        high=_number("upper", upper),
    )
    jaxs = jax.nn.initializers.truncated_normal(stddev, None, lower, upper)
    return _initializer(ours, jaxs, dtype, std="stddev", low="lower", high="upper")


def variance_scaling(
    scale: Any,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """Return an initializer of variance scale / fan; as `jax.nn.initializers.variance_scaling`.

    Parameters
    ----------
    scale : float
        Positive, and not traced.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan; that of the whole tensor, however it is sharded.
    distribution : {"truncated_normal", "normal", "uniform"}
        What is drawn.
    in_axis, out_axis, batch_axis : int or sequence of int
        The axes of inputs, of outputs, and of independent weights.
    dtype : dtype, optional
        As in `normal`.

    Returns
    -------
    Initializer
        As `normal`'s, with the values of `fastinit.variance_scaling`.

    Raises
    ------
    TypeError, ValueError
        As `normal`.

    Examples
    --------
    >>> w = init.variance_scaling(2.0, "fan_in", "normal")(jax.random.key(42), (400, 300))
    >>> bool(abs(w.std() / (2 / 400) ** 0.5 - 1) < 0.01)
    True
    """
    jaxs = jax.nn.initializers.variance_scaling(
        scale, mode, distribution, in_axis, out_axis, batch_axis
    )
    ours = fastinit.Initializer(
        "variance_scaling",
        scale=_number("scale", scale),
        mode=mode,
        distribution=distribution,
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )
    return _initializer(ours, jaxs, dtype)


_DOC = """Return an initializer; as `jax.nn.initializers.{name}`.

It is ``variance_scaling({scale}, "{mode}", "{distribution}")``, whose parameters, returns and
raises it has.

Examples
--------
>>> init.{name}()(jax.random.key(42), (2, 3)).shape
(2, 3)
"""


def _named(name: str, scale: float, mode: str, distribution: str) -> Callable[..., Initializer]:
    def initializer(
        in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
    ) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    initializer.__code__ = initializer.__code__.replace(co_name=name)
    initializer.__name__ = initializer.__qualname__ = name
    initializer.__doc__ = _DOC.format(name=name, scale=scale, mode=mode, distribution=distribution)
    return initializer


glorot_uniform = xavier_uniform = _named("glorot_uniform", 1.0, "fan_avg", "uniform")
glorot_normal = xavier_normal = _named("glorot_normal", 1.0, "fan_avg", "truncated_normal")
lecun_uniform = _named("lecun_uniform", 1.0, "fan_in", "uniform")
lecun_normal = _named("lecun_normal", 1.0, "fan_in", "truncated_normal")
he_uniform = kaiming_uniform = _named("he_uniform", 2.0, "fan_in", "uniform")
he_normal = kaiming_normal = _named("he_normal", 2.0, "fan_in", "truncated_normal")


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """Return an initializer of orthogonal matrices; as `jax.nn.initializers.orthogonal`.

    Parameters
    ----------
    scale : float
        All singular values; not traced.
    column_axis : int
        The axis of the columns; all others are rows.
    dtype : dtype, optional
        As in `normal`.

    Returns
    -------
    Initializer
        As `normal`'s, with the values of `fastinit.orthogonal`.

    Raises
    ------
    TypeError, ValueError
        As `normal`.

    Examples
    --------
    >>> w = init.orthogonal()(jax.random.key(42), (4, 3))
    >>> bool(np.allclose(w.T @ w, np.eye(3), atol=1e-6))
    True
    """
    ours = fastinit.Initializer("orthogonal", gain=_number("scale", scale), column_axis=column_axis)
    return _initializer(
        ours, jax.nn.initializers.orthogonal(scale, column_axis), dtype, gain="scale"
    )


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """Return an initializer of convolutions; as `jax.nn.initializers.delta_orthogonal`.

    0 but for an orthogonal matrix at the kernel's centre, (n - 1) // 2 of n as JAX has it.

    Parameters
    ----------
    scale, column_axis, dtype
        As in `orthogonal`.

    Returns
    -------
    Initializer
        As `orthogonal`'s, for three to five axes, no more inputs than outputs.

    Raises
    ------
    TypeError, ValueError
        As `normal`.

    References
    ----------
    L. Xiao et al., "Dynamical Isometry and a Mean Field Theory of CNNs: How to Train
    10,000-Layer Vanilla Convolutional Neural Networks", ICML 2018.

    Examples
    --------
    >>> w = init.delta_orthogonal()(jax.random.key(42), (3, 3, 2, 2))
    >>> bool(np.allclose(w[1, 1].T @ w[1, 1], np.eye(2), atol=1e-6)), int((w != 0).sum())
    (True, 4)
    """
    ours = _Centre(
        fastinit.Initializer("orthogonal", gain=_number("scale", scale), column_axis=column_axis)
    )
    return _initializer(
        ours, jax.nn.initializers.delta_orthogonal(scale, column_axis), dtype, gain="scale"
    )


class _Centre(NamedTuple):
    """A convolution of zeros with a matrix at its centre, which is JAX's and not fastinit's."""

    matrix: fastinit.Initializer

    def check(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        if not 3 <= len(shape) <= 5 or shape[-2] > shape[-1]:
            raise value_error(
                f"shape={shape} must have three to five axes, and no more inputs (the last "
                "but one) than outputs (the last)"
            )
        self.matrix.check(shape[-2:], dtype)

    def fill(self, x: Any, *, rng: Generator, global_shape: Shape, offset: Sequence[int]) -> None:
        x[...] = 0
        centre = tuple((n - 1) // 2 - o for n, o in zip(global_shape[:-2], offset, strict=False))
        if all(0 <= i < n for i, n in zip(centre, x.shape, strict=False)):
            whole, corner = global_shape[-2:], tuple(offset[-2:])
            self.matrix.fill(x[centre], rng=rng, global_shape=whole, offset=corner)


Drawn: TypeAlias = fastinit.Initializer | _Centre
