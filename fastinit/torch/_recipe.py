"""A model's own rules as a recipe: its construction is noted instead of done.

The model is built within `deferred`, and what `initialize` would do to each tensor becomes the
rule of its name. What is more than a rule can say is written as `initialize` does it.
"""

from __future__ import annotations

import json
import math
import random as pythons
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from fastinit import recipe as recipes
from fastinit.initializer import Initializer
from fastinit.random import Generator
from fastinit.recipe import RecipeError
from fastinit.recipe._toml import MOST_TENSORS
from fastinit.torch import init
from fastinit.torch._deferred import deferred
from fastinit.torch._devices import array_of
from fastinit.torch._initialize import numpys, plan_of
from fastinit.torch._names import named, named_in, slots_of, tied_names, walk
from fastinit.torch._plan import Plan
from fastinit.torch._writes import Write, whole, write_part


def recipe_of(
    make: Callable[[], nn.Module],
    title: str,
    config: Mapping[str, Any],
    first: recipes.Recipe | None = None,
) -> recipes.Recipe:
    """Return a model's tensors, and how its author's code initialises them.

    Parameters
    ----------
    make : callable
        Builds the model, on the CPU.
    title : str
        The recipe's name.
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
    with _fixed_seeds(), _at_most(MOST_TENSORS), deferred():
        model = make()
    plan = plan_of(model)
    if plan.is_led_by_draws:
        raise RecipeError("the construction of the model depends on random values")
    rules: dict[str, Initializer] = {}
    values: dict[str, recipes.Values] = {}
    held = named(model)
    tensors = {name: (own, held[own]) for name, own in _stored(model, plan).items()}
    for name, (own, _) in tensors.items():
        origin = _origin_of(plan, name, own)
        if isinstance(origin, Initializer):
            rules[name] = origin
        else:
            values[name] = origin
    # TOML takes more rules at its end, whatever it has before.
    head = first.text if first else f"name = {json.dumps(title)}"
    text = f"{head}\n\n{_text(rules, tensors)}"
    variables = first.variables if first else None
    known = tuple(
        recipes.Tensor(name, tuple(tensor.shape), numpys(tensor.dtype))
        for name, (_, tensor) in tensors.items()
    )
    recipe = recipes.parse(text, title, variables)
    recipe = replace(recipe, tensors=known, config=config)
    asked = first.rules if first else ()
    free = {t.name for t in known if not any(rule.fits(t) for rule in asked)}
    return replace(recipe, values={n: v for n, v in values.items() if n in free})


@contextmanager
def _at_most(tensors: int) -> Iterator[None]:
    """Raise RecipeError when a model gets more parameters: a foreign config may ask for any."""
    thread, made = threading.get_ident(), count(1)

    def see(*_: object) -> None:
        if threading.get_ident() == thread and next(made) > tensors:
            raise RecipeError(f"a model of more than {tensors:,} tensors; allowed: at most these")

    handle = register_module_parameter_registration_hook(see)
    try:
        yield
    finally:
        handle.remove()


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


def _stored(model: nn.Module, plan: Plan) -> dict[str, str]:
    """Return the name of each tensor that a checkpoint of the model holds, and that in the plan.

    Raises
    ------
    RecipeError
        If its state holds something else than its tensors.
    """
    modules = walk(model)
    tied = tied_names(modules)
    planned = {id(tensor): name for name, tensor in named_in(slots_of(modules), tied).items()}
    names: dict[object, str] = {}
    known: dict[str, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in planned:
            kind = type(tensor).__name__
            raise RecipeError(f"{name!r} of the model's state is a {kind}, not a tensor of it")
        known[name] = own = planned[id(tensor)]
        memory = plan.view(own) if plan.has(own) else own
        if memory not in names or (names[memory] in tied and name not in tied):
            names[memory] = name
    kept = {*names.values()}
    return {name: own for name, own in known.items() if name in kept}


_UNSET = (
    "the model's code leaves it as memory was: nobody initialises it; give a recipe with a "
    "[[rule]] for it"
)


def _origin_of(plan: Plan, name: str, own: str) -> Initializer | recipes.Values:
    """Return where the values of a tensor come from, by its name in a file and in the plan."""
    if not plan.has(own):
        return recipes.Missing(_UNSET)
    writes, view = plan.writes(own), plan.view(own)
    computed = recipes.Computed(partial(_compute, plan, own), plan.seeded(own))
    if writes is None:
        return computed
    if not writes:  # nothing to write
        return Initializer("zeros")
    rule = _rule_of(writes, name, view.shape)
    if view.dtype.is_complex and not _draws_complex(rule):
        return computed
    return _Written(tuple(writes), plan.seeded(own)) if rule is None else rule


def _compute(plan: Plan, name: str, root: Generator) -> NDArray[Any]:
    with _one_at_a_time:
        return as_array(plan.value(name, root).contiguous())


# PyTorch's generator, which computed tensors are drawn with, is one for all threads.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class _Written(recipes.Values):
    """Draws and constants in boxes of a tensor, or what is drawn for another tensor."""

    writes: tuple[Write, ...]
    seeded: bool

    def check(self, tensor: recipes.Tensor) -> None:
        """Refuse nothing: the model's code gives the shape."""

    def box(self, tensor: recipes.Tensor, root: Generator, box: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part of a tensor, as `Values.box`."""
        shape = [side.stop - side.start for side in box]
        part = torch.empty(shape, dtype=getattr(torch, tensor.dtype.name))
        write_part(part, box, tensor.shape, self.writes, root)
        return as_array(part)

    def __str__(self) -> str:
        return "drawn by the model's code, part by part"


def as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """Return a tensor's values as an array of the dtype that a checkpoint has for it."""
    if tensor.dtype in (torch.bool, torch.complex64) or not tensor.is_floating_point():
        array: NDArray[Any] = tensor.numpy()
        return array
    return array_of(tensor).view(numpys(tensor.dtype))


_NAMES = {
    init.UNIFORM: ("uniform", ("low", "high")),
    init.NORMAL: ("normal", ("mean", "std")),
    init.TRUNCATED: ("truncated_normal", ("mean", "std", "low", "high")),
    init.NORMAL_WITHIN: ("trunc_normal", ("mean", "std", "a", "b")),
}


def _rule_of(writes: Sequence[Write], name: str, shape: tuple[int, ...]) -> Initializer | None:
    """Return the initializer that a tensor's writes amount to, if there is one."""
    first, box = writes[0], whole(shape)
    if first.box != box or (first.call is not None and not _is_own(first, name)):
        return None
    params = tuple(map(float, first.params))
    if first.kind is None:
        return _constant(params[0]) if len(writes) == 1 else None
    if len(writes) == 1:
        if first.kind is init.NORMAL and params[1] == 0:
            return _constant(params[0])
        if first.kind is init.UNIFORM and params[0] == params[1]:
            return _constant(params[0])
        function, arguments = _NAMES[first.kind]
        return Initializer(function, **dict(zip(arguments, params, strict=True)))
    if len(writes) > 2 or len(shape) < 2 or first.kind is not init.NORMAL or params[0]:
        return None
    padding = writes[1].box[0].start
    row = (slice(padding, padding + 1), *box[1:])
    if writes[1].kind is not None or any(writes[1].params) or writes[1].box != row:
        return None
    return Initializer("embedding", padding=padding, std=params[1])


def _draws_complex(rule: Initializer | None) -> bool:
    """Return whether a rule gives complex numbers what PyTorch does: of others a disk, or none."""
    if rule is None or rule.name == "normal":
        return rule is not None and rule.arguments.get("mean") == 0
    return rule.name in ("zeros", "ones", "constant")


def _is_own(write: Write, name: str) -> bool:
    """Return whether a draw comes from the stream of a name."""
    assert write.call is not None
    return write.stream == name and write.call.args[3:] == (None, None)


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
        distinct = {rules.get(each) for each in names}
        lines = (
            {template: names[0]} if len(distinct) == 1 else {recipes.escaped(n): n for n in names}
        )
        for line, each in lines.items():
            if each in rules:
                patterns[rules[each]].append(line)
    parts = []
    for rule, fitting in patterns.items():
        arguments = "".join(f"{key} = {value!r}\n" for key, value in rule.arguments.items())
        listed = "".join(f"    {json.dumps(line)},\n" for line in fitting)
        parts.append(f'[[rule]]\npattern = [\n{listed}]\ninit = "{rule.name}"\n{arguments}')
    return "\n".join(parts)
