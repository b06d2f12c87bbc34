"""The command line: it parses, calls `diagnostics` or `benchmark`, and prints; see `_models`."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import ml_dtypes  # noqa: F401  a missing package shows now, and not at the first bfloat16
import safetensors  # noqa: F401
import typer

from fastinit import _models, benchmark, diagnostics, specs
from fastinit._terminal import one_line_errors, steps_bar
from fastinit.network import ACTIVATIONS

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog="Example: fastinit init gpt2 -o build/gpt2")
def _fastinit() -> None:
    """Initialise the weights of neural networks, at the speed of memory."""


app.command(epilog=_models.INIT)(_models.init)
app.command(epilog=_models.CHECK)(_models.check)
app.command(epilog=_models.SHOW)(_models.show)


_COMPARED = ["xavier", "he", "normal:0.01"]


@app.command(
    epilog="Example: fastinit probe --depth 50 --activation relu --compare xavier he normal:0.01 "
    "-o report.html"
)
def probe(
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[INITIALIZER]...", help="More for --compare.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INITIALIZER...",
            help=f"Which to compare, by default {' '.join(_COMPARED)}; of {specs.allowed()}.",
        ),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="Number of layers.")] = 50,
    width: Annotated[int, typer.Option(min=1, help="Of each; channels with --image.")] = 128,
    activation: Annotated[str, typer.Option(help=f"One of {', '.join(ACTIVATIONS)}.")] = "relu",
    residual: Annotated[bool, typer.Option("--residual", help="Skip connections.")] = False,
    layer_norm: Annotated[
        bool, typer.Option("--layer-norm", help="LayerNorm before each activation.")
    ] = False,
    image: Annotated[
        int | None, typer.Option(min=1, help="3 x 3 convolutions over N x N images.", metavar="N")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 256,
    seeds: Annotated[int, typer.Option(min=1, help="How many: 0, 1, 2, ...")] = 3,
    steps: Annotated[
        int, typer.Option(min=0, help="Of gradient descent on digits, in the page; 0: none.")
    ] = 60,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="Page (.html), picture (.png), numbers (.json)."),
    ] = None,
) -> None:
    """Say which initializers let a deep network train, before it is trained.

    -o may be given several times; without it only the verdicts are printed.
    """
    names = list(dict.fromkeys([*(compare or []), *(more or [])])) or _COMPARED
    outputs = output or []
    with one_line_errors():
        if outputs:
            from fastinit import report, training

            for path in outputs:
                report.check(path)
        trains = len(names) * len(training.RATES) if outputs and steps else 0
        with steps_bar("probe", len(names) * seeds + trains) as advance:
            found = diagnostics.probe(
                [width] * (depth + 1),
                activation,
                names,
                residual=residual,
                layer_norm=layer_norm,
                image=(image, image) if image else None,
                batch=batch,
                seeds=range(seeds),
                progress=advance,
            )
            runs = [
                training.descend(found.setting, name, steps=steps, progress=advance)
                for name in names
                if trains and found.setting
            ]
        for path in outputs:
            report.write(path, found, runs)
    _show(found, outputs)


def _show(found: diagnostics.Probe, files: list[Path]) -> None:
    """Print the verdicts, what to use instead, and the files."""
    typer.echo(f"{found.setting}\n{found}")
    for one in found:
        if one.advice:
            typer.echo(f"instead of {one.name}: {one.advice}")
    if files:
        typer.echo(f"files: {' '.join(map(str, files))}")


@app.command(epilog="Example: fastinit bench --dtype bfloat16 --power 26 --output build/bench")
def bench(
    distribution: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(benchmark.DISTRIBUTIONS)}.")
    ] = None,
    dtype: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(benchmark.DTYPES)}.")] = (
        None
    ),
    power: Annotated[
        list[int] | None, typer.Option(help="For arrays of 2^POWER elements, if memory holds them.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="1 and all this process may use, unless given.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Whatever is not given: all there is, for hours.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Turns that each takes for a case.")] = 7,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for results.json and plots.")
    ] = None,
) -> None:
    """Compare fastinit with its peers, where installed, and with storing a constant.

    Options that name what to compare may be given more than once.
    """
    with one_line_errors():
        if output is not None and find_spec("matplotlib") is None:
            raise ValueError(
                "--output draws plots and needs the package matplotlib: "
                "in a checkout of fastinit, pip install '.[bench]'"
            )
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
                typer.echo(f"{benchmark.describe(case)}\n{benchmark.table(these)}\n")
                results += these
        if output is not None:
            _keep(benchmark.Report(benchmark.machine(), results), output)


@contextmanager
def _ends_at_ctrl_c() -> Iterator[None]:
    """End the process at once: a peer may fill for a minute, and Python cannot interrupt it."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _keep(report: benchmark.Report, directory: Path) -> None:
    from fastinit import _plots

    directory.mkdir(parents=True, exist_ok=True)
    benchmark.save(report, directory / "results.json")
    for path in (directory / "results.json", *_plots.draw(report, directory)):
        typer.echo(path)
