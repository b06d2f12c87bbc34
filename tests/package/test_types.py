"""The types that users' programs are checked with."""

import re
from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api", reason="make lint installs mypy")

USERS = Path(__file__).with_name("users.py")


def test_mypy_finds_the_wrong_calls_and_no_others(tmp_path):
    settings = ["--strict", "--no-error-summary", "--follow-imports=silent"]
    out, err, _ = api.run([*settings, "--cache-dir", str(tmp_path), str(USERS)])
    assert not err
    found = {}
    for number, text in re.findall(r"users\.py:(\d+): error: (.*)", out):
        found.setdefault(int(number), []).append(text)
    lines = USERS.read_text("utf-8").splitlines()
    expected = {n: line.split("# E: ")[1] for n, line in enumerate(lines, 1) if "# E: " in line}
    assert found.keys() == expected.keys(), out
    for number, text in expected.items():
        assert any(text in one for one in found[number]), (text, found[number])
