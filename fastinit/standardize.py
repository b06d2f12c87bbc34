"""After the draw: exact statistics of a sample, unit norms, and layers scaled by their output.

Arrays are worked on in place, box by box, so that no temporary grows with them. The boxes depend
on the shape alone, and what they give is added up in their order: the same bits for any number
of threads.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit._arguments import Axes, axes, integer, positive, shown
from fastinit._errors import type_error, value_error
from fastinit._fill import FloatFormat, boxes, element, float_format, floats
from fastinit._settings import count_threads

T = TypeVar("T")
S = TypeVar("S")
Box = tuple[slice, ...]
Floats = NDArray[np.float64]
Exponents = NDArray[np.int32] | None  # of each line; None: 0

# Elements of a box: with fewer, threads wait for Python's lock more than they work (measured, 2^26
# float32 in ns each: 2^16 2.2 with one thread and 4.4 with four, 2^18 1.9 and 1.0).
_BOX = 2**18
_ROW = 2**13


# Exponents of 2. The squares of a float64 beyond them, or of its last place, may not be numbers.
_SQUARABLE = 450


class _Moments(NamedTuple):
    """Of lines of n elements, times 2**exponent: means, sums of squared deviations, extremes."""

    n: int
    mean: Floats
    squares: Floats
    low: Floats
    high: Floats
    exponent: Exponents


class _Affine(NamedTuple):
    """What becomes of lines: (x * 2**exponent - shift) * factor + target."""

    shift: Floats | float
    factor: Floats | float
    target: float
    exponent: Exponents = None


class _Map(Protocol):
    def __call__(self, function: Callable[[T], S], items: Iterable[T], /) -> list[S]: ...


def standardize_(
    x: T,
    mean: float = 0.0,
    std: float = 1.0,
    axis: Axes | None = None,
    *,
    threads: int | None = None,
) -> T:
    """Shift and scale x so that its own mean and standard deviation are exactly these.

    As exactly as its dtype can hold the values: means and sums are of float64, by Chan's
    formula over boxes of at most 2^18 elements.

    Parameters
    ----------
    x : array
        Changed in place: any float dtype that fastinit knows, any strides.
    mean, std : float
        Finite in x's dtype; std >= 0, and that of the population (divided by n).
    axis : int or tuple of int, optional
        Along which axes to take them, as in `numpy.mean`; all if not given.
    threads : int, optional
        How many threads; see `set_num_threads`. The values do not depend on it.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, if x holds an infinity or a NaN, if elements that
        are all equal would need a standard deviation above 0, or if a value would be larger than
        any number of x's dtype; then nothing was written.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for Computing the Sample Variance",
    The American Statistician 37, 1983.

    Examples
    --------
    >>> x = fi.standardize_(fi.normal((100, 100), rng=42), std=0.02)
    >>> round(float(x.mean()), 9) + 0.0, round(float(x.std()), 9)
    (0.0, 0.02)
    """
    array = floats(x)
    for name, value in (("mean", mean), ("std", std)):
        element(value, array.dtype, name)
    if not (math.isfinite(mean) and 0 <= std < math.inf):
        raise value_error(f"mean={mean!r}, std={std!r} must be finite, and std 0 or greater")

    def coefficients(moments: _Moments) -> _Affine:
        deviation = np.sqrt(moments.squares / moments.n)
        _check_finite(deviation)
        if std and (moments.low == moments.high).any():
            raise value_error(f"std={std!r}: x has elements that are all equal, and stay so")
        factor = std / np.where(deviation, deviation, 1.0)
        return _Affine(moments.mean, factor, mean, moments.exponent)

    _rescale(array, axis, coefficients, threads, f"mean={mean!r}, std={std!r}")
    return x


def normalize_(x: T, norm: float = 1.0, axis: Axes | None = 0, *, threads: int | None = None) -> T:
    """Scale x so that each line along `axis` has the Euclidean norm `norm`.

    Parameters
    ----------
    x : array
        Changed in place: any float dtype that fastinit knows, any strides.
    norm : float
        Positive and finite.
    axis : int or tuple of int, or None
        0: unit columns, so the weights of each output of (in, out). 1: unit rows, for the same
        in PyTorch's (out, in). None: the whole of x.
    threads : int, optional
        As in `standardize_`.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, if x holds an infinity or a NaN, or a line of
        zeros; then nothing was written.

    References
    ----------
    T. Salimans, D. P. Kingma, "Weight Normalization: A Simple Reparameterization to Accelerate
    Training of Deep Neural Networks", NeurIPS 2016.

    Examples
    --------
    >>> x = fi.normalize_(np.array([[3.0, 1.0], [4.0, 0.0]]))
    >>> x
    array([[0.6, 1. ],
           [0.8, 0. ]])
    """
    wanted = positive("norm", norm)
    array = floats(x)
    element(norm, array.dtype, "norm")

    def coefficients(moments: _Moments) -> _Affine:
        norms = np.sqrt(moments.squares + moments.n * moments.mean**2)
        _check_finite(norms)
        if not norms.all():
            raise value_error(f"norm={norm!r}: x has a line of zeros along axis={shown(axis)}")
        return _Affine(0.0, wanted / norms, 0.0, moments.exponent)

    _rescale(array, axis, coefficients, threads, f"norm={norm!r}")
    return x


def lsuv_(
    x: T,
    output: Callable[[], ArrayLike],
    std: float = 1.0,
    *,
    tolerance: float = 0.01,
    iterations: int = 10,
    threads: int | None = None,
) -> T:
    """Scale a layer's weights x until its output on real data has the standard deviation `std`.

    Layer-sequential unit-variance: begin with `orthogonal_` weights, and go through the layers
    from the first to the last.

    Parameters
    ----------
    x : array
        The layer's weights, scaled in place: any float dtype that fastinit knows.
    output : callable
        Takes nothing and returns the layer's output on a batch, computed with x as it is.
    std : float
        Positive and finite.
    tolerance : float
        Of the output's standard deviation, relative to `std`.
    iterations : int
        So often at most; a layer that is linear needs one.
    threads : int, optional
        As in `standardize_`.

    Returns
    -------
    array
        `x`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; or if the output is constant or not finite, x would
        have values that are larger than any number of its dtype, or the output's deviation is not
        `std` in the end: then x may have been scaled.

    References
    ----------
    D. Mishkin, J. Matas, "All you need is a good init", ICLR 2016.

    Examples
    --------
    >>> batch, w = fi.normal((256, 64), rng=1), fi.orthogonal((64, 64), rng=2)
    >>> w = fi.lsuv_(w, lambda: np.maximum(batch @ w, 0))
    >>> round(float(np.maximum(batch @ w, 0).std()), 2)
    1.0
    """
    array = floats(x)
    wanted, allowed = positive("std", std), positive("tolerance", tolerance)
    if integer("iterations", iterations) < 1:
        raise value_error(f"iterations={shown(iterations)} must be 1 or greater")
    if not callable(output):
        raise type_error(f"output={shown(output)} must be a function")
    count_threads(threads)
    for remaining in range(iterations, -1, -1):
        deviation = float(np.std(np.asarray(output(), np.float64)))
        if not 0.0 < deviation < math.inf:
            raise value_error(
                f"the output has the standard deviation {deviation!r}: it cannot be scaled"
            )
        if abs(deviation / wanted - 1) <= allowed:
            return x
        if remaining:
            factor = wanted / deviation
            _rescale(array, None, partial(_scaled, factor), threads, f"std={std!r}")
    raise value_error(
        f"after iterations={iterations} the output has the standard deviation {deviation!r}, "
        f"not std={std!r} within tolerance={tolerance!r}"
    )


def _scaled(factor: float, _: _Moments) -> _Affine:
    return _Affine(0.0, factor, 0.0)


def _check_finite(statistic: Floats) -> None:
    if not np.isfinite(statistic).all():
        raise value_error("x holds values that are not finite")


class _Cut(NamedTuple):
    """An array cut into groups of lines along some axes, and each group into pieces.

    The statistics of a line are those of its pieces, joined.
    """

    array: NDArray[Any]
    along: tuple[int, ...]
    lines: list[Box]
    pieces: list[Box]

    def box(self, lines: Box, piece: Box) -> NDArray[Any]:
        """Return the part of the array where some lines cross a piece."""
        axes = range(self.array.ndim)
        return self.array[tuple(piece[a] if a in self.along else lines[a] for a in axes)]

    def moments(self, lines: Box, each_piece: _Map, exponent: Exponents = None) -> _Moments:
        """Return the moments of some lines."""
        boxes = [self.box(lines, piece) for piece in self.pieces]
        return _joined(each_piece(partial(_box_moments, self.along, exponent), boxes))


def _rescale(
    array: NDArray[Any],
    axis: Axes | None,
    coefficients: Callable[[_Moments], _Affine],
    threads: int | None,
    given: str,
) -> None:
    """Rescale each line of the array along some axes; `coefficients` raises where it cannot.

    `given` is what was asked for, for errors.
    """
    workers, cut = count_threads(threads), _cut(np.atleast_1d(array), axis)
    with _mapping(workers if array.size > _BOX else 1) as parallel:
        each_line, each_piece = (parallel, _map) if len(cut.pieces) == 1 else (_map, parallel)

        affine = partial(_affine, cut, each_piece, coefficients, given)

        def check(lines: Box) -> None:
            affine(lines)

        def write(lines: Box) -> None:
            boxes = [cut.box(lines, piece) for piece in cut.pieces]
            each_piece(partial(_apply, affine(lines)), boxes)

        if len(cut.lines) > 1:  # each must be good before the first is written
            each_line(check, cut.lines)
        each_line(write, cut.lines)


def _cut(array: NDArray[Any], axis: Axes | None) -> _Cut:
    """Return how an array is cut: by its shape and the axes of its lines alone."""
    (along,) = axes(array.shape, axis=range(array.ndim) if axis is None else axis)
    if not along:
        raise value_error(f"axis={shown(axis)} must name an axis")
    if not array.size:
        return _Cut(array, tuple(along), [], [])
    kept = [1 if a in along else length for a, length in enumerate(array.shape)]
    reduced = [length if a in along else 1 for a, length in enumerate(array.shape)]
    many = _BOX // math.prod(reduced)
    if kept[-1] > 1:  # neighbours in memory belong to different lines: enough of them at once
        many = max(many, _ROW)
    many = max(1, min(many, math.prod(kept)))
    return _Cut(array, tuple(along), list(boxes(kept, many)), list(boxes(reduced, _BOX // many)))


def _affine(
    cut: _Cut,
    each_piece: _Map,
    coefficients: Callable[[_Moments], _Affine],
    given: str,
    lines: Box,
) -> _Affine:
    """Return what becomes of some lines."""
    with np.errstate(all="ignore"):  # what is not finite is refused
        moments = cut.moments(lines, each_piece)
        exponent = _to_be_squarable(moments)
        if exponent is not None:
            moments = cut.moments(lines, each_piece, exponent)
        affine = coefficients(moments)
        _check_range(affine, moments, float_format(cut.array.dtype), given)
        return affine


def _check_range(affine: _Affine, moments: _Moments, dtype: FloatFormat, given: str) -> None:
    """Raise if a value would be larger than any number of the dtype, thus infinite or NaN."""
    ends = np.stack([moments.low, moments.high])
    largest = float(np.abs((ends - affine.shift) * affine.factor + affine.target).max())
    if not largest <= dtype.max:
        raise value_error(
            f"{given}: x would have values up to {largest:.4g}; allowed: up to {dtype.max:.4g}, "
            f"the largest of {dtype.name}"
        )


def _wide(box: NDArray[Any], exponent: Exponents) -> Floats:
    """Return a box in float64, times 2**exponent, in memory of this thread that the next takes."""
    if not hasattr(_local, "memory"):
        _local.memory = np.empty(_BOX)
    values: Floats = _local.memory[: box.size].reshape(box.shape)
    values[...] = box
    if exponent is not None:
        np.ldexp(values, exponent, out=values)
    return values


_local = threading.local()


def _box_moments(along: tuple[int, ...], exponent: Exponents, box: NDArray[Any]) -> _Moments:
    values = _wide(box, exponent)
    with np.errstate(all="ignore"):
        low, high = (end(axis=along, keepdims=True) for end in (values.min, values.max))
        mean = values.mean(axis=along, keepdims=True)
        values -= mean
        np.square(values, out=values)
        squares = values.sum(axis=along, keepdims=True)
        return _Moments(values.size // mean.size, mean, squares, low, high, exponent)


def _to_be_squarable(moments: _Moments) -> Exponents:
    """Return what brings the lines into the range where squares are numbers; None if they are."""
    exponent = np.frexp(np.maximum(-moments.low, moments.high))[1]
    exponent[np.abs(exponent) <= _SQUARABLE] = 0
    return -exponent if exponent.any() else None


def _joined(parts: Sequence[_Moments]) -> _Moments:
    """Return the moments of lines from those of their pieces (Chan's formula)."""
    if len(parts) == 1:
        return parts[0]
    n = sum(part.n for part in parts)
    mean = reduce(np.add, (part.n * part.mean for part in parts)) / n
    squares = reduce(np.add, (p.squares + p.n * (p.mean - mean) ** 2 for p in parts))
    low, high = (
        reduce(np.minimum, (p.low for p in parts)),
        reduce(np.maximum, (p.high for p in parts)),
    )
    return _Moments(n, mean, squares, low, high, parts[0].exponent)


def _apply(affine: _Affine, box: NDArray[Any]) -> None:
    values = _wide(box, affine.exponent)
    values -= affine.shift
    values *= affine.factor
    values += affine.target
    box[...] = values


def _map(function: Callable[[T], S], items: Iterable[T]) -> list[S]:
    return list(map(function, items))


@contextmanager
def _mapping(threads: int) -> Iterator[_Map]:
    """Yield a `_map` that runs in so many threads."""
    if threads == 1:
        yield _map
        return
    from concurrent.futures import ThreadPoolExecutor  # here: it takes time to import

    pool = ThreadPoolExecutor(threads)
    try:
        yield lambda function, items: list(pool.map(function, items))
    finally:
        pool.shutdown(cancel_futures=True)
