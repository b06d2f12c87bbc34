"""Anybody's config.json, and files of tokens: each ends in one line, and none is waited for."""

import importlib
import json
import os

import arrays
import pytest
from adapters import adapter
from typer.testing import CliRunner

from fastinit import cli

os.environ["HF_HUB_OFFLINE"] = "1"
adapter("torch")
adapter("transformers")
configs = importlib.import_module("fastinit.torch._configs")
rules = importlib.import_module("fastinit.torch._recipe")

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and transformers: their own matters

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 32,
}


def one_line(*arguments):
    done = CliRunner().invoke(cli.app, [*map(str, arguments)])
    assert done.exit_code == 1, done.output
    assert isinstance(done.exception, SystemExit)
    line = done.stderr.splitlines()[-1]
    assert line.startswith("fastinit: ")
    return line


def config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps({**LLAMA, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_key_value_heads": 3}, "the model cannot be probed"),
        ({"model_type": "resnet", "architectures": ["ResNetForImageClassification"]}, "image_size"),
        ({"architectures": ["pipeline"]}, "transformers cannot make a model of it"),
        ({"architectures": [3]}, "transformers cannot make a model of it"),
        ({"deep": json.loads("[" * 500 + "]" * 500), "vocab_size": "x"}, "cannot make a model"),
    ],
)
def test_configs_that_break_their_models_code(tmp_path, changes, reason):
    line = one_line("probe", config(tmp_path, **changes), "--tokens", "4")
    assert str(tmp_path / "config.json") in line
    assert reason in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no such pipes")
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    assert "is not a file" in one_line("probe", tmp_path / "pipe.json")
    for name in ("tokens.npy", "tokens.txt"):
        os.mkfifo(tmp_path / name)
        line = one_line("probe", config(tmp_path), "--tokens", tmp_path / name)
        assert "is not a file" in line


def test_configs_and_tokens_have_a_size(tmp_path):
    for name in ("config.json", "tokens.npy", "tokens.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40)
        read = configs.model_of if name == "config.json" else configs.read_tokens
        with pytest.raises(OSError, match="allowed: 100,000,000"):
            read(tmp_path / name)


@pytest.mark.parametrize("text", arrays.TEXTS, ids=lambda text: text[:8].decode("latin-1"))
def test_tokens_whose_header_is_none(tmp_path, text):
    path = tmp_path / "tokens.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n")
    with pytest.raises(ValueError, match=r"tokens\.npy does not hold tokens"):
        configs.read_tokens(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(60), b"", b"\xff\xfe", b"1 2\n3"])
def test_tokens_that_are_none(tmp_path, content):
    for name in ("tokens.npy", "tokens.txt"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"does not hold tokens|allowed: integers"):
            configs.read_tokens(tmp_path / name)


@pytest.mark.parametrize("option", ["depth", "width", "image", "seeds", "steps", "batch"])
def test_numbers_that_are_too_large_are_a_wrong_use(option):
    done = CliRunner().invoke(cli.app, ["probe", f"--{option}", "9" * 20])
    assert done.exit_code == 2
    assert f"--{option}" in done.stderr


def test_a_config_of_endlessly_many_layers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "MOST_TENSORS", 100)
    path = config(tmp_path, num_hidden_layers=10**9)
    line = one_line("init", path, "-o", tmp_path / "out")
    assert "a model of more than 100 tensors" in line
    assert not (tmp_path / "out").exists()
