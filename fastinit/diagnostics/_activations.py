"""Activations and their derivatives, by the names that `fastinit.calculate_gain` has for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit.gains import ACTIVATIONS as NAMES

Array = NDArray[Any]


class Activation(NamedTuple):
    """An activation function of a layer's products, and its derivative by each of them.

    A gated one makes one number of two products, which lie half the last axis apart; all others
    make one of one. One that multiplies, two products or one by itself, doubles any error of the
    scale.

    Examples
    --------
    >>> ACTIVATIONS["swiglu"].value(np.array([[30.0, 2.0]])).round(9)
    array([[60.]])
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    gated: bool = False
    multiplies: bool = False

    def steep(self) -> float:
        """Return the derivative's largest value; of a gated one where the gate's input is 1."""
        z = np.linspace(-8.0, 8.0, 1601)[:, None]
        z = np.concatenate([z, np.ones_like(z)], axis=1) if self.gated else z
        return float(self.slope(z)[:, 0].max())

    def to_products(self, gradient: Array) -> Array:
        """Return a gradient by the values as one by the products, but for the slope."""
        return np.concatenate([gradient, gradient], axis=-1) if self.gated else gradient


_GELU = math.sqrt(2.0 / math.pi)
_LEAK = 0.01
# G. Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017, eq. 14.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _sigmoid(z: Array) -> Array:
    y: Array = 0.5 + 0.5 * np.tanh(0.5 * z)  # no exp that overflows
    return y


def _silu(z: Array) -> Array:
    y: Array = z * _sigmoid(z)
    return y


def _silu_slope(z: Array) -> Array:
    y: Array = _sigmoid(z) * (1 + z * _sigmoid(-z))
    return y


def _gelu_slope(z: Array) -> Array:
    t = np.tanh(_GELU * (z + 0.044715 * z**3))
    y: Array = 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * _GELU * (1 + 0.134145 * z**2)
    return y


def _softplus(z: Array) -> Array:
    y: Array = np.logaddexp(z, 0.0)
    return y


def _mish_slope(z: Array) -> Array:
    t = np.tanh(_softplus(z))
    y: Array = t + z * (1 - t**2) * _sigmoid(z)
    return y


def _elu(alpha: float, scale: float) -> Activation:
    return Activation(
        lambda z: scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
        lambda z: scale * np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0))),
    )


def _halves(z: Array) -> tuple[Array, Array]:
    first, second = np.split(z, 2, axis=-1)
    return first, second


def _swiglu(z: Array) -> Array:
    gate, value = _halves(z)
    y: Array = _silu(gate) * value
    return y


def _swiglu_slope(z: Array) -> Array:
    gate, value = _halves(z)
    return np.concatenate([_silu_slope(gate) * value, _silu(gate)], axis=-1)


_LINEAR = Activation(lambda z: z, np.ones_like)
_SILU = Activation(_silu, _silu_slope)

_FUNCTIONS = {
    "linear": _LINEAR,
    "identity": _LINEAR,
    "tanh": Activation(np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sine": Activation(np.sin, np.cos),
    "sigmoid": Activation(_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    "relu": Activation(lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
    "leaky_relu": Activation(
        lambda z: np.maximum(z, _LEAK * z),
        lambda z: np.where(z > 0, 1.0, _LEAK).astype(z.dtype),
    ),
    # The form by tanh, as in GPT-2 (D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units", 2016,
    # section 2): NumPy has no erf.
    "gelu": Activation(
        lambda z: 0.5 * z * (1 + np.tanh(_GELU * (z + 0.044715 * z**3))), _gelu_slope
    ),
    "silu": _SILU,
    "swish": _SILU,
    # D. Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", BMVC 2020.
    "mish": Activation(lambda z: z * np.tanh(_softplus(z)), _mish_slope),
    "elu": _elu(1.0, 1.0),
    "selu": _elu(_SELU_ALPHA, _SELU_SCALE),
    "softplus": Activation(_softplus, _sigmoid),
    # D. So et al., "Primer: Searching for Efficient Transformers for Language Modeling", NeurIPS
    # 2021.
    "relu2": Activation(
        lambda z: np.maximum(z, 0) ** 2, lambda z: 2 * np.maximum(z, 0), multiplies=True
    ),
    # N. Shazeer, "GLU Variants Improve Transformer", 2020.
    "swiglu": Activation(_swiglu, _swiglu_slope, gated=True, multiplies=True),
}

ACTIVATIONS = {name: _FUNCTIONS[name] for name in NAMES}
