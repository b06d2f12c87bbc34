"""Arrays of others in a GPU's memory, as the door takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class _Interface:
    """An object with NumPy's array interface."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface


def array_at(
    address: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    itemsize: int,
    readonly: bool = False,
) -> NDArray[Any]:
    """Return an array that stands for memory of a GPU: for all checks, and never to be read.

    NumPy looks at the memory of an array when its values are asked for, not when it is made. The
    elements are unsigned integers, as the kernels are told the dtype besides.
    """
    return np.asarray(
        _Interface(
            {
                "version": 3,
                "shape": shape,
                "typestr": np.dtype(f"u{itemsize}").str,
                "data": (address or itemsize, readonly),  # memory without elements has no address
                "strides": strides,
            }
        )
    )
