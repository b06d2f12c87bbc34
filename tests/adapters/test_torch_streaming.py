"""fastinit.torch.probe of a model on the meta device: as if it were whole, and in little memory."""

import importlib
import json
import math
import os

import numpy as np
import pytest
from adapters import adapter
from commands import run
from typer.testing import CliRunner

from fastinit import cli, recipe

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers: their own matters

torch = adapter("torch")
nn = torch.nn
probe = importlib.import_module("fastinit.torch").probe
deferred = importlib.import_module("fastinit.torch").deferred
initialize = importlib.import_module("fastinit.torch").initialize
drawing = importlib.import_module("fastinit.torch._drawing")


@pytest.fixture(scope="module")
def transformers():
    os.environ["HF_HUB_OFFLINE"] = "1"
    module = adapter("transformers")
    module.utils.logging.set_verbosity_error()
    return module


@pytest.fixture(params=[2**26, 4000], ids=["held", "cut"])
def rows(request, monkeypatch):
    """The output layer and the embedding of small models: held whole, or in parts."""
    monkeypatch.setattr(drawing, "ROWS", request.param)


def ids(*shape):
    return torch.randint(3, 90, shape, generator=torch.Generator().manual_seed(1))


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
TEXT = {"input_ids": ids(2, 16), "labels": ids(2, 16)}
PAIRS = {"input_ids": ids(2, 16), "labels": ids(2, 12)}
MODELS = {
    "Llama": ("LlamaForCausalLM", {**SMALL, "num_key_value_heads": 2}, TEXT),
    "GPT2": (
        "GPT2LMHeadModel",
        {"n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 100},
        TEXT,
    ),
    "T5": (
        "T5ForConditionalGeneration",
        {
            "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4,
            "vocab_size": 100, "decoder_start_token_id": 0,
        },
        PAIRS,
    ),
    "Mixtral": (
        "MixtralForCausalLM",
        {**SMALL, "num_key_value_heads": 2, "num_local_experts": 4},
        TEXT,
    ),
    "ViT": (
        "ViTForImageClassification",
        {**SMALL, "image_size": 16, "patch_size": 4},
        {"pixel_values": noise(2, 3, 16, 16), "labels": torch.tensor([0, 1])},
    ),
    "Whisper": (
        "WhisperForConditionalGeneration",
        {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "vocab_size": 100,
            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48, "max_source_positions": 20, "max_target_positions": 20,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
        {"input_features": noise(2, 80, 40), "labels": ids(2, 12)},
    ),
    "Mamba": (
        "MambaForCausalLM",
        {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 3, "vocab_size": 100},
        TEXT,
    ),
    "Albert": (  # whose blocks are called again and again
        "AlbertForMaskedLM",
        {**SMALL, "embedding_size": 16, "num_hidden_layers": 4, "num_hidden_groups": 2},
        TEXT,
    ),
}  # fmt: skip


def made(transformers, name, dtype=torch.float64):
    """Return a model on the meta device, and a batch for it."""
    kind, options, batch = MODELS[name]
    config = getattr(transformers, f"{name}Config")(**options, use_cache=False)
    with torch.device("meta"):
        model = getattr(transformers, kind)._from_config(config, dtype=dtype)
    return model.eval(), {k: x.to(dtype) if x.is_floating_point() else x for k, x in batch.items()}


def held(make, batch, loss, seed=7):
    """Return a model's loss and gradients when it is whole."""
    model = make()
    assert initialize(model, seed) == []
    value = loss(model(**batch) if isinstance(batch, dict) else model(batch))
    value.backward()
    return model, float(value.detach())


def same(found, model, tolerance):
    """Compare each weight's norm, and each gradient's, with those of the whole model."""
    weights = {weight.name: weight for weight in found.inside.weights}
    assert list(weights) == [name for name, _ in model.named_parameters()]
    largest = max(float(p.grad.norm()) for p in model.parameters() if p.grad is not None)
    for name, parameter in model.named_parameters():
        weight = weights[name]
        assert weight.norm == pytest.approx(float(parameter.detach().norm()), rel=tolerance)
        assert weight.std == pytest.approx(
            float(parameter.detach().std(correction=0)), rel=tolerance, abs=1e-12
        )
        if parameter.grad is None:
            assert math.isnan(weight.gradient_norm)
        else:  # a key's bias has a gradient of rounding errors
            assert weight.gradient_norm == pytest.approx(
                float(parameter.grad.norm()), rel=tolerance, abs=1e-12 * largest
            )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.usefixtures("rows")
def test_loss_and_all_norms_are_those_of_the_whole_model(transformers, name):
    # The experts' product knows no float64.
    dtype, tolerance = (torch.float32, 1e-5) if name == "Mixtral" else (torch.float64, 1e-9)
    model, batch = made(transformers, name, dtype)
    signals = list(probe(model, batch, lambda output: output.loss, seed=7))
    assert all(parameter.is_meta for parameter in model.parameters())
    whole, loss = held(lambda: made(transformers, name, dtype)[0], batch, lambda out: out.loss)
    stacks = 2 if name in ("T5", "Whisper") else 1
    assert len(signals) == stacks
    for signal in signals:
        assert signal.inside.loss == pytest.approx(loss, rel=tolerance)
        same(signal, whole, tolerance)


@pytest.mark.parametrize("name", ["Llama", "Mixtral"])
def test_what_is_seen_of_blocks_is_what_hooks_see(transformers, name):
    model, batch = made(transformers, name, torch.float32)
    (found,) = probe(model, batch, lambda output: output.loss, seed=7)
    whole, _ = made(transformers, name, torch.float32)
    initialize(whole, 7)
    (expected,) = probe(whole, batch, lambda output: output.loss)
    assert found.layers == expected.layers
    for key in ("mean", "std", "gradient", "weight_norm", "gradient_norm", "dead"):
        np.testing.assert_allclose(
            getattr(found, key), getattr(expected, key), rtol=1e-4, atol=1e-7
        )
    assert found.verdict.kind == expected.verdict.kind
    inside = found.inside
    assert all(0.9 < entropy <= 1.0001 for entropy in inside.entropy)  # nothing is learnt yet
    if name == "Mixtral":
        assert all(1 <= load <= 4 for load in inside.load)
    assert inside.guess == pytest.approx(math.log(100))
    assert all(0 < b < s for b, s in zip(inside.branch, found.std[0, 1:], strict=True))


class Shared(nn.Module):
    """Blocks that share a matrix, and one that is parametrized."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)) for _ in range(4)]
        )
        for block in self.blocks[1:]:
            block[0].weight = self.blocks[0][0].weight

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x


def test_shared_weights():
    def make():
        with torch.device("meta"):
            return Shared().double()

    x = noise(5, 8).double()
    (found,) = probe(make(), x, lambda y: y.square().mean(), seed=7)
    model, loss = held(make, x, lambda y: y.square().mean())
    assert found.inside.loss == pytest.approx(loss)
    same(found, model, 1e-9)


def test_layers_without_a_stack_and_what_they_get_is_unchanged():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = noise(5, 6).double()
    before = dict(model.named_parameters())
    state = torch.get_rng_state()
    (found,) = probe(model, x, lambda y: y.square().mean(), seed=7)
    assert found.layers == ("input", "0", "2")
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert "forward" not in vars(model[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_is_the_same_on_the_way_back():
    """In training mode: what is dropped forward is dropped in the backward run too."""
    with torch.device("meta"):
        model = nn.Sequential(
            *[nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5)) for _ in range(2)]
        )
    torch.manual_seed(1)
    x = torch.ones(1, 64)
    (found,) = probe(model, x, lambda y: y.sum(), seed=7)
    weights = {weight.name: weight for weight in found.inside.weights}
    # The bias's gradient is 2 where a unit is kept: so many units, as many values that are not 0.
    kept = weights["1.0.bias"].gradient_norm ** 2 / 4
    assert kept == pytest.approx((1 - found.dead[0, 1]) * 64)


def test_comparing_recipes(transformers):
    model, batch = made(transformers, "Llama", torch.float32)
    rules = recipe.load("small-init", {"width": 32})
    found = probe(
        model, batch, lambda out: out.loss, seed=7, compare=[None, "gpt2-residual", "wang", rules]
    )
    assert [signal.name for signal in found] == [
        "LlamaForCausalLM", "gpt2-residual", "wang", "small-init",
    ]  # fmt: skip
    std = {
        signal.name: next(
            w.std for w in signal.inside.weights if w.name == "model.layers.0.mlp.down_proj.weight"
        )
        for signal in found
    }
    assert std["LlamaForCausalLM"] == pytest.approx(0.02, rel=0.1)
    assert std["gpt2-residual"] == pytest.approx(0.02 / math.sqrt(6), rel=0.1)
    assert std["wang"] == pytest.approx(2 / 3 / math.sqrt(32), rel=0.1)
    assert std["small-init"] == pytest.approx(math.sqrt(2 / 5 / 32), rel=0.1)


@pytest.mark.parametrize("layers", [slice(0, 1), slice(-2, None)])
def test_some_blocks_are_what_they_are_in_the_whole_model(transformers, layers):
    """Recipes count all blocks, and values go by the blocks' own names."""
    model, batch = made(transformers, "Llama", torch.float32)
    (whole, part) = (
        probe(model, batch, lambda out: out.loss, compare=["gpt2-residual"], layers=each)[
            "gpt2-residual"
        ]
        for each in (None, layers)
    )
    assert part.layers == ("input", *whole.layers[1:][layers])
    norms = {weight.name: weight.norm for weight in whole.inside.weights}
    assert {w.layer for w in part.inside.weights} == {"", *part.layers[1:]}
    assert all(weight.norm == norms[weight.name] for weight in part.inside.weights)
    assert len(model.model.layers) == 3
    if layers.start == 0:  # what comes before is the same too
        assert part.std[0, 1] == whole.std[0, 1]


def parametrized():
    """Layers whose weight is computed from two others at each use."""
    norm = torch.nn.utils.parametrizations.weight_norm
    with deferred():
        blocks = [nn.Sequential(norm(nn.Linear(8, 8)), nn.Tanh()) for _ in range(3)]
        return nn.Sequential(*blocks).double()


def test_parametrizations():
    x = noise(5, 8).double()
    model = parametrized()
    (found,) = probe(model, x, lambda y: y.square().mean(), seed=7)
    whole, loss = held(parametrized, x, lambda y: y.square().mean())
    assert found.inside.loss == pytest.approx(loss)
    same(found, whole, 1e-9)


def test_ctrl_c_keeps_what_is_done(transformers):
    model, batch = made(transformers, "Llama", torch.float32)
    steps = []

    def progress(weights):
        steps.append(weights)
        if len(steps) == 5:  # three blocks forward, two of them back
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        probe(model, batch, lambda out: out.loss, progress=progress)
    (found,) = caught.value.probe
    assert np.isfinite(found.std).all()
    assert np.isnan(found.gradient[0]).tolist() == [True, True, False, False]
    assert all(parameter.is_meta for parameter in model.parameters())


def test_bad_arguments_are_named(transformers):
    model, batch = made(transformers, "Llama", torch.float32)
    with pytest.raises(TypeError, match="it must be a scalar tensor"):
        probe(model, batch, lambda out: out.logits)
    with pytest.raises(ValueError, match="loss does not depend on"):
        probe(model, batch, lambda _: torch.tensor(1.0))
    with pytest.raises(recipe.RecipeError, match="built-in: bert-base"):
        probe(model, batch, lambda out: out.loss, compare=["wangg"])
    with pytest.raises(
        ValueError, match=r"layers=slice\(7, 9, None\) is empty; model.layers has 3"
    ):
        probe(model, batch, lambda out: out.loss, layers=slice(7, 9))
    with pytest.raises(ValueError, match=r"layers=.* needs a model on the meta device"):
        probe(nn.Sequential(nn.Linear(3, 3)), noise(2, 3), lambda y: y.sum(), layers=slice(1))
    with pytest.raises(ValueError, match=r"batch is on meta; allowed .*: cpu"):
        probe(model, {k: x.to("meta") for k, x in batch.items()}, lambda out: out.loss)
    with pytest.raises(ValueError, match=r"compare=.* needs a model on the meta device"):
        probe(nn.Sequential(nn.Linear(3, 3)), noise(2, 3), lambda y: y.sum(), compare=["wang"])
    with torch.device("meta"):
        odd = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        odd[0].extra = nn.Parameter(torch.empty(3, 3))
    with pytest.raises(ValueError, match=r"no rule initialises 0\.extra; give a recipe"):
        probe(odd, noise(2, 3), lambda y: y.sum())


def test_what_is_cut_is_as_if_it_were_whole(transformers, monkeypatch):
    """By a recipe, of which any rows can be drawn."""
    model, batch = made(transformers, "GPT2", torch.float64)
    signals = []
    for rows in (2**26, 4000):
        monkeypatch.setattr(drawing, "ROWS", rows)
        signals += probe(model, batch, lambda out: out.loss, compare=["gpt2-residual"])
    held, cut = ({w.name: w for w in signal.inside.weights} for signal in signals)
    assert list(held) == list(cut)
    for name, weight in held.items():
        for key in ("std", "norm", "gradient_std", "gradient_norm"):
            assert getattr(cut[name], key) == pytest.approx(getattr(weight, key), rel=1e-9)


def config_in(directory):
    config = directory / "config.json"
    options = {**SMALL, "num_key_value_heads": 2, "model_type": "llama"}
    config.write_text(json.dumps({**options, "architectures": ["LlamaForCausalLM"]}))
    return config


def test_the_command_with_tokens_of_a_file(tmp_path, transformers):  # noqa: ARG001
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("1 2 3 4 5\n6 7 8 9 10\n")
    output = tmp_path / "found.json"
    done = run(
        "probe", config_in(tmp_path), "--recipe", "wang", "--tokens", tokens, "--layers=-1:",
        "-o", output,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the largest block has" in done.stderr
    assert "warning" not in done.stderr
    (signal,) = json.loads(output.read_text())["signals"]
    assert (signal["name"], signal["layers"]) == ("wang", ["input", "model.layers.2"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--layers", "2"], "--layers 2 must be A:B, such as 0:2, or -2: for the last two"),
        (["--layers", "8:"], "is empty; model.layers has 3 blocks"),
        (["--tokens", "0"], "--tokens=0 must be 1 to"),
        (["--tokens", "absent.npy"], "absent.npy: No such file or directory"),
        (["--tokens", "large.txt"], "tokens have 100; allowed: 0 to 99, the vocabulary of Llama"),
        (["--tokens", "words.txt"], "words.txt does not hold tokens, integers of equal lines"),
        (["--tokens", "ragged.txt"], "ragged.txt does not hold tokens, integers of equal lines"),
        (["--tokens", "large.txt", "--batch", "2"], "--batch 2 is of random tokens; "),
        (["--dtype", "float16"], "--dtype float16: allowed: float32, bfloat16"),
    ],
)
def test_bad_options_are_named(tmp_path, monkeypatch, transformers, arguments, reason):  # noqa: ARG001
    monkeypatch.chdir(tmp_path)
    for name, text in {"large": "1 100", "words": "one two", "ragged": "1 2\n3"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    result = CliRunner().invoke(cli.app, ["probe", str(config_in(tmp_path)), *arguments])
    assert result.exit_code == 1
    assert reason in result.stderr
    assert result.stderr.splitlines()[-1].startswith("fastinit: ")


def test_the_command(tmp_path, transformers):  # noqa: ARG001
    config = config_in(tmp_path)
    output = tmp_path / "found.json"
    done = run("probe", config, "--compare", "wang", "--tokens", 8, "--seed", 7, "-o", output)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("LlamaForCausalLM  ")
    assert "wang: loss" in done.stdout
    found = json.loads(output.read_text())
    assert [signal["name"] for signal in found["signals"]] == ["LlamaForCausalLM", "wang"]
    assert len(found["signals"][0]["inside"]["weights"]) == 3 + 3 * 9
    for signal in found["signals"]:
        (gradient,), (std,) = signal["gradient"], signal["std"]
        assert (
            f"{signal['name']}: from the last block back to the first the gradient by a block's "
            f"output changes {gradient[1] / gradient[3]:.3g}-fold, and through the first block "
            f"{gradient[0] / gradient[1]:.3g}-fold; forward the signal changes "
            f"{std[1] / std[0]:.3g}-fold through the first block, and from there to the last "
            f"{std[3] / std[1]:.3g}-fold"
        ) in done.stdout.splitlines()
    refused = run("probe", config, "--depth", 3)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "--depth is of small networks" in refused.stderr
