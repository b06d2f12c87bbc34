"""Initializers: one primitive, `variance_scaling_`, and one-line specialisations of it.

Each fills an array in place; `fastinit._allocating` makes of each a function that allocates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, TypedDict, TypeVar

from fastinit._arguments import Axes, Shape, choice, positive, real, squared
from fastinit._distributions import (
    absolute_truncated_normal_distribution,
    normal_distribution,
    truncated_normal_distribution,
    truncated_std,
    uniform_distribution,
)
from fastinit._errors import type_error, value_error
from fastinit._fill import check_pair, fill, fill_constant, is_complex, place, shape_of
from fastinit.fans import fan_of
from fastinit.formulas import fill_disk
from fastinit.gains import gain_of
from fastinit.random import RNG, as_generator

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class ScalingOptions(TypedDict, total=False):
    """What the specialisations of `variance_scaling_` hand on to it."""

    in_axis: Axes
    out_axis: Axes
    batch_axis: Axes
    fan_in: float | None
    fan_out: float | None
    rng: RNG
    threads: int | None
    backend: str | None
    global_shape: Shape | None
    offset: Shape | None


_MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
_DISTRIBUTIONS = ("normal", "truncated_normal", "uniform")


def constant_(
    x: T,
    value: float,
    *,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with `value`.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is boolean, an integer or a floating type of at most 8
        bytes; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    value : float
        Must be representable in x's dtype; NaN and infinities are allowed for floats.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If x cannot be filled (read-only, overlapping, of another dtype), or not with `value`; then
        nothing was written.

    Notes
    -----
    :For: whatever needs one value
    :PyTorch: constant_
    :JAX: constant
    :Keras: Constant

    Examples
    --------
    >>> fi.constant_(np.empty(3, np.float32), 0.5)
    array([0.5, 0.5, 0.5], dtype=float32)
    """
    return fill_constant(x, value, threads, global_shape, offset, backend)


def zeros_(
    x: T,
    *,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with 0.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is boolean, an integer or a floating type of at most 8
        bytes; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: biases, the last layer of a residual branch
    :PyTorch: zeros_
    :JAX: zeros
    :Keras: Zeros

    Examples
    --------
    >>> fi.zeros_(np.empty(2, np.float32))
    array([0., 0.], dtype=float32)
    """
    return fill_constant(x, 0, threads, global_shape, offset, backend)


def ones_(
    x: T,
    *,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with 1.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is boolean, an integer or a floating type of at most 8
        bytes; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: the scale of a normalisation
    :PyTorch: ones_
    :JAX: ones
    :Keras: Ones

    Examples
    --------
    >>> fi.ones_(np.empty(2, np.float32))
    array([1., 1.], dtype=float32)
    """
    return fill_constant(x, 1, threads, global_shape, offset, backend)


def uniform_(
    x: T,
    low: float = 0.0,
    high: float = 1.0,
    *,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with uniforms on [low, high): ``fma(u, high - low, low)``.

    Parameters
    ----------
    x : array, or list of arrays
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or a list of such arrays, which are filled
        one after the other, as if they were one; for small arrays this takes less time than a
        call for each.
    low, high : float
        The bounds, finite in x's dtype and rounded to it. In float32 and float64 each value is
        at least `low` and less than `high`; if both are the same number, each value is that
        number. A narrower format rounds float32's values to nearest, so that `high` appears where
        it is nearer than the number below it: in bfloat16, once in 512 values on [0, 1).
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: any distribution of your own
    :PyTorch: uniform_
    :JAX: uniform (low = 0)
    :Keras: RandomUniform

    Examples
    --------
    >>> x = fi.uniform_(np.empty(1000, np.float32), -0.1, 0.1, rng=42)
    >>> bool(abs(x).max() <= 0.1)
    True
    """
    distribution = uniform_distribution(low, high)
    return fill(distribution, x, as_generator(rng), threads, global_shape, offset, backend)


def normal_(
    x: T,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with normals: ``fma(z, std, mean)``, z by Box-Muller.

    Parameters
    ----------
    x : array, or list of arrays
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or a list of such arrays, which are filled
        one after the other, as if they were one; for small arrays this takes less time than a
        call for each. Or its dtype is complex64 or complex128: both parts are then
        independent, each with half the variance; the mean must be 0.
    mean, std : float
        Finite in x's dtype; std >= 0. The largest |z| is 7.5 (float32 and the narrower
        dtypes) or 9.5 (float64). A RuntimeWarning says so, before anything is written, if the
        dtype cannot hold mean + z std: such a value would be infinite, or NaN in float8_e4m3fn.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: transformers (std 0.02), any distribution of your own
    :PyTorch: normal_
    :JAX: normal
    :Keras: RandomNormal

    References
    ----------
    G. E. P. Box, M. E. Muller, "A Note on the Generation of Random Normal Deviates", Ann.
    Math. Statist. 29, 1958.

    Examples
    --------
    >>> x = fi.normal_(np.empty((1000, 1000), np.float32), std=0.02, rng=42)
    >>> round(float(x.std()), 3)
    0.02
    """
    return fill(
        normal_distribution(mean, std), x, as_generator(rng), threads, global_shape, offset, backend
    )


def truncated_normal_(
    x: T,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    *,
    corrected: bool = False,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with normals that lie within ``mean + low * std`` and ``mean + high * std``.

    By the inverse distribution function, one draw an element: never a value outside, never
    a loop, and right for one-sided intervals and such as lie far from the mean.

    Parameters
    ----------
    x : array, or list of arrays
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or a list of such arrays, which are filled
        one after the other, as if they were one; for small arrays this takes less time than a
        call for each.
    mean, std : float
        Of the normal before it is cut, finite in x's dtype; std >= 0. What is left between
        +-2 has the standard deviation 0.87962566 * std.
    low, high : float
        The bounds in standard deviations from the mean, as `scipy.stats.truncnorm` has
        them; either may be infinite. (`trunc_normal_` has absolute values.)
        In float16, bfloat16 and float8 the values are the rounded float32's, but where
        rounding leaves the bounds, the dtype's last number within.
    corrected : bool
        Whether `std` is that of what is left instead: the normal that is cut is wider by
        1 / 0.87962566 for bounds of +-2, and by what they ask for otherwise.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or no number of x's dtype lies within the
        bounds; then nothing was written.

    Notes
    -----
    :For: as normal_, without outliers
    :PyTorch: trunc_normal_ with a = mean + low * std; timm: trunc_normal_tf_
    :JAX: truncated_normal
    :Keras: TruncatedNormal

    References
    ----------
    M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution",
    Appl. Statist. 37, 1988. M. Giles, "Approximating the erfinv function", GPU Computing
    Gems Jade Edition, 2011.

    Examples
    --------
    >>> x = fi.truncated_normal_(np.empty(1000, np.float32), std=0.02, rng=42)
    >>> bool(abs(x).max() <= 0.04)
    True
    """
    if corrected:
        std = real("std", std) / truncated_std(low, high)
    distribution = truncated_normal_distribution(mean, std, low, high)
    return fill(distribution, x, as_generator(rng), threads, global_shape, offset, backend)


def trunc_normal_(
    x: T,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    *,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with normals that lie within a and b, given as values: PyTorch's convention.

    With std = 0.02 the default bounds are 100 standard deviations away, and cut nothing.

    Parameters
    ----------
    x : array, or list of arrays
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or a list of such arrays, which are filled
        one after the other, as if they were one; for small arrays this takes less time than a
        call for each.
    mean, std : float
        Of the normal before it is cut, finite in x's dtype; std >= 0. The mean may lie far
        outside the bounds.
    a, b : float
        The bounds, in x's unit; either may be infinite.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or no number of x's dtype lies within the
        bounds; then nothing was written.

    Notes
    -----
    :For: code that gives bounds as values
    :PyTorch: trunc_normal_
    :JAX: -
    :Keras: -

    References
    ----------
    M. J. Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution",
    Appl. Statist. 37, 1988. M. Giles, "Approximating the erfinv function", GPU Computing
    Gems Jade Edition, 2011.

    Examples
    --------
    >>> x = fi.trunc_normal_(np.empty(1000, np.float32), std=0.02, a=-0.04, b=0.04, rng=42)
    >>> bool(abs(x).max() <= 0.04)
    True
    """
    distribution = absolute_truncated_normal_distribution(mean, std, a, b)
    return fill(distribution, x, as_generator(rng), threads, global_shape, offset, backend)


def variance_scaling_(
    x: T,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "normal",
    *,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    fan_in: float | None = None,
    fan_out: float | None = None,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x so that its variance is ``scale / fan``.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    scale : float
        Positive. 1 keeps the variance of a linear layer's signal, 2 that of a rectified one.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan: the number of inputs of an output (keeps the variance of the forward
        signal), the number of outputs of an input (keeps that of the gradient), or the
        arithmetic or the geometric mean of both.
    distribution : {"normal", "truncated_normal", "uniform"}
        Normal of standard deviation sqrt(scale / fan); the same cut at +-2 standard deviations
        of a normal so much wider (1 / 0.87962566) that what is left has it; or uniform on
        +- sqrt(3 scale / fan). Of complex numbers, as JAX takes these words: a normal; one whose
        modulus is cut at 2 standard deviations, widened by 1 / 0.96196183; or uniform on the disk
        of radius sqrt(2 scale / fan).
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: a layer with a scale of your own
    :PyTorch: -
    :JAX: variance_scaling
    :Keras: VarianceScaling; "normal" is "untruncated_normal" there

    Examples
    --------
    >>> x = fi.variance_scaling_(np.empty((256, 512), np.float32), 2.0, "fan_in", rng=42)
    >>> bool(abs(x.std() - (2 / 256) ** 0.5) < 1e-3)
    True
    """
    choice("distribution", distribution, _DISTRIBUTIONS)
    check_pair(global_shape, offset)
    shape = shape_of(x)
    if global_shape is not None:
        shape, _ = place(shape, global_shape, offset)
    axes = in_axis, out_axis, batch_axis
    variance = scaled_variance(shape, scale, mode, axes, fan_in, fan_out)
    if distribution != "normal" and is_complex(x):
        cut = distribution == "truncated_normal"
        return fill_disk(x, variance, cut, rng, threads, backend, global_shape, offset)
    std = math.sqrt(variance)
    if distribution == "normal":
        drawn = normal_distribution(0.0, std)
    elif distribution == "truncated_normal":
        drawn = truncated_normal_distribution(0.0, std / truncated_std(-2.0, 2.0), -2.0, 2.0)
    else:
        bound = math.sqrt(3.0 * variance)
        drawn = uniform_distribution(-bound, bound)
    try:
        return fill(drawn, x, as_generator(rng), threads, global_shape, offset, backend)
    except ValueError as error:
        given = f"scale={scale!r}, which gives {drawn.text},"
        raise value_error(str(error).replace(drawn.text, given)) from None


def scaled_variance(
    shape: tuple[int, ...],
    scale: float,
    mode: str,
    axes: tuple[Axes, Axes, Axes],
    fan_in: float | None = None,
    fan_out: float | None = None,
) -> float:
    """Return scale / fan for a whole tensor's shape and its (in, out, batch) axes."""
    choice("mode", mode, _MODES)
    fan = fan_of(shape, mode, axes, fan_in, fan_out)
    # No fan, no elements: nothing to scale.
    return positive("scale", scale) / fan if fan > 0 else 0.0


def _scaled_by(gain: float, x: T, distribution: str, options: ScalingOptions) -> T:
    """Fill x by a scale that is the gain's square; an error speaks of the gain."""
    scale = squared("gain", gain)
    try:
        return variance_scaling_(x, scale, "fan_avg", distribution, **options)
    except ValueError as error:
        text = str(error).replace(f"scale={scale!r}", f"gain={gain!r}")
        raise value_error(text) from None


def _scale_of(nonlinearity: str, a: float) -> float:
    """Return the square of a gain, by multiplication, as `squared`."""
    gain = gain_of(nonlinearity, a, "a")
    return gain * gain


def _known(function: str, options: Mapping[str, object]) -> None:
    """Raise TypeError, in the name of the function that was called, for what it does not know."""
    for key in options:
        if key not in ScalingOptions.__annotations__:
            own = [name for name in signature(globals()[function]).parameters if name != "options"]
            raise type_error(
                f"{function}() got an unexpected keyword argument {key!r}; "
                f"allowed: {', '.join([*own, *ScalingOptions.__annotations__])}"
            )


def xavier_uniform_(x: T, gain: float = 1.0, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with uniforms on +- gain * sqrt(6 / (fan_in + fan_out)).

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    gain : float
        A positive factor on the standard deviation; `calculate_gain` has it for each
        nonlinearity.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: linear, tanh, sine and sigmoid layers, attention
    :PyTorch: xavier_uniform_
    :JAX: glorot_uniform = xavier_uniform
    :Keras: GlorotUniform

    References
    ----------
    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010. The square root is the bound; the standard deviation is
    sqrt(2 / (fan_in + fan_out)).

    Examples
    --------
    >>> x = fi.xavier_uniform_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x).max() <= (6 / 300) ** 0.5)
    True
    """
    _known("xavier_uniform_", options)
    return _scaled_by(gain, x, "uniform", options)


def xavier_normal_(x: T, gain: float = 1.0, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with normals of standard deviation gain * sqrt(2 / (fan_in + fan_out)).

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    gain : float
        A positive factor on the standard deviation; `calculate_gain` has it for each
        nonlinearity.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: as xavier_uniform_
    :PyTorch: xavier_normal_
    :JAX: variance_scaling(1, "fan_avg", "normal")
    :Keras: VarianceScaling(1, "fan_avg", "untruncated_normal")

    References
    ----------
    X. Glorot, Y. Bengio, AISTATS 2010.

    Examples
    --------
    >>> x = fi.xavier_normal_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x.std() / (2 / 300) ** 0.5 - 1) < 0.02)
    True
    """
    _known("xavier_normal_", options)
    return _scaled_by(gain, x, "normal", options)


def xavier_truncated_normal_(x: T, gain: float = 1.0, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with truncated normals of standard deviation gain * sqrt(2 / (fan_in + fan_out)).

    The normal is cut at +-2 standard deviations, and is so much wider (1 / 0.87962566) that what
    is left has this standard deviation.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    gain : float
        A positive factor on the standard deviation; `calculate_gain` has it for each
        nonlinearity.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: as xavier_uniform_, as JAX and Keras have it
    :PyTorch: -
    :JAX: glorot_normal = xavier_normal
    :Keras: GlorotNormal

    References
    ----------
    X. Glorot, Y. Bengio, AISTATS 2010; cut as in TensorFlow, Keras and JAX.

    Examples
    --------
    >>> x = fi.xavier_truncated_normal_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x.std() / (2 / 300) ** 0.5 - 1) < 0.02)
    True
    """
    _known("xavier_truncated_normal_", options)
    return _scaled_by(gain, x, "truncated_normal", options)


def he_uniform_(
    x: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    **options: Unpack[ScalingOptions],
) -> T:
    """Fill x with uniforms on +- gain * sqrt(3 / fan).

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    a : float
        The slope of the leaky_relu that follows the layer; 0 is relu.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan: the number of inputs of an output (keeps the variance of the forward
        signal), the number of outputs of an input (keeps that of the gradient), or the
        arithmetic or the geometric mean of both.
    nonlinearity : str
        What follows the layer, if it is not leaky_relu; `calculate_gain` lists the names and
        the gains.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: layers before a rectifier
    :PyTorch: kaiming_uniform_
    :JAX: he_uniform = kaiming_uniform
    :Keras: HeUniform

    References
    ----------
    K. He et al., "Delving Deep into Rectifiers: Surpassing Human-Level Performance on
    ImageNet Classification", ICCV 2015.

    Examples
    --------
    >>> x = fi.he_uniform_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x).max() <= (6 / 200) ** 0.5)
    True
    """
    _known("he_uniform_", options)
    return variance_scaling_(x, _scale_of(nonlinearity, a), mode, "uniform", **options)


def he_normal_(
    x: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    **options: Unpack[ScalingOptions],
) -> T:
    """Fill x with normals of standard deviation gain / sqrt(fan).

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    a : float
        The slope of the leaky_relu that follows the layer; 0 is relu.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan: the number of inputs of an output (keeps the variance of the forward
        signal), the number of outputs of an input (keeps that of the gradient), or the
        arithmetic or the geometric mean of both.
    nonlinearity : str
        What follows the layer, if it is not leaky_relu; `calculate_gain` lists the names and
        the gains.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: layers before a rectifier; with nonlinearity, before any other activation
    :PyTorch: kaiming_normal_
    :JAX: variance_scaling(2, "fan_in", "normal")
    :Keras: VarianceScaling(2, "fan_in", "untruncated_normal")

    References
    ----------
    K. He et al., ICCV 2015.

    Examples
    --------
    >>> x = fi.he_normal_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x.std() / (2 / 200) ** 0.5 - 1) < 0.02)
    True
    """
    _known("he_normal_", options)
    return variance_scaling_(x, _scale_of(nonlinearity, a), mode, "normal", **options)


def he_truncated_normal_(
    x: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    **options: Unpack[ScalingOptions],
) -> T:
    """Fill x with truncated normals of standard deviation gain / sqrt(fan).

    The normal is cut at +-2 standard deviations, and is so much wider (1 / 0.87962566) that what
    is left has this standard deviation.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    a : float
        The slope of the leaky_relu that follows the layer; 0 is relu.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan: the number of inputs of an output (keeps the variance of the forward
        signal), the number of outputs of an input (keeps that of the gradient), or the
        arithmetic or the geometric mean of both.
    nonlinearity : str
        What follows the layer, if it is not leaky_relu; `calculate_gain` lists the names and
        the gains.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: as he_normal_, as JAX and Keras have it
    :PyTorch: -
    :JAX: he_normal = kaiming_normal
    :Keras: HeNormal

    References
    ----------
    K. He et al., ICCV 2015; cut as in TensorFlow, Keras and JAX.

    Examples
    --------
    >>> x = fi.he_truncated_normal_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x.std() / (2 / 200) ** 0.5 - 1) < 0.02)
    True
    """
    _known("he_truncated_normal_", options)
    return variance_scaling_(x, _scale_of(nonlinearity, a), mode, "truncated_normal", **options)


def lecun_uniform_(x: T, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with uniforms on +- sqrt(3 / fan_in).

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: linear layers, selu
    :PyTorch: kaiming_uniform_(nonlinearity="linear")
    :JAX: lecun_uniform
    :Keras: LecunUniform

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.

    Examples
    --------
    >>> x = fi.lecun_uniform_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x).max() <= (3 / 200) ** 0.5)
    True
    """
    _known("lecun_uniform_", options)
    return variance_scaling_(x, 1.0, "fan_in", "uniform", **options)


def lecun_normal_(x: T, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with normals of standard deviation sqrt(1 / fan_in).

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: linear layers, selu
    :PyTorch: kaiming_normal_(nonlinearity="linear")
    :JAX: variance_scaling(1, "fan_in", "normal")
    :Keras: VarianceScaling(1, "fan_in", "untruncated_normal")

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.

    Examples
    --------
    >>> x = fi.lecun_normal_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x.std() / (1 / 200) ** 0.5 - 1) < 0.02)
    True
    """
    _known("lecun_normal_", options)
    return variance_scaling_(x, 1.0, "fan_in", "normal", **options)


def lecun_truncated_normal_(x: T, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with truncated normals of standard deviation sqrt(1 / fan_in).

    The normal is cut at +-2 standard deviations, and is so much wider (1 / 0.87962566) that what
    is left has this standard deviation.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack. Or its dtype is complex64 or complex128:
        both parts are then independent, each with half the variance, or on a disk:
        `variance_scaling_`.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of weights that are independent of each other. The
        last two axes are (in, out) unless given. All other axes, such as a convolution's
        kernel, count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and
        out_axis=0.
    fan_in, fan_out : float, optional
        Positive numbers that are used instead of the fans that the whole tensor's shape gives.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from. An integer, a sequence of them or a SeedSequence gives
        the same values in each call, None gives others each time. A `Generator` of fastinit
        gives its next values and moves on by the size of x (of the whole tensor, where x is a
        part); one of NumPy gives a new key in each call.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins; x then gets the values of that part, bit for bit. The
        fans are those of the whole tensor.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Notes
    -----
    :For: as lecun_normal_, as JAX and Keras have it
    :PyTorch: -
    :JAX: lecun_normal
    :Keras: LecunNormal

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", 1998; cut as in TensorFlow, Keras and JAX.

    Examples
    --------
    >>> x = fi.lecun_truncated_normal_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x.std() / (1 / 200) ** 0.5 - 1) < 0.02)
    True
    """
    _known("lecun_truncated_normal_", options)
    return variance_scaling_(x, 1.0, "fan_in", "truncated_normal", **options)


glorot_uniform_ = xavier_uniform_
glorot_normal_ = xavier_normal_
glorot_truncated_normal_ = xavier_truncated_normal_
kaiming_uniform_ = he_uniform_
kaiming_normal_ = he_normal_
kaiming_truncated_normal_ = he_truncated_normal_
