"""The command line, in processes of its own: what it prints, where, and its exit status."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from commands import run

import fastinit as fi
from fastinit import checkpoint, recipe
from fastinit._extras import missing
from fastinit.cli import _terminal

RECIPE = """
name = "small"
[repeat]
layer = 2
[tensors]
"h.{layer}.weight" = [64, 32]
"h.{layer}.steps" = {shape = [], dtype = "int64"}
[[rule]]
pattern = "*.weight"
init = "normal"
std = 0.02
[[rule]]
pattern = "*"
init = "zeros"
[config]
kind = "small"
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


def test_init_writes_what_the_python_face_writes(source, tmp_path):
    done = run("init", source, "-o", tmp_path / "a", "--seed", 7, "--threads", 2)
    assert done.returncode == 0
    assert done.stderr == ""
    checkpoint.write(recipe.load(source), tmp_path / "b", seed=7)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_summary(source, tmp_path):
    lines = dict(
        re.split(r"  +", line, maxsplit=1)
        for line in run("init", source, "-o", tmp_path).stdout.splitlines()
    )
    model = tmp_path / "model.safetensors"
    assert lines["tensors"] == "4"
    assert lines["parameters"] == "4,096"
    assert lines["bytes"] == f"{model.stat().st_size:,}"
    assert float(lines["seconds"]) < 60
    assert re.fullmatch(r"[\d.]+ GB/s", lines["speed"])
    assert re.fullmatch(r"\d+ MB private", lines["peak memory"])
    assert lines["files"] == f"{model} {tmp_path / 'config.json'}"


def test_dry_run_lists_and_writes_nothing(source, tmp_path):
    done = run("init", source, "-o", tmp_path / "new", "--dry-run", "--dtype", "bfloat16")
    assert done.returncode == 0
    assert not (tmp_path / "new").exists()
    assert re.sub(" +", " ", done.stdout).splitlines() == [
        "h.0.weight 64x32 bfloat16 normal(std=0.02) by '*.weight'",
        "h.1.weight 64x32 bfloat16 normal(std=0.02) by '*.weight'",
        "h.0.steps - int64 zeros by '*'",
        "h.1.steps - int64 zeros by '*'",
        "4 tensors, 4,098 elements, 8,208 bytes; nothing written",
    ]


def test_overwrite(source, tmp_path):
    assert run("init", source, "-o", tmp_path).returncode == 0
    refused = run("init", source, "-o", tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "file exists: use --overwrite to replace it or --resume to keep" in refused.stderr
    other = run("init", source, "-o", tmp_path, "--resume", "--seed", "1")
    assert "is not of this job: use --overwrite to replace it" in other.stderr
    assert run("init", source, "-o", tmp_path, "--overwrite").returncode == 0


def test_a_file_as_source_and_rules_from_a_recipe(source, tmp_path):
    run("init", source, "-o", tmp_path / "a")
    rules = tmp_path / "rules.toml"
    rules.write_text('name = "flat"\n[[rule]]\npattern = "*"\ninit = "ones"')
    model = tmp_path / "a" / "model.safetensors"
    done = run("init", model, "--recipe", rules, "-o", tmp_path / "b", "--dry-run")
    assert done.stdout.count("ones") == 4


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["gpt3"], "'gpt3' is neither a .toml file nor a built-in recipe; built-in: bert-base"),
        (["absent.toml"], "absent.toml: No such file or directory"),
        (["absent.safetensors"], "absent.safetensors: No such file or directory"),
        (["gpt2", "--dtype", "int8"], "dtype='int8' is unknown; allowed: float64, float32"),
        (["gpt2", "--seed", "-1"], "seed"),
        (["gpt2", "--threads", "0"], "threads=0 must be 1 to"),
        (["gpt2", "--recipe", "gpt3"], "'gpt3' is neither"),
        (["default"], "recipe 'default' gives rules only"),
    ],
)
def test_errors_are_one_line_and_status_1(tmp_path, arguments, reason):
    done = run("init", *arguments, "-o", tmp_path / "new")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fastinit: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_help_has_an_example():
    for arguments in ([], ["init"], ["check"], ["show"], ["list"], ["bench"], ["probe"]):
        done = run(*arguments, "--help")
        assert done.returncode == 0
        assert f"Example: fastinit {' '.join(arguments)}" in done.stdout


@pytest.mark.parametrize("package", ["typer", "rich", "psutil", "safetensors", "ml_dtypes"])
def test_without_the_extra_one_line_says_how_to_get_it(tmp_path, package):
    (tmp_path / f"{package}.py").write_text(
        f"raise ModuleNotFoundError('No module named it', name={package!r})"
    )
    done = run("init", "gpt2", "-o", tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"fastinit: {missing(package, 'the command line')}\n"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_inside_a_fill_leaves_nothing_behind(tmp_path):
    source = tmp_path / "large.toml"
    source.write_text(
        'name = "large"\n[tensors]\nw = [512, 1048576]\n[[rule]]\npattern = "*"\ninit = "normal"'
    )
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "fastinit", "init", source, "-o", out, "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not (
        out.exists() and any(p.stat().st_size for p in out.iterdir())
    ):
        time.sleep(0.01)
    time.sleep(0.3)  # from the file's full size to the first values
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith(b"fastinit: interrupted: the same command with --resume keeps")
    assert errors.count(b"\n") == 1
    assert not out.exists()


def test_rules_of_another_recipe_with_variables(tmp_path):
    model = tmp_path / "model.toml"
    model.write_text(
        """
name = "model"
[variables]
layers = 2
width = 64
[repeat]
layer = "layers"
[tensors]
"h.{layer}.c_proj.weight" = ["width", "width"]
[[rule]]
pattern = "*"
init = "zeros"
"""
    )
    wang = ("--recipe", "wang")
    done = run("init", model, "-o", tmp_path / "a", *wang, "--set", "layers=4")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "a" / "model.safetensors"
    # The file knows the variables: it can be written again from itself.
    assert run("init", file, "-o", tmp_path / "b").returncode == 0
    assert file.read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    listed = run("init", file, "-o", tmp_path / "b", "--dry-run").stdout
    assert listed.count("normal(std=0.0625)") == 4  # 2 / 4 / sqrt(64)
    listed = run("init", model, "-o", tmp_path, *wang, "--set", "width=256", "--dry-run").stdout
    assert listed.count("256x256") == listed.count("normal(std=0.0625)") == 2  # 2 / 2 / sqrt(256)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["gpt2", "--set", "depth=3"], "no key 'depth'; allowed: layers, width, heads"),
        (["gpt2", "--set", "layers=many"], "--set layers=many: must be NAME=NUMBER"),
        (["gpt2", "--recipe", "olmo"], "needs a value for the variable 'hidden'"),
        (["gpt2", "--recipe", "olmo", "--set", "depth=3"], "no key 'depth'; allowed: width, hid"),
    ],
)
def test_refused_variables(arguments, reason, tmp_path):
    done = run("init", *arguments, "-o", tmp_path / "new")
    assert done.returncode == (2 if "must be NAME=NUMBER" in reason else 1)
    assert reason in done.stderr
    assert not (tmp_path / "new").exists()


def test_version_and_completion():
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    stream = fi.info()["stream"]
    assert done.stdout == f"fastinit {fi.__version__}, stream {stream}\n"
    assert "--install-completion" in run("--help").stdout


def test_the_exit_statuses_are_documented():
    assert "Exit status: 0 if all went well, 1 if it failed, 2" in run("--help").stdout


def test_without_output_is_a_wrong_use_but_for_a_dry_run(source):
    done = run("init", source)
    assert (done.returncode, done.stdout) == (2, "")
    assert "give a directory for the files, or --dry-run" in done.stderr
    assert run("init", source, "--dry-run").returncode == 0


def test_json_of_init_show_and_list(source, tmp_path):
    planned = json.loads(run("init", source, "--dry-run", "--json").stdout)
    assert [tensor["name"] for tensor in planned["tensors"]][:2] == ["h.0.weight", "h.1.weight"]
    assert planned["tensors"][0]["rule"] == "normal(std=0.02)"
    written = json.loads(run("init", source, "-o", tmp_path / "new", "--json").stdout)
    assert written["bytes"] > planned["bytes"]  # with the file's header
    assert (written["tensors"], written["kept"]) == (4, 0)
    shown = json.loads(run("show", source, "h.0.weight[:2, -1]", "--json").stdout)
    expected = checkpoint.values(recipe.load(source), "h.0.weight", (slice(2), -1))
    assert shown["values"] == expected.tolist()
    listed = json.loads(run("list", "--json").stdout)
    assert sorted([*listed["models"], *listed["rules"]]) == recipe.builtin()
    assert "gpt2" in listed["models"]
    assert "mup" in listed["rules"]


def test_json_of_what_is_not_finite(source):
    done = run("show", source, "h.0.weight[:0]", "--json")
    assert json.loads(done.stdout)["values"] == []
    assert _terminal._finite({"a": [1.5, float("nan")], "b": (float("inf"),)}) == {
        "a": [1.5, None],
        "b": [None],
    }


def test_progress_without_a_terminal_is_a_line_every_10_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(_terminal.time, "monotonic", lambda: now[0])
    with _terminal.bytes_bar("gpt2", 400) as advance:
        for second in range(1, 41):
            now[0] = float(second)
            advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "gpt2: 25 % done, 30 s left",
        "gpt2: 50 % done, 20 s left",
        "gpt2: 75 % done, 10 s left",
        "gpt2: 100 % done, 0 s left",
    ]
