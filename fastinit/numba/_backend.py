"""Numba's kernels as a backend of the entry point; see `fastinit._settings.Backend`."""

from fastinit.numba._fill import fill
from fastinit.numba._orthogonal import orthogonal

__all__ = ["fill", "orthogonal"]
