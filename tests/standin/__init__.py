"""PyTorch's device "standin", which needs no hardware: what standin.cpp says, compiled once."""

import ctypes
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).with_name("standin.cpp")


def build(directory: Path) -> Path:
    """Compile the device as a library; takes the better part of a minute."""
    from torch.utils import cpp_extension

    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None or sys.platform != "linux":
        pytest.skip("the stand-in device needs Linux and a C++ compiler")
    library = directory / "standin.so"
    flags = ["-std=c++20", "-O0", "-fPIC", "-shared", "-w"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    paths = [f"-isystem{path}" for path in cpp_extension.include_paths()]
    linked = [f"-L{path}" for path in cpp_extension.library_paths()]
    command = [
        compiler,
        *flags,
        abi,
        *paths,
        SOURCE,
        "-o",
        library,
        *linked,
        "-ltorch_cpu",
        "-lc10",
    ]
    subprocess.run(command, check=True)
    return library


def load(library: Path) -> ctypes.CDLL:
    """Give PyTorch the device."""
    torch.utils.rename_privateuse1_backend("standin")
    torch.ops.load_library(library)
    module = types.ModuleType("torch.standin")
    module.is_available = lambda: True
    module.is_initialized = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.set_device = lambda _: None
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda _: None
    module.get_rng_state = lambda _="standin": torch.zeros(0, dtype=torch.uint8)
    module.set_rng_state = lambda _, __="standin": None
    torch._register_device_module("standin", module)
    return ctypes.CDLL(str(library))
