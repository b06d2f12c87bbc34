"""Parts of tensors in PyTorch: of larger ones, of fused ones, and models over several processes."""

import numpy as np
import pytest
from adapters import adapter

import fastinit as fi

torch = adapter("torch")

import fastinit.torch as init  # noqa: E402

nn = torch.nn

SHAPE = (12, 10, 3)
PARTS = {
    "rows": (slice(4, 8), slice(0, 10), slice(0, 3)),
    "columns": (slice(0, 12), slice(3, 7), slice(0, 3)),
    "a box": (slice(1, 5), slice(2, 9), slice(1, 2)),
    "nothing": (slice(4, 4), slice(0, 10), slice(0, 3)),
}
FUNCTIONS = {
    "uniform_": {"a": -2.0, "b": 3.0},
    "normal_": {"mean": 1.0},
    "trunc_normal_": {"std": 0.5, "a": -1.0, "b": 0.75},
    "truncated_normal_": {"low": -1.0},
    "xavier_uniform_": {"gain": 3.0},
    "xavier_normal_": {},
    "xavier_truncated_normal_": {},
    "kaiming_uniform_": {"mode": "fan_out"},
    "kaiming_normal_": {"a": 1.0},
    "kaiming_truncated_normal_": {},
    "lecun_normal_": {},
    "lecun_uniform_": {"batch_axis": 0, "out_axis": 1, "in_axis": 2},
    "lecun_truncated_normal_": {},
    "variance_scaling_": {"scale": 2.0, "mode": "fan_geo_avg", "fan_in": 7.0},
    "orthogonal_": {"gain": 2.0},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_part_has_the_values_of_the_whole(name, dtype):
    function, options = getattr(init, name), FUNCTIONS[name]
    whole = function(torch.empty(SHAPE, dtype=dtype), generator=5, **options)
    for box in PARTS.values():
        part = torch.empty_like(whole[box])
        rng = fi.default_rng(5)
        offset = tuple(side.start for side in box)
        function(part, generator=rng, global_shape=SHAPE, offset=offset, **options)
        assert part.equal(whole[box])
        assert rng.position == whole.numel()


def test_a_part_of_a_sparse_matrix():
    whole = init.sparse_(torch.empty(20, 30), 0.3, generator=1)
    part = init.sparse_(torch.empty(10, 7), 0.3, generator=1, global_shape=(20, 30), offset=(5, 8))
    assert part.equal(whole[5:15, 8:15])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
@pytest.mark.parametrize(
    ("function", "shape", "options"),
    [
        (init.eye_, (6, 9), {}),
        (init.dirac_, (6, 3, 5), {}),
        (init.dirac_, (6, 3, 4, 3), {"groups": 2}),
        (init.constant_, (6, 3), {"val": 2}),
        (init.ones_, (6, 3), {}),
        (init.zeros_, (6, 3), {}),
    ],
)
def test_a_part_of_what_is_not_random(function, shape, options, dtype):
    whole = function(torch.empty(shape, dtype=dtype), **options)
    theirs = getattr(nn.init, function.__name__)(torch.empty(shape, dtype=dtype), **options)
    assert whole.equal(theirs)
    for box in (
        tuple(slice(n // 3, n) for n in shape),
        tuple(slice(0, n - 1) for n in shape),
        (slice(2, 2), *(slice(0, n) for n in shape[1:])),
    ):
        part = torch.full_like(whole[box], 7)
        version = part._version
        offset = tuple(side.start for side in box)
        assert function(part, **options, global_shape=shape, offset=offset) is part
        assert part.equal(whole[box])
        assert part._version > version
    x = torch.full(shape, 7, dtype=dtype)
    for part in (
        {"global_shape": shape},
        {"global_shape": shape, "offset": (1,) * len(shape)},
        {"global_shape": shape[1:], "offset": (0,) * (len(shape) - 1)},
    ):
        with pytest.raises(ValueError, match="global_shape"):
            function(x, **options, **part)
    assert bool((x == 7).all())


def test_what_was_given_is_shown_as_it_was_given():
    """Errors say `tensor` for our `x`, but not within a value."""
    with pytest.raises(TypeError, match=r"^normal_\(\): global_shape='x' must be an integer"):
        init.normal_(torch.empty(4, 4), global_shape="x", offset=(0, 0))


def test_parts_of_identities_are_refused_as_the_whole_is():
    part = {"global_shape": (8, 4, 4), "offset": (0, 0, 0)}
    with pytest.raises(ValueError, match=r"tensor has shape \(8, 4, 4\); allowed: two axes"):
        init.eye_(torch.empty(4, 4, 4), **part)
    with pytest.raises(ValueError, match=r"groups=3 must divide the first axis of shape \(8"):
        init.dirac_(torch.empty(4, 4, 4), 3, **part)
    with pytest.raises(ValueError, match=r"tensor has shape \(8, 4\); allowed: three to five axes"):
        init.dirac_(torch.empty(4, 4), global_shape=(8, 4), offset=(0, 0))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parts_that_do_not_fit_are_refused(name):
    function, options = getattr(init, name), FUNCTIONS[name]
    x = torch.full((4, 5, 3), 7.0)
    for part in (
        {"global_shape": (8, 5, 3)},
        {"offset": (0, 0, 0)},
        {"global_shape": (8, 5, 3), "offset": (5, 0, 0)},
        {"global_shape": (8, 5), "offset": (0, 0)},
        {"global_shape": (8, 5, 3), "offset": (-1, 0, 0)},
    ):
        with pytest.raises(ValueError, match=r"global_shape|offset"):
            function(x, generator=1, **options, **part)
    with pytest.raises(TypeError, match=r"global_shape|offset"):
        function(x, generator=1, global_shape="8", offset=(0, 0, 0), **options)
    assert bool((x == 7).all())


def test_what_torch_would_fill_has_no_parts():
    x = torch.zeros(4, 3, dtype=torch.complex64).conj()
    with pytest.raises(TypeError, match="PyTorch knows no parts"):
        init.uniform_(x, generator=1, global_shape=(8, 3), offset=(0, 0))


def test_unknown_options_are_refused():
    with pytest.raises(TypeError, match=r"xavier_uniform_.*'fan'.*allowed: fan_in"):
        init.xavier_uniform_(torch.empty(3, 3), fan=3)
    with pytest.raises(ValueError, match="mode='fan_mid' is unknown"):
        init.kaiming_uniform_(torch.empty(3, 3), mode="fan_mid", fan_in=3)


def test_fans_are_those_of_the_numpy_face():
    for name in ("variance_scaling", "lecun_normal", "xavier_uniform", "he_normal"):
        options = {"in_axis": 2, "out_axis": 1, "batch_axis": 0}
        extra = {"nonlinearity": "relu"} if name == "he_normal" else {}
        theirs = getattr(fi, name)(SHAPE, dtype="float32", rng=3, **options, **extra)
        ours = getattr(init, f"{name}_")(torch.empty(SHAPE), generator=3, **options, **extra)
        np.testing.assert_array_equal(ours.numpy(), theirs)


# A weight that several layers share, and how each gets the fans of its own.


def test_the_experts_of_a_stacked_weight():
    experts = init.kaiming_uniform_(
        torch.empty(4, 64, 48), nonlinearity="linear", generator=1, batch_axis=0, out_axis=1,
        in_axis=2,
    )  # fmt: skip
    for expert in experts:
        assert 0.9 < expert.abs().max() / (3 / 48) ** 0.5 <= 1


def test_query_key_and_value_in_one():
    fused = init.blocks_(torch.empty(3 * 64, 64), init.xavier_uniform_, [64] * 3, generator=1)
    rng = fi.default_rng(1)
    for piece in fused.chunk(3):
        alone = init.xavier_uniform_(torch.empty(64, 64), generator=rng)
        assert piece.equal(alone)


def test_the_groups_of_a_convolution():
    layer = nn.Conv2d(16, 32, 3, groups=4)
    weight = init.blocks_(layer.weight.data, init.kaiming_normal_, [8] * 4, generator=1,
                          mode="fan_out", nonlinearity="linear")  # fmt: skip
    by_number = init.kaiming_normal_(layer.weight.data.clone(), mode="fan_out",
                                     nonlinearity="linear", fan_out=8 * 9, generator=1)  # fmt: skip
    for each in (weight, by_number):
        assert abs(each.std() * (8 * 9) ** 0.5 - 1) < 0.1


def test_the_gates_of_an_lstm():
    lstm = nn.LSTM(16, 32)
    init.blocks_(lstm.weight_hh_l0, init.orthogonal_, [32] * 4, generator=1)
    for gate in lstm.weight_hh_l0.detach().chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(32), atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_part_of_a_weight_in_blocks(axis):
    sizes = {0: [3, 0, 9], 1: [4, 6], -1: [1, 2]}[axis]
    whole = init.blocks_(torch.empty(SHAPE), init.xavier_normal_, sizes, axis, generator=2)
    for box in PARTS.values():
        offset = tuple(side.start for side in box)
        part = init.blocks_(torch.empty_like(whole[box]), init.xavier_normal_, sizes, axis,
                            generator=2, global_shape=SHAPE, offset=offset)  # fmt: skip
        assert part.equal(whole[box])


def test_blocks_refuse_other_sizes():
    x = torch.full((4, 4), 7.0)
    with pytest.raises(ValueError, match="add up to 4"):
        init.blocks_(x, init.normal_, [1, 2])
    with pytest.raises(ValueError, match="sizes"):
        init.blocks_(x, init.normal_, [5, -1])
    with pytest.raises(TypeError, match="initializer=3"):
        init.blocks_(x, 3, [4])
    assert bool((x == 7).all())


def test_blocks_follow_torchs_generator():
    torch.manual_seed(1)
    x = init.blocks_(torch.empty(6, 4), init.normal_, [2, 4])
    torch.manual_seed(1)
    first, second = init.normal_(torch.empty(2, 4)), init.normal_(torch.empty(4, 4))
    assert x.equal(torch.cat([first, second]))


# Within the contexts.


class Layer(nn.Module):
    """A rank's rows of a weight, and a weight in blocks."""

    def __init__(self, rank=0, ranks=1):
        super().__init__()
        rows = 12 // ranks
        self.rows = nn.Parameter(torch.empty(rows, 5))
        init.kaiming_normal_(self.rows, global_shape=(12, 5), offset=(rank * rows, 0))
        self.fused = nn.Parameter(torch.empty(6, 4))
        init.blocks_(self.fused, init.xavier_uniform_, [2, 4])


def test_parts_within_deferred():
    models = []
    for rank, ranks in ((0, 1), (0, 2), (1, 2)):
        with init.deferred():
            model = Layer(rank, ranks)
        assert init.initialize(model, 3) == []
        models.append(model)
    whole, *parts = models
    assert whole.rows.equal(torch.cat([part.rows for part in parts]))
    assert parts[0].fused.equal(whole.fused)
    assert whole.fused[:2].abs().max() <= 1
    assert whole.fused[2:].unique().numel() == 16


def test_parts_within_accelerate():
    models = []
    for rank, ranks in ((0, 1), (0, 2), (1, 2)):
        with init.accelerate(3):
            models.append(Layer(rank, ranks))
    whole, *parts = models
    assert whole.rows.equal(torch.cat([part.rows for part in parts]))
    assert parts[0].fused.equal(whole.fused)


# One model over several processes, without a process.


class Block(nn.Module):
    """A transformer's block, with experts."""

    def __init__(self, experts=4, first=0, local=None):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2)
        numbers = range(first, first + (experts if local is None else local))
        self.experts = nn.ModuleDict({str(i): nn.Linear(8, 16) for i in numbers})
        self.router = nn.Parameter(torch.randn(experts, 8) * 0.02)
        for expert in self.experts.values():
            nn.init.zeros_(expert.bias)


class Model(nn.Module):
    """Some of the layers of a model of eight."""

    def __init__(self, first=0, count=8, **options):
        super().__init__()
        if first == 0:
            self.embedding = nn.Embedding(30, 8)
        self.layers = nn.ModuleList(Block(**options) for _ in range(count))
        if first + count == 8:
            self.head = nn.Linear(8, 30)


def drawn(make, **options):
    with init.deferred():
        model = make()
    assert init.initialize(model, 11, **options) == []
    return model


def test_four_stages_of_a_pipeline_are_the_whole():
    whole = drawn(Model).state_dict()
    found = {}
    for first in range(0, 8, 2):

        def rename(name, first=first):
            head, *rest = name.split(".", 2)
            return ".".join([head, str(int(rest[0]) + first), rest[1]] if head == "layers" else
                            [head, *rest])  # fmt: skip

        stage = drawn(lambda first=first: Model(first, 2), rename=rename)
        found |= {rename(name): tensor for name, tensor in stage.state_dict().items()}
    assert found.keys() == whole.keys()
    assert all(tensor.equal(whole[name]) for name, tensor in found.items())


@pytest.mark.parametrize("ranks", [2, 4])
def test_an_expert_parallel_split_is_the_whole(ranks):
    whole = drawn(Model).state_dict()
    found = {}
    for rank in range(ranks):
        local = 4 // ranks
        part = drawn(lambda local=local, rank=rank: _experts(rank * local, local))
        found |= part.state_dict()
    assert found.keys() == whole.keys()
    assert all(tensor.equal(whole[name]) for name, tensor in found.items())


def _experts(first, local):
    model = Model(count=0)
    model.layers = nn.ModuleList(Block(4, first, local) for _ in range(8))
    model.head = nn.Linear(8, 30)
    return model
