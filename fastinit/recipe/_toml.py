"""A recipe's text: TOML that is read, checked key by key, and made into a `Recipe`."""

from __future__ import annotations

import math
import reprlib
import string
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fastinit._files import contents
from fastinit.initializer import Initializer, parameters, registry
from fastinit.recipe._expressions import Expression, RecipeError, evaluate
from fastinit.recipe._model import Recipe, Rule
from fastinit.recipe._patterns import indices
from fastinit.recipe._tensor import DTYPES, Tensor, as_dtype

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KINDS: dict[str, type] = {
    "name": str,
    "description": str,
    "dtype": str,
    "seed": int,
    "needs": list,
    "variables": dict,
    "repeat": dict,
    "tensors": dict,
    "rule": list,
    "config": dict,
}

# A recipe may come out of a foreign checkpoint: what it makes us do has an end. A hundred layers of
# a thousand experts are within these bounds, and a text with a line for each of their tensors.
MOST_TENSORS = 10**6
_MOST_TEXT = 10**8  # bytes of a recipe, characters of all names and shapes
_MOST_AXES = 32
_LONGEST_PATTERN = 10**4
_LARGEST = 2**63

_TOML = {str: "a string", int: "an integer", dict: "a table", list: "an array"}


def builtin() -> list[str]:
    """Return the names of the recipes that come with fastinit.

    Examples
    --------
    >>> "gpt2" in builtin()
    True
    """
    return sorted(
        file.name.removesuffix(".toml")
        for file in files("fastinit.recipe").iterdir()
        if file.name.endswith(".toml")
    )


def load(
    source: str | Path,
    variables: Mapping[str, float] | None = None,
    model: Mapping[str, float] | None = None,
) -> Recipe:
    """Return a recipe from a TOML file, or a built-in one by its name.

    Parameters
    ----------
    source : str or Path
        A path that ends in ``.toml``, or one of `builtin()`.
    variables, model : mapping, optional
        As in `parse`.

    Raises
    ------
    RecipeError
        If the source is neither, or its contents are not a recipe.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> len(load("gpt2").tensors), len(load("gpt2", {"layers": 24}).tensors)
    (148, 292)
    """
    if Path(source).suffix == ".toml":
        text = contents(Path(source), _MOST_TEXT).decode("utf-8", "replace")
        return parse(text, str(source), variables, model)
    if str(source) not in builtin():
        raise RecipeError(
            f"{str(source)!r} is neither a .toml file nor a built-in recipe; "
            f"built-in: {', '.join(builtin())}"
        )
    return parse(_builtin_text(str(source)), str(source), variables, model)


def described(name: str) -> tuple[str, bool]:
    """Return a built-in recipe's description, and whether it has tensors: it is a model then.

    Examples
    --------
    >>> described("vit-b-16")[1], described("vit-timm")[1]
    (True, False)
    """
    table = tomllib.loads(_builtin_text(name))
    return table["description"], "tensors" in table


def _builtin_text(name: str) -> str:
    return files("fastinit.recipe").joinpath(f"{name}.toml").read_text("utf-8")


def parse(
    text: str,
    origin: str = "built-in",
    variables: Mapping[str, float] | None = None,
    model: Mapping[str, float] | None = None,
) -> Recipe:
    """Return the recipe that a TOML text describes.

    Parameters
    ----------
    text : str
        See the module's text for what it holds.
    origin : str
        Where it is from, for error messages.
    variables : mapping, optional
        Values for the variables that the recipe has or needs.
    model : mapping, optional
        The variables of another recipe, for those that this one needs and nobody gives.

    Raises
    ------
    RecipeError
        If it is not a recipe; the message says where and what is allowed.

    Examples
    --------
    >>> parse('''name = "one"
    ... [tensors]
    ... w = [2, 3]''').tensors[0].shape
    (2, 3)
    """
    try:
        if len(text) > _MOST_TEXT:
            raise RecipeError(f"{len(text):,} characters; allowed: {_MOST_TEXT:,}")
        return _recipe(tomllib.loads(text), text, variables or {}, model or {})
    except RecursionError:
        raise RecipeError(f"recipe {origin}: its tables or arrays are nested too deep") from None
    except ValueError as error:  # also TOML's errors, and those of numbers with too many digits
        raise RecipeError(f"recipe {origin}: {error}") from None


def _recipe(
    table: dict[str, Any], text: str, given: Mapping[str, float], model: Mapping[str, float]
) -> Recipe:
    for key, value in table.items():
        _check_key("the recipe", key, _KINDS)
        _check_kind(key, value, _KINDS[key])
    if "name" not in table:
        raise RecipeError('name is missing; a recipe begins with name = "..."')
    variables = _variables(table, given, model)
    return Recipe(
        name=table["name"],
        text=text,
        seed=table.get("seed", 0),
        tensors=tuple(_tensors(table, variables)),
        rules=tuple(rule for entry in table.get("rule", []) for rule in _rules(entry, variables)),
        config=_config(table.get("config", {}), variables),
        variables=variables,
    )


def _variables(
    table: dict[str, Any], given: Mapping[str, float], model: Mapping[str, float]
) -> dict[str, float]:
    """Return a recipe's variables: its own, those it needs of the model, and those given."""
    known, needs = table.get("variables", {}), table.get("needs", [])
    for name in given:
        _check_key("[variables] and needs", name, dict.fromkeys([*known, *needs]))
    for name in needs:
        _check_kind("needs", name, str)
        if name not in given and name not in model:
            raise RecipeError(f"it needs a value for the variable {name!r}, and has none")
    variables = {**known, **{k: v for k, v in model.items() if k in needs}, **given}
    for name, value in variables.items():
        if type(value) not in (int, float) or not -_LARGEST <= value <= _LARGEST:
            raise RecipeError(
                f"variables.{name}={shown(value)} must be a number, of magnitude at most 2**63"
            )
    return variables


def _check_key(where: str, key: str, allowed: Mapping[str, object]) -> None:
    if key not in allowed:
        raise RecipeError(f"{where} has no key {key!r}; allowed: {', '.join(allowed)}")


def _check_kind(name: str, value: object, kind: type) -> None:
    if type(value) is not kind:
        raise RecipeError(f"{name}={shown(value)} must be {_TOML[kind]}")


def shown(value: object) -> str:
    """Return a value's text for an error, which has room for a part of it."""
    return reprlib.repr(value)


def _check_json(where: str, value: object) -> None:
    """Raise unless config.json can hold the value: no dates, no infinity."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_json(f"{where}.{key}", item)
    elif isinstance(value, list):
        for item in value:
            _check_json(where, item)
    elif not isinstance(value, (str, int)) and not (
        isinstance(value, float) and math.isfinite(value)
    ):
        raise RecipeError(f"{where}={shown(value)}: JSON has no such value")


def _tensors(table: dict[str, Any], variables: Mapping[str, float]) -> Iterator[Tensor]:
    repeat = {
        index: _index_values(index, spec, variables)
        for index, spec in table.get("repeat", {}).items()
    }
    default = table.get("dtype", "float32")
    seen: set[str] = set()
    read = 0
    for template, entry in table.get("tensors", {}).items():
        n = math.prod(len(repeat[index]) for index in _indices(template, repeat))
        read += n * (len(template) + _expressions_length(entry))
        if len(seen) + n > MOST_TENSORS or read > _MOST_TEXT:
            raise RecipeError(
                f"tensors.{template!r}: {n:,} tensors; allowed: {MOST_TENSORS:,} in all, with "
                f"{_MOST_TEXT:,} characters of names and shapes"
            )
        for tensor in _expand(template, entry, default, repeat, variables):
            if tensor.name in seen or tensor.name == "__metadata__":
                raise RecipeError(f"tensors.{template!r}: the name {tensor.name!r} is taken")
            seen.add(tensor.name)
            yield tensor


def _expressions_length(entry: object) -> int:
    """Return how many characters a line's shape has, which are read for each of its tensors."""
    shape = entry.get("shape") if isinstance(entry, dict) else entry
    return sum(len(i) for i in shape if isinstance(i, str)) if isinstance(shape, list) else 0


def _index_values(index: str, spec: Any, variables: Mapping[str, float]) -> Sequence[int]:
    if isinstance(spec, list):
        return [_length(f"repeat.{index}", item, variables) for item in spec]
    return range(_length(f"repeat.{index}", spec, variables))


def _expand(
    template: str,
    entry: Any,
    default: str,
    repeat: Mapping[str, Sequence[int]],
    variables: Mapping[str, float],
) -> Iterator[Tensor]:
    """Yield the tensors of one line: one for each combination of the indices it names."""
    where = f"tensors.{template!r}"
    described: Any = {"shape": entry} if isinstance(entry, list) else entry
    _check_kind(where, described, dict)
    for key in described:
        _check_key(where, key, {"shape": list, "dtype": str})
    shape: Any = described.get("shape")
    _check_kind(f"{where} shape", shape, list)
    if len(shape) > _MOST_AXES:
        raise RecipeError(f"{where}: {len(shape)} axes; allowed: {_MOST_AXES}")
    dtype = _dtype(where, described.get("dtype", default))
    indices = _indices(template, repeat)
    for values in product(*(repeat[index] for index in indices)):
        point = dict(zip(indices, values, strict=True))
        lengths = tuple(_length(where, item, {**variables, **point}) for item in shape)
        tensor = Tensor(template.format_map(point), lengths, dtype)
        if tensor.nbytes >= _LARGEST:
            raise RecipeError(f"{tensor}: {tensor.nbytes:,} bytes; allowed: fewer than 2**63")
        yield tensor


def _indices(template: str, repeat: Mapping[str, Sequence[int]]) -> list[str]:
    try:
        fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise RecipeError(f"tensors.{template!r}: {error}") from None
    indices = [str(index) for _, index, _, _ in fields]
    for _, index, format_, conversion in fields:
        # Nothing but a name: a format could be of any width, an attribute any object's.
        if format_ or conversion or not str(index).isidentifier():
            raise RecipeError(f"tensors.{template!r}: allowed: the name of an index, as in {{l}}")
    for index in indices:
        _check_key(f"[repeat], named by tensors.{template!r},", index, repeat)
    return list(dict.fromkeys(indices))


def _dtype(where: str, name: str) -> np.dtype[Any]:
    _check_kind(f"{where} dtype", name, str)
    if name not in DTYPES:
        raise RecipeError(f"dtype={name!r} is unknown; allowed: {', '.join(DTYPES)}")
    return as_dtype(name)


def _length(where: str, item: Any, variables: Mapping[str, float]) -> int:
    value = evaluate(item, variables)
    if not 0 <= value < _LARGEST or value != int(value):
        raise RecipeError(
            f"{where}: {shown(item)} is {shown(value)}; it must be a whole number, not negative, "
            "and less than 2**63"
        )
    return int(value)


def _rules(entry: Any, variables: Mapping[str, float]) -> list[Rule]:
    """Return the rules of an entry: one for each of its patterns."""
    _check_kind("rule", entry, dict)
    exclude = _patterns("exclude", entry.get("exclude", []))
    for each in exclude:
        _numbers(f"rule exclude {each!r}", each)
    patterns = _patterns("pattern", entry.get("pattern"))
    return [_rule(each, exclude, entry, variables) for each in patterns]


def _patterns(key: str, given: object) -> tuple[str, ...]:
    """Return the patterns that a rule gives, of which one need not be in an array."""
    patterns = tuple(given) if isinstance(given, list) else (given,)
    for pattern in patterns:
        _check_kind(f"rule {key}", pattern, str)
        if len(pattern) > _LONGEST_PATTERN:
            raise RecipeError(
                f"a rule's {key} has {len(pattern):,} characters; allowed: {_LONGEST_PATTERN:,}"
            )
    return patterns


def _numbers(where: str, pattern: str) -> list[str]:
    """Return the names of a pattern's whole numbers; raise if it is no pattern."""
    try:
        return indices(pattern)
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from None


def _rule(
    pattern: str, exclude: tuple[str, ...], entry: dict[str, Any], variables: Mapping[str, float]
) -> Rule:
    arguments = {k: value for k, value in entry.items() if k not in ("pattern", "exclude")}
    init, ndim = (arguments.pop(key, None) for key in ("init", "ndim"))
    where = f"rule {pattern!r}"
    if not isinstance(init, str) or init not in registry():
        raise RecipeError(
            f"{where}: init={shown(init)} is unknown; allowed: {', '.join(registry())}"
        )
    if ndim is not None:
        _check_kind(f"{where} ndim", ndim, int)
    # A text is an expression, unless the initializer wants one (mode, nonlinearity).
    defaults = parameters(init)
    for key, value in arguments.items():
        if isinstance(value, str) and not isinstance(defaults.get(key), str):
            arguments[key] = Expression(value)
    numbers = _numbers(where, pattern)
    try:
        initializer = Initializer(init, **arguments)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: {error}") from None
    rule = Rule(pattern, initializer, ndim, variables, exclude)
    of_shape = any(isinstance(v, Expression) and v.of_shape for v in arguments.values())
    return rule if numbers or of_shape else rule.bind("")


def _config(table: Mapping[str, Any], variables: Mapping[str, float]) -> dict[str, Any]:
    """Return the table with each "{variable}" replaced by that variable's number."""
    _check_json("config", table)
    numbers = {f"{{{name}}}": number for name, number in variables.items()}
    return {
        key: numbers.get(value, value) if isinstance(value, str) else value
        for key, value in table.items()
    }
