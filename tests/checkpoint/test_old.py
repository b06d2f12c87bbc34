"""An older checkpoint: its tensors are copied, and only the others are drawn."""

import numpy as np
import pytest
from commands import run

from fastinit import checkpoint, recipe
from fastinit.checkpoint._stored import mapped

MODEL = """name = "model"
[variables]
layers = 2
words = 5
[repeat]
l = "layers"
[tensors]
"h.{l}.weight" = [6, 4]
"words" = {shape = ["words", 4], dtype = "bfloat16"}
"head" = ["words", "words"]
"steps" = {shape = [3], dtype = "int64"}
[[rule]]
pattern = "steps"
init = "zeros"
[[rule]]
pattern = "*"
init = "normal"
"""


def values(model):
    return {t.name: checkpoint.values(model, t.name, seed=2) for t in model.tensors}


def read(path):
    return {s.tensor.name: mapped(s) for s in checkpoint.read(path).stored}


@pytest.fixture
def old(tmp_path):
    checkpoint.write(recipe.parse(MODEL), tmp_path / "old", seed=1, max_shard_size=100)
    return tmp_path / "old"


def test_what_fits_is_copied_and_the_rest_drawn(old, tmp_path):
    larger = recipe.parse(MODEL, variables={"layers": 3, "words": 7})
    kept = checkpoint.keep(larger, old)
    assert kept.copied == ("h.0.weight", "h.1.weight", "steps")
    assert (kept.grown, kept.drawn) == (("words", "head"), ("h.2.weight",))
    assert kept.misfits == kept.unused == ()
    checkpoint.write(kept.recipe, tmp_path / "new", seed=2)
    before, after, fresh = read(old), read(tmp_path / "new"), values(larger)
    for name in kept.copied:
        np.testing.assert_array_equal(after[name], before[name])
    np.testing.assert_array_equal(after["h.2.weight"], fresh["h.2.weight"])
    np.testing.assert_array_equal(after["words"][:5], before["words"])
    np.testing.assert_array_equal(after["words"][5:], fresh["words"][5:])
    np.testing.assert_array_equal(after["head"][:5, :5], before["head"])
    np.testing.assert_array_equal(after["head"][5:], fresh["head"][5:])
    np.testing.assert_array_equal(after["head"][:, 5:], fresh["head"][:, 5:])
    assert checkpoint.check(tmp_path / "new").difference is None
    # Any slice is there without the files, and the files are enough to be written again.
    part = checkpoint.values(kept.recipe, "head", (slice(3, 7), slice(None, None, 3)), seed=2)
    np.testing.assert_array_equal(part, after["head"][3:7, ::3])
    checkpoint.write(checkpoint.load(tmp_path / "new"), tmp_path / "again")
    for name, array in read(tmp_path / "again").items():
        np.testing.assert_array_equal(array, after[name])


def test_a_changed_bit_of_a_copy_is_found(old, tmp_path):
    kept = checkpoint.keep(recipe.parse(MODEL), old)
    checkpoint.write(kept.recipe, tmp_path / "new")
    (found,) = (s for s in checkpoint.read(tmp_path / "new").stored if s.tensor.name == "head")
    with found.path.open("r+b") as file:
        file.seek(found.begin)
        file.write(b"!")
    assert checkpoint.check(tmp_path / "new").difference.tensor == "head"


def test_large_tensors_grow_in_blocks(tmp_path):
    text = MODEL.replace("[6, 4]", "[6, 70000]").replace("layers = 2", "layers = 1")
    checkpoint.write(recipe.parse(text), tmp_path / "old", seed=1)
    wider = recipe.parse(text.replace("[6, 70000]", "[9, 70001]"))
    kept = checkpoint.keep(wider, tmp_path / "old")
    checkpoint.write(kept.recipe, tmp_path / "new", seed=2, threads=3)
    before, after = read(tmp_path / "old"), read(tmp_path / "new")
    fresh = checkpoint.values(wider, "h.0.weight", seed=2)
    fresh[:6, :70000] = before["h.0.weight"]
    np.testing.assert_array_equal(after["h.0.weight"], fresh)


def test_what_does_not_fit_is_drawn_and_said(old, tmp_path):
    smaller = MODEL.replace("layers = 2", "layers = 1").replace("words = 5", "words = 4")
    (tmp_path / "model.toml").write_text(smaller)
    done = run("init", tmp_path / "model.toml", "-o", tmp_path / "new", "--from", old)
    assert done.returncode == 0, done.stderr
    lines = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert "drawn, as the old one does not fit 2: words, head" in lines
    assert "not used 1: h.1.weight" in lines


def test_dtypes(old, tmp_path):
    kept = checkpoint.keep(recipe.parse(MODEL).astype("float16"), old)
    checkpoint.write(kept.recipe, tmp_path / "new")
    before, after = read(old), read(tmp_path / "new")
    np.testing.assert_array_equal(after["head"], before["head"].astype(np.float16))
    other = recipe.parse(MODEL.replace('"int64"', '"int32"'))
    assert checkpoint.keep(other, old).misfits == ("steps",)


def test_what_is_refused(old, tmp_path):
    model = recipe.parse(MODEL)
    with pytest.raises(ValueError, match="give another directory"):
        checkpoint.write(checkpoint.keep(model, old).recipe, old, overwrite=True)
    with pytest.raises(recipe.RecipeError, match="none of the tensors"):
        checkpoint.keep(recipe.load("gpt2"), old)
    with pytest.raises((recipe.RecipeError, OSError)):
        checkpoint.keep(model, tmp_path)
