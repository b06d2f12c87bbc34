"""Checking: every tensor drawn again, block by block, and compared with what the files hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from threading import Semaphore
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastinit
from fastinit._settings import count_threads
from fastinit.checkpoint._blocks import Block, Drawer, batches, blocks, in_order, runs
from fastinit.checkpoint._sources import recorded
from fastinit.checkpoint._stored import Checkpoint, Recorded, Stored, read, read_block, read_run
from fastinit.recipe import Recipe, RecipeError, Rule, digest
from fastinit.recipe import load as load_recipe


@dataclass(frozen=True)
class Difference:
    """The first element that is not what the recipe and the seed make it.

    Of values that are equal, such as two zeros or two NaN, the bits differ. Of a tensor that
    no rule draws the digests are compared; then there is no index.
    """

    tensor: str
    index: tuple[int, ...] | None
    expected: float | str
    found: float | str
    path: Path

    def __str__(self) -> str:
        if self.index is None:
            return (
                f"{self.path}: {self.tensor} has the digest {self.found}, "
                f"and must have {self.expected}"
            )
        return (
            f"{self.path}: {self.tensor}{list(self.index)} is {self.found!r}, "
            f"and must be {self.expected!r}"
        )


class Checked(NamedTuple):
    """What `check` compared, until the first difference, and in what time."""

    difference: Difference | None
    tensors: int
    nbytes: int
    seconds: float


def check(
    path: str | Path,
    recipe: str | Path | None = None,
    *,
    seed: int | None = None,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Checked:
    """Compare a checkpoint with what its recipe and seed make, bit for bit.

    Parameters
    ----------
    path : str or Path
        A safetensors file, or a directory of such files or of NumPy's with their index.
    recipe : str or Path, optional
        A recipe whose rules to use; by default the one that fastinit wrote into the files.
    seed : int, optional
        By default what fastinit wrote into the files; with a recipe, the recipe's.
    threads : int, optional
        See `fastinit.set_num_threads`. A few MiB are held for each.
    progress : callable, optional
        Called with the number of bytes, again and again, that were compared.

    Returns
    -------
    Checked
        With the first difference in the order of the files, or None.

    Raises
    ------
    RecipeError
        If the files are no checkpoint, or do not say how they were made and nobody else does.
    OSError
        If they cannot be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     done = write(load("gpt2"), directory, seed=1)
    ...     check(directory).difference is None
    True
    """
    start, nbytes = time.perf_counter(), 0
    checkpoint = read(Path(path))
    direct = checkpoint.direct
    model = rules_of(checkpoint, recipe)
    origins = [origin for _, origin in model.plan()]
    drawer = Drawer(model.seed if seed is None else seed)

    def differences(
        items: Iterable[tuple[Block, tuple[Stored, Rule]]],
    ) -> Iterator[tuple[Stored, Rule, Difference]]:
        for block, (stored, rule) in items:
            expected, actual = drawer.draw(block, rule), read_block(stored, block)
            difference = _first(stored, block, expected, actual)
            if difference is not None:
                yield stored, rule, difference

    def compare(batch: list[tuple[Block, tuple[Stored, Rule]]]) -> int | Difference:
        for run in runs(batch, lambda item: (item[0].path, item[0].begin)):
            actual = read_run([(block, stored) for block, (stored, _) in run], direct=direct)
            with drawing:
                expected = drawer.draw_all([(block, rule) for block, (_, rule) in run])
                if np.array_equal(expected, actual):
                    continue
            for stored, rule, difference in differences(run):
                axes = rule.whole_axes(stored.tensor)
                if not axes:
                    return difference
                # Its blocks have elements in between each other: another may have an earlier one.
                all_of_it = ((block, (stored, rule)) for block in blocks(stored.tensor, axes))
                return min((d for _, _, d in differences(all_of_it)), key=lambda d: d.index or ())
        return sum(block.nbytes for block, _ in batch)

    def prove(values: Recorded) -> int | Difference:
        stored = values.stored
        actual = digest(read_block(stored, block, direct=direct) for block in blocks(stored.tensor))
        if actual == values.digest:
            return stored.tensor.nbytes
        return Difference(stored.tensor.name, None, values.digest, actual, stored.path)

    todo = (
        (block, (stored, rule))
        for stored, rule in zip(checkpoint.stored, origins, strict=True)
        if isinstance(rule, Rule)
        for block in blocks(stored.tensor, rule.whole_axes(stored.tensor))
    )
    proven = [origin for origin in origins if isinstance(origin, Recorded)]
    n = count_threads(threads)
    # Twice as many threads read as draw, so that the disk always has something to do.
    drawing = Semaphore(n)
    difference = None
    for result in chain(in_order(compare, batches(todo), 2 * n), in_order(prove, proven, n)):
        if isinstance(result, Difference):
            difference = result
            break
        nbytes += result
        if progress is not None:
            progress(result)
    return Checked(difference, len(origins), nbytes, time.perf_counter() - start)


def rules_of(checkpoint: Checkpoint, recipe: str | Path | None) -> Recipe:
    """Return the recipe of a checkpoint: a given one's rules, or those that it was written by.

    Raises
    ------
    RecipeError
        If there are none, or this fastinit draws other bits than that which wrote it.
    """
    written = recorded(checkpoint)
    own = written if recipe is None else load_recipe(recipe)
    if own is None:
        raise RecipeError(
            f"{checkpoint.path} does not say how it was made; give a recipe and a seed"
        )
    stream, known = checkpoint.metadata.get("fastinit.stream"), fastinit.info()["stream"]
    if recipe is None and stream != known:
        raise RecipeError(
            f"{checkpoint.path} is of stream {stream!r}; this fastinit draws {known!r}"
        )
    tensors = tuple(stored.tensor for stored in checkpoint.stored)
    if recipe is None:
        return replace(own, tensors=tensors)
    return replace(own, tensors=tensors).with_values(written.values if written else {})


def _first(
    stored: Stored, block: Block, expected: NDArray[Any], actual: NDArray[Any]
) -> Difference | None:
    """Return the first element of a block whose bits differ, if there is one."""
    expected_bytes, actual_bytes = (x.reshape(-1).view(np.uint8) for x in (expected, actual))
    if np.array_equal(expected_bytes, actual_bytes):
        return None
    at = int(np.flatnonzero(expected_bytes != actual_bytes)[0]) // expected.itemsize
    inside = np.unravel_index(at, block.shape)
    return Difference(
        stored.tensor.name,
        tuple(int(i) + o for i, o in zip(inside, block.offset, strict=True)),
        expected.reshape(-1)[at].item(),
        actual.reshape(-1)[at].item(),
        stored.path,
    )
