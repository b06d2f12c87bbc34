"""What a model consists of: tensors, and the dtypes that they can have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fastinit._fill import as_dtype as known_dtype

# The dtypes of a model's tensors, and their codes in a safetensors header. This one table is
# what is written, read, shown and allowed in recipes. The format has no complex128.
FLOAT_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
DTYPES = FLOAT_DTYPES | {
    "float8_e8m0fnu": "F8_E8M0",  # powers of two: the scales of blocks of narrow numbers
    "complex64": "C64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}


def as_dtype(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of one of `DTYPES`, ml_dtypes' among them.

    Raises
    ------
    TypeError
        If it needs ml_dtypes, which is missing.

    Examples
    --------
    >>> as_dtype("float8_e8m0fnu").itemsize
    1
    """
    if name != "float8_e8m0fnu":
        return known_dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(f"dtype={name!r} needs the package ml_dtypes") from None
    known: np.dtype[Any] = np.dtype(ml_dtypes.float8_e8m0fnu)
    return known


@lru_cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return ``dtype.name``, which NumPy puts together anew for each of 10**5 tensors.

    Examples
    --------
    >>> dtype_name(np.dtype("float32"))
    'float32'
    """
    return dtype.name


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model: its name, shape and dtype.

    Examples
    --------
    >>> Tensor("wte.weight", (50257, 768), np.dtype("float32")).nbytes
    154389504
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"tensor {self.name!r} ({self.dtype.name}, {self.shape})"
