"""The rules of a model that was built without notes: what its modules have as methods.

The model's tensors are exchanged for others without memory while the rules run, so that a rule
meets plain tensors of the whole model's shape, and none that another module shares: whatever the
model is sharded, wrapped or tied by.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from fastinit.torch._deferred import Note, deferred, notes_of
from fastinit.torch._names import Slot, slots_of, walk
from fastinit.torch._noting import noting
from fastinit.torch._private import functions_off, version
from fastinit.torch._replay import default_dtype
from fastinit.torch._tape import Tape

# Rules without arguments, by the name of a method; the first that a module has is its rule.
_OF_A_LAYER = ("reset_parameters", "_reset_parameters")
_OF_A_MODEL = ("_init_weights", "init_weights", "_initialize_weights", "initialize_weights",
               "init_parameters")  # fmt: skip


def noted(slots: list[Slot]) -> dict[str, Note]:
    """Return the notes that modules have of their tensors, by name."""
    notes_by_name = {}
    for slot in slots:
        notes = notes_of(slot.module)
        note = (notes.parameters if slot.kind == "parameters" else notes.buffers).get(slot.key)
        if note is not None and note.view.shape == tuple(slot.tensor.shape):
            notes_by_name[slot.name] = note
    return notes_by_name


def rebuilt(model: nn.Module) -> dict[str, Note]:
    """Return notes of modules that can be built again from their class and configuration."""
    notes_by_name: dict[str, Note] = {}
    built: list[str] = []
    modules = walk(model)
    for name, module in modules:
        if any(name.startswith(done) for done in built):
            continue
        make = _maker(module)
        if make is None:
            continue
        try:
            with deferred():
                twin = make()
        except Exception:  # whatever their code makes of it: its methods remain
            continue
        notes = noted(slots_of(walk(twin)))
        mine = {
            slot.name.removeprefix(name) for slot in slots_of(modules) if slot.name.startswith(name)
        }
        if notes.keys() <= mine:
            built.append(name)
            notes_by_name |= {f"{name}{key}": note for key, note in notes.items()}
    return notes_by_name


def _maker(module: nn.Module) -> Callable[[], nn.Module] | None:
    """Return what builds a module's like, if its class takes nothing but a configuration."""
    cls = type(module)
    config = getattr(module, "config", None)
    if config is None or cls.__module__.startswith("torch."):
        return None
    if hasattr(cls, "from_config") and hasattr(cls, "load_config"):  # diffusers
        return lambda: cls.from_config(config)
    needed = [
        p
        for p in inspect.signature(cls.__init__).parameters.values()
        if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD
    ][1:]
    if len(needed) != 1 or needed[0].name != "config":
        return None
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)

    def make() -> nn.Module:
        with default_dtype(dtype):
            return cls(copy.deepcopy(config))

    return make


def by_methods(model: nn.Module, skip: set[str]) -> dict[str, Note]:
    """Return notes of what the modules' own methods do, for tensors that have no others."""
    slots = slots_of(walk(model))
    originals = {slot: slot.tensor for slot in slots}
    notes_by_name = {}
    with noting() as notes:
        try:
            for slot in slots:
                slot.tensors[slot.key] = _stand_in(slot.tensor, notes.tape)
            with torch.no_grad():
                _run(model)
            for slot in slots:
                if slot.name not in skip and isinstance(slot.tensors.get(slot.key), torch.Tensor):
                    tensor = slot.tensor
                    notes_by_name[slot.name] = Note(
                        notes.tape, notes.tape.view(tensor), version(tensor)
                    )
        finally:
            for slot, tensor in originals.items():
                slot.tensors[slot.key] = tensor
    return notes_by_name


def _stand_in(tensor: torch.Tensor, tape: Tape) -> torch.Tensor:
    """Return a tensor without memory for one of the model's, of the whole tensor's shape."""
    with functions_off():
        new = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        if not tensor.is_meta and type(tensor) in (torch.Tensor, nn.Parameter):
            tape.initial[tape.view(new).storage] = tensor
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(new, tensor.requires_grad)
    return new


def foreign(model: nn.Module, slots: list[Slot]) -> list[str]:
    """Return the classes around the slots whose constructors may do more than methods tell."""
    holding = {id(slot.module) for slot in slots}
    names: dict[str, None] = {}
    for _, module in walk(model):
        if holding.isdisjoint(id(each) for each in module.modules()):
            continue
        for cls in type(module).__mro__:
            if cls.__module__.split(".")[0] == "torch":
                break
            if "__init__" in vars(cls):
                names[cls.__qualname__] = None
    return list(names)


def _run(model: nn.Module) -> None:
    """Run every module's own rules, in the order in which its constructor would."""
    modules = list(_post_order(model, "", None))
    for name, module, _ in modules:
        for rule in _OF_A_LAYER:
            if _takes(module, rule, 0):
                _call(name, module, rule)
                break
    for name, module, owner in modules:
        if owner is not None:
            _call(name, owner, "_init_weights", module)
    for name, module in _outermost(model, ""):
        for rule in _OF_A_MODEL:
            if _takes(module, rule, 0):
                _call(name, module, rule)
                break


def _call(name: str, module: nn.Module, rule: str, *args: Any) -> None:
    try:
        getattr(module, rule)(*args)
    except Exception as error:
        raise RuntimeError(
            f"{type(module).__name__}.{rule} fails for {name.rstrip('.') or 'the model'}: {error}; "
            "build the model within fastinit.torch.deferred(), which needs no such method"
        ) from error


def _post_order(
    module: nn.Module, name: str, owner: nn.Module | None
) -> Iterator[tuple[str, nn.Module, nn.Module | None]]:
    """Yield the modules, children first, each with the nearest that has `_init_weights`.

    Another library's modules within (PEFT's in a model of transformers) are none of its business.
    """
    if _takes(module, "_init_weights", 1):
        owner = module
    elif owner is not None and _library(module) not in ("torch", _library(owner)):
        owner = None
    for key, child in module.named_children():
        yield from _post_order(child, f"{name}{key}.", owner)
    yield name, module, owner


def _library(module: nn.Module) -> str:
    return type(module).__module__.split(".")[0]


def _outermost(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that have a rule for all of themselves, but none within such a one.

    Not those of transformers: theirs runs `_init_weights`, where it has not yet.
    """
    if any(_takes(module, rule, 0) for rule in _OF_A_MODEL):
        if "PreTrainedModel" not in (base.__name__ for base in type(module).__mro__):
            yield name, module
        return
    for key, child in module.named_children():
        yield from _outermost(child, f"{name}{key}.")


def _takes(module: nn.Module, name: str, n: int) -> bool:
    """Return whether a module has a method that can be called with n arguments, and needs them.

    Of its own: a wrapper's `__getattr__` may find that of another.
    """
    if not (hasattr(type(module), name) or name in vars(module)):
        return False
    method: object = getattr(module, name)
    if not callable(method):
        return False
    parameters = inspect.signature(method).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind not in
              (p.VAR_POSITIONAL, p.VAR_KEYWORD)]  # fmt: skip
    return len(needed) == n and all(p.kind is not p.KEYWORD_ONLY for p in needed)
