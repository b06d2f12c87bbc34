"""Whole jobs: orthogonal matrices, a model's start, files of weights; each beside its limit.

As with single fills, all that can do a job take turns in one process. The first contender of each
job is fastinit's, and all others are told as multiples of its time.
"""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import fastinit as fi
from fastinit import _arguments, _kernels, checkpoint, recipe
from fastinit._extras import require
from fastinit._fill import as_dtype
from fastinit.benchmark._job import Job
from fastinit.benchmark._measure import markdown, take_turns
from fastinit.benchmark._peak import multiply_adds
from fastinit.benchmark._peers import Contender, module

JOBS = ("orthogonal", "start", "files")
SHAPES = ((64, 64), (1024, 1024), (2048, 2048), (4096, 4096), (8192, 1024))
LIMIT = "limit"

_VECTOR_BYTES = {"avx512": 64, "avx512bf16": 64, "avx2": 32}  # of all others 16
_PIECE = 2**24  # bytes that are written or read at a time


def job_table(job: Job) -> str:
    """Return a job's results as text.

    Examples
    --------
    >>> print(job_table(Job("write", 4.0, "GB", {"fastinit": (2.0, 2.5), "limit": (1.0, 2.0)})))
    | write    | best, s | median, s | GB/s | times fastinit's |
    | -------- | ------- | --------- | ---- | ---------------- |
    | fastinit | 2       | 2.25      | 2    | 1.00             |
    | limit    | 1       | 1.5       | 4    | 0.50             |
    """
    columns = (job.name, "best, s", "median, s", f"{job.unit}/s", "times fastinit's")
    rows = [
        (
            who,
            f"{job.best(who):.3g}",
            f"{median(seconds):.3g}",
            f"{job.work / job.best(who):.3g}",
            f"{job.ratio(who):.2f}",
        )
        for who, seconds in job.seconds.items()
    ]
    return markdown(columns, rows)


def _job(name: str, work: float, unit: str, contenders: Sequence[Contender], repeats: int) -> Job:
    times = take_turns(contenders, _arguments.integer("repeats", repeats, 3, 1000))
    return Job(name, work, unit, {c.name: t for c, t in zip(contenders, times, strict=True)})


def orthogonal(
    shapes: Iterable[tuple[int, int]] = SHAPES,
    dtype: str = "float32",
    threads: int | None = None,
    repeats: int = 5,
) -> Iterator[Job]:
    """Yield what random orthogonal matrices of some shapes take.

    Beside PyTorch's, on one thread and on as many, there is the limit: a loop of multiply-adds in
    registers, as many as the reflections need, by Numba where it is there.

    Parameters
    ----------
    shapes : iterable of tuple of int
        Of the matrices.
    dtype : {"float32", "float64", "bfloat16", ...}
        Of the matrices; PyTorch has float32 and float64 alone.
    threads : int, optional
        Unless given: as many as a fill uses.
    repeats : int
        Turns that each takes, 3 to 1000.

    Examples
    --------
    >>> [job] = orthogonal([(16, 8)], threads=1, repeats=3)
    >>> list(job.seconds)[0]
    'fastinit'
    """
    n, torch = threads or fi.get_num_threads(), module("torch")
    rng = fi.default_rng(1)  # goes on from call to call, as PyTorch's does
    for rows, columns in shapes:
        k, m = sorted((rows, columns))
        operations = 2 * m * k * k - 2 / 3 * k**3  # LAPACK's count for Q; a QR takes twice that
        x = np.zeros((rows, columns), as_dtype(dtype))
        contenders = [Contender("fastinit", "", partial(fi.orthogonal_, x, rng=rng, threads=n))]
        for workers in sorted({1, n}):
            if torch is None or dtype not in ("float32", "float64"):
                continue
            fill = partial(torch.nn.init.orthogonal_, torch.from_numpy(x.copy()))
            use = partial(torch.set_num_threads, workers)
            contenders.append(Contender("PyTorch", _threads(workers), fill, use))
        if module("numba") is not None and dtype != "float64":
            vector = _VECTOR_BYTES.get(_kernels.isa(), 16)
            contenders.append(Contender(LIMIT, "", multiply_adds(operations, n, vector)))
        name = f"orthogonal {rows} x {columns} {dtype}, {_threads(n)}"
        yield _job(name, operations / 1e9, "GFLOP", contenders, repeats)


def start(layers: int = 20, repeats: int = 3) -> Iterator[Job]:
    """Yield what the start of a Llama from its config takes, by transformers, in float32.

    Plain; within `fastinit.torch.accelerate`; within `deferred`, and then by `initialize`. The
    limit stores a constant into new memory of the parameters' sizes.

    Parameters
    ----------
    layers : int
        16 million parameters each, beside 66 million at both ends.
    repeats : int
        Turns that each takes, 3 to 1000.
    """
    require("torch", "start makes a model of PyTorch's: it", "torch")
    require("transformers", "start makes a model of transformers': it", "torch")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    import transformers

    import fastinit.torch as init

    config = transformers.LlamaConfig(
        hidden_size=1024,
        intermediate_size=3840,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=32000,
    )

    def plain() -> Any:
        return transformers.AutoModelForCausalLM.from_config(config)

    def accelerated() -> Any:
        with init.accelerate(seed=0):
            return plain()

    def deferred() -> Any:
        with init.deferred():
            model = plain()
        init.initialize(model, seed=0)
        return model

    with torch.device("meta"):
        shapes = [tuple(p.shape) for p in plain().parameters()]

    def constants() -> Any:
        new = [torch.empty(shape) for shape in shapes]
        for tensor in new:
            fi.constant_(tensor.numpy(), 1.0)
        return new

    # A model refers to itself: unless Python collects it before a turn, it is freed within one.
    contenders = [
        Contender("fastinit", "accelerate", accelerated, gc.collect),
        Contender("fastinit", "deferred, initialize", deferred, gc.collect),
        Contender("transformers", "", plain, gc.collect),
        Contender(LIMIT, "", constants, gc.collect),
    ]
    millions = sum(map(np.prod, shapes)) / 1e6
    name = f"from_config, {millions:.0f} million float32, {_threads(fi.get_num_threads())}"
    yield _job(name, millions / 1e3, "10^9 values", contenders, repeats)


def files(
    directory: Path, gigabytes: float = 2.0, threads: int | None = None, repeats: int = 3
) -> Iterator[Job]:
    """Yield what writing a checkpoint of bfloat16 normals takes, and what checking it takes.

    The limits write as many bytes that are in memory already, and read them, in the same directory,
    with one thread and with as many as fastinit uses. Before each turn what is read is taken out of
    the page cache, and all that was written is on the disk when the clock stops.

    Parameters
    ----------
    directory : Path
        On the disk that is meant. What is written there is removed again.
    gigabytes : float
        How much, of 10**9 bytes.
    threads : int, optional
        Unless given: as many as a fill uses.
    repeats : int
        Turns that each takes, 3 to 1000.
    """
    n = threads or fi.get_num_threads()
    model, place = _model(gigabytes), directory / "fastinit-bench"
    ours, raw = place / "checkpoint", place / "raw"
    nbytes = sum(tensor.nbytes for tensor in model.tensors)
    place.mkdir(parents=True)
    try:
        write = partial(checkpoint.write, model, ours, seed=0, threads=n, overwrite=True)
        contenders = [Contender("fastinit", "", write, partial(_clear, ours))]
        for workers in sorted({1, n}):
            fill = partial(_write_raw, raw, nbytes, workers)
            contenders.append(Contender(LIMIT, _threads(workers), fill, partial(_clear, raw)))
        yield _job(
            f"init, {nbytes / 1e9:.1f} GB, {_threads(n)}", nbytes / 1e9, "GB", contenders, repeats
        )
        forget = partial(_forget, [*ours.glob("*.safetensors"), raw])
        contenders = [Contender("fastinit", "", partial(checkpoint.check, ours, threads=n), forget)]
        for workers in sorted({1, n}):
            read = partial(_read_raw, raw, nbytes, workers)
            contenders.append(Contender(LIMIT, _threads(workers), read, forget))
        name = f"check, {nbytes / 1e9:.1f} GB, {_threads(n)}"
        yield _job(name, nbytes / 1e9, "GB", contenders, repeats)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _threads(n: int) -> str:
    return f"{n} thread{'s' if n > 1 else ''}"


def _model(gigabytes: float) -> recipe.Recipe:
    layers = max(1, round(gigabytes * 1e9 / (2 * 4096 * 11008)))
    return recipe.parse(
        f'name = "bench"\n[repeat]\nlayer = {layers}\n[tensors]\n'
        '"h.{layer}.weight" = {shape = [11008, 4096], dtype = "bfloat16"}\n'
        '[[rule]]\npattern = "*"\ninit = "normal"\nstd = 0.02\n'
    )


def _clear(path: Path) -> None:
    """Remove what an earlier turn wrote, and wait for the disk."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    os.sync()


def _forget(paths: Sequence[Path]) -> None:
    """Take files out of the page cache, where the system knows how to."""
    with suppress(AttributeError):
        for path in paths:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _write_raw(path: Path, nbytes: int, threads: int) -> None:
    piece = np.full(_PIECE, 1, np.uint8).data
    with path.open("wb") as file:
        with suppress(AttributeError):
            os.posix_fallocate(file.fileno(), 0, nbytes)
        _in_pieces(lambda at, n: os.pwrite(file.fileno(), piece[:n], at), nbytes, threads)
        os.fsync(file.fileno())


def _read_raw(path: Path, nbytes: int, threads: int) -> None:
    with path.open("rb") as file:
        _in_pieces(lambda at, n: len(os.pread(file.fileno(), n, at)), nbytes, threads)


def _in_pieces(move: Callable[[int, int], int], nbytes: int, threads: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(at: int) -> None:
        end = min(nbytes, at + _PIECE)
        while at < end:
            at += move(at, end - at)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(0, nbytes, _PIECE)))
