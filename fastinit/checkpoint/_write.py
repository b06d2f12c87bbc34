"""Writing a checkpoint: space first, then its shards, then the files that name them."""

from __future__ import annotations

import errno
import operator
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import fastinit
from fastinit._files import appearing, no_empty_directory, only_writer, remove_left_behind
from fastinit._settings import count_threads
from fastinit.checkpoint._layout import (
    CONFIG,
    MAX_SHARD_SIZE,
    Layout,
    Shard,
    Small,
    lay_out,
)
from fastinit.checkpoint._old import check_elsewhere
from fastinit.checkpoint._shard import Progress, is_whole, write_shard
from fastinit.checkpoint._stored import belonging
from fastinit.recipe import FLOAT_DTYPES, Recipe, dtype_name


class Written(NamedTuple):
    """What `write` wrote: the files, and how much in what time.

    `kept` is how many bytes of `nbytes` were there already, whole, and stayed.
    """

    files: tuple[Path, ...]
    tensors: int
    parameters: int
    nbytes: int
    kept: int
    seconds: float


def write(
    recipe: Recipe,
    directory: str | Path,
    *,
    seed: int | None = None,
    threads: int | None = None,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    format: str = "safetensors",  # noqa: A002
    overwrite: bool = False,
    resume: bool = False,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write a model's tensors, freshly initialised, as a directory that transformers loads.

    One file, ``model.safetensors``, or several of at most `max_shard_size` with an index. The
    bytes depend on the recipe, the seed, and how they are cut into files; on nothing else.

    Parameters
    ----------
    recipe : Recipe
        From `load`; ``recipe.astype("bfloat16")`` to write another dtype.
    directory : str or Path
        Made if missing. Gets ``config.json`` too if the recipe knows it.
    seed : int, optional
        Not negative; the recipe's if not given.
    threads : int, optional
        See `fastinit.set_num_threads`; the values do not depend on it.
    max_shard_size : int or str
        Bytes of tensors in a file, or such as "5GB", of 10**9 bytes. A tensor that is larger
        gets a file of its own.
    format : {"safetensors", "npy"}
        "npy": a file for each tensor, as `numpy.load` reads it. NumPy has no bfloat16: view
        what it reads as that.
    overwrite : bool
        Whether files that exist may be replaced.
    resume : bool
        Whether files of the same job that are whole stay, and only what lacks is written.
        A file has its name only when it is whole: of what was written before, no more than one
        file is written again.
    scheduler : str, optional
        Address of a Dask scheduler whose workers share the directory, or ``local:N``, for N
        processes of this machine: they write the files, and one whose worker is lost is written
        by another. A script that gives ``local:N`` must guard its start by
        ``if __name__ == "__main__":``, as for `multiprocessing`.
    progress : callable, optional
        Called with the number of bytes, again and again, that are written; those that stay
        are reported first.

    Returns
    -------
    Written
        The files, and what they hold.

    Raises
    ------
    RecipeError
        If a tensor has no rule, or a rule does not fit its tensor.
    FileExistsError
        If there is a checkpoint already, and it is not to be replaced nor to be resumed.
    OSError
        If the files cannot be written. Too little space is noticed before the first value.
    ValueError
        If the directory holds the older checkpoint whose tensors stay, there is no such
        scheduler, or its workers do not share the directory.
    ImportError
        If `scheduler` needs the package distributed, and it is missing.

    Notes
    -----
    Memory: a few MiB for each thread, whatever the model's size. A thread that makes a tensor with
    the rule "orthogonal", "delta_orthogonal" or "sparse" holds 240 of its lines (those of the
    matrix's longer side; those that count their zeros), or 16 MiB of them, and for the first two
    288 numbers for each element of such a line.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     write(load("gpt2"), directory, seed=1).tensors
    148
    """
    start = time.perf_counter()
    seed = recipe.seed if seed is None else operator.index(seed)
    fastinit.default_rng(seed)  # refuses what is no seed
    count_threads(threads)  # refuses what is no number of them
    path = Path(directory)
    check_elsewhere(recipe, path)
    layout = lay_out(recipe, seed, max_shard_size, format)
    with (
        no_empty_directory(path),
        _writing(path),
        _writer(scheduler, path, threads, overwrite) as write_shards,
    ):
        todo = _begin(layout, path, overwrite, resume)
        kept = sum(shard.nbytes for shard in layout.shards) - sum(shard.nbytes for shard in todo)
        tell = progress or (lambda _: None)
        if kept:
            tell(kept)
        write_shards(todo, tell)
        end(layout, path, overwrite=overwrite)
    tensors = [item.tensor for shard in layout.shards for item in shard.items]
    return Written(
        files=tuple(path / name for name in layout.names),
        tensors=len(tensors),
        parameters=sum(
            tensor.size for tensor in tensors if dtype_name(tensor.dtype) in FLOAT_DTYPES
        ),
        nbytes=sum(shard.nbytes for shard in layout.shards),
        kept=kept,
        seconds=time.perf_counter() - start,
    )


def _writer(
    scheduler: str | None, directory: Path, threads: int | None, replace: bool
) -> AbstractContextManager[Callable[[Sequence[Shard], Progress], None]]:
    """Return what writes shards: this process, or a cluster, which must be there before we begin.

    Ours is one shard after the other, by many threads.
    """
    if scheduler is not None:
        from fastinit.checkpoint._cluster import cluster_writer

        return cluster_writer(scheduler, directory.resolve(), threads, replace)

    def write_shards(shards: Sequence[Shard], progress: Progress) -> None:
        for shard in shards:
            write_shard(shard, directory, threads=threads, progress=progress, overwrite=replace)

    return nullcontext(write_shards)


def begin(
    layout: Layout, directory: Path, *, overwrite: bool = False, resume: bool = False
) -> list[Shard]:
    """Make a directory ready; return the shards that have to be written.

    They may then be written in any order, and by any processes, before `end`.

    Raises
    ------
    FileExistsError
        If there is a checkpoint already, and it is not to be replaced nor to be resumed.
    OSError
        If there is too little space, if the directory cannot be made, or if another process is
        writing into it.
    """
    with _writing(directory):
        return _begin(layout, directory, overwrite, resume)


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Be the only one who writes into a directory, which is made if it is missing."""
    directory.mkdir(parents=True, exist_ok=True)
    with only_writer(directory):
        yield


def _begin(layout: Layout, directory: Path, overwrite: bool, resume: bool) -> list[Shard]:
    whole = _whole(layout, directory) if resume else set()
    others = [path for path in _in_the_way(layout, directory) if path.name not in whole]
    if others and not overwrite:
        reason = (
            "file exists: use overwrite=True to replace it or resume=True to keep what is whole"
        )
        if resume:
            reason = "file exists and is not of this job: use overwrite=True to replace it"
        raise FileExistsError(errno.EEXIST, reason, str(others[0]))
    todo = [shard for shard in layout.shards if shard.name not in whole]
    remove_left_behind(directory, layout.names)
    _check_space(directory, sum(shard.nbytes for shard in todo))
    # Old files and new ones must not be taken for one checkpoint: without an index they are not.
    if others and layout.config is None and os.path.lexists(directory / CONFIG):
        others.append(directory / CONFIG)
    for path in others:
        if path.name not in layout.names or (layout.index and path.name == layout.index[0]):
            path.unlink()
    if layout.index and layout.index[0] not in whole:
        _write_small(_begun(layout.index, directory), layout.index, replace=True)
    return todo


def end(layout: Layout, directory: Path, *, overwrite: bool = False) -> None:
    """Finish a directory whose shards are all there.

    Raises
    ------
    FileExistsError
        If another file has come to be there, and is not to be replaced.
    OSError
        If a file cannot be written.
    """
    for small in (layout.config, layout.index):
        if small and not _holds(directory / small.name, small):
            _write_small(directory / small.name, small, overwrite)
    if layout.index:
        _begun(layout.index, directory).unlink(missing_ok=True)


def _whole(layout: Layout, directory: Path) -> set[str]:
    """Return the names of the files that are as this job writes them."""
    smalls = [small for small in (layout.config, layout.index) if small]
    whole = {small.name for small in smalls if _holds(directory / small.name, small)}
    index = layout.index
    # An array's file does not say of which job it is; the index does.
    if index and not (index.name in whole or _holds(_begun(index, directory), index)):
        return set()
    return whole | {shard.name for shard in layout.shards if is_whole(shard, directory)}


def _holds(path: Path, small: Small) -> bool:
    # A file of that name may be anybody's, and of any size.
    whole = path.is_file() and path.stat().st_size == len(small.content)
    return whole and path.read_bytes() == small.content


def _begun(index: Small, directory: Path) -> Path:
    """Return where the index is until the files that it names are there."""
    return directory / f".{index.name}.begun"


def _write_small(path: Path, small: Small, replace: bool) -> None:
    with appearing(path, replace=replace) as file:
        file.write(small.content)


def _in_the_way(layout: Layout, directory: Path) -> list[Path]:
    """Return the files that this job would replace, or that are of another checkpoint."""
    names = dict.fromkeys([*layout.names, *belonging(directory)])
    return [directory / name for name in names if os.path.lexists(directory / name)]


def _check_space(directory: Path, nbytes: int) -> None:
    disk = shutil.disk_usage(directory)
    if disk.total and nbytes > disk.free:  # some network file systems do not know
        reason = f"No space left on device: {nbytes:,} bytes needed, {disk.free:,} free"
        raise OSError(errno.ENOSPC, reason, str(directory))
