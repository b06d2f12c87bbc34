"""Checking and showing: what differs is found and named; slices are those of the whole."""

import errno
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastinit import _files, checkpoint, recipe
from fastinit.checkpoint import _blocks, _stored, _virtual

TEXT = """
name = "checked"
[tensors]
"a" = [600, 700]
"b" = {shape = [9, 11], dtype = "bfloat16"}
"c" = {shape = [], dtype = "int64"}
"none" = [0, 3]
"q" = [20, 20]
"odd[0]" = [5]
[[rule]]
pattern = ["c", "none"]
init = "zeros"
[[rule]]
pattern = "q"
init = "orthogonal"
[[rule]]
pattern = "*"
init = "normal"
std = 2.0
"""

OPTIONS = [{}, {"max_shard_size": 1000}, {"format": "npy"}]


@pytest.fixture(scope="module")
def model():
    return recipe.parse(TEXT)


@pytest.fixture(params=["cached", "direct", "refused"])
def way(request, monkeypatch):
    """By which way files are read; the last is of a file system that knows no direct reads."""
    monkeypatch.setattr(_stored, "fits_page_cache", lambda _: request.param == "cached")
    if request.param == "refused":
        monkeypatch.setattr(_files.os, "O_DIRECT", 1 << 30, raising=False)
        actual = os.open

        def refusing(path, flags, *args):
            if flags & 1 << 30:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return actual(path, flags, *args)

        monkeypatch.setattr(_files.os, "open", refusing)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("options", OPTIONS)
def test_what_was_written_is_equal(model, tmp_path, options):
    seen = []
    checkpoint.write(model, tmp_path, seed=4, **options)
    done = checkpoint.check(tmp_path, progress=seen.append)
    assert done.difference is None
    assert done.tensors == 6
    assert done.nbytes == sum(seen) == sum(tensor.nbytes for tensor in model.tensors)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("options", OPTIONS)
def test_the_first_element_that_differs_is_named(model, tmp_path, options):
    checkpoint.write(model, tmp_path, **options)
    places = {stored.tensor.name: stored for stored in checkpoint.read(tmp_path).stored}
    for name, index in (("b", (8, 3)), ("a", (599, 698)), ("a", (300, 2))):
        stored = places[name]
        at = int(np.ravel_multi_index(index, stored.tensor.shape)) * stored.tensor.dtype.itemsize
        data = bytearray(stored.path.read_bytes())
        data[stored.begin + at + 1] ^= 1
        stored.path.write_bytes(data)
        found = checkpoint.check(tmp_path).difference
        order = [stored.tensor.name for stored in checkpoint.read(tmp_path).stored]
        earlier_in_b = name == "a" and order.index("b") < order.index("a")
        assert found is not None
        if not earlier_in_b:
            assert (found.tensor, found.index, found.path) == (name, index, stored.path)
            expected = checkpoint.values(model, name, index)
            assert found.expected == expected
            assert found.found != found.expected


@pytest.mark.usefixtures("way")
def test_statistics_are_of_all_values(model, tmp_path):
    checkpoint.write(model, tmp_path)
    places = checkpoint.read(tmp_path).stored
    for each, stored in zip(checkpoint.statistics(tmp_path), places, strict=True):
        x = np.asarray(_stored.mapped(stored), np.float64)
        assert each.std == (pytest.approx(x.std()) if x.size else None)


@pytest.mark.usefixtures("way")
def test_a_file_that_ends_while_it_is_read(model, tmp_path, monkeypatch):
    checkpoint.write(model, tmp_path)
    whole = checkpoint.read(tmp_path)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 5000)
    monkeypatch.setattr(checkpoint._check, "read", lambda _: whole)
    with pytest.raises(OSError, match="ends before its last tensor"):
        checkpoint.check(tmp_path)


@pytest.mark.parametrize("begin", [0, 1, 4095, 4096, 12_000])
def test_direct_reads_are_of_the_same_bytes(tmp_path, begin):
    """Where there are such reads: any begin and length, and the file's end within a page."""
    path = tmp_path / "file"
    data = np.arange(20_001, dtype=np.uint16).view(np.uint8)
    path.write_bytes(data.tobytes())
    x = _blocks.memory(5 * _files.PAGE, "read")
    skip = begin % _files.PAGE
    n = _files.read_direct(path, begin - skip, x)
    if not n:
        pytest.skip("no direct reads here")
    assert n == min(x.nbytes, data.nbytes - begin + skip)
    assert np.array_equal(x[skip:n], data[begin:][: n - skip])


@pytest.mark.parametrize("what", ["seed", "rules"])
def test_other_seeds_and_rules_differ(model, tmp_path, what):
    checkpoint.write(model, tmp_path)
    rules = tmp_path / "rules.toml"
    rules.write_text(TEXT.replace("2.0", "2.5") if what == "rules" else TEXT)
    assert checkpoint.check(tmp_path, rules).difference is None or what == "rules"
    done = checkpoint.check(tmp_path, rules, seed=1 if what == "seed" else 0)
    assert done.difference is not None
    assert done.difference.index == (0, 0)


def edit(path, change):
    """Replace the header of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_what_cannot_be_checked(model, tmp_path):
    checkpoint.write(model, tmp_path)
    path = tmp_path / "model.safetensors"
    edit(path, lambda header: header["__metadata__"].update({"fastinit.stream": "fastinit-0"}))
    with pytest.raises(recipe.RecipeError, match="of stream 'fastinit-0'; this fastinit draws"):
        checkpoint.check(tmp_path)
    edit(path, lambda header: header["__metadata__"].pop("fastinit.seed"))
    with pytest.raises(recipe.RecipeError, match="does not say how it was made"):
        checkpoint.check(tmp_path)


@pytest.mark.parametrize("change", ["missing", "moved", "extra", "escapes", "other"])
def test_an_index_that_is_not_true(model, tmp_path, change):
    checkpoint.write(model, tmp_path / "x", max_shard_size=1000)
    path = tmp_path / "x" / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    names, files = list(index["weight_map"]), list(index["weight_map"].values())
    if change == "missing":
        del index["weight_map"][names[0]]
    elif change == "moved":
        index["weight_map"][names[0]] = files[-1]
    elif change == "extra":
        index["weight_map"]["more"] = files[0]
    elif change == "escapes":
        (tmp_path / files[0]).write_bytes((tmp_path / "x" / files[0]).read_bytes())
        index["weight_map"][names[0]] = f"../{files[0]}"
    else:
        checkpoint.write(model, tmp_path / "y", seed=9, max_shard_size=1000)
        (tmp_path / "x" / files[0]).write_bytes((tmp_path / "y" / files[0]).read_bytes())
    path.write_text(json.dumps(index))
    with pytest.raises((recipe.RecipeError, FileNotFoundError)):
        checkpoint.check(tmp_path / "x")


def test_a_shard_that_is_missing(model, tmp_path):
    checkpoint.write(model, tmp_path, max_shard_size=1000)
    path = next(tmp_path.glob("model-00002-*"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        checkpoint.check(tmp_path)


def parts(length):
    edge = st.none() | st.integers(-length - 3, length + 3)
    step = st.sampled_from([None, 1, 2, -1, -3, 50])
    return st.integers(-length, length - 1) | st.builds(slice, edge, edge, step)


SHAPE = (5, 300, 400)
BOX = recipe.parse(
    f'name = "box"\n[tensors]\nw = {list(SHAPE)}\n[[rule]]\npattern = "*"\ninit = "normal"'
)


@settings(max_examples=60)
@given(st.data(), st.integers(0, 3), st.booleans())
def test_slices_are_those_of_the_whole(data, axes, ellipsis):
    index = tuple(data.draw(parts(length)) for length in SHAPE[:axes])
    if ellipsis:
        index = (*index[:1], ..., *(data.draw(parts(length)) for length in SHAPE[4 - axes :]))
    whole = _whole()
    part = checkpoint.values(BOX, "w", index)
    assert part.shape == whole[index].shape
    assert np.array_equal(part, whole[index])


def _whole(cache={}):  # noqa: B006
    if not cache:
        cache["w"] = checkpoint.values(BOX, "w")
    return cache["w"]


def test_shown_values_are_those_that_are_written(model, tmp_path):
    checkpoint.write(model, tmp_path, format="npy")
    files = json.loads((tmp_path / "model.npy.index.json").read_text())["weight_map"]
    for name, file in files.items():
        values = checkpoint.values(model, name)
        assert values.tobytes() == np.load(tmp_path / file).tobytes()
        assert values.shape == next(t.shape for t in model.tensors if t.name == name)
    assert checkpoint.values(model, "q", (slice(2), -1)).shape == (2,)


def test_a_slice_of_what_no_memory_holds():
    text = '[tensors]\nw = [1000000, 1000000, 100]\n[[rule]]\npattern = "*"\ninit = "normal"'
    model = recipe.parse('name = "vast"\n' + text)
    values = checkpoint.values(model, "w", (slice(-3, None), 999_999, slice(None, None, 9)))
    assert values.shape == (3, 12)
    assert 0.5 < values.std() < 1.5


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a", ("a", (...,))),
        ("odd[0]", ("odd[0]", (...,))),
        ("odd[0][1]", ("odd[0]", (1,))),
        ("a[:2, -1]", ("a", (slice(None, 2), -1))),
        ("a[..., ::-3]", ("a", (..., slice(None, None, -3)))),
        ("x[1", ("x[1", (...,))),
    ],
)
def test_slices_in_words(model, text, parsed):
    assert _virtual.parse(model, text) == parsed


@pytest.mark.parametrize("text", ["a[]", "a[1.5]", "a[::0]", "a[x]", "a[1:2:3:4]"])
def test_refused_slices(model, text):
    with pytest.raises(recipe.RecipeError, match="is no slice"):
        _virtual.parse(model, text)


@pytest.mark.parametrize(
    ("name", "index", "error"),
    [
        ("x", ..., recipe.RecipeError),
        ("a", 600, IndexError),
        ("a", (0, 0, 0), IndexError),
        ("a", (..., 0, ...), IndexError),
    ],
)
def test_slices_that_are_not_there(model, name, index, error):
    with pytest.raises(error, match=name):
        checkpoint.values(model, name, index)
