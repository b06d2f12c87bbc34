"""What every command of the command line shows: errors in one line, bars, memory, rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import psutil  # type: ignore[import-untyped]
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user may meet into one line and status 1."""
    try:
        yield
    except BrokenPipeError:  # the reader of our output has seen enough; click ends quietly
        raise
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{error.filename}: {error.strerror}"
        typer.echo(f"fastinit: {' '.join(reason.split())}", err=True)
        raise typer.Exit(1) from None


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
def _bar(
    text: str, total: int, columns: tuple[ProgressColumn, ...]
) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(text, total=total)
        yield lambda n: bar.advance(task, n)


def rows(values: Mapping[str, str]) -> None:
    """Print values, each after its name."""
    width = max(map(len, values))
    for label, value in values.items():
        typer.echo(f"{label:<{width}}  {value}")


def columns(head: Sequence[str] | None, lines: Sequence[Sequence[str]]) -> None:
    """Print lines of cells, each column as wide as its widest."""
    all_lines = [head, *lines] if head else lines
    widths = [max(map(len, column)) for column in zip(*all_lines, strict=True)]
    for line in all_lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
