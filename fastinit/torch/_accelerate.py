"""Making torch's own initialisation fast, without a change to whoever calls it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fastinit.torch._fills import Fills, overridable
from fastinit.torch._tensor import Generator, generator_of

# The truncated normals that no mode can take over: each is found here by its callers.
_TRUNCATED = (
    ("torch.nn.init", "_no_grad_trunc_normal_"),
    ("timm.layers.weight_init", "_trunc_normal_"),
)

_lock = threading.Lock()
_within = 0
_originals: list[tuple[Any, str, Callable[..., Any]]] = []


@contextmanager
def truncated_overridable() -> Iterator[None]:
    """Let modes take over truncated normals, until the last thread in here leaves.

    For threads without a mode nothing changes: they get the original.
    """
    global _within
    with _lock:
        if _within == 0:
            for module, name in _TRUNCATED:
                if module in sys.modules:
                    original = getattr(sys.modules[module], name)
                    _originals.append((sys.modules[module], name, original))
                    setattr(sys.modules[module], name, partial(overridable, original))
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            while _within == 0 and _originals:
                setattr(*_originals.pop())


@contextmanager
def taking_over(fills: Fills) -> Iterator[None]:
    """Within the context, this thread's random fills are those of a mode."""
    try:
        with truncated_overridable(), fills:
            yield
    finally:
        fills.settle()


@contextmanager
def accelerate(seed: Generator = None) -> Iterator[None]:
    """Within the context, this thread's torch fills tensors at fastinit's speed.

    Whoever calls `torch.nn.init`, `Tensor.normal_` or `Tensor.uniform_`, by whatever name
    it imported them (transformers, timm), gets fastinit's values of the same distribution;
    what fastinit cannot fill (other devices, complex numbers) stays torch's. A weight that
    is filled anew before anyone looks at it is filled once.

    Nothing of torch is replaced, so nothing can stay so: other threads, and this one
    outside, see torch as it is.

    Parameters
    ----------
    seed : int, torch.Generator, fastinit.Generator, or None
        As in `fastinit.torch.uniform_`. Values follow the order of the calls, as torch's
        do; `initialize` gives each parameter its own. None: torch's default generator, so
        that `torch.manual_seed` decides.

    Raises
    ------
    TypeError, ValueError
        If `seed` is none.

    Examples
    --------
    >>> with accelerate(seed=0):
    ...     layer = torch.nn.Linear(1000, 1000)
    >>> bool(layer.weight.abs().max() <= 1000**-0.5)
    True
    """
    with taking_over(Fills(None if seed is None else generator_of(seed))):
        yield
