"""deferred(): whatever an author's code does to a tensor, initialize() does, by name.

Each test of `TestWhatCodeDoes` is a way in which public models initialise their weights. The
model is built a few times by PyTorch alone and once with fastinit, and compared tensor by tensor.
"""

import copy
import importlib
import importlib.util
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from adapters import adapter

import fastinit as fi

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
torch = adapter("torch")
from alike import differences  # noqa: E402

init = importlib.import_module("fastinit.torch")
nn = torch.nn


def built(make, seed=0, **options):
    """Return a model of deferred() and initialize()."""
    with init.deferred():
        model = make()
    assert all(t.is_meta for t in [*model.parameters(), *model.buffers()])
    assert init.initialize(model, seed, **options) == []
    return model


def same(a, b):
    """Return whether two models hold the same bits."""
    theirs = b.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in a.state_dict().items())


class ZeroInit(nn.Module):
    """A constructor that initialises a layer's weight itself."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(40, 50)
        self.out = nn.Linear(50, 40)
        nn.init.zeros_(self.out.weight)
        nn.init.constant_(self.out.bias, 0.3)


class NanoGPT(nn.Module):
    """nanoGPT's: `apply` with a method, a loop over named parameters, a tied head."""

    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(100, 64)
        self.h = nn.ModuleList()
        for _ in range(2):
            self.h.append(nn.ModuleDict({"c_fc": nn.Linear(64, 64), "c_proj": nn.Linear(64, 64)}))
        self.lm_head = nn.Linear(64, 100, bias=False)
        self.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)
        for name, p in self.named_parameters():
            if name.endswith("c_proj.weight"):
                torch.nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(4))

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)


class LoRA(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(40, 40)
        self.lora_a = nn.Parameter(self.base.weight.new_empty(8, 40))
        self.lora_b = nn.Parameter(torch.zeros(40, 8))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))


def layer_init(layer, std=2**0.5, bias=0.0):
    """Return a layer as code of reinforcement learning starts it."""
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias)
    return layer


def ppo():
    return nn.Sequential(
        layer_init(nn.Linear(30, 64)), nn.Tanh(), layer_init(nn.Linear(64, 4), 0.01)
    )


class ResNetLike(nn.Module):
    """torchvision's: a loop over modules, a zero for each block's last norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.bn = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 10)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)
        nn.init.constant_(self.bn.weight, 0)


class OtherNames(nn.Module):
    """Rules by other names, called by the constructor."""

    def __init__(self, scale=0.5):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(40, 40), nn.Linear(40, 40), nn.Linear(40, 40)
        self._initialize_weights()
        self.init_parameters(scale)
        self._init_weights()

    def _initialize_weights(self):
        nn.init.trunc_normal_(self.a.weight, std=0.02)

    def init_parameters(self, scale):
        nn.init.normal_(self.b.weight, std=scale)

    def _init_weights(self):
        self.c.weight.data.fill_(0.25)


class Data(nn.Module):
    """Assignments to `.data`, `fill_` by keyword, slices, arithmetic in place."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.empty(30))
        self.a.data[:] = 0.5
        self.b = nn.Linear(30, 40)
        self.b.weight.data = torch.full((40, 30), 2.0)
        self.b.bias.data.fill_(value=3)
        self.c = nn.LSTM(20, 30)
        self.c.bias_ih_l0.data[30:60].fill_(1.0)
        self.d = nn.Linear(30, 40)
        self.d.weight.data.mul_(0.1)
        with torch.no_grad():
            self.d.bias.copy_(torch.linspace(0, 1, 40))
        self.e = nn.Parameter(torch.randn(50, 60) * 60**-0.5)
        self.f = nn.Parameter(torch.rand(50, 20) + 1)


class Buffers(nn.Module):
    """Tables that only the constructor computes, by PyTorch and by NumPy; some are no buffers."""

    def __init__(self):
        super().__init__()
        inv_freq = 1.0 / (10000 ** (torch.arange(0, 64, 2).float() / 64))
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.original_inv_freq = self.inv_freq
        t = np.arange(20)[:, None] / 10000 ** (np.arange(0, 16)[None, :] / 16)
        self.register_buffer("table", torch.from_numpy(np.sin(t)).float())
        self.register_buffer("mask", torch.ones(9, 9, dtype=torch.bool).tril())
        self.register_buffer("index", torch.arange(9).flip(0) - 4)
        self.position = nn.Embedding.from_pretrained(torch.from_numpy(np.cos(t)).float())
        self.freqs = torch.polar(
            torch.ones(4, 4), torch.outer(torch.arange(4.0), torch.arange(4.0))
        )
        self.rates = [x.item() for x in torch.linspace(0, 0.5, 5)]
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))


class Mamba(nn.Module):
    """State-space parameters: a logarithm of integers, the inverse softplus of log-uniforms."""

    def __init__(self):
        super().__init__()
        a = torch.arange(1, 17, dtype=torch.float32).repeat(30, 1).contiguous()
        self.A_log = nn.Parameter(torch.log(a))
        self.dt = nn.Linear(8, 300)
        dt = torch.exp(torch.rand(300) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        dt = torch.clamp(dt, min=1e-4)
        inv_dt = dt + torch.log(-torch.expm1(-dt))
        with torch.no_grad():
            self.dt.bias.copy_(inv_dt)
        self.dt.bias._no_reinit = True


class Copies(nn.Module):
    """Copies of what was drawn: deep copies of layers, a target network, a copy of a buffer."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 2, 64, batch_first=True), 2, enable_nested_tensor=False
        )
        self.online, self.target = nn.Linear(30, 40), nn.Linear(30, 40)
        self.target.load_state_dict(self.online.state_dict())
        self.ema = copy.deepcopy(self.online)
        self.register_buffer("buf", torch.randn(30))
        self.w = nn.Parameter(torch.empty(30))
        self.w.data.copy_(self.buf)


class Halves(nn.Module):
    """A rule that fills a copy and writes it back; one that fills parts."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(40, 50, dtype=torch.bfloat16)
        w = self.a.weight.data.float()
        nn.init.orthogonal_(w)
        self.a.weight.data.copy_(w)
        self.qkv = nn.Parameter(torch.empty(90, 30))
        for part in self.qkv.chunk(3):
            nn.init.xavier_uniform_(part)
        self.experts = nn.Parameter(torch.empty(4, 30, 40))
        for expert in self.experts:
            nn.init.normal_(expert, std=0.02)


def parametrized():
    first = nn.utils.parametrizations.weight_norm(nn.Linear(30, 40))
    second = nn.utils.parametrizations.orthogonal(nn.Linear(30, 30))
    third = nn.utils.parametrizations.spectral_norm(nn.Linear(30, 40))
    return nn.ModuleList([first, second, third])


class FlatMemory(nn.Module):
    """Several parameters in one memory."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(30, 40), nn.Linear(40, 20)
        vector = nn.utils.parameters_to_vector(self.parameters()) * 0.5
        nn.utils.vector_to_parameters(vector, self.parameters())


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(30, 40)
        nn.init.sparse_(self.a.weight, 0.3)
        self.b = nn.Conv1d(8, 8, 3)
        nn.init.dirac_(self.b.weight)
        self.c = nn.Linear(9, 9)
        nn.init.eye_(self.c.weight)
        self.d = nn.Parameter(torch.empty(2000).exponential_())
        self.e = nn.Parameter(torch.bernoulli(torch.full((3000,), 0.25)))
        self.register_buffer("order", torch.randperm(50))


class TorchsOwn(nn.Module):
    """PyTorch's own layers with rules of every kind."""

    def __init__(self):
        super().__init__()
        self.lstm, self.gru = nn.LSTM(20, 30, 2), nn.GRU(20, 30)
        self.attention = nn.MultiheadAttention(32, 4)
        self.transformer = nn.Transformer(32, 2, 1, 1, 64, batch_first=True)
        self.bag, self.prelu = nn.EmbeddingBag(50, 20, padding_idx=3), nn.PReLU(4)
        self.bilinear, self.conv = nn.Bilinear(20, 30, 40), nn.ConvTranspose2d(8, 16, 3, groups=2)
        self.norm = nn.BatchNorm2d(8)


def moved():
    """A model that its own code moves and casts: stable-baselines3's policies, PEFT's adapters."""
    model = nn.ModuleList([nn.Linear(30, 40).to("cpu"), nn.Linear(30, 40).to("cpu", torch.float64)])
    model.append(nn.Linear(30, 40).to(torch.bfloat16).cpu())
    model.to(torch.device("cpu"))
    copied = torch.ones(3, device="cpu").to(torch.float64, copy=True)
    model.register_buffer("scale", torch.ones(3).to(model[1].weight) + copied)
    return model


ALL = [ZeroInit, NanoGPT, LoRA, ppo, ResNetLike, OtherNames, Data, Buffers, Mamba, Copies, Halves,
       parametrized, FlatMemory, Sparse, TorchsOwn, moved]  # fmt: skip


class TestWhatCodeDoes:
    @pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
    def test_deferred_is_the_authors(self, make):
        assert differences([make() for _ in range(3)], built(make)) == {}

    @pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
    def test_values_follow_the_names(self, make):
        """The same again, and other values from another seed; one tensor alone is as with all."""
        model, again, other = built(make, 1), built(make, 1), built(make, 2)
        assert same(model, again)
        assert make in (Buffers,) or not same(model, other)
        names = dict(model.named_parameters())
        first, *_, last = names
        for name in (first, last):
            with init.deferred():
                alone = make()
            init.initialize(alone, 1, only=[name])
            assert torch.equal(alone.get_parameter(name), names[name])

    @pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
    def test_torchs_generator_goes_on_as_if_nothing_were(self, make):
        state = torch.random.get_rng_state()
        built(make)
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_plain_attributes_get_memory_and_share_it(self):
        model = built(Buffers)
        assert model.original_inv_freq.data_ptr() == model.inv_freq.data_ptr()
        assert torch.equal(model.freqs, Buffers().freqs)
        assert model.rates == [0.0, 0.125, 0.25, 0.375, 0.5]

    def test_copies_are_copies(self):
        model = built(Copies)
        assert torch.equal(model.online.weight, model.target.weight)
        assert torch.equal(model.online.bias, model.ema.bias)
        assert torch.equal(model.w, model.buf)
        layers = model.encoder.layers
        assert torch.equal(layers[0].linear1.weight, layers[1].linear1.weight)

    def test_memory_of_several_parameters(self):
        model = built(FlatMemory)
        assert model.a.weight.std().item() == pytest.approx(0.5 * 30**-0.5 / 3**0.5, rel=0.1)

    def test_draws_are_those_of_the_functions(self):
        model = built(NanoGPT, 42)
        root = fi.default_rng(42)
        expected = fi.normal((64, 64), 0.0, 0.01, rng=root.stream("h.1.c_proj.weight"))
        assert (model.h[1]["c_proj"].weight.detach().numpy() == expected).all()
        qkv = built(Halves, 42).qkv.detach().numpy()
        bound = math.sqrt(6 / 60)
        assert (qkv == fi.uniform((90, 30), -bound, bound, rng=root.stream("qkv"))).all()


class TestWhatComesAfter:
    def test_another_dtype(self):
        wide = built(NanoGPT, 3)
        with init.deferred():
            model = NanoGPT()
        model.to(torch.bfloat16)
        init.initialize(model, 3)
        for name, value in model.named_parameters():
            assert value.dtype == torch.bfloat16
            assert torch.equal(value, wide.get_parameter(name).bfloat16()), name

    def test_memory_that_was_given_before(self):
        with init.deferred():
            model = Buffers()
        model.to_empty(device="cpu")
        for buffer in model.buffers():
            buffer.fill_(7)
        init.initialize(model, 1)
        assert torch.equal(model.inv_freq, Buffers().inv_freq)

    def test_a_deep_copy_keeps_the_notes(self):
        with init.deferred():
            model = ZeroInit()
        other = copy.deepcopy(model)
        init.initialize(other, 1)
        assert same(other, built(ZeroInit, 1))

    def test_ties_made_later(self):
        with init.deferred():
            model = nn.ModuleDict({"head": nn.Linear(8, 50, bias=False),
                                   "embed": nn.Embedding(50, 8, padding_idx=2)})  # fmt: skip
        model["head"].weight = model["embed"].weight
        init.initialize(model, 1)
        assert model["head"].weight is model["embed"].weight
        assert not model["embed"].weight[2].any()
        assert model["embed"].weight.std().item() == pytest.approx(1, rel=0.1)

    def test_a_write_that_comes_too_late_is_named(self):
        with init.deferred():
            model = nn.Linear(3, 4)
        nn.init.zeros_(model.weight)
        with pytest.warns(UserWarning, match=r"^weight was written after deferred\(\) had ended"):
            init.initialize(model, 1)

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: setattr(m, "bias", nn.Parameter(torch.full((4,), 2.0))),
            lambda m: m.load_state_dict({"bias": torch.ones(4)}, strict=False, assign=True),
            lambda m: setattr(m, "inv_freq", m.inv_freq * 2),
            lambda m: setattr(m, "bias", nn.Parameter(m.bias * 2)),
        ],
    )
    def test_what_comes_too_late_in_other_memory_is_named(self, change):
        def make():
            layer = nn.Linear(3, 4)
            layer.register_buffer("inv_freq", torch.arange(5.0))
            return layer

        with init.deferred():
            model = make()
        change(model)
        with pytest.warns(UserWarning, match=r"was written after deferred\(\) had ended"):
            init.initialize(model, 1)

    @pytest.mark.parametrize(
        "change",
        [
            lambda m: m.to(torch.bfloat16),
            lambda m: m.to_empty(device="cpu"),
            copy.deepcopy,
            lambda m: nn.Sequential(m, copy.deepcopy(m[0])),
            lambda m: setattr(m[1], "weight", m[0].weight) or m,
            lambda m: setattr(m[1], "weight", nn.Parameter(m[0].weight.t())) or m,
            lambda m: m.requires_grad_(False),
            lambda m: m.append(m[0]),
        ],
    )
    def test_what_is_moved_and_copied_is_not_late(self, change):
        with init.deferred():
            model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert init.initialize(change(model), 1) == []

    def test_saved_without_the_notes(self, tmp_path):
        torch.save(built(NanoGPT), tmp_path / "model.pt")
        model = torch.load(tmp_path / "model.pt", weights_only=False)
        assert same(model, built(NanoGPT))

    def test_what_has_no_values_is_named(self):
        def make():
            return nn.ParameterDict({"a": nn.Parameter(torch.empty(3)),
                                     "b": nn.Parameter(torch.empty(3))})  # fmt: skip

        with init.deferred():
            model = make()
            model.b.data.copy_(model.a)
            model["c"] = nn.Parameter(torch.ones(2))
        with pytest.warns(UserWarning, match=r"no rule initialises a, b: build"):
            assert init.initialize(model, 1) == ["a", "b"]
        assert model.a.is_meta
        assert (model.c == 1).all()


class TestGenerators:
    def test_an_explicit_generator_is_torchs(self):
        """VeRA and RandLora make their projections again from a generator's seed."""

        def make():
            g = torch.Generator().manual_seed(5)
            a = nn.init.kaiming_uniform_(torch.empty(20, 30), a=1, generator=g)
            b, c = torch.randn(9, generator=g), torch.randperm(9, generator=g) + 0.5
            return nn.ParameterList([a, b, c])

        assert same(built(make), make())

    def test_an_author_s_own_seed_is_torchs(self):
        """A fixed random table, as BEST-RQ has: `torch.manual_seed` within the constructor."""

        def make():
            with torch.random.fork_rng():
                torch.manual_seed(42)
                fixed = nn.Parameter(torch.randn(9, 9))
                uniform = nn.init.uniform_(torch.empty(9))
            return nn.ParameterDict({"fixed": fixed, "uniform": uniform, "drawn": torch.randn(9)})

        model = built(make, 1)
        assert torch.equal(model.fixed, make().fixed)
        assert torch.equal(model.uniform, make().uniform)
        assert torch.equal(model.drawn, built(make, 1).drawn)
        assert not torch.equal(model.drawn, built(make, 2).drawn)

    def test_ours_moves_on(self):
        rng = fi.default_rng(5)
        with init.deferred():
            a, b = (nn.Parameter(init.normal_(torch.empty(7), generator=rng)) for _ in range(2))
            model = nn.ParameterList([a, b])
        assert rng.position == 14
        init.initialize(model, 1)
        expected = fi.normal(14, rng=5)
        assert (torch.cat([*model]).detach().numpy() == expected).all()

    def test_values_that_are_drawn_and_read(self):
        class Reads(nn.Module):
            def __init__(self):
                super().__init__()
                self.kept = torch.randperm(10)[:4].tolist()
                self.layer = nn.Linear(3, 4)

        with pytest.warns(UserWarning, match="reads values that it has drawn"), init.deferred():
            model = Reads()
        assert len(set(model.kept)) == 4
        assert init.initialize(model, 1) == []

    def test_a_check_of_values_that_are_drawn(self):
        """With a seed whose values would lead the constructor another way, there is no model."""

        class Checks(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(torch.randn(3))
                self.positive = bool(self.w[0] > 0)
                if self.positive:
                    self.w.data.mul_(2)

        with init.deferred():
            model = Checks()
        refused = []
        for seed in range(20):
            drawn = fi.normal(3, rng=fi.default_rng(seed).stream("w"))
            if (drawn[0] > 0) == model.positive:
                init.initialize(copy.deepcopy(model), seed)
            else:
                refused.append(seed)
                with pytest.raises(ValueError, match="with this seed the answer is another"):
                    init.initialize(model, seed)
        assert 2 < len(refused) < 18

    def test_errors_are_torchs(self):
        def fails():
            with init.deferred():
                nn.init.normal_(torch.empty(3), std=-1)

        with pytest.raises(RuntimeError, match="std >= 0"):
            fails()
        assert torch.empty(1).device.type == "cpu"

    def test_other_threads_and_nesting(self):
        with init.deferred(), init.deferred():
            model = nn.Linear(3, 4)
        assert model.weight.is_meta
        assert not nn.Linear(3, 4).weight.is_meta
        init.initialize(model, 1)


class TestNames:
    def test_stages_of_a_pipeline(self):
        """Four stages, each with its own numbering, hold the bits of the whole."""

        def layers(n):
            return nn.Sequential(*[nn.Linear(9, 9) for _ in range(n)])

        whole = built(lambda: layers(8), 7)
        for stage in range(4):

            def name(key, first=2 * stage):
                number, rest = key.split(".", 1)
                return f"{int(number) + first}.{rest}"

            part = built(lambda: layers(2), 7, rename=name)
            for key, value in part.named_parameters():
                assert torch.equal(value, whole.get_parameter(name(key)))

    def test_a_prefix(self):
        whole = built(lambda: nn.ModuleDict({"encoder": NanoGPT(), "decoder": Mamba()}), 7)
        assert same(built(NanoGPT, 7, prefix="encoder."), whole["encoder"])
        assert same(built(Mamba, 7, prefix="decoder."), whole["decoder"])

    def test_names_are_refused(self):
        model = nn.Linear(3, 4)
        with pytest.raises(ValueError, match="prefix and rename are two ways"):
            init.initialize(model, 1, prefix="a.", rename=str)
        with pytest.raises(ValueError, match="rename gives 'weight' and 'bias' one name, 'x'"):
            init.initialize(model, 1, rename=lambda _: "x")
        with pytest.raises(TypeError, match="rename='x' is not a function"):
            init.initialize(model, 1, rename="x")
        with pytest.raises(TypeError, match="rename returns 3 for 'weight'"):
            init.initialize(model, 1, rename=lambda _: 3)

    def test_wrappers(self, monkeypatch):
        # Another test's stand-in device is one that DataParallel would move the model to.
        module = importlib.import_module("torch.nn.parallel.data_parallel")
        monkeypatch.setattr(module, "_get_available_device_type", lambda: None)
        plain = built(NanoGPT, 7)
        for wrap in (nn.DataParallel, torch.optim.swa_utils.AveragedModel, torch.compile):
            with init.deferred():
                model = NanoGPT()
            model = wrap(model)
            init.initialize(model, 7)
            values = [p for n, p in model.named_parameters()]
            assert all(torch.equal(a, b) for a, b in zip(values, plain.parameters(), strict=True))

    def test_a_module_that_is_called_module_is_none(self):
        model = nn.ModuleDict({"module": nn.Linear(3, 4)})
        init.initialize(model, 1)
        expected = fi.kaiming_uniform((4, 3), a=math.sqrt(5), in_axis=1, out_axis=0,
                                      rng=fi.default_rng(1).stream("module.weight"))  # fmt: skip
        assert (model["module"].weight.detach().numpy() == expected).all()


class TestMissing:
    def test_what_a_checkpoint_lacks(self):
        expected = built(NanoGPT, 7)
        saved = {k: torch.full_like(v, 9) for k, v in expected.state_dict().items()}
        del saved["h.1.c_fc.weight"], saved["lm_head.weight"]
        with init.deferred():
            model = NanoGPT()
        model.to_empty(device="cpu")
        missing = model.load_state_dict(saved, strict=False).missing_keys
        assert set(missing) == {"h.1.c_fc.weight", "lm_head.weight"}
        assert init.initialize(model, 7, missing=missing) == []
        fc = "h.1.c_fc.weight"
        assert torch.equal(model.get_parameter(fc), expected.get_parameter(fc))
        assert (model.wte.weight == 9).all()  # it came by its other name
        assert (model.h[0]["c_fc"].weight == 9).all()

    def test_refused(self):
        with pytest.raises(ValueError, match=r"missing=\['x'\] are not in the model; allowed: "):
            init.initialize(nn.Linear(3, 4), 1, missing=["x"])
        with pytest.raises(ValueError, match="only and missing are two ways"):
            init.initialize(nn.Linear(3, 4), 1, only=["weight"], missing=["bias"])


class TestWithoutDeferred:
    def test_a_constructor_is_warned_of(self):
        with torch.device("meta"):
            model = ZeroInit()
        with pytest.warns(
            UserWarning, match=r"without fastinit.torch.deferred\(\).*ZeroInit do to"
        ):
            init.initialize(model, 1)

    def test_torchs_own_need_none(self):
        with torch.device("meta"):
            model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 5))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert init.initialize(model, 1) == []

    def test_a_class_of_a_configuration_is_built_again(self):
        class Model(NanoGPT):
            def __init__(self, config):
                super().__init__()
                self.config = config
                self.out = nn.Linear(config["width"], 5)
                nn.init.zeros_(self.out.weight)

        with torch.device("meta"):
            model = Model({"width": 30})
        assert init.initialize(model, 1) == []
        assert same(model, built(lambda: Model({"width": 30}), 1))

    def test_methods_that_cannot_be_called_are_left(self):
        class Named(nn.Linear):
            def _init_weights(self, module, name):
                raise AssertionError(module, name)

        init.initialize(Named(3, 4), 1)

    def test_a_method_that_fails_is_named(self):
        class Fails(nn.Linear):
            def _init_weights(self):
                raise KeyError("x")

        with pytest.raises(
            RuntimeError, match=r"Fails._init_weights fails for the model: 'x'; build"
        ):
            init.initialize(Fails(3, 4), 1)

    def test_another_library_s_modules_are_not_a_model_s(self):
        """PEFT's adapters in a model of transformers: not by the rule of the model."""

        class Outer(nn.Module):
            def _init_weights(self, module):
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)

        adapters = type("Adapter", (nn.Module,), {"__module__": "another.library"})
        model, adapter_ = Outer(), adapters()
        model.inner, model.adapter = nn.Linear(50, 50), adapter_
        adapter_.lora = nn.Linear(50, 50)
        init.initialize(model, 1)
        assert model.inner.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert model.adapter.lora.weight.std().item() == pytest.approx((1 / 150) ** 0.5, rel=0.1)

    def test_a_wrapper_that_shows_its_model_s_methods_has_none_of_its_own(self):
        """PEFT's: `__getattr__` finds the rule of the model within."""

        class Wrapper(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.inner, self.adapter = model, nn.Linear(50, 50)

            def __getattr__(self, name):
                try:
                    return super().__getattr__(name)
                except AttributeError:
                    return getattr(super().__getattr__("inner"), name)

        class Outer(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(50, 50)

            def _init_weights(self, module):
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)

        model = Wrapper(Outer())
        with pytest.warns(UserWarning, match="constructors of .*Wrapper"):
            init.initialize(model, 1)
        assert model.inner.layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert model.adapter.weight.std().item() == pytest.approx((1 / 150) ** 0.5, rel=0.1)

    @pytest.mark.filterwarnings("ignore:no rule initialises")
    @pytest.mark.parametrize("context", ["meta", "cpu"])
    def test_a_copy_of_what_nobody_initialises_has_no_values(self, context):
        class Copy(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.full((4,), 7.0))
                self.register_buffer("buffer", torch.empty(4))

            def reset_parameters(self):
                self.weight.data.copy_(self.buffer)

        with torch.device("meta"):
            model = Copy()
        if context == "cpu":
            model = model.to_empty(device="cpu")
            model.weight.data.fill_(7.0)
            model.buffer.fill_(3.0)
        with pytest.warns(UserWarning, match="constructors of .*Copy"):
            unruled = init.initialize(model, 1)
        if context == "meta":
            assert unruled == ["buffer", "weight"]
            assert model.weight.is_meta
        else:
            assert model.weight.tolist() == [3.0] * 4


class TestLoaded:
    """A model of transformers that was loaded: what is there stays."""

    @pytest.fixture
    def model(self, tmp_path):
        transformers = adapter("transformers")
        transformers.utils.logging.disable_progress_bar()
        config = transformers.LlamaConfig(hidden_size=32, intermediate_size=48, vocab_size=99,
                                          num_hidden_layers=1, num_attention_heads=4)  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
        for parameter in model.parameters():
            parameter.data.fill_(7.0)
        model.save_pretrained(tmp_path)
        return transformers.LlamaForCausalLM.from_pretrained(tmp_path)

    def test_a_deep_copy_without_marks_is_refused(self, model):
        copied = copy.deepcopy(model)
        with pytest.raises(ValueError, match=r"no mark of it, as after copy.deepcopy"):
            init.initialize(copied, 1)
        assert all(bool((p == 7).all()) for p in copied.parameters())
        name = "model.layers.0.mlp.up_proj.weight"
        with pytest.warns(UserWarning, match="constructors of|was built without"):
            init.initialize(nn.Sequential(model, OtherNames()), 1)
        assert all(bool((p == 7).all()) for p in model.parameters())
        assert init.initialize(copied, 1, only=[name]) == []
        assert copied.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.1)
        assert all(bool((p == 7).all()) for n, p in copied.named_parameters() if n != name)

    def test_what_peft_copies_of_it_stays(self, model):
        """PEFT's modules_to_save: a copy that is trained in place of the original."""

        class ModulesToSaveWrapper(nn.Module):
            def __init__(self, module):
                super().__init__()
                self.original_module = module
                self.modules_to_save = nn.ModuleDict({"default": copy.deepcopy(module)})

        model.lm_head = ModulesToSaveWrapper(model.lm_head)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            init.initialize(model, 1)
        assert all(bool((p == 7).all()) for p in model.parameters())


@pytest.mark.filterwarnings("ignore:the model was built without")
@pytest.mark.parametrize("within", [True, False])
def test_a_recipe_is_about_what_a_file_holds(within):
    """Its parameters, and the buffers that are saved: as `fastinit init` takes a recipe."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(3))
            self.spectrum = nn.Parameter(torch.zeros(30, 20, dtype=torch.complex64))
            self.register_buffer("position_ids", torch.zeros(1, 8, dtype=torch.int64))
            self.register_buffer("inv_freq", torch.full((4,), 7.0))
            self.register_buffer("mask", torch.full((4,), 7.0), persistent=False)

    text = 'name = "x"\n'
    for pattern, rule in (
        ("*_ids", 'init = "arange"\nstart = 2'),
        ("spectrum", 'init = "he_normal"\nin_axis = 1\nout_axis = 0'),
        ("*", 'init = "ones"'),
    ):
        text += f'[[rule]]\npattern = "{pattern}"\n{rule}\n'
    if within:
        with init.deferred():
            model = Model()
    else:
        model = Model()
    assert init.initialize(model, 3, recipe=fi.recipe.parse(text)) == []
    assert model.position_ids.tolist() == [[*range(2, 10)]]
    assert bool((model.scale == 1).all())
    assert bool((model.inv_freq == 1).all())
    assert bool((model.mask == 7).all())
    rng = fi.default_rng(3).stream("spectrum")
    expected = fi.he_normal((30, 20), dtype="complex64", rng=rng, in_axis=1, out_axis=0)
    assert (model.spectrum.detach().numpy() == expected).all()


class TestPlaceholders:
    def test_zero_3(self):
        model = nn.Linear(3, 4)
        model.weight = nn.Parameter(torch.empty(0))
        model.weight.ds_id = 0
        with pytest.raises(
            ValueError, match=r"weight is held by DeepSpeed's ZeRO-3.*GatheredParam"
        ):
            init.initialize(model, 1)
        model.weight.data = torch.full((4, 3), 7.0)  # within GatheredParameters
        assert init.initialize(model, 1) == []
        assert model.weight.abs().max() <= 3**-0.5

    def test_zero_3_of_deepspeed_itself(self, tmp_path):
        if importlib.util.find_spec("deepspeed") is None:
            pytest.skip("deepspeed is not there")
        script = Path(__file__).parents[1] / "processes" / "zero3.py"
        done = subprocess.run(
            [sys.executable, script, "2", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("way", ["cpu_offload", "disk_offload", "dispatch_model", "a block"])
    def test_offload(self, way, tmp_path):
        accelerate = pytest.importorskip("accelerate")
        cpu = torch.device("cpu")
        model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)))
        if way == "cpu_offload":
            accelerate.cpu_offload(model, cpu)
        elif way == "disk_offload":
            accelerate.disk_offload(model, tmp_path, cpu)
        elif way == "dispatch_model":
            places = {"0": "cpu", "1": "disk"}
            accelerate.dispatch_model(model, places, main_device="cpu", offload_dir=tmp_path)
        else:
            accelerate.cpu_offload(model[1][1], cpu)
        with pytest.raises(ValueError, match="offloaded by Accelerate; call initialize before"):
            init.initialize(model, 1)

    def test_what_accelerate_has_in_memory_is_filled(self):
        accelerate = pytest.importorskip("accelerate")
        plain, hooked = (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)) for _ in range(2))
        accelerate.dispatch_model(hooked, {"": "cpu"}, force_hooks=True)
        assert init.initialize(plain, 1) == init.initialize(hooked, 1) == []
        assert same(plain, hooked)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_is_computed_has_the_default_dtype_of_the_construction(dtype):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.empty(8, 4), requires_grad=False)
            with torch.no_grad():
                self.table.copy_(
                    torch.outer(torch.arange(8) * 0.1, torch.exp(torch.arange(4) * -0.5))
                )

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        expected = Positions().table
        with init.deferred():
            model = Positions()
    finally:
        torch.set_default_dtype(before)
    assert init.initialize(model, 0) == []
    assert torch.equal(model.table, expected)


@pytest.mark.parametrize("fill", [lambda w: w.uniform_(0.5, 1), nn.init.ones_])
def test_what_is_drawn_into_a_negative_view_is_what_it_shows(fill):
    def make():
        model = nn.Module()
        model.w = nn.Parameter(torch.zeros(100))
        fill(torch._neg_view(model.w.data))
        return model

    model = built(make)
    assert bool(((model.w >= -1) & (model.w <= -0.5)).all())


class Expanded(nn.Module):
    """Few values that are shown many times, and a copy of what is shown."""

    def __init__(self):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((1,), 1e-4).expand(40).contiguous())
        self.scale = nn.Parameter(torch.ones(1, 1).expand(30, 20) * 0.5)
        self.table = nn.Parameter(torch.zeros(1, 20).expand(30, 20).clone())
        self.rows = nn.Parameter(torch.randn(1, 20).expand(30, 20).contiguous())
        self.windows = nn.Parameter(torch.randn(40).unfold(0, 8, 2).contiguous())
        self.register_buffer("shown", torch.ones(1, 1).expand(4, 4))
        base = nn.Parameter(torch.zeros(1).expand(20).contiguous())
        nn.init.normal_(base)
        self.drawn = base


def test_values_that_are_shown_many_times():
    """They were left as memory was, but for the first."""
    model = built(Expanded)
    # Of few values that are there many times the test knows nothing.
    found = differences([Expanded() for _ in range(3)], model)
    assert found.keys() <= {"rows", "windows"}
    assert bool((model.rows == model.rows[0]).all())
    assert bool((model.windows[1:, :-2] == model.windows[:-1, 2:]).all())
    assert 0.3 < model.rows[0].std() < 3


class Indexed(nn.Module):
    """Indices and sparse tensors of Python's lists, whose numbers the meta device forgets."""

    def __init__(self):
        super().__init__()
        a = torch.arange(12.0).view(3, 4)
        indices = {
            "list": [0, 2],
            "columns": (slice(None), [1, 1, 3]),
            "array": np.array([2, 0]),
            "bools": [True, False, True],
            "range": range(2),
            "nested": ([[0, 1], [1, 2]], [[0, 0], [1, 1]]),
            "none": [],
            "tensor": (torch.tensor([0]), ..., None),
        }
        for name, index in indices.items():
            self.register_buffer(name, a[index])
        self.weight = nn.Parameter(torch.zeros(4, 4))
        with torch.no_grad():
            self.weight[[0, 1], [1, 2]] = torch.tensor([3.0, 5.0])
            self.weight[[3]] = 7.0
        coo = torch.sparse_coo_tensor([[0, 1], [1, 2]], [1.0, 2.0], (3, 3))
        self.register_buffer("coo", coo.to_dense())
        csr = torch.sparse_csr_tensor([0, 1, 2], [1, 0], [1.0, 2.0], (2, 2))
        self.register_buffer("csr", csr.to_dense())


@pytest.mark.filterwarnings("ignore:Sparse")
def test_indices_of_lists():
    with init.deferred():
        model = Indexed()
    assert init.initialize(model, 1) == []
    assert same(Indexed(), model)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_sparse_buffer_has_its_indices():
    """They were whatever memory held."""
    with init.deferred():
        model = nn.Module()
        model.register_buffer("x", torch.sparse_coo_tensor([[0, 1], [1, 2]], [1.0, 2.0], (3, 3)))
    init.initialize(model, 1)
    assert model.x.to_dense().tolist() == [[0, 1, 0], [0, 0, 2], [0, 0, 0]]


def test_what_nobody_has_written_is_not_read():
    message = r"deferred\(\): .* to which nobody has written"
    with pytest.raises(ValueError, match=message), init.deferred():
        torch.empty(3).tolist()


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.LazyLinear(30), (2, 20)),
        (lambda: nn.LazyConv2d(30, 3), (1, 20, 9, 9)),
        (lambda: nn.LazyBatchNorm1d(affine=True), (2, 20)),
    ],
)
def test_lazy_modules(make, shape):
    """Which get their shapes within the context; without shapes PyTorch refuses."""

    def known():
        layer = make().eval()
        layer(torch.zeros(shape))
        return layer

    assert not differences([known() for _ in range(3)], built(known))
    with init.deferred():
        layer = make()
    with pytest.raises(ValueError, match="uninitialized parameter"):
        init.initialize(layer, 1)


def test_statistics_that_a_constructor_takes():
    """A batch in a normalisation leaves its mean, of which the operator's schema says nothing."""

    def make():
        layer = nn.BatchNorm1d(5)
        layer(torch.arange(20.0).view(4, 5))
        layer.eval()(torch.ones(4, 5))
        return layer

    assert same(make(), built(make))


def told(call):
    """Return the form of what a call makes, or its error."""
    try:
        made = call()
    except (TypeError, RuntimeError) as error:
        return type(error), str(error)
    return made.shape, made.stride(), made.dtype, made.requires_grad


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((3, 4), {}),
        (((3, 4),), {"device": None, "dtype": torch.float16}),
        (([],), {}),
        ((), {"size": (2,)}),
        ((2,), {"requires_grad": True}),
        ((2,), {"requires_grad": True, "dtype": torch.int32}),
        (((2, 3, 4, 5),), {"memory_format": torch.channels_last}),
        ((-1,), {}),
        ((2.5,), {}),
        (("2",), {}),
        ((2,), {"dtype": "float32"}),
        ((2,), {"device": "nowhere"}),
        ((2,), {"other": 1}),
        ((), {}),
    ],
)
def test_empty_tensors_are_those_of_torch(sizes, options):
    theirs = told(lambda: torch.empty(*sizes, **options))
    with init.deferred():
        assert told(lambda: torch.empty(*sizes, **options)) == theirs


def test_a_size_may_be_computed():
    with init.deferred():
        size = torch.tensor([1, 2]).sum()
        assert torch.empty(size, 2).shape == (3, 2)


def test_other_modes_see_the_empty_tensors():
    seen = []

    class Listening(init._private.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with init.deferred(), Listening():
        torch.empty(3)
    assert seen == [torch.ops.aten.empty.memory_format]


def test_new_memory_is_in_huge_pages(monkeypatch):
    asked = []
    monkeypatch.setattr(init._devices._kernels, "advise_huge", lambda *where: asked.append(where))
    model = built(lambda: nn.Linear(1024, 1024))
    assert asked == [(model.weight.data_ptr(), 2**22)]
