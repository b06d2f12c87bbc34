"""The functions of `torch.nn.init`, and those it lacks, over fastinit's stream.

Each works out a distribution as torch does, from the shape of the whole tensor, and hands it
to `draw`. Constants are torch's own: it stores them at the speed of memory already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.init import (
    _calculate_correct_fan,
    _calculate_fan_in_and_fan_out,
    _make_deprecate,
    _no_grad_trunc_normal_,
    calculate_gain,
    constant_,
    dirac_,
    eye_,
    ones_,
    zeros_,
)
from torch.overrides import handle_torch_function, has_torch_function_unary

from fastinit._check import positive
from fastinit._fill import Distribution
from fastinit._kernels import Cursor
from fastinit.random import (
    normal_distribution,
    truncated_normal_distribution,
    uniform_distribution,
)
from fastinit.torch._tensor import Generator, cursor, fill, known_dtype, torchs_generator

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "glorot_normal_",
    "glorot_uniform_",
    "he_normal_",
    "he_uniform_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "truncated_normal_",
    "uniform",
    "uniform_",
    "variance_scaling_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]


@lru_cache(typed=True)
def _normal_between(mean: float, std: float, a: float, b: float) -> Distribution:
    """Return the normal cut at a and b themselves, which (a - mean) / std need not give back."""
    drawn = truncated_normal_distribution(mean, std, (a - mean) / std, (b - mean) / std)
    return drawn._replace(params=(a, b, *drawn.params[2:]))


class Kind(NamedTuple):
    """A distribution of ours, by its parameters, and torch's own function of the same."""

    distribution: Callable[..., Distribution]
    torchs: Callable[..., torch.Tensor]


UNIFORM = Kind(uniform_distribution, nn.init.uniform_)
NORMAL = Kind(normal_distribution, nn.init.normal_)
NORMAL_BETWEEN = Kind(_normal_between, nn.init.trunc_normal_)


def draw(
    tensor: torch.Tensor, kind: Kind, params: tuple[float, ...], generator: Generator | Cursor
) -> torch.Tensor:
    """Fill the tensor, here if fastinit can, otherwise by torch; return it.

    Torch's modes and subclasses may take the call over, as they may any call of torch's.
    """
    if has_torch_function_unary(tensor):
        taken: torch.Tensor = handle_torch_function(
            draw, (tensor,), tensor, kind, params, generator
        )
        return taken
    dtype = known_dtype(tensor)
    if dtype is not None:
        rng = cursor(generator)
        try:
            return fill(tensor, dtype, kind.distribution(*params), rng)
        except (TypeError, ValueError):
            pass  # for torch to refuse, in its own words
    return kind.torchs(tensor, *params, generator=torchs_generator(generator, tensor.device))


def uniform_(
    tensor: torch.Tensor, a: float = 0.0, b: float = 1.0, generator: Generator = None
) -> torch.Tensor:
    """Fill the tensor with uniforms on [a, b); as `torch.nn.init.uniform_`.

    Parameters
    ----------
    tensor : torch.Tensor
        Filled in place, whatever its strides; under ``no_grad``, as torch's functions do. A
        `DTensor`'s process fills what it holds. What fastinit cannot fill (another device,
        a complex dtype) is filled by torch.
    a, b : float
        The bounds.
    generator : torch.Generator, fastinit.Generator, int, or None
        Where the key is from: drawn from torch's generator, which moves on; a fastinit
        generator, which moves on; or a seed. None: torch's default generator, so that
        `torch.manual_seed` decides.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As torch; and if `generator` is none of these.

    Examples
    --------
    >>> w = init.uniform_(torch.empty(1000), -0.1, 0.1, generator=42)
    >>> bool(w.abs().max() <= 0.1)
    True
    """
    return draw(tensor, UNIFORM, (a, b), generator)


def normal_(
    tensor: torch.Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator = None
) -> torch.Tensor:
    """Fill the tensor with normals; as `torch.nn.init.normal_`.

    Parameters
    ----------
    mean, std : float
        std >= 0.
    tensor, generator
        As in `uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `uniform_`.

    References
    ----------
    G. E. P. Box, M. E. Muller, "A Note on the Generation of Random Normal Deviates", Ann.
    Math. Statist. 29, 1958.

    Examples
    --------
    >>> w = init.normal_(torch.empty(1000, 1000), std=0.02, generator=42)
    >>> round(w.std().item(), 3)
    0.02
    """
    return draw(tensor, NORMAL, (mean, std), generator)


def trunc_normal_(
    tensor: torch.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator = None,
) -> torch.Tensor:
    """Fill the tensor with normals that lie within a and b; as `torch.nn.init.trunc_normal_`.

    By the inverse distribution function: no loop, never a value outside, and right for
    intervals far from the mean too (of which torch's warning is given all the same).

    Parameters
    ----------
    mean, std : float
        Of the normal before it is cut; std > 0.
    a, b : float
        The bounds themselves. Not in standard deviations: for these `truncated_normal_`.
    tensor, generator
        As in `uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError, ZeroDivisionError
        As `uniform_`.

    References
    ----------
    M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution",
    Appl. Statist. 37, 1988.

    Examples
    --------
    >>> w = init.trunc_normal_(torch.empty(1000), std=0.02, a=-0.04, b=0.04, generator=42)
    >>> bool(w.abs().max() <= 0.04)
    True
    """
    if not a - 2 * std <= mean <= b + 2 * std:
        _no_grad_trunc_normal_(torch.empty(0), mean, std, a, b)  # to warn
    return draw(tensor, NORMAL_BETWEEN, (mean, std, a, b), generator)


def truncated_normal_(
    tensor: torch.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    generator: Generator = None,
) -> torch.Tensor:
    """Fill the tensor with normals within ``mean + low * std`` and ``mean + high * std``.

    The convention of JAX, TensorFlow and `fastinit.truncated_normal_`, where the bounds move
    with the standard deviation; `trunc_normal_`'s do not.

    Parameters
    ----------
    mean, std : float
        Of the normal before it is cut; what is left between +-2 has the standard deviation
        0.87962566 * std.
    low, high : float
        The bounds, in standard deviations from the mean.
    tensor, generator
        As in `uniform_`.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError, ZeroDivisionError
        As `uniform_`.

    References
    ----------
    M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution",
    Appl. Statist. 37, 1988.

    Examples
    --------
    >>> w = init.truncated_normal_(torch.empty(1000), std=0.02, generator=42)
    >>> bool(w.abs().max() <= 0.04)
    True
    """
    return draw(tensor, NORMAL_BETWEEN, (mean, std, mean + low * std, mean + high * std), generator)


def xavier_uniform_(
    tensor: torch.Tensor, gain: float = 1.0, generator: Generator = None
) -> torch.Tensor:
    """Fill with uniforms on +- gain * sqrt(6 / (fan_in + fan_out)); as torch's.

    Parameters
    ----------
    gain : float
        See `calculate_gain`.
    tensor, generator
        As in `uniform_`; the tensor has at least two axes: (out, in, ...).

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `uniform_`; if the tensor has fewer than two axes.

    References
    ----------
    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    Examples
    --------
    >>> w = init.xavier_uniform_(torch.empty(200, 100), generator=42)
    >>> bool(w.abs().max() <= (6 / 300) ** 0.5)
    True
    """
    bound = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return draw(tensor, UNIFORM, (-bound, bound), generator)


def xavier_normal_(
    tensor: torch.Tensor, gain: float = 1.0, generator: Generator = None
) -> torch.Tensor:
    """Fill with normals of standard deviation gain * sqrt(2 / (fan_in + fan_out)); as torch's.

    Parameters, returns and raises are those of `xavier_uniform_`.

    References
    ----------
    X. Glorot, Y. Bengio, AISTATS 2010.

    Examples
    --------
    >>> w = init.xavier_normal_(torch.empty(200, 100), generator=42)
    >>> bool(abs(w.std() / (2 / 300) ** 0.5 - 1) < 0.02)
    True
    """
    std = gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return draw(tensor, NORMAL, (0.0, std), generator)


def kaiming_uniform_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> torch.Tensor:
    """Fill with uniforms on +- gain * sqrt(3 / fan); as torch's.

    Parameters
    ----------
    a : float
        The slope of leaky_relu, for its gain.
    mode : {"fan_in", "fan_out"}
        Keeps the variance of the forward signal, or of the gradient.
    nonlinearity : str
        See `calculate_gain`.
    tensor, generator
        As in `uniform_`; the tensor has at least two axes: (out, in, ...). One without
        elements is left alone, with torch's warning.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `uniform_`; if the tensor has fewer than two axes, or `mode` or `nonlinearity` is
        unknown.

    References
    ----------
    K. He et al., "Delving Deep into Rectifiers", ICCV 2015.

    Examples
    --------
    >>> w = init.kaiming_uniform_(torch.empty(100, 200), nonlinearity="relu", generator=42)
    >>> bool(w.abs().max() <= (6 / 200) ** 0.5)
    True
    """
    if 0 in tensor.shape:
        return nn.init.kaiming_normal_(tensor)  # to warn
    fan = _calculate_correct_fan(tensor, mode)
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / fan)
    return draw(tensor, UNIFORM, (-bound, bound), generator)


def kaiming_normal_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> torch.Tensor:
    """Fill with normals of standard deviation gain / sqrt(fan); as torch's.

    Parameters, returns and raises are those of `kaiming_uniform_`.

    References
    ----------
    K. He et al., "Delving Deep into Rectifiers", ICCV 2015.

    Examples
    --------
    >>> w = init.kaiming_normal_(torch.empty(100, 200), nonlinearity="relu", generator=42)
    >>> bool(abs(w.std() / (2 / 200) ** 0.5 - 1) < 0.02)
    True
    """
    if 0 in tensor.shape:
        return nn.init.kaiming_normal_(tensor)  # to warn
    fan = _calculate_correct_fan(tensor, mode)
    return draw(tensor, NORMAL, (0.0, calculate_gain(nonlinearity, a) / math.sqrt(fan)), generator)


_FANS: dict[str, Callable[[int, int], float]] = {
    "fan_in": lambda fan_in, _: fan_in,
    "fan_out": lambda _, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
}
# The standard deviation of what is left of a standard normal between -2 and 2.
_STD_WITHIN_2 = 0.87962566103423978
_OF_STD: dict[str, Callable[[float], tuple[Kind, tuple[float, ...]]]] = {
    "normal": lambda std: (NORMAL, (0.0, std)),
    "uniform": lambda std: (UNIFORM, (-math.sqrt(3.0) * std, math.sqrt(3.0) * std)),
    "truncated_normal": lambda std: (
        NORMAL_BETWEEN,
        (0.0, std / _STD_WITHIN_2, -2.0 * std / _STD_WITHIN_2, 2.0 * std / _STD_WITHIN_2),
    ),
}


def variance_scaling_(
    tensor: torch.Tensor,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "normal",
    generator: Generator = None,
) -> torch.Tensor:
    """Fill the tensor so that its variance is ``scale / fan``; torch has none.

    Parameters
    ----------
    scale : float
        Positive. 1 keeps the variance of a linear layer's signal, 2 that of a rectified one.
    mode : {"fan_in", "fan_out", "fan_avg"}
        Which fan.
    distribution : {"normal", "uniform", "truncated_normal"}
        The last is cut at two of its standard deviations, and widened to have the variance
        nevertheless, as JAX and Keras do it.
    tensor, generator
        As in `uniform_`; the tensor has at least two axes: (out, in, ...).

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Examples
    --------
    >>> w = init.variance_scaling_(torch.empty(512, 256), 2.0, "fan_in", generator=42)
    >>> bool(abs(w.std() - (2 / 256) ** 0.5) < 1e-3)
    True
    """
    if mode not in _FANS:
        raise ValueError(f"mode={mode!r} is unknown; allowed: {', '.join(_FANS)}")
    if distribution not in _OF_STD:
        raise ValueError(f"distribution={distribution!r} is unknown; allowed: {', '.join(_OF_STD)}")
    variance = positive("scale", scale)
    fan = _FANS[mode](*_calculate_fan_in_and_fan_out(tensor))
    if fan == 0:  # no elements: nothing to scale
        return tensor
    return draw(tensor, *_OF_STD[distribution](math.sqrt(variance / fan)), generator)


def lecun_normal_(tensor: torch.Tensor, generator: Generator = None) -> torch.Tensor:
    """Fill with normals of standard deviation sqrt(1 / fan_in).

    Parameters, returns and raises are those of `variance_scaling_`.

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", 1998.

    Examples
    --------
    >>> w = init.lecun_normal_(torch.empty(200, 100), generator=42)
    >>> bool(abs(w.std() / 0.1 - 1) < 0.02)
    True
    """
    return variance_scaling_(tensor, 1.0, "fan_in", "normal", generator)


def lecun_uniform_(tensor: torch.Tensor, generator: Generator = None) -> torch.Tensor:
    """Fill with uniforms on +- sqrt(3 / fan_in).

    Parameters, returns and raises are those of `variance_scaling_`.

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", 1998.

    Examples
    --------
    >>> w = init.lecun_uniform_(torch.empty(200, 100), generator=42)
    >>> bool(w.abs().max() <= 0.03**0.5)
    True
    """
    return variance_scaling_(tensor, 1.0, "fan_in", "uniform", generator)


def orthogonal_(tensor: torch.Tensor, gain: float = 1, generator: Generator = None) -> torch.Tensor:
    """Fill the tensor with a (semi-)orthogonal matrix, times `gain`; torch's own function.

    Parameters
    ----------
    gain : float
        See `calculate_gain`.
    tensor, generator
        As in `uniform_`; the tensor has at least two axes, of which all but the first count
        as one. A fastinit generator or a seed seeds torch's.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As torch; and if `generator` is none.

    References
    ----------
    A. M. Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", ICLR 2014.

    Examples
    --------
    >>> w = init.orthogonal_(torch.empty(20, 30), generator=42)
    >>> torch.allclose(w @ w.T, torch.eye(20), atol=1e-5)
    True
    """
    return nn.init.orthogonal_(tensor, gain, torchs_generator(generator, tensor.device))


def sparse_(
    tensor: torch.Tensor, sparsity: float, std: float = 0.01, generator: Generator = None
) -> torch.Tensor:
    """Fill each column of a matrix with zeros and else normals; torch's own function.

    Which are zero is, as in torch, up to torch's default generator.

    Parameters
    ----------
    sparsity : float
        The part of each column that is zero.
    std : float
        Standard deviation of the rest.
    tensor, generator
        As in `orthogonal_`; the tensor has two axes.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As torch; and if `generator` is none.

    References
    ----------
    J. Martens, "Deep learning via Hessian-free optimization", ICML 2010.

    Examples
    --------
    >>> w = init.sparse_(torch.empty(20, 30), sparsity=0.1, generator=42)
    >>> bool(((w == 0).sum(dim=0) == 2).all())
    True
    """
    return nn.init.sparse_(tensor, sparsity, std, torchs_generator(generator, tensor.device))


glorot_uniform_, glorot_normal_ = xavier_uniform_, xavier_normal_
he_uniform_, he_normal_ = kaiming_uniform_, kaiming_normal_

_deprecated: Callable[[Any], Any] = _make_deprecate
uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)
