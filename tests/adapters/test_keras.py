"""fastinit.keras on each backend of Keras: a process chooses one, and for good."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from adapters import adapter

SCRIPT = Path(__file__).parents[1] / "processes" / "backends.py"


@pytest.mark.parametrize("backend", ["numpy", "jax", "torch"])
def test_backend(backend, tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    adapter("keras")
    adapter(backend)
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "FASTINIT_NUM_THREADS": "2",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout
