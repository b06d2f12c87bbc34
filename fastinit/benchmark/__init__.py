"""Benchmarks: fastinit against its peers and against the machine's own store bandwidth.

All that can do a case take turns in one process, so that a busy machine slows all of them. Best,
median and spread are kept, and how near each best comes to that of storing a constant. The
method, and what the numbers mean, is in docs/performance.md.
"""

from fastinit.benchmark._measure import (
    DISTRIBUTIONS,
    DTYPES,
    POWERS,
    QUICK_DTYPES,
    QUICK_POWERS,
    Report,
    Result,
    all_threads,
    as_dict,
    cases,
    describe,
    load,
    machine,
    markdown,
    measure,
    place,
    save,
    table,
    take_turns,
    touched,
)
from fastinit.benchmark._peers import CONSTANT, Case, Contender, contenders

__all__ = [
    "CONSTANT",
    "DISTRIBUTIONS",
    "DTYPES",
    "POWERS",
    "QUICK_DTYPES",
    "QUICK_POWERS",
    "Case",
    "Contender",
    "Report",
    "Result",
    "all_threads",
    "as_dict",
    "cases",
    "contenders",
    "describe",
    "load",
    "machine",
    "markdown",
    "measure",
    "place",
    "save",
    "table",
    "take_turns",
    "touched",
]
