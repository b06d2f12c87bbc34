"""Kills workers of a Dask cluster while `fastinit init` writes, and compares every byte at the end.

    python tests/deep/lost.py --workers 4 --rounds 10

In each round one worker, which one and when at random, is killed (SIGKILL) in the middle of the
job; the directory must then hold what one machine writes, and nothing else.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from distributed import Client, LocalCluster
from kills import digests, remove

MODEL = ("gpt2", "--set", "width=1600", "--dtype", "bfloat16", "--seed", "7")
SHARDS = ("--max-shard-size", "50MB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, help="in which to work; 2 GB")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with TemporaryDirectory(dir=arguments.directory) as directory:
        whole, out = Path(directory, "whole"), Path(directory, "out")
        assert start(whole).wait() == 0
        expected = digests(whole)
        remove(whole)
        for n in range(arguments.rounds):
            lost, left = one_lost(out, arguments.workers, rng, len(expected))
            assert digests(out) == expected
            remove(out)
            print(f"round {n}: process {lost} killed with {left} files to write: equal", flush=True)


def one_lost(out: Path, workers: int, rng: random.Random, files: int) -> tuple[int, int]:
    """Kill a worker when so many shards are whole; return its process and what was left."""
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        victim = rng.choice(sorted(client.run(os.getpid).values()))
        moment = rng.randint(0, files - 8)
        process = start(out, cluster.scheduler_address)
        while not out.is_dir() or len(list(out.glob("*.safetensors"))) < moment:
            assert process.poll() is None
            time.sleep(0.001)
        left = files - len(list(out.glob("*.safetensors")))
        os.kill(victim, signal.SIGKILL)
        assert process.wait() == 0
        assert victim not in client.run(os.getpid).values()
        return victim, left


def start(out: Path, scheduler: str | None = None) -> "subprocess.Popen[bytes]":
    cluster = () if scheduler is None else ("--scheduler", scheduler)
    command = [sys.executable, "-m", "fastinit", "init", *MODEL, *SHARDS, "-o", str(out), *cluster]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
