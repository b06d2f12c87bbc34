"""Doing what a tape has: in a tensor's own memory, in parts of it, or beside it.

A draw into a tensor of the model comes from the stream of the tensor's name, at the index that an
element has in it. What else is drawn belongs to the first tensor that depends on it, and comes
from streams that have its name and a number. Everything else is done by PyTorch, on the CPU.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from fastinit import random
from fastinit._fill import index_steps
from fastinit._kernels import Cursor
from fastinit.torch import init
from fastinit.torch._operators import leaves_of, map_leaves
from fastinit.torch._private import modes_off, negated_view
from fastinit.torch._tape import Call, Check, Tape, View
from fastinit.torch._tensor import DTYPES, fill

aten = torch.ops.aten

_CPU = torch.device("cpu")


class Place(NamedTuple):
    """Where a storage's draws come from: a name's stream, for the elements of a view."""

    name: str
    view: View


class Replay:
    """What the calls of a tape give, from a generator.

    Parameters
    ----------
    tape : Tape
        The calls.
    root : fastinit.Generator
        What all streams come from.
    places : mapping of int to list of Place
        The named tensors in each storage.
    owners : mapping of int to str, optional
        The stream's name for each call that draws into memory which has none.
    """

    def __init__(
        self,
        tape: Tape,
        root: random.Generator,
        places: Mapping[int, list[Place]],
        owners: Mapping[int, str] | None = None,
    ) -> None:
        self._tape, self._root, self._places = tape, root, places
        self._owners = owners or {}
        self._memory: dict[int, torch.UntypedStorage] = {}

    def forget(self) -> None:
        """Free the memory of what was computed."""
        self._memory.clear()

    def value(self, view: View, calls: list[Call]) -> torch.Tensor:
        """Return what a view holds after the calls."""
        self.run(calls)
        with modes_off():
            value = self._real(view).detach().clone()
        self.forget()
        return value

    def into(self, tensor: torch.Tensor, view: View, calls: list[Call]) -> None:
        """Do the calls in a tensor's own memory, which has to lie as the view."""
        self._memory[view.storage] = tensor.untyped_storage()
        self.run(calls)
        self.forget()

    def answer(self, check: Check) -> bool:
        """Return the answer to a check."""
        views = leaves_of(View, (check.args, check.kwargs))
        self.run(self._tape.history(*(x.storage for x in views), before=check.at))
        with _alone():
            args, kwargs = map_leaves(self._concrete, (check.args, check.kwargs))
            answer = bool(check.function(*args, **kwargs))
        self.forget()
        return answer

    def run(self, calls: list[Call]) -> None:
        """Do calls."""
        with _alone():
            for call in calls:
                if call.function is init.draw:
                    self._draw(call)
                else:
                    self._compute(call)

    def _real(self, view: View) -> torch.Tensor:
        """Return the memory of a view."""
        memory = self._memory.get(view.storage)
        if memory is None:
            initial = self._tape.initial.get(view.storage)
            if initial is not None:
                memory = initial.detach().clone().untyped_storage()
            else:
                memory = torch.UntypedStorage(self._tape.storages[view.storage].nbytes())
            self._memory[view.storage] = memory
        tensor = torch.empty(0, dtype=view.dtype, device=_CPU)
        tensor.set_(memory, view.offset, view.shape, view.stride)
        tensor = tensor.conj() if view.conjugated else tensor
        return negated_view(tensor) if view.negated else tensor

    def _draw(self, call: Call) -> None:
        view, kind, params, rng, part = call.args
        start, steps = None, None
        if rng is None:
            name, start, steps = self.stream(call)
            rng = self._root.stream(name)
        else:
            own = isinstance(rng, random.Generator)
            rng = copy.copy(rng) if own else Cursor(rng.key, rng.position)  # a fill moves it on
        if part is not None:
            start, steps = part.start, list(part.steps)
        shown = self._real(view)
        memory = negated_view(shown) if view.negated else shown
        memory = memory.conj() if view.conjugated else memory
        if view.dtype.is_complex:
            steps = index_steps(view.shape) if steps is None else steps
            whole = init.Part(view.numel, start or 0, tuple(steps))
            init.fill_complex(memory, kind, params, rng, whole)
        else:
            fill(memory, DTYPES[view.dtype], kind.distribution(*params), rng, start, steps)
        if view.negated:
            memory.neg_()  # what was drawn is what the view shows
        if view.conjugated:
            memory.imag.neg_()

    def stream(self, call: Call) -> tuple[str, int | None, list[int] | None]:
        """Return the stream's name for a draw; for a part of a tensor also where in it it is."""
        view = call.args[0]
        places = self._places.get(view.storage)
        if places is None:
            return self._owners.get(call.at, f"({call.at})"), None, None
        place = _home(view, places)
        again = self._tape.replaced_after(call, view.storage)
        name = f"{place.name}({again})" if again else place.name
        if view.geometry == place.view.geometry:
            return name, None, None
        return name, view.offset - place.view.offset, list(view.stride)

    def _compute(self, call: Call) -> None:
        args, kwargs = map_leaves(self._concrete, (call.args, call.kwargs))
        if call.state is not None:
            kwargs = self._with_state(call, kwargs)
        elif call.random:
            key, _ = self._root.stream(self._owners.get(call.at, f"({call.at})")).key
            torch.default_generator.manual_seed(key)
        with default_dtype(call.dtype):
            results = call.function(*args, **kwargs)
        outs = results if isinstance(results, (tuple, list)) else (results,)
        for i, view in call.results:
            self._adopt(view, outs[i])

    @staticmethod
    def _with_state(call: Call, kwargs: dict[str, Any]) -> dict[str, Any]:
        assert call.state is not None
        if "generator" not in kwargs:
            torch.default_generator.set_state(call.state)
            return kwargs
        generator = torch.Generator()
        generator.set_state(call.state)
        return {**kwargs, "generator": generator}

    def _adopt(self, view: View, result: torch.Tensor) -> None:
        """Keep a result as what a view shows."""
        if result.dtype != view.dtype:
            raise RuntimeError(
                f"fastinit.torch: a computed value was {view.dtype} when the model was built, and "
                f"is {result.dtype} when it is computed again"
            )
        same = (tuple(result.stride()), result.storage_offset()) == (view.stride, view.offset)
        if same and view.storage not in self._memory and not result.is_conj():
            self._memory[view.storage] = result.untyped_storage()
        else:
            self._real(view).copy_(result)

    def _concrete(self, x: Any) -> Any:
        if isinstance(x, View):
            return self._real(x)
        return _CPU if isinstance(x, torch.device) else x


def _home(view: View, places: list[Place]) -> Place:
    """Return the named tensor that a view is a part of: itself, or one around it, or the first."""
    for place in places:
        if place.view.geometry == view.geometry:
            return place
    for place in places:
        if place.view.offset <= view.offset < place.view.offset + place.view.numel:
            return place
    return places[0]


@contextmanager
def _alone() -> Iterator[None]:
    """Leave PyTorch's generator as it was, and let no mode or default device take part."""
    state = torch.default_generator.get_state()
    try:
        with torch.no_grad(), modes_off():
            yield
    finally:
        torch.default_generator.set_state(state)


@contextmanager
def default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Let PyTorch's default dtype be another, if one is given that it can be."""
    before = torch.get_default_dtype()
    try:
        if dtype is not None and dtype.itemsize > 1:
            torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)
