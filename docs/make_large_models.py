"""Measures writing and checking from 1 to 16 GB: ``python docs/make_large_models.py DIRECTORY``.

DIRECTORY is on the disk to measure, with 18 GB free. Models have Llama 3's layers, fewer of them
for fewer bytes. Each measurement is a process of its own, and they take turns: writing normals,
writing constants into the same files by the same method, checking what is there. Also, for 4 GB,
the other method, filling a mapped file. The table and the picture go into docs/large-models.md.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PAGE, PICTURE = DOCS / "large-models.md", DOCS / "pictures" / "large-models.png"
BEGIN, END = "<!-- measured -->\n", "<!-- end of measured -->\n"

SIZES = (1, 2, 4, 8, 16)  # GB, as `model` makes them
TASKS = {"write": "normals", "constants": "constants", "check": "check"}
MAPPED = {"mapped": "normals, mapped", "mapped constants": "constants, mapped"}


def model(size: int, init: str) -> Any:
    """Return a model of about so many GB, 16 of which are Llama-3-8B, all of it of one kind."""
    from dataclasses import replace

    from fastinit import Initializer, recipe

    arguments = {"normal": {"std": 0.02}, "constant": {"value": 0.02}}[init]
    rule = Initializer(init, **arguments)
    loaded = recipe.load("llama-3-8b", {"layers": 2 * size, "vocabulary": 8016 * size})
    return replace(loaded, rules=(recipe.Rule("*", rule),), text=f'name = "{init}"')


def task(what: str, size: int, directory: Path, threads: int | None) -> dict[str, float]:
    """Do one thing, in this process; return what it took."""
    from fastinit import checkpoint

    peak = [0]

    def progress(_: int) -> None:
        peak[0] = max(peak[0], private())

    init = "constant" if "constants" in what else "normal"
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    if what == "check":
        done = check(directory, threads, progress)
    elif what.startswith("mapped"):
        done = write_mapped(model(size, init), directory, threads)
        progress(0)
    else:
        options = {"threads": threads, "progress": progress}
        done = checkpoint.write(model(size, init), directory, **options).nbytes
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "nbytes": done,
        "seconds": seconds,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "private": peak[0],
    }


def check(directory: Path, threads: int | None, progress: Any) -> int:
    """Compare the model of normals with the rule that made it."""
    rules = directory.with_suffix(".toml")
    rules.write_text('name = "r"\n[[rule]]\npattern = "*"\ninit = "normal"\nstd = 0.02\n')
    from fastinit import checkpoint

    done = checkpoint.check(directory, rules, threads=threads, progress=progress)
    assert done.difference is None, done.difference
    return done.nbytes


def write_mapped(recipe: Any, directory: Path, threads: int | None) -> int:
    """Write the same shards by filling mapped files, tensor by tensor."""
    import numpy as np

    import fastinit
    from fastinit import checkpoint

    directory.mkdir()
    rng, total = fastinit.default_rng(0), 0
    for shard in checkpoint.lay_out(recipe, 0).shards:
        with (directory / shard.name).open("x+b") as file:
            os.posix_fallocate(file.fileno(), 0, shard.nbytes)
            file.write(shard.head)
            file.flush()
            for tensor, rule, begin in shard.items:
                x = np.asarray(np.memmap(file, tensor.dtype, "r+", begin, tensor.shape))
                rule.initializer.fill(x, rng=rng.stream(tensor.name), threads=threads)
                del x
            os.fsync(file.fileno())
        total += shard.nbytes
    return total


def private() -> int:
    """Return this process's private memory in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def measured(what: str, size: int, directory: Path, threads: int | None) -> dict[str, Any]:
    """Do one thing in a process of its own; return what it took."""
    command = [sys.executable, __file__, str(directory), "--task", what, "--size", str(size)]
    command += [] if threads is None else ["--threads", str(threads)]
    if what != "check":
        shutil.rmtree(directory, ignore_errors=True)
    os.sync()
    done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(f"{size:3} GB  {what:16}  {done['seconds']:7.2f} s", file=sys.stderr, flush=True)
    return {"what": what, "size": size, **done}


def measure(directory: Path, threads: int | None, repeats: int) -> list[dict[str, Any]]:
    """Do all things in turns."""
    results = []
    for _ in range(repeats):
        for size in SIZES:
            for what in ("constants", "write", "check"):
                results.append(measured(what, size, directory, threads))
        for what in MAPPED:
            results.append(measured(what, 4, directory, threads))
    shutil.rmtree(directory)
    directory.with_suffix(".toml").unlink()
    return results


def best(results: list[dict[str, Any]], what: str, size: int, key: str) -> float:
    """Return the least of what the turns took: what else the machine does only adds."""
    return min(r[key] for r in results if (r["what"], r["size"]) == (what, size))


def table(results: list[dict[str, Any]], machine: str) -> str:
    """Return the tables of the page."""
    lines = ["| GB | normals, s | constants, s | constants / normals | check, s | private, MB |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for size in SIZES:
        write, constants, compare = (best(results, what, size, "seconds") for what in TASKS)
        nbytes = best(results, "write", size, "nbytes") / 1e9
        memory = max(best(results, what, size, "private") for what in TASKS) / 1e6
        lines.append(
            f"| {nbytes:.2f} | {write:.1f} | {constants:.1f} | {constants / write:.2f} "
            f"| {compare:.1f} | {memory:.0f} |"
        )
    lines += ["", "| 4 GB | wall, s | user, s | system, s |", "| --- | --- | --- | --- |"]
    labels = {"write": "normals, pwrite", "constants": "constants, pwrite", **MAPPED}
    for what, label in labels.items():
        row = (best(results, what, 4, key) for key in ("seconds", "user", "system"))
        lines.append(f"| {label} | {' | '.join(f'{value:.1f}' for value in row)} |")
    n = sum((r["what"], r["size"]) == ("write", 4) for r in results)
    return "\n".join([*lines, "", f"The least of {n} turns or more; {machine}.", ""])


def draw(results: list[dict[str, Any]]) -> None:
    """Draw time per byte and memory over the model's size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots(1, 3)
    titles = ("elapsed, ns per byte", "CPU time, ns per byte", "largest private memory, MB")
    for what, label in TASKS.items():
        bytes_, wall, user, system, private = (
            [best(results, what, size, key) for size in SIZES]
            for key in ("nbytes", "seconds", "user", "system", "private")
        )
        gb = [n / 1e9 for n in bytes_]
        lines = (
            [t / n for t, n in zip(wall, gb, strict=True)],
            [(u + s) / n for u, s, n in zip(user, system, gb, strict=True)],
            [n / 1e6 for n in private],
        )
        for one, line in zip(axes, lines, strict=True):
            one.plot(gb, line, marker="o", label=label)
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title, fontsize=10)
        one.set_xscale("log", base=2)
        one.set_xticks(SIZES, [str(size) for size in SIZES])
        one.set_xlabel("size of the model, GB")
        one.set_ylim(bottom=0)
        one.grid(alpha=0.3)
        one.legend(fontsize=8)
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    """Measure, or do one thing of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="made, and removed at the end")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, help="file to keep results in, or to take them of")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.task:
        print(json.dumps(task(a.task, a.size, a.directory, a.threads)))
        return
    if a.results and a.results.exists():
        results = json.loads(a.results.read_text())
    else:
        results = measure(a.directory, a.threads, a.repeats)
        if a.results:
            a.results.write_text(json.dumps(results))
    draw(results)
    text = PAGE.read_text("utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    machine = f"{a.threads or len(os.sched_getaffinity(0))} threads of {os.cpu_count()} CPUs"
    PAGE.write_text(f"{before}{BEGIN}{table(results, machine)}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
