"""Puts the probe's verdict to the test: random networks are probed, then trained by PyTorch.

    python tests/deep/verdicts.py run --networks 600 --transformers 60
    python tests/deep/verdicts.py table

Network n is drawn from the seed n, so that a run that is cut off goes on where it ended.  What was
measured, and how each training ended, is appended to tests/deep/results/verdicts.jsonl; `table`
writes the confusion matrix of it into docs/validation.md.
"""

import argparse
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812  PyTorch's own habit

import fastinit as fi
from fastinit import diagnostics

RESULTS = Path(__file__).parent / "results" / "verdicts.jsonl"
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


# What is measured.


def measured_dense(network: Dense) -> dict[str, Any]:
    channels = 1 if network.image else 64
    found = diagnostics.probe(
        [channels] + [network.width] * network.depth,
        network.activation,
        network.initializer,
        residual=network.residual,
        layer_norm=network.layer_norm,
        image=(8, 8) if network.image else None,
        batch=64,
        spectrum=False,
    )
    (signal,) = found
    layers = found.setting.network(found.setting.weights(parsed(network), fi.default_rng(0)))
    x = (
        fi.default_rng(0)
        .stream("batch")
        .standard_normal((64, *((8, 8) if network.image else ()), channels))
    )
    with np.errstate(all="ignore"):
        apart = [x - x.mean(0), *(p.output - p.output.mean(0) for p in layers.forward(x))]
        differences = [float(a.std()) for a in apart]
    return numbers(signal) | {"differences": finite(differences)}


def numbers(signal: Any) -> dict[str, Any]:
    return {
        "kind": signal.verdict.kind,
        "std": [finite(seed) for seed in signal.std.tolist()],
        "gradient": [finite(seed) for seed in signal.gradient.tolist()],
    }


def finite(values: Sequence[float]) -> list[float | None]:
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values]


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
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
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


def run_dense(n: int) -> dict[str, Any]:
    network = dense(n)
    x, y = digits(network.image)
    found = measured_dense(network)
    torch.manual_seed(TRAINING_SEED)

    def loss(copies: list[Tensor]) -> Tensor:
        z = logits(network, copies, x)
        return F.cross_entropy(z.transpose(1, 2), y.expand(len(z), -1), reduction="none").mean(1)

    ends = trained(start(network), loss, math.log(CLASSES))
    return {"family": "dense", "n": n, "network": asdict(network), **found, **ends}


def run_transformer(n: int) -> dict[str, Any]:
    import fastinit.torch

    network = transformer(n)
    x, y, letters, guess = characters()
    torch.manual_seed(0)
    (signal,) = fastinit.torch.probe(
        Decoder(network, letters),
        x[:8],
        lambda z: F.cross_entropy(z.flatten(0, -2), y[:8].flatten()),
    )
    torch.manual_seed(TRAINING_SEED)
    model = Decoder(network, letters)
    names = [name for name, _ in model.named_parameters()]

    def one(parameters: tuple[Tensor, ...]) -> Tensor:
        z = functional_call(model, dict(zip(names, parameters, strict=True)), (x,))
        return F.cross_entropy(z.flatten(0, -2), y.flatten())

    start = [parameter.detach() for parameter in model.parameters()]
    ends = trained(start, lambda copies: torch.vmap(one)(tuple(copies)), guess)
    return {
        "family": "transformer", "n": n, "network": asdict(network), **numbers(signal), **ends,
    }  # fmt: skip


def run(networks: int, transformers: int, path: Path) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # what vanishes would be subnormal, and slow
    done = {(r["family"], r["n"]) for r in records(path)}
    plan: list[tuple[Any, str, int]] = [(run_dense, "dense", n) for n in range(networks)]
    for n in range(transformers):  # in between, so that a part of the run has both
        plan.insert(n * (networks // max(1, transformers) + 1), (run_transformer, "transformer", n))
    with path.open("a") as file:
        for task, family, n in plan:
            if (family, n) not in done:
                file.write(json.dumps(task(n)) + "\n")
                file.flush()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


KINDS = ("healthy", "growing", "vanishing", "exploding", "symmetric")
BEGIN, END = "<!-- verdicts -->\n", "<!-- end of verdicts -->\n"


def has_trained(ends: dict[str, float | None]) -> bool:
    """Return whether the loss fell at one of the learning rates."""
    return any(end is not None and end < TRAINED for end in ends.values())


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return how many networks of each verdict trained."""
    lines = ["| verdict | networks | trained by gradient descent | trained by Adam |"]
    lines.append("| --- | --- | --- | --- |")
    for kind in KINDS:
        these = [r for r in found if r["kind"] == kind]
        plain, adam = (sum(has_trained(r[how]) for r in these) for how in ("sgd", "adam"))
        lines.append(f"| {kind} | {len(these)} | {plain} | {adam} |")
    clear = [r for r in found if r["kind"] != "growing"]
    right = sum(has_trained(r["sgd"]) == (r["kind"] == "healthy") for r in clear)
    transformers = sum(r["family"] == "transformer" for r in found)
    lines += [
        "",
        f"{len(found)} networks, {transformers} of them transformers. Right on {right} of "
        f"{len(clear)} clear verdicts ({right / len(clear):.0%}).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--networks", type=int, default=600)
    parser.add_argument("--transformers", type=int, default=60)
    parser.add_argument("--results", type=Path, default=RESULTS)
    a = parser.parse_args()
    if a.what == "run":
        run(a.networks, a.transformers, a.results)
        return
    text = PAGE.read_text("utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}{table(records(a.results))}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
