"""A model's own rules as a recipe: what its modules would draw, noted instead of drawn.

The model stays on the meta device. Its rules run as in `initialize`, and each fill of a tensor
is taken down; the recipe then does what `initialize` does, bit for bit, without the model.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn

from fastinit import recipe as recipes
from fastinit.random import default_rng
from fastinit.torch import init
from fastinit.torch._initialize import numpys, plan_of
from fastinit.torch._writes import Write, whole


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
    plan = plan_of(model, default_rng(0))
    rules = {}
    for n, tensor in tensors.items():
        rule = _rule(plan.writes(n), tuple(tensor.shape)) if plan.has(n) else None
        if rule is not None:
            rules[n] = rule
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


def _rule(writes: list[Write] | None, shape: tuple[int, ...]) -> _Rule | None:
    """Return the rule that writes amount to; None if no recipe can say it."""
    if not writes or writes[0].box != whole(shape):
        return None
    rule, *rows = ((_of(write), write.box) for write in writes)
    if not rows:
        return rule[0]
    ((row, box),) = rows if len(rows) == 1 else ((None, ()),)
    if rule[0] is None or rule[0].init != "normal" or row != _Rule("zeros", ()):
        return None
    mean, std = (value for _, value in rule[0].arguments)
    at = box[0].start
    if mean != 0 or box != (slice(at, at + 1), *whole(shape)[1:]):
        return None
    return _Rule("embedding", (("padding", at), ("std", std)))


def _of(write: Write) -> _Rule | None:
    """Return the rule of one write."""
    if write.rng is not None:
        return None
    if write.kind is not None:
        init_name, names = _INITS[write.kind]
        return _Rule(init_name, tuple(zip(names, map(float, write.params), strict=True)))
    (value,) = write.params
    if value in (0, 1):
        return _Rule("ones" if value else "zeros", ())
    return _Rule("constant", (("value", value),))


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
