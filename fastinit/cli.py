"""The command line: it parses, calls `checkpoint`, `diagnostics` or `benchmark`, and prints."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import ml_dtypes  # noqa: F401  a missing package shows now, and not at the first bfloat16
import psutil  # type: ignore[import-untyped]
import safetensors  # noqa: F401
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from fastinit import benchmark, checkpoint, diagnostics, specs
from fastinit.network import ACTIVATIONS
from fastinit.recipe import FLOATS, Recipe, Tensor, builtin

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog="Example: fastinit init gpt2 -o build/gpt2")
def _fastinit() -> None:
    """Initialise the weights of neural networks, at the speed of memory."""


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader of our output has seen enough; click ends quietly
        raise
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{error.filename}: {error.strerror}"
        typer.echo(f"fastinit: {reason}", err=True)
        raise typer.Exit(1) from None


class _PeakMemory:
    """The largest private memory seen; the mapped file's pages are not private."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.nbytes = 0
        self.sample()

    def sample(self) -> None:
        memory = self._process.memory_info()
        self.nbytes = max(self.nbytes, memory.rss - getattr(memory, "shared", 0))


@app.command(epilog="Example: fastinit init llama-3-8b -o build/llama --dtype bfloat16 --seed 42")
def init(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help=f"A built-in recipe ({', '.join(builtin())}), a recipe (.toml), or a "
            ".safetensors file or header (.json) whose tensors to initialise anew.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the files.")],
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help=f"Of all floating tensors: {', '.join(FLOATS)}.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Instead of all this process may use.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe whose rules and seed to use for SOURCE's tensors.")
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=NUMBER",
            help="A variable that a recipe has or needs.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the tensors and their rules.")
    ] = False,
) -> None:
    """Write a model's tensors, freshly initialised, as DIR/model.safetensors.

    The same SOURCE and seed give the same file on every machine.
    """
    with _one_line_errors():
        model = checkpoint.load(source, recipe, _numbers(variables or []))
        if dtype is not None:
            model = model.astype(dtype)
        if dry_run:
            _list(model)
            return
        memory = _PeakMemory()
        with _progress_bar(model) as advance:

            def progress(tensor: Tensor) -> None:
                advance(tensor)
                memory.sample()

            written = checkpoint.write(
                model, output, seed=seed, threads=threads, overwrite=overwrite, progress=progress
            )
        _summarise(model, written, memory.nbytes)


def _numbers(settings: list[str]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        try:
            numbers[name] = int(text) if text.isdecimal() else float(text)
        except ValueError:
            raise ValueError(f"--set {setting}: must be NAME=NUMBER") from None
    return numbers


@contextmanager
def _progress_bar(model: Recipe) -> Iterator[Callable[[Tensor], None]]:
    columns = (TextColumn(model.name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(model.name, total=sum(tensor.nbytes for tensor in model.tensors))
        yield lambda tensor: bar.advance(task, tensor.nbytes)


def _list(model: Recipe) -> None:
    """Print a line for each tensor, and the totals."""
    rows = [
        (t.name, "x".join(map(str, t.shape)) or "-", t.dtype.name, f"{rule}  by {rule.pattern!r}")
        for t, rule in model.plan()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    parameters = sum(tensor.size for tensor in model.tensors)
    nbytes = sum(tensor.nbytes for tensor in model.tensors)
    typer.echo(f"{len(rows)} tensors, {parameters:,} elements, {nbytes:,} bytes; nothing written")


def _summarise(model: Recipe, written: checkpoint.Written, private: int) -> None:
    rows = {
        "rules": f"recipe {model.name!r}",
        "tensors": f"{written.tensors:,}",
        "parameters": f"{written.parameters:,}",
        "bytes": f"{written.nbytes:,}",
        "seconds": f"{written.seconds:.2f}",
        "speed": f"{written.nbytes / written.seconds / 1e9:.2f} GB/s",
        "peak memory": f"{private / 1e6:.0f} MB private",
        "files": " ".join(map(str, written.files)),
    }
    for label, value in rows.items():
        typer.echo(f"{label:<11}  {value}")


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
    with _one_line_errors():
        if outputs:
            from fastinit import report, training

            for path in outputs:
                report.check(path)
        trains = len(names) * len(training.RATES) if outputs and steps else 0
        with _steps_bar("probe", len(names) * seeds + trains) as advance:
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


@contextmanager
def _steps_bar(text: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(text, total=total)
        yield lambda: bar.advance(task)


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
    with _one_line_errors():
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
