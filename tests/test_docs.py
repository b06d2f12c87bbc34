"""The pages that programs write are what those programs write now."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("maker", DOCS / "make_initializers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_initializers_is_up_to_date(maker):
    assert maker.PAGE.read_text("utf-8") == maker.page()


def test_every_initializer_says_what_the_page_needs(maker):
    functions = maker.initializers()
    assert len(functions) > 20
    for function in functions:
        row = maker.cells(function)
        assert all(row), function
        assert "Parameters" not in "".join(row)
