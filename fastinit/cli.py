"""The command line: it parses, calls `fastinit.checkpoint` or `fastinit.diagnostics`, prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

from fastinit import checkpoint, diagnostics, specs
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the tensors and their rules.")
    ] = False,
) -> None:
    """Write a model's tensors, freshly initialised, as DIR/model.safetensors.

    The same SOURCE and seed give the same file on every machine.
    """
    with _one_line_errors():
        model = checkpoint.load(source, recipe)
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
    for signal in found:
        if signal.advice:
            typer.echo(f"instead of {signal.name}: {signal.advice}")
    if files:
        typer.echo(f"files: {' '.join(map(str, files))}")
