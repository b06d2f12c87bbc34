"""Initializers whose values follow a formula: time steps, ranges, frequencies, sinusoids.

State-space models draw their time steps so, and tables and buffers of positions begin so. As in
`fastinit.initializers`: each fills in place under its name with an underscore. Values are computed
in float64 by `fastinit._elementary`, and rounded to the dtype: to float32 first where that is
narrower.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastinit import _elementary, _kernels, _settings
from fastinit._arguments import Shape, choice, integer, positive, real, shown, single_axes
from fastinit._distributions import Distribution, uniform_distribution
from fastinit._errors import value_error
from fastinit._fill import (
    array_of,
    boxes,
    check_writable,
    element,
    fill,
    float_format,
    floats,
    numbers,
    part_dtype,
    part_keys,
    place,
)
from fastinit.random import RNG, as_generator

T = TypeVar("T")
Floats = NDArray[np.float64]

_BLOCK = 2**15  # elements of a temporary, of which a formula needs some ten


def _rounded(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values in a dtype; those of narrow ones by way of float32, as in the kernels.

    What an array's own assignment rounds in one step stays as it is: float64, complex numbers.
    """
    return values if dtype.itemsize >= 8 else values.astype(np.float32).astype(dtype)


def _fill_drawn(
    array: NDArray[Any],
    distribution: Distribution,
    formula: Callable[..., NDArray[Any]],
    rng: RNG,
    threads: int | None,
    backend: str | None,
    global_shape: Shape | None,
    offset: Shape | None,
) -> None:
    """Fill a checked array with a formula of float64 draws: one for each of an element's parts."""
    whole, at = place(array.shape, global_shape, offset)
    _kernels.check_rounding()
    generator = as_generator(rng)
    # Of no element: refuses what it must before we take indices.
    fill(distribution, np.empty(0), generator, threads, backend=backend)
    start = generator.take(math.prod(whole))
    keys = part_keys(generator) if array.dtype.kind == "c" else (generator.key,)
    for box in boxes(array.shape, _BLOCK):
        corner = tuple(first + side.start for first, side in zip(at, box, strict=True))
        draws = [np.empty([side.stop - side.start for side in box]) for _ in keys]
        for drawn, key in zip(draws, keys, strict=True):
            cursor = _kernels.Cursor(key, start)
            fill(distribution, drawn, cursor, threads, whole, corner, backend)
        array[box] = _rounded(formula(*draws), array.dtype)


def fill_disk(
    x: T,
    variance: float,
    cut: bool,
    rng: RNG,
    threads: int | None,
    backend: str | None,
    global_shape: Shape | None,
    offset: Shape | None,
) -> T:
    """Fill x, of a complex dtype, with numbers of a disk that have mean 0 and a variance; return x.

    As `jax.nn.initializers.variance_scaling` takes distributions of complex numbers: the modulus
    is that of a complex normal which is at most two standard deviations, or, unless `cut`, every
    point of a disk is as likely. The angle is drawn from the stream of imaginary parts.
    """
    array = array_of(x)
    part = float_format(part_dtype(array.dtype))
    if not array.flags.carray:
        check_writable(array)
    factor = math.sqrt(variance) / _CUT_STD if cut else math.sqrt(2.0 * variance)
    if not (2.0 if cut else 1.0) * factor <= part.max:
        raise value_error(f"variance={variance!r}: values must be finite in {part.name}")

    def formula(u: Floats, v: Floats) -> NDArray[np.complex128]:
        radius = factor * np.sqrt(-_elementary.log(1.0 - u * _CUT_MASS) if cut else u)
        quarters = np.floor(4.0 * v + 0.5)
        angle, n = (4.0 * v - quarters) * _HALF_PI, quarters.astype(np.int64)
        values = np.empty(u.shape, np.complex128)
        values.real = radius * _elementary.sine(angle, n + 1)
        values.imag = radius * _elementary.sine(angle, n)
        return values

    uniform = uniform_distribution(0.0, 1.0)
    _fill_drawn(array, uniform, formula, rng, threads, backend, global_shape, offset)
    return x


_HALF_PI = 1.5707963267948966
# Of a complex normal of variance 1: the probability that its modulus is at most 2, which is
# 1 - exp(-4), and the standard deviation of what is within, sqrt((1 - 5 exp(-4)) / (1 - exp(-4))).
# (JAX 0.10 divides by sqrt(1 - 5 exp(-4)): its variance is 1.9 % larger than scale / fan.)
_CUT_MASS, _CUT_STD = 0.9816843611112658, 0.9619618280082135


def _check_end(value: float, dtype: np.dtype[Any], text: str) -> None:
    """Raise ValueError if a dtype cannot hold the first or the last value of a formula."""
    try:
        element(value, dtype)
    except ValueError:
        raise value_error(f"{text}: the value {value:g} must be finite in {dtype.name}") from None


def _bounds(low: float, high: float) -> tuple[float, float]:
    """Return two positive numbers in order; raise TypeError or ValueError if they are not."""
    low, high = real("low", low), real("high", high)
    if not 0.0 < low <= high < math.inf:
        raise value_error(
            f"low={low!r}, high={high!r} must be positive and finite, and low not greater than high"
        )
    return low, high


def _log_uniform(low: float, high: float) -> Callable[[Floats], Floats]:
    """Return what makes log-uniforms on low to high of uniforms on 0 to 1."""
    ends = _elementary.log(np.array([low, high]))
    if ends[1] - ends[0] > _WIDEST:
        raise value_error(f"low={low!r}, high={high!r}: high / low must be at most e**{_WIDEST}")
    spread = ends[1] - ends[0]
    return lambda u: np.minimum(low * _elementary.exp(u * spread), high)


_WIDEST = 700  # where `_elementary.exp` ends


def log_uniform_(
    x: T,
    low: float,
    high: float,
    *,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with log-uniforms on [low, high]: ``low * exp(u log(high / low))``, u uniform.

    Each factor of two between the bounds is as likely as any other: for what may be of any
    magnitude, such as time constants and rates.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    low, high : float
        The bounds, positive and finite in x's dtype; high / low is at most e^700.
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
    :For: time constants, rates, scales of unknown magnitude
    :PyTorch: -
    :JAX: -
    :Keras: -

    References
    ----------
    A. Gu et al., "Efficiently Modeling Long Sequences with Structured State Spaces", ICLR 2022:
    the time steps of S4.

    Examples
    --------
    >>> x = fi.log_uniform_(np.empty(1000, np.float32), 0.001, 0.1, rng=42)
    >>> bool(0.001 <= x.min() < 0.002), round(float(np.median(x)), 2)
    (True, 0.01)
    """
    array = floats(x)
    low, high = _bounds(low, high)
    steps = _log_uniform(low, high)
    for name, bound in (("low", low), ("high", high)):
        if not element(bound, array.dtype, name)[0] > 0:
            raise value_error(
                f"{name}={bound!r} is 0 in {array.dtype.name}; allowed: numbers that are not"
            )

    uniform = uniform_distribution(0.0, 1.0)
    _fill_drawn(array, uniform, steps, rng, threads, backend, global_shape, offset)
    return x


def dt_bias_(
    x: T,
    low: float = 0.001,
    high: float = 0.1,
    floor: float = 0.0001,
    *,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with ``log(exp(dt) - 1)``, dt log-uniform on [low, high] and at least `floor`.

    softplus(x) is then dt: so Mamba begins with time steps of every magnitude.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    low, high : float
        The bounds of the time step, positive and finite; high / low is at most e^700. In Mamba
        they are called dt_min and dt_max, in transformers time_step_min and time_step_max.
    floor : float
        What a smaller time step becomes; positive and finite. Mamba's dt_init_floor, and
        transformers' time_step_floor.
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
    :For: the biases of time steps of Mamba, Mamba-2 and their relatives (dt_bias, dt_proj.bias)
    :PyTorch: -
    :JAX: -
    :Keras: -

    References
    ----------
    A. Gu, T. Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023,
    section 3.6 and its code.

    Examples
    --------
    >>> x = fi.dt_bias_(np.empty(1000, np.float32), rng=42)
    >>> dt = np.log1p(np.exp(x))
    >>> bool(0.0009 < dt.min() < 0.002), bool(0.09 < dt.max() < 0.1001)
    (True, True)
    """
    array = floats(x)
    low, high = _bounds(low, high)
    least = positive("floor", floor)
    steps = _log_uniform(low, high)

    def bias(u: Floats) -> Floats:
        dt = np.maximum(steps(u), least)
        return dt + _elementary.log(-_elementary.expm1(-np.minimum(dt, _LINEAR)))

    for end in bias(np.array([0.0, 1.0])).tolist():
        _check_end(end, array.dtype, f"low={low!r}, high={high!r}, floor={least!r}")

    uniform = uniform_distribution(0.0, 1.0)
    _fill_drawn(array, uniform, bias, rng, threads, backend, global_shape, offset)
    return x


_LINEAR = 60.0  # from here on softplus(x) is x in float64


def a_log_(
    x: T,
    low: float = 1.0,
    high: float = 16.0,
    *,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with ``log(a)``, a uniform on [low, high).

    -exp(x) is then the state's rate of decay: so begins each head of Mamba-2. (Mamba's own A_log
    is not random: `arange_` with start=1 and log=True.)

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    low, high : float
        The bounds of a, positive and finite.
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
    :For: the decay of Mamba-2 and of gated delta networks (A_log)
    :PyTorch: -
    :JAX: -
    :Keras: -

    References
    ----------
    T. Dao, A. Gu, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through
    Structured State Space Duality", ICML 2024, and its code (A_init_range).

    Examples
    --------
    >>> x = fi.a_log_(np.empty(1000, np.float32), rng=42)
    >>> a = np.exp(x)
    >>> bool(a.min() > 0.99), round(float(a.mean()))
    (True, 9)
    """
    array = floats(x)
    low, high = _bounds(low, high)
    for end in _elementary.log(np.array([low, high])).tolist():
        _check_end(end, array.dtype, f"low={low!r}, high={high!r}")

    uniform = uniform_distribution(low, high)
    _fill_drawn(array, uniform, _elementary.log, rng, threads, backend, global_shape, offset)
    return x


def _fill_computed(
    array: NDArray[Any],
    formula: Callable[..., NDArray[Any]],
    axes: tuple[int, ...],
    at: tuple[int, ...],
    threads: int | None,
    backend: str | None,
) -> None:
    """Fill a checked array with a formula of the whole tensor's indices along some axes.

    The formula gets an array of indices for each of these axes; they broadcast together.
    """
    _settings.checked_threads(threads)
    _settings.backend(backend)
    _kernels.check_rounding()
    for box in boxes(array.shape, _BLOCK):
        indices = []
        for axis in axes:
            line = np.arange(at[axis] + box[axis].start, at[axis] + box[axis].stop)
            indices.append(line.reshape([-1 if a == axis else 1 for a in range(array.ndim)]))
        array[box] = formula(*indices)


def arange_(
    x: T,
    start: float = 0,
    step: float = 1,
    axis: int = -1,
    *,
    log: bool = False,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with ``start + step * i`` along an axis, i = 0, 1, ...; the other axes repeat it.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is an integer, float32, float64, float16, bfloat16,
        float8_e4m3fn or float8_e5m2; it is a NumPy array of any shape and strides, or an
        object with the buffer protocol, ``__array_interface__`` or DLPack.
    start, step : float
        Integers where x's dtype is an integer type; all numbers must lie within the range of x's
        dtype. In floating types they are rounded to nearest: bfloat16 has every integer to 256,
        float16 to 2048.
    axis : int
        Along which i counts; the last unless given.
    log : bool
        Whether to take the natural logarithms of these numbers, which must be positive then: A_log
        of Mamba, of shape (channels, states), has start=1 and log=True.
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
    :For: position_ids, relative positions, A_log of Mamba (S4D-Real)
    :PyTorch: arange, expanded
    :JAX: -
    :Keras: -

    References
    ----------
    A. Gu et al., "On the Parameterization and Initialization of Diagonal State Space Models",
    NeurIPS 2022 (S4D-Real, of which A_log is the logarithm).

    Examples
    --------
    >>> fi.arange_(np.empty((2, 4), np.int64))
    array([[0, 1, 2, 3],
           [0, 1, 2, 3]])
    """
    array = numbers(x)
    whole, at = place(array.shape, global_shape, offset)
    (along,) = single_axes(whole, axis=axis)
    last = max(0, whole[along] - 1)
    if array.dtype.kind in "iu":
        if log:
            raise value_error(
                f"log={log!r}: x has dtype {array.dtype.name}; allowed: floating ones"
            )
        formula = _integers(start, step, last, array.dtype)
    else:
        formula = _reals(start, step, last, _elementary.log if log else None, array.dtype)
    _fill_computed(array, formula, (along,), at, threads, backend)
    return x


def _integers(
    start: float, step: float, last: int, dtype: np.dtype[Any]
) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
    """Return start + step * i, exactly; raise if i to `last` leaves the dtype's range."""
    first, stride = integer("start", start), integer("step", step)
    limits = np.iinfo(dtype)
    for end in (first, first + last * stride):
        if not limits.min <= end <= limits.max:
            raise value_error(
                f"start={shown(start)}, step={shown(step)}: {shown(end)} is no {dtype.name}"
            )
    # Modulo 2**64 every step is exact, and what comes of it is a number of the dtype.
    low, by = np.uint64(first % 2**64), np.uint64(stride % 2**64)
    return lambda i: (low + by * i.astype(np.uint64)).astype(dtype)


def _reals(
    start: float,
    step: float,
    last: int,
    function: Callable[[Floats], Floats] | None,
    dtype: np.dtype[Any],
) -> Callable[[NDArray[np.int64]], NDArray[Any]]:
    """Return start + step * i, or a logarithm of it; raise if i to `last` has none in the dtype."""
    first, stride = real("start", start), real("step", step)
    text = f"{'log=True, ' if function else ''}start={first!r}, step={stride!r}"
    for end in (first, first + last * stride):
        if not math.isfinite(end):
            raise value_error(f"{text} must be finite, and all numbers")
        if function is None:
            _check_end(end, dtype, text)
        elif not end > 0:
            raise value_error(f"{text}: {end!r} has no logarithm; allowed: positive numbers")

    def formula(i: NDArray[np.int64]) -> NDArray[Any]:
        values = first + stride * i.astype(np.float64)
        return _rounded(values if function is None else function(values), dtype)

    return formula


def geomspace_(
    x: T,
    start: float,
    stop: float,
    axis: int = -1,
    *,
    endpoint: bool = False,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with ``start * (stop / start)^(i / n)`` along an axis of n, i = 0, 1, ... n - 1.

    The other axes repeat it. As `numpy.geomspace`, but without its last number unless `endpoint`.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    start, stop : float
        Positive, finite in x's dtype, and within a factor of e^700 of each other. Numbers that
        are smaller than any of a narrow dtype round to 0.
    axis : int
        Along which i counts; the last unless given.
    endpoint : bool
        Whether the last number is `stop`: the exponent is then i / (n - 1).
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
    :For: inv_freq of rotary positions (start=1, stop=1 / theta), frequencies of Fourier features
        (start=1, stop=2^n), slopes of ALiBi
    :PyTorch: -
    :JAX: -
    :Keras: -

    References
    ----------
    J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
    B. Mildenhall et al., "NeRF: Representing Scenes as Neural Radiance Fields for View
    Synthesis", ECCV 2020, equation 4.

    Examples
    --------
    >>> fi.geomspace_(np.empty(4, np.float32), 1, 1 / 10000)
    array([1.   , 0.1  , 0.01 , 0.001], dtype=float32)
    """
    array = floats(x)
    whole, at = place(array.shape, global_shape, offset)
    (along,) = single_axes(whole, axis=axis)
    first, end = positive("start", start), positive("stop", stop)
    for name, value in (("start", first), ("stop", end)):
        element(value, array.dtype, name)
    ends = _elementary.log(np.array([first, end]))
    rate = ends[1] - ends[0]
    if abs(rate) > _WIDEST:
        raise value_error(f"start={first!r}, stop={end!r}: the factor is beyond e**{_WIDEST}")
    n = max(1, whole[along] - bool(endpoint))
    _fill_computed(
        array,
        lambda i: _rounded(first * _elementary.exp(rate * i / n), array.dtype),
        (along,),
        at,
        threads,
        backend,
    )
    return x


def sinusoid_(
    x: T,
    base: float = 10000.0,
    start: float = 0,
    *,
    layout: str = "interleaved",
    endpoint: bool = False,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill the table x with ``sin((start + p) w)`` and ``cos((start + p) w)`` of row p.

    The columns belong in pairs to the frequencies ``w = base^(-2 i / columns)``, i = 0, 1, ...

    The last two axes are (positions, columns); the others repeat the table.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    base : float
        At least 1 and finite.
    start : float
        The position of the first row.
    layout : {"interleaved", "halves"}
        Where sine and cosine of a frequency are: side by side, as in the paper, or all sines
        before all cosines, as in tensor2tensor, fairseq and Whisper; then the columns are even in
        number.
    endpoint : bool
        Whether the last frequency is 1 / base itself, as in these: the exponent is
        -i / (pairs - 1).
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
    :For: tables of positions that are not trained (embed_positions, pos_embed)
    :PyTorch: -
    :JAX: -
    :Keras: -

    References
    ----------
    A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5.

    Examples
    --------
    >>> fi.sinusoid_(np.empty((2, 4), np.float32)).round(4)
    array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ]], dtype=float32)
    """
    array = floats(x)
    whole, at = place(array.shape, global_shape, offset)
    if len(whole) < 2:
        raise value_error(f"x has shape {whole}; sinusoid_ needs two axes: positions and columns")
    rows, columns = whole[-2:]
    if not 1 <= real("base", base) < math.inf:
        raise value_error(f"base={shown(base)} must be finite, and 1 or greater")
    first, most = real("start", start), _elementary.LARGEST_ANGLE
    if not abs(first) + rows <= most:
        raise value_error(f"start={shown(start)}: positions must be finite, and within {most:.0f}")
    halves = choice("layout", layout, ("interleaved", "halves")) == "halves"
    if halves and columns % 2:
        raise value_error(f"layout='halves': x has {columns} columns; allowed: an even number")
    pairs = (columns + 1) // 2
    n = max(1.0, pairs - 1.0) if endpoint else max(1.0, columns / 2)
    (rate,) = -_elementary.log(np.array([base], np.float64))

    def formula(p: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[Any]:
        odd, i = np.divmod(column, pairs) if halves else divmod(column, 2)[::-1]
        angle = (first + p) * _elementary.exp(rate * i / n)
        return _rounded(_elementary.sine(angle, odd), array.dtype)

    _fill_computed(array, formula, (array.ndim - 2, array.ndim - 1), at, threads, backend)
    return x
