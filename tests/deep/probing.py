"""Memory and time of probing models that do not fit: docs/large-models.md, its plot.

    python tests/deep/probing.py memory              # peak memory over the number of layers
    python tests/deep/probing.py time config.json    # drawing beside computing alone
    python tests/deep/probing.py plot

`memory` runs each model in a process of its own, once probed and once held whole. `time` runs two
blocks, their embedding and output layer, with weights that are drawn at each use, and with weights
that are drawn once and kept; the turns alternate, and the best of each counts.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import fastinit.torch
from fastinit.torch import _configs, _drawing

RESULTS = Path(__file__).parent / "results" / "probing.json"
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "probe-memory.png"
LAYERS = (2, 4, 8, 16, 32)
WIDTH, TOKENS = 768, 64


class Block(nn.Module):
    """A transformer's perceptron, as wide as GPT-2's."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(self.up(x)))


def peak(layers: int, whole: bool) -> float:
    """Return the largest memory of this process in GB, after a pass forward and back."""
    torch.set_num_threads(2)
    with fastinit.torch.deferred():
        model = nn.Sequential(*[Block() for _ in range(layers)])
    x = torch.randn(TOKENS, WIDTH)
    if whole:
        fastinit.torch.initialize(model, 0)
        model(x).square().mean().backward()
    else:
        fastinit.torch.probe(model, x, lambda y: y.square().mean())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def memory() -> None:
    found: dict[str, dict[str, float]] = {"probed": {}, "whole": {}}
    for layers in LAYERS:
        for name in found:
            command = [sys.executable, __file__, "peak", str(layers), name]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found[name][str(layers)] = round(float(out), 3)
    record({"memory": found})


@contextmanager
def kept() -> Iterator[None]:
    """Within the context a block of shapes that were drawn before takes what is in its memory."""
    drawn: set[tuple[object, ...]] = set()
    fill, rows = _drawing.Weights._fill, _drawing.Cut.rows

    def once(self: _drawing.Weights, names: list[str]) -> None:
        shapes = tuple(self._places[name][0][2].shape for name in names)
        if shapes not in drawn:
            drawn.add(shapes)
            fill(self, names)

    def cut_once(self: _drawing.Cut) -> Iterator[tuple[int, int, Tensor]]:
        if not self.weight.count:
            yield from rows(self)
            return
        part = torch.full((min(self._length, self.shape[0]), *self.shape[1:]), 0.01)
        for first, last in self.bounds():
            yield first, last, part[: last - first].to(self.meta.dtype)

    with (
        patch.object(_drawing.Weights, "_fill", once),
        patch.object(_drawing.Cut, "rows", cut_once),
    ):
        yield


def seconds(path: Path, dtype: str, turns: int) -> None:
    torch.set_num_threads(2)
    model = _configs.model_of(path, dtype)
    batch = _configs.batch_for(model, 128, 1, 0)
    best = {"drawn": float("inf"), "kept": float("inf")}

    def run() -> float:
        start = time.perf_counter()
        fastinit.torch.probe(model, batch, _configs.loss_of, layers=slice(0, 2))
        return time.perf_counter() - start

    for _ in range(turns):
        best["drawn"] = min(best["drawn"], run())
        with kept():
            best["kept"] = min(best["kept"], run())
        print(best, f"{best['drawn'] / best['kept']:.3f}", flush=True)
    record({"time": {"model": type(model).__name__, "dtype": dtype, **best}})


def record(found: dict[str, object]) -> None:
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(before | found, indent=1) + "\n")


def plot() -> None:
    found = json.loads(RESULTS.read_text())["memory"]
    figure = Figure((7, 4), layout="constrained", dpi=120)
    axes = figure.subplots()
    for name, label, marker in (
        ("whole", "held whole", "s"),
        ("probed", "drawn when it is used", "o"),
    ):
        layers = [int(layer) for layer in found[name]]
        axes.plot(layers, list(found[name].values()), marker=marker, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(LAYERS, [str(layer) for layer in LAYERS])
    axes.set_ylim(0)
    axes.set_xlabel("blocks (4.7 million weights each, float32)")
    axes.set_ylabel("peak memory of the process (GB)")
    axes.set_title("A pass forward and back")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["memory", "time", "plot", "peak"])
    parser.add_argument("more", nargs="*")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--turns", type=int, default=3)
    a = parser.parse_args()
    warnings.simplefilter("ignore")
    if a.what == "peak":
        print(peak(int(a.more[0]), a.more[1] == "whole"))
    elif a.what == "time":
        seconds(Path(a.more[0]), a.dtype, a.turns)
    else:
        {"memory": memory, "plot": plot}[a.what]()


if __name__ == "__main__":
    main()
