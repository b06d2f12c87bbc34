"""The extension module.  Everything else is in pyproject.toml.

No probing of the build machine's CPU: each kernels_*.c names its own target by pragma,
and the best is chosen when the package is imported.
"""

import os
import re
import subprocess
import sys
import sysconfig
from itertools import chain
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = [
    "fill.c",
    "threads.c",
    "cpus.c",
    "memory.c",
    "dispatch.c",
    "interval.c",
    "orthogonal.c",
    "kernels_base.c",
    "kernels_avx2.c",
    "kernels_avx512.c",
    "kernels_avx512bf16.c",
]

FLAGS = {
    compiler: flags.split()
    for compiler, flags in re.findall(
        r"^(\w+): (.*)$", Path("fastinit/src/flags.txt").read_text("utf-8"), re.MULTILINE
    )
}

kernels = Extension(
    "fastinit._kernels",
    ["fastinit/_kernels.pyx", *(f"fastinit/src/{name}" for name in SOURCES)],
    depends=["fastinit/src/flags.txt", *map(str, Path("fastinit").glob("*/*.h"))],
    include_dirs=["fastinit/include", "fastinit/src", numpy.get_include()],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
    extra_compile_args=[*FLAGS["optimize"], *FLAGS["every"], "-pthread"],
    extra_link_args=["-pthread"],
)


NO_COMPILER = (
    "fastinit: there is no C compiler ({}): install one (Debian: apt install gcc; macOS: "
    "xcode-select --install) or set CC; the wheels of fastinit-nn need none"
)


class BuildExt(build_ext):
    """The extension, with the flags that its compiler knows; by Zig's Clang on Windows."""

    def build_extension(self, ext: Extension) -> None:
        """Compile it."""
        if sys.platform == "win32":
            self.compile_by_zig(ext)
            return
        command = self.compiler.compiler_so
        try:
            version = subprocess.check_output([*command, "--version"], text=True)
        except (OSError, subprocess.CalledProcessError):
            raise SystemExit(NO_COMPILER.format(command[0])) from None
        if "Free Software Foundation" in version:
            ext.extra_compile_args = [*ext.extra_compile_args, *FLAGS["gcc"]]
        one_by_one = self.compiler.compile

        def at_once(sources: list[str], **options: Any) -> list[str]:
            """Compile on all CPUs: each set of kernels takes as long as all the other files."""
            with ThreadPool() as pool:
                objects = pool.map(lambda source: one_by_one([source], **options), sources, 1)
            return list(chain.from_iterable(objects))

        self.compiler.compile = at_once
        super().build_extension(ext)

    def compile_by_zig(self, ext: Extension) -> None:
        """Compile and link in one call.

        Microsoft's compiler has neither C11's atomics nor the vectors of GCC, and GCC leaves
        AVX's vectors on an unaligned stack here (its bug 54412).
        """
        output = Path(self.get_ext_fullpath(ext.name))
        output.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu"]
        command += [*ext.extra_compile_args, "-shared", "-s", "-DMS_WIN64="]
        command += [f"-D{name}={value}" for name, value in ext.define_macros]
        command += [f"-I{path}" for path in (*self.include_dirs, *ext.include_dirs)]
        free_threaded = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
        if free_threaded:
            command.append("-DPy_GIL_DISABLED=1")
        library = f"python{sys.version_info[0]}{sys.version_info[1]}{free_threaded}"
        libraries = Path(sys.base_prefix) / "libs"
        subprocess.run(
            [*command, *ext.sources, str(libraries / f"{library}.lib"), "-o", str(output)],
            check=True,
        )


def readme(url: str) -> str:
    """README.md; with the repository's address, its links lead there from an index's page too."""
    text = Path("README.md").read_text("utf-8")
    if not url:
        return text
    text = re.sub(r"\]\((?!https?:|#)", f"]({url}/blob/main/", text)
    return re.sub(r'(srcset|src)="(?!https?:)', rf'\1="{url}/raw/main/', text)


# The workflow that makes a release's files knows where it runs; nowhere else is it written down.
URL = os.environ.get("FASTINIT_URL", "")
PAGES = {
    "Repository": "",
    "Documentation": "/tree/main/docs",
    "Changelog": "/blob/main/CHANGES.md",
    "Issues": "/issues",
}

setup(
    ext_modules=cythonize([kernels]),
    cmdclass={"build_ext": BuildExt},
    long_description=readme(URL),
    long_description_content_type="text/markdown",
    project_urls={name: URL + path for name, path in PAGES.items()} if URL else {},
)
