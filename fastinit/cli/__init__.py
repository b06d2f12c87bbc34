"""The command line: one module for each group of commands; each parses, calls, and prints."""

from __future__ import annotations

from typing import Annotated

import ml_dtypes  # noqa: F401  a missing package shows now, and not at the first bfloat16
import safetensors  # noqa: F401
import typer

import fastinit
from fastinit import _kernels
from fastinit.cli import bench, checkpoint, probe
from fastinit.cli._terminal import STATUSES, say

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"fastinit {fastinit.__version__}, stream {_kernels.STREAM}")
        raise typer.Exit


@app.callback(epilog=f"Example: fastinit init gpt2 -o build/gpt2\n\n{STATUSES}")
def _fastinit(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Initialise the weights of neural networks, at the speed of memory."""


app.command(epilog=checkpoint.INIT)(checkpoint.init)
app.command(epilog=checkpoint.CHECK)(checkpoint.check)
app.command(epilog=checkpoint.SHOW)(checkpoint.show)
app.command("list", epilog=checkpoint.LIST)(checkpoint.list_sources)
app.command(epilog=probe.EXAMPLE)(probe.probe)
app.command(epilog=bench.EXAMPLE)(bench.bench)
