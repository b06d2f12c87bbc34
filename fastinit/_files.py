"""Files that appear whole."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def appearing(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that gets its name when the block ends, and vanishes if it raises."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # of a file that is open
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


@contextmanager
def no_empty_directory(path: Path) -> Iterator[None]:
    """If the block raises, remove the directories made for `path` in it, unless they hold files."""
    made = [directory for directory in (path, *path.parents) if not directory.exists()]
    try:
        yield
    except BaseException:
        for directory in made:
            with suppress(OSError):
                directory.rmdir()
        raise


def remove_left_behind(directory: Path, names: Collection[str]) -> None:
    """Remove what is left of files with these names that never appeared: of killed processes."""
    for path in directory.iterdir():
        match = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}", path.name, re.DOTALL)
        if match and match[1] in names:
            path.unlink(missing_ok=True)
