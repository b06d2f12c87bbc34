"""``fastinit probe``: parses, calls `fastinit.diagnostics`, and prints."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastinit import diagnostics, initializer
from fastinit._arguments import integer
from fastinit.cli._terminal import (
    AsJson,
    PeakMemory,
    one_line_errors,
    print_json,
    refuse,
    say,
    share_bar,
    steps_bar,
)
from fastinit.gains import ACTIVATIONS

if TYPE_CHECKING:
    from fastinit.torch import _configs

_MOST = 10**6  # of all that is counted
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
            help="A Hugging Face config.json, or its directory: its model is probed at full size. "
            "All others are initializers or recipes to compare, as with --compare.",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INITIALIZER...",
            help=f"The initializers to compare, by default {' '.join(_COMPARED)}. Allowed: "
            f"{initializer.FORMS}.",
        ),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, max=_MOST, help="The number of layers.")] = 50,
    width: Annotated[
        int,
        typer.Option(min=1, max=_MOST, help="The width of each layer; with --image, its channels."),
    ] = 128,
    activation: Annotated[
        str, typer.Option(help=f"The activation: one of {', '.join(ACTIVATIONS)}.")
    ] = "relu",
    residual: Annotated[bool, typer.Option("--residual", help="Add skip connections.")] = False,
    layer_norm: Annotated[
        bool, typer.Option("--layer-norm", help="Put a LayerNorm before each activation.")
    ] = False,
    image: Annotated[
        int | None,
        typer.Option(
            min=1, max=_MOST, help="Use 3 x 3 convolutions over N x N images.", metavar="N"
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=_MOST, help="The number of samples: by default 256, and 1 for a CONFIG."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=_MOST, help="How many seeds are tried: 0, 1, 2, ...")
    ] = 3,
    steps: Annotated[
        int,
        typer.Option(
            min=0,
            max=_MOST,
            help="How many steps of gradient descent on digits the page shows; 0 for none.",
        ),
    ] = 60,
    tokens: Annotated[
        str,
        typer.Option(
            metavar="N|FILE",
            help="For a CONFIG: how many random tokens each sample has; or a file of tokens, a "
            ".npy or a text with a sample on each line.",
        ),
    ] = "128",
    recipe: Annotated[
        str | None,
        typer.Option(
            help="For a CONFIG: a recipe, by its name or file, whose rules replace the model's own."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="A:B",
            help="For a CONFIG: run the blocks A to B - 1 alone; -2: stands for the last two.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="For a CONFIG: the seed of its weights and tokens.")
    ] = 0,
    dtype: Annotated[
        str, typer.Option(help="For a CONFIG: the dtype of its weights, float32 or bfloat16.")
    ] = "float32",
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="A file to write: a page (.html), a picture (.png) or numbers (.json).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say which initializers let a deep network train, before it is trained.

    The option -o may be given several times. Without it, only the verdicts are printed.

    With a CONFIG, its model is probed at full size: by its own rules, and by the recipes that
    --compare names. Its weights are drawn when they are used, and not kept: the largest block
    decides how much memory is needed.
    """
    if more and _is_config(more[0]):
        with one_line_errors():
            refuse(context, _SMALL, "of small networks; CONFIG is a model of its own")
            rules = [recipe, *(compare or []), *more[1:]]
            _probe_config(
                Path(more[0]), rules, tokens, batch, seed, dtype, layers, output or [], as_json
            )
        return
    with one_line_errors():
        refuse(context, _MODELS, "of models; give a CONFIG")
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
    say(f"{result.setting}\n{result}")
    for one in result:
        if one.advice:
            say(f"instead of {one.name}: {one.advice}")
    if files:
        say(f"files: {' '.join(map(str, files))}")


_SMALL = ("depth", "width", "activation", "residual", "layer_norm", "image", "seeds", "steps")


_MODELS = ("tokens", "seed", "dtype", "recipe", "layers")


def _is_config(text: str) -> bool:
    return text.endswith(".json") or Path(text).is_dir()


def _probe_config(
    path: Path,
    rules: Sequence[str | None],
    tokens: str,
    samples: int | None,
    seed: int,
    dtype: str,
    layers: str | None,
    outputs: list[Path],
    as_json: bool,
) -> None:
    """Probe a model of Hugging Face, and print what came out."""
    if find_spec("torch") is None:
        raise ValueError(f"{path} needs PyTorch: pip install 'fastinit-nn[hf]'")
    import fastinit.torch
    from fastinit.torch import _configs
    from fastinit.torch._streaming import only

    if dtype not in _configs.DTYPES:
        raise ValueError(f"--dtype {dtype}: allowed: {', '.join(_configs.DTYPES)}")
    if outputs:
        from fastinit.diagnostics import report

        for each in outputs:
            report.check(each)
    model = _configs.model_of(path, dtype)
    given = _tokens(tokens)
    if samples is not None and not isinstance(given, int):
        raise ValueError(f"--batch {samples} is of random tokens; {tokens} says how many samples")
    with _their_errors(path):
        inputs = _configs.batch_for(model, given, samples or 1, seed)
    chosen = None if layers is None else _slice(layers)
    memory, start = PeakMemory(), time.perf_counter()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(f"{type(model).__name__}, {parameters:,} parameters, {dtype}", err=True)
    with only(model, chosen), _their_errors(path):
        work = _configs.work(model) * len(rules)
        _show_estimate(_configs.estimate(model, inputs), len(rules))
    stopped = False
    with share_bar("probe", work) as advance:

        def progress(weights: int) -> None:
            advance(weights)
            memory.sample()

        try:
            with _their_errors(path):
                result = fastinit.torch.probe(
                    model,
                    inputs,
                    _configs.loss_of,
                    seed=seed,
                    compare=rules,
                    layers=chosen,
                    progress=progress,
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
    say(f"{seconds:.1f} s, peak memory {memory.nbytes / 1e9:.2f} GB private", err=as_json)
    if outputs and not as_json:
        say(f"files: {' '.join(map(str, outputs))}")
    if stopped:
        raise typer.Exit(130)


@contextmanager
def _their_errors(path: Path) -> Iterator[None]:
    """Say in one line what the code of a model's author makes of its config."""
    try:
        yield
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{path}: the model cannot be probed: {error}") from error


def _tokens(text: str) -> Any:
    """Return a number of tokens, or the tokens of a file."""
    if text.isdecimal():
        return integer("--tokens", int(text), 1, 2**31)
    from fastinit.torch import _configs

    return _configs.read_tokens(Path(text))


def _slice(text: str) -> slice:
    """Return the blocks that A:B names, as Python counts."""
    matched = re.fullmatch(r"(-?\d*):(-?\d*)", text)
    if not matched or "-" in matched.groups():
        raise ValueError(f"--layers {text} must be A:B, such as 0:2, or -2: for the last two")
    return slice(*(int(part) if part else None for part in matched.groups()))


def _show_estimate(estimate: _configs.Estimate, rules: int) -> None:
    seconds = estimate.seconds * rules
    span = f"{seconds / 60:.0f} min" if seconds > 90 else f"{max(1.0, seconds):.0f} s"
    say(
        f"about {span}, and {estimate.nbytes / 1e9:.1f} GB; the largest block has "
        f"{estimate.block / 1e9:.2f} GB",
        err=True,
    )


def _show_model(result: diagnostics.Probe) -> None:
    """Print the verdicts, the loss, and what becomes of the gradient over the depth."""
    say(str(result))
    for one in result:
        signal, gradient = one.std[0], one.gradient[0]
        say(
            f"{one.name}: from the last block back to the first the gradient by a block's output "
            f"changes {gradient[1] / gradient[-1]:.3g}-fold, and through the first block "
            f"{gradient[0] / gradient[1]:.3g}-fold; forward the signal changes "
            f"{signal[1] / signal[0]:.3g}-fold through the first block, and from there to the last "
            f"{signal[-1] / signal[1]:.3g}-fold"
        )
        if one.inside is not None:
            say(
                f"{one.name}: loss {one.inside.loss:.4g}; a model that knows nothing has "
                f"{one.inside.guess:.4g}; std of the logits {one.inside.logits:.3g}"
            )
        if one.advice:
            say(f"instead of {one.name}: {one.advice}")
