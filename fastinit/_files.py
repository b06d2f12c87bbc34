"""Files that appear whole, directories that have one writer, and others' files, read safely."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
import stat
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

# What a file is called until it is whole: hidden, and with an ending that nobody else uses.
_PART = re.compile(r"\.(.+)\.[0-9a-f]{8}\.fastinit", re.DOTALL)
PART_LENGTH = len("..01234567.fastinit")  # what such a name has more

LOCK = ".fastinit.lock"

# Bytes: what is read past the page cache begins and ends at a multiple of them, in the file and in
# memory. They are a multiple of every disk's own block.
PAGE = 4096

# Of file systems that have no locks, no links, no space to set aside, or directories that cannot be
# synced; and of systems that forbid the call.
UNKNOWN = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}

_seeking = threading.Lock()  # of files that know no write at a place


@contextmanager
def appearing(path: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Yield a new file that gets its name when the block ends, and vanishes if it raises.

    Raises
    ------
    FileExistsError
        If something has that name by then, and is not to be replaced.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.fastinit")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            _give_name(temporary, path)
        _sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        # Of a file that is open, or in the way of the name.
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def write_at(file: BinaryIO, values: memoryview, at: int) -> None:
    """Write bytes at a place of an open file, from any thread."""
    if not hasattr(os, "pwrite"):  # Windows
        with _seeking:
            file.seek(at)
            file.write(values)
        return
    while values:
        n = os.pwrite(file.fileno(), values, at)
        values, at = values[n:], at + n


def _give_name(temporary: Path, path: Path) -> None:
    """Name a file, unless the name is taken: a link is refused then, where a rename is not."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "file exists", str(path)) from None
    except OSError as error:
        if error.errno not in UNKNOWN | {errno.EPERM, errno.EMLINK}:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "file exists", str(path)) from None
        temporary.rename(path)
    else:
        temporary.unlink()


def _sync(directory: Path) -> None:
    """Have a directory's names on the disk, where that can be asked for."""
    if sys.platform == "win32":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN | {errno.EBADF}:
            raise
    finally:
        os.close(descriptor)


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
        match = _PART.fullmatch(path.name)
        if match and match[1] in names and stat.S_ISREG(path.lstat().st_mode):
            path.unlink(missing_ok=True)


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Be the only one who writes into a directory, as far as all use this.

    The lock is a file's, which the system releases when its process ends, however it ends.

    Raises
    ------
    BlockingIOError
        If another process, which the message names, is at it.
    OSError
        If the directory cannot be written.
    """
    path = directory / LOCK
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        file = os.fdopen(os.open(path, flags, 0o666), "r+b")
        try:
            _lock(file, directory)
            held = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        except BaseException:
            file.close()
            raise
        if held:
            break
        file.close()  # who had it has removed it meanwhile
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        yield
    finally:
        if sys.platform == "win32":
            file.close()  # an open file cannot be removed
        with suppress(OSError):
            path.unlink()
        file.close()


def _lock(file: BinaryIO, directory: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(2**30)  # beyond what is read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        who = file.read(200).decode(errors="replace").strip() or "another process"
        reason = f"{who} is writing into it"
        raise BlockingIOError(errno.EWOULDBLOCK, reason, str(directory)) from None
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise


@contextmanager
def opened(path: Path, flags: int = 0) -> Iterator[FileIO]:
    """Yield a file to read, which must be one: a pipe or a device could keep us for ever.

    Raises
    ------
    OSError
        If it cannot be read, or is no file.
    """
    flags |= os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is not a file", str(path))
        try:
            yield file
        except OSError as error:
            if error.filename is None:  # of a disk that fails
                raise OSError(error.errno, error.strerror, str(path)) from None
            raise


def read_direct(path: Path, begin: int, into: NDArray[np.uint8]) -> int:
    """Read a file past the page cache, once, and return the number of bytes that it gave.

    They are 0 where the system, or the file system, has no such way. The page cache costs as much
    time of the CPU as drawing the values does: 17 to 25 s for 16 GB, where 4 are enough.

    Parameters
    ----------
    path : Path
        The file.
    begin : int
        Where to begin: a multiple of `PAGE` bytes.
    into : array
        Memory that begins at a multiple of `PAGE` bytes, and has as many.

    Raises
    ------
    OSError
        If it cannot be read, or is no file.
    """
    if not hasattr(os, "O_DIRECT"):
        return 0
    try:
        with opened(path, os.O_DIRECT) as file:
            file.seek(begin)
            return file.readinto(into.data) or 0
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
        return 0


def fits_page_cache(nbytes: int) -> bool:
    """Return whether the page cache may hold so many bytes: half of this machine's memory.

    Where the system does not tell, it may.
    """
    try:
        return nbytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError):
        return True


def contents(path: Path, most: int) -> bytes:
    """Return what is in a file of at most so many bytes.

    Raises
    ------
    OSError
        If it cannot be read, is no file, or is larger.
    """
    with opened(path) as file:
        nbytes = os.fstat(file.fileno()).st_size
        if nbytes > most:
            raise OSError(errno.EFBIG, f"has {nbytes:,} bytes; allowed: {most:,}", str(path))
        data = b""
        while more := file.read(most + 1 - len(data)):
            data += more
            if len(data) > most:
                raise OSError(errno.EFBIG, f"has more than {most:,} bytes", str(path))
        return data
