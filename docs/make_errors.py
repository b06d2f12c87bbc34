"""Writes docs/errors.md: what every public function says to wrong values of every argument.

``--check`` says whether the page is as it would be written, and writes nothing.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastinit as fi

PAGE = Path(__file__).with_name("errors.md")
SHAPE = (4, 6)

# By their texts in the page. Each argument is given all of them.
WRONG: dict[str, Any] = {
    "None": None,
    "True": True,
    "'x'": "x",
    "1j": 1j,
    "nan": math.nan,
    "inf": math.inf,
    "1e308": 1e308,
    "1.5": 1.5,
    "-1": -1,
    "10**400": 10**400,
    "[]": [],
    "[True]": [True],
    "(1, 2, 3)": (1, 2, 3),
    "object()": object(),
    "5000 letters": "x" * 5000,
}

INTRODUCTION = """# What is said to wrong values

Every argument of every public function of `fastinit` was given each of these values:
{values}.
`python docs/make_errors.py` writes down what the functions say, and a test compares this page
with what they say today. There is a table for each name of an argument. In the texts, `…` stands
for the value. A value that is not listed was taken, as it is allowed there.

All errors are TypeError or ValueError. Each begins with the function that was called, which the
tables leave out: `normal_(): std='x' must be a real number`. Then it names the argument, what was
given, and what is allowed. Nothing was written, drawn or set before them
(`tests/core/test_bad_input.py`). Of two names of one function, such as `he_normal` and
`kaiming_normal`, errors and this page have the first.
"""


class Case(NamedTuple):
    """A function under the name that its user calls, and arguments that it takes."""

    name: str
    function: Callable[..., Any]
    good: Mapping[str, Any]


def array() -> Any:
    """Return a new array that every function takes."""
    return np.arange(1, 25, dtype=np.float32).reshape(SHAPE)


# What functions need beside x, shape and rng.
NEEDED: dict[str, dict[str, Any]] = {
    "constant": {"value": 0.5},
    "sparse": {"sparsity": 0.5},
    "delta_orthogonal": {"x": lambda: np.zeros((3, 3, 4, 6), np.float32), "shape": (3, 3, 4, 6)},
    "log_uniform": {"low": 0.001, "high": 0.1},
    "geomspace": {"start": 1, "stop": 0.1},
    "blocks": {"initializer": fi.normal_, "sizes": (2, 4)},
    "lsuv": {"output": lambda: lambda: np.array([-1.0, 1.0])},
    "hadamard": {"x": lambda: np.zeros((4, 4), np.float32), "shape": (4, 4)},
    "calculate_gain": {"nonlinearity": "relu"},
    "values_at": {"indices": [1, 2]},
    "set_backend": {"name": "c"},
    "set_num_threads": {"n": 1},
    "Generator": {"seed_sequence": np.random.SeedSequence(3)},
    "Initializer": {"name": "normal"},
}
# What is given beside an argument, since one alone is refused.
PARTNERS: dict[str, dict[str, Any]] = {
    "global_shape": {"offset": (0, 0)},
    "offset": {"global_shape": SHAPE},
}
METHODS: dict[str, dict[str, dict[str, Any]]] = {
    "Generator": {
        "advance": {"n": 1},
        "stream": {"name": "w"},
        "spawn": {"n_children": 1},
        "random": {},
        "uniform": {},
        "standard_normal": {},
        "normal": {},
    },
    "PCG32": {"advance": {"delta": 1}, "spawn": {"n_children": 1}, "jumped": {}},
    "Initializer": {
        "fill": {"x": array},
        "check": {"shape": SHAPE},
        "parse": {"text": "zeros"},
    },
}


def cases() -> Iterator[Case]:
    """Yield what is public in `fastinit`; an alias once, under its first name."""
    seen = set()
    for name in fi.__all__:
        function = getattr(fi, name)
        if not callable(function) or function in seen or name == "Recommendation":
            continue
        seen.add(function)
        always = {"x": array, "shape": SHAPE, "rng": lambda: fi.default_rng(3)}
        parameters = inspect.signature(function).parameters
        good = {k: v for k, v in always.items() if k in parameters}
        given = {k: v for k, v in NEEDED.get(name.rstrip("_"), {}).items() if k in parameters}
        yield Case(function.__name__, function, {**good, **given})
    owners = {"Generator": fi.default_rng, "PCG32": fi.PCG32, "Initializer": fi.Initializer}
    for owner, methods in METHODS.items():
        for method, good in methods.items():
            made = owners[owner]("normal") if owner == "Initializer" else owners[owner](3)
            yield Case(f"{owner}.{method}", getattr(made, method), good)


def answers(case: Case, parameter: str) -> Iterator[tuple[str, str]]:
    """Yield each wrong value's text, and what is said to it; nothing for those that are taken."""
    threads, backend = fi.get_num_threads(), fi.info()["backend"]
    for shown, value in WRONG.items():
        given = {k: v() if callable(v) and v is not fi.normal_ else v for k, v in case.good.items()}
        given.update(PARTNERS.get(parameter, {}))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call(case, {**given, parameter: value})
        except Exception as error:
            yield shown, said(error, value, case.name)
        finally:
            fi.set_num_threads(threads)
            fi.set_backend(backend)


def call(case: Case, given: Mapping[str, Any]) -> None:
    """Call a function by keywords, but for what has to come first."""
    parameters = inspect.signature(case.function).parameters.values()
    first = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY and p.name in given]
    case.function(*(given[k] for k in first), **{k: v for k, v in given.items() if k not in first})


def said(error: Exception, value: object, name: str) -> str:
    """Return an error's kind and text after the function's name, with `…` for the value."""
    from fastinit._arguments import shown

    text = str(error)
    assert text.startswith(f"{name}(): "), (name, text)
    text = text.removeprefix(f"{name}(): ")
    for each in sorted({repr(value), shown(value), str(value)}, key=len, reverse=True):
        if len(each) > 1:
            text = re.sub(rf"(?<![\w.]){re.escape(each)}(?![\w.])", "…", text)
    text = re.sub(r"0x[0-9a-f]{6,}", "0x…", text)
    return f"{type(error).__name__}: {text}"


def rows(case: Case) -> Iterator[tuple[str, str, str]]:
    """Yield what a function refuses: the argument, the values, and the words."""
    for parameter in inspect.signature(case.function).parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        groups: dict[str, list[str]] = {}
        for shown, text in answers(case, parameter.name):
            groups.setdefault(text, []).append(shown)
        for text, values in groups.items():
            yield parameter.name, ", ".join(f"`{value}`" for value in values), text


def page() -> str:
    """Return the page: a table for each name of an argument."""
    tables: dict[str, dict[tuple[str, str], list[str]]] = {}
    takers: dict[str, set[str]] = {}
    for case in cases():
        for argument, values, text in rows(case):
            tables.setdefault(argument, {}).setdefault((values, text), []).append(case.name)
            takers.setdefault(argument, set()).add(case.name)
    parts = [INTRODUCTION.format(values=", ".join(f"`{v}`" for v in WRONG))]
    for argument, table in sorted(tables.items()):
        lines = [f"## {argument}\n\n| given | error | of |\n| --- | --- | --- |\n"]
        for (values, text), names in table.items():
            of = "all" if set(names) == takers[argument] else ", ".join(names)
            cell = text.replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {values} | {cell} | {of} |\n")
        parts.append("".join(lines))
    return "\n".join(parts)


def main() -> None:
    """Write the page, or compare it."""
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text("utf-8") != text:
            raise SystemExit(f"{PAGE} is out of date: python docs/make_errors.py")
        return
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
