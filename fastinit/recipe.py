"""Recipes: which tensors a model has, and which initializer each of them gets.

A recipe is TOML::

    name = "tiny"
    dtype = "float32"                     # of every tensor that does not say otherwise
    seed = 0                              # unless the caller gives one

    [variables]                           # numbers, used below by name
    layers = 2
    width = 64

    [repeat]                              # an index and its values: a count, or a list
    layer = "layers"

    [tensors]                             # name = shape, or {shape = ..., dtype = ...}
    "h.{layer}.proj.weight" = ["width", "4 * width"]
    "h.{layer}.proj.bias" = ["4 * width"]

    [[rule]]                              # the first rule that fits a tensor's name is its rule
    pattern = "*.weight"
    init = "normal"
    std = "0.02 / sqrt(2 * layers)"

    [[rule]]
    pattern = "*.bias"
    init = "zeros"

    [config]                              # written as config.json; "{layers}" is the variable
    n_layer = "{layers}"

A rule's `init` is one of fastinit's in-place functions without its underscore, its other keys
are that function's arguments. `pattern` is a shell pattern on the whole name, or an array of
them; `ndim` may restrict the rule to tensors with so many axes. ``{layer}`` in a pattern stands
for a whole number, which the rule's expressions know by that name.

A recipe of rules alone is for other models' tensors. ``needs = ["layers", "width"]`` are the
variables that it has no value for: those of the model's own recipe, or the caller gives them.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import string
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import cache
from importlib.resources import files
from inspect import Parameter, signature
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastinit
from fastinit._fill import as_dtype
from fastinit.initializers import ScalingOptions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Recipe",
    "RecipeError",
    "Rule",
    "Tensor",
    "builtin",
    "escaped",
    "evaluate",
    "load",
    "parse",
    "template",
]

# The dtypes of a model's tensors, and their codes in a safetensors header.
FLOATS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
DTYPES = FLOATS | {
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}

_DTYPE_KEYS = ("dtype", "torch_dtype")  # of a config.json

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

_TOML = {str: "a string", int: "an integer", dict: "a table", list: "an array"}


class RecipeError(ValueError):
    """A recipe, or a tensor it is asked to fill, is not as it must be."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a model: its name, shape and dtype.

    Examples
    --------
    >>> Tensor("wte.weight", (50257, 768), np.dtype("float32")).nbytes
    154389504
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"tensor {self.name!r} ({self.dtype.name}, {self.shape})"


@dataclass(frozen=True)
class Rule:
    """The initializer for the tensors whose name fits a pattern.

    Parameters
    ----------
    pattern : str
        A shell pattern (``*``, ``?``, ``[...]``) on the whole name; case matters.
    init : str
        One of fastinit's in-place functions, without its underscore.
    arguments : mapping
        What that function takes by keyword.
    ndim : int, optional
        Only tensors with so many axes.
    expressions : mapping
        More arguments, which depend on the numbers in a tensor's name; see `bind`.
    variables : mapping
        What the expressions know beside those.

    Examples
    --------
    >>> print(Rule("*.weight", "normal", {"std": 0.02}))
    normal(std=0.02)
    """

    pattern: str
    init: str
    arguments: Mapping[str, Any]
    ndim: int | None = None
    expressions: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, float] = field(default_factory=dict)

    def bind(self, name: str) -> Rule:
        """Return this rule for a tensor that it fits: without expressions.

        Raises
        ------
        RecipeError
            If an expression has no value.

        Examples
        --------
        >>> print(Rule("h.{layer}.w", "normal", {}, None, {"std": "1 / (layer + 1)"}).bind("h.3.w"))
        normal(std=0.25)
        """
        if not self.expressions:
            return self
        match = _regex(self.pattern).match(name)
        numbers = {k: int(v) for k, v in match.groupdict().items()} if match else {}
        variables = {**self.variables, **numbers}
        values = {key: evaluate(text, variables) for key, text in self.expressions.items()}
        return replace(self, arguments={**self.arguments, **values}, expressions={})

    @property
    def parts(self) -> bool:
        """Whether a part of a tensor can be drawn for about its share of the whole's cost."""
        return self.init not in _WHOLE

    def fits(self, tensor: Tensor) -> bool:
        """Return whether this rule is about a tensor.

        Examples
        --------
        >>> Rule("*.bias", "zeros", {}).fits(Tensor("h.bias", (3,), np.dtype("float32")))
        True
        """
        return self.ndim in (None, len(tensor.shape)) and bool(
            _regex(self.pattern).match(tensor.name)
        )

    def fill(self, x: NDArray[Any], **options: Any) -> None:
        """Fill x in place.

        Parameters
        ----------
        x : array
            What the initializer takes.
        **options
            Any of rng, threads, backend, global_shape and offset, used if the initializer knows it.

        Raises
        ------
        TypeError, ValueError
            As the initializer.

        Examples
        --------
        >>> x = np.empty(3, np.float32)
        >>> Rule("*", "ones", {}).fill(x, rng=1)
        """
        function = _initializers()[self.init]
        known = _keywords(function)
        function(x, **self.arguments, **{k: v for k, v in options.items() if k in known})

    def check(self, tensor: Tensor) -> None:
        """Raise if this rule cannot fill a tensor; allocate nothing of its size.

        Raises
        ------
        RecipeError
            With the initializer's own reason.

        Examples
        --------
        >>> Rule("*", "normal", {}).check(Tensor("h.weight", (2**20, 2**20), np.dtype("float32")))
        """
        corner = (0,) * len(tensor.shape)
        try:
            self.fill(
                np.empty(corner, tensor.dtype), rng=0, global_shape=tensor.shape, offset=corner
            )
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{tensor}: rule {self.pattern!r}: {self}: {error}") from None

    def __str__(self) -> str:
        shown = ", ".join(
            f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v!r}"
            for k, v in {**self.arguments, **self.expressions}.items()
        )
        return f"{self.init}({shown})"


@dataclass(frozen=True)
class Recipe:
    """A model's tensors and the rules that initialise them.

    Parameters
    ----------
    name : str
        For people.
    text : str
        The TOML that the rules came from.
    seed : int
        Used unless another is given.
    tensors : tuple of Tensor
        In any order; names are unique. Empty where a recipe gives rules only.
    rules : tuple of Rule
        The first that fits a tensor is its rule.
    config : dict
        The model's ``config.json``; empty if not known.
    variables : mapping
        The numbers that the text was read with.
    """

    name: str
    text: str
    seed: int
    tensors: tuple[Tensor, ...]
    rules: tuple[Rule, ...]
    config: Mapping[str, Any]
    variables: Mapping[str, float] = field(default_factory=dict)

    def plan(self) -> list[tuple[Tensor, Rule]]:
        """Return each tensor with its rule, after checking that the rule can fill it.

        Raises
        ------
        RecipeError
            If there is no tensor, no rule for a tensor, or a rule cannot fill its tensor.

        Examples
        --------
        >>> tensor, rule = load("gpt2").plan()[0]
        >>> print(tensor.name, rule)
        transformer.wte.weight normal(std=0.02)
        """
        if not self.tensors:
            raise RecipeError(f"recipe {self.name!r} gives rules only; allowed: one with [tensors]")
        plan = [(tensor, self._rule_for(tensor)) for tensor in self.tensors]
        for tensor, rule in plan:
            rule.check(tensor)
        return plan

    def _rule_for(self, tensor: Tensor) -> Rule:
        for rule in self.rules:
            if rule.fits(tensor):
                return rule.bind(tensor.name)
        raise RecipeError(
            f"{tensor}: no rule of recipe {self.name!r} fits; give a recipe with a [[rule]] for it"
        )

    def fill(
        self,
        arrays: Mapping[str, NDArray[Any]],
        *,
        seed: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Fill a model's arrays in place, each by its rule and from the stream of its name.

        They get the values that `fastinit.checkpoint.write` writes for tensors of these names.

        Parameters
        ----------
        arrays : mapping of str to array
            The names that the rules know, and what to fill.
        seed : int, optional
            The recipe's if not given.
        threads : int, optional
            See `fastinit.set_num_threads`; the values do not depend on it.

        Raises
        ------
        RecipeError
            If an array has no rule, or its rule cannot fill it; then nothing was written.

        Examples
        --------
        >>> arrays = {"h.0.weight": np.empty((4, 4), np.float32), "h.0.bias": np.empty(4)}
        >>> load("default").fill(arrays, seed=1)
        >>> arrays["h.0.bias"]
        array([0., 0., 0., 0.])
        """
        tensors = tuple(Tensor(name, x.shape, x.dtype) for name, x in arrays.items())
        rng = fastinit.default_rng(self.seed if seed is None else seed)
        for tensor, rule in replace(self, tensors=tensors).plan():
            rule.fill(arrays[tensor.name], rng=rng.stream(tensor.name), threads=threads)

    def astype(self, dtype: str) -> Recipe:
        """Return this recipe with its floating tensors in another dtype; others keep theirs.

        A config that names a dtype then names this one.

        Raises
        ------
        RecipeError
            If `dtype` is not float64, float32, float16 or bfloat16.

        Examples
        --------
        >>> load("gpt2").astype("float16").tensors[0].dtype
        dtype('float16')
        """
        if dtype not in FLOATS:
            raise RecipeError(f"dtype={dtype!r} is unknown; allowed: {', '.join(FLOATS)}")
        new = as_dtype(dtype)
        return replace(
            self,
            tensors=tuple(
                replace(t, dtype=new) if t.dtype.name in FLOATS else t for t in self.tensors
            ),
            config={k: dtype if k in _DTYPE_KEYS else v for k, v in self.config.items()},
        )


def builtin() -> list[str]:
    """Return the names of the recipes that come with fastinit.

    Examples
    --------
    >>> "gpt2" in builtin()
    True
    """
    return sorted(
        file.name.removesuffix(".toml")
        for file in files("fastinit").joinpath("recipes").iterdir()
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
        text = Path(source).read_bytes().decode("utf-8", "replace")
        return parse(text, str(source), variables, model)
    if str(source) not in builtin():
        raise RecipeError(
            f"{str(source)!r} is neither a .toml file nor a built-in recipe; "
            f"built-in: {', '.join(builtin())}"
        )
    text = files("fastinit").joinpath("recipes", f"{source}.toml").read_text("utf-8")
    return parse(text, str(source), variables, model)


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
        return _recipe(tomllib.loads(text), text, variables or {}, model or {})
    except (tomllib.TOMLDecodeError, RecipeError) as error:
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
        if type(value) not in (int, float):
            raise RecipeError(f"variables.{name}={value!r} must be a number")
    return variables


def _check_key(where: str, key: str, allowed: Mapping[str, object]) -> None:
    if key not in allowed:
        raise RecipeError(f"{where} has no key {key!r}; allowed: {', '.join(allowed)}")


def _check_kind(name: str, value: object, kind: type) -> None:
    if type(value) is not kind:
        raise RecipeError(f"{name}={value!r} must be {_TOML[kind]}")


def _tensors(table: dict[str, Any], variables: Mapping[str, float]) -> Iterator[Tensor]:
    repeat = {
        index: _index_values(index, spec, variables)
        for index, spec in table.get("repeat", {}).items()
    }
    default = table.get("dtype", "float32")
    seen = set()
    for template, entry in table.get("tensors", {}).items():
        for tensor in _expand(template, entry, default, repeat, variables):
            if tensor.name in seen or tensor.name == "__metadata__":
                raise RecipeError(f"tensors.{template!r}: the name {tensor.name!r} is taken")
            seen.add(tensor.name)
            yield tensor


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
    dtype = _dtype(described.get("dtype", default))
    indices = _indices(template, repeat)
    for values in product(*(repeat[index] for index in indices)):
        point = dict(zip(indices, values, strict=True))
        lengths = tuple(_length(where, item, {**variables, **point}) for item in shape)
        yield Tensor(template.format_map(point), lengths, dtype)


def _indices(template: str, repeat: Mapping[str, Sequence[int]]) -> list[str]:
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template)]
    except ValueError as error:
        raise RecipeError(f"tensors.{template!r}: {error}") from None
    indices = [field for field in fields if field is not None]
    for index in indices:
        _check_key(f"[repeat], named by tensors.{template!r},", index, repeat)
    return list(dict.fromkeys(indices))


def _dtype(name: str) -> np.dtype[Any]:
    if name not in DTYPES:
        raise RecipeError(f"dtype={name!r} is unknown; allowed: {', '.join(DTYPES)}")
    return as_dtype(name)


def _length(where: str, item: Any, variables: Mapping[str, float]) -> int:
    value = evaluate(item, variables)
    if value < 0 or not float(value).is_integer():
        raise RecipeError(
            f"{where}: {item!r} is {value!r}; it must be a whole number, not negative"
        )
    return int(value)


def _rules(entry: Any, variables: Mapping[str, float]) -> list[Rule]:
    """Return the rules of an entry: one for each of its patterns."""
    _check_kind("rule", entry, dict)
    pattern = entry.get("pattern")
    patterns = pattern if isinstance(pattern, list) else [pattern]
    return [_rule(each, entry, variables) for each in patterns]


def _rule(pattern: Any, entry: dict[str, Any], variables: Mapping[str, float]) -> Rule:
    _check_kind("rule pattern", pattern, str)
    arguments = {key: value for key, value in entry.items() if key != "pattern"}
    init, ndim = (arguments.pop(key, None) for key in ("init", "ndim"))
    where = f"rule {pattern!r}"
    if init not in _initializers():
        raise RecipeError(
            f"{where}: init={init!r} is unknown; allowed: {', '.join(_initializers())}"
        )
    if ndim is not None:
        _check_kind(f"{where} ndim", ndim, int)
    keywords = _keywords(_initializers()[init])
    settings = {k: v for k, v in keywords.items() if k not in _GIVEN}
    for key in arguments:
        _check_key(f"{where}: {init}", key, settings)
    for key, default in settings.items():
        if default is Parameter.empty and key not in arguments:
            raise RecipeError(f"{where}: {init} needs {key}")
    # A text is an expression, unless the initializer wants one (mode, nonlinearity).
    expressions = {
        key: arguments.pop(key)
        for key, value in entry.items()
        if key in settings and isinstance(value, str) and not isinstance(settings[key], str)
    }
    try:
        _regex(pattern)
    except re.error as error:
        raise RecipeError(f"{where}: {error}") from None
    rule = Rule(pattern, init, arguments, ndim, expressions, variables)
    return rule if _regex(pattern).groupindex else rule.bind("")


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a shell pattern with whole numbers ``{layer}`` in it."""
    parts = re.split(r"\{(\w+)\}", pattern)
    for i, part in enumerate(parts):
        shell = translate(part)  # (?s:...)\Z
        parts[i] = f"(?P<{part}>[0-9]+)" if i % 2 else shell[4 : shell.rindex(")")]
    return re.compile(f"(?s:{''.join(parts)})\\Z")


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


# Each value depends on a whole matrix, or on a whole line of it.
_WHOLE = ("orthogonal", "delta_orthogonal", "sparse")

# What the caller of a rule decides, not the rule.
_GIVEN = ("rng", "threads", "backend", "global_shape", "offset")


@cache
def _initializers() -> dict[str, Callable[..., Any]]:
    names = fastinit.__all__  # an in-place function with an allocating one beside it
    return {name: getattr(fastinit, f"{name}_") for name in names if f"{name}_" in names}


@cache
def _keywords(function: Callable[..., Any]) -> dict[str, object]:
    """Return what an initializer takes after its array, with the defaults."""
    parameters = list(signature(function).parameters.values())[1:]
    keywords = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    if len(keywords) < len(parameters):  # it hands the rest on to variance_scaling_
        keywords |= dict.fromkeys(ScalingOptions.__annotations__)
    return keywords


def _config(table: Mapping[str, Any], variables: Mapping[str, float]) -> dict[str, Any]:
    """Return the table with each "{variable}" replaced by that variable's number."""
    numbers = {f"{{{name}}}": number for name, number in variables.items()}
    return {
        key: numbers.get(value, value) if isinstance(value, str) else value
        for key, value in table.items()
    }


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,  # on floats: 9 ** 9 ** 9 is an error and not an endless integer
}


def evaluate(expression: str | float, variables: Mapping[str, float]) -> float:
    """Return the value of an arithmetic expression.

    Parameters
    ----------
    expression : str or number
        Numbers, variables, ``+ - * / **``, brackets and ``sqrt(...)``; nothing else.
    variables : mapping
        The variables' values.

    Raises
    ------
    RecipeError
        If it is not such an expression, or has no value.

    Examples
    --------
    >>> evaluate("0.02 / sqrt(2 * layers)", {"layers": 8})
    0.005
    """
    if type(expression) in (int, float):
        return expression  # type: ignore[return-value]
    if not isinstance(expression, str):
        raise RecipeError(f"{expression!r} must be a number or an expression")
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body, variables)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise RecipeError(f"expression {expression!r}: {reason}") from None


def _value(node: ast.expr, variables: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name):
            if name not in variables:
                raise ValueError(f"no variable {name!r}; allowed: {', '.join(variables) or 'none'}")
            return variables[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, variables)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, variables), _value(right, variables))
        case ast.Call(func=ast.Name(id="sqrt"), args=[argument], keywords=[]):
            return math.sqrt(_value(argument, variables))
        case _:
            raise ValueError("allowed: numbers, variables, + - * / ** and sqrt(...)")
