"""The C kernels built for other machines and by other compilers, and asked for their values.

``python tests/deep/same_bits.py`` does it with all that is installed.
"""

import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import golden
from cases import CASES, EXTREMES, KEY, TRUNCATED, Case
from conftest import SRC

from fastinit import _kernels
from fastinit._fill import as_dtype

VALUES = Path(__file__).with_name("values.c")
STRESS = Path(__file__).with_name("stress.c")
NATIVE = platform.machine()


ZIG = (sys.executable, "-m", "ziglang")


class Build(NamedTuple):
    """A compiler, its flags, and for another machine's code the program that runs it."""

    cc: str
    flags: tuple[str, ...] = ("-O3",)
    runner: str = ""
    zig_target: str = ""

    def __str__(self) -> str:
        return " ".join([self.cc, *filter(None, [self.zig_target]), *self.flags])

    def missing(self) -> str:
        """What it needs and is not here, or nothing."""
        if self.zig_target and find_spec("ziglang") is None:
            return "ziglang"
        needed = [*([] if self.zig_target else [self.cc]), *filter(None, [self.runner])]
        return " and ".join(program for program in needed if shutil.which(program) is None)

    def compiler(self) -> list[str]:
        """The command that compiles and links for the target."""
        return [*ZIG, "cc", "-target", self.zig_target] if self.zig_target else [self.cc]

    def make(self, directory: Path, source: Path = VALUES) -> Path:
        """Build the static library by its Makefile, and a program with it."""
        flags = " ".join(["-Wall -Wextra -Werror", *self.flags])
        tools = [f"CC={' '.join(self.compiler())}"]
        if self.zig_target:
            tools.append(f"AR={' '.join(ZIG)} ar")
        command = ["make", "-s", "-C", SRC, f"OUT={directory}", *tools, "OPTIMIZE="]
        subprocess.run([*command, f"CFLAGS={flags}"], check=True, stdout=subprocess.DEVNULL)
        program = directory / source.with_suffix(".exe").name
        paths = [f"-I{SRC}", f"-I{SRC.parent / 'include'}"]
        inputs = [source, directory / "libfastinit.a", "-pthread", "-lm"]
        static = ["-static"] if self.runner.startswith(("qemu", "bochs")) else []
        compiler = [*self.compiler(), *flags.split(), "-std=gnu11", *static]
        subprocess.run([*compiler, *paths, *inputs, "-o", program], check=True)
        return program

    def isas(self) -> list[str]:
        """The instruction sets that the program can be asked for."""
        return ["base"] if self.runner.startswith("qemu") else _kernels.isas()


class Question(NamedTuple):
    """Values by their hash: what the golden file has, or what the kernels in Python make."""

    case: Case
    start: int
    n: int
    sha256: str

    def __str__(self) -> str:
        return str(self.case)

    def line(self) -> str:
        numbers = [self.case.distribution.upper(), self.case.dtype.upper()]
        codes = [str(getattr(_kernels, name)) for name in numbers]
        return " ".join([*codes, *map(str, [*KEY, self.start, self.n, 3]), *self.params()]) + "\n"

    def params(self) -> list[str]:
        if self.case.distribution == "constant":
            return [str(int(self.case.params[0]))]
        bounds = self.case.kernel_params()[:2] if len(self.case.params) == 4 else ()
        return [float(number).hex() for number in (*self.case.params, *bounds)]

    @property
    def nbytes(self) -> int:
        return self.n * self.case.pattern.itemsize


class Matrix(NamedTuple):
    """A random orthogonal matrix of the golden file."""

    dtype: str
    start: int
    shape: tuple[int, int]
    gain: float
    sha256: str

    def __str__(self) -> str:
        rows, columns = self.shape
        return f"orthogonal-{self.dtype}-{rows}x{columns}"

    def line(self) -> str:
        code = getattr(_kernels, self.dtype.upper())
        numbers = [code, *KEY, self.start, *self.shape, 3, float(self.gain).hex()]
        return " ".join(["orthogonal", *map(str, numbers)]) + "\n"

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * as_dtype(self.dtype).itemsize


def questions() -> Iterator[Question | Matrix]:
    """Of the golden file's cases, and of all others, at the least and the greatest numbers too."""
    recorded = json.loads(golden.FILE.read_text())
    assert recorded["stream"] == _kernels.STREAM
    for entry in recorded["outputs"]:
        case = Case(entry["distribution"], entry["dtype"], tuple(entry["params"]))
        yield Question(case, entry["start"], entry["n"], entry["sha256"])
    for entry in recorded["orthogonal"]:
        yield Matrix(**{**entry, "shape": tuple(entry["shape"])})
    for case in CASES + TRUNCATED + EXTREMES:
        yield Question(case, 2**64 - 100, 1500, golden.digest(case.filled(1500, 2**64 - 100)))


def request(asked: Sequence[Question | Matrix]) -> bytes:
    """What the program reads."""
    return "".join(question.line() for question in asked).encode()


def compare(values: bytes, asked: Sequence[Question | Matrix]) -> list[str]:
    """The cases whose values, which the program wrote, are not those asked for."""
    found, at = [], 0
    for question in asked:
        if sha256(values[at : at + question.nbytes]).hexdigest() != question.sha256:
            found.append(str(question))
        at += question.nbytes
    assert at == len(values)
    return found


def differences(
    program: Path,
    build: Build,
    isa: str,
    asked: Sequence[Question | Matrix],
    mode: str = "default",
) -> list[str]:
    """The cases whose values are not those asked for, as the program makes them."""
    done = subprocess.run(
        [*filter(None, [build.runner]), program, mode],
        input=request(asked),
        stdout=subprocess.PIPE,
        env={**os.environ, "FASTINIT_ISA": isa},
        check=True,
    )
    return compare(done.stdout, asked)
