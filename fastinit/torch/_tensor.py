"""PyTorch's tensors and generators as the entry point takes them: memory, and a key.

A plain tensor is one piece of memory. A `DTensor` is the pieces that this process holds, each
with its place in the whole, so that every process draws its own part and no other's.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise, product
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fastinit import _settings, random
from fastinit._distributions import Distribution
from fastinit._fill import (
    FLOAT_FORMATS,
    FloatFormat,
    check_overlap,
    index_steps,
    is_sharded,
    params_in,
    say_drawn_by,
)
from fastinit._kernels import Cursor, cursor_of, fill_line
from fastinit.random import RNG, as_generator, default_rng
from fastinit.torch import _devices
from fastinit.torch._devices import line_error
from fastinit.torch._private import count_writes, local_tensor, split, storage_number

RandomSource: TypeAlias = torch.Generator | RNG

DTYPES: dict[torch.dtype, FloatFormat] = {
    getattr(torch, name): known for name, known in FLOAT_FORMATS.items() if hasattr(torch, name)
}
COMPLEX_DTYPES = (torch.complex64, torch.complex128)
_PLAIN = {torch.Tensor, torch.nn.Parameter, torch.nn.Buffer}


class Piece(NamedTuple):
    """A part of a tensor in this process's memory, and where in the whole it is."""

    memory: torch.Tensor
    box: tuple[slice, ...]


class _Words:
    """Two 64-bit words to draw a key into."""

    def __init__(self) -> None:
        with torch.inference_mode(False):
            words = torch.empty(2, dtype=torch.int64, device="cpu")
            # PyTorch's operators take the GIL to count the references to a tensor that nothing
            # but Python owns, and a key then takes a third longer. A view owns its tensor.
            self._owner = words[:]
        self.draw, self.array = words.random_, words.numpy()


# Those that no call uses at the moment; none are made on import, which may be within a mode of
# PyTorch's whose tensors have no memory. A call takes one of them for itself: another thread, or a
# signal's handler, may draw a key of its own before this one is read.
_words: list[_Words] = []


def cursor(generator: RandomSource | Cursor) -> Cursor:
    """Return where to draw from: a key from torch's generator, or a fastinit generator.

    A key is two numbers of 63 bits. They are the generator's output, not a seed, so that no
    hash has to spread them; the next call draws others.
    """
    if generator is not None and type(generator) is not torch.Generator:
        return generator if isinstance(generator, Cursor) else as_generator(generator, "generator")
    try:
        words = _words.pop()
    except IndexError:
        words = _Words()
    if generator is None:
        words.draw()
    else:
        words.draw(generator=generator)
    rng = cursor_of(words.array)
    _words.append(words)
    return rng


def generator_of(seed: RandomSource | Cursor, name: str = "seed") -> random.Generator:
    """Return a fastinit generator, which unlike a cursor has streams by name."""
    if seed is None or isinstance(seed, torch.Generator):
        seed = cursor(seed)
    if isinstance(seed, Cursor) and not isinstance(seed, random.Generator):
        return default_rng(seed.key)
    return as_generator(seed, name)


def torchs_generator(
    generator: RandomSource | Cursor, device: torch.device
) -> torch.Generator | None:
    """Return what torch's own functions take: one of theirs, or one seeded from ours.

    On the meta device nothing is drawn, and there are no generators.
    """
    if device.type == "meta":
        return None
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    rng = cursor(generator)
    return torch.Generator(device).manual_seed(rng.key[0] ^ rng.take(1))


def is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is no subclass's, and dense."""
    return type(tensor) in _PLAIN and tensor.layout is torch.strided


def known_dtype(tensor: torch.Tensor) -> FloatFormat | None:
    """Return the dtype of a tensor that fastinit can fill, on any device; None if torch has to."""
    if type(tensor) in _PLAIN:
        if tensor.is_meta or tensor.is_neg() or tensor.layout is not torch.strided:
            return None
        # Torch refuses to write an inference tensor outside inference mode.
        if tensor.is_inference() and not torch.is_inference_mode_enabled():
            return None
        return DTYPES.get(tensor.dtype)
    if not is_sharded(tensor) or any(p.is_partial() for p in tensor.placements):
        return None
    return known_dtype(local_tensor(tensor))


def real_views(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return views of both parts of complex numbers that fastinit can fill; none if it cannot."""
    if tensor.dtype not in COMPLEX_DTYPES or not is_plain(tensor):
        return ()
    if tensor.is_conj() or tensor.is_neg():
        return ()
    views: tuple[torch.Tensor, ...] = torch.view_as_real(tensor.detach()).unbind(-1)
    return views if known_dtype(views[0]) is not None else ()


def refusal(tensor: torch.Tensor) -> str:
    """Return why fastinit cannot fill a tensor; nothing if it can."""
    if known_dtype(tensor) is not None:
        return ""
    if is_sharded(tensor):
        partial = any(p.is_partial() for p in tensor.placements)
        return "a DTensor with a partial placement" if partial else refusal(local_tensor(tensor))
    if tensor.is_meta:
        return "a tensor without memory"
    if type(tensor) not in _PLAIN:
        return f"a {type(tensor).__name__}, a subclass of torch.Tensor"
    if tensor.layout is not torch.strided:
        return f"a tensor of layout {tensor.layout}"
    if tensor.dtype not in DTYPES:
        return f"a tensor of dtype {tensor.dtype}"
    return unwritable(tensor)


def unwritable(tensor: torch.Tensor) -> str:
    """Return why the memory of a plain tensor is not to be written as it is; nothing if it is."""
    if tensor.is_neg():
        return "a view of the negatives of other values"
    if tensor.is_conj():
        return "a view of the conjugates of other values"
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        return "an inference tensor, outside of inference mode"
    return ""


say_torchs = partial(say_drawn_by, "PyTorch")


def local_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return what of a tensor is in this process's memory."""
    local: torch.Tensor = local_tensor(tensor) if is_sharded(tensor) else tensor
    return local


def storage_of(tensor: torch.Tensor) -> int | None:
    """Return what tensors that share memory have in common; None if that is not known."""
    local = local_of(tensor)
    if type(local) not in _PLAIN or local.layout is not torch.strided:
        return None
    return storage_number(local.untyped_storage())


def fill(
    tensor: torch.Tensor,
    dtype: FloatFormat,
    distribution: Distribution,
    rng: Cursor,
    start: int | None = None,
    steps: list[int] | None = None,
) -> torch.Tensor:
    """Fill what this process holds of a tensor; the generator moves on by the whole's size.

    With `start` and `steps`, the tensor is a part of another: the index of its first element
    there, and what each axis adds; the generator stays.
    """
    if start is None and type(tensor) in _PLAIN and tensor.is_cpu and tensor.is_contiguous():
        # In few steps, as each call of PyTorch's takes as long as several values, and by the C
        # kernels, whichever backend is set. Another thread may give the tensor other memory, and
        # another dtype, at any moment (``x.data = y``): this memory stays as long as its storage
        # is held, and what is filled lies within it. A lazy copy, asked for its address, gets
        # memory of its own.
        storage = tensor.untyped_storage()
        filled = fill_line(
            distribution,
            dtype,
            params_in,
            storage.data_ptr(),
            storage.nbytes(),
            tensor.storage_offset(),
            tensor.numel(),
            rng,
            _settings.default_threads,
        )
        if not filled:
            raise line_error(tensor, dtype)
    else:
        _fill_pieces(tensor, dtype, distribution, rng, start, steps)
    count_writes((tensor,))
    return tensor


def _fill_pieces(
    tensor: torch.Tensor,
    dtype: FloatFormat,
    distribution: Distribution,
    rng: Cursor,
    start: int | None,
    steps: list[int] | None,
) -> None:
    local = local_of(tensor)
    params_in(distribution, dtype)  # these two refuse before the generator moves on
    check_overlap(tuple(local.shape), local.stride(), 1)
    if start is None:
        rng, start = Cursor(rng.key, rng.take(tensor.numel())), 0
    steps = index_steps(tuple(tensor.shape)) if steps is None else steps
    for memory, box in pieces(tensor):
        first = start + sum(part.start * step for part, step in zip(box, steps, strict=True))
        _devices.fill(memory, dtype, distribution, rng, first, steps)


def pieces(tensor: torch.Tensor) -> Iterator[Piece]:
    """Yield what this process holds of a tensor: all of it, or boxes of a DTensor."""
    local = local_of(tensor).detach()
    if not is_sharded(tensor):
        yield Piece(local, tuple(slice(0, length) for length in tensor.shape))
        return
    for runs in product(*_runs(tensor)):
        yield Piece(
            local[tuple(slice(run.at, run.at + run.length) for run in runs)],
            tuple(slice(run.first, run.first + run.length) for run in runs),
        )


class _Run(NamedTuple):
    """Indices of an axis that lie together: the first, its place in memory, how many."""

    first: int
    at: int
    length: int


def _runs(tensor: torch.Tensor) -> list[list[_Run]]:
    """Return the runs of each axis that this process holds; none outside the mesh.

    The placements themselves split a line of indices, so that uneven and strided shards
    are where torch has them.
    """
    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return [[]]
    runs = []
    for axis, length in enumerate(tensor.shape):
        line = [length if a == axis else 1 for a in range(tensor.ndim)]
        held = torch.arange(length, device="cpu").reshape(line)
        for n, at, placement in zip(mesh.shape, coordinate, tensor.placements, strict=True):
            if not placement.is_replicate() and placement.dim == axis:
                held = split(placement, held, n)[at]
        runs.append(_consecutive(held.numpy().ravel()))
    return runs


def local_row(tensor: torch.Tensor, row: int) -> torch.Tensor:
    """Return what this process holds of a DTensor's row: maybe nothing."""
    local, index = local_of(tensor).detach(), row % tensor.shape[0]
    for run in _runs(tensor)[0]:
        if 0 <= index - run.first < run.length:
            return local[run.at + index - run.first]
    return local[:0]


def _consecutive(indices: NDArray[Any]) -> list[_Run]:
    """Return the runs of a line of indices."""
    cuts = np.flatnonzero(np.diff(indices) != 1) + 1
    edges = [0, *cuts.tolist(), len(indices)] if len(indices) else []
    return [_Run(int(indices[at]), at, end - at) for at, end in pairwise(edges)]
