"""Benchmarks: fastinit against its peers and against the machine's own store bandwidth.

All that can do a case take turns in one process, so that a busy machine slows all of them. Best,
median and spread are kept, and how near each best comes to that of storing a constant. Whole jobs
(orthogonal matrices, a model's start, files) are measured in the same way. The method, and what the
numbers mean, is in docs/performance.md.
"""

from fastinit.benchmark._job import Job
from fastinit.benchmark._jobs import (
    JOBS,
    LIMIT,
    SHAPES,
    files,
    job_table,
    orthogonal,
    start,
)
from fastinit.benchmark._measure import (
    DISTRIBUTIONS,
    DTYPES,
    MEMORY,
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
    "JOBS",
    "LIMIT",
    "MEMORY",
    "POWERS",
    "QUICK_DTYPES",
    "QUICK_POWERS",
    "SHAPES",
    "Case",
    "Contender",
    "Job",
    "Report",
    "Result",
    "all_threads",
    "as_dict",
    "cases",
    "contenders",
    "describe",
    "files",
    "job_table",
    "load",
    "machine",
    "markdown",
    "measure",
    "orthogonal",
    "place",
    "save",
    "start",
    "table",
    "take_turns",
    "touched",
]
