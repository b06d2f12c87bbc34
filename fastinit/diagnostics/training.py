"""The proof of a verdict: plain gradient descent on handwritten digits.

scikit-learn ships 1797 of them, 8 x 8 pixels, from E. Alpaydin, C. Kaynak, "Optical Recognition
of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from fastinit._arguments import integer, positive
from fastinit.diagnostics import Setting
from fastinit.diagnostics._activations import Array
from fastinit.diagnostics._network import LayerTrace, backward
from fastinit.diagnostics._probe import Filler, filler
from fastinit.initializer import Initializer
from fastinit.random import default_rng

__all__ = ["CLASSES", "DIGITS", "RATES", "Run", "descend"]

RATES = (0.03, 0.01, 0.003)
"""Learning rates that each initializer may choose from, so that none fails for its rate alone."""

DIGITS = 128
"""So many are learnt: enough to see who learns."""

CLASSES = 10
_LAST = 10  # losses that are averaged at the end: plain steps through fifty layers jump
_PIXELS = 64


@dataclass(frozen=True)
class Run:
    """A training run: the learning rate, and the loss before each step and after the last.

    Parameters
    ----------
    name : str
        The initializer.
    rate : float
        Of `RATES`, the one with the least `end`.
    loss : array
        Mean cross-entropy over the digits, in nats; ln 10 = 2.303 is guessing.
    """

    name: str
    rate: float
    loss: Array

    @property
    def end(self) -> float:
        """The mean of the last ten losses; NaN if the weights grew beyond all bounds."""
        return float(self.loss[-_LAST:].mean())

    @property
    def trained(self) -> bool:
        """Whether the loss fell, by more than a tenth of a guess's.

        Sixty plain steps through fifty layers are a beginning, no more; where no gradient
        arrives, the loss stays that of a guess to the third digit.

        Examples
        --------
        >>> Run("he", 0.01, np.linspace(2.4, 1.0, 61)).trained
        True
        """
        return bool(self.end < 0.9 * np.log(CLASSES))


def descend(
    setting: Setting,
    initializer: str,
    *,
    steps: int = 60,
    rates: Sequence[float] = RATES,
    seed: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> Run:
    """Train a network by ``theta <- theta - alpha * grad J(theta)``, on the same 128 digits.

    J is the mean cross-entropy of a softmax over ten outputs, read by a matrix of Xavier's from
    the last layer less its mean over the digits; alpha does not change. Without that mean, which
    deep relu layers make by far the largest part of what they say of any input, a step fit for
    the differences would overshoot along it (N. Schraudolph, "Centering Neural Network Gradient
    Factors", 1998). In float64: what vanishes would be subnormal in float32, and slow.

    Parameters
    ----------
    setting : Setting
        The network; its input is the digits', 64 numbers or 8 x 8 images of one channel.
    initializer : str
        As `fastinit.Initializer.parse` takes it.
    steps : int
        How many.
    rates : sequence of float
        Learning rates to try, each from the same start.
    seed : int
        Of the weights.
    progress : callable
        Called after each learning rate.

    Returns
    -------
    Run
        The best of them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> from fastinit.diagnostics import Setting
    >>> run = descend(Setting((64, 32, 32), "tanh"), "xavier", steps=30, rates=[0.3])
    >>> run.trained
    True
    """
    integer("steps", steps, 1, 2**31)
    images, labels = _digits(setting)
    setting = replace(setting, widths=(images.shape[-1], *setting.widths[1:]))
    runs = []
    for rate in rates:
        theta = _start(setting, filler(initializer), seed)
        # A start that explodes shows in the loss. Matrices are small: of several threads of BLAS
        # most would wait for each other, on a busy machine fifteen times as long as one takes.
        with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
            loss = _descend(setting, theta, images, labels, positive("rates", rate), steps)
        runs.append(Run(initializer, rate, loss))
        progress()
    return min(runs, key=lambda run: np.nan_to_num(run.end, nan=np.inf))


def _digits(setting: Setting) -> tuple[Array, Array]:
    """Return the digits, standardised all together, and their labels one-hot."""
    data = load_digits()
    images = (data.data - data.data.mean()) / data.data.std()
    images = images[:DIGITS]
    shape = (8, 8, 1) if setting.image else (_PIXELS,)
    return images.reshape(-1, *shape), np.eye(CLASSES)[data.target[:DIGITS]]


def _start(setting: Setting, fill: Filler, seed: int) -> list[Array]:
    """Return the weights of all layers, and those that read the classes off at the end."""
    rng = default_rng(seed)
    pixels = _PIXELS if setting.image else 1
    head = np.empty((pixels * setting.widths[-1], CLASSES))
    Initializer("xavier").fill(head, rng=rng.stream("head"))
    return [*setting.weights(fill, rng), head]


def _descend(
    setting: Setting, theta: list[Array], x: Array, labels: Array, rate: float, steps: int
) -> Array:
    loss = np.empty(steps + 1)
    for step in range(steps + 1):
        traces = setting.network(theta[:-1]).forward(x)
        features = _centred(traces[-1].output.reshape(len(x), -1))
        probability = _softmax(features @ theta[-1])
        loss[step] = -np.log(np.maximum((probability * labels).sum(axis=1), 1e-30)).mean()
        if not np.isfinite(loss[step]):
            loss[step:] = np.nan
            break
        for weight, gradient in zip(
            theta, _gradients(traces, features, theta[-1], probability - labels), strict=True
        ):
            weight -= rate / len(x) * gradient
    return loss


def _centred(x: Array) -> Array:
    """Return x less its mean over the samples; the gradient by x comes back the same way."""
    centred: Array = x - x.mean(axis=0)
    return centred


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    probability: Array = e / e.sum(axis=1, keepdims=True)
    return probability


def _gradients(
    traces: Sequence[LayerTrace], features: Array, head: Array, error: Array
) -> list[Array]:
    """Return d loss / d theta, summed over the samples; error is d loss / d logits."""
    by_output = _centred(error @ head.T).reshape(traces[-1].output.shape)
    return [
        *(p.to_weight(g) for p, g in zip(traces, backward(traces, by_output)[1:], strict=True)),
        features.T @ error,
    ]
