"""What a tensor's calls amount to, if it is fills of ours and constants in boxes of it.

Such a tensor can be written part by part, in any dtype, by whoever holds a part of it. A draw that
was copied, multiplied by a number or shifted by one is a draw with other parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch

from fastinit import random
from fastinit._fill import index_steps
from fastinit._kernels import Cursor
from fastinit.torch import init
from fastinit.torch._tape import Call, Tape, View
from fastinit.torch._tensor import fill, known_dtype, pieces

Box: TypeAlias = tuple[slice, ...]


class Write(NamedTuple):
    """A fill of a box: by a draw or by a constant.

    Attributes
    ----------
    box : tuple of slice
        In the tensor's indices.
    params : tuple of float
        Those of the distribution, or the constant.
    call : Call or None
        What draws; None if it is a constant.
    exact : bool
        Whether these are the bits of the calls themselves; otherwise their distribution.
    stream : str
        The name of the stream that it draws from.
    """

    box: Box
    params: tuple[float, ...]
    call: Call | None = None
    exact: bool = True
    stream: str = ""

    @property
    def kind(self) -> init.Kind | None:
        """The kind of the distribution; None if it is a constant."""
        if self.call is None:
            return None
        kind: init.Kind = self.call.args[1]
        return kind

    @property
    def part(self) -> init.Part | None:
        """Where in a larger tensor the tensor is, if its author said so."""
        part: init.Part | None = None if self.call is None else self.call.args[4]
        return part

    def cursor(self, root: random.Generator) -> Cursor:
        """Return where it draws from: its stream, or the generator that the author gave it."""
        assert self.call is not None
        rng: Cursor | None = self.call.args[3]
        if rng is not None:
            return Cursor(rng.key, rng.position)
        return Cursor(root.stream(self.stream).key)


_CONSTANTS = {"zero_": 0.0, "zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0}
_ONES = {"ones": 1.0, "ones_like": 1.0, "new_ones": 1.0}
_FULL = {"fill_": 1, "full": 1, "full_like": 1, "new_full": 2}
_COPIES = {"copy_": 1, "clone": 0, "_to_copy": 0}

# By what a value is multiplied, and what is added then.
_AFFINE: dict[str, Callable[[float], tuple[float, float]]] = {
    "mul": lambda number: (number, 0.0),
    "div": lambda number: (1 / number if number else math.inf, 0.0),
    "add": lambda number: (1.0, number),
    "sub": lambda number: (1.0, -number),
    "neg": lambda _: (-1.0, 0.0),
}


def writes_of(tape: Tape, view: View, calls: Sequence[Call]) -> list[Write] | None:
    """Return a view's writes in order, of its calls; None if they are more than fills of boxes."""
    if _repeats(view):  # one fill of its memory is many equal values
        return None
    writes: list[Write] = []
    for call in calls:
        storages = [each.storage for each in call.writes]
        if view.storage not in storages:
            continue
        box = box_of(call.writes[0], view) if len(storages) == 1 else None
        if box is None:
            return None
        is_whole = box == whole(view.shape)
        write = _what(call)
        if write is None:
            alike = call.writes[0].geometry == view.geometry
            moved = _moved(tape, call, writes) if alike else None
            if moved is None:
                return None
            writes = moved
            continue
        own = write.call is not None and write.call.args[3:] != (None, None)
        if own and not is_whole:
            return None
        if write.call is None and is_whole:
            writes.clear()
        writes.append(write._replace(box=box))
    filled = sum(math.prod(side.stop - side.start for side in write.box) for write in writes)
    return writes if not writes or filled >= view.numel else None


def _repeats(view: View) -> bool:
    """Return whether a view may show some element of memory more than once, as `expand` does."""
    reach = 0
    for step, n in sorted((step, n) for step, n in zip(view.stride, view.shape, strict=True)):
        if n > 1:
            if step <= reach:
                return True
            reach += (n - 1) * step
    return False


def whole(shape: Sequence[int]) -> Box:
    """Return the box of a whole tensor."""
    return tuple(slice(0, n) for n in shape)


def _what(call: Call) -> Write | None:
    if call.function is init.draw:
        return Write((), call.args[2], call)
    name = _name(call)
    if name in _CONSTANTS or name in _ONES:
        return Write((), (_CONSTANTS.get(name, 1.0),))
    if name in _FULL:
        at = _FULL[name]
        value = call.args[at] if at < len(call.args) else call.kwargs.get("fill_value")
        if isinstance(value, (bool, int, float)):
            return Write((), (value,))
    number = _given(call)
    return None if number is None else Write((), (number,))


def _name(call: Call) -> str:
    return str(getattr(call.function, "overloadpacket", call.function).__name__)


def _given(call: Call) -> float | None:
    """Return the number that a call gives to a tensor of one element."""
    if _name(call) != "given" or call.args[0].numel() != 1 or call.args[0].is_complex():
        return None
    number: float = call.args[0].item()
    return number


def _moved(tape: Tape, call: Call, writes: list[Write]) -> list[Write] | None:
    """Return the writes of a call that copies, scales or shifts what was written before."""
    name, args = _name(call), call.args
    if name in _COPIES:
        scale, shift, source = 1.0, 0.0, args[_COPIES[name]]
    elif name.rstrip("_") in _AFFINE and len(args) <= 2 and not call.kwargs:
        number = 0.0 if len(args) == 1 else _number(tape, args[1], call.at)
        if number is None:
            return None
        scale, shift = _AFFINE[name.rstrip("_")](number)
        source = args[0]
    else:
        return None
    (target,) = call.writes
    if not isinstance(source, View) or source.shape != target.shape or not math.isfinite(scale):
        return None
    if source.storage != target.storage:
        copied = writes_of(tape, source, tape.history(source.storage, before=call.at))
        if not copied or any(w.call and w.call.args[0].geometry != source.geometry for w in copied):
            return None
        writes = copied
    elif source.geometry != target.geometry:
        return None
    moved = [_affine(write, scale, shift, source.dtype, target.dtype) for write in writes]
    return [write for write in moved if write is not None] if None not in moved else None


def _number(tape: Tape, x: object, before: int) -> float | None:
    """Return a number, given as such or as a tensor that was made of it."""
    if isinstance(x, (bool, int, float)):
        return float(x)
    calls = tape.history(x.storage, before=before) if isinstance(x, View) else []
    number = _given(calls[0]) if len(calls) == 1 else None
    return None if number is None else float(number)


def _affine(
    write: Write, scale: float, shift: float, old: torch.dtype, new: torch.dtype
) -> Write | None:
    """Return a write, its values times a number plus another, in another dtype."""
    if write.call is None:
        same = old == new and scale == 1 and shift == 0
        return write if same or (not any(write.params) and shift == 0) else None
    if not (scale and old.is_floating_point and new.is_floating_point):
        return None
    if new.itemsize > old.itemsize or write.call.args[3:] != (None, None):
        return None  # the values of a narrow dtype are few; an author's own generator has its bits
    exact = scale == 1 and shift == 0 and (old == new or old.itemsize < 8)
    kind, params = write.call.args[1], write.params

    def at(value: float) -> float:
        return value * scale + shift

    if kind is init.UNIFORM:
        params = tuple(sorted(map(at, params)))
    elif kind is init.NORMAL_WITHIN:
        params = (at(params[0]), params[1] * abs(scale), *sorted(map(at, params[2:])))
    elif kind is init.NORMAL:
        params = (at(params[0]), params[1] * abs(scale))
    else:
        bounds = params[2:] if scale > 0 else (-params[3], -params[2])
        params = (at(params[0]), params[1] * abs(scale), *bounds)
    return write._replace(params=params, exact=write.exact and exact)


def box_of(part: View, view: View) -> Box | None:
    """Return where in a tensor a part of it lies, if that is a box; the axes in any order."""
    if part.dtype != view.dtype or part.storage != view.storage or part.conjugated or part.negated:
        return None
    if part.geometry == view.geometry:
        return whole(view.shape)
    if not view.numel or not part.numel:
        return None
    order = sorted(range(len(view.shape)), key=lambda axis: -view.stride[axis])
    rest, begins = part.offset - view.offset, [0] * len(view.shape)
    for axis in order:
        if view.shape[axis] > 1:
            begins[axis], rest = divmod(rest, view.stride[axis]) if view.stride[axis] else (0, rest)
    lengths = [1] * len(view.shape)
    for n, step in zip(part.shape, part.stride, strict=True):
        along = [a for a in order if view.stride[a] == step and view.shape[a] > 1]
        along = [a for a in along if lengths[a] == 1]
        if n > 1 and not along:
            return None
        if n > 1:
            lengths[along[0]] = n
    ends = [begin + n for begin, n in zip(begins, lengths, strict=True)]
    if rest or any(not 0 <= b <= e <= n for b, e, n in zip(begins, ends, view.shape, strict=True)):
        return None
    return tuple(slice(b, e) for b, e in zip(begins, ends, strict=True))


def write(tensor: torch.Tensor, writes: Sequence[Write], root: random.Generator) -> None:
    """Do writes to what this process holds of a tensor."""
    dtype, shape = known_dtype(tensor), tuple(tensor.shape)
    for each in writes:
        if each.kind is not None and each.box == whole(shape) and each.part is None:
            assert dtype is not None
            fill(tensor, dtype, each.kind.distribution(*each.params), each.cursor(root))
            continue
        for memory, held in pieces(tensor):
            write_part(memory, held, shape, [each], root)


def write_part(
    memory: torch.Tensor,
    held: Box,
    shape: tuple[int, ...],
    writes: Sequence[Write],
    root: random.Generator,
) -> None:
    """Do writes to a tensor of some shape in memory that holds a box of it."""
    steps = list(index_steps(shape))
    for each in writes:
        part = _common(each.box, held)
        if part is None:
            continue
        inner = memory[tuple(slice(p.start - h.start, p.stop - h.start)
                             for p, h in zip(part, held, strict=True))]  # fmt: skip
        if each.kind is None:
            inner.fill_(each.params[0])
            continue
        dtype = known_dtype(inner)
        assert dtype is not None
        start, along = (0, steps) if each.part is None else (each.part.start, [*each.part.steps])
        start += sum(p.start * step for p, step in zip(part, along, strict=True))
        fill(inner, dtype, each.kind.distribution(*each.params), each.cursor(root), start, along)


def _common(a: Box, b: Box) -> Box | None:
    both = tuple(
        slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True)
    )
    return both if all(p.start < p.stop for p in both) else None


def needs_draws(writes: Sequence[Write]) -> bool:
    """Return whether any of the writes draws."""
    return any(each.kind is not None for each in writes)
