"""The same bits on every device of PyTorch's: tested on one that needs no hardware."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from adapters import adapter

import fastinit as fi
from fastinit import _fill

torch = adapter("torch")
import standin  # noqa: E402

import fastinit.torch as init  # noqa: E402
from fastinit.torch import _devices  # noqa: E402

pytestmark = [
    pytest.mark.xdist_group("standin"),  # one process compiles the device
    pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::DeprecationWarning"),
]

SCRIPT = Path(__file__).parents[1] / "processes" / "on_devices.py"
DTYPES = ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
RANDOM = ["uniform_", "normal_", "trunc_normal_"]
FANS = ["kaiming_uniform_", "xavier_normal_", "lecun_truncated_normal_", "orthogonal_"]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return standin.build(tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="module")
def device(library):
    loaded = standin.load(library)
    loaded.standin_late_copies.restype = int
    return loaded


def on_device(tensor):
    """Return a tensor of the same geometry on the device."""
    moved = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="standin")
    return moved.copy_(tensor)


def same(tensor, expected):
    """Compare bits."""
    bits = [t.detach().cpu().reshape(-1).view(torch.uint8) for t in (tensor, expected)]
    return torch.equal(*bits)


LAYOUTS = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.transpose(0, 2),
    "every other": lambda t: t[::2, :, 1::3],
    "rolled": lambda t: t.permute(1, 2, 0),
    "one row": lambda t: t[1],
}


@pytest.mark.usefixtures("device")
class TestTensors:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", RANDOM)
    def test_values_are_the_cpus(self, name, dtype):
        fill = getattr(init, name)
        expected = fill(torch.zeros(37, 53, dtype=getattr(torch, dtype)), generator=42)
        w = torch.zeros(37, 53, dtype=getattr(torch, dtype), device="standin")
        version = w._version
        assert fill(w, generator=42) is w
        assert w._version > version
        assert same(w, expected)

    @pytest.mark.parametrize("name", FANS)
    def test_by_fans(self, name):
        fill = getattr(init, name)
        w = fill(torch.zeros(8, 4, 3, 3, device="standin"), generator=42)
        assert same(w, fill(torch.zeros(8, 4, 3, 3), generator=42))

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("most", [64, 1000, 1 << 22], ids=lambda n: f"{n} bytes")
    def test_parts_and_layouts(self, layout, most, monkeypatch):
        """Whatever the buffers' size, and nothing beside the view is written."""
        monkeypatch.setattr(_devices, "_BUFFER_BYTES", most)
        memory = torch.full((6, 7, 20), 9.0)
        expected = memory.clone()
        on_there = on_device(memory)
        init.normal_(LAYOUTS[layout](expected), generator=3)
        init.normal_(LAYOUTS[layout](on_there), generator=3)
        assert same(on_there, expected)

    def test_channels_last(self):
        w = torch.zeros(16, 8, 3, 3).to(memory_format=torch.channels_last)
        there = on_device(w)
        assert there.stride() == w.stride()
        assert same(init.uniform_(there, generator=1), init.uniform_(w, generator=1))

    @pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1, 1)])
    def test_small_shapes(self, shape):
        w = init.normal_(torch.full(shape, 7.0, device="standin"), generator=1)
        assert same(w, init.normal_(torch.full(shape, 7.0), generator=1))

    def test_a_generator_moves_on(self):
        rng = fi.default_rng(5)
        parts = [init.normal_(torch.empty(n, device="standin"), generator=rng) for n in (33, 44)]
        assert rng.position == 77
        assert (
            torch.cat([p.cpu() for p in parts]).numpy().tobytes() == fi.normal(77, rng=5).tobytes()
        )

    def test_manual_seed_rules(self):
        torch.manual_seed(1)
        there = init.normal_(torch.empty(50, device="standin"))
        torch.manual_seed(1)
        assert same(there, init.normal_(torch.empty(50)))

    def test_copies_overlap_with_drawing(self, device, monkeypatch):
        """Long tensors go through two pinned buffers, whose copies this device puts off."""
        monkeypatch.setattr(_devices, "_BUFFER_BYTES", 1 << 12)
        before = device.standin_late_copies()
        w = init.normal_(torch.empty(10_000, device="standin"), generator=1)
        assert device.standin_late_copies() == before + 10
        assert same(w, init.normal_(torch.empty(10_000), generator=1))

    def test_memory_beyond_the_tensor(self, monkeypatch):
        allocated = []
        bytes_ = _devices._bytes
        monkeypatch.setattr(
            _devices, "_bytes", lambda n, pinned=False: (allocated.append(n), bytes_(n, pinned))[1]
        )
        init.normal_(torch.empty(1 << 22, device="standin"), generator=1)
        assert sum(allocated) == 2 << 22

    def test_without_pinned_memory(self, monkeypatch):
        def refuse(*_, **__):
            raise RuntimeError("no such memory")

        monkeypatch.setattr(_devices, "_BUFFER_BYTES", 1 << 12)
        monkeypatch.setattr(_devices.torch, "Event", refuse)
        w = init.normal_(torch.empty(10_000, device="standin"), generator=1)
        assert same(w, init.normal_(torch.empty(10_000), generator=1))

    def test_overlapping_memory_is_refused(self):
        rng = fi.default_rng(3)
        with pytest.raises(ValueError, match=r"^normal_\(\): tensor has overlapping elements"):
            init.normal_(torch.zeros(1, device="standin").expand(5), generator=rng)

    def test_parameters_and_inference(self):
        p = torch.nn.Parameter(torch.zeros(4, 5, device="standin"))
        init.normal_(p, generator=2)
        assert p.requires_grad
        assert p.grad_fn is None
        assert same(p, init.normal_(torch.zeros(4, 5), generator=2))


class Model(torch.nn.Module):
    """Layers, norms, a convolution, a tied head, a padding row, a computed position."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(50, 16, padding_idx=7)
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.up = torch.nn.Linear(16, 30)
        self.norm = torch.nn.LayerNorm(16)
        self.head = torch.nn.Linear(16, 50, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("table", torch.arange(5.0), persistent=False)

    def reset_parameters(self):
        torch.nn.init.trunc_normal_(self.up.weight, std=0.02)
        with torch.no_grad():
            self.table.copy_(torch.arange(5.0))


def deferred_model():
    with init.deferred():
        return Model()


def tensors_of(model):
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.usefixtures("device")
class TestModels:
    @pytest.fixture
    def expected(self):
        model = deferred_model()
        init.initialize(model, 42)
        return tensors_of(model)

    def check(self, model, expected):
        got = tensors_of(model)
        assert got.keys() == expected.keys()
        for name, tensor in got.items():
            assert tensor.device.type == "standin"
            assert same(tensor, expected[name]), name
        assert model.head.weight is model.embed.weight

    def test_from_the_meta_device(self, expected):
        model = deferred_model()
        assert init.initialize(model, 42, device="standin") == []
        self.check(model, expected)

    def test_where_it_is(self, expected):
        model = deferred_model().to_empty(device="standin")
        model.head.weight = model.embed.weight  # such a device's `to` unties
        assert init.initialize(model, 42) == []
        self.check(model, expected)

    def test_what_a_rule_computes(self):
        """By PyTorch's other functions: it runs on the CPU, and is the same on every device."""

        class Computed(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.rate = torch.nn.Parameter(torch.empty(50))
                self.table = torch.nn.Parameter(torch.empty(5, 4))
                self.reset_parameters()

            def reset_parameters(self):
                with torch.no_grad():
                    self.rate.exponential_()
                    self.table.copy_(torch.randn(5, 4).sin())

        with init.deferred():
            here, there = Computed(), Computed()
        init.initialize(here, 3)
        init.initialize(there, 3, device="standin")
        for name, tensor in here.named_parameters():
            assert there.get_parameter(name).device.type == "standin"
            assert same(there.get_parameter(name), tensor)

    def test_by_a_recipe(self):
        text = 'name = "r"\n[[rule]]\npattern = "*.weight"\ninit = "normal"\nstd = 0.02\n'
        text += '[[rule]]\npattern = "*"\ninit = "zeros"\n'
        recipe = fi.recipe.parse(text, "r")
        there = torch.nn.Sequential(torch.nn.Linear(9, 7), torch.nn.Linear(7, 3)).to("standin")
        here = torch.nn.Sequential(torch.nn.Linear(9, 7), torch.nn.Linear(7, 3))
        for model in (there, here):
            init.initialize(model, 1, recipe)
        for name, tensor in here.named_parameters():
            assert same(there.get_parameter(name), tensor)

    def test_accelerate(self):
        with init.accelerate(seed=1):
            here = torch.nn.Linear(20, 10)
        with init.accelerate(seed=1):
            there = torch.nn.Linear(20, 10, device="standin")
            torch.nn.init.normal_(there.bias[2:5])
        with init.accelerate(seed=1):
            torch.nn.Linear(20, 10)
            torch.nn.init.normal_(here.bias[2:5])
        assert same(there.weight, here.weight)
        assert there.bias.device.type == "standin"

    @pytest.mark.parametrize("world", [2, 4])
    def test_shards_over_processes(self, library, world, tmp_path):
        """The model on the CPU, on the device, and as DTensors there, are equal bit for bit."""
        done = subprocess.run(
            [sys.executable, SCRIPT, library, str(world), str(tmp_path)],
            env={**os.environ, "FASTINIT_NUM_THREADS": "2"},
            stderr=subprocess.PIPE,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr


class Unknown(torch.Tensor):
    pass


@pytest.mark.usefixtures("device")
class TestNothingFallsBackSilently:
    @pytest.fixture(autouse=True)
    def nothing_said(self, monkeypatch):
        monkeypatch.setattr(_fill, "_said", set())

    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (
                lambda: torch.empty(9, dtype=torch.complex64).conj(),
                "a tensor of dtype torch.complex64",
            ),
            (lambda: torch.empty(9).as_subclass(Unknown), "a Unknown, a subclass of torch.Tensor"),
            (
                lambda: torch.empty(9, device="standin").as_subclass(Unknown),
                "a Unknown, a subclass of torch.Tensor",
            ),
        ],
    )
    def test_it_is_said_once(self, make, reason):
        with pytest.warns(UserWarning, match=f"PyTorch drew the values of {reason}"):
            init.normal_(make())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            init.normal_(make())

    def test_within_accelerate(self):
        w = torch.empty(9, dtype=torch.complex64).conj()
        with pytest.warns(UserWarning, match="dtype torch.complex64"), init.accelerate(seed=1):
            torch.nn.init.normal_(w)

    @pytest.mark.parametrize("name", ["orthogonal_", "sparse_"])
    def test_matrices(self, name):
        w = torch.empty(4, 5).as_subclass(Unknown)
        with pytest.warns(UserWarning, match="a Unknown, a subclass"):
            getattr(init, name)(w, *[0.5] if name == "sparse_" else [])

    def test_initialize_refuses(self):
        layer = torch.nn.Linear(3, 4)
        layer.weight = torch.nn.Parameter(layer.weight.data.to_sparse())
        layer.reset_parameters = lambda: torch.nn.init.normal_(layer.weight)
        with pytest.raises(TypeError, match=r"'weight' draws into a tensor of layout torch.sparse"):
            init.initialize(layer, 1)

    def test_initialize_refuses_parameters_too(self):
        class Odd(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(3))

            def reset_parameters(self):
                torch.nn.init.normal_(self.weight, std=float("nan"))

        with pytest.raises(RuntimeError, match=r"Odd.reset_parameters fails for the model: .*nan"):
            init.initialize(Odd(), 1)


def test_numpy_and_devices_agree_at_all():
    """The reference of this file is the core's own values."""
    w = init.normal_(torch.zeros(1000), generator=3)
    assert np.array_equal(w.numpy(), fi.normal(1000, rng=3))
