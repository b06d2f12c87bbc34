"""The sdist, and wheels that a package index takes, for Linux on x86-64 and aarch64.

``make wheels`` writes them to dist/: one wheel for each CPython that is found here (python3.10 to
python3.14 on the PATH or among pyenv's, free-threaded ones too) and each machine. Zig compiles (the
Python package ziglang): a cross compiler that links with any version of glibc. auditwheel names
the oldest system that a wheel runs on. Each wheel for this machine is installed into an
environment of its own and tried in another folder, where no compiler can be found
(packaging/try_wheel.py). On Debian with qemu, so is the wheel for aarch64 of Debian's own Python.

The workflow .github/workflows/wheels.yml makes those of a release, for macOS and Windows too.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import aarch64
from environments import ROOT, VERSIONS, interpreters, run, venv

TRY = ROOT / "packaging" / "try_wheel.py"
MACHINES = ["x86_64", "aarch64"]
GLIBC = "2.17"
SYSTEM = {"libc.so.6", "libm.so.6", "libpthread.so.0"}
KINDS = {".py", ".pyi", ".pxd", ".h", ".cuh", ".c", ".cu", ".toml", ".html", ".typed"}
BUILD_NEEDS = ["setuptools>=77", "cython>=3.1", "numpy>=2.0", "wheel"]


def make_sdist(output: Path) -> Path:
    """Build the sdist in isolation."""
    run(sys.executable, "-m", "build", "--sdist", "--outdir", output, ROOT)
    return max(output.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)


def zig(directory: Path, machine: str) -> Path:
    """Return a compiler that is one word, as distutils wants."""
    script = directory / f"cc-{machine}"
    target = f"{machine}-linux-gnu.{GLIBC}"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ziglang cc -target {target} "$@"\n')
    script.chmod(0o755)
    return script


def compile_wheel(python: Path, version: str, machine: str, source: Path, here: Path) -> Path:
    """Return a wheel of the unpacked sdist, not yet named after the systems that it runs on."""
    directory = here / f"{version}-{machine}"
    shutil.copytree(source, directory / "source")
    compiler = str(zig(directory, machine))
    run(
        *(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", directory, directory / "source"),
        CC=compiler,
        LDSHARED=f"{compiler} -shared",
        CFLAGS="-g0",
        LDFLAGS="-s",
        _PYTHON_HOST_PLATFORM=f"linux-{machine}",
        SETUPTOOLS_EXT_SUFFIX=f".cpython-{version.replace('.', '')}-{machine}-linux-gnu.so",
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


def name_after_systems(wheel: Path, output: Path) -> Path:
    """Return the wheel as auditwheel names it; it needs no library but the system's own."""
    shown = run(sys.executable, "-m", "auditwheel", "show", wheel)
    libraries = set(re.findall(r"lib[\w-]+\.so\.\d+", shown))
    if not libraries <= SYSTEM:
        raise SystemExit(f"{wheel.name} needs {', '.join(sorted(libraries - SYSTEM))}")
    here = wheel.parent / "named"
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", here, wheel)
    (named,) = here.iterdir()
    return Path(shutil.move(named, output / named.name))


def check_files(wheel: Path) -> None:
    """End if the wheel lacks a file of the package, but for what is compiled into it."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    package = (path for path in (ROOT / "fastinit").rglob("*") if path.suffix in KINDS)
    sources = {path.relative_to(ROOT).as_posix() for path in package}
    if missing := sources - packed - {"fastinit/_kernels.c"}:
        raise SystemExit(f"{wheel.name} lacks {', '.join(sorted(missing))}")


def wheels(found: dict[str, Path], sdist: Path, output: Path, here: Path) -> Iterator[Path]:
    """Yield a wheel for each interpreter and machine; those that can run here are tried."""
    with tarfile.open(sdist) as archive:
        archive.extractall(here, filter="data")
    source = here / sdist.name.removesuffix(".tar.gz")
    emulated = None if aarch64.missing() else aarch64.make_python(here / "aarch64")
    for version, interpreter in found.items():
        python = venv(interpreter, here / version, *BUILD_NEEDS)
        for machine in MACHINES:
            wheel = name_after_systems(
                compile_wheel(python, version, machine, source, here), output
            )
            check_files(wheel)
            tried = "not run here"
            if machine == platform.machine():
                tried = try_wheel(interpreter, wheel, here / f"{version}-tried")
            elif machine == "aarch64" and emulated and is_of(emulated, version):
                tried = f"under qemu, {try_emulated(emulated, version, wheel)}"
            print(f"{wheel.name}: {wheel.stat().st_size:,} bytes; {tried}", flush=True)
            yield wheel


def try_wheel(interpreter: Path, wheel: Path, at: Path) -> str:
    """Install it into a bare environment and use it where there is neither source nor compiler."""
    python = venv(interpreter, at, "--only-binary=:all:", f"{wheel}[cli]", "pytest")
    gil = {"PYTHON_GIL": "0"} if "t-linux" in wheel.name else {}
    return last_line(run(python, "-W", "error", TRY, ROOT, PATH=str(python.parent), **gil))


def is_of(python: Path, version: str) -> bool:
    """Whether an interpreter is of this version."""
    return run(python, "-V").split()[1].rsplit(".", 1)[0] == version


def try_emulated(python: Path, version: str, wheel: Path) -> str:
    """Use it in a Python for aarch64 under qemu."""
    site = aarch64.install(python, version, f"{wheel}[cli]", "pytest")
    return last_line(run(python, TRY, ROOT, PYTHONPATH=str(site)))


def last_line(text: str) -> str:
    """Return what a program said in the end."""
    return text.strip().splitlines()[-1]


def main() -> None:
    """Make them, and say of each what it is."""
    parser = argparse.ArgumentParser(description="The sdist and the wheels for Linux.")
    parser.add_argument("--python", nargs="+", default=VERSIONS, metavar="VERSION")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    found = interpreters(arguments.python)
    for version in arguments.python:
        if version not in found:
            print(f"CPython {version}: skipped, not here")
    sdist = make_sdist(output)
    print(f"{sdist.name}: {sdist.stat().st_size:,} bytes")
    with tempfile.TemporaryDirectory() as directory:
        made = list(wheels(found, sdist, output, Path(directory)))
    print(run(sys.executable, "-m", "twine", "check", "--strict", sdist, *made).strip())
    print(run(sys.executable, "-m", "check_wheel_contents", *made).strip())


if __name__ == "__main__":
    main()
