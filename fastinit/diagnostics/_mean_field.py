"""What theory says of a wide network's signal and gradient, layer by layer.

In the limit of infinite width the numbers that enter an activation are normal, of a variance
q that follows a recursion; gradients follow another. With s = fan_in var(W), r = fan_out var(W)
and E over a standard normal z, a layer without a skip has

    q_l = s E[phi(sqrt(q_{l-1}) z)^2]      g_{l-1} = r E[phi'(sqrt(q_l) z)^2] g_l

where g is the variance of the gradient by the layer's input. A skip adds instead of replacing;
LayerNorm puts q / (q + epsilon) for q inside phi, and divides g by q + epsilon.

References
----------
B. Poole et al., "Exponential expressivity in deep neural networks through transient chaos",
NeurIPS 2016. S. S. Schoenholz et al., "Deep Information Propagation", ICLR 2017. G. Yang,
S. S. Schoenholz, "Mean Field Residual Networks: On the Edge of Chaos", NeurIPS 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastinit.diagnostics._activations import ACTIVATIONS, Activation, Array
from fastinit.diagnostics._network import EPSILON, keeps_width

# The trapezoidal rule: exact to rounding for smooth functions, and with no node at 0 for relu's
# kink too, by symmetry.
_Z = np.linspace(-8.0, 8.0, 4000)
_WEIGHT = np.exp(-0.5 * _Z**2)
_WEIGHT /= _WEIGHT.sum()


class Scale(NamedTuple):
    """How a layer's weights scale: the variance of x W over that of x, and of the way back."""

    forward: float  # fan_in var(W)
    backward: float  # fan_out var(W)
    square: bool  # as many outputs as inputs: where a skip can be


class Theory(NamedTuple):
    """Mean and std of x_0 to x_L, and the std of the gradients by them, the last being 1."""

    mean: Array
    std: Array
    gradient: Array


def scale_of(weight: Array, activation: str = "linear") -> Scale:
    """Return the scale of a weight, (in, out) or (height, width, in, out), as it is.

    Examples
    --------
    >>> scale_of(np.full((4, 2), 0.5))
    Scale(forward=1.0, backward=0.5, square=False)
    """
    square = float(np.mean(np.square(weight)))
    fan_in, fan_out = (weight.size / weight.shape[axis] for axis in (-1, -2))
    return Scale(fan_in * square, fan_out * square, keeps_width(weight, ACTIVATIONS[activation]))


def mean_scale(scales: Sequence[Scale]) -> Scale:
    """Return what several draws of one layer's weights have on average.

    Examples
    --------
    >>> mean_scale([Scale(1.0, 1.0, True), Scale(3.0, 1.0, True)])
    Scale(forward=2.0, backward=1.0, square=True)
    """
    forward, backward, square = (float(np.mean(of)) for of in zip(*scales, strict=True))
    return Scale(forward, backward, bool(square))


def predict(
    scales: Sequence[Scale],
    activation: str,
    residual: bool = False,
    layer_norm: bool = False,
    second_moment: float = 1.0,
) -> Theory:
    """Return what mean-field theory says of `fastinit.diagnostics._network.Network`.

    Parameters
    ----------
    scales : sequence of Scale
        One for each layer.
    activation : str
        A name in `fastinit.diagnostics._activations.ACTIVATIONS`.
    residual, layer_norm : bool
        The network's.
    second_moment : float
        The mean square of the network's input, whose mean is taken as 0.

    Examples
    --------
    >>> he = [Scale(2.0, 2.0, True)] * 50
    >>> float(predict(he, "relu").gradient[0].round(3))  # neither vanishing nor exploding
    1.0
    """
    phi = ACTIVATIONS[activation]
    moment, means, variances, factors = second_moment, [0.0], [second_moment], []
    with np.errstate(all="ignore"):
        for scale in scales:
            skip = residual and scale.square
            entering = moment if skip else scale.forward * moment
            # Its epsilon is what keeps LayerNorm finite where nothing arrives.
            normalised = entering + EPSILON if layer_norm else 1.0
            mean, square, slope = _activation_moments(phi, float(np.sqrt(entering / normalised)))
            factors.append(skip + scale.backward * slope / normalised)
            mean = 0.0 if skip else mean
            moment = moment + scale.forward * square if skip else square
            means.append(mean)
            variances.append(moment - mean * mean)
        gradient = np.cumprod([1.0, *factors[::-1]])[::-1]
        return Theory(np.array(means), np.sqrt(variances), np.sqrt(gradient))


def _activation_moments(phi: Activation, std: float) -> tuple[float, float, float]:
    """Return E phi, E phi^2 and E phi'^2 for normal products of a standard deviation.

    A gated phi is odd in the product that is gated, and its squares are in proportion to that
    product's square: its standard deviation stands for it.
    """
    z = std * _Z[:, None]
    if phi.gated:
        z = np.concatenate([z, np.full_like(z, std)], axis=1)
    active = phi.value(z)[:, 0]
    slope = np.square(phi.slope(z)).mean(axis=1)
    mean = 0.0 if phi.gated else float(_WEIGHT @ active)
    return mean, float(_WEIGHT @ active**2), float(_WEIGHT @ slope)
