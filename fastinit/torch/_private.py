"""Every private name of PyTorch's that fastinit uses, each with a way out if it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def modes_off() -> Iterator[None]:
    """Within the context, no mode of this thread takes over a call."""
    guards = ("DisableTorchFunction", "_DisableTorchDispatch")
    with ExitStack() as stack:
        for guard in guards:
            make = getattr(torch._C, guard, None)
            if make is not None:
                stack.enter_context(make())
        yield
