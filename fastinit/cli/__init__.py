"""The command line: one module for each group of commands; each parses, calls, and prints."""

from __future__ import annotations

import ml_dtypes  # noqa: F401  a missing package shows now, and not at the first bfloat16
import safetensors  # noqa: F401
import typer

from fastinit.cli import bench, checkpoint, probe

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog="Example: fastinit init gpt2 -o build/gpt2")
def _fastinit() -> None:
    """Initialise the weights of neural networks, at the speed of memory."""


app.command(epilog=checkpoint.INIT)(checkpoint.init)
app.command(epilog=checkpoint.CHECK)(checkpoint.check)
app.command(epilog=checkpoint.SHOW)(checkpoint.show)
app.command(epilog=probe.EXAMPLE)(probe.probe)
app.command(epilog=bench.EXAMPLE)(bench.bench)
