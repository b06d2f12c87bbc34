"""Will it train? `fastinit.diagnostics.probe` for a PyTorch model as it is, by hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastinit.diagnostics import Probe, Signal, _verdict, histograms

Loss = Callable[[Any], Tensor]


def probe(model: nn.Module, batch: Any, loss: Loss) -> Probe:
    """Push a batch through a model and its loss's gradient back; say whether it will train.

    The model's depth is its stack: the longest run of children of one class in a ModuleList or
    Sequential, such as a transformer's blocks. What enters and leaves each of them is x_0 to
    x_L. A model without a stack has its layers instead, the modules that hold weights and no
    other modules, in the order of their calls; x_0 is then what enters the first. The model is
    not changed: its hooks, its gradients, its buffers and the random state are as before.

    Parameters
    ----------
    model : torch.nn.Module
        In whatever mode it should be probed; dropout is random unless it is in `eval` mode.
    batch : tensor, mapping or sequence
        The model's input: a mapping is handed over by keyword, a tuple or list by position.
    loss : callable
        From the model's output to a scalar tensor.

    Returns
    -------
    fastinit.diagnostics.Probe
        One `Signal`, of one seed, named after the model's class. `dead` is the fraction of
        units (the last axis, channels of images) that are 0 for the whole batch; weights and
        their gradients are all those inside the layer together. There is no saturation, no
        Jacobian and no theory: of an unknown model's activations nothing is known.

    Raises
    ------
    TypeError, ValueError
        If the model has no two layers, its loss is no scalar, or depends on no layer.

    References
    ----------
    A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.3:
    the growth along the residual path, and the scaling against it.

    Examples
    --------
    >>> model = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(20)])
    >>> found = probe(model, torch.randn(32, 64), lambda y: y.square().mean())
    >>> found["Sequential"].verdict.kind  # PyTorch's own start: a third of the variance is kept
    'vanishing'
    """
    layers = _stack(model) or _leaves(model)
    with _unchanged(model), torch.enable_grad(), _recorded(layers) as calls:
        value = loss(_call(model, batch))
        if not isinstance(value, Tensor) or value.ndim:
            raise TypeError(f"loss gave {value!r}; it must be a scalar tensor")
        return Probe(None, (_signal(type(model).__name__, layers, calls, value),))


class _Call(NamedTuple):
    """A layer's first call: what went in and came out."""

    name: str
    entered: Tensor
    left: Tensor
    weights: list[Tensor]


def _stack(model: nn.Module) -> dict[str, nn.Module]:
    """Return the longest run of children of one class, by name; empty if none is a run."""
    longest: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        children = {f"{path}.{key}".lstrip("."): child for key, child in module.named_children()}
        alike = len({type(child) for child in children.values()}) == 1
        if alike and _weights(module) and len(children) > max(1, len(longest)):
            longest = children
    return longest


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
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng():
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
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
    name: str, layers: Mapping[str, nn.Module], calls: Sequence[_Call], loss: Tensor
) -> Signal:
    if len(calls) < 2:
        raise ValueError(
            f"model has {len(layers)} layers with weights, {len(calls)} of them called; "
            "allowed: two or more"
        )
    stream = [calls[0].entered, *(call.left for call in calls)]
    weights = [call.weights for call in calls]
    gradients = iter(_gradients(loss, [*stream, *chain.from_iterable(weights)]))
    by_stream = [next(gradients) for _ in stream]
    by_weight = [[next(gradients) for _ in group] for group in weights]
    std = np.array([_std(x) for x in stream])
    gradient = np.array([_std(g) for g in by_stream])
    pairs = zip(chain.from_iterable(weights), chain.from_iterable(by_weight), strict=True)
    found = _verdict.judge(std, gradient, any(_alike(w, g) for w, g in pairs))
    unknown = np.full((1, len(calls)), np.nan)
    return Signal(
        name=name,
        layers=("input", *(call.name for call in calls)),
        mean=np.array([[float(x.detach().double().mean()) for x in stream]]),
        std=std[None],
        gradient=gradient[None],
        saturation=unknown,
        dead=np.array([[_dead(x) for x in stream[1:]]]),
        weight_norm=np.array([[_norm(group) for group in weights]]),
        gradient_norm=np.array([[_norm(group) for group in by_weight]]),
        singular_values=np.empty(0),
        histograms=tuple(histograms([x.detach().double().numpy(force=True) for x in stream])),
        theory=None,
        verdict=found,
        advice=_ADVICE[found.kind],
    )


_ADVICE = {
    "healthy": "",
    "symmetric": "random weights, such as fastinit.torch.xavier_normal_",
    "exploding": "fastinit.torch.xavier_normal_, or kaiming_normal_ before relu; normalisation",
    "vanishing": "fastinit.torch.xavier_normal_, or kaiming_normal_ before relu; normalisation",
    "growing": "weights that write to the residual path scaled by 1 / sqrt(their number)",
}


def _gradients(loss: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """Return d loss / d tensor; None where the loss does not depend on it."""
    wanted = [x for x in tensors if x.requires_grad]
    if not loss.requires_grad:
        raise ValueError("loss does not depend on the model's weights")
    found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
    return [next(found) if x.requires_grad else None for x in tensors]


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


def _alike(weight: Tensor, gradient: Tensor | None) -> bool:
    """Return whether all outputs, or all inputs, have the same weights and gradients.

    Which axis is which differs: nn.Linear has (out, in), transformers' Conv1D (in, out).
    """
    if gradient is None:
        return False
    w, g = (x.detach().float().numpy(force=True) for x in (weight, gradient))
    return _verdict.alike(w, g) or _verdict.alike(np.moveaxis(w, 0, -1), np.moveaxis(g, 0, -1))
