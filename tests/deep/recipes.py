"""Reads hostile recipes, alone and in the metadata of checkpoints, and sees how each ends.

    python tests/deep/recipes.py --count 100000

A recipe begins as a good one and is then spoilt: a value, a key or a name becomes an odd one,
arrays are nested, lines are doubled, characters changed. Each must end in a model or in a
RecipeError, and within a few seconds. Every other one is put into a checkpoint that says that it
was written by it, with odd variables and seeds.
"""

import json
import random
import re
import time
from pathlib import Path

import fuzz

from fastinit import checkpoint, recipe
from fastinit.recipe import RecipeError

SECONDS = 10.0  # of the CPU, for one input

GOOD = (
    'name = "good"',
    'dtype = "float32"',
    "seed = 7",
    "[variables]",
    "layers = 2",
    "width = 4",
    "[repeat]",
    'l = "layers"',
    "[tensors]",
    '"h.{l}.w" = ["width", "2 * width"]',
    '"h.{l}.b" = {shape = ["width"], dtype = "float16"}',
    "[[rule]]",
    'pattern = "*.{l}.w"',
    'exclude = ["*.9.w"]',
    'init = "normal"',
    'std = "0.02 / sqrt(2 * layers)"',
    "[[rule]]",
    'pattern = "*"',
    'init = "constant"',
    "value = 0.5",
    "[config]",
    'n_layer = "{layers}"',
)
VALUES = (
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "true",
    '""',
    "[]",
    "{}",
    "1979-05-27",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "[[[[]]]]",
    '["normal"]',
    '{a = {b = "c"}}',
    '"layers"',
    '"1if"',
    '"9 ** 9 ** 9"',
    '"1 / 0"',
    '"sqrt(-1)"',
    '"(-8) ** 0.5"',
    '"width * width"',
    '"\\u001b[2J"',
    '"float8_e4m3fn"',
    '"orthogonal"',
    '"sparse"',
    '"truncated_normal"',
    "0x7fffffffffffffff",
    "1000000000",
    "9223372036854775808",
)
KEYS = (
    "pattern",
    "exclude",
    "init",
    "std",
    "mean",
    "x",
    "rng",
    "self",
    "name",
    "ndim",
    "gain",
    "l",
    '"a b"',
    '""',
)
NAMES = (
    "{l}",
    "{l.__class__}",
    "{l!r}",
    "{l:>900000000}",
    "{0}",
    "{}",
    "{{",
    "*",
    "[",
    "[z-a]",
    "é",
    "",
)


def hostile(rng: random.Random) -> str:
    """Return a recipe that is spoilt in up to four ways."""
    lines = list(GOOD)
    for _ in range(rng.randrange(5)):
        spoil(rng, lines)
    text = "\n".join(lines)
    if rng.random() < 0.1:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["\0", "\x1b", '"', "[", "\ud7ff", "'''", "="]) + text[at:]
    return text


def spoil(rng: random.Random, lines: list[str]) -> None:
    at = rng.randrange(len(lines))
    key, equals, value = lines[at].partition(" = ")
    match rng.randrange(11):
        case 0 | 1 | 2 if equals:
            lines[at] = f"{key} = {rng.choice(VALUES)}"
        case 3 if equals:
            lines[at] = f"{rng.choice(KEYS)} = {value}"
        case 4:
            lines.insert(at, f"{rng.choice(KEYS)} = {rng.choice(VALUES)}")
        case 5:
            lines.insert(at, lines[at])
        case 6:
            del lines[at]
        case 7:
            lines[at] = lines[at].replace("{l}", rng.choice(NAMES)).replace("*", rng.choice(NAMES))
        case 8:
            depth = rng.choice([10, 200, 20_000])
            lines.insert(at, f"deep = {'[' * depth}{']' * depth}")
        case 9:
            lines.insert(at, f"long = {'9' * rng.choice([30, 5000])}")
        case _ if len(lines[at]) < 1000:  # twice would be gigabytes, which take long to write
            n = rng.choice([30, 1000, 20_000])
            lines[at] = (
                lines[at].replace("*", "*0" * n).replace("width", f"{'(' * n}width{')' * n}")
            )


def in_metadata(rng: random.Random, text: str, path: Path) -> None:
    """Write a checkpoint that says that it was written by this recipe."""
    metadata = {
        "fastinit.recipe": text,
        "fastinit.seed": rng.choice(["7", "-1", "x", "9" * 5000, "²", ""]),
        "fastinit.stream": rng.choice(["fastinit-2", "fastinit-3", "\x1b[2J"]),
    }
    if rng.random() < 0.5:
        odd = [
            '{"layers": 3}',
            "[]",
            "[1]",
            "3",
            "{",
            "[" * 20_000,
            '{"layers": 1e400}',
            '{"a": "b"}',
        ]
        metadata["fastinit.variables"] = rng.choice(odd)
    if rng.random() < 0.2:
        metadata["fastinit.values"] = rng.choice(
            ['{"h.0.b": 3}', "[]", '{"h.0.b": {}}', "[" * 20_000]
        )
    name = rng.choice(["h.0.b", "h.0.w", "0" * 3000, "\x1b]0;x\x07"])
    entry = {"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}
    head = json.dumps({"__metadata__": metadata, name: entry}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))


def outcome(rng: random.Random, directory: Path | None) -> str:
    """Return how a recipe ended; raise whatever it should not have."""
    text, start = hostile(rng), time.process_time()
    try:
        if directory is None:
            recipe.parse(text).plan()
            return "a model"
        path = directory / "hostile.safetensors"
        in_metadata(rng, text, path)
        checkpoint.load(path).plan()
        checkpoint.check(path)
        return "a checkpoint, loaded and checked"
    except RecipeError as error:
        return f"refused: {words(error)}"
    finally:
        assert time.process_time() - start < SECONDS, text[:1000]


def words(error: RecipeError) -> str:
    """Return the words of an error without what is particular to one recipe."""
    parts = [part for part in str(error).replace('"', "'").split("'")[::2] if part]
    text = re.sub(r"[\d,.()#:=]+|built-in|at line.*|[^\x20-\x7e]", "", " ".join(parts))
    return " ".join(text.split())[-50:]


if __name__ == "__main__":
    fuzz.main(__doc__, lambda rng, at: outcome(rng, at if rng.random() < 0.5 else None))
