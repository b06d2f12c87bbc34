"""fastinit beside NumPy and the other peers that are installed, into memory that was touched.

``python -m pytest bench/test_speed.py``; each group is one case, and in parentheses is how many
times as long as the fastest each takes. Only ratios within one run hold elsewhere. `fastinit
bench` lets the contenders take turns, which serves better on a busy machine.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastinit import benchmark as bench

CASES = [case for case in bench.cases() if not case.cold]


def contenders(case: bench.Case) -> list[bench.Contender]:
    return bench.contenders(case, bench.touched(case))


def names(case: bench.Case) -> list[str]:
    """The contenders' names, without the memory that the case itself needs."""
    return [contender.name for contender in contenders(case._replace(size=1))]


@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, id=f"{bench.describe(case)}: {name}")
        for case in CASES
        for name in names(case)
    ],
)
def test_speed(case: bench.Case, name: str, benchmark: BenchmarkFixture) -> None:
    contender = next(c for c in contenders(case) if c.name == name)
    benchmark.group = bench.describe(case)
    contender.prepare()
    if case.size < 2**16:
        benchmark(contender.fill)
    else:
        benchmark.pedantic(contender.fill, rounds=7, warmup_rounds=1)
