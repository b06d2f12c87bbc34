"""Runs the guide's code, for its output and pictures: ``python docs/make_guide.py``.

The code is the English guide's; its translation has the same code and gets the same output.
"""

import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path

DOCS = Path(__file__).parent
GUIDES = [DOCS / "guide.md", DOCS / "guide.zh.md"]

OTHERS = {"pictures/probe-memory.png"}
"""Pictures in the guide that another program makes: tests/deep/probing.py."""

CODE = re.compile(r"```python\n(.*?)```\n", re.DOTALL)
WITH_OUTPUT = re.compile(r"(```python\n([^`]*)```\n\n```text\n)([^`]*)(```\n)")


def code(guide: str) -> list[str]:
    """Return the guide's pieces of code, in order."""
    return CODE.findall(guide)


def run(pieces: list[str], directory: Path) -> dict[str, str]:
    """Run them one after the other; return what each printed. Pictures go to the directory."""
    names: dict[str, object] = {}
    printed = {}
    (directory / "pictures").mkdir(exist_ok=True)
    before = Path.cwd()
    os.chdir(directory)
    try:
        for piece in pieces:
            with redirect_stdout(io.StringIO()) as output:
                exec(compile(piece, "docs/guide.md", "exec"), names)
            printed[piece] = output.getvalue()
    finally:
        os.chdir(before)
    return printed


def filled(guide: str, printed: dict[str, str]) -> str:
    """Return the guide with what its code printed."""
    return WITH_OUTPUT.sub(lambda m: m[1] + printed[m[2]] + m[4], guide)


if __name__ == "__main__":
    printed = run(code(GUIDES[0].read_text("utf-8")), DOCS)
    for path in GUIDES:
        path.write_text(filled(path.read_text("utf-8"), printed), "utf-8")
