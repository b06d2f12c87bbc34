"""The extension module.  Everything else is in pyproject.toml.

No probing of the build machine's CPU: each kernels_*.c names its own target by pragma,
and the best is chosen when the package is imported.
"""

from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = [
    "fill.c",
    "threads.c",
    "dispatch.c",
    "truncated.c",
    "kernels_base.c",
    "kernels_avx2.c",
    "kernels_avx512.c",
]

kernels = Extension(
    "fastinit._kernels",
    ["fastinit/_kernels.pyx", *(f"fastinit/src/{name}" for name in SOURCES)],
    depends=[str(header) for header in Path("fastinit").glob("*/*.h")],
    include_dirs=["fastinit/include", "fastinit/src", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    # GCC vectorises the kernels at -O3 only, and sqrt only without errno; contraction would
    # make a result depend on the instruction set.
    extra_compile_args=["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-pthread"],
    extra_link_args=["-pthread"],
)

setup(ext_modules=cythonize([kernels]))
