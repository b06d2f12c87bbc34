"""Initializers: one primitive, `variance_scaling_`, and one-line specialisations of it.

Every initializer fills in place under its name with an underscore, and allocates without.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar

from numpy.typing import DTypeLike, NDArray

from fastinit._check import Shape, positive
from fastinit._check import shape as check_shape
from fastinit._fill import array_of, empty, fill, fill_constant
from fastinit.random import (
    RNG,
    default_rng,
    normal_distribution,
    truncated_normal_distribution,
    uniform_distribution,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
Axes = int | Sequence[int]


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


_MODES = ("fan_in", "fan_out", "fan_avg")


def constant_(x: T, value: float, *, threads: int | None = None, backend: str | None = None) -> T:
    """Fill x with `value`.

    Parameters
    ----------
    x : array
        Filled in place: any boolean, integer or floating dtype of at most 8 bytes, any strides.
    value : float
        Must be representable in x's dtype; NaN and infinities are allowed for floats.
    threads : int, optional
        How many threads; see `set_num_threads`.
    backend : {"c", "numba"}, optional
        Whose kernels; see `set_backend`.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If x cannot be filled (read-only, overlapping, of another dtype), or with `value`.

    Examples
    --------
    >>> fi.constant_(np.empty(3, np.float32), 0.5)
    array([0.5, 0.5, 0.5], dtype=float32)
    """
    return fill_constant(x, value, threads, backend)


def zeros_(x: T, *, threads: int | None = None, backend: str | None = None) -> T:
    """Fill x with 0; see `constant_`.

    Examples
    --------
    >>> fi.zeros_(np.empty(2, np.float32))
    array([0., 0.], dtype=float32)
    """
    return fill_constant(x, 0, threads, backend)


def ones_(x: T, *, threads: int | None = None, backend: str | None = None) -> T:
    """Fill x with 1; see `constant_`.

    Examples
    --------
    >>> fi.ones_(np.empty(2, np.float32))
    array([1., 1.], dtype=float32)
    """
    return fill_constant(x, 1, threads, backend)


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
    x : array
        Filled in place: any float dtype that fastinit knows, any strides.
    low, high : float
        The bounds, finite in x's dtype. As in NumPy, `high` can appear by rounding.
    rng : int, SeedSequence, Generator, or None
        As `default_rng` takes them; a `Generator` moves on.
    threads : int, optional
        How many threads; see `set_num_threads`. The values do not depend on it.
    backend : {"c", "numba"}, optional
        Whose kernels; see `set_backend`. Nor on that.
    global_shape, offset : tuple of int, optional
        x is the part of a tensor of shape `global_shape` that begins at `offset`; it gets
        that part's values, and the generator moves on by the whole tensor's size.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Examples
    --------
    >>> x = fi.uniform_(np.empty(1000, np.float32), -0.1, 0.1, rng=42)
    >>> bool(abs(x).max() <= 0.1)
    True
    """
    distribution = uniform_distribution(low, high)
    return fill(distribution, x, default_rng(rng), threads, backend, global_shape, offset)


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
    x : array
        Filled in place: any float dtype that fastinit knows, any strides.
    mean, std : float
        Finite in x's dtype; std >= 0. The largest |z| is 7.5 (float32 and the 16-bit
        dtypes) or 9.5 (float64).
    rng, threads, backend, global_shape, offset
        As in `uniform_`.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

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
        normal_distribution(mean, std), x, default_rng(rng), threads, backend, global_shape, offset
    )


def truncated_normal_(
    x: T,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    *,
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
    x : array
        Filled in place: any float dtype that fastinit knows, any strides.
    mean, std : float
        Of the normal before it is cut, finite in x's dtype; std >= 0. What is left between
        +-2 has the standard deviation 0.87962566 * std.
    low, high : float
        The bounds in standard deviations from the mean, as `scipy.stats.truncnorm` has
        them; either may be infinite. (`torch.nn.init.trunc_normal_` has absolute values.)
        In float16, bfloat16 and float8 the values are the rounded float32's, but where
        rounding leaves the bounds, the dtype's last number within.
    rng, threads, backend, global_shape, offset
        As in `uniform_`.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or no number of x's dtype lies within the
        bounds; then nothing was written.

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
    distribution = truncated_normal_distribution(mean, std, low, high)
    return fill(distribution, x, default_rng(rng), threads, backend, global_shape, offset)


def compute_fans(
    shape: Shape, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> tuple[int, int]:
    """Return (fan_in, fan_out): how many inputs feed an output, and how many an input feeds.

    Parameters
    ----------
    shape : tuple of int
        Of the whole tensor, also where a process holds a part of it.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of independent weights, as in JAX: by default the
        last two are (in, out), and all others (a convolution's kernel) count in both fans.

    Raises
    ------
    ValueError
        If the axes are not in the shape, or not distinct.

    Examples
    --------
    >>> fi.compute_fans((3, 3, 16, 32))  # height, width, in, out
    (144, 288)
    """
    lengths = check_shape("shape", shape)
    named = {"in_axis": in_axis, "out_axis": out_axis, "batch_axis": batch_axis}
    axes = {name: _axes(name, axis, lengths) for name, axis in named.items()}
    flat = [a for group in axes.values() for a in group]
    if len(set(flat)) != len(flat):
        raise ValueError(
            f"in_axis={in_axis!r}, out_axis={out_axis!r} and batch_axis={batch_axis!r} "
            f"must be different axes of shape {lengths}"
        )
    n_in, n_out = (math.prod(lengths[a] for a in axes[name]) for name in ("in_axis", "out_axis"))
    receptive = math.prod(n for a, n in enumerate(lengths) if a not in flat)
    return n_in * receptive, n_out * receptive


def _axes(name: str, axis: Axes, shape: tuple[int, ...]) -> list[int]:
    axes = [axis] if isinstance(axis, int) else list(axis)
    for a in axes:
        if not -len(shape) <= a < len(shape):
            raise ValueError(
                f"{name}={axis!r} is not an axis of shape {shape}; "
                "for such a weight give fan_in and fan_out"
            )
    return [a % len(shape) for a in axes]


_GAINS: dict[str, Callable[[float], float]] = {
    "linear": lambda _: 1.0,
    "sigmoid": lambda _: 1.0,
    "tanh": lambda _: 5.0 / 3.0,
    "relu": lambda _: math.sqrt(2.0),
    "leaky_relu": lambda slope: math.sqrt(2.0 / (1.0 + slope**2)),
    "selu": lambda _: 3.0 / 4.0,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor on a layer's standard deviation that its nonlinearity asks for.

    Parameters
    ----------
    nonlinearity : str
        linear, sigmoid: 1. tanh: 5/3. relu: sqrt(2). leaky_relu: sqrt(2 / (1 + slope^2)).
        selu: 3/4. The values of `torch.nn.init.calculate_gain`.
    param : float, optional
        The slope of leaky_relu; 0.01 if not given.

    Raises
    ------
    ValueError
        If the nonlinearity is unknown, or the slope is not finite.

    References
    ----------
    K. He et al., "Delving Deep into Rectifiers", ICCV 2015 (relu and leaky_relu).

    Examples
    --------
    >>> round(fi.calculate_gain("relu"), 4)
    1.4142
    """
    if nonlinearity not in _GAINS:
        raise ValueError(f"nonlinearity={nonlinearity!r} is unknown; allowed: {', '.join(_GAINS)}")
    slope = 0.01 if param is None else param
    if not math.isfinite(slope):
        raise ValueError(f"param={param!r} must be finite")
    return _GAINS[nonlinearity](slope)


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
        Filled in place: any float dtype that fastinit knows, any strides.
    scale : float
        Positive. 1 keeps the variance of a linear layer's signal, 2 that of a rectified one.
    mode : {"fan_in", "fan_out", "fan_avg"}
        Which fan: the inputs (keeps the forward signal), the outputs (keeps the gradient),
        or their mean.
    distribution : {"normal", "uniform"}
        Normal of standard deviation sqrt(scale / fan), or uniform on +- sqrt(3 scale / fan).
    in_axis, out_axis, batch_axis : int or tuple of int
        As in `compute_fans`. PyTorch's layout (out, in, ...) is ``in_axis=1, out_axis=0``.
    fan_in, fan_out : float, optional
        Given instead of computed from the (whole tensor's) shape.
    rng, threads, backend, global_shape, offset
        As in `uniform_`.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; then nothing was written.

    Examples
    --------
    >>> x = fi.variance_scaling_(np.empty((256, 512), np.float32), 2.0, "fan_in", rng=42)
    >>> bool(abs(x.std() - (2 / 256) ** 0.5) < 1e-3)
    True
    """
    if mode not in _MODES:
        raise ValueError(f"mode={mode!r} is unknown; allowed: {', '.join(_MODES)}")
    if distribution not in ("normal", "uniform"):
        raise ValueError(f"distribution={distribution!r} is unknown; allowed: normal, uniform")
    shape = array_of(x).shape if global_shape is None else check_shape("global_shape", global_shape)
    fan = _fan(shape, mode, (in_axis, out_axis, batch_axis), fan_in, fan_out)
    variance = (
        positive("scale", scale) / fan if fan > 0 else 0.0
    )  # no fan, no elements: nothing to scale
    if distribution == "normal":
        drawn = normal_distribution(0.0, math.sqrt(variance))
    else:
        bound = math.sqrt(3.0 * variance)
        drawn = uniform_distribution(-bound, bound)
    return fill(drawn, x, default_rng(rng), threads, backend, global_shape, offset)


def _fan(
    shape: tuple[int, ...],
    mode: str,
    axes: tuple[Axes, Axes, Axes],
    fan_in: float | None,
    fan_out: float | None,
) -> float:
    """Return the fan of a mode; the shape is asked only for what is not given."""
    given = {"fan_in": fan_in, "fan_out": fan_out}
    wanted = given if mode == "fan_avg" else {mode: given[mode]}
    for name, fan in wanted.items():
        if fan is not None:
            positive(name, fan)
    computed = compute_fans(shape, *axes) if None in wanted.values() else (0, 0)
    from_shape = dict(zip(given, computed, strict=True))
    fans = [from_shape[name] if fan is None else fan for name, fan in wanted.items()]
    return sum(fans) / len(fans)


def xavier_uniform_(x: T, gain: float = 1.0, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with uniforms on +- gain * sqrt(6 / (fan_in + fan_out)).

    Parameters
    ----------
    x : array
        Filled in place; see `variance_scaling_`.
    gain : float
        See `calculate_gain`.
    **options
        in_axis, out_axis, batch_axis, fan_in, fan_out, rng, threads, backend, global_shape and
        offset,
        as in `variance_scaling_`.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        As `variance_scaling_`.

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
    return variance_scaling_(x, positive("gain", gain) ** 2, "fan_avg", "uniform", **options)


def xavier_normal_(x: T, gain: float = 1.0, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with normals of standard deviation gain * sqrt(2 / (fan_in + fan_out)).

    Parameters, returns and raises are those of `xavier_uniform_`.

    References
    ----------
    X. Glorot, Y. Bengio, AISTATS 2010.

    Examples
    --------
    >>> x = fi.xavier_normal_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x.std() / (2 / 300) ** 0.5 - 1) < 0.02)
    True
    """
    return variance_scaling_(x, positive("gain", gain) ** 2, "fan_avg", "normal", **options)


def he_uniform_(
    x: T,
    mode: str = "fan_in",
    nonlinearity: str = "relu",
    a: float = 0.0,
    **options: Unpack[ScalingOptions],
) -> T:
    """Fill x with uniforms on +- gain * sqrt(3 / fan).

    Parameters
    ----------
    x : array
        Filled in place; see `variance_scaling_`.
    mode : {"fan_in", "fan_out", "fan_avg"}
        Which fan; see `variance_scaling_`.
    nonlinearity, a
        What follows the layer, and its slope if it is leaky_relu; see `calculate_gain`.
    **options
        As in `xavier_uniform_`.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        As `variance_scaling_` and `calculate_gain`.

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
    return variance_scaling_(x, calculate_gain(nonlinearity, a) ** 2, mode, "uniform", **options)


def he_normal_(
    x: T,
    mode: str = "fan_in",
    nonlinearity: str = "relu",
    a: float = 0.0,
    **options: Unpack[ScalingOptions],
) -> T:
    """Fill x with normals of standard deviation gain / sqrt(fan).

    Parameters, returns and raises are those of `he_uniform_`.

    References
    ----------
    K. He et al., ICCV 2015.

    Examples
    --------
    >>> x = fi.he_normal_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x.std() / (2 / 200) ** 0.5 - 1) < 0.02)
    True
    """
    return variance_scaling_(x, calculate_gain(nonlinearity, a) ** 2, mode, "normal", **options)


def lecun_uniform_(x: T, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with uniforms on +- sqrt(3 / fan_in); options as in `xavier_uniform_`.

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.

    Examples
    --------
    >>> x = fi.lecun_uniform_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x).max() <= (3 / 200) ** 0.5)
    True
    """
    return variance_scaling_(x, 1.0, "fan_in", "uniform", **options)


def lecun_normal_(x: T, **options: Unpack[ScalingOptions]) -> T:
    """Fill x with normals of standard deviation sqrt(1 / fan_in); options as in `xavier_uniform_`.

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.

    Examples
    --------
    >>> x = fi.lecun_normal_(np.empty((200, 100), np.float32), rng=42)
    >>> bool(abs(x.std() / (1 / 200) ** 0.5 - 1) < 0.02)
    True
    """
    return variance_scaling_(x, 1.0, "fan_in", "normal", **options)


class Allocating(Protocol):
    """An initializer that makes its array: ``(shape, ..., dtype="float32")``."""

    __name__: str

    def __call__(
        self, shape: Shape, *args: Any, dtype: DTypeLike = "float32", **kwargs: Any
    ) -> NDArray[Any]:
        """Return a new array of that shape and dtype, filled."""
        ...


_ALLOCATING_DOC = """Return a new array, filled by `{name}_`.

Parameters
----------
shape : int or tuple of int
    Of the new array.
dtype : dtype
    float32 unless given; "bfloat16" needs the package ml_dtypes.
*args, **kwargs
    As `{name}_` takes them after its array.

Returns
-------
ndarray
    The array.

Raises
------
TypeError, ValueError
    If shape or dtype is not one, or as `{name}_`.

Examples
--------
>>> fi.{name}({example}).shape
(4, 2)
"""


def _allocating(in_place: Callable[..., Any], example: str = "(4, 2)") -> Allocating:
    @wraps(in_place)
    def allocate(
        shape: Shape, *args: Any, dtype: DTypeLike = "float32", **kwargs: Any
    ) -> NDArray[Any]:
        x: NDArray[Any] = in_place(empty(shape, dtype), *args, **kwargs)
        return x

    name = in_place.__name__.removesuffix("_")
    allocate.__name__ = allocate.__qualname__ = name
    allocate.__doc__ = _ALLOCATING_DOC.format(name=name, example=example)
    signature = inspect.signature(in_place)
    parameters = list(signature.parameters.values())[1:]
    shape = inspect.Parameter("shape", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    dtype = inspect.Parameter("dtype", inspect.Parameter.KEYWORD_ONLY, default="float32")
    keywords = [p for p in parameters if p.kind is not p.POSITIONAL_OR_KEYWORD]
    allocate.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[shape, *(p for p in parameters if p not in keywords), dtype, *keywords],
        return_annotation=inspect.Signature.empty,
    )
    del allocate.__wrapped__, allocate.__annotations__  # those of the in-place function
    return allocate


constant = _allocating(constant_, "(4, 2), 0.5")
zeros = _allocating(zeros_)
ones = _allocating(ones_)
uniform = _allocating(uniform_)
normal = _allocating(normal_)
truncated_normal = _allocating(truncated_normal_)
variance_scaling = _allocating(variance_scaling_)
xavier_uniform = _allocating(xavier_uniform_)
xavier_normal = _allocating(xavier_normal_)
he_uniform = _allocating(he_uniform_)
he_normal = _allocating(he_normal_)
lecun_uniform = _allocating(lecun_uniform_)
lecun_normal = _allocating(lecun_normal_)

glorot_uniform_, glorot_uniform = xavier_uniform_, xavier_uniform
glorot_normal_, glorot_normal = xavier_normal_, xavier_normal
kaiming_uniform_, kaiming_uniform = he_uniform_, he_uniform
kaiming_normal_, kaiming_normal = he_normal_, he_normal
