"""The kernels inside your own ``@njit`` functions; needs the package numba.

They take an array, a key, an index and a distribution, and give the bits of `fastinit.normal_` and
the other initializers, without a call of Python:

>>> from numba import njit
>>> from fastinit.numba import Normal, fill, key_of
>>> @njit
... def new_layer(key, n_in, n_out):
...     w = np.empty((n_in, n_out), np.float32)
...     fill(w, key, 0, Normal(0.0, 1 / n_in**0.5))
...     return w
>>> bool((new_layer(key_of(42), 30, 20) == fi.lecun_normal((30, 20), rng=42)).all())
True

Nothing is checked here: parameters are finite, and arrays are C-contiguous, of float32 or
float64, or one of `Float16`, `BFloat16`, `Float8E4M3FN` and `Float8E5M2` around an array of
their bits, as Numba has no such dtypes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import DTypeLike

from fastinit._distributions import truncated_normal_distribution
from fastinit._fill import as_dtype, in_dtype
from fastinit.numba import _fill as _numba_fill
from fastinit.numba import _kernels as _numba
from fastinit.numba._kernels import (
    BFloat16,
    Central,
    Float8E4M3FN,
    Float8E5M2,
    Float16,
    Normal,
    Uniform,
)
from fastinit.random import RNG, as_generator

__all__ = [
    "BFloat16",
    "Float8E4M3FN",
    "Float8E5M2",
    "Float16",
    "Normal",
    "Uniform",
    "fill",
    "fill_parallel",
    "key_of",
    "truncated_normal",
    "value_at",
]

_SLICE = _numba.SLICE


def key_of(rng: RNG) -> tuple[np.uint64, np.uint64]:
    """Return a generator's key, in the one type that does not make Numba compile again.

    Parameters
    ----------
    rng : int, SeedSequence, Generator, or None
        As `fastinit.default_rng` takes them. Its position is yours to keep: `start`.

    Raises
    ------
    TypeError, ValueError
        If `rng` is none of these.

    Examples
    --------
    >>> fi.numba.key_of(42) == fi.default_rng(42).key
    True
    """
    k0, k1 = as_generator(rng).key
    return np.uint64(k0), np.uint64(k1)


def truncated_normal(
    mean: float, std: float, low: float, high: float, dtype: DTypeLike = "float32"
) -> Central:
    """Return a truncated normal to be handed to jitted functions; it cannot be made in one.

    Parameters
    ----------
    mean, std, low, high : float
        As `fastinit.truncated_normal_` takes them: the bounds in standard deviations.
    dtype : dtype
        Of the arrays it is for: its numbers are what the bounds are rounded to, inwards.

    Raises
    ------
    TypeError, ValueError
        As `fastinit.truncated_normal_`.

    Examples
    --------
    >>> two_sigma = fi.numba.truncated_normal(0.0, 0.02, -2.0, 2.0)
    >>> x = np.empty(1000, np.float32)
    >>> fi.numba.fill(x, fi.numba.key_of(42), 0, two_sigma)
    >>> x.tobytes() == fi.truncated_normal(1000, 0.0, 0.02, rng=42).tobytes()
    True
    """
    distribution = truncated_normal_distribution(mean, std, low, high)
    _, params = in_dtype(distribution, as_dtype(dtype))
    return _numba_fill.interval(params)


@njit  # type: ignore[untyped-decorator]
def fill(out: Any, key: Any, start: Any, distribution: Any) -> None:
    """Fill an array with the values at `start`, `start` + 1, ...; on the calling thread.

    Parameters
    ----------
    out : array, Float16, BFloat16, Float8E4M3FN or Float8E5M2
        C-contiguous, of any shape.
    key : tuple of two uint64
        See `key_of`.
    start : int
        The first element's index.
    distribution : Normal, Uniform, or what `truncated_normal` returns
        `Normal` and `Uniform` may be made in jitted code.

    Examples
    --------
    >>> x = np.empty(5, np.float32)
    >>> fi.numba.fill(x, fi.numba.key_of(42), 0, fi.numba.Uniform(-1.0, 1.0))
    >>> x.tobytes() == fi.uniform(5, -1, 1, rng=42).tobytes()
    True
    """
    line = _numba.memory_of(out).reshape(-1)
    _numba.write(line, out, start, key, distribution, _numba.room_for(out))


@njit(parallel=True)  # type: ignore[untyped-decorator]
def fill_parallel(out: Any, key: Any, start: Any, distribution: Any) -> None:
    """Fill an array as `fill` does, on Numba's threads.

    Not inside a `prange` of your own: there each iteration may call `fill`.

    Parameters
    ----------
    out, key, start, distribution
        As in `fill`.

    Examples
    --------
    >>> bits = np.empty((300, 200), np.uint16)
    >>> w = fi.numba.BFloat16(bits)
    >>> fi.numba.fill_parallel(w, fi.numba.key_of(42), 0, fi.numba.Normal(0.0, 0.02))
    >>> x = fi.normal((300, 200), 0.0, 0.02, rng=42, dtype="bfloat16")
    >>> x.tobytes() == bits.tobytes()
    True
    """
    line = _numba.memory_of(out).reshape(-1)
    for s in prange((len(line) - 1) // _SLICE + 1):
        part = line[s * _SLICE : (s + 1) * _SLICE]
        room = _numba.room_for(out)
        _numba.write(part, out, np.uint64(start) + np.uint64(s * _SLICE), key, distribution, room)


@njit  # type: ignore[untyped-decorator]
def value_at(key: Any, index: Any, distribution: Any, dtype: Any) -> Any:
    """Return the value at one index, of a tensor that need not exist.

    Parameters
    ----------
    key, distribution
        As in `fill`.
    index : int
        The element's index.
    dtype : numpy.float32 or numpy.float64
        The tensor's; narrower ones hold the rounded float32 value.

    Examples
    --------
    >>> key = fi.numba.key_of(42)
    >>> x = fi.numba.value_at(key, 2**60, fi.numba.Normal(0.0, 1.0), np.float32)
    >>> x == fi.default_rng(42).advance(2**60).standard_normal(dtype="float32")
    True
    """
    return _numba.value_of(key, index, distribution, dtype)
