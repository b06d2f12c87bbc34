"""Will it train? `fastinit.diagnostics.probe` for a PyTorch model as it is, by hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastinit import random
from fastinit._arguments import shown
from fastinit._errors import type_error, value_error
from fastinit._fill import is_sharded
from fastinit.diagnostics import Probe, Signal, _verdict, histograms
from fastinit.recipe import Recipe, load
from fastinit.torch._private import tree_flatten
from fastinit.torch._signals import ADVICE, advised, signals_of
from fastinit.torch._streaming import Streaming, only, stacks
from fastinit.torch._tensor import RandomSource, generator_of

Loss = Callable[[Any], Tensor]


def probe(
    model: nn.Module,
    batch: Any,
    loss: Loss,
    *,
    seed: RandomSource = 0,
    compare: Sequence[Recipe | str | Path | None] = (None,),
    layers: slice | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Probe:
    """Push a batch through a model and its loss's gradient back; say whether it will train.

    The model's depth is its stack: the longest run of children of one class in a ModuleList or
    Sequential, such as a transformer's blocks. What enters and leaves each of them is x_0 to
    x_L. A model without a stack has its layers instead, the modules that hold weights and no
    other modules, in the order of their calls; x_0 is then what enters the first. The model is
    not changed: its hooks, its gradients, its buffers and the random state are as before.

    A model on the meta device is probed as `initialize` would fill it, and is never whole in
    memory: each block's weights are drawn before its use, dropped after it, and drawn again on
    the way back, some rows at a time for a large embedding or output layer. What it takes is the
    largest block, its largest gradient, and the activations between the blocks, for any number
    of blocks. All stacks are probed then, such as an encoder and a decoder, one signal for each.

    Parameters
    ----------
    model : torch.nn.Module
        In whatever mode it should be probed; dropout is random unless it is in `eval` mode.
    batch : tensor, mapping or sequence
        The model's input: a mapping is handed over by keyword, a tuple or list by position.
    loss : callable
        From the model's output to a scalar tensor.
    seed : int, torch.Generator, fastinit.Generator, or None
        As in `initialize`; only for a model on the meta device.
    compare : sequence of Recipe, str, Path or None
        Rules to probe one after the other, only for a model on the meta device: None stands for
        the model's own, the others are as in `initialize`.  The variables that a built-in recipe
        needs (layers, width) are those of the model.
    layers : slice, optional
        Which blocks of each stack to run, such as ``slice(0, 2)`` or ``slice(-2, None)``; the
        others are left out, as if they handed on what they got. Only for a model on the meta
        device. The blocks keep their names, thus their values, and recipes count all blocks.
    progress : callable
        Called with the number of weights that a step went through: each weight that is drawn
        once on the way forward, and three times that on the way back.

    Returns
    -------
    fastinit.diagnostics.Probe
        One `Signal`, of one seed, named after the model's class. `dead` is the fraction of
        units (the last axis, channels of images) that are 0 for the whole batch; weights and
        their gradients are all those inside the layer together. There is no saturation, no
        Jacobian and no theory: of an unknown model's activations nothing is known. A model on
        the meta device has `Signal.inside` too: the loss, each parameter and its gradient, each
        block's branch, its activations, the entropy of attention and the load of experts.

    Raises
    ------
    TypeError, ValueError
        If the model has no two layers, its loss is no scalar, or depends on no layer; if a tensor
        on the meta device has no rule; if the batch is not on the CPU, where such a model's weights
        are drawn; if the model has DTensors, of which each process holds a part.
    KeyboardInterrupt
        After Ctrl-C; if anything was measured by then, its attribute `probe` has it.

    References
    ----------
    A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3:
    the growth along the residual path, and the scaling against it.

    Examples
    --------
    >>> def layer():
    ...     return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
    >>> model = torch.nn.Sequential(*[layer() for _ in range(20)])
    >>> signals = probe(model, torch.randn(32, 64), lambda y: y.square().mean())
    >>> signals["Sequential"].verdict.kind  # PyTorch's own start keeps a sixth of the variance
    'vanishing'

    The same of a model that takes no memory:

    >>> with torch.device("meta"):
    ...     model = torch.nn.Sequential(*[layer() for _ in range(20)])
    >>> probe(model, torch.randn(32, 64), lambda y: y.square().mean())["Sequential"].verdict.kind
    'vanishing'
    """
    _check_kinds(model, loss, seed, compare, progress)
    _check_place(model, batch)
    if any(parameter.is_meta for parameter in model.parameters()):
        rules = [None if each is None else recipe_for(model, each) for each in compare]
        with only(model, layers):
            return _drawn(model, batch, loss, generator_of(seed), rules, progress)
    if tuple(compare) != (None,) or layers is not None:
        given = f"layers={layers!r}" if layers is not None else f"compare={compare!r}"
        raise value_error(f"{given} needs a model on the meta device; this one's weights are given")
    seen = _stack(model) or _leaves(model)
    with _unchanged(model), torch.enable_grad(), _recorded(seen) as calls:
        value = loss(_call(model, batch))
        if not isinstance(value, Tensor) or value.ndim:
            raise type_error(f"loss gave {value!r}; it must be a scalar tensor")
        return Probe(None, (_signal(model, seen, calls, value),))


class _Call(NamedTuple):
    """A layer's first call: what went in and came out."""

    name: str
    entered: Tensor
    left: Tensor
    weights: list[Tensor]


def _drawn(
    model: nn.Module,
    batch: Any,
    loss: Loss,
    root: random.Generator,
    compare: Sequence[Recipe | None],
    progress: Callable[[int], object],
) -> Probe:
    """Probe a model on the meta device, by its own rules or by recipes."""
    signals: list[Signal] = []
    for rules in compare:
        name = type(model).__name__ if rules is None else rules.name
        run = Streaming(model, root, rules, progress)
        try:
            with _unchanged(model):
                run.run(lambda: _call(model, batch), loss)
        except KeyboardInterrupt as interrupt:
            signals += signals_of(run, name)
            if signals:
                interrupt.probe = Probe(None, tuple(signals))  # type: ignore[attr-defined]
            raise
        signals += signals_of(run, name)
    if not signals:
        raise value_error("model has no layer with weights that was called; allowed: one or more")
    return Probe(None, advised(signals))


def _check_kinds(
    model: object, loss: object, seed: RandomSource, compare: object, progress: object
) -> None:
    """Raise TypeError or ValueError if an argument is of another kind than `probe` takes."""
    if not isinstance(model, nn.Module):
        raise type_error(f"model={shown(model)} must be a torch.nn.Module")
    for name, given in (("loss", loss), ("progress", progress)):
        if not callable(given):
            raise type_error(f"{name}={shown(given)} must be a function")
    if isinstance(compare, str) or not isinstance(compare, Sequence):
        raise type_error(f"compare={shown(compare)} must be a sequence of recipes, or of None")
    if not (seed is None or isinstance(seed, torch.Generator)):
        generator_of(seed)


def _check_place(model: nn.Module, batch: Any) -> None:
    """Raise if the model or the batch is none, or is where no probe can be made."""
    for name, parameter in model.named_parameters():
        if is_sharded(parameter):
            raise value_error(
                f"model has the DTensor {name}, of which each process holds a part; allowed: "
                "a model that one process holds, or one on the meta device that is not distributed"
            )
    if any(parameter.is_meta for parameter in model.parameters()):
        for x in tree_flatten(batch)[0]:
            if isinstance(x, Tensor) and x.device.type != "cpu":
                raise value_error(
                    f"batch is on {x.device}; allowed for a model on the meta device: cpu, where "
                    "its weights are drawn"
                )


def recipe_for(model: nn.Module, rules: Recipe | str | Path) -> Recipe:
    """Return a recipe's rules, with what the model says of the variables that they need."""
    if isinstance(rules, Recipe):
        return rules
    config = getattr(model, "config", None)
    known = {
        name: getattr(config, attribute)
        for name, attribute in _VARIABLES.items()
        if isinstance(getattr(config, attribute, None), int)
    }
    known["layers"] = max(map(len, stacks(model).values()), default=1)
    return load(rules, None, known)


_VARIABLES = {
    "width": "hidden_size",
    "hidden": "intermediate_size",
    "heads": "num_attention_heads",
    "key": "head_dim",
    "vocabulary": "vocab_size",
}
"""From a recipe's variables to the names that transformers has for them."""


def _stack(model: nn.Module) -> dict[str, nn.Module]:
    """Return the longest run of children of one class, by name; empty if none is a run."""
    return max(stacks(model).values(), key=len, default={})


def _leaves(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: module
        for name, module in model.named_modules()
        if not list(module.children()) and _weights(module)
    }


def _weights(module: nn.Module) -> list[Tensor]:
    """Return its parameters but biases and scales, which say nothing of the start."""
    return [p for p in module.parameters() if p.ndim > 1 and p.requires_grad]


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put back what a forward pass changes: buffers (running means) and the random state."""
    # What is on the meta device has no values, and a write would be noted as the model's own.
    buffers = {name: b.clone() for name, b in model.named_buffers() if not b.is_meta}
    with torch.random.fork_rng():
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    if name in buffers:
                        buffer.copy_(buffers[name])


@contextmanager
def _recorded(layers: Mapping[str, nn.Module]) -> Iterator[list[_Call]]:
    """Record each layer's first call while the model runs."""
    calls: list[_Call] = []
    handles = [
        layer.register_forward_hook(_hook(name, calls), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, calls: list[_Call]) -> Callable[..., Any]:
    def record(layer: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        entered = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
        left = output[0] if isinstance(output, tuple) else output
        if entered is None or not isinstance(left, Tensor) or any(c.name == name for c in calls):
            return None
        calls.append(_Call(name, entered, left, _weights(layer)))
        # What follows may work in place (nn.ReLU(inplace=True)): let it have a copy.
        return (left.clone(), *output[1:]) if isinstance(output, tuple) else left.clone()

    return record


def _call(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def _signal(
    model: nn.Module, layers: Mapping[str, nn.Module], calls: Sequence[_Call], loss: Tensor
) -> Signal:
    if len(calls) < 2:
        raise value_error(
            f"model has {len(layers)} layers with weights, {len(calls)} of them called; "
            "allowed: two or more"
        )
    stream = [calls[0].entered, *(call.left for call in calls)]
    weights = [call.weights for call in calls]
    inside = {id(weight) for weight in chain(*weights)}
    others = [weight for weight in _weights(model) if id(weight) not in inside]
    gradients = iter(_gradients(loss, [*stream, *chain(*weights), *others]))
    by_stream = [next(gradients) for _ in stream]
    by_weight = [[next(gradients) for _ in group] for group in weights]
    elsewhere = _norm([next(gradients) for _ in others]) ** 2
    std = np.array([_std(x) for x in stream])
    gradient = np.array([_std(g) for g in by_stream])
    both = zip(chain(*weights), chain(*by_weight), strict=True)
    pairs = [(w, g) for w, g in both if g is not None]
    moved = any(bool(g.any()) for _, g in pairs)
    symmetric = any(_alike(w, g) and (bool(g.any()) or not moved) for w, g in pairs)
    weight_norm = np.array([_norm(group) for group in weights])
    loss_gradient = np.array([_norm(group) for group in by_weight])
    verdict = _verdict.judge(std, gradient, symmetric, weight_norm, loss_gradient, elsewhere)
    unknown = np.full((1, len(calls)), np.nan)
    return Signal(
        name=type(model).__name__,
        layers=("input", *(call.name for call in calls)),
        mean=np.array([[float(x.detach().double().mean()) for x in stream]]),
        std=std[None],
        gradient=gradient[None],
        saturation=unknown,
        dead=np.array([[_dead(x) for x in stream[1:]]]),
        weight_norm=weight_norm[None],
        gradient_norm=loss_gradient[None],
        loss_gradient=loss_gradient[None],
        singular_values=np.empty(0),
        histograms=tuple(histograms([x.detach().double().numpy(force=True) for x in stream])),
        theory=None,
        verdict=verdict,
        advice=ADVICE[verdict.kind],
    )


def _gradients(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """Return d loss / d tensor; None where the loss does not depend on it."""
    wanted = [x for x in tensors if x.requires_grad]
    if not loss.requires_grad:
        raise value_error("loss does not depend on the model's weights")
    gradients = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
    return [next(gradients) if x.requires_grad else None for x in tensors]


def _std(x: Tensor | None) -> float:
    """Return the standard deviation; NaN, which a trend leaves out, for what has none."""
    if x is None or not x.is_floating_point():
        return math.nan
    return float(x.detach().double().std(correction=0))


def _norm(tensors: Sequence[Tensor | None]) -> float:
    norms = (
        torch.linalg.vector_norm(x.detach(), dtype=torch.float64) for x in tensors if x is not None
    )
    return math.hypot(*map(float, norms))


def _dead(x: Tensor) -> float:
    """Return the fraction of units that are 0 for the whole batch."""
    units = 1 if x.ndim > 3 else x.ndim - 1  # channels come second in images
    return float((x.detach() == 0).movedim(units, -1).flatten(0, -2).all(dim=0).double().mean())


def _alike(weight: Tensor, gradient: Tensor) -> bool:
    """Return whether all outputs, or all inputs, have the same weights and gradients.

    Which axis is which differs: nn.Linear has (out, in), transformers' Conv1D (in, out).
    """
    w, g = (x.detach().float().numpy(force=True) for x in (weight, gradient))
    return _verdict.alike(w, g) or _verdict.alike(np.moveaxis(w, 0, -1), np.moveaxis(g, 0, -1))
