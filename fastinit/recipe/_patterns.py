"""Patterns of tensors' names: shell patterns that may hold whole numbers, such as ``{layer}``.

A foreign file gives both the pattern and the name, so that no pair of them may take long: a
regular expression with 30 wildcards would not end. Here the time is that of the pattern's length
times the name's, over the bits of a word: every place in the name is a bit of one integer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import count
from typing import NamedTuple

# A pattern is cut into these: an index, a set of characters, one of the two wildcards, or a
# character that stands for itself. `fnmatch` would do but for the indices.
_TOKEN = re.compile(
    r"\{(?P<index>\w+)\}|\[(?P<negated>!?)(?P<set>\]?[^\]]*)\]|(?P<one>.)", re.DOTALL
)
_DIGITS = frozenset("0123456789")


class _Token(NamedTuple):
    """A part of a pattern: `*`, an index's whole number, a character, or one of a set."""

    number: str | None = None
    literal: str | None = None
    one: re.Pattern[str] | None = None  # of what the character may be


_ANY = _Token()


class _Pattern(NamedTuple):
    """The text that every name that fits begins and ends with, and the parts between them."""

    begin: str
    tokens: tuple[_Token, ...]
    end: str

    def middle(self, name: str) -> str | None:
        """Return what of a name the parts must fit; None if it begins or ends otherwise."""
        begin, stop = len(self.begin), len(name) - len(self.end)
        if stop < begin or not (name.startswith(self.begin) and name.endswith(self.end)):
            return None
        return name[begin:stop]


@lru_cache
def _parsed(pattern: str) -> _Pattern:
    tokens = [_token(matched) for matched in _TOKEN.finditer(pattern)]
    where = [i for i, token in enumerate(tokens) if token.literal is None]
    first, stop = (where[0], where[-1] + 1) if where else (len(tokens), len(tokens))
    begin, end = ("".join(t.literal or "" for t in ts) for ts in (tokens[:first], tokens[stop:]))
    return _Pattern(begin, tuple(tokens[first:stop]), end)


def _token(matched: re.Match[str]) -> _Token:
    if matched["index"]:
        return _Token(number=matched["index"])
    if matched["one"] == "*":
        return _ANY
    if matched["one"] and matched["one"] != "?":
        return _Token(literal=matched["one"])
    return _Token(one=re.compile(_characters(matched), re.DOTALL))


def _characters(token: re.Match[str]) -> str:
    if token["one"]:
        return "."
    characters = re.sub(r"([\\\[\]^&~|])", r"\\\1", token["set"])
    return f"[{'^' if token['negated'] else ''}{characters}]"


def indices(pattern: str) -> list[str]:
    """Return the names of a pattern's whole numbers.

    Raises
    ------
    ValueError
        If it is no pattern: a name is there twice, or a set of characters is none.

    Examples
    --------
    >>> indices("h.{layer}.w")
    ['layer']
    """
    try:
        names = [token.number for token in _parsed(pattern).tokens if token.number]
    except re.error as error:
        raise ValueError(str(error)) from None
    if len(set(names)) < len(names):
        raise ValueError("an index is there twice")
    return names


def fits(pattern: str, name: str) -> bool:
    """Return whether a name fits a pattern.

    Examples
    --------
    >>> fits("*.bias", "h.bias")
    True
    """
    parsed = _parsed(pattern)
    middle = parsed.middle(name)
    # Most patterns are a wildcard and an end.
    return middle is not None and (parsed.tokens == (_ANY,) or bool(_fits(parsed.tokens, middle)))


def match(pattern: str, name: str) -> Mapping[str, int] | None:
    """Return the whole numbers in a name that fits a pattern; None if it does not fit.

    Where it fits in several ways, each wildcard takes as much as it can, from the left.

    Examples
    --------
    >>> match("h.{layer}.*", "h.3.w"), match("h.{layer}.*", "h.w")
    ({'layer': 3}, None)
    """
    parsed = _parsed(pattern)
    middle = parsed.middle(name)
    places = [] if middle is None else _fits(parsed.tokens, middle)
    return _numbers(parsed.tokens, places, middle) if middle is not None and places else None


def _fits(tokens: tuple[_Token, ...], name: str) -> list[int]:
    """Return, for each token, where in a name that fits it may begin; nothing if none fits.

    Bit i of number t: from the place i on, the name fits the tokens from t on.
    """
    places = _places(name)
    digits = _union(places, _DIGITS)
    begins = [1 << len(name)]
    for token in reversed(tokens):
        after = begins[-1]
        if token.literal is not None:
            begins.append(after >> 1 & places.get(token.literal, 0))
        elif token.one is not None:
            allowed = [c for c in places if token.one.match(c)]
            begins.append(after >> 1 & _union(places, allowed))
        elif token.number is None:
            begins.append((1 << after.bit_length()) - 1)
        else:
            begins.append(_runs(after >> 1 & digits, digits))
        if not begins[-1]:
            return []
    return begins[::-1] if begins[-1] & 1 else []


@lru_cache
def _places(name: str) -> dict[str, int]:
    """Return where in a name each of its characters is, as the bits of an integer."""
    places: dict[str, int] = {}
    for i, c in enumerate(name):
        places[c] = places.get(c, 0) | 1 << i
    return places


def _union(places: Mapping[str, int], characters: frozenset[str] | list[str]) -> int:
    union = 0
    for c in characters:
        union |= places.get(c, 0)
    return union


def _runs(ends: int, digits: int) -> int:
    """Return the places from which digits alone lead to one of the ends."""
    step = 1
    while digits:
        ends |= ends >> step & digits
        digits &= digits >> step
        step *= 2
    return ends


def _numbers(tokens: tuple[_Token, ...], begins: list[int], name: str) -> dict[str, int]:
    """Walk through a name that fits; return the numbers in it."""
    numbers: dict[str, int] = {}
    at = 0
    for token, after in zip(tokens, begins[1:], strict=True):
        begin = at
        if token.one is not None or token.literal is not None:
            at += 1
        elif token.number is None:
            at = after.bit_length() - 1
        else:
            run = len(name[at:]) - len(name[at:].lstrip("0123456789"))
            at = (after & ((1 << at + run + 1) - 1)).bit_length() - 1
            numbers[token.number] = int(name[begin:at])
    return numbers


def escaped(name: str) -> str:
    """Return the pattern that fits a name and no other.

    Examples
    --------
    >>> escaped("w[0]")
    'w[[]0]'
    """
    return re.sub(r"([*?\[{])", r"[\1]", name)


def template(name: str) -> str:
    """Return the pattern that fits a name whatever its numbers are.

    Examples
    --------
    >>> template("h.3.experts.0.w")
    'h.{i}.experts.{i1}.w'
    """
    indices = (f"i{n}" if n else "i" for n in count())
    parts = [
        f"{{{next(indices)}}}" if part.isdecimal() else part for part in escaped(name).split(".")
    ]
    return ".".join(parts)
