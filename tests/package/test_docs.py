"""The pages that programs write are what those programs write now."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from adapters import adapter

import fastinit as fi
from fastinit._allocating import expanded
from fastinit.initializer import registry

DOCS = Path(__file__).parents[2] / "docs"
INITIALIZERS = sorted(registry())


@pytest.fixture(scope="module")
def maker():
    return importlib.import_module("make_initializers")


def test_the_page_of_initializers_is_up_to_date(maker):
    assert maker.PAGE.read_text("utf-8") == maker.page()


def test_every_initializer_says_what_the_page_needs(maker):
    functions = maker.initializers()
    assert len(functions) > 20
    for function in functions:
        row = maker.cells(function)
        assert all(row), function
        assert "Parameters" not in "".join(row)


def test_what_takes_no_part_is_what_the_page_says(maker):
    functions = {name: getattr(fi, name) for name in maker.in_place()}
    takes = {n for n, f in functions.items() if "global_shape" in {p.name for p in expanded(f)}}
    assert functions.keys() - takes == maker.WHOLE.keys()
    rows = {row[0].strip("`"): row for row in map(maker.part, functions)}
    assert {name for name, row in rows.items() if row[1] == "yes"} == takes
    uncut = {name for name, row in rows.items() if "if cut into whole" in row[2]}
    assert uncut == {"orthogonal_", "delta_orthogonal_", "sparse_"}


def test_the_tables_of_validation_are_up_to_date():
    validation = importlib.import_module("make_validation")
    text = validation.DOCUMENT.read_text("utf-8")
    assert validation.page(text) == text


def test_the_page_of_models_counts(monkeypatch):
    pages = importlib.import_module("make_models")
    found = {
        "a": {"class": "A", "state": "equal", "tensors": 3, "exact": 1, "computed": 0},
        "b": {"class": "B", "state": "large", "tensors": 9, "computed": 2},
        "c": {"class": "C", "state": "refused", "reason": "no | way"},
        "d": {"class": "D", "state": "unmade", "reason": "a\nlibrary"},
    }
    run = {"types": 9, "transformers": "5", "torch": "2", "models": found}
    monkeypatch.setattr(pages, "load", lambda _: run)
    text = pages.models()
    assert "4 of 9 model types were tried; transformers itself makes 3 of them here." in text
    assert "fastinit writes 2 of these 3 (66.7 %)" in text
    assert "| c | C | no \\| way |" in text


def test_the_pages_of_models_are_up_to_date():
    pages = importlib.import_module("make_models")
    assert pages.MODELS.read_text("utf-8") == pages.models()
    text = pages.INTEGRATIONS.read_text("utf-8")
    assert "<!-- table frameworks -->" in text
    assert pages.integrations(text) == text


@pytest.fixture(scope="module")
def guide():
    return importlib.import_module("make_guide")


@pytest.fixture(scope="module")
def printed(guide, tmp_path_factory):
    directory = tmp_path_factory.mktemp("docs")
    return guide.run(guide.code(guide.GUIDES[0].read_text("utf-8")), directory), directory


KINDS = re.compile("symmetric|exploding|vanishing|growing|healthy|run.trained=\\w+")


def test_both_guides_show_what_their_code_prints(guide, printed):
    """The words, that is: the digits depend on the machine's BLAS."""
    output, _ = printed
    for path in guide.GUIDES:
        text = path.read_text("utf-8")
        assert KINDS.findall(guide.filled(text, output)) == KINDS.findall(text)


def test_both_guides_have_the_same_code_and_pictures(guide):
    english, chinese = (path.read_text("utf-8") for path in guide.GUIDES)
    assert guide.code(english) == guide.code(chinese)
    assert pictures(english) == pictures(chinese)


def test_every_picture_is_made_and_there(guide, printed):
    _, directory = printed
    named = pictures(guide.GUIDES[0].read_text("utf-8"))
    made = {f"pictures/{path.name}" for path in (directory / "pictures").iterdir()}
    assert named == made | guide.OTHERS
    assert all((DOCS / name).is_file() for name in named)


def pictures(guide):
    return set(re.findall(r"!\[.*?\]\((.*?)\)", guide))


@pytest.mark.parametrize("program", ["make_docstrings.py", "make_stubs.py"])
def test_what_programs_write_into_the_source_is_up_to_date(program):
    done = subprocess.run(
        [sys.executable, DOCS / program, "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# Of a file of ours; names that stand for others, such as test_NAME.py, have capitals.
PATH = re.compile(
    r"(?<![\w/.{}*-])((?:tests|docs|bench|examples|packaging|fastinit)/[a-z0-9_./-]*"
    r"\.(?:py|md|c|h|cu|cuh|pyx|pxd|toml|json|cpp))(?![\w*{])"
)
TEXTS = (".py", ".md", ".c", ".h", ".cu", ".cuh", ".pyx", ".cpp")


def test_every_path_that_a_text_names_is_there():
    root = DOCS.parent
    folders = ("fastinit", "tests", "docs", "bench", "examples", "packaging")
    files = [path for folder in folders for path in (root / folder).rglob("*")]
    missing = [
        f"{path.relative_to(root)}: {named}"
        for path in [*files, *root.glob("*.md")]
        if path.suffix in TEXTS and path.name != "_kernels.c"
        for named in PATH.findall(path.read_text("utf-8"))
        if not (root / named).exists()
    ]
    assert missing == []


def test_the_page_of_errors_is_up_to_date_and_names_every_argument():
    writer = importlib.import_module("make_errors")
    page = (DOCS / "errors.md").read_text("utf-8")
    assert page == writer.page(), "python docs/make_errors.py"
    for section in page.split("\n## ")[1:]:
        argument, *lines = section.splitlines()
        for line in lines[4:]:
            _values, error, *_ = line.replace("\\|", "").split(" | ")
            assert error.startswith(("TypeError: ", "ValueError: ")), line
            assert argument in error, line
            assert len(error) < 1000, line


@pytest.mark.parametrize("face", ["torch", "jax", "keras", "dask"])
def test_the_page_of_errors_of_an_adapter_is_up_to_date(face: str) -> None:
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    adapter(face)
    done = subprocess.run(
        [sys.executable, DOCS / "make_errors.py", "--check", "--only", face],
        env={**os.environ, "KERAS_BACKEND": "numpy"},  # the page does not depend on it
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_docstring_explains_every_argument(name):
    writer = importlib.import_module("make_docstrings")
    for function in (getattr(fi, name), getattr(fi, f"{name}_")):
        doc = inspect.getdoc(function)
        entries = writer.entries(writer.sections(doc)["Parameters"])
        explained = {argument for names in entries for argument in names.split(", ")}
        assert explained >= set(inspect.signature(function).parameters) - {"options"}
        assert "As in `" not in doc
