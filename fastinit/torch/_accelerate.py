"""Making torch's own initialisation fast, without a change to whoever calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fastinit.torch._fills import Fills, truncated_overridable
from fastinit.torch._tensor import Generator, generator_of


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
    what fastinit cannot fill (sparse tensors, complex numbers) stays torch's, with a warning. A
    weight that is filled anew before anyone looks at it is filled once.

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
