"""The allocating form of each in-place initializer: ``name_(x, ...)`` -> ``name(shape, ...)``.

Each follows from the in-place function by itself, with its signature and its documentation. Their
types stand in `_allocating.pyi`, which `docs/make_stubs.py` writes and a test compares.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numpy.typing import DTypeLike, NDArray

from fastinit import formulas, initializers, structured
from fastinit._arguments import Shape
from fastinit._errors import SHAPE_AND_DTYPE, renamed, type_error
from fastinit._fill import empty

_EXAMPLES = {
    "constant": "(2, 4), 0.5",
    "sparse": "(2, 4), 0.5",
    "log_uniform": "(2, 4), 0.001, 0.1",
    "geomspace": "(2, 4), 1, 1e-4",
}

_SHAPE_AND_DTYPE = """shape : int or tuple of int
    The shape of the new array.
dtype : dtype
    The type of its elements, by name or as NumPy's dtype. "bfloat16" and the two float8 types
    need the package ml_dtypes."""

# The array's name in a sentence, and not in a formula. The pattern begins with what is looked for,
# since the search is then several times as fast.
_X = re.compile(r" x(?<=[a-z;] x)(?=[ ,.;:])(?! [-+*/=])")

_ONE = inspect.Parameter.POSITIONAL_OR_KEYWORD


def expanded(in_place: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return what an in-place function takes after its array, with the options it hands on."""
    parameters = list(inspect.signature(in_place).parameters.values())[1:]
    if not parameters or parameters[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return parameters
    return [*parameters[:-1], *_options()]


@lru_cache
def _options() -> list[inspect.Parameter]:
    parameters = inspect.signature(initializers.variance_scaling_).parameters.values()
    return [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def _signature(in_place: Callable[..., Any]) -> inspect.Signature:
    parameters = expanded(in_place)
    first = [p for p in parameters if p.kind is _ONE]
    shape = inspect.Parameter("shape", _ONE, annotation="Shape")
    dtype = inspect.Parameter(
        "dtype", inspect.Parameter.KEYWORD_ONLY, default="float32", annotation="DTypeLike"
    )
    return inspect.Signature(
        [shape, *first, dtype, *parameters[len(first) :]], return_annotation="NDArray[Any]"
    )


def _documentation(name: str, doc: str) -> str:
    """Return the in-place function's docstring, about a new array."""
    doc = doc.replace("\n    ", "\n").rstrip()  # inspect.cleandoc takes a third of all the time
    doc = re.sub(r"\AFill (?:the \w+ )?x\b", "Return a new array, filled", doc)
    doc = re.sub(r"^x : .*\n(?:    .*\n)+", f"{_SHAPE_AND_DTYPE}\n", doc, count=1, flags=re.M)
    doc = re.sub(r"^array\n    `x`\.$", "ndarray\n    The new array.", doc, count=1, flags=re.M)
    doc = doc.replace("; then nothing was written", "").replace("x's dtype", "the dtype")
    doc = _X.sub(" the array", doc)
    begin = doc.index("Examples\n--------\n")
    call = _EXAMPLES.get(name, "(2, 4)")
    return f"{doc[:begin]}Examples\n--------\n>>> fi.{name}({call}).shape\n(2, 4)\n"


def allocating(name: str, in_place: Callable[..., Any]) -> Callable[..., NDArray[Any]]:
    """Return the function that makes an array of a shape and fills it by `in_place`."""
    signature = _signature(in_place)
    allowed = frozenset(list(signature.parameters)[1:]) - {"dtype"}

    def allocate(
        shape: Shape, *args: Any, dtype: DTypeLike = "float32", **kwargs: Any
    ) -> NDArray[Any]:
        for key in kwargs:
            if key not in allowed:
                raise type_error(
                    f"{name}() got an unexpected keyword argument {key!r}; "
                    f"allowed: {', '.join(signature.parameters)}"
                )
        array = empty(shape, dtype)
        try:
            in_place(array, *args, **kwargs)
        except (TypeError, ValueError) as error:
            raise renamed(error, {**SHAPE_AND_DTYPE, f"{name}_": name}) from None
        return array

    allocate.__code__ = allocate.__code__.replace(co_name=name)  # tracebacks and errors show it
    allocate.__name__ = allocate.__qualname__ = name
    allocate.__module__ = "fastinit"
    allocate.__doc__ = _documentation(name, in_place.__doc__ or "")
    allocate.__signature__ = signature  # type: ignore[attr-defined]
    return allocate


def _is_initializer(name: str, value: object) -> bool:
    # blocks_ fills by another initializer, which it is given.
    return inspect.isfunction(value) and name.endswith("_") and name != "blocks_"


IN_PLACE: dict[str, Callable[..., Any]] = {
    name.removesuffix("_"): function
    for name, function in sorted((vars(initializers) | vars(structured) | vars(formulas)).items())
    if not name.startswith("_") and _is_initializer(name, function)
}
"""Every in-place initializer, aliases too, by its name without the underscore."""

_made = {
    function: allocating(function.__name__.removesuffix("_"), function)
    for function in dict.fromkeys(IN_PLACE.values())
}
globals().update({name: _made[function] for name, function in IN_PLACE.items()})
__all__ = sorted(IN_PLACE)
