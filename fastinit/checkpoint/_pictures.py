"""Pictures of a checkpoint's statistics: how its values lie, and how they spread over layers."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from fastinit._files import appearing
from fastinit._matplotlib import as_it_is
from fastinit.checkpoint._statistics import Statistics
from fastinit.recipe import template

_MOST = 24  # histograms in the picture


def draw(statistics: Sequence[Statistics], directory: Path) -> list[Path]:
    """Write the pictures; return their files, each of which appears when it is whole.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kinds: defaultdict[str, list[Statistics]] = defaultdict(list)
    for each in statistics:
        kinds[as_it_is(re.sub(r"{\w}", "*", template(each.name)))].append(each)
    pictures = {"histograms": _histograms(kinds), "std": _stds(kinds)}
    return [_save(figure, directory / f"{name}.png") for name, figure in pictures.items()]


def _histograms(kinds: dict[str, list[Statistics]]) -> Figure:
    """Draw, for tensors of each name but for numbers, the first and the last."""
    shown = {
        kind: [s.histogram for s in dict.fromkeys([group[0], group[-1]]) if s.histogram]
        for kind, group in kinds.items()
    }
    shown = dict([(kind, group) for kind, group in shown.items() if group][:_MOST])
    columns = min(4, max(1, len(shown)))
    lines = max(1, math.ceil(len(shown) / columns))
    figure = Figure(figsize=(3.4 * columns, 2.3 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes, (kind, group) in zip(grid.flat, shown.items(), strict=False):
        for histogram, colour in zip(group, ("C0", "C1"), strict=False):
            width = histogram.edges[1] - histogram.edges[0]
            density = [share / width for share in histogram.found]
            axes.stairs(density, histogram.edges, fill=True, alpha=0.45, color=colour)
        if group[0].expected is not None:
            width = group[0].edges[1] - group[0].edges[0]
            density = [share / width for share in group[0].expected]
            axes.stairs(density, group[0].edges, color="black", linewidth=0.9)
        axes.set_title(kind, fontsize=7)
        axes.tick_params(labelsize=6)
        axes.set_yticks([])
    figure.suptitle(
        "Density of values: the first layer (blue), the last (orange), the recipe (line)",
        fontsize=9,
    )
    return figure


def _stds(kinds: dict[str, list[Statistics]]) -> Figure:
    """Draw standard deviations over layers, for each name but for its numbers."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    lines = {
        kind: sorted((_layer(s.name), s.std) for s in group if s.std)
        for kind, group in kinds.items()
    }
    for i, kind in enumerate(kind for kind, points in lines.items() if points):
        style = ("-", "--", ":")[i % 3]  # lines lie over each other where layers are alike
        axes.plot(*zip(*lines[kind], strict=True), style, marker=".", label=kind)
    axes.set_yscale("log")
    axes.set_xlabel("layer, the first number in a tensor's name")
    axes.set_ylabel("standard deviation")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=6)
    return figure


def _layer(name: str) -> int:
    return next((int(part) for part in name.split(".") if part.isdecimal()), 0)


def _save(figure: Figure, path: Path) -> Path:
    with appearing(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return path
