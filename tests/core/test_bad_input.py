"""Every argument of every public function, given what it does not take: the error names the
argument and the value and says what is allowed, and nothing is written, drawn or set.

A public function, or a parameter, that has no row here fails.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import catalogue
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import fastinit as fi

SHAPE = (4, 6)
NAN, INF = math.nan, math.inf
FUNCTIONS = [name for name in fi.__all__ if callable(getattr(fi, name))]
# A record that recommend() makes, functions of no arguments, and what test_initializer.py tests.
NOTHING_TO_REFUSE = {
    "Initializer",
    "Recommendation",
    "info",
    "capi",
    "get_include",
    "get_num_threads",
}


class Row(NamedTuple):
    """A value that is refused, and what the error says beside the argument's name."""

    value: Any
    words: str
    shown: str | None = None  # of the value; its repr unless given


def rows(words: str, *values: Any) -> list[Row]:
    return [Row(value, words) for value in values]


def real(*more: Any, words: str = "finite") -> list[Row]:
    return [*rows("must be a real number", "1", None, 1j), *rows(words, *more)]


def integers(*more: Any, words: str) -> list[Row]:
    return [*rows("integer", "1", 1.5), *rows(words, *more)]


def array(dtype: str = "f4") -> Any:
    return np.arange(24).reshape(SHAPE).astype(dtype)


AXIS = [*rows("integer", "1", 1.5), *rows("is not an axis of shape", 2, -3)]
# Taken as Python takes a truth value.
ANYTHING: list[Row] = []
BUFFER = "allowed: a NumPy array"
ROWS: dict[str, list[Row]] = {
    "x": [
        Row(3, BUFFER, "x=3"),
        Row("x", BUFFER, "x='x'"),
        Row(array("O"), "allowed: ", "dtype"),
        Row(array(">f4"), "native byte order", ">f4"),
        Row(array("c16"), "allowed: ", "dtype"),
        Row(np.broadcast_to(np.float32(7), SHAPE), "", "read-only"),
        Row(as_strided(np.full(20, 7, np.float32), SHAPE, (4, 4)), "strides (4, 4)", "overlapping"),
        Row(np.full(97, 7, np.uint8)[1:].view("f4").reshape(SHAPE), "", "not aligned"),
    ],
    "shape": [
        *rows("integer", "ab", (2.5, 2), None, True, (True, 2)),
        *rows("not be negative", (2, -3)),
    ],
    "dtype": [
        *rows("is not a dtype; allowed: float32", "float31", 3),
        Row("O", "allowed: ", "dtype"),
        Row(">f4", "native byte order"),
    ],
    "rng": rows("is not a seed; allowed: a non-negative integer", "a", 1.5, -1, True),
    "seed": rows("seed; allowed: a non-negative integer", "a", 1.5, -1, True, [True], (1, False)),
    "seed_sequence": rows("must be a SeedSequence", 3, "a"),
    "position": integers(-1, 2**63 + 1, words="0 to 2**63"),
    "threads": integers(0, -1, 1025, words="must be 1 to 1024"),
    "n": integers(0, 1025, words="must be 1 to 1024"),
    "backend": rows("allowed: c, numba", "cuda", 3),
    "name": rows("allowed: c, numba", "cuda", 3),
    "global_shape": [
        Row(None, "go together: give both", "offset"),
        *rows("integer", "ab", 1.5),
        *rows("does not fit", (3, 6), (4, 5)),
        *rows("as many axes", (4, 6, 1)),
    ],
    "offset": [
        Row(None, "go together: give both", "global_shape"),
        *rows("integer", "ab", 1.5),
        *rows("not be negative", (0, -1)),
        *rows("does not fit", (1, 0), (0, 1)),
        *rows("as many axes", (0,)),
    ],
    "gain": real(),
    "scale": real(NAN, 0.0, -1.0, words="positive"),
    "mean": real(NAN, INF),
    "std": real(NAN, -1.0, words=""),
    "norm": real(NAN, 0.0, -1.0, words="positive and finite"),
    "low": real(NAN, 9.0, words="low"),
    "high": real(NAN, -9.0, words="low"),
    "a": [Row("1", "must be a real number"), Row(NAN, "")],
    "b": [*rows("must be a real number", "1", None), Row(NAN, "")],
    "param": [Row("1", "must be a real number"), *rows("finite", NAN, INF)],
    "value": rows("must be a real number", "1", None),
    "mode": rows("allowed: fan_in, fan_out", "fan", 3),
    "distribution": rows("allowed: ", "cauchy", 3),
    "nonlinearity": rows("allowed: linear", "rulu", 3),
    "activation": rows("allowed: linear", "rulu", 3),
    "layer": rows("allowed: dense", "den", 3),
    "depth": integers(0, words="must be 1 or greater"),
    "fan_in": [Row("1", "must be a real number"), *rows("positive", 0, -1, NAN)],
    "fan_out": [Row("1", "must be a real number"), *rows("positive", 0, -1, NAN)],
    "in_axis": AXIS,
    "out_axis": AXIS,
    "batch_axis": AXIS,
    "axis": AXIS,
    "column_axis": AXIS,
    "groups": integers(0, -1, words="groups"),
    "padding": integers(4, -5, words="row"),
    "sparsity": real(NAN, -0.1, 1.1, words="0 to 1"),
    "tolerance": real(NAN, 0.0, words="positive"),
    "iterations": integers(0, words="must be 1 or greater"),
    "output": rows("must be a function", 3, "f"),
    "initializer": rows("must be a function", 3, "he"),
    "sizes": [*rows("integer", "ab", (2.5, 1.5)), *rows("add up to 6", (2, 1), 3)],
    "indices": rows("indices", "a", 1.5),
    "start": real(NAN, INF),
    "step": real(NAN, INF),
    "stop": real(NAN, 0.0, -1.0, words="positive and finite"),
    "floor": real(NAN, 0.0, -1.0, words="positive and finite"),
    "base": real(NAN, INF, 0.5, words="must be finite, and 1 or greater"),
    "layout": rows("is unknown; allowed: interleaved, halves", "x", 3),
    "endpoint": ANYTHING,
    "log": ANYTHING,
    "corrected": ANYTHING,
    "scaled": ANYTHING,
}
GO_TOGETHER = {"global_shape": {"offset": (0, 0)}, "offset": {"global_shape": SHAPE}}


def arguments(name: str) -> dict[str, Any]:
    """What the function takes, of which each test spoils one."""
    known: dict[str, dict[str, Any]] = {
        "PCG32": {},
        "Generator": {"seed_sequence": np.random.SeedSequence(3)},
        "blocks_": {"initializer": fi.normal_, "sizes": (3, 3)},
        "calculate_gain": {"nonlinearity": "relu"},
        "lsuv_": {"output": lambda: np.array([-1.0, 1.0])},
        "set_backend": {"name": "c"},
        "set_num_threads": {"n": 1},
        "values_at": {"indices": [1, 2]},
    }
    given = known.get(name, {})
    if name.rstrip("_") in catalogue.NAMES:
        given = catalogue.spec(name.rstrip("_")).arguments
    parameters = inspect.signature(getattr(fi, name)).parameters
    always = {"x": array(), "shape": SHAPE, "rng": fi.default_rng(3)}
    return {**{key: value for key, value in always.items() if key in parameters}, **given}


def takes_complex(name: str) -> bool:
    """Whether an initializer fills complex numbers: those with fans, and the normal."""
    return name.startswith(("variance", "xavier", "glorot", "he_", "kaiming", "lecun")) or name in (
        "normal_",
        "blocks_",
    )


def bytes_of(x: Any) -> bytes:
    return x.tobytes() if isinstance(x, np.ndarray) else b""


def parameters() -> Iterator[Any]:
    for name in FUNCTIONS:
        if name not in NOTHING_TO_REFUSE:
            for parameter in inspect.signature(getattr(fi, name)).parameters.values():
                if parameter.kind is not parameter.VAR_KEYWORD:
                    yield pytest.param(name, parameter.name, id=f"{name}-{parameter.name}")


@pytest.mark.parametrize(("name", "parameter"), list(parameters()))
def test_refused(name: str, parameter: str) -> None:
    function: Callable[..., Any] = getattr(fi, name)
    threads, backend = fi.get_num_threads(), fi.info()["backend"]
    for value, words, shown in ROWS[parameter]:
        if np.iscomplexobj(value) and isinstance(value, np.ndarray) and takes_complex(name):
            continue
        given = {**arguments(name), **GO_TOGETHER.get(parameter, {}), parameter: value}
        before = bytes_of(given.get("x"))
        with pytest.raises((TypeError, ValueError)) as error:
            function(**given)
        text = str(error.value)
        assert words in text, (value, text)
        assert (shown or repr(value)) in text, (value, text)
        assert f"{parameter}=" in text or parameter in text, (value, text)
        assert text.startswith(f"{function.__name__}(): "), (value, text)
        assert bytes_of(given.get("x")) == before, value
        if isinstance(given.get("rng"), fi.Generator):
            assert given["rng"].position == 0, value
    assert (fi.get_num_threads(), fi.info()["backend"]) == (threads, backend)


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - NOTHING_TO_REFUSE))
def test_the_arguments_that_each_test_spoils_are_good(name: str) -> None:
    before = fi.get_num_threads()
    getattr(fi, name)(**arguments(name))
    fi.set_num_threads(before)


@pytest.mark.parametrize(("name", "parameter"), list(parameters()))
def test_numbers_that_no_float_holds_are_refused_in_short_by_name(
    name: str, parameter: str
) -> None:
    if not any(word in row.words for row in ROWS[parameter] for word in ("real", "integer")):
        pytest.skip("takes no number")
    if parameter in ("depth", "iterations"):
        pytest.skip("has no upper bound")
    for value in (10**400, -(10**400)):
        given = {**arguments(name), **GO_TOGETHER.get(parameter, {}), parameter: value}
        if parameter in ("rng", "seed"):
            continue  # of any size
        before = bytes_of(given.get("x"))
        with pytest.raises((TypeError, ValueError)) as error:
            getattr(fi, name)(**given)
        text = str(error.value)
        assert text.startswith(f"{getattr(fi, name).__name__}(): ")
        assert parameter in text
        assert len(text) < 1000
        assert bytes_of(given.get("x")) == before


# blocks_ hands on what it does not know, Initializer takes any.
@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"blocks_", "Initializer"}))
def test_an_argument_that_is_unknown_is_told_in_the_name_of_what_was_called(name: str) -> None:
    with pytest.raises(TypeError) as error:
        getattr(fi, name)(**arguments(name), nonsense=2)
    assert "nonsense" in str(error.value)
    called = getattr(fi, name).__name__  # of an alias that which it is
    words = (f"{called}(", "__init__(", "__new__(", "is no parameter of")
    assert any(word in str(error.value) for word in words)
