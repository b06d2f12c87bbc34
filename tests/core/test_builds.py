"""The static library gives the same bits, however it was optimised, and the sanitizers find
nothing in it: quick forms of tests/deep/same_bits.py and sanitizers.py."""

import os
from pathlib import Path

import pytest
import sanitizers
from builds import Build, Matrix, Question, differences, questions

CC = os.environ.get("CC", "cc")


@pytest.fixture(scope="module")
def asked() -> list[Question | Matrix]:
    return list(questions())


@pytest.mark.parametrize("optimisation", ["-O0", "-O1", "-O2", "-O3"])
def test_same_bits(optimisation: str, asked: list[Question | Matrix], tmp_path: Path) -> None:
    build = Build(CC, (optimisation,))
    if build.missing():
        pytest.skip(f"needs {build.missing()}")
    program = build.make(tmp_path)
    for isa in build.isas():
        assert not differences(program, build, isa, asked), isa
        assert not differences(program, build, isa, asked, "traps"), isa
    assert not differences(program, build, "base", asked, "upward")
    # That it can fail: a hash of other values is no answer.
    spoilt = [asked[0]._replace(start=asked[0].start + 1), *asked[1:]]
    assert differences(program, build, "base", spoilt) == [str(asked[0].case)]


# AddressSanitizer and its kin, where the compiler has them.


@pytest.mark.parametrize("name", ["address and undefined", "thread"])
def test_sanitizers(name: str, tmp_path: Path) -> None:
    flags = ["-O1", *sanitizers.SANITIZERS[name]]
    if why := sanitizers.build(CC, flags, tmp_path / "stress"):
        pytest.skip(why)
    sanitizers.stress(tmp_path / "stress", 50, 4, 1)
