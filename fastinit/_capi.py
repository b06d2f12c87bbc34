"""The C interface for other libraries: its files, its addresses, and values without an array.

``docs/c-api.md`` says which interface to use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastinit import _kernels
from fastinit._arguments import choice, shown
from fastinit._distributions import (
    Distribution,
    normal_distribution,
    truncated_normal_distribution,
    uniform_distribution,
)
from fastinit._errors import type_error, value_error
from fastinit._fill import as_dtype, float_format, in_dtype
from fastinit.random import RNG, as_generator

_DISTRIBUTION_NAMES = ("constant", "bits", "uniform", "normal", "truncated_normal")
_DTYPE_NAMES = (
    *("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
    *("uint8", "uint16", "uint32", "uint64"),
)


class CAPI(NamedTuple):
    """Addresses of the C interface, valid for the life of the process; see `capi`."""

    abi: int
    stream: str
    isa: str
    table: int
    fill: int
    truncate: int
    orthogonal: int
    kernels: dict[tuple[str, str], int]


def get_include() -> str:
    """Return the directory of ``fastinit.h``, for a compiler's ``-I``.

    Next to it, in ``../src``, is all that a C library without Python is built from.

    Examples
    --------
    >>> import os
    >>> os.path.isfile(os.path.join(fi.get_include(), "fastinit.h"))
    True
    """
    return os.path.join(os.path.dirname(__file__), "include")


def capi() -> CAPI:
    """Return the addresses of the C functions, for ctypes, cffi and the like.

    Their types are those of ``fastinit.h``: a `fi_kernel` for each pair of distribution and
    dtype in `kernels`, and the members `fill`, `truncate` and `orthogonal` of `table`, a
    `fi_table`. They need no lock on the interpreter.

    Examples
    --------
    >>> import ctypes
    >>> class Key(ctypes.Structure):
    ...     _fields_ = [("k0", ctypes.c_uint64), ("k1", ctypes.c_uint64)]
    >>> kernel = ctypes.CFUNCTYPE(
    ...     None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64, Key, ctypes.c_void_p
    ... )(fi.capi().kernels["normal", "float32"])
    >>> x, params = (ctypes.c_float * 5)(), (ctypes.c_double * 2)(0.0, 0.02)
    >>> kernel(x, 5, 0, Key(*fi.default_rng(42).key), params)
    >>> list(x) == fi.normal(5, 0.0, 0.02, rng=42).tolist()
    True
    """
    addresses = _kernels.addresses()
    kernels = {
        (distribution, dtype): address
        for distribution in _DISTRIBUTION_NAMES
        for dtype in _DTYPE_NAMES
        if (address := _kernels.kernel_address(_code(distribution), _code(dtype)))
    }
    return CAPI(_kernels.ABI, _kernels.STREAM, _kernels.isa(), *addresses, kernels)


def _code(name: str) -> int:
    code: int = getattr(_kernels, name.upper())
    return code


# What draws, and its parameters unless given.
_DISTRIBUTIONS: dict[str, tuple[Callable[..., Distribution], dict[str, float]]] = {
    "uniform": (uniform_distribution, {"low": 0.0, "high": 1.0}),
    "normal": (normal_distribution, {"mean": 0.0, "std": 1.0}),
    "truncated_normal": (
        truncated_normal_distribution,
        {"mean": 0.0, "std": 1.0, "low": -2.0, "high": 2.0},
    ),
}


def values_at(
    rng: RNG,
    indices: ArrayLike,
    distribution: str = "normal",
    *,
    dtype: DTypeLike = "float32",
    **params: float,
) -> Any:
    """Return the values at any indices of a tensor that need not exist.

    Element ``(i0, i1, ...)`` of a tensor filled by a new generator has the index that
    `numpy.ravel_multi_index` says. Runs of consecutive indices are the fastest.

    Parameters
    ----------
    rng : int, SeedSequence, Generator, or None
        Whose key; as `default_rng` takes them. A `Generator`'s position does not matter, and
        stays.
    indices : array of int
        From 0 to 2**63 - 1, in any order and any shape.
    distribution : {"normal", "uniform", "truncated_normal"}
        What is drawn.
    dtype : dtype
        Of the tensor.
    **params
        mean, std, low and high, as `normal_`, `uniform_` and `truncated_normal_` take them.

    Returns
    -------
    ndarray or scalar
        Of the indices' shape and the dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> w = fi.normal((1000, 1000), std=0.02, rng=42)
    >>> at = np.ravel_multi_index(([3, 999], [5, 999]), w.shape)
    >>> bool((fi.values_at(42, at, std=0.02) == w[[3, 999], [5, 999]]).all())
    True
    """
    choice("distribution", distribution, _DISTRIBUTIONS)
    make, defaults = _DISTRIBUTIONS[distribution]
    for name in params.keys() - defaults.keys():
        raise type_error(
            f"{name} is no parameter of {distribution}; allowed: {', '.join(defaults)}"
        )
    drawn = make(**{**defaults, **params})
    at = _indices(indices)
    known = as_dtype(dtype)
    float_format(known, said="dtype=")
    out = np.empty(at.shape, known)
    code, numbers = in_dtype(drawn, out.dtype)
    _kernels.gather(drawn.kernel, code, out, at.reshape(-1), as_generator(rng).key, numbers)
    return out[()]


def _indices(indices: ArrayLike) -> np.ndarray[Any, np.dtype[np.uint64]]:
    at = np.array(indices)  # a copy: another thread may change them once they are checked
    if at.size == 0:
        return at.astype(np.uint64)
    if at.dtype.kind not in "iu":
        raise type_error(f"indices={shown(indices)} must be integers, 0 to 2**63 - 1")
    if int(at.min()) < 0 or int(at.max()) >= _kernels.INDICES:
        raise value_error(f"indices={shown(indices)} must be 0 to 2**63 - 1")
    return np.ascontiguousarray(at, np.uint64).reshape(at.shape)
