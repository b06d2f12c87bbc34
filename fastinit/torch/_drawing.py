"""A model's weights for as long as they are used: drawn, measured, and their memory used again.

A weight is a function of its name and the seed, so that it need not be held: whoever needs it
again draws it again.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fastinit import random
from fastinit import recipe as recipes
from fastinit._errors import value_error
from fastinit.initializer import Initializer
from fastinit.recipe import Recipe
from fastinit.torch._devices import array_of
from fastinit.torch._initialize import initialize, numpys, plan_of
from fastinit.torch._names import named
from fastinit.torch._private import buffers_of, parameters_of
from fastinit.torch._writes import Write, write_part

ROWS = 2**26
"""Bytes of an embedding's or output layer's rows that are drawn at a time."""

# Sums are taken of lines of so many elements, and of many lines by one call: with a call for each
# 2^18 elements, the threads of two processes that shared the CPUs waited for each other five times
# as long as they summed. A chunk bounds what a conversion to float32 takes.
_LINE, _CHUNK = 2**12, 2**24

_ROUNDED = (
    2.0**-50
)  # of a mean's square: a variance below it is what rounding leaves of equal numbers


class Moments:
    """Count, sum and sum of squares of numbers that come in parts."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, x: Tensor) -> None:
        """Take in a tensor: in float32 within a line, in float64 over them."""
        for chunk in x.detach().reshape(-1).split(_CHUNK):
            part = chunk if chunk.dtype == torch.float64 else chunk.float()
            whole = part.numel() - part.numel() % _LINE
            for lines in (part[:whole].view(-1, _LINE), part[whole:].view(1, -1)):
                self.total += float(lines.sum(1).double().sum())
                norms = torch.linalg.vector_norm(lines, dim=1)
                self.squares += float(norms.double().square().sum())
        self.count += x.numel()

    @property
    def mean(self) -> float:
        """The mean; NaN if nothing came."""
        return self.total / self.count if self.count else math.nan

    @property
    def std(self) -> float:
        """The standard deviation; NaN if nothing came."""
        if not math.isfinite(self.squares) or not self.count:
            return math.nan if not self.count else math.inf
        variance = self.squares / self.count - self.mean**2
        return math.sqrt(variance) if variance > _ROUNDED * self.mean**2 else 0.0

    @property
    def norm(self) -> float:
        """The root of the sum of squares; NaN if nothing came."""
        return math.sqrt(self.squares) if self.count else math.nan


def moments(x: Tensor) -> Moments:
    """Return the moments of one tensor."""
    result = Moments()
    result.add(x)
    return result


class Weights:
    """Gives a model's tensors memory and values for a while, and the same memory to the next.

    Parameters
    ----------
    model : torch.nn.Module
        Its tensors on the meta device are those that are drawn.
    root : fastinit.Generator
        Each tensor is drawn from the stream of its name.
    rules : Recipe, optional
        Its rules come before the model's own.
    """

    def __init__(self, model: nn.Module, root: random.Generator, rules: Recipe | None) -> None:
        self._model, self._root, self._rules = model, root, rules
        self.drawing = False
        self._free: dict[tuple[Any, ...], list[Tensor]] = {}
        self._places: dict[str, list[tuple[dict[str, Any], str, Tensor]]] = {}
        first = {id(tensor): name for name, tensor in named(model).items()}
        for module in model.modules():
            for slots in (parameters_of(module), buffers_of(module)):
                for key, tensor in slots.items():
                    if tensor is not None:
                        place = (slots, key, tensor)
                        self._places.setdefault(first[id(tensor)], []).append(place)

    @contextmanager
    def drawn(self, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Within the context the tensors have memory and values; yield the parameters by name.

        Raises
        ------
        ValueError
            If one of them has no rule.
        """
        lent: dict[str, Tensor] = {}
        try:
            for name in names:
                meta = self._places[name][0][2]
                if isinstance(meta, nn.Parameter):
                    parameter = nn.Parameter(self._memory(meta), meta.requires_grad)
                    parameter.__dict__.update(meta.__dict__)  # marks that rules look at
                    lent[name] = parameter
                    for slots, key, _ in self._places[name]:
                        slots[key] = parameter
            self._fill(names)
            yield lent
        finally:
            for name in names:
                for slots, key, meta in self._places[name]:
                    slots[key] = meta
            for parameter in lent.values():
                self._free[_kind(parameter)].append(parameter.detach())

    def _memory(self, meta: Tensor) -> Tensor:
        free = self._free.setdefault(_kind(meta), [])
        return free.pop() if free else torch.empty_like(meta, device="cpu")

    def _fill(self, names: Sequence[str]) -> None:
        self.drawing = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it is an error here
                unruled = initialize(self._model, self._root, self._rules, only=names)
        finally:
            self.drawing = False
        if unruled:
            raise value_error(f"no rule initialises {', '.join(unruled)}; give a recipe")


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.dtype


class Cut:
    """A large embedding or output layer, of which some rows are drawn at a time.

    Parameters
    ----------
    name : str
        The parameter's.
    meta : Tensor
        The parameter, which has no memory.
    draw : callable
        Fills rows, given as a tensor, from the row of the number given.
    """

    def __init__(self, name: str, meta: Tensor, draw: Callable[[Tensor, int], object]) -> None:
        self.name, self.meta, self.shape, self._draw = name, meta, tuple(meta.shape), draw
        self._length = max(1, ROWS // (meta[0].numel() * meta.itemsize))
        self.weight, self.gradient = Moments(), Moments()
        self.uses: list[Callable[[int, int], Tensor]] = []
        """From bounds of rows to what a use of the weight gives to the gradient by them."""

    def bounds(self) -> Iterator[tuple[int, int]]:
        """Yield the bounds of the parts."""
        for first in range(0, self.shape[0], self._length):
            yield first, min(first + self._length, self.shape[0])

    def rows(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yield each part's bounds and values; the next part takes the memory of the last."""
        first_time = not self.weight.count
        length = min(self._length, self.shape[0])
        memory = torch.empty((length, *self.shape[1:]), dtype=self.meta.dtype, device="cpu")
        for first, last in self.bounds():
            part = memory[: last - first]
            self._draw(part, first)
            if first_time:
                self.weight.add(part)
            yield first, last, part

    def measure(self) -> None:
        """Add up the gradient that the uses give, part by part, and forget the uses."""
        for first, last in self.bounds() if self.uses else ():
            gradient = self.uses[0](first, last)
            for use in self.uses[1:]:
                gradient += use(first, last)
            self.gradient.add(gradient)
        self.uses = []


def draws_of(
    model: nn.Module, root: random.Generator, rules: Recipe | None, names: Sequence[str]
) -> dict[str, Callable[[Tensor, int], object]]:
    """Return by name what draws rows of a weight, for those of which that can be done."""
    draws: dict[str, Callable[[Tensor, int], object]] = {}
    tensors, plan = named(model), plan_of(model)
    for name in names:
        tensor = recipes.Tensor(name, tuple(tensors[name].shape), numpys(tensors[name].dtype))
        rule = next((r for r in rules.rules if r.fits(tensor)), None) if rules else None
        if rule is not None:
            initializer = rule.bind(name).initializer
            if 0 not in initializer.whole_axes(tensor.shape):
                draws[name] = partial(_by_rule, initializer, root.stream(name), tensor.shape)
        elif plan.has(name):
            writes = plan.writes(name)
            if writes is not None:
                draws[name] = partial(_by_writes, writes, root, tensor.shape)
    return draws


def _by_writes(
    writes: Sequence[Write],
    root: random.Generator,
    shape: tuple[int, ...],
    rows: Tensor,
    first: int,
) -> None:
    """Do a tensor's writes to some of its rows."""
    held = (slice(first, first + len(rows)), *map(partial(slice, 0), shape[1:]))
    write_part(rows, held, shape, writes, root)


def _by_rule(
    initializer: Initializer,
    rng: random.Generator,
    shape: tuple[int, ...],
    rows: Tensor,
    first: int,
) -> None:
    rng.move(0)
    array = array_of(rows).view(numpys(rows.dtype))
    initializer.fill(array, rng=rng, global_shape=shape, offset=(first, *[0] * (len(shape) - 1)))
