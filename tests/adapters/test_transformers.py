"""The files against transformers: it knows the names, loads the weights, and they behave."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from adapters import adapter
from commands import run

import fastinit as fi
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
    with torch.no_grad():  # in float32, as bfloat16 takes minutes on a CPU without such arithmetic
        loss = model.float()(tokens, labels=tokens).loss.item()
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


SMALL = {
    "GPT2LMHeadModel": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99},
    "LlamaForCausalLM": {
        "hidden_size": 32,
        "num_hidden_layers": 12,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "vocab_size": 99,
        "dtype": "bfloat16",
    },
    "BertForMaskedLM": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "vocab_size": 99,
    },
    "ViTForImageClassification": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "image_size": 32,
    },
    "T5ForConditionalGeneration": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 99,
    },
    "ResNetForImageClassification": {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [2, 1]},
    "MambaForCausalLM": {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 99},
}


@pytest.fixture
def config(transformers, tmp_path):
    """Return a function: a class's name -> the path of a small config.json."""

    def path(kind, **more):
        made = getattr(transformers, kind).config_class(**SMALL[kind], **more)
        made.architectures = [kind]
        made.to_json_file(tmp_path / "config.json", use_diff=False)
        return tmp_path / "config.json"

    return path


@pytest.mark.parametrize("kind", [kind for kind in SMALL if kind != "MambaForCausalLM"])
def test_a_config_is_initialised_as_its_architecture_is(transformers, torch, config, kind):
    from fastinit.torch import initialize

    path = config(kind)
    model = checkpoint.load(path)
    checkpoint.write(model, path.parent / "out", seed=3, max_shard_size=10_000)
    cls = getattr(transformers, kind)
    loaded, report = cls.from_pretrained(path.parent / "out", output_loading_info=True)
    assert not any(report.values()), report
    with torch.device("meta"):
        theirs = cls._from_config(transformers.AutoConfig.from_pretrained(path))
    assert initialize(theirs, 3) == []
    expected = theirs.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name
    # The files alone are enough, without transformers, and rules of layers alike are one line.
    assert checkpoint.check(path.parent / "out").difference is None
    assert len(model.rules) < 40 or kind == "ResNetForImageClassification"


def test_a_config_s_model_learns(transformers, torch, config):
    path = config("LlamaForCausalLM", tie_word_embeddings=True)
    checkpoint.write(checkpoint.load(path).astype("float32"), path.parent / "out")
    model = transformers.LlamaForCausalLM.from_pretrained(path.parent / "out")
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    tokens = torch.arange(40).reshape(2, 20)
    loss = model(tokens, labels=tokens).loss
    loss.backward()
    assert abs(loss.item() - math.log(99)) < 0.2
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)
    assert sum(float(g.square().sum()) for g in gradients) > 0


def test_given_rules_come_before_an_architecture_s(config):
    path = config("GPT2LMHeadModel")
    rules = path.parent / "rules.toml"
    rules.write_text('name = "r"\nseed = 8\n[[rule]]\npattern = "*.wpe.*"\ninit = "ones"\n[config]')
    model = checkpoint.load(path, rules)
    shown = {tensor.name: str(rule) for tensor, rule in model.plan()}
    assert model.seed == 8
    assert shown["transformer.wpe.weight"] == "ones"
    assert shown["transformer.wte.weight"] == "normal(mean=0.0, std=0.02)"
    # Also where another's recipe has no rule of its own.
    checkpoint.write(model, path.parent / "out")
    assert checkpoint.check(path.parent / "out").difference is None


def test_a_row_for_padding_is_zero(config):
    model = checkpoint.load(config("BertForMaskedLM"))
    shown = {tensor.name: str(rule) for tensor, rule in model.plan()}
    assert shown["bert.embeddings.word_embeddings.weight"] == "embedding(padding=0, std=0.02)"


def test_what_a_model_s_code_computes_is_written_and_proven(transformers, config):
    path = config("MambaForCausalLM")
    out = path.parent / "out"
    model = checkpoint.load(path)
    checkpoint.write(model, out, seed=3)
    loaded, report = transformers.MambaForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(report.values()), report
    stock = transformers.MambaForCausalLM(transformers.AutoConfig.from_pretrained(path))
    for ours, theirs in zip(loaded.backbone.layers, stock.backbone.layers, strict=True):
        assert ours.mixer.A_log.equal(theirs.mixer.A_log)
        steps = ours.mixer.dt_proj.bias
        assert not steps.equal(theirs.mixer.dt_proj.bias)
        assert bool((steps.exp().log1p() > 0.0009).all())
        assert bool((steps < 0).all())
    # The files alone are enough to write them again, and a bit that changes is found.
    checkpoint.write(checkpoint.load(out), path.parent / "again")
    assert (out / "model.safetensors").read_bytes() == (
        path.parent / "again/model.safetensors"
    ).read_bytes()
    assert checkpoint.check(out).difference is None
    name = "backbone.layers.1.mixer.A_log"
    (found,) = (s for s in checkpoint.read(out).stored if s.tensor.name == name)
    with found.path.open("r+b") as file:
        file.seek(found.begin + 5)
        file.write(b"!")
    assert str(checkpoint.check(out).difference).startswith(f"{found.path}: {name} has the digest")
    # Another seed needs the model's code.
    with pytest.raises(recipe.RecipeError, match=r"from the seed 3 alone.*config\.json"):
        checkpoint.write(checkpoint.load(path.parent / "again"), path.parent / "third", seed=4)


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_the_recipe_of_mamba_is_what_transformers_does(transformers, kind):
    from alike import differences

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 99, "state_size": 8}
    heads = {"num_heads": 4, "head_dim": 16, "n_groups": 2} if kind == "mamba2" else {}
    config = transformers.AutoConfig.for_model(kind, **sizes, **heads)
    *theirs, ours = (transformers.AutoModelForCausalLM.from_config(config) for _ in range(4))
    arrays = {name: p.detach().numpy() for name, p in ours.named_parameters()}
    recipe.load("mamba").fill(arrays, seed=1)
    different = differences(theirs, ours)
    for layer, same in zip(ours.backbone.layers, theirs[0].backbone.layers, strict=True):
        # PyTorch's logarithm may be wrong in its last place.
        assert relative(layer.mixer.A_log, same.mixer.A_log) < 2e-7
    assert not {name for name in different if not name.endswith("A_log")}, different


def test_the_sinusoids_that_are_suggested_are_those_of_transformers(transformers):  # noqa: ARG001
    """For a name that BART trains: so the recipe `default` refuses it, and says what it may be."""
    from transformers.models.marian import modeling_marian
    from transformers.models.whisper import modeling_whisper

    tensor = recipe.Tensor("encoder.embed_positions.weight", (1500, 64), np.dtype("float32"))
    with pytest.raises(recipe.RecipeError, match=r"sinusoid.* Marian .*endpoint.* Whisper"):
        recipe.Recipe("x", "", 0, (tensor,), recipe.load("default").rules, {}).plan()
    marian = modeling_marian.MarianSinusoidalPositionalEmbedding(*tensor.shape).create_weight()
    assert (marian.numpy() == fi.sinusoid(tensor.shape, layout="halves")).all()
    whisper = modeling_whisper.sinusoids(*tensor.shape)
    ours = fi.sinusoid(tensor.shape, layout="halves", endpoint=True)
    assert abs(whisper.numpy() - ours).max() < 1e-4  # angles of up to 1500, in float32


def relative(a, b):
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def test_computed_values_are_shown(config):
    path = config("MambaForCausalLM")
    recipe_ = checkpoint.load(path)
    values = checkpoint.values(recipe_, "backbone.layers.0.mixer.A_log", (0, slice(0, 3)))
    assert values.tolist() == pytest.approx([0.0, math.log(2), math.log(3)])
    shown = run("show", path, "backbone.layers.0.mixer.A_log[0, :3]")
    assert shown.returncode == 0
    assert "computed by the model's code" in shown.stdout


def test_a_config_without_a_class_gets_one(config):
    path = config("GPT2LMHeadModel")
    entries = json.loads(path.read_text())
    for named in (None, ["GPT2NewModel"], ["MyForSequenceClassification"]):
        path.write_text(json.dumps(entries | {"architectures": named}))
        with pytest.warns(UserWarning, match=r"is taken, since the file names"):
            model = checkpoint.load(path)
        (written,) = model.config["architectures"]
        head = "ForSequenceClassification" if named and named[0][:2] == "My" else "LMHeadModel"
        assert written == f"GPT2{head}"
    path.write_text(json.dumps(entries | {"architectures": ["MyForNothing"]}))
    with pytest.raises(recipe.RecipeError, match=r"no MyForNothing .* one of GPT2LMHeadModel"):
        checkpoint.load(path)


def test_floats_that_json_lacks(transformers, tmp_path):
    made = transformers.Mamba2Config(
        hidden_size=32, num_heads=4, head_dim=16, num_hidden_layers=1, vocab_size=99, n_groups=1
    )
    made.architectures = ["Mamba2ForCausalLM"]
    made.to_json_file(tmp_path / "config.json", use_diff=False)
    assert '"__float__"' in (tmp_path / "config.json").read_text()
    checkpoint.write(checkpoint.load(tmp_path), tmp_path / "out")
    transformers.Mamba2ForCausalLM.from_pretrained(tmp_path / "out")


def test_what_is_quantised_is_said_and_dropped(transformers, config):
    path = config("LlamaForCausalLM")
    entries = json.loads(path.read_text())
    entries["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    path.write_text(json.dumps(entries))
    with pytest.warns(UserWarning, match=r"quantization_config \(fp8\) is dropped"):
        checkpoint.write(checkpoint.load(path), path.parent / "out")
    written = json.loads((path.parent / "out/config.json").read_text())
    assert "quantization_config" not in written
    model = transformers.LlamaForCausalLM.from_pretrained(path.parent / "out")
    assert not hasattr(model, "hf_quantizer") or model.hf_quantizer is None
    shown = run("init", path, "-o", path.parent / "again")
    assert shown.returncode == 0
    assert shown.stderr.count("warning") == 1


@pytest.mark.parametrize(
    ("text", "library"),
    [
        ('{"_class_name": "UNet2DModel", "sample_size": 64}', "diffusers"),
        ('{"architecture": "resnet18", "num_classes": 10}', "timm"),
        ('{"peft_type": "LORA", "r": 4}', "PEFT"),
    ],
)
def test_configs_of_other_libraries_are_named(tmp_path, text, library):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(recipe.RecipeError, match=f"a config of {library} "):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"model_type": "nonsense"}',
        '{"model_type": "gpt2", "architectures": [3]}',
        '{"model_type": "gpt2", "architectures": ["GPT2Config"]}',
        '{"model_type": "gpt2", "n_embd": "x", "architectures": ["GPT2LMHeadModel"]}',
        '{"model_type": "gpt2", "architectures": 3}',
        '{"model_type": ["gpt2"]}',
    ],
)
def test_configs_that_are_none(transformers, tmp_path, text):  # noqa: ARG001
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(recipe.RecipeError, match=r"config\.json"):
        checkpoint.load(tmp_path)
