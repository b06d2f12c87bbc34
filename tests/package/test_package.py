"""The package as a whole: its examples run, its import is light, its names are documented."""

import doctest
import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

import fastinit as fi

PUBLIC = [name for name in fi.__all__ if name != "__version__"]


def examples_of(thing, name):
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [t for t in finder.find(thing, name, module=False, globs={"fi": fi, "np": np}) if t]


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_examples(name):
    tests = examples_of(getattr(fi, name), name)
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests:
        runner.run(test)
    results = runner.summarize(verbose=False)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_signatures_and_docstrings(name):
    thing = getattr(fi, name)
    assert inspect.getdoc(thing)
    assert inspect.signature(thing) is not None


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_import_brings_nothing_heavy():
    heavy = "{'numba', 'torch', 'jax', 'typer', 'click', 'rich', 'safetensors', 'ml_dtypes', "
    heavy += "'matplotlib', 'jinja2', 'sklearn', 'scipy'}"
    done = python(f"import sys, fastinit; print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("isa", fi._kernels.isas())
def test_environment_lowers_the_instruction_set(isa):
    done = python("import fastinit; print(fastinit.info()['isa'])", FASTINIT_ISA=isa)
    assert done.stdout.strip() == isa


def test_unknown_settings_are_named():
    done = python("import fastinit", FASTINIT_ISA="sse9")
    assert "FASTINIT_ISA='sse9' is unknown; allowed: base, avx2, avx512, avx512bf16" in done.stderr
    done = python("import fastinit", FASTINIT_NUM_THREADS="many")
    assert "FASTINIT_NUM_THREADS='many' must be 1 to 1024" in done.stderr
    done = python("import fastinit as fi; print(fi.get_num_threads())", FASTINIT_NUM_THREADS="3")
    assert done.stdout.strip() == "3"
