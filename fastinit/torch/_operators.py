"""PyTorch's operators as a mode meets them: what a schema says of one, and its arguments.

The dispatcher hands over an operator's arguments in tuples, lists and dicts alone, so that these
functions need to know no other containers. PyTorch's own, which know any container, take three
times as long, and a model's construction within `deferred` took a fifth more time with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch

from fastinit.torch._private import operator_arguments

Leaf = TypeVar("Leaf")

# Operators that keep nothing of what was in the memory that they write.
_REPLACING = {
    "bernoulli_",
    "cauchy_",
    "copy_",
    "exponential_",
    "fill_",
    "geometric_",
    "log_normal_",
    "normal_",
    "random_",
    "uniform_",
    "zero_",
}

# What an operator writes although its schema does not say so.
_UNSAID = {"native_batch_norm": ("running_mean", "running_var")}


class Traits(NamedTuple):
    """What an operator's schema says of it."""

    name: str
    written: tuple[tuple[int, str], ...]  # the arguments that it writes
    outs: frozenset[str]  # of these, the ones that it does not read
    takes_tensors: bool
    takes_device: bool
    random: bool
    moves_memory: bool  # what it changes is which memory a tensor shows


@cache
def traits_of(operator: Any) -> Traits:
    """Return what an operator's schema says of it."""
    name, arguments = operator.overloadpacket.__name__, operator_arguments(operator)
    written = tuple(
        (i, a.name)
        for i, a in enumerate(arguments)
        if (a.alias_info and a.alias_info.is_write) or a.name in _UNSAID.get(name, ())
    )
    return Traits(
        name,
        written,
        frozenset(n for i, n in written if arguments[i].is_out or name in _REPLACING),
        any("Tensor" in str(a.type) for a in arguments),
        any(a.name == "device" for a in arguments),
        torch.Tag.nondeterministic_seeded in operator.tags,
        torch.Tag.inplace_view in operator.tags,
    )


def map_leaves(function: Callable[[Any], Any], arguments: Any) -> Any:
    """Return an operator's arguments with what a function makes of each in its place."""
    kind = type(arguments)
    if kind is tuple or kind is list:
        return kind([map_leaves(function, each) for each in arguments])
    if kind is dict:
        return {key: map_leaves(function, each) for key, each in arguments.items()}
    return function(arguments)


def leaves_of(kind: type[Leaf], arguments: Iterable[Any]) -> list[Leaf]:
    """Return what is of a kind among an operator's arguments, in order."""
    found: list[Leaf] = []
    for each in arguments:
        if isinstance(each, kind):
            found.append(each)
        elif type(each) is tuple or type(each) is list:
            found += leaves_of(kind, each)
        elif type(each) is dict:
            found += leaves_of(kind, each.values())
    return found


def written_by(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """Return the arguments that an operator writes."""
    named = traits_of(operator).written
    return leaves_of(torch.Tensor, [args[i] if i < len(args) else kwargs.get(n) for i, n in named])
