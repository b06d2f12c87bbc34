"""Recipes: the built-in ones against the real models, the language, and what it refuses."""

import contextlib
import decimal
import doctest
import hashlib
import importlib
import inspect
import math
import re
import sys
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit import recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Number of tensors and SHA-256 of the sorted lines "name dtype shape" of each model as
# transformers 5 saves it; test_transformers.py asks transformers itself.
MANIFESTS = {
    "bert-base": (
        202,
        "b053f23a37c9f9edc959c0d06af64784acd16ea46386852e233cb7139e3b116c",
    ),
    "gpt2": (
        148,
        "f69d6aa30734d2f70deb376fcad2508506bb3ff37251333f0b56afc2b5dfa8f8",
    ),
    "llama-3-8b": (
        291,
        "258d2d70fed5cc76053f26ed1b61817d896119eeb5215a874f8a0edc208f53c8",
    ),
    "vit-b-16": (
        200,
        "ed9c22056c9de8b7be07de99be4d7f21412c70016decf4e8840cf7a07516f39a",
    ),
}

TINY = """
name = "tiny"

[variables]
layers = 2
width = 4

[repeat]
layer = "layers"

[tensors]
"h.{layer}.weight" = ["width", "2 * width"]
"h.{layer}.bias" = ["2 * width"]
"steps" = {shape = [], dtype = "int64"}

[[rule]]
pattern = "*.weight"
init = "normal"
std = "0.02 / sqrt(2 * layers)"

[[rule]]
pattern = "*"
init = "zeros"
"""


def digest(tensors):
    lines = sorted(f"{t.name} {recipe.DTYPES[t.dtype.name]} {list(t.shape)}" for t in tensors)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("name", MANIFESTS)
def test_builtin_recipes_are_the_real_models(name):
    tensors = recipe.load(name).tensors
    assert (len(tensors), digest(tensors)) == MANIFESTS[name]


@pytest.mark.parametrize("name", MANIFESTS)
def test_builtin_recipes_have_a_rule_for_each_tensor_and_use_every_rule(name):
    model = recipe.load(name)
    used = {id(rule) for _, rule in model.plan()}
    assert used == {id(rule) for rule in model.rules}


def test_some_shapes_spelled_out():
    gpt2 = {t.name: t for t in recipe.load("gpt2").tensors}
    assert gpt2["transformer.wte.weight"].shape == (50257, 768)
    assert gpt2["transformer.h.11.attn.c_attn.weight"].shape == (768, 2304)
    llama = {t.name: t for t in recipe.load("llama-3-8b").tensors}
    assert llama["model.layers.31.self_attn.k_proj.weight"].shape == (1024, 4096)
    assert llama["lm_head.weight"].dtype.name == "bfloat16"


def test_gpt2_follows_its_paper():
    rules = {t.name: str(rule) for t, rule in recipe.load("gpt2").plan()}
    residual = f"normal(std={0.02 / math.sqrt(24)!r})"
    assert rules["transformer.h.3.attn.c_proj.weight"] == residual
    assert rules["transformer.h.3.mlp.c_proj.weight"] == residual
    assert rules["transformer.h.3.mlp.c_fc.weight"] == "normal(std=0.02)"
    assert rules["transformer.h.3.mlp.c_proj.bias"] == "zeros"
    assert rules["transformer.h.3.ln_1.weight"] == rules["transformer.ln_f.weight"] == "ones"
    assert rules["transformer.wpe.weight"] == "normal(std=0.02)"


def test_expansion():
    tiny = recipe.parse(TINY)
    assert [(t.name, t.shape, t.dtype.name) for t in tiny.tensors] == [
        ("h.0.weight", (4, 8), "float32"),
        ("h.1.weight", (4, 8), "float32"),
        ("h.0.bias", (8,), "float32"),
        ("h.1.bias", (8,), "float32"),
        ("steps", (), "int64"),
    ]
    assert tiny.rules[0].initializer.arguments == {"std": 0.01}


def test_an_index_may_be_a_list_and_stand_in_shapes_and_twice_in_a_name():
    text = """
    name = "x"
    [repeat]
    stage = [1, 3]
    block = 2
    [tensors]
    "{stage}.{block}.{stage}" = ["8 * 2 ** stage"]
    """
    assert [(t.name, t.shape) for t in recipe.parse(text).tensors] == [
        ("1.0.1", (16,)),
        ("1.1.1", (16,)),
        ("3.0.3", (64,)),
        ("3.1.3", (64,)),
    ]


def test_the_first_rule_that_fits_wins_and_case_matters():
    rules = (
        recipe.Rule("*.weight", fi.Initializer("ones"), ndim=1),
        recipe.Rule("*.weight", fi.Initializer("normal")),
        recipe.Rule("*", fi.Initializer("zeros")),
    )
    tensors = tuple(
        recipe.Tensor(name, shape, np.dtype("float32"))
        for name, shape in [("a.weight", (3,)), ("b.weight", (3, 3)), ("c.Weight", (3,))]
    )
    plan = recipe.Recipe("x", "", 0, tensors, rules, {}).plan()
    assert [rule.initializer.name for _, rule in plan] == ["ones", "normal", "zeros"]


def test_every_initializer_can_be_a_rule():
    names = [f"{n}_" for n in fi.__all__ if f"{n}_" in fi.__all__]
    assert len(names) > 30
    tensor = recipe.Tensor("w", (4, 6), np.dtype("float32"))
    for name in names:
        required = [
            p.name
            for p in list(inspect.signature(getattr(fi, name)).parameters.values())[1:]
            if p.default is p.empty and p.kind is not p.VAR_KEYWORD
        ]
        arguments = "\n".join(f"{key} = 0.5" for key in required)
        text = f'name = "x"\n[[rule]]\npattern = "*"\ninit = "{name[:-1]}"\n{arguments}'
        recipe.parse(text).rules[0].check(tensor)


def test_a_rule_passes_texts_numbers_and_axes_on():
    text = """
    name = "x"
    [[rule]]
    pattern = "*"
    init = "he_normal"
    mode = "fan_out"
    a = "1 / 4"
    in_axis = 1
    out_axis = 0
    """
    x, expected = np.empty((2, 64, 64, 3, 3), np.float32)[0], np.empty((64, 64, 3, 3), np.float32)
    recipe.parse(text).rules[0].initializer.fill(x, rng=7)
    fi.he_normal_(expected, 0.25, "fan_out", in_axis=1, out_axis=0, rng=7)
    np.testing.assert_array_equal(x, expected)


def test_astype_changes_floats_only():
    changed = recipe.parse(TINY).astype("bfloat16").tensors
    assert [t.dtype.name for t in changed] == ["bfloat16"] * 4 + ["int64"]
    with pytest.raises(recipe.RecipeError, match=r"dtype='int8'.*allowed: float64, float32"):
        recipe.parse(TINY).astype("int8")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (3, 3),
        (0.5, 0.5),
        ("3", 3),
        (" 2 * a + 1 ", 9),
        ("-a ** 2", -16),
        ("a / 8", 0.5),
        ("0.02 / sqrt(2 * a - 4)", 0.01),
        ("2 - 3 - 4", -5),
        ("log(a / 4)", 0),
        ("min(a, 3, 5) + max(-a, 1)", 4),
    ],
)
def test_expressions(expression, value):
    assert recipe.evaluate(expression, {"a": 4}) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("b + 1", "no variable 'b'; allowed: a"),
        ("1 / 0", "division by zero"),
        ("sqrt(-1)", "math domain error|nonnegative"),
        ("9 ** 9 ** 9", "range"),
        ("(-8) ** 0.5", "domain|negative"),
        ("a.real", "allowed: numbers"),
        ("__import__('os')", "allowed: numbers"),
        ("sqrt(1, 2)", "allowed: numbers"),
        ("min(1)", "allowed: numbers"),
        ("log(0)", "domain|positive"),
        ("[1]", "allowed: numbers"),
        ("True", "allowed: numbers"),
        ("1 // 2", "allowed: numbers"),
        ("1 +", "invalid syntax"),
        ("", "invalid syntax"),
        ("(" * 900, "parenthes|nested"),
        ("(" * 10_000, "10,000 characters; allowed: 1,000"),
        (True, "must be a number"),
        ([1], "must be a number"),
    ],
)
def test_bad_expressions(expression, reason):
    with pytest.raises(recipe.RecipeError, match=reason):
        recipe.evaluate(expression, {"a": 4})


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('name = "tiny"', "name = ", "recipe r.toml: Invalid value"),
        ('name = "tiny"', "", "name is missing"),
        ('name = "tiny"', 'name = "tiny"\nlayers = 3', "no key 'layers'; allowed: name, desc"),
        ('name = "tiny"', 'name = "tiny"\nseed = "1"', "seed='1' must be an integer"),
        ('name = "tiny"', 'name = "tiny"\ndtype = "f32"', "dtype='f32' is unknown; allowed: float"),
        ("width = 4", 'width = "4"', "variables.width='4' must be a number"),
        ('layer = "layers"', 'layer = "depth"', "no variable 'depth'; allowed: layers, width"),
        ('["width", "2 * width"]', '["wide"]', "no variable 'wide'; allowed: layers, width, layer"),
        ('["width", "2 * width"]', '["width / 3"]', "whole number"),
        ('["width", "2 * width"]', "[-1]", "whole number"),
        ('["width", "2 * width"]', "4", "must be a table"),
        ('["width", "2 * width"]', "{dtype = 'int8'}", "shape=None must be an array"),
        ('["width", "2 * width"]', "{shape = [1], size = 3}", "no key 'size'; allowed: shape"),
        ('"h.{layer}.bias"', '"h.{lay}.bias"', "no key 'lay'; allowed: layer"),
        ('"h.{layer}.bias"', '"h.{layer.bias"', "tensors.'h.{layer.bias'"),
        ('"h.{layer}.bias"', '"h.bias{layer.real}"', "allowed: the name of an index"),
        ('"steps"', '"h.1.bias"', "'h.1.bias' is taken"),
        ('"steps"', '"__metadata__"', "'__metadata__' is taken"),
        (
            'init = "normal"',
            'init = "gauss"',
            r"rule '\*.weight': init='gauss'.*allowed: a_log,.*const",
        ),
        ('init = "normal"', "", "init=None is unknown"),
        ('init = "zeros"', 'init = "constant"', "constant needs the argument value"),
        ('pattern = "*"', "pattern = 3", "rule pattern=3 must be a string"),
        ('pattern = "*"', 'pattern = ["*", 3]', "rule pattern=3 must be a string"),
        ('pattern = "*"', 'pattern = "{i}.{i}"', "an index is there twice"),
        ('name = "tiny"', 'name = "tiny"\nneeds = ["depth"]', "needs a value for .* 'depth'"),
        ('name = "tiny"', 'name = "tiny"\nneeds = [3]', "needs=3 must be a string"),
        ('pattern = "*.weight"', 'pattern = "h.{i}.weight"\nmean = "j"', "no variable 'j'"),
        ('pattern = "*"', 'pattern = "*"\nndim = "1"', "ndim='1' must be an integer"),
        ("std =", "sd =", "normal has no argument 'sd'; allowed: mean, std"),
        ("std =", "rng =", "rng is given to fill, and not to normal"),
    ],
)
def test_bad_recipes(old, new, reason):
    assert old in TINY
    with pytest.raises(recipe.RecipeError, match=reason):
        recipe.parse(TINY.replace(old, new), "r.toml").plan()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('pattern = "*"', 'pattern = "*.bias"', "'steps' .int64, .*no rule of recipe 'tiny' fits"),
        ("0.02 /", "-0.02 /", r"'h.0.weight'.*rule '\*.weight': normal\(std=-0.01\): std=-0.01"),
        ('init = "zeros"', 'init = "uniform"', "'steps'.*int64.*allowed"),
        ('init = "zeros"', 'init = "xavier_normal"', "'h.0.bias'.*xavier_normal.*axis"),
        ('init = "zeros"', 'init = "constant"\nvalue = 0.5', "'steps'.*constant.value=0.5"),
        ('init = "normal"\nstd', 'init = "normal"\nmean = [1]\nstd', "mean=.1.*mean"),
    ],
)
def test_a_rule_that_cannot_fill_its_tensor_is_found_before_anything_is_written(old, new, reason):
    assert old in TINY
    model = recipe.parse(TINY.replace(old, new))
    with pytest.raises(recipe.RecipeError, match=reason):
        model.plan()


def test_rules_alone_are_no_model():
    with pytest.raises(recipe.RecipeError, match="'default' gives rules only"):
        recipe.load("default").plan()


def test_unknown_builtin():
    with pytest.raises(
        recipe.RecipeError, match=r"'gpt3' is neither.*built-in: bert-base, dcgan, default"
    ):
        recipe.load("gpt3")


def test_a_config_takes_its_numbers_from_the_variables():
    config = recipe.parse(TINY + '[config]\nn = "{layers}"\nm = "{depth}"\nkind = "gpt2"').config
    assert config == {"n": 2, "m": "{depth}", "kind": "gpt2"}


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "expected"),
    [
        ("layer4.2.bn3.weight", (2048,), "float32", "ones"),
        ("layer4.2.conv3.weight", (8, 8, 3, 3), "float32", "normal(std=0.02)"),
        ("fc.bias", (8,), "float32", "zeros"),
        ("bn1.running_mean", (8,), "float32", "zeros"),
        ("bn1.running_var", (8,), "float32", "ones"),
        ("bn1.num_batches_tracked", (), "int64", "zeros"),
        ("vit.embeddings.cls_token", (1, 1, 8), "float32", "normal(std=0.02)"),
        ("bert.embeddings.position_embeddings.weight", (9, 8), "float32", "normal(std=0.02)"),
        ("decoder.query_embeddings", (9, 8), "float32", "normal(std=0.02)"),
        ("experts.gate_up_proj_bias", (4, 8), "float32", "zeros"),
        ("encoder.self_attn.sampling_offsets.weight", (8, 8), "float32", "zeros"),
        ("encoder.self_attn.attention_weights.weight", (8, 8), "float32", "zeros"),
        ("encoder.self_attn.attention_weights.bias", (8,), "float32", "zeros"),
        ("controlnet.input_zero_convs.3.weight", (8, 8, 1, 1), "float32", "zeros"),
        ("blocks.0.adaLN_modulation.1.weight", (48, 8), "float32", "zeros"),
        ("stages.0.grn.weight", (1, 1, 1, 8), "float32", "zeros"),
        ("decoder.bbox.activation_fn.weight", (1,), "float32", "constant(value=0.25)"),
    ],
)
def test_default_rules(name, shape, dtype, expected):
    default = recipe.load("default")
    tensor = recipe.Tensor(name, shape, np.dtype(dtype))
    model = recipe.Recipe("x", "", 0, (tensor,), default.rules, {})
    assert str(model.plan()[0][1]) == expected


@pytest.mark.parametrize(
    ("name", "shape", "suggested"),
    [
        ("embeddings.position_ids", (1, 8), "arange"),
        ("rotary_emb.inv_freq", (8,), "geomspace"),
        ("bbox_embeddings.x_pos_emb.inv_freq", (8,), "geomspace"),
        ("model.encoder.embed_positions.weight", (9, 8), "sinusoid"),
        ("vit.embeddings.position_embeddings", (1, 9, 8), "sinusoid"),
        ("visual.positional_embedding", (9, 8), "sinusoid"),
        ("encoder.layers.0.self_attn.sampling_offsets.bias", (256,), "computes its numbers"),
        ("transformer.h.0.attn.bias", (1, 1, 8, 8), "computes its numbers"),
        ("transformer.h.0.attn.bias", (8, 8), "computes its numbers"),
        ("transformer.h.0.attn.masked_bias", (), "constant"),
        ("criterion.empty_weight", (92,), "computes its numbers"),
        ("time_proj.weight", (128,), "normal"),
        ("siglip.logit_bias", (1,), "constant"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_what_a_name_does_not_tell_is_never_guessed(name, shape, suggested, dtype):
    """Neither as a bias, nor as a scale, nor as a weight; no other rule comes in its place."""
    tensor = recipe.Tensor(name, shape, np.dtype(dtype))
    model = recipe.Recipe("x", "", 0, (tensor,), recipe.load("default").rules, {})
    with pytest.raises(recipe.RecipeError, match=re.escape(name)) as caught:
        model.plan()
    assert "no rule of recipe 'x' fits" in str(caught.value)
    assert suggested in str(caught.value)


def test_a_rule_may_exclude_names():
    text = """name = "x"
    [tensors]
    "a.weight" = [4, 4]
    "a.table.weight" = [4, 4]
    "b.3.weight" = [4, 4]
    [[rule]]
    pattern = "*weight"
    exclude = ["*table.weight", "b.{n}.*"]
    init = "ones"
    [[rule]]
    pattern = "b.*"
    exclude = "b.weight"
    init = "zeros"
    """
    with pytest.raises(recipe.RecipeError, match=r"'a\.table\.weight'.*no rule of recipe 'x' fits"):
        recipe.parse(text).plan()
    rest = '[[rule]]\npattern = "*"\ninit = "constant"\nvalue = 2'
    plan = recipe.parse(text + rest).plan()
    assert [str(rule) for _, rule in plan] == ["ones", "constant(value=2)", "zeros"]


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ("3", r"rule exclude=3 must be a string"),
        ('["a", 3]', r"rule exclude=3 must be a string"),
        ('"{a}{a}"', r"rule exclude '\{a\}\{a\}': an index is there twice"),
        (f'"{"a" * 20000}"', r"a rule's exclude has 20,000 characters; allowed: 10,000"),
    ],
)
def test_what_is_no_pattern_is_excluded_by_no_rule(exclude, message):
    with pytest.raises(recipe.RecipeError, match=message):
        recipe.parse(f'name = "x"\n[[rule]]\npattern = "*"\nexclude = {exclude}\ninit = "ones"')


@pytest.mark.parametrize("name", ["_expressions", "_model", "_patterns", "_toml"])
def test_docstring_examples(name):
    module = importlib.import_module(f"fastinit.recipe.{name}")
    public = {name: getattr(recipe, name) for name in recipe.__all__}
    results = doctest.testmod(module, extraglobs={"fi": fi, "np": np, **public})
    assert results.attempted > 0
    assert results.failed == 0


def test_a_pattern_may_know_numbers_in_the_name():
    text = """
    name = "x"
    [variables]
    first = 10
    [[rule]]
    pattern = ["h.{layer}.w{i}*", "g.{layer}.v*"]
    init = "constant"
    value = "first + layer"
    """
    arrays = {n: np.empty(2) for n in ("h.3.w12.x", "h.10.w", "g.7.v", "h.4.w5")}
    del arrays["h.10.w"]  # no number after the w
    recipe.parse(text).fill(arrays)
    assert {n: x[0] for n, x in arrays.items()} == {"h.3.w12.x": 13, "g.7.v": 17, "h.4.w5": 14}
    with pytest.raises(recipe.RecipeError, match=r"'h\.10\.w'.*no rule"):
        recipe.parse(text).fill({"h.10.w": np.empty(2)})


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*.weight", "a.weight", True),
        ("*.weight", "a.weights", False),
        ("a?c", "abc", True),
        ("[ab]*", "bx", True),
        ("[!ab]*", "bx", False),
        ("a.b", "aXb", False),
        ("*a*b*", "xxaxxbxx", True),
        ("*h.{i}.*", "x.h.12.w", True),
        ("*h.{i}.*", "x.h.12w", False),
        ("*a*{i}b", "xaya3b", True),
        ("{i}", "-1", False),
    ],
)
def test_patterns(pattern, name, fits):
    tensor = recipe.Tensor(name, (), np.dtype("float32"))
    assert recipe.Rule(pattern, fi.Initializer("zeros")).fits(tensor) is fits


def test_variables_can_be_given():
    changed = recipe.parse(TINY, variables={"layers": 8})
    assert len(changed.tensors) == 17
    assert changed.rules[0].initializer.arguments == {"std": 0.005}
    assert changed.variables == {"layers": 8, "width": 4}
    with pytest.raises(recipe.RecipeError, match=r"no key 'depth'; allowed: layers, width"):
        recipe.parse(TINY, variables={"depth": 8})


def test_needs_come_from_the_model_or_the_caller():
    text = 'name = "x"\nneeds = ["layers"]\n[variables]\nwidth = 3'
    assert recipe.parse(text, variables={"layers": 2}).variables == {"width": 3, "layers": 2}
    model = {"layers": 5, "width": 7, "heads": 9}
    assert recipe.parse(text, model=model).variables == {"width": 3, "layers": 5}
    assert recipe.parse(text, variables={"layers": 2}, model=model).variables["layers"] == 2


def test_arrays_get_what_a_file_would(tmp_path):
    from safetensors.numpy import load_file

    from fastinit import checkpoint

    model = recipe.parse(TINY)
    arrays = {t.name: np.empty(t.shape, t.dtype) for t in model.tensors}
    model.fill(arrays, seed=3, threads=1)
    checkpoint.write(model, tmp_path, seed=3)
    written = load_file(tmp_path / "model.safetensors")
    assert {n: x.tobytes() for n, x in arrays.items()} == {
        n: x.tobytes() for n, x in written.items()
    }


# Deviations that each named recipe must give, by its source; the variables are WIDE's.
WIDE = {"layers": 12, "width": 768, "heads": 12, "key": 64, "hidden": 2048, "padding": 1}
WIDE |= {"branches": 16}
DEEP = 0.02 / math.sqrt(24)
NAMED = {
    "gpt2-residual": {"h.3.attn.c_proj.weight": DEEP, "h.3.attn.c_attn.weight": 0.02},
    "megatron": {
        "decoder.layers.3.mlp.linear_fc2.weight": 1 / math.sqrt(3 * 768 * 24),
        "decoder.layers.3.mlp.linear_fc1.weight": 1 / math.sqrt(3 * 768),
    },
    "depth-scaled": {
        "layers.0.attention.wo.weight": 0.02 / math.sqrt(2),
        "layers.7.feed_forward.w2.weight": 0.02 / 4,
        "layers.7.feed_forward.w3.weight": 0.02 / 4,
        "layers.7.feed_forward.w1.weight": 0.02,
        "tok_embeddings.weight": 1.0,
        "output.weight": 0.986578392558109 / math.sqrt(768),
    },
    "small-init": {"h.3.mlp.up.weight": math.sqrt(2 / (5 * 768))},
    "wang": {
        "layers.3.mlp.dense_4h_to_h.weight": 2 / 12 / math.sqrt(768),
        "layers.3.mlp.dense_h_to_4h.weight": math.sqrt(2 / (5 * 768)),
    },
    "mup": {
        "model.embed_tokens.weight": 0.02,
        "layers.3.mlp.up_proj.weight": 0.02 / math.sqrt(3),
        "lm_head.weight": 0.02 / 3,
    },
    "olmo": {
        "model.layers.7.self_attn.o_proj.weight": 0.986578392558109 / math.sqrt(16 * 768),
        "model.layers.7.mlp.down_proj.weight": 0.986578392558109 / math.sqrt(16 * 2048),
        "model.layers.7.mlp.up_proj.weight": 0.986578392558109 / math.sqrt(768),
    },
    "padding": {"bert.embeddings.word_embeddings.weight": 0.02, "h.0.dense.weight": 0.02},
    "fixup": {
        "layer1.0.conv1.weight": math.sqrt(2 / 200 / 16),
        "layer1.0.conv2.weight": 0.0,
        "conv1.weight": math.sqrt(2 / 200),
        "layer1.0.downsample.weight": math.sqrt(2 / 200),
        "fc.weight": 0.0,
        "layer1.0.bias1a": 0.0,
    },
    "t5": {
        "shared.weight": 1.0,
        "encoder.block.0.layer.0.SelfAttention.q.weight": 1 / math.sqrt(768 * 64),
        "decoder.block.0.layer.1.EncDecAttention.k.weight": 1 / math.sqrt(768),
        "encoder.block.0.layer.0.SelfAttention.o.weight": 1 / math.sqrt(768),
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": 1 / math.sqrt(768),
        "encoder.block.0.layer.1.DenseReluDense.wi_0.weight": 1 / math.sqrt(768),
        "encoder.block.0.layer.1.DenseReluDense.wo.weight": 1 / math.sqrt(2048),
    },
    "vit-timm": {
        "cls_token": 1e-6,
        "pos_embed": 0.02,
        "blocks.0.attn.qkv.weight": 0.02,
        "patch_embed.proj.weight": 1 / math.sqrt(3 * 300),
        "patch_embed.proj.bias": 1 / math.sqrt(3 * 768),
        "head.bias": 0.0,
    },
    "dcgan": {"main.0.weight": 0.02, "main.1.bias": 0.0},
    "ntk": {"0.weight": 1.0, "0.bias": 1.0},
    "mamba": {
        "backbone.embeddings.weight": 0.1,
        "backbone.layers.3.mixer.in_proj.weight": 0.1,
        "backbone.layers.3.mixer.out_proj.weight": 1 / math.sqrt(3 * 300),
        "backbone.layers.3.mixer.dt_proj.weight": 1 / math.sqrt(3 * 300),
        "backbone.layers.3.mixer.conv1d.bias": 0.0,
    },
    "siren": {
        "net.0.linear.weight": 1 / 300 / math.sqrt(3),
        "net.0.linear.bias": 1 / math.sqrt(3 * 2),
        "net.1.linear.weight": math.sqrt(2 / 300) / 30,
        "net.1.linear.bias": 1 / math.sqrt(3 * 768),
        "net.3.weight": math.sqrt(2 / 300) / 30,
    },
}


def test_every_recipe_of_rules_alone_is_named_here():
    assert {*recipe.builtin()} == {*MANIFESTS, *NAMED, "default", "zero"}


@pytest.mark.parametrize(("name", "tensor"), [(n, t) for n in NAMED for t in NAMED[n]])
def test_named_recipes_have_their_sources_deviations(name, tensor):
    rules = recipe.load(name, needed(name))
    x = np.empty((200, 300), np.float64)
    rules.fill({tensor: x}, seed=1)
    expected = NAMED[name][tensor]
    if name == "padding" and "embed" in tensor:
        assert not x[1].any()
        x = np.delete(x, 1, axis=0)
    assert abs(x.std() - expected) <= expected * 5 / math.sqrt(2 * x.size)  # 5 standard errors
    assert abs(x.mean()) <= expected * 5 / math.sqrt(x.size)


def needed(name):
    text = (files("fastinit.recipe") / f"{name}.toml").read_text("utf-8")
    return {k: WIDE[k] for k in tomllib.loads(text).get("needs", [])}


@pytest.mark.parametrize("name", [*NAMED, "zero"])
def test_named_recipes_know_scales_and_biases_and_their_source(name):
    rules = recipe.load(name, needed(name))
    scale, bias = np.empty(1000), np.empty(1000)
    if name not in ("ntk", "t5", "fixup", "siren"):
        rules.fill({"a.norm.weight": scale, "a.norm.bias": bias}, seed=1)
        assert abs(scale.mean() - 1) < 0.01
        assert not bias.any()
    assert re.search(r"\b20\d\d\b", rules.text)  # a year


def test_the_default_recipe_knows_time_steps():
    """A bias of zero would be a step of 0.69."""
    bias = np.empty(1000, np.float32)
    for name in ("layers.0.mixer.dt_bias", "layers.0.mixer.dt_proj.bias"):
        recipe.load("default").fill({name: bias}, seed=3)
        rng = fi.default_rng(3).stream(name)
        assert (bias == fi.dt_bias(1000, rng=rng)).all()


def test_the_default_recipe_knows_adapters():
    """What they add to a layer is zero at first."""
    arrays = {
        "model.q_proj.lora_A.weight": np.empty((4, 200), np.float32),
        "model.q_proj.lora_B.weight": np.empty((200, 4), np.float32),
        "model.embed.lora_embedding_A": np.empty((4, 50), np.float32),
        "model.embed.lora_embedding_B": np.empty((200, 4), np.float32),
    }
    recipe.load("default").fill(arrays, seed=3)
    a, b, embedding_a, embedding_b = arrays.values()
    assert not b.any()
    assert not embedding_a.any()
    assert 0.99 * 200**-0.5 < abs(a).max() <= 200**-0.5
    assert embedding_b.std() == pytest.approx(1, rel=0.1)


def test_mamba_has_its_state_space():
    arrays = {
        "backbone.layers.0.mixer.A_log": np.empty((6, 16), np.float32),
        "backbone.layers.0.mixer.D": np.empty(6, np.float32),
        "backbone.layers.0.mixer.dt_proj.bias": np.empty(6, np.float32),
    }
    recipe.load("mamba").fill(arrays, seed=3)
    a_log, d, bias = arrays.values()
    assert (a_log == np.log(np.arange(1, 17)).astype(np.float32)).all()
    assert (d == 1).all()
    rng = fi.default_rng(3).stream("backbone.layers.0.mixer.dt_proj.bias")
    assert (bias == fi.dt_bias(6, rng=rng)).all()


def test_rules_of_tables_and_buffers(tmp_path):
    """A rule for each: the files are written, checked and shown as of any other."""
    from safetensors.numpy import load_file

    from fastinit import checkpoint

    text = """name = "buffers"
    dtype = "bfloat16"
    [variables]
    theta = 500000
    [tensors]
    "embeddings.position_ids" = {shape = [1, 12], dtype = "int64"}
    "embed_positions.weight" = [12, 8]
    "rotary.inv_freq" = {shape = [16], dtype = "float32"}
    "fourier.freqs" = [8]
    "fourier.gaussian" = [2, 8]
    "rates" = [100]
    "skip.weight" = [4, 4, 3]
    [[rule]]
    pattern = "*position_ids"
    init = "arange"
    [[rule]]
    pattern = "embed_positions.weight"
    init = "sinusoid"
    start = 2
    layout = "halves"
    endpoint = true
    [[rule]]
    pattern = "*inv_freq"
    init = "geomspace"
    start = 1
    stop = "1 / theta"
    [[rule]]
    pattern = "*freqs"
    init = "geomspace"
    start = 1
    stop = "2 ** 8"
    [[rule]]
    pattern = "*gaussian"
    init = "normal"
    std = 10
    [[rule]]
    pattern = "rates"
    init = "log_uniform"
    low = 0.001
    high = 0.1
    [[rule]]
    pattern = "skip.weight"
    init = "dirac"
    in_axis = 1
    out_axis = 0
    """
    model = recipe.parse(text)
    checkpoint.write(model, tmp_path, seed=1)
    assert checkpoint.check(tmp_path).difference is None
    assert not checkpoint.wrong(checkpoint.statistics(tmp_path))
    written = load_file(tmp_path / "model.safetensors")
    assert written["embeddings.position_ids"].tolist() == [[*range(12)]]
    table = fi.sinusoid((12, 8), start=2, layout="halves", endpoint=True, dtype="bfloat16")
    assert (written["embed_positions.weight"] == table).all()
    assert (written["rotary.inv_freq"] == fi.geomspace(16, 1, 1 / 500000)).all()
    assert written["fourier.freqs"].tolist() == [1, 2, 4, 8, 16, 32, 64, 128]
    shown = checkpoint.values(model, "embeddings.position_ids", (0, slice(3, 5)), seed=1)
    assert shown.tolist() == [3, 4]
    wrong = model.text.replace('init = "sinusoid"', 'init = "sinusoid"\n    base = 0.5')
    with pytest.raises(
        recipe.RecipeError, match=r"embed_positions.* base=0\.5 must be finite, and"
    ):
        recipe.parse(wrong).plan()


def test_zero_is_identities_and_hadamards():
    arrays = {"a.weight": np.empty((3, 5, 3, 3)), "b.weight": np.empty((8, 4))}
    recipe.load("zero").fill(arrays)
    assert np.array_equal(arrays["a.weight"][:, :, 1, 1], np.eye(3, 5))
    assert np.array_equal(arrays["b.weight"] ** 2, np.full((8, 4), 0.25))


@pytest.mark.parametrize("name", ["depth-scaled", "megatron", "mup", "olmo", "small-init", "wang"])
def test_named_recipes_take_what_they_need_from_the_models_recipe(name):
    from fastinit import checkpoint

    model = checkpoint.load("llama-3-8b", name)
    assert len(model.plan()) == 291
    rules = {t.name: rule for t, rule in model.plan()}
    if name != "small-init":
        assert rules["model.layers.3.self_attn.o_proj.weight"] != rules["model.norm.weight"]
    assert rules["model.norm.weight"].initializer.name == "ones"


# Hostile recipes.

SEEDS = [TINY, *(recipe.load(name).text for name in recipe.builtin()[:3])]
WORDS = [
    *("=", "[", "]", "{", "}", '"', "'", ",", ".", "\n", "#", "*", "**", "/", "(", ")", "%", "\0"),
    *("[[rule]]", "[tensors]", "[repeat]", "[variables]", "[config]", "{layer}", "sqrt(", "nan"),
    *("-1", "0", "1e999", "9 ** 9 ** 9", "99999999999999999999", "1979-05-27", "true", "inf"),
    *("pattern = ", "init = ", "normal", "std = ", "shape = []", "dtype = ", "bool", "\ud7ff"),
]


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    """A recipe with up to four places cut out, put elsewhere, or overwritten."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        begin, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        end = min(end, begin + draw(st.sampled_from([0, 1, 5, 60])))
        new = st.sampled_from(WORDS) | st.text(max_size=4) | st.just(text[begin:end] * 2)
        text = text[:begin] + draw(new) + text[end:]
    return text


@settings(max_examples=500, deadline=10_000)
@given(spoilt())
def test_spoilt_recipes_are_read_or_refused(text: str) -> None:
    """Never with another error, never with a wait."""
    with contextlib.suppress(recipe.RecipeError):
        for tensor, _ in recipe.parse(text).plan():
            assert math.prod(tensor.shape) >= 0


@settings(max_examples=500, deadline=10_000)
@given(st.lists(st.sampled_from([*WORDS, "x", "2", " "]), max_size=12) | st.text(max_size=12))
def test_any_expression_has_a_value_or_is_refused(words: list[str] | str) -> None:
    try:
        value = recipe.evaluate("".join(words), {"x": 3, "nan": 2})
    except recipe.RecipeError:
        return
    assert isinstance(value, (int, float))


def test_expressions_know_the_fans_of_a_tensor():
    text = """name = "x"
    [tensors]
    "h.1.w" = [8, 4, 3]
    b = [5]
    [[rule]]
    pattern = "h.{l}.w"
    init = "normal"
    std = "min(1, sqrt(2 / fan_in)) / (l + fan_out)"
    [[rule]]
    pattern = "b"
    init = "constant"
    value = "fan_in"
    """
    (_, weight), (_, bias) = recipe.parse(text).plan()
    assert weight.initializer.arguments["std"] == math.sqrt(2 / 12) / (1 + 24)
    assert bias.initializer.arguments["value"] == 5


@pytest.mark.parametrize("base", [44.015, 31.856, 10.715, 37.865, 1.7357, 32.461, 34.0106])
def test_powers_and_logarithms_are_rounded_once(base):
    """The C library's differ from system to system in their last place, here of glibc's."""
    exact = decimal.Context(prec=60)
    number = decimal.Decimal(base)
    for exponent in (0.25, 0.5, 1.5, 2.0, 3.0, -0.5):
        expected = float(exact.power(number, decimal.Decimal(exponent)))
        assert recipe.evaluate("x ** y", {"x": base, "y": exponent}) == expected
    assert recipe.evaluate("log(x)", {"x": base}) == float(exact.ln(number))


@pytest.mark.parametrize(
    ("expression", "value"),
    [("0 ** 0", 1), ("0 ** 2", 0), ("(-2) ** 3", -8), ("2 ** -1", 0.5), ("9 ** 0.5", 3)],
)
def test_powers_at_the_edges(expression, value):
    assert recipe.evaluate(expression, {}) == value


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("embeddings.position_ids", "int64", (1, 8)),
        ("layers.0.self_attn.rotary_emb.inv_freq", "float32", (8,)),
        ("layers.0.mixer.A_log", "float32", (4, 8)),
        ("layers.0.mixer.dt_bias", "float32", (8,)),
        ("clip.logit_scale", "float32", ()),
        ("layers.0.lora_A.weight", "float32", (4, 8)),
        ("layers.0.norm.weight", "float32", (4,)),
        ("wte.weight", "float32", (8, 4)),
        ("encoder.embed_positions.weight", "float32", (9, 8)),
        ("embeddings.position_embeddings", "float32", (9, 8)),
        ("time_proj.weight", "float32", (8,)),
        ("logit_bias", "float32", (1,)),
        ("h.0.attn.masked_bias", "float32", ()),
    ],
)
def test_suggestions_are_rules_of_recipes(name, dtype, shape):
    """What is suggested can be written down, and fills the tensor."""
    text = f'name = "x"\n[tensors]\n"{name}" = {{shape = {list(shape)}, dtype = "{dtype}"}}\n'
    with pytest.raises(recipe.RecipeError) as caught:
        recipe.parse(text).plan()
    suggested = str(caught.value).partition("such as ")[2].partition(";")[0]
    lines = re.findall(r'\b(\w+ = (?:"[^"]*"|[\w.-]+))', suggested)
    rule = "\n".join(['[[rule]]\npattern = "*"', *lines])
    assert lines
    ((_, found),) = recipe.parse(f"{text}{rule}").plan()
    x = np.empty(shape, dtype)
    found.initializer.fill(x, rng=1)
    assert np.isfinite(x).all()


def test_all_tensors_without_a_rule_are_listed_with_a_suggestion():
    text = """name = "x"
    [repeat]
    l = 3
    [tensors]
    "h.{l}.lora_B.weight" = [8, 4]
    ids = {shape = [4], dtype = "int64"}
    "h.{l}.norm.weight" = [4]
    """
    with pytest.raises(recipe.RecipeError) as caught:
        recipe.parse(text.replace("ids =", '"rope.freqs_cis" =')).plan()
    assert "computes its numbers" in str(caught.value).splitlines()[2]
    with pytest.raises(recipe.RecipeError) as caught:
        recipe.parse(text).plan()
    first, *lines = str(caught.value).splitlines()
    assert first == "7 tensors cannot be filled:"
    assert "'h.0.lora_B.weight'" in lines[0]
    assert lines[0].endswith('such as init = "zeros" (and 2 more like it)')
    assert "computes its numbers" in lines[1]
    assert lines[2].endswith('init = "ones" (and 2 more like it)')
