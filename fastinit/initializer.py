"""Initializers by a short text: ``he``, ``normal:0.01``, ``orthogonal:1.4``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import fastinit.initializers as init
from fastinit.diagnostics._network import Array
from fastinit.random import Generator
from fastinit.structured import orthogonal_

Initializer = Callable[[Array, Generator], object]
"""Fills an array, (in, out) or (height, width, in, out), in place from a generator."""


class _Spec(NamedTuple):
    """What a name stands for: the number that may follow it, and the fill."""

    number: str  # what it is; "" if none may follow
    default: float | None  # None: it must follow
    fill: Callable[[Array, float, Generator], object]


def _scaled(scale: float, mode: str, distribution: str) -> _Spec:
    return _Spec(
        "GAIN",
        1.0,
        lambda x, gain, rng: init.variance_scaling_(
            x, scale * gain**2, mode, distribution, rng=rng
        ),
    )


_SPECS = {
    "zeros": _Spec("", 0.0, lambda x, _, __: init.zeros_(x)),
    "constant": _Spec("VALUE", None, lambda x, value, _: init.constant_(x, value)),
    "normal": _Spec("STD", None, lambda x, std, rng: init.normal_(x, 0.0, std, rng=rng)),
    "uniform": _Spec("BOUND", None, lambda x, a, rng: init.uniform_(x, -a, a, rng=rng)),
    "truncated_normal": _Spec(
        "STD", None, lambda x, std, rng: init.truncated_normal_(x, 0.0, std, rng=rng)
    ),
    "xavier": _scaled(1.0, "fan_avg", "normal"),
    "xavier_uniform": _scaled(1.0, "fan_avg", "uniform"),
    "he": _scaled(2.0, "fan_in", "normal"),
    "he_uniform": _scaled(2.0, "fan_in", "uniform"),
    "lecun": _scaled(1.0, "fan_in", "normal"),
    "lecun_uniform": _scaled(1.0, "fan_in", "uniform"),
    "orthogonal": _Spec("GAIN", 1.0, lambda x, gain, rng: orthogonal_(x, gain, rng=rng)),
}


def allowed() -> str:
    """Return the forms that `parse` takes, for messages and help.

    Examples
    --------
    >>> allowed()[:31]
    'zeros, constant:VALUE, normal:S'
    """
    return ", ".join(name + _form(spec) for name, spec in _SPECS.items())


def _form(spec: _Spec) -> str:
    if not spec.number:
        return ""
    return f":{spec.number}" if spec.default is None else f"[:{spec.number}]"


def parse(text: str) -> Initializer:
    """Return the initializer that a text names.

    Parameters
    ----------
    text : str
        A name, or a name and a number: ``zeros``, ``constant:VALUE``, ``normal:STD``,
        ``uniform:BOUND`` (on +- BOUND), ``truncated_normal:STD``; ``xavier``, ``he``, ``lecun``
        (normal; ``xavier_uniform`` and so on) and ``orthogonal``, each with ``:GAIN`` or 1.

    Returns
    -------
    callable
        ``fill(x, rng)``, for x of (in, out) or (height, width, in, out).

    Raises
    ------
    ValueError
        If the text is not of this form; the message lists the forms.

    Examples
    --------
    >>> x = np.empty((64, 64))
    >>> _ = parse("normal:0.01")(x, fi.default_rng(1))
    >>> bool(abs(x.std() - 0.01) < 1e-3)
    True
    """
    name, colon, digits = text.partition(":")
    spec = _SPECS.get(name)
    if spec is None or (not spec.number if colon else spec.default is None):
        raise ValueError(f"initializer={text!r} is unknown; allowed: {allowed()}")
    fill = spec.fill
    try:
        number = float(digits) if colon else spec.default or 0.0
        fill(np.empty((1, 1)), number, Generator(np.random.SeedSequence(0)))  # refuses now
    except ValueError as error:
        raise ValueError(f"initializer={text!r}: {error}") from None
    return lambda x, rng: fill(x, number, rng)
