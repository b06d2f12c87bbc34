"""Measuring: contenders take turns, and their times are kept."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import product, repeat
from math import ceil
from pathlib import Path
from random import Random
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import psutil  # type: ignore[import-untyped]

import fastinit as fi
from fastinit import _arguments, _kernels
from fastinit._errors import value_error
from fastinit._files import appearing
from fastinit._fill import empty
from fastinit.benchmark._job import Job
from fastinit.benchmark._peers import CONSTANT, Case, Contender, contenders

DISTRIBUTIONS = ("normal", "uniform", "truncated_normal")
DTYPES: tuple[str, ...] = ("float32", "bfloat16", "float64", "float16")
POWERS: tuple[int, ...] = tuple(range(4, 31, 2))
MEMORY = ("touched", "cold")
QUICK_DTYPES: tuple[str, ...] = DTYPES[:2]
QUICK_POWERS: tuple[int, ...] = (6, 12, 18, 24)

_LARGEST_POWER = 40
_TURN = 1e-3  # seconds: what is faster is repeated within its turn, for the clock's sake
_PATIENCE = 2.0  # seconds, after which a contender takes no more turns than a spread needs
_FEWEST_TURNS = 3
_NEW_MEMORY = 1 << 25  # bytes, above which the C library keeps nothing freed (mallopt(3))
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_PACKAGES = ("numpy", "torch", "jax", "mkl_random", "randomgen", "numba")


@dataclass(frozen=True)
class Result:
    """What one contender took for a case.

    Parameters
    ----------
    case : Case
        What was filled.
    library, way : str
        Who filled it.
    seconds : tuple of float
        Of one fill, turn by turn.
    ceiling : float
        The best time of storing a constant in the same turns, in seconds.

    Examples
    --------
    >>> case = Case("normal", "float32", 1000, 1, cold=False)
    >>> result = Result(case, "NumPy", "PCG64", (3e-6, 2e-6, 6e-6), ceiling=1e-6)
    >>> round(result.best, 6), round(result.median, 6), result.share
    (2.0, 3.0, 0.5)
    """

    case: Case
    library: str
    way: str
    seconds: tuple[float, ...]
    ceiling: float

    @property
    def name(self) -> str:
        """Library and way."""
        return f"{self.library} {self.way}".strip()

    @property
    def best(self) -> float:
        """The shortest time, in nanoseconds an element."""
        return min(self.seconds) / self.case.size * 1e9

    @property
    def median(self) -> float:
        """The median time, in nanoseconds an element."""
        return median(self.seconds) / self.case.size * 1e9

    @property
    def spread(self) -> float:
        """The distance between the quartiles, as a share of the median."""
        low, middle, high = quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / middle

    @property
    def speed(self) -> float:
        """Bytes stored in a second at best, in units of 10^9."""
        return self.case.nbytes / min(self.seconds) / 1e9

    @property
    def share(self) -> float:
        """Speed as a share of that of storing a constant."""
        return self.ceiling / min(self.seconds)


@dataclass(frozen=True)
class Report:
    """The results of one run, and the machine they hold for.

    Parameters
    ----------
    machine : dict
        As `machine` returns it.
    results : list of Result
        In the order of measurement.
    jobs : list of Job
        Whole jobs, likewise.

    Examples
    --------
    >>> report = Report(machine(), measure(Case("normal", "float32", 64, 1, cold=False)))
    >>> report.results[0].library
    'memory-write limit'
    """

    machine: dict[str, Any]
    results: list[Result]
    jobs: list[Job] = field(default_factory=list)


def cases(
    distributions: Iterable[str] = DISTRIBUTIONS,
    dtypes: Iterable[str] = QUICK_DTYPES,
    powers: Iterable[int] = QUICK_POWERS,
    threads: Iterable[int] | None = None,
    memory: Iterable[str] = MEMORY,
) -> list[Case]:
    """Return the cases of all combinations, into touched memory and into cold.

    Sizes that the machine's free memory does not hold are left out, and cold memory where the
    C library might hand out memory that was used before.

    Parameters
    ----------
    distributions, dtypes : iterable of str
        Of `DISTRIBUTIONS` and `DTYPES`.
    powers : iterable of int
        For arrays of 2^power elements.
    threads : iterable of int, optional
        Unless given: 1, and as many as a fill uses.
    memory : iterable of str
        Of `MEMORY`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or no case is left.

    Examples
    --------
    >>> for case in cases(["normal"], ["float32"], [8, 26], threads=[2]):
    ...     print(case.size, case.cold)
    256 False
    67108864 False
    67108864 True
    """
    combinations = product(
        [_arguments.choice("distribution", name, DISTRIBUTIONS) for name in distributions],
        [_arguments.choice("dtype", name, DTYPES) for name in dtypes],
        [2 ** _arguments.integer("power", power, 0, _LARGEST_POWER) for power in powers],
        [
            _arguments.integer("threads", n, 1, 1024)
            for n in threads or sorted({1, fi.get_num_threads()})
        ],
        [_arguments.choice("memory", name, MEMORY) == "cold" for name in memory],
    )
    free = psutil.virtual_memory().available
    possible = [
        case
        for case in (Case(*combination) for combination in combinations)
        if _needs(case) <= free and (not case.cold or case.nbytes > _NEW_MEMORY)
    ]
    if not possible:
        raise value_error(f"{free:,} bytes of free memory are too few for every size")
    return possible


def _needs(case: Case) -> int:
    """Return the bytes in use at once: two arrays, and a cast's temporary and result."""
    return 2 * case.nbytes + 16 * case.size


def all_threads() -> list[int]:
    """Return the numbers of threads that show how fills scale: powers of two, and all.

    Examples
    --------
    >>> all_threads()[0]
    1
    """
    n = fi.get_num_threads()
    return sorted({2**k for k in range(n.bit_length())} | {n})


def measure(case: Case, repeats: int = 7, alone: bool = False) -> list[Result]:
    """Return what each contender took for a case, all of them taking turns.

    Parameters
    ----------
    case : Case
        What to fill.
    repeats : int
        How many turns each takes, 3 to 1000. What has taken long takes no more than 3.
    alone : bool
        Whether to leave out peers and all but the best instruction set.

    Raises
    ------
    TypeError, ValueError
        If `repeats` is not such a number.

    Examples
    --------
    >>> results = measure(Case("uniform", "float32", 64, 1, cold=False))
    >>> {"fastinit", "NumPy"} <= {result.library for result in results}
    True
    """
    _arguments.integer("repeats", repeats, _FEWEST_TURNS, 1000)
    chosen = contenders(case, touched(case))
    if alone:
        best = ("fastinit", _kernels.isas()[-1])
        chosen = [c for c in chosen if c.library == CONSTANT or (c.library, c.way) == best]
    times = take_turns(chosen, repeats)
    ceiling = min(
        min(seconds)
        for contender, seconds in zip(chosen, times, strict=True)
        if contender.library == CONSTANT
    )
    return [
        Result(case, contender.library, contender.way, seconds, ceiling)
        for contender, seconds in zip(chosen, times, strict=True)
    ]


def touched(case: Case) -> Any | None:
    """Return memory for a case that every page of is there already; None if it is to be cold.

    Examples
    --------
    >>> touched(Case("normal", "float16", 64, 1, cold=False)).dtype
    dtype('float16')
    """
    return None if case.cold else fi.zeros_(empty(case.size, case.dtype))


def take_turns(contenders: Sequence[Contender], repeats: int) -> list[tuple[float, ...]]:
    """Return the seconds of one fill, for each contender, turn by turn.

    The order is drawn anew each round: some leave threads behind that still spin, and nobody is
    to have always the same neighbour.

    Examples
    --------
    >>> [[first, second, third]] = take_turns([Contender("a", "sum", lambda: sum([1, 2]))], 3)
    >>> first > 0
    True
    """
    isa, order = _kernels.isa(), Random(1)
    try:
        loops = [_loops(contender) for contender in contenders]
        times: list[list[float]] = [[] for _ in contenders]
        for _ in range(repeats):
            for i in order.sample(range(len(contenders)), len(contenders)):
                if len(times[i]) < _FEWEST_TURNS or loops[i] * sum(times[i]) < _PATIENCE:
                    contenders[i].prepare()
                    times[i].append(_time(contenders[i].fill, loops[i]))
    finally:
        _kernels.use_isa(isa)
    return [tuple(seconds) for seconds in times]


def _loops(contender: Contender) -> int:
    """Return how many fills make a turn."""
    contender.prepare()
    contender.fill()  # compiles, and allocates what it keeps
    return ceil(_TURN / _time(contender.fill, 1))


def _time(fill: Callable[[], object], loops: int) -> float:
    """Return the seconds of one fill; the last one's memory is freed when the clock has stopped."""
    last: object
    start = perf_counter()
    for _ in repeat(None, loops):
        last = fill()
    seconds = perf_counter() - start
    del last
    return seconds / loops


def place(case: Case) -> str:
    """Return where the values of a case end up: "cache", "DRAM", or "cold" memory.

    Examples
    --------
    >>> place(Case("normal", "float32", 64, 1, cold=False))
    'cache'
    """
    if case.cold:
        return "cold"
    return "cache" if case.nbytes <= max(_caches().values(), default=0) else "DRAM"


def describe(case: Case) -> str:
    """Return a line that tells a case from all others.

    Examples
    --------
    >>> describe(Case("normal", "float32", 64, 1, cold=False))
    'normal float32, 2^6 elements, cache, 1 thread'
    """
    size = f"2^{case.size.bit_length() - 1}" if case.size.bit_count() == 1 else f"{case.size:,}"
    threads = f"{case.threads} thread{'s' if case.threads > 1 else ''}"
    return f"{case.distribution} {case.dtype}, {size} elements, {place(case)}, {threads}"


def table(results: Iterable[Result]) -> str:
    """Return one case's results as text.

    Examples
    --------
    >>> case = Case("normal", "float32", 1000, 1, cold=False)
    >>> print(table([Result(case, "NumPy", "PCG64", (3e-6, 2e-6, 6e-6), ceiling=1e-6)]))
    | ns per element | best  | median | spread | GB/s | of the ceiling |
    | -------------- | ----- | ------ | ------ | ---- | -------------- |
    | NumPy PCG64    | 2.000 | 3.000  | 67 %   | 2.0  | 0.50           |
    """
    columns = ("ns per element", "best", "median", "spread", "GB/s", "of the ceiling")
    rows = [
        (
            r.name,
            f"{r.best:.3f}",
            f"{r.median:.3f}",
            f"{r.spread:.0%}".replace("%", " %"),
            f"{r.speed:.1f}",
            f"{r.share:.2f}",
        )
        for r in results
    ]
    return markdown(columns, rows)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that Markdown and the eye can read.

    Examples
    --------
    >>> print(markdown(["a", "b"], [["1", "long"]]))
    | a | b    |
    | - | ---- |
    | 1 | long |
    """
    cells = [tuple(columns), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, tuple("-" * width for width in widths))
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(f"| {line} |" for line in lines)


def machine() -> dict[str, Any]:
    """Return what the numbers depend on: CPU, caches, memory, versions, and how busy it is.

    Examples
    --------
    >>> machine()["fastinit"]["stream"]
    'fastinit-3'
    """
    return {
        "cpu": _cpu(),
        "caches": _caches(),
        "memory": psutil.virtual_memory().total,
        "huge_pages": _said_in(_HUGE_PAGES),
        "load": psutil.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "fastinit": fi.info(),
        "packages": dict(_versions()),
    }


def _said_in(path: Path) -> str:
    """Return what a file of the system's says; nothing where it is not, or is not to be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _cpu() -> str:
    lines = _said_in(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _caches() -> dict[str, int]:
    """Return the first CPU's caches for data, in bytes, by name."""
    caches = {}
    for path in sorted(_CACHES.glob("index*")):
        level, size, kind = (_said_in(path / name) for name in ("level", "size", "type"))
        if level and size and kind != "Instruction":
            caches[f"L{level}"] = int(size.removesuffix("K")) * 1024
    return caches


def _versions() -> Iterable[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def save(report: Report, path: Path) -> None:
    """Write a report as JSON, with every turn's time; what it replaces stays until it is whole.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> report = Report(machine(), measure(Case("uniform", "float32", 64, 1, cold=False)))
    >>> with TemporaryDirectory() as directory:
    ...     save(report, Path(directory, "results.json"))
    ...     load(Path(directory, "results.json")) == report
    True
    """
    with appearing(path) as file:
        file.write(json.dumps(as_dict(report), indent=1).encode())


def as_dict(report: Report) -> dict[str, Any]:
    """Return a report as what JSON has: the machine, a dictionary for each result and each job.

    Examples
    --------
    >>> sorted(as_dict(Report(machine(), [])))
    ['jobs', 'machine', 'results']
    """
    rows = [
        {
            **result.case._asdict(),
            "library": result.library,
            "way": result.way,
            "place": place(result.case),
            "best_ns": result.best,
            "median_ns": result.median,
            "spread": result.spread,
            "share": result.share,
            "ceiling": result.ceiling,
            "seconds": result.seconds,
        }
        for result in report.results
    ]
    return {"machine": report.machine, "results": rows, "jobs": list(map(asdict, report.jobs))}


def load(path: Path) -> Report:
    """Return the report that `save` wrote.

    Raises
    ------
    OSError, ValueError
        If there is no such file, or it is not a report.

    Examples
    --------
    >>> load(Path("absent.json"))
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'absent.json'
    """
    try:
        report = json.loads(path.read_text())
        results = [
            Result(
                case=Case(*(row[field] for field in Case._fields)),
                library=row["library"],
                way=row["way"],
                seconds=tuple(row["seconds"]),
                ceiling=row["ceiling"],
            )
            for row in report["results"]
        ]
        jobs = [
            Job(**{**row, "seconds": {who: tuple(s) for who, s in row["seconds"].items()}})
            for row in report.get("jobs", ())
        ]
        return Report(report["machine"], results, jobs)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise value_error(f"{path}: not a report of fastinit's benchmark: {error!r}") from None
