"""The three ways to initialise PyTorch models with fastinit; see docs/pytorch.md."""

import math
import time
from collections.abc import Callable

import torch
from torch import nn

import fastinit.torch as init


class Layer(nn.Module):
    """A layer that initialises itself as PyTorch's authors suggest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the second matrix smaller, as there are many layers to add up."""
        nn.init.normal_(self.down.weight, std=0.02 / math.sqrt(24))


def model() -> nn.Module:
    """Return 100 million parameters."""
    return nn.Sequential(*(Layer(1024) for _ in range(12)))


def timed(what: str, make: Callable[[], nn.Module]) -> nn.Module:
    """Make a model, and say how long it took."""
    start = time.perf_counter()
    made = make()
    print(f"{what:32} {time.perf_counter() - start:.2f} s")
    return made


def accelerated() -> nn.Module:
    """Make the model as ever, but faster."""
    with init.accelerate(seed=0):
        return model()


def by_name() -> nn.Module:
    """Make the model without memory, and each parameter by its name."""
    with init.deferred():
        made = model()
    init.initialize(made, seed=0)
    return made


w = init.kaiming_uniform_(torch.empty(1024, 1024), a=math.sqrt(5), generator=0)
print(f"kaiming_uniform_: |w| <= {w.abs().max():.4f}")

timed("torch", model)
timed("with accelerate(seed=0)", accelerated)
one = timed("initialize(model, seed=0)", by_name)

two = by_name()
init.initialize(two, seed=1)
init.initialize(two, seed=0, only=["3.down.weight"])
print("3.down.weight alone anew:", torch.equal(two[3].down.weight, one[3].down.weight))
