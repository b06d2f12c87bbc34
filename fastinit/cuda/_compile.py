"""`src/fill.cu` -> machine code of a GPU, by NVRTC, NVIDIA's compiler at run time; kept on disk.

NVRTC is a library of the package nvidia-cuda-nvrtc (CUDA 13) or nvidia-cuda-nvrtc-cu12, which
CUDA builds of PyTorch, JAX and CuPy bring. It needs no GPU.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from cuda.bindings import nvrtc

_PACKAGE = Path(__file__).parents[1]

# Arithmetic as IEEE 754 has it, and nothing fused but what the text says.
_OPTIONS = (
    *("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"),
    *(f"--include-path={_PACKAGE / name}" for name in ("src", "include")),
)

# What the headers include, and NVRTC has not.
_SYSTEM_HEADERS = {
    "stdint.h": """
        typedef signed char int8_t; typedef unsigned char uint8_t;
        typedef short int16_t; typedef unsigned short uint16_t;
        typedef int int32_t; typedef unsigned int uint32_t;
        typedef long long int64_t; typedef unsigned long long uint64_t;
        typedef unsigned long long uintptr_t;
    """,
    "stddef.h": "",
    "string.h": "",
    "math.h": "",
}


def _checked(result: tuple[Any, ...]) -> Any:
    """Return what a call of NVRTC's returns, or raise RuntimeError with NVRTC's own words."""
    error, *values = result
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, text = nvrtc.nvrtcGetErrorString(error)
        raise RuntimeError(f"NVRTC: {text.decode()}")
    return values[0] if len(values) == 1 else tuple(values)


@cache
def version() -> tuple[int, int]:
    """Return NVRTC's version, which is that of its CUDA."""
    major, minor = _checked(nvrtc.nvrtcVersion())
    return major, minor


@cache
def architectures() -> tuple[int, ...]:
    """Return the compute capabilities that NVRTC knows, as 75 or 90."""
    return tuple(_checked(nvrtc.nvrtcGetSupportedArchs()))


def machine_code(kernel: str, capability: int) -> bytes:
    """Return a kernel of fill.cu for a GPU, from the disk if it was compiled before.

    For a GPU that is newer than NVRTC it is PTX, which the driver compiles.
    """
    known = capability in architectures()
    newest = max(a for a in architectures() if a <= capability)
    architecture = f"sm_{capability}" if known else f"compute_{newest}"
    cache = _cache()
    if cache is None:
        return compiled(kernel, architecture)
    path = cache / f"{kernel}-{architecture}-{_digest(kernel, architecture)}"
    with suppress(OSError):
        return path.read_bytes()
    code = compiled(kernel, architecture)
    _keep(path, code)
    return code


def compiled(kernel: str | None, architecture: str) -> bytes:
    """Return what NVRTC makes of one kernel, or all: machine code for sm_90, PTX for compute_90."""
    names, texts = list(_SYSTEM_HEADERS), list(_SYSTEM_HEADERS.values())
    source = (_PACKAGE / "src" / "fill.cu").read_bytes()
    program = _checked(
        nvrtc.nvrtcCreateProgram(source, b"fill.cu", len(names), _encoded(texts), _encoded(names))
    )
    try:
        options = [*_OPTIONS, f"--gpu-architecture={architecture}"]
        if kernel is not None:
            options.append(f'--define-macro=FI_ONLY="{kernel.removeprefix("fi_")}"')
        done = nvrtc.nvrtcCompileProgram(program, len(options), _encoded(options))
        if done[0] != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
            _checked(nvrtc.nvrtcGetProgramLog(program, log))
            raise RuntimeError(f"NVRTC cannot compile {kernel} for {architecture}: {log.decode()}")
        if architecture.startswith("sm_"):
            code = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program)))
            _checked(nvrtc.nvrtcGetCUBIN(program, code))
        else:
            code = bytes(_checked(nvrtc.nvrtcGetPTXSize(program)))
            _checked(nvrtc.nvrtcGetPTX(program, code))
        return code
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _encoded(texts: list[str]) -> list[bytes]:
    return [text.encode() for text in texts]


def _digest(kernel: str, architecture: str) -> str:
    """Return a hash of all that the machine code depends on."""
    digest = hashlib.sha256(repr((kernel, architecture, version(), _OPTIONS[:5])).encode())
    for path in sorted(_PACKAGE.glob("src/*.h")) + sorted(_PACKAGE.glob("include/*")):
        digest.update(path.read_bytes())
    digest.update((_PACKAGE / "src" / "fill.cu").read_bytes())
    digest.update(repr(_SYSTEM_HEADERS).encode())
    return digest.hexdigest()[:32]


def _cache() -> Path | None:
    """Return where machine code is kept: ``FASTINIT_CACHE_DIR``, or the user's cache, if any."""
    given = os.environ.get("FASTINIT_CACHE_DIR")
    if given:
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", tempfile.gettempdir())) / "fastinit"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastinit"
    except RuntimeError:  # a container's user who is nobody, and has no home
        return None


def _keep(path: Path, code: bytes) -> None:
    """Write a file that appears whole; without a place to write to, do nothing."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code)
        Path(file.name).replace(path)
