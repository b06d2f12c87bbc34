"""Plots of a benchmark's results: speed over size, scaling over threads, share of the ceiling."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fastinit._files import appearing
from fastinit.benchmark._measure import Report, Result
from fastinit.benchmark._peers import CONSTANT

Lines = dict[str, dict[int, float]]


def draw(report: Report, directory: Path) -> list[Path]:
    """Write a report's plots; return their files, each of which appears when it is whole."""
    touched = [result for result in report.results if not result.case.cold]
    if not touched:
        return []
    kinds = list(dict.fromkeys(_kind(result) for result in touched))
    figures = {"share": _share_of_ceiling(touched, kinds)}
    for kind in kinds:
        of_kind = [result for result in touched if _kind(result) == kind]
        name = kind.replace(" ", "-")
        figures[f"size-{name}"] = _speed_over_size(of_kind, kind, report.machine["caches"])
        figures[f"threads-{name}"] = _scaling_over_threads(of_kind, kind)
    return [_save(figure, directory / f"{name}.png") for name, figure in figures.items()]


def _kind(result: Result) -> str:
    return f"{result.case.distribution} {result.case.dtype}"


def _who(result: Result) -> str:
    """Return whose line a result is on: a library's, whichever way is its best; ours by ISA."""
    return result.name if result.library == "fastinit" else result.library


def _speed_over_size(results: list[Result], kind: str, caches: dict[str, int]) -> Figure:
    figure, axes = _figure(f"{kind}, each on as many threads as suit it")
    _lines(figure, axes, _best(results, lambda result: result.case.nbytes))
    axes.set_xscale("log", base=2)
    axes.set_xlabel("bytes")
    axes.set_yscale("log")
    for name, nbytes in caches.items():
        axes.axvline(nbytes, color="0.8", zorder=0)
        axes.text(nbytes, 0.01, name, color="0.5", transform=axes.get_xaxis_transform())
    return figure


def _scaling_over_threads(results: list[Result], kind: str) -> Figure:
    largest = max(result.case.size for result in results)
    figure, axes = _figure(f"{kind}, {largest:,} elements")
    largest_results = [result for result in results if result.case.size == largest]
    _lines(figure, axes, _best(largest_results, lambda result: result.case.threads))
    axes.set_xticks(sorted({result.case.threads for result in largest_results}))
    axes.set_xlabel("threads")
    axes.set_ylim(bottom=0)
    return figure


def _share_of_ceiling(results: list[Result], kinds: list[str]) -> Figure:
    figure, axes = _figure("Largest arrays, each on as many threads as suit it")
    figure.set_figheight(1.0 + 0.9 * max(5, len(kinds)))
    largest = {kind: max(r.case.size for r in results if _kind(r) == kind) for kind in kinds}
    largest_results = [r for r in results if r.case.size == largest[_kind(r)]]
    lines = _best(largest_results, lambda result: kinds.index(_kind(result)))
    ceiling, width = lines.pop(CONSTANT), 0.8 / len(lines)
    for i, (who, speeds) in enumerate(lines.items()):
        at = [kind + (i + 0.5) * width - 0.4 for kind in speeds]
        shares = [speed / ceiling[kind] for kind, speed in speeds.items()]
        axes.barh(at, shares, width, label=who)
    axes.axvline(1.0, color="black", linestyle="--")
    axes.set_yticks(range(len(kinds)), [kind.replace(" ", "\n") for kind in kinds])
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.set_xlabel("share of the memory-write limit")
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _best(results: Iterable[Result], x: Callable[[Result], int]) -> Lines:
    """Return the best speed of everyone at every x."""
    lines: Lines = {}
    for result in results:
        line = lines.setdefault(_who(result), {})
        line[x(result)] = max(result.speed, line.get(x(result), 0.0))
    return lines


def _figure(title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    return figure, axes


def _lines(figure: Figure, axes: Any, lines: Lines) -> None:
    for who, line in lines.items():
        style: dict[str, Any] = {"color": "black", "linestyle": "--"} if who == CONSTANT else {}
        axes.plot(list(line), list(line.values()), marker=".", label=who, **style)
    axes.set_ylabel("GB/s")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)


def _save(figure: Figure, path: Path) -> Path:
    with appearing(path) as file:
        figure.savefig(file, format="png", dpi=120)
    return path
