"""What has to be done to a model's tensors, by name: the one plan of `initialize` and of files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch.autograd.graph import increment_version

from fastinit import random
from fastinit._errors import type_error, value_error
from fastinit._fill import FLOAT_FORMATS
from fastinit.torch import init
from fastinit.torch._deferred import Note, notes_of
from fastinit.torch._names import Modules
from fastinit.torch._replay import Place, Replay
from fastinit.torch._tape import Call, Tape, View
from fastinit.torch._tensor import (
    is_plain,
    known_dtype,
    pieces,
    real_views,
    refusal,
    say_torchs,
)
from fastinit.torch._writes import Write, needs_draws, whole, write, writes_of

# Elements up to which a computed tensor is looked at, whether it is a constant.
_FEW = 2**20

_ANY = random.default_rng(0)  # for what draws nothing


class _Source(NamedTuple):
    """The calls that a tensor is the result of."""

    note: Note
    calls: list[Call]


def attributes(modules: Modules, full_name: Callable[[str], str]) -> dict[str, tuple[str, Note]]:
    """Return the notes of tensors that modules hold as plain attributes: name, stream, note."""
    return {
        f"{name}{key}": (full_name(f"{name}{key}"), note)
        for name, module in modules
        for key, note in notes_of(module).others.items()
    }


class Plan:
    """What has to be done for each tensor, by name.

    Parameters
    ----------
    notes : mapping of str to Note
        By the names in the model.
    streams : mapping of str to str
        The names in the whole model.
    others : mapping of str to (str, Note)
        The same for tensors that are no parameters or buffers.
    """

    def __init__(
        self,
        notes: Mapping[str, Note],
        streams: Mapping[str, str],
        others: Mapping[str, tuple[str, Note]],
    ) -> None:
        self._streams = {**{name: stream for name, (stream, _) in others.items()}, **streams}
        self._sources: dict[str, _Source] = {}
        self._places: dict[Tape, dict[int, list[Place]]] = defaultdict(lambda: defaultdict(list))
        self._owners: dict[Tape, dict[int, str]] = defaultdict(dict)
        for name, note in notes.items():
            self._places[note.tape][note.view.storage].append(Place(streams[name], note.view))
        for name, note in {**notes, **{n: note for n, (_, note) in others.items()}}.items():
            calls = note.tape.history(note.view.storage)
            known = bool(calls) or note.view.numel == 0
            if known and not note.tape.undefined(note.view, calls):
                self._sources.setdefault(name, _Source(note, calls))
        self._writes = {name: self._boxes(source) for name, source in self._sources.items()}
        self._compute_what_others_share()
        self._name_draws()
        self._writes = {name: self._with_streams(name) for name in self._sources}

    def _boxes(self, source: _Source) -> list[Write] | None:
        """Return a tensor's writes, if what is copied from another is all of that."""
        note = source.note
        writes = writes_of(note.tape, note.view, source.calls)
        for each in writes or ():
            drawn = note.view if each.call is None else each.call.args[0]
            places = self._places[note.tape].get(drawn.storage, [])
            copied = drawn.storage != note.view.storage and places
            if copied and all(place.view.geometry != drawn.geometry for place in places):
                return None
        return writes

    def _compute_what_others_share(self) -> None:
        """Let a tensor be computed if its draw is scaled, and others are computed from it too.

        All of them then have the bits of one calculation.
        """
        while True:
            shared = {
                (id(source.note.tape), call.at)
                for name, source in self._sources.items()
                if self._writes[name] is None
                for call in source.calls
            }
            unfit = [
                name
                for name, writes in self._writes.items()
                for each in writes or ()
                if not each.exact
                and each.call is not None
                and (id(self._sources[name].note.tape), each.call.at) in shared
            ]
            for name in unfit:
                self._writes[name] = None
            if not unfit:
                return

    def _name_draws(self) -> None:
        """Give each draw into memory without a name a stream.

        That of the first tensor that is all of it; otherwise one of the first that depends on it.
        """
        for name, source in self._sources.items():
            writes = self._writes[name]
            if writes is not None and len(writes) == 1 and (call := writes[0].call) is not None:
                full = writes[0].box == whole(source.note.view.shape)
                if full and not self._is_named(source, call):
                    self._owners[source.note.tape].setdefault(call.at, self._streams[name])
        for name, source in self._sources.items():
            owners, n = self._owners[source.note.tape], 0
            for call in source.calls:
                if call.random and not self._is_named(source, call) and call.at not in owners:
                    owners[call.at] = f"{self._streams[name]}({n})"
                    n += 1

    def _is_named(self, source: _Source, call: Call) -> bool:
        """Return whether a call draws into a named tensor."""
        own = call.function is init.draw
        return own and call.args[0].storage in self._places[source.note.tape]

    def _with_streams(self, name: str) -> list[Write] | None:
        writes = self._writes[name]
        if writes is None:
            return None
        replay = self._replay(self._sources[name].note, _ANY)
        return [
            each if each.call is None else each._replace(stream=replay.stream(each.call)[0])
            for each in writes
        ]

    def _replay(self, note: Note, root: random.Generator) -> Replay:
        return Replay(note.tape, root, self._places[note.tape], self._owners[note.tape])

    @property
    def is_led_by_draws(self) -> bool:
        """Whether an author's code has looked at values that it drew."""
        return any(tape.checks or tape.was_read for tape in self._places)

    def check(self, root: random.Generator) -> None:
        """Raise if an author's code would go another way with these draws."""
        for tape, places in self._places.items():
            replay = Replay(tape, root, places, self._owners[tape])
            if any(replay.answer(check) != check.answer for check in tape.checks):
                raise value_error(
                    "the model's constructor asks something of the values that it has drawn, and "
                    "with this seed the answer is another than when the model was built; take "
                    "another seed, or build the model within accelerate(seed)"
                )

    def refuse(self, name: str, tensor: torch.Tensor, fallback: bool) -> None:
        """Raise if fastinit cannot fill a tensor that is drawn; or say that PyTorch draws it."""
        reason = refusal(tensor)
        numbers = tensor.is_floating_point() or tensor.is_complex()
        if not (reason and numbers and self.has(name)):
            return
        note, calls = self._sources[name]
        own = (c for c in calls if note.view.storage in {view.storage for view in c.writes})
        if not any(call.random for call in own):
            return
        if real_views(tensor) and all(map(_suits_complex, own)):
            return
        if not fallback:
            raise type_error(
                f"the rule of {name!r} draws into {reason}, which fastinit cannot fill; allowed: "
                f"a dense tensor of {', '.join(FLOAT_FORMATS)}, or of complex numbers that are "
                "normal or uniform; or fallback=True, with which PyTorch draws it"
            )
        say_torchs(reason)

    def has(self, name: str) -> bool:
        """Return whether it is known how a tensor begins."""
        return name in self._sources

    def view(self, name: str) -> View:
        """Return the memory that a tensor had when its model was built."""
        return self._sources[name].note.view

    def seeded(self, name: str) -> bool:
        """Return whether a tensor's values depend on the seed."""
        return any(call.random for call in self._sources[name].calls)

    def writes(self, name: str) -> list[Write] | None:
        """Return a tensor's draws and constants in order; None if it is computed."""
        writes, view = self._writes[name], self.view(name)
        if writes is not None or view.numel > _FEW or self.seeded(name):
            return writes
        value = self.value(name, _ANY)
        number = value.flatten()[0] if value.numel() else torch.zeros(())
        if value.is_complex() or not bool((value == number).all()):
            return None
        return [Write(whole(view.shape), (number.item(),))]

    def value(self, name: str, root: random.Generator) -> torch.Tensor:
        """Return a tensor's values, on the CPU, in the dtype in which its author has them."""
        note, calls = self._sources[name]
        return self._replay(note, root).value(note.view, calls)

    def write(self, name: str, tensor: torch.Tensor, root: random.Generator) -> None:
        """Write what this process holds of a tensor; not where gradients are recorded."""
        note, calls = self._sources[name]
        writes = self._writes[name]
        if writes is not None and (known_dtype(tensor) or not needs_draws(writes)):
            write(tensor, writes, root)
        elif _lies_as(tensor, note):
            self._replay(note, root).into(tensor, note.view, calls)
        else:
            value = self.value(name, root)
            for memory, box in pieces(tensor):
                memory.copy_(value[box])
        increment_version(tensor)

    def fill_attributes(
        self,
        modules: Modules,
        tensors: Mapping[str, torch.Tensor],
        root: random.Generator,
    ) -> None:
        """Give plain attributes their values; what shares a named tensor's memory goes on so."""
        named = {
            (id(source.note.tape), source.note.view): tensors[name]
            for name, source in self._sources.items()
            if name in tensors
        }
        for name, module in modules:
            for key, note in notes_of(module).others.items():
                held = module.__dict__.get(key)
                if not isinstance(held, torch.Tensor) or not held.is_meta:
                    continue
                same = named.get((id(note.tape), note.view))
                if same is not None and not same.is_meta and same.dtype == held.dtype:
                    module.__dict__[key] = same
                elif self.has(f"{name}{key}"):
                    value = self.value(f"{name}{key}", root)
                    module.__dict__[key] = value.to(held.dtype)


def _suits_complex(call: Call) -> bool:
    """Return whether what a call draws into complex numbers is something that fastinit draws.

    It may draw into one of their parts, which is a tensor of real numbers.
    """
    if not call.random or not call.writes[0].dtype.is_complex:
        return True
    return call.function is init.draw and call.args[1].of_parts is not None


def _lies_as(tensor: torch.Tensor, note: Note) -> bool:
    """Return whether a tensor has memory of its own that lies as noted."""
    view = note.view
    return (
        is_plain(tensor)
        and tensor.is_cpu
        and view.geometry
        == (tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()), tensor.storage_offset())
        and note.tape.is_whole(view)
        and tensor.untyped_storage().nbytes() == note.tape.storages[view.storage].nbytes()
        and not view.conjugated
        and not view.negated
    )
