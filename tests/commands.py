"""New processes: what they need to find the tests, and the command line."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FINDS_TESTS = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE / "core"), *filter(None, sys.path)]),
}


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fastinit", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
        check=False,
    )
