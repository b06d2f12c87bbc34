"""The kernels in Numba as the entry point calls them: `fill` takes what `_kernels.fill` takes.

`orthogonal`, too, takes what `_kernels.orthogonal` takes.

Numba's threading layers ask for care: workqueue aborts the process when two threads enter it
at once, and OpenMP when it is entered in a forked child.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numba
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from fastinit import _kernels
from fastinit.numba import _kernels as _numba


def interval(params: tuple[float, ...]) -> _numba.Central:
    """Return a truncated normal's parameters as the type that says by which method."""
    return (_numba.Central, _numba.Wide, _numba.Body, _numba.Far)[int(params[4])](*params)


_DISTRIBUTIONS: dict[int, Callable[[Any], Any]] = {
    _kernels.CONSTANT: lambda pattern: _numba.Constant(np.uint64(pattern)),
    _kernels.BITS: lambda _: _numba.Bits(),
    _kernels.UNIFORM: lambda params: _numba.Uniform(*params[:2]),
    _kernels.NORMAL: lambda params: _numba.Normal(*params),
    _kernels.TRUNCATED_NORMAL: interval,
}


def _itself(memory: NDArray[Any]) -> NDArray[Any]:
    return memory


# A dtype's items in memory, and what Numba is to see in them.
FORMATS: dict[int, tuple[type[np.generic], Callable[[NDArray[Any]], Any]]] = {
    _kernels.FLOAT32: (np.float32, _itself),
    _kernels.FLOAT64: (np.float64, _itself),
    _kernels.FLOAT16: (np.uint16, _numba.Float16),
    _kernels.BFLOAT16: (np.uint16, _numba.BFloat16),
    _kernels.FLOAT8_E4M3FN: (np.uint8, _numba.Float8E4M3FN),
    _kernels.FLOAT8_E5M2: (np.uint8, _numba.Float8E5M2),
    _kernels.UINT8: (np.uint8, _itself),
    _kernels.UINT16: (np.uint16, _itself),
    _kernels.UINT32: (np.uint32, _itself),
    _kernels.UINT64: (np.uint64, _itself),
}

# Ctrl-C is noticed between calls. The first is of so many slices, which the slowest kernel does
# on one thread in 70 ms; the next are of as many as take so many seconds, as far as the one
# before can tell: each call costs a wait for all threads.
_FIRST_SLICES, _SECONDS, _GROWTH = 16, 0.025, 16


def fill(
    distribution: int,
    dtype: int,
    x: NDArray[Any],
    start: int | None,
    key: _kernels.Cursor | tuple[int, int] | None,
    params: tuple[float, ...] | int,
    threads: int,
    index_steps: Sequence[int] | None = None,
) -> None:
    """Fill x in place, as `_kernels.fill` does, and with the same bits."""
    _kernels.check_rounding()
    if isinstance(key, _kernels.Cursor):
        start = key.take(x.size) if start is None else start
        key = key.key
    if x.size == 0:
        return
    k0, k1 = key or (0, 0)  # a constant has none
    first = np.uint64(start or 0)
    item, format_ = FORMATS[dtype]
    memory, layout = laid_out(x.view(item), index_steps)
    request = (
        format_(memory),
        layout,
        first,
        (np.uint64(k0), np.uint64(k1)),
        _DISTRIBUTIONS[distribution](params),
    )
    slices = (int(first) % _kernels.BLOCK + x.size - 1) // _numba.SLICE + 1
    if threads == 1 or slices < 3 or not fork_allows_threads():
        _write(_numba.write_slices, request, slices)
    else:
        with at_most(threads):
            _write(_write_in_parallel, request, slices)


def laid_out(
    x: NDArray[Any], index_steps: Sequence[int] | None
) -> tuple[NDArray[Any], _numba.Layout]:
    """Return x's memory as one line of items, and where in it x's elements are."""
    if index_steps is None and x.flags.c_contiguous:
        return x.reshape(-1), _layout(0, [(x.size, 1, 1)])
    axes: list[tuple[int, int, int]] = []
    steps = np.cumprod([1, *x.shape[:0:-1]])[::-1] if index_steps is None else index_steps
    for length, stride, step in zip(x.shape, x.strides, steps, strict=True):
        axes = _joined(axes, (length, stride // x.itemsize, int(step)))
    if not axes or axes[-1][2] != 1:
        axes.append((1, 1, 1))
    before = -sum((n - 1) * stride for n, stride, _ in axes if stride < 0)
    extent = 1 + sum((n - 1) * abs(stride) for n, stride, _ in axes)
    lowest = x[tuple(slice(None, None, -1 if stride < 0 else 1) for stride in x.strides)]
    return as_strided(lowest, (extent,), (x.itemsize,)), _layout(before, axes)


def _joined(
    axes: list[tuple[int, int, int]], axis: tuple[int, int, int]
) -> list[tuple[int, int, int]]:
    """Return the axes with one more, in one with the last where both are one, as in fill.c."""
    length, stride, step = axis
    if length == 1:
        return axes
    if axes and axes[-1][1:] == (stride * length, step * length):
        return [*axes[:-1], (axes[-1][0] * length, stride, step)]
    return [*axes, axis]


def _layout(offset: int, axes: list[tuple[int, int, int]]) -> _numba.Layout:
    return _numba.Layout(offset, *np.array(axes, np.int64).T.copy())


def _write(write: Callable[..., None], request: tuple[Any, ...], slices: int) -> None:
    done, at_once = 0, _FIRST_SLICES
    while done < slices:
        began = perf_counter()
        write(*request, done, min(done + at_once, slices))
        done += at_once
        room = _SECONDS / (perf_counter() - began)
        at_once *= min(max(int(room), 1), _GROWTH)


_one_at_a_time = threading.RLock()
_forked = False


def _after_fork_in_child() -> None:
    global _one_at_a_time, _forked
    _one_at_a_time, _forked = threading.RLock(), True


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _layer() -> str | None:
    """Return the name of Numba's threading layer; None if none was needed so far."""
    try:
        name: str = numba.threading_layer()
    except ValueError:
        return None
    return name


def fork_allows_threads() -> bool:
    """Return whether this process may use Numba's threads."""
    return not _forked or _layer() in ("workqueue", "tbb")


def _write_in_parallel(*request: Any) -> None:
    in_parallel(_numba.write_slices_in_parallel, _numba.write_slices, request)


def in_parallel(
    parallel: Callable[..., None], serial: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """Call the parallel function, or where that would abort the process, the serial one."""
    if not fork_allows_threads():  # a signal handler forked, and we are the child
        serial(*arguments)
    elif _layer() == "workqueue":
        with _one_at_a_time:
            parallel(*arguments)
    else:
        parallel(*arguments)


@contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Let Numba use so many of its threads; 0: what `numba.set_num_threads` left."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS) or before)
    try:
        yield
    finally:
        numba.set_num_threads(before)
