"""The extension module.  Everything else is in pyproject.toml.

No probing of the build machine's CPU: each kernels_*.c names its own target by pragma,
and the best is chosen when the package is imported.
"""

import subprocess
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = [
    "fill.c",
    "threads.c",
    "dispatch.c",
    "truncated.c",
    "orthogonal.c",
    "kernels_base.c",
    "kernels_avx2.c",
    "kernels_avx512.c",
    "kernels_avx512bf16.c",
]

# GCC vectorises the kernels at -O3 only, and sqrt only without errno; contraction would
# make a result depend on the instruction set.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-pthread"]

# Left to itself on x86, GCC computes one vector after the other; in turns they wait less for
# each other (measured: 5 to 25 % of a fill). Clang has no such options.
GCC_FLAGS = ["-fschedule-insns", "-fsched-pressure", "--param=sched-pressure-algorithm=2"]

kernels = Extension(
    "fastinit._kernels",
    ["fastinit/_kernels.pyx", *(f"fastinit/src/{name}" for name in SOURCES)],
    depends=[str(header) for header in Path("fastinit").glob("*/*.h")],
    include_dirs=["fastinit/include", "fastinit/src", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread"],
)


class BuildExt(build_ext):
    """The extension, with the flags that its compiler knows."""

    def build_extension(self, ext: Extension) -> None:
        """Compile it."""
        version = subprocess.check_output([self.compiler.compiler_so[0], "--version"], text=True)
        if "Free Software Foundation" in version:
            ext.extra_compile_args = FLAGS + GCC_FLAGS
        super().build_extension(ext)


setup(ext_modules=cythonize([kernels]), cmdclass={"build_ext": BuildExt})
