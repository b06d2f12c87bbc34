"""`fastinit.jax` against `jax.nn.initializers`, as users call them: each array is new.

``python -m pytest bench/test_jax.py``; in parentheses are the ratios to the fastest.
"""

import importlib

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

jax = pytest.importorskip("jax")
ours = importlib.import_module("fastinit.jax")

WHO = {"jax": jax.nn.initializers, "fastinit": ours}
INITIALIZERS = ["normal", "uniform", "truncated_normal", "he_normal"]


@pytest.mark.parametrize("side", [64, 8192], ids=lambda n: f"{n:04}^2")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", INITIALIZERS)
def test_fill(
    name: str, who: str, jit: bool, dtype: str, side: int, benchmark: BenchmarkFixture
) -> None:
    init = getattr(WHO[who], name)()
    key, shape = jax.random.key(0), (side, side)
    call = jax.jit(init, static_argnums=(1, 2)) if jit else init
    benchmark.group = f"{name}, {dtype}, {side}^2 elements"
    benchmark.pedantic(
        lambda: call(key, shape, dtype).block_until_ready(),
        rounds=5 if side > 64 else 200,
        warmup_rounds=1,
    )
