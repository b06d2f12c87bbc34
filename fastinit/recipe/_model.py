"""What a recipe is: tensors, and the rules that say which initializer each of them gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastinit
from fastinit._fill import as_dtype
from fastinit.initializers import ScalingOptions
from fastinit.recipe._expressions import RecipeError, evaluate
from fastinit.recipe._patterns import regex

# The dtypes of a model's tensors, and their codes in a safetensors header.
FLOATS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
DTYPES = FLOATS | {
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

_DTYPE_KEYS = ("dtype", "torch_dtype")  # of a config.json


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


@dataclass(frozen=True)
class Rule:
    """The initializer for the tensors whose name fits a pattern.

    Parameters
    ----------
    pattern : str
        A shell pattern (``*``, ``?``, ``[...]``) on the whole name; case matters.
    init : str
        One of fastinit's in-place functions, without its underscore.
    arguments : mapping
        What that function takes by keyword.
    ndim : int, optional
        Only tensors with so many axes.
    expressions : mapping
        More arguments, which depend on the numbers in a tensor's name; see `bind`.
    variables : mapping
        What the expressions know beside those.

    Examples
    --------
    >>> print(Rule("*.weight", "normal", {"std": 0.02}))
    normal(std=0.02)
    """

    pattern: str
    init: str
    arguments: Mapping[str, Any]
    ndim: int | None = None
    expressions: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, float] = field(default_factory=dict)

    def bind(self, name: str) -> Rule:
        """Return this rule for a tensor that it fits: without expressions.

        Raises
        ------
        RecipeError
            If an expression has no value.

        Examples
        --------
        >>> print(Rule("h.{layer}.w", "normal", {}, None, {"std": "1 / (layer + 1)"}).bind("h.3.w"))
        normal(std=0.25)
        """
        if not self.expressions:
            return self
        match = regex(self.pattern).fullmatch(name)
        numbers = {k: int(v) for k, v in match.groupdict().items()} if match else {}
        variables = {**self.variables, **numbers}
        values = {key: evaluate(text, variables) for key, text in self.expressions.items()}
        return replace(self, arguments={**self.arguments, **values}, expressions={})

    @property
    def parts(self) -> bool:
        """Whether a part of a tensor can be drawn for about its share of the whole's cost."""
        return self.init not in _WHOLE

    def fits(self, tensor: Tensor) -> bool:
        """Return whether this rule is about a tensor.

        Examples
        --------
        >>> Rule("*.bias", "zeros", {}).fits(Tensor("h.bias", (3,), np.dtype("float32")))
        True
        """
        return self.ndim in (None, len(tensor.shape)) and bool(
            regex(self.pattern).fullmatch(tensor.name)
        )

    def fill(self, x: NDArray[Any], **options: Any) -> None:
        """Fill x in place.

        Parameters
        ----------
        x : array
            What the initializer takes.
        **options
            Any of rng, threads, backend, global_shape and offset, used if the initializer knows it.

        Raises
        ------
        TypeError, ValueError
            As the initializer.

        Examples
        --------
        >>> x = np.empty(3, np.float32)
        >>> Rule("*", "ones", {}).fill(x, rng=1)
        """
        function = initializers()[self.init]
        known = keywords(function)
        function(x, **self.arguments, **{k: v for k, v in options.items() if k in known})

    def check(self, tensor: Tensor) -> None:
        """Raise if this rule cannot fill a tensor; allocate nothing of its size.

        Raises
        ------
        RecipeError
            With the initializer's own reason.

        Examples
        --------
        >>> Rule("*", "normal", {}).check(Tensor("h.weight", (2**20, 2**20), np.dtype("float32")))
        """
        corner = (0,) * len(tensor.shape)
        try:
            self.fill(
                np.empty(corner, tensor.dtype), rng=0, global_shape=tensor.shape, offset=corner
            )
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{tensor}: rule {self.pattern!r}: {self}: {error}") from None

    def __str__(self) -> str:
        shown = ", ".join(
            f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v!r}"
            for k, v in {**self.arguments, **self.expressions}.items()
        )
        return f"{self.init}({shown})"


@dataclass(frozen=True)
class Recipe:
    """A model's tensors and the rules that initialise them.

    Parameters
    ----------
    name : str
        For people.
    text : str
        The TOML that the rules came from.
    seed : int
        Used unless another is given.
    tensors : tuple of Tensor
        In any order; names are unique. Empty where a recipe gives rules only.
    rules : tuple of Rule
        The first that fits a tensor is its rule.
    config : dict
        The model's ``config.json``; empty if not known.
    variables : mapping
        The numbers that the text was read with.
    """

    name: str
    text: str
    seed: int
    tensors: tuple[Tensor, ...]
    rules: tuple[Rule, ...]
    config: Mapping[str, Any]
    variables: Mapping[str, float] = field(default_factory=dict)

    def plan(self) -> list[tuple[Tensor, Rule]]:
        """Return each tensor with its rule, after checking that the rule can fill it.

        Raises
        ------
        RecipeError
            If there is no tensor, no rule for a tensor, or a rule cannot fill its tensor.

        Examples
        --------
        >>> tensor, rule = load("gpt2").plan()[0]
        >>> print(tensor.name, rule)
        transformer.wte.weight normal(std=0.02)
        """
        if not self.tensors:
            raise RecipeError(f"recipe {self.name!r} gives rules only; allowed: one with [tensors]")
        plan = [(tensor, self._rule_for(tensor)) for tensor in self.tensors]
        for tensor, rule in plan:
            rule.check(tensor)
        return plan

    def _rule_for(self, tensor: Tensor) -> Rule:
        for rule in self.rules:
            if rule.fits(tensor):
                return rule.bind(tensor.name)
        raise RecipeError(
            f"{tensor}: no rule of recipe {self.name!r} fits; give a recipe with a [[rule]] for it"
        )

    def fill(
        self,
        arrays: Mapping[str, NDArray[Any]],
        *,
        seed: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Fill a model's arrays in place, each by its rule and from the stream of its name.

        They get the values that `fastinit.checkpoint.write` writes for tensors of these names.

        Parameters
        ----------
        arrays : mapping of str to array
            The names that the rules know, and what to fill.
        seed : int, optional
            The recipe's if not given.
        threads : int, optional
            See `fastinit.set_num_threads`; the values do not depend on it.

        Raises
        ------
        RecipeError
            If an array has no rule, or its rule cannot fill it; then nothing was written.

        Examples
        --------
        >>> arrays = {"h.0.weight": np.empty((4, 4), np.float32), "h.0.bias": np.empty(4)}
        >>> load("default").fill(arrays, seed=1)
        >>> arrays["h.0.bias"]
        array([0., 0., 0., 0.])
        """
        tensors = tuple(Tensor(name, x.shape, x.dtype) for name, x in arrays.items())
        rng = fastinit.default_rng(self.seed if seed is None else seed)
        for tensor, rule in replace(self, tensors=tensors).plan():
            rule.fill(arrays[tensor.name], rng=rng.stream(tensor.name), threads=threads)

    def astype(self, dtype: str) -> Recipe:
        """Return this recipe with its floating tensors in another dtype; others keep theirs.

        A config that names a dtype then names this one.

        Raises
        ------
        RecipeError
            If `dtype` is not float64, float32, float16 or bfloat16.

        Examples
        --------
        >>> load("gpt2").astype("float16").tensors[0].dtype
        dtype('float16')
        """
        if dtype not in FLOATS:
            raise RecipeError(f"dtype={dtype!r} is unknown; allowed: {', '.join(FLOATS)}")
        new = as_dtype(dtype)
        return replace(
            self,
            tensors=tuple(
                replace(t, dtype=new) if t.dtype.name in FLOATS else t for t in self.tensors
            ),
            config={k: dtype if k in _DTYPE_KEYS else v for k, v in self.config.items()},
        )


# Each value depends on a whole matrix, or on a whole line of it.
_WHOLE = ("orthogonal", "delta_orthogonal", "sparse")

# What the caller of a rule decides, not the rule.
GIVEN = ("rng", "threads", "backend", "global_shape", "offset")


@cache
def initializers() -> dict[str, Callable[..., Any]]:
    names = fastinit.__all__  # an in-place function with an allocating one beside it
    return {name: getattr(fastinit, f"{name}_") for name in names if f"{name}_" in names}


@cache
def keywords(function: Callable[..., Any]) -> dict[str, object]:
    """Return what an initializer takes after its array, with the defaults."""
    parameters = list(signature(function).parameters.values())[1:]
    keywords = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    if len(keywords) < len(parameters):  # it hands the rest on to variance_scaling_
        keywords |= dict.fromkeys(ScalingOptions.__annotations__)
    return keywords
