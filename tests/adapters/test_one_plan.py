"""What `fastinit init` writes and what `initialize` draws: the same bits for every tensor."""

import numpy as np
import pytest
from adapters import adapter

from fastinit import checkpoint

torch = adapter("torch")

from alike import differences  # noqa: E402

from fastinit.torch import deferred, initialize  # noqa: E402
from fastinit.torch._recipe import as_array, recipe_of  # noqa: E402

nn = torch.nn

pytestmark = pytest.mark.filterwarnings("ignore")


def filled(recipe, seed):
    arrays = {t.name: np.empty(t.shape, t.dtype) for t in recipe.tensors}
    recipe.fill(arrays, seed=seed)
    return arrays


def initialized(make, seed):
    with deferred():
        model = make()
    assert initialize(model, seed) == []
    state = model.state_dict()
    return {name: as_array(tensor.contiguous()) for name, tensor in state.items()}


def differing(files, memory):
    assert files.keys() <= memory.keys()
    return [name for name, x in files.items() if x.tobytes() != memory[name].tobytes()]


def scaled():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scaled = nn.Parameter(torch.randn(40, 30) * 0.02)
            self.shifted = nn.Parameter((torch.rand(40, 30) - 0.5) / 2 + 1)
            self.moved = nn.Linear(30, 40)
            with torch.no_grad():
                nn.init.trunc_normal_(self.moved.weight).mul_(0.3).add_(0.1)
            self.narrow = nn.Parameter((3 * torch.randn(40, 30)).bfloat16())
            self.wide = nn.Parameter(torch.randn(40, 30, dtype=torch.float64).float())
            self.wider = nn.Parameter(torch.randn(40, 30).bfloat16().float())
            self.by_tensor = nn.Parameter(torch.randn(9, 9) * torch.tensor(0.5))
            self.turned, self.row = (nn.Parameter(torch.empty(n, 30)) for n in (40, 1))
            self.turned.data.t().copy_(torch.randn(30, 40) * torch.arange(40))
            self.row.data[0].copy_(torch.randn(30))
            self.line = nn.Parameter(torch.empty(40, 30))
            self.line.data.t().copy_(torch.randn(30, 40)).mul_(0.5)
            self.transposed = nn.Parameter(torch.randn(30, 40).t())

    return Scaled()


def copied():
    class Copied(nn.Module):
        def __init__(self):
            super().__init__()
            self.online, self.target = nn.Linear(8, 6), nn.Linear(8, 6)
            self.target.load_state_dict(self.online.state_dict())
            noise = torch.randn(6, 8)
            self.plus, self.minus = nn.Parameter(2 * noise), nn.Parameter(-noise)
            self.register_buffer("norm", (3 * noise + 1).norm(dim=1))
            self.register_buffer("table", noise.clone())
            self.shifted = nn.Parameter(3 * noise + 1)
            self.quarters = nn.Parameter(torch.empty(8, 8))
            for i, quarter in enumerate(self.quarters.data.chunk(4)):
                nn.init.normal_(quarter, std=i + 1.0)
            self.padded = nn.Embedding(9, 4, padding_idx=2)
            self.orthogonal = nn.Parameter(nn.init.orthogonal_(torch.empty(8, 6)))
            self.rows = nn.Parameter(self.online.weight.detach()[1:3].clone())
            self.dropped = nn.Parameter(torch.bernoulli(torch.full((50,), 0.5)))

    return Copied()


@pytest.mark.parametrize("make", [scaled, copied])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_modules(make, dtype):
    def cast():
        return make().to(dtype)

    assert not differing(filled(recipe_of(cast, "test", {}), 5), initialized(cast, 5))


@pytest.mark.parametrize("make", [scaled, copied])
def test_modules_are_the_authors(make):
    with deferred():
        model = make()
    assert initialize(model, 5) == []
    assert differences([make() for _ in range(3)], model) == {}


def test_scaled_draws_are_rules():
    shown = {t.name: str(origin) for t, origin in recipe_of(scaled, "test", {}).plan()}
    assert shown["scaled"] == "normal(mean=0.0, std=0.02)"
    assert shown["shifted"] == "uniform(low=0.75, high=1.25)"
    assert shown["moved.weight"] == "trunc_normal(mean=0.1, std=0.3, a=-0.5, b=0.7)"
    assert shown["by_tensor"] == "normal(mean=0.0, std=0.5)"
    assert shown["wider"] == "computed by the model's code"


def test_copies_are_equal_and_what_is_computed_fits():
    values = filled(recipe_of(copied, "test", {}), 3)
    assert (values["online.weight"] == values["target.weight"]).all()
    assert (values["plus"] == -2 * values["minus"]).all()
    norms = np.linalg.norm(values["shifted"].astype(np.float64), axis=1)
    np.testing.assert_allclose(values["norm"], norms, rtol=1e-6)
    assert (values["shifted"] == 3 * values["table"] + 1).all()
    assert (values["rows"] == values["online.weight"][1:3]).all()
    spreads = values["quarters"].reshape(4, -1).std(axis=1)
    assert (spreads / [1, 2, 3, 4] > 0.4).all()


CONFIGS = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 99},
    "llama": {"num_key_value_heads": 2},
    "mixtral": {"num_key_value_heads": 2, "num_local_experts": 4},
    "mamba": {},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2},
    "whisper": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 51866,
                "encoder_attention_heads": 2, "decoder_attention_heads": 2},
    "t5": {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_kv": 16, "d_ff": 48},
    "vit": {"image_size": 16, "patch_size": 8},
    "modernbert": {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1,
                   "eos_token_id": 2},
    "xlm-roberta": {},
    "camembert": {},
    "jina_embeddings_v3": {},
    "qwen3_next": {"num_key_value_heads": 2, "num_experts": 4},
    "swin": {"image_size": 32, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2]},
}  # fmt: skip
SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "vocab_size": 99}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_models_of_transformers(kind, tmp_path):
    transformers = adapter("transformers")
    transformers.utils.logging.set_verbosity_error()
    config = transformers.AutoConfig.for_model(kind)
    known = {k: v for k, v in SMALL.items() if type(getattr(config, k, None)) is int}
    config = transformers.AutoConfig.for_model(kind, **{**known, **CONFIGS[kind]})
    config.to_json_file(tmp_path / "config.json", use_diff=False)
    recipe = checkpoint.load(tmp_path)
    cls = getattr(transformers, recipe.config["architectures"][0])
    memory = initialized(lambda: cls._from_config(config), 7)
    assert not differing(filled(recipe, 7), memory)
    checkpoint.write(recipe, tmp_path / "out", seed=7)
    assert checkpoint.check(tmp_path / "out").difference is None
    loaded = cls.from_pretrained(tmp_path / "out").state_dict()
    assert not differing({n: as_array(t.contiguous()) for n, t in loaded.items()}, memory)


TIED = ["xlm-roberta", "camembert", "jina_embeddings_v3", "modernbert", "gpt2", "t5"]


@pytest.mark.parametrize("kind", TIED)
def test_what_is_tied_is_as_transformers_has_it(kind):
    """The input embedding's owner decides, whichever module is registered first."""
    transformers = adapter("transformers")
    transformers.utils.logging.set_verbosity_error()
    config = transformers.AutoConfig.for_model(kind)
    known = {k: v for k, v in SMALL.items() if type(getattr(config, k, None)) is int}
    config = transformers.AutoConfig.for_model(kind, **{**known, **CONFIGS[kind]})
    auto = transformers.models.auto.modeling_auto
    tasks = ("MASKED_LM", "CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM")
    tables = [getattr(auto, f"MODEL_FOR_{task}_MAPPING_NAMES") for task in tasks]
    cls = getattr(transformers, next(table[kind] for table in tables if kind in table))
    with deferred():
        model = cls(config)
    assert initialize(model, 3) == []
    assert differences([cls(config) for _ in range(3)], model) == {}
    head, embedding = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    assert head is embedding
