"""The entry point: every fill goes through `fill`, which checks everything before it writes.

It knows arrays, dtypes, parts of tensors, generators, threads and backends; it knows nothing
of what a distribution means.
"""

from __future__ import annotations

import math
import operator
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastinit import _arguments, _kernels, _settings
from fastinit._arguments import Shape
from fastinit._distributions import Distribution, of_parts
from fastinit._errors import type_error, value_error, with_name
from fastinit._extras import missing
from fastinit._settings import Backend

T = TypeVar("T")


class FloatFormat(NamedTuple):
    """A floating dtype: the kernels' number for it, and which numbers it has."""

    name: str
    code: int
    itemsize: int
    max: float
    digits: int  # of the significand, in bits
    smallest: int  # the least positive number's exponent


FLOAT_FORMATS = {
    known.name: known
    for known in (
        FloatFormat("float32", _kernels.FLOAT32, 4, float(np.finfo(np.float32).max), 24, -149),
        FloatFormat("float64", _kernels.FLOAT64, 8, float(np.finfo(np.float64).max), 53, -1074),
        FloatFormat("float16", _kernels.FLOAT16, 2, 65504.0, 11, -24),
        FloatFormat("bfloat16", _kernels.BFLOAT16, 2, float.fromhex("0x1.fep127"), 8, -133),
        FloatFormat("float8_e4m3fn", _kernels.FLOAT8_E4M3FN, 1, 448.0, 4, -9),
        FloatFormat("float8_e5m2", _kernels.FLOAT8_E5M2, 1, 57344.0, 3, -16),
    )
}
_FROM_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_FORMAT_OF: dict[np.dtype[Any], FloatFormat] = {
    np.dtype(name): known for name, known in FLOAT_FORMATS.items() if name not in _FROM_ML_DTYPES
}
_PATTERNS: dict[int, tuple[int, np.dtype[Any]]] = {
    1: (_kernels.UINT8, np.dtype(np.uint8)),
    2: (_kernels.UINT16, np.dtype(np.uint16)),
    4: (_kernels.UINT32, np.dtype(np.uint32)),
    8: (_kernels.UINT64, np.dtype(np.uint64)),
}

_DLPACKS_CPU = (1, 3)  # kDLCPU, kDLCUDAHost

# Bytes. On x86-64, and on aarch64 with pages of 4 KiB.
_CACHE_LINE, _PAGE, _HUGE_PAGE = 64, 1 << 12, 1 << 21


def as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the NumPy dtype, also for the names that ml_dtypes adds.

    Raises
    ------
    TypeError
        If there is no such dtype, or ml_dtypes is needed for it and missing.
    """
    if isinstance(dtype, str) and dtype in _FROM_ML_DTYPES:
        try:
            import ml_dtypes
        except ImportError:
            raise type_error(missing("ml_dtypes", f"dtype={dtype!r}")) from None
        dtype = getattr(ml_dtypes, dtype)
    try:
        known: np.dtype[Any] = np.dtype(dtype)
        if not known.itemsize and known.kind == "V":  # of an empty list
            raise TypeError
        return known
    except (TypeError, ValueError):
        allowed = ", ".join(FLOAT_FORMATS)
        raise type_error(
            f"dtype={_arguments.shown(dtype)} is not a dtype; allowed: {allowed}"
        ) from None


def float_format(
    dtype: np.dtype[Any], besides: str = "", said: str = "x has dtype "
) -> FloatFormat:
    """Return a dtype that we know.

    An error begins with `said`, and allows `besides` what there is.

    Raises
    ------
    TypeError
        If it is another one; the message names what is allowed `besides`.
    """
    known = _FORMAT_OF.get(dtype)
    if known is None:
        known = FLOAT_FORMATS.get(dtype.name) if dtype.isnative else None
        if known is None:
            raise type_error(
                f"{said}{dtype.str if not dtype.isnative else dtype.name!r}; "
                f"allowed: {besides}{', '.join(FLOAT_FORMATS)}, in native byte order"
            )
        _FORMAT_OF[dtype] = known
    return known


def array_of(x: object) -> NDArray[Any]:
    """Return an array of our own over x's memory; never a copy.

    What is found out about it stays so: another thread, or the code of another argument, may change
    the shape or the dtype of x, and cannot resize it as long as the array lives.

    Raises
    ------
    TypeError
        If x is neither an array nor an object that shows its memory.
    """
    if isinstance(x, np.ndarray):
        return _kernels.view_of(x)
    if isinstance(x, np.generic):  # shows a copy of its memory
        raise type_error(f"x is a NumPy scalar, {type(x).__name__}; allowed: an array of shape ()")
    if hasattr(x, "__array_interface__"):
        return np.asarray(x)
    try:
        return np.asarray(memoryview(x))  # type: ignore[arg-type]
    except TypeError:
        pass
    if hasattr(x, "__cuda_array_interface__") or _is_elsewhere(x):
        raise type_error(
            "x is in the memory of another device; allowed there: initializers that draw each "
            "element by itself, on an NVIDIA GPU, or fastinit.torch for PyTorch's tensors"
        )
    if is_sharded(x):  # its DLPack shows the part, as if that were all
        raise type_error(
            "x is a DTensor, of which this process holds a part; allowed: the functions of "
            "fastinit.torch, or its to_local() with global_shape and offset, or, for what needs "
            "the whole tensor at once, the tensor before it is distributed"
        )
    if hasattr(x, "__dlpack__"):
        return _from_dlpack(x)
    raise type_error(
        f"x={_arguments.shown(x)} is no array; allowed: a NumPy array, or an object with the "
        "buffer protocol, __array_interface__ or DLPack"
    )


def _from_dlpack(x: Any) -> NDArray[Any]:
    """Return an array over memory that DLPack shows, which an old NumPy takes as read-only."""
    array = np.from_dlpack(x)
    if not array.flags.writeable and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        raise value_error(
            f"x is a {type(x).__name__}, whose memory NumPy {np.__version__} takes by DLPack as "
            "read-only; allowed: this with NumPy 2.1 or later, or a NumPy array of that memory"
        )
    return array


_said: set[str] = set()


def say_drawn_by(library: str, what: str) -> None:
    """Warn, once for each reason, that another library has drawn what fastinit could not fill."""
    reason = f"{library} drew the values of {what}"
    if reason not in _said:
        _said.add(reason)
        warnings.warn(
            f"{reason}, which fastinit cannot fill: they depend on the device and on the version "
            f"of {library}",
            stacklevel=3,
        )


def is_sharded(x: object) -> bool:
    """Return whether x is a DTensor of PyTorch, without importing that."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def _is_elsewhere(x: object) -> bool:
    """Return whether DLPack says of x that it is not in the CPU's memory."""
    device = getattr(x, "__dlpack_device__", None)
    return device is not None and device()[0] not in _DLPACKS_CPU


def _memory_of(x: object, write: Backend) -> tuple[NDArray[Any], Backend]:
    """Return an array over x's memory, and what fills it: a GPU's own kernels, or `write`.

    An array of a GPU stands for its memory, and must not be read.
    """
    if type(x) is not np.ndarray:
        from fastinit import cuda

        gpu = cuda.on_gpu(x)
        if gpu is not None:
            return gpu.array, gpu.fill
    return array_of(x), write


def shape_of(x: object) -> tuple[int, ...]:
    """Return the shape of an array, wherever it is."""
    return _memory_of(x, _kernels.fill)[0].shape


ALIGNED = "allowed: memory that begins at a multiple of an element's bytes"


def check_writable(x: NDArray[Any]) -> None:
    """Raise unless every element of x is writable, aligned, and on bytes of its own."""
    if not x.flags.writeable:
        raise value_error("x is read-only; allowed: an array that may be written")
    if not x.flags.aligned:
        raise value_error(f"x is not aligned to its dtype, {x.dtype.name}; {ALIGNED}")
    check_overlap(x.shape, x.strides, x.itemsize)


def check_overlap(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> None:
    """Raise ValueError if two elements of an array share memory; strides are in itemsize's unit."""
    # Sorted by stride, each axis must step over all that the ones before it cover: so it is
    # for whatever slicing, transposing and reshaping make of an array.
    covered = itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride < covered:
            raise value_error(
                f"x has overlapping elements: shape {shape}, strides {strides}, itemsize "
                f"{itemsize}; allowed: elements that have bytes of their own"
            )
        covered = stride * (length - 1) + covered


def empty(shape: Shape, dtype: DTypeLike, name: str = "shape") -> NDArray[Any]:
    """Return a new array to be filled, aligned to a cache line, or to a huge page if large.

    An error speaks of the shape by the name that its user gives it.

    JAX shares memory that is aligned to 64 bytes, and copies other. From 32 MiB on the C
    library's memory is new (mallopt(3), DEFAULT_MMAP_THRESHOLD_MAX), and NumPy asks for huge
    pages: they then hold it from its first byte on (docs/performance.md, "Cold memory").
    Below a page the address would cost more than the array.
    """
    lengths, known = _arguments.shape(name, shape), as_dtype(dtype)
    nbytes = math.prod(lengths) * known.itemsize
    if nbytes < _PAGE or known.hasobject:
        return np.empty(lengths, known)
    alignment = _HUGE_PAGE if nbytes >= 16 * _HUGE_PAGE else _CACHE_LINE
    text = f"{name}={_arguments.shown(shape)} of {known.name} has {nbytes:,} bytes"
    if nbytes + alignment >= 2**63:
        raise value_error(f"{text}; allowed: fewer than 2**63")
    try:
        memory = np.empty(nbytes + alignment, np.uint8)
    except MemoryError:
        raise MemoryError(with_name(f"{text}, for which there is no memory")) from None
    return np.ndarray(lengths, known, memory, -memory.ctypes.data % alignment)


def check_pair(global_shape: Shape | None, offset: Shape | None) -> None:
    """Raise ValueError if one of both is missing.

    An offset of zeros is never assumed: every process would fill the same part.
    """
    if (global_shape is None) != (offset is None):
        raise value_error(
            f"global_shape={_arguments.shown(global_shape)} and offset={_arguments.shown(offset)} "
            "go together: give both, or neither"
        )


def place(
    shape: tuple[int, ...], global_shape: Shape | None, offset: Shape | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the whole tensor's shape, and where in it the part of a shape begins.

    Raises
    ------
    TypeError, ValueError
        If there is no such part.
    """
    if global_shape is None and offset is None:
        return shape, (0,) * len(shape)
    check_pair(global_shape, offset)
    whole = _arguments.shape("global_shape", cast(Shape, global_shape))
    at = _arguments.indices("offset", cast(Shape, offset))
    if not len(whole) == len(at) == len(shape):
        raise value_error(
            f"global_shape={whole} and offset={_arguments.shown(at)} must have as many axes as x, "
            f"of shape {shape}"
        )
    if any(o + n > w for o, n, w in zip(at, shape, whole, strict=True)):
        raise value_error(
            f"x of shape {shape} at offset={_arguments.shown(at)} does not fit into "
            f"global_shape={whole}"
        )
    return whole, at


def index_steps(shape: tuple[int, ...]) -> list[int]:
    """Return by how much an element's index grows along each axis, in C order."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def in_dtype(distribution: Distribution, dtype: np.dtype[Any]) -> tuple[int, tuple[float, ...]]:
    """Return the kernels' number of a dtype, and the parameters as it needs them.

    Raises
    ------
    TypeError, ValueError
        If there are no such kernels, or the dtype cannot hold the parameters.
    """
    known = _FORMAT_OF.get(dtype) or float_format(dtype)
    return known.code, params_in(distribution, known)


def _reach(distribution: Distribution, dtype: FloatFormat) -> float:
    return distribution.reach64 if dtype.name == "float64" else distribution.reach


def params_in(distribution: Distribution, dtype: FloatFormat) -> tuple[float, ...]:
    """Return what a kernel takes; raise ValueError if the dtype cannot hold it.

    Warn if it can hold the parameters but not every value, which is then infinite or NaN.
    """
    if distribution.reach64 <= dtype.max and not distribution.bounded:
        return distribution.params  # the usual, in few steps
    if distribution.largest > dtype.max:
        raise value_error(f"{distribution.text} must be finite in {dtype.name}")
    if _reach(distribution, dtype) > dtype.max:
        becomes = "NaN" if dtype.name == "float8_e4m3fn" else "infinity"
        warnings.warn(
            f"{distribution.text}: values beyond {dtype.max:g}, the largest of {dtype.name}, "
            f"become {becomes}; truncated_normal_ keeps them within bounds",
            RuntimeWarning,
            stacklevel=2,
        )
    return _inward(distribution, dtype) if distribution.bounded else distribution.params


@lru_cache
def _inward(distribution: Distribution, dtype: FloatFormat) -> tuple[float, ...]:
    """Return the parameters with the bounds rounded, inwards, to numbers of the dtype.

    Without a spread the bounds are the mean itself, which rounds to the nearest, as a normal's.
    """
    low, high, mean, std = distribution.params[:4]
    if std == 0.0 and low == high:
        computed = mean if dtype.name == "float64" else float(np.float32(mean))
        lowest = highest = _on_grid(computed, dtype, round)
    else:
        lowest, highest = _rounded_up(low, dtype), -_rounded_up(-high, dtype)
    if lowest > highest:
        raise value_error(f"{distribution.text}: no {dtype.name} lies between {low!r} and {high!r}")
    return (lowest, highest, *distribution.params[2:])


def _rounded_up(value: float, dtype: FloatFormat) -> float:
    """Return the least finite number of the dtype that is at least the value, or infinity."""
    if value > dtype.max:
        return math.inf
    return _on_grid(max(value, -dtype.max), dtype, math.ceil)


def _on_grid(value: float, dtype: FloatFormat, rounded: Callable[[float], int]) -> float:
    """Return a neighbour of the value among the dtype's numbers: `round` is to nearest even."""
    spacing = math.ldexp(1.0, max(math.frexp(value)[1] - dtype.digits, dtype.smallest))
    return math.copysign(rounded(value / spacing) * spacing, value)


def fill(
    distribution: Distribution,
    x: T,
    rng: _kernels.Cursor,
    threads: int | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
    backend: str | None = None,
) -> T:
    """Fill x with the generator's next values, one for each element in C order; return x.

    With `global_shape` and `offset`, x is the part of a larger tensor that begins at
    `offset`: it gets that part's values, and the generator moves on by the whole's size.
    A list of arrays is filled one after the other, as if it were one.
    """
    n = _settings.default_threads if threads is None else _settings.checked_threads(threads)
    write = _settings.default_backend if backend is None else _settings.backend(backend)
    whole = global_shape is None and offset is None
    # Most calls are this one, and 64 elements take less time than their checks in Python.
    if write is _kernels.fill and whole and _kernels.fill_usual(distribution, x, rng, n):
        return x
    if type(x) is list:
        if not whole:
            raise value_error("global_shape and offset are for one array, and x is a list")
        _fill_list(distribution, cast(list[object], x), rng, n, write)
        return x
    array, write = _memory_of(x, write)
    if array.dtype.kind == "c":
        # Of the CPU's memory alone: array_of refuses any other.
        _fill_complex(distribution, array_of(x), rng, threads, global_shape, offset, backend)
        return x
    dtype = _FORMAT_OF.get(array.dtype) or float_format(array.dtype)
    if whole:
        fill_memory(distribution, array, dtype, rng, threads=n, write=write)
    else:
        tensor, at = place(array.shape, global_shape, offset)
        steps = index_steps(tensor)
        start = sum(map(operator.mul, at, steps))
        size = math.prod(tensor)
        fill_memory(distribution, array, dtype, rng, start, size, steps, n, write)
    return x


def _fill_complex(
    distribution: Distribution,
    array: NDArray[Any],
    rng: _kernels.Cursor,
    threads: int | None,
    global_shape: Shape | None,
    offset: Shape | None,
    backend: str | None,
) -> None:
    """Fill both parts of complex numbers, the imaginary ones from a stream of their own."""
    parts, dtype = of_parts(distribution), part_dtype(array.dtype)
    if parts is None:
        raise type_error(
            f"{distribution.text}: x has dtype {array.dtype.name!r}; allowed: real numbers; of "
            "complex ones, normals of mean 0 and the initializers that take fans"
        )
    if not array.flags.carray:
        check_writable(array)
    whole, _ = place(array.shape, global_shape, offset)
    params_in(parts, float_format(dtype))
    start = rng.take(math.prod(whole))
    for memory, key in zip((array.real, array.imag), part_keys(rng), strict=True):
        cursor = _kernels.Cursor(key, start)
        fill(parts, memory, cursor, threads, global_shape, offset, backend)


def part_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a complex dtype's parts; raise TypeError if we have none."""
    parts = {"complex64": np.float32, "complex128": np.float64}
    if dtype.name not in parts or not dtype.isnative:
        raise type_error(
            f"x has dtype {dtype.str!r}; allowed: {', '.join(parts)}, in native byte order"
        )
    return np.dtype(parts[dtype.name])


def part_keys(rng: _kernels.Cursor) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the keys of the real and of the imaginary parts."""
    from fastinit.random import Generator, default_rng  # they need this module

    own = rng if isinstance(rng, Generator) else default_rng(rng.key)
    return rng.key, own.stream("imaginary").key


def boxes(shape: Sequence[int], size: int) -> Iterator[tuple[slice, ...]]:
    """Return the boxes of at most `size` elements, or else of one, that a shape is cut into."""
    cuts = []
    for length in reversed(shape):
        step = max(1, min(length, size))
        cuts.append([slice(i, min(i + step, length)) for i in range(0, length, step)])
        size //= max(1, length)
    return product(*reversed(cuts))


def is_complex(x: object) -> bool:
    """Return whether x is an array of complex numbers."""
    return _memory_of(x, _kernels.fill)[0].dtype.kind == "c"


def fill_memory(
    distribution: Distribution,
    array: NDArray[Any],
    dtype: FloatFormat,
    rng: _kernels.Cursor,
    start: int | None = None,
    size: int = 0,
    steps: list[int] | None = None,
    threads: int | None = None,
    write: Backend | None = None,
) -> None:
    """Fill an array whose bytes hold the dtype, whatever NumPy takes them for.

    `start` is the first element's index, counted from the generator's position, `steps` what
    each axis adds to it; the generator then moves on by `size`. Without them as `fill`.
    """
    params = distribution.params
    if distribution.bounded or _reach(distribution, dtype) > dtype.max:
        params = params_in(distribution, dtype)
    if not array.flags.carray:
        check_writable(array)
    if array.itemsize != dtype.itemsize:  # a tensor of PyTorch's whose `data` is another since
        raise value_error(f"x has items of {array.itemsize} bytes, and no {dtype.name}")
    n = _settings.default_threads if threads is None else threads
    if start is not None:
        start += rng.take(size)
    kernel = distribution.kernel
    (write or _settings.default_backend)(kernel, dtype.code, array, start, rng, params, n, steps)


def _fill_list(
    distribution: Distribution,
    arrays: list[object],
    rng: _kernels.Cursor,
    threads: int,
    write: Backend,
) -> None:
    """Fill arrays one after the other, when all have been checked."""
    checked = []
    for i, x in enumerate(tuple(arrays)):
        try:
            array, fill_it = _memory_of(x, write)
            code, params = in_dtype(distribution, array.dtype)
            if not array.flags.carray:
                check_writable(array)
        except (TypeError, ValueError) as error:
            raise type(error)(with_name(f"x[{i}]: {error}")) from None
        checked.append((code, array, params, fill_it))
    start = rng.take(sum(array.size for _, array, _, _ in checked))
    for code, array, params, fill_it in checked:
        fill_it(distribution.kernel, code, array, start, rng, params, threads, None)
        start += array.size


class Matrix(NamedTuple):
    """A matrix, and where in it an array is, whose axes go along its rows or its columns."""

    rows: int
    columns: int
    row: int  # of the array's first element
    column: int
    row_steps: list[int]  # what each of the array's axes adds to the row: 0, or its column does
    column_steps: list[int]


def fill_orthogonal(
    gain: float,
    array: NDArray[Any],
    matrix: Matrix,
    rng: _kernels.Cursor,
    threads: int | None = None,
    backend: str | None = None,
) -> None:
    """Fill a checked array with its box of `gain` times an orthogonal matrix.

    The generator moves on by the whole matrix's size.
    """
    dtype = float_format(array.dtype)
    check_gain(gain, dtype)
    n, write = _settings.checked_threads(threads), _settings.orthogonal_backend(backend)
    start = rng.take(matrix.rows * matrix.columns)
    write(dtype.code, array, start, rng.key, matrix, gain, n)


def check_gain(gain: float, dtype: FloatFormat) -> None:
    """Raise ValueError if a dtype cannot hold the gain."""
    if not abs(gain) <= dtype.max:
        raise value_error(f"gain={gain!r} must be finite in {dtype.name}")


def floats(x: object) -> NDArray[Any]:
    """Return x's array, checked: of a float dtype that we know, and each element writable."""
    array = array_of(x)
    float_format(array.dtype)
    if not array.flags.carray:
        check_writable(array)
    return array


def numbers(x: object) -> NDArray[Any]:
    """Return x's array, checked as by `floats`; integers are allowed too."""
    array = array_of(x)
    if array.dtype.kind not in "iu" or not array.dtype.isnative:
        float_format(array.dtype, "integers, ")
    if not array.flags.carray:
        check_writable(array)
    return array


def draws(
    shape: tuple[int, ...], key: tuple[int, int], start: int, steps: list[int], threads: int | None
) -> NDArray[np.uint64]:
    """Return the raw 64-bit draws of the indices start + sum(i * step)."""
    out = np.empty(shape, np.uint64)
    n = _settings.checked_threads(threads)
    _kernels.fill(_kernels.BITS, _kernels.UINT64, out, start, key, (), n, steps)
    return out


def fill_constant(
    x: T,
    value: float,
    threads: int | None = None,
    global_shape: Shape | None = None,
    offset: Shape | None = None,
    backend: str | None = None,
) -> T:
    """Fill x, of any numeric dtype of at most 8 bytes, with one value; return x."""
    array, write = _memory_of(x, _settings.backend(backend))
    if not array.flags.carray:
        check_writable(array)
    place(array.shape, global_shape, offset)
    n = _settings.checked_threads(threads)
    code, pattern = _PATTERNS.get(array.itemsize, (-1, np.dtype(np.uint8)))
    if code < 0 or array.dtype.kind not in "biufcV" or not array.dtype.isnative:
        raise type_error(
            f"x has dtype {array.dtype.str!r}; allowed: boolean, integer, floating and complex "
            "dtypes of 1, 2, 4 or 8 bytes, in native byte order"
        )
    bits = (
        _bits(
            value, math.copysign(1.0, value) if type(value) is float else 1.0, array.dtype, pattern
        )
        if type(value) in (float, int)
        else element(value, array.dtype).view(pattern).item()
    )
    write(_kernels.CONSTANT, code, array, 0, None, bits, n)
    return x


@lru_cache(typed=True)
def _bits(value: float, sign: float, dtype: np.dtype[Any], pattern: np.dtype[Any]) -> int:
    """Return a number's bits in a dtype; its sign besides, as the cache takes -0.0 for 0.0."""
    signed = math.copysign(value, sign) if type(value) is float else value
    bits: int = element(signed, dtype).view(pattern).item()
    return bits


def element(value: object, dtype: np.dtype[Any], name: str = "value") -> NDArray[Any]:
    """Return the value as an array of one element; raise if the dtype cannot hold it."""
    if dtype.kind == "b":
        return np.array([_arguments.integer(name, value, 0, 1)]).astype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.array([_arguments.integer(name, value, int(limits.min), int(limits.max))], dtype)
    number = _arguments.real(name, value)
    if dtype.kind == "c" or dtype.name == "float8_e8m0fnu":
        return _exact(number, dtype, name)
    known = float_format(dtype)
    if math.isfinite(number) and abs(number) > known.max:
        raise value_error(f"{name}={value!r} must be finite in {dtype.name}")
    # As in the kernels, a 16-bit value is the float32 value, rounded.
    return np.array([number], np.float64 if dtype.itemsize == 8 else np.float32).astype(dtype)


def _exact(number: float, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Return a number as one element of a dtype that no distribution fills.

    Such as float8_e8m0fnu, which has powers of two alone: any other number would be another.
    """
    part = np.dtype(np.float32) if dtype.kind == "c" else dtype
    with np.errstate(over="ignore"):
        rounded = np.array([number], np.float32).astype(part)
    if part is dtype and float(rounded[0]) != number:
        raise value_error(f"{name}={number!r} is no number of {dtype.name}")
    if math.isfinite(number) and not np.isfinite(rounded.astype(np.float64)).all():
        raise value_error(f"{name}={number!r} must be finite in {dtype.name}")
    return rounded.astype(dtype)
