"""Arithmetic in a recipe's text: numbers, variables, and few operations."""

from __future__ import annotations

import ast
import decimal
import math
import operator
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

_LONGEST_MESSAGE = 10_000  # characters: a foreign name may have millions


class RecipeError(ValueError):
    """A recipe, or a tensor it is asked to fill, is not as it must be."""

    def __init__(self, message: str) -> None:
        if len(message) > _LONGEST_MESSAGE:
            half = _LONGEST_MESSAGE // 2
            message = f"{message[:half]} ... {message[-half:]}"
        super().__init__(message)


@dataclass(frozen=True)
class Expression:
    """An argument whose value depends on variables: the text of an expression.

    Examples
    --------
    >>> Expression("1 / (layer + 1)").value({"layer": 3})
    0.25
    """

    text: str

    def value(self, variables: Mapping[str, float]) -> float:
        """Return the expression's value; raise RecipeError as `evaluate`."""
        return evaluate(self.text, variables)

    @property
    def of_shape(self) -> bool:
        """Whether it depends on a tensor's shape."""
        return re.search(r"\bfan_(in|out)\b", self.text) is not None

    def __repr__(self) -> str:
        return repr(self.text)


_LONGEST = 1000  # characters; Python's parser recurses

# What a recipe computes enters values, and the C library's log and pow differ in their last place
# from system to system: decimal arithmetic is the same everywhere.
_DECIMAL = decimal.Context(prec=40)


def _power(base: float, exponent: float) -> float:
    """Return a power of floats: 9 ** 9 ** 9 is an error, and not an endless integer."""
    rough = math.pow(base, exponent)  # which refuses what has no value
    if base == 0 or exponent == 0 or not math.isfinite(rough):
        return rough
    return float(_DECIMAL.power(decimal.Decimal(base), decimal.Decimal(exponent)))


def _logarithm(x: float) -> float:
    rough = math.log(x)  # which refuses what has no value
    return float(_DECIMAL.ln(decimal.Decimal(x))) if math.isfinite(rough) else rough


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
}

_FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt,
    "log": _logarithm,
    "min": min,
    "max": max,
}


def evaluate(expression: str | float, variables: Mapping[str, float]) -> float:
    """Return the value of an arithmetic expression.

    Parameters
    ----------
    expression : str or number
        Numbers, variables, ``+ - * / **``, brackets, ``sqrt(x)``, ``log(x)`` (natural),
        ``min(x, y, ...)`` and ``max(x, y, ...)``; nothing else.
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
    if len(expression) > _LONGEST:
        raise RecipeError(f"an expression of {len(expression):,} characters; allowed: {_LONGEST:,}")
    try:
        return _value(_parsed(expression), variables)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise RecipeError(f"expression {expression!r}: {reason}") from None


@lru_cache(maxsize=1000)
def _parsed(expression: str) -> ast.expr:
    """Return an expression's tree: there may be 10**5 tensors for each expression."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, of texts such as "1if"
        return ast.parse(expression.strip(), mode="eval").body


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
        case ast.Call(func=ast.Name(id="sqrt" | "log" as name), args=[argument], keywords=[]):
            return _FUNCTIONS[name](_value(argument, variables))
        case ast.Call(func=ast.Name(id="min" | "max" as name), args=[_, _, *_], keywords=[]):
            return _FUNCTIONS[name](*(_value(argument, variables) for argument in node.args))
        case _:
            raise ValueError(
                "allowed: numbers, variables, + - * / **, sqrt(x), log(x), min(x, y), max(x, y)"
            )
