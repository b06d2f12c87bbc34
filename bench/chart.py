"""Draw README's chart, for light and dark pages, from the first table of docs/performance.md.

    python bench/chart.py

bench/tables.py does it too when it has written that table: the chart is of the same run.
"""

import re
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from fastinit import benchmark as bench
from fastinit._files import appearing

DOCS = Path(__file__).parents[1] / "docs"
TABLE = re.compile("<!-- table libraries -->\n(.*?)<!-- end of table -->", re.DOTALL)
LIBRARIES = ("NumPy", "JAX", "PyTorch", "fastinit")
KIND, ITEMSIZE = "normal float32", 4
COLOURS = {
    "light": {"text": "#1f2328", "peer": "#8c959f", "ours": "#0969da"},
    "dark": {"text": "#e6edf3", "peer": "#768390", "ours": "#58a6ff"},
}


def speeds(table: str) -> dict[str, float]:
    """Return each library's best speed in GB/s, the constant's too."""
    lines = [line.strip("| ").split("|") for line in table.splitlines() if line.startswith("| ")]
    column = [cell.strip() for cell in lines[0]].index(KIND)
    found: dict[str, float] = {}
    for line in lines[2:]:
        library, cell = line[0].rsplit(",", 1)[0], line[column].strip()
        if cell != "-":
            found[library] = max(ITEMSIZE / float(cell), found.get(library, 0.0))
    return found


def draw(document: Path = DOCS / "performance.md", directory: Path = DOCS / "pictures") -> None:
    """Write speed-light.svg and speed-dark.svg."""
    match = TABLE.search(document.read_text("utf-8"))
    assert match, document
    machine = re.search(r"in one run on (.*?); only", match[1])
    threads = max(map(int, re.findall(r", (\d+) threads?", match[1])))
    assert machine, document
    title = f"{KIND} in place, {machine[1]}, up to {threads} threads"
    for mode, colours in COLOURS.items():
        settings = {
            "svg.hashsalt": "fastinit",
            "svg.fonttype": "none",
            "font.size": 11,
            "text.color": colours["text"],
        }
        path = directory / f"speed-{mode}.svg"
        with matplotlib.rc_context(settings), appearing(path) as file:
            figure = _figure(speeds(match[1]), title, colours)
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})


def _figure(speeds: dict[str, float], title: str, colours: dict[str, str]) -> Figure:
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
    axes.bar_label(drawn, [f"{speed:.2g} GB/s" for speed in bars.values()], padding=4)
    axes.axvline(limit, color=colours["text"], linestyle="--", linewidth=1)
    at, text = len(bars) - 0.55, f"memory-write limit {limit:.2g} GB/s "
    axes.text(limit, at, text, ha="right", va="bottom", fontsize=9)
    axes.set_xlim(0, limit * 1.02)
    axes.set_ylim(-0.6, len(bars) - 0.1)
    axes.set_xticks([])
    axes.tick_params(colors=colours["text"], length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(title, fontsize=9, color=colours["text"])
    return figure


if __name__ == "__main__":
    draw()
