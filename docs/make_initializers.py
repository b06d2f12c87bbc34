"""Writes docs/initializers.md from the docstrings: ``python docs/make_initializers.py``.

An initializer's first line is its formula, the fields under Notes are its use and equivalents,
and References its source.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from make_docstrings import MODULES, sections
from make_errors import NEEDED

import fastinit as fi
from fastinit.initializer import parameters
from fastinit.recipe import builtin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = Path(__file__).with_name("initializers.md")
FIELDS = ("For", "PyTorch", "JAX", "Keras")

HEAD = """\
<!-- Written by docs/make_initializers.py from the docstrings: change those. -->
# Initializers

Each fills an array in place under the name here, and returns a new one under the name without
its underscore: `fi.he_normal_(w, rng=42)`, `fi.he_normal((256, 512), rng=42)`. fan_in, fan_out
and their mean are those of the whole tensor, along `in_axis` and `out_axis`; a weight is
(..., in, out) unless told otherwise, and PyTorch's (out, in, ...) is `in_axis=1, out_axis=0`.

`he_*` = `kaiming_*`, `xavier_*` = `glorot_*`, `eye_` = `identity_`. All take
`global_shape=` and `offset=` for a part of a larger tensor, and give exactly its bits.

`normal_` and all that take fans fill complex64 and complex128 too: both parts of a number are
independent, each with half the variance, and `variance_scaling_` says what truncated and uniform
mean there. `arange_`, and what writes constants, fills integers.

"""

PARTS = """
## Parts of a tensor

Every initializer fills any part of a tensor, with the bits of the whole; by `fastinit.torch` each
process fills its own part of a DTensor, without communication. Of some the time of a part depends
on how the tensor is cut: `fi.Initializer("orthogonal").whole_axes(shape)` tells the axes not to
cut. What changes the values of a whole tensor takes no part, and refuses a DTensor, whose memory is
a part: use it before the tensor is distributed.

"""

# What changes values that are there. They have no `global_shape`, and refuse a DTensor.
WHOLE = {
    "standardize_": "mean and deviation are sums over all values, in an order of the whole's",
    "normalize_": "a norm is a sum over all values of a line, in an order of the whole's",
    "lsuv_": "the layer's output on data depends on all weights",
}

RECIPES = """
## Recipes of large models

Rules for whole models, by the tensors' names. Each file in `fastinit/recipe/` names its source.

```sh
fastinit init llama-3-8b -o build/llama --recipe wang
fastinit init old.safetensors -o build/new --recipe small-init --set width=768
```

```python
fastinit.recipe.load("small-init", {"width": 768}).fill(arrays, seed=42)  # a dict of arrays
```

What a recipe needs it takes from the model's own recipe, or from the caller.

"""

TAIL = """
## What introductory texts get wrong

- **sqrt(6 / (fan_in + fan_out)) is the bound of Xavier's uniform; sqrt(2 / (fan_in + fan_out)) is
  the standard deviation of its normal** (and of its uniform: a uniform on +-b has b / sqrt(3)).
  A normal with the first is sqrt(3) times too wide; "Xavier's formula" without its distribution
  says nothing. Likewise sqrt(6 / fan_in) and sqrt(2 / fan_in) for He's.
- **`normal` does not mean the same everywhere.** JAX's and Keras's `glorot_normal`, `he_normal` and
  `lecun_normal` are truncated at 2 standard deviations, and widened by 1 / 0.87962566 so that the
  standard deviation is right after the cut: `*_truncated_normal_` here. PyTorch's are not.
- **A truncated normal has a smaller standard deviation than its `std`**: 0.88 of it at 2 sigma,
  0.987 at 3. `truncated_normal_(..., corrected=True)` makes up for it.
- **PyTorch's bounds are values, not standard deviations.** `trunc_normal_(w, std=0.02)` cuts at
  +-2, 100 standard deviations away: nothing. Keras, JAX and timm's `trunc_normal_tf_` count in
  standard deviations.
- **Fans are not the axes' lengths.** A convolution's count its kernel too; a fused query, key and
  value has three times the fan_out of each (`blocks_` gives each its own); a process that holds a
  quarter of a tensor has to use the whole one's; a transposed weight swaps them.
- **PyTorch's default for Linear and Conv is not He's**: `kaiming_uniform_(a=sqrt(5))` is uniform
  within 1 / sqrt(fan_in), of standard deviation 1 / sqrt(3 fan_in), a third of LeCun's variance.
- **He's gain is for what follows the layer**, sqrt(2) for a rectifier and not for the last layer.
  PyTorch's 5/3 for tanh and 3/4 for selu do not follow from his formula, which gives 1.59 and 1;
  a self-normalising network takes `lecun_normal_`. Before tanh take the gain 1, as `recommend`
  does: with 5/3 each of many layers multiplies the gradient by 1.1.
- **Symmetry is the fault, and not zero**: biases may be zero, and so may the last layer of a
  residual branch, for other weights make the outputs differ.
"""


def initializers() -> list[Callable[..., Any]]:
    """Return the in-place initializers by module, in the order of definition; no aliases."""
    files = [inspect.getsourcefile(module) for module in MODULES]
    unique = {
        getattr(fi, f"{name}_")
        for name in fi.__all__
        if f"{name}_" in fi.__all__ and getattr(fi, name).__name__ == name
    }
    return sorted(
        unique, key=lambda f: (files.index(inspect.getsourcefile(f)), inspect.getsourcelines(f)[1])
    )


def cells(function: Callable[..., Any]) -> list[str]:
    """Return an initializer's row."""
    texts = sections(inspect.getdoc(function) or "")
    notes = dict(re.findall(r"^:(\w+): (.*?)(?=\n:|\Z)", texts["Notes"], re.M | re.S))
    formula = texts[""].split("\n\n")[0].removeprefix("Fill ").rstrip(".")
    source = texts.get("References", "-")
    row = [f"`{function.__name__}`", formula, *(notes[field] for field in FIELDS), source]
    return [" ".join(cell.replace("``", "`").replace("|", r"\|").split()) for cell in row]


def in_place() -> list[str]:
    """Return the names of all public functions that change an array in place; no aliases."""
    names = [name for name in fi.__all__ if name.endswith("_") and not name.startswith("_")]
    return [name for name in names if getattr(fi, name).__name__ == name]


def part(name: str) -> list[str]:
    """Return what the table of parts says of a function."""
    function = getattr(fi, name)
    if name in WHOLE:
        return [f"`{name}`", "no", WHOLE[name]]
    if name == "blocks_":
        return [f"`{name}`", "yes", "as its initializer"]
    plain = name.removesuffix("_")
    needed = {k: v for k, v in NEEDED.get(plain, {}).items() if k in parameters(plain)}
    initializer = fi.Initializer(plain, **needed)
    axes = [initializer.whole_axes(shape) for shape in [(4, 2), (2, 4)]]
    if axes == [(), ()]:
        return [f"`{name}`", "yes", "its share, however it is cut"]
    along = "lines along `axis`" if axes == [(0,), (0,)] else "lines along the matrix's longer side"
    return [f"`{function.__name__}`", "yes", f"its share, if cut into whole {along}"]


def recipes() -> list[list[str]]:
    """Return a row for each built-in recipe of rules alone."""
    folder = resources.files("fastinit.recipe")
    tables = {
        name: tomllib.loads((folder / f"{name}.toml").read_text("utf-8")) for name in builtin()
    }
    return [
        [f"`{name}`", table["description"], ", ".join(table.get("needs", [])) or "-"]
        for name, table in tables.items()
        if "tensors" not in table
    ]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page() -> str:
    """Return the page."""
    columns = ["function", "fills", "for", "PyTorch", "JAX", "Keras", "source"]
    functions = table(columns, [cells(function) for function in initializers()])
    parts = table(["function", "divisible", "time of a part, or why not"], map(part, in_place()))
    return (
        HEAD
        + functions
        + PARTS
        + parts
        + RECIPES
        + table(["recipe", "what", "needs"], recipes())
        + TAIL
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
