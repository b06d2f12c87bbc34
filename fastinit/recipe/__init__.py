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
them; `exclude`, in the same form, takes names out again, for which later rules are tried; `ndim`
may restrict the rule to tensors with so many axes. ``{layer}`` in a pattern stands for a whole
number, which the rule's expressions know by that name. They also know ``fan_in`` and
``fan_out`` of the tensor, whose axes are (out, in, ...) as PyTorch has them, and ``sqrt``,
``log``, ``min`` and ``max``.

A recipe of rules alone is for other models' tensors. ``needs = ["layers", "width"]`` are the
variables that it has no value for: those of the model's own recipe, or the caller gives them.
"""

from fastinit.recipe._expressions import RecipeError, evaluate
from fastinit.recipe._model import Origin, Recipe, Rule
from fastinit.recipe._patterns import escaped, template
from fastinit.recipe._tensor import DTYPES, FLOAT_DTYPES, Tensor, as_dtype, dtype_name
from fastinit.recipe._toml import builtin, load, parse
from fastinit.recipe._values import Computed, Held, Missing, Values, digest

__all__ = [
    "DTYPES",
    "FLOAT_DTYPES",
    "Computed",
    "Held",
    "Missing",
    "Origin",
    "Recipe",
    "RecipeError",
    "Rule",
    "Tensor",
    "Values",
    "as_dtype",
    "builtin",
    "digest",
    "dtype_name",
    "escaped",
    "evaluate",
    "load",
    "parse",
    "template",
]
