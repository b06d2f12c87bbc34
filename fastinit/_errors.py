"""An error's text begins with the name of the function that the user called.

The checks stand in functions that many public functions share, several calls further down. Which
of them was called is read from the stack when an error is made, so a call without an error pays
nothing: a decorator around each function would cost as much as drawing 64 values.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from types import FrameType

# These name the option or the recipe's rule: their user has called no function.
_NAME_WHAT_THEY_READ = ("fastinit.cli", "fastinit.recipe")


def type_error(text: str) -> TypeError:
    """Return an error about an argument's type, in the name of what was called."""
    return TypeError(with_name(text))


def value_error(text: str) -> ValueError:
    """Return an error about an argument's value, in the name of what was called."""
    return ValueError(with_name(text))


def with_name(text: str) -> str:
    """Return an error's text, and before it, once, the function that was called."""
    called = name_of_call()
    bare = text.replace(f"{called}: ", "") if called else text
    # Python's own errors begin with the name already: normal_() got an unexpected argument.
    return f"{called}: {bare}" if called and not bare.startswith(called) else bare


def without_name(error: Exception) -> str:
    """Return the text that `with_name` was given, for an error that says more."""
    return str(error).removeprefix(f"{name_of_call()}: ")


def renamed(error: Exception, names: Mapping[str, str]) -> Exception:
    """Return an error of ours with other words: of a face that has other names for arguments.

    What stands in quotes was given, and stays as it is.
    """
    words = "|".join(names)
    quoted_or_word = rf"(?<!\w)(?:'[^']*'|\"[^\"]*\"|(?:{words})(?!\w))"
    text = re.sub(quoted_or_word, lambda m: names.get(m[0], m[0]), without_name(error))
    return type(error)(with_name(text))


SHAPE_AND_DTYPE = {"x has shape ": "shape=", "x has dtype ": "dtype="}
"""What is said of an array, in the words of a function that makes it."""


def name_of_call() -> str:
    """Return the public function that was called last by code that is not ours; "" if none was.

    Code of others may stand between a public function and the error: PyTorch's, or the user's own,
    which we have been given and which has called us again.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        outer = frame.f_back
        if _module(frame).startswith(_NAME_WHAT_THEY_READ):
            return ""
        if _is_ours(frame) and not _is_ours(outer) and (name := _public_name(frame)):
            return name
        frame = outer
    return ""


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _is_ours(frame: FrameType | None) -> bool:
    return frame is not None and _module(frame).partition(".")[0] == "fastinit"


def _public_name(frame: FrameType) -> str:
    """Return a frame's function as its user writes it; "" if it is not public."""
    path = _module(frame).split(".")
    faces = [sys.modules.get(".".join(path[: n + 1])) for n in range(len(path))]
    public = {name for face in faces for name in getattr(face, "__all__", ())}
    name = frame.f_code.co_name
    first = frame.f_code.co_varnames[:1]
    if first not in (("self",), ("cls",)):
        return f"{name}()" if name in public else ""
    given = frame.f_locals.get(first[0])
    classes = (given if isinstance(given, type) else type(given)).__mro__
    owner = next((each for each in classes if each.__name__ in public), None)
    if owner is None:
        return ""
    if name in ("__init__", "__new__", "__call__"):
        return f"{owner.__name__}()"
    is_property = isinstance(inspect.getattr_static(owner, name, None), property)
    return f"{owner.__name__}.{name}{'' if is_property else '()'}"
