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


def in_functorch() -> bool:
    """Return whether a transform of functorch (`vmap`, `grad`) is at work in this thread.

    If PyTorch cannot tell, none is.
    """
    functorch = getattr(torch._C, "_functorch", None)
    peek = getattr(functorch, "peek_interpreter_stack", None)
    return peek is not None and peek() is not None
