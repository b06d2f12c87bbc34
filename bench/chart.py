"""Draw the pictures of measurements: README's chart, the machines, and how fills scale.

    python bench/tables.py          # draws them, from what docs/measured holds

README's chart, for light and dark pages, is of the latest stream on a machine that was not busy.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from fastinit import benchmark as bench
from fastinit._files import appearing

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
LIBRARIES = ("NumPy", "JAX", "PyTorch", "fastinit")
KIND = "normal float32"
KINDS = (KIND, "normal bfloat16", "uniform float32", "truncated_normal float32")
COLOURS = {
    "light": {"text": "#1f2328", "peer": "#8c959f", "ours": "#0969da"},
    "dark": {"text": "#e6edf3", "peer": "#768390", "ours": "#58a6ff"},
}
SHADES = ("#bcc4cc", "#8c959f", "#59636e", COLOURS["light"]["ours"])

Machine = dict[str, bench.Report]


def kind(result: bench.Result) -> str:
    return f"{result.case.distribution} {result.case.dtype}"


def speeds(report: bench.Report, what: str = KIND) -> dict[str, float]:
    """Return each library's best speed in GB/s, on whichever threads, the constant's too."""
    found: dict[str, float] = {}
    for result in report.results:
        if kind(result) == what:
            found[result.library] = max(result.speed, found.get(result.library, 0.0))
    return found


def latest(those: dict[str, Machine]) -> bench.Report:
    """Return the large fills of the latest stream, on a machine that was not busy if possible."""
    return max(
        (machine["large"] for machine in those.values()),
        key=lambda report: (not busy(report), report.machine["fastinit"]["stream"]),
    )


def busy(report: bench.Report) -> bool:
    """Return whether others wanted the CPUs too."""
    return bool(report.machine["load"] > 2 * max(r.case.threads for r in report.results))


def title(report: bench.Report) -> str:
    threads = max(result.case.threads for result in report.results)
    return f"{report.machine['cpu']}, {report.machine['fastinit']['isa']}, up to {threads} threads"


def draw(those: dict[str, Machine], directory: Path = PICTURES) -> None:
    """Write all pictures."""
    report = latest(those)
    for mode, colours in COLOURS.items():
        figure = _bars(speeds(report), f"{KIND} in place, {title(report)}", colours)
        _save(figure, directory / f"speed-{mode}.svg", colours["text"], transparent=True)
    _save(_side_by_side(those), directory / "machines.svg")
    for name, machine in those.items():
        if machine["scaling"].results:
            _save(_scaling(machine["scaling"]), directory / f"scaling-{name}.svg")


def _save(figure: Figure, path: Path, text: str = "#1f2328", transparent: bool = False) -> None:
    settings = {
        "svg.hashsalt": "fastinit",
        "svg.fonttype": "none",
        "font.size": 11,
        "text.color": text,
    }
    with matplotlib.rc_context(settings), appearing(path) as file:
        figure.savefig(file, format="svg", transparent=transparent, metadata={"Date": None})


def _bars(speeds: dict[str, float], label: str, colours: dict[str, str]) -> Figure:
    limit = speeds[bench.CONSTANT]
    bars = {library: speeds[library] for library in LIBRARIES if library in speeds}
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.subplots()
    drawn = axes.barh(
        list(bars),
        list(bars.values()),
        color=[colours["ours" if library == "fastinit" else "peer"] for library in bars],
        height=0.62,
    )
    texts = [f"{speed:.2g} GB/s" for speed in bars.values()]
    axes.bar_label(drawn, texts, padding=4, color=colours["text"])
    axes.axvline(limit, color=colours["text"], linestyle="--", linewidth=1)
    at, text = len(bars) - 0.55, f"memory-write limit {limit:.2g} GB/s "
    axes.text(limit, at, text, ha="right", va="bottom", fontsize=9, color=colours["text"])
    axes.set_xlim(0, limit * 1.02)
    axes.set_ylim(-0.6, len(bars) - 0.1)
    axes.set_xticks([])
    axes.tick_params(colors=colours["text"], length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(label, fontsize=9, color=colours["text"])
    return figure


def _side_by_side(those: dict[str, Machine]) -> Figure:
    figure = Figure(figsize=(9, 1.2 + 2.6 * len(those)), layout="constrained")
    panels = figure.subplots(len(those), 1, sharex=True, squeeze=False)[:, 0]
    for axes, machine in zip(panels, those.values(), strict=True):
        report = machine["large"]
        for i, what in enumerate(KINDS):
            found = speeds(report, what)
            for j, (library, shade) in enumerate(zip(LIBRARIES, SHADES, strict=True)):
                if library in found:
                    label = library if i == 0 else None
                    axes.barh(i + 0.2 * j - 0.3, found[library], 0.19, color=shade, label=label)
            limit = found[bench.CONSTANT]
            axes.plot([limit, limit], [i - 0.45, i + 0.45], "--", color="black", linewidth=1)
        axes.set_yticks(range(len(KINDS)), [what.replace(" ", "\n") for what in KINDS], fontsize=9)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_title(
            f"{title(report)}, stream {report.machine['fastinit']['stream']}", fontsize=9
        )
    panels[-1].set_xlabel("GB/s, each on as many threads as suit it; dashed: memory-write limit")
    panels[0].legend(fontsize=8, loc="lower right")
    return figure


def _scaling(report: bench.Report) -> Figure:
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    largest = max(result.case.size for result in report.results)
    for who in dict.fromkeys(map(_who, report.results)):
        those = [result for result in report.results if _who(result) == who]
        style = "--" if who == bench.CONSTANT else "-"
        for threads in sorted({result.case.threads for result in those}):
            some = [result for result in those if result.case.threads == threads]
            label = f"{who}, {threads} thread{'s' * (threads > 1)}"
            _line(left, some, lambda r: r.case.nbytes, label, style)
        _line(right, [r for r in those if r.case.size == largest], _threads, who, style)
    left.set_xscale("log", base=2)
    left.set_xlabel("bytes")
    left.set_ylabel("GB/s")
    left.set_yscale("log")
    right.set_xticks(sorted({result.case.threads for result in report.results}))
    right.set_xlabel(f"threads, {largest:,} elements")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title(report), fontsize=10)
    return figure


def _who(result: bench.Result) -> str:
    return bench.CONSTANT if result.library == bench.CONSTANT else kind(result)


def _threads(result: bench.Result) -> int:
    return result.case.threads


def _line(
    axes: Any,
    results: Iterable[bench.Result],
    x: Callable[[bench.Result], int],
    label: str,
    style: str,
) -> None:
    best: dict[int, float] = {}
    for result in results:
        best[x(result)] = max(result.speed, best.get(x(result), 0.0))
    at = sorted(best)
    axes.plot(at, [best[i] for i in at], style, marker=".", label=label)
