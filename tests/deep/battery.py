"""Runs dieharder over orders of the stream, and keeps its p-values.

    python tests/deep/battery.py natural transposed:16 seeds/normal-float64
    python tests/deep/battery.py --quick natural

A run is an order of `draws.py`, with the values after a slash where they are not raw draws.
Every test reads the order from its beginning.  Of dieharder's own list are left out the tests
that its manual calls suspect or not to be used (OPSO, OQSO, DNA, sums), and most lags of
rgb_lagged_sum, which take an hour.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from record import RESULTS, circumstances, load, save

DRAWS = Path(__file__).with_name("draws.py")
FILE = RESULTS / "dieharder.json"

# Numbers of dieharder's tests, and their ntuples; 0 is a test without.
TESTS = [
    *((test, 0) for test in (0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 15, 16, 17, 100, 101, 102)),
    *((200, bits) for bits in (1, 2, 4, 8, 12)),
    *((201, dimensions) for dimensions in (2, 3, 4, 5)),
    *((202, length) for length in (2, 3, 4, 5)),
    *((203, lag) for lag in (0, 1, 3, 7)),
    *((test, 0) for test in (204, 205, 206, 207, 208, 209)),
]
QUICK = [(0, 0), (15, 0), (100, 0)]

COLUMNS = ["test_name", "ntuple", "tsamples", "psamples", "pvalues"]


def run_test(order: str, values: str, test: int, ntuple: int) -> list[dict[str, Any]]:
    """What dieharder says of one of its tests: one p-value or more."""
    command = ["dieharder", "-g", "200", "-S", "1", "-d", str(test), "-n", str(ntuple), "-c", ","]
    if ntuple == 0 and test != 203:
        command[7:9] = []
    command += [word for column in COLUMNS for word in ("-D", column)]
    source = [sys.executable, str(DRAWS), order, "--values", values]
    with subprocess.Popen(source, stdout=subprocess.PIPE) as draws:
        done = subprocess.run(command, stdin=draws.stdout, capture_output=True, text=True)
        assert draws.stdout
        draws.stdout.close()
    rows = [line.split(",") for line in done.stdout.splitlines() if line.count(",") == 4]
    if done.returncode or not rows:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return [{"test": name.strip(), "ntuple": int(n), "p": float(p)} for name, n, _, _, p in rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="ORDER[/VALUES]")
    parser.add_argument("--quick", action="store_true", help="three short tests")
    parser.add_argument("--output", type=Path, default=FILE)
    given = parser.parse_args()
    if shutil.which("dieharder") is None:
        parser.error("needs dieharder (Debian: apt install dieharder)")
    for run in given.runs:
        order, _, values = run.partition("/")
        values = values or "bits-uint32"
        began, rows = time.perf_counter(), []
        for test, ntuple in QUICK if given.quick else TESTS:
            rows += run_test(order, values, test, ntuple)
            print(f"{run}: {rows[-1]['test']} {ntuple}: p = {rows[-1]['p']}", flush=True)
        results = load(given.output)
        results[f"{order}/{values}"] = {
            **circumstances(),
            "seconds": round(time.perf_counter() - began),
            "p_values": rows,
        }
        save(given.output, results)


if __name__ == "__main__":
    main()
