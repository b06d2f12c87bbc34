"""Kills `fastinit init` at random moments, resumes it, and compares every byte at the end.

    python tests/deep/kills.py --kills 200 --directory /dev/shm

A job is killed (SIGKILL) again and again until it gets through. After every kill, each file that
has its name must be what an undisturbed run writes; resuming must not touch it; and at the end
the directory must hold the undisturbed run's files and nothing else.
"""

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from record import keep

RECIPE = """
name = "killed"
[repeat]
layer = 12
[tensors]
"h.{layer}.a" = [1000, 3000]
"h.{layer}.b" = {shape = [700, 1001], dtype = "bfloat16"}
"h.{layer}.c" = [64]
[[rule]]
pattern = "*"
init = "truncated_normal"
std = 0.02
[config]
kind = "killed"
"""

JOBS = (("--max-shard-size", "1TB"), ("--max-shard-size", "25MB"), ("--format", "npy"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, help="in which to work; 500 MB")
    arguments = parser.parse_args()
    start = time.monotonic()
    with TemporaryDirectory(dir=arguments.directory) as directory:
        whole = kill(Path(directory), arguments.kills, arguments.seed)
    ended = f"all bytes equal, in {whole} runs to the end"
    keep("kills", arguments.kills, "kills", ended, arguments.seed, time.monotonic() - start)


def kill(directory: Path, kills: int, seed: int, jobs: Sequence[Sequence[str]] = JOBS) -> int:
    """Kill so many times, spread over the jobs; raise AssertionError at a wrong byte.

    Return how many runs came to their end.
    """
    rng, ended = random.Random(seed), 0
    source = directory / "killed.toml"
    source.write_text(RECIPE)
    for i, job in enumerate(jobs):
        start = time.monotonic()
        run(source, directory / "whole", job).wait()
        duration = time.monotonic() - start
        expected = digests(directory / "whole")
        remove(directory / "whole")
        todo = kills * (i + 1) // len(jobs) - kills * i // len(jobs)
        runs = moments = 0
        while todo:
            runs += 1
            n = killed(source, directory / "out", job, expected, rng, duration, todo)
            moments += n
            todo -= n
        ended += runs
        print(f"{' '.join(job)}: {moments} kills, {runs} runs to the end, all bytes equal")
    return ended


def killed(
    source: Path,
    out: Path,
    job: Sequence[str],
    expected: dict[str, str],
    rng: random.Random,
    duration: float,
    most: int,
) -> int:
    """Take one job to its end, through at most so many kills; return how many there were."""
    kills = 0
    while True:
        before = stamps(out)
        process = run(source, out, job)
        late = rng.random() < 0.5
        while late and process.poll() is None and not any(out.glob(".*")):
            time.sleep(0.001)  # half the kills come when it has begun to write
        if kills < most:
            time.sleep(rng.random() * duration * (0.6 if late else 1))
            process.send_signal(signal.SIGKILL)
        status = process.wait()
        after = stamps(out)
        assert before.items() <= after.items(), "what was finished was written again"
        found = digests(out)
        assert all(expected[name] == found[name] for name in found), (
            "a file is not what it is named"
        )
        if status == 0:
            assert found == expected
            assert {path.name for path in out.iterdir()} == expected.keys(), (
                "something is left over"
            )
            remove(out)
            return kills
        assert status == -signal.SIGKILL, f"status {status}"
        kills += 1


def run(source: Path, out: Path, job: Sequence[str]) -> subprocess.Popen[bytes]:
    command = ["-m", "fastinit", "init", str(source), "-o", str(out), "--threads", "1", "--resume"]
    return subprocess.Popen([sys.executable, *command, *job], stdout=subprocess.DEVNULL)


def finished(out: Path) -> list[Path]:
    return [path for path in out.iterdir() if not path.name.startswith(".")] if out.exists() else []


def digests(out: Path) -> dict[str, str]:
    return {p.name: hashlib.blake2b(p.read_bytes()).hexdigest() for p in finished(out)}


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Return what changes when a file is written again."""
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in finished(out)}


def remove(out: Path) -> None:
    for path in out.iterdir():
        path.unlink()
    out.rmdir()


if __name__ == "__main__":
    main()
