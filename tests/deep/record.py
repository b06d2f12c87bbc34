"""Results of long runs, in JSON, each with the machine and the day."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import fastinit as fi

RESULTS = Path(__file__).with_name("results")
FAULTS = RESULTS / "faults.json"  # of the programs of `make deep-faults`


def processor() -> str:
    """As Linux names it; elsewhere as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def circumstances() -> dict[str, Any]:
    info = fi.info()
    return {
        "date": date.today().isoformat(),
        "stream": info["stream"],
        "isa": info["isa"],
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def load(path: Path) -> dict[str, Any]:
    """What was written there, or nothing yet."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def save(path: Path, results: Mapping[str, Any]) -> None:
    """Complete, or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    unfinished.replace(path)


def keep(name: str, count: int, what: str, ended: str, seed: int, seconds: float) -> None:
    """Keep how a run of a program of `make deep-faults` ended: the last one stands in the table."""
    run = {"count": count, "what": what, "ended": ended, "seed": seed, "seconds": round(seconds)}
    save(FAULTS, load(FAULTS) | {name: run | circumstances()})
