"""What a fill uses when the call does not say: how many threads, and which kernels."""

from __future__ import annotations

import os
from collections.abc import Callable

from fastinit import _arguments, _kernels
from fastinit._errors import value_error
from fastinit._extras import missing

# A backend fills an array that has been checked; the values do not depend on which.
Backend = Callable[..., None]

_MAX_THREADS = 1024


def _threads_from_environment() -> int:
    text = os.environ.get("FASTINIT_NUM_THREADS", "")
    if not text:
        return 0
    if not text.isdecimal() or len(text) > 9:  # Python reads no number of thousands of digits
        raise value_error(f"FASTINIT_NUM_THREADS={text!r} must be 1 to {_MAX_THREADS}")
    return _arguments.integer("FASTINIT_NUM_THREADS", int(text), 1, _MAX_THREADS)


default_threads = _threads_from_environment()  # 0: all that this process may use


def set_num_threads(n: int | None) -> None:
    """Set how many threads a fill uses when the call does not say.

    Parameters
    ----------
    n : int or None
        1 to 1024. None: as many as this process may use (its CPU affinity and its control
        group's quota), which is also the start value unless ``FASTINIT_NUM_THREADS`` is set.

    Raises
    ------
    TypeError, ValueError
        If `n` is not such a number.

    Examples
    --------
    >>> fi.set_num_threads(2)
    >>> fi.get_num_threads()
    2
    >>> fi.set_num_threads(None)
    """
    global default_threads
    default_threads = 0 if n is None else _arguments.integer("n", n, 1, _MAX_THREADS)


def get_num_threads() -> int:
    """Return how many threads a fill uses when the call does not say.

    Examples
    --------
    >>> fi.get_num_threads() >= 1
    True
    """
    return default_threads or _kernels.cpus()


def checked_threads(threads: int | None) -> int:
    """Return the number for the kernels, 0 for the default of the process.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not None and not a number of threads.
    """
    if threads is None:
        return default_threads
    return _arguments.integer("threads", threads, 1, _MAX_THREADS)


def count_threads(threads: int | None) -> int:
    """Return how many threads a call uses; raise TypeError or ValueError if that is no number."""
    return checked_threads(threads) or _kernels.cpus()


def backend(name: str | None, argument: str = "backend") -> Backend:
    """Return the backend of a name, or the default one.

    Raises
    ------
    ValueError
        If there is no such backend.
    ImportError
        If it is Numba's and Numba is not installed.
    """
    if name is None:
        return default_backend
    if name == "c":
        return _kernels.fill
    if name != "numba":
        _arguments.choice(argument, name, ("c", "numba"))
    try:
        from fastinit.numba import _fill
    except ImportError as error:
        raise ImportError(f"{missing('numba', f'{argument}={name!r}')} ({error})") from None
    return _fill.fill


def orthogonal_backend(name: str | None) -> Backend:
    """Return what a backend fills orthogonal matrices with; raise as `backend`."""
    if backend(name) is _kernels.fill:
        return _kernels.orthogonal
    from fastinit.numba import _orthogonal

    return _orthogonal.orthogonal


def set_backend(name: str) -> None:
    """Set which kernels a fill uses when the call does not say; the values are the same.

    Parameters
    ----------
    name : {"c", "numba"}
        The compiled C kernels, or Numba's, which is imported then. "c" is the start value
        unless ``FASTINIT_BACKEND`` is set.

    Raises
    ------
    ValueError
        If there is no such backend.
    ImportError
        If Numba is not installed.

    Examples
    --------
    >>> fi.set_backend("c")
    >>> fi.info()["backend"]
    'c'
    """
    _set_backend(name, "name")


def _set_backend(name: str, argument: str) -> None:
    global default_backend, backend_name
    default_backend, backend_name = backend(name, argument), name


backend_name = "c"
default_backend: Backend = _kernels.fill


def read_environment() -> None:
    """Take the backend that the environment names.

    The package calls this when all of it is imported: Numba's backend imports other parts of it.
    """
    _set_backend(os.environ.get("FASTINIT_BACKEND") or "c", "FASTINIT_BACKEND")
