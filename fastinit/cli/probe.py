"""``fastinit probe``: parses, calls `fastinit.diagnostics`, and prints."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from fastinit import diagnostics, initializer
from fastinit.cli._terminal import (
    AsJson,
    PeakMemory,
    one_line_errors,
    print_json,
    share_bar,
    steps_bar,
)
from fastinit.gains import ACTIVATIONS

_COMPARED = ["xavier", "he", "normal:0.01"]


EXAMPLE = (
    "Example: fastinit probe --depth 50 --activation relu --compare xavier he normal:0.01 "
    "-o report.html"
)


def probe(
    context: typer.Context,
    more: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [INITIALIZER]...",
            help="A Hugging Face config.json, or its directory, whose model to probe at full "
            "size; and more for --compare.",
        ),
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
    batch: Annotated[
        int | None, typer.Option(min=1, help="Number of samples: 256; of a CONFIG: 1.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many: 0, 1, 2, ...")] = 3,
    steps: Annotated[
        int, typer.Option(min=0, help="Of gradient descent on digits, in the page; 0: none.")
    ] = 60,
    tokens: Annotated[
        int, typer.Option(min=1, help="Of a CONFIG: random tokens in each sample.")
    ] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of a CONFIG: of weights and tokens.")] = 0,
    dtype: Annotated[
        str, typer.Option(help="Of a CONFIG's weights: float32 or bfloat16.")
    ] = "float32",
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="Page (.html), picture (.png), numbers (.json)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which initializers let a deep network train, before it is trained.

    -o may be given several times; without it only the verdicts are printed.

    With a CONFIG its model is probed at full size, by its own rules and by the recipes that
    --compare names. Its weights are drawn when they are used, so that the largest block decides
    how much memory that takes.
    """
    if more and _is_config(more[0]):
        with one_line_errors():
            _refuse(context, _SMALL, "of small networks; CONFIG is a model of its own")
            recipes = [*(compare or []), *more[1:]]
            _probe_config(
                Path(more[0]), recipes, tokens, batch or 1, seed, dtype, output or [], as_json
            )
        return
    with one_line_errors():
        _refuse(context, ("tokens", "seed", "dtype"), "of models; give a CONFIG")
    names = list(dict.fromkeys([*(compare or []), *(more or [])])) or _COMPARED
    outputs = output or []
    with one_line_errors():
        if outputs:
            from fastinit.diagnostics import report, training

            for path in outputs:
                report.check(path)
        trains = len(names) * len(training.RATES) if outputs and steps else 0
        with steps_bar("probe", len(names) * seeds + trains) as advance:
            result = diagnostics.probe(
                [width] * (depth + 1),
                activation,
                names,
                residual=residual,
                layer_norm=layer_norm,
                image=(image, image) if image else None,
                batch=batch or 256,
                seeds=range(seeds),
                progress=advance,
            )
            runs = [
                training.descend(result.setting, name, steps=steps, progress=advance)
                for name in names
                if trains and result.setting
            ]
        for path in outputs:
            report.write(path, result, runs)
    if as_json:
        print_json(result.as_dict() | {"training": diagnostics.plain(runs)})
    else:
        _show(result, outputs)


def _show(result: diagnostics.Probe, files: list[Path]) -> None:
    """Print the verdicts, what to use instead, and the files."""
    typer.echo(f"{result.setting}\n{result}")
    for one in result:
        if one.advice:
            typer.echo(f"instead of {one.name}: {one.advice}")
    if files:
        typer.echo(f"files: {' '.join(map(str, files))}")


_SMALL = ("depth", "width", "activation", "residual", "layer_norm", "image", "seeds", "steps")


def _is_config(text: str) -> bool:
    return text.endswith(".json") or Path(text).is_dir()


def _refuse(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Raise if one of these options was given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ValueError(f"--{name.replace('_', '-')} is {reason}")


def _probe_config(
    path: Path,
    recipes: list[str],
    tokens: int,
    batch: int,
    seed: int,
    dtype: str,
    outputs: list[Path],
    as_json: bool,
) -> None:
    """Probe a model of Hugging Face, and print what came out."""
    if find_spec("torch") is None:
        raise ValueError(f"{path} needs PyTorch: pip install 'fastinit-nn[hf]'")
    import fastinit.torch
    from fastinit.torch import _configs

    if dtype not in _configs.DTYPES:
        raise ValueError(f"--dtype {dtype}: allowed: {', '.join(_configs.DTYPES)}")
    if outputs:
        from fastinit.diagnostics import report

        for each in outputs:
            report.check(each)
    model = _configs.model_of(path, dtype)
    inputs = _configs.batch_for(model, tokens, batch, seed)
    compare: list[str | None] = [None, *recipes]
    memory, start = PeakMemory(), time.perf_counter()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    typer.echo(f"{type(model).__name__}, {parameters:,} parameters, {dtype}", err=True)
    stopped = False
    with share_bar("probe", _configs.work(model) * len(compare)) as advance:

        def progress(weights: int) -> None:
            advance(weights)
            memory.sample()

        try:
            result = fastinit.torch.probe(
                model, inputs, _configs.loss_of, seed=seed, compare=compare, progress=progress
            )
        except KeyboardInterrupt as interrupt:
            if not hasattr(interrupt, "probe"):
                raise
            result, stopped = interrupt.probe, True
    for each in outputs:
        report.write(each, result)
    if as_json:
        print_json(result.as_dict())
    else:
        _show_model(result)
    seconds = time.perf_counter() - start
    typer.echo(f"{seconds:.1f} s, peak memory {memory.nbytes / 1e9:.2f} GB private", err=as_json)
    if outputs and not as_json:
        typer.echo(f"files: {' '.join(map(str, outputs))}")
    if stopped:
        raise typer.Exit(130)


def _show_model(result: diagnostics.Probe) -> None:
    """Print the verdicts, the loss, and what becomes of the gradient over the depth."""
    typer.echo(str(result))
    for one in result:
        first, last = one.gradient[0, 0], one.gradient[0, -1]
        typer.echo(
            f"{one.name}: from the last layer back to the first the gradient changes "
            f"{first / last:.3g}-fold, and the signal {one.std[0, -1] / one.std[0, 0]:.3g}-fold "
            "on its way forward"
        )
        if one.inside is not None:
            typer.echo(
                f"{one.name}: loss {one.inside.loss:.4g}; a model that knows nothing has "
                f"{one.inside.guess:.4g}; std of the logits {one.inside.logits:.3g}"
            )
        if one.advice:
            typer.echo(f"instead of {one.name}: {one.advice}")
