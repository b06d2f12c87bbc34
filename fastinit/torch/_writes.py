"""What a tensor's calls amount to, if it is fills of ours and constants in boxes of it.

Such a tensor can be written part by part, in any dtype, by whoever holds a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch

from fastinit._fill import index_steps
from fastinit._kernels import Cursor
from fastinit.torch import init
from fastinit.torch._tape import Call, View
from fastinit.torch._tensor import fill, known_dtype, pieces

Box: TypeAlias = tuple[slice, ...]


class Write(NamedTuple):
    """A fill of a box: by a kind of distribution with its parameters, or by a constant."""

    box: Box
    kind: init.Kind | None
    params: tuple[float, ...]
    rng: Cursor | None = None


_CONSTANTS = {"zero_": 0.0, "zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0}
_ONES = {"ones": 1.0, "ones_like": 1.0, "new_ones": 1.0}
_FULL = {"fill_": 1, "full": 1, "full_like": 1, "new_full": 2}


def writes_of(view: View, calls: Sequence[Call]) -> list[Write] | None:
    """Return a tensor's writes in order; None if they are more than fills of boxes."""
    writes: list[Write] = []
    for call in calls:
        if [each.storage for each in call.writes] != [view.storage]:
            return None
        box = box_of(call.writes[0], view)
        what = _what(call)
        if box is None or what is None:
            return None
        if what.rng is not None and box != whole(view.shape):
            return None
        if not what.kind and box == whole(view.shape):
            writes.clear()
        writes.append(what._replace(box=box))
    return writes


def whole(shape: Sequence[int]) -> Box:
    """Return the box of a whole tensor."""
    return tuple(slice(0, n) for n in shape)


def _what(call: Call) -> Write | None:
    if call.function is init.draw:
        _, kind, params, rng = call.args
        return Write((), kind, params, rng)
    name = getattr(call.function, "overloadpacket", call.function).__name__
    if name in _CONSTANTS or name in _ONES:
        return Write((), None, (_CONSTANTS.get(name, 1.0),))
    if name in _FULL:
        at = _FULL[name]
        value = call.args[at] if at < len(call.args) else call.kwargs.get("fill_value")
        if isinstance(value, (bool, int, float)):
            return Write((), None, (value,))
    if name == "given" and call.args[0].numel() == 1 and not call.args[0].is_complex():
        return Write((), None, (call.args[0].item(),))
    return None


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


def write(tensor: torch.Tensor, writes: Sequence[Write], key: tuple[int, int]) -> None:
    """Do writes to what this process holds of a tensor; draws have a key, and their indices."""
    dtype = known_dtype(tensor)
    steps = index_steps(tuple(tensor.shape))
    for each in writes:
        rng = Cursor(key) if each.rng is None else Cursor(each.rng.key, each.rng.position)
        if each.kind is not None and each.box == whole(tensor.shape):
            assert dtype is not None
            fill(tensor, dtype, each.kind.distribution(*each.params), rng)
            continue
        for memory, held in pieces(tensor):
            part = _common(each.box, held)
            if part is None:
                continue
            inner = memory[tuple(slice(p.start - h.start, p.stop - h.start)
                                 for p, h in zip(part, held, strict=True))]  # fmt: skip
            if each.kind is None:
                inner.fill_(each.params[0])
            else:
                assert dtype is not None
                start = sum(p.start * step for p, step in zip(part, steps, strict=True))
                fill(inner, dtype, each.kind.distribution(*each.params), rng, start, list(steps))


def _common(a: Box, b: Box) -> Box | None:
    both = tuple(
        slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True)
    )
    return both if all(p.start < p.stop for p in both) else None


def needs_draws(writes: Sequence[Write]) -> bool:
    """Return whether any of the writes draws."""
    return any(each.kind is not None for each in writes)
