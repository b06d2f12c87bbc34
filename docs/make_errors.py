"""Writes docs/errors.md: what every public function says to wrong values of every argument.

Each adapter has a page of its own, written if its library is there: ``--only torch`` writes one.
``--check`` says whether the pages are as they would be written, and writes nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastinit as fi
from fastinit.recipe import RecipeError

DOCS = Path(__file__).parent
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

INTRODUCTION = """# What is said to wrong values{of}

Every argument of every public function of `{module}` was given each of these values:
{values}.{more}
`python docs/make_errors.py` writes down what the functions say, and a test compares this page
with what they say today. There is a table for each name of an argument. In the texts, `…` stands
for the value. A value that is not listed was taken, as it is allowed there.

All errors are TypeError or ValueError. Each begins with the function that was called, which the
tables leave out: `normal_(): std='x' must be a real number`. Then it names the argument, what was
given, and what is allowed. Nothing was written, drawn or set before them
(`tests/core/test_bad_input.py`). Of two names of one function, such as `he_normal` and
`kaiming_normal`, errors and this page have the first.
"""
MORE = {
    "": " The pages of [fastinit.torch](errors_torch.md), [fastinit.jax](errors_jax.md),\n"
    "[fastinit.keras](errors_keras.md) and [fastinit.dask](errors_dask.md) do the same.",
    "torch": " A RecipeError, which is a\nValueError, names the recipe.",
    "jax": " Of a function that makes an\ninitializer, the initializer's arguments were tried too.",
    "keras": " Of each class, the arguments of\nits call were tried too.",
    "dask": "",
}


class Case(NamedTuple):
    """A function under the name that its errors have, its arguments, and some that it takes."""

    name: str
    function: Callable[..., Any]
    good: Mapping[str, Any]
    parameters: list[str]
    wrong: Mapping[str, Any] = WRONG


def case(function: Callable[..., Any], good: Mapping[str, Any], name: str = "") -> Case:
    """Return the case of a function whose signature says what it takes."""
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    signature = inspect.signature(function)
    names = [p.name for p in signature.parameters.values() if p.kind not in kinds]
    return Case(name or function.__name__, function, good, names)


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
        yield case(function, {**good, **given})
    owners = {"Generator": fi.default_rng, "PCG32": fi.PCG32, "Initializer": fi.Initializer}
    for owner, methods in METHODS.items():
        for method, good in methods.items():
            made = owners[owner]("normal") if owner == "Initializer" else owners[owner](3)
            yield case(getattr(made, method), good, f"{owner}.{method}")


def of_torch() -> Iterator[Case]:
    """Yield what is public in `fastinit.torch`, but for torch's own deprecated names."""
    import torch

    from fastinit import torch as init

    def model() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))

    needed: dict[str, dict[str, Any]] = {
        "constant_": {"val": 0.5},
        "sparse_": {"sparsity": 0.5},
        "dirac_": {"tensor": lambda: torch.zeros(SHAPE)[..., None]},
        "blocks_": {"initializer": init.normal_, "sizes": (2, 2)},
        "initialize": {"model": model, "seed": 1},
        "probe": {
            "model": model,
            "batch": lambda: torch.ones(3, 4),
            "loss": lambda: lambda output: output.square().mean(),
        },
    }
    seen = set()
    for name in init.__all__:
        function = getattr(init, name)
        of_ours = function.__module__.startswith("fastinit.") and function not in seen
        if not of_ours or not (name.endswith("_") or name in ("accelerate", "initialize", "probe")):
            continue
        seen.add(function)
        parameters = inspect.signature(function).parameters
        good = {"tensor": lambda: torch.ones(SHAPE)} if "tensor" in parameters else {}
        one = case(entered if name == "accelerate" else function, {**good, **needed.get(name, {})})
        more = ["in_axis", "out_axis", "batch_axis", "fan_in", "fan_out", "global_shape", "offset"]
        # What a model makes of a wrong batch is the model's.
        names = [n for n in one.parameters if (name, n) != ("probe", "batch")]
        name = name if name == "accelerate" else one.name
        yield one._replace(name=name, parameters=names + more * ("fans" in parameters))


def entered(seed: Any = None) -> None:
    """Enter the context of `fastinit.torch.accelerate`."""
    from fastinit.torch import accelerate

    with accelerate(seed):
        pass


def of_jax() -> Iterator[Case]:
    """Yield what is public in `fastinit.jax`, each with the call of the initializer it makes."""
    import jax

    from fastinit import jax as init

    wrong = {
        **WRONG,
        "4": 4,
        "two keys": jax.random.split(jax.random.key(1)),
        "a raw key": jax.random.PRNGKey(1),
        "traced": TRACED,
    }
    needed = {"variance_scaling": {"scale": 1.0, "mode": "fan_in", "distribution": "normal"}}
    yield case(init.generator, {"key": jax.random.key(1)})._replace(wrong=wrong)
    seen = {init.generator}
    for name in init.__all__:
        function = getattr(init, name)
        if function.__module__ != "fastinit.jax" or function in seen:
            continue
        seen.add(function)
        good = {"key": jax.random.key(1), "shape": (3, 3, 4, 6), **needed.get(name, {})}
        called = twice(function, ("key", "shape", "out_sharding"))
        one = case(function, good)
        names = [*one.parameters, "key", "shape", "out_sharding"]
        yield one._replace(function=called, parameters=names, wrong=wrong)


def of_keras() -> Iterator[Case]:
    """Yield what is public in `fastinit.keras`, each with the call of the initializer it makes."""
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    from fastinit import keras as init

    for name in init.__all__:
        made = getattr(init, name)
        one = case(made, {"shape": SHAPE, "seed": 1})
        called = twice(made, ("shape", "dtype"))
        yield one._replace(function=called, parameters=[*one.parameters, "shape", "dtype"])


def of_dask() -> Iterator[Case]:
    """Yield what is public in `fastinit.dask`."""
    from fastinit import dask as init
    from fastinit.initializer import parameters

    seen = set()
    for name in init.__all__:
        function = getattr(init, name)
        if function not in seen:
            seen.add(function)
            good = {"shape": SHAPE, **NEEDED.get(name, {})}
            good.pop("x", None)
            takes = [p for p in parameters(name) if p not in ("global_shape", "offset")]
            names = ["shape", "chunks", "dtype", *takes]
            yield Case(function.__name__, function, good, names)


def twice(make: Callable[..., Any], second: tuple[str, ...]) -> Callable[..., Any]:
    """Return what makes an initializer of some arguments, and calls it with the others."""

    def called(**given: Any) -> Any:
        later = {name: given.pop(name) for name in second if name in given}
        return make(**given)(**later)

    return called


class Traced:
    """Stands for a number that JAX knows only when compiled code runs."""


TRACED = Traced()


def answers(one: Case, parameter: str) -> Iterator[tuple[str, str]]:
    """Yield each wrong value's text, and what is said to it; nothing for those that are taken."""
    threads, backend = fi.get_num_threads(), fi.info()["backend"]
    functions = [v for v in one.good.values() if getattr(v, "__name__", "") == "normal_"]
    for shown, value in one.wrong.items():
        given = {k: v() if callable(v) and v not in functions else v for k, v in one.good.items()}
        given.update(PARTNERS.get(parameter, {}))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call(one, given, parameter, value)
        except Exception as error:
            yield shown, said(error, value, one.name)
        finally:
            fi.set_num_threads(threads)
            fi.set_backend(backend)


def call(one: Case, given: Mapping[str, Any], parameter: str, value: Any) -> None:
    """Call a function by keywords, but for what has to come first."""
    if value is TRACED:
        import jax

        jax.jit(lambda number: one.function(**{**given, parameter: number}))(1.0)
        return
    given = {**given, parameter: value}
    signature = inspect.signature(one.function).parameters.values()
    first = [p.name for p in signature if p.kind is p.POSITIONAL_ONLY and p.name in given]
    one.function(*(given[k] for k in first), **{k: v for k, v in given.items() if k not in first})


def said(error: Exception, value: object, name: str) -> str:
    """Return an error's kind and text after the function's name, with `…` for the value."""
    from fastinit._arguments import shown

    text = str(error)
    # Errors of recipes name the recipe, here and on the command line.
    assert text.startswith(f"{name}(): ") or isinstance(error, RecipeError), (name, text)
    text = text.removeprefix(f"{name}(): ")
    for each in sorted({repr(value), shown(value), str(value)}, key=len, reverse=True):
        if len(each) > 1:
            text = re.sub(rf"(?<![\w.]){re.escape(each)}(?![\w.])", "…", text)
    text = re.sub(r"0x[0-9a-f]{6,}", "0x…", text)
    if value is TRACED:
        text = re.sub(r"\b(\w+=)[A-Z]\w*(?:<.*>|\(.*\))\S*(?= (?:is|must|has)\b)", r"\1…", text)
    return f"{type(error).__name__}: {text}"


def rows(one: Case) -> Iterator[tuple[str, str, str]]:
    """Yield what a function refuses: the argument, the values, and the words."""
    for parameter in one.parameters:
        groups: dict[str, list[str]] = {}
        for shown, text in answers(one, parameter):
            groups.setdefault(text, []).append(shown)
        for text, values in groups.items():
            yield parameter, ", ".join(f"`{value}`" for value in values), text


def page(face: str = "") -> str:
    """Return the page of a face: a table for each name of an argument."""
    tables: dict[str, dict[tuple[str, str], list[str]]] = {}
    takers: dict[str, set[str]] = {}
    wrong: Mapping[str, Any] = WRONG
    for one in FACES[face]():
        wrong = one.wrong
        for argument, values, text in rows(one):
            tables.setdefault(argument, {}).setdefault((values, text), []).append(one.name)
            takers.setdefault(argument, set()).add(one.name)
    module = f"fastinit.{face}" if face else "fastinit"
    values = ", ".join(f"`{v}`" for v in wrong)
    of = f" by {module}" if face else ""
    parts = [INTRODUCTION.format(of=of, module=module, values=values, more=MORE[face])]
    for argument, table in sorted(tables.items()):
        lines = [f"## {argument}\n\n| given | error | of |\n| --- | --- | --- |\n"]
        for (values, text), names in table.items():
            of = "all" if set(names) == takers[argument] else ", ".join(names)
            cell = text.replace("|", "\\|").replace("\n", " ")
            lines.append(f"| {values} | {cell} | {of} |\n")
        parts.append("".join(lines))
    return "\n".join(parts)


FACES: dict[str, Callable[[], Iterator[Case]]] = {
    "": cases,
    "torch": of_torch,
    "jax": of_jax,
    "keras": of_keras,
    "dask": of_dask,
}


def path_of(face: str) -> Path:
    """Return where a face's page is."""
    return DOCS / (f"errors_{face}.md" if face else "errors.md")


def main() -> None:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", choices=FACES, action="append")
    given = parser.parse_args()
    for face in given.only or FACES:
        if face and importlib.util.find_spec(face) is None:
            print(f"{path_of(face)}: left as it is, {face} is not there")
            continue
        text = page(face)
        if not given.check:
            path_of(face).write_text(text, "utf-8")
        elif path_of(face).read_text("utf-8") != text:
            raise SystemExit(f"{path_of(face)} is out of date: python docs/make_errors.py")


if __name__ == "__main__":
    main()
