"""`Initializer`: one of the package's functions with its arguments, and the text that names it.

`recommend` returns one, a recipe's rule is a pattern and one, and the probe, the adapters and the
command line take one.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from fastinit import _arguments
from fastinit._allocating import IN_PLACE, expanded
from fastinit._arguments import Shape
from fastinit._errors import type_error, value_error, with_name
from fastinit._fill import as_dtype
from fastinit.random import RNG
from fastinit.structured import (
    delta_orthogonal_whole_axes,
    orthogonal_whole_axes,
    sparse_whole_axes,
)

T = TypeVar("T")

# What the caller of a fill decides, and not the initializer.
GIVEN = ("rng", "threads", "backend", "global_shape", "offset")

# Those of which a part of an axis costs as much as all of it, with the function that tells which.
_WHOLE_AXES: dict[str, Callable[..., tuple[int, ...]]] = {
    "orthogonal": orthogonal_whole_axes,
    "delta_orthogonal": delta_orthogonal_whole_axes,
    "sparse": sparse_whole_axes,
}

_LONGEST = 1000  # characters of a text: far more than any initializer needs


def registry() -> Mapping[str, Callable[..., Any]]:
    """Return all initializers: the in-place functions, each by its name without the underscore."""
    return _REGISTRY


_REGISTRY = MappingProxyType(IN_PLACE)


@cache
def parameters(name: str) -> Mapping[str, object]:
    """Return what an initializer takes after its array, with the defaults.

    A parameter without a default has `inspect.Parameter.empty`.
    """
    return MappingProxyType({p.name: p.default for p in expanded(registry()[name])})


class Initializer:
    """One of fastinit's initializers with its arguments: a value that can be kept and compared.

    Parameters
    ----------
    name : str
        One of the in-place functions without its underscore, such as ``"he_normal"``. The short
        names ``"he"``, ``"xavier"`` and ``"lecun"`` stand for their normal forms.
    **arguments
        What that function takes by keyword, but for rng, threads, backend, global_shape and
        offset, which are given to `fill`. A list becomes a tuple.

    Raises
    ------
    TypeError, ValueError
        If there is no such initializer or argument, or one that it needs is missing. Whether the
        values fit a tensor is known with its shape: see `check`.

    See Also
    --------
    recommend : which initializer for which layer.

    Examples
    --------
    >>> he = fi.Initializer("he_normal", nonlinearity="gelu")
    >>> he.fill(np.empty((256, 64), np.float32), rng=0).shape
    (256, 64)
    """

    __slots__ = ("_arguments", "_name")

    _name: str
    _arguments: Mapping[str, Any]

    def __new__(cls, name: str, /, **arguments: Any) -> Initializer:
        """Check the name and the arguments' names."""
        name = _SHORT.get(name, name) if isinstance(name, str) else name
        _arguments.choice("name", name, registry())
        allowed = {k: v for k, v in parameters(name).items() if k not in GIVEN}
        for key in arguments:
            if key in GIVEN:
                raise type_error(f"{key} is given to fill, and not to {name}")
            if key not in allowed:
                raise type_error(
                    f"{name} has no argument {_arguments.shown(key)}; "
                    f"allowed: {', '.join(allowed) or 'none'}"
                )
        for key, default in allowed.items():
            if default is inspect.Parameter.empty and key not in arguments:
                raise type_error(f"{name} needs the argument {key}")
        self = super().__new__(cls)
        kept = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_arguments", MappingProxyType(kept))
        return self

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Initializer does not change; {name} cannot be set")

    @property
    def name(self) -> str:
        """The in-place function's name without its underscore."""
        return self._name

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments by name; they cannot be changed."""
        return self._arguments

    @property
    def function(self) -> Callable[..., Any]:
        """The in-place function, such as `fastinit.he_normal_`."""
        return registry()[self._name]

    @property
    def random(self) -> bool:
        """Whether the values depend on the generator that `fill` is given."""
        return "rng" in parameters(self._name)

    @property
    def divisible(self) -> bool:
        """Whether a part of a tensor can be drawn for its share of the cost: true of all.

        For a few that holds only if the part has the whole of some axes: see `whole_axes`.
        """
        return True

    def whole_axes(self, shape: Shape) -> tuple[int, ...]:
        """Return the axes along which a part of a tensor costs as much as the whole.

        A tensor is cut along its other axes, so that each part takes its share of the time.

        Parameters
        ----------
        shape : int or tuple of int
            The whole tensor's shape, which `check` takes.

        Returns
        -------
        tuple of int
            Those of the longer side of a matrix of `orthogonal_` and `delta_orthogonal_`, and that
            along which `sparse_` counts zeros; none for all other initializers.

        Examples
        --------
        >>> fi.Initializer("orthogonal").whole_axes((8192, 1024))
        (0,)
        >>> fi.Initializer("normal").whole_axes((8192, 1024))
        ()
        """
        known = _WHOLE_AXES.get(self._name)
        return known(_arguments.shape("shape", shape), **self._arguments) if known else ()

    def fill(
        self,
        x: T,
        *,
        rng: RNG = None,
        threads: int | None = None,
        backend: str | None = None,
        global_shape: Shape | None = None,
        offset: Shape | None = None,
    ) -> T:
        """Fill x in place and return it: the same as calling the function.

        Parameters
        ----------
        x : array
            What the function takes: a writable array of a dtype that it knows.
        rng : int, SeedSequence, Generator, or None
            As `default_rng` takes them; a `Generator` moves on by the whole tensor's size. An
            initializer that is not random does not use it.
        threads : int, optional
            How many threads, 1 to 1024; see `set_num_threads`. The values do not depend on it.
        backend : {"c", "numba"}, optional
            Which kernels; see `set_backend`. The values do not depend on it.
        global_shape, offset : tuple of int, optional
            x is the part of a tensor of shape `global_shape` that begins at `offset`.

        Returns
        -------
        array
            `x`.

        Raises
        ------
        TypeError, ValueError
            As the function; then nothing was written.

        Examples
        --------
        >>> fi.Initializer("constant", value=0.5).fill(np.empty(2, np.float32))
        array([0.5, 0.5], dtype=float32)
        """
        options: dict[str, Any] = {
            "threads": threads,
            "backend": backend,
            "global_shape": global_shape,
            "offset": offset,
        }
        if self.random:
            options["rng"] = rng
        filled: T = self.function(x, **self._arguments, **options)
        return filled

    def check(self, shape: Shape, dtype: DTypeLike = "float32") -> None:
        """Raise what `fill` would raise for a tensor of that shape and dtype; allocate nothing.

        Parameters
        ----------
        shape : int or tuple of int
            The whole tensor's shape.
        dtype : dtype
            The tensor's dtype; float32 unless given.

        Raises
        ------
        TypeError, ValueError
            As `fill`.

        Examples
        --------
        >>> fi.Initializer("normal", std=0.02).check((2**20, 2**20), "bfloat16")
        """
        lengths = _arguments.shape("shape", shape)
        corner = (0,) * len(lengths)
        # An empty part of the whole: everything is checked, and there is nothing to write.
        self.fill(np.empty(corner, as_dtype(dtype)), rng=0, global_shape=lengths, offset=corner)

    @classmethod
    def parse(cls, text: str) -> Initializer:
        """Return the initializer that a text names.

        Parameters
        ----------
        text : str
            A name (``he_normal``, or short ``he``), a name and its arguments as in Python
            (``normal(std=0.02)``), or a name and one number (``normal:0.01``). The number is the
            standard deviation of normal and truncated_normal, the bound of uniform (on both sides
            of 0), the value of constant, and a gain for xavier, he, lecun and orthogonal.

        Returns
        -------
        Initializer
            ``parse(str(initializer))`` is equal to it.

        Raises
        ------
        TypeError, ValueError
            If the text is not of these forms, or as `Initializer`; the message lists the forms.

        Examples
        --------
        >>> fi.Initializer.parse("he"), fi.Initializer.parse("normal:0.01")
        (Initializer('he_normal'), Initializer('normal', std=0.01))
        """
        if not isinstance(text, str):
            raise type_error(f"text={_arguments.shown(text)} must be a str")
        if len(text) > _LONGEST:
            raise value_error(f"text has {len(text)} characters; allowed: {_LONGEST}")
        try:
            name, arguments = _parsed(text)
            initializer = cls(name, **arguments)
            if ":" in text and "(" not in text:
                initializer.check((1, 1))  # the number, which any weight refuses or takes
            return initializer
        except (TypeError, ValueError) as error:
            raise type(error)(with_name(f"text={_arguments.shown(text)}: {error}")) from None

    def __str__(self) -> str:
        if not self._arguments:
            return self._name
        return f"{self._name}({', '.join(f'{k}={v!r}' for k, v in self._arguments.items())})"

    def __repr__(self) -> str:
        parts = [repr(self._name), *(f"{k}={v!r}" for k, v in self._arguments.items())]
        return f"Initializer({', '.join(parts)})"

    def _key(self) -> tuple[object, frozenset[tuple[str, Any]]]:
        return self.function, frozenset(self._arguments.items())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Initializer):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Callable[..., Initializer], tuple[str, dict[str, Any]]]:
        return _restored, (self._name, dict(self._arguments))


def _restored(name: str, arguments: dict[str, Any]) -> Initializer:
    return Initializer(name, **arguments)


_SHORT = {"he": "he_normal", "xavier": "xavier_normal", "lecun": "lecun_normal"}


def _std(name: str) -> Callable[[float], tuple[str, dict[str, Any]]]:
    return lambda number: (name, {"std": number})


def _gain(name: str) -> Callable[[float], tuple[str, dict[str, Any]]]:
    return lambda number: (name, {"gain": number})


def _scaled(scale: float, distribution: str) -> Callable[[float], tuple[str, dict[str, Any]]]:
    """Return what a gain makes of a function that has no gain of its own."""
    return lambda number: (
        "variance_scaling",
        {"scale": scale * (number * number), "mode": "fan_in", "distribution": distribution},
    )


# What the number after a colon means.
_NUMBERS: dict[str, Callable[[float], tuple[str, dict[str, Any]]]] = {
    "constant": lambda number: ("constant", {"value": number}),
    "uniform": lambda number: ("uniform", {"low": -number, "high": number}),
    "normal": _std("normal"),
    "truncated_normal": _std("truncated_normal"),
    "xavier_normal": _gain("xavier_normal"),
    "xavier_uniform": _gain("xavier_uniform"),
    "xavier_truncated_normal": _gain("xavier_truncated_normal"),
    "orthogonal": _gain("orthogonal"),
    "he_normal": _scaled(2.0, "normal"),
    "he_uniform": _scaled(2.0, "uniform"),
    "he_truncated_normal": _scaled(2.0, "truncated_normal"),
    "lecun_normal": _scaled(1.0, "normal"),
    "lecun_uniform": _scaled(1.0, "uniform"),
    "lecun_truncated_normal": _scaled(1.0, "truncated_normal"),
}

FORMS = (
    "a name such as he_normal, he, xavier, orthogonal or zeros; with arguments such as "
    "normal(std=0.02); or with one number such as normal:0.02"
)
"""The forms that `Initializer.parse` takes, for messages and help."""


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    name, colon, digits = text.strip().partition(":")
    if colon and "(" not in name:
        return _numbered(_SHORT.get(name, name), digits)
    if "(" not in text:
        return text.strip(), {}
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)) or call.args:
            raise ValueError
        keywords = [(keyword.arg, ast.literal_eval(keyword.value)) for keyword in call.keywords]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise value_error(f"allowed: {FORMS}") from None
    arguments = {key: value for key, value in keywords if key is not None}
    if len(arguments) < len(keywords):  # ** or twice the same
        raise value_error(f"allowed: {FORMS}")
    return call.func.id, arguments


def _numbered(name: str, digits: str) -> tuple[str, dict[str, Any]]:
    if name not in _NUMBERS:
        allowed = ", ".join(_NUMBERS)
        raise value_error(f"no number may follow {_arguments.shown(name)}; allowed for {allowed}")
    try:
        number = float(digits)
    except ValueError:
        raise value_error(f"{digits!r} is not a number; allowed: {FORMS}") from None
    return _NUMBERS[name](number)
