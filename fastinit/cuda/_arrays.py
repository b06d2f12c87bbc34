"""Other libraries' arrays in a GPU's memory: CuPy's, Numba's, and whatever has the same interfaces.

A NumPy array stands for the memory, so that the entry point's checks are the same for all. NumPy
looks at an array's memory when its values are asked for, and nobody asks for them here.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit._errors import type_error, with_name
from fastinit.cuda._launch import fill, missing

_CUDA, _CUDA_MANAGED = 2, 13  # DLPack's numbers of devices: kDLCUDA, kDLCUDAManaged
_DEFAULT_STREAM = 1  # as DLPack and the CUDA array interface number it


class OnGPU(NamedTuple):
    """What stands for an array of a GPU: NumPy's, not to be read, and what fills it."""

    array: NDArray[Any]
    fill: Callable[..., None]


class _Interface:
    """An object with NumPy's array interface."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface


def array_at(
    address: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    strides: tuple[int, ...] | None = None,
    readonly: bool = False,
) -> NDArray[Any]:
    """Return an array that stands for memory at an address; in C order if no strides are given."""
    array = np.asarray(
        _Interface(
            {
                "version": 3,
                "shape": shape,
                "typestr": np.dtype(f"u{dtype.itemsize}").str,  # also where NumPy lacks the dtype
                # Without elements there may be no address, which NumPy would not take.
                "data": (address or dtype.itemsize, readonly),
                "strides": strides,
            }
        )
    )
    return array.view(dtype)


def on_gpu(x: object) -> OnGPU | None:
    """Return what stands for an array of a GPU (as x itself may), or None if x is no such array.

    Raises
    ------
    RuntimeError
        If it is one, and there is no driver or compiler to fill it with.
    TypeError
        If it is one of a dtype that the interface does not name.
    """
    if isinstance(x, OnGPU):
        return x
    # PyTorch's own tells no stream, and not every dtype.
    interface = None if _is_torchs(x) else getattr(x, "__cuda_array_interface__", None)
    if interface is None:
        if not _is_dlpacks(x):
            return None
        _require()
        return _from_dlpack(x)
    _require()
    stream = interface.get("stream") or _DEFAULT_STREAM
    array = np.asarray(_Interface({key: interface[key] for key in interface if key != "stream"}))
    return OnGPU(array, partial(fill, stream=stream))


def _require() -> None:
    if reason := missing():
        text = f"x is in a GPU's memory, which fastinit cannot fill here: {reason}"
        raise RuntimeError(with_name(text))


def _is_torchs(x: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def _is_dlpacks(x: object) -> bool:
    device = getattr(x, "__dlpack_device__", None)
    return device is not None and device()[0] in (_CUDA, _CUDA_MANAGED)


class _Tensor(ctypes.Structure):
    """DLPack's DLTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    """DLPack's DLManagedTensorVersioned, from its 1.0 on."""

    _fields_ = (
        ("version", ctypes.c_uint32 * 2),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_READ_ONLY = 1  # DLPACK_FLAG_BITMASK_READ_ONLY

# DLPack's codes of types and their bits -> NumPy's and ml_dtypes' names.
_NAMES = {
    (2, 32): "float32",
    (2, 64): "float64",
    (2, 16): "float16",
    (4, 16): "bfloat16",
    (10, 8): "float8_e4m3fn",
    (12, 8): "float8_e5m2",
    **{(0, bits): f"int{bits}" for bits in (8, 16, 32, 64)},
    **{(1, bits): f"uint{bits}" for bits in (8, 16, 32, 64)},
    (6, 8): "bool",
}

_name_of = ctypes.pythonapi.PyCapsule_GetName
_name_of.restype, _name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _from_dlpack(x: Any) -> OnGPU:
    """Return what stands for x; the capsule is not consumed, and gives x back when it dies."""
    stream = _torchs_stream(x) if _is_torchs(x) else _DEFAULT_STREAM
    try:
        capsule = x.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:  # a producer from before DLPack 1.0
        capsule = x.__dlpack__(stream=stream)
    name = _name_of(capsule)
    pointer = _pointer_of(capsule, name)
    readonly = False
    if name == b"dltensor_versioned":
        versioned = _Versioned.from_address(pointer)
        tensor, readonly = versioned.tensor, bool(versioned.flags & _READ_ONLY)
    else:
        tensor = _Tensor.from_address(pointer)
    array = _array_of(tensor, readonly)
    # Only of PyTorch we know the stream that it goes on with: any other waits for the fill.
    return OnGPU(array, partial(fill, stream=stream, wait=not _is_torchs(x)))


def _torchs_stream(x: Any) -> int:
    """Return the stream that PyTorch works on; its default one is CUDA's."""
    return int(sys.modules["torch"].cuda.current_stream(x.device).cuda_stream) or _DEFAULT_STREAM


def _array_of(tensor: _Tensor, readonly: bool) -> NDArray[Any]:
    from fastinit._fill import as_dtype

    key = tensor.code, tensor.bits
    if key not in _NAMES or tensor.lanes != 1:
        raise type_error(f"x has the type {key} of DLPack; allowed: {', '.join(_NAMES.values())}")
    dtype = as_dtype(_NAMES[key])
    shape = tuple(tensor.shape[: tensor.ndim])
    if tensor.strides:
        steps = tuple(tensor.strides[: tensor.ndim])
    else:  # in C order
        steps = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    strides = tuple(step * dtype.itemsize for step in steps)
    return array_at((tensor.data or 0) + tensor.offset, shape, dtype, strides, readonly)
