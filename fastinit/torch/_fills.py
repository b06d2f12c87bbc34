"""Taking over a thread's random fills, and putting them off until someone looks.

A model's constructor fills most weights twice: each layer by its own rule, then the model by
its. A fill that waits until its tensor is looked at is simply replaced by the next one, so
that a weight is drawn once, and cold memory touched once. The values are those of fills done
at once: each has its key and position from the call.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function_unary

from fastinit._arguments import Shape
from fastinit._distributions import Distribution
from fastinit._fill import FloatFormat, params_in
from fastinit._kernels import Cursor
from fastinit.torch import init
from fastinit.torch._devices import advise_huge, has_memory
from fastinit.torch._private import TRUNCATED, in_functorch, tree_leaves
from fastinit.torch._tensor import (
    RandomSource,
    cursor,
    fill,
    known_dtype,
    local_of,
    say_torchs,
    storage_of,
)


def overridable(original: Callable[..., Any], tensor: torch.Tensor, *args: Any, **kw: Any) -> Any:
    """Call a truncated normal so that modes can take it over, as they can the other fills."""
    if has_torch_function_unary(tensor):
        return handle_torch_function(overridable, (tensor,), original, tensor, *args, **kw)
    return original(tensor, *args, **kw)


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
            for module, name in TRUNCATED:
                if module in sys.modules:
                    original = getattr(sys.modules[module], name, None)
                    if original is None:
                        say_torchs(f"truncated normals of this version of {module}")
                        continue
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


def _uniform_(tensor: torch.Tensor, *bounds: float, **named: Any) -> torch.Tensor:
    """`Tensor.uniform_`, whose bounds are called from and to."""
    return init.uniform_(
        tensor, *bounds, **{{"from": "a", "to": "b"}.get(k, k): v for k, v in named.items()}
    )


_METHODS: dict[Any, Callable[..., torch.Tensor]] = {
    torch.Tensor.uniform_: _uniform_,
    torch.Tensor.normal_: init.normal_,
}
# Those of torch.nn.init that modes can take over. By name, since transformers puts others in
# their place for a while, and torch then hands out these.
FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "uniform_": init.uniform_,
    "normal_": init.normal_,
    "kaiming_uniform_": init.kaiming_uniform_,
    "overridable": lambda _, *args, **kw: init.trunc_normal_(*args, **kw),
}


def ours_of(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[..., torch.Tensor] | None:
    """Return our function for one of torch's, if it fills a tensor as one of ours does.

    An explicit generator of torch's stays torch's: some models draw what they do not save from
    one, and again when they are loaded.
    """
    ours = _METHODS.get(func)
    if ours is None:
        ours = FUNCTIONS.get(func.__name__) if isinstance(func, FunctionType) else None
    elif torch.is_grad_enabled() and args[0].requires_grad:
        return None  # torch has something to refuse, or to record
    if ours is None or any(type(x) is torch.Generator for x in (*args, *kwargs.values())):
        return None
    return ours


# Calls that tell nothing of a tensor's values. `__get__` is every attribute's getter.
_BLIND = {
    "__get__",
    "__len__",
    "detach",
    "dim",
    "element_size",
    "is_complex",
    "is_contiguous",
    "is_floating_point",
    "ndimension",
    "nelement",
    "numel",
    "requires_grad_",
    "size",
    "stride",
}


class _Fill(NamedTuple):
    """A fill that waits, with all that it needs."""

    tensor: torch.Tensor
    dtype: FloatFormat
    distribution: Distribution
    rng: Cursor

    def do(self) -> None:
        """Fill; mostly this is the first touch of the memory.

        Memory that was given back meanwhile, by a call that we did not see, needs no values.
        """
        local = local_of(self.tensor)
        if not has_memory(local):
            return
        advise_huge(local)
        fill(*self)


class Fills(TorchFunctionMode):
    """Within this mode its thread's random fills are fastinit's, and wait where they can.

    They wait for `settle`, which whoever leaves the mode has to call.
    """

    def __init__(self, generator: RandomSource) -> None:
        super().__init__()
        self._generator = generator
        self._waiting: dict[int | None, _Fill] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take over a call of torch's, made by anyone in this thread."""
        kwargs = kwargs or {}
        if in_functorch() or torch.compiler.is_compiling():
            self.settle()
            return func(*args, **kwargs)  # a transform's tensors have no memory of their own
        if func is init.draw:
            return self.draw(*args)
        ours = ours_of(func, args, kwargs)
        if ours is not None:
            with self:  # ends in a call of init.draw
                return ours(*args, **kwargs)
        if self._waiting and getattr(func, "__name__", "") not in _BLIND:
            self._settle(tree_leaves((args, kwargs)))
        return func(*args, **kwargs)

    def draw(
        self,
        tensor: torch.Tensor,
        kind: init.Kind,
        params: tuple[float, ...],
        generator: RandomSource | Cursor,
        global_shape: Shape | None = None,
        offset: Shape | None = None,
    ) -> torch.Tensor:
        """Fill a tensor, later if nobody can look at its memory without our notice."""
        generator = self._generator if generator is None else generator
        dtype = known_dtype(tensor)
        whole = global_shape is None and offset is None
        if dtype is None or not whole or not _may_wait(local_of(tensor)):
            self._settle([tensor])
            return init.draw(tensor, kind, params, generator, global_shape, offset)
        rng = cursor(generator)
        try:
            distribution = kind.distribution(*params)
            params_in(distribution, dtype)
        except (TypeError, ValueError):
            self._settle([tensor])
            return init.draw(tensor, kind, params, rng)  # for torch to refuse, or not
        later = Cursor(rng.key, rng.take(tensor.numel()))
        self._waiting[storage_of(tensor)] = _Fill(tensor.detach(), dtype, distribution, later)
        return tensor

    def _settle(self, values: Iterable[object]) -> None:
        """Do the fills that wait for any of the tensors among the values."""
        for value in values:
            if isinstance(value, torch.Tensor):
                storage = storage_of(value)
                if storage is None:  # a subclass, which may show any other's memory
                    self.settle()
                elif storage in self._waiting:
                    self._waiting.pop(storage).do()

    def settle(self) -> None:
        """Do all the fills that wait."""
        while self._waiting:
            _, waiting = self._waiting.popitem()
            waiting.do()


def _may_wait(local: torch.Tensor) -> bool:
    """Return whether a tensor is all that its memory holds, and only torch knows the memory.

    Whoever has an array or a storage of it reads, writes and frees it without a call that a mode
    sees. After `Tensor.numpy`, and if it came from elsewhere, a storage is not resizable.
    """
    storage = local.untyped_storage()
    whole = storage.nbytes() == local.numel() * local.itemsize and local.is_contiguous()
    torchs = storage.resizable() and not storage.is_shared()
    del storage
    return whole and torchs and _references(local) == _UNSHARED


def _references(local: torch.Tensor) -> int:
    """Return how many references there are to the Python object of a tensor's storage."""
    return sys.getrefcount(local.untyped_storage())


_UNSHARED = _references(torch.empty(1, device="cpu"))  # depends on torch's version
