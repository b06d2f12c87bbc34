"""How the package compiles its C: one table, `fastinit/src/flags.txt`."""

import re
from pathlib import Path

from fastinit import _kernels

SRC = Path(_kernels.__file__).parent / "src"


def flags_for(compiler: str) -> list[str]:
    """The flags of src/flags.txt for a compiler, or for every one."""
    found = re.search(rf"^{compiler}: (.*)$", (SRC / "flags.txt").read_text("utf-8"), re.MULTILINE)
    assert found, compiler
    return found[1].split()
