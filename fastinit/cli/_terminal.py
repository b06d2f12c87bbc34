"""What the commands share: exit statuses, errors in one line, progress, memory, rows, JSON."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, NoReturn

import psutil  # type: ignore[import-untyped]
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

FAILED, USAGE, DIFFERS, INTERRUPTED = 1, 2, 3, 130
STATUSES = (
    f"Exit status: 0 if all went well, {FAILED} if it failed, {USAGE} for a wrong use of the "
    f"command line, {DIFFERS} if values differ from what they must be (check), "
    f"{INTERRUPTED} after Ctrl-C."
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


_LINE = 1000  # characters of an error
_CELL = 300  # characters of a cell


class UsageError(ValueError):
    """Options that do not go together, or are not what they must be."""


def refuse(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Raise ValueError if one of these options was given, which would have no effect."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise ValueError(f"--{name.replace('_', '-')} is {reason}")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user may meet into one line and status 1; Ctrl-C into a line and 130.

    A warning is one line too.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            yield
    except KeyboardInterrupt:
        end("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has seen enough; click ends quietly
        raise
    except (OSError, ValueError, IndexError, MemoryError) as error:
        reason = str(error) or "there is not enough memory"
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{error.filename}: {error.strerror}"
        end(reason, USAGE if isinstance(error, UsageError) else FAILED)


def end(reason: str, status: int) -> NoReturn:
    """End the command with a line on stderr, as long as there is room for, and a status."""
    line = " ".join(reason.split())
    if len(line) > _LINE:
        line = f"{line[: _LINE * 2 // 3]} ... {line[-_LINE // 3 :]}"
    say(f"fastinit: {line}", err=True)
    raise typer.Exit(status) from None


def say(text: object, *, err: bool = False) -> None:
    """Print lines: all that the commands print, but JSON."""
    typer.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def printable(text: str) -> str:
    """Return a text that a terminal shows as it is, and does not obey.

    Names come out of foreign files: they may hold a terminal's commands, and characters that
    turn the direction of a line.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _show_warning(
    show: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any
) -> None:
    if category is UserWarning:
        say(f"fastinit: warning: {' '.join(str(message).split())}", err=True)
    else:
        show(message, category, *where)


class PeakMemory:
    """The largest private memory seen; the page cache and libraries' text are not private."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._next = 0.0
        self.nbytes = 0
        self.sample()

    def sample(self) -> None:
        """Look, if the last look was a while ago."""
        if time.monotonic() >= self._next:
            memory = self._process.memory_info()
            self.nbytes = max(self.nbytes, memory.rss - getattr(memory, "shared", 0))
            self._next = time.monotonic() + 0.02


@contextmanager
def bytes_bar(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of bytes; what is yielded takes how many more."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with _bar(text, total, columns) as advance:
        yield advance


@contextmanager
def steps_bar(text: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar of steps; what is yielded is called for each."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with _bar(text, total, columns) as advance:
        yield lambda: advance(1)


@contextmanager
def share_bar(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of a share of the work and the time left; what is yielded takes how much more."""
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with _bar(text, total, columns) as advance:
        yield advance


@contextmanager
def _bar(
    text: str, total: int, columns: tuple[ProgressColumn, ...]
) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(text, total).advance
        return
    with Progress(
        TextColumn("{task.description}"), *columns, console=console, transient=True
    ) as bar:
        task = bar.add_task(escape(printable(text)), total=total)
        yield lambda n: bar.advance(task, n)


class _Lines:
    """Progress where nobody watches, such as in a batch job's log: a line every 10 s."""

    EVERY = 10.0  # seconds

    def __init__(self, text: str, total: int) -> None:
        self._text, self._total, self._done = text, total, 0
        self._start = time.monotonic()
        self._next = self._start + self.EVERY

    def advance(self, n: int) -> None:
        """Count n more; print a line if the last one was long enough ago."""
        self._done += n
        now = time.monotonic()
        if now < self._next or not self._done:
            return
        self._next = now + self.EVERY
        left = (now - self._start) * (self._total - self._done) / self._done
        share = 100 * self._done / self._total
        say(f"{self._text}: {share:.0f} % done, {left:.0f} s left", err=True)


def rows(values: Mapping[str, str]) -> None:
    """Print values, each after its name."""
    width = max(map(len, values))
    for label, value in values.items():
        say(f"{label:<{width}}  {value}")


def print_json(value: Any) -> None:
    """Print a value as JSON: what is not finite is null, a complex number its two parts."""
    typer.echo(json.dumps(_finite(value), indent=1, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, complex):
        return _finite([value.real, value.imag])
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def columns(head: Sequence[str] | None, lines: Sequence[Sequence[str]]) -> None:
    """Print lines of cells, each column as wide as its widest."""
    all_lines = [[*map(_cell, line)] for line in ([head, *lines] if head else lines)]
    widths = [max(map(len, column)) for column in zip(*all_lines, strict=True)]
    for line in all_lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        say("  ".join(cells).rstrip())


def _cell(text: str) -> str:
    """Return a cell's text, or its two ends: a foreign name would make every line as long."""
    text = printable(text)
    return text if len(text) <= _CELL else f"{text[: _CELL // 2]}...{text[-_CELL // 2 :]}"
