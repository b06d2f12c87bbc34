"""Reads directories with hostile indexes and arrays, and sees how each ends.

    python tests/deep/arrays.py --count 100000

A directory begins as one that fastinit wrote, of an index and a NumPy file for each tensor, and is
then spoilt: in the index (metadata, names, files), in a file's header (dtype, order, shape, the
text itself) or in its size. What we accept, NumPy must read with the same shape and dtype;
everything else must be a RecipeError, and each within a few seconds.
"""

import json
import random
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fuzz
import numpy as np

from fastinit import checkpoint, recipe
from fastinit.recipe import RecipeError

SECONDS = 10.0  # of the CPU, for one input
INDEX = checkpoint.INDEX["npy"]
RECIPE = """
name = "good"
[tensors]
a = [3, 4]
b = {shape = [5], dtype = "bfloat16"}
[[rule]]
pattern = "*"
init = "normal"
"""

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 7, 10**30, 1e308, float("nan"), "", "x", "7", [], {}, [[]], ["a"]),
    *(
        {"a": "b"},
        "{",
        "[" * 20_000,
        "\x1b[2J",
        "../up",
        "/etc/passwd",
        "a\0b",
        ".",
        "é\n",
        "\ud800",
    ),
)
DESCRIPTIONS = (
    *(b"'<f4'", b"'>f4'", b"'<f8'", b"'|O'", b"'<V2'", b"'|V0'", b"'<U3'", b"'M8[s]'", b"'x'"),
    *(b"''", b"()", b"[]", b"{}", b"None", b"('<f4', (2, -1))", b"[('a', '<f4'), ('a', '<f4')]"),
    *(b"[('a', '<f4')]", b"'<f4,' * 50", b"'<f" + b"4" * 30 + b"'"),
)
SHAPES = (
    *(
        b"()",
        b"(3, 4)",
        b"(12,)",
        b"(-3, -4)",
        b"(True, 12)",
        b"(3.0, 4)",
        b"[3, 4]",
        b"3",
        b"None",
    ),
    *(b"(3L, 4L)", b"(0, 4)", b"(1,) * 70", b"(" + b"9" * 500 + b",)", b"(2**70,)", b"(3, 4"),
    b"None",
)
TEXTS = (
    *(
        b"-" * 9000 + b"1",
        b"(" * 5000,
        b"[" * 5000,
        b"'''",
        b"\0",
        b"  1\n 2",
        b"{[]: 1}",
        b"9**9**9",
    ),
    *(b"{1: 2, 'a': 3}", bytes(range(256)), b"{'descr': '<f4'}", b"__import__('os')"),
    b"9**9**9",
)


@cache
def good() -> dict[str, bytes]:
    """Return the files of a directory that fastinit writes."""
    with TemporaryDirectory() as directory:
        checkpoint.write(recipe.parse(RECIPE), directory, seed=1, format="npy")
        return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def hostile(rng: random.Random) -> dict[str, bytes]:
    """Return a directory's files, spoilt in up to three ways."""
    files = dict(good())
    for _ in range(rng.randrange(4)):
        if rng.random() < 0.5:
            files[INDEX] = spoilt_index(rng, files[INDEX])
        else:
            name = rng.choice([name for name in files if name != INDEX])
            files[name] = spoilt_array(rng, files[name])
    return files


def spoilt_index(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.15:
        return spoilt_bytes(rng, content)
    try:
        entries = json.loads(content)
        metadata, files = entries["metadata"], entries["weight_map"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return content
    if not isinstance(metadata, dict) or not isinstance(files, dict):
        return content
    match rng.randrange(5):
        case 0:
            entries[rng.choice(["metadata", "weight_map", "x"])] = rng.choice(ODD)
        case 1 | 2:
            metadata[rng.choice([*metadata, "fastinit.values"])] = rng.choice(ODD)
        case 3:
            files[rng.choice([*files, "c", "é\x1b", "\ud800"])] = rng.choice(ODD)
        case _:
            metadata["total_size"] = rng.choice(ODD)
    return json.dumps(entries).encode()


def spoilt_array(rng: random.Random, content: bytes) -> bytes:
    length = int.from_bytes(content[8:10], "little")
    text, data = content[10 : 10 + length], content[10 + length :]
    match rng.randrange(6):
        case 0:
            return spoilt_bytes(rng, content)
        case 1:
            text = rng.choice(TEXTS) + b"\n"
        case 2:
            text = text.replace(b"'<f4'", rng.choice(DESCRIPTIONS))
        case 3:
            text = text.replace(b"(3, 4)", rng.choice(SHAPES))
        case 4:
            text = text.replace(b"False", rng.choice([b"True", b"0", b"None", b"false"]))
        case _:
            data = data[: rng.randrange(len(data) + 1)] + bytes(rng.randrange(3))
    return content[:8] + len(text).to_bytes(2, "little") + text + data


def spoilt_bytes(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    more = rng.choice([b"", b"\0", b"\xff" * 2, b"'", b"[" * 5000, bytes(rng.randrange(256))])
    return content[:at] + more + content[at + rng.randrange(3) :]


def outcome(files: dict[str, bytes], directory: Path) -> str:
    """Return how a directory ended; raise whatever it should not have."""
    for old in directory.iterdir():
        old.unlink()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    start = time.process_time()
    try:
        for stored in checkpoint.read(directory).stored:
            array = np.load(stored.path, allow_pickle=False)
            assert array.shape == stored.tensor.shape, stored
            if array.dtype.kind != "V":  # NumPy has no bfloat16
                assert array.dtype == stored.tensor.dtype, stored
        checkpoint.load(directory).plan()
        done = checkpoint.check(directory)
        return "loaded and checked" if done.difference is None else "loaded, and different"
    except (RecipeError, OSError) as error:
        return f"refused: {type(error).__name__}"
    finally:
        assert time.process_time() - start < SECONDS, files


if __name__ == "__main__":
    fuzz.main(__doc__, lambda rng, at: outcome(hostile(rng), at))
