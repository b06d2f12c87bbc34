"""Initialising a model by its parameters' names, as its author's code does."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import increment_version

from fastinit import random
from fastinit import recipe as recipes
from fastinit._arguments import shown
from fastinit._errors import type_error, value_error
from fastinit._fill import is_sharded
from fastinit.torch._deferred import Note, keep, notes_of
from fastinit.torch._devices import advise_huge, array_of, on_cpu
from fastinit.torch._names import Modules, Slot, named_in, renaming, slots_of, tied_names, walk
from fastinit.torch._plan import Plan, attributes
from fastinit.torch._private import (
    is_sharded_by_fsdp,
    parameters_of,
    register_again,
    storage_number,
    unsaved_buffers,
    version,
)
from fastinit.torch._rules import by_methods, foreign, noted, rebuilt
from fastinit.torch._tensor import (
    RandomSource,
    generator_of,
    is_plain,
    local_of,
    pieces,
    unwritable,
)


def initialize(
    model: nn.Module,
    seed: RandomSource,
    recipe: recipes.Recipe | str | Path | None = None,
    only: Collection[str] | None = None,
    device: torch.device | str | None = None,
    fallback: bool = False,
    *,
    missing: Collection[str] | None = None,
    prefix: str = "",
    rename: Callable[[str], str] | None = None,
) -> list[str]:
    """Initialise a model, each parameter from the stream of its name.

    A value depends on the seed, the parameter's name and the index in it: not on the order
    of the parameters, on which others there are, or on how many processes hold the model. So
    a parameter may be initialised anew alone, and the shards of a `DTensor` (FSDP2, tensor
    parallel) are those of the whole. No process communicates: all have to use one seed.

    What is drawn is what the author's code does. A model that was built within `deferred`
    brings notes of it: of its constructor, its layers' and its helpers' code, whatever it was
    that wrote last. A model that can be built again from its class and its ``config``
    (transformers, diffusers, and classes that take nothing else) is, for such notes. For any
    other model only methods can be asked, `reset_parameters` and the like; a warning then says
    which classes have constructors that may have done more.

    What is on the meta device is given memory; what shares a parameter goes on sharing it. What
    is computed is computed by PyTorch on the CPU, its generator seeded by the seed and the name.

    Parameters
    ----------
    model : torch.nn.Module
        On any device, with the same values on each, or on the meta device.
    seed : int, torch.Generator, fastinit.Generator, or None
        As in `fastinit.torch.uniform_`.
    recipe : Recipe, str or Path, optional
        As `fastinit.recipe.load` takes them; its rules come before the author's, for parameters
        and for buffers that a checkpoint has, as in files.
    only : collection of str, optional
        Names of the parameters and buffers to initialise; all others stay as they are. All
        if not given, but for those that transformers has loaded from a checkpoint.
    device : torch.device or str, optional
        Where what is on the meta device gets its memory: the CPU if not given. A `DTensor` is
        on its mesh's device.
    fallback : bool, optional
        What a rule draws into a tensor that fastinit cannot fill (sparse, quantised, complex,
        an unknown subclass) is refused. True: PyTorch draws it, and a warning says so.
    missing : collection of str, optional
        The keys that a checkpoint lacked, as ``load_state_dict(..., strict=False).missing_keys``
        and ``from_pretrained(..., output_loading_info=True)`` report them; all others stay as
        they are. A tensor with several names stays too if one of them was there.
    prefix : str, optional
        Where in the whole model this module is ("encoder."), so that a stage of a pipeline gets
        the values of the whole model's parameters.
    rename : callable, optional
        A function from a name in this module to the name in the whole model, in place of
        `prefix`.

    Returns
    -------
    list of str
        The parameters, and buffers without memory, for which there is no rule. They are as
        they were, on the meta device if they were there, and a warning names them.

    Raises
    ------
    TypeError, ValueError
        If `only` or `missing` has a name that the model has not, `seed` is none, two of the
        model's names become one, the model was loaded by transformers and has lost the marks of
        it, the author's code looks at what it draws and would have gone another way with this
        seed, or a parameter's values are held by something else (DeepSpeed's ZeRO-3, Accelerate's
        offload, a sharding of FSDP1), or `fallback` is False and fastinit cannot fill a
        parameter; then nothing was written.
    RecipeError
        If a recipe's rule cannot fill its parameter; then nothing was written.
    RuntimeError
        If a method that has to say how a layer begins fails.

    Examples
    --------
    >>> with deferred():
    ...     model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    >>> initialize(model, seed=0)
    []
    >>> bool(model[0].weight.abs().max() <= 3**-0.5)
    True
    """
    _check_kinds(model, recipe, device, {"only": only, "missing": missing})
    root = generator_of(seed)
    full_name = renaming(prefix, rename)
    modules = walk(model)
    slots = slots_of(modules)
    _refuse_placeholders(modules)
    tensors = named_in(slots, tied_names(modules))
    wanted = _wanted(modules, slots, tensors, only, missing)
    streams = _streams(tensors, full_name)
    stored = _stored(slots, tensors) & wanted
    ruled = _by_recipe({n: t for n, t in tensors.items() if n in stored}, recipe, streams)
    plan = Plan(_notes(model, slots, tensors), streams, attributes(modules, full_name))
    plan.check(root)
    fresh = {n: _with_memory(t, device) for n, t in tensors.items() if n in wanted and t.is_meta}
    for name in (n for n in tensors if n in wanted and n not in ruled):
        plan.refuse(name, fresh.get(name, tensors[name]), fallback)
    unruled = []
    with torch.no_grad():
        for name in (name for name in tensors if name in wanted):
            tensor = fresh.get(name, tensors[name])
            if name in ruled:
                _fill_by(ruled[name], tensor, root.stream(streams[name]))
            elif plan.has(name):
                plan.write(name, tensor, root)
            elif name in fresh or isinstance(tensor, nn.Parameter):
                unruled.append(name)
    now = {n: fresh[n] for n in fresh if n not in unruled}
    _replace(model, slots, {id(tensors[n]): tensor for n, tensor in now.items()})
    plan.fill_attributes(modules, {**tensors, **now}, root)
    if unruled:
        warnings.warn(
            f"no rule initialises {', '.join(sorted(unruled))}: build the model within "
            "fastinit.torch.deferred(), or give a recipe",
            stacklevel=2,
        )
    return sorted(unruled)


def _notes(
    model: nn.Module, slots: list[Slot], tensors: Mapping[str, torch.Tensor]
) -> dict[str, Note]:
    """Return the note of each tensor; what is noted nowhere is asked of methods, with a warning."""
    notes = own = noted(slots)
    if any(slot.name not in notes for slot in slots):
        again = _fitting(rebuilt(model), slots)
        for slot in (slot for slot in slots if slot.name in again and slot.name not in notes):
            keep(slot.module, slot.kind, slot.key, again[slot.name])
        notes = {**again, **notes}
    # A buffer with values that came to a model after its notes keeps them.
    rest = [
        slot
        for slot in slots
        if slot.name not in notes
        and not (notes and slot.kind == "buffers" and not slot.tensor.is_meta)
    ]
    if rest:
        notes |= by_methods(model, set(notes))
        if classes := foreign(model, rest):
            warnings.warn(
                f"the model was built without fastinit.torch.deferred(): what the constructors of "
                f"{', '.join(classes)} do to {_listed([slot.name for slot in rest])} is not known, "
                "and only methods such as reset_parameters were asked; build it within deferred()",
                stacklevel=3,
            )
    if late := _given_since(slots, own):
        warnings.warn(
            f"{_listed(late)} was written after deferred() had ended, which is lost; do it within",
            stacklevel=3,
        )
    of_tensor: dict[int, list[Slot]] = defaultdict(list)
    for slot in slots:
        of_tensor[id(slot.tensor)].append(slot)
    deciding = {n: _deciding(of_tensor[id(t)], notes, t) for n, t in tensors.items()}
    return {name: notes[slot.name] for name, slot in deciding.items() if slot is not None}


def plan_of(model: nn.Module) -> Plan:
    """Return what `initialize` would do to each of a model's tensors, by name."""
    modules = walk(model)
    slots = slots_of(modules)
    tensors = named_in(slots, tied_names(modules))
    streams = {name: name for name in tensors}
    return Plan(_notes(model, slots, tensors), streams, attributes(modules, str))


def _listed(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} others" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _fitting(notes: Mapping[str, Note], slots: list[Slot]) -> dict[str, Note]:
    shapes = {slot.name: tuple(slot.tensor.shape) for slot in slots}
    return {n: note for n, note in notes.items() if shapes.get(n) == note.view.shape}


def _given_since(slots: list[Slot], notes: Mapping[str, Note]) -> list[str]:
    """Return the tensors that were given values since their notes were taken, as far as one sees.

    That is: written; or made anew, in the dtype that they had; or with memory where others have
    none.
    """
    known = [slot for slot in slots if slot.name in notes and is_plain(slot.tensor)]
    is_partly = any(slot.tensor.is_meta for slot in known)
    late = [
        slot.name
        for slot in known
        if (_changed_since(slot, notes[slot.name]) if slot.tensor.is_meta else is_partly)
    ]
    return [*dict.fromkeys(late)]


def _changed_since(slot: Slot, note: Note) -> bool:
    tensor = slot.tensor
    number = storage_number(tensor.untyped_storage())
    if number == note.view.storage:
        return version(tensor) != note.version
    is_noted = number in note.tape.storages  # tied to another of the model's
    return not is_noted and tensor.dtype == note.view.dtype and not notes_of(slot.module).copied


def _deciding(slots: list[Slot], notes: Mapping[str, Note], tensor: torch.Tensor) -> Slot | None:
    """Return which of its places says how a shared tensor begins.

    The one whose memory it has, if they were tied after the model was built; otherwise that of an
    embedding, as transformers ties a head to it.
    """
    have = [slot for slot in slots if slot.name in notes]

    def rank(slot: Slot) -> tuple[bool, bool]:
        view = notes[slot.name].view
        own = is_plain(tensor) and view.storage == storage_number(tensor.untyped_storage())
        return not own, not isinstance(slot.module, nn.Embedding)

    return min(have, key=rank, default=None)


def _refuse_placeholders(modules: Modules) -> None:
    """Raise if parameters are not where their values are."""
    for name, module in modules:
        for key, parameter in parameters_of(module).items():
            has_elements = parameter is None or parameter.numel() > 0  # gathered, or not ZeRO-3's
            if hasattr(parameter, "ds_id") and not has_elements:
                raise value_error(
                    f"{name}{key} is held by DeepSpeed's ZeRO-3, and here has the shape "
                    f"{tuple(parameter.shape)}; call initialize before deepspeed.initialize, or "
                    "within deepspeed.zero.GatheredParameters(list(model.parameters()), "
                    "modifier_rank=0), which without modifier_rank drops what is written"
                )
        hook = getattr(module, "_hf_hook", None)
        if any(getattr(each, "offload", False) for each in getattr(hook, "hooks", [hook])):
            raise value_error(
                f"the weights of {name or 'the model'} are offloaded by Accelerate; call "
                "initialize before cpu_offload or dispatch_model"
            )
        if is_sharded_by_fsdp(module):
            raise value_error(
                f"the weights of {name or 'the model'} are sharded by FullyShardedDataParallel; "
                "call initialize before it, or use fully_shard (FSDP2)"
            )


def _check_kinds(
    model: object, recipe: object, device: Any, names: Mapping[str, Collection[str] | None]
) -> None:
    """Raise TypeError if an argument is of another kind than `initialize` takes."""
    if not isinstance(model, nn.Module):
        raise type_error(f"model={shown(model)} must be a torch.nn.Module")
    if not isinstance(recipe, recipes.Recipe | str | Path | None):
        raise type_error(f"recipe={shown(recipe)} must be a Recipe, or its name or path")
    if device is not None:
        try:
            torch.device(device)
        except (TypeError, ValueError, RuntimeError):
            raise type_error(f"device={shown(device)} is no device of PyTorch's") from None
    for argument, given in names.items():
        if given is not None and (isinstance(given, str) or not isinstance(given, Collection)):
            raise type_error(f"{argument}={shown(given)} must be a collection of names")


def _wanted(
    modules: Modules,
    slots: list[Slot],
    tensors: Mapping[str, torch.Tensor],
    only: Collection[str] | None,
    missing: Collection[str] | None,
) -> set[str]:
    """Return the names of the tensors to initialise."""
    if only is not None and missing is not None:
        raise value_error("only and missing are two ways to choose tensors; give one of them")
    if only is None and missing is None:
        loaded = _loaded(modules, tensors.values())
        return {name for name, tensor in tensors.items() if id(tensor) not in loaded}
    _, model = modules[0]
    first = {id(tensor): name for name, tensor in tensors.items()}
    aliases = {slot.name: first[id(slot.tensor)] for slot in slots}
    for raw, tensor in (*model.named_parameters(remove_duplicate=False),
                        *model.named_buffers(remove_duplicate=False)):  # fmt: skip
        aliases.setdefault(raw, first[id(tensor)])
    argument, names = ("only", only) if only is not None else ("missing", missing)
    assert names is not None
    chosen = {names} if isinstance(names, str) else set(names)
    if unknown := sorted(chosen - aliases.keys()):
        raise value_error(
            f"{argument}={unknown} are not in the model; allowed: {', '.join(tensors)}"
        )
    if only is not None:
        return {aliases[name] for name in chosen}
    there = {aliases[s.name] for s in slots if s.name not in chosen and _is_saved(s)} - {
        aliases[raw] for raw in chosen if raw not in {s.name for s in slots}
    }
    return {
        name
        for name, tensor in tensors.items()
        if name not in there and (name in {aliases[c] for c in chosen} or tensor.is_meta)
    }


def _loaded(modules: Modules, tensors: Iterable[torch.Tensor]) -> set[int]:
    """Return which tensors transformers has loaded, or PEFT has copied from such, by their ids.

    Raises
    ------
    ValueError
        If transformers has loaded a model whose tensors have no mark of it any more.
    """
    # `from_pretrained` leaves this with a model, and a mark with each of its tensors.
    for name, module in (each for each in modules if "_weight_conversions" in vars(each[1])):
        real = [p for p in module.parameters() if not p.is_meta]
        if real and not any(map(_is_marked, real)):
            raise value_error(
                f"{name.rstrip('.') or 'the model'} was loaded by from_pretrained, but its weights "
                "have no mark of it, as after copy.deepcopy: which of them are to be drawn is not "
                "known; give only or missing"
            )
    loaded = {id(t) for t in tensors if _is_marked(t)}
    for _, module in modules:
        if type(module).__name__ == "ModulesToSaveWrapper":
            originals = dict(module.original_module.named_parameters())
            for copied in module.modules_to_save.values():
                loaded |= {
                    id(tensor)
                    for key, tensor in copied.named_parameters()
                    if key in originals and _is_marked(originals[key])
                }
    return loaded


def _is_marked(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has transformers' mark of a weight that was loaded."""
    return bool(getattr(tensor, "_is_hf_initialized", False))


def _is_saved(slot: Slot) -> bool:
    return slot.key not in unsaved_buffers(slot.module)


def _streams(
    tensors: Mapping[str, torch.Tensor], full_name: Callable[[str], str]
) -> dict[str, str]:
    """Return the name in the whole model of each tensor; raise if two have one."""
    streams = {name: full_name(name) for name in tensors}
    names: dict[str, str] = {}
    for name, stream in streams.items():
        if not isinstance(stream, str):
            raise type_error(f"rename returns {stream!r} for {name!r}; allowed: a string")
        if stream in names:
            raise value_error(f"rename gives {names[stream]!r} and {name!r} one name, {stream!r}")
        names[stream] = name
    return streams


def _with_memory(meta: torch.Tensor, device: torch.device | str | None) -> torch.Tensor:
    device = meta.device_mesh.device_type if is_sharded(meta) else device or "cpu"
    if is_plain(meta) and meta.is_contiguous():  # the same, without PyTorch's rules for strides
        tensor = torch.empty(meta.shape, dtype=meta.dtype, device=device)
    else:
        tensor = torch.empty_like(meta, device=device)
    advise_huge(local_of(tensor))
    if isinstance(meta, nn.Parameter):
        tensor = nn.Parameter(tensor, meta.requires_grad)
    tensor.__dict__.update(meta.__dict__)
    return tensor


def _replace(model: nn.Module, slots: list[Slot], new: Mapping[int, torch.Tensor]) -> None:
    """Replace tensors wherever the model keeps them."""
    for slot in slots:
        tensor = new.get(id(slot.tensor))
        if tensor is not None:
            slot.tensors[slot.key] = tensor
    if new:
        register_again(model)


def _stored(slots: list[Slot], tensors: Mapping[str, torch.Tensor]) -> set[str]:
    """Return the names that a recipe is about: of parameters, and of buffers that are saved."""
    saved = {id(slot.tensor) for slot in slots if _is_saved(slot)}
    return {
        name
        for name, tensor in tensors.items()
        if isinstance(tensor, nn.Parameter)
        or (id(tensor) in saved and str(tensor.dtype).removeprefix("torch.") in recipes.DTYPES)
    }


def _by_recipe(
    tensors: Mapping[str, torch.Tensor],
    recipe: recipes.Recipe | str | Path | None,
    streams: Mapping[str, str],
) -> dict[str, recipes.Rule]:
    """Return a recipe's rules for the tensors that it has one for, each checked."""
    if recipe is None:
        return {}
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.load(recipe)
    bound = {}
    for name, parameter in tensors.items():
        tensor = recipes.Tensor(streams[name], tuple(parameter.shape), numpys(parameter.dtype))
        rule = next((rule for rule in recipe.rules if rule.fits(tensor)), None)
        if rule is not None:
            bound[name] = rule.bind(tensor.name, tensor.shape)
            bound[name].check(tensor)
            if reason := unwritable(local_of(parameter)):
                raise type_error(
                    f"the rule of {name!r} writes into {reason}; allowed: a tensor that shows what "
                    "its memory holds, and may be written here"
                )
    return bound


def numpys(dtype: torch.dtype) -> np.dtype[Any]:
    """Return NumPy's dtype for PyTorch's."""
    return recipes.as_dtype(str(dtype).removeprefix("torch."))


def _fill_by(rule: recipes.Rule, tensor: torch.Tensor, rng: random.Generator) -> None:
    """Fill what this process holds of a parameter by a recipe's rule."""
    for memory, box in pieces(tensor):

        def write(part: torch.Tensor, at: tuple[int, ...], box: tuple[slice, ...] = box) -> None:
            rng.move(0)
            array = array_of(part).view(numpys(tensor.dtype))
            offset = tuple(side.start + first for side, first in zip(box, at, strict=True))
            rule.initializer.fill(array, rng=rng, global_shape=tuple(tensor.shape), offset=offset)

        on_cpu(memory, write)
    increment_version(tensor)
