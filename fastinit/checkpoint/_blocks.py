"""Tensors in blocks: any part of a tensor, drawn into memory that the cache still holds.

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
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

import fastinit
from fastinit._files import PAGE
from fastinit._fill import index_steps
from fastinit.recipe import Origin, Rule, Tensor
from fastinit.structured import LINES

T = TypeVar("T")
R = TypeVar("R")

# Bytes. It is drawn into the cache and copied out of it, and a call costs little beside that:
# CPU time a byte, of bfloat16 normals and pwrite, is 0.98 ns with 64 KiB, 0.61 with 512, 0.56 with
# 1024, 0.54 with 2048, and 0.60 with 16 MiB, on a core with 1 MiB of level 2.
BLOCK = 2**20

_KEPT = BLOCK + 2 * PAGE  # bytes of a block, and of the pages of a file that it begins and ends in

# Blocks that a thread takes at a time: of so many bytes together, or so many.
_BATCH, _MANY = 16, 1024


class Stretch(NamedTuple):
    """Bytes side by side, in a block's array and in its tensor."""

    begin: int
    end: int
    at: int


class Block(NamedTuple):
    """A box of a tensor, the index of its first element, and its number of bytes."""

    tensor: Tensor
    start: int
    shape: tuple[int, ...]
    offset: tuple[int, ...]
    nbytes: int

    @classmethod
    def of(
        cls, tensor: Tensor, start: int, shape: tuple[int, ...], offset: tuple[int, ...]
    ) -> Block:
        """Return a box of a tensor."""
        return cls(tensor, start, shape, offset, math.prod(shape) * tensor.dtype.itemsize)

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.nbytes // self.tensor.dtype.itemsize

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
    whole = tensor.nbytes
    if whole <= max(nbytes, tensor.dtype.itemsize):  # as most tensors of most models are
        if whole:
            yield Block(tensor, 0, tensor.shape, (0,) * len(tensor.shape), whole)
        return
    size = max(1, nbytes // tensor.dtype.itemsize)
    if whole_axes:
        line = math.prod(tensor.shape[axis] for axis in whole_axes)
        size = max(LINES, _BATCH * size // line)
    counted = tuple(1 if axis in whole_axes else n for axis, n in enumerate(tensor.shape))
    runs, steps = _runs(counted, size), index_steps(tensor.shape)
    for corner in product(*(range(0, n, run) for n, run in zip(counted, runs, strict=True))):
        shape = tuple(
            tensor.shape[axis] if axis in whole_axes else min(run, tensor.shape[axis] - at)
            for axis, (at, run) in enumerate(zip(corner, runs, strict=True))
        )
        yield Block.of(tensor, sum(map(operator.mul, corner, steps)), shape, corner)


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
        if not isinstance(rule, Rule):
            return rule.box(block.tensor, self._root, block.box)
        x = as_block(memory(block.nbytes, "drawn"), block)
        self._fill(x, block, rule)
        return x

    def draw_all(self, run: Sequence[tuple[Block, Origin]]) -> NDArray[np.uint8]:
        """Return the bytes of blocks, side by side; they last until this thread's next call."""
        if len(run) == 1:
            return self.draw(*run[0]).reshape(-1).view(np.uint8)
        x, begin = memory(sum(block.nbytes for block, _ in run), "drawn"), 0
        for block, rule in run:
            end = begin + block.nbytes
            if isinstance(rule, Rule):
                self._fill(as_block(x[begin:end], block), block, rule)
            else:
                values = rule.box(block.tensor, self._root, block.box)
                x[begin:end] = values.reshape(-1).view(np.uint8)
            begin = end
        return x

    def _fill(self, x: NDArray[Any], block: Block, rule: Rule) -> None:
        tensor, rng = block.tensor, None
        if rule.initializer.random:
            if tensor.name != self._name:
                self._name, self._rng = tensor.name, self._root.stream(tensor.name)
            self._rng.move(0)
            rng = self._rng
        if block.shape == tensor.shape:  # in fewer steps
            rule.initializer.fill(x, rng=rng, threads=1)
        else:
            rule.initializer.fill(
                x, rng=rng, threads=1, global_shape=tensor.shape, offset=block.offset
            )


class _Buffers(threading.local):
    """A thread's memory, which stays in its cache."""

    def __init__(self) -> None:
        self.kept: dict[str, NDArray[np.uint8]] = {}


_buffers = _Buffers()


def memory(nbytes: int, use: str) -> NDArray[np.uint8]:
    """Return bytes for what a thread works at, which it uses again and again.

    They begin where a page of memory does.
    """
    if nbytes > _KEPT:  # a block with axes that it has whole
        return _pages(nbytes)
    if use not in _buffers.kept:
        _buffers.kept[use] = _pages(_KEPT)
    return _buffers.kept[use][:nbytes]


def _pages(nbytes: int) -> NDArray[np.uint8]:
    x = np.empty(nbytes + PAGE, np.uint8)
    return x[-x.ctypes.data % PAGE :][:nbytes]


def as_block(x: NDArray[np.uint8], block: Block) -> NDArray[Any]:
    """Return bytes as the array that a block is."""
    return x.view(block.tensor.dtype).reshape(block.shape)


def batches(items: Iterable[tuple[Block, T]]) -> Iterator[list[tuple[Block, T]]]:
    """Yield what a thread takes at a time."""
    batch: list[tuple[Block, T]] = []
    nbytes = 0
    for block, item in items:
        batch.append((block, item))
        nbytes += block.nbytes
        if nbytes >= _BATCH * BLOCK or len(batch) == _MANY:
            yield batch
            batch, nbytes = [], 0
    if batch:
        yield batch


def runs(
    batch: Iterable[tuple[Block, T]], place: Callable[[T], tuple[Path | None, int]]
) -> Iterator[list[tuple[Block, T]]]:
    """Yield the whole tensors that lie side by side in a file, up to a block of them; and others.

    `place` is in which file a tensor begins, and where. Tensors of a few bytes would else be a
    call of the system each.
    """
    run: list[tuple[Block, T]] = []
    nbytes, end = 0, None
    for block, item in batch:
        path, begin = place(item)
        whole = block.shape == block.tensor.shape
        if run and ((path, begin) != end or not whole or nbytes + block.nbytes > BLOCK):
            yield run
            run, nbytes = [], 0
        run.append((block, item))
        nbytes += block.nbytes
        end = (path, begin + block.nbytes) if whole else None
    if run:
        yield run


def pieces(run: Sequence[tuple[Block, object]]) -> list[Stretch]:
    """Return what lies side by side in a run's bytes, and in the file from its first tensor on."""
    first, _ = run[0]
    if first.shape == first.tensor.shape:
        return [Stretch(0, sum(block.nbytes for block, _ in run), 0)]
    return first.stretches()


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
