"""Write `fastinit/_allocating.pyi`: the types of the functions that `_allocating.py` makes."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from fastinit import _allocating

HEAD = '''"""Written by docs/make_stubs.py; a test compares."""

from collections.abc import Callable
from typing import Any

from numpy.typing import DTypeLike, NDArray

from fastinit._arguments import Axes, Shape
from fastinit.random import RNG

IN_PLACE: dict[str, Callable[..., Any]]

def expanded(in_place: Callable[..., Any]) -> list[inspect.Parameter]: ...
'''


def stub() -> str:
    """Return the text of the file."""
    parts = [HEAD.replace("from collections", "import inspect\nfrom collections")]
    for name, in_place in _allocating.IN_PLACE.items():
        made = getattr(_allocating, name)
        if made.__name__ != name:
            parts.append(f"{name} = {made.__name__}\n")
            continue
        signature = inspect.signature(made)
        lines = []
        for parameter in signature.parameters.values():
            if parameter.name == "dtype":
                lines.append("    *,\n")
            lines.append(f"    {_typed(parameter)},\n")
        assert in_place.__doc__
        parts.append(f"def {name}(\n{''.join(lines)}) -> NDArray[Any]: ...\n")
    aliases = [part for part in parts if " = " in part and not part.startswith(("def", '"""'))]
    others = [part for part in parts if part not in aliases]
    return "".join([*others, "\n", *aliases])


def _typed(parameter: inspect.Parameter) -> str:
    text = f"{parameter.name}: {parameter.annotation}"
    if parameter.default is parameter.empty:
        return text
    default = parameter.default
    return f'{text} = "{default}"' if isinstance(default, str) else f"{text} = {default!r}"


def main() -> None:
    """Write the file, or with --check say whether it would change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; status 1 if stale.")
    path = Path(_allocating.__file__).with_suffix(".pyi")
    if not parser.parse_args().check:
        path.write_text(stub(), "utf-8")
    elif path.read_text("utf-8") != stub():
        raise SystemExit("_allocating.pyi is stale; run python docs/make_stubs.py")


if __name__ == "__main__":
    main()
