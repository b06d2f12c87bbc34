"""Statistics of any checkpoint: moments, tensors that are there twice, a test against a recipe."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit._settings import count_threads
from fastinit.checkpoint._blocks import Block, Drawer, batches, blocks, in_order
from fastinit.checkpoint._check import rules_of
from fastinit.checkpoint._sources import recorded
from fastinit.checkpoint._stored import Checkpoint, Stored, read, read_block
from fastinit.random import default_rng
from fastinit.recipe import Rule

# Elements of a tensor that are tested and drawn in pictures, and in how many stretches: 2**18
# show a standard deviation that is wrong by 3 %.
_STRETCH, _STRETCHES = 2**15, 8

#: How often a checkpoint that is as its recipe says is called wrong.
FALSE_ALARMS = 1e-3


@dataclass(frozen=True)
class Moments:
    """Sums over the finite elements of a tensor, about their mean, and counts of the others."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0
    min: float = math.inf
    max: float = -math.inf
    zeros: int = 0
    nans: int = 0
    infs: int = 0

    @classmethod
    def of(cls, x: NDArray[Any]) -> Moments:
        """Return those of an array."""
        values = _numbers(x)
        finite = np.isfinite(values)
        nans = int(np.isnan(values).sum())
        infs = values.size - nans - int(finite.sum())
        if nans or infs:
            values = values[finite]
        if not values.size:
            return cls(nans=nans, infs=infs)
        low, high = float(np.min(values)), float(np.max(values))
        zeros = values.size - int(np.count_nonzero(values))
        with np.errstate(all="ignore"):  # sums that float64 cannot hold are not known
            mean = float(values.mean())
            values -= mean
            squares = values * values
            m2 = float(squares.sum())
            m3, m4 = float(squares @ values), float(squares @ squares)
        return cls(values.size, mean, m2, m3, m4, low, high, zeros, nans, infs)

    def __add__(self, other: Moments) -> Moments:
        """Return those of both together (P. Pébay, Sandia report SAND2008-6212, 2008)."""
        a, b, n = self.n, other.n, self.n + other.n
        counts = {key: getattr(self, key) + getattr(other, key) for key in _COUNTS}
        if not (a and b):
            return replace(self if a else other, **counts)
        d = other.mean - self.mean  # multiplied, as a power that overflows is an error in Python
        m2 = self.m2 + other.m2 + d * d * a * b / n
        m3 = self.m3 + other.m3 + d * d * d * a * b * (a - b) / n**2
        m3 += 3 * d * (a * other.m2 - b * self.m2) / n
        m4 = self.m4 + other.m4 + d * d * d * d * a * b * (a * a - a * b + b * b) / n**3
        m4 += 6 * d * d * (a * a * other.m2 + b * b * self.m2) / n**2
        m4 += 4 * d * (a * other.m3 - b * self.m3) / n
        mean, low, high = self.mean + d * b / n, min(self.min, other.min), max(self.max, other.max)
        return Moments(n, mean, m2, m3, m4, low, high, **counts)


def _numbers(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return an array's numbers; of complex ones, both parts."""
    line = x.reshape(-1)
    return (line.view(line.real.dtype) if x.dtype.kind == "c" else line).astype(np.float64)


_COUNTS = ("zeros", "nans", "infs")


class Histogram(NamedTuple):
    """How a tensor's values lie, and how the recipe's do: shares of bins between edges."""

    edges: tuple[float, ...]
    found: tuple[float, ...]
    expected: tuple[float, ...] | None


@dataclass(frozen=True)
class Statistics:
    """What `statistics` says of a tensor; moments are of its finite elements.

    A moment is None if there is no such element, or if float64 cannot hold the sum that it needs.

    `zeros`, `nans` and `infs` are shares of all elements. `same_as` is an earlier tensor with
    the same bits, not constant. `p` is the p-value of a two-sample Kolmogorov-Smirnov test: of
    the tensor against the recipe's own draws from another stream; None if there is no recipe.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    kurtosis: float | None
    zeros: float
    nans: float
    infs: float
    same_as: str | None
    p: float | None
    histogram: Histogram | None

    def as_json(self) -> dict[str, Any]:
        """Return it as what JSON can hold, without the histogram."""
        return {key: value for key, value in asdict(self).items() if key != "histogram"}


def statistics(
    path: str | Path,
    recipe: str | Path | None = None,
    *,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Statistics]:
    """Return statistics of every tensor of a checkpoint, whoever made it.

    Parameters
    ----------
    path, recipe
        As in `check`; without a recipe nothing is tested.
    threads : int, optional
        See `fastinit.set_num_threads`; the numbers do not depend on it.
    progress : callable, optional
        Called with the number of bytes, again and again, that were read.

    Returns
    -------
    list of Statistics
        In the order of the files.

    Raises
    ------
    RecipeError
        If the files are no checkpoint, or a tensor has no rule in the recipe.
    OSError
        If they cannot be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     done = write(load("gpt2"), directory, seed=1)
    ...     first = statistics(directory)[0]
    >>> first.name, round(first.std, 4), first.p > 0.001
    ('transformer.h.0.attn.c_attn.bias', 0.0, True)
    """
    checkpoint, n = read(Path(path)), count_threads(threads)
    rules: list[Rule | None] = [None] * len(checkpoint.stored)
    seed = 0
    if recipe is not None or recorded(checkpoint) is not None:
        model = rules_of(checkpoint, recipe)
        origins, seed = [origin for _, origin in model.plan()], model.seed
        rules = [origin if isinstance(origin, Rule) else None for origin in origins]
    moments = _all_moments(checkpoint, n, progress)
    copies = _copies(checkpoint.stored, moments, n)
    drawer = Drawer(default_rng(seed).stream("reference"))

    def describe(item: tuple[Stored, Rule | None]) -> Statistics:
        stored, rule = item
        tested = _tested(stored, rule, drawer)
        return _statistics(stored, moments[stored], copies.get(stored), *tested)

    return list(in_order(describe, zip(checkpoint.stored, rules, strict=True), n))


def wrong(statistics: Sequence[Statistics]) -> list[Statistics]:
    """Return the tensors that are not as the recipe draws them.

    A checkpoint that is as it should be is called wrong once in 1000 times.
    """
    tested = [each for each in statistics if each.p is not None]
    return [each for each in tested if each.p is not None and each.p < FALSE_ALARMS / len(tested)]


def _all_moments(
    checkpoint: Checkpoint, threads: int, progress: Callable[[int], object] | None
) -> dict[Stored, Moments]:
    values = partial(read_block, direct=checkpoint.direct)

    def work(batch: list[tuple[Block, Stored]]) -> list[tuple[Stored, Moments, int]]:
        return [(s, Moments.of(values(s, block)), block.nbytes) for block, s in batch]

    sums = {each: Moments() for each in checkpoint.stored}
    todo = ((block, each) for each in sums for block in blocks(each.tensor))
    for batch in in_order(work, batches(todo), threads):
        for each, moments, nbytes in batch:
            sums[each] += moments
            if progress is not None:
                progress(nbytes)
    return sums


def _copies(
    stored: Iterable[Stored], moments: dict[Stored, Moments], threads: int
) -> dict[Stored, str]:
    """Return what has the same bits as an earlier tensor, and that one's name."""
    alike: defaultdict[Any, list[Stored]] = defaultdict(list)
    for each in stored:
        if moments[each].min < moments[each].max:
            alike[each.tensor.dtype, each.tensor.shape, moments[each]].append(each)
    copies = {}
    for group in alike.values():
        different = group[:1]
        for each in group[1:]:
            same = next((d for d in different if _equal(d, each, threads)), None)
            if same:
                copies[each] = same.tensor.name
            else:
                different.append(each)
    return copies


def _equal(a: Stored, b: Stored, threads: int) -> bool:
    def work(block: Block) -> bool:
        ours = read_block(a, block, "drawn").reshape(-1).view(np.uint8)
        return np.array_equal(ours, read_block(b, block).reshape(-1).view(np.uint8))

    return all(in_order(work, blocks(a.tensor), threads))


def _tested(
    stored: Stored, rule: Rule | None, drawer: Drawer
) -> tuple[float | None, Histogram | None]:
    """Return the p-value of a tensor's values against its rule's, and both in a histogram."""
    chosen = list(_stretches(stored, rule))
    values = _finite(read_block(stored, block) for block in chosen)
    expected = None if rule is None else _finite(drawer.draw(block, rule) for block in chosen)
    if not len(values):
        return None, None
    both = values if expected is None else np.concatenate([values, expected])
    p = None if expected is None else _kolmogorov_smirnov(values, expected)
    low, high = float(np.min(both)), float(np.max(both))
    if low == high or not math.isfinite(high - low):
        return p, None
    edges = np.linspace(low, high, 65)
    shares = [
        tuple(np.histogram(x, edges)[0] / len(x)) for x in (values, expected) if x is not None
    ]
    return p, Histogram(tuple(edges), shares[0], shares[1] if len(shares) > 1 else None)


def _stretches(stored: Stored, rule: Rule | None) -> Iterator[Block]:
    """Yield blocks of a tensor, evenly spread; one alone if they are large."""
    tensor = stored.tensor
    axes = rule.whole_axes(tensor) if rule else ()
    size, most = _STRETCH * tensor.dtype.itemsize, 1 if axes else _STRETCHES
    n = sum(1 for _ in blocks(tensor, axes, size))
    wanted = {i * n // most for i in range(most)} if n > most else range(n)
    return (block for i, block in enumerate(blocks(tensor, axes, size)) if i in wanted)


def _finite(parts: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    values = np.concatenate([np.empty(0), *map(_numbers, parts)])
    finite: NDArray[np.float64] = values[np.isfinite(values)]
    return finite


def _kolmogorov_smirnov(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the p-value of two samples' being of one distribution.

    By the limit's series, with M. A. Stephens's correction for few elements (J. Royal Stat. Soc.
    B 32, 1970). Where values are equal, as constants and bfloat16's are, it errs towards 1.
    """
    if not len(b):
        return 0.0
    a, b = np.sort(a), np.sort(b)
    at = np.concatenate([a, b])
    shares = [np.searchsorted(x, at, "right") / len(x) for x in (a, b)]
    distance = float(np.abs(shares[0] - shares[1]).max())
    root = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    t = distance * (root + 0.12 + 0.11 / root)
    if t < 0.2:
        return 1.0
    terms = (math.exp(-2 * (k * t) ** 2) * (1 if k % 2 else -1) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * sum(terms)))


def _known(value: float, m: Moments) -> float | None:
    """Return a moment; None if the sum of squares was more, or less, than float64 holds."""
    lost = m.min < m.max and not m.m2
    return value if math.isfinite(value) and not lost else None


def _statistics(
    stored: Stored, m: Moments, same_as: str | None, p: float | None, histogram: Histogram | None
) -> Statistics:
    tensor = stored.tensor
    variance = m.m2 / m.n if m.n else math.nan
    square = variance * variance
    size = max(1, tensor.size * (2 if tensor.dtype.kind == "c" else 1))
    return Statistics(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype.name,
        mean=m.mean if m.n and math.isfinite(m.mean) else None,
        std=_known(math.sqrt(variance), m) if m.n and variance >= 0 else None,
        min=m.min if m.n else None,
        max=m.max if m.n else None,
        kurtosis=_known(m.m4 / m.n / square - 3, m) if m.n and square > 0 else None,
        zeros=m.zeros / size,
        nans=m.nans / size,
        infs=m.infs / size,
        same_as=same_as,
        p=p,
        histogram=histogram,
    )
