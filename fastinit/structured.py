"""Initializers with structure: identities, impulses, orthogonal and sparse matrices, blocks.

As in `fastinit.initializers`: each fills in place under its name with an underscore, and takes
the last two axes as (in, out) unless told otherwise.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastinit import _arguments, _kernels
from fastinit._arguments import Shape, integer, real, shown, single_axes
from fastinit._distributions import normal_distribution
from fastinit._errors import type_error, value_error
from fastinit._fill import (
    Matrix,
    array_of,
    check_gain,
    draws,
    element,
    fill,
    fill_constant,
    fill_orthogonal,
    float_format,
    floats,
    index_steps,
    place,
)
from fastinit.random import RNG, as_generator

T = TypeVar("T")

# Lines that a part has at least where each is the whole of some axes: so many columns does the
# kernel of orthogonal matrices make at once, and the reflections that they all need take as long as
# 24 of them. With 240, a tensor in parts takes 1.1 times as long as one that is made whole.
LINES = 240

_BLOCK = 2**18  # elements of a temporary


class _Taps:
    """A kernel's centre: the (in, out) matrix there, or that part of it that x holds."""

    def __init__(
        self,
        array: NDArray[Any],
        in_axis: int,
        out_axis: int,
        global_shape: Shape | None,
        offset: Shape | None,
    ) -> None:
        whole, at = place(array.shape, global_shape, offset)
        i, o = single_axes(whole, in_axis=in_axis, out_axis=out_axis)
        self.n_in, self.n_out = whole[i], whole[o]
        self.first_in, self.first_out = at[i], at[o]
        centres = [
            slice(None) if axis in (i, o) else _only(n // 2 - first, length)
            for axis, (n, first, length) in enumerate(zip(whole, at, array.shape, strict=True))
        ]
        #: (..., in, out): the leading axes have length 1, or 0 where x lacks the centre
        self.matrix = np.moveaxis(array[tuple(centres)], (i, o), (-2, -1))
        none = [0] * (array.ndim - 2)
        #: which part of the whole kernel's (in, out) matrix that is
        self.box = Matrix(self.n_in, self.n_out, at[i], at[o], [*none, 1, 0], [*none, 0, 1])


def _only(index: int, length: int) -> slice:
    """Return the slice of one index, or of none if there is no such index."""
    return slice(index, index + 1) if 0 <= index < length else slice(0, 0)


def dirac_(
    x: T,
    groups: int = 1,
    gain: float = 1,
    *,
    in_axis: int = -2,
    out_axis: int = -1,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with 0, and with `gain` where the kernel's centre joins input c to output c.

    A convolution with it hands its input on, as many channels as there are on both sides. The
    centre of a kernel n long is n // 2.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is boolean, an integer or a floating type of at most 8
        bytes; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    groups : int
        The outputs fall into so many groups, each an identity of its own; divides their number.
    gain : float
        Must be representable in x's dtype.
    in_axis, out_axis : int
        The axes of inputs and of outputs; all other axes are the kernel's. PyTorch's layout
        (out, in, ...) has in_axis=1 and out_axis=0.
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
    :For: convolutions that begin as the identity
    :PyTorch: dirac_
    :JAX: -
    :Keras: -

    References
    ----------
    S. Zagoruyko, N. Komodakis, "DiracNets: Training Very Deep Neural Networks Without
    Skip-Connections", 2017.

    Examples
    --------
    >>> fi.dirac_(np.empty((3, 1, 1), np.float32)).ravel()
    array([0., 1., 0.], dtype=float32)
    """
    array = array_of(x)
    taps = _Taps(array, in_axis, out_axis, global_shape, offset)
    if not integer("groups", groups) >= 1 or taps.n_out % groups:
        raise value_error(f"groups={shown(groups)} must divide the number of outputs, {taps.n_out}")
    value = element(gain, array.dtype, "gain")
    fill_constant(array, 0, threads, backend=backend)
    outputs = np.arange(taps.matrix.shape[-1])
    inputs = (taps.first_out + outputs) % max(1, taps.n_out // groups) - taps.first_in
    here = (inputs >= 0) & (inputs < taps.matrix.shape[-2])
    taps.matrix[..., inputs[here], outputs[here]] = value
    return x


def eye_(
    x: T,
    gain: float = 1,
    *,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill the matrix x with `gain` on its main diagonal and 0 elsewhere: `dirac_` of two axes.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is boolean, an integer or a floating type of at most 8
        bytes; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    gain : float
        The value on the diagonal; x's dtype must be able to hold it.
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
    :For: recurrent weights before a rectifier
    :PyTorch: eye_
    :JAX: -
    :Keras: Identity

    References
    ----------
    Q. V. Le et al., "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units",
    2015.

    Examples
    --------
    >>> fi.eye_(np.empty((2, 3), np.float32))
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    array = array_of(x)
    _check_matrix("eye_", place(array.shape, global_shape, offset)[0])
    dirac_(
        array, 1, gain, threads=threads, backend=backend, global_shape=global_shape, offset=offset
    )
    return x


def _check_matrix(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
        raise value_error(f"x has shape {shape}; {name} allows two axes")


def delta_(
    x: T,
    gain: float = 1,
    *,
    in_axis: int = -2,
    out_axis: int = -1,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with 0, and with `gain` at the kernel's centre, from every input to every output.

    A depthwise convolution (one input) with it hands its input on; gain = 1 / fan_in averages
    the channels. The centre of a kernel n long is n // 2.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is boolean, an integer or a floating type of at most 8
        bytes; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    gain : float
        The value at the centre; x's dtype must be able to hold it.
    in_axis, out_axis : int
        The axes of inputs and of outputs; all other axes are the kernel's. PyTorch's layout
        (out, in, ...) has in_axis=1 and out_axis=0.
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
    :For: depthwise convolutions that begin as the identity
    :PyTorch: dirac_(groups=channels), for a depthwise one
    :JAX: -
    :Keras: -

    References
    ----------
    L. Xiao et al., "Dynamical Isometry and a Mean Field Theory of CNNs", ICML 2018 (delta
    kernels).

    Examples
    --------
    >>> fi.delta_(np.empty((3, 1, 2), np.float32))[:, 0]
    array([[0., 0.],
           [1., 1.],
           [0., 0.]], dtype=float32)
    """
    array = array_of(x)
    taps = _Taps(array, in_axis, out_axis, global_shape, offset)
    value = element(gain, array.dtype, "gain")
    fill_constant(array, 0, threads, backend=backend)
    taps.matrix[...] = value
    return x


def hadamard_(
    x: T,
    *,
    in_axis: int = -2,
    out_axis: int = -1,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with the identity or, where outputs outnumber inputs, with Hadamard's matrix.

    ZerO: at the kernel's centre ``2^(-(m - 1)/2) (-1)^popcount(in & out)``, m the bits
    that number the outputs; no randomness, and yet the symmetry between outputs is broken. The
    centre of a kernel n long is n // 2.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    in_axis, out_axis : int
        The axes of inputs and of outputs; all other axes are the kernel's. PyTorch's layout
        (out, in, ...) has in_axis=1 and out_axis=0.
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
    :For: networks without random weights
    :PyTorch: -
    :JAX: -
    :Keras: -

    References
    ----------
    J. Zhao, F. Schäfer, A. Anandkumar, "ZerO Initialization: Initializing Neural Networks with
    only Zeros and Ones", TMLR 2022, algorithm 1.

    Examples
    --------
    >>> fi.hadamard_(np.empty((2, 4), np.float32)).round(4)
    array([[ 0.7071,  0.7071,  0.7071,  0.7071],
           [ 0.7071, -0.7071,  0.7071, -0.7071]], dtype=float32)
    """
    array = floats(x)
    taps = _Taps(array, in_axis, out_axis, global_shape, offset)
    if taps.n_out <= taps.n_in:
        dirac_(
            array,
            in_axis=in_axis,
            out_axis=out_axis,
            threads=threads,
            backend=backend,
            global_shape=global_shape,
            offset=offset,
        )
        return x
    fill_constant(array, 0, threads, backend=backend)
    values = element(math.sqrt(2.0 ** -((taps.n_out - 1).bit_length() - 1)), array.dtype)
    values = np.concatenate([values, -values])
    outputs = taps.first_out + np.arange(taps.matrix.shape[-1])
    for row in range(taps.matrix.shape[-2]):
        odd = np.bitwise_count(outputs & (taps.first_in + row)) & 1
        taps.matrix[..., row, :] = values[odd]
    return x


def embedding_(
    x: T,
    padding: int | None = None,
    std: float = 1.0,
    *,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill the table x with normals of standard deviation `std`, and its padding row with 0.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    padding : int, optional
        The row that stands for no entry.
    std : float
        The standard deviation, finite in x's dtype; std >= 0. 1 is PyTorch's; language models
        have 0.02.
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
    :For: embedding tables
    :PyTorch: what Embedding(padding_idx=) does
    :JAX: -
    :Keras: -

    References
    ----------
    `torch.nn.Embedding`, with its padding_idx.

    Examples
    --------
    >>> fi.embedding_(np.empty((2, 3), np.float32), padding=0, rng=42)[0]
    array([0., 0., 0.], dtype=float32)
    """
    array = floats(x)
    whole, at = place(array.shape, global_shape, offset)
    if padding is not None and not (whole and 0 <= integer("padding", padding) < whole[0]):
        allowed = f"0 to {whole[0] - 1}" if whole and whole[0] else "none"
        raise value_error(
            f"padding={shown(padding)} is not a row of a table of shape {whole}; allowed: {allowed}"
        )
    distribution = normal_distribution(0.0, std)
    fill(distribution, array, as_generator(rng), threads, global_shape, offset, backend)
    if padding is not None:
        array[_only(padding - at[0], len(array))] = 0
    return x


def orthogonal_(
    x: T,
    gain: float = 1.0,
    column_axis: int = -1,
    *,
    scaled: bool = False,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with `gain` times a random orthogonal matrix, all of them equally likely.

    Of the matrix that has `column_axis` as its columns and all other axes as its rows, the
    shorter side is orthonormal: rows if there are fewer of them, else columns. It is a product of
    one reflection for each of these, of a vector of standard normals, and of signs: the Q of a
    matrix of normals with R's diagonal made positive, at half the work. It is computed in float64
    for float64, else in float32, in an order that does not depend on the machine.

    A part takes as long as its share of the shorter side says, and of the longer side it needs the
    whole: of an array (8192, 1024), any 64 columns take less than a tenth of the time of all, but
    64 rows as long as all. Beside x, each thread needs 288 numbers for each element of the longer
    side, and all threads together 50 for each of the shorter one.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    gain : float
        All singular values; finite in x's dtype. See `calculate_gain`.
    column_axis : int
        The axis whose elements are columns: -1 for (..., out), 0 for PyTorch's (out, ...). x has
        two axes or more.
    scaled : bool
        Whether columns that outnumber the rows are multiplied by sqrt(columns / rows) too: what
        a layer gives then has the root mean square of what it got, as its elements have the
        variance of `lecun_normal_`.
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
    MemoryError
        If there is not enough memory beside x.

    Notes
    -----
    :For: recurrent weights, very deep networks
    :PyTorch: orthogonal_ is column_axis=0
    :JAX: orthogonal
    :Keras: Orthogonal

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", ICLR 2014. G. W. Stewart, "The Efficient Generation of Random
    Orthogonal Matrices with an Application to Condition Estimators", SIAM J. Numer. Anal. 17,
    1980 (the reflections). G. Yang, J. Simon, J. Bernstein, "A Spectral Condition for Feature
    Learning", 2023 (scaled).

    Examples
    --------
    >>> x = fi.orthogonal_(np.empty((3, 2)), rng=42)
    >>> bool(np.allclose(x.T @ x, np.eye(2)))
    True
    """
    array = floats(x)
    whole, at = place(array.shape, global_shape, offset)
    if len(whole) < 2:
        raise value_error(f"x has shape {whole}; orthogonal_ allows two axes or more")
    (axis,) = single_axes(whole, column_axis=column_axis)
    matrix = matrix_of(whole, at, axis)
    factor = real("gain", gain)
    if scaled and matrix.columns > matrix.rows > 0:
        factor *= math.sqrt(matrix.columns / matrix.rows)
    fill_orthogonal(factor, array, matrix, as_generator(rng), threads, backend)
    return x


def matrix_of(whole: tuple[int, ...], at: tuple[int, ...], axis: int) -> Matrix:
    """Return the matrix that has an axis of a tensor as its columns, and all others as its rows."""
    row_steps = index_steps(tuple(1 if a == axis else n for a, n in enumerate(whole)))
    row_steps[axis] = 0
    column_steps = [int(a == axis) for a in range(len(whole))]
    row = sum(map(operator.mul, at, row_steps))
    rows = math.prod(n for a, n in enumerate(whole) if a != axis)
    return Matrix(rows, whole[axis], row, at[axis], row_steps, column_steps)


def orthogonal_whole_axes(
    shape: tuple[int, ...], column_axis: int = -1, **_: Any
) -> tuple[int, ...]:
    """Return the axes of the matrix's longer side, of which any part costs as much as all."""
    (columns,) = single_axes(shape, column_axis=column_axis)
    rows = tuple(axis for axis in range(len(shape)) if axis != columns)
    return (columns,) if shape[columns] > math.prod(shape[axis] for axis in rows) else rows


def delta_orthogonal_(
    x: T,
    gain: float = 1.0,
    *,
    in_axis: int = -2,
    out_axis: int = -1,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill x with 0, and at the kernel's centre with `gain` times a random orthogonal matrix.

    A convolution with it keeps the norm of its input, whatever its size. The centre of a kernel
    n long is n // 2. (JAX's is (n - 1) // 2: another one for even n.) x has two axes or more, and
    no fewer outputs than inputs. `orthogonal_` says what memory and time the matrix needs.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is boolean, an integer or a floating type of at most 8
        bytes; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    gain : float
        All singular values; finite in x's dtype.
    in_axis, out_axis : int
        The axes of inputs and of outputs; all other axes are the kernel's. PyTorch's layout
        (out, in, ...) has in_axis=1 and out_axis=0.
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
    MemoryError
        If there is not enough memory beside x; then x is 0.

    Notes
    -----
    :For: very deep convolutional networks
    :PyTorch: -
    :JAX: delta_orthogonal
    :Keras: -

    References
    ----------
    L. Xiao et al., "Dynamical Isometry and a Mean Field Theory of CNNs: How to Train
    10,000-Layer Vanilla Convolutional Neural Networks", ICML 2018.

    Examples
    --------
    >>> x = fi.delta_orthogonal_(np.empty((3, 3, 2, 2)), rng=42)
    >>> bool(np.allclose(x[1, 1].T @ x[1, 1], np.eye(2))), int(np.count_nonzero(x))
    (True, 4)
    """
    array = floats(x)
    taps = _Taps(array, in_axis, out_axis, global_shape, offset)
    if taps.n_out < taps.n_in:
        raise value_error(
            f"x has {taps.n_in} inputs and {taps.n_out} outputs; delta_orthogonal_ allows no "
            "fewer outputs than inputs"
        )
    generator, factor = as_generator(rng), real("gain", gain)
    check_gain(factor, float_format(array.dtype))  # before the zeros are written
    fill_constant(array, 0, threads, backend=backend)
    fill_orthogonal(factor, taps.matrix, taps.box, generator, threads, backend)
    return x


def delta_orthogonal_whole_axes(
    shape: tuple[int, ...], in_axis: int = -2, out_axis: int = -1, **_: Any
) -> tuple[int, ...]:
    """Return the axis of the matrix's longer side; the inputs' if it is square."""
    i, o = single_axes(shape, in_axis=in_axis, out_axis=out_axis)
    return (o,) if shape[o] > shape[i] else (i,)


def sparse_(
    x: T,
    sparsity: float,
    std: float = 0.01,
    axis: int = 0,
    *,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
) -> T:
    """Fill the matrix x with normals of deviation `std`, and a share of each column with 0.

    Each column has exactly ceil(sparsity * rows) zeros, in places of its own: those whose draws,
    of a stream beside that of the normals, are the least.

    Parameters
    ----------
    x : array
        Filled in place. Its dtype is float32, float64, float16, bfloat16, float8_e4m3fn or
        float8_e5m2; it is a NumPy array of any shape and strides, or an object with the buffer
        protocol, ``__array_interface__`` or DLPack.
    sparsity : float
        The share of zeros, 0 to 1.
    std : float
        The standard deviation of the other values, before some become 0; std >= 0, and finite in
        x's dtype.
    axis : int
        0: columns, so that each output of an (in, out) weight has as many inputs. 1: rows, for
        the same in PyTorch's (out, in). (`torch.nn.init.sparse_` has 0 there, and so as many
        outputs for each input.)
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
    :For: layers whose outputs should see few inputs
    :PyTorch: sparse_
    :JAX: -
    :Keras: -

    References
    ----------
    J. Martens, "Deep learning via Hessian-free optimization", ICML 2010.

    Examples
    --------
    >>> x = fi.sparse_(np.empty((10, 1000), np.float32), 0.3, rng=42)
    >>> np.unique((x == 0).sum(axis=0))
    array([3])
    """
    array = floats(x)
    whole, at = place(array.shape, global_shape, offset)
    _check_matrix("sparse_", whole)
    (along,) = single_axes(array.shape, axis=axis)
    if not 0 <= real("sparsity", sparsity) <= 1:
        raise value_error(f"sparsity={shown(sparsity)} must be 0 to 1")
    generator, distribution = as_generator(rng), normal_distribution(0.0, std)
    # Of no element: refuses what it must before we take indices.
    fill(distribution, array[:0], generator, threads, backend=backend)
    start = generator.take(math.prod(whole))
    values = _kernels.Cursor(generator.key, start)
    fill(distribution, array, values, threads, global_shape, offset, backend)

    length, steps = whole[along], index_steps(whole)
    # 0.07 of 100 are 7 by its digits, but 7.000000000000001 by multiplication.
    from fractions import Fraction  # here, since the package is imported sooner without it

    zeros = math.ceil(Fraction(str(real("sparsity", sparsity))) * length)
    if not array.size or not zeros:
        return x
    across, key = 1 - along, generator.stream("sparse").key
    lines = max(1, _BLOCK // length)
    for begin in range(0, array.shape[across], lines):
        block = array[_along(across, begin, begin + lines)]
        shape = (length, block.shape[1]) if along == 0 else (block.shape[0], length)
        index = start + (at[across] + begin) * steps[across]
        least = _least(draws(shape, key, index, steps, threads), zeros, along)
        block[least[_along(along, at[along], at[along] + block.shape[along])]] = 0
    return x


def sparse_whole_axes(shape: tuple[int, ...], axis: int = 0, **_: Any) -> tuple[int, ...]:
    """Return the axis that counts its zeros: each of its lines is drawn whole for any part."""
    (along,) = single_axes(shape, axis=axis)
    return (along,)


def _along(axis: int, start: int, stop: int) -> tuple[slice, slice]:
    """Return the index of a stretch of a matrix's axis."""
    return (slice(start, stop), slice(None)) if axis == 0 else (slice(None), slice(start, stop))


def _least(draws: NDArray[np.uint64], count: int, axis: int) -> NDArray[np.bool_]:
    """Return where the least `count` along an axis are, at equal draws the first ones."""
    length = draws.shape[axis]
    places = np.arange(length, dtype=np.uint64)
    low_bits = np.uint64((1 << (length - 1).bit_length()) - 1)
    draws &= ~low_bits
    draws |= places[:, None] if axis == 0 else places
    return draws <= np.partition(draws, count - 1, axis).take([count - 1], axis)


def blocks_(
    x: T,
    initializer: Callable[..., Any],
    sizes: Sequence[int],
    axis: int = -1,
    *,
    rng: RNG = None,
    threads: int | None = None,
    backend: str | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
    **options: Any,
) -> T:
    """Fill x piece by piece along an axis, each as a tensor of its own, with its own fans.

    So for weights that several layers share: query, key and value in one, or the gates of a
    recurrent layer.

    Parameters
    ----------
    x : array
        Filled in place; what `initializer` takes.
    initializer : callable
        An in-place initializer with a generator, such as `xavier_uniform_` or `orthogonal_`.
    sizes : sequence of int
        The pieces' lengths; their sum is the axis's.
    axis : int
        The axis that they share.
    rng : int, sequence of int, SeedSequence, Generator, or None
        What the values are drawn from, as `default_rng` takes it. The pieces take the generator's
        indices one after the other.
    threads : int, optional
        How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do
        not depend on it.
    backend : {"c", "numba"}, optional
        Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the
        default. The values do not depend on it.
    global_shape, offset : tuple of int, optional
        Both are given where x is a part of a larger tensor: the shape of that tensor, and the
        index in it at which x begins. `sizes` are those of the whole tensor.
    **options
        What the initializer takes besides.

    Returns
    -------
    array
        `x`.

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
    >>> x = np.empty((64, 3 * 64), np.float32)
    >>> q = fi.blocks_(x, fi.xavier_uniform_, [64, 64, 64], rng=42)[:, :64]
    >>> bool((q == fi.xavier_uniform((64, 64), rng=42)).all())
    True
    """
    array = array_of(x)
    whole, at = place(array.shape, global_shape, offset)
    along, lengths = pieces_along(whole, axis, initializer, sizes)
    generator = as_generator(rng)
    begin = -at[along]  # of the piece, counted from x's first element
    for length in lengths:
        first, last = (min(max(0, i), array.shape[along]) for i in (begin, begin + length))
        piece = array[(*[slice(None)] * along, slice(first, last))]
        inside = min(max(0, first - begin), length)
        initializer(
            piece,
            rng=generator,
            threads=threads,
            backend=backend,
            global_shape=(*whole[:along], length, *whole[along + 1 :]),
            offset=(*at[:along], inside, *at[along + 1 :]),
            **options,
        )
        begin += length
    return x


def pieces_along(
    whole: tuple[int, ...], axis: int, initializer: object, sizes: Sequence[int]
) -> tuple[int, tuple[int, ...]]:
    """Return the axis that the pieces of `blocks_` share, counted from 0, and their lengths.

    Raise TypeError or ValueError if an argument of `blocks_` is not as it should be.
    """
    (along,) = single_axes(whole, axis=axis)
    if not callable(initializer):
        raise type_error(
            f"initializer={shown(initializer)} must be a function, such as xavier_uniform_"
        )
    lengths = _arguments.shape("sizes", sizes)
    if sum(lengths) != whole[along]:
        raise value_error(f"sizes={shown(sizes)} must be lengths that add up to {whole[along]}")
    return along, lengths


identity_ = eye_
