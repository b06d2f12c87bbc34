"""The same bits from every compiler, optimisation and machine that is installed here.

``python tests/deep/same_bits.py``; Debian has all of it as gcc clang qemu-user wine
gcc-aarch64-linux-gnu gcc-s390x-linux-gnu gcc-riscv64-linux-gnu gcc-powerpc64le-linux-gnu, but
for Zig, which is the Python package ziglang. What Zig makes for macOS is compiled and linked,
and runs nowhere here.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from builds import NATIVE, STRESS, Build, Matrix, Question, differences, questions
from sanitizers import stress

OPTIMISATIONS = ["-O0", "-O1", "-O2", "-O3", "-Os"]
BUILDS = [
    *(Build(cc, (flag,)) for cc in ("gcc", "clang") for flag in OPTIMISATIONS),
    *(Build(cc, ("-O3", "-march=native")) for cc in ("gcc", "clang")),
    *(
        Build(f"{target}-linux-gnu-gcc", (flag,), f"qemu-{machine}")
        for machine, target in [
            ("aarch64", "aarch64"),
            ("s390x", "s390x"),  # big-endian
            ("riscv64", "riscv64"),
            ("ppc64le", "powerpc64le"),
        ]
        for flag in ("-O1", "-O3")
    ),
    Build("s390x-linux-gnu-gcc", ("-O3", "-march=z14"), "qemu-s390x"),  # with vectors
    Build("zig", ("-O3",), "", "x86_64-linux-gnu.2.17"),
    Build("zig", ("-O3",), "qemu-aarch64", "aarch64-linux-musl"),
    *(Build("zig", (flag,), "wine", "x86_64-windows-gnu") for flag in ("-O1", "-O3")),
]
LINKED = [Build("zig", ("-O3",), "", f"{machine}-macos") for machine in ("aarch64", "x86_64")]
ANYWHERE = ["upward", "downward", "towardzero", "traps"]
MODES = {"x86_64": [*ANYWHERE, "flush", "x87"], "aarch64": [*ANYWHERE, "flush"]}


def report(build: Build, program: Path, asked: list[Question | Matrix]) -> int:
    """Say of each instruction set and each mode of arithmetic whether it differs; how many do."""
    bad = 0
    emulated = build.runner.startswith("qemu")
    machine = build.runner.removeprefix("qemu-") if emulated else NATIVE
    modes = ["default", *MODES.get(machine, ANYWHERE)]
    if build.zig_target and "linux-gnu" not in build.zig_target:
        modes.remove("traps")  # a function of glibc's sets them
    for isa in build.isas():
        for mode in modes:
            found = differences(program, build, isa, asked, mode)
            verdict = f"DIFFERENT: {', '.join(found)}" if found else "the same bits"
            print(f"{build}, {machine} {isa}, {mode}: {verdict}", flush=True)
            bad += bool(found)
    return bad


def main() -> int:
    asked, bad, skipped = list(questions()), 0, 0
    print(f"{len(asked)} cases each")
    for build in BUILDS:
        if missing := build.missing():
            print(f"{build}: skipped, needs {missing}")
            skipped += 1
            continue
        with tempfile.TemporaryDirectory() as directory:
            bad += report(build, build.make(Path(directory)), asked)
            if build.runner == "wine":  # the pool and its locks are Windows's own
                print(stress(build.make(Path(directory), STRESS), 500, 4, 1, "wine"), end="")
    for build in LINKED:
        if missing := build.missing():
            print(f"{build}: skipped, needs {missing}")
            skipped += 1
            continue
        with tempfile.TemporaryDirectory() as directory:
            build.make(Path(directory))
        print(f"{build}: compiled and linked, not run")
    print(f"{bad} different, {skipped} builds skipped")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
