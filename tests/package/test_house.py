"""The house: which rooms there are, and that no two of them need each other to be built."""

import ast
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastinit as fi
from fastinit import _extras

PACKAGE = Path(fi.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def imported(module, path):
    """The modules of the package that a module imports while it is itself imported."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fastinit":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "fastinit"}
    # The package itself is there before any of its modules begins.
    return found & MODULES.keys() - {module, "fastinit"}


def test_no_module_needs_one_that_needs_it():
    needs = {module: imported(module, path) for module, path in MODULES.items()}
    for module in needs:  # a package's __init__ offers what its own modules make
        needs[module] = {other for other in needs[module] if not module.startswith(f"{other}.")} - {
            module
        }
    order = []
    while needs:
        ready = sorted(module for module, others in needs.items() if not others - set(order))
        assert ready, f"these need each other: {needs}"
        order += ready
        for module in ready:
            del needs[module]


def test_no_module_is_public_by_accident():
    public = {module for module in MODULES if not any(p.startswith("_") for p in module.split("."))}
    wings = {"benchmark", "checkpoint", "cli", "cuda", "diagnostics", "numba", "recipe", "torch"}
    assert {module.split(".")[1] for module in public if "." in module} - wings == {
        "advice",
        "dask",
        "fans",
        "formulas",
        "gains",
        "initializer",
        "initializers",
        "jax",
        "keras",
        "random",
        "standardize",
        "structured",
    }


@pytest.mark.parametrize("name", [n for n in fi.__all__ if hasattr(getattr(fi, n), "__module__")])
def test_what_is_public_says_so(name):
    thing = getattr(fi, name)
    assert thing.__module__ == "fastinit"
    if not isinstance(thing, type):
        assert pickle.loads(pickle.dumps(thing)) is thing


def test_subpackages_are_there_when_they_are_asked_for():
    code = "import sys, fastinit as fi; a = set(sys.modules); fi.diagnostics.probe; "
    code += "print('fastinit.diagnostics' in a, 'fastinit.diagnostics' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="module 'fastinit' has no attribute 'diagnosis'"):
        _ = fi.diagnosis


def test_importing_it_imports_nothing_large():
    """NumPy's module of random numbers takes as long as all of fastinit; it has PCG32's base."""
    code = "import sys, numpy; before = {*sys.modules}; import fastinit as fi; "
    code += "print({'numpy.random', 'hashlib', 'ml_dtypes'} & ({*sys.modules} - before), "
    code += "fi.PCG32(1).random_raw(2).shape, 'PCG32' in dir(fi))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set() (2,) True\n"


def test_source_text_without_the_compiled_part_says_what_to_do(tmp_path):
    ignored = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "fastinit", ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-c", "import fastinit"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "start Python in another folder" in done.stderr
    assert "pip install --editable ." in done.stderr
    assert "circular" not in done.stderr


def test_a_missing_extra_is_named_as_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(_extras, "__file__", str(tmp_path / "fastinit" / "_extras.py"))
    assert _extras.missing("numba", "This").endswith("pip install 'fastinit-nn[numba]'")
    for name in ("pyproject.toml", "setup.py"):
        (tmp_path / name).touch()
    assert _extras.missing("numba", "This").endswith(f"pip install '.[numba]' in {tmp_path}")


# Private names that are not PyTorch's: of Python, of transformers and Accelerate, and of named
# tuples.
OTHERS = {"_fields", "_from_config", "_getframe", "_hf_hook", "_init_weights", "_is_hf_initialized"}
OTHERS |= {"_replace"}


BY_NAME = ("_known", "getattr", "hasattr")


def private_names(tree):
    """Yield the private attributes that a module reads of what is not itself, and its imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            own |= isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
            if not own:
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            yield from (node.module or "").split(".")
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "_known",
            "getattr",
            "hasattr",
        ):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant))


def is_private(name):
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__")


def test_private_names_of_pytorchs_are_in_one_file():
    one = PACKAGE / "torch" / "_private.py"
    trees = {path: ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
    torchs = {name for name in private_names(trees.pop(one)) if is_private(name)}
    assert {"_version", "_cdata", "_local_tensor", "_pytree"} <= torchs
    ours = {path.stem for path in trees} | {
        name
        for tree in trees.values()
        for node in ast.walk(tree)
        for name in (
            getattr(node, "name", None),
            node.attr if isinstance(node, ast.Attribute) and "self" in ast.unparse(node) else None,
            node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None,
        )
    }
    for path, tree in trees.items():
        if path.parent.name == "torch" or path.stem == "keras":
            used = {name for name in private_names(tree) if is_private(name)}
            assert not used & torchs, path
            assert used <= ours | OTHERS, path
