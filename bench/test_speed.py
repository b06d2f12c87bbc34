"""What `fastinit bench` measures, kept and compared by pytest-benchmark.

``python -m pytest bench`` prints a table for each case; in parentheses are the ratios to the
fastest, and only ratios within one run hold elsewhere. All contenders of a case take turns in
`fastinit.benchmark`, which a fixture that times one test after the other could not have them do:
so here its clock replays their times.
"""

from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fastinit import benchmark as bench

CASES = bench.cases()


class Clock:
    now = 0.0

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def read(self) -> float:
        return self.now


CLOCK = Clock()


def names(case: bench.Case) -> list[str]:
    small = case._replace(size=1)
    return [contender.name for contender in bench.contenders(small, bench.touched(small))]


@cache
def measured(case: bench.Case) -> dict[str, bench.Result]:
    return {result.name: result for result in bench.measure(case)}


@pytest.mark.benchmark(timer=CLOCK.read)
@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, id=f"{bench.describe(case)}: {name}")
        for case in CASES
        for name in names(case)
    ],
)
def test_speed(case: bench.Case, name: str, benchmark: BenchmarkFixture) -> None:
    result = measured(case)[name]
    seconds = iter(result.seconds)
    benchmark.group = bench.describe(case)
    benchmark.extra_info["share of the ceiling"] = result.share
    benchmark.pedantic(
        CLOCK.advance, setup=lambda: ((next(seconds),), {}), rounds=len(result.seconds)
    )
