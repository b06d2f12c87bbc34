"""Faults: kills, hostile files, places that cannot be written. tests/deep has more of each."""

import ast
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import arrays
import headers
import kills
import pytest
import recipes
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fastinit import checkpoint, cli, recipe
from fastinit.cli import _terminal

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


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_hostile_arrays_end_in_a_checkpoint_or_an_error(tmp_path_factory, rng):
    arrays.outcome(arrays.hostile(rng), tmp_path_factory.mktemp("hostile"))


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
        pytest.param(
            REPEATED.replace("1000000000", "100000").replace("[1]", str(["+".join("l" * 500)] * 2)),
            "100,000 tensors; allowed: .* 100,000,000 characters of names and shapes",
            id="expressions that are long",
        ),
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


def test_rules_times_tensors_have_a_limit():
    text = REPEATED.replace("1000000000", "100000")
    rules = '[[rule]]\npattern = [{}"q"]\ninit = "zeros"'.format('"a",' * 10**5)
    model = recipe.parse(f"{text}\n{rules}")
    for call in (model.plan, lambda: model.with_values({})):
        with pytest.raises(recipe.RecipeError, match="100,001 rules for 100,000 tensors"):
            call()


def test_names_of_a_million_characters():
    """Advice by patterns that look ahead from each place would take hours; errors have an end."""
    names = "\n".join(f'"{"w" * n}" = [1]' for n in range(1, 1000))
    for text in (f'"{"norm" * 250_000}" = [1]', names):
        with pytest.raises(recipe.RecipeError, match="no rule of recipe 'x' fits") as error:
            recipe.parse(f'name = "x"\n[tensors]\n{text}').plan()
        assert len(str(error.value)) < 11_000


def test_a_config_of_another_size_is_not_read(tmp_path, monkeypatch):
    """A file of that name may be anybody's, and as large as the disk."""
    text = (
        'name = "x"\n[tensors]\nw = [2]\n[config]\na = 1\n[[rule]]\npattern = "*"\ninit = "zeros"'
    )
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(2**40)

    def read(path):
        raise AssertionError(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(FileExistsError, match=r"config\.json"):
        checkpoint.write(recipe.parse(text), tmp_path, resume=True)


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


NAME = "w\x1b]0;owned\x07\u202e"


def test_names_of_others_in_bars_and_batch_logs(capsys, monkeypatch):
    monkeypatch.setattr(_terminal._Lines, "EVERY", 0.0)
    with _terminal.bytes_bar(f"check {NAME}", 10) as advance:
        advance(5)
    shown = capsys.readouterr().err
    assert "50 % done" in shown
    assert all(c.isprintable() or c == "\n" for c in shown), shown


def test_a_long_name_does_not_widen_every_line(capsys):
    _terminal.columns(None, [("w" * 10**6, "x"), ("v", "y")])
    assert len(capsys.readouterr().out) < 2000


def test_the_commands_print_by_one_function():
    """What `say` does not print, a terminal may obey."""
    for path in Path(cli.__file__).parent.glob("*.py"):
        calls = [
            node.func
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call)
        ]
        names = [getattr(call, "attr", getattr(call, "id", "")) for call in calls]
        allowed = 2 if path.name == "_terminal.py" else 0  # `say` itself, and JSON
        assert names.count("echo") == allowed, path
        assert not {"print", "secho"} & {*names}, path


def test_complex_numbers_as_json(capsys):
    _terminal.print_json({"values": [1 + 2j, complex("nan")]})
    assert json.loads(capsys.readouterr().out) == {"values": [[1.0, 2.0], [None, 0.0]]}


def test_names_are_no_formulas(tmp_path):
    pytest.importorskip("matplotlib")
    name = "$\\alpha^$.weight"
    model = recipe.parse(
        f"name = 'x'\n[tensors]\n'{name}' = [64]\n[[rule]]\npattern = '*'\ninit = 'normal'"
    )
    checkpoint.write(model, tmp_path / "out")
    done = CliRunner().invoke(
        cli.app, ["check", str(tmp_path / "out"), "--statistics", "-o", str(tmp_path / "pictures")]
    )
    assert done.exit_code == 0, done.stderr
    assert len(list((tmp_path / "pictures").iterdir())) == 2


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


@pytest.mark.parametrize(
    "header",
    [
        *arrays.TEXTS,
        b"{'descr': (), 'fortran_order': False, 'shape': (3, 4), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-3, -4), }",
    ],
    ids=lambda header: header[:12].decode("latin-1"),
)
def test_numpys_headers_are_not_handed_to_pythons_parser(tmp_path, header):
    (tmp_path / "model.npy.index.json").write_text('{"weight_map": {"a": "a.npy"}}')
    text = header + b"\n"
    head = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little")
    (tmp_path / "a.npy").write_bytes(head + text + bytes(48))
    with pytest.raises(recipe.RecipeError, match=r"a\.npy is not a NumPy file"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("key", ["recipe", "seed", "variables", "values", "stream"])
@pytest.mark.parametrize("value", [5, None, ["x"], {}])
def test_metadata_of_an_index_that_is_no_text(tmp_path, key, value):
    files = dict(arrays.good())
    index = json.loads(files[arrays.INDEX])
    index["metadata"][f"fastinit.{key}"] = value
    files[arrays.INDEX] = json.dumps(index).encode()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for read in (checkpoint.load, checkpoint.check):
        with pytest.raises(recipe.RecipeError, match=f"metadata has 'fastinit.{key}'="):
            read(tmp_path)


@pytest.mark.parametrize("name", ["a", "\ud800"])
def test_names_in_an_index_that_are_no_text(tmp_path, name):
    weights = {name: "a.npy" if name != "a" else "\ud800.npy"}
    (tmp_path / "model.npy.index.json").write_text(json.dumps({"weight_map": weights}))
    with pytest.raises(recipe.RecipeError, match="is no text: surrogates not allowed"):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_numpys_format_has_no_float8(tmp_path, dtype):
    rule = '[[rule]]\npattern = "*"\ninit = "zeros"'
    model = recipe.parse(f'name = "x"\ndtype = "{dtype}"\n[tensors]\nw = [3]\n{rule}')
    with pytest.raises(recipe.RecipeError, match=f"{dtype}.*allowed: safetensors"):
        checkpoint.write(model, tmp_path / "out", format="npy")
    assert not (tmp_path / "out").exists()
