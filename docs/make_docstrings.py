"""Write the paragraphs that many docstrings share into the source, so that each stands alone.

``help(fi.he_normal_)`` explains every argument there. What several functions have in common is
written once, in this table; this program puts it into each of them, and a test compares.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import fastinit as fi
from fastinit import formulas, initializers, structured
from fastinit.initializer import parameters, registry

MODULES = (initializers, structured, formulas)

_ANY_ARRAY = (
    "a NumPy array of any shape and strides, or an object with the buffer protocol, "
    "``__array_interface__`` or DLPack."
)
_FLOATS = "float32, float64, float16, bfloat16, float8_e4m3fn or float8_e5m2"
_FLOAT_ARRAY = f"Filled in place. Its dtype is {_FLOATS}; it is {_ANY_ARRAY}"
_NUMBER_ARRAY = (
    "Filled in place. Its dtype is boolean, an integer or a floating type of at most 8 bytes; "
    f"it is {_ANY_ARRAY}"
)
_LIST = (
    " Or a list of such arrays, which are filled one after the other, as if they were one; for "
    "small arrays this takes less time than a call for each."
)
_COMPLEX = (
    " Or its dtype is complex64 or complex128: both parts are then independent, each with half the "
    "variance"
)
_LISTS = ("uniform_", "normal_", "truncated_normal_", "trunc_normal_")
_NUMBERS = ("constant_", "zeros_", "ones_", "dirac_", "eye_", "delta_")
_SCALED = ("variance_scaling_", "xavier", "he_", "lecun")
_PART = (
    "Both are given where x is a part of a larger tensor: the shape of that tensor, and the index "
    "in it at which x begins; x then gets the values of that part, bit for bit."
)

# Of which arguments an entry is, and what it says: one text, or one for some functions and, under
# "", one for the others.
Text = str | Mapping[str, str]
TABLE: dict[tuple[str, ...], tuple[str, Text]] = {
    ("x",): (
        "array",
        {
            "": _FLOAT_ARRAY,
            **dict.fromkeys(_LISTS, _FLOAT_ARRAY + _LIST),
            "normal_": f"{_FLOAT_ARRAY}{_LIST}{_COMPLEX}; the mean must be 0.",
            **dict.fromkeys(
                _SCALED, f"{_FLOAT_ARRAY}{_COMPLEX}, or on a disk: `variance_scaling_`."
            ),
            **dict.fromkeys(_NUMBERS, _NUMBER_ARRAY),
            "arange_": f"Filled in place. Its dtype is an integer, {_FLOATS}; it is {_ANY_ARRAY}",
        },
    ),
    ("rng",): (
        "int, sequence of int, SeedSequence, Generator, or None",
        "What the values are drawn from. An integer, a sequence of them or a SeedSequence gives "
        "the same values in each call, None gives others each time. A `Generator` of fastinit "
        "gives its next values and moves on by the size of x (of the whole tensor, where x is a "
        "part); one of NumPy gives a new key in each call.",
    ),
    ("threads",): (
        "int, optional",
        "How many threads may fill, 1 to 1024; `set_num_threads` sets the default. The values do "
        "not depend on it.",
    ),
    ("backend",): (
        '{"c", "numba"}, optional',
        "Which kernels fill: those in C, or those that Numba compiles; `set_backend` sets the "
        "default. The values do not depend on it.",
    ),
    ("global_shape", "offset"): (
        "tuple of int, optional",
        {"": _PART, **dict.fromkeys(_SCALED, _PART + " The fans are those of the whole tensor.")},
    ),
    ("in_axis", "out_axis", "batch_axis"): (
        "int or tuple of int",
        "The axes of inputs, of outputs, and of weights that are independent of each other. The "
        "last two axes are (in, out) unless given. All other axes, such as a convolution's kernel, "
        "count in both fans. PyTorch's layout (out, in, ...) has in_axis=1 and out_axis=0.",
    ),
    ("in_axis", "out_axis"): (
        "int",
        "The axes of inputs and of outputs; all other axes are the kernel's. PyTorch's layout "
        "(out, in, ...) has in_axis=1 and out_axis=0.",
    ),
    ("fan_in", "fan_out"): (
        "float, optional",
        "Positive numbers that are used instead of the fans that the whole tensor's shape gives.",
    ),
    ("a",): ("float", "The slope of the leaky_relu that follows the layer; 0 is relu."),
    ("mode",): (
        '{"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}',
        "Which fan: the number of inputs of an output (keeps the variance of the forward signal), "
        "the number of outputs of an input (keeps that of the gradient), or the arithmetic or the "
        "geometric mean of both.",
    ),
    ("nonlinearity",): (
        "str",
        "What follows the layer, if it is not leaky_relu; `calculate_gain` lists the names and the "
        "gains.",
    ),
    ("gain",): (
        "float",
        {
            "xavier": "A positive factor on the standard deviation; `calculate_gain` has it for "
            "each nonlinearity.",
        },
    ),
}

_RETURNS = "array\n    `x`."
_RAISES = "TypeError, ValueError\n    If an argument is not as described; then nothing was written."
_HEADS = ("Parameters", "Returns", "Raises", "See Also", "Notes", "References", "Examples")


def functions() -> Iterator[tuple[str, str]]:
    """Yield each in-place initializer's name and the file that it is written in."""
    for name in registry():
        function = registry()[name]
        # An alias has the docstring of another.
        if function.__name__ == f"{name}_":
            yield f"{name}_", inspect.getsourcefile(function) or ""


def documented(function: str, doc: str) -> str:
    """Return a function's docstring with its shared paragraphs as the table has them."""
    texts = sections(doc)
    own = entries(texts.get("Parameters", ""))
    texts["Parameters"] = "\n".join(_written(function, own))
    texts["Returns"] = _RETURNS
    texts["Raises"] = texts.get("Raises") or _RAISES
    titled = [f"{head}\n{'-' * len(head)}\n{texts[head]}" for head in _HEADS if head in texts]
    return "\n\n".join([texts[""], *titled]) + "\n"


def sections(doc: str) -> dict[str, str]:
    """Return the texts of a docstring's sections by their heads; that before the first by ""."""
    heads = "|".join(_HEADS)
    parts = re.split(rf"^({heads})\n-+\n", doc.strip(), flags=re.MULTILINE)
    return {head: text.strip() for head, text in zip(["", *parts[1::2]], parts[::2], strict=True)}


def entries(section: str) -> dict[str, str]:
    """Return the entries of a section by the arguments that they are about."""
    entries: dict[str, str] = {}
    name = ""
    for line in section.split("\n"):
        if line and not line.startswith(" "):
            name = line.partition(" : ")[0]
        entries[name] = f"{entries[name]}\n{line}" if name in entries else line
    return {name: text.rstrip() for name, text in entries.items()}


def _written(function: str, own: Mapping[str, str]) -> Iterator[str]:
    """Yield the entries of all arguments, in the order of the signature."""
    names = ["x", *parameters(function.removesuffix("_"))]
    groups = [*(tuple(key.split(", ")) for key in own), *TABLE]
    done: set[str] = set()
    for name in names:
        if name in done:
            continue
        fitting = [g for g in groups if name in g and all(n in names for n in g)]
        group = max(fitting, key=len) if fitting else (name,)
        text = _shared(function, group) or own.get(", ".join(group))
        if text is None:
            raise SystemExit(f"{function}: nothing says what {name} is")
        done.update(group)
        yield text


def _shared(function: str, group: tuple[str, ...]) -> str | None:
    """Return the table's entry for some arguments of a function, or None if there is none."""
    if group not in TABLE:
        return None
    kind, text = TABLE[group]
    if not isinstance(text, str):
        fitting = [key for key in text if key == function or (key and function.startswith(key))]
        if not fitting and "" not in text:
            return None
        text = text[fitting[0] if fitting else ""]
    kind = f"{kind}, or list of arrays" if group == ("x",) and function in _LISTS else kind
    body = textwrap.fill(text, 91, initial_indent="    ", subsequent_indent="    ")
    return f"{', '.join(group)} : {kind}\n{body}"


def rewritten(path: Path) -> str:
    """Return a source file's text with the docstrings of its initializers brought up to date."""
    text = path.read_text("utf-8")
    lines = text.split("\n")
    wanted = {name for name, file in functions() if Path(file) == path}
    for node in reversed(ast.parse(text).body):
        if isinstance(node, ast.FunctionDef) and node.name in wanted:
            doc = node.body[0]
            assert isinstance(doc, ast.Expr)
            assert doc.end_lineno is not None
            new = textwrap.indent(
                documented(node.name, inspect.cleandoc(ast.get_docstring(node) or "")), "    "
            )
            raw = 'r"""' if lines[doc.lineno - 1].lstrip().startswith('r"') else '"""'
            block = f"    {raw}{new.strip()}\n    " + '"""'
            lines[doc.lineno - 1 : doc.end_lineno] = block.split("\n")
    return "\n".join(lines)


def main() -> None:
    """Write the files, or with --check say which of them would change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; status 1 if stale.")
    check = parser.parse_args().check
    assert fi.__file__ is not None
    stale = []
    for module in MODULES:
        path = Path(inspect.getsourcefile(module) or "")
        new = rewritten(path)
        if new != path.read_text("utf-8"):
            stale.append(path.name)
            if not check:
                path.write_text(new, "utf-8")
    if check and stale:
        raise SystemExit(f"stale: {', '.join(stale)}; run python docs/make_docstrings.py")


if __name__ == "__main__":
    main()
