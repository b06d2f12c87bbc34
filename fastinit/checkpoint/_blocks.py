"""Tensors in blocks: any part of a tensor that does not exist, drawn into memory that is warm.

A block is a box of its tensor whose elements lie side by side, so that it is both what an
initializer can fill (global_shape, offset) and one stretch of a file.
"""

from __future__ import annotations

import math
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
from fastinit._fill import index_steps
from fastinit.recipe import Origin, Rule, Tensor

T = TypeVar("T")
R = TypeVar("R")

# Bytes. It is drawn into the cache and copied out of it, and a call costs little beside that:
# CPU time a byte, of bfloat16 normals and pwrite, is 0.98 ns with 64 KiB, 0.61 with 512, 0.56 with
# 1024, 0.54 with 2048, and 0.60 with 16 MiB, on a core with 1 MiB of level 2.
BLOCK = 2**20

# What a thread takes at a time: so many bytes, or tensors of few bytes.
_BATCH, _MANY = 16 * BLOCK, 1024


class Block(NamedTuple):
    """Elements of a tensor that lie side by side: a box, and the index of its first."""

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

    @property
    def at(self) -> int:
        """Where in the tensor it begins, in bytes."""
        return self.start * self.tensor.dtype.itemsize


def blocks(tensor: Tensor, rule: Origin | None = None, nbytes: int = BLOCK) -> Iterator[Block]:
    """Yield a tensor in blocks of at most `nbytes`; whole if its rule can draw no part of it."""
    whole = tensor.nbytes
    limit = max(1, nbytes // tensor.dtype.itemsize)
    if not whole:
        return
    if whole <= max(nbytes, tensor.dtype.itemsize) or (rule is not None and not rule.divisible):
        yield Block(tensor, 0, tensor.shape, (0,) * len(tensor.shape), whole)
        return
    steps = index_steps(tensor.shape)
    # The first axis of which several indices fit; those before it are taken one by one.
    axis = next(axis for axis, step in enumerate(steps) if step <= limit)
    run, rest = limit // steps[axis], tensor.shape[axis + 1 :]
    for leading in product(*map(range, tensor.shape[:axis])):
        first = sum(i * step for i, step in zip(leading, steps, strict=False))
        for i in range(0, tensor.shape[axis], run):
            shape = (1,) * axis + (min(run, tensor.shape[axis] - i), *rest)
            at = (*leading, i, *(0 for _ in rest))
            yield Block.of(tensor, first + i * steps[axis], shape, at)


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

    def draw_all(self, stretch: Sequence[tuple[Block, Origin]]) -> NDArray[np.uint8]:
        """Return the bytes of blocks, side by side; they last until this thread's next call."""
        x, begin = memory(sum(block.nbytes for block, _ in stretch), "drawn"), 0
        for block, rule in stretch:
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
        if block.shape == tensor.shape:
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
    """Return bytes that this thread uses again and again, unless they are too many."""
    if nbytes > BLOCK:  # a tensor of which no part can be drawn
        return np.empty(nbytes, np.uint8)
    if use not in _buffers.kept:
        _buffers.kept[use] = np.empty(BLOCK, np.uint8)
    return _buffers.kept[use][:nbytes]


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
        if nbytes >= _BATCH or len(batch) == _MANY:
            yield batch
            batch, nbytes = [], 0
    if batch:
        yield batch


def stretches(
    batch: Iterable[tuple[Block, T]], place: Callable[[T], tuple[Path | None, int]]
) -> Iterator[list[tuple[Block, T]]]:
    """Yield the blocks that lie side by side in a file, and are together no more than one block.

    `place` is in which file a tensor begins, and where. Tensors of a few bytes would else be a
    call of the system each.
    """
    stretch: list[tuple[Block, T]] = []
    nbytes, end = 0, None
    for block, item in batch:
        path, begin = place(item)
        begin += block.at
        if stretch and ((path, begin) != end or nbytes + block.nbytes > BLOCK):
            yield stretch
            stretch, nbytes = [], 0
        stretch.append((block, item))
        nbytes += block.nbytes
        end = path, begin + block.nbytes
    if stretch:
        yield stretch


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
