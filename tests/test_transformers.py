"""The files against transformers: it knows the names, loads the weights, and they behave."""

import json
import math
import os
from pathlib import Path

import pytest
from adapters import adapter

from fastinit import checkpoint, recipe

# transformers and torch warn about their own matters, at import and later.
pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama-3-8b": "LlamaForCausalLM",
    "bert-base": "BertForMaskedLM",
    "vit-b-16": "ViTForImageClassification",
}


@pytest.fixture(scope="module")
def torch():
    return adapter("torch")


@pytest.fixture(scope="module")
def transformers(torch):  # noqa: ARG001  without torch it has no models
    os.environ["HF_HUB_OFFLINE"] = "1"
    module = adapter("transformers")
    module.utils.logging.set_verbosity_error()
    return module


def load(transformers, name: str, directory: Path, **options):
    model, report = getattr(transformers, CLASSES[name]).from_pretrained(
        directory, output_loading_info=True, **options
    )
    assert not any(report.values()), report  # missing, unexpected and mismatched keys, errors
    return model


def shrunk(name: str, **variables: int) -> recipe.Recipe:
    """Return a built-in recipe with some of its variables changed."""
    text = recipe.load(name).text
    for variable, value in variables.items():
        lines = [line for line in text.splitlines() if line.startswith(f"{variable} = ")]
        assert len(lines) == 1
        text = text.replace(lines[0], f"{variable} = {value}")
    return recipe.parse(text)


@pytest.mark.parametrize("name", CLASSES)
def test_names_and_shapes_are_those_of_transformers(transformers, torch, name, tmp_path):
    model = recipe.load(name)
    (tmp_path / "config.json").write_text(json.dumps(model.config))
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    with torch.device("meta"):
        theirs = getattr(transformers, CLASSES[name])(config)
    parameters = {key: tuple(value.shape) for key, value in theirs.named_parameters()}
    assert {t.name: t.shape for t in model.tensors} == parameters
    assert config.architectures == [CLASSES[name]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gpt2_loads_and_knows_nothing(transformers, torch, dtype, tmp_path):
    checkpoint.write(recipe.load("gpt2").astype(dtype), tmp_path, seed=1)
    model = load(transformers, "gpt2", tmp_path).eval()
    assert model.dtype == getattr(torch, dtype)
    tokens = torch.randint(50257, (2, 256), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = model(tokens, labels=tokens).loss.item()
    assert abs(loss - math.log(50257)) < 0.2


def test_gpt2_has_the_values_that_were_written(transformers, tmp_path):
    checkpoint.write(recipe.load("gpt2"), tmp_path)
    weights = load(transformers, "gpt2", tmp_path).state_dict()
    std = {name: weights[f"transformer.h.5.{name}.weight"].std().item() for name in RESIDUAL}
    assert std == pytest.approx(dict.fromkeys(RESIDUAL, 0.02 / math.sqrt(24)), rel=0.01)
    assert weights["transformer.h.5.mlp.c_fc.weight"].std().item() == pytest.approx(0.02, rel=0.01)
    assert (weights["transformer.ln_f.weight"] == 1).all()
    assert (weights["transformer.ln_f.bias"] == 0).all()


RESIDUAL = ("attn.c_proj", "mlp.c_proj")


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("gpt2", {"layers": 2, "width": 32, "heads": 4, "vocabulary": 50300}),
        ("llama-3-8b", {"layers": 2, "width": 64, "hidden": 96, "heads": 8, "kv_heads": 2}),
        ("bert-base", {"layers": 2, "width": 32, "hidden": 64, "heads": 4, "vocabulary": 99}),
        ("vit-b-16", {"layers": 2, "width": 32, "hidden": 64, "heads": 4, "image": 64}),
    ],
)
def test_smaller_models_of_each_kind_load(transformers, torch, name, variables, tmp_path):
    model = shrunk(name, **variables)
    checkpoint.write(model, tmp_path)
    loaded = load(transformers, name, tmp_path)
    assert loaded.dtype == getattr(torch, model.tensors[0].dtype.name)
