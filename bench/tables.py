"""Write the tables and the pictures of docs/performance.md, and README's chart, from measurements.

    python bench/tables.py measure  # measures for 15 minutes, keeps that and writes: `make tables`
    python bench/tables.py keep     # keeps what was measured before, and writes
    python bench/tables.py          # writes what docs/measured holds

Each machine has a directory in docs/measured, named after its instruction set, with a file of
results for each of PARTS. A table stands between ``<!-- table NAME MACHINE -->`` and
``<!-- end of table -->``; NAME is that of a function in TABLES, and the tables of COMPARED, which
are of all machines, have no MACHINE. What a column holds is of one run.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import chart

from fastinit import benchmark as bench
from fastinit._files import appearing

ROOT = Path(__file__).parents[1]
DOCUMENT, MEASURED = ROOT / "docs" / "performance.md", ROOT / "docs" / "measured"
MARKED = re.compile("(<!-- table (.*?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
MAIN_KINDS = ("normal float32", "uniform float32", "normal bfloat16", "truncated_normal float32")
BUILD = ROOT / "build" / "measured"

# What is measured, by the arguments of `fastinit bench`; the memory of the largest is 4 GB. `start`
# and the peers are left out where they are not installed.
FLOATS = "--dtype float32 --dtype bfloat16"
PARTS = {
    "large": f"--memory touched --power 25 {FLOATS} --dtype float64",
    "cold": f"--memory cold --power 25 {FLOATS} --distribution normal --distribution uniform",
    "sizes": "--memory touched --distribution normal --dtype float32 --threads 1 "
    "--power 6 --power 10 --power 14 --power 18 --power 22",
    "scaling": "--memory touched --alone --all-threads --dtype float32 --distribution normal "
    "--distribution uniform --power 8 --power 11 --power 14 --power 17 --power 20 --power 23 "
    "--power 26 --power 28 --power 30",
    "jobs": "orthogonal start files",
}
DIGITS = 4  # of what is kept

Results = list[bench.Result]
Text = Callable[[bench.Result], str]
Machine = dict[str, bench.Report]


def libraries(machine: Machine) -> str:
    """Each library at its best; we come last, beside the ceiling."""
    report = machine["large"]
    some = [r for name in MAIN_KINDS for r in largest(report.results) if kind(r) == name]
    some.sort(key=lambda r: (r.library in OURS, r.library == bench.CONSTANT))
    table = pivot("ns per element", some, lambda r: f"{r.library}{threads(r)}", kind)
    return f"{table}\n\n{about(report, some)}"


def peers(machine: Machine) -> str:
    """Every way of every library."""
    some = [r for r in largest(machine["large"].results) if r.library not in OURS]
    return pivot("ns per element", some, lambda r: f"{r.name}{threads(r)}", kind)


def shares(machine: Machine) -> str:
    """What fastinit reaches on each instruction set, and of the ceiling."""
    some = [r for r in largest(machine["large"].results) if r.library in OURS]
    column = lambda r: r.library if r.library == bench.CONSTANT else r.way  # noqa: E731
    cell = lambda r: f"{r.best:.2f} ({r.share:.0%})"  # noqa: E731
    return pivot("ns per element", some, case, column, cell)


def sizes(machine: Machine) -> str:
    """Microseconds of one fill, from the smallest to the largest, one thread."""
    some = [r for r in machine["sizes"].results if kind(r) == "normal float32"]
    cell = lambda r: f"{r.best * r.case.size / 1e3:.2f}"  # noqa: E731
    return pivot("us per fill", some, lambda r: r.name, lambda r: f"{r.case.size:,}", cell)


def cold(machine: Machine) -> str:
    """New memory: what the system's pages cost."""
    some = largest(machine["cold"].results)
    column = lambda r: r.name if r.way.startswith("in ") else r.library  # noqa: E731
    return pivot("ns per element", some, case, column)


def jobs(machine: Machine) -> str:
    """Whole jobs, each a table of who did it."""
    return "\n\n".join(map(bench.job_table, machine["jobs"].jobs)) or "Not measured yet."


def machines(those: dict[str, Machine]) -> str:
    """Return fastinit's time on each machine, and how many times as long peers and limit take."""
    columns, rows = [""], {}
    for name, machine in those.items():
        report = machine["large"]
        columns += [f"{name}: ns", "NumPy", "PyTorch", "JAX", "of the limit"]
        results = largest(report.results)
        for label in dict.fromkeys(map(where, results)):
            row = rows.setdefault(label, [])
            row += beside([r for r in results if where(r) == label])
    return bench.markdown(columns, [[label, *row] for label, row in rows.items()])


def beside(results: Results) -> list[str]:
    best = {
        library: min(r.best for r in results if r.library == library)
        for library in {r.library for r in results}
    }
    ours = best["fastinit"]
    ratios = [
        f"{best[peer] / ours:.1f} x" if peer in best else "-"
        for peer in ("NumPy", "PyTorch", "JAX")
    ]
    return [f"{ours:.2f}", *ratios, f"{best[bench.CONSTANT] / ours:.0%}"]


OURS = ("fastinit", bench.CONSTANT)
TABLES = {function.__name__: function for function in (libraries, peers, shares, sizes, cold, jobs)}
COMPARED = {machines.__name__: machines}


def largest(results: Results) -> Results:
    size = max((r.case.size for r in results), default=0)
    return [r for r in results if r.case.size == size]


def kind(result: bench.Result) -> str:
    return f"{result.case.distribution} {result.case.dtype}"


def threads(result: bench.Result) -> str:
    return f", {result.case.threads} thread{'s' if result.case.threads > 1 else ''}"


def case(result: bench.Result) -> str:
    return f"{kind(result)}{threads(result)}"


def where(result: bench.Result) -> str:
    """Return a case so that those of machines of different numbers of CPUs are alike."""
    return f"{kind(result)}, {'all threads' if result.case.threads > 1 else '1 thread'}"


def about(report: bench.Report, results: Results) -> str:
    return (
        f"{results[0].case.size:,} elements in place, memory touched; best of several turns, all "
        f"in one run on {report.machine['cpu']} "
        f"({report.machine['fastinit']['isa']}), stream `{report.machine['fastinit']['stream']}`; "
        "only the ratios travel. "
        + ("The machine was busy: these numbers say little. " if chart.busy(report) else "")
        + "`fastinit bench` measures, and `bench/tables.py` writes this."
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


def measured(directory: Path = MEASURED) -> dict[str, Machine]:
    """Return what was measured on each machine; a part that was not is an empty report."""
    return {
        machine.name: {part: part_of(machine / f"{part}.json") for part in PARTS}
        for machine in sorted(directory.iterdir())
    }


def part_of(path: Path) -> bench.Report:
    return bench.load(path) if path.exists() else bench.Report({}, [])


def keep(build: Path, directory: Path = MEASURED) -> None:
    """Take over the results of `make tables`, with as many digits as tell something."""
    reports = {part: bench.load(build / part / "results.json") for part in PARTS}
    isa = reports["large"].machine["fastinit"]["isa"]
    place = directory / isa.removesuffix("bf16")
    place.mkdir(parents=True, exist_ok=True)
    for part, report in reports.items():
        rows = json.loads(json.dumps(bench.as_dict(report)), parse_float=rounded)
        with appearing(place / f"{part}.json") as file:
            file.write(json.dumps(rows).encode() + b"\n")


def measure(build: Path = BUILD) -> None:
    """Measure all parts, each in a process of its own."""
    build.mkdir(parents=True, exist_ok=True)
    for part, text in PARTS.items():
        arguments = [*text.split(), "--output", str(build / part)]
        if "files" in arguments:
            arguments += ["--directory", str(build)]
        if not all(map(find_spec, ("torch", "transformers"))) and "start" in arguments:
            arguments.remove("start")
        command = [sys.executable, "-W", "ignore", "-m", "fastinit", "bench", *arguments]
        subprocess.run(command, check=True)


def rounded(digits: str) -> float:
    return float(f"{float(digits):.{DIGITS}g}")


def write_tables(document: Path, those: dict[str, Machine]) -> None:
    """Write each of the document's tables between its marks."""
    allowed = [*COMPARED, *(f"{table} {machine}" for table in TABLES for machine in those)]

    def written(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in allowed:
            raise ValueError(
                f"{document}: table {name!r} is unknown; allowed: {', '.join(allowed)}"
            )
        table, _, machine = name.partition(" ")
        text = COMPARED[name](those) if name in COMPARED else TABLES[table](those[machine])
        return f"{begin}{text}\n{end}"

    text = MARKED.sub(written, document.read_text("utf-8"))
    with appearing(document) as file:
        file.write(text.encode())


def main() -> None:
    what = sys.argv[1:]
    if what not in ([], ["keep"], ["measure"]):
        sys.exit(__doc__)
    if what == ["measure"]:
        measure()
    if what:
        keep(BUILD)
    those = measured()
    write_tables(DOCUMENT, those)
    chart.draw(those)


if __name__ == "__main__":
    main()
