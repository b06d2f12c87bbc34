"""Fills on a GPU beside PyTorch's, and beside storing a constant; skipped without one.

``python -m pytest bench/test_cuda.py --benchmark-group-by=group``
"""

from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU", allow_module_level=True)
import fastinit.torch as init  # noqa: E402

N = 1 << 28
FILLS = {
    "normal": (init.normal_, lambda w: w.normal_()),
    "uniform": (init.uniform_, lambda w: w.uniform_()),
    "truncated": (init.trunc_normal_, torch.nn.init.trunc_normal_),
}


@pytest.mark.parametrize("who", ["fastinit", "pytorch", "constant"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("distribution", FILLS)
def test_fill(benchmark: Any, distribution: str, dtype: str, who: str) -> None:
    benchmark.group = f"{distribution} {dtype}"
    w = torch.empty(N, dtype=getattr(torch, dtype), device="cuda")
    ours, theirs = FILLS[distribution]
    fill = {"fastinit": ours, "pytorch": theirs, "constant": lambda w: w.fill_(1.0)}[who]

    def run() -> None:
        fill(w)
        torch.cuda.synchronize()

    run()
    benchmark(run)
