"""The loop of the fuzzers: hostile input after hostile input, and how often each end was seen."""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from record import keep


def main(description: str | None, outcome: Callable[[random.Random, Path], str]) -> None:
    """Make as many inputs as the command line says; `outcome` makes one, and says how it ended."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, seen = random.Random(arguments.seed), Counter[str]()
    with TemporaryDirectory() as directory:
        for _ in range(arguments.count):
            seen[outcome(rng, Path(directory))] += 1
    ends = Counter[str]()
    for what, count in seen.most_common():
        print(f"{count:7} {what}")
        ends[what.partition(":")[0]] += count
    ended = ", ".join(f"{count:,} {what}" for what, count in ends.most_common())
    took = time.monotonic() - start
    keep(Path(sys.argv[0]).stem, arguments.count, "inputs", ended, arguments.seed, took)
