"""The C kernels by their addresses: no compiler, no wrapper, and no lock on the interpreter."""

import ctypes

import numpy as np

import fastinit as fi


class Key(ctypes.Structure):
    """fi_key."""

    _fields_ = (("k0", ctypes.c_uint64), ("k1", ctypes.c_uint64))


FI_KERNEL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64, Key, ctypes.c_void_p
)

api = fi.capi()
normal = FI_KERNEL(api.kernels["normal", "bfloat16"])

rng = fi.default_rng(42)
bits = np.empty(1000, np.uint16)
mean_and_std = (ctypes.c_double * 2)(0.0, 0.02)
normal(bits.ctypes.data, bits.size, 0, Key(*rng.key), mean_and_std)

assert bits.tobytes() == fi.normal(1000, 0.0, 0.02, rng=rng, dtype="bfloat16").tobytes()
print(f"{api.stream}, {api.isa}, ABI {api.abi}: {bits[:3]}")
