"""`fastinit.torch` against `torch.nn.init`, and the start of a model of 1.1 billion parameters.

``python -m pytest bench/test_torch.py``; in parentheses are the ratios to the fastest. Fills
are of touched memory. A model's memory is new: the system hands out pages that are zeroed on
first touch, which may take longer than all fills, and varies from run to run.
"""

import importlib
import os
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

torch = pytest.importorskip("torch")
ours = importlib.import_module("fastinit.torch")
pytestmark = pytest.mark.filterwarnings("ignore")

FILLS: dict[str, tuple[str, str]] = {
    "normal": ("normal_", "float32"),
    "normal, bfloat16": ("normal_", "bfloat16"),
    "uniform": ("uniform_", "float32"),
    "kaiming uniform": ("kaiming_uniform_", "float32"),
    "truncated normal": ("trunc_normal_", "float32"),
    "truncated normal, bfloat16": ("trunc_normal_", "bfloat16"),
}
WHO = {"torch": torch.nn.init, "fastinit": ours}


@pytest.mark.parametrize("side", [8, 1024, 8192], ids=lambda n: f"{n:04}^2")
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("fill", FILLS)
def test_fill(fill: str, who: str, side: int, benchmark: BenchmarkFixture) -> None:
    name, dtype = FILLS[fill]
    w = torch.nn.Parameter(torch.ones(side, side, dtype=getattr(torch, dtype)))
    benchmark.group = f"{fill}, {side}^2 elements"
    if side < 1024:
        benchmark(getattr(WHO[who], name), w)
    else:
        benchmark.pedantic(getattr(WHO[who], name), (w,), rounds=5, warmup_rounds=1)


def llama() -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        vocab_size=32000,
    )
    return lambda: transformers.AutoModelForCausalLM.from_config(config)


def accelerated(make: Callable[[], Any]) -> Any:
    with ours.accelerate(seed=0):
        return make()


def initialized(make: Callable[[], Any]) -> Any:
    with torch.device("meta"):
        model = make()
    ours.initialize(model, seed=0)
    return model


STARTS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "torch": lambda make: make(),
    "accelerate()": accelerated,
    "initialize()": initialized,
}


@pytest.mark.parametrize("start", STARTS)
def test_llama_of_a_billion(start: str, benchmark: BenchmarkFixture) -> None:
    make = llama()
    benchmark.group = "from_config, 1.1 billion float32 parameters"
    benchmark.pedantic(STARTS[start], (make,), rounds=5, warmup_rounds=1)
