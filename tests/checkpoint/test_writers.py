"""Directories that several write into, and what is there that is not ours."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastinit import _files, checkpoint, recipe

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no os.pwrite")

MODEL = recipe.load("gpt2", {"layers": 1, "width": 64, "heads": 2, "vocabulary": 5000})
INDEX = checkpoint.INDEX["npy"]


def small():
    text = """name = "small"
    [repeat]
    l = 8
    [tensors]
    "w.{l}" = [1000, 100]
    [[rule]]
    pattern = "*"
    init = "normal"
    """
    return recipe.parse(text)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("form", checkpoint.FORMATS)
def test_of_two_writers_one_is_told_who_the_other_is(tmp_path, form):
    first = tmp_path / "first"
    checkpoint.write(small(), first, seed=1, format=form)
    expected = contents(first)
    begun, go_on = threading.Event(), threading.Event()

    def progress(_):
        begun.set()
        assert go_on.wait(60)

    out = tmp_path / "out"
    writer = threading.Thread(
        target=checkpoint.write,
        args=(small(), out),
        kwargs={"seed": 1, "format": form, "progress": progress},
    )
    writer.start()
    assert begun.wait(60)
    try:
        for options in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(BlockingIOError, match=rf"process {os.getpid()} on .* is writing"):
                checkpoint.write(small(), out, seed=2, format=form, **options)
        with pytest.raises(BlockingIOError):
            checkpoint.begin(checkpoint.lay_out(small(), 2, format=form), out)
    finally:
        go_on.set()
        writer.join()
    assert contents(out) == expected


def test_two_processes(tmp_path):
    """Whoever is second, there is one checkpoint, of one seed, and one who says that it is his."""
    (tmp_path / "small.toml").write_text(small().text)
    for turn in range(3):
        out = tmp_path / f"out{turn}"
        command = [sys.executable, "-m", "fastinit", "init", str(tmp_path / "small.toml")]
        runs = [
            subprocess.Popen(
                [*command, "-o", str(out), "--seed", str(seed), "--max-shard-size", "1MB"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for seed in (1, 2)
        ]
        errors = [run.communicate()[1] for run in runs]
        states = [run.returncode for run in runs]
        assert sorted(states) == [0, 1], errors
        assert "is writing into it" in "".join(errors) or "file exists" in "".join(errors)
        done = checkpoint.check(out)
        assert done.difference is None
        (winner,) = (seed for seed, state in zip((1, 2), states, strict=True) if state == 0)
        assert checkpoint.check(out, tmp_path / "small.toml", seed=winner).difference is None


def test_the_lock_of_a_process_that_is_gone_is_nobodys(tmp_path):
    (tmp_path / _files.LOCK).write_text("process 1 on elsewhere")
    checkpoint.write(small(), tmp_path)
    assert not (tmp_path / _files.LOCK).exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_name_that_is_taken_meanwhile_is_not_replaced(tmp_path, name):
    def progress(_):
        (tmp_path / name).write_text("mine")

    with pytest.raises(FileExistsError, match="exists") as error:
        checkpoint.write(MODEL, tmp_path, progress=progress)
    assert error.value.filename == str(tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    checkpoint.write(MODEL, tmp_path, progress=progress, overwrite=True)
    assert checkpoint.check(tmp_path).difference is None


def test_where_there_are_no_links(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    checkpoint.write(small(), tmp_path / "out")
    path = tmp_path / "taken"

    def appear():
        with _files.appearing(path, replace=False) as file:
            file.write(b"ours")
            path.write_text("mine")

    with pytest.raises(FileExistsError):
        appear()
    assert path.read_text() == "mine"


def test_dangling_links_are_in_the_way(tmp_path):
    for name in ("model.safetensors", "config.json"):
        link = tmp_path / name
        link.symlink_to(tmp_path / "nothing")
        with pytest.raises(FileExistsError):
            checkpoint.write(MODEL, tmp_path)
        assert link.is_symlink()
        link.unlink()
    (tmp_path / _files.LOCK).symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError, match="symbolic links"):
        checkpoint.write(MODEL, tmp_path)
    assert not (tmp_path / "nothing").exists()


def test_hidden_files_of_others_stay(tmp_path):
    kept = [".model.safetensors.0123abcd", ".config.json.deadbeef", ".hidden"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".model.safetensors.01234567.fastinit").mkdir()  # no file, so not ours
    (tmp_path / ".model.safetensors.89abcdef.fastinit").write_text("left behind")
    checkpoint.write(small(), tmp_path)
    assert all((tmp_path / name).read_text() == "mine" for name in kept)
    assert {p.name for p in tmp_path.iterdir()} == {
        *kept,
        "model.safetensors",
        ".model.safetensors.01234567.fastinit",
    }


class TestOverwrite:
    def test_files_that_anothers_index_names_stay(self, tmp_path):
        for metadata in ({}, {"fastinit.version": "1"}):
            (tmp_path / "diary.npy").write_text("mine")
            (tmp_path / "diary.txt").write_text("mine")
            files = {"w": "diary.npy", "v": "diary.txt"}
            (tmp_path / INDEX).write_text(json.dumps({"weight_map": files, "metadata": metadata}))
            checkpoint.write(small(), tmp_path, overwrite=True)
            assert (tmp_path / "diary.npy").read_text() == "mine"
            assert (tmp_path / "diary.txt").read_text() == "mine"
            assert not (tmp_path / INDEX).exists()

    def test_an_index_that_is_none_is_replaced(self, tmp_path):
        (tmp_path / INDEX).write_text("{")
        checkpoint.write(small(), tmp_path, overwrite=True)
        assert not (tmp_path / INDEX).exists()

    def test_arrays_of_ours_go(self, tmp_path):
        checkpoint.write(small(), tmp_path, format="npy")
        checkpoint.write(small(), tmp_path, overwrite=True)
        assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]

    def test_the_config_of_another_model_goes(self, tmp_path):
        checkpoint.write(MODEL, tmp_path)
        assert (tmp_path / "config.json").exists()
        with pytest.raises(FileExistsError):
            checkpoint.write(small(), tmp_path)
        checkpoint.write(small(), tmp_path, overwrite=True)
        assert not (tmp_path / "config.json").exists()

    def test_a_config_alone_stays(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        checkpoint.write(small(), tmp_path, overwrite=True)
        assert (tmp_path / "config.json").read_text() == "{}"
        checkpoint.write(small(), tmp_path, resume=True)
        assert (tmp_path / "config.json").read_text() == "{}"


def test_advice_that_the_system_does_not_take_is_no_error(tmp_path, monkeypatch):
    def advise(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "posix_fadvise", advise, raising=False)
    monkeypatch.setattr(os, "posix_fallocate", advise, raising=False)
    checkpoint.write(small(), tmp_path)
    assert checkpoint.check(tmp_path).difference is None


def test_directories_are_synced_after_a_name_is_given(tmp_path, monkeypatch):
    calls, replace, sync = [], os.link, os.fsync
    monkeypatch.setattr(os, "link", lambda *names: (calls.append("link"), replace(*names)))

    def fsync(descriptor):
        calls.append("directory" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        sync(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("this system does not tell what a descriptor is of")
    monkeypatch.setattr(os, "fsync", fsync)
    checkpoint.write(small(), tmp_path)
    assert calls == ["file", "link", "directory"]


def test_a_directory_in_the_way_is_named_and_stays(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        checkpoint.write(small(), tmp_path, overwrite=True)
    assert error.value.filename == str(tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has it")
def test_a_file_that_cannot_be_read_is_named():
    with pytest.raises(OSError, match="Input/output error: '/proc/self/mem'"):
        _files.contents(Path("/proc/self/mem"), 100)
