"""Write the tables of docs/performance.md and README's chart from benchmarks' results.

    fastinit bench --power 26 --output build/bench
    fastinit bench --distribution normal --dtype float32 --output build/sizes
    python bench/tables.py build/bench/results.json build/sizes/results.json

A table stands between ``<!-- table NAME -->`` and ``<!-- end of table -->``; NAME is that of a
function in TABLES. What a table holds is of one run: those of large arrays of the first, that of
all sizes of the second.
"""

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import chart

from fastinit import benchmark as bench
from fastinit._files import appearing

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "performance.md"
MARKED = re.compile("(<!-- table (.*?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
MAIN_KINDS = ("normal float32", "uniform float32", "normal bfloat16", "truncated_normal float32")

Results = list[bench.Result]
Text = Callable[[bench.Result], str]


def libraries(report: bench.Report) -> str:
    """Each library at its best; we come last, beside the ceiling."""
    some = [r for name in MAIN_KINDS for r in in_dram(report) if kind(r) == name]
    some.sort(key=lambda r: (r.library in OURS, r.library == bench.CONSTANT))
    table = pivot("ns per element", some, lambda r: f"{r.library}{threads(r)}", kind)
    return f"{table}\n\n{about(report, some)}"


def peers(report: bench.Report) -> str:
    """Every way of every library."""
    some = [r for r in in_dram(report) if r.library not in OURS]
    return pivot("ns per element", some, lambda r: f"{r.name}{threads(r)}", kind)


def shares(report: bench.Report) -> str:
    """What fastinit reaches on each instruction set, and of the ceiling."""
    some = [r for r in in_dram(report) if r.library in OURS]
    column = lambda r: r.library if r.library == bench.CONSTANT else r.way  # noqa: E731
    cell = lambda r: f"{r.best:.2f} ({r.share:.0%})"  # noqa: E731
    return pivot("ns per element", some, case, column, cell)


def sizes(report: bench.Report) -> str:
    """Microseconds of one fill, from the smallest to the largest, one thread."""
    some = [r for r in report.results if not r.case.cold and r.case.threads == 1]
    some = [r for r in some if kind(r) == "normal float32"]
    cell = lambda r: f"{r.best * r.case.size / 1e3:.2f}"  # noqa: E731
    return pivot("us per fill", some, lambda r: r.name, lambda r: f"{r.case.size:,}", cell)


def cold(report: bench.Report) -> str:
    """New memory: what the system's pages cost."""
    some = largest([r for r in report.results if r.case.cold])
    column = lambda r: r.name if r.way.startswith("in ") else r.library  # noqa: E731
    return pivot("ns per element", some, case, column)


OURS = ("fastinit", bench.CONSTANT)
OF_LARGE = {function.__name__: function for function in (libraries, peers, shares, cold)}
OF_SIZES = {sizes.__name__: sizes}
TABLES = OF_LARGE | OF_SIZES


def in_dram(report: bench.Report) -> Results:
    return largest([r for r in report.results if not r.case.cold])


def largest(results: Results) -> Results:
    size = max((r.case.size for r in results), default=0)
    return [r for r in results if r.case.size == size]


def kind(result: bench.Result) -> str:
    return f"{result.case.distribution} {result.case.dtype}"


def threads(result: bench.Result) -> str:
    return f", {result.case.threads} thread{'s' if result.case.threads > 1 else ''}"


def case(result: bench.Result) -> str:
    return f"{kind(result)}{threads(result)}"


def about(report: bench.Report, results: Results) -> str:
    return (
        f"{results[0].case.size:,} elements in place, memory touched; best of up to "
        f"{max(len(r.seconds) for r in results)} turns, all in one run on {report.machine['cpu']} "
        f"({report.machine['fastinit']['isa']}); only the ratios travel. "
        "`fastinit bench` measures, and `bench/tables.py` writes this."
    )


def pivot(
    corner: str,
    results: Iterable[bench.Result],
    row: Text,
    column: Text,
    cell: Text = lambda r: f"{r.best:.2f}",
) -> str:
    """Return a table of the best result for each row and column."""
    best: dict[str, dict[str, bench.Result]] = {}
    columns: dict[str, None] = {}
    for result in results:
        cells = best.setdefault(row(result), {})
        columns[column(result)] = None
        cells[column(result)] = min(result, cells.get(column(result), result), key=lambda r: r.best)
    lines = [
        [name, *(cell(cells[c]) if c in cells else "-" for c in columns)]
        for name, cells in best.items()
    ]
    return bench.markdown([corner, *columns], lines)


def write_tables(document: Path, large: bench.Report, all_sizes: bench.Report) -> None:
    """Write each of the document's tables between its marks."""

    def written(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in TABLES:
            raise ValueError(f"{document}: table {name!r} is unknown; allowed: {', '.join(TABLES)}")
        return f"{begin}{TABLES[name](large if name in OF_LARGE else all_sizes)}\n{end}"

    text = MARKED.sub(written, document.read_text())
    with appearing(document) as file:
        file.write(text.encode())


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    large, all_sizes = (bench.load(Path(path)) for path in sys.argv[1:])
    write_tables(DOCUMENT, large, all_sizes)
    chart.draw()


if __name__ == "__main__":
    main()
