"""One message for every package that is missing, and that only an extra installs."""

from __future__ import annotations

import os

from fastinit._errors import value_error

# The extra that brings a package, and what needs it.
_EXTRAS = {
    "distributed": "dask",
    "dask": "dask",
    "jax": "jax",
    "jinja2": "probe",
    "keras": "keras",
    "matplotlib": "probe",
    "ml_dtypes": "cli",
    "numba": "numba",
    "psutil": "cli",
    "rich": "cli",
    "safetensors": "cli",
    "sklearn": "probe",
    "threadpoolctl": "probe",
    "tomli": "cli",
    "torch": "torch",
    "transformers": "hf",
    "typer": "cli",
}


def missing(package: str, what: str, extra: str | None = None) -> str:
    """Return the message that a package is missing, and how to install it.

    Parameters
    ----------
    package : str
        The name by which it is imported.
    what : str
        What needs it, at the beginning of a sentence.
    extra : str, optional
        The extra to install, if it is not the package's usual one.

    Examples
    --------
    >>> missing("numba", "backend='numba'")[:41]
    "backend='numba' needs the package numba: "
    """
    extra = extra or _EXTRAS[package]
    return f"{what} needs the package {package}: pip install {_target(extra)}"


def require(package: str, what: str, extra: str | None = None) -> None:
    """Raise ValueError with `missing`'s message if a package is not installed.

    Examples
    --------
    >>> require("numpy", "everything", "cli")
    """
    from importlib.util import find_spec  # here: it takes time to import

    if find_spec(package) is None:
        raise value_error(missing(package, what, extra))


def known(package: str | None) -> bool:
    """Return whether an extra brings this package."""
    return package in _EXTRAS


def _target(extra: str) -> str:
    """Return what pip is given: the checkout that this package is in, or its name on the index."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    checkout = all(os.path.isfile(os.path.join(root, n)) for n in ("pyproject.toml", "setup.py"))
    return f"'.[{extra}]' in {root}" if checkout else f"'fastinit-nn[{extra}]'"
