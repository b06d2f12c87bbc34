"""Writes the guide as a notebook: ``python docs/make_notebook.py build/guide.ipynb``.

Its text and code are those of docs/guide.md; what the code prints appears when it runs. The site
offers it beside the guide.
"""

import json
import re
import sys
from pathlib import Path

GUIDE = Path(__file__).parent / "guide.md"

PIECES = re.compile(r"```python\n(.*?)```\n(?:\n```text\n.*?```\n)?", re.DOTALL)
# The guide saves pictures there and shows them.
BEFORE = 'from pathlib import Path\n\nPath("pictures").mkdir(exist_ok=True)\n'


def cell(kind: str, text: str, number: int) -> dict[str, object]:
    """Return a cell of the notebook's format 4.5."""
    common = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    source = text.strip("\n").splitlines(keepends=True)
    if kind == "code":
        return common | {"execution_count": None, "outputs": [], "source": source}
    return common | {"source": source}


def notebook(guide: str) -> dict[str, object]:
    """Return the guide as a notebook: text and code in turn."""
    texts = [("code", BEFORE)]
    for i, piece in enumerate(PIECES.split(guide)):
        if piece.strip():
            texts.append(("code" if i % 2 else "markdown", piece))
    texts[0], texts[1] = texts[1], texts[0]  # the title comes first
    return {
        "cells": [cell(kind, text, i) for i, (kind, text) in enumerate(texts)],
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def write(path: Path) -> None:
    """Write it; a directory that is missing is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(notebook(GUIDE.read_text("utf-8")), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
