"""The sdist and the wheels, built in isolation, and the same bits from every Python that is here.

``python tests/deep/packages.py``; it looks for python3.10 to python3.14, free-threaded ones too,
on the PATH and among pyenv's.  A wheel is imported where no compiler can be found.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_SOURCES = shutil.ignore_patterns(".*", "build", "dist", "*.so", "_kernels.c", "__pycache__")
VERSIONS = ["3.10", "3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t"]

GOLDEN = """
import json, sys
import golden
from cases import KEY, Case
from fastinit import _kernels

recorded, bad = json.loads(golden.FILE.read_text()), []
for isa in _kernels.isas():
    _kernels.use_isa(isa)
    for entry in recorded["outputs"]:
        case = Case(entry["distribution"], entry["dtype"], tuple(entry["params"]))
        if golden.digest(case.filled(entry["n"], entry["start"], threads=4)) != entry["sha256"]:
            bad.append((isa, entry["case"]))
gil = getattr(sys, "_is_gil_enabled", lambda: True)()
print(len(recorded["outputs"]), "cases on", ", ".join(_kernels.isas()), "differ:", bad, "GIL:", gil)
sys.exit(bool(bad))
"""


def run(*command: object, **environment: str) -> str:
    """The output of a program that finds nothing of this directory."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHON_GIL")
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=tempfile.gettempdir(),
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def interpreters() -> dict[str, Path]:
    """Where each version is, if it is here."""
    found: dict[str, Path] = {}
    for version in VERSIONS:
        somewhere = shutil.which(f"python{version}")
        pyenv = Path.home() / ".pyenv" / "versions"
        among = sorted(pyenv.glob(f"{version.rstrip('t')}.*/bin/python{version}"))
        # A shim of pyenv's is no interpreter.
        if among:
            found[version] = among[-1]
        elif somewhere and "shims" not in somewhere:
            found[version] = Path(somewhere)
    return found


def venv(python: Path, at: Path, *packages: str) -> Path:
    """A new environment's Python."""
    run(python, "-m", "venv", at)
    if packages:
        run(at / "bin/python", "-m", "pip", "install", "--quiet", *packages)
    return at / "bin/python"


def foreign_libraries(python: Path, wheel: Path) -> str:
    """What auditwheel says of a wheel's libraries; an error if any is not the system's."""
    shown = run(python, "-m", "auditwheel", "show", wheel)
    text = " ".join(shown.split())
    versions = re.findall(r'"(manylinux_\d+_\d+_\w+)"', text)
    libraries = sorted(set(re.findall(r"lib[\w-]+\.so\.\d+", text)))
    assert versions, shown
    assert set(libraries) <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}, shown
    return f"{versions[0]}, of {', '.join(libraries)} alone"


def check_files(wheel: Path) -> None:
    """Whether the wheel has every file of the package but what is compiled into it."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    kinds = {".py", ".pyi", ".pxd", ".h", ".c", ".toml", ".html", ".typed"}
    sources = (
        p for p in (ROOT / "fastinit").rglob("*") if p.suffix in kinds or p.name == "py.typed"
    )
    missing = {str(p.relative_to(ROOT)) for p in sources} - packed - {"fastinit/_kernels.c"}
    assert not missing, missing


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        shutil.copytree(ROOT, here / "source", ignore=NOT_SOURCES)
        tools = venv(Path(sys.executable), here / "tools", "build", "auditwheel")
        run(tools, "-m", "build", "--sdist", "--outdir", here, here / "source")
        (sdist,) = here.glob("*.tar.gz")
        print(f"{sdist.name}: built in isolation")
        found = interpreters()
        for version in VERSIONS:
            if version not in found:
                print(f"CPython {version}: skipped, not here")
                continue
            at = here / version
            python = venv(found[version], at / "venv", "numpy", "ml_dtypes", "pytest")
            pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
            run(*pip, "wheel", "--no-deps", "--wheel-dir", at, sdist)
            (wheel,) = at.glob("*.whl")
            check_files(wheel)
            run(*pip, "install", "--no-deps", wheel)
            alone = {"PATH": "/nowhere", "PYTHONPATH": str(ROOT / "tests")}
            gil = {"PYTHON_GIL": "0"} if version.endswith("t") else {}
            print(
                f"CPython {version}: {run(python, '-W', 'error', '-c', GOLDEN, **alone, **gil)}",
                end="",
            )
            print(f"  {wheel.name}: {foreign_libraries(tools, wheel)}", flush=True)


if __name__ == "__main__":
    main()
