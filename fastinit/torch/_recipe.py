"""A model's own rules as a recipe: its construction is noted instead of done.

The model is built without memory, see `fastinit.torch._construction`. What its author's code draws
becomes a rule, and is drawn from the stream of the tensor's name; what the code computes is
computed by that code again, for the seed that is asked for.
"""

from __future__ import annotations

import json
import math
import random as pythons
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastinit import recipe as recipes
from fastinit.initializer import Initializer
from fastinit.random import Generator
from fastinit.recipe import RecipeError
from fastinit.torch._construction import Computed, Content, Draw, Place, Tape, recording
from fastinit.torch._devices import array_of
from fastinit.torch._initialize import numpys


def recipe_of(
    make: Callable[[], nn.Module],
    name: str,
    config: Mapping[str, Any],
    first: recipes.Recipe | None = None,
) -> recipes.Recipe:
    """Return a model's tensors, and how its author's code initialises them.

    Parameters
    ----------
    make : callable
        Builds the model, on the CPU.
    name : str
        Of the recipe.
    config : mapping
        The model's ``config.json``.
    first : Recipe, optional
        Its rules and its seed come before the model's.

    Returns
    -------
    Recipe
        With the tensors of the model's `state_dict`, shared ones once.

    Examples
    --------
    >>> def make():
    ...     return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    >>> [str(rule) for _, rule in recipe_of(make, "small", {}).plan()]
    ['uniform(low=-0.5, high=0.5)', 'uniform(low=-0.5, high=0.5)', 'ones', 'zeros']
    """
    with _fixed_seeds(), recording() as tape:
        model = make()
    tensors = _stored(model, tape)
    noted = _Noted(tape, tensors)
    # TOML takes more rules at its end, whatever it has before.
    head = first.text if first else f"name = {json.dumps(name)}"
    text = f"{head}\n\n{_text(noted.rules, tensors)}"
    variables = first.variables if first else None
    known = tuple(recipes.Tensor(n, tuple(t.shape), numpys(t.dtype)) for n, t in tensors.items())
    recipe = recipes.parse(text, name, variables)
    recipe = replace(recipe, tensors=known, config=config)
    asked = first.rules if first else ()
    free = {t.name for t in known if not any(rule.fits(t) for rule in asked)}
    return replace(recipe, values={n: v for n, v in noted.values.items() if n in free})


@contextmanager
def _fixed_seeds() -> Iterator[None]:
    """Give Python's and NumPy's generators a fixed state, for constructors that draw from them."""
    states = pythons.getstate(), np.random.get_state()  # noqa: NPY002
    pythons.seed(0)
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        pythons.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _stored(model: nn.Module, tape: Tape) -> dict[str, torch.Tensor]:
    """Return what a checkpoint of the model holds.

    A tensor with several names has the one from which transformers ties the others: without it
    a loader takes the weight for missing. Otherwise it has its first.
    """
    state = {n: t for n, t in model.state_dict(keep_vars=True).items() if _is_tensor(n, t)}
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    names: defaultdict[Place, list[str]] = defaultdict(list)
    for name, tensor in state.items():
        names[tape.place(tensor)].append(name)
    kept = {next((n for n in alike if n not in tied), alike[0]) for alike in names.values()}
    return {name: tensor for name, tensor in state.items() if name in kept}


def _is_tensor(name: str, value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    raise RecipeError(f"{name!r} of the model's state is a {type(value).__name__}, not a tensor")


_ARGUMENTS = {
    "uniform": ("low", "high"),
    "normal": ("mean", "std"),
    "trunc_normal": ("mean", "std", "a", "b"),
}

_UNSET = (
    "the model's code leaves it as memory was: nobody initialises it; give a recipe with a "
    "[[rule]] for it"
)


class _Noted:
    """A tape's contents by name: `rules`, and `values` of what has no rule."""

    def __init__(self, tape: Tape, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tape = tape
        self._places = {name: tape.place(tensor) for name, tensor in tensors.items()}
        contents = {name: tape.content(tensor) for name, tensor in tensors.items()}
        self._owners = self._owned(contents)
        self._names = self._named(contents)
        rules = {name: _rule_of(content, tensors[name]) for name, content in contents.items()}
        self.rules = {name: rule for name, rule in rules.items() if rule is not None}
        self.values: dict[str, recipes.Values] = {}
        for name, content in contents.items():
            if isinstance(content, Computed):
                compute = partial(self._compute, name, content.operations)
                self.values[name] = recipes.Computed(compute, self._is_random(content))
            elif content is None:
                self.values[name] = recipes.Missing(_UNSET)

    def _is_random(self, content: Computed) -> bool:
        return any(self._tape.operations[i].random for i in content.operations)

    def _owned(self, contents: dict[str, Content]) -> dict[int, str]:
        """Return whose rule each draw is, where others have a share in it.

        A tensor that holds the draw itself owns it: what others compute of it, or copy, is
        computed from the stream of the owner's name. If none does, all of them are computed.
        """
        tape = self._tape
        owners: dict[int, str] = {}
        for name, content in contents.items():
            if isinstance(content, Draw) and content.operation in owners:
                contents[name] = tape.computed(self._places[name])
            elif isinstance(content, Draw):
                owners[content.operation] = name
        while True:
            shared = {
                i
                for content in contents.values()
                if isinstance(content, Computed)
                for i in content.operations
            }
            unfit = [
                (i, name)
                for i, name in owners.items()
                if i in shared and not self._is_itself(i, name, contents[name])
            ]
            if not unfit:
                return {i: name for i, name in owners.items() if i in shared}
            for i, name in unfit:
                del owners[i]
                contents[name] = tape.computed(self._places[name])

    def _is_itself(self, i: int, name: str, content: Content) -> bool:
        """Return whether a tensor's elements are those of an operation, in the same order."""
        (target,) = self._tape.operations[i].writes
        mine = self._places[name]
        plain = isinstance(content, Draw) and content.plain
        alike = mine.size == target.size and mine.side_by_side and target.side_by_side
        return plain and alike

    def _named(self, contents: dict[str, Content]) -> dict[int, str]:
        """Return a name for each draw that belongs to no tensor: it is the key of its values.

        It is that of the first tensor computed from it, and a number: so it stays the same
        if the model has more layers.
        """
        names: dict[int, str] = {}
        for name, content in contents.items():
            if isinstance(content, Computed):
                draws = [i for i in content.operations if self._tape.operations[i].random]
                for number, i in enumerate(draws):
                    names.setdefault(i, f"{name}()[{number}]")
        self._rules_of_owners = {
            i: _rule_of(contents[name], None) for i, name in self._owners.items()
        }
        return names

    def _compute(self, name: str, operations: tuple[int, ...], root: Generator) -> NDArray[Any]:
        with _one_at_a_time, torch.random.fork_rng(devices=[]):
            draw = partial(self._draw, root)
            tensor = self._tape.run(operations, self._places[name], draw).contiguous()
        if tensor.dtype.is_floating_point and bool(tensor.isnan().any()):
            raise RecipeError(f"tensor {name!r}: it depends on memory that nobody initialises")
        return as_array(tensor)

    def _draw(self, root: Generator, i: int, target: Callable[[], torch.Tensor]) -> bool:
        """Fill a tensor from its owner's stream, or prepare PyTorch's generator."""
        rule = self._rules_of_owners.get(i)
        if rule is None:
            torch.default_generator.manual_seed(root.stream(self._names[i]).key[0])
            return False
        rule.fill(as_array(target()), rng=root.stream(self._owners[i]))
        return True


# PyTorch's generator, which computed tensors are drawn with, is one for all threads.
_one_at_a_time = threading.Lock()


def as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor's values as an array of the dtype that a checkpoint has for it."""
    if tensor.dtype in (torch.bool, torch.complex64) or not tensor.is_floating_point():
        array: NDArray[Any] = tensor.numpy()
        return array
    return array_of(tensor).view(numpys(tensor.dtype))


def _rule_of(content: Content, tensor: torch.Tensor | None) -> Initializer | None:
    """Return the initializer that a content amounts to, if it does."""
    if isinstance(content, float):
        return _constant(content)
    if not isinstance(content, Draw):
        return None
    params = content.params
    if content.row is not None and tensor is not None:
        return Initializer("embedding", padding=content.row, std=params[1])
    if content.distribution == "normal" and params[1] == 0:
        return _constant(params[0])
    if content.distribution == "uniform" and params[0] == params[1]:
        return _constant(params[0])
    names = _ARGUMENTS[content.distribution]
    return Initializer(content.distribution, **dict(zip(names, params, strict=True)))


def _constant(value: float) -> Initializer:
    if value == 0 and math.copysign(1, value) > 0:
        return Initializer("zeros")
    if value == 1:
        return Initializer("ones")
    return Initializer("constant", value=int(value) if value and value.is_integer() else value)


def _text(rules: Mapping[str, Initializer], tensors: Iterable[str]) -> str:
    """Return rules: names that differ in numbers alone share a line if they share a rule."""
    alike = defaultdict(list)
    for tensor in tensors:
        alike[recipes.template(tensor)].append(tensor)
    patterns = defaultdict(list)
    for template, names in alike.items():
        found = {rules.get(each) for each in names}
        lines = {template: names[0]} if len(found) == 1 else {recipes.escaped(n): n for n in names}
        for line, each in lines.items():
            if each in rules:
                patterns[rules[each]].append(line)
    parts = []
    for rule, fitting in patterns.items():
        arguments = "".join(f"{key} = {value!r}\n" for key, value in rule.arguments.items())
        listed = "".join(f"    {json.dumps(line)},\n" for line in fitting)
        parts.append(f'[[rule]]\npattern = [\n{listed}]\ninit = "{rule.name}"\n{arguments}')
    return "\n".join(parts)
