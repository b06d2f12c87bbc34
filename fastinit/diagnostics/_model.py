"""What is measured inside a real model, beside the standard deviations over its depth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fastinit.diagnostics._verdict import NUMBER_RANGES


@dataclass(frozen=True)
class Weight:
    """A parameter at its start, and the gradient of the loss by it.

    Parameters
    ----------
    name : str
        The parameter's name in the model.
    layer : str
        The block that it is in; empty for what is outside of all blocks.
    size : int
        The number of its elements.
    std, norm : float
        Standard deviation, and root of the sum of squares.
    gradient_std, gradient_norm : float
        Of the gradient; NaN if the loss does not depend on the parameter.

    Examples
    --------
    >>> weight = Weight("h.0.w", "h.0", 100, 0.5, 5.0, 0.01, 0.1)
    >>> weight.kind, weight.sgd_step, weight.adam_step
    ('w', 0.02, 2.0)
    """

    name: str
    layer: str
    size: int
    std: float
    norm: float
    gradient_std: float
    gradient_norm: float

    @property
    def kind(self) -> str:
        """The name within the block, which the same weights of other blocks share."""
        return self.name.removeprefix(f"{self.layer}.") if self.layer else self.name

    @property
    def sgd_step(self) -> float:
        """The norm of a step of gradient descent over the weight's, for a learning rate of 1."""
        return self.gradient_norm / self.norm if self.norm else math.inf

    @property
    def adam_step(self) -> float:
        """The norm of Adam's first step over the weight's, for a learning rate of 1.

        Adam's first step moves every element by the learning rate (D. P. Kingma, J. Ba, ICLR
        2015, section 2.1), so that this is 1 over the root mean square of the weight.
        """
        return math.sqrt(self.size) / self.norm if self.norm else math.inf


@dataclass(frozen=True)
class Inside:
    """What was measured inside a model. NaN is what is not known.

    Parameters
    ----------
    loss : float
        The loss's value.
    guess : float
        The loss of a model that knows nothing: ln of the number of classes.
    logits : float
        The standard deviation of the model's logits.
    weights : tuple of Weight
        All parameters, in the model's order.
    branch : tuple of float
        By layer: the standard deviation of what the block adds to its input.
    largest : tuple of float
        By layer: the largest absolute value of any activation in the block.
    entropy : tuple of float
        By layer: the mean entropy of attention over the largest it could be. 1: every token
        attends to all that it sees alike; 0: to one.
    load : tuple of float
        By layer: how many times its fair share of the tokens the busiest expert gets.
    activations : mapping
        By the name of a module in the block: the standard deviation of its output, by layer.
    """

    loss: float
    guess: float
    logits: float
    weights: tuple[Weight, ...]
    branch: tuple[float, ...]
    largest: tuple[float, ...]
    entropy: tuple[float, ...]
    load: tuple[float, ...]
    activations: Mapping[str, tuple[float, ...]]


def outside(
    dtype: str, typical: Iterable[float], largest: Iterable[float] | None = None
) -> int | None:
    """Return the first index at which numbers leave the normal range of a floating format.

    Parameters
    ----------
    dtype : {"float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"}
        The format.
    typical : iterable of float
        Standard deviations: below the format's smallest normal number, most values are subnormal
        or 0.
    largest : iterable of float, optional
        The largest absolute values, if they are known; otherwise `typical` is used.

    Returns
    -------
    int or None
        None if all of them are inside.

    Examples
    --------
    >>> outside("float16", [1.0, 1e-3, 1e-5]), outside("float8_e4m3fn", [1.0], [449.0])
    (2, 0)
    """
    smallest, most = NUMBER_RANGES[dtype]
    typical = list(typical)
    tops = typical if largest is None else largest
    for i, (std, top) in enumerate(zip(typical, tops, strict=True)):
        if std < smallest or top > most:
            return i
    return None
