"""Faults: kills, hostile files, places that cannot be written. tests/deep has more of each."""

import os
import resource
import subprocess
import sys

import headers
import kills
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinit import checkpoint, recipe

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="Linux's signals, limits and /sys"),
    # JAX's, of a fork for a child's limits, where another test imported it.
    pytest.mark.filterwarnings("ignore:.*fork.* was called:RuntimeWarning"),
]


@pytest.mark.parametrize("job", kills.JOBS)
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, job):
    kills.kill(tmp_path, 2, seed=1, jobs=[job])


@settings(max_examples=150)
@given(st.randoms(use_true_random=False))
def test_hostile_headers_end_in_one_line(tmp_path_factory, rng):
    headers.outcome(headers.hostile(rng), tmp_path_factory.mktemp("hostile"))


def init(directory, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastinit", "init", "gpt2", "-o", str(directory)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def one_line(done):
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fastinit: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_where_nobody_may_write():
    assert "/sys/" in one_line(init("/sys/fastinit"))


def test_a_directory_that_is_read_only(tmp_path):
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    if os.access(out, os.W_OK):  # for root, all are writable
        pytest.skip("this user may write everywhere")
    assert "Permission denied" in one_line(init(out))


def test_a_file_that_may_not_grow(tmp_path):
    """A limit on files' sizes is a disk that fills up, for one process."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))

    assert "too large" in one_line(init(tmp_path / "out", preexec_fn=limit))
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["{", '{"a": 1, "a": 2}', '{"weight_map": {"a": "../b"}}', '{"weight_map": 3}', "[1]", "\xff"],
)
@pytest.mark.parametrize("name", ["model.safetensors.index.json", "model.npy.index.json"])
def test_hostile_indexes(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(recipe.RecipeError, match=name):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "head", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{}", b"\x93NUMPY\x03\x00\x10\x00\0\0"]
)
def test_hostile_arrays(tmp_path, head):
    (tmp_path / "model.npy.index.json").write_text('{"weight_map": {"a": "a.npy"}}')
    (tmp_path / "a.npy").write_bytes(head)
    with pytest.raises(recipe.RecipeError, match=r"a\.npy is not a NumPy file"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_numpys_format_has_no_float8(tmp_path, dtype):
    rule = '[[rule]]\npattern = "*"\ninit = "zeros"'
    model = recipe.parse(f'name = "x"\ndtype = "{dtype}"\n[tensors]\nw = [3]\n{rule}')
    with pytest.raises(recipe.RecipeError, match=f"{dtype}.*allowed: safetensors"):
        checkpoint.write(model, tmp_path / "out", format="npy")
    assert not (tmp_path / "out").exists()
