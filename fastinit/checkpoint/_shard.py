"""Writing one shard: a file that appears under its name only when it is whole.

Blocks are drawn into memory that stays in the cache and copied from there into the page cache
(pwrite): no page of a file is ever this process's, and none has to be faulted in, which is
what mapped files wait for (docs/large-models.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from fastinit._files import UNKNOWN, appearing, write_at
from fastinit._settings import count_threads
from fastinit.checkpoint._blocks import (
    Block,
    Drawer,
    batches,
    blocks,
    in_order,
    pieces,
    runs,
)
from fastinit.checkpoint._layout import Item, Shard

_KEPT = 2**29  # bytes of a file that stay in the page cache: those on the way to the disk

Progress = Callable[[int], object]


def write_shard(
    shard: Shard,
    directory: Path,
    *,
    threads: int | None = None,
    progress: Progress = lambda _: None,
    overwrite: bool = False,
) -> None:
    """Write one of a layout's files, which appears under its name when it is whole.

    Raises
    ------
    FileExistsError
        If another file has that name, and is not to be replaced. The same shard, which another
        process has written, is as good.
    OSError
        If it cannot be written.
    """
    try:
        with appearing(directory / shard.name, replace=overwrite) as file:
            _fill_file(file, shard, count_threads(threads), progress)
    except FileExistsError:
        if not is_whole(shard, directory):
            raise


def _fill_file(file: BinaryIO, shard: Shard, threads: int, progress: Progress) -> None:
    drawer = Drawer(shard.seed)
    _allocate(file, shard.nbytes)
    write_at(file, memoryview(shard.head), 0)

    def write_batch(batch: list[tuple[Block, Item]]) -> int:
        in_pieces = False
        for run in runs(batch, lambda item: (None, item.begin)):
            values = drawer.draw_all([(block, item.rule) for block, item in run]).data
            (_, item), stretches = run[0], pieces(run)
            for begin, end, at in stretches:
                write_at(file, values[begin:end], item.begin + at)
            in_pieces = in_pieces or len(stretches) > 1
        nbytes = sum(block.nbytes for block, _ in batch)
        if not in_pieces:  # else other blocks write into the same pages
            (first, item), itemsize = batch[0], batch[0][0].tensor.dtype.itemsize
            _pass_on(file, item.begin + first.start * itemsize, nbytes)
        return nbytes

    todo = (
        (block, item)
        for item in shard.items
        for block in blocks(item.tensor, item.rule.whole_axes(item.tensor))
    )
    progress(len(shard.head))
    for nbytes in in_order(write_batch, batches(todo), threads):
        progress(nbytes)


def _pass_on(file: BinaryIO, at: int, nbytes: int) -> None:
    """Have the kernel write a stretch to the disk now, and give up what lies well before it.

    The end of a file then waits for little, and the page cache takes the same memory again and
    again: without that, 16 GB took 2.5 times as long, four times the system time, and what other
    programs had in the cache.
    """
    with suppress(AttributeError, OSError):  # macOS, Windows; and advice need not be taken
        advise, dont_need = os.posix_fadvise, os.POSIX_FADV_DONTNEED
        advise(file.fileno(), at, nbytes, dont_need)  # pages not on the disk yet go there, and stay
        if at > _KEPT:
            advise(file.fileno(), 0, at - _KEPT, dont_need)


def is_whole(shard: Shard, directory: Path) -> bool:
    """Return whether a shard is there, written to its end."""
    path = directory / shard.name
    if not path.is_file() or path.stat().st_size != shard.nbytes:
        return False
    with path.open("rb") as file:
        return file.read(len(shard.head)) == shard.head


def _allocate(file: BinaryIO, nbytes: int) -> None:
    """Give a file its size, on disk: the space is then ours, and in one piece if it can be."""
    try:
        os.posix_fallocate(file.fileno(), 0, nbytes)
    except AttributeError:  # macOS, Windows
        file.truncate(nbytes)
    except OSError as error:
        if error.errno in UNKNOWN:  # this file system cannot
            file.truncate(nbytes)
        else:
            raise OSError(error.errno, f"{error.strerror} for {nbytes:,} bytes") from None
