"""A probe in pictures, by matplotlib: made to be read in grey, too.

Each initializer has its marker and dashes beside its colour. What is measured is a marker, what
theory says a line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fastinit.diagnostics import Probe, Signal
from fastinit.diagnostics._activations import Array
from fastinit.diagnostics._verdict import NUMBER_RANGES, geometric_mean
from fastinit.diagnostics.training import CLASSES, DIGITS, Run

__all__ = ["PANELS", "Panel", "picture"]

# Okabe and Ito's colours, dark to light; https://jfly.uni-koeln.de/color/
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#E69F00")
_MARKERS = "osD^vP"
_DASHES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (2, 1)))
_WIDTH = 10.0  # of a page, in inches
_MARKED = 25  # markers along the depth
_SMALLEST, _LARGEST = 1e-45, 1e45  # of the depth's axis: a little more than bfloat16 holds


def _style(index: int) -> dict[str, Any]:
    i = index % len(_COLOURS)
    return {"color": _COLOURS[i], "marker": _MARKERS[i], "linestyle": _DASHES[i], "markersize": 4}


def _some(count: int, index: int) -> slice:
    """Return which of so many points get a marker: not all lines the same ones."""
    step = max(1, count // 10)
    return slice(index * step // len(_MARKERS) % step, None, step)


def _legend(figure: Any, labels: Sequence[str], title: str | None = None) -> None:
    """Name the styles above the axes, where they hide nothing."""
    handles = [Line2D([], [], **_style(index), label=label) for index, label in enumerate(labels)]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=max(1, round(figure.bbox.width / figure.dpi / 2.5)),
        title=title,
        fontsize=8,
        title_fontsize=8,
    )


def _note(axes: Any, height: float, text: str, side: str = "right") -> None:
    """Draw a level across the axes, with its meaning at one side."""
    axes.axhline(height, color="0.5", linewidth=0.8, zorder=1)
    axes.annotate(
        text,
        (0.99 if side == "right" else 0.01, height),
        xytext=(0, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha=side,
        va="bottom",
        fontsize=7,
        color="0.2",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
    )


def _over_depth(axes: Any, probe: Probe, measured: str, side: str) -> None:
    """Draw a standard deviation over the depth: markers and range of the seeds, theory's line."""
    drawn: list[Array] = []
    for index, signal in enumerate(probe):
        series: Array = getattr(signal, measured)
        style = _style(index)
        dashes = style.pop("linestyle")
        layers = np.arange(series.shape[1])
        middle = geometric_mean(series)
        marked = slice(None, None, max(1, len(layers) // _MARKED))
        axes.plot(layers[marked], _positive(middle)[marked], **style, linestyle="none")
        low, high = _positive(series.min(axis=0)), _positive(series.max(axis=0))
        axes.fill_between(layers, low, high, color=style["color"], alpha=0.2, linewidth=0)
        drawn.append(middle)
        line = getattr(signal.theory, measured) if signal.theory else middle
        axes.plot(layers, _positive(line), color=style["color"], linestyle=dashes, linewidth=1)
    axes.set_yscale("log")
    _limits(axes, np.concatenate(drawn), side)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer (0: the input)")
    axes.grid(alpha=0.3)


def _positive(series: Array) -> Array:
    """Return the series without what a log axis cannot show."""
    return np.where(np.isfinite(series) & (series > 0), series, np.nan)


def _limits(axes: Any, drawn: Array, side: str) -> None:
    """Set the range of a log axis, and mark where 16-bit floats end if it goes so far."""
    shown = np.log10(np.clip(drawn[drawn > 0], _SMALLEST, _LARGEST))
    if not shown.size:
        return
    margin = max(0.5, 0.06 * np.ptp(shown))
    low, high = 10 ** (shown.min() - margin), 10 ** (shown.max() + margin)
    axes.set_ylim(low, high)
    for dtype in ("float16", "bfloat16"):
        for limit, text in zip(NUMBER_RANGES[dtype], ("min", "max"), strict=True):
            if low < limit < high:
                _note(axes, limit, f"{dtype} {text}", side)


def _depth(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    signal, gradient = figure.subplots(1, 2)
    # Notes go to the side that the lines have left, or come from.
    _over_depth(signal, probe, "std", "right")
    signal.set_title("Forward: the signal")
    signal.set_ylabel("std of the activations x")
    _over_depth(gradient, probe, "gradient", "left")
    gradient.set_title("Backward: the gradient")
    gradient.set_ylabel("std of dJ/dx")
    labels = [signal.name + ": 0" * _all_zero(signal) for signal in probe]
    theory = all(signal.theory for signal in probe)
    _legend(figure, labels, "markers: measured; lines: theory" if theory else None)


def _all_zero(signal: Signal) -> bool:
    """Return whether no layer lets anything through: a log axis then shows nothing."""
    return not (signal.std[:, 1:] > 0).any()


def _histograms(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    """Draw a row of histograms for each initializer, a column for each layer shown."""
    shown = [(i, signal) for i, signal in enumerate(probe) if signal.histograms]
    columns = max(len(signal.histograms) for _, signal in shown)
    grid = figure.subplots(len(shown), columns, sharex=True, sharey=True, squeeze=False)
    grid[0, 0].set_yscale("log")
    grid[0, 0].set_ylim(1e-3, 2e1)
    for row, (index, signal) in zip(grid, shown, strict=True):
        for axes in row[len(signal.histograms) :]:
            axes.set_axis_off()
        for axes, histogram in zip(row, signal.histograms, strict=False):
            colour = _style(index)["color"]
            axes.stairs(histogram.density, histogram.edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(histogram.density, histogram.edges, color=colour, linewidth=0.8)
            axes.tick_params(labelsize=7)
            axes.set_title(f"{signal.name}, layer {histogram.layer}", fontsize=8)
    figure.suptitle("Histograms of the activations")
    figure.supxlabel("activation / its std in that layer", fontsize=9)
    figure.supylabel("density", fontsize=9)


def _spectrum(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    axes = figure.subplots()
    for index, signal in enumerate(probe):
        values = _positive(geometric_mean(signal.singular_values))
        # What rounding leaves where there is nothing.
        values = np.where(values > np.nanmax(values, initial=0.0) * 1e-14, values, np.nan)
        rank = (np.arange(len(values)) + 0.5) / len(values)
        axes.plot(rank, values, **_style(index), markevery=_some(np.isfinite(values).sum(), index))
    axes.set_yscale("log")
    axes.set_xlim(-0.02, 1.02)
    axes.set_title("Jacobian d output / d input")
    axes.set_xlabel("fraction of the directions")
    axes.set_ylabel("singular value")
    axes.grid(alpha=0.3)
    _legend(figure, [signal.name for signal in probe])


def _loss(figure: Any, _: Probe, runs: Sequence[Run]) -> None:
    axes = figure.subplots()
    for index, run in enumerate(runs):
        axes.plot(run.loss, **_style(index), markevery=_some(len(run.loss), index))
    _note(axes, np.log(CLASSES), "guessing")
    axes.set_ylim(0, 3.2)
    axes.set_title(f"Gradient descent on {DIGITS} digits")
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy (nats)")
    axes.grid(alpha=0.3)
    ends = [f"alpha = {run.rate:g}" if np.isfinite(run.end) else "overflows" for run in runs]
    _legend(figure, [f"{run.name}, {end}" for run, end in zip(runs, ends, strict=True)])


class Panel(NamedTuple):
    """A part of a picture: its size in inches, what draws it, and when there is what to draw."""

    width: float
    height: Callable[[Probe], float]
    draw: Callable[[Any, Probe, Sequence[Run]], None]
    has_data: Callable[[Probe, Sequence[Run]], bool]
    text: str  # what it shows, for those who do not see it


def _any(test: Callable[[Signal], object]) -> Callable[[Probe, Sequence[Run]], bool]:
    return lambda probe, _: any(map(test, probe))


PANELS = {
    "depth": Panel(
        _WIDTH,
        lambda _: 4.4,
        _depth,
        lambda *_: True,
        "Standard deviations of activations and gradients over the depth, log scale",
    ),
    "histograms": Panel(
        _WIDTH,
        lambda probe: 0.8 + 1.1 * sum(bool(signal.histograms) for signal in probe),
        _histograms,
        _any(lambda signal: signal.histograms),
        "Histograms of the activations of some layers",
    ),
    "spectrum": Panel(
        _WIDTH / 2,
        lambda _: 4.2,
        _spectrum,
        _any(lambda signal: np.nan_to_num(signal.singular_values).any()),
        "Singular values of the Jacobian, log scale",
    ),
    "loss": Panel(
        _WIDTH / 2,
        lambda _: 4.2,
        _loss,
        lambda _, runs: bool(runs),
        "Loss over the steps of gradient descent",
    ),
}


def picture(
    probe: Probe, runs: Sequence[Run] = (), panels: Sequence[str] = tuple(PANELS)
) -> Figure:
    """Return a figure with the panels asked for, from top to bottom; save it with `savefig`.

    Parameters
    ----------
    probe : Probe
        What to show.
    runs : sequence of Run
        Training runs, for the panel "loss".
    panels : sequence of {"depth", "histograms", "spectrum", "loss"}
        Those for which there is nothing to show are left out.

    Examples
    --------
    >>> found = fi.diagnostics.probe([16] * 5, "relu", "he", seeds=[1])
    >>> len(picture(found, panels=["depth"]).axes)
    2
    """
    rows = _rows([PANELS[name] for name in panels if PANELS[name].has_data(probe, runs)])
    heights = [max(panel.height(probe) for panel in row) for row in rows]
    size = (max(sum(panel.width for panel in row) for row in rows), sum(heights))
    figure = Figure(size, layout="constrained", dpi=120)
    parts = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, part in zip(rows, parts, strict=True):
        for panel, place in zip(row, part.subfigures(1, len(row), squeeze=False)[0], strict=True):
            panel.draw(place, probe, runs)
    return figure


def _rows(panels: Sequence[Panel]) -> list[list[Panel]]:
    """Return panels side by side where they fit."""
    rows: list[list[Panel]] = [[]]
    for panel in panels:
        if sum(other.width for other in rows[-1]) + panel.width > _WIDTH:
            rows.append([])
        rows[-1].append(panel)
    return [row for row in rows if row]
