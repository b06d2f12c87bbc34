"""Whole models: accelerate() and initialize() give what the models' authors chose, by name."""

import gc
import importlib
import math
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from adapters import adapter
from scipy import stats

import fastinit as fi

# torch and transformers warn about their own matters, at import and later.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
torch = adapter("torch")
init = importlib.import_module("fastinit.torch")
nn = torch.nn


@pytest.fixture(scope="module")
def transformers():
    module = adapter("transformers")
    module.utils.logging.set_verbosity_error()
    return module


SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4}
MODELS = {
    "GPT2LMHeadModel": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 999},
    "LlamaForCausalLM": {**SMALL, **HEADS, "num_key_value_heads": 2, "vocab_size": 999},
    "MixtralForCausalLM": {**SMALL, **HEADS, "num_key_value_heads": 2, "num_local_experts": 4,
                           "vocab_size": 999},
    "BertForMaskedLM": {**SMALL, **HEADS, "vocab_size": 999},
    "T5ForConditionalGeneration": {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2,
                                   "num_heads": 4, "vocab_size": 999,
                                   "decoder_start_token_id": 0},
    "ViTForImageClassification": {**SMALL, **HEADS, "image_size": 32, "patch_size": 8,
                                  "num_labels": 10},
    "ResNetForImageClassification": {"embedding_size": 16, "hidden_sizes": [16, 32],
                                     "depths": [1, 1], "num_labels": 10},
    "WhisperForConditionalGeneration": {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2,
                                        "encoder_attention_heads": 4, "vocab_size": 999,
                                        "decoder_attention_heads": 4, "encoder_ffn_dim": 96,
                                        "decoder_ffn_dim": 96, "pad_token_id": 0,
                                        "bos_token_id": 1, "eos_token_id": 2,
                                        "decoder_start_token_id": 1},
}  # fmt: skip


def build(transformers, name):
    cls = getattr(transformers, name)
    return cls(cls.config_class(**MODELS[name])).eval()


def accelerated(transformers, name, seed):
    with init.accelerate(seed=seed):
        return build(transformers, name)


def from_meta(transformers, name, seed):
    with torch.device("meta"):
        model = build(transformers, name)
    assert init.initialize(model, seed) == []
    return model


def by_itself(transformers, name, seed):
    torch.manual_seed(seed)
    return build(transformers, name)


def state(model):
    """Return all tensors, buffers that are not saved included."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    return {n: t.detach() for n, t in [*tensors.items(), *model.named_buffers()]}


def loss(model):
    g = torch.Generator().manual_seed(1)
    kind = type(model).__name__
    tokens = torch.randint(3, 999, (4, 32), generator=g)
    if "Image" in kind:
        labels = torch.randint(10, (16,), generator=g)
        return model(pixel_values=torch.randn(16, 3, 32, 32, generator=g), labels=labels).loss
    if "Whisper" in kind:
        return model(input_features=torch.randn(4, 80, 3000, generator=g), labels=tokens).loss
    return model(input_ids=tokens, labels=tokens).loss


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("make", [accelerated, from_meta])
def test_distributions_are_the_authors(transformers, name, make):
    theirs, again = (state(by_itself(transformers, name, seed)) for seed in (1, 2))
    ours = state(make(transformers, name, 3))
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        got = ours[key]
        assert (got.shape, got.dtype) == (expected.shape, expected.dtype), key
        if torch.equal(expected, again[key]):  # a constant, or computed
            assert torch.equal(got, expected), key
            continue
        padded = expected == 0
        assert torch.equal(padded, got == 0) or padded.float().mean() < 1e-3, key
        a, b = expected[~padded].flatten(), got[~padded].flatten()
        # About 300 tensors in all: one in 30 runs would fail if the seed were not fixed.
        assert stats.ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-4, key
        noise = 6 / math.sqrt(len(a))
        assert abs(a.mean() - b.mean()) <= noise * a.std(), key
        assert abs(a.std() / b.std() - 1) < noise, key


@pytest.mark.parametrize("name", MODELS)
def test_loss_at_the_start(transformers, name):
    with torch.no_grad():
        theirs = [loss(by_itself(transformers, name, seed)).item() for seed in range(3)]
        ours = [loss(make(transformers, name, 5)).item() for make in (accelerated, from_meta)]
    spread = max(max(theirs) - min(theirs), 0.02 * max(theirs))
    assert all(min(theirs) - 2 * spread < x < max(theirs) + 2 * spread for x in ours)
    if "GPT2" in name:
        assert ours[0] == pytest.approx(math.log(999), rel=0.03)


class TestAccelerate:
    def test_calls_of_every_kind(self):
        from torch.nn.init import normal_, trunc_normal_, xavier_uniform_

        with init.accelerate(seed=1):
            w = [torch.empty(20, 30) for _ in range(7)]
            w[0].normal_(1.0, std=2.0)
            w[1].uniform_(-1, to=3)
            normal_(w[2], std=0.02)
            trunc_normal_(w[3], std=0.02, a=-0.03)
            xavier_uniform_(w[4])
            nn.init.kaiming_uniform_(w[5], a=math.sqrt(5))
            w[6].data.uniform_(**{"from": -1, "to": 3})
        rng = fi.default_rng(1)
        shape, axes = (20, 30), {"in_axis": 1, "out_axis": 0}
        expected = [
            fi.normal(shape, 1.0, 2.0, rng=rng),
            fi.uniform(shape, -1, 3, rng=rng),
            fi.normal(shape, std=0.02, rng=rng),
            fi.trunc_normal(shape, std=0.02, a=-0.03, rng=rng),
            fi.xavier_uniform(shape, **axes, rng=rng),
            fi.kaiming_uniform(shape, a=math.sqrt(5), **axes, rng=rng),
            fi.uniform(shape, -1, 3, rng=rng),
        ]
        for got, value in zip(w, expected, strict=True):
            assert got.numpy().tobytes() == value.tobytes()

    def test_what_waits_is_done_before_anyone_looks(self):
        looks = [
            lambda w: w.sum().item(),
            lambda w: w.detach().numpy().sum(),
            lambda w: w.tolist()[0],
            lambda w: torch.cat([w, w]).sum().item(),
            lambda w: w[0].clone().sum().item(),
            lambda w: w.data.clone().sum().item(),
            lambda w: torch._foreach_mul([w], 2.0)[0].sum().item(),
            lambda w: nn.functional.linear(torch.ones(1, 40), w).sum().item(),
            lambda w: w.untyped_storage().tolist()[:9],
            lambda w: w.view(-1)[5:].clone().sum().item(),
            lambda w: torch.utils.dlpack.from_dlpack(w.__dlpack__()).clone().sum().item(),
        ]
        for look in looks:
            with init.accelerate(seed=1):
                w = torch.zeros(30, 40)
                within = look(w.normal_())
            assert within == look(w)

    def test_the_last_of_several_fills_counts(self):
        with init.accelerate(seed=1):
            w = torch.empty(50).uniform_().normal_()
            v = torch.empty(50).uniform_()
            v[:10].normal_()
            z = torch.empty(50).uniform_()
            z.zero_()
            c = torch.empty(50).normal_()
            c.mul_(0.5)
        rng = fi.default_rng(1).advance(50)
        assert (w.numpy() == rng.standard_normal(50, "float32")).all()
        rest = rng.random(50, "float32")
        assert (v[:10].numpy() == rng.standard_normal(10, "float32")).all()
        assert (v[10:].numpy() == rest[10:]).all()
        assert not z.any()
        assert (c.numpy() == 0.5 * rng.advance(50).standard_normal(50, "float32")).all()

    def test_nothing_stays(self):
        before = {
            (module, name): getattr(module, name)
            for module in (nn.init, torch.Tensor)
            for name in dir(module)
        }
        w = torch.zeros(50)

        def fails():
            with init.accelerate(seed=1):
                raise KeyError(w.normal_())

        with pytest.raises(KeyError):
            fails()
        assert (w.numpy() == fi.normal(50, rng=1)).all()
        for (module, name), value in before.items():
            assert getattr(module, name) is value or name.startswith("__"), name
        torch.manual_seed(1)
        x = nn.init.trunc_normal_(torch.empty(50))
        torch.manual_seed(1)
        with init.accelerate():
            y = nn.init.trunc_normal_(torch.empty(50))
        assert not torch.equal(x, y)

    def test_other_threads_see_torch_as_it_is(self):
        """Two threads come and go while the others, and they before and after, see torch's."""

        def torchs():
            g = torch.Generator().manual_seed(3)
            return nn.init.trunc_normal_(torch.empty(99), generator=g)

        def work(accelerates):
            for _ in range(30):
                right.append(torch.equal(torchs(), expected))
                if accelerates:
                    with init.accelerate(seed=1):
                        right.append((nn.init.trunc_normal_(torch.empty(99)).numpy() == ours).all())

        expected, ours, right = torchs(), fi.trunc_normal(99, rng=1), []
        original = nn.init._no_grad_trunc_normal_
        threads = [threading.Thread(target=work, args=(n % 2,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert right == [True] * 180
        assert nn.init._no_grad_trunc_normal_ is original

    @pytest.mark.parametrize(
        "draws",
        [
            lambda: torch.randn(50),
            lambda: torch.rand(50, dtype=torch.float64),
            lambda: torch.randn_like(torch.zeros(50)),
            lambda: torch.randperm(50),
            lambda: torch.randint(99, (50,)),
            lambda: torch.empty(50).exponential_(),
            lambda: torch.empty(50, dtype=torch.complex64).normal_(),
            lambda: torch.bernoulli(torch.full((99,), 0.5)),
            lambda: nn.functional.dropout(torch.ones(99)),
            lambda: nn.init.sparse_(torch.empty(20, 30), 0.5) == 0,
        ],
    )
    @pytest.mark.filterwarnings("ignore:PyTorch drew the values")
    def test_what_torch_draws_is_seeded_too(self, draws):
        def within(seed):
            with init.accelerate(seed):
                return draws(), draws()

        state = torch.random.get_rng_state()
        (a, b), again, (other, _) = within(1), within(1), within(2)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.equal(a, again[0])
        assert torch.equal(b, again[1])
        assert not torch.equal(a, b)
        assert not torch.equal(a, other)

    def test_an_explicit_generator_is_torchs(self):
        def draws():
            g = torch.Generator().manual_seed(5)
            return torch.cat(
                [
                    torch.empty(20).normal_(generator=g),
                    nn.init.kaiming_uniform_(torch.empty(4, 5), generator=g).flatten(),
                    nn.init.trunc_normal_(torch.empty(20), generator=g),
                    torch.randn(20, generator=g),
                ]
            )

        with init.accelerate(1):
            within = draws()
        assert torch.equal(within, draws())

    def test_transforms_are_torchs(self):
        """functorch while a fill waits; under vmap each member draws its own."""
        with init.accelerate(1):
            layer = nn.Linear(3, 3)
            out = torch.vmap(layer)(torch.ones(2, 3))
            drawn = torch.vmap(lambda x: x.clone().normal_(), randomness="different")(out.detach())
            with pytest.raises(RuntimeError, match="randomness"):
                torch.vmap(lambda x: x + torch.randn(3))(out)
        assert torch.equal(out, layer(torch.ones(2, 3)))
        assert not torch.equal(drawn[0], drawn[1])

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_compiled_code_draws_what_its_own_would(self):
        def draw(x):
            return x.clone().normal_() + torch.rand(5)

        torch._dynamo.reset()
        compiled, drawn = torch.compile(draw, backend="eager"), []
        for function in (compiled, draw):
            with init.accelerate(1):
                drawn.append(function(torch.zeros(5)))
        torch._dynamo.reset()
        assert torch.equal(*drawn)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_what_torch_cannot_do_it_refuses_itself(self, dtype):
        """LAPACK has no narrow numbers: orthogonal_ raises with and without the context."""
        with pytest.raises(NotImplementedError) as theirs:
            nn.init.orthogonal_(torch.empty(4, 4, dtype=dtype))
        with init.accelerate(1), pytest.raises(NotImplementedError) as ours:
            nn.init.orthogonal_(torch.empty(4, 4, dtype=dtype))
        assert str(ours.value) == str(theirs.value)

    def test_contexts_nest(self):
        with init.accelerate(seed=1):
            a, b, c = torch.empty(50).normal_(), torch.empty(50).normal_(), torch.empty(50)
            with init.accelerate(seed=2):
                b.uniform_()
                c.normal_()
            c.uniform_()
        assert (a.numpy() == fi.normal(50, rng=1)).all()
        assert (b.numpy() == fi.uniform(50, rng=2)).all()
        assert (c.numpy() == fi.default_rng(1).advance(100).random(50, "float32")).all()

    def test_without_a_seed_manual_seed_rules(self):
        def weight(seed):
            torch.manual_seed(seed)
            with init.accelerate():
                return nn.Linear(10, 10).weight

        assert torch.equal(weight(1), weight(1))
        assert not torch.equal(weight(1), weight(2))

    def test_autograd_is_torchs(self):
        p = nn.Parameter(torch.zeros(5))
        with init.accelerate(seed=1):
            with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
                p.normal_()
            x = (p * 2).uniform_()
        assert x.grad_fn is not None
        assert not p.any()

    def test_loaded_weights_stay(self, transformers, tmp_path):
        model = by_itself(transformers, "BertForMaskedLM", 1)
        model.save_pretrained(tmp_path)
        with init.accelerate(seed=1):
            loaded = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
        for name, parameter in model.bert.named_parameters():
            assert torch.equal(loaded.bert.get_parameter(name), parameter), name
        assert loaded.classifier.weight.std().item() == pytest.approx(0.02, rel=0.2)

    def test_bfloat16_models(self, transformers):
        config = transformers.LlamaConfig(**MODELS["LlamaForCausalLM"], dtype="bfloat16")
        with init.accelerate(seed=1):
            model = transformers.AutoModelForCausalLM.from_config(config)
        assert model.lm_head.weight.dtype == torch.bfloat16
        assert model.lm_head.weight.std().item() == pytest.approx(0.02, rel=0.02)

    def test_timm(self):
        importlib.import_module("without_operators").define_torchvision()
        pytest.importorskip("torchvision", reason="timm needs torchvision, and is not there")
        timm = pytest.importorskip("timm.layers.weight_init")
        with init.accelerate(seed=1):
            w = timm.trunc_normal_(torch.empty(20, 30), std=0.02)
            v = timm.trunc_normal_tf_(torch.empty(20, 30))
            u = torch.empty(20, 30)
            timm.lecun_normal_(u)
        rng = fi.default_rng(1)
        assert (w.numpy() == fi.trunc_normal((20, 30), std=0.02, rng=rng)).all()
        assert (v.numpy() == fi.trunc_normal((20, 30), rng=rng)).all()
        assert u.std().item() == pytest.approx(30**-0.5, rel=0.1)
        with init.accelerate(seed=1):
            model = importlib.import_module("timm").create_model("vit_tiny_patch16_224")
        assert model.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.02)


class Odd(nn.Module):
    """A module whose parameters nothing can initialise anew."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.scale = nn.Parameter(torch.randn(4))
        self.register_buffer("mask", torch.ones(4, 4).tril())


class Sliced(nn.Module):
    """A module that draws its parameter in parts, and copies something into another."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Parameter(torch.empty(30, 10))
        self.table = nn.Parameter(torch.empty(5, 4))
        self.reset_parameters()

    def reset_parameters(self):
        for part in self.qkv.chunk(3):
            nn.init.normal_(part)
        self.table.data.copy_(torch.rand(5, 4))


class TestInitialize:
    def test_each_parameter_has_the_stream_of_its_name(self):
        model = nn.Sequential(nn.Linear(30, 40), nn.Embedding(50, 6, padding_idx=2))
        assert init.initialize(model, 42) == []
        root = fi.default_rng(42)
        expected = fi.kaiming_uniform(
            (40, 30), a=math.sqrt(5), in_axis=1, out_axis=0, rng=root.stream("0.weight")
        )
        assert (model[0].weight.detach().numpy() == expected).all()
        expected = fi.embedding((50, 6), padding=2, rng=root.stream("1.weight"))
        assert (model[1].weight.detach().numpy() == expected).all()

    @pytest.mark.parametrize("name", MODELS)
    def test_meta_and_not_are_the_same(self, transformers, name):
        from_nothing, model = from_meta(transformers, name, 7), build(transformers, name)
        assert init.initialize(model, 7) == []
        theirs = state(from_nothing)
        for key, value in state(model).items():
            assert torch.equal(value, theirs[key]), key
            assert not value.is_meta

    def test_other_modules_do_not_matter(self):
        with init.deferred():
            small = nn.ModuleDict({"a": nn.Linear(5, 6), "c": Sliced()})
            large = nn.ModuleDict({"c": Sliced(), "b": nn.LSTM(3, 4), "a": nn.Linear(5, 6)})
        init.initialize(small, 1)
        init.initialize(large, 1)
        for name, value in small.named_parameters():
            assert torch.equal(value, large.get_parameter(name)), name

    def test_one_parameter_alone(self, transformers):
        model = from_meta(transformers, "GPT2LMHeadModel", 7)
        expected = {k: v.clone() for k, v in state(model).items()}
        for value in state(model).values():
            value.fill_(9)
        name = "transformer.h.1.attn.c_proj.weight"
        assert init.initialize(model, 7, only=[name]) == []
        for key, value in state(model).items():
            assert torch.equal(value, expected[key]) if key == name else (value == 9).all()

    def test_unknown_names(self):
        with pytest.raises(ValueError, match=r"only=\['w'\] are not in the model; allowed: weight"):
            init.initialize(nn.Linear(3, 4), 1, only=["w"])
        with pytest.raises(TypeError, match="only='w' must be a collection of names"):
            init.initialize(nn.Linear(3, 4), 1, only="w")

    def test_parts_are_those_of_the_whole(self):
        with init.deferred():
            model = Sliced()
        init.initialize(model, 1)
        expected = fi.normal((30, 10), rng=fi.default_rng(1).stream("qkv"))
        assert (model.qkv.detach().numpy() == expected).all()

    def test_what_has_no_rule_is_named_and_left(self):
        with torch.device("meta"):
            model = Odd()
        with (
            pytest.warns(UserWarning, match="the constructors of Odd do to scale, layer.weight, "),
            pytest.warns(UserWarning, match="no rule initialises mask, scale: build the model"),
        ):
            assert init.initialize(model, 1) == ["mask", "scale"]
        assert model.scale.is_meta
        assert model.mask.is_meta
        assert not model.layer.weight.is_meta
        model = Odd()
        scale, mask = model.scale.detach().clone(), model.mask.clone()
        with (
            pytest.warns(UserWarning, match="the constructors of Odd do to scale, layer.weight, "),
            pytest.warns(UserWarning, match="no rule initialises scale:"),
        ):
            assert init.initialize(model, 1) == ["scale"]
        assert torch.equal(model.scale, scale)
        assert torch.equal(model.mask, mask)

    def test_ties_hold(self, transformers):
        model = from_meta(transformers, "GPT2LMHeadModel", 7)
        assert model.lm_head.weight is model.transformer.wte.weight
        with torch.device("meta"):
            pair = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5)])
            pair[1].weight = pair[0].weight
        init.initialize(pair, 1)
        assert pair[1].weight is pair[0].weight

    def test_recurrent_layers_find_their_weights(self):
        with torch.device("meta"):
            model = nn.LSTM(3, 4)
        init.initialize(model, 1)
        assert all(
            w is model.get_parameter(n)
            for w, n in zip(model._flat_weights, model._flat_weights_names, strict=True)
        )
        assert torch.isfinite(model(torch.ones(2, 3))[0]).all()

    def test_torchs_generator_is_left_as_it_was(self):
        state = torch.random.get_rng_state()
        with init.deferred():
            model = nn.ModuleList([nn.Linear(3, 4), Sliced()])
        init.initialize(model, 1)
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_without_a_seed_manual_seed_rules(self):
        def weight(seed):
            torch.manual_seed(seed)
            model = nn.Linear(3, 4)
            init.initialize(model, None)
            return model.weight

        assert torch.equal(weight(1), weight(1))
        assert not torch.equal(weight(1), weight(2))

    def test_wrappers_do_not_rename(self):
        from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

        plain, wrapped = nn.ModuleList([nn.Linear(5, 6)]), nn.ModuleList([nn.Linear(5, 6)])
        wrapped[0] = torch.compile(checkpoint_wrapper(wrapped[0]))
        init.initialize(plain, 1)
        init.initialize(wrapped, 1)
        for ours, theirs in zip(plain.parameters(), wrapped.parameters(), strict=True):
            assert torch.equal(ours, theirs)

    def test_loaded_weights_stay(self, transformers, tmp_path):
        model = by_itself(transformers, "BertForMaskedLM", 1)
        model.save_pretrained(tmp_path)
        loaded = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
        before = loaded.classifier.weight.detach().clone()
        init.initialize(loaded, 1)
        for name, parameter in model.bert.named_parameters():
            assert torch.equal(loaded.bert.get_parameter(name), parameter), name
        assert not torch.equal(loaded.classifier.weight, before)

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_a_recipe_decides(self, transformers, dtype, tmp_path):
        """The model's values are those of the file that the same recipe and seed write."""
        checkpoint = importlib.import_module("fastinit.checkpoint")
        recipe = importlib.import_module("fastinit.recipe")
        load_file = adapter("safetensors.torch").load_file
        text = recipe.load("gpt2").text
        for variable, value in {"layers": 2, "width": 64, "heads": 4}.items():
            line = next(x for x in text.splitlines() if x.startswith(f"{variable} = "))
            text = text.replace(line, f"{variable} = {value}")
        small = recipe.parse(text).astype(dtype)
        checkpoint.write(small, tmp_path, seed=3)
        config = transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, dtype=dtype)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        assert init.initialize(model, 3, small) == []
        written = load_file(tmp_path / "model.safetensors")
        assert written.keys() == dict(model.named_parameters()).keys()
        for name, parameter in model.named_parameters():
            assert torch.equal(written[name], parameter), name

    def test_a_recipe_for_some(self, tmp_path):
        (tmp_path / "r.toml").write_text(
            'name = "r"\n[[rule]]\npattern = "*scale"\ninit = "constant"\nvalue = 2.0\n'
        )
        with init.deferred():
            model = Odd()
        assert init.initialize(model, 1, tmp_path / "r.toml") == []
        assert (model.scale == 2).all()
        assert model.layer.weight.abs().max() <= 3**-0.5

    def test_memory_is_given_tensor_by_tensor(self):
        """Nothing of a model's size is allocated beside the model."""
        with torch.device("meta"):
            model = nn.Sequential(*[nn.Linear(512, 512, bias=False) for _ in range(8)])
        gc.collect()
        with torch.profiler.profile(profile_memory=True) as profile:
            init.initialize(model, 1)
        allocated = sum(max(e.self_cpu_memory_usage, 0) for e in profile.key_averages())
        assert allocated < 1.1 * sum(p.nbytes for p in model.parameters())


ROOT = Path(__file__).parents[2]


def test_the_documentations_code_runs():
    text = (ROOT / "docs" / "pytorch.md").read_text("utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code) > 3
    exec("\n".join(code), {})


@pytest.mark.parametrize(
    "command",
    [
        ["examples/pytorch.py"],
        ["-m", "torch.distributed.run", "--nproc-per-node", "2", "examples/pytorch_fsdp2.py"],
    ],
)
def test_examples_run(command):
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "True" in done.stdout or "equals the whole's" in done.stdout
