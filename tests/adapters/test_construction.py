"""What a model's code does while it is built, noted on tensors without memory."""

import numpy as np
import pytest
from adapters import adapter

from fastinit.random import default_rng
from fastinit.recipe import RecipeError

torch = adapter("torch")

from fastinit.torch._recipe import recipe_of  # noqa: E402

nn, init = torch.nn, torch.nn.init


def built(make, seed=0):
    """Return what a recipe of a model writes: how each tensor comes about, and its values."""
    recipe = recipe_of(make, "test", {})
    arrays = {t.name: np.empty(t.shape, t.dtype) for t in recipe.tensors}
    recipe.fill(arrays, seed=seed)
    return {t.name: str(origin) for t, origin in recipe.plan()}, arrays


def one(write, shape=(6, 4), dtype=torch.float32):
    """Return a module whose constructor writes a parameter in some way."""

    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.empty(shape, dtype=dtype))
            new = write(self.w.data)
            if new is not None:
                self.w = nn.Parameter(new)

    return One


def with_gaps(w):
    w.normal_()
    w[2] = 0
    w[3:] *= 2


def with_padding(w):
    w.normal_()
    w[1] = 0


EXACT = {
    "constant_": lambda w: init.constant_(w, 0.25),
    "fill_ by name": lambda w: w.fill_(value=0.5),
    "a slice of all": lambda w: w.__setitem__(slice(None), 0.5),
    "ones of another": lambda w: w.copy_(torch.ones(4)),
    "another tensor": lambda _: torch.full((6, 4), 3.0) / 7,
    "bfloat16 on the way": lambda w: w.copy_(torch.full((6, 4), 0.1).bfloat16()),
    "numbers": lambda w: w.copy_(torch.arange(24.0).reshape(6, 4).log1p()),
    "NumPy's": lambda w: w.copy_(torch.from_numpy(np.arange(24.0).reshape(6, 4))),
    "Python's": lambda w: w.copy_(torch.tensor([x.item() for x in torch.linspace(0, 1, 4)])),
    "a list": lambda w: w.copy_(torch.tensor(torch.linspace(0, 1, 4).tolist())),
    "the like of itself": lambda w: w.copy_(torch.full_like(w, 3).add_(w.new_zeros(4))),
    "a list of tensors": lambda w: w.copy_(torch.tensor([x * 2 for x in torch.linspace(0, 1, 4)])),
    "a condition": lambda w: w.fill_(2.0 if bool(torch.ones(2).all()) else 1.0),
    "its own generator": lambda w: w.normal_(generator=torch.Generator().manual_seed(7)),
    "identity": init.eye_,
    "a transposed view": lambda w: w.t().copy_(torch.arange(24.0).reshape(4, 6)),
}


@pytest.mark.parametrize("write", EXACT.values(), ids=EXACT)
def test_what_has_one_value_has_it(write):
    make = one(write)
    _, ours = built(make)
    np.testing.assert_array_equal(ours["w"], make().w.detach().numpy())


DRAWN = {
    "normal(mean=0.0, std=0.02)": lambda w: init.normal_(w, std=0.02),
    "uniform(low=-1.0, high=1.0)": lambda w: w.uniform_(-1, 1),
    "trunc_normal(mean=0.0, std=1.0, a=-2.0, b=2.0)": init.trunc_normal_,
    "normal(mean=1.0, std=0.5)": lambda _: 1 + 0.5 * torch.randn(6, 4),
    "uniform(low=-0.25, high=0.25)": lambda _: (torch.rand(6, 4) - 0.5) / 2,
    "embedding(padding=1, std=1.0)": with_padding,
    "zeros": lambda w: init.zeros_(w.normal_()),
    "constant(value=3)": lambda w: init.normal_(w, 3.0, 0.0),
}


@pytest.mark.parametrize(("text", "write"), DRAWN.items(), ids=DRAWN)
def test_what_is_drawn_is_a_rule(text, write):
    assert built(one(write))[0] == {"w": text}


@pytest.mark.parametrize("write", [init.orthogonal_, with_gaps, lambda w: w.exponential_()])
def test_what_no_rule_says_is_computed_from_the_seed(write):
    make = one(write)
    shown, first = built(make)
    assert shown == {"w": "computed by the model's code"}
    again, other = built(make)[1], built(make, seed=1)[1]
    np.testing.assert_array_equal(first["w"], again["w"])
    assert (first["w"] != other["w"]).any()


def test_computed_values_are_as_the_author_s():
    _, ours = built(one(init.orthogonal_, (64, 32)))
    np.testing.assert_allclose(ours["w"].T @ ours["w"], np.eye(32), atol=1e-5)
    rows = built(one(with_gaps, (4000, 4)))[1]["w"]
    assert (rows[2] == 0).all()
    assert rows[3:].std() == pytest.approx(2, rel=0.05)


def test_a_copy_has_the_values_of_what_it_copies():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.online = nn.Linear(4, 4)
            self.target = nn.Linear(4, 4)
            self.target.load_state_dict(self.online.state_dict())
            self.register_buffer("norm", self.online.weight.detach().norm(dim=1))

    shown, ours = built(Model)
    assert shown["online.weight"].startswith("uniform")
    np.testing.assert_array_equal(ours["online.weight"], ours["target.weight"])
    norms = np.sqrt((ours["online.weight"].astype(np.float64) ** 2).sum(1))
    np.testing.assert_allclose(ours["norm"], norms, rtol=1e-6)
    # Whoever owns the draw has the bits of his name's stream.
    expected = default_rng(0).stream("online.weight").uniform(-0.5, 0.5, size=(4, 4), dtype="f4")
    np.testing.assert_array_equal(ours["online.weight"], expected)


def test_a_copy_that_is_filled_is_not_the_weight():
    def write(w):
        init.normal_(w.fill_(2.0).double())

    shown, _ = built(one(write))
    assert shown == {"w": "constant(value=2)"}


def test_tensors_without_values_are_named():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.empty(3))
            self.b = nn.Parameter(torch.empty(3))
            self.c = nn.Parameter(torch.zeros(3))

    with pytest.raises(RecipeError, match=r"2 tensors(?s:.*)'a'.*nobody(?s:.*)'b'.*nobody"):
        recipe_of(Model, "test", {}).plan()
    for write in (
        lambda w: w.copy_(torch.empty(6, 4).exp()),
        lambda w: w.copy_(_half_written().exp()),
    ):
        with pytest.raises(RecipeError, match="nobody initialises it"):
            built(one(write))


def test_what_has_no_elements_needs_no_values():
    assert built(one(lambda _: None, (0, 3)))[1]["w"].shape == (0, 3)


def _half_written():
    x = torch.empty(6, 4)
    x[:3] = 0
    return x


@pytest.mark.filterwarnings("ignore:.*reads values")
def test_what_depends_on_chance_cannot_be_built():
    for write in (
        lambda w: w.fill_(torch.rand(3)[0].item()),
        lambda w: w.fill_(1.0 if torch.rand(3)[0] > 0.5 else 2.0),
        lambda w: w.copy_(torch.from_numpy(torch.rand(6, 4).numpy())),
    ):
        make = one(write)
        with pytest.raises(RecipeError, match="random"):
            recipe_of(make, "test", {})


def test_integers_and_truths_are_values_too():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("ids", torch.arange(5).expand(2, -1))
            self.register_buffer("mask", torch.ones(3, 3, dtype=torch.bool).tril())
            self.register_buffer("line", torch.linspace(0, 1, 5, dtype=torch.bfloat16))
            self.norm = nn.BatchNorm1d(2)
            self.to(torch.bfloat16)

    _, ours = built(Model)
    for name, tensor in Model().state_dict().items():
        assert ours[name].dtype.name == str(tensor.dtype).removeprefix("torch."), name
        np.testing.assert_array_equal(ours[name].astype(float), tensor.double().numpy())


def test_nothing_of_torch_is_left_changed():
    before = torch.nn.init._no_grad_trunc_normal_, torch.utils.swap_tensors, torch.get_rng_state()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    built(one(init.orthogonal_))
    assert torch.nn.init._no_grad_trunc_normal_ is before[0]
    assert torch.utils.swap_tensors is before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
