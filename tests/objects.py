"""The kernels' object code: compiled as setup.py does, disassembled, its loops read.

``python tests/objects.py`` writes this compiler's instructions per element to objects.json:
those of the loop over chunks, divided by a chunk's elements.
"""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from cases import FLOATS
from conftest import SRC
from flags import flags_for

FILE = Path(__file__).with_name("objects.json")
CC = shutil.which(os.environ.get("CC", "cc"))
OBJDUMP = shutil.which("objdump")

LANES = 32  # of kernels.inc.h
CHUNK = 2 * LANES
REGISTERS = {"base": "%xmm", "avx2": "%ymm", "avx512": "%zmm", "avx512bf16": "%zmm"}
HOT = [
    "bits_uint32",
    "bits_uint64",
    "integer_float32",  # of which uniform_float32 is made
    *(f"uniform_{dtype}" for dtype in FLOATS if dtype != "float32"),
    *(f"normal_{dtype}" for dtype in FLOATS),
    *(f"{name}_{dtype}" for name in ("central", "wide") for dtype in FLOATS if dtype != "float64"),
]

# Of each instruction set; the last has one thing of its own.
KERNELS = {
    "avx2": HOT,
    "avx512": HOT,
    "avx512bf16": [f"{name}_bfloat16_by_instruction" for name in ("uniform", "normal")],
}

# Functions of lanes that the truncated normal's chunks call.
HARD = [
    *(f"{method}_of_{unit}" for method in ("body", "far") for unit in ("draws", "words")),
    "near_of_words",
]

SCALAR = re.compile(r"v?(add|sub|mul|div|sqrt|min|max|fn?m(add|sub)\d+)s[sd]")
PRODUCTS = {
    "integers": re.compile(r"v?pmul(udq|lq)"),
    "floats": re.compile(r"v?(mul|fn?m(add|sub)\d+)p[sd]"),
}

# What GCC makes vectors of for the baseline.  Not float64, whose fma is a call there; and not
# yet the truncated normal.
BASELINE = [kernel for kernel in HOT if re.match("(bits|integer|uniform|normal)_(?!.*64)", kernel)]


def missing() -> str:
    """Why there is no such code here, or nothing."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return "reads x86-64 code only"
    return "needs a C compiler" if CC is None else "needs objdump" if OBJDUMP is None else ""


def run(*command: object) -> str:
    done = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)
    return done.stdout


def compiler() -> str:
    """Its name and major version."""
    macros = dict(re.findall(r"#define (\w+) (\w+)", run(CC, "-dM", "-E", "-xc", "/dev/null")))
    if "__clang__" in macros:
        return f"clang {macros['__clang_major__']}"
    return f"gcc {macros['__GNUC__']}"


class Instruction(NamedTuple):
    address: int
    name: str
    operands: str


Code = Sequence[Instruction]


@cache
def compiled_code(isa: str, *flags: str) -> dict[str, Code]:
    """The instructions of each function of an instruction set's kernels."""
    given = [*flags_for("optimize"), *flags_for("every")]
    if compiler().startswith("gcc"):
        given += flags_for("gcc")
    paths = [f"-I{SRC}", f"-I{SRC.parent / 'include'}"]
    with TemporaryDirectory() as directory:
        out = Path(directory) / "kernels.o"
        source = SRC / f"kernels_{isa}.c"
        run(CC, *given, "-fPIC", *flags, *paths, "-c", source, "-o", out)
        listing = run(OBJDUMP, "--disassemble", "--no-show-raw-insn", out)
    functions: dict[str, list[Instruction]] = {}
    code: list[Instruction] = []
    for line in listing.splitlines():
        if start := re.match(r"\w+ <([\w.]+)>:", line):
            code = functions[start[1]] = []
        elif found := re.match(r" +(\w+):\t(\S+) *(.*)", line):
            code.append(Instruction(int(found[1], 16), found[2], found[3]))
    return dict(functions)


def loops(code: Code) -> list[Code]:
    """From the target of each jump backwards to the jump, the longest first."""
    at = {instruction.address: n for n, instruction in enumerate(code)}
    found = []
    for n, instruction in enumerate(code):
        target = re.match(r"(\w+) <", instruction.operands)
        if instruction.name.startswith("j") and target:
            first = at.get(int(target[1], 16), n + 1)
            if first <= n:
                found.append(code[first : n + 1])
    return sorted(found, key=len, reverse=True)


def of_kernel(kernel: str, functions: dict[str, Code]) -> list[Code]:
    """The loop over chunks, and those inside it."""
    for name, code in functions.items():
        if name.split(".")[0] == f"{kernel}_chunks":  # a compiler may add .part and such
            outer, *rest = loops(code)
            return [outer, *(loop for loop in rest if outer[0] <= loop[0] <= outer[-1])]
    raise AssertionError(f"no function {kernel}_chunks")


def with_draws(code: Code, functions: dict[str, Code]) -> Code:
    """The code, in it that of the draws in place of their calls: they may be functions."""
    whole: list[Instruction] = []
    for i in code:
        called = (
            re.search(r"<(draw32_apart[\w.]*)>$", i.operands) if i.name.startswith("call") else None
        )
        whole += with_draws(functions[called[1]], functions) if called else [i]
    return whole


def objections(kernel: str, isa: str, functions: dict[str, Code]) -> list[str]:
    """To a loop over chunks that is not all vectors of the instruction set's width."""
    register = REGISTERS[isa]
    loop = with_draws(of_kernel(kernel, functions)[0], functions)
    found = [i for i in loop if i.name.startswith("call") or SCALAR.fullmatch(i.name)]
    texts = [f"{i.name} {i.operands}" for i in found]
    for numbers, name in PRODUCTS.items():
        if numbers == "integers" and isa == "base":  # SSE2 has none of 64 bits: as GCC likes
            continue
        products = [i.operands for i in loop if name.fullmatch(i.name)]
        wide = [operands for operands in products if register in operands]
        if not wide and not (numbers == "floats" and kernel.startswith("bits")):
            texts.append(f"no product of {numbers} on {register}")
        if numbers == "integers":  # one for each call of the draws is the block's own
            texts += [f"imul {i.operands}" for i in loop if i.name.startswith("imul")][2:]
        # GCC stores bytes from half registers, and joins to that what it can.
        if "float8" not in kernel:
            texts += [f"product of {numbers} on {o}" for o in products if register not in o]
    return texts


def scalar_code(function: str, isa: str, functions: dict[str, Code]) -> list[str]:
    """What in a function's loop over lanes, or in all of it, is not vector code."""
    code = next(code for name, code in functions.items() if name.split(".")[0] == function)
    loop = loops(code)[0] if loops(code) else code
    found = [i for i in loop if i.name.startswith("call") or SCALAR.fullmatch(i.name)]
    texts = [f"{i.name} {i.operands}" for i in found]
    if not any(PRODUCTS["floats"].fullmatch(i.name) and REGISTERS[isa] in i.operands for i in loop):
        texts.append(f"no product of floats on {REGISTERS[isa]}")
    return texts


def per_element(kernel: str, functions: dict[str, Code]) -> float:
    """Instructions of the loop over chunks, for each element of a chunk."""
    outer, *inner = of_kernel(kernel, functions)
    width = 8 if "64" in kernel else 4
    more = sum(len(loop) * (LANES * width // step(loop) - 1) for loop in inner)
    return round((len(with_draws(outer, functions)) + more) / CHUNK, 2)


def step(loop: Code) -> int:
    """How many bytes of its arrays a loop over lanes does at once."""
    compared = next((i.operands for i in reversed(loop) if i.name == "cmp"), "")
    for i in loop:
        added = re.fullmatch(r"\$(0x\w+),(%\w+)", i.operands)
        if added and i.name in ("add", "sub") and added[2] in compared:
            n = int(added[1], 16)
            return min(n, 2**64 - n)
    raise AssertionError(f"cannot tell how many lanes are done at once: {loop[-1]}")


def counts(isa: str, *flags: str) -> dict[str, float]:
    functions = compiled_code(isa, *flags)
    return {kernel: per_element(kernel, functions) for kernel in KERNELS[isa]}


def main() -> None:
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {}
    recorded[compiler()] = {isa: counts(isa) for isa in KERNELS}
    FILE.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
