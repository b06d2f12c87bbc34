"""A model's own rules as a recipe: what its modules would draw, noted instead of drawn.

The model stays on the meta device. Its rules run as in `initialize`, and each fill of a tensor
is taken down; the recipe then does what `initialize` does, bit for bit, without the model.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import nn

from fastinit import recipe as recipes
from fastinit.random import default_rng
from fastinit.torch import init
from fastinit.torch._accelerate import taking_over
from fastinit.torch._initialize import ByName, Home, geometry, named, numpys, run_rules


def recipe_of(
    model: nn.Module,
    name: str,
    config: Mapping[str, Any],
    first: recipes.Recipe | None = None,
) -> recipes.Recipe:
    """Return a model's tensors, and the rules by which its modules initialise them.

    Parameters
    ----------
    model : torch.nn.Module
        On the meta device.
    name : str
        Of the recipe.
    config : mapping
        The model's ``config.json``.
    first : Recipe, optional
        Its rules and its seed come before the modules'.

    Returns
    -------
    Recipe
        With the tensors of the model's `state_dict`, shared ones once. Where a module does what
        no recipe can say, there is no rule.

    Examples
    --------
    >>> with torch.device("meta"):
    ...     model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    >>> [str(rule) for _, rule in recipe_of(model, "small", {}).plan()]
    ['uniform(low=-0.5, high=0.5)', 'uniform(low=-0.5, high=0.5)', 'ones()', 'zeros()']
    """
    tensors = _stored(model)
    notes = _Notes(named(model))
    with torch.no_grad(), torch.random.fork_rng(devices=[]), taking_over(notes):
        run_rules(model, notes)
    rules = {n: note for n, note in notes.rules.items() if n in tensors and note is not None}
    # TOML takes more rules at its end, whatever it has before.
    text = f"{first.text if first else f'name = {json.dumps(name)}'}\n\n{_text(rules, tensors)}"
    variables = first.variables if first else None
    known = tuple(recipes.Tensor(n, tuple(t.shape), numpys(t.dtype)) for n, t in tensors.items())
    return replace(recipes.parse(text, name, variables), tensors=known, config=config)


def _stored(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return what a checkpoint of the model holds, each tensor under its first name."""
    tensors: dict[str, torch.Tensor] = {}
    seen = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor not in seen:
            seen.add(tensor)
            tensors[name] = tensor
    return tensors


class _Rule(NamedTuple):
    """What fills a tensor: a recipe's `init`, and its arguments."""

    init: str
    arguments: tuple[tuple[str, float], ...]


_INITS = {
    init.UNIFORM: ("uniform", ("low", "high")),
    init.NORMAL: ("normal", ("mean", "std")),
    init.TRUNCATED: ("truncated_normal", ("mean", "std", "low", "high")),
    init.NORMAL_WITHIN: ("trunc_normal", ("mean", "std", "a", "b")),
}


class _Notes(ByName):
    """Notes what is written to each tensor; None is what no recipe can say."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__(default_rng(0), tensors, set(tensors))
        self.rules: dict[str, _Rule | None] = {}

    def note(
        self, home: Home, func: Any, target: torch.Tensor | None, args: tuple[Any, ...]
    ) -> None:
        """Note a write, which takes the place of what was there."""
        if isinstance(func, FunctionType) and func is not init.draw:
            return  # torch's own functions in Python: they come back with what they call
        assert target is not None
        rule = _rule(func, args)
        if geometry(target) != geometry(home.tensor):
            rule = _with_row(self.rules.get(home.name), rule, home.tensor, target)
        self.rules[home.name] = rule

    def draw(self, tensor: torch.Tensor, *_: Any) -> torch.Tensor:
        """Draw nothing."""
        return tensor


def _rule(func: Any, args: tuple[Any, ...]) -> _Rule | None:
    """Return the rule that a call amounts to, if it fills the tensor that it is called for."""
    name = getattr(func, "__name__", "")
    if func is init.draw:
        _, kind, params, _ = args
        init_name, names = _INITS[kind]
        return _Rule(init_name, tuple(zip(names, map(float, params), strict=True)))
    if name == "zero_" or (name == "fill_" and args[1] == 0):
        return _Rule("zeros", ())
    if name == "fill_" and isinstance(args[1], (int, float)):
        return _Rule("ones", ()) if args[1] == 1 else _Rule("constant", (("value", args[1]),))
    return None


def _with_row(
    before: _Rule | None, row: _Rule | None, whole: torch.Tensor, part: torch.Tensor
) -> _Rule | None:
    """Return the rule of a tensor of which one row was written after the rest."""
    if before == row:
        return before
    if before is None or before.init != "normal" or row != _Rule("zeros", ()):
        return None
    mean, std = (value for _, value in before.arguments)
    line, at = whole.stride(0), part.storage_offset() - whole.storage_offset()
    if mean != 0 or part.shape != whole.shape[1:] or not part.is_contiguous() or at % line:
        return None
    return _Rule("embedding", (("padding", at // line), ("std", std)))


def _text(rules: Mapping[str, _Rule], tensors: Iterable[str]) -> str:
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
        arguments = "".join(f"{key} = {value!r}\n" for key, value in rule.arguments)
        listed = "".join(f"    {json.dumps(line)},\n" for line in fitting)
        parts.append(f'[[rule]]\npattern = [\n{listed}]\ninit = "{rule.init}"\n{arguments}')
    return "\n".join(parts)
