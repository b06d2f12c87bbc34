"""The orders in which the stream is read: as it is, and as users of tensors would read it.

An order is a function: of a chunk's number and of what is drawn, to CHUNK values.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastinit as fi
from fastinit import _kernels

Array = NDArray[Any]
Key = tuple[int, int]
Order = Callable[[int, str, str], Array]

CHUNK = 2**20
PARAMS = {"bits": (), "uniform": (0.0, 1.0), "normal": (0.0, 1.0)}
PATTERNS = {"bfloat16": np.uint16, "float8_e4m3fn": np.uint8, "float8_e5m2": np.uint8}


def drawn(
    distribution: str,
    dtype: str,
    key: Key,
    shape: Sequence[int],
    start: int = 0,
    index_steps: Sequence[int] | None = None,
) -> Array:
    """Values at `start` and on; of dtypes that NumPy has not, their bit patterns."""
    x: Array = np.empty(shape, PATTERNS.get(dtype, dtype))
    kernel, code = getattr(_kernels, distribution.upper()), getattr(_kernels, dtype.upper())
    if distribution == "truncated_normal":
        params = _kernels.truncate(0.0, 1.0, -2.0, 2.0)
    else:
        params = PARAMS[distribution]
    _kernels.fill(kernel, code, x, start, key, params, 1, index_steps)
    return x


def natural(key: Key) -> Order:
    def chunk(i: int, distribution: str, dtype: str) -> Array:
        return drawn(distribution, dtype, key, (CHUNK,), i * CHUNK)

    return chunk


def transposed(key: Key, width: int, rows: int = 4096) -> Order:
    """Matrices of so many rows and columns, one after the other, read down their columns."""
    columns = min(width, CHUNK // rows)  # that a chunk reads
    matrices = CHUNK // (rows * columns)

    def chunk(i: int, distribution: str, dtype: str) -> Array:
        matrix, band = divmod(i * columns, width) if matrices == 1 else (i * matrices, 0)
        shape, steps = (matrices, rows, columns), (rows * width, width, 1)
        x = drawn(distribution, dtype, key, shape, matrix * rows * width + band, steps)
        return x.transpose(0, 2, 1).reshape(-1)

    return chunk


def interleaved(keys: Sequence[Key]) -> Order:
    """A value of each key in turn."""
    each = CHUNK // len(keys)

    def chunk(i: int, distribution: str, dtype: str) -> Array:
        rows = [drawn(distribution, dtype, key, (each,), i * each) for key in keys]
        return np.stack(rows, axis=1).reshape(-1)

    return chunk


def dtypes(key: Key) -> Order:
    """Blocks of 32 bits and of 64 in turn, as if tensors of both kinds shared a line."""

    def chunk(i: int, distribution: str, dtype: str) -> Array:
        if (distribution, dtype) != ("bits", "uint32"):
            raise ValueError("the order dtypes has its own: use it with bits-uint32")
        blocks = CHUNK // 3072 + 1  # of 1024 draws, and as many of 2048 words' halves
        start, steps = i * blocks * 2048, (2048, 1)
        narrow = drawn("bits", "uint32", key, (blocks, 1024), start, steps)
        wide = drawn("bits", "uint64", key, (blocks, 1024), start + 1024, steps)
        return np.hstack([narrow, wide.view(np.uint32)]).reshape(-1)[:CHUNK]

    return chunk


# GPT-2's tensors of one kind and of all kinds, as they are named in a model.
LAYERS = [f"transformer.h.{i}.attn.c_attn.weight" for i in range(64)]
KINDS = ["ln_1.weight", "attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight"]


def order(name: str, seed: int = 1) -> Order:
    """The order of a name; see ORDERS."""
    rng = fi.default_rng(seed)
    kind, _, power = name.partition(":")
    if kind == "transposed" and power.isdigit() and 1 <= int(power) <= 40:
        return transposed(rng.key, 2 ** int(power))
    if name not in ORDERS:
        raise ValueError(f"order={name!r} is none of {', '.join(ORDERS)}")
    if name == "blocks":
        return transposed(rng.key, 1024, rows=256)
    if name == "dtypes":
        return dtypes(rng.key)
    keys = {
        "natural": lambda: [rng.key],
        "names": lambda: [rng.stream(f"w{i}").key for i in range(256)],
        "layers": lambda: [rng.stream(name).key for name in LAYERS],
        "model": lambda: [rng.stream(f"h.{i}.{name}").key for i in range(64) for name in KINDS],
        "seeds": lambda: [fi.default_rng(seed + i).key for i in range(256)],
        "children": lambda: [child.key for child in rng.spawn(256)],
    }[name]()
    return natural(keys[0]) if len(keys) == 1 else interleaved(keys)


ORDERS = {
    "natural": "index after index",
    "transposed:K": "down the columns of matrices of 4096 rows and 2^K columns",
    "blocks": "the same position of 256 adjacent blocks, then the next position",
    "names": "streams of 256 names, w0, w1, ..., a value of each in turn",
    "layers": "one weight of 64 layers, a value of each in turn",
    "model": "four weights of 64 layers, a value of each in turn",
    "seeds": "256 seeds in a row, a value of each in turn",
    "children": "256 spawned children, a value of each in turn",
    "dtypes": "blocks of 32-bit and of 64-bit draws in turn",
}
