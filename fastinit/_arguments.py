"""Numbers, choices, shapes and axes that were given: taken as their type, or refused by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import SupportsIndex, cast

from fastinit._errors import type_error, value_error

Shape = SupportsIndex | Sequence[SupportsIndex]
Axes = int | Sequence[int]


def shown(value: object) -> str:
    """Return a value's text for an error, which has room for 80 characters of it."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "an integer of thousands of digits"
    except Exception:
        return f"<{type(value).__name__}>"
    text = text.replace("\n", " ")  # as of a matrix
    return text if len(text) <= 80 else f"{text[:60]}...{text[-15:]}"


def real(name: str, value: object) -> float:
    """Return a real number as a float; raise TypeError if it is none."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise type_error(f"{name}={shown(value)} must be a real number")
    try:
        return float(value)
    except OverflowError:
        raise value_error(f"{name}={shown(value)} is larger than any float") from None


def positive(name: str, value: object) -> float:
    """Return a positive finite number; raise TypeError or ValueError if it is none."""
    number = real(name, value)
    if not 0.0 < number < math.inf:
        raise value_error(f"{name}={shown(value)} must be positive and finite")
    return number


def squared(name: str, value: object) -> float:
    """Return the square of a positive number; raise TypeError or ValueError if there is none.

    By multiplication, which is the same everywhere: ``x**2`` is the C library's pow.
    """
    number = positive(name, value)
    square = number * number
    if not 0.0 < square < math.inf:
        raise value_error(f"{name}={shown(value)}: its square must be positive and finite")
    return square


def spread(name: str, value: float) -> None:
    """Raise ValueError if a standard deviation is negative or NaN."""
    if not value >= 0.0:
        raise value_error(f"{name}={value!r} must be 0 or greater")


def interval(low_name: str, low: float, high_name: str, high: float) -> None:
    """Raise ValueError if no number lies between two bounds."""
    if low > high:
        raise value_error(f"{low_name}={low!r} must not be greater than {high_name}={high!r}")
    if not low <= high or low == math.inf or high == -math.inf:
        raise value_error(
            f"{low_name}={low!r}, {high_name}={high!r} must be bounds: no NaN, and not the same "
            "infinity"
        )


def integer(name: str, value: object, low: int | None = None, high: int | None = None) -> int:
    """Return an integer of low to high; raise TypeError or ValueError if it is none."""
    # First the usual, as asking an abstract class takes longer than drawing 64 values.
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, Integral)):
        raise type_error(f"{name}={shown(value)} must be an integer")
    number = int(value)
    if low is not None and high is not None and not low <= number <= high:
        raise value_error(f"{name}={shown(value)} must be {low} to {high}")
    return number


def choice(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return one of the texts that are allowed; raise ValueError if it is none."""
    texts = tuple(allowed)
    if not isinstance(value, str) or value not in texts:
        raise value_error(f"{name}={shown(value)} is unknown; allowed: {', '.join(texts)}")
    return value


def shape(name: str, value: Shape) -> tuple[int, ...]:
    """Return a shape as a tuple; raise TypeError or ValueError if it is none.

    A shape holds fewer than 2**63 elements, so that an index fits 64 bits with a sign.
    """
    lengths = indices(name, value)
    if math.prod(lengths) >= 2**63:
        raise value_error(
            f"{name}={shown(value)} has {shown(math.prod(lengths))} elements; allowed: < 2**63"
        )
    return lengths


def indices(name: str, value: Shape) -> tuple[int, ...]:
    """Return an index of each axis, or a length, as a tuple; raise as `shape`."""
    try:
        # Asking about a protocol takes longer than all the rest, and most shapes need no question.
        kind = type(value)
        whole = kind is int or (kind is not tuple and isinstance(value, SupportsIndex))
        given = (value,) if whole else tuple(cast("Sequence[SupportsIndex]", value))
        if bool in map(type, given):
            raise TypeError
        lengths = tuple(map(operator.index, cast("Sequence[SupportsIndex]", given)))
    except (TypeError, AttributeError):
        raise type_error(
            f"{name}={shown(value)} must be an integer or a tuple of integers"
        ) from None
    if lengths and min(lengths) < 0:
        raise value_error(f"{name}={shown(value)} must not be negative")
    return lengths


def axes(shape: tuple[int, ...], hint: str = "", /, **named: Axes) -> list[list[int]]:
    """Return each argument's axes of the shape, counted from 0.

    Raise TypeError or ValueError if one is no axis, or is given twice.
    """
    groups = []
    for name, given in named.items():
        group: list[object] = list(given) if isinstance(given, Sequence) else [given]
        numbers = [int(a) for a in group if not isinstance(a, bool) and isinstance(a, Integral)]
        if len(numbers) < len(group):
            raise type_error(f"{name}={shown(given)} must be an integer or a tuple of integers")
        if not all(-len(shape) <= axis < len(shape) for axis in numbers):
            allowed = f"{-len(shape)} to {len(shape) - 1}" if shape else "none"
            raise value_error(
                f"{name}={shown(given)} is not an axis of shape {shape}; allowed: {allowed}{hint}"
            )
        groups.append([axis % len(shape) for axis in numbers])
    flat = [axis for group in groups for axis in group]
    if len(set(flat)) != len(flat):
        text = " and ".join(f"{name}={shown(given)}" for name, given in named.items())
        raise value_error(f"{text} must be different axes of shape {shape}")
    return groups


def single_axes(shape: tuple[int, ...], **named: Axes) -> list[int]:
    """Return each argument's axis of the shape, counted from 0; raise as `axes`."""
    groups = axes(shape, **named)
    for (name, given), group in zip(named.items(), groups, strict=True):
        if len(group) != 1:
            raise value_error(f"{name}={shown(given)} must be one axis of shape {shape}")
    return [group[0] for group in groups]
