"""A probe as a page, a picture or numbers: one file each, which appears when it is whole."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fastinit import diagnostics
from fastinit._errors import value_error
from fastinit._files import appearing
from fastinit.diagnostics import Probe, Signal, _verdict, pictures
from fastinit.diagnostics.training import RATES, Run

__all__ = ["check", "html", "write"]


def html(probe: Probe, runs: Sequence[Run] = ()) -> str:
    """Return a page with the verdicts, the pictures and all numbers, which needs no other file.

    Parameters
    ----------
    probe : Probe
        From `fastinit.diagnostics.probe`.
    runs : sequence of Run
        A training run for each initializer of the probe, or none.

    Examples
    --------
    >>> page = html(fi.diagnostics.probe([16] * 5, "relu", "he", seeds=[1]))
    >>> "healthy" in page
    True
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = _number
    text = files("fastinit.diagnostics").joinpath("report.html").read_text("utf-8")
    template = environment.from_string(text)
    page: str = template.render(
        setting=probe.setting or ", ".join(signal.name for signal in probe),
        small=probe.setting is not None,
        inside=any(signal.inside for signal in probe),
        columns=lambda signal: _columns(signal, {run.name: run for run in runs}),
        probe=list(probe),
        seeds=len(next(iter(probe)).std),
        theory=any(signal.theory for signal in probe),
        runs={run.name: run for run in runs},
        steps=len(runs[0].loss) - 1 if runs else 0,
        rates=", ".join(map(str, RATES)),
        saturated=diagnostics.SATURATED,
        limit=f"{_verdict.LIMIT:g}",
        rows=_rows,
        image=cache(lambda panel: _image(probe, runs, panel)),
    )
    return page


def _columns(signal: Signal, runs: Mapping[str, Run]) -> Iterator[tuple[str, str]]:
    """Yield the labels and cells of an initializer's row; what nothing is known of is left out."""
    yield "initializer", signal.name
    yield "verdict", signal.verdict.kind
    yield "signal per layer", f"\N{MULTIPLICATION SIGN} {_number(signal.verdict.signal.rate)}"
    yield "gradient per layer", f"\N{MULTIPLICATION SIGN} {_number(signal.verdict.gradient.rate)}"
    for label, dtype in _SHOWN.items():
        yield label, _fits(signal, dtype)
    if np.isfinite(signal.saturation).any():
        yield "saturated", f"{_number(100 * signal.saturation.mean())}\N{NO-BREAK SPACE}%"
        yield "dead units", f"{_number(100 * signal.dead.mean())}\N{NO-BREAK SPACE}%"
    if signal.singular_values.size:
        yield "Jacobian's anisotropy", _number(signal.anisotropy)
    if signal.inside is not None:
        yield "loss", _number(signal.inside.loss)
        yield "of a guess", _number(signal.inside.guess)
        yield "std of logits", _number(signal.inside.logits)
    if signal.name in runs:
        yield "loss (nats)", _number(runs[signal.name].end)
    yield "instead", signal.advice


_SHOWN = {"float16": "float16", "bfloat16": "bfloat16", "float8 (e4m3)": "float8_e4m3fn"}


def _fits(signal: Signal, dtype: str) -> str:
    """Return the layers at which activations and gradients leave a format."""
    forward, back = signal.out_of_range(dtype)
    parts = [f"x: {forward}"] * (forward is not None) + [f"gradient: {back}"] * (back is not None)
    return ", ".join(parts) or "all"


def _rows(signal: Signal) -> Iterator[tuple[str, ...]]:
    """Yield a line of the table for each layer, means over the seeds."""
    theory = signal.theory
    expected = (
        (theory.std, theory.gradient) if theory else (np.full(len(signal.layers), np.nan),) * 2
    )
    columns = [
        signal.mean.mean(axis=0),
        signal.std.mean(axis=0),
        expected[0],
        signal.gradient.mean(axis=0),
        expected[1],
        *(
            np.append(np.nan, of_layer.mean(axis=0))
            for of_layer in (
                100 * signal.saturation,
                100 * signal.dead,
                signal.weight_norm,
                signal.weight_to_gradient,
            )
        ),
    ]
    for layer, *numbers in zip(signal.layers, *columns, strict=True):
        yield layer, *map(_number, numbers)


def _number(value: float) -> str:
    """Return three digits, and a dash for what is not finite."""
    return f"{value:.3g}" if math.isfinite(value) else "\N{EN DASH}"


def _image(probe: Probe, runs: Sequence[Run], panel: str) -> Markup:
    """Return a panel in two widths; nothing if there is nothing to show."""
    drawn = pictures.PANELS[panel]
    if not drawn.has_data(probe, runs):
        return Markup("")
    wide, narrow = (_svg(probe, runs, panel, width) for width in (10.0, 4.2))
    return Markup(
        '<picture><source media="(max-width: 40rem)" srcset="{}"><img alt="{}" src="{}"></picture>'
    ).format(narrow, drawn.text, wide)


def _svg(probe: Probe, runs: Sequence[Run], panel: str, width: float) -> str:
    """Return a panel as the address of an SVG; its ground is the page's."""
    file = io.BytesIO()
    figure = pictures.picture(probe, runs, [panel], width)
    figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"


def _page(probe: Probe, runs: Sequence[Run]) -> bytes:
    return html(probe, runs).encode()


def _png(probe: Probe, runs: Sequence[Run]) -> bytes:
    file = io.BytesIO()
    pictures.picture(probe, runs).savefig(file, format="png")
    return file.getvalue()


def _json(probe: Probe, runs: Sequence[Run]) -> bytes:
    everything = probe.as_dict() | {"training": diagnostics.plain(runs)}
    return json.dumps(everything, indent=1, allow_nan=False).encode()


_FORMATS: dict[str, Callable[[Probe, Sequence[Run]], bytes]] = {
    ".html": _page,
    ".png": _png,
    ".json": _json,
}


def check(path: Path) -> None:
    """Raise unless a report can be written there.

    Raises
    ------
    ValueError
        If the name does not end in .html, .png or .json.
    FileNotFoundError
        If the directory does not exist.

    Examples
    --------
    >>> check(Path("report.html"))
    """
    if path.suffix not in _FORMATS:
        raise value_error(f"output={str(path)!r} must end in {', '.join(_FORMATS)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(2, "No such directory", str(path.parent))


def write(path: Path, probe: Probe, runs: Sequence[Run] = ()) -> None:
    """Write a report; its suffix says which: a page, a picture or numbers.

    Parameters
    ----------
    path : Path
        Ends in .html, .png or .json; an existing file is replaced.
    probe, runs
        As in `html`.

    Raises
    ------
    ValueError, OSError
        As `check`, or if the file cannot be written; then no file appears.
    """
    check(path)
    content = _FORMATS[path.suffix](probe, runs)
    with appearing(path) as file:
        file.write(content)
