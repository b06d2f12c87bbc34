"""Reads files with hostile headers, and sees that each ends in one error or in its own tensors.

    python tests/deep/headers.py --count 100000

A file begins as a good one and is then spoilt: in its JSON (lengths, offsets, shapes, dtypes,
names), in its text (bytes, encoding, nesting) or in its size. What we accept, the safetensors
library must accept too, and must read the same names, shapes and dtypes; everything else must
be a RecipeError of one line. Each file that is accepted is also written anew and checked.
"""

import copy
import json
import random
import re
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import fuzz
from safetensors import safe_open
from typer.main import get_command

from fastinit import checkpoint
from fastinit.cli import app
from fastinit.recipe import DTYPES, RecipeError

COMMAND = get_command(app)  # once: it takes longer than all the rest
NUMBERS = (-1, 0, 1, 2, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**30, 0.5, 1e308, -0.0)
ODD = (*NUMBERS, None, True, "", "x", [], {}, [[]], [0], "8", float("nan"))
NAMES = (
    "",
    ".",
    "..",
    "../up",
    "/etc/passwd",
    "a\\b",
    "a\0b",
    "\ud800",
    "é\n",
    "__metadata__",
    "*",
)
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1, "BOOL": 1, "F8_E4M3": 1}


def hostile(rng: random.Random) -> bytes:
    """Return a safetensors file, spoilt in up to three ways."""
    entries: dict[str, Any] = {}
    end = 0
    for i in range(rng.randrange(4)):
        shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
        dtype = rng.choice(list(SIZES))
        nbytes = SIZES[dtype]
        for length in shape:
            nbytes *= length
        entries[f"t{i}.weight"] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [end, end + nbytes],
        }
        end += nbytes
    if rng.random() < 0.3:
        entries["__metadata__"] = {"format": "pt"}
    for _ in range(rng.randrange(3)):
        spoil_entries(rng, entries)
    text = json.dumps(entries).encode()
    if rng.random() < 0.4:
        text = spoil_text(rng, text)
    length = len(text)
    if rng.random() < 0.1:
        length = rng.choice([0, 1, max(length - 1, 0), length + 1, 2**31, 2**63, 2**64 - 1])
    data = length.to_bytes(8, "little") + text + bytes(end)
    if rng.random() < 0.15:
        data = data[: rng.randrange(len(data))]
    if rng.random() < 0.05:
        data += bytes(rng.randrange(9))
    return data


def odd(rng: random.Random) -> Any:
    """Return an odd value of its own: what is put into it must not be in the next file, too."""
    return copy.deepcopy(rng.choice(ODD))


def spoil_entries(rng: random.Random, entries: dict[str, Any]) -> None:
    names = [name for name in entries if name != "__metadata__"]
    if not names:
        entries[rng.choice(NAMES)] = odd(rng)
        return
    name = rng.choice(names)
    match rng.randrange(8):
        case 0:
            entries[name] = odd(rng)
        case 1:
            entries[rng.choice(NAMES)] = entries.pop(name)
        case 2 if isinstance(entries[name], dict):
            entries[name].pop(rng.choice(["dtype", "shape", "data_offsets"]), None)
        case 3 if isinstance(entries[name], dict):
            entries[name][rng.choice(["dtype", "shape", "data_offsets"])] = odd(rng)
        case 4 if isinstance(entries[name], dict):
            entries[name]["shape"] = [rng.choice(NUMBERS) for _ in range(rng.randrange(70))]
        case 5 if isinstance(entries[name], dict):
            entries[name]["data_offsets"] = [rng.choice(NUMBERS) for _ in range(2)]
        case 6:
            entries["again"] = entries[name]  # the same place twice
        case _:
            entries["__metadata__"] = rng.choice([*ODD, {"a": 1}, {"fastinit.seed": "x"}])


def spoil_text(rng: random.Random, text: bytes) -> bytes:
    match rng.randrange(7):
        case 0:
            i = rng.randrange(len(text))
            return text[:i] + bytes([rng.randrange(256)]) + text[i + 1 :]
        case 1:
            return text[: rng.randrange(len(text))]
        case 2:
            return rng.choice([b"\xff", b"\xef\xbb\xbf", b"\xc3\x28", b" ", b"\0"]) + text
        case 3:
            return text[:-1] + b"," + text[1:]  # all names twice
        case 4:
            return b"[" * rng.choice([1, 100, 100_000])
        case 5:
            return text.decode().encode(rng.choice(["utf-16", "utf-32", "utf-7"]))
        case _:
            return text[:-1] + b', "n": ' + b"9" * rng.choice([30, 5000]) + b"}"


def run(*arguments: str) -> tuple[object, str, str]:
    """Return a command's status, and what it printed; in this process, as there are many."""
    with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as errors:
        try:
            status: object = COMMAND.main([*arguments], "fastinit")
        except SystemExit as end:
            status = end.code
    return status, output.getvalue(), errors.getvalue()


def outcome(data: bytes, directory: Path) -> str:
    """Return how a file ended; raise AssertionError if it should not have."""
    path = directory / "hostile.safetensors"
    path.write_bytes(data)
    try:
        found = checkpoint.read(path)
    except RecipeError as error:
        status, output, errors = run("init", str(path), "-o", str(directory / "none"))
        assert (status, output) == (1, "")
        assert errors.startswith("fastinit: ")
        assert errors.count("\n") == 1
        return f"refused: {reason(error)}"
    with safe_open(path, "numpy") as file:
        theirs = {n: file.get_slice(n) for n in file.keys()}  # noqa: SIM118
        told = {n: (tuple(s.get_shape()), s.get_dtype()) for n, s in theirs.items()}
    ours = {s.tensor.name: (s.tensor.shape, DTYPES[s.tensor.dtype.name]) for s in found.stored}
    assert ours == told, (ours, told)
    try:
        model = checkpoint.load(path, "default")
        out = directory / "out"
        checkpoint.write(model, out, format="npy", overwrite=True)
    except RecipeError as error:
        return f"accepted, not written: {reason(error)}"
    assert {p.parent for p in directory.rglob("*.npy")} <= {out}
    assert checkpoint.check(out).difference is None
    return "accepted, written and checked"


def reason(error: RecipeError) -> str:
    """Return the words of an error without what is particular to one file."""
    text = re.sub(r"^.*(is not a safetensors file|hostile.safetensors): ", "", str(error))
    text = re.sub(r"'.*?'|\".*?\"|\[.*\]|\(.*\)|[\d,.#]+", "", text)
    text = re.sub(r"(codec can't decode).*", r"\1", text)
    return " ".join(text.split())[:60]


if __name__ == "__main__":
    fuzz.main(__doc__, lambda rng, at: outcome(hostile(rng), at))
