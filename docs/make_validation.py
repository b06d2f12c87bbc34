"""Writes the tables of docs/validation.md from the results of ``make deep``.

A table stands between ``<!-- table NAME -->`` and ``<!-- end of table -->``; NAME is that of a
function in TABLES.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).with_name("validation.md")
RESULTS = Path(__file__).parents[1] / "tests" / "deep" / "results"
MARKED = re.compile("(<!-- table (.*?) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def load(name: str) -> dict[str, Any]:
    """Return what a program of tests/deep kept."""
    results: dict[str, Any] = json.loads((RESULTS / name).read_text("utf-8"))
    return results


def short(count: int) -> str:
    """Powers of two and ten as such, other numbers by two digits."""
    for base in (2, 10):
        power = round(math.log(count, base))
        if base**power == count:
            return f"{base}^{power}"
    return f"{count:.2g}".replace("e+0", "e").replace("e+", "e")


def where(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which machines, days and versions."""
    machines = sorted({f"{run['machine']} ({run['isa']})" for run in runs.values()})
    days = sorted({run["date"] for run in runs.values()})
    streams = sorted({run["stream"] for run in runs.values()})
    hours = sum(run["seconds"] for run in runs.values()) / 3600
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"Stream {', '.join(streams)}; {'; '.join(machines)}; {span}; {hours:.1f} hours in all."


def dieharder() -> str:
    """Return a row for each order, judged as dieharder does, and as we do."""
    runs, rows = load("dieharder.json"), []
    for name, run in runs.items():
        order, values = name.split("/")
        p = [row["p"] for row in run["p_values"]]
        weak = sum(not 0.005 <= x <= 0.995 for x in p)
        failed = sum(not 1e-6 <= x <= 1 - 1e-6 for x in p)
        rows.append([order, values, len(p), weak, failed, f"{min(p):.2g}", f"{max(p):.5f}"])
    total = [sum(row[i] for row in rows) for i in (2, 3, 4)]
    rows.append(["all", "", *total, "", ""])
    header = ["order", "values", "p-values", "weak", "failed", "least p", "greatest p"]
    return f"{markdown(header, rows)}\n\n{where(runs)}"


def statistics() -> str:
    """Return a row for each sample: its least p-value, and how likely so small a one is."""
    runs, rows = load("statistics.json"), []
    for name, run in runs.items():
        least = min(run["p"], key=lambda k: run["p"][k])
        p, n = run["p"][least], len(run["p"])
        any_so_small = 1 - (1 - p) ** n
        rows.append([name, short(run["values"]), n, f"{p:.2g}", least, f"{any_so_small:.2g}"])
    header = ["sample", "values read", "p-values", "least", "which", "so small among so many"]
    total = sum(len(run["p"]) for run in runs.values())
    least = min(min(run["p"].values()) for run in runs.values())
    return (
        f"{markdown(header, rows)}\n\n{total} p-values, of which the least is {least:.2g}. "
        f"{where(runs)}"
    )


def faults() -> str:
    """Return a row for each program of ``make deep-faults``: its last run."""
    rows = [
        [f"`{name}`", f"{run['count']:,} {run['what']}", run["seed"], run["ended"], run["date"]]
        for name, run in load("faults.json").items()
    ]
    header = ["program", "how many", "seed", "how they ended", "day"]
    return f"{markdown(header, rows)}\n\n{where(load('faults.json'))}"


TABLES = {function.__name__: function for function in (dieharder, statistics, faults)}


def page(text: str) -> str:
    """Return the document with its tables written anew; those of others are left as they are."""

    def written(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        return f"{begin}{TABLES[name]()}\n{end}" if name in TABLES else match[0]

    return MARKED.sub(written, text)


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(page(DOCUMENT.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
