"""Shards equal the whole, on 1, 2, 3, 4 and 8 processes of one machine."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from adapters import adapter

torch = adapter("torch")
pytestmark = [
    pytest.mark.xdist_group("sharded"),  # the last test reads what those before it wrote
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
]

PROCESSES = [1, 2, 3, 4, 8]
SCRIPT = Path(__file__).parents[1] / "processes" / "sharded.py"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded")


@pytest.mark.parametrize("world", PROCESSES)
def test_shards_equal_the_whole(world, directory):
    done = subprocess.run(
        [sys.executable, SCRIPT, str(world), str(directory)],
        env={**os.environ, "FASTINIT_NUM_THREADS": "2"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_checkpoints_equal(directory):
    """A saved checkpoint of 4 processes holds what that of 1 holds."""
    load = importlib.import_module("torch.distributed.checkpoint.format_utils")

    def loaded(world):
        if not (directory / f"{world}").exists():
            pytest.skip("needs the checkpoints of the tests before")
        load.dcp_to_torch_save(directory / f"{world}", directory / f"{world}.pt")
        return torch.load(directory / f"{world}.pt")

    one = loaded(1)
    for world in PROCESSES[1:]:
        other = loaded(world)
        assert other.keys() == one.keys()
        assert all(torch.equal(other[name], value) for name, value in one.items())
