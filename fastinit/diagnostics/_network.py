"""Deep networks small enough to look into: forward and backward by explicit formulas.

With x_0 the batch, layer l is, without and with a skip connection,

    x_l = phi(norm(x_{l-1} W_l))            x_l = x_{l-1} + phi(norm(x_{l-1})) W_l

where norm is LayerNorm or nothing, and W a matrix or a convolution's kernel. A skip needs as
many inputs as outputs; other layers go without. There are no biases: at the start they are 0.
A gated phi (swiglu) makes one number of two: W then has twice as many outputs as the layer, or,
with a skip, half as many inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fastinit.diagnostics._activations import ACTIVATIONS, Activation, Array

EPSILON = 1e-5  # LayerNorm's, as in PyTorch


class LayerTrace(NamedTuple):
    """What a layer made of its input, and how gradients come back through it."""

    output: Array
    active: Array  # phi(...), which is the output of a layer without a skip
    slope: Array  # phi'(...)
    to_input: Callable[[Array], Array]  # dJ/d output -> dJ/d input
    to_weight: Callable[[Array], Array]  # dJ/d output -> dJ/d weight


class Network(NamedTuple):
    """Layers of one kind, and their weights: (in, out), or (height, width, in, out)."""

    weights: Sequence[Array]
    activation: str
    residual: bool = False
    layer_norm: bool = False

    def forward(self, x: Array) -> list[LayerTrace]:
        """Push a batch through all layers; return what each made of it.

        Parameters
        ----------
        x : array
            (samples, width), or (samples, height, width, channels) for convolutions.

        Examples
        --------
        >>> layers = Network([np.eye(3), np.eye(3)], "relu").forward(np.ones((5, 3)))
        >>> layers[-1].output.shape
        (5, 3)
        """
        traces = []
        for weight in self.weights:
            phi = ACTIVATIONS[self.activation]
            trace = _with_skip if self.residual and keeps_width(weight, phi) else _plain
            traces.append(trace(x, weight, phi, self.layer_norm))
            x = traces[-1].output
        return traces


def keeps_width(weight: Array, phi: Activation) -> bool:
    """Return whether a layer of a network with skips has as many outputs as inputs.

    Examples
    --------
    >>> keeps_width(np.ones((4, 4)), ACTIVATIONS["relu"])
    True
    """
    return bool(weight.shape[-1] == weight.shape[-2] * (2 if phi.gated else 1))


def backward(traces: Sequence[LayerTrace], gradient: Array) -> list[Array]:
    """Return the gradients by the input and by each layer's output, the last being given.

    Examples
    --------
    >>> layers = Network([2 * np.eye(3)], "linear").forward(np.ones((5, 3)))
    >>> backward(layers, np.ones((5, 3)))[0][0]
    array([2., 2., 2.])
    """
    gradients = [gradient]
    for layer in reversed(traces):
        gradients.append(layer.to_input(gradients[-1]))
    return gradients[::-1]


def jacobian(network: Network, x: Array) -> Array:
    """Return d output / d input of one sample, (outputs, inputs), both flattened.

    The layers' traces of the one sample serve all outputs: what comes back is broadcast.

    Examples
    --------
    >>> jacobian(Network([2 * np.eye(3)], "linear"), np.ones(3))[0]
    array([2., 0., 0.])
    """
    traces = network.forward(x[None])
    output = traces[-1].output[0]
    basis = np.eye(output.size, dtype=output.dtype).reshape(-1, *output.shape)
    return backward(traces, basis)[0].reshape(output.size, -1)


def _plain(x: Array, weight: Array, phi: Activation, layer_norm: bool) -> LayerTrace:
    z, z_to_x, z_to_weight = _linear(x, weight)
    n, n_to_z = _norm(z, layer_norm)
    active, slope = phi.value(n), phi.slope(n)
    return LayerTrace(
        active,
        active,
        slope,
        lambda gradient: z_to_x(n_to_z(slope * phi.to_products(gradient))),
        lambda gradient: z_to_weight(n_to_z(slope * phi.to_products(gradient))),
    )


def _with_skip(x: Array, weight: Array, phi: Activation, layer_norm: bool) -> LayerTrace:
    n, n_to_x = _norm(x, layer_norm)
    active, slope = phi.value(n), phi.slope(n)
    z, z_to_active, z_to_weight = _linear(active, weight)
    return LayerTrace(
        x + z,
        active,
        slope,
        lambda gradient: gradient + n_to_x(slope * phi.to_products(z_to_active(gradient))),
        z_to_weight,
    )


def _linear(
    x: Array, weight: Array
) -> tuple[Array, Callable[[Array], Array], Callable[[Array], Array]]:
    """Return x W, and the way back to x and to W."""
    matrix = weight.reshape(-1, weight.shape[-1])
    kernel = weight.shape[:-2]
    columns = _columns(x, kernel)

    def to_weight(gradient: Array) -> Array:
        rows = columns.reshape(-1, matrix.shape[0])
        return (rows.T @ gradient.reshape(-1, matrix.shape[1])).reshape(weight.shape)

    return columns @ matrix, lambda gradient: _fold(gradient @ matrix.T, kernel), to_weight


def _shifts(kernel: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [
        tuple(at - length // 2 for at, length in zip(index, kernel, strict=True))
        for index in np.ndindex(*kernel)
    ]


def _columns(x: Array, kernel: tuple[int, ...]) -> Array:
    """Return im2col: each pixel with its neighbours side by side; images wrap around.

    Wrapped, every pixel has all its neighbours, as mean-field theory wants (L. Xiao et al.,
    "Dynamical Isometry and a Mean Field Theory of CNNs", ICML 2018, section 2.1).
    """
    if not kernel:
        return x
    return np.concatenate(
        [np.roll(x, (-dy, -dx), axis=(1, 2)) for dy, dx in _shifts(kernel)], axis=-1
    )


def _fold(columns: Array, kernel: tuple[int, ...]) -> Array:
    """Return the transpose of `_columns`: neighbours' shares added up."""
    if not kernel:
        return columns
    parts = np.split(columns, math.prod(kernel), axis=-1)
    shifts = _shifts(kernel)
    total = np.zeros_like(parts[0])
    for part, shift in zip(parts, shifts, strict=True):
        total += np.roll(part, shift, axis=(1, 2))
    return total


def _norm(z: Array, layer_norm: bool) -> tuple[Array, Callable[[Array], Array]]:
    """Return LayerNorm over the last axis, or z itself, and the way back.

    J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016.
    """
    if not layer_norm:
        return z, lambda gradient: gradient
    scale = 1 / np.sqrt(z.var(axis=-1, keepdims=True) + EPSILON)
    n = (z - z.mean(axis=-1, keepdims=True)) * scale

    def to_z(gradient: Array) -> Array:
        along = (gradient * n).mean(axis=-1, keepdims=True)
        back: Array = scale * (gradient - gradient.mean(axis=-1, keepdims=True) - n * along)
        return back

    return n, to_z
