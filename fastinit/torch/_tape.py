"""What was done to tensors while a model was built: every call that wrote memory, in order.

While a tape records, tensors have no memory: they are on the meta device. A call is kept with
the places in memory that it reads and writes, so that views, `.data`, copies of copies and
tensors that the model does not hold need no care of their own: whatever a parameter would hold at
the end is the result of the calls that its memory depends on.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from fastinit.torch._operators import leaves_of, map_leaves
from fastinit.torch._private import storage_number


class View(NamedTuple):
    """The memory that a tensor shows: a storage, and how its elements lie there."""

    storage: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    conjugated: bool = False
    negated: bool = False

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def geometry(self) -> tuple[Any, ...]:
        """Where the elements are in the storage, in order."""
        return self.dtype, self.shape, self.stride, self.offset


class Call:
    """A call that wrote memory.

    Attributes
    ----------
    at : int
        Its place on the tape.
    function : callable
        An operator of PyTorch's, or `fastinit.torch.init.draw`.
    args, kwargs
        Its arguments, with a View for each tensor.
    writes : tuple of View
        What it wrote.
    results : tuple of (int, View)
        Which of its results are tensors in new memory.
    reads : frozenset of int
        The storages whose values it used.
    replaces : frozenset of int
        The storages of which nothing is left that was there before.
    random : bool
        Whether it draws.
    state : torch.Tensor or None
        The state of the generator of PyTorch's that it has to draw from, if its author chose one.
    dtype : torch.dtype
        PyTorch's default dtype when it was made, which its results may have.
    """

    __slots__ = (
        "args",
        "at",
        "dtype",
        "function",
        "kwargs",
        "random",
        "reads",
        "replaces",
        "results",
        "state",
        "writes",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any = None,
        *,
        writes: tuple[View, ...] = (),
        results: tuple[tuple[int, View], ...] = (),
        reads: Iterable[int] = (),
        replaces: Iterable[int] = (),
        random: bool = False,
        state: torch.Tensor | None = None,
    ) -> None:
        self.at = -1
        self.function, self.args, self.kwargs = function, args, kwargs or {}
        self.writes, self.results = writes, results
        self.reads, self.replaces = frozenset(reads), frozenset(replaces)
        self.random, self.state = random, state
        self.dtype = torch.get_default_dtype()


class Check(NamedTuple):
    """A look at values that were drawn, to which the author's code had an answer: true or false.

    The code went the way that this answer led to; a seed with another answer needs another way.
    """

    function: Callable[..., Any]
    args: Any
    kwargs: Any
    at: int
    answer: bool


class Tape:
    """The calls, and the memory that they are about."""

    def __init__(self) -> None:
        self.length = 0
        # Kept, so that no other storage gets the same number.
        self.storages: dict[int, torch.UntypedStorage] = {}
        self.writers: dict[int, list[Call]] = {}
        # What is in the memory of a tensor that was there before the tape.
        self.initial: dict[int, torch.Tensor] = {}
        self.checks: list[Check] = []
        self.was_read = False  # whether the code has read values that it drew

    def storage(self, tensor: torch.Tensor) -> int:
        """Return the number of a tensor's storage, which is the tape's from now on."""
        storage = tensor.untyped_storage()
        number = storage_number(storage)
        self.storages.setdefault(number, storage)
        return number

    def view(self, tensor: torch.Tensor) -> View:
        """Return the memory that a tensor shows."""
        return View(
            self.storage(tensor),
            tensor.dtype,
            tuple(tensor.shape),
            tensor.stride(),
            int(tensor.storage_offset()),
            tensor.is_conj(),
            tensor.is_neg(),
        )

    def views(self, arguments: Any) -> Any:
        """Return arguments of a call with each tensor's view in its place."""
        return map_leaves(lambda x: self.view(x) if isinstance(x, torch.Tensor) else x, arguments)

    def add(self, call: Call) -> None:
        """Append a call."""
        call.at, self.length = self.length, self.length + 1
        for storage in {view.storage for view in call.writes}:
            self.writers.setdefault(storage, []).append(call)

    def is_whole(self, view: View) -> bool:
        """Return whether a view shows all that its storage holds."""
        return bool(view.numel * view.dtype.itemsize == self.storages[view.storage].nbytes())

    def history(self, *storages: int, before: int | None = None) -> list[Call]:
        """Return the calls that what is in storages at the end depends on, in order.

        With `before`, what is there when the tape has so many calls.
        """
        calls: dict[int, Call] = {}
        seen: set[tuple[int, int]] = set()
        todo = [(storage, self.length if before is None else before) for storage in storages]
        while todo:
            storage, end = todo.pop()
            writers = self.writers.get(storage, [])
            at = bisect_left(writers, end, key=lambda call: call.at)
            if (storage, at) in seen:
                continue
            seen.add((storage, at))
            for call in reversed(writers[:at]):
                if call.at not in calls:
                    calls[call.at] = call
                    todo += [(read, call.at) for read in call.reads]
                if storage in call.replaces:
                    break
        return [calls[at] for at in sorted(calls)]

    def replaced_after(self, call: Call, storage: int) -> int:
        """Return how often a storage was written as a whole after a call."""
        return sum(c.at > call.at and storage in c.replaces for c in self.writers[storage])

    def undefined(self, view: View, calls: list[Call]) -> bool:
        """Return whether some element of a view, or of what it depends on, was never written."""
        written: dict[int, list[View]] = {}
        for call in calls:
            for storage in call.reads - written.keys():
                if storage not in self.initial:
                    return True
            if any(
                read.numel and not _covers(written[read.storage], read)
                for read in _views(call)
                if read.storage in call.reads and read.storage not in self.initial
            ):
                return True
            for each in call.writes:
                if each.storage in call.replaces:
                    written[each.storage] = [View(each.storage, each.dtype, (), (), -1)]
                written.setdefault(each.storage, []).append(each)
        if view.storage in self.initial or view.numel == 0:
            return False
        return not _covers(written.get(view.storage, []), view)


def _views(call: Call) -> list[View]:
    """Return what of its arguments are views."""
    return leaves_of(View, (call.args, call.kwargs))


def _covers(parts: list[View], view: View) -> bool:
    """Return whether parts of a storage hold all elements of a view of it."""
    if any(part.offset < 0 for part in parts):  # as a whole
        return True
    if not parts:
        return False
    if any(part.dtype != view.dtype for part in parts):  # such as the parts of complex numbers
        size = min(each.dtype.itemsize for each in [*parts, view])
        parts, view = [_in_units(part, size) for part in parts], _in_units(view, size)
    if any(part.geometry == view.geometry for part in parts):
        return True
    runs = sorted((part.offset, part.offset + part.numel) for part in parts if _is_run(part))
    if len(runs) == len(parts) and _is_run(view):
        reached = view.offset
        for begin, end in runs:
            if begin > reached:
                return False
            reached = max(reached, end)
        return reached >= view.offset + view.numel
    length = max(_end(part) for part in [*parts, view])
    there = torch.zeros(length, dtype=torch.bool)
    for part in parts:
        there.as_strided(part.shape, part.stride, part.offset).fill_(True)
    return bool(there.as_strided(view.shape, view.stride, view.offset).all())


def _in_units(view: View, size: int) -> View:
    """Return a view's memory as elements of so many bytes, which divide its own."""
    n = view.dtype.itemsize // size
    stride = (*(n * step for step in view.stride), 1)
    return View(view.storage, torch.uint8, (*view.shape, n), stride, n * view.offset)


def _end(view: View) -> int:
    """Return the number of elements up to a view's last in memory."""
    reach = sum((n - 1) * step for n, step in zip(view.shape, view.stride, strict=True))
    return view.offset + reach + 1 if view.numel else 0


def _is_run(view: View) -> bool:
    """Return whether a view's elements lie side by side in memory, in order."""
    expected = 1
    for n, step in zip(reversed(view.shape), reversed(view.stride), strict=True):
        if n != 1 and step != expected:
            return False
        expected *= n
    return True
