"""The C core under the sanitizers and valgrind: random fills from several threads at once.

``python tests/deep/sanitizers.py``; what the compiler or the machine has not is skipped.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import SRC

PROGRAM = Path(__file__).parents[1] / "stress.c"
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno"]
SANITIZERS = {
    "address and undefined": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "thread": ["-fsanitize=thread"],
    "memory": ["-fsanitize=memory"],  # of Clang alone: what is read before it is written
}
# The pool's threads live to the end: what glibc keeps for them is "possibly lost".
LEAKS = ["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"]
VALGRIND = ["valgrind", "--quiet", "--error-exitcode=9", *LEAKS]


def build(cc: str, flags: list[str], program: Path) -> str:
    """Build the stress program; say why it cannot be, or nothing."""
    if shutil.which(cc) is None:
        return f"needs {cc}"
    paths = [f"-I{SRC}", f"-I{SRC.parent / 'include'}"]
    always = [*STRICT, "-gdwarf-4", "-pthread", *flags, *paths]
    empty = ["-x", "c", "-", "-o", program.with_suffix(".empty")]
    if subprocess.run(
        [cc, *flags, *empty], input=b"int main(void){return 0;}", capture_output=True, check=False
    ).returncode:
        return f"{cc} has no {' '.join(flags)}"
    subprocess.run([cc, *always, PROGRAM, *SRC.glob("*.c"), "-lm", "-o", program], check=True)
    return ""


def stress(program: Path, fills: int, callers: int, seed: int, *runner: str) -> str:
    """Run it; return what it printed."""
    done = subprocess.run(
        [*runner, program, *map(str, (fills, callers, seed))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def main() -> None:
    for cc in ("gcc", "clang"):
        for name, flags in {**SANITIZERS, "no": []}.items():
            with tempfile.TemporaryDirectory() as directory:
                program = Path(directory) / "stress"
                title = f"{cc}, {name} sanitizer"
                if why := build(cc, ["-O1", *flags], program):
                    print(f"{title}: skipped, {why}")
                    continue
                print(title, stress(program, 2_000, 4, 1), sep="\n", flush=True)
                if name != "no":
                    continue
                if shutil.which("valgrind") is None:
                    print("valgrind: skipped, there is none")
                    continue
                print(f"{cc}, valgrind", stress(program, 100, 4, 1, *VALGRIND), sep="\n")


if __name__ == "__main__":
    main()
