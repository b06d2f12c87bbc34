"""What a streamed pass measured, as the signals of a probe: one for each stack of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastinit.diagnostics import Signal, _verdict
from fastinit.diagnostics._model import Inside, Weight
from fastinit.diagnostics._probe import histograms
from fastinit.torch._streaming import Block, Streaming

ADVICE = {
    "healthy": "",
    "symmetric": "random weights, such as fastinit.torch.xavier_normal_",
    "exploding": "fastinit.torch.xavier_normal_, or kaiming_normal_ before relu; normalisation",
    "vanishing": "fastinit.torch.xavier_normal_, or kaiming_normal_ before relu; normalisation",
    "growing": "weights that write to the residual path scaled by 1 / sqrt(their number)",
}
"""What to use instead, for a model of which only the standard deviations are known."""


def signals_of(run: Streaming, name: str) -> tuple[Signal, ...]:
    """Return a signal for each stack of which something was measured.

    Parameters
    ----------
    run : Streaming
        After its pass, or after a part of it: what was not measured is NaN.
    name : str
        Of the signals; the stack's path is added if there are several.
    """
    stacks = {path: [b for b in run.called if b in blocks] for path, blocks in run.stacks.items()}
    stacks = {path: blocks for path, blocks in stacks.items() if blocks}
    weights = _weights(run)
    return tuple(
        _signal(run, f"{name} {path}" if len(stacks) > 1 else name, blocks, weights)
        for path, blocks in stacks.items()
    )


def _signal(
    run: Streaming, name: str, blocks: Sequence[Block], weights: Sequence[Weight]
) -> Signal:
    borders = [blocks[0].entered, *(block.left for block in blocks)]
    std = np.array([border.signal.std for border in borders])
    gradient = np.array([border.gradient.std for border in borders])
    weight_norm = np.array([_norm(weights, block, "norm") for block in blocks])
    loss_gradient = np.array([_norm(weights, block, "gradient_norm") for block in blocks])
    seen = [run.gradients[name] for name in run.matrices() if name in run.gradients]
    elsewhere = sum(gradient.squares for gradient in seen) - float((loss_gradient**2).sum())
    verdict = _verdict.judge(std, gradient, run.symmetric, weight_norm, loss_gradient, elsewhere)
    unknown = np.full((1, len(blocks)), np.nan)
    return Signal(
        name=name,
        layers=("input", *(block.name for block in blocks)),
        mean=np.array([[border.signal.mean for border in borders]]),
        std=std[None],
        gradient=gradient[None],
        saturation=unknown,
        dead=np.array([[block.dead for block in blocks]]),
        weight_norm=weight_norm[None],
        gradient_norm=loss_gradient[None],
        loss_gradient=loss_gradient[None],
        singular_values=np.empty(0),
        histograms=tuple(histograms([border.sample for border in borders])),
        theory=None,
        verdict=verdict,
        advice=ADVICE[verdict.kind],
        inside=_inside(run, blocks, weights),
    )


def _weights(run: Streaming) -> tuple[Weight, ...]:
    layer = {name: block.name for block in run.blocks() for name in block.names}
    return tuple(
        Weight(
            name,
            layer.get(name, ""),
            seen.count,
            seen.std,
            seen.norm,
            gradient.std if (gradient := run.gradients.get(name)) else math.nan,
            gradient.norm if gradient else math.nan,
        )
        for name in run.names
        if (seen := run.weights.get(name)) is not None
    )


def _norm(weights: Sequence[Weight], block: Block, which: str) -> float:
    """Return the norm of a block's matrices, or of the gradients by them, all together."""
    matrices = (w for w in weights if w.layer == block.name and w.name in block.matrices)
    return math.hypot(*(getattr(weight, which) for weight in matrices))


def _inside(run: Streaming, blocks: Sequence[Block], weights: Sequence[Weight]) -> Inside:
    kinds = list(dict.fromkeys(kind for block in blocks for kind in block.activations))
    return Inside(
        loss=run.loss,
        guess=run.guess,
        logits=run.logits,
        weights=tuple(weights),
        branch=tuple(block.branch for block in blocks),
        largest=tuple(block.largest for block in blocks),
        entropy=tuple(
            sum(block.entropy) / len(block.entropy) if block.entropy else math.nan
            for block in blocks
        ),
        load=tuple(block.load for block in blocks),
        activations={
            kind: tuple(block.activations.get(kind, math.nan) for block in blocks) for kind in kinds
        },
    )


def advised(signals: Sequence[Signal]) -> tuple[Signal, ...]:
    """Return the signals, with a compared one that is healthy as the advice for the others."""
    healthy = [signal for signal in signals if signal.verdict.kind == "healthy"]
    if not healthy:
        return tuple(signals)
    best = min(healthy, key=lambda signal: signal.verdict.unevenness)
    return tuple(
        s if s.verdict.kind == "healthy" else replace(s, advice=f"the rules of {best.name}")
        for s in signals
    )
