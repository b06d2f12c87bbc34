"""mypy and the core's tests on every other CPython that is here, the oldest with the oldest NumPy.

``python tests/deep/pythons.py``; it looks where `make wheels` does. The package is built from the
source in an environment of its own for each, in build/pythons. Tests of the arithmetic are left
out: it is C code that knows nothing of Python, and the recorded bits are compared on each.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "packaging"))

from environments import ROOT, VERSIONS, interpreters, venv

ARITHMETIC = (
    "test_accuracy.py",
    "test_orthogonal.py",
    "test_statistics.py",
    "test_truncated.py",
    "test_uniform.py",
)
NEEDED = ("pytest>=8,<9.2", "pytest-xdist>=3", "hypothesis>=6", "scipy>=1.11", "ml_dtypes>=0.4")
TYPED = ("typer", "rich", "safetensors", "psutil")  # mypy follows their types


def oldest_numpy() -> str:
    """The oldest NumPy that pyproject.toml allows."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    found = re.search(r'^dependencies = \["numpy>=([\d.]+)"\]$', text, re.MULTILINE)
    assert found, "pyproject.toml names the oldest NumPy"
    return f"numpy=={found[1]}.*"


def passes(version: str, interpreter: Path, numpy: str) -> bool:
    """Whether mypy and the core's tests find nothing; prints the last lines of what they say."""
    at = ROOT / "build" / "pythons" / version
    python = venv(interpreter, at, "--no-compile", "--only-binary=:all:", *NEEDED, *TYPED, numpy)
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", "--editable", ROOT], check=True)
    chosen = ["tests/core", "-m", "not exhaustive", "-n", "auto", "-p", "no:cacheprovider", "-q"]
    chosen += [f"--ignore=tests/core/{name}" for name in ARITHMETIC]
    mypy = [sys.executable, "-m", "mypy", "--python-executable", python]
    mypy += ["--cache-dir", at / "mypy"]
    environment = {k: v for k, v in os.environ.items() if k != "FASTINIT_REQUIRE_ADAPTERS"}
    if version.endswith("t"):  # whatever a test imports, the GIL stays off
        environment["PYTHON_GIL"] = "0"
    print(f"CPython {version}, {numpy}:", flush=True)
    failed = False
    tests = [python, "-m", "pytest", *chosen]
    for command in [tests] if "==" in numpy else [mypy, tests]:  # old stubs lack what new ones have
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        print(*done.stdout.splitlines()[-60 if done.returncode else -1 :], sep="\n", flush=True)
        failed |= done.returncode != 0
    return not failed


def main() -> None:
    found = interpreters(VERSIONS)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    others = [v for v in VERSIONS if v in found and v != here]  # this one runs all the tests
    numpys = [oldest_numpy(), *["numpy"] * len(others)]
    if not others:
        print("no other CPython is here")
    passed = [passes(v, found[v], numpy) for v, numpy in zip(others, numpys, strict=False)]
    if not all(passed):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
