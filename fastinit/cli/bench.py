"""``fastinit bench``: parses, calls `fastinit.benchmark`, and prints."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

import fastinit as fi
from fastinit import benchmark
from fastinit._extras import require
from fastinit.cli._terminal import AsJson, one_line_errors, print_json, refuse, say

EXAMPLE = "Example: fastinit bench --dtype bfloat16 --power 26 --output build/bench"


def bench(
    context: typer.Context,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="What is measured: fills (the default), or jobs: orthogonal matrices, the start "
            "of a model of transformers, and files of weights."
        ),
    ] = None,
    distribution: Annotated[
        list[str] | None,
        typer.Option(help=f"Which distributions: {', '.join(benchmark.DISTRIBUTIONS)}."),
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help=f"Which dtypes: {', '.join(benchmark.DTYPES)}.")
    ] = None,
    power: Annotated[
        list[int] | None,
        typer.Option(help="Fill arrays of 2^POWER elements, if memory holds them."),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            help="Numbers of threads, of which a job takes the largest; by default 1, and all that "
            "this process may use."
        ),
    ] = None,
    memory: Annotated[
        list[str] | None,
        typer.Option(help="Which memory is filled: touched or cold; by default, both."),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Measure fastinit's best kernels, and no other library.")
    ] = False,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Measure all cases of every option that is not given. This takes hours."
        ),
    ] = False,
    all_threads: Annotated[
        bool,
        typer.Option(
            "--all-threads",
            help="Measure 1, 2, 4 and so on up to all threads, if --threads is not given.",
        ),
    ] = False,
    repeats: Annotated[
        int | None,
        typer.Option(
            help="How often each library is timed; by default 7 times for fills, 3 for jobs."
        ),
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="The shape of orthogonal matrices, such as 4096x1024.")
    ] = None,
    layers: Annotated[
        int, typer.Option(help="For start: the layers of its model, each of 16 million values.")
    ] = 20,
    gigabytes: Annotated[float, typer.Option(help="For files: how many gigabytes.")] = 2.0,
    directory: Annotated[
        Path, typer.Option(help="For files: a directory on the disk; the files are removed again.")
    ] = Path(),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A directory for results.json and plots.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare fastinit with the peers that are installed, and with what limits it.

    Fills: the limit is the speed of storing a constant into the same memory.

    orthogonal: PyTorch's orthogonal_, and the machine's fused multiply-adds.

    start: from_config of transformers, and constants stored into new memory.

    files: init and check, and bytes from memory to the disk and back.

    Options that name what to compare may be given more than once.
    """
    with one_line_errors():
        if output is not None:
            require("matplotlib", "--output draws plots: it", "bench")
        chosen = _chosen(what or ["fills"])
        for option, kinds in _OPTIONS.items():
            if not {*kinds} & {*chosen}:
                refuse(context, [option], f"of {', '.join(kinds)}, and not of {', '.join(chosen)}")
        dtypes, powers = benchmark.QUICK_DTYPES, benchmark.QUICK_POWERS
        counts: list[int] | None = None
        if full:
            dtypes, powers = benchmark.DTYPES, benchmark.POWERS
        if full or all_threads:
            counts = benchmark.all_threads()
        plan = benchmark.cases(
            distribution or benchmark.DISTRIBUTIONS,
            dtype or dtypes,
            power or powers,
            threads or counts,
            memory or benchmark.MEMORY,
        )
        most, turns = max(threads or [fi.get_num_threads()]), 3 if repeats is None else repeats
        plans: dict[str, Callable[[], Iterator[benchmark.Job]]] = {
            "orthogonal": lambda: benchmark.orthogonal(
                [_shape(text) for text in shape] if shape else benchmark.SHAPES,
                threads=most,
                repeats=turns,
            ),
            "start": lambda: benchmark.start(layers, turns),
            "files": lambda: benchmark.files(directory, gigabytes, most, turns),
        }
        results, jobs = [], []
        with _ends_at_ctrl_c():
            for case in plan if "fills" in chosen else ():
                these = benchmark.measure(case, 7 if repeats is None else repeats, alone)
                if not as_json:
                    say(f"{benchmark.describe(case)}\n{benchmark.table(these)}\n")
                results += these
            for job in chain.from_iterable(plans[name]() for name in chosen if name in plans):
                if not as_json:
                    say(f"{benchmark.job_table(job)}\n")
                jobs.append(job)
        report = benchmark.Report(benchmark.machine(), results, jobs)
        if as_json:
            print_json(benchmark.as_dict(report))
        if output is not None:
            _keep(report, output, quiet=as_json)


_FILLS = ("distribution", "dtype", "power", "memory", "alone", "full", "all_threads")
_OPTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_FILLS, ("fills",)),
    "threads": ("fills", "orthogonal", "files"),
    "shape": ("orthogonal",),
    "layers": ("start",),
    "gigabytes": ("files",),
    "directory": ("files",),
}
"""Of what each option is that not all measurements have."""


def _chosen(what: list[str]) -> list[str]:
    allowed = ("fills", *benchmark.JOBS)
    for name in what:
        if name not in allowed:
            raise ValueError(f"what={name!r} is unknown; allowed: {', '.join(allowed)}")
    return what


def _shape(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,7})x([0-9]{1,7})", text)
    if match is None or not (int(match[1]) and int(match[2])):
        raise ValueError(f"shape={text!r} must be two lengths, such as 4096x1024")
    return int(match[1]), int(match[2])


@contextmanager
def _ends_at_ctrl_c() -> Iterator[None]:
    """End the process at once: a peer may fill for a minute, and Python cannot interrupt it."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _keep(report: benchmark.Report, directory: Path, quiet: bool) -> None:
    from fastinit.benchmark import _plots

    directory.mkdir(parents=True, exist_ok=True)
    benchmark.save(report, directory / "results.json")
    for path in (directory / "results.json", *_plots.draw(report, directory)):
        say(path, err=quiet)
