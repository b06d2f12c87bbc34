"""Puts the probe's verdict to the test: random networks are probed, then trained by PyTorch.

    python tests/deep/verdicts.py train --networks 600 --transformers 54
    python tests/deep/verdicts.py probe
    python tests/deep/verdicts.py table

Network n is drawn from the seed n, so that a run that is cut off goes on where it ended.  How each
training ended is appended to tests/deep/results/trainings.jsonl, what the probe measures of the
same networks stands in probes.jsonl, and `table` judges those figures by the rules as they are and
writes the confusion matrix into docs/validation.md: a changed threshold needs no training, and a
changed measurement needs only `probe`.
"""

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812  PyTorch's own habit

import fastinit as fi
from fastinit import diagnostics
from fastinit.diagnostics import Signal
from fastinit.diagnostics._verdict import geometric_mean, judge

Key = tuple[str, int]

RESULTS = Path(__file__).parent / "results"
TRAININGS, PROBES = RESULTS / "trainings.jsonl", RESULTS / "probes.jsonl"
PAGE = Path(__file__).parents[2] / "docs" / "validation.md"

RATES = (0.1, 0.03, 0.3, 0.01, 1.0, 0.003)
"""Learning rates of plain gradient descent, the likely ones first: one that trains is enough."""

ADAM_RATES = (1e-3, 1e-2, 1e-4)
STEPS = 100
TRAINED = 0.9  # of the loss of a guess, at the end
ENOUGH = 0.5  # of it, from which on no more steps are needed
STUCK = 20  # steps within which the loss has to move by a millionth
LAST = 10  # losses that are averaged: plain steps through fifty layers jump
SAMPLES = 60
CLASSES = 10
HELD_OUT = range(275, 520)
"""Dense networks that were trained after the thresholds of the verdict had been chosen."""

TRAINING_SEED = 1000  # the weights that are trained are not those that were probed

TORCH = {
    "linear": lambda z: z,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
    "leaky_relu": lambda z: F.leaky_relu(z, 0.01),
    "gelu": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
}
INITIALIZERS = (
    "zeros", "constant:0.05", "normal:0.01", "normal:0.09", "normal:1", "uniform:0.05",
    "truncated_normal:0.02", "xavier", "xavier_uniform", "he", "he_uniform", "lecun",
    "lecun_uniform", "orthogonal",
)  # fmt: skip
SCALED = ("xavier", "he", "orthogonal")


@dataclass(frozen=True)
class Dense:
    """A network of `fastinit.diagnostics.probe`, with 64 pixels or an 8 x 8 image as its input."""

    activation: str
    depth: int
    width: int
    residual: bool
    layer_norm: bool
    image: bool
    initializer: str


@dataclass(frozen=True)
class Transformer:
    """A small decoder over characters, in PyTorch."""

    depth: int
    width: int
    norm: str  # before the branches, after them, or none
    std: float  # of all weights
    branch: float  # factor on the weights that end a branch


def dense(n: int) -> Dense:
    """Return network n: uniform choices, but the depth, whose logarithm is uniform."""
    draw = random.Random(f"dense {n}")
    image = draw.random() < 0.1
    depth = round(math.exp(draw.uniform(math.log(3), math.log(12 if image else 50))))
    initializer = draw.choice(INITIALIZERS)
    if initializer in SCALED:
        scales = ["", f":{math.exp(draw.uniform(math.log(0.5), math.log(2))):.2f}"]
        initializer += draw.choice([*scales, f":{depth**-0.5:.2f}"])
    return Dense(
        activation=draw.choice(list(TORCH)),
        depth=depth,
        width=draw.choice([4, 6] if image else [16, 32, 48]),
        residual=draw.random() < 0.4,
        layer_norm=draw.random() < 0.4,
        image=image,
        initializer=initializer,
    )


def transformer(n: int) -> Transformer:
    draw = random.Random(f"transformer {n}")
    depth = round(math.exp(draw.uniform(math.log(2), math.log(10))))
    return Transformer(
        depth=depth,
        width=32,
        norm=draw.choice(["before", "after", "none"]),
        std=draw.choice([0.0, 0.002, 0.02, 0.1, 0.2, 0.5]),
        branch=draw.choice([1.0, (2 * depth) ** -0.5, 0.0]),
    )


# What is measured: what a verdict is judged by.


def figures(signal: Signal, dense: bool) -> dict[str, Any]:
    series = (signal.std, signal.gradient, signal.weight_norm, signal.loss_gradient)
    inside = float((signal.loss_gradient[0] ** 2).sum())
    means = (finite(geometric_mean(each).tolist()) for each in series)
    return {
        **dict(zip(FIGURES, means, strict=True)),
        "elsewhere": 0.0 if dense else signal.verdict.progress - inside,
        "symmetric": signal.verdict.kind == "symmetric",
    }


FIGURES = ("std", "gradient", "weight_norm", "loss_gradient")


def judged(found: dict[str, Any]) -> str:
    """Return the kind of verdict that the recorded figures get."""
    std, gradient, weight, loss = (np.array(found[key], float) for key in FIGURES)
    with np.errstate(all="ignore"):
        return judge(std, gradient, found["symmetric"], weight, loss, found["elsewhere"]).kind


def finite(values: Sequence[float]) -> list[float | None]:
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values]


def probe_dense(n: int) -> dict[str, Any]:
    network = dense(n)
    (signal,) = diagnostics.probe(
        [1 if network.image else 64] + [network.width] * network.depth,
        network.activation,
        network.initializer,
        residual=network.residual,
        layer_norm=network.layer_norm,
        image=(8, 8) if network.image else None,
        batch=64,
        spectrum=False,
    )
    return figures(signal, dense=True)


def probe_transformer(n: int) -> dict[str, Any]:
    import fastinit.torch

    x, y, letters, _ = characters()
    torch.manual_seed(0)
    (signal,) = fastinit.torch.probe(
        Decoder(transformer(n), letters),
        x,
        lambda z: F.cross_entropy(z.flatten(0, -2), y.flatten()),
    )
    return figures(signal, dense=False)


def parsed(network: Dense) -> fi.Initializer:
    return fi.Initializer.parse(network.initializer)


# What is trained, by nothing of fastinit's but the weights at the start.


def start(network: Dense) -> list[Tensor]:
    """Return the weights of all layers, (in, out) or (out, in, 3, 3), and of a layer to classes."""
    channels, pixels = (1, 64) if network.image else (64, 1)
    rng = fi.default_rng(TRAINING_SEED)
    weights = []
    for layer in range(network.depth):
        kernel = (3, 3) if network.image else ()
        w = np.empty((*kernel, channels if layer == 0 else network.width, network.width))
        parsed(network).fill(w, rng=rng.stream(f"trained {layer}"))
        weights.append(torch.tensor(w.transpose(3, 2, 0, 1).copy() if network.image else w).float())
    head = torch.empty(pixels * network.width, CLASSES)
    nn.init.xavier_normal_(head)
    return [*weights, head, torch.zeros(CLASSES)]


def logits(network: Dense, weights: Sequence[Tensor], x: Tensor) -> Tensor:
    """Return what copies of a network, stacked along the first axis, make of the same digits.

    A layer is x_l = phi(norm(x W)), or x_l = x + phi(norm(x)) W.
    """
    phi, copies = TORCH[network.activation], len(weights[0])
    x = x.expand(copies, *x.shape)
    for weight in weights[:-2]:
        if network.residual and x.shape[2] == network.width:
            x = x + linear(phi(norm(network, x)), weight)
        else:
            x = phi(norm(network, linear(x, weight)))
    return torch.baddbmm(weights[-1][:, None], x.flatten(2), weights[-2])


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply (copies, samples, in), or convolve (copies, samples, in, height, width)."""
    if x.ndim == 3:
        return torch.bmm(x, weight)
    copies, samples = x.shape[:2]
    side_by_side = F.pad(x.transpose(0, 1).flatten(1, 2), (1, 1, 1, 1), mode="circular")
    y = F.conv2d(side_by_side, weight.flatten(0, 1), groups=copies)
    return y.reshape(samples, copies, -1, *y.shape[2:]).transpose(0, 1)


def norm(network: Dense, x: Tensor) -> Tensor:
    if not network.layer_norm:
        return x
    variance, mean = torch.var_mean(x, 2, keepdim=True, correction=0)
    return (x - mean) * torch.rsqrt(variance + 1e-5)


class Block(nn.Module):
    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        self.norm = norm
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (4, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        future = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).triu(1)
        weights = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(future, -math.inf).softmax(-1)
        y = weights @ v
        return self.out(y.transpose(1, 2).flatten(2))

    def mlp(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))

    def forward(self, x: Tensor) -> Tensor:
        for branch, norm in zip((self.attention, self.mlp), self.norms, strict=True):
            if self.norm == "before":
                x = x + branch(norm(x))
            elif self.norm == "after":
                x = norm(x + branch(x))
            else:
                x = x + branch(x)
        return x


class Decoder(nn.Module):
    def __init__(self, network: Transformer, characters: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, network.width)
        self.position = nn.Embedding(LENGTH, network.width)
        self.blocks = nn.ModuleList(
            [Block(network.width, network.norm) for _ in range(network.depth)]
        )
        self.last = nn.Identity() if network.norm == "none" else nn.LayerNorm(network.width)
        self.head = nn.Linear(network.width, characters)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                ends = name.split(".")[-2] in ("out", "down")
                nn.init.normal_(p, std=network.std * (network.branch if ends else 1.0))
            elif "norms" not in name and "last" not in name:
                nn.init.zeros_(p)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.position.weight
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x))


LENGTH = 32


def digits(image: bool) -> tuple[Tensor, Tensor]:
    data = load_digits()
    x = torch.tensor((data.data - data.data.mean()) / data.data.std()).float()[:SAMPLES]
    return x.reshape(-1, 1, 8, 8) if image else x, torch.tensor(data.target[:SAMPLES])


def characters() -> tuple[Tensor, Tensor, int, float]:
    """Return lines of text as numbers, what follows each, how many characters there are, and the
    entropy of their frequencies, which is the loss of whoever looks at no input."""
    sets = (load_digits, load_wine, load_breast_cancer, load_diabetes)
    text = "".join(load().DESCR for load in sets)
    letters = sorted(set(text))
    numbers = torch.tensor([letters.index(c) for c in text])
    lines = numbers[: len(numbers) // LENGTH * LENGTH].reshape(-1, LENGTH)[:8]
    x, y = lines, torch.roll(lines.flatten(), -1).reshape(lines.shape)
    frequency = np.array(list(Counter(y.flatten().tolist()).values())) / y.numel()
    return x, y, len(letters), float(-(frequency * np.log(frequency)).sum())


Loss = Callable[[list[Tensor]], Tensor]
"""From parameters, copies stacked along the first axis, to each copy's loss."""


def trained(weights: Sequence[Tensor], loss: Loss, guess: float) -> dict[str, Any]:
    """Return by rate the loss at the end over a guess's, for gradient descent and for Adam."""
    return {
        "sgd": ends(weights, loss, guess, RATES, adam=False),
        "adam": ends(weights, loss, guess, ADAM_RATES, adam=True),
    }


def ends(
    weights: Sequence[Tensor], loss: Loss, guess: float, rates: Sequence[float], adam: bool
) -> dict[str, float | None]:
    """Return by rate the mean of the last losses over a guess's; None if it is not finite.

    All rates train side by side, each a copy of the weights, until one has trained or none can.
    """
    copies = [w.expand(len(rates), *w.shape).clone().requires_grad_() for w in weights]
    steps = [torch.tensor(rates).reshape(-1, *[1] * w.ndim) for w in weights]
    m, v = ([torch.zeros_like(c) for c in copies] for _ in range(2))
    losses = np.empty((0, len(rates)))
    for t in range(1, STEPS + 1):
        value = loss(copies)
        losses = np.vstack([losses, value.detach().double().numpy() / guess])
        if over(losses):
            break
        gradients = torch.autograd.grad(value.sum(), copies, materialize_grads=True)
        with torch.no_grad():
            for i, (copy, gradient) in enumerate(zip(copies, gradients, strict=True)):
                if adam:  # D. P. Kingma, J. Ba, "Adam", ICLR 2015, algorithm 1
                    m[i] = 0.9 * m[i] + 0.1 * gradient
                    v[i] = 0.999 * v[i] + 0.001 * gradient**2
                    gradient = m[i] / (1 - 0.9**t) / ((v[i] / (1 - 0.999**t)).sqrt() + 1e-8)
                copy -= steps[i] * gradient
    return dict(zip(map(str, rates), finite(losses[-LAST:].mean(axis=0).tolist()), strict=True))


def over(losses: Any) -> bool:
    """Return whether more steps are not needed: one has trained, or nothing moves."""
    if len(losses) < STUCK:
        return bool(len(losses) >= LAST and losses[-LAST:].mean(axis=0).min() < ENOUGH)
    finite = losses[-STUCK:, np.isfinite(losses[-1])]
    return bool((np.ptp(finite, axis=0) < 1e-6).all() or finite[-LAST:].mean(axis=0).min() < ENOUGH)


def train_dense(n: int) -> dict[str, Any]:
    network = dense(n)
    x, y = digits(network.image)
    torch.manual_seed(TRAINING_SEED)

    def loss(copies: list[Tensor]) -> Tensor:
        z = logits(network, copies, x)
        return F.cross_entropy(z.transpose(1, 2), y.expand(len(z), -1), reduction="none").mean(1)

    return trained(start(network), loss, math.log(CLASSES))


def train_transformer(n: int) -> dict[str, Any]:
    x, y, letters, guess = characters()
    torch.manual_seed(TRAINING_SEED)
    model = Decoder(transformer(n), letters)
    names = [name for name, _ in model.named_parameters()]

    def one(parameters: tuple[Tensor, ...]) -> Tensor:
        z = functional_call(model, dict(zip(names, parameters, strict=True)), (x,))
        return F.cross_entropy(z.flatten(0, -2), y.flatten())

    start = [parameter.detach() for parameter in model.parameters()]
    return trained(start, lambda copies: torch.vmap(one)(tuple(copies)), guess)


Task = Callable[[int], dict[str, Any]]
DRAWN = {"dense": dense, "transformer": transformer}
TRAIN: dict[str, Task] = {"dense": train_dense, "transformer": train_transformer}
PROBE: dict[str, Task] = {"dense": probe_dense, "transformer": probe_transformer}


def train(networks: int, transformers: int, seconds: float) -> None:
    """Train what has not been trained yet, for so many seconds."""
    plan = [("dense", n) for n in range(networks)]
    for n in range(transformers):  # in between, so that a part of the run has both
        plan.insert(n * (networks // max(1, transformers) + 1), ("transformer", n))
    add(TRAININGS, [key for key in plan if key not in records(TRAININGS)], TRAIN, seconds)


def probe() -> None:
    """Probe anew what has been trained."""
    PROBES.unlink(missing_ok=True)
    add(PROBES, sorted(records(TRAININGS)), PROBE, math.inf)


def add(path: Path, keys: Sequence[Key], tasks: dict[str, Task], seconds: float) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # what vanishes would be subnormal, and slow
    end = time.monotonic() + seconds
    with path.open("a") as file:
        for family, n in keys:
            if time.monotonic() > end:
                return
            found = {"family": family, "n": n, "network": asdict(DRAWN[family](n))}
            file.write(json.dumps(found | tasks[family](n)) + "\n")
            file.flush()


def records(path: Path) -> dict[Key, dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {(r["family"], r["n"]): r for r in map(json.loads, lines)}


KINDS = ("healthy", "growing", "vanishing", "exploding", "symmetric")
BEGIN, END = "<!-- verdicts -->\n", "<!-- end of verdicts -->\n"


def has_trained(ends: dict[str, float | None]) -> bool:
    """Return whether the loss fell at one of the learning rates."""
    return any(end is not None and end < TRAINED for end in ends.values())


class Outcome(NamedTuple):
    """A network, its verdict, and who trained it."""

    key: Key
    network: dict[str, Any]
    kind: str
    plain: bool
    adam: bool

    @property
    def clear(self) -> bool:
        return self.kind != "growing"

    @property
    def right(self) -> bool:
        return self.clear and self.plain == (self.kind == "healthy")


def outcomes() -> list[Outcome]:
    trainings, probes = records(TRAININGS), records(PROBES)
    return [
        Outcome(
            key, r["network"], judged(probes[key]), *(has_trained(r[h]) for h in ("sgd", "adam"))
        )
        for key, r in sorted(trainings.items())
        if key in probes
    ]


GROUPS: dict[str, Callable[[Outcome], bool]] = {
    "thresholds chosen on these": lambda o: o.key[0] == "dense" and o.key[1] not in HELD_OUT,
    "held out": lambda o: o.key[0] == "dense" and o.key[1] in HELD_OUT,
    "transformers": lambda o: o.key[0] == "transformer",
}

KINDS_OF_NETWORK: dict[str, Callable[[dict[str, Any]], bool]] = {
    "plain": lambda n: not n["residual"] and not n["layer_norm"],
    "LayerNorm": lambda n: not n["residual"] and n["layer_norm"],
    "skip connections": lambda n: n["residual"] and not n["layer_norm"],
    "both": lambda n: n["residual"] and n["layer_norm"],
}


def table(found: Sequence[Outcome]) -> str:
    """Return how many networks of each verdict trained, and what was forgiven."""
    lines = []
    for title, belongs in GROUPS.items():
        these = [o for o in found if belongs(o)]
        clear = sum(o.clear for o in these)
        right = sum(o.right for o in these)
        lines += [
            f"**{title}**: {len(these)} networks, {clear} of them with a clear verdict, which is "
            f"right for {right} ({right / max(1, clear):.1%}).",
            "",
            "| verdict | networks | trained by gradient descent | trained by Adam |",
            "| --- | --- | --- | --- |",
            *(row(kind, [o for o in these if o.kind == kind]) for kind in KINDS),
            "",
        ]
    lines += [
        "What Adam, skip connections and LayerNorm forgive, of the dense networks:",
        "",
        "| network | not healthy | trained by gradient descent | trained by Adam |",
        "| --- | --- | --- | --- |",
    ]
    ill = [o for o in found if o.key[0] == "dense" and o.kind != "healthy"]
    lines += [row(name, [o for o in ill if of(o.network)]) for name, of in KINDS_OF_NETWORK.items()]
    return "\n".join(lines) + "\n"


def row(name: str, these: Sequence[Outcome]) -> str:
    plain, adam = sum(o.plain for o in these), sum(o.adam for o in these)
    return f"| {name} | {len(these)} | {plain} | {adam} |"


def wrong(found: Sequence[Outcome]) -> None:
    """Print the networks whose clear verdict was wrong."""
    for o in found:
        if o.clear and not o.right:
            print(*o.key, o.kind, "trained" if o.plain else "not trained", o.network)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "probe", "table", "wrong"])
    parser.add_argument("--networks", type=int, default=600)
    parser.add_argument("--transformers", type=int, default=54)
    parser.add_argument("--seconds", type=float, default=math.inf, help="of training, at most")
    a = parser.parse_args()
    if a.what == "train":
        train(a.networks, a.transformers, a.seconds)
    elif a.what == "probe":
        probe()
    elif a.what == "wrong":
        wrong(outcomes())
    else:
        text = PAGE.read_text("utf-8")
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}{table(outcomes())}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
