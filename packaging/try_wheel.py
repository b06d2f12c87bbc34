"""Use an installed fastinit as a newcomer would: ``python try_wheel.py CHECKOUT``.

README's Python code and ``fastinit init gpt2`` run in an empty folder, and every value of the
golden file is made on each instruction set of this machine. The checkout gives README.md and the
tests' cases alone: what is imported is the installed package. It needs ml_dtypes and pytest.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import fastinit as fi
from fastinit import _kernels


def run_readme(readme: Path) -> int:
    """Run the blocks of Python in the page, one after the other in one namespace."""
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(readme), "exec"), names)
    return len(blocks)


def write_model() -> int:
    """Write GPT-2's weights by the command line and have it check them; the number of bytes."""
    program = [sys.executable, "-m", "fastinit"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([*program, "init", "gpt2", "-o", "model"], **quiet)
    subprocess.run([*program, "check", "model"], **quiet)
    return Path("model/model.safetensors").stat().st_size


def compare_golden(tests: Path) -> tuple[int, list[tuple[str, str]]]:
    """How many cases the golden file has, and those whose values here are others."""
    sys.path.insert(0, str(tests))
    import golden
    from cases import Case

    recorded = json.loads(golden.FILE.read_text(encoding="utf-8"))
    assert recorded["stream"] == fi.info()["stream"]
    wrong = []
    for isa in _kernels.isas():
        _kernels.use_isa(isa)
        for entry in recorded["outputs"]:
            case = Case(entry["distribution"], entry["dtype"], tuple(entry["params"]))
            values = case.filled(entry["n"], entry["start"], threads=4)
            if golden.digest(values) != entry["sha256"]:
                wrong.append((isa, entry["case"]))
    return len(recorded["outputs"]), wrong


def main() -> int:
    """Do it all; the last line that is printed says what was seen."""
    checkout = Path(sys.argv[1]).resolve()
    assert checkout not in Path(fi.__file__).parents, f"{fi.__file__} is the checkout's"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            blocks = run_readme(checkout / "README.md")
            nbytes = write_model()
        finally:
            os.chdir(checkout)  # Windows removes no folder that a process is in
    cases, wrong = compare_golden(checkout / "tests")
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    python = f"{sys.version.split()[0]}{'' if gil else ' without the GIL'}"
    print(
        f"{python}: README's {blocks} blocks ran, "
        f"gpt2 written and checked ({nbytes:,} bytes), {cases} golden cases on "
        f"{', '.join(_kernels.isas())}: {wrong or 'the same bits'}"
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
