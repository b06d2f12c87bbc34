"""The hot kernels are vector code of their instruction set, of as few instructions as recorded.

Nothing is timed: the object code is read (objects.py). `python tests/objects.py` records anew.
"""

import json
from functools import cache

import objects
import pytest

pytestmark = pytest.mark.skipif(bool(objects.missing()), reason=objects.missing())

compiled_code = cache(objects.compiled_code)
wide_isas = pytest.mark.parametrize("isa", ["avx2", "avx512"])


@wide_isas
@pytest.mark.parametrize("kernel", objects.HOT)
def test_vectors(kernel: str, isa: str) -> None:
    assert not objects.objections(kernel, isa, compiled_code(isa))


@pytest.mark.parametrize("kernel", objects.BASELINE)
def test_vectors_of_the_baseline(kernel: str) -> None:
    if not objects.compiler().startswith("gcc"):
        pytest.skip("known of GCC alone")
    assert not objects.objections(kernel, "base", compiled_code("base"))


def recorded(isa: str) -> dict[str, float]:
    compiler, counts = objects.compiler(), json.loads(objects.FILE.read_text())
    if compiler not in counts:
        pytest.skip(f"no instructions are recorded of {compiler}")
    numbers: dict[str, float] = counts[compiler][isa]
    return numbers


@wide_isas
def test_instructions_per_element(isa: str) -> None:
    counts = objects.counts(compiled_code(isa))
    assert counts == pytest.approx(recorded(isa), rel=0.05)


# That they can fail.


@pytest.mark.parametrize(
    ("isa", "flag"), [("avx2", "-O1"), ("avx512", "-O1"), ("avx512", "-mprefer-vector-width=256")]
)
def test_scalar_and_narrow_code_is_refused(isa: str, flag: str) -> None:
    code = compiled_code(isa, flag)
    passed = [kernel for kernel in objects.HOT if not objects.objections(kernel, isa, code)]
    assert not passed


def test_more_instructions_are_refused() -> None:
    narrow = objects.counts(compiled_code("avx512", "-mprefer-vector-width=256"))
    usual = recorded("avx512")
    assert min(narrow[kernel] / usual[kernel] for kernel in objects.HOT) > 1.05
