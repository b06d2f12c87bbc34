"""``fastinit bench``: parses, calls `fastinit.benchmark`, and prints."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fastinit import benchmark
from fastinit._extras import require
from fastinit.cli._terminal import AsJson, one_line_errors, print_json

EXAMPLE = "Example: fastinit bench --dtype bfloat16 --power 26 --output build/bench"


def bench(
    distribution: Annotated[
        list[str] | None,
        typer.Option(help=f"Which distributions: {', '.join(benchmark.DISTRIBUTIONS)}."),
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help=f"Which dtypes: {', '.join(benchmark.DTYPES)}.")
    ] = (None),
    power: Annotated[
        list[int] | None,
        typer.Option(help="Fill arrays of 2^POWER elements, if memory holds them."),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(help="Numbers of threads; by default 1, and all that this process may use."),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Measure all cases of every option that is not given. This takes hours."
        ),
    ] = False,
    repeats: Annotated[int, typer.Option(help="How often each library is timed for a case.")] = 7,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A directory for results.json and plots.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare fastinit with the peers that are installed, and with the memory-write limit.

    That limit is the speed of storing a constant.

    Options that name what to compare may be given more than once.
    """
    with one_line_errors():
        if output is not None:
            require("matplotlib", "--output draws plots: it", "bench")
        dtypes, powers, counts = benchmark.QUICK_DTYPES, benchmark.QUICK_POWERS, None
        if full:
            dtypes, powers, counts = benchmark.DTYPES, benchmark.POWERS, benchmark.all_threads()
        plan = benchmark.cases(
            distribution or benchmark.DISTRIBUTIONS,
            dtype or dtypes,
            power or powers,
            threads or counts,
        )
        results = []
        with _ends_at_ctrl_c():
            for case in plan:
                these = benchmark.measure(case, repeats)
                if not as_json:
                    typer.echo(f"{benchmark.describe(case)}\n{benchmark.table(these)}\n")
                results += these
        report = benchmark.Report(benchmark.machine(), results)
        if as_json:
            print_json(benchmark.as_dict(report))
        if output is not None:
            _keep(report, output, quiet=as_json)


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
        typer.echo(path, err=quiet)
