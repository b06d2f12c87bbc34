"""fastinit.torch.probe: an unchanged model, by hooks."""

import copy
import importlib
import math
import os

import numpy as np
import pytest
from adapters import adapter

import fastinit
from fastinit import diagnostics
from fastinit.diagnostics import report

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers: their own matters


torch = adapter("torch")
nn = torch.nn
probe = importlib.import_module("fastinit.torch").probe


def mean_square(y):
    return y.square().mean()


def test_it_measures_what_numpy_measures():
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(64, 64)) / 8 for _ in range(10)]
    x = rng.normal(size=(32, 64))
    (ours,) = diagnostics.probe(weights, "tanh", batch=x, seeds=[1], spectrum=False)
    g = fastinit.default_rng(1).stream("gradient").standard_normal((32, 64))
    blocks = [nn.Sequential(nn.Linear(64, 64, bias=False), nn.Tanh()).double() for _ in weights]
    for block, weight in zip(blocks, weights, strict=True):
        block[0].weight.data = torch.from_numpy(weight.T.copy())
    batch = torch.from_numpy(x).requires_grad_()
    (theirs,) = probe(nn.Sequential(*blocks), batch, lambda y: (y * torch.from_numpy(g)).sum())
    for name in ("mean", "std", "gradient", "weight_norm"):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), rtol=1e-9)
    np.testing.assert_allclose(theirs.gradient_norm / 32, ours.gradient_norm, rtol=1e-9)


def stack(initializer, depth=30, activation=nn.Tanh):
    layers = [nn.Linear(64, 64) for _ in range(depth)]
    for layer in layers:
        initializer(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*(module for layer in layers for module in (layer, activation())))


@pytest.mark.parametrize(
    ("initializer", "kind"),
    [
        (nn.init.xavier_normal_, "healthy"),
        (lambda w: nn.init.normal_(w, std=0.01), "vanishing"),
        (lambda w: nn.init.normal_(w, std=2.0), "exploding"),
        (nn.init.zeros_, "symmetric"),
    ],
)
def test_verdicts(initializer, kind):
    torch.manual_seed(1)
    (signal,) = probe(stack(initializer), torch.randn(32, 64), mean_square)
    assert signal.verdict.kind == kind
    assert bool(signal.advice) == (kind != "healthy")


def test_the_model_is_unchanged():
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Conv2d(8, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 16, 4),
    )  # fmt: skip
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    (signal,) = probe(model, x, mean_square)
    assert signal.layers == ("input", "0", "4", "7")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_the_gradient_of_a_layer_that_is_changed_in_place():
    torch.manual_seed(1)
    linears = [nn.Linear(16, 16) for _ in range(3)]
    x = torch.randn(8, 16)
    gradients = []
    for inplace in (False, True):
        layers = [module for linear in linears for module in (linear, nn.ReLU(inplace))]
        (signal,) = probe(nn.Sequential(*layers), x, mean_square)
        gradients.append(signal.gradient)
    np.testing.assert_array_equal(*gradients)


def test_the_report_takes_it(tmp_path):
    torch.manual_seed(1)
    report.write(
        tmp_path / "r.html", probe(stack(nn.init.xavier_normal_), torch.randn(8, 64), mean_square)
    )
    assert "Sequential" in (tmp_path / "r.html").read_text()


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="it must be a scalar tensor"):
        probe(stack(nn.init.xavier_normal_, 2), torch.randn(8, 64), lambda y: y)
    with pytest.raises(ValueError, match="allowed: two or more"):
        probe(nn.Linear(3, 3), torch.randn(8, 3), mean_square)
    with pytest.raises(ValueError, match="loss does not depend on"):
        probe(stack(nn.init.xavier_normal_, 2), torch.randn(8, 64), lambda _: torch.tensor(1.0))


# GPT-2: A. Radford et al., 2019, section 2.3, scale the residual layers by 1 / sqrt(N), "which
# accounts for the accumulation on the residual path with model depth".


@pytest.fixture(scope="module")
def transformers():
    os.environ["HF_HUB_OFFLINE"] = "1"
    module = adapter("transformers")
    module.utils.logging.set_verbosity_error()
    return module


def gpt2(transformers, layers, width, scaled):
    config = transformers.GPT2Config(
        n_layer=layers, n_embd=width, n_head=width // 64, vocab_size=500, n_positions=32
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    rng = fastinit.default_rng(1)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            std = 0.02 / math.sqrt(2 * layers) if scaled and "c_proj" in name else 0.02
            fastinit.normal_(parameter.detach().numpy(), std=std, rng=rng.stream(name))
    tokens = torch.randint(500, (2, 32), generator=torch.Generator().manual_seed(1))
    (signal,) = probe(model, {"input_ids": tokens, "labels": tokens}, lambda output: output.loss)
    return signal


def test_gpt2_grows_without_the_residual_scaling(transformers):
    with_, without = (gpt2(transformers, 12, 768, scaled) for scaled in (True, False))
    assert with_.layers == ("input", *(f"transformer.h.{i}" for i in range(12)))
    assert (with_.verdict.kind, without.verdict.kind) == ("healthy", "growing")
    assert "residual path" in without.advice


def test_gpt2s_accumulation_with_depth_is_what_the_scaling_removes(transformers):
    """Four times the depth: the end of the residual path as before, or twice as large."""
    end = {
        (layers, scaled): gpt2(transformers, layers, 128, scaled).std[0, -1]
        for layers in (6, 24)
        for scaled in (True, False)
    }
    assert end[24, True] == pytest.approx(end[6, True], rel=0.1)
    assert end[24, False] == pytest.approx(2 * end[6, False], rel=0.2)
