"""Orthogonal matrices in Numba: `orthogonal` takes what `_kernels.orthogonal` takes.

As in ``src/orthogonal.c`` the wanted columns of the taller side are made in panels. Here one panel
is made at a time, its tiles of columns by all threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit import _kernels
from fastinit.numba import _fill
from fastinit.numba import _kernels as _numba

_PANEL = 240  # columns

Array = NDArray[Any]


class _Tall(NamedTuple):
    """A matrix of no more columns than rows, and where its normals are in the stream."""

    rows: int
    columns: int
    start: int
    key: tuple[int, int]
    real: type[np.floating[Any]]

    def normals(self, first: int, threads: int) -> Array:
        """Return a block's normals from its first row on, with 0 above the diagonal.

        As many rows of 0 follow as a tile may read, and as many columns as make the block full.
        """
        n = min(_numba.REFLECTIONS, self.columns - first)
        x = np.zeros((self.rows - first + _numba.HEIGHT, _numba.REFLECTIONS), self.real)
        drawn = x[: self.rows - first, :n]
        code = _kernels.FLOAT64 if self.real is np.float64 else _kernels.FLOAT32
        start = self.start + first * (self.rows + n)
        _fill.fill(_kernels.NORMAL, code, drawn, start, self.key, (0.0, 1.0), threads, [n, 1])
        drawn[:n] = np.tril(drawn[:n])
        return x


class _Lines(NamedTuple):
    """Rows or columns of a matrix: which, and how many items from the first they are in memory."""

    which: NDArray[np.int64]
    at: NDArray[np.int64]


def orthogonal(
    dtype: int,
    x: Array,
    start: int,
    key: tuple[int, int],
    matrix: tuple[int, int, int, int, Sequence[int], Sequence[int]],
    gain: float,
    threads: int,
) -> None:
    """Fill x in place, as `_kernels.orthogonal` does, and with the same bits."""
    _kernels.check_rounding()
    if x.size == 0:
        return
    rows, columns, row, column, row_steps, column_steps = matrix
    item, format_ = _fill.FORMATS[dtype]
    x = x.view(item)
    memory, layout = _fill.laid_out(x, None)
    along_rows, along_columns = _lines(x, row, row_steps), _lines(x, column, column_steps)
    if columns > rows:
        rows, columns = columns, rows
        along_rows, along_columns = along_columns, along_rows
    real = np.float64 if dtype == _kernels.FLOAT64 else np.float32
    tall = _Tall(rows, columns, start, key, real)

    order = np.argsort(along_columns.which)
    along_columns = _Lines(along_columns.which[order], along_columns.at[order] + layout.offset)
    heads, triangles = _factors(tall, int(along_columns.which[-1]) + 1, threads)
    for begin in range(0, len(order), _PANEL):
        panel = _Lines(*(part[begin : begin + _PANEL] for part in along_columns))
        tiles = _panel(tall, panel.which, heads, triangles, threads)
        _numba.store_tiles(
            format_(memory), along_rows.which, along_rows.at, panel.at, float(gain), tiles
        )


def _lines(x: Array, first: int, steps: Sequence[int]) -> _Lines:
    """Return the rows, or the columns, that those axes of x lead to which have a step."""
    index, at = np.array([first]), np.zeros(1, np.int64)
    for length, stride, step in zip(x.shape, x.strides, steps, strict=True):
        if step:
            along = np.arange(length)
            index = (index[:, None] + along * step).reshape(-1)
            at = (at[:, None] + along * (stride // x.itemsize)).reshape(-1)
    return _Lines(index, at)


def _factors(tall: _Tall, columns: int, threads: int) -> tuple[Array, Array]:
    """Return the first number of each reflection's vector, and each block's triangle."""
    blocks = -(-columns // _numba.REFLECTIONS)
    heads = np.empty(blocks * _numba.REFLECTIONS, tall.real)
    triangles = np.zeros((blocks, _numba.REFLECTIONS, _numba.REFLECTIONS), tall.real)
    for block in range(blocks):
        first = block * _numba.REFLECTIONS
        n = min(_numba.REFLECTIONS, tall.columns - first)
        v = tall.normals(first, threads)
        _numba.factor(v, tall.rows - first, n, heads[first:], triangles[block])
    return heads, triangles


def _panel(
    tall: _Tall, columns: NDArray[np.int64], heads: Array, triangles: Array, threads: int
) -> Array:
    """Return the given columns, in tiles (tile, row, column)."""
    lanes = _numba.TILE_BYTES // np.dtype(tall.real).itemsize
    tiles = np.zeros((-(-len(columns) // lanes), tall.rows + _numba.HEIGHT, lanes), tall.real)
    place = np.arange(len(columns))
    tiles[place // lanes, columns, place % lanes] = np.where(heads[columns] < 0, 1, -1)
    for block in range(int(columns[-1]) // _numba.REFLECTIONS, -1, -1):
        first = block * _numba.REFLECTIONS
        n = min(_numba.REFLECTIONS, tall.columns - first)
        v = tall.normals(first, threads)
        v[range(n), range(n)] = heads[first : first + n]
        touched = tiles[int(np.searchsorted(columns, first)) // lanes :, first:]
        arguments = (v, tall.rows - first, n, triangles[block], touched)
        if threads == 1 or len(touched) == 1 or not _fill.fork_allows_threads():
            _numba.reflect(*arguments)
        else:
            with _fill.at_most(threads):
                _fill.in_parallel(_numba.reflect_in_parallel, _numba.reflect, arguments)
    return tiles
