"""A fill of a strided array -> a kernel of `src/fill.cu`, its one argument, and a grid.

The bits do not depend on any choice made here. Nothing here needs a GPU.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastinit import _kernels

THREADS = 256  # of a block of the grid
_WARP = 32
_FOUR = 4  # elements that a thread makes at a time
_SPAN = _kernels.BLOCK  # indices for which a team sets up the generator once
_SPAN_OF_ONE = 64  # the same for a team of one thread, of which more are needed to fill a GPU
_WORDS = 2**64

_MAX_PARAMS, _MAX_NDIM = 11, 65  # FI_MAX_PARAMS, FI_MAX_NDIM; tests compare the structs' sizes

_DTYPES = {
    getattr(_kernels, name.upper()): name
    for name in (
        *("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
}
_NAMES = {
    _kernels.CONSTANT: "constant",
    _kernels.BITS: "bits",
    _kernels.UNIFORM: "uniform",
    _kernels.NORMAL: "normal",
}
_TRUNCATED = ("central", "wide", "hard", "hard")  # by the method that interval.c has chosen
_METHOD = 4  # its place among the parameters


class Fill(ctypes.Structure):
    """`fi_device_fill` of `src/fill.cu`."""

    _fields_ = (
        ("key", ctypes.c_uint64 * 2),
        ("params", ctypes.c_uint64 * _MAX_PARAMS),
        ("out", ctypes.c_uint64),
        ("start", ctypes.c_uint64),
        ("rows", ctypes.c_uint64),
        ("segments", ctypes.c_uint64),
        ("span", ctypes.c_uint32),
        ("team", ctypes.c_uint32),
        ("rows_first", ctypes.c_uint32),
        ("ndim", ctypes.c_uint32),
        ("shape", ctypes.c_uint64 * _MAX_NDIM),
        ("index_steps", ctypes.c_uint64 * _MAX_NDIM),
        ("strides", ctypes.c_int64 * _MAX_NDIM),
    )


class Plan(NamedTuple):
    """A launch: the kernel's name, its argument, and how many blocks of `THREADS` it may use."""

    kernel: str
    fill: Fill
    blocks: int


class _Axis(NamedTuple):
    """An axis: its length, bytes from one element to the next, and indices."""

    length: int
    stride: int
    step: int


def plan(
    distribution: int,
    dtype: int,
    x: NDArray[Any],
    start: int,
    key: tuple[int, int],
    params: int | Sequence[float],
    index_steps: Sequence[int],
) -> Plan:
    """Return the launch that fills x, whose memory is not looked at; x has elements."""
    axes = _joined(x, index_steps)
    tiled = _tile(axes)
    *row_axes, line = axes
    span = _SPAN_OF_ONE if tiled else _SPAN
    fours = -(-min(line.length, span) // _FOUR)
    team = 1 if tiled else min(_WARP, 1 << (fours - 1).bit_length())
    # Where in its first segment a row begins: if rows differ, as late as can be.
    ahead = span - 1 if any(axis.step % span for axis in row_axes) else start % span

    fill = Fill(out=x.ctypes.data, start=start % _WORDS, span=span, team=team, rows_first=tiled)
    fill.key[:] = key
    fill.params[:] = _patterns(params)
    fill.rows = x.size // line.length
    fill.segments = -(-(ahead + line.length) // span)
    fill.ndim = len(axes)
    for d, axis in enumerate(axes):
        fill.shape[d], fill.strides[d], fill.index_steps[d] = axis.length, axis.stride, axis.step
    threads = fill.rows * fill.segments * team
    return Plan(_kernel(distribution, dtype, params), fill, -(-threads // THREADS))


def _kernel(distribution: int, dtype: int, params: Any) -> str:
    if distribution != _kernels.TRUNCATED_NORMAL:
        return f"fi_{_NAMES[distribution]}_{_DTYPES[dtype]}"
    method = "hard" if dtype == _kernels.FLOAT64 else _TRUNCATED[int(params[_METHOD])]
    return f"fi_{method}_{_DTYPES[dtype]}"


def _patterns(params: int | Sequence[float]) -> list[int]:
    """Return the parameters' 64-bit patterns: a constant's own, or those of doubles."""
    if isinstance(params, int):
        words = (params,)
    else:
        words = struct.unpack(f"={len(params)}Q", struct.pack(f"={len(params)}d", *params))
    return [*words, *[0] * (_MAX_PARAMS - len(words))]


def _joined(x: NDArray[Any], index_steps: Sequence[int]) -> list[_Axis]:
    """Return x's axes, neighbours made one where memory and indices allow; as fill.c's join_axes.

    The last one has consecutive indices.
    """
    axes: list[_Axis] = []
    for length, stride, step in zip(x.shape, x.strides, index_steps, strict=True):
        if length == 1:
            continue
        before = axes[-1] if axes else _Axis(1, 0, 0)
        if axes and before.stride == stride * length and before.step == step * length % _WORDS:
            axes[-1] = _Axis(before.length * length, stride, step)
        else:
            axes.append(_Axis(length, stride, step % _WORDS))
    if not axes or axes[-1].step != 1:
        axes.append(_Axis(1, x.itemsize, 1))
    return axes


def _tile(axes: list[_Axis]) -> bool:
    """Move the axis of the smallest stride to the last but one; return False if the last has it."""
    smallest = min(reversed(range(len(axes))), key=lambda d: abs(axes[d].stride))
    if smallest == len(axes) - 1:
        return False
    axes.insert(len(axes) - 2, axes.pop(smallest))
    return True
