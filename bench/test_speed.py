"""Fills of touched memory, in place, against NumPy's best and against storing a constant.

``python -m pytest bench`` prints a table for each distribution and size; in parentheses are
the ratios to the fastest, and only ratios within one run hold elsewhere. FASTINIT_ISA and
FASTINIT_NUM_THREADS do here what they always do.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

import fastinit as fi

Array = NDArray[Any]
Fill = Callable[[Array], object]

RNG = fi.default_rng(1)
NUMPY = np.random.default_rng(1)


def in_numpy_threads(fill: Callable[[np.random.Generator, Array], object]) -> Fill:
    """NumPy's recipe, "Multithreaded generation": a generator and a part of x for each thread."""
    n = fi.get_num_threads()
    seeds = np.random.SeedSequence(1).spawn(n)
    generators = [np.random.Generator(np.random.SFC64(seed)) for seed in seeds]
    pool = ThreadPoolExecutor(n)
    return lambda x: list(pool.map(fill, generators, np.array_split(x, n)))


def numpy_normal(rng: np.random.Generator, x: Array) -> None:
    """With a standard deviation, for which NumPy has no `out`."""
    rng.standard_normal(out=x, dtype=np.float32)
    np.multiply(x, np.float32(0.02), out=x)


def numpy_uniform(rng: np.random.Generator, x: Array) -> None:
    rng.random(out=x, dtype=np.float32)


def normal(x: Array) -> None:
    fi.normal_(x, 0.0, 0.02, rng=RNG)


def uniform(x: Array) -> None:
    fi.uniform_(x, rng=RNG)


FILLS: dict[str, dict[str, tuple[Fill, Any]]] = {
    "normal": {
        "constant": (lambda x: fi.constant_(x, 1.0), np.float32),
        "fastinit": (normal, np.float32),
        "fastinit, 1 thread": (lambda x: fi.normal_(x, 0.0, 0.02, rng=RNG, threads=1), np.float32),
        "fastinit, bfloat16": (normal, ml_dtypes.bfloat16),
        "fastinit, float64": (normal, np.float64),
        "numpy": (lambda x: NUMPY.standard_normal(out=x, dtype=np.float32), np.float32),
        "numpy, all threads": (in_numpy_threads(numpy_normal), np.float32),
    },
    "uniform": {
        "constant": (lambda x: fi.constant_(x, 1.0), np.float32),
        "fastinit": (uniform, np.float32),
        "fastinit, 1 thread": (lambda x: fi.uniform_(x, rng=RNG, threads=1), np.float32),
        "fastinit, bfloat16": (uniform, ml_dtypes.bfloat16),
        "fastinit, float64": (uniform, np.float64),
        "numpy": (lambda x: NUMPY.random(out=x, dtype=np.float32), np.float32),
        "numpy, all threads": (in_numpy_threads(numpy_uniform), np.float32),
    },
}


@pytest.mark.parametrize("power", [6, 10, 20, 26], ids=lambda power: f"2^{power:02}")
@pytest.mark.parametrize(
    ("distribution", "who"), [(d, who) for d, fills in FILLS.items() for who in fills]
)
def test_speed(distribution: str, who: str, power: int, benchmark: BenchmarkFixture) -> None:
    fill, dtype = FILLS[distribution][who]
    x = np.ones(2**power, dtype)
    benchmark.group = f"{distribution}, 2^{power:02} elements"
    benchmark(fill, x)
