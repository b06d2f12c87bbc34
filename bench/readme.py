"""Write README.md's table: ``python bench/readme.py`` (with torch installed, a row more).

In one run, alternating, best of seven; ns per element of 2^26 in place, memory touched before.
Only the ratios hold elsewhere.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import ml_dtypes
import numpy as np

import fastinit as fi

N = 2**26
REPEATS = 7
MARKS = "<!-- table: written by bench/readme.py -->\n", "<!-- end of table -->"

Fill = Callable[[], object]


def columns() -> dict[str, dict[str, Fill]]:
    """Return, by column, each row's fill."""
    rng, numpy = fi.default_rng(1), np.random.default_rng(1)
    f32, bf16 = np.ones(N, np.float32), np.ones(N, ml_dtypes.bfloat16)

    def ours(fill: Callable[..., object], x: np.ndarray) -> dict[str, Fill]:
        return {
            "fastinit, 1 thread": partial(fill, x, rng=rng, threads=1),
            f"fastinit, {fi.get_num_threads()} threads": partial(fill, x, rng=rng),
            "(storing a constant)": partial(fi.constant_, x, 0.5),
        }

    table: dict[str, dict[str, Fill]] = {
        "normal float32": {
            "NumPy": partial(numpy.standard_normal, out=f32, dtype=np.float32),
            **ours(fi.normal_, f32),
        },
        "uniform float32": {
            "NumPy": partial(numpy.random, out=f32, dtype=np.float32),
            **ours(fi.uniform_, f32),
        },
        "normal bfloat16": ours(fi.normal_, bf16),
        "truncated float32": ours(fi.truncated_normal_, f32),
    }
    try:
        import torch
    except ImportError:
        return table
    t32 = torch.from_numpy(f32)
    t16 = torch.from_numpy(bf16.view(np.uint16)).view(torch.bfloat16)
    table["normal float32"]["PyTorch"] = t32.normal_
    table["uniform float32"]["PyTorch"] = t32.uniform_
    table["normal bfloat16"]["PyTorch"] = t16.normal_
    table["truncated float32"]["PyTorch"] = partial(torch.nn.init.trunc_normal_, t32)
    return table


def measure(fills: dict[str, Fill]) -> dict[str, float]:
    """Return each fill's best time, ns per element, the fills taking turns."""
    times: dict[str, list[float]] = {name: [] for name in fills}
    for _ in range(REPEATS):
        for name, fill in fills.items():
            start = perf_counter()
            fill()
            times[name].append(perf_counter() - start)
    return {name: min(ts) / N * 1e9 for name, ts in times.items()}


def main() -> None:
    """Measure, and write the table between its marks."""
    measured = {title: measure(fills) for title, fills in columns().items()}
    rows = ["NumPy", "PyTorch", *list(columns()["normal float32"])[1:4]]
    rows = [row for row in rows if any(row in column for column in measured.values())]
    lines = ["| ns per element | " + " | ".join(measured) + " |", "| --- " * 5 + "|"]
    for row in rows:
        cells = [f"{column[row]:.2f}" if row in column else "-" for column in measured.values()]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    about = (
        f"\n2^26 elements in place, memory touched, {fi.info()['isa']}, best of {REPEATS}, all in "
        "one run; only the ratios travel. `python bench/readme.py` writes this.\n"
    )
    readme = Path(__file__).parents[1] / "README.md"
    text = readme.read_text()
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    table = "\n".join(lines) + "\n" + about
    readme.write_text(before + MARKS[0] + table + MARKS[1] + after)
    print(table)


if __name__ == "__main__":
    main()
