"""The allocating form of an in-place function, which follows from it by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol

from numpy.typing import DTypeLike, NDArray

from fastinit._check import Shape
from fastinit._fill import empty

__all__ = ["Allocating", "allocating"]


class Allocating(Protocol):
    """An initializer that makes its array: ``(shape, ..., dtype="float32")``."""

    __name__: str

    def __call__(
        self, shape: Shape, *args: Any, dtype: DTypeLike = "float32", **kwargs: Any
    ) -> NDArray[Any]:
        """Return a new array of that shape and dtype, filled."""
        ...


_DOC = """Return a new array, filled by `{name}_`.

Parameters
----------
shape : int or tuple of int
    Of the new array.
dtype : dtype
    float32 unless given; "bfloat16" and the two float8 need the package ml_dtypes.
*args, **kwargs
    As `{name}_` takes them after its array.

Returns
-------
ndarray
    The array.

Raises
------
TypeError, ValueError
    If shape or dtype is not one, or as `{name}_`.

Examples
--------
>>> fi.{name}({example}).shape
(2, 4)
"""


def allocating(in_place: Callable[..., Any], example: str = "(2, 4)") -> Allocating:
    """Return the function that makes an array of a shape and fills it by `in_place`."""

    @wraps(in_place)
    def allocate(
        shape: Shape, *args: Any, dtype: DTypeLike = "float32", **kwargs: Any
    ) -> NDArray[Any]:
        x: NDArray[Any] = in_place(empty(shape, dtype), *args, **kwargs)
        return x

    name = in_place.__name__.removesuffix("_")
    allocate.__name__ = allocate.__qualname__ = name
    allocate.__doc__ = _DOC.format(name=name, example=example)
    signature = inspect.signature(in_place)
    parameters = list(signature.parameters.values())[1:]
    shape = inspect.Parameter("shape", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    dtype = inspect.Parameter("dtype", inspect.Parameter.KEYWORD_ONLY, default="float32")
    keywords = [p for p in parameters if p.kind is not p.POSITIONAL_OR_KEYWORD]
    allocate.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[shape, *(p for p in parameters if p not in keywords), dtype, *keywords],
        return_annotation=inspect.Signature.empty,
    )
    del allocate.__wrapped__, allocate.__annotations__  # those of the in-place function
    return allocate
