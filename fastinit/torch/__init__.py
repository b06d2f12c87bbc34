"""PyTorch: `torch.nn.init`'s functions over fastinit's stream, and whole models by them.

`probe` says of any model whether it will train. To fill one there are three ways, and
docs/pytorch.md on when to use which:

- ``import fastinit.torch as init`` in place of ``from torch.nn import init``;
- ``with accelerate(seed=0):`` around code that makes a model, which stays as it is;
- ``initialize(model, seed=0)``: each parameter by its name, sharded models included.
"""

from fastinit.torch import init as _init
from fastinit.torch._accelerate import accelerate
from fastinit.torch._deferred import deferred
from fastinit.torch._initialize import initialize
from fastinit.torch._probe import probe
from fastinit.torch.init import *  # noqa: F403

__all__ = ["accelerate", "deferred", "initialize", "probe", *_init.__all__]
