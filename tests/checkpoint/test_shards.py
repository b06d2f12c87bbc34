"""Sharded checkpoints: the same values in any number of files, and work that goes on."""

import errno
import json
import math
import os
import shutil
import sys
import threading
from unittest import mock

import catalogue
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import fastinit as fi
from fastinit import checkpoint, recipe
from fastinit.checkpoint import _blocks
from fastinit.initializer import registry
from fastinit.recipe import Rule, Tensor, parse

TEXT = """
name = "pieces"
seed = 5
[repeat]
layer = 6
[tensors]
"h.{layer}.weight" = [70, 33]
"h.{layer}.half" = {shape = [5, 1000], dtype = "bfloat16"}
"a/../b" = [3]
"long" = [300001]
"square" = [30, 30]
"steps" = {shape = [], dtype = "int64"}
"none" = [0, 4]
[[rule]]
pattern = ["steps", "none"]
init = "zeros"
[[rule]]
pattern = "square"
init = "orthogonal"
[[rule]]
pattern = "*"
init = "normal"
std = 0.5
[config]
kind = "pieces"
"""


@pytest.fixture
def model():
    return recipe.parse(TEXT)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def arrays(directory):
    """Return the tensors as the safetensors library reads them, by way of the index."""
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    files = {file: load_file(directory / file) for file in set(index["weight_map"].values())}
    assert sum(map(len, files.values())) == len(index["weight_map"])
    return {name: files[file][name] for name, file in index["weight_map"].items()}


shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)


@given(shapes, st.integers(1, 64))
def test_blocks_are_a_tensor_once_in_order(shape, nbytes):
    tensor = Tensor("w", shape, np.dtype("float32"))
    index, end = np.arange(math.prod(shape)).reshape(shape), 0
    for block in _blocks.blocks(tensor, nbytes=nbytes):
        box = tuple(slice(o, o + n) for o, n in zip(block.offset, block.shape, strict=True))
        assert index[box].ravel().tolist() == list(range(end, end + block.size))
        assert block.start == end
        assert block.size <= max(1, nbytes // 4)
        end += block.size
    assert end == tensor.size


@given(st.data())
def test_blocks_with_whole_axes_are_a_tensor_once(data):
    """Each has all of these axes, and its stretches say where its elements lie."""
    shape = data.draw(shapes.filter(len))
    axes = data.draw(st.sets(st.sampled_from(range(len(shape)))))
    tensor = Tensor("w", shape, np.dtype("float32"))
    values = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    found = np.full_like(values, -1)
    with mock.patch.object(_blocks, "LINES", 2):
        parts = list(_blocks.blocks(tensor, sorted(axes), nbytes=data.draw(st.integers(1, 9))))
    for block in parts:
        assert all(block.shape[axis] == shape[axis] for axis in axes)
        mine = np.ascontiguousarray(values[block.box]).reshape(-1).view(np.uint8)
        for begin, end, at in block.stretches():
            found.reshape(-1).view(np.uint8)[at : at + end - begin] = mine[begin:end]
        assert block.stretches()[-1].end == block.nbytes
    assert found.tobytes() == values.tobytes()
    assert sum(block.size for block in parts) == tensor.size


def test_large_tensors_with_whole_axes_are_cut():
    """Memory does not grow with the other side."""
    for rule, shape in [
        ("orthogonal", (65536, 4096)),
        ("orthogonal", (4096, 65536)),
        ("orthogonal(column_axis=0)", (8192, 8192)),
        ("delta_orthogonal", (3, 3, 8192, 8192)),
        ("sparse(sparsity=0.5)", (65536, 4096)),
    ]:
        tensor = Tensor("w", shape, np.dtype("bfloat16"))
        axes = fi.Initializer.parse(rule).whole_axes(shape)
        parts = list(_blocks.blocks(tensor, axes))
        assert max(block.nbytes for block in parts) <= 240 * 65536 * 2
        assert sum(block.nbytes for block in parts) == tensor.nbytes


LARGE = """
name = "orthogonal"
seed = 5
[tensors]
tall = [300000, 8]
wide = {shape = [8, 300000], dtype = "bfloat16"}
kernel = [2, 8, 40000]
[[rule]]
pattern = ["tall", "wide"]
init = "orthogonal"
[[rule]]
pattern = "kernel"
init = "delta_orthogonal"
"""


def test_orthogonal_tensors_are_written_checked_and_shown_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(_blocks, "LINES", 3)
    monkeypatch.setattr(_blocks, "_BATCH", 1)
    model = recipe.parse(LARGE)
    drawn = []
    draw = _blocks.Drawer.draw
    monkeypatch.setattr(_blocks.Drawer, "draw", lambda *a: (drawn.append(a[1].shape), draw(*a))[1])
    checkpoint.write(model, tmp_path / "x", threads=2)
    assert sorted(set(drawn)) == [
        *[(1, 2, 40000), (1, 6, 40000), (2, 300000), (3, 300000), (300000, 2), (300000, 3)]
    ]
    found = load_file(tmp_path / "x" / "model.safetensors")
    for name, x in found.items():
        expected = np.empty(x.shape, x.dtype)
        ((_, rule),) = [each for each in model.plan() if each[0].name == name]
        rule.initializer.fill(expected, rng=fi.default_rng(5).stream(name))
        assert x.tobytes() == expected.tobytes(), name
        index = (slice(1, None), slice(2, 7))
        assert checkpoint.values(model, name, index).tobytes() == x[index].tobytes()
    assert checkpoint.check(tmp_path / "x").difference is None


def test_a_check_names_the_first_difference_of_a_tensor_in_strips(tmp_path, monkeypatch):
    monkeypatch.setattr(_blocks, "LINES", 3)
    monkeypatch.setattr(_blocks, "_BATCH", 1)
    checkpoint.write(recipe.parse(LARGE), tmp_path / "x")
    path = tmp_path / "x" / "model.safetensors"
    content = bytearray(path.read_bytes())
    at = len(content) - 2 * 8 * 300000 - 4 * 8 * 300000  # of tall, which is the last but one
    for row, column in [(1000, 0), (10, 7)]:
        content[at + 4 * (8 * row + column)] ^= 1
    path.write_bytes(content)
    difference = checkpoint.check(path).difference
    assert (difference.tensor, difference.index) == ("tall", (10, 7))


def test_every_initializer_draws_blocks_or_says_that_it_does_not():
    """None may need the whole without being known for it."""
    for init in registry():
        rule = Rule("*", fi.Initializer(init, **catalogue.spec(init).arguments))
        tensor = Tensor("w", (96, 128), np.dtype("float32"))
        whole = np.empty(tensor.shape, tensor.dtype)
        try:
            rule.initializer.fill(whole, rng=fi.default_rng(1).stream("w"))
        except (TypeError, ValueError):
            assert init == "delta_orthogonal", init
            continue
        drawer = _blocks.Drawer(1)
        with mock.patch.object(_blocks, "LINES", 16):
            parts = list(_blocks.blocks(tensor, rule.whole_axes(tensor), 64))
        assert len(parts) > 1, init
        for block in parts:
            assert drawer.draw(block, rule).tobytes() == whole[block.box].tobytes(), init


def test_shards_hold_what_one_file_holds(model, tmp_path):
    checkpoint.write(model, tmp_path / "one", max_shard_size="1TB")
    whole = load_file(tmp_path / "one" / "model.safetensors")
    done = checkpoint.write(model, tmp_path / "many", max_shard_size=20_000)
    shards = sorted((tmp_path / "many").glob("model-*"))
    assert [path.name for path in shards] == [
        f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)
    ]
    assert len(shards) > 5
    assert done.nbytes == sum(path.stat().st_size for path in shards)
    parts = arrays(tmp_path / "many")
    assert parts.keys() == whole.keys()
    assert all(parts[name].tobytes() == whole[name].tobytes() for name in whole)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in whole.values())


def test_files_are_cut_where_huggingface_hub_cuts_them(model):
    hub = pytest.importorskip("huggingface_hub")
    for limit in (1, 9_000, 20_000, "1.5MB"):
        ours = [
            {item.tensor.name for item in shard.items}
            for shard in checkpoint.lay_out(model, 0, limit).shards
        ]
        theirs = hub.split_state_dict_into_shards_factory(
            {t.name: t for t in model.tensors},
            get_storage_size=lambda t: t.nbytes,
            get_storage_id=lambda _: None,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=limit,
        )
        assert ours == [set(names) for names in theirs.filename_to_tensors.values()]


@pytest.mark.parametrize(
    ("size", "nbytes"), [("5GB", 5 * 10**9), ("10 kb", 10_000), (7, 7), ("1.5MB", 1_500_000)]
)
def test_sizes(size, nbytes):
    assert checkpoint.shard_size(size) == nbytes


@pytest.mark.parametrize("size", ["", "5GiB", "-1GB", "GB", "0", 0, "1e3", "0.5"])
def test_refused_sizes(size):
    with pytest.raises(ValueError, match=r"max_shard_size=.* must be a number of bytes"):
        checkpoint.shard_size(size)


def test_numpy_reads_a_file_for_each_tensor(model, tmp_path):
    checkpoint.write(model, tmp_path / "one")
    whole = load_file(tmp_path / "one" / "model.safetensors")
    checkpoint.write(model, tmp_path / "npy", format="npy")
    index = json.loads((tmp_path / "npy" / "model.npy.index.json").read_text())
    assert index["weight_map"]["a/../b"] == "a%2F..%2Fb.npy"
    assert index["weight_map"].keys() == whole.keys()
    for name, file in index["weight_map"].items():
        x = np.load(tmp_path / "npy" / file)
        x = x.view(ml_dtypes.bfloat16) if x.dtype.kind == "V" else x
        assert (x.dtype, x.shape) == (whole[name].dtype, whole[name].shape)
        assert x.tobytes() == whole[name].tobytes()


@pytest.mark.parametrize("options", [{"max_shard_size": 20_000}, {"format": "npy"}])
def test_a_directory_is_a_source(model, tmp_path, options):
    checkpoint.write(model, tmp_path / "a", seed=11, **options)
    again = checkpoint.load(tmp_path / "a")
    assert again.seed == 11
    assert again.config == {"kind": "pieces"}
    checkpoint.write(model, tmp_path / "b", seed=11)
    for i, source in enumerate([tmp_path / "a", *(tmp_path / "a").glob("*.index.json")]):
        checkpoint.write(checkpoint.load(source), tmp_path / f"c{i}")
        assert contents(tmp_path / f"c{i}") == contents(tmp_path / "b")


class Stopped(Exception):  # noqa: N818
    """Ends a write."""


OPTIONS = [{"max_shard_size": "1TB"}, {"max_shard_size": 20_000}, {"format": "npy"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_write_that_was_ended_is_resumed(model, tmp_path, options):
    checkpoint.write(model, tmp_path / "whole", **options)
    expected = contents(tmp_path / "whole")
    calls = []
    checkpoint.write(model, tmp_path / "count", progress=calls.append, **options)
    for n in range(len(calls)):
        left = [n]

        def stop(_, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise Stopped

        out = tmp_path / f"stopped{n}"
        with pytest.raises(Stopped):
            checkpoint.write(model, out, progress=stop, **options)
        there = contents(out) if out.exists() else {}  # nothing finished, nothing left
        finished = {name for name in there if not name.startswith(".")}
        assert all(there[name] == expected[name] for name in finished)
        before = {name: (out / name).stat().st_mtime_ns for name in finished}
        done = checkpoint.write(model, out, resume=True, **options)
        assert contents(out) == expected
        assert all((out / name).stat().st_mtime_ns == when for name, when in before.items())
        assert done.kept == sum(len(expected[name]) for name in finished)


@pytest.mark.parametrize("options", OPTIONS)
def test_what_is_finished_stays(model, tmp_path, options):
    checkpoint.write(model, tmp_path, **options)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    done = checkpoint.write(model, tmp_path, resume=True, **options)
    assert done.kept == done.nbytes
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("change", ["seed", "rules", "dtype"])
def test_another_job_is_not_resumed(model, tmp_path, options, change):
    checkpoint.write(model, tmp_path, **options)
    before = contents(tmp_path)
    other, seed = model, None
    if change == "seed":
        seed = 6
    elif change == "rules":
        other = recipe.parse(TEXT.replace("0.5", "0.25"))
    else:
        other = model.astype("float16")
    with pytest.raises(FileExistsError, match="not of this job"):
        checkpoint.write(other, tmp_path, seed=seed, resume=True, **options)
    assert contents(tmp_path) == before
    checkpoint.write(other, tmp_path, seed=seed, resume=True, overwrite=True, **options)
    checkpoint.write(other, tmp_path / "new", seed=seed, **options)
    after = contents(tmp_path / "new")
    shutil.rmtree(tmp_path / "new")
    assert contents(tmp_path) == after


@pytest.mark.parametrize("old", OPTIONS)
@pytest.mark.parametrize("new", OPTIONS)
def test_overwriting_leaves_nothing_of_the_old(model, tmp_path, old, new):
    checkpoint.write(recipe.parse(TEXT.replace("square", "oblong")), tmp_path / "a", **old)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        checkpoint.write(model, tmp_path / "a", **new)
    checkpoint.write(model, tmp_path / "a", overwrite=True, **new)
    checkpoint.write(model, tmp_path / "b", **new)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") | {"notes.txt": b"mine"}


def test_too_little_space_is_noticed_before_the_first_value(tmp_path):
    huge = recipe.parse(
        'name = "h"\n[tensors]\nw = [1000000, 1000000, 1000]\n'
        '[[rule]]\npattern = "*"\ninit = "normal"'
    )
    with pytest.raises(OSError, match=r"4,000,000,000,000,\d+ bytes needed, [\d,]+ free") as error:
        checkpoint.write(huge, tmp_path / "new")
    assert error.value.errno == errno.ENOSPC
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("moment", ["before", "during"])
def test_a_directory_that_vanishes(model, tmp_path, moment):
    out = tmp_path / "out"
    if moment == "before":
        (tmp_path / "file").write_text("")
        out = tmp_path / "file" / "out"

    def vanish(_):
        shutil.rmtree(out, ignore_errors=True)

    with pytest.raises(OSError, match="out"):
        checkpoint.write(model, out, max_shard_size=20_000, progress=vanish)


def test_a_disk_that_fills_up_leaves_no_file_under_its_name(model, tmp_path, monkeypatch):
    real, left = os.pwrite, [7]

    def pwrite(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match=r"model-0000.-of-") as error:
        checkpoint.write(model, tmp_path / "a", max_shard_size=20_000)
    assert error.value.errno == errno.ENOSPC
    monkeypatch.undo()
    checkpoint.write(model, tmp_path / "b", max_shard_size=20_000)
    whole = contents(tmp_path / "b")
    left_there = contents(tmp_path / "a")
    assert all(whole[n] == data for n, data in left_there.items() if not n.startswith("."))
    assert left_there.keys() - whole.keys() == {".model.safetensors.index.json.begun"}


@pytest.mark.parametrize("size", [1, 7])
def test_short_writes_go_on(tmp_path, monkeypatch, size):
    real = os.pwrite
    small = recipe.parse(TEXT.replace("300001", "31"))
    checkpoint.write(small, tmp_path / "a")

    def short(file, data, at):
        return real(file, data[: len(data) // 2 + size], at)

    monkeypatch.setattr(os, "pwrite", short)
    checkpoint.write(small, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def calls(work):
    """Return how many functions of Python and of C a piece of work calls, in all its threads."""
    counts = []

    def count(_frame, event, _argument):
        if event in ("call", "c_call"):
            counts.append(1)

    threading.setprofile(count)
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return len(counts)


def test_a_tiny_tensor_costs_few_calls(tmp_path):
    """Each of 10**5 tensors once took 500 calls to be written, and as many to be checked."""
    text = (
        '[repeat]\nlayer = {}\n[tensors]\n"l.{{layer}}.weight" = [4, 8]\n"l.{{layer}}.bias" = [4]\n'
        '[[rule]]\npattern = "*.bias"\ninit = "zeros"\n'
        '[[rule]]\npattern = "*.weight"\ninit = "normal"\nstd = 0.02\n'
    )
    counts = {}
    for n in (100, 1100):
        small, directory = parse(f'name = "tiny"\n{text.format(n)}'), tmp_path / str(n)
        counts[n] = [
            calls(lambda small=small, path=directory: checkpoint.write(small, path, threads=1)),
            calls(lambda path=directory: checkpoint.check(path, threads=1)),
        ]
    each = [(more - few) / 2000 for few, more in zip(counts[100], counts[1100], strict=True)]
    assert all(10 < n < 150 for n in each), each
