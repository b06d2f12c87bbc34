"""Tensors in blocks: any part of a tensor that does not exist, drawn into memory that is warm.

A block is a box of its tensor, which an initializer can fill (global_shape, offset). Its elements
lie side by side, one stretch of a file, unless the initializer's `whole_axes` ask for another cut:
then there may be many stretches.
"""

from __future__ import annotations

import math
import operator
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

import fastinit
from fastinit._fill import index_steps
from fastinit.recipe import Origin, Rule, Tensor

T = TypeVar("T")
R = TypeVar("R")

# Bytes. It is drawn into the cache and copied out of it, and a call costs little beside that:
# CPU time a byte, of bfloat16 normals and pwrite, is 0.98 ns with 64 KiB, 0.61 with 512, 0.56 with
# 1024, 0.54 with 2048, and 0.60 with 16 MiB, on a core with 1 MiB of level 2.
BLOCK = 2**20

# Blocks that a thread takes at a time; or fewer, of as many bytes.
_BATCH = 16

# Lines that a block has at least where each is the whole of some axes: so many columns does the
# kernel of orthogonal matrices make at once, and the reflections that they all need take as long as
# 24 of them. With 240, a tensor in blocks takes 1.1 times as long as one that is made whole.
_LINES = 240


class Stretch(NamedTuple):
    """Bytes side by side, in a block's array and in its tensor."""

    begin: int
    end: int
    at: int


class Block(NamedTuple):
    """A box of a tensor, and the index of its first element."""

    tensor: Tensor
    start: int
    shape: tuple[int, ...]
    offset: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * self.tensor.dtype.itemsize

    @property
    def box(self) -> tuple[slice, ...]:
        """Where in the tensor it is."""
        return tuple(slice(o, o + n) for o, n in zip(self.offset, self.shape, strict=True))

    def stretches(self) -> list[Stretch]:
        """Return what lies side by side, in the order of the indices."""
        whole, steps = self.tensor.shape, index_steps(self.tensor.shape)
        axis = len(whole)  # after which the box has all that the tensor has
        while axis > 0 and self.shape[axis:] == whole[axis:]:
            axis -= 1
        itemsize, size = self.tensor.dtype.itemsize, math.prod(self.shape[axis:])
        corners = product(*map(range, self.shape[:axis]))
        first = (self.start + sum(map(operator.mul, corner, steps)) for corner in corners)
        return [
            Stretch(i * size * itemsize, (i + 1) * size * itemsize, index * itemsize)
            for i, index in enumerate(first)
        ]


def blocks(tensor: Tensor, whole_axes: Sequence[int] = (), nbytes: int = BLOCK) -> Iterator[Block]:
    """Yield a tensor in blocks of at most `nbytes`, in the order of their first elements.

    With axes that a block has to have whole, it has 16 times as many bytes, and at least 240 lines.
    """
    if not tensor.size:
        return
    size = max(1, nbytes // tensor.dtype.itemsize)
    if whole_axes:
        line = math.prod(tensor.shape[axis] for axis in whole_axes)
        size = max(_LINES, _BATCH * size // line)
    counted = tuple(1 if axis in whole_axes else n for axis, n in enumerate(tensor.shape))
    runs, steps = _runs(counted, size), index_steps(tensor.shape)
    for corner in product(*(range(0, n, run) for n, run in zip(counted, runs, strict=True))):
        shape = tuple(
            tensor.shape[axis] if axis in whole_axes else min(run, tensor.shape[axis] - at)
            for axis, (at, run) in enumerate(zip(corner, runs, strict=True))
        )
        yield Block(tensor, sum(map(operator.mul, corner, steps)), shape, corner)


def _runs(shape: tuple[int, ...], size: int) -> list[int]:
    """Return how many indices of each axis a box of at most `size` elements has.

    All of the last axes, several of the first of which several fit, and one of those before it.
    """
    return [min(n, max(1, size // step)) for n, step in zip(shape, index_steps(shape), strict=True)]


class Drawer(threading.local):
    """Draws blocks, each thread into a buffer of its own."""

    def __init__(self, seed: int | fastinit.Generator) -> None:
        self._root = fastinit.default_rng(seed)
        self._name: str | None = None
        self._rng = self._root

    def draw(self, block: Block, rule: Origin) -> NDArray[Any]:
        """Return a block's values; they last until this thread's next call."""
        tensor = block.tensor
        if not isinstance(rule, Rule):
            return rule.box(tensor, self._root, block.box)
        if tensor.name != self._name:
            self._name, self._rng = tensor.name, self._root.stream(tensor.name)
        self._rng.move(0)
        x = buffer(block, "drawn")
        rule.initializer.fill(
            x, rng=self._rng, threads=1, global_shape=tensor.shape, offset=block.offset
        )
        return x


class _Buffers(threading.local):
    """A thread's memory, which stays in its cache."""

    def __init__(self) -> None:
        self.kept: dict[str, NDArray[np.uint8]] = {}


_buffers = _Buffers()


def buffer(block: Block, use: str) -> NDArray[Any]:
    """Return an array for a block, in memory that this thread uses again and again."""
    if block.nbytes > BLOCK:  # with axes that it has whole
        return np.empty(block.shape, block.tensor.dtype)
    if use not in _buffers.kept:
        _buffers.kept[use] = np.empty(BLOCK, np.uint8)
    return _buffers.kept[use][: block.nbytes].view(block.tensor.dtype).reshape(block.shape)


def batches(items: Iterable[tuple[Block, T]]) -> Iterator[list[tuple[Block, T]]]:
    """Yield what a thread takes at a time."""
    batch: list[tuple[Block, T]] = []
    nbytes = 0
    for item in items:
        batch.append(item)
        nbytes += item[0].nbytes
        if len(batch) == _BATCH or nbytes >= _BATCH * BLOCK:
            yield batch
            batch, nbytes = [], 0
    if batch:
        yield batch


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield what `work` makes of each item, in their order, by several threads.

    Few wait at a time, however many there are. Whoever stops asking stops the work.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
