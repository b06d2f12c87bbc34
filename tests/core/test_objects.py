"""The hot kernels are vector code of their instruction set, of as few instructions as recorded.

Nothing is timed: the object code is read (objects.py). `python tests/objects.py` records anew.
"""

import json

import objects
import pytest

pytestmark = pytest.mark.skipif(bool(objects.missing()), reason=objects.missing())


@pytest.mark.parametrize(
    ("isa", "kernel"), [(isa, kernel) for isa in objects.KERNELS for kernel in objects.KERNELS[isa]]
)
def test_vectors(isa: str, kernel: str) -> None:
    assert not objects.objections(kernel, isa, objects.compiled_code(isa))


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
@pytest.mark.parametrize("function", objects.HARD)
def test_vectors_of_hard_intervals(function: str, isa: str) -> None:
    assert not objects.scalar_code(function, isa, objects.compiled_code(isa))
    assert objects.scalar_code(function, isa, objects.compiled_code(isa, "-O1"))


@pytest.mark.parametrize("kernel", objects.BASELINE)
def test_vectors_of_the_baseline(kernel: str) -> None:
    if not objects.compiler().startswith("gcc"):
        pytest.skip("known of GCC alone")
    assert not objects.objections(kernel, "base", objects.compiled_code("base"))


def recorded(isa: str) -> dict[str, float]:
    compiler, counts = objects.compiler(), json.loads(objects.FILE.read_text())
    if compiler not in counts:
        pytest.skip(f"no instructions are recorded of {compiler}")
    numbers: dict[str, float] = counts[compiler][isa]
    return numbers


@pytest.mark.parametrize("isa", objects.KERNELS)
def test_instructions_per_element(isa: str) -> None:
    assert objects.counts(isa) == pytest.approx(recorded(isa), rel=0.05)


# That they can fail.


@pytest.mark.parametrize(
    ("isa", "flag"), [("avx2", "-O1"), ("avx512", "-O1"), ("avx512", "-mprefer-vector-width=256")]
)
def test_scalar_and_narrow_code_is_refused(isa: str, flag: str) -> None:
    code = objects.compiled_code(isa, flag)
    passed = [kernel for kernel in objects.HOT if not objects.objections(kernel, isa, code)]
    assert not passed


def test_more_instructions_are_refused() -> None:
    narrow = objects.counts("avx512", "-mprefer-vector-width=256")
    usual = recorded("avx512")
    assert min(narrow[kernel] / usual[kernel] for kernel in objects.HOT) > 1.05
