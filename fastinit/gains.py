"""Gains: the factor on the weights before a nonlinearity that keeps the signal's size."""

from __future__ import annotations

import math

from fastinit import _arguments
from fastinit._errors import value_error

_LINEAR = (
    "linear",
    "identity",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)

_GAINS = {
    **dict.fromkeys(_LINEAR, 1.0),
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4.0,
    # 1 / sqrt(E f(z)^2), z standard normal; the tests compute them again by quadrature.
    "gelu": 1.5335304411955353,
    "silu": 1.6765324703310909,
    "swish": 1.6765324703310909,
    "mish": 1.4868475812732078,
    "elu": 1.2451983007007066,
    "softplus": 1.0418668355353018,
    "sine": 1.520866623178815,
    "swiglu": 1.6765324703310909,
    "relu2": math.sqrt(2.0 / 3.0),
}

ACTIVATIONS = (
    "linear", "identity", "tanh", "sine", "sigmoid", "relu", "leaky_relu", "gelu", "silu", "swish",
    "mish", "elu", "selu", "softplus", "relu2", "swiglu",
)  # fmt: skip
"""What `recommend` and `fastinit.diagnostics.probe` take: not the names of layers."""


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor on a layer's standard deviation that its nonlinearity asks for.

    A layer of standard deviation gain / sqrt(fan_in) before the nonlinearity f keeps the
    second moment of the signal if gain = 1 / sqrt(E f(z)^2), z standard normal. So it is for
    relu and leaky_relu (He, eq. 10 and 15), gelu 1.5335, silu = swish 1.6765, mish 1.4868,
    elu (alpha = 1) 1.2452, softplus 1.0419, sine 1.5209, relu2 sqrt(2/3), the square of relu, and
    swiglu 1.6765 (silu(z) times another standard normal). The last two multiply, which doubles any
    error of the scale in each layer: such layers need a normalisation. SIREN's layers, whose sine
    is that of 30 times their input, have the recipe ``siren``.

    Three values are PyTorch's habit instead: tanh 5/3 (by that formula 1.5925), sigmoid 1
    (1.8462) and selu 3/4 (1: self-normalising networks take "linear"). `recommend` takes the
    gain 1 for tanh, since with 5/3 each of many layers multiplies the gradient by 1.1, and for
    sine, which is as straight near 0.

    Parameters
    ----------
    nonlinearity : str
        linear, identity, conv1d to conv_transpose3d: 1. sigmoid: 1. tanh: 5/3. relu: sqrt(2).
        leaky_relu: sqrt(2 / (1 + slope^2)). selu: 3/4. gelu, silu, swish, mish, elu, softplus,
        sine, relu2, swiglu: as above.
    param : float, optional
        The slope of leaky_relu, 0.01 if not given; the others have none and ignore it.

    Returns
    -------
    float
        The gain, without a unit.

    Raises
    ------
    TypeError, ValueError
        If the nonlinearity is unknown, or the slope is not a finite number.

    References
    ----------
    K. He et al., "Delving Deep into Rectifiers", ICCV 2015. Y. LeCun et al., "Efficient
    BackProp", 1998 (tanh). G. Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017.

    Examples
    --------
    >>> round(fi.calculate_gain("relu"), 4)
    1.4142
    """
    return gain_of(nonlinearity, param, "param")


def gain_of(nonlinearity: str, slope: float | None, name: str) -> float:
    """Return the gain as `calculate_gain`, of a slope that its caller's user gives by this name."""
    slope = 0.01 if slope is None else _arguments.real(name, slope)
    if not math.isfinite(slope):
        raise value_error(f"{name}={slope!r} must be finite")
    if _arguments.choice("nonlinearity", nonlinearity, [*_GAINS, "leaky_relu"]) == "leaky_relu":
        square = slope * slope  # not by the C library's pow, which differs from system to system
        if square == math.inf:
            raise value_error(f"{name}={slope!r}: its square must be finite")
        return math.sqrt(2.0 / (1.0 + square))
    return _GAINS[nonlinearity]
