"""A probe in pictures, by matplotlib: made to be read in grey, too.

Each initializer has its marker and dashes beside its colour. What is measured is a marker, what
theory says a line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fastinit.diagnostics import Probe, Signal
from fastinit.network import Array
from fastinit.training import Run
from fastinit.verdict import FLOATS, geometric_mean

__all__ = ["PANELS", "Panel", "picture"]

# Okabe and Ito's colours, dark to light; https://jfly.uni-koeln.de/color/
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#E69F00")
_MARKERS = "osD^vP"
_DASHES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (1, 3)))
_MARKED = 25  # markers along the depth
_SMALLEST, _LARGEST = 1e-60, 1e60  # of a log axis; beyond it nothing is told apart


def _style(index: int) -> dict[str, Any]:
    i = index % len(_COLOURS)
    return {"color": _COLOURS[i], "marker": _MARKERS[i], "linestyle": _DASHES[i]}


def _over_depth(axes: Any, probe: Probe, measured: str) -> None:
    """Draw a standard deviation over the depth: markers and range of the seeds, theory's line."""
    drawn: list[Array] = []
    for index, signal in enumerate(probe):
        series: Array = getattr(signal, measured)
        style = _style(index)
        layers = np.arange(series.shape[1])
        middle = geometric_mean(series)
        marked = slice(None, None, max(1, len(layers) // _MARKED))
        nothing = "" if (middle[1:-1] > 0).any() else ": 0"
        axes.plot(
            layers[marked],
            _positive(middle)[marked],
            style["marker"],
            color=style["color"],
            markersize=4,
            label=f"{signal.name}{nothing}",
        )
        low, high = _positive(series.min(axis=0)), _positive(series.max(axis=0))
        axes.fill_between(layers, low, high, color=style["color"], alpha=0.2, linewidth=0)
        drawn.append(middle)
        if signal.theory is not None:
            line = getattr(signal.theory, measured)
            axes.plot(
                layers, _positive(line), style["linestyle"], color=style["color"], linewidth=1
            )
    axes.set_yscale("log")
    _limits(axes, np.concatenate(drawn))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("layer (0: the input)")
    axes.grid(alpha=0.3)


def _positive(series: Array) -> Array:
    """Return the series without what a log axis cannot show."""
    return np.where(np.isfinite(series) & (series > 0), series, np.nan)


def _limits(axes: Any, drawn: Array) -> None:
    """Set the range of a log axis, and mark float16's range if it leaves that."""
    shown = drawn[np.isfinite(drawn) & (drawn > _SMALLEST) & (drawn < _LARGEST)]
    if not shown.size:
        return
    low, high = shown.min() / 3, shown.max() * 3
    axes.set_ylim(low, high)
    for limit in FLOATS["float16"]:
        if low < limit < high:
            axes.axhline(limit, color="0.5", linewidth=0.8)
            axes.annotate(
                f"float16's {'largest' if limit > 1 else 'smallest normal'}",
                (0.99, limit),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=7,
                color="0.3",
            )


def _depth(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    signal, gradient = figure.subplots(1, 2)
    _over_depth(signal, probe, "std")
    signal.set_title("Forward: the signal")
    signal.set_ylabel("std of the activations")
    _over_depth(gradient, probe, "gradient")
    gradient.set_title("Backward: the gradient")
    gradient.set_ylabel("std of dJ/dx")
    signal.legend(title="markers: measured\nlines: theory", fontsize=8, title_fontsize=7)


def _histograms(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    """Draw a row of histograms for each initializer, a column for each layer shown."""
    shown = [signal for signal in probe if signal.histograms]
    columns = max(len(signal.histograms) for signal in shown)
    grid = figure.subplots(len(shown), columns, sharex=True, squeeze=False)
    for index, (row, signal) in enumerate(zip(grid, shown, strict=True)):
        for axes in row[len(signal.histograms) :]:
            axes.set_axis_off()
        for axes, histogram in zip(row, signal.histograms, strict=False):
            colour = _style(index)["color"]
            axes.stairs(histogram.density, histogram.edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(histogram.density, histogram.edges, color=colour, linewidth=0.8)
            axes.set_yscale("log")
            axes.set_ylim(1e-3, 2e1)
            axes.tick_params(labelsize=7, labelleft=axes is row[0])
            axes.set_title(f"layer {histogram.layer}", fontsize=8)
        row[0].set_ylabel(signal.name, fontsize=8)
    figure.supxlabel("activation / its std in that layer", fontsize=9)
    figure.supylabel("density, log scale", fontsize=9)


def _spectrum(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    axes = figure.subplots()
    for index, signal in enumerate(probe):
        values = _positive(geometric_mean(signal.singular_values))
        # What rounding leaves where there is nothing.
        values = np.where(values > np.nanmax(values, initial=0.0) * 1e-14, values, np.nan)
        if np.isfinite(values).any():
            rank = (np.arange(len(values)) + 0.5) / len(values)
            axes.plot(
                rank, values, **_style(index), markevery=0.08, markersize=4, label=signal.name
            )
    axes.set_yscale("log")
    axes.set_title("Jacobian d output / d input")
    axes.set_xlabel("fraction of the directions")
    axes.set_ylabel("singular value")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _loss(figure: Any, _: Probe, runs: Sequence[Run]) -> None:
    axes = figure.subplots()
    for index, run in enumerate(runs):
        label = f"{run.name}, alpha = {run.rate:g}"
        axes.plot(run.loss, **_style(index), markevery=0.1, markersize=4, label=label)
    axes.axhline(np.log(10), color="0.5", linewidth=0.8)
    where = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
    axes.annotate("guessing", (0.99, np.log(10)), fontsize=7, color="0.3", **where)
    axes.set_ylim(0, 3.2)
    axes.set_title("Gradient descent on 256 digits")
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy (nats)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")


class Panel(NamedTuple):
    """A part of a picture: its size in inches, what draws it, and when there is what to draw."""

    width: float
    height: Callable[[Probe], float]
    draw: Callable[[Any, Probe, Sequence[Run]], None]
    there: Callable[[Probe, Sequence[Run]], bool]
    text: str  # what it shows, for those who do not see it


def _any(test: Callable[[Signal], object]) -> Callable[[Probe, Sequence[Run]], bool]:
    return lambda probe, _: any(map(test, probe))


PANELS = {
    "depth": Panel(
        10.0,
        lambda _: 4.0,
        _depth,
        lambda *_: True,
        "Standard deviations of activations and gradients over the depth, log scale",
    ),
    "histograms": Panel(
        10.0,
        lambda probe: 0.6 + 1.1 * sum(bool(signal.histograms) for signal in probe),
        _histograms,
        _any(lambda signal: signal.histograms),
        "Histograms of the activations of some layers",
    ),
    "spectrum": Panel(
        5.0,
        lambda _: 4.0,
        _spectrum,
        _any(lambda signal: np.nan_to_num(signal.singular_values).any()),
        "Singular values of the Jacobian, log scale",
    ),
    "loss": Panel(
        5.0,
        lambda _: 4.0,
        _loss,
        lambda _, runs: bool(runs),
        "Loss over the steps of gradient descent",
    ),
}


def picture(
    probe: Probe, runs: Sequence[Run] = (), panels: Sequence[str] = tuple(PANELS)
) -> Figure:
    """Return a figure with the panels asked for, one below the other; save it with `savefig`.

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
    >>> len(picture(found, panels=["depth"]).subfigs[0].axes)
    2
    """
    shown = [PANELS[name] for name in panels if PANELS[name].there(probe, runs)]
    heights = [panel.height(probe) for panel in shown]
    size = (max(panel.width for panel in shown), sum(heights))
    figure = Figure(size, layout="constrained", dpi=120)
    parts = figure.subfigures(len(shown), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, part in zip(shown, parts, strict=True):
        panel.draw(part, probe, runs)
    return figure
