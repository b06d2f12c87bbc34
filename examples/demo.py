"""The demo's second half: speed beside NumPy, and a look at the GPT-2 that was just written.

python examples/demo.py build/gpt2/model.safetensors
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from safetensors import safe_open

import fastinit as fi
from fastinit import recipe

N = 2**26
TENSORS = (
    "transformer.wte.weight",
    "transformer.wpe.weight",
    "transformer.h.0.attn.c_attn.weight",
    "transformer.h.0.attn.c_proj.weight",
    "transformer.h.11.mlp.c_proj.weight",
    "transformer.h.11.mlp.c_proj.bias",
    "transformer.ln_f.weight",
)


def nanoseconds(fill: Callable[[], object]) -> float:
    """Return the best of five times for one of N elements."""
    times = []
    for _ in range(5):
        start = perf_counter()
        fill()
        times.append(perf_counter() - start)
    return min(times) / N * 1e9


def compare() -> None:
    """Print the time of in-place fills, NumPy's and ours."""
    x = np.ones(N, np.float32)  # touched: no page is met for the first time below
    numpy, ours = np.random.default_rng(1), fi.default_rng(1)
    everything = f"fastinit, {fi.get_num_threads()} threads"
    rows = {
        "NumPy's standard_normal(out=)": lambda: numpy.standard_normal(out=x, dtype=np.float32),
        "fastinit, 1 thread": lambda: fi.normal_(x, rng=ours, threads=1),
        everything: lambda: fi.normal_(x, rng=ours),
        "memory-write limit": lambda: fi.constant_(x, 0.5),
    }
    print(f"\n{N:,} float32 normals in place, {fi.info()['isa']}")
    times = {label: nanoseconds(fill) for label, fill in rows.items()}
    for label, time in times.items():
        ratio = times["NumPy's standard_normal(out=)"] / time
        print(f"  {label:<30} {time:6.2f} ns each {ratio:7.1f} x NumPy")


def look(path: Path) -> None:
    """Print what some tensors should be, what they are, and the shape of one."""
    rules = {tensor.name: rule for tensor, rule in recipe.load("gpt2").plan()}
    print(f"\n{path}\n  {'tensor':<36} {'rule':<22} {'mean':>9} {'std':>8} {'expected':>8}")
    with safe_open(path, "numpy") as file:
        for name in TENSORS:
            x, rule = file.get_tensor(name), rules[name]
            expected = rule.initializer.arguments.get("std", 0.0)
            print(f"  {name:<36} {rule!s:<22} {x.mean():9.6f} {x.std():8.5f} {expected:8.5f}")
        std = rules[TENSORS[0]].initializer.arguments["std"]
        histogram(TENSORS[0], file.get_tensor(TENSORS[0]) / std)


def histogram(name: str, z: np.ndarray) -> None:
    """Print counts of standard normals beside what the normal distribution says."""
    edges = np.linspace(-4, 4, 17)
    counts, _ = np.histogram(z, edges)
    cdf = [0.5 * math.erfc(-edge / math.sqrt(2)) for edge in edges]
    print(f"\n{name} in standard deviations: counted, and expected")
    for low, count, expected in zip(edges, counts, np.diff(cdf) * z.size, strict=False):
        bar = "#" * round(50 * count / counts.max())
        print(f"  {low:+.1f} {count:>10,} {expected:>12,.0f}  {bar}")


if __name__ == "__main__":
    compare()
    look(Path(sys.argv[1]))
