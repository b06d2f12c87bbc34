"""NVIDIA's driver: devices, their contexts, and kernels launched on a caller's stream.

Every call of `cuda.bindings.driver` is here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from cuda.bindings import driver

from fastinit.cuda import _compile, _plan

# Blocks of the grid for each multiprocessor: with 256 threads each, all that it can hold.
_BLOCKS_EACH = 8


def _checked(result: tuple[Any, ...]) -> Any:
    """Return what a call of the driver's returns, or raise RuntimeError with the driver's words."""
    error, *values = result
    if error != driver.CUresult.CUDA_SUCCESS:
        _, text = driver.cuGetErrorString(error)
        raise RuntimeError(f"CUDA: {error.name}: {text.decode() if text else 'unknown'}")
    return values[0] if len(values) == 1 else tuple(values)


@cache
def version() -> int:
    """Return the greatest major version of CUDA that the driver knows.

    The driver is not started: after that, processes that are forked from this one could not use it.
    """
    number: int = _checked(driver.cuDriverGetVersion())
    return number // 1000


@cache
def _start() -> None:
    _checked(driver.cuInit(0))


class Device:
    """A GPU: its compute capability, its multiprocessors, its primary context and kernels."""

    def __init__(self, number: int) -> None:
        _start()
        self._handle = _checked(driver.cuDeviceGet(number))
        major = self._attribute("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR")
        minor = self._attribute("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR")
        self.capability = 10 * major + minor
        multiprocessors = self._attribute("CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT")
        self._most_blocks = _BLOCKS_EACH * multiprocessors
        # PyTorch, JAX and CuPy use the same one. It is kept as long as the process.
        self._context = _checked(driver.cuDevicePrimaryCtxRetain(self._handle))
        self._kernels: dict[str, Any] = {}

    def _attribute(self, name: str) -> int:
        which = getattr(driver.CUdevice_attribute, name)
        number: int = _checked(driver.cuDeviceGetAttribute(which, self._handle))
        return number

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the device this thread's, and then the one that was."""
        _checked(driver.cuCtxPushCurrent(self._context))
        try:
            yield
        finally:
            _checked(driver.cuCtxPopCurrent())

    def launch(self, plan: _plan.Plan, stream: int) -> None:
        """Launch a plan on a stream, without waiting for it."""
        argument = (ctypes.c_void_p * 1)(ctypes.addressof(plan.fill))
        blocks = min(plan.blocks, self._most_blocks)
        with self._current():
            kernel = self._kernel(plan.kernel)
            grid, block = (blocks, 1, 1), (_plan.THREADS, 1, 1)
            pointers = ctypes.addressof(argument)
            _checked(driver.cuLaunchKernel(kernel, *grid, *block, 0, stream, pointers, 0))

    def _kernel(self, name: str) -> Any:
        if name not in self._kernels:
            code = _compile.machine_code(name, self.capability)
            module = _checked(driver.cuModuleLoadData(code))
            self._kernels[name] = _checked(driver.cuModuleGetFunction(module, name.encode()))
        return self._kernels[name]

    def wait(self, stream: int) -> None:
        """Wait until all that was launched on a stream is done."""
        with self._current():
            _checked(driver.cuStreamSynchronize(stream))


@cache
def device(number: int) -> Device:
    """Return a GPU by its number."""
    return Device(number)


def device_of(address: int) -> Device:
    """Return the GPU whose memory an address belongs to."""
    _start()
    which = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return device(int(_checked(driver.cuPointerGetAttribute(which, address))))
