"""A fill as the entry point asks for it -> a launch on a GPU; and whether there can be any."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from fastinit._fill import index_steps as index_steps_of
from fastinit._kernels import Cursor
from fastinit.cuda import _plan


@cache
def missing() -> str | None:
    """Return why no GPU can be filled by kernels of its own, or None if it can."""
    try:
        driver = _driver()
    except ImportError as error:
        return f"the package cuda-bindings cannot be imported ({error})"
    try:
        known = driver.version()
    except (RuntimeError, OSError) as error:
        return f"there is no driver of an NVIDIA GPU ({_first_line(error)})"
    from fastinit.cuda import _compile

    try:
        compiler, _ = _compile.version()
    except (RuntimeError, OSError) as error:
        return f"the package nvidia-cuda-nvrtc is missing ({_first_line(error)})"
    if compiler > known:
        return f"the driver knows CUDA {known}, and nvidia-cuda-nvrtc is of CUDA {compiler}"
    return None


def _driver() -> ModuleType:
    from fastinit.cuda import _driver

    return _driver


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def fill(
    distribution: int,
    dtype: int,
    x: NDArray[Any],
    start: int | None,
    key: tuple[int, int] | Cursor | None,
    params: Any,
    threads: int = 0,  # noqa: ARG001
    index_steps: Sequence[int] | None = None,
    *,
    device: int | None = None,
    stream: int = 0,
    wait: bool = False,
) -> None:
    """Fill the memory of a GPU that an array stands for; as `_kernels.fill`.

    Parameters
    ----------
    distribution, dtype, x, start, key, params, index_steps
        As there. `x` is not read.
    threads : int
        Ignored.
    device : int, optional
        The GPU's number; that of the memory if not given.
    stream : int, optional
        The CUDA stream's handle. The fill is one launch on it.
    wait : bool, optional
        Whether to return only when the memory is filled.

    Raises
    ------
    RuntimeError
        If the driver or the compiler fails.
    """
    if isinstance(key, Cursor):
        start = key.take(x.size) if start is None else start
        key = key.key
    if x.size == 0:
        return
    steps = index_steps_of(x.shape) if index_steps is None else index_steps
    made = _plan.plan(distribution, dtype, x, start or 0, key or (0, 0), params, steps)
    driver = _driver()
    gpu = driver.device_of(x.ctypes.data) if device is None else driver.device(device)
    gpu.launch(made, stream)
    if wait:
        gpu.wait(stream)
