"""Faults: kills, hostile files, places that cannot be written. tests/deep has more of each."""

import json
import os
import resource
import subprocess
import sys

import headers
import kills
import pytest
import recipes
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


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_hostile_recipes_end_in_a_model_or_an_error(tmp_path_factory, rng):
    recipes.outcome(rng, tmp_path_factory.mktemp("hostile") if rng.random() < 0.5 else None)


REPEATED = 'name = "x"\n[repeat]\nl = 1000000000\n[tensors]\n"w.{l}" = [1]'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("deep = " + "[" * 5000 + "]" * 5000, "nested too deep"),
        (REPEATED, "1,000,000,000 tensors; allowed: 1,000,000"),
        (REPEATED.replace("1000000000", "9" * 400), "less than 2\\*\\*63"),
        (REPEATED.replace("{l}", "{l.__class__}"), "allowed: the name of an index"),
        (REPEATED.replace("{l}", "{l:>900000000}"), "allowed: the name of an index"),
        (REPEATED.replace("{l}", "{l!r}"), "allowed: the name of an index"),
        (REPEATED.replace("[1]", str([1] * 33)).replace("1000000000", "1"), "33 axes; allowed: 32"),
        ('name = "x"\n[[rule]]\npattern = "*"\ninit = ["normal"]', "init=.*is unknown"),
        ('name = "x"\n[variables]\na = 1979-05-27', "must be a number"),
        ('name = "x"\n[variables]\na = inf', "must be a number, of magnitude at most"),
        ('name = "x"\n[config]\na = 1979-05-27', "config.a=.*JSON has no such value"),
        ('name = "x"\n[config]\na = [{b = inf}]', "config.*JSON has no such value"),
        ('name = "x"\n[config]\na = ' + "9" * 5000, "digits"),
        ('name = "x"\n[tensors]\nw = {shape = [2], dtype = ["float32"]}', "must be a string"),
        ('name = "x"\n[[rule]]\npattern = "' + "*" * 10**5 + '"\ninit = "zeros"', "characters"),
    ],
)
def test_recipes_have_limits(text, reason):
    with pytest.raises(recipe.RecipeError, match=reason):
        recipe.parse(text)


def test_pipes_are_not_waited_for(tmp_path):
    for name in ("x.safetensors", "x.toml", "x.json"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(OSError, match="is not a file"):
            checkpoint.load(tmp_path / name)


def test_names_of_others_do_not_reach_the_terminal_as_they_are(tmp_path):
    path = tmp_path / "x.safetensors"
    name = "w\x1b]0;owned\x07\u202e"
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    head = json.dumps({name: entry}, ensure_ascii=False).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))
    for command in (["init", path, "-o", tmp_path / "o", "--dry-run"], ["check", path]):
        done = subprocess.run(
            [sys.executable, "-m", "fastinit", *map(str, command)], capture_output=True, check=False
        )
        shown = (done.stdout + done.stderr).decode()
        assert all(c.isprintable() or c == "\n" for c in shown), shown
        assert "\\x1b" in shown or command[0] == "check"


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
    assert not (tmp_path / "out").exists()


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
