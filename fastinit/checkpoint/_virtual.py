"""Checkpoints that need not exist: any slice of any tensor, drawn when it is asked for."""

from __future__ import annotations

import operator
import re
from bisect import bisect_left
from dataclasses import replace
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit._settings import count_threads
from fastinit.checkpoint._blocks import Block, Drawer, blocks, in_order
from fastinit.recipe import Recipe, RecipeError, Tensor

Index = int | slice | EllipsisType


def values(
    recipe: Recipe,
    name: str,
    index: Index | tuple[Index, ...] = ...,
    *,
    seed: int | None = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Return a slice of a tensor of a checkpoint that need not exist.

    Nothing else of the tensor is held; of the elements between the first and the last along
    each axis, all are drawn.

    Parameters
    ----------
    recipe : Recipe
        From `load`.
    name : str
        The tensor's.
    index : int, slice, ..., or tuple of them
        As NumPy's basic indexing.
    seed : int, optional
        The recipe's if not given.
    threads : int, optional
        See `fastinit.set_num_threads`; the values do not depend on it.

    Returns
    -------
    ndarray
        What ``write`` writes there.

    Raises
    ------
    RecipeError
        If there is no such tensor, or a rule cannot fill it.
    IndexError
        If the tensor has no such slice.

    Examples
    --------
    >>> values(load("gpt2"), "transformer.ln_f.weight", slice(0, 3))
    array([1., 1., 1.], dtype=float32)
    """
    tensor = next((tensor for tensor in recipe.tensors if tensor.name == name), None)
    if tensor is None:
        raise RecipeError(f"recipe {recipe.name!r} has no tensor {name!r}; --dry-run lists them")
    ((_, rule),) = replace(recipe, tensors=(tensor,)).plan()
    drawer = Drawer(recipe.seed if seed is None else seed)
    axes = _axes(tensor, index)
    low = [axis.picked[0] if axis.picked else 0 for axis in axes]
    lengths = tuple(
        a.picked[-1] + 1 - lo if a.picked else 0 for a, lo in zip(axes, low, strict=True)
    )
    result = np.empty([len(axis.picked) for axis in axes], tensor.dtype)

    def pick(part: Block) -> None:
        """Draw a part of the box around what is asked for, and keep that."""
        at = tuple(o + lo for o, lo in zip(part.offset, low, strict=True))
        drawn = drawer.draw(Block.of(tensor, 0, part.shape, at), rule)
        source, target = [], []
        for axis, first, length in zip(axes, at, part.shape, strict=True):
            held = slice(*(bisect_left(axis.picked, edge) for edge in (first, first + length)))
            target.append(held)
            source.append(np.arange(length)[_slice(axis.picked[held], first)])
        result[tuple(target)] = drawn[np.ix_(*source)]

    # A part's values depend on its place alone, so the box may be cut as if it were a tensor.
    parts = blocks(Tensor(name, lengths, tensor.dtype), rule.whole_axes(tensor))
    for _ in in_order(pick, parts, count_threads(threads)):
        pass
    return np.asarray(result[tuple(axis.then for axis in axes)])


class _Axis(NamedTuple):
    """The indices that are asked for along an axis, ascending, and what to make of them."""

    picked: range
    then: int | slice


def _axes(tensor: Tensor, index: Index | tuple[Index, ...]) -> list[_Axis]:
    given = list(index) if isinstance(index, tuple) else [index]
    if ... not in given:
        given.append(...)
    at, more = given.index(...), len(tensor.shape) - len(given) + 1
    if more < 0 or given.count(...) > 1:
        raise IndexError(f"{tensor} has {len(tensor.shape)} axes, and not those of {index!r}")
    given[at : at + 1] = [slice(None)] * more
    return [_axis(tensor, length, i) for length, i in zip(tensor.shape, given, strict=True)]


def _axis(tensor: Tensor, length: int, i: Index) -> _Axis:
    if isinstance(i, slice):
        picked = range(length)[i]
        return _Axis(picked, slice(None)) if picked.step > 0 else _Axis(picked[::-1], _REVERSED)
    n = operator.index(i)  # type: ignore[arg-type]
    if not -length <= n < length:
        raise IndexError(f"{tensor}: there is no {n} among {length}")
    return _Axis(range(n % length, n % length + 1), 0)


_REVERSED = slice(None, None, -1)


def _slice(picked: range, first: int) -> slice:
    return slice(picked.start - first, picked.stop - first, picked.step) if picked else slice(0)


def parse(recipe: Recipe, text: str) -> tuple[str, tuple[Index, ...]]:
    """Return the tensor and the slice that a text such as ``h.0.weight[:3, -1]`` names.

    Raises
    ------
    RecipeError
        If it names none.

    Examples
    --------
    >>> parse(load("gpt2"), "transformer.wte.weight[0, :3]")
    ('transformer.wte.weight', (0, slice(None, 3, None)))
    """
    if any(tensor.name == text for tensor in recipe.tensors):  # a name may have brackets
        return text, (...,)
    match = re.fullmatch(r"(.*)\[([^\[\]]*)\]", text, re.DOTALL)
    if match is None:
        return text, (...,)
    return match[1], tuple(_parse_one(part.strip(), text) for part in match[2].split(","))


def _parse_one(part: str, text: str) -> Index:
    if part == "...":
        return ...
    if re.fullmatch(r"[+-]?[0-9]+", part):
        return int(part)
    match = re.fullmatch(r"([+-]?[0-9]+)?:([+-]?[0-9]+)?(?::([+-]?[0-9]+)?)?", part)
    if match is None or (match[3] and int(match[3]) == 0):
        raise RecipeError(f"{text!r}: {part!r} is no slice; allowed: such as 3, -1, :8, 2:9:3, ...")
    return slice(*(None if n is None else int(n) for n in match.groups()))
