"""A probe in pictures, by matplotlib: made to be read in grey, too.

Each initializer has its marker and dashes beside its colour, the same in all pictures. What is
measured is a marker, what theory says a line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fastinit._matplotlib import as_it_is
from fastinit.diagnostics import Probe, Signal
from fastinit.diagnostics._activations import Array
from fastinit.diagnostics._verdict import NUMBER_RANGES, geometric_mean
from fastinit.diagnostics.training import CLASSES, DIGITS, Run

__all__ = ["PANELS", "Panel", "picture"]

# Okabe and Ito's colours, dark to light; https://jfly.uni-koeln.de/color/
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#E69F00")
_MARKERS = "osD^vP"
_DASHES = ("-", "--", "-.", ":", (0, (6, 2, 1, 2, 1, 2)), (0, (2, 1)))
_FAVOURITES = {
    "zeros": 0, "xavier": 1, "he": 2, "orthogonal": 3, "lecun": 4, "constant": 4, "normal": 5,
}  # fmt: skip
_WIDTH = 10.0  # of a page, in inches
_NARROW = 6.0  # below it, what stands side by side stands one below the other
_MARKED = 25  # markers along the depth
_SMALLEST, _LARGEST = 1e-45, 1e45  # of the depth's axis: a little more than bfloat16 holds


def _styles(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return each initializer's style: its family's, or one that no family here has."""
    families = [re.split("[_:( ]", name)[0] for name in names]
    chosen: dict[int, int] = {}  # from the index of a name to that of its style
    for index, family in enumerate(families):
        if family in _FAVOURITES and _FAVOURITES[family] not in chosen.values():
            chosen[index] = _FAVOURITES[family]
    free = [i for i in range(len(_COLOURS)) if i not in chosen.values()] or [0]
    for place, index in enumerate(i for i in range(len(names)) if i not in chosen):
        chosen[index] = free[place % len(free)]
    return [
        {"color": _COLOURS[i], "marker": _MARKERS[i], "linestyle": _DASHES[i], "markersize": 4}
        for i in (chosen[index] for index in range(len(names)))
    ]


def _names(probe: Probe) -> list[str]:
    return [signal.name for signal in probe]


def _is_narrow(figure: Any) -> bool:
    return bool(figure.bbox.width / figure.dpi < _NARROW)


def _some(count: int, index: int) -> slice:
    """Return which of so many points get a marker: not all lines the same ones."""
    step = max(1, count // 10)
    return slice(index * step // len(_MARKERS) % step, None, step)


def _legend(
    figure: Any, names: Sequence[str], title: str | None = None, labels: Sequence[str] = ()
) -> None:
    """Name the initializers' styles above the axes, where they hide nothing."""
    handles = [
        Line2D([], [], **style, label=as_it_is(label))
        for style, label in zip(_styles(names), labels or names, strict=True)
    ]
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
    for signal, style in zip(probe, _styles(_names(probe)), strict=True):
        series: Array = getattr(signal, measured)
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
    _plain_ticks(axes)
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


def _plain_ticks(axes: Any) -> None:
    """Label a log axis by numbers as one writes them, a few in each decade if there are few."""
    low, high = axes.get_ylim()
    few = math.log10(high / low) < 2
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=10))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _depth(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    signal, gradient = figure.subplots(*((2, 1) if _is_narrow(figure) else (1, 2)))
    # Notes go to the side that the lines have left, or come from.
    _over_depth(signal, probe, "std", "right")
    signal.set_title("Forward: the signal")
    signal.set_ylabel("std of the activations x")
    _over_depth(gradient, probe, "gradient", "left")
    gradient.set_title("Backward: the gradient")
    gradient.set_ylabel("std of dJ/dx")
    labels = [signal.name + ": 0" * _all_zero(signal) for signal in probe]
    theory = all(signal.theory for signal in probe)
    title = "markers: measured; lines: theory" if theory else None
    _legend(figure, _names(probe), title, labels)


def _all_zero(signal: Signal) -> bool:
    """Return whether no layer lets anything through: a log axis then shows nothing."""
    return not (signal.std[:, 1:] > 0).any()


def _histograms(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    """Draw a row of histograms for each initializer, a column for each layer shown."""
    styles = _styles(_names(probe))
    shown = [(style, s) for style, s in zip(styles, probe, strict=True) if s.histograms]
    every = 2 if _is_narrow(figure) else 1
    columns = max(len(signal.histograms[::every]) for _, signal in shown)
    grid = figure.subplots(len(shown), columns, sharex=True, sharey=True, squeeze=False)
    grid[0, 0].set_yscale("log")
    grid[0, 0].set_ylim(1e-3, 2e1)
    _plain_ticks(grid[0, 0])
    for row, (style, signal) in zip(grid, shown, strict=True):
        for axes in row[len(signal.histograms[::every]) :]:
            axes.set_axis_off()
        for axes, histogram in zip(row, signal.histograms[::every], strict=False):
            colour = style["color"]
            axes.stairs(histogram.density, histogram.edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(histogram.density, histogram.edges, color=colour, linewidth=0.8)
            axes.tick_params(labelsize=7)
            name = as_it_is(f"{signal.name}, layer {histogram.layer}")
            title = f"{name}\nstd {histogram.std:.2g}"
            axes.set_title(title, fontsize=8)
    figure.suptitle("Histograms of the activations")
    figure.supxlabel("activation / the largest std of the layers in the row", fontsize=9)
    figure.supylabel("density", fontsize=9)


def _spectrum(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    axes = figure.subplots()
    axes.set_yscale("log")
    labels = []
    for index, (signal, style) in enumerate(zip(probe, _styles(_names(probe)), strict=True)):
        values = _positive(geometric_mean(signal.singular_values))
        # What rounding leaves where there is nothing.
        values = np.where(values > np.nanmax(values, initial=0.0) * 1e-14, values, np.nan)
        rank = (np.arange(len(values)) + 0.5) / len(values)
        count = int(np.isfinite(values).sum())
        axes.plot(rank, values, **style, markevery=_some(count, index))
        lost = np.isnan(values)
        if lost.any():  # at the lower edge, which stands for 0
            style |= {"linestyle": "none", "markerfacecolor": "none"}
            at = rank[lost][:: max(1, int(lost.sum()) // _MARKED)]
            edge = axes.get_xaxis_transform()
            axes.plot(at, np.zeros_like(at), **style, transform=edge, clip_on=False)
        labels.append(f"{signal.name}: {count} of {len(values)} are not 0")
    _plain_ticks(axes)
    axes.set_xlim(-0.02, 1.02)
    axes.set_title("Jacobian d output / d input")
    axes.set_xlabel("fraction of the directions")
    axes.set_ylabel("singular value (at the edge: 0)")
    axes.grid(alpha=0.3)
    _legend(figure, _names(probe), labels=labels)


def _inside(figure: Any, probe: Probe, _: Sequence[Run]) -> None:
    """Draw what was measured inside a model over its blocks, a part of the figure for each kind."""
    drawn = [(title, of) for title, of in _OF_BLOCKS.items() if _known(probe, of)]
    columns = 1 if _is_narrow(figure) else 3
    rows = -(-len(drawn) // columns)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(drawn) :]:
        axes.set_axis_off()
    for axes, (title, of) in zip(grid, drawn, strict=False):
        for index, (signal, style) in enumerate(zip(probe, _styles(_names(probe)), strict=True)):
            if signal.inside is not None:
                values = _positive(np.array(of(signal), float))
                blocks = np.arange(1, len(values) + 1)
                axes.plot(blocks, values, **style, markevery=_some(len(values), index))
        axes.set_yscale("log")
        _plain_ticks(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("block", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    _legend(figure, _names(probe))


_OF_BLOCKS: dict[str, Callable[[Signal], Any]] = {
    "std of what a block adds": lambda s: s.inside and s.inside.branch,
    "largest |activation|": lambda s: s.inside and s.inside.largest,
    "norm of the weights' gradient": lambda s: s.gradient_norm[0],
    "step / weight, SGD at rate 1": lambda s: s.gradient_norm[0] / s.weight_norm[0],
    "entropy of attention / largest": lambda s: s.inside and s.inside.entropy,
    "load of the busiest expert": lambda s: s.inside and s.inside.load,
}


def _known(probe: Probe, of: Callable[[Signal], Any]) -> bool:
    return any(np.isfinite(np.array(of(s), float)).any() for s in probe if s.inside is not None)


def _loss(figure: Any, _: Probe, runs: Sequence[Run]) -> None:
    axes = figure.subplots()
    names = [run.name for run in runs]
    for index, (run, style) in enumerate(zip(runs, _styles(names), strict=True)):
        axes.plot(run.loss, **style, markevery=_some(len(run.loss), index))
    _note(axes, np.log(CLASSES), "guessing")
    axes.set_ylim(0, 3.2)
    axes.set_title(f"Gradient descent on {DIGITS} digits")
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy (nats)")
    axes.grid(alpha=0.3)
    ends = [f"alpha = {run.rate:g}" if np.isfinite(run.end) else "overflows" for run in runs]
    labels = [f"{name}, {end}" for name, end in zip(names, ends, strict=True)]
    _legend(figure, names, labels=labels)


class Panel(NamedTuple):
    """A part of a picture: its size in inches, what draws it, and when there is what to draw."""

    width: float
    height: Callable[[Probe, bool], float]  # whether the picture is narrow
    draw: Callable[[Any, Probe, Sequence[Run]], None]
    has_data: Callable[[Probe, Sequence[Run]], bool]
    text: str  # what it shows, for those who do not see it


def _parts_inside(probe: Probe) -> int:
    return sum(_known(probe, of) for of in _OF_BLOCKS.values())


def _any(test: Callable[[Signal], object]) -> Callable[[Probe, Sequence[Run]], bool]:
    return lambda probe, _: any(map(test, probe))


PANELS = {
    "depth": Panel(
        _WIDTH,
        lambda _, narrow: 7.6 if narrow else 4.4,
        _depth,
        lambda *_: True,
        "Standard deviations of activations and gradients over the depth, log scale",
    ),
    "histograms": Panel(
        _WIDTH,
        lambda probe, _: 0.8 + 1.3 * sum(bool(signal.histograms) for signal in probe),
        _histograms,
        _any(lambda signal: signal.histograms),
        "Histograms of the activations of some layers",
    ),
    "inside": Panel(
        _WIDTH,
        lambda probe, narrow: 0.6 + 2.2 * _parts_inside(probe) / (1 if narrow else 3),
        _inside,
        lambda probe, _: _parts_inside(probe) > 0,
        "What was measured inside the model, over its blocks, log scale",
    ),
    "spectrum": Panel(
        _WIDTH / 2,
        lambda *_: 4.2,
        _spectrum,
        _any(lambda signal: np.nan_to_num(signal.singular_values).any()),
        "Singular values of the Jacobian, log scale",
    ),
    "loss": Panel(
        _WIDTH / 2,
        lambda *_: 4.2,
        _loss,
        lambda _, runs: bool(runs),
        "Loss over the steps of gradient descent",
    ),
}


def picture(
    probe: Probe,
    runs: Sequence[Run] = (),
    panels: Sequence[str] = tuple(PANELS),
    width: float = _WIDTH,
) -> Figure:
    """Return a figure with the panels asked for, from top to bottom; save it with `savefig`.

    Parameters
    ----------
    probe : Probe
        What to show.
    runs : sequence of Run
        Training runs, for the panel "loss".
    panels : sequence of {"depth", "histograms", "inside", "spectrum", "loss"}
        Those for which there is nothing to show are left out.
    width : float
        In inches, of a picture with more than half a panel in a row; below 6 all parts stand one
        below the other, for a phone.

    Examples
    --------
    >>> found = fi.diagnostics.probe([16] * 5, "relu", "he", seeds=[1])
    >>> len(picture(found, panels=["depth"]).axes)
    2
    """
    narrow = width < _NARROW
    rows = _rows([PANELS[name] for name in panels if PANELS[name].has_data(probe, runs)], narrow)
    heights = [max(panel.height(probe, narrow) for panel in row) for row in rows]
    widest = max(sum(panel.width for panel in row) for row in rows)
    size = (width if narrow else widest * width / _WIDTH, sum(heights))
    figure = Figure(size, layout="constrained", dpi=120)
    parts = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    for row, part in zip(rows, parts, strict=True):
        for panel, place in zip(row, part.subfigures(1, len(row), squeeze=False)[0], strict=True):
            panel.draw(place, probe, runs)
    return figure


def _rows(panels: Sequence[Panel], narrow: bool) -> list[list[Panel]]:
    """Return panels side by side where they fit."""
    if narrow:
        return [[panel] for panel in panels]
    rows: list[list[Panel]] = [[]]
    for panel in panels:
        if sum(other.width for other in rows[-1]) + panel.width > _WIDTH:
            rows.append([])
        rows[-1].append(panel)
    return [row for row in rows if row]
