"""Checkpoints of very many tensors: what a tensor costs beside its bytes.

``python -m pytest bench/test_tiny_tensors.py``: 10**5 tensors of 32 float32 each, and one of as
many bytes, written to memory if the system has a file system there, and checked.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastinit import checkpoint, recipe

COUNT = 10**5
RECIPES = {
    "1 tensor": f'"weight" = [{COUNT}, 4, 8]',
    f"{COUNT:,} tensors": '"layers.{layer}.weight" = [4, 8]',
}
IN_MEMORY = Path("/dev/shm")


def model(tensors: str) -> recipe.Recipe:
    """Return a recipe of so many weights, all of one rule."""
    repeat = f"[repeat]\nlayer = {COUNT}\n" if "{layer}" in tensors else ""
    return recipe.parse(
        f'name = "tiny"\n{repeat}[tensors]\n{tensors}\n'
        '[[rule]]\npattern = "*weight"\ninit = "normal"\nstd = 0.02\n'
    )


@pytest.mark.parametrize("what", ["write", "check"])
@pytest.mark.parametrize("name", RECIPES)
def test_tiny_tensors(name: str, what: str, benchmark: BenchmarkFixture) -> None:
    benchmark.group = f"{what} {COUNT * 32:,} float32"
    wanted = model(RECIPES[name])
    with TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as directory:
        checkpoint.write(wanted, directory, seed=1)

        def run() -> None:
            if what == "write":
                checkpoint.write(wanted, directory, seed=1, overwrite=True)
            else:
                assert checkpoint.check(directory).difference is None

        benchmark.pedantic(run, rounds=3)
