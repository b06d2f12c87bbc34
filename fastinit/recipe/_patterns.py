"""Patterns of tensors' names: shell patterns that may hold whole numbers, such as ``{layer}``."""

from __future__ import annotations

import re
from functools import cache
from itertools import count

# A pattern is cut into these: an index, a set of characters, one of the two wildcards, or a
# character that stands for itself. `fnmatch` would do but for the indices, and the text of its
# `translate` differs between versions of Python.
_TOKEN = re.compile(
    r"\{(?P<index>\w+)\}|\[(?P<negated>!?)(?P<set>\]?[^\]]*)\]|(?P<one>.)", re.DOTALL
)


@cache
def regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a shell pattern with whole numbers ``{layer}`` in it."""
    return re.compile("".join(map(_translated, _TOKEN.finditer(pattern))), re.DOTALL)


def _translated(token: re.Match[str]) -> str:
    if token["index"]:
        return f"(?P<{token['index']}>[0-9]+)"
    if token["one"]:
        return {"*": ".*", "?": "."}.get(token["one"], re.escape(token["one"]))
    characters = re.sub(r"([\\\[\]^&~|])", r"\\\1", token["set"])
    return f"[{'^' if token['negated'] else ''}{characters}]"


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
