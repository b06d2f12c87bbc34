"""`deferred`: a model is built without its memory, and carries notes of what its author did.

Each module keeps the notes of its own tensors, so that they are found again whatever happens to
the model after: it is moved, cast, wrapped, sharded, copied, or taken apart into stages.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils.hooks import RemovableHandle

from fastinit.torch._noting import noting
from fastinit.torch._private import buffers_of, parameters_of, storage_number, version
from fastinit.torch._tape import Tape, View
from fastinit.torch._tensor import is_plain


class Note(NamedTuple):
    """Which calls a tensor of a module is the result of."""

    tape: Tape
    view: View
    version: int


class Notes:
    """The notes of a module's own tensors, by the key that the module keeps them under.

    Copies of the module have the same, and know that they are copies, whose tensors are others; a
    file has none.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, Note] = {}
        self.buffers: dict[str, Note] = {}
        self.others: dict[str, Note] = {}
        self.copied = False

    def __deepcopy__(self, memo: Any) -> Notes:
        notes = Notes()
        notes.__dict__ |= self.__dict__ | {"copied": True}
        return notes

    def __reduce__(self) -> tuple[Any, ...]:
        return Notes, ()


_KEY = "_fastinit_notes"


def notes_of(module: nn.Module) -> Notes:
    """Return what was noted of a module's own tensors."""
    notes = module.__dict__.get(_KEY)
    return notes if isinstance(notes, Notes) else Notes()


def keep(module: nn.Module, kind: str, key: str, note: Note) -> None:
    """Leave a note of one tensor with its module, for the next time that it is asked for.

    It was taken of another model's tensor.
    """
    notes = module.__dict__.setdefault(_KEY, Notes())
    notes.copied = True
    getattr(notes, kind)[key] = note


@contextmanager
def deferred() -> Iterator[None]:
    """Within the context, a model is built without its memory; `initialize` draws it.

    The model is on the meta device, and every fill, constant, copy and assignment that its
    author's code does to a parameter or buffer is noted, whoever does it: a constructor, a
    helper, a loop over `named_parameters`. `initialize` then does what was noted last, each
    tensor by its name. What is computed (a table of frequencies, an orthogonal matrix) is
    computed by the author's own calls, on the CPU.

    Code within sees tensors that say they are on the CPU, and may read values: what they
    depend on is computed for it. A value that it draws and then reads follows
    `torch.manual_seed`, with a warning.

    Yields
    ------
    None

    Notes
    -----
    It belongs to its thread, and it replaces nothing of PyTorch, but for truncated normals,
    which become visible to it, as within `accelerate`. Move, wrap, or shard the model after it:
    ``model.to(torch.bfloat16)``, ``fully_shard(model)``. What is written between the context and
    `initialize` finds no memory and is lost; `initialize` warns of it where it can see it, which
    is not so for what was written through ``.data``. An explicit `torch.Generator` gives the
    values that it gives without fastinit.

    Examples
    --------
    >>> with deferred():
    ...     layer = torch.nn.Linear(3, 4)
    ...     layer.bias.data[:] = 0.5
    >>> layer.weight.is_meta
    True
    >>> initialize(layer, seed=0)
    []
    >>> layer.bias
    Parameter containing:
    tensor([0.5000, 0.5000, 0.5000, 0.5000], requires_grad=True)
    """
    if _active.within:  # noted by the outer one
        yield
        return
    _active.within = True
    try:
        with _registered() as modules, noting() as notes:
            yield
        for module in modules.values():
            _attach(module, notes.tape)
    finally:
        _active.within = False


class _Active(threading.local):
    """Whether this thread is within the context."""

    within = False


_active = _Active()


@contextmanager
def _registered() -> Iterator[dict[int, nn.Module]]:
    """Collect the modules that this thread gives a tensor or a child; at the end all below too."""
    modules: dict[int, nn.Module] = {}
    thread = threading.get_ident()

    def see(module: nn.Module, *_: object) -> None:
        if threading.get_ident() == thread:
            modules[id(module)] = module

    handles: list[RemovableHandle] = [
        register(see)
        for register in (
            register_module_module_registration_hook,
            register_module_parameter_registration_hook,
            register_module_buffer_registration_hook,
        )
    ]
    try:
        yield modules
    finally:
        for handle in handles:
            handle.remove()
        below: set[nn.Module] = set()
        for module in [*modules.values()]:
            modules.update((id(each), each) for _, each in module.named_modules(below))


def _attach(module: nn.Module, tape: Tape) -> None:
    """Leave with a module what was noted of its own tensors."""
    notes = Notes()

    def add(into: dict[str, Note], tensors: dict[str, Any]) -> None:
        for key, tensor in tensors.items():
            if (
                isinstance(tensor, torch.Tensor)
                and is_plain(tensor)
                and storage_number(tensor.untyped_storage()) in tape.storages
            ):
                into[key] = Note(tape, tape.view(tensor), version(tensor))

    add(notes.parameters, parameters_of(module))
    add(notes.buffers, buffers_of(module))
    add(notes.others, module.__dict__)
    if notes.parameters or notes.buffers or notes.others:
        module.__dict__[_KEY] = notes
