"""Checkpoints: what the file holds, that it appears whole or not at all, and its sources."""

import doctest
import errno
import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from adapters import adapter
from safetensors import safe_open

import fastinit as fi
from fastinit import checkpoint, recipe

TINY = """
name = "tiny"
seed = 3

[variables]
layers = 2

[repeat]
layer = "layers"

[tensors]
"h.{layer}.weight" = [33, 70]
"h.{layer}.norm.weight" = [33]
"h.{layer}.half" = {shape = [5, 3], dtype = "bfloat16"}
"h.{layer}.steps" = {shape = [], dtype = "int64"}
"flags" = {shape = [3], dtype = "bool"}
"none" = [0, 4]

[[rule]]
pattern = "*norm.weight"
init = "ones"

[[rule]]
pattern = "*steps"
init = "zeros"

[[rule]]
pattern = "flags"
init = "ones"

[[rule]]
pattern = "*"
init = "normal"
std = "1 / sqrt(layers)"

[config]
n_layer = "{layers}"
"""


@pytest.fixture
def tiny():
    return recipe.parse(TINY)


@pytest.fixture
def written(tiny, tmp_path):
    checkpoint.write(tiny, tmp_path)
    return tmp_path / "model.safetensors"


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def read(path):
    """Return {name: array} and the metadata, by the format's own text and not by a library."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    dtypes = {
        code: np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name)
        for name, code in recipe.DTYPES.items()
    }
    arrays = {}
    for name, entry in header.items():
        begin, end = (8 + length + n for n in entry["data_offsets"])
        arrays[name] = np.frombuffer(data[begin:end], dtypes[entry["dtype"]])
        arrays[name] = arrays[name].reshape(entry["shape"])
        assert begin % arrays[name].itemsize == 0
    return arrays, metadata


def test_each_tensor_is_its_name_s_stream(tiny, written):
    arrays, _ = read(written)
    assert arrays.keys() == {t.name for t in tiny.tensors}
    for tensor, rule in tiny.plan():
        expected = np.empty(tensor.shape, tensor.dtype)
        rule.initializer.fill(expected, rng=fi.default_rng(3).stream(tensor.name))
        assert arrays[tensor.name].tobytes() == expected.tobytes()
    assert 0.6 < arrays["h.0.weight"].std() < 0.8
    assert not np.array_equal(arrays["h.0.weight"], arrays["h.1.weight"])


def test_the_safetensors_library_reads_it(tiny, written):
    with safe_open(written, "numpy") as file:
        assert set(file.keys()) == {t.name for t in tiny.tensors}
        assert file.get_tensor("h.1.norm.weight").tolist() == [1.0] * 33
        assert file.get_tensor("h.0.steps").tolist() == 0


def test_metadata_and_config(written):
    _, metadata = read(written)
    assert metadata == {
        "format": "pt",
        "fastinit.version": fi.__version__,
        "fastinit.stream": "fastinit-3",
        "fastinit.seed": "3",
        "fastinit.recipe": TINY,
        "fastinit.variables": '{"layers": 2}',
    }
    assert json.loads((written.parent / "config.json").read_text()) == {"n_layer": 2}


def test_what_write_returns(tiny, tmp_path):
    seen = []
    done = checkpoint.write(tiny, tmp_path, progress=seen.append)
    assert done.files == (tmp_path / "model.safetensors", tmp_path / "config.json")
    assert (done.tensors, done.kept) == (10, 0)
    assert done.parameters == 2 * (33 * 70 + 33 + 15)
    assert done.nbytes == sum(seen) == done.files[0].stat().st_size
    assert done.seconds > 0


def test_order_and_company_of_tensors_do_not_matter(written, tmp_path):
    text = TINY.replace('"h.{layer}.weight" = [33, 70]\n', "")
    text = text.replace('"none"', '"h.{layer}.weight" = [33, 70]\n"more" = [7]\n"none"')
    checkpoint.write(recipe.parse(text), tmp_path / "other")
    before, _ = read(written)
    after, _ = read(tmp_path / "other" / "model.safetensors")
    assert after.keys() - before.keys() == {"more"}
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)


def test_threads_do_not_matter(tiny, written, tmp_path):
    checkpoint.write(tiny, tmp_path / "one", threads=1)
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == written.read_bytes()


@pytest.mark.parametrize("missing", ["pwrite", "posix_fallocate", "posix_fadvise"])
def test_what_a_system_lacks_does_not_matter(tiny, written, tmp_path, monkeypatch, missing):
    monkeypatch.delattr(os, missing)  # Windows has none of them, macOS the first alone
    checkpoint.write(tiny, tmp_path / "lacking", threads=3)
    assert (tmp_path / "lacking" / "model.safetensors").read_bytes() == written.read_bytes()


def test_the_seed_matters(tiny, written, tmp_path):
    checkpoint.write(tiny, tmp_path / "four", seed=4)
    arrays, metadata = read(tmp_path / "four" / "model.safetensors")
    assert metadata["fastinit.seed"] == "4"
    assert not np.array_equal(arrays["h.0.weight"], read(written)[0]["h.0.weight"])


def test_bfloat16_is_float32_rounded(tiny, written, tmp_path):
    checkpoint.write(tiny.astype("bfloat16"), tmp_path / "half")
    half, _ = read(tmp_path / "half" / "model.safetensors")
    full, _ = read(written)
    assert half["h.0.steps"].dtype == np.int64
    expected = full["h.0.weight"].astype(ml_dtypes.bfloat16)
    assert half["h.0.weight"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_a_file_is_enough_to_make_it_again(tiny, tmp_path, dtype):
    model = tiny if dtype is None else tiny.astype(dtype)
    checkpoint.write(model, tmp_path / "a", seed=2**70)
    checkpoint.write(checkpoint.load(tmp_path / "a" / "model.safetensors"), tmp_path / "b")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def foreign(path):
    """Write the header of a file that fastinit did not make."""
    header = {
        "__metadata__": {"format": "pt"},
        "wte.weight": {"dtype": "F32", "shape": [9, 4], "data_offsets": [0, 144]},
        "ln.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [144, 152]},
        "ln.bias": {"dtype": "F16", "shape": [4], "data_offsets": [152, 160]},
    }
    path.write_text(json.dumps(header))
    return path


def test_a_foreign_header_gets_the_default_rules(tmp_path):
    model = checkpoint.load(foreign(tmp_path / "header.json"))
    assert {t.name: (t.shape, t.dtype.name, str(rule)) for t, rule in model.plan()} == {
        "wte.weight": ((9, 4), "float32", "normal(std=0.02)"),
        "ln.weight": ((4,), "bfloat16", "ones"),
        "ln.bias": ((4,), "float16", "zeros"),
    }
    assert (model.name, model.seed, model.config) == ("default", 0, {})


def test_a_foreign_safetensors_file_is_as_its_header(tmp_path):
    header = foreign(tmp_path / "header.json").read_bytes()
    file = tmp_path / "foreign.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(160))
    from_file, from_json = checkpoint.load(file), checkpoint.load(tmp_path / "header.json")
    assert set(from_file.tensors) == set(from_json.tensors)


def test_rules_from_another_recipe(tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text('name = "r"\nseed = 8\n[[rule]]\npattern = "*"\ninit = "ones"')
    model = checkpoint.load(foreign(tmp_path / "header.json"), rules)
    assert model.seed == 8
    assert {str(rule) for _, rule in model.plan()} == {"ones"}
    gpt2 = checkpoint.load("gpt2", rules)
    assert gpt2.tensors == recipe.load("gpt2").tensors
    assert gpt2.config["model_type"] == "gpt2"
    assert {str(rule) for _, rule in gpt2.plan()} == {"ones"}


def test_a_config_goes_only_with_its_own_tensors(written, tmp_path):
    data = written.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    del header["flags"]
    (tmp_path / "less.json").write_text(json.dumps(header))
    assert checkpoint.load(written).config == {"n_layer": 2}
    assert checkpoint.load(tmp_path / "less.json").config == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "must hold an object"),
        ('{"metadata": {"total_size": 1}}', "'metadata' must have a dtype and a shape"),
        ('{"w": {"dtype": "F32", "shape": [-1]}}', "'w' must have a dtype and a shape"),
        (
            '{"w": {"dtype": "F6_E2M3", "shape": [1]}}',
            r"'F6_E2M3', whose numbers share bytes; allowed: F64, F32, F16, BF16.*quantise it",
        ),
        (
            '{"w": {"dtype": "F4", "shape": [2]}}',
            r"'w' has the dtype 'F4', whose numbers share bytes; allowed: F64",
        ),
        ('{"__metadata__": {"fastinit.recipe": "", "fastinit.seed": "-1"}}', "fastinit.seed='-1'"),
        ('{"__metadata__": {"fastinit.recipe": "", "fastinit.seed": "1"}}', "name is missing"),
        (
            '{"__metadata__": {"fastinit.recipe": "", "fastinit.seed": "1", '
            '"fastinit.variables": "{"}}',
            "fastinit.variables",
        ),
        ("{}", "gives rules only"),
    ],
)
def test_bad_headers(tmp_path, text, reason):
    source = tmp_path / "header.json"
    source.write_text(text)
    with pytest.raises(recipe.RecipeError, match=reason):
        checkpoint.load(source).plan()


def test_bad_safetensors(tmp_path, written):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(written.read_bytes()[:-1])
    with pytest.raises(recipe.RecipeError, match="is not a safetensors file"):
        checkpoint.load(broken)
    with pytest.raises(FileNotFoundError):
        checkpoint.load(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("seed", [-1, 0.5, "1"])
def test_bad_seeds_write_nothing(tiny, tmp_path, seed):
    with pytest.raises((TypeError, ValueError)):
        checkpoint.write(tiny, tmp_path / "new", seed=seed)
    assert not (tmp_path / "new").exists()


def test_a_bad_rule_writes_nothing(tmp_path):
    with pytest.raises(recipe.RecipeError, match=r"std=-0\.7"):
        checkpoint.write(recipe.parse(TINY.replace("1 /", "-1 /")), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_existing_files_stay_unless_told(tiny, tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(FileExistsError, match="overwrite"):
        checkpoint.write(tiny, tmp_path)
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "precious"
    checkpoint.write(tiny, tmp_path, overwrite=True)
    assert names(tmp_path) == ["config.json", "model.safetensors"]


def test_a_file_may_be_its_own_source(written):
    before = written.read_bytes()
    checkpoint.write(checkpoint.load(written), written.parent, overwrite=True)
    assert written.read_bytes() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_remains_of_a_write_that_ends_early(tiny, tmp_path, error):
    def stop(_):
        assert any(name.startswith(".model.safetensors.") for name in names(tmp_path))
        assert "model.safetensors" not in names(tmp_path)
        raise error

    with pytest.raises(error):
        checkpoint.write(tiny, tmp_path, progress=stop)
    assert names(tmp_path) == []


def test_a_full_disk_is_noticed_before_the_first_value(tiny, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device for [\d,]+ bytes"):
        checkpoint.write(tiny, tmp_path, progress=lambda _: pytest.fail("a tensor was filled"))
    assert names(tmp_path) == []


def test_where_no_space_can_be_reserved_the_file_is_the_same(tiny, written, tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    checkpoint.write(tiny, tmp_path / "a")
    monkeypatch.delattr(os, "posix_fallocate")
    checkpoint.write(tiny, tmp_path / "b")
    for name in "ab":
        assert (tmp_path / name / "model.safetensors").read_bytes() == written.read_bytes()


def test_the_file_s_mode_is_the_usual_one(written):
    umask = os.umask(0)
    os.umask(umask)
    assert written.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_private_memory_stays_small(tmp_path):
    program = """
import sys
from pathlib import Path
from fastinit import checkpoint, recipe

def private():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

text = 'name = "big"\\n[tensors]\\na = [64, 1048576]\\nb = [64, 1048576]\\n'
model = recipe.parse(text + '[[rule]]\\npattern = "*"\\ninit = "normal"')
before, seen = private(), []
checkpoint.write(model, sys.argv[1], progress=lambda _: seen.append(private()))
assert max(seen) - before < 16 * 1024, (before, seen)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_docstring_examples():
    modules = [checkpoint._layout, checkpoint._sources, checkpoint._write]
    for module in modules:
        results = doctest.testmod(
            module, extraglobs={"load": checkpoint.load, "write": checkpoint.write}
        )
        assert results.attempted > 0
        assert results.failed == 0


def test_a_dtype_that_makes_zeros_is_said(tmp_path):
    pytest.importorskip("ml_dtypes")
    text = 'name = "x"\n[tensors]\nw = {shape = [64, 64], dtype = "float8_e4m3fn"}\n'
    rule = '[[rule]]\npattern = "*"\ninit = "normal"\nstd = '
    with pytest.warns(UserWarning, match=r"most of what normal\(std=0.0005\) draws is zero"):
        checkpoint.write(recipe.parse(text + rule + "0.0005"), tmp_path / "a")
    checkpoint.write(recipe.parse(text + rule + "0.02"), tmp_path / "b")
    assert checkpoint.check(tmp_path / "b").difference is None


@pytest.fixture
def every_dtype(tmp_path):
    pytest.importorskip("ml_dtypes")
    lines = [f'{name} = {{shape = [3], dtype = "{name}"}}' for name in recipe.DTYPES]
    rule = '[[rule]]\npattern = "*"\ninit = "ones"'
    model = recipe.parse("\n".join(['name = "x"', "[tensors]", *lines, rule]))
    checkpoint.write(model, tmp_path)
    return tmp_path


def test_every_dtype_is_written_and_read(every_dtype):
    assert checkpoint.check(every_dtype).difference is None
    for each in checkpoint.statistics(every_dtype):
        assert (each.min, each.max) == (0 if each.dtype == "complex64" else 1, 1), each.name
    assert {s.tensor.dtype.name for s in checkpoint.read(every_dtype).stored} == set(recipe.DTYPES)


@pytest.mark.parametrize("init", ["xavier_normal", "lecun_uniform", "he_truncated_normal"])
def test_complex_weights_are_written_and_checked(init, tmp_path):
    text = f"""name = "spectral"
    dtype = "complex64"
    [tensors]
    "layers.0.weight" = [300, 400]
    [[rule]]
    pattern = "*"
    init = "{init}"
    """
    checkpoint.write(recipe.parse(text), tmp_path, seed=3)
    assert checkpoint.check(tmp_path).difference is None
    rng = fi.default_rng(3).stream("layers.0.weight")
    expected = getattr(fi, init)((300, 400), dtype="complex64", rng=rng)
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        assert (file.get_tensor("layers.0.weight") == expected).all()
    (stated,) = checkpoint.statistics(tmp_path)
    assert stated.std == pytest.approx(float(expected.view(np.float32).std()), rel=1e-3)
    assert not checkpoint.wrong([stated])
    wrong = text.replace(init, "orthogonal")
    with pytest.raises(recipe.RecipeError, match="x has dtype 'complex64'; allowed: float32"):
        recipe.parse(wrong).plan()


def test_every_dtype_is_read_by_safetensors(every_dtype):
    adapter("torch")  # NumPy lacks some of the dtypes
    with safe_open(every_dtype / "model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118
            assert bool((file.get_tensor(name).to(complex) == 1).all()), name


def test_a_dtype_that_we_do_not_know_does_not_make_a_file_no_safetensors_file(tmp_path):
    head = json.dumps({"w": {"dtype": "F8_E5M2FNUZ", "shape": [4], "data_offsets": [0, 4]}})
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head.encode() + bytes(4))
    with pytest.raises(recipe.RecipeError) as error:
        checkpoint.read(path)
    assert str(error.value).startswith(
        f"{path}: 'w' has the dtype 'F8_E5M2FNUZ', which fastinit does not know; allowed: F64"
    )
