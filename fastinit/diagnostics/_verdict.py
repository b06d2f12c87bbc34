"""Verdicts: what the standard deviations over the depth say of a network's start.

The rules and all their thresholds are here; `judge` is used for what NumPy's probe measures,
for what PyTorch's measures, and for what mean-field theory predicts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastinit.diagnostics._activations import Array

LIMIT = 32.0
"""Over the whole depth, a standard deviation may change by so much.

Judged by the fitted exponential, rate ** depth. A power of the depth, such as tanh's slow decline
under Xavier (l ** -0.5) or a sum of independent branches (l ** 0.5), fits as exp(3 a) for l ** a
at any depth, thus as at most 4.5 (20 for a = 1); what three seeds of a network 256 wide and 50
deep scatter is below 3. An exponential passes any limit; 32 takes 7 % per layer at depth 50.

Judged also by the last over the first, for growth: what a skip connection's sum gathers is a
power of the depth, hidden from the fit. GPT-2 (12 blocks) rises 10-fold with its scaled
residual layers and 60-fold without; 48 blocks, 1600 wide, 25-fold and 250-fold.
"""

FAST = 1.5
"""Faster growth per layer explodes, slower growth grows.

A skip connection that adds a branch as large as the stream, the most that a variance-keeping
initializer does, multiplies the standard deviation by sqrt(2) = 1.41; beyond it, the layers
themselves amplify.
"""

RATES = (0.003, 1.0)
"""The least and the largest learning rate of plain gradient descent that anyone would try."""

# The next three were chosen on the networks of tests/deep/verdicts.py, and tested on others:
# docs/validation.md.
PROGRESS = 1e-4
"""Below it, the loss falls by so little in a step, at the rate 1, that the network vanishes.

To first order a step at the rate a lowers the loss by a times the square of its gradient by all
weights. A hundred steps at the rate 1 then gain a hundredth of a nat.
"""

JUMP = 0.5
"""A step that changes the weights by more than half, at the least rate, all but draws them anew.

It is the sum over the layers of the step's norm over the weights'. Small weights before LayerNorm
do this: their scale does not matter to the signal, and divides the gradient.
"""

LEAP = 0.3
"""A signal or gradient that grows fast explodes if such a step is larger than this.

Where it is not, as in a few layers that amplify a lot, it grows: the least rate may go well.
"""

SAME = 1e-9
"""Units are alike if their weights, and the gradients by them, differ by less than this part."""

NUMBER_RANGES = {
    "float16": (2.0**-14, 65504.0),
    "bfloat16": (2.0**-126, float.fromhex("0x1.fep127")),
    "float8_e4m3fn": (2.0**-6, 448.0),
    "float8_e5m2": (2.0**-14, 57344.0),
}
"""By the name of a floating format, its smallest normal and its largest finite number."""


@dataclass(frozen=True)
class Trend:
    """An exponential through the standard deviations: ``start * rate ** l``.

    Parameters
    ----------
    start, rate : float
        Of the least-squares line through the logarithms, over all layers that are neither 0
        nor infinite.
    depth : int
        The number of layers.
    ratio : float
        The last over the first, as measured.
    """

    start: float
    rate: float
    depth: int
    ratio: float

    @property
    def total(self) -> float:
        """The change over the whole depth by the fit, ``rate ** depth``; infinity if too large."""
        with np.errstate(over="ignore", under="ignore"):
            return float(np.float_power(self.rate, self.depth))


@dataclass(frozen=True)
class Verdict:
    """What becomes of a signal and its gradients.

    Parameters
    ----------
    kind : {"symmetric", "exploding", "vanishing", "growing", "healthy"}
        In one word. Healthy trains by plain gradient descent; growing does at a rate that is small
        enough, if at all; the others do not.
    signal : Trend
        Of the activations' standard deviation, from the input on.
    gradient : Trend
        Of the gradients' standard deviation, from the output back.
    progress : float
        By how much a step of gradient descent at the rate 1 lowers the loss, to first order: the
        square of its gradient by all weights. NaN if it is not known.
    step : float
        By how much such a step changes the weights, relative to what they are: the sum over the
        layers. NaN if it is not known.
    """

    kind: str
    signal: Trend
    gradient: Trend
    progress: float = math.nan
    step: float = math.nan

    @property
    def trains(self) -> bool:
        """Whether plain gradient descent should make progress."""
        return self.kind == "healthy"

    @property
    def unevenness(self) -> float:
        """How many powers of e the signal or the gradient changes by, over the whole depth."""
        with np.errstate(divide="ignore"):  # a rate of 0, where nothing comes through
            return max(float(abs(np.log(t.rate))) * t.depth for t in (self.signal, self.gradient))

    def __str__(self) -> str:
        if self.kind == "symmetric":
            return "symmetric: units have the same weights and the same gradients, for ever"
        if self.kind == "growing" and not _grows(self.signal, self.gradient):
            return (
                "growing: even at the rate "
                f"{RATES[0]} a step changes the weights by {RATES[0] * self.step:.0%} of themselves"
            )
        return (
            f"{self.kind}: per layer the signal x {self.signal.rate:.3g}, "
            f"the gradient x {self.gradient.rate:.3g}"
        )


def judge(
    std: Array,
    gradient: Array,
    symmetric: bool = False,
    weight_norm: Array | None = None,
    loss_gradient: Array | None = None,
    elsewhere: float = 0.0,
) -> Verdict:
    """Return the verdict on a network.

    Parameters
    ----------
    std : array
        The activations' standard deviations, (layers + 1,), the input's first.
    gradient : array
        The standard deviations of the gradients by them, in the same order.
    symmetric : bool
        Whether the units of some layer are alike: same weights, same gradients.
    weight_norm, loss_gradient : array, optional
        The norms of the layers' weights and of a loss's gradient by them, (layers,). Without them,
        as theory has none, a verdict is of the standard deviations alone.
    elsewhere : float
        The square of the loss's gradient by weights that are in no layer, such as an embedding.

    Examples
    --------
    >>> judge(0.5 ** np.arange(21), np.ones(21)).kind
    'vanishing'
    """
    trends = _trend(std), _trend(gradient[::-1])
    if weight_norm is None or loss_gradient is None:
        return Verdict("symmetric" if symmetric else _kind(*trends), *trends)
    with np.errstate(all="ignore"):
        relative = loss_gradient / weight_norm
        step = float(relative[weight_norm > 0].sum())
        progress = float(np.square(loss_gradient).sum()) + elsewhere
    kind = "symmetric" if symmetric else _kind_of_steps(trends, progress, step)
    return Verdict(kind, *trends, progress, step)


def geometric_mean(series: Array) -> Array:
    """Return the geometric mean over the first axis, the seeds.

    Examples
    --------
    >>> geometric_mean(np.array([[1.0, 4.0], [1.0, 9.0]]))
    array([1., 6.])
    """
    with np.errstate(divide="ignore"):
        mean: Array = np.exp(np.log(series).mean(axis=0))
    return mean


def _kind(*trends: Trend) -> str:
    if _explodes(*trends):
        return "exploding"
    if any(t.total < 1 / LIMIT for t in trends):
        return "vanishing"
    return "growing" if _grows(*trends) else "healthy"


def _kind_of_steps(trends: tuple[Trend, Trend], progress: float, step: float) -> str:
    """Return the kind where it is known what a step of gradient descent does.

    What little a few layers lose, a larger rate makes up for, and a smaller one for what they gain.
    """
    jump = RATES[0] * step
    if not math.isfinite(progress) or (_explodes(*trends) and jump > LEAP):
        return "exploding"
    if progress < PROGRESS:
        return "vanishing"
    return "growing" if jump > JUMP or _grows(*trends) else "healthy"


def _explodes(*trends: Trend) -> bool:
    return any(t.total > LIMIT and t.rate > FAST for t in trends)


def _grows(*trends: Trend) -> bool:
    return any(max(t.total, t.ratio) > LIMIT for t in trends)


def _trend(series: Array) -> Trend:
    depth = len(series) - 1
    (layers,) = np.nonzero(np.isfinite(series) & (series > 0))
    if layers.size < 2:  # no line: all of it too large, or nothing comes through
        rate = 0.0 if np.isfinite(series).all() else math.inf
        return Trend(rate, rate, depth, rate)
    with np.errstate(over="ignore", under="ignore"):
        slope, start = np.polyfit(layers, np.log(series[layers]), 1)
        ratio = series[layers[-1]] / series[layers[0]]
        return Trend(float(np.exp(start)), float(np.exp(slope)), depth, float(ratio))


def stuck(weights: Sequence[Array], gradients: Sequence[Array]) -> bool:
    """Return whether some layer's units are alike and stay so, by the gradients of a loss.

    A layer that gets no gradient is not stuck as long as another gets one: when that has changed,
    this one may get a gradient too, as behind a skip connection.

    Examples
    --------
    >>> zeros, ones = np.zeros((2, 2)), np.ones((2, 2))
    >>> stuck([zeros], [zeros]), stuck([zeros], [ones]), stuck([zeros, ones], [zeros, np.eye(2)])
    (True, True, False)
    """
    moved = [bool(gradient.any()) for gradient in gradients]
    return any(
        alike(weight, gradient) and (moves or not any(moved))
        for weight, gradient, moves in zip(weights, gradients, moved, strict=True)
    )


def alike(weight: Array, gradient: Array) -> bool:
    """Return whether all output units (the last axis) have the same weights and gradients.

    Gradient descent can then never tell them apart (I. Goodfellow, Y. Bengio, A. Courville,
    "Deep Learning", 2016, section 8.4).

    Examples
    --------
    >>> alike(np.zeros((3, 2)), np.ones((3, 2))), alike(np.eye(2), np.zeros((2, 2)))
    (True, False)
    """
    return weight.shape[-1] > 1 and all(_constant_along_last(x) for x in (weight, gradient))


def _constant_along_last(x: Array) -> bool:
    def constant(units: Array) -> bool:
        difference = np.abs(units - units[..., :1]).max(initial=0.0)
        return bool(difference <= SAME * np.abs(units).max(initial=0.0))

    return constant(x[..., :2]) and constant(x)  # two units settle nearly every question
