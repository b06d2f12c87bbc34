"""`src/fill.cu` compiled by the host's C++ compiler: a backend that needs no GPU."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from numpy.typing import NDArray

import fastinit
from fastinit._fill import index_steps as index_steps_of
from fastinit.cuda import _plan

PACKAGE = Path(fastinit.__file__).parent
EXAMPLE = Path(__file__).parents[1] / "examples" / "cuda" / "dropout.cu"
FLAGS = ["-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fPIC", "-shared"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
BLOCKS = 7  # of the grid: so few that threads have several pieces of larger arrays


@cache
def library() -> ctypes.CDLL:
    """Compile fill.cu with a stand-in for the grid."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    paths = [f"-I{PACKAGE / 'src'}", f"-I{PACKAGE / 'include'}"]
    source = Path(__file__).with_name("cuda_host.h")
    with TemporaryDirectory() as directory:
        made = Path(directory) / "fill.so"
        example = f'-DFI_EXAMPLE="{EXAMPLE}"'
        command = [
            compiler,
            *FLAGS,
            *WARNINGS,
            *paths,
            example,
            "-x",
            "c++",
            source,
            "-o",
            made,
            "-lm",
        ]
        subprocess.run(command, check=True)
        compiled = ctypes.CDLL(str(made))
    assert compiled.size_of_fill() == ctypes.sizeof(_plan.Fill)
    return compiled


def launch(plan: _plan.Plan) -> None:
    """Run a plan, one thread after the other."""
    kernel = getattr(library(), plan.kernel)
    library().launch(kernel, min(plan.blocks, BLOCKS), _plan.THREADS, ctypes.byref(plan.fill))


def fill(
    distribution: int,
    dtype: int,
    x: NDArray[Any],
    start: int,
    key: tuple[int, int],
    params: Any,
    threads: int = 1,  # noqa: ARG001
    index_steps: Sequence[int] | None = None,
) -> None:
    """As `_kernels.fill`."""
    steps = index_steps_of(x.shape) if index_steps is None else index_steps
    if x.size:
        launch(_plan.plan(distribution, dtype, x, start, key, params, steps))
