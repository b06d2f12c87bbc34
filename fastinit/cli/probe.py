"""``fastinit probe``: parses, calls `fastinit.diagnostics`, and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastinit import diagnostics, initializer
from fastinit.cli._terminal import AsJson, one_line_errors, print_json, steps_bar
from fastinit.diagnostics._network import ACTIVATIONS

_COMPARED = ["xavier", "he", "normal:0.01"]


EXAMPLE = (
    "Example: fastinit probe --depth 50 --activation relu --compare xavier he normal:0.01 "
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
            help=f"Which to compare, by default {' '.join(_COMPARED)}; of {initializer.FORMS}.",
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
    as_json: AsJson = False,
) -> None:
    """Say which initializers let a deep network train, before it is trained.

    -o may be given several times; without it only the verdicts are printed.
    """
    names = list(dict.fromkeys([*(compare or []), *(more or [])])) or _COMPARED
    outputs = output or []
    with one_line_errors():
        if outputs:
            from fastinit.diagnostics import report, training

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
    if as_json:
        print_json(found.as_dict() | {"training": diagnostics.plain(runs)})
    else:
        _show(found, outputs)


def _show(found: diagnostics.Probe, files: list[Path]) -> None:
    """Print the verdicts, what to use instead, and the files."""
    typer.echo(f"{found.setting}\n{found}")
    for one in found:
        if one.advice:
            typer.echo(f"instead of {one.name}: {one.advice}")
    if files:
        typer.echo(f"files: {' '.join(map(str, files))}")
