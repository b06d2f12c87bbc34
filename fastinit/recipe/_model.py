"""What a recipe is: tensors, and the rules that say which initializer each of them gets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit._fill import as_dtype
from fastinit.initializer import Initializer
from fastinit.random import default_rng
from fastinit.recipe._expressions import Expression, RecipeError
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
    """A pattern of names, and the initializer of the tensors whose name fits it.

    Parameters
    ----------
    pattern : str
        A shell pattern (``*``, ``?``, ``[...]``) on the whole name; case matters.
    initializer : Initializer
        Its arguments may be expressions, which depend on the numbers in a tensor's name; see
        `bind`.
    ndim : int, optional
        Only tensors with so many axes.
    variables : mapping
        What the expressions know beside the numbers in a name.

    Examples
    --------
    >>> print(Rule("*.weight", fi.Initializer("normal", std=0.02)))
    normal(std=0.02)
    """

    pattern: str
    initializer: Initializer
    ndim: int | None = None
    variables: Mapping[str, float] = field(default_factory=dict)

    def bind(self, name: str) -> Rule:
        """Return this rule for a tensor that it fits: each expression is replaced by its value.

        Raises
        ------
        RecipeError
            If an expression has no value.

        Examples
        --------
        >>> print(parse('''name = "x"
        ... [[rule]]
        ... pattern = "h.{layer}.w"
        ... init = "normal"
        ... std = "1 / (layer + 1)"''').rules[0].bind("h.3.w"))
        normal(std=0.25)
        """
        arguments = self.initializer.arguments
        expressions = {k: v for k, v in arguments.items() if isinstance(v, Expression)}
        if not expressions:
            return self
        match = regex(self.pattern).fullmatch(name)
        numbers = {k: int(v) for k, v in match.groupdict().items()} if match else {}
        variables = {**self.variables, **numbers}
        values = {key: expression.value(variables) for key, expression in expressions.items()}
        bound = Initializer(self.initializer.name, **{**arguments, **values})
        return replace(self, initializer=bound)

    def fits(self, tensor: Tensor) -> bool:
        """Return whether this rule is about a tensor.

        Examples
        --------
        >>> rule = Rule("*.bias", fi.Initializer("zeros"))
        >>> rule.fits(Tensor("h.bias", (3,), np.dtype("float32")))
        True
        """
        return self.ndim in (None, len(tensor.shape)) and bool(
            regex(self.pattern).fullmatch(tensor.name)
        )

    def check(self, tensor: Tensor) -> None:
        """Raise if this rule cannot fill a tensor; allocate nothing of its size.

        Raises
        ------
        RecipeError
            With the initializer's own reason.

        Examples
        --------
        >>> rule = Rule("*", fi.Initializer("normal"))
        >>> rule.check(Tensor("h.weight", (2**20, 2**20), np.dtype("float32")))
        """
        try:
            self.initializer.check(tensor.shape, tensor.dtype)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{tensor}: rule {self.pattern!r}: {self}: {error}") from None

    def __str__(self) -> str:
        return str(self.initializer)


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
        rng = default_rng(self.seed if seed is None else seed)
        for tensor, rule in replace(self, tensors=tensors).plan():
            rule.initializer.fill(arrays[tensor.name], rng=rng.stream(tensor.name), threads=threads)

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
