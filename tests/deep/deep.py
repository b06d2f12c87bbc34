"""Runs the statistics of `measures.py` over long samples of the stream, and keeps the p-values.

    python tests/deep/deep.py                    # some hours
    python tests/deep/deep.py --only normal      # the rows whose title has that in it
    python tests/deep/deep.py --quick            # every row over a short sample: a minute

Each row is kept when it is done; rows are in `results/statistics.json`.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices are small and many

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import samples
from measures import COLUMNS, ROWS, SMALL, STATISTICS, measure
from orders import CHUNK, transposed
from p_values import p_of_uniformity
from record import RESULTS, circumstances, load, save
from samples import Source, first, read

import fastinit as fi

FILE = RESULTS / "statistics.json"
SEED = 8
ALPHA = 1e-8  # of one p-value: of some 3000, one in 30 000 sound generators would fail

CONTINUOUS = ["uniform-float32", "normal-float32", "uniform-float64", "normal-float64"]
NORMALS = ["normal-float32", "normal-float64"]
TRUNCATED = ["truncated_normal-float32", "truncated_normal-float64"]
ALONE = ("fit", "moment", "high moment", "tail")
TOGETHER = ("lag", "pair", "polar cells")
MATRICES = [f"transposed:{k}" for k in (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)]
INTERLEAVED = ["names", "children", "seeds", "model"]
ORDERS = ["natural", *MATRICES, "blocks", "layers", *INTERLEAVED]


class Row(NamedTuple):
    title: str
    kind: str
    source: Source
    values: int  # how many; whole chunks are read
    statistics: Iterable[str] | None = None


def every_other(source: Source, first: int) -> Source:
    return lambda i: np.ascontiguousarray(source(i)[first::2])


def halves_of_words(i: int) -> Any:
    words: Any = read("natural", "bits-uint64", SEED)(i)
    return words.view(np.uint32)


def rows(quick: bool) -> Iterator[Row]:
    """A word or two of each; `quick` cuts the samples."""

    def size(n: float) -> int:
        return CHUNK if quick else int(n)

    for values in CONTINUOUS:
        yield Row(values, values, read("natural", values, SEED), size(1e10), ALONE)
    for values in TRUNCATED:
        yield Row(values, values, read("natural", values, SEED), size(1e9))
    for values in NORMALS:
        source = read("natural", values, SEED + 1)
        yield Row(f"{values}, together", values, source, size(1e9), TOGETHER)
        for which, name in enumerate(["first", "second"]):
            title = f"{values}, the {name} of each pair"
            yield Row(title, values, every_other(source, which), size(1e9), ALONE)
    for dtype in SMALL:
        for name in ("uniform", "normal"):
            values = f"{name}-{dtype}"
            yield Row(values, values, read("natural", values, SEED), size(1e9))

    for name in ORDERS:
        yield Row(f"bits, {name}", "bits", read(name, "bits-uint32", SEED), size(2**27))
    yield Row("bits, dtypes", "bits", read("dtypes", "bits-uint32", SEED), size(2**27))
    yield Row("bits, both halves of words", "bits", halves_of_words, size(2**27))
    for name in ORDERS[1:]:
        values = "normal-float32"
        source = read(name, values, SEED)
        yield Row(f"{values}, {name}", values, source, size(2**26), ["fit", "lag"])
    for name in [*INTERLEAVED, "blocks"]:
        for values in NORMALS:
            source = read(name, values, SEED)
            yield Row(f"correlations, {values}, {name}", "streams", source, size(2**27))

    n = 2**18 if quick else 10**8
    for title, make in [
        ("states of blocks", partial(samples.states, SEED, n)),
        ("states of blocks, 1024 apart", partial(samples.states, SEED, n, 1024)),
        ("states of blocks, 2^32 apart", partial(samples.states, SEED, n, 2**32)),
        ("increments of blocks", partial(samples.increments, SEED, n)),
    ]:
        yield Row(title, "hashes", lambda _, make=make: make(), n)
    n = 2**14 if quick else 10**6
    for of in ("seeds", "names"):
        for word in (0, 1):
            title = f"keys of {of}, word {word}"
            yield Row(title, "hashes", lambda _, a=(of, SEED, n, word): samples.keys(*a), n)

    for title, name in [("along rows", "natural"), ("layers interleaved", "layers")]:
        source = read(name, "normal-float32", SEED)
        yield Row(f"spectra, {title}", "matrices", source, size(2**28))
    for width in (256, 4096, 2**16):
        chunks = transposed(fi.default_rng(SEED).key, width, rows=COLUMNS)
        source = partial(samples._chunk, chunks, "normal", "float32")
        title = f"spectra, along columns of matrices {width} wide"
        yield Row(title, "matrices", source, size(2**28))


SECOND = [
    *(("bits-uint32", "bits"), ("normal-bfloat16", "normal-bfloat16")),
    *((values, values) for values in [*CONTINUOUS, *TRUNCATED]),
    ("normal-float32", "matrices"),
]


def second_level(values: str, kind: str, seeds: int, n: int) -> dict[str, float]:
    """Whether the p-values of many seeds, n values each, are uniform; each name's.

    Not those of the tails, where counts are few and p-values jump.
    """
    chosen = [k for k, s in STATISTICS[kind].items() if s.least <= n and k != "tail"]
    found = [measure(kind, first(values, seed, n), statistics=chosen) for seed in range(seeds)]
    return {k: p_of_uniformity(np.array([p[k] for p in found])) for k in found[0]}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short samples")
    parser.add_argument("--only", default="", help="rows whose title contains this")
    parser.add_argument("--threads", type=int, default=1, help="chunks at a time (default 1)")
    parser.add_argument("--output", type=Path, default=FILE)
    given = parser.parse_args()
    failed = []

    def keep(title: str, values: int, seconds: float, p: dict[str, float]) -> None:
        results = load(given.output)
        results[title] = {**circumstances(), "values": values, "seconds": round(seconds), "p": p}
        save(given.output, results)
        name = min(p, key=lambda k: p[k])
        print(f"{title}: {len(p)} p-values, least {p[name]:.2g} ({name})", flush=True)
        if p[name] < ALPHA:
            failed.append(title)

    for row in rows(given.quick):
        if given.only in row.title:
            began = time.perf_counter()
            # A sample of hashes is one chunk.
            chunks = 1 if row.kind == "hashes" else -(-row.values // CHUNK)
            p = measure(row.kind, row.source, chunks, given.threads, row.statistics)
            keep(row.title, row.values, time.perf_counter() - began, p)
    seeds, n = (20, 2**14) if given.quick else (1000, 2**20)
    for values, kind in SECOND:
        title = f"second level, {kind}"
        if given.only in title:
            began = time.perf_counter()
            size = max(n, ROWS * COLUMNS) if kind == "matrices" else n  # a matrix at least
            p = second_level(values, kind, seeds, size)
            keep(title, seeds * size, time.perf_counter() - began, p)
    if failed:
        print(f"below {ALPHA}: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
