"""The functions of `torch.nn.init`, and those it lacks, over fastinit's stream.

Each works out a distribution as torch does, from the shape of the whole tensor, and hands it
to `draw`. Constants are torch's own: it stores them at the speed of memory already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import nn
from torch.autograd.graph import increment_version
from torch.nn.init import (
    _calculate_correct_fan,
    _calculate_fan_in_and_fan_out,
    _make_deprecate,
    _no_grad_trunc_normal_,
    calculate_gain,
    constant_,
    ones_,
    zeros_,
)
from torch.overrides import handle_torch_function, has_torch_function_unary

import fastinit
from fastinit._check import positive, real
from fastinit._distributions import (
    Distribution,
    absolute_truncated_normal_distribution,
    normal_distribution,
    truncated_normal_distribution,
    truncated_std,
    uniform_distribution,
)
from fastinit._fill import check_gain, fill_orthogonal, is_sharded, params_in
from fastinit._kernels import Cursor
from fastinit.initializers import scaled_variance
from fastinit.structured import matrix_of
from fastinit.torch._tensor import (
    RandomSource,
    cursor,
    fill,
    generator_of,
    known_dtype,
    pieces,
    refusal,
    say_torchs,
    torchs_generator,
)

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "glorot_normal_",
    "glorot_truncated_normal_",
    "glorot_uniform_",
    "he_normal_",
    "he_truncated_normal_",
    "he_uniform_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_truncated_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_truncated_normal_",
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
    "xavier_truncated_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]


class Kind(NamedTuple):
    """A distribution of ours, by its parameters, and torch's own function of the same."""

    distribution: Callable[..., Distribution]
    torchs: Callable[..., torch.Tensor]


UNIFORM = Kind(uniform_distribution, nn.init.uniform_)
NORMAL = Kind(normal_distribution, nn.init.normal_)
TRUNCATED = Kind(
    truncated_normal_distribution,
    lambda tensor, mean, std, low, high, generator: nn.init.trunc_normal_(
        tensor, mean, std, mean + low * std, mean + high * std, generator
    ),
)
NORMAL_WITHIN = Kind(absolute_truncated_normal_distribution, nn.init.trunc_normal_)


def draw(
    tensor: torch.Tensor, kind: Kind, params: tuple[float, ...], generator: RandomSource | Cursor
) -> torch.Tensor:
    """Fill the tensor, by fastinit if it can, otherwise by torch with a warning; return it.

    Torch's modes and subclasses may take the call over, as they may any call of torch's.
    """
    if has_torch_function_unary(tensor):
        taken: torch.Tensor = handle_torch_function(
            draw, (tensor,), tensor, kind, params, generator
        )
        return taken
    dtype, reason = known_dtype(tensor), ""
    if dtype is not None:
        rng = cursor(generator)
        if any(isinstance(number, torch.Tensor) for number in params):
            params = tuple(float(number) for number in params)
        try:
            return fill(tensor, dtype, kind.distribution(*params), rng)
        except (TypeError, ValueError) as error:
            reason = f"a tensor for which {error}"  # for torch to refuse, in its own words
    return _by_torch(tensor, kind.torchs, *params, generator=generator, reason=reason)


def _by_torch(
    tensor: torch.Tensor,
    function: Callable[..., torch.Tensor],
    *arguments: Any,
    generator: RandomSource | Cursor,
    reason: str = "",
) -> torch.Tensor:
    """Have torch fill the tensor, or refuse to; say so if it has, and return the tensor."""
    function(tensor, *arguments, generator=torchs_generator(generator, tensor.device))
    if not tensor.is_meta and tensor.numel() > 0:
        say_torchs(reason or refusal(tensor))
    return tensor


def uniform_(
    tensor: torch.Tensor, a: float = 0.0, b: float = 1.0, generator: RandomSource = None
) -> torch.Tensor:
    """Fill the tensor with uniforms on [a, b); as `torch.nn.init.uniform_`.

    Parameters
    ----------
    tensor : torch.Tensor
        Filled in place, on any device and whatever its strides; under ``no_grad``, as torch's
        functions do. A `DTensor`'s process fills what it holds. What fastinit cannot fill (a
        sparse or quantised tensor, a complex dtype, an unknown subclass) is filled by torch, and
        a warning says so, once for each reason.
    a, b : float
        The bounds, rounded to the tensor's dtype. In float16 and bfloat16, which round float32's
        values, `b` itself can appear; in float32 and float64 it cannot.
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
    tensor: torch.Tensor, mean: float = 0.0, std: float = 1.0, generator: RandomSource = None
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
    generator: RandomSource = None,
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
    if std == 0 or not a - 2 * std <= mean <= b + 2 * std:
        _no_grad_trunc_normal_(torch.empty(0), mean, std, a, b)  # to refuse, or to warn
    return draw(tensor, NORMAL_WITHIN, (mean, std, a, b), generator)


def truncated_normal_(
    tensor: torch.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    generator: RandomSource = None,
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
    return draw(tensor, TRUNCATED, (mean, std, low, high), generator)


def _std(gain: float, fan: float) -> float:
    """Return gain / sqrt(fan), rounded as by `fastinit.variance_scaling_`.

    It keeps the sign, so that torch refuses a negative gain.
    """
    return math.copysign(math.sqrt(gain**2 / fan), gain)


def _bound(gain: float, fan: float) -> float:
    """Return the bound of uniforms with that standard deviation."""
    return math.copysign(math.sqrt(3.0 * (gain**2 / fan)), gain)


def xavier_uniform_(
    tensor: torch.Tensor, gain: float = 1.0, generator: RandomSource = None
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
    bound = _bound(gain, sum(_calculate_fan_in_and_fan_out(tensor)) / 2)
    return draw(tensor, UNIFORM, (-bound, bound), generator)


def xavier_normal_(
    tensor: torch.Tensor, gain: float = 1.0, generator: RandomSource = None
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
    std = _std(gain, sum(_calculate_fan_in_and_fan_out(tensor)) / 2)
    return draw(tensor, NORMAL, (0.0, std), generator)


def kaiming_uniform_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: RandomSource = None,
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
    bound = _bound(calculate_gain(nonlinearity, a), _calculate_correct_fan(tensor, mode))
    return draw(tensor, UNIFORM, (-bound, bound), generator)


def kaiming_normal_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: RandomSource = None,
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
    std = _std(calculate_gain(nonlinearity, a), _calculate_correct_fan(tensor, mode))
    return draw(tensor, NORMAL, (0.0, std), generator)


_TORCHS_AXES = 1, 0, ()  # in, out, batch
_OF_VARIANCE: dict[str, Callable[[float], tuple[Kind, tuple[float, ...]]]] = {
    "normal": lambda variance: (NORMAL, (0.0, math.sqrt(variance))),
    "uniform": lambda variance: (UNIFORM, (-math.sqrt(3.0 * variance), math.sqrt(3.0 * variance))),
    "truncated_normal": lambda variance: (
        TRUNCATED,
        (0.0, math.sqrt(variance) / truncated_std(-2.0, 2.0), -2.0, 2.0),
    ),
}


def variance_scaling_(
    tensor: torch.Tensor,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "normal",
    generator: RandomSource = None,
) -> torch.Tensor:
    """Fill the tensor so that its variance is ``scale / fan``; torch has none.

    Parameters
    ----------
    scale : float
        Positive. 1 keeps the variance of a linear layer's signal, 2 that of a rectified one.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan: the inputs, the outputs, their mean, or their geometric mean.
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
    if distribution not in _OF_VARIANCE:
        raise ValueError(
            f"distribution={distribution!r} is unknown; allowed: {', '.join(_OF_VARIANCE)}"
        )
    variance = scaled_variance(tuple(tensor.shape), scale, mode, _TORCHS_AXES)
    return draw(tensor, *_OF_VARIANCE[distribution](variance), generator)


def lecun_normal_(tensor: torch.Tensor, generator: RandomSource = None) -> torch.Tensor:
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


def lecun_uniform_(tensor: torch.Tensor, generator: RandomSource = None) -> torch.Tensor:
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


def xavier_truncated_normal_(
    tensor: torch.Tensor, gain: float = 1.0, generator: RandomSource = None
) -> torch.Tensor:
    """Fill with truncated normals of standard deviation gain * sqrt(2 / (fan_in + fan_out)).

    Cut at +-2 standard deviations of a normal so much wider that what is left has this one.
    Parameters, returns and raises are those of `variance_scaling_`.

    References
    ----------
    X. Glorot, Y. Bengio, AISTATS 2010; cut as in TensorFlow, Keras and JAX.

    Examples
    --------
    >>> w = init.xavier_truncated_normal_(torch.empty(200, 100), generator=42)
    >>> bool(abs(w.std() / (2 / 300) ** 0.5 - 1) < 0.02)
    True
    """
    scale = positive("gain", gain) ** 2
    return variance_scaling_(tensor, scale, "fan_avg", "truncated_normal", generator)


def kaiming_truncated_normal_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: RandomSource = None,
) -> torch.Tensor:
    """Fill with truncated normals of standard deviation gain / sqrt(fan).

    Cut as `xavier_truncated_normal_`. Parameters are those of `kaiming_uniform_`, returns and
    raises those of `variance_scaling_`.

    References
    ----------
    K. He et al., ICCV 2015; cut as in TensorFlow, Keras and JAX.

    Examples
    --------
    >>> w = init.kaiming_truncated_normal_(torch.empty(100, 200), generator=42)
    >>> bool(abs(w.std() / (2 / 200) ** 0.5 - 1) < 0.02)
    True
    """
    scale = calculate_gain(nonlinearity, a) ** 2
    return variance_scaling_(tensor, scale, mode, "truncated_normal", generator)


def lecun_truncated_normal_(tensor: torch.Tensor, generator: RandomSource = None) -> torch.Tensor:
    """Fill with truncated normals of standard deviation sqrt(1 / fan_in).

    Cut as `xavier_truncated_normal_`. Parameters, returns and raises are those of
    `variance_scaling_`.

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", 1998; cut as in TensorFlow, Keras and JAX.

    Examples
    --------
    >>> w = init.lecun_truncated_normal_(torch.empty(200, 100), generator=42)
    >>> bool(abs(w.std() / 0.1 - 1) < 0.02)
    True
    """
    return variance_scaling_(tensor, 1.0, "fan_in", "truncated_normal", generator)


def _by_parts(
    tensor: torch.Tensor, make: Callable[[NDArray[Any], tuple[int, ...]], object]
) -> torch.Tensor:
    """Fill each part that this process holds, of which `make` is told where it begins.

    It is made in the CPU's memory, in the dtype that the values have before they are rounded.
    """
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    for memory, box in pieces(tensor):
        part = torch.empty(memory.shape, dtype=wide, device="cpu")
        make(part.numpy(), tuple(side.start for side in box))
        memory.copy_(part)
    increment_version(tensor)
    return tensor


def orthogonal_(
    tensor: torch.Tensor, gain: float = 1, generator: RandomSource = None
) -> torch.Tensor:
    """Fill the tensor with `gain` times a random orthogonal matrix; as torch's.

    Parameters
    ----------
    gain : float
        See `calculate_gain`.
    tensor, generator
        As in `uniform_`; the tensor has at least two axes, of which all but the first count
        as one. A `DTensor`'s processes each make what they hold, without communication.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `uniform_`; if the tensor has fewer than two axes.

    Notes
    -----
    The values are those of `fastinit.orthogonal_` with ``column_axis=0``, which says how they are
    made: the same bits on every machine, and for every number of processes.

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", ICLR 2014. G. W. Stewart, "The Efficient Generation of Random
    Orthogonal Matrices with an Application to Condition Estimators", SIAM J. Numer. Anal. 17,
    1980.

    Examples
    --------
    >>> w = init.orthogonal_(torch.empty(20, 30), generator=42)
    >>> torch.allclose(w @ w.T, torch.eye(20), atol=1e-5)
    True
    """
    dtype = known_dtype(tensor)
    if tensor.ndim < 2 or tensor.numel() == 0 or dtype is None:
        return _by_torch(tensor, nn.init.orthogonal_, gain, generator=generator)
    shape, factor = tuple(tensor.shape), real("gain", gain)
    check_gain(factor, dtype)  # before the generator moves on
    rng = cursor(generator)
    first = rng.take(tensor.numel())

    def make(part: NDArray[Any], at: tuple[int, ...]) -> None:
        fill_orthogonal(factor, part, matrix_of(shape, at, 0), Cursor(rng.key, first))

    return _by_parts(tensor, make)


def sparse_(
    tensor: torch.Tensor, sparsity: float, std: float = 0.01, generator: RandomSource = None
) -> torch.Tensor:
    """Fill a matrix with normals, and a part of each column with 0; as torch's.

    Parameters
    ----------
    sparsity : float
        The part of each column that is zero, 0 to 1.
    std : float
        Standard deviation of the rest.
    tensor, generator
        As in `orthogonal_`; the tensor has two axes. Here which are zero is up to the
        generator too; in torch it is up to the default one always.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `uniform_`; if the tensor has not two axes, or `sparsity` is not 0 to 1.

    References
    ----------
    J. Martens, "Deep learning via Hessian-free optimization", ICML 2010.

    Examples
    --------
    >>> w = init.sparse_(torch.empty(20, 30), sparsity=0.1, generator=42)
    >>> bool(((w == 0).sum(dim=0) == 2).all())
    True
    """
    dtype = known_dtype(tensor)
    if tensor.ndim != 2 or dtype is None:
        return _by_torch(tensor, nn.init.sparse_, sparsity, std, generator=generator)
    try:
        params_in(normal_distribution(0.0, std), dtype)
        fastinit.Initializer("sparse", sparsity=sparsity, std=std).check((1, 1))
    except (TypeError, ValueError) as error:  # for torch to refuse, in its own words
        reason = f"a tensor for which {error}"
        return _by_torch(tensor, nn.init.sparse_, sparsity, std, generator=generator, reason=reason)
    rng, shape = generator_of(generator), tuple(tensor.shape)
    first = rng.take(tensor.numel())

    def make(part: NDArray[Any], at: tuple[int, ...]) -> None:
        again = fastinit.Generator(rng.seed_seq, first)
        fastinit.sparse_(part, sparsity, std, rng=again, global_shape=shape, offset=at)

    return _by_parts(tensor, make)


def eye_(tensor: torch.Tensor) -> torch.Tensor:
    """Fill a matrix with 1 on its diagonal and 0 elsewhere; torch's, and for shards too.

    Parameters
    ----------
    tensor : torch.Tensor
        Of two axes.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    ValueError
        If the tensor has not two axes.

    Examples
    --------
    >>> init.eye_(torch.empty(2, 3))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    if not is_sharded(tensor):
        return nn.init.eye_(tensor)
    nn.init.eye_(torch.empty((0,) * tensor.ndim))  # refuses what it must, in torch's words
    shape = tuple(tensor.shape)
    return _by_parts(tensor, lambda x, at: fastinit.eye_(x, global_shape=shape, offset=at))


def dirac_(tensor: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """Fill a convolution's weight so that it hands its input on; torch's, and for shards too.

    Parameters
    ----------
    tensor : torch.Tensor
        Of three to five axes: (out, in, ...).
    groups : int
        The outputs fall into so many groups, each an identity of its own.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    ValueError
        If the tensor has not so many axes, or `groups` does not divide the outputs.

    References
    ----------
    S. Zagoruyko, N. Komodakis, "DiracNets: Training Very Deep Neural Networks Without
    Skip-Connections", 2017.

    Examples
    --------
    >>> init.dirac_(torch.empty(1, 1, 3))
    tensor([[[0., 1., 0.]]])
    """
    if not is_sharded(tensor):
        return nn.init.dirac_(tensor, groups)
    shape = tuple(tensor.shape)
    nn.init.dirac_(torch.empty(shape[0], *(0 for _ in shape[1:])), groups)  # refuses, as in eye_

    def make(part: NDArray[Any], at: tuple[int, ...]) -> None:
        fastinit.dirac_(part, groups, in_axis=1, out_axis=0, global_shape=shape, offset=at)

    return _by_parts(tensor, make)


glorot_uniform_, glorot_normal_ = xavier_uniform_, xavier_normal_
glorot_truncated_normal_ = xavier_truncated_normal_
he_uniform_, he_normal_ = kaiming_uniform_, kaiming_normal_
he_truncated_normal_ = kaiming_truncated_normal_

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
