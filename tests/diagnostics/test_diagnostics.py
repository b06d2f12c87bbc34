"""The probe: its derivatives against finite differences, theory against measurement, verdicts."""

import doctest
import importlib
import json
import math
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import fastinit as fi
from fastinit import Initializer, gains
from fastinit.diagnostics import Setting, _verdict, plain, probe, training
from fastinit.diagnostics import _mean_field as mean_field
from fastinit.diagnostics import _network as network
from fastinit.diagnostics._model import outside
from fastinit.diagnostics._network import Network, backward

MODULES = (
    "diagnostics._activations",
    "diagnostics._mean_field",
    "diagnostics._network",
    "diagnostics._probe",
    "diagnostics._verdict",
    "diagnostics.pictures",
    "diagnostics.report",
    "diagnostics.training",
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(f"fastinit.{name}")
    found = doctest.testmod(module, extraglobs={"fi": fi, "np": np})
    assert found.attempted > 0
    assert found.failed == 0


# What probe is built on: gradients by formula.


@pytest.mark.parametrize(
    ("activation", "residual", "layer_norm", "image"),
    [
        *((activation, False, False, None) for activation in network.ACTIVATIONS),
        *product(["tanh", "gelu", "swiglu"], [False, True], [False, True], [None, (3, 4)]),
    ],
)
def test_gradients_are_those_of_finite_differences(activation, residual, layer_norm, image):
    rng = np.random.default_rng(1)
    shapes = Setting((4, 6, 6, 3), activation, residual, layer_norm, image).shapes
    weights = [rng.normal(size=shape) / 3 for shape in shapes]
    x = rng.normal(size=(2, *(image or ()), 4))
    traces = Network(weights, activation, residual, layer_norm).forward(x)
    g = rng.normal(size=traces[-1].output.shape)
    gradients = backward(traces, g)

    def value():
        return float(
            (Network(weights, activation, residual, layer_norm).forward(x)[-1].output * g).sum()
        )

    def difference(array, index, step=1e-6):
        before = array[index]
        array[index] = before + step
        up = value()
        array[index] = before - step
        down = value()
        array[index] = before
        return (up - down) / (2 * step)

    for array, gradient in [
        (x, gradients[0]),
        *((w, p.to_weight(by)) for w, p, by in zip(weights, traces, gradients[1:], strict=True)),
    ]:
        for flat in rng.choice(array.size, size=4, replace=False):
            index = np.unravel_index(flat, array.shape)
            assert gradient[index] == pytest.approx(difference(array, index), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("residual", "image"), [*product([False, True], [None, (2, 3)])])
def test_the_jacobian_is_that_of_finite_differences(residual, image):
    rng = np.random.default_rng(2)
    shapes = Setting((4, 5, 5, 3), "tanh", residual, image=image).shapes
    net = Network([rng.normal(size=shape) / 3 for shape in shapes], "tanh", residual)
    x = rng.normal(size=(*(image or ()), 4))
    step = rng.normal(size=x.shape) * 1e-6
    up, down = (net.forward((x + s)[None])[-1].output.ravel() for s in (step, -step))
    expected = network.jacobian(net, x) @ step.ravel()
    np.testing.assert_allclose((up - down) / 2, expected, rtol=1e-4, atol=1e-12)


# Initializers by name.


def test_texts_are_the_initializers_they_name():
    x, y = np.empty((30, 20)), np.empty((30, 20))
    for text, fill in {
        "xavier": fi.xavier_normal_,
        "he_uniform": fi.he_uniform_,
        "lecun": fi.lecun_normal_,
        "orthogonal": fi.orthogonal_,
    }.items():
        Initializer.parse(text).fill(x, rng=3)
        fill(y, rng=3)
        np.testing.assert_allclose(x, y, rtol=1e-15)
    Initializer.parse("he:0.5").fill(x, rng=3)
    np.testing.assert_allclose(x, 0.5 * fi.he_normal_(y, rng=3))


@pytest.mark.parametrize(
    "text", ["hee", "", "constant", "normal:", "normal:x", "normal:-1", "zeros:1", "he:0"]
)
def test_bad_texts_are_named(text):
    with pytest.raises((TypeError, ValueError), match=rf"^Initializer.parse\(\): text='{text}': "):
        Initializer.parse(text)


# Theory and measurement.

WIDE = 512
DEEP = 8


DRAWN = ("xavier", "he", "orthogonal", "normal:0.06")


@pytest.mark.parametrize("activation", sorted({*network.ACTIVATIONS} - {"relu2", "swiglu"}))
def test_mean_field_theory_agrees_with_measurement(activation):
    check_theory(probe([WIDE] * (DEEP + 1), activation, DRAWN, batch=128, spectrum=False))


@pytest.mark.parametrize(
    ("activation", "options"),
    [
        ("relu", {"residual": True}),
        ("tanh", {"residual": True, "layer_norm": True}),
        ("gelu", {"layer_norm": True}),
        ("relu", {"layer_norm": True}),
        ("relu2", {"layer_norm": True}),
        ("relu2", {"residual": True, "layer_norm": True}),
        ("swiglu", {"layer_norm": True}),
        ("swiglu", {"residual": True, "layer_norm": True}),
    ],
)
def test_mean_field_theory_of_other_layers(activation, options):
    widths = [WIDE] * (DEEP + 1)
    check_theory(probe(widths, activation, "he", batch=128, spectrum=False, **options))


def test_mean_field_theory_of_convolutions_and_of_changing_widths():
    check_theory(probe([64] * 7, "tanh", "xavier", image=(8, 8), batch=64, spectrum=False))
    check_theory(probe([256, 512, 384, 768, 512], "relu", "xavier", spectrum=False))


def check_theory(found):
    """Three seeds' means lie within 20 %: at this width and depth a seed scatters by 10 %."""
    for signal in found:
        np.testing.assert_allclose(signal.std.mean(axis=0), signal.theory.std, rtol=0.2)
        np.testing.assert_allclose(signal.gradient.mean(axis=0), signal.theory.gradient, rtol=0.2)


def test_critical_points_of_theory():
    """Relu keeps both variances at s = 2, linear at 1; tanh at 1 decays as 1 / sqrt(2 l)."""
    for activation, s in (("relu", 2.0), ("linear", 1.0)):
        theory = mean_field.predict([mean_field.Scale(s, s, True)] * 100, activation)
        assert theory.gradient[0] == pytest.approx(1.0, rel=1e-3)
    decay = mean_field.predict([mean_field.Scale(1.0, 1.0, True)] * 2000, "tanh").std
    assert decay[-1] == pytest.approx(1 / math.sqrt(2 * 2000), rel=0.02)


# Verdicts.

SEEN = [
    ("tanh", "zeros", {}, "symmetric"),
    ("relu", "zeros", {}, "symmetric"),
    ("relu", "constant:0.1", {}, "symmetric"),
    ("tanh", "normal:0.01", {}, "vanishing"),
    ("relu", "xavier", {}, "vanishing"),
    ("sigmoid", "xavier", {}, "vanishing"),
    ("tanh", "normal:1", {}, "exploding"),
    ("relu", "normal:1", {}, "exploding"),
    ("relu", "he", {}, "healthy"),
    ("tanh", "xavier", {}, "healthy"),
    ("tanh", "orthogonal", {}, "healthy"),
    ("relu", "he", {"residual": True}, "growing"),
    ("relu", "he:0.14", {"residual": True}, "healthy"),
    ("relu", "he", {"residual": True, "layer_norm": True}, "healthy"),
    ("relu", "normal:0.01", {"layer_norm": True}, "growing"),
]


@pytest.mark.parametrize(("activation", "initializer", "options", "kind"), SEEN)
def test_verdicts_at_depth_50(activation, initializer, options, kind):
    found = probe([128] * 51, activation, initializer, batch=64, spectrum=False, **options)
    assert found[initializer].verdict.kind == kind
    assert bool(found[initializer].advice) == (kind != "healthy")


@pytest.mark.parametrize("layers", [50, 500])
def test_too_deep_for_float64_is_still_a_verdict(layers):
    found = probe([32] * (layers + 1), "relu", ["normal:0.01", "normal:30"], batch=8, seeds=[1])
    assert [signal.verdict.kind for signal in found] == ["vanishing", "exploding"]
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize("activation", network.ACTIVATIONS)
@pytest.mark.parametrize("residual", [False, True])
def test_what_is_advised_is_healthy(activation, residual):
    (signal,) = probe(
        [128] * 31, activation, "zeros" if not residual else "normal:9", residual=residual,
        batch=32, seeds=[1], spectrum=False,
    )  # fmt: skip
    name, _, rest = signal.advice.partition(",")
    name, _, also = name.partition(" and ")
    changed = {
        "activation": "tanh" if also == "tanh" else activation,
        "layer_norm": "LayerNorm" in signal.advice,
        "residual": residual or "skip" in rest,
    }
    (better,) = probe([128] * 31, initializer=name, batch=64, spectrum=False, **changed)
    assert better.verdict.kind == "healthy", signal.advice


STEPS = [  # per layer the signal, the depth, the weight's norm, the loss's gradient: the kind
    (0.3, 3, 1.0, 0.1, "healthy"),  # a few layers that lose a lot: a larger rate makes up for it
    (0.3, 3, 1.0, 0.004, "vanishing"),
    (0.3, 50, 1.0, 1e-9, "vanishing"),
    (4.0, 4, 1.0, 5.0, "growing"),  # a few layers that gain a lot: a smaller rate
    (4.0, 4, 1.0, 50.0, "exploding"),
    (1.2, 50, 1.0, 1.0, "growing"),
    (1.0, 20, 1.0, 1.0, "healthy"),
    (1.0, 20, 0.01, 1.0, "growing"),  # small weights before LayerNorm
    (1.0, 20, 1.0, math.nan, "exploding"),
    (1.0, 20, 1.0, math.inf, "exploding"),
]


@pytest.mark.parametrize(("rate", "depth", "weight", "gradient", "kind"), STEPS)
def test_what_a_step_does_decides(rate, depth, weight, gradient, kind):
    std = rate ** np.arange(depth + 1.0)
    norms = np.full(depth, weight), np.full(depth, gradient)
    found = _verdict.judge(std, std[::-1], False, *norms)
    assert found.kind == kind
    assert _verdict.judge(std, std[::-1], True, *norms).kind == "symmetric"
    if math.isfinite(gradient):
        assert found.progress == pytest.approx(depth * gradient**2)
        assert found.step == pytest.approx(depth * gradient / weight)


def test_weights_outside_of_the_layers_make_progress():
    std, norms = np.ones(4), (np.ones(3), np.zeros(3))
    assert _verdict.judge(std, std, False, *norms).kind == "vanishing"
    assert _verdict.judge(std, std, False, *norms, elsewhere=1.0).kind == "healthy"


def test_zeros_behind_skip_connections_are_not_symmetric():
    """The first layer changes the width and has no skip: nothing comes through before a step."""
    for widths in ([16] * 7, [8, *[16] * 6]):
        (signal,) = probe(widths, "tanh", "zeros", residual=True, batch=16, spectrum=False)
        assert signal.verdict.kind == "healthy"
    (signal,) = probe([16] * 7, "tanh", "zeros", batch=16, spectrum=False)
    assert signal.verdict.kind == "symmetric"


def test_a_verdict_of_steps_says_so():
    (signal,) = probe([32] * 31, "relu", "normal:0.001", layer_norm=True, batch=32, spectrum=False)
    assert str(signal.verdict).startswith("growing: even at the rate 0.003 a step changes the")


# One story: what recommend, the probe and the guide say.


@pytest.mark.parametrize("depth", [10, 20, 50])
@pytest.mark.parametrize("activation", ["linear", "tanh", "sine", "relu", "leaky_relu", "elu"])
def test_what_recommend_recommends_is_healthy(activation, depth):
    advised = fi.recommend(activation, depth=depth).initializer
    (signal,) = probe([128] * (depth + 1), activation, advised, batch=32, spectrum=False)
    assert signal.verdict.kind == "healthy"


@pytest.mark.parametrize("activation", ["gelu", "silu", "swish", "mish"])
def test_what_recommend_says_of_layer_norm_is_so(activation):
    advice = fi.recommend(activation, depth=50)
    assert "put LayerNorm before" in advice.reason
    for layer_norm in (False, True):
        (signal,) = probe(
            [128] * 51, activation, advice.initializer, batch=32, layer_norm=layer_norm,
            spectrum=False,
        )  # fmt: skip
        assert (max(signal.verdict.gradient.total, 1) < 10) == layer_norm


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "relu2", "swiglu"])
def test_what_recommend_says_of_skip_connections_is_so(activation):
    advice = fi.recommend(activation, depth=30)
    assert "skip connections" in advice.reason
    for options in ({}, {"residual": True, "layer_norm": True}):
        (signal,) = probe(
            [128] * 31, activation, advice.initializer, batch=32, spectrum=False, **options
        )
        assert (signal.verdict.kind == "healthy") == bool(options)


def test_recommend_and_probe_take_the_same_activations():
    assert tuple(network.ACTIVATIONS) == gains.ACTIVATIONS
    for activation in network.ACTIVATIONS:
        assert fi.recommend(activation).initializer.name in fi.__all__
    with pytest.raises(ValueError, match="activation='conv2d' is unknown; allowed: linear,"):
        fi.recommend("conv2d")


@pytest.mark.parametrize("depth", [5, 30])
@pytest.mark.parametrize("activation", network.ACTIVATIONS)
def test_the_probe_advises_what_recommend_recommends(activation, depth):
    (signal,) = probe([64] * (depth + 1), activation, "zeros", batch=8, seeds=[1], spectrum=False)
    if signal.advice.endswith(" and tanh"):
        activation = "tanh"
    advised = fi.recommend(activation, depth=depth)
    assert re.split(" and |, skip", signal.advice)[0] == str(advised.initializer)
    if "LayerNorm" in signal.advice:
        assert "LayerNorm" in advised.reason or "few layers only" in advised.reason


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "sigmoid"])
@pytest.mark.parametrize("residual", [False, True])
def test_what_was_refused_is_not_advised(activation, residual):
    """Ten times the signal that comes in is refused by measurement, whatever theory says."""
    names = ["xavier", "he", "he_uniform", "he:0.18", "xavier:0.18", "orthogonal"]
    found = probe([64] * 31, activation, names, residual=residual, batch=16, spectrum=False)
    refused = [signal.name for signal in found if signal.verdict.kind != "healthy"]
    for signal in found:
        assert signal.advice not in refused
        assert not (signal.advice == "he_normal(nonlinearity='relu')" and "he" in refused)


@pytest.mark.parametrize("depth", [5, 30])
@pytest.mark.parametrize("activation", network.ACTIVATIONS)
def test_the_page_of_initializers_says_what_recommend_does(activation, depth):
    text = (Path(__file__).parents[2] / "docs" / "initializers.md").read_text("utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    purposes = {row[1].strip("` "): row[3] for row in rows if len(row) == 9}
    purpose = purposes[f"{fi.recommend(activation, depth=depth).initializer.name}_"]
    words = {"identity": "linear", "relu": "rectifier", "leaky_relu": "rectifier"}
    named = words.get(activation, activation) in purpose
    assert named or "any other activation" in purpose or (depth == 30 and "very deep" in purpose)


@pytest.mark.parametrize("page", ["guide.md", "guide.zh.md"])
def test_the_guide_recommends_what_recommend_does(page):
    text = (Path(__file__).parents[2] / "docs" / page).read_text("utf-8")
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ")]
    taken = {
        activation: take
        for names, take in rows
        for activation in re.split("[,\u3001] ?", names.strip().replace("leaky relu", "leaky_relu"))
        if activation in network.ACTIVATIONS
    }
    assert {*network.ACTIVATIONS} - {*taken} <= {"identity", "swish"}  # other names of two of them
    for activation, take in taken.items():
        for depth in (5, 30):
            name = fi.recommend(activation, depth=depth).initializer.name
            family = name.split("_")[0]
            assert family in take, (activation, depth)


@pytest.mark.parametrize("activation", network.ACTIVATIONS)
@pytest.mark.parametrize("initializer", ["zeros", "constant:1e38", "normal:1e-300", "normal:1e38"])
@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"residual": True}])
def test_what_no_number_holds_is_judged_all_the_same(activation, initializer, options):
    """Nothing comes through, or more than float64 holds, as measured and by theory."""
    for widths in ([16] * 7, [16, 8, 16]):
        (signal,) = probe(widths, activation, initializer, batch=4, seeds=[1], **options)
        assert all(layer in (None, *signal.layers) for layer in signal.out_of_range("float16"))
        assert signal.verdict.unevenness >= 0
        json.dumps(found := plain(signal), allow_nan=False)
        assert found["verdict"]["kind"] == signal.verdict.kind


def test_the_layer_at_which_a_format_ends():
    found = probe([256] * 51, "tanh", "normal:0.01", batch=64, spectrum=False)["normal:0.01"]
    for dtype, smallest in {"float16": 2.0**-14, "bfloat16": 2.0**-126}.items():
        layer, back = found.out_of_range(dtype)
        fits = found.std.mean(axis=0) > smallest
        assert fits[: int(layer)].all()
        assert not fits[int(layer) :].any()
        fits = found.gradient.mean(axis=0) > smallest
        assert not fits[: int(back) + 1].any()
        assert fits[int(back) + 1 :].all()
    healthy = probe([64] * 21, "relu", "he", batch=64, spectrum=False)["he"]
    assert healthy.out_of_range("float16") == healthy.out_of_range("bfloat16") == (None, None)


def test_a_format_ends_where_the_largest_number_does():
    assert outside("float16", [1.0, 1.0], [1.0, 65505.0]) == 1
    assert outside("float8_e4m3fn", [1.0, 0.015]) == 1
    assert outside("float8_e5m2", [1.0, math.inf]) == 1


def test_a_result_shows_itself(tmp_path):
    found = probe([16] * 4, "tanh", {"<b>": "xavier", "normal:0.01": "normal:0.01"}, seeds=[1])
    shown = found._repr_html_()
    assert "<td>&lt;b&gt;</td><td>healthy</td>" in shown
    assert shown.count("<tr>") == 3
    text = found.to_json(tmp_path / "probe.json")
    assert json.loads(text) == json.loads((tmp_path / "probe.json").read_text()) == found.as_dict()
    assert [len(found.plot(panels).axes) for panels in (["depth"], ["spectrum"])] == [2, 1]


def test_saturation_dead_units_and_the_jacobian():
    found = probe([128] * 11, "tanh", ["normal:1", "orthogonal"])
    assert found["normal:1"].saturation.mean() > 0.7
    assert found["orthogonal"].saturation[:, 1:].max() < 0.01
    assert 1 < found["orthogonal"].anisotropy < 3 < found["normal:1"].anisotropy < 128**0.5
    relu = probe([128] * 11, "relu", "he")["he"]
    assert relu.saturation.mean() == pytest.approx(0.5, abs=0.02)
    assert 0 < relu.dead[:, -1].mean() < 0.3
    linear = probe([16] * 4, "linear", {"identity": Initializer("eye")})
    np.testing.assert_allclose(linear["identity"].singular_values, 1.0)


def test_weights_that_are_given():
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(128, 128)) * math.sqrt(2 / 128) for _ in range(20)]
    found = probe(weights, "relu", batch=rng.normal(size=(64, 128)), seeds=[1])
    assert found["given"].verdict.kind == "healthy"
    assert found["given"].weight_norm[0, 3] == pytest.approx(np.linalg.norm(weights[3]))


def test_the_same_seeds_give_the_same_probe():
    once, again, other = (
        probe([32] * 5, "relu", ["he", "xavier"], seeds=seeds).as_dict()
        for seeds in ([1, 2], [1, 2], [3, 4])
    )
    assert once == again != other


@pytest.mark.parametrize(
    ("arguments", "options", "reason"),
    [
        (([8, 8], "rely", "he"), {}, "activation='rely' is unknown; allowed: linear, id"),
        (([8], "relu", "he"), {}, "must be two widths or more, or arrays"),
        (([8, 0], "relu", "he"), {}, "layers=0 must be 1 to"),
        (([8, 8], "relu"), {}, "initializer=None must be None for weights that are given"),
        (([np.eye(3)], "swiglu"), {}, "'swiglu' needs layers as widths; weights were given"),
        (([5, 5], "swiglu", "he"), {"residual": True}, "layers=5 must be even for activation"),
        (([np.eye(3)], "relu", "he"), {}, "initializer='he' must be None for weights"),
        (([np.eye(3), np.eye(4)], "relu"), {}, "allowed: \\(in, out\\), each in = the out before"),
        (([8, 8], "relu", "he"), {"batch": 0}, "batch=0 must be 1 to"),
        (([8, 8], "relu", "he"), {"batch": np.ones((3, 7))}, "batch has shape \\(3, 7\\)"),
        (([8, 8], "relu", "he"), {"seeds": []}, "seeds=\\[\\] must hold"),
    ],
)
def test_bad_arguments_are_named(arguments, options, reason):
    with pytest.raises(ValueError, match=reason):
        probe(*arguments, **options)
    with pytest.raises(KeyError, match="'xavier' was not probed; there are he"):
        probe([8, 8], "relu", "he", seeds=[1])["xavier"]


# The proof: who is healthy trains, who is not does not.


@pytest.mark.parametrize(
    ("activation", "initializers", "options"),
    [
        ("relu", ["he", "xavier"], {}),
        ("tanh", ["xavier", "zeros", "normal:1"], {}),
        ("relu", ["he:0.16", "he"], {"residual": True}),
    ],
)
def test_the_verdict_predicts_who_trains(activation, initializers, options):
    setting = Setting((64, *[64] * 40), activation, **options)
    found = probe(setting.widths, activation, initializers, batch=64, spectrum=False, **options)
    for name in initializers:
        run = training.descend(setting, name)
        assert run.trained == found[name].verdict.trains, (name, run.end)


def test_training_with_convolutions():
    run = training.descend(Setting((1, 8, 8), "relu", image=(8, 8)), "he", steps=20, rates=[0.1])
    assert run.loss[0] > 2
    assert run.trained
