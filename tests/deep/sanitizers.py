"""The C core, and the tests that fill from Python, under the sanitizers and valgrind.

``python tests/deep/sanitizers.py core`` makes random fills from several threads at once;
``python tests/deep/sanitizers.py python`` builds the extension with each sanitizer and runs the
tests of fills with lists, threads, signals, forks and changes of state. CPython and NumPy are not
instrumented: a sanitizer sees our accesses, all allocations, and the calls of the C library. What
the compiler or the machine has not is skipped.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import SRC
from record import keep

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


# Whose runtime has to be there before Python begins. Leaks: CPython frees little at its end. A
# test asks for more memory than there is; others fork from a thread and start threads then.
RUNTIMES = {
    "address and undefined": (
        ["libasan.so", "libubsan.so"],
        "ASAN_OPTIONS",
        "detect_leaks=0 allocator_may_return_null=1",
    ),
    "thread": (
        ["libtsan.so"],
        "TSAN_OPTIONS",
        "exitcode=66 report_signal_unsafe=0 die_after_fork=0 allocator_may_return_null=1",
    ),
}
# Races between frames of CPython's own, of which TSan sees only what goes through the C library.
SUPPRESSED = "race_top:bin/python\nrace_top:libpython\nrace_top:_multiarray_umath\n"
# What each has to find, or it would find nothing in the tests either.
FAULTY = {
    "address and undefined": """
x = np.empty(1000, np.float32)
fill(x, 1001)
""",
    "thread": """
x = np.empty(10**6, np.float32)
threads = [threading.Thread(target=fill, args=(x, 10**6)) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
""",
}
BEFORE = """
import threading
import numpy as np
from fastinit import _kernels as k
from fastinit._distributions import normal_distribution
from fastinit._fill import FLOAT_FORMATS, params_in
def fill(x, n):
    normal, float32 = normal_distribution(0.0, 1.0), FLOAT_FORMATS["float32"]
    start, nbytes = x.ctypes.data, 4 * n
    k.fill_line(normal, float32, params_in, start, nbytes, 0, n, k.Cursor((1, 2)), 1)
"""
SUITE = (
    "test_fill.py",
    "test_while_filling.py",
    "test_threads.py",
    "test_random.py",
    "test_numpy_bit_generator.py",
    "test_structured.py",
    "test_orthogonal.py",
)
# The first four limit or measure the memory or the threads of a process, and a sanitizer reserves
# terabytes.
# The next ones count threads, of which ThreadSanitizer has one of its own, or make a fill last by a
# stride of 0: several threads then write one element, which is a race by the caller's own wish.
LIMITED = (
    "test_threads_are_refused",
    "test_processes_are_refused",
    "test_no_memory",
    "test_memory_is_what_the_header_says",
)
LEFT_OUT = {
    "address and undefined": LIMITED,
    "thread": (
        *LIMITED,
        "test_threads_are_started_when_needed",
        "test_interrupt",
        "test_shutdown_during_a_fill",
        "test_exit_during_a_fill",
        "test_ctrl_c_in_the_child_of_a_thread",
    ),
}
ROOT = Path(__file__).parents[2]
NOT_SOURCES = shutil.ignore_patterns(".*", "build", "dist", "*.so", "_kernels.c", "__pycache__")


def python_suite(name: str, chosen: list[str] | None) -> None:
    """Run the tests that fill under a sanitizer of GCC's; say how they ended."""
    start = time.monotonic()
    libraries, variable, options = RUNTIMES[name]
    paths = [
        subprocess.run(
            ["gcc", f"-print-file-name={library}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for library in libraries
    ]
    if not all(map(os.path.isabs, paths)):
        print(f"Python, {name}: skipped, gcc has no {' '.join(libraries)}")
        return
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        shutil.copytree(ROOT, tree, ignore=NOT_SOURCES)
        build_extension(tree, SANITIZERS[name])
        suppressions = tree / "suppressions.txt"
        suppressions.write_text(SUPPRESSED, "utf-8")
        if variable == "TSAN_OPTIONS":
            options += f" suppressions={suppressions}"
        environment = {
            **os.environ,
            "LD_PRELOAD": " ".join(paths),
            "PYTHONPATH": str(tree),
            "PYTHONMALLOC": "malloc",  # else an array's memory is part of a larger block
            variable: options,
        }
        program = [sys.executable, "-c", BEFORE + FAULTY[name]]
        once = {**environment, variable: f"{options} halt_on_error=1"}
        faulty = subprocess.run(program, cwd=tree, env=once, capture_output=True, check=False)
        assert b"Sanitizer: " in faulty.stderr, faulty
        suite = [f"tests/core/{file}" for file in SUITE]
        asked = ["-q", "-n0", "-p", "no:cacheprovider", "-m", "not exhaustive"]
        # What Numba compiles is not instrumented.
        asked += ["-k", " and ".join(f"not {test}" for test in ("numba", *LEFT_OUT[name]))]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *asked, *(chosen or suite)],
            cwd=tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        lines = done.stdout.splitlines()
        shown = lines[-1:] if done.returncode == 0 else lines[-400:]
        print(f"Python, {name}:", *shown, sep="\n", flush=True)
        if done.returncode:
            raise SystemExit(1)
    if not chosen:
        (passed,) = re.findall(r"(\d+) passed", lines[-1])
        took = time.monotonic() - start
        keep(f"sanitizers python: {name}", int(passed), "tests", "nothing found", 0, took)


def build_extension(tree: Path, sanitizer: list[str]) -> None:
    """Build the extension in a copy of the tree, by -O1: with -O3 it takes a quarter of an hour."""
    table = tree / "fastinit" / "src" / "flags.txt"
    table.write_text(re.sub("(?m)^optimize: .*$", "optimize: -O1", table.read_text("utf-8")))
    flags = " ".join(["-g1", *sanitizer])
    compiler = "ccache gcc" if shutil.which("ccache") else "gcc"
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tree,
        env={**os.environ, "CC": compiler, "CFLAGS": flags, "LDFLAGS": flags},
        check=True,
    )


def core() -> None:
    """Run the stress program under each sanitizer of each compiler, and under valgrind."""
    for cc in ("gcc", "clang"):
        for name, flags in {**SANITIZERS, "no sanitizer": []}.items():
            with tempfile.TemporaryDirectory() as directory:
                program = Path(directory) / "stress"
                title = f"{cc}, {name}"
                if why := build(cc, ["-O1", *flags], program):
                    print(f"{title}: skipped, {why}")
                    continue
                stressed(title, program, 2_000)
                if name != "no sanitizer":
                    continue
                if shutil.which("valgrind") is None:
                    print("valgrind: skipped, there is none")
                    continue
                stressed(f"{cc}, valgrind", program, 100, *VALGRIND)


def stressed(title: str, program: Path, fills: int, *runner: str) -> None:
    """Run the stress program from four threads; print and keep how it ended."""
    start, callers, seed = time.monotonic(), 4, 1
    print(title, stress(program, fills, callers, seed, *runner), sep="\n", flush=True)
    took, what = time.monotonic() - start, "fills on each instruction set"
    keep(f"sanitizers core: {title}", fills * callers, what, "nothing found", seed, took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["core", "python"], nargs="?", help="both, unless given")
    parser.add_argument("--only", choices=RUNTIMES, help="a sanitizer, for python")
    parser.add_argument("--test", action="append", help="for python, instead of all of fills")
    given = parser.parse_args()
    if given.what != "python":
        core()
    if given.what != "core":
        for name in [given.only] if given.only else RUNTIMES:
            python_suite(name, given.test)


if __name__ == "__main__":
    main()
