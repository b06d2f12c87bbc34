"""What a recipe is: tensors, and the rules that say which initializer each of them gets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.initializer import Initializer
from fastinit.random import default_rng
from fastinit.recipe._advice import suggestion
from fastinit.recipe._expressions import Expression, RecipeError
from fastinit.recipe._patterns import fits, match, template
from fastinit.recipe._tensor import FLOAT_DTYPES, Tensor, as_dtype
from fastinit.recipe._values import Values

_DTYPE_KEYS = ("dtype", "torch_dtype")  # of a config.json


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
    exclude : tuple of str
        Patterns of the names that the rule is not about, although they fit `pattern`.

    Examples
    --------
    >>> print(Rule("*.weight", fi.Initializer("normal", std=0.02)))
    normal(std=0.02)
    """

    pattern: str
    initializer: Initializer
    ndim: int | None = None
    variables: Mapping[str, float] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()

    def bind(self, name: str, shape: tuple[int, ...] = ()) -> Rule:
        """Return this rule for a tensor that it fits: each expression is replaced by its value.

        Expressions know the rule's variables, the numbers in the name, and `fan_in` and
        `fan_out` of the shape, whose axes are (out, in, ...) as PyTorch has them.

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
        try:
            numbers = match(self.pattern, name) or {}
        except ValueError as error:  # Python reads no number of thousands of digits
            raise RecipeError(f"the name {name!r}: {error}") from None
        variables = {**fans(shape), **self.variables, **numbers}
        values = {key: expression.value(variables) for key, expression in expressions.items()}
        bound = Initializer(self.initializer.name, **{**arguments, **values})
        return replace(self, initializer=bound)

    def whole_axes(self, tensor: Tensor) -> tuple[int, ...]:
        """Return the axes along which a part of a tensor costs as much as the whole.

        Examples
        --------
        >>> tensor = Tensor("h.weight", (8, 16), np.dtype("float32"))
        >>> Rule("*", fi.Initializer("orthogonal")).whole_axes(tensor)
        (1,)
        """
        return self.initializer.whole_axes(tensor.shape)

    def fits(self, tensor: Tensor) -> bool:
        """Return whether this rule is about a tensor.

        Examples
        --------
        >>> rule = Rule("*.bias", fi.Initializer("zeros"))
        >>> rule.fits(Tensor("h.bias", (3,), np.dtype("float32")))
        True
        """
        return (
            self.ndim in (None, len(tensor.shape))
            and fits(self.pattern, tensor.name)
            and not any(fits(pattern, tensor.name) for pattern in self.exclude)
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


def fans(shape: tuple[int, ...]) -> dict[str, float]:
    """Return fan_in and fan_out of a weight with the axes (out, in, ...); of a line, its length.

    Examples
    --------
    >>> fans((8, 4, 3, 3))
    {'fan_in': 36, 'fan_out': 72}
    """
    if len(shape) < 2:
        return dict.fromkeys(("fan_in", "fan_out"), math.prod(shape))
    return {"fan_in": math.prod(shape[1:]), "fan_out": shape[0] * math.prod(shape[2:])}


# What it takes to find all tensors' rules: characters of rules times characters of names, and so
# many more for each of either. A model of 10**5 tensors and 30 rules takes 3 * 10**10, and 20 s.
_EACH, _MOST_WORK = 64, 10**12


def _characters(rule: Rule) -> int:
    values = rule.initializer.arguments.values()
    expressions = sum(len(v.text) for v in values if isinstance(v, Expression))
    excluded = sum(_EACH + len(pattern) for pattern in rule.exclude)
    return _EACH + len(rule.pattern) + excluded + expressions


Origin = Rule | Values
"""Where a tensor's values come from."""


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
    values : mapping of str to Values
        What tensors hold instead of what a rule draws, by their names.
    """

    name: str
    text: str
    seed: int
    tensors: tuple[Tensor, ...]
    rules: tuple[Rule, ...]
    config: Mapping[str, Any]
    variables: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, Values] = field(default_factory=dict)

    def plan(self) -> list[tuple[Tensor, Origin]]:
        """Return each tensor with its rule or its values, after checking that these suit it.

        Raises
        ------
        RecipeError
            If there is no tensor, or one or more have no rule, or one that cannot fill them.

        Examples
        --------
        >>> tensor, rule = load("gpt2").plan()[0]
        >>> print(tensor.name, rule)
        transformer.wte.weight normal(std=0.02)
        """
        if not self.tensors:
            raise RecipeError(f"recipe {self.name!r} gives rules only; allowed: one with [tensors]")
        self._check_work()
        plan: list[tuple[Tensor, Origin]] = []
        faults: dict[str, list[str]] = {}
        # Which origins have been found to suit which shapes: the plan keeps them, and so their ids.
        sound: set[tuple[int, tuple[int, ...], np.dtype[Any]]] = set()
        for tensor in self.tensors:
            try:
                origin = self._origin_of(tensor)
                case = id(origin), tensor.shape, tensor.dtype
                if case not in sound:
                    origin.check(tensor)
                    sound.add(case)
                plan.append((tensor, origin))
            except RecipeError as error:
                faults.setdefault(template(tensor.name), []).append(str(error))
        if faults:
            raise RecipeError(_listed(faults))
        return plan

    def _check_work(self) -> None:
        """Raise if it would take hours to find each tensor's rule, as a foreign file may want."""
        rules = sum(map(_characters, self.rules))
        if rules * sum(_EACH + len(tensor.name) for tensor in self.tensors) > _MOST_WORK:
            raise RecipeError(
                f"recipe {self.name!r} has {len(self.rules):,} rules for {len(self.tensors):,} "
                "tensors, which would take hours to compare; allowed: fewer rules, of which each "
                "fits many tensors"
            )

    def _origin_of(self, tensor: Tensor) -> Origin:
        if tensor.name in self.values:
            return self.values[tensor.name]
        for rule in self.rules:
            if rule.fits(tensor):
                return rule.bind(tensor.name, tensor.shape)
        raise RecipeError(
            f"{tensor}: no rule of recipe {self.name!r} fits; give a recipe with a [[rule]] for "
            f"it, such as {suggestion(tensor)}"
        )

    def with_values(self, values: Mapping[str, Values]) -> Recipe:
        """Return this recipe with values for those of its tensors that no rule fits.

        Examples
        --------
        >>> load("gpt2").with_values({}).values
        {}
        """
        self._check_work()
        free = (t for t in self.tensors if not any(rule.fits(t) for rule in self.rules))
        return replace(self, values={t.name: values[t.name] for t in free if t.name in values})

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
        for tensor, origin in replace(self, tensors=tensors).plan():
            x = arrays[tensor.name]
            if isinstance(origin, Rule):
                origin.initializer.fill(x, rng=rng.stream(tensor.name), threads=threads)
            else:
                x[...] = origin.whole(tensor, rng)

    def astype(self, dtype: str) -> Recipe:
        """Return this recipe with its floating tensors in another dtype; others keep theirs.

        A config that names a dtype then names this one.

        Raises
        ------
        RecipeError
            If `dtype` is no floating dtype of a model's.

        Examples
        --------
        >>> load("gpt2").astype("float16").tensors[0].dtype
        dtype('float16')
        """
        if dtype not in FLOAT_DTYPES:
            raise RecipeError(f"dtype={dtype!r} is unknown; allowed: {', '.join(FLOAT_DTYPES)}")
        new = as_dtype(dtype)
        return replace(
            self,
            tensors=tuple(
                replace(t, dtype=new) if t.dtype.name in FLOAT_DTYPES else t for t in self.tensors
            ),
            config={k: dtype if k in _DTYPE_KEYS else v for k, v in self.config.items()},
        )


def _listed(faults: Mapping[str, list[str]]) -> str:
    """Return what is wrong with tensors; of those that differ in numbers alone, the first."""
    lines = [
        each[0] + (f" (and {len(each) - 1} more like it)" if len(each) > 1 else "")
        for each in faults.values()
    ]
    if len(lines) == 1:
        return lines[0]
    n = sum(map(len, faults.values()))
    return f"{n} tensors cannot be filled:\n  " + "\n  ".join(lines)
