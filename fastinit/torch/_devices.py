"""A tensor's memory on any device: filled where it is, or drawn on the CPU and copied there.

The values are those of the CPU. For devices without kernels of ours, blocks of a few MiB are drawn
into pinned memory, where the device has it, and copied while the next is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fastinit import _kernels, cuda
from fastinit._distributions import Distribution
from fastinit._errors import value_error
from fastinit._fill import ALIGNED, FloatFormat, check_overlap, fill_memory, params_in
from fastinit._kernels import Cursor

# Fills a tensor of the CPU, which is the part of another that begins there.
Write: TypeAlias = Callable[[torch.Tensor, tuple[int, ...]], object]

_BUFFERS = 2  # one is drawn into while the other is copied
_BUFFER_BYTES = 1 << 22

_HUGE = 2**22  # bytes from which huge pages pay: fewer hold hardly one of 2 MiB in full

_NUMPY_KNOWS = {torch.float32, torch.float64, torch.float16}


class _Shown:
    """A tensor's memory as NumPy takes it, and the tensor, which it belongs to.

    After `Tensor.numpy` a storage can never be resized again, which FSDP would do.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor = tensor.detach()  # which keeps this memory, whatever x.data becomes
        require_memory(tensor)
        known = tensor.dtype in _NUMPY_KNOWS
        self.__array_interface__ = {
            "data": (tensor.data_ptr(), False),
            "shape": tuple(tensor.shape),
            "strides": tuple(step * tensor.itemsize for step in tensor.stride()),
            "typestr": np.dtype(f"{'f' if known else 'i'}{tensor.itemsize}").str,
            "version": 3,
        }


def array_of(tensor: torch.Tensor) -> NDArray[Any]:
    """Return the tensor's memory as an array, of bit patterns where NumPy lacks the dtype.

    Of a GPU's memory too: NumPy does not look at it until values are asked for.
    """
    return np.asarray(_Shown(tensor))


def has_memory(tensor: torch.Tensor) -> bool:
    """Return whether the tensor's storage holds all of its elements.

    It does not if it was resized after the tensor was made: torch checks that it was not freed,
    and writes beyond the end of one that is merely shorter.
    """
    n = tensor.numel()
    if n and not tensor.is_contiguous():
        n = 1 + sum((m - 1) * s for m, s in zip(tensor.shape, tensor.stride(), strict=True))
    end: int = (tensor.storage_offset() + n) * tensor.itemsize
    return n == 0 or bool(end <= tensor.untyped_storage().nbytes())


def advise_huge(tensor: torch.Tensor) -> None:
    """Ask for huge pages for memory of the CPU's that nobody has touched.

    Its first touch can cost more than its values do: with pages of 4 KiB a fill takes 1.5 times as
    long.
    """
    if tensor.is_cpu and tensor.nbytes >= _HUGE:
        _kernels.advise_huge(tensor.data_ptr(), tensor.nbytes)


def require_memory(tensor: torch.Tensor) -> None:
    """Raise RuntimeError, as torch does, unless the tensor has memory."""
    if not has_memory(tensor):
        raise _no_memory(tensor)


def _no_memory(tensor: torch.Tensor) -> RuntimeError:
    return RuntimeError(
        f"the tensor, of shape {tuple(tensor.shape)} and {tensor.dtype}, does not lie within "
        f"the {tensor.untyped_storage().nbytes()} bytes of its storage, which was resized; "
        "allowed: a tensor whose memory is there"
    )


def line_error(tensor: torch.Tensor, dtype: FloatFormat) -> Exception:
    """Return why the elements of a contiguous tensor of the CPU cannot be filled as they lie."""
    if has_memory(tensor) and tensor.data_ptr() % dtype.itemsize:
        return value_error(f"x is not aligned to its dtype, {dtype.name}; {ALIGNED}")
    return _no_memory(tensor)


def fill(
    memory: torch.Tensor,
    dtype: FloatFormat,
    distribution: Distribution,
    rng: Cursor,
    start: int,
    steps: list[int],
) -> None:
    """Fill a plain tensor wherever it is: its first element has the index `start`.

    `start` counts from the generator's position, which stays; `steps` is what each axis adds.
    """
    if memory.is_cpu:
        fill_memory(distribution, array_of(memory), dtype, rng, start, steps=steps)
    elif _natively(memory.device):
        array, write = array_of(memory), _writer(memory)  # the array is not to be read
        fill_memory(distribution, array, dtype, rng, start, steps=steps, write=write)
    else:
        params_in(distribution, dtype)  # to refuse before the first copy

        def draw(part: torch.Tensor, at: tuple[int, ...]) -> None:
            first = start + sum(n * step for n, step in zip(at, steps, strict=True))
            fill_memory(distribution, array_of(part), dtype, rng, first, steps=steps)

        on_cpu(memory, draw)


def _natively(device: torch.device) -> bool:
    """Return whether CUDA's kernels fill the device: PyTorch calls AMD's GPUs cuda too."""
    return device.type == "cuda" and torch.version.hip is None and cuda.missing() is None


def _writer(memory: torch.Tensor) -> Callable[..., None]:
    """Return what fills a GPU's memory on the stream that PyTorch works on there."""
    stream = torch.cuda.current_stream(memory.device)

    def write(*request: Any) -> None:
        try:
            cuda.fill(*request, device=memory.device.index, stream=stream.cuda_stream)
        except RuntimeError:
            stream.synchronize()  # a lost device: PyTorch has an error of its own for it
            raise

    return write


def on_cpu(memory: torch.Tensor, write: Write) -> None:
    """Have a plain tensor, wherever it is, written by what can write the CPU's memory only.

    Parameters
    ----------
    memory : torch.Tensor
        Of any device and strides.
    write : callable
        Called as ``write(part, at)`` for parts that make up the tensor: `part` is memory of the
        CPU, of the tensor's dtype, to be filled with what belongs at the index `at`.

    Raises
    ------
    ValueError
        If elements of the tensor overlap.
    RuntimeError
        As PyTorch's copies.
    """
    memory = memory.detach()
    if memory.is_cpu:
        write(memory, (0,) * memory.ndim)
        return
    if memory.device.type != "xla":  # whose tensors have no storage that could be seen
        require_memory(memory)
    check_overlap(tuple(memory.shape), memory.stride(), 1)
    order = sorted(range(memory.ndim), key=memory.stride, reverse=True)
    most = _BUFFER_BYTES // memory.itemsize
    stage = _Stage(
        memory.device, min(memory.numel(), most) * memory.itemsize, memory.numel() > most
    )
    for part, at in _parts(memory, (0,) * memory.ndim, order, most):
        stage.copy_to(part, at, order, write)
    stage.finish()


def _parts(
    memory: torch.Tensor, at: tuple[int, ...], order: list[int], most: int
) -> Iterator[tuple[torch.Tensor, tuple[int, ...]]]:
    """Yield parts of at most so many elements, as even as can be, and where each begins.

    They are cut along the axes in their order in memory, so that each lies together there.
    """
    if memory.numel() <= most:
        if memory.numel():
            yield memory, at
        return
    axis = next(axis for axis in order if memory.shape[axis] > 1)
    length = memory.shape[axis]
    rows = -(-length // -(-memory.numel() // most))
    for first in range(0, length, rows):
        part = memory.narrow(axis, first, min(rows, length - first))
        begin = (*at[:axis], at[axis] + first, *at[axis + 1 :])
        yield from _parts(part, begin, order, most)


class _Stage:
    """Buffers of the CPU, used in turn; pinned, if the device has that and there is more than one.

    From pinned memory a copy goes on by itself, and an event says when the buffer is free again.
    """

    def __init__(self, device: torch.device, nbytes: int, several: bool) -> None:
        self._device = device
        self._events: list[torch.Event] = []
        self._count = 0
        try:
            if several:
                self._buffers = [_bytes(nbytes, pinned=True) for _ in range(_BUFFERS)]
                self._events = [torch.Event(device) for _ in range(_BUFFERS)]
                return
        except (RuntimeError, NotImplementedError):
            pass  # this device, or this version of PyTorch, has no such memory
        self._buffers = [_bytes(nbytes)]

    def copy_to(
        self, part: torch.Tensor, at: tuple[int, ...], order: list[int], write: Write
    ) -> None:
        """Have a buffer written, laid out as the part is, and copy it there."""
        number = self._count % len(self._buffers)
        if self._events and self._count >= len(self._buffers):
            self._events[number].synchronize()
        self._count += 1
        buffer = self._buffers[number][: part.numel() * part.itemsize].view(part.dtype)
        lying = buffer.view([part.shape[axis] for axis in order])
        staged = lying.permute([order.index(axis) for axis in range(part.ndim)])
        write(staged, at)
        part.copy_(staged, non_blocking=bool(self._events))
        if self._events:
            self._events[number].record(torch.accelerator.current_stream(self._device))

    def finish(self) -> None:
        """Wait until every buffer is free."""
        for event in self._events[: self._count]:
            event.synchronize()


def _bytes(count: int, pinned: bool = False) -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.empty(count, dtype=torch.uint8, device="cpu", pin_memory=pinned)
