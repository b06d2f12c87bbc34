"""Initialising a model by its parameters' names, by the rules its authors wrote."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import increment_version

from fastinit import random
from fastinit import recipe as recipes
from fastinit._fill import FLOATS, params_in
from fastinit._kernels import Cursor
from fastinit.torch import init
from fastinit.torch._accelerate import taking_over
from fastinit.torch._devices import array_of, on_cpu
from fastinit.torch._fills import Fills
from fastinit.torch._tensor import (
    Generator,
    fill,
    generator_of,
    is_sharded,
    known_dtype,
    local_row,
    pieces,
    refusal,
    storage_of,
)

# What wrappers put into the names of a model's parameters.
_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")


def initialize(
    model: nn.Module,
    seed: Generator,
    recipe: recipes.Recipe | str | Path | None = None,
    only: Collection[str] | None = None,
    device: torch.device | str | None = None,
    fallback: bool = False,
) -> list[str]:
    """Initialise a model, each parameter from the stream of its name.

    A value depends on the seed, the parameter's name and the index in it: not on the order
    of the parameters, on which others there are, or on how many processes hold the model. So
    a parameter may be initialised anew alone, and the shards of a `DTensor` (FSDP2, tensor
    parallel) are those of the whole. No process communicates: all have to use one seed.

    Every module's own rule decides what is drawn: ``reset_parameters``, then the model's
    ``_init_weights`` or ``init_weights``. What is on the meta device is given memory first,
    tensor by tensor; what shares a parameter goes on sharing it. What a constructor does by no
    such method cannot be done again: models of that kind want `accelerate`, or a recipe.

    Parameters
    ----------
    model : torch.nn.Module
        On any device, with the same values on each, or on the meta device.
    seed : int, torch.Generator, fastinit.Generator, or None
        As in `fastinit.torch.uniform_`.
    recipe : Recipe, str or Path, optional
        As `fastinit.recipe.load` takes them; its rules come before the modules' own.
    only : collection of str, optional
        Names of the parameters and buffers to initialise; all others stay as they are. All
        if not given, but for those that transformers has loaded from a checkpoint.
    device : torch.device or str, optional
        Where what is on the meta device gets its memory: the CPU if not given. A `DTensor` is
        on its mesh's device.
    fallback : bool, optional
        What a rule draws into a tensor that fastinit cannot fill (sparse, quantised, complex,
        an unknown subclass) is refused. True: PyTorch draws it, and a warning says so.

    Returns
    -------
    list of str
        The parameters, and buffers without memory, for which there is no rule. They are as
        they were, on the meta device if they were there, and a warning names them.

    Raises
    ------
    TypeError, ValueError
        If `only` has a name that the model has not, `seed` is none, or `fallback` is False and
        fastinit cannot fill a parameter.
    RecipeError
        If a recipe's rule cannot fill its parameter; then nothing was written.

    Examples
    --------
    >>> with torch.device("meta"):
    ...     model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    >>> initialize(model, seed=0)
    []
    >>> bool(model[0].weight.abs().max() <= 3**-0.5)
    True
    """
    root = generator_of(seed)
    wanted = _wanted(named(model), only)
    by_recipe = _by_recipe(model, wanted, recipe)
    was_meta = _materialize(model, wanted, device)
    tensors = named(model)
    fills = ByName(root, tensors, wanted - by_recipe.keys(), fallback)
    # The rules may draw from torch's generator too, which is left as it was.
    with torch.no_grad(), torch.random.fork_rng(devices=[]), taking_over(fills):
        run_rules(model, fills)
    for name, rule in by_recipe.items():
        _fill_by(rule, tensors[name], root.stream(name))
    expected = {_clean(name) for name, _ in model.named_parameters()} | was_meta.keys()
    unruled = sorted((expected & wanted) - fills.written - by_recipe.keys())
    _put_back(model, {name: was_meta[name] for name in unruled if name in was_meta})
    if unruled:
        warnings.warn(f"no rule initialises {', '.join(unruled)}; give a recipe", stacklevel=2)
    return unruled


def _clean(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def named(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers by name; what is shared has its first name."""
    return {_clean(n): t for n, t in chain(model.named_parameters(), model.named_buffers())}


def _wanted(tensors: dict[str, torch.Tensor], only: Collection[str] | None) -> set[str]:
    if only is None:
        # transformers' mark of a weight that was loaded.
        return {n for n, t in tensors.items() if not getattr(t, "_is_hf_initialized", False)}
    names = {only} if isinstance(only, str) else set(only)
    if unknown := sorted(names - tensors.keys()):
        raise ValueError(f"only={unknown} are not in the model; allowed: {', '.join(tensors)}")
    return names


def _slots(model: nn.Module) -> Iterator[tuple[dict[str, Any], str, torch.Tensor]]:
    """Yield where each of a model's tensors is kept, a shared one for each of its places."""
    for module in model.modules():
        for slots in (module._parameters, module._buffers):
            for key, tensor in list(slots.items()):
                if tensor is not None:
                    yield slots, key, tensor


def _materialize(
    model: nn.Module, wanted: set[str], device: torch.device | str | None
) -> dict[str, torch.Tensor]:
    """Give what is wanted and on the meta device memory; return what was there, by name."""
    was_meta = {n: tensor for n, tensor in named(model).items() if n in wanted and tensor.is_meta}
    memory = {tensor: _with_memory(tensor, device) for tensor in was_meta.values()}
    _replace(model, memory)
    return was_meta


def _with_memory(meta: torch.Tensor, device: torch.device | str | None) -> torch.Tensor:
    device = meta.device_mesh.device_type if is_sharded(meta) else device or "cpu"
    tensor = torch.empty_like(meta, device=device)
    if isinstance(meta, nn.Parameter):
        tensor = nn.Parameter(tensor, meta.requires_grad)
    tensor.__dict__.update(meta.__dict__)
    return tensor


def _put_back(model: nn.Module, metas: dict[str, torch.Tensor]) -> None:
    tensors = named(model)
    _replace(model, {tensors[name]: meta for name, meta in metas.items()})


def _replace(model: nn.Module, new: dict[torch.Tensor, torch.Tensor]) -> None:
    """Replace tensors wherever the model keeps them."""
    for slots, key, tensor in _slots(model):
        if tensor in new:
            slots[key] = new[tensor]
    if new:
        # FSDP2 and recurrent layers keep their parameters elsewhere too, and look here after.
        model._apply(lambda tensor: tensor)


def _by_recipe(
    model: nn.Module, wanted: set[str], recipe: recipes.Recipe | str | Path | None
) -> dict[str, recipes.Rule]:
    """Return a recipe's rules for the wanted parameters that it has one for, each checked."""
    if recipe is None:
        return {}
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.load(recipe)
    found = {}
    for name, parameter in model.named_parameters():
        tensor = recipes.Tensor(_clean(name), tuple(parameter.shape), numpys(parameter.dtype))
        rule = next((rule for rule in recipe.rules if rule.fits(tensor)), None)
        if rule is not None and tensor.name in wanted:
            rule.check(tensor)
            found[tensor.name] = rule
    return found


def numpys(dtype: torch.dtype) -> np.dtype[Any]:
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


def run_rules(model: nn.Module, fills: ByName) -> None:
    """Run every module's own rules, in the order in which its constructor would."""
    for name, module, _ in _post_order(model, "", None):
        for rule in ("reset_parameters", "_reset_parameters"):
            if _takes_nothing(getattr(module, rule, None)):
                fills.begin(name, rule)
                getattr(module, rule)()
                break
    for name, module, owner in _post_order(model, "", None):
        if owner is not None:
            fills.begin(name, "_init_weights")
            owner._init_weights(module)
    for name, module in _outermost(model, ""):
        fills.begin(name, "init_weights")
        module.init_weights()


def _post_order(
    module: nn.Module, name: str, owner: nn.Module | None
) -> Iterator[tuple[str, nn.Module, nn.Module | None]]:
    """Yield the modules, children first, each with the nearest that has `_init_weights`.

    Names end in a dot, as they begin those of what the module holds.
    """
    if hasattr(module, "_init_weights"):
        owner = module
    for key, child in module.named_children():
        yield from _post_order(child, f"{name}{key}.", owner)
    yield name, module, owner


def _outermost(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that have `init_weights`, but none within such a one.

    Not those of transformers: theirs runs `_init_weights`, where it has not yet.
    """
    if _takes_nothing(getattr(module, "init_weights", None)):
        if "PreTrainedModel" not in (base.__name__ for base in type(module).__mro__):
            yield name, module
        return
    for key, child in module.named_children():
        yield from _outermost(child, f"{name}{key}.")


def _takes_nothing(method: Callable[..., Any] | None) -> bool:
    """Return whether there is a method that can be called without arguments."""
    if not callable(method):
        return False
    parameters = inspect.signature(method).parameters.values()
    return all(
        p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
    )


class Home(NamedTuple):
    """A named tensor of the model; its memory is known by it, so it must not be freed."""

    name: str
    tensor: torch.Tensor


class ByName(Fills):
    """Draws a model's tensors, each from its name's stream; keeps others as they are."""

    def __init__(
        self,
        root: random.Generator,
        tensors: dict[str, torch.Tensor],
        wanted: set[str],
        fallback: bool = False,
    ) -> None:
        super().__init__(None)
        self._root, self._wanted, self._module, self._fallback = root, wanted, "", fallback
        self._homes = {storage_of(t): Home(n, t.detach()) for n, t in tensors.items()}
        self.written: set[str] = set()

    def begin(self, module: str, rule: str) -> None:
        """Prepare for a module's rule.

        It may write what the module has in its own name: a parameter that others share with
        it is theirs, as it is when a constructor ties what it has initialised. What the rule
        draws from torch's generator depends on the module and the rule alone.
        """
        self._module = _clean(module)
        key, _ = self._root.stream(f"{self._module}{rule}()").key
        torch.default_generator.manual_seed(key)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take over a call of torch's, made by a module's rule."""
        target = _target(func, args, kwargs or {})
        home = None if target is None else self._homes.get(storage_of(target))
        if home is not None:
            if home.name not in self._wanted or not home.name.startswith(self._module):
                return target
            self.note(home, func, target, args)
        call = _ON_SHARDS.get(func) if args and is_sharded(args[0]) else None
        result = super().__torch_function__(call or func, types, args, kwargs)
        if home is not None and target is not None and _sets_data(func):
            self._homes[storage_of(target)] = Home(home.name, target.detach())
        return result

    def note(
        self,
        home: Home,
        func: Any,  # noqa: ARG002
        target: torch.Tensor | None,  # noqa: ARG002
        args: tuple[Any, ...],  # noqa: ARG002
    ) -> None:
        """Take notice of a call that is about to write a tensor of the model, or a part of it."""
        self.written.add(home.name)

    def draw(
        self,
        tensor: torch.Tensor,
        kind: init.Kind,
        params: tuple[float, ...],
        generator: Generator | Cursor,
    ) -> torch.Tensor:
        """Fill a tensor from its name's stream; a view of it gets the values of its place."""
        home = self._homes.get(storage_of(tensor))
        if home is None:
            return super().draw(tensor, kind, params, generator)
        if not self._fallback:
            _check_draw(home.name, tensor, kind, params)
        rng = Cursor(self._root.stream(home.name).key)
        if geometry(tensor) == geometry(home.tensor):
            return super().draw(tensor, kind, params, rng)
        dtype = known_dtype(tensor)
        if dtype is None or is_sharded(home.tensor):
            raise TypeError(
                f"the rule of {home.name!r} draws a part of it, of dtype {tensor.dtype} and on "
                f"{tensor.device.type}; allowed: a whole one, or not sharded; give a recipe"
            )
        self.settle()
        start = tensor.storage_offset() - home.tensor.storage_offset()
        steps = list(tensor.stride())
        return fill(tensor, dtype, kind.distribution(*params), rng, start, steps)


def _check_draw(
    name: str, tensor: torch.Tensor, kind: init.Kind, params: tuple[float, ...]
) -> None:
    """Raise if fastinit cannot fill a named tensor, which PyTorch would do then."""
    reason = refusal(tensor)
    if reason and not tensor.is_meta:
        raise TypeError(
            f"the rule of {name!r} draws into {reason}, which fastinit cannot fill; allowed: a "
            f"dense tensor of {', '.join(FLOATS)}; or fallback=True, and PyTorch draws it"
        )
    try:
        dtype = known_dtype(tensor)
        if dtype is not None:
            params_in(kind.distribution(*params), dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the rule of {name!r}: {error}") from None


def geometry(tensor: torch.Tensor) -> tuple[Any, ...]:
    return is_sharded(tensor), tensor.storage_offset(), tensor.shape, tensor.stride()


def _target(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """Return the tensor that a call writes to, if it does."""
    name = getattr(func, "__name__", "")
    target = kwargs.get("out")
    writes = func is init.draw or name in _WRITES or _sets_data(func) or _is_in_place(name)
    if target is None and writes:
        target = args[0] if args else kwargs.get("tensor")
    return target if isinstance(target, torch.Tensor) else None


_WRITES = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__"}


def _is_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__") and name != "requires_grad_"


def _sets_data(func: Any) -> bool:
    """Return whether a call gives a tensor other memory: ``tensor.data = ...``."""
    return getattr(func, "__name__", "") == "__set__" and func.__self__.__name__ == "data"


def _getitem(tensor: torch.Tensor, index: Any) -> torch.Tensor:
    """Return what this process holds of a DTensor's row; torch would return a copy of it all."""
    return local_row(tensor, index) if type(index) is int else tensor[index]


def _copy_(tensor: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Copy from a whole tensor what this process holds of a DTensor; torch refuses to."""
    if is_sharded(source):
        return tensor.copy_(source, non_blocking)
    for memory, box in pieces(tensor):
        memory.copy_(source.expand(tensor.shape)[box])
    return tensor


_ON_SHARDS = {torch.Tensor.__getitem__: _getitem, torch.Tensor.copy_: _copy_}
