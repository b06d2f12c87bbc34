"""A model's tensors and their names, whatever wraps the model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from fastinit._arguments import shown
from fastinit._errors import type_error, value_error
from fastinit.torch._private import tensors_of

# Wrappers, by the name of a class, and what each calls the module that it wraps: a part of a name
# that the model itself has not. DDP and DataParallel, averages, Fabric, FSDP1, `torch.compile`,
# activation checkpointing, DeepSpeed's engine, PEFT.
_WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "AveragedModel": "module",
    "DeepSpeedEngine": "module",
    "_FabricModule": "_forward_module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod",
    "ActivationWrapper": "_checkpoint_wrapped_module",
    "PeftModel": "base_model",
    "BaseTuner": "model",
    "BaseTunerLayer": "base_layer",
    "ModulesToSaveWrapper": "original_module",
}


# Each module of a model, and what the names of all that it holds begin with.
Modules: TypeAlias = Sequence[tuple[str, nn.Module]]


class Slot(NamedTuple):
    """A place where a module keeps a tensor, and the tensor's name there."""

    name: str
    module: nn.Module
    kind: str
    key: str

    @property
    def tensors(self) -> dict[str, Any]:
        """Where the module keeps its tensors of this kind."""
        return tensors_of(self.module, self.kind)

    @property
    def tensor(self) -> torch.Tensor:
        """The tensor that is there now."""
        tensor: torch.Tensor = self.tensors[self.key]
        return tensor


def walk(model: nn.Module) -> Modules:
    """Return each module once, parents first; a name ends in a dot, as what it holds goes on.

    What only a wrapper adds to a name is left out.
    """
    modules: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()
    todo = [("", model)]
    while todo:
        name, module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        modules.append((name, module))
        wrapped = {_WRAPPERS[c.__name__] for c in type(module).__mro__ if c.__name__ in _WRAPPERS}
        children = [
            (name if key in wrapped else f"{name}{key}.", child)
            for key, child in module.named_children()
        ]
        todo += reversed(children)
    return modules


def slots_of(modules: Modules) -> list[Slot]:
    """Return every place where modules keep a tensor: parameters first, then buffers.

    Two places have one name if a wrapper has what its module has; the second keeps its own.
    """
    slots_by_kind: dict[str, list[Slot]] = {"parameters": [], "buffers": []}
    taken: set[str] = set()
    for name, module in modules:
        for kind, slots in slots_by_kind.items():
            for key, tensor in tensors_of(module, kind).items():
                if tensor is not None:
                    full = f"{name}{key}"
                    while full in taken:
                        full = f"{full}'"
                    taken.add(full)
                    slots.append(Slot(full, module, kind, key))
    return [*slots_by_kind["parameters"], *slots_by_kind["buffers"]]


def named(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers by name, as `named_in` does."""
    modules = walk(model)
    return named_in(slots_of(modules), tied_names(modules))


def named_in(slots: Iterable[Slot], tied: Collection[str]) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers by name.

    What has several names has the first from which transformers does not tie it to another.
    """
    names: dict[int, str] = {}
    first: dict[int, torch.Tensor] = {}
    for slot in slots:
        tensor = slot.tensor
        first.setdefault(id(tensor), tensor)
        known = names.setdefault(id(tensor), slot.name)
        if known in tied and slot.name not in tied:
            names[id(tensor)] = slot.name
    return {names[key]: tensor for key, tensor in first.items()}


def tied_names(modules: Modules) -> set[str]:
    """Return the names that transformers ties to others: those have the values."""
    return {
        f"{name}{key}"
        for name, module in modules
        for key in getattr(module, "all_tied_weights_keys", None) or ()
    }


def renaming(prefix: str, rename: Callable[[str], str] | None) -> Callable[[str], str]:
    """Return what makes a name of the whole model of one of the module's."""
    if not isinstance(prefix, str):
        raise type_error(f"prefix={shown(prefix)} must be a str")
    if rename is None:
        return lambda name: prefix + name
    if prefix:
        raise value_error("prefix and rename are two ways to say one thing; give one of them")
    if not callable(rename):
        raise type_error(
            f"rename={shown(rename)} is not a function; allowed: one of str that returns str"
        )
    return rename
