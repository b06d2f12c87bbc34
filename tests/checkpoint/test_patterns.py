"""Patterns of names: what they fit is what a regular expression of the same meaning fits."""

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinit.recipe import _patterns

PARTS = ["*", "?", "{i}", "{j}", "[0-3]", "[!a]", "[]x]", "[a\\-]", "a", "0", "1", ".", "\n", "["]


def expression(parts):
    """Return the regular expression of a pattern's parts; Python's own, which may take for ever."""
    texts = []
    for part in parts:
        if part in ("*", "?"):
            texts.append(".*" if part == "*" else ".")
        elif part.startswith("{"):
            texts.append(f"(?P<{part[1]}>[0-9]+)")
        elif len(part) > 1:
            inner = part[1:-1].removeprefix("!").replace("\\", "\\\\").replace("]", "\\]")
            texts.append(f"[{'^' if part[1] == '!' else ''}{inner}]")
        else:
            texts.append(re.escape(part))
    return re.compile("".join(texts), re.DOTALL)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(PARTS), max_size=8),
    st.text(alphabet="a01.\n[]x\\-3", max_size=14),
)
def test_as_the_regular_expression(parts, name):
    if parts.count("{i}") > 1 or parts.count("{j}") > 1 or "[" in parts[:-1]:
        return
    found = expression(parts).fullmatch(name)
    numbers = None if found is None else {k: int(v) for k, v in found.groupdict().items()}
    pattern = "".join(parts)
    assert _patterns.match(pattern, name) == numbers
    assert _patterns.fits(pattern, name) == (found is not None)
    assert sorted(_patterns.indices(pattern)) == sorted(p[1] for p in parts if p[0] == "{")


@settings(max_examples=60)
@given(st.text())
def test_escaped_fits_its_name_alone(name):
    assert _patterns.match(_patterns.escaped(name), name) == {}
    assert not _patterns.fits(_patterns.escaped(name), name + "x")


@pytest.mark.parametrize("part", ["*0", "*?", "{%s}*", "*[0-9]"])
def test_no_pattern_takes_for_ever(part):
    """Each of these has more ways to be tried than there are atoms."""
    names = iter(string.ascii_letters)
    pattern = "".join(part % next(names) if "%" in part else part for _ in range(50))
    name = "0" * 3000
    assert not _patterns.fits(f"{pattern}x*", name)
    assert _patterns.fits(f"{pattern}*", name)
    _patterns.match(f"{pattern}*", name)


@pytest.mark.parametrize("pattern", ["{i}.{i}", "[z-a]"])
def test_what_is_no_pattern(pattern):
    with pytest.raises(ValueError, match=r"twice|bad character range"):
        _patterns.indices(pattern)
