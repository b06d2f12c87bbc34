"""Making torch's own initialisation fast, without a change to whoever calls it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from fastinit import random
from fastinit.torch._fills import Fills, truncated_overridable
from fastinit.torch._operators import leaves_of
from fastinit.torch._private import TorchDispatchMode
from fastinit.torch._tensor import RandomSource, generator_of, is_plain, torchs_generator

_CPU = torch.device("cpu")

# PyTorch's default generator is one for all threads.
_lock = threading.Lock()


class _Seeded(TorchDispatchMode):
    """Within this mode, what its thread's torch draws itself on the CPU follows from a generator.

    Operators without an argument for a generator draw from the default one, which is in our state
    for so long. An explicit generator of torch's stays as it is.
    """

    def __init__(self, rng: random.Generator) -> None:
        super().__init__()
        self._rng = rng
        self._generator: torch.Generator | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator; one that draws, from our generator."""
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator"):
            return func(*args, **kwargs)
        tensors = leaves_of(torch.Tensor, (args, kwargs))
        device = kwargs.get("device") or _CPU
        if device.type != "cpu" or not all(is_plain(x) and x.is_cpu for x in tensors):
            return func(*args, **kwargs)
        if self._generator is None:  # only now: other fills keep their indices
            self._generator = torchs_generator(self._rng, _CPU)
            assert self._generator is not None
        with _lock:
            before = torch.default_generator.get_state()
            torch.default_generator.set_state(self._generator.get_state())
            try:
                return func(*args, **kwargs)
            finally:
                self._generator.set_state(torch.default_generator.get_state())
                torch.default_generator.set_state(before)


@contextmanager
def accelerate(seed: RandomSource = None) -> Iterator[None]:
    """Within the context, this thread's torch fills tensors at fastinit's speed.

    Whoever calls `torch.nn.init`, `Tensor.normal_` or `Tensor.uniform_`, by whatever name
    it imported them (transformers, timm), gets fastinit's values of the same distribution.
    What fastinit cannot fill (sparse tensors, complex numbers) torch draws, with a warning; this,
    and all else that torch draws itself (`torch.randn`, `randperm`), follows from the seed too,
    on the CPU. An explicit `torch.Generator` gives torch's values, and so does code within a
    transform (`torch.vmap`) or compiled by `torch.compile`. A weight that is filled anew before
    anyone looks at it is filled once.

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
    rng = None if seed is None else generator_of(seed)
    fills = Fills(rng)
    with ExitStack() as stack:
        stack.callback(fills.settle)
        stack.enter_context(truncated_overridable())
        if rng is not None:
            stack.enter_context(_Seeded(rng))
        stack.enter_context(fills)
        yield
