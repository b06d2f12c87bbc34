"""The functions of `torch.nn.init`, and those it lacks, over fastinit's stream.

Each works out a distribution as torch does, from the shape of the whole tensor, and hands it
to `draw`. Constants are stored by torch, at the speed of memory.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

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
)
from torch.overrides import handle_torch_function, has_torch_function_unary

import fastinit
from fastinit._arguments import Axes, Shape, choice, integer, real, shown, squared
from fastinit._distributions import (
    Distribution,
    absolute_truncated_normal_distribution,
    normal_distribution,
    normal_of_parts,
    truncated_normal_distribution,
    truncated_std,
    uniform_distribution,
)
from fastinit._errors import (
    name_of_call,
    renamed,
    type_error,
    value_error,
    with_name,
    without_name,
)
from fastinit._fill import (
    check_gain,
    fill_orthogonal,
    index_steps,
    is_sharded,
    params_in,
    part_keys,
    place,
)
from fastinit._kernels import Cursor
from fastinit.fans import fan_of
from fastinit.gains import gain_of
from fastinit.initializers import scaled_variance
from fastinit.structured import LINES, matrix_of, pieces_along
from fastinit.torch._devices import array_of
from fastinit.torch._private import functions_off
from fastinit.torch._tensor import (
    DTYPES,
    RandomSource,
    cursor,
    fill,
    generator_of,
    known_dtype,
    pieces,
    real_views,
    refusal,
    say_torchs,
    torchs_generator,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "blocks_",
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
    """One of fastinit's distributions, by its parameters, and torch's own function of the same.

    Attributes
    ----------
    distribution : callable
        Of real numbers.
    torchs : callable
        What fills a tensor where fastinit cannot.
    of_parts : callable, optional
        Of each part of complex numbers, as torch draws them; they are independent. None: torch
        refuses complex numbers.
    """

    distribution: Callable[..., Distribution]
    torchs: Callable[..., torch.Tensor]
    of_parts: Callable[..., Distribution] | None = None


def _uniform(a: float, b: float) -> Distribution:
    return uniform_distribution(a, b, ("a", "b"))


UNIFORM = Kind(_uniform, nn.init.uniform_, _uniform)
NORMAL = Kind(normal_distribution, nn.init.normal_, normal_of_parts)
TRUNCATED = Kind(
    truncated_normal_distribution,
    lambda tensor, mean, std, low, high, generator: nn.init.trunc_normal_(
        tensor, mean, std, mean + low * std, mean + high * std, generator
    ),
)
NORMAL_WITHIN = Kind(absolute_truncated_normal_distribution, nn.init.trunc_normal_)


class Part(NamedTuple):
    """Where in a larger tensor a part of it is: the index of its first element, each axis' step."""

    size: int
    start: int
    steps: tuple[int, ...]


def part_of(
    tensor: torch.Tensor, global_shape: Shape | None = None, offset: Shape | None = None
) -> Part | None:
    """Return where in a larger tensor a tensor is, if it is said to be a part of one.

    Raises
    ------
    TypeError, ValueError
        As `_whole`.
    """
    _checked(tensor)
    if global_shape is None and offset is None:
        return None
    shape, at = _whole(tensor, global_shape, offset)
    steps = index_steps(shape)
    start = sum(first * step for first, step in zip(at, steps, strict=True))
    return Part(math.prod(shape), start, tuple(steps))


def _whole(
    tensor: torch.Tensor, global_shape: Shape | None, offset: Shape | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shape of the tensor that this is all or a part of, and where it begins there.

    Raises
    ------
    TypeError, ValueError
        If it is not within it, or has a place of its own.
    """
    _checked(tensor)
    if global_shape is None and offset is None:
        return tuple(tensor.shape), (0,) * tensor.ndim
    if is_sharded(tensor):
        raise type_error(
            "global_shape and offset: a DTensor knows which part it is; allowed: a plain tensor"
        )
    try:
        return place(tuple(tensor.shape), global_shape, offset)
    except (TypeError, ValueError) as error:
        raise renamed(error, {"x": "tensor"}) from None


def draw(
    tensor: torch.Tensor,
    kind: Kind,
    params: tuple[float, ...],
    generator: RandomSource | Cursor,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> torch.Tensor:
    """Fill the tensor, by fastinit if it can, otherwise by torch with a warning; return it.

    Torch's modes and subclasses may take the call over, as they may any call of torch's.
    """
    if has_torch_function_unary(tensor):
        taken: torch.Tensor = handle_torch_function(
            draw, (tensor,), tensor, kind, params, generator, global_shape, offset
        )
        return taken
    part = None
    if global_shape is not None or offset is not None:  # which most are not
        part = part_of(tensor, global_shape, offset)
    dtype, distribution, refused = known_dtype(tensor), None, None
    if dtype is not None:
        for number in params:
            if type(number) is not float and isinstance(number, torch.Tensor):
                params = tuple(map(_plain, params))
                break
        try:
            distribution = kind.distribution(*params)
            rng = cursor(generator)  # moves torch's generator on
            if part is None:
                return fill(tensor, dtype, distribution, rng)
            params_in(distribution, dtype)  # before the generator moves on
            at = Cursor(rng.key, rng.take(part.size))
            return fill(tensor, dtype, distribution, at, part.start, list(part.steps))
        except (TypeError, ValueError) as error:
            # A function of torch's that `accelerate` has taken over refuses what torch refuses.
            if part is not None or (distribution is None and name_of_call()):
                raise
            refused = error
    elif kind.of_parts is not None and _has_real_views(tensor):
        try:
            whole = part or Part(tensor.numel(), 0, tuple(index_steps(tuple(tensor.shape))))
            fill_complex(tensor, kind, params, generator, whole)
            return tensor
        except (TypeError, ValueError) as error:
            if part is not None:
                raise
            refused = error
    if part is not None and not tensor.is_meta:
        raise type_error(
            f"global_shape and offset: fastinit cannot fill {refusal(tensor)}, and PyTorch knows "
            "no parts"
        )
    return _by_torch(tensor, kind.torchs, *params, generator=generator, refused=refused)


def _plain(number: Any) -> Any:
    """Return the number of a tensor that holds one; anything else as it is."""
    single = isinstance(number, torch.Tensor) and number.numel() == 1
    return number.item() if single else number


def _checked(tensor: object) -> None:
    """Raise TypeError if it is no tensor."""
    if not isinstance(tensor, torch.Tensor):
        raise type_error(f"tensor={shown(tensor)} must be a torch.Tensor")


def _has_real_views(tensor: torch.Tensor) -> bool:
    _checked(tensor)
    return bool(real_views(tensor))


def fill_complex(
    tensor: torch.Tensor,
    kind: Kind,
    params: tuple[float, ...],
    generator: RandomSource | Cursor,
    whole: Part,
) -> None:
    """Fill complex numbers, both parts from the streams of `fastinit.normal_`.

    Raises
    ------
    TypeError, ValueError
        If fastinit has no such complex numbers; the generator has not moved on.
    """
    views = real_views(tensor)
    dtype = known_dtype(views[0]) if views else None
    if dtype is None or kind.of_parts is None:
        raise type_error(f"tensor is {refusal(tensor)}")
    distribution = kind.of_parts(*map(_plain, params))
    params_in(distribution, dtype)
    rng = generator_of(generator, "generator")
    at = rng.take(whole.size)
    for view, key in zip(views, part_keys(rng), strict=True):
        fill(view, dtype, distribution, Cursor(key, at), whole.start, list(whole.steps))


def _by_torch(
    tensor: torch.Tensor,
    function: Callable[..., torch.Tensor],
    *arguments: Any,
    generator: RandomSource | Cursor,
    refused: Exception | None = None,
) -> torch.Tensor:
    """Have torch fill what we have not, and say so; return the tensor.

    If torch refuses as well, the error is ours. A function of torch's that `accelerate` has taken
    over raises what it raises without it.
    """
    _checked(tensor)
    torchs = torchs_generator(generator, tensor.device)
    try:
        function(tensor, *arguments, generator=torchs)
    except Exception as error:
        if not name_of_call():
            raise
        ours = renamed(refused, {"x": "tensor"}) if refused else _of_torchs(error, tensor)
        raise ours from None
    if not tensor.is_meta and tensor.numel() > 0:
        why = f"a tensor for which {without_name(refused)}" if refused else refusal(tensor)
        say_torchs(why)
    return tensor


def _of_torchs(error: Exception, tensor: torch.Tensor) -> Exception:
    """Return torch's error in the name of what was called, after what the tensor is."""
    kinds = (NotImplementedError, RuntimeError)
    kind = next((each for each in kinds if isinstance(error, each)), ValueError)
    first = next(iter(str(error).splitlines()), type(error).__name__)
    what = refusal(tensor) or f"a tensor of shape {tuple(tensor.shape)}"
    return kind(with_name(f"fastinit cannot fill {what}, and PyTorch says: {first}"))


def uniform_(
    tensor: torch.Tensor,
    a: float = 0.0,
    b: float = 1.0,
    generator: RandomSource = None,
    *,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> torch.Tensor:
    """Fill the tensor with uniforms on [a, b); as `torch.nn.init.uniform_`.

    Parameters
    ----------
    tensor : torch.Tensor
        Filled in place, on any device and whatever its strides; under ``no_grad``, as torch's
        functions do. A `DTensor`'s process fills what it holds. Of complex numbers both parts
        are drawn, independently, as torch does it: each uniform on [a, b), or each a normal of
        the same mean with half the variance. What fastinit cannot fill (a sparse or quantised
        tensor, an unknown subclass) is filled by torch, and a warning says so, once for each
        reason.
    a, b : float
        The bounds, rounded to the tensor's dtype. In float16 and bfloat16, which round float32's
        values, `b` itself can appear; in float32 and float64 it cannot.
    generator : torch.Generator, fastinit.Generator, int, or None
        Where the key is from: drawn from torch's generator, which moves on; a fastinit
        generator, which moves on; or a seed. None: torch's default generator, so that
        `torch.manual_seed` decides.
    global_shape, offset : sequence of int, optional
        Both are given where `tensor` is a part of a larger tensor: the shape of that tensor, and
        the index in it at which the part begins. The part then gets the values that it has in
        the whole, bit for bit, and the generator moves on by the whole.

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
    return draw(tensor, UNIFORM, (a, b), generator, global_shape, offset)


def normal_(
    tensor: torch.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    generator: RandomSource = None,
    *,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> torch.Tensor:
    """Fill the tensor with normals; as `torch.nn.init.normal_`.

    Parameters
    ----------
    mean, std : float
        std >= 0.
    tensor, generator, global_shape, offset
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
    return draw(tensor, NORMAL, (mean, std), generator, global_shape, offset)


def trunc_normal_(
    tensor: torch.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: RandomSource = None,
    *,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
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
    tensor, generator, global_shape, offset
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
    try:
        if std == 0 or not a - 2 * std <= mean <= b + 2 * std:
            _no_grad_trunc_normal_(torch.empty(0), mean, std, a, b)  # to warn
    except Exception:
        if not name_of_call():  # of torch's own function, taken over by `accelerate`
            raise
        absolute_truncated_normal_distribution(*map(_plain, (mean, std, a, b)))  # says why
        if std == 0:
            raise value_error("std=0 must be positive; constant_ fills with one number") from None
    return draw(tensor, NORMAL_WITHIN, (mean, std, a, b), generator, global_shape, offset)


def truncated_normal_(
    tensor: torch.Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    generator: RandomSource = None,
    *,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
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
    tensor, generator, global_shape, offset
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
    return draw(tensor, TRUNCATED, (mean, std, low, high), generator, global_shape, offset)


class Fans(TypedDict, total=False):
    """What says of which layer a weight is, where its shape does not, and of which tensor a part.

    Attributes
    ----------
    fan_in, fan_out : float, optional
        How many inputs an output has, and the reverse; in place of what the shape says.
    in_axis, out_axis : int or sequence of int
        Which axes count inputs and outputs: 1 and 0, as in `torch.nn.Linear`.
    batch_axis : int or sequence of int
        Axes that count layers, such as the experts of a stacked weight; none if not given. All
        others are a convolution's window.
    global_shape, offset : sequence of int, optional
        As in `uniform_`; fans are those of the whole tensor.
    """

    fan_in: float | None
    fan_out: float | None
    in_axis: Axes
    out_axis: Axes
    batch_axis: Axes
    global_shape: Shape | None
    offset: Shape | None


def _is_empty(tensor: torch.Tensor) -> bool:
    _checked(tensor)
    with functions_off():  # as in _fan
        return 0 in tensor.shape


def _known(fans: Fans, function: str) -> None:
    """Raise TypeError for an option that there is not."""
    if unknown := fans.keys() - Fans.__annotations__.keys():
        raise type_error(
            f"{function}() has no argument {', '.join(map(repr, sorted(unknown)))}; allowed: "
            f"{', '.join(Fans.__annotations__)}"
        )


def _fan(tensor: torch.Tensor, mode: str, fans: Fans, function: str) -> float:
    """Return a fan of the whole tensor."""
    if not fans:
        try:
            with functions_off():  # a mode would be asked about each length
                if mode == "fan_avg":
                    return float(sum(_calculate_fan_in_and_fan_out(tensor)) / 2)
                return float(_calculate_correct_fan(tensor, mode))
        except Exception as error:  # torch's own, which names no argument
            if not name_of_call():
                raise
            _checked(tensor)
            if mode != "fan_avg":
                choice("mode", mode, ("fan_in", "fan_out"))
            raise value_error(f"tensor has shape {tuple(tensor.shape)}: {error}") from None
    if mode != "fan_avg":
        choice("mode", mode, ("fan_in", "fan_out"))
    shape, layout = _layout(tensor, fans, function)
    return fan_of(shape, mode, layout, fans.get("fan_in"), fans.get("fan_out"))


def _layout(
    tensor: torch.Tensor, fans: Fans, function: str
) -> tuple[tuple[int, ...], tuple[Axes, Axes, Axes]]:
    """Return the whole tensor's shape, and its axes of inputs, outputs and layers."""
    _known(fans, function)
    shape, _ = _whole(tensor, *_place(fans))
    return shape, (fans.get("in_axis", 1), fans.get("out_axis", 0), fans.get("batch_axis", ()))


def _place(fans: Fans) -> tuple[Shape | None, Shape | None]:
    return fans.get("global_shape"), fans.get("offset")


def _factor(gain: Any) -> float:
    """Return the gain of a standard deviation."""
    number = real("gain", _plain(gain))
    if not (number >= 0.0 and number * number < math.inf):
        raise value_error(f"gain={shown(gain)} must be 0 or greater, and its square finite")
    return number


def _gain(nonlinearity: str, a: Any) -> float:
    """Return torch's gain of a nonlinearity."""
    try:
        gain = float(calculate_gain(nonlinearity, a))
    except Exception:
        if not name_of_call():
            raise
        gain_of(nonlinearity, a, "a")  # says why, if it knows none either
        raise value_error(f"nonlinearity={shown(nonlinearity)} has no gain in PyTorch") from None
    if not 0.0 < gain < math.inf and name_of_call():
        raise value_error(f"a={shown(a)} must be finite")
    return gain


def _std(gain: float, fan: float) -> float:
    """Return gain / sqrt(fan), rounded as by `fastinit.variance_scaling_`; 0 without a fan."""
    return math.sqrt(gain * gain / fan) if fan else 0.0


def _bound(gain: float, fan: float) -> float:
    """Return the bound of uniforms with that standard deviation."""
    return math.sqrt(3.0 * (gain * gain / fan)) if fan else 0.0


def xavier_uniform_(
    tensor: torch.Tensor, gain: float = 1.0, generator: RandomSource = None, **fans: Unpack[Fans]
) -> torch.Tensor:
    """Fill with uniforms on +- gain * sqrt(6 / (fan_in + fan_out)); as torch's.

    Parameters
    ----------
    gain : float
        See `calculate_gain`.
    tensor, generator
        As in `uniform_`; the tensor has at least two axes: (out, in, ...).
    **fans
        Whose fans: see `Fans`. A stacked weight of experts (expert, out, in) has
        ``batch_axis=0, out_axis=1, in_axis=2``; a convolution of g groups, which torch takes for
        a dense one, the `fan_out` of a group; a part has `global_shape` and `offset`. For
        several layers in one weight see `blocks_`.

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
    bound = _bound(_factor(gain), _fan(tensor, "fan_avg", fans, "xavier_uniform_"))
    return draw(tensor, UNIFORM, (-bound, bound), generator, *_place(fans))


def xavier_normal_(
    tensor: torch.Tensor, gain: float = 1.0, generator: RandomSource = None, **fans: Unpack[Fans]
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
    std = _std(_factor(gain), _fan(tensor, "fan_avg", fans, "xavier_normal_"))
    return draw(tensor, NORMAL, (0.0, std), generator, *_place(fans))


def kaiming_uniform_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: RandomSource = None,
    **fans: Unpack[Fans],
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
    **fans
        As in `xavier_uniform_`.

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
    if not fans and _is_empty(tensor):
        return nn.init.kaiming_normal_(tensor)  # to warn
    fan = _fan(tensor, mode, fans, "kaiming_uniform_")
    bound = _bound(_gain(nonlinearity, a), fan)
    return draw(tensor, UNIFORM, (-bound, bound), generator, *_place(fans))


def kaiming_normal_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: RandomSource = None,
    **fans: Unpack[Fans],
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
    if not fans and _is_empty(tensor):
        return nn.init.kaiming_normal_(tensor)  # to warn
    fan = _fan(tensor, mode, fans, "kaiming_normal_")
    std = _std(_gain(nonlinearity, a), fan)
    return draw(tensor, NORMAL, (0.0, std), generator, *_place(fans))


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
    **fans: Unpack[Fans],
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
    **fans
        Whose fans: see `Fans`. A stacked weight of experts (expert, out, in) has
        ``batch_axis=0, out_axis=1, in_axis=2``; a convolution of g groups, which torch takes for
        a dense one, the `fan_out` of a group; a part has `global_shape` and `offset`. For
        several layers in one weight see `blocks_`.

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
    choice("distribution", distribution, _OF_VARIANCE)
    shape, layout = _layout(tensor, fans, "variance_scaling_")
    given = fans.get("fan_in"), fans.get("fan_out")
    variance = scaled_variance(shape, scale, mode, layout, *given)
    kind, params = _OF_VARIANCE[distribution](variance)
    return draw(tensor, kind, params, generator, *_place(fans))


def lecun_normal_(
    tensor: torch.Tensor, generator: RandomSource = None, **fans: Unpack[Fans]
) -> torch.Tensor:
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
    return variance_scaling_(tensor, 1.0, "fan_in", "normal", generator, **fans)


def lecun_uniform_(
    tensor: torch.Tensor, generator: RandomSource = None, **fans: Unpack[Fans]
) -> torch.Tensor:
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
    return variance_scaling_(tensor, 1.0, "fan_in", "uniform", generator, **fans)


def xavier_truncated_normal_(
    tensor: torch.Tensor, gain: float = 1.0, generator: RandomSource = None, **fans: Unpack[Fans]
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
    scale = squared("gain", gain)
    return variance_scaling_(tensor, scale, "fan_avg", "truncated_normal", generator, **fans)


def kaiming_truncated_normal_(
    tensor: torch.Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: RandomSource = None,
    **fans: Unpack[Fans],
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
    factor = _gain(nonlinearity, a)
    return variance_scaling_(tensor, factor * factor, mode, "truncated_normal", generator, **fans)


def lecun_truncated_normal_(
    tensor: torch.Tensor, generator: RandomSource = None, **fans: Unpack[Fans]
) -> torch.Tensor:
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
    return variance_scaling_(tensor, 1.0, "fan_in", "truncated_normal", generator, **fans)


# What a strip has at least; `LINES` lines if these are more.
_STRIP_BYTES = 1 << 24


def _by_parts(
    tensor: torch.Tensor,
    make: Callable[[NDArray[Any], tuple[int, ...]], object],
    whole_axes: Callable[[], tuple[int, ...]] = tuple,
    begin: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """Fill each part that this process holds, of which `make` is told where it begins.

    Where the memory is the CPU's, in one piece and of the dtype that the values have before they
    are rounded, it is filled where it is. Else strips are made on the CPU and copied, which have
    all of the axes that `whole_axes` returns. The tensor itself begins at `begin` in a larger one.
    """
    begin = (0,) * tensor.ndim if begin is None else begin
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    for memory, box in pieces(tensor):
        corner = [i + side.start for i, side in zip(begin, box, strict=True)]
        if memory.is_cpu and known_dtype(memory) is DTYPES[wide] and memory.is_contiguous():
            make(array_of(memory), tuple(corner))
            continue
        for strip, at in _strips(memory, whole_axes()):
            part = torch.empty(strip.shape, dtype=wide, device="cpu")
            make(part.numpy(), tuple(map(operator.add, corner, at)))
            strip.copy_(part)
    increment_version(tensor)
    return tensor


def _strips(
    memory: torch.Tensor, whole_axes: tuple[int, ...]
) -> Iterator[tuple[torch.Tensor, tuple[int, ...]]]:
    """Yield parts that have all of some axes, and where each begins."""
    others = [axis for axis in range(memory.ndim) if axis not in whole_axes]
    if not (memory.numel() and others):
        yield memory, (0,) * memory.ndim
        return
    axis = max(others, key=lambda axis: memory.shape[axis])
    length = memory.shape[axis]
    line = math.prod(memory.shape[a] for a in whole_axes)
    size = max(LINES * line, _STRIP_BYTES // 4)
    step = max(1, size * length // memory.numel())
    for first in range(0, length, step):
        at = tuple(first if a == axis else 0 for a in range(memory.ndim))
        yield memory.narrow(axis, first, min(step, length - first)), at


def _no_part(tensor: torch.Tensor, global_shape: Shape | None, offset: Shape | None) -> None:
    """Raise if what torch has to fill or to refuse is a part of a larger tensor."""
    if part_of(tensor, global_shape, offset) is not None and tensor.numel():
        raise type_error(
            f"global_shape and offset: allowed for a matrix that fastinit can fill; this is "
            f"{refusal(tensor) or f'of shape {tuple(tensor.shape)}'}"
        )


def orthogonal_(
    tensor: torch.Tensor,
    gain: float = 1,
    generator: RandomSource = None,
    *,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
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
    if dtype is None or tensor.ndim < 2 or (tensor.numel() == 0 and global_shape is None):
        _no_part(tensor, global_shape, offset)
        return _by_torch(tensor, nn.init.orthogonal_, gain, generator=generator)
    factor = real("gain", gain)
    check_gain(factor, dtype)  # before the generator moves on
    shape, begin = _whole(tensor, global_shape, offset)
    rng = cursor(generator)
    first = rng.take(math.prod(shape))

    def make(part: NDArray[Any], at: tuple[int, ...]) -> None:
        fill_orthogonal(factor, part, matrix_of(shape, at, 0), Cursor(rng.key, first))

    def axes() -> tuple[int, ...]:
        return fastinit.Initializer("orthogonal", column_axis=0).whole_axes(shape)

    return _by_parts(tensor, make, axes, begin)


def sparse_(
    tensor: torch.Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: RandomSource = None,
    *,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
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
    if dtype is None or tensor.ndim != 2:
        _no_part(tensor, global_shape, offset)
        return _by_torch(tensor, nn.init.sparse_, sparsity, std, generator=generator)
    sparsity, std = real("sparsity", _plain(sparsity)), real("std", _plain(std))
    params_in(normal_distribution(0.0, std), dtype)
    fastinit.Initializer("sparse", sparsity=sparsity, std=std).check((1, 1))
    shape, begin = _whole(tensor, global_shape, offset)
    rng = generator_of(generator, "generator")
    first = rng.take(math.prod(shape))

    def make(part: NDArray[Any], at: tuple[int, ...]) -> None:
        again = fastinit.Generator(rng.seed_seq, first)
        fastinit.sparse_(part, sparsity, std, rng=again, global_shape=shape, offset=at)

    def axes() -> tuple[int, ...]:
        return fastinit.Initializer("sparse", sparsity=sparsity).whole_axes(shape)

    return _by_parts(tensor, make, axes, begin)


def constant_(
    tensor: torch.Tensor,
    val: float,
    *,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> torch.Tensor:
    """Fill the tensor with one value; torch's.

    Parameters
    ----------
    tensor : torch.Tensor
        Of any shape and dtype, on any device.
    val : float
        The value.
    global_shape, offset : sequence of int, optional
        As in `uniform_`: where in a larger tensor this one is. The value is the same there.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError
        If there is no such part.

    Examples
    --------
    >>> init.constant_(torch.empty(2), 0.5)
    tensor([0.5000, 0.5000])
    """
    part_of(tensor, global_shape, offset)  # refuses what is none
    try:
        return nn.init.constant_(tensor, val)
    except (TypeError, RuntimeError, OverflowError) as error:
        allowed = (Real, torch.Tensor, complex) if tensor.is_complex() else (Real, torch.Tensor)
        if not isinstance(val, allowed):
            raise type_error(f"val={shown(val)} must be a real number") from None
        first = str(error).splitlines()[0]
        raise value_error(f"val={shown(val)} in {tensor.dtype}: {first}") from None


def ones_(
    tensor: torch.Tensor, *, global_shape: Shape | None = None, offset: Shape | None = None
) -> torch.Tensor:
    """Fill the tensor with 1; torch's.

    Parameters, returns and raises are those of `constant_`.

    Examples
    --------
    >>> init.ones_(torch.empty(2))
    tensor([1., 1.])
    """
    part_of(tensor, global_shape, offset)  # refuses what is none
    return nn.init.ones_(tensor)


def zeros_(
    tensor: torch.Tensor, *, global_shape: Shape | None = None, offset: Shape | None = None
) -> torch.Tensor:
    """Fill the tensor with 0; torch's.

    Parameters, returns and raises are those of `constant_`.

    Examples
    --------
    >>> init.zeros_(torch.empty(2))
    tensor([0., 0.])
    """
    part_of(tensor, global_shape, offset)  # refuses what is none
    return nn.init.zeros_(tensor)


def eye_(
    tensor: torch.Tensor, *, global_shape: Shape | None = None, offset: Shape | None = None
) -> torch.Tensor:
    """Fill a matrix with 1 on its diagonal and 0 elsewhere; torch's, and for shards too.

    Parameters
    ----------
    tensor : torch.Tensor
        Of two axes.
    global_shape, offset : sequence of int, optional
        As in `uniform_`; the diagonal is that of the whole tensor.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError
        If the tensor has not two axes, or there is no such part.

    Examples
    --------
    >>> init.eye_(torch.empty(2, 3))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    shape, begin = _whole(tensor, global_shape, offset)
    if len(shape) != 2:
        raise value_error(f"tensor has shape {shape}; allowed: two axes")
    if shape == tuple(tensor.shape) and not is_sharded(tensor):
        return nn.init.eye_(tensor)
    return _by_parts(
        tensor, lambda x, at: fastinit.eye_(x, global_shape=shape, offset=at), begin=begin
    )


def dirac_(
    tensor: torch.Tensor,
    groups: int = 1,
    *,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> torch.Tensor:
    """Fill a convolution's weight so that it hands its input on; torch's, and for shards too.

    Parameters
    ----------
    tensor : torch.Tensor
        Of three to five axes: (out, in, ...).
    groups : int
        The outputs fall into so many groups, each an identity of its own.
    global_shape, offset : sequence of int, optional
        As in `uniform_`; groups and the kernel's centre are those of the whole tensor.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError
        If the tensor has not so many axes, `groups` does not divide the outputs, or there is no
        such part.

    References
    ----------
    S. Zagoruyko, N. Komodakis, "DiracNets: Training Very Deep Neural Networks Without
    Skip-Connections", 2017.

    Examples
    --------
    >>> init.dirac_(torch.empty(1, 1, 3))
    tensor([[[0., 1., 0.]]])
    """
    shape, begin = _whole(tensor, global_shape, offset)
    if not 3 <= len(shape) <= 5:
        raise value_error(f"tensor has shape {shape}; allowed: three to five axes")
    if integer("groups", groups) < 1 or shape[0] % groups:
        raise value_error(f"groups={shown(groups)} must divide the first axis of shape {shape}")
    if shape == tuple(tensor.shape) and not is_sharded(tensor):
        return nn.init.dirac_(tensor, groups)

    def make(part: NDArray[Any], at: tuple[int, ...]) -> None:
        fastinit.dirac_(part, groups, in_axis=1, out_axis=0, global_shape=shape, offset=at)

    return _by_parts(tensor, make, begin=begin)


def blocks_(
    tensor: torch.Tensor,
    initializer: Callable[..., Any],
    sizes: Sequence[int],
    axis: int = 0,
    generator: RandomSource = None,
    *,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
    **options: Any,
) -> torch.Tensor:
    """Fill the tensor piece by piece along an axis, each as a tensor of its own, with its fans.

    So for weights that several layers share: query, key and value in one, the gates of a
    recurrent layer, the groups of a convolution.

    Parameters
    ----------
    tensor : torch.Tensor
        Filled in place; what `initializer` takes.
    initializer : callable
        A function of this module with a generator, such as `xavier_uniform_` or `orthogonal_`.
    sizes : sequence of int
        The pieces' lengths; their sum is the axis's, of the whole tensor.
    axis : int
        The axis that they share: outputs, as in `torch.nn.LSTM`.
    generator, global_shape, offset
        As in `uniform_`. The pieces take the generator's indices, or keys, one after the other.
    **options
        What the initializer takes besides.

    Returns
    -------
    torch.Tensor
        `tensor`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or as the initializer; if it refuses a later piece,
        the pieces before are filled.

    References
    ----------
    `torch.nn.MultiheadAttention` fills its fused weight as one, with too large a fan_out.

    Examples
    --------
    >>> lstm = torch.nn.LSTM(8, 16)
    >>> w = blocks_(lstm.weight_hh_l0, init.orthogonal_, [16] * 4, generator=42)
    >>> torch.allclose(w[16:32] @ w[16:32].T, torch.eye(16), atol=1e-5)
    True
    """
    whole, at = _whole(tensor, global_shape, offset)
    along, lengths = pieces_along(whole, axis, initializer, sizes)
    if not (generator is None or isinstance(generator, torch.Generator)):
        generator = generator_of(generator, "generator")  # a seed gives each piece other values
    boxes = [
        (memory, [i + side.start for i, side in zip(at, box, strict=True)])
        for memory, box in pieces(tensor)
    ]
    begin = 0
    for length in lengths:
        shape = (*whole[:along], length, *whole[along + 1 :])
        rng = _again(generator, shape) if is_sharded(tensor) else lambda: generator
        for memory, corner in boxes:
            first = corner[along] - begin
            low, high = (min(max(0, i - first), memory.shape[along]) for i in (0, length))
            piece = memory.narrow(along, low, high - low)
            where = (*corner[:along], min(max(0, first), length), *corner[along + 1 :])
            part = {"global_shape": shape, "offset": where} if piece.shape != shape else {}
            initializer(piece, generator=rng(), **part, **options)
        begin += length
    if is_sharded(tensor):
        increment_version(tensor)
    return tensor


def _again(generator: RandomSource, shape: tuple[int, ...]) -> Callable[[], RandomSource | Cursor]:
    """Return what gives a generator for a tensor's values as often as there are parts of it."""
    if generator is None or isinstance(generator, torch.Generator):
        key = cursor(generator).key
        return lambda: Cursor(key)
    rng = generator_of(generator, "generator")
    first = rng.take(math.prod(shape))
    return lambda: fastinit.Generator(rng.seed_seq, first)


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
