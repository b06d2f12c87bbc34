"""Dask: fastinit's initializers as `dask.array`, lazy, and the same array however it is chunked.

``from fastinit import dask as fd`` and ``fd.normal((10**6, 10**4), std=0.02, rng=42)``: every
initializer of fastinit that allocates, by its name and with its arguments, and `chunks` beside.
A task is a key and a place, of a few hundred bytes; docs/adapters.md.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import dask.array as da
import numpy as np
from numpy.typing import DTypeLike, NDArray

import fastinit
from fastinit import Initializer, _arguments
from fastinit._arguments import Shape
from fastinit._errors import SHAPE_AND_DTYPE, renamed, type_error, value_error
from fastinit._fill import as_dtype, empty
from fastinit.initializer import parameters
from fastinit.random import Generator, as_generator

__all__ = [
    "a_log",
    "arange",
    "constant",
    "delta",
    "delta_orthogonal",
    "dirac",
    "dt_bias",
    "embedding",
    "eye",
    "geomspace",
    "glorot_normal",
    "glorot_truncated_normal",
    "glorot_uniform",
    "hadamard",
    "he_normal",
    "he_truncated_normal",
    "he_uniform",
    "identity",
    "kaiming_normal",
    "kaiming_truncated_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_truncated_normal",
    "lecun_uniform",
    "log_uniform",
    "normal",
    "ones",
    "orthogonal",
    "sinusoid",
    "sparse",
    "trunc_normal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_truncated_normal",
    "xavier_uniform",
    "zeros",
]


class Lazy(Protocol):
    """An initializer that makes a Dask array."""

    __name__: str

    def __call__(
        self,
        shape: Shape,
        *args: Any,
        chunks: Any = "auto",
        dtype: DTypeLike = "float32",
        **kwargs: Any,
    ) -> da.Array:
        """Return a Dask array of that shape and dtype, whose chunks will be filled."""
        ...


class _Virtual:
    """A tensor that is drawn where it is looked at: what `dask.array.from_array` takes slices of.

    These are chunks, or where Dask joins them with a user's own, what is needed of a chunk.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        rng: Generator | None,
        options: dict[str, Any],
        initializer: Initializer,
    ) -> None:
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._rng, self._options, self._initializer = rng, options, initializer

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        index += (slice(None),) * (self.ndim - len(index))
        lines = [
            range(at, at + 1) if isinstance(at, int) else range(*at.indices(length))
            for at, length in zip(index, self.shape, strict=True)
        ]
        # Drawn is what lies between the ends of a slice, and what its steps pass over is left out.
        first = [min(line[0], line[-1]) if line else 0 for line in lines]
        end = [max(line[0], line[-1]) + 1 if line else 0 for line in lines]
        x = empty([stop - start for start, stop in zip(first, end, strict=True)], self.dtype)
        self._draw(x, first)
        steps = tuple(0 if isinstance(at, int) else slice(None, None, at.step) for at in index)
        part: NDArray[Any] = x[steps]
        return part

    def _draw(self, x: NDArray[Any], offset: Sequence[int]) -> None:
        # Threads share this tensor: none moves its generator.
        rng = self._rng and Generator(self._rng.seed_seq, self._rng.position)
        self._initializer.fill(
            x, rng=rng, **self._options, global_shape=self.shape, offset=tuple(offset)
        )

    def check(self) -> None:
        """Raise what drawing any part would raise: an empty part is drawn."""
        corner = (0,) * self.ndim
        self._draw(np.empty(corner, self.dtype), corner)

    def __dask_tokenize__(self) -> object:
        rng = self._rng and (self._rng.key, self._rng.position)
        return self._initializer, self._options, self.shape, self.dtype.name, rng


_DOC = """Return a Dask array whose chunks will be filled as `fastinit.{name}` fills the whole.

Parameters
----------
shape : int or tuple of int
    Of the array.
chunks : int, tuple or str
    As `dask.array` takes them; the values do not depend on them.
dtype : dtype
    float32 unless given; "bfloat16" and the two float8 need the package ml_dtypes.
threads : int
    For each chunk: 1 unless given, as Dask makes many chunks at once.
*args, **kwargs
    As `fastinit.{name}` takes them. With a `Generator` as `rng` the array takes its next
    indices, and it moves on at once.

Returns
-------
dask.array.Array
    Not computed; of the same name for the same arguments, unless `rng` is None.

Raises
------
TypeError, ValueError
    At once, if an argument is not as described.

Examples
--------
>>> fd.{name}({example}, chunks=3).compute().shape
(4, 4)
"""


# What Dask decides, and not the call.
_DASKS = ("global_shape", "offset")


def _lazy(in_place: Callable[..., Any], example: str = "(4, 4)") -> Lazy:
    """Return the function that makes a Dask array, its chunks filled by `in_place`."""
    name = in_place.__name__.removesuffix("_")
    takes = parameters(name)

    def lazy(
        shape: Shape,
        *args: Any,
        chunks: Any = "auto",
        dtype: DTypeLike = "float32",
        **kwargs: Any,
    ) -> da.Array:
        for key in kwargs:
            if key not in takes or key in _DASKS:
                allowed = ", ".join(key for key in takes if key not in _DASKS)
                raise type_error(f"{key} is not an argument; allowed: {allowed}")
        given = {**_by_name(in_place, args, kwargs), **kwargs}
        rng = as_generator(given.pop("rng", None)) if "rng" in takes else None
        tensor = _Virtual(
            _arguments.shape("shape", shape),
            as_dtype(dtype),
            rng and Generator(rng.seed_seq, rng.position),
            {"threads": given.pop("threads", 1), "backend": given.pop("backend", None)},
            Initializer(name, **given),
        )
        try:
            tensor.check()
        except (TypeError, ValueError) as error:
            raise renamed(error, SHAPE_AND_DTYPE) from None
        if rng is not None:
            rng.take(math.prod(tensor.shape))
        return da.from_array(
            tensor,
            _chunks(chunks, tensor),
            inline_array=True,
            fancy=False,
            meta=np.empty([0] * tensor.ndim, tensor.dtype),
        )

    lazy.__code__ = lazy.__code__.replace(co_name=name)  # tracebacks and errors show it
    lazy.__name__ = lazy.__qualname__ = name
    lazy.__doc__ = _DOC.format(name=name, example=example)
    return lazy


def _chunks(chunks: Any, tensor: _Virtual) -> Any:
    """Return a tensor's chunks as Dask has them."""
    try:
        return da.core.normalize_chunks(chunks, tensor.shape, dtype=tensor.dtype)
    except Exception:  # Dask's, which names no argument
        raise value_error(
            f"chunks={_arguments.shown(chunks)} are none of shape {tensor.shape}; allowed: as Dask "
            "takes them, such as 1000, (1000, 500) or 'auto'"
        ) from None


def _by_name(
    in_place: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return by their names the arguments that were given by their places after the shape."""
    try:
        placed = inspect.signature(in_place).bind_partial(None, *args).arguments
    except TypeError as error:
        raise type_error(str(error)) from None
    _, *names = placed
    if twice := kwargs.keys() & names:
        raise type_error(f"{twice.pop()} is given twice")
    return {key: placed[key] for key in names}


constant = _lazy(fastinit.constant_, "(4, 4), 0.5")
zeros = _lazy(fastinit.zeros_)
ones = _lazy(fastinit.ones_)
uniform = _lazy(fastinit.uniform_)
normal = _lazy(fastinit.normal_)
truncated_normal = _lazy(fastinit.truncated_normal_)
trunc_normal = _lazy(fastinit.trunc_normal_)
embedding = _lazy(fastinit.embedding_)
sparse = _lazy(fastinit.sparse_, "(4, 4), 0.5")
log_uniform = _lazy(fastinit.log_uniform_, "(4, 4), 0.001, 0.1")
dt_bias = _lazy(fastinit.dt_bias_)
a_log = _lazy(fastinit.a_log_)
arange = _lazy(fastinit.arange_)
geomspace = _lazy(fastinit.geomspace_, "(4, 4), 1, 1e-4")
sinusoid = _lazy(fastinit.sinusoid_)
variance_scaling = _lazy(fastinit.variance_scaling_)
xavier_uniform = glorot_uniform = _lazy(fastinit.xavier_uniform_)
xavier_normal = glorot_normal = _lazy(fastinit.xavier_normal_)
xavier_truncated_normal = _lazy(fastinit.xavier_truncated_normal_)
glorot_truncated_normal = xavier_truncated_normal
he_uniform = kaiming_uniform = _lazy(fastinit.he_uniform_)
he_normal = kaiming_normal = _lazy(fastinit.he_normal_)
he_truncated_normal = kaiming_truncated_normal = _lazy(fastinit.he_truncated_normal_)
lecun_uniform = _lazy(fastinit.lecun_uniform_)
lecun_normal = _lazy(fastinit.lecun_normal_)
lecun_truncated_normal = _lazy(fastinit.lecun_truncated_normal_)
eye = identity = _lazy(fastinit.eye_)
dirac = _lazy(fastinit.dirac_)
delta = _lazy(fastinit.delta_)
hadamard = _lazy(fastinit.hadamard_)
orthogonal = _lazy(fastinit.orthogonal_)
delta_orthogonal = _lazy(fastinit.delta_orthogonal_)
