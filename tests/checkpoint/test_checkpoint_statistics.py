"""Statistics of checkpoints: against SciPy's, and what they must and must not call wrong."""

import json
import math
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import stats

from fastinit import checkpoint, recipe
from fastinit.checkpoint import _statistics

RECIPE = """
name = "many"
[repeat]
layer = 12
[tensors]
"h.{layer}.weight" = [300, 400]
"h.{layer}.half" = {shape = [100, 30], dtype = "bfloat16"}
"h.{layer}.bias" = [50]
"square" = [64, 64]
"embed" = [10, 400]
"flag" = {shape = [], dtype = "bool"}
[[rule]]
pattern = ["*bias", "flag"]
init = "zeros"
[[rule]]
pattern = "square"
init = "orthogonal"
[[rule]]
pattern = "embed"
init = "embedding"
padding = 3
[[rule]]
pattern = "*.half"
init = "uniform"
low = -0.3
[[rule]]
pattern = "*"
init = "truncated_normal"
std = 0.5
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("many")
    checkpoint.write(recipe.parse(RECIPE), path, seed=2, max_shard_size=10**6)
    return path


def test_moments_are_scipy_s(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {
        "a": rng.gamma(2.0, size=(700, 900)),
        "b": (1e4 + rng.normal(size=400_000)).astype(np.float32),
        "c": rng.integers(-9, 9, 1000),
        "d": rng.normal(size=5000).astype(ml_dtypes.bfloat16),
        "e": np.array([], np.float32),
        "f": np.array([3.0]),
    }
    save_file(arrays, tmp_path / "x.safetensors")
    found = {each.name: each for each in checkpoint.statistics(tmp_path / "x.safetensors")}
    for name in "abcd":
        x = arrays[name].astype(np.float64).ravel()
        each = found[name]
        assert each.mean == pytest.approx(x.mean(), rel=1e-12, abs=1e-12)
        assert each.std == pytest.approx(x.std(), rel=1e-9)
        assert (each.min, each.max) == (x.min(), x.max())
        assert each.kurtosis == pytest.approx(stats.kurtosis(x), rel=1e-6, abs=1e-9)
        assert each.zeros == (x == 0).mean()
        assert (each.p, each.same_as) == (None, None)
    assert (found["e"].mean, found["e"].kurtosis, found["e"].zeros) == (None, None, 0)
    assert (found["f"].mean, found["f"].std, found["f"].kurtosis) == (3.0, 0.0, None)


def test_what_is_not_finite_is_counted_and_left_out(tmp_path):
    x = np.arange(10, dtype=np.float32)
    x[[2, 3, 4]] = np.nan, np.inf, -np.inf
    save_file({"x": x, "y": np.full(4, np.nan)}, tmp_path / "x.safetensors")
    first, second = checkpoint.statistics(tmp_path / "x.safetensors")
    each = {s.name: s for s in (first, second)}["x"]
    assert (each.nans, each.infs, each.zeros) == (0.1, 0.2, 0.1)
    assert each.mean == np.mean([0, 1, 5, 6, 7, 8, 9])
    assert {s.name: s for s in (first, second)}["y"].mean is None


def test_what_is_there_twice_is_named(tmp_path):
    rng = np.random.default_rng(3)
    a = rng.normal(size=(40, 50)).astype(np.float32)
    b = a.copy()
    b[[0, 1]] = b[[1, 0]]  # the same moments, but other bits
    arrays = {"a": a, "b": b, "c": a.copy(), "d": np.ones(9), "e": np.ones(9), "f": b.copy()}
    save_file(arrays, tmp_path / "x.safetensors")
    same = {s.name: s.same_as for s in checkpoint.statistics(tmp_path / "x.safetensors")}
    assert same == {"a": None, "b": None, "c": "a", "d": None, "e": None, "f": "b"}


def test_threads_do_not_matter(directory):
    assert checkpoint.statistics(directory, threads=1) == checkpoint.statistics(
        directory, threads=3
    )


def test_what_the_recipe_drew_is_not_called_wrong(directory):
    found = checkpoint.statistics(directory)
    assert len(found) == 39
    assert all(each.p is not None for each in found)
    assert checkpoint.wrong(found) == []


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("std = 0.5", "std = 0.52", "h.*.weight"),
        ("low = -0.3", "low = -0.6", "h.*.half"),
        ('init = "truncated_normal"', 'init = "normal"', "h.*.weight"),
        ('init = "orthogonal"', 'init = "ones"', "square"),
        ('init = "zeros"', 'init = "ones"', "h.*.bias"),
    ],
)
def test_other_distributions_are_called_wrong(directory, tmp_path, old, new, name):
    rules = tmp_path / "rules.toml"
    rules.write_text(RECIPE.replace(old, new))
    wrong = checkpoint.wrong(checkpoint.statistics(directory, rules))
    assert {recipe.template(each.name).replace("{i}", "*") for each in wrong} >= {name}


def test_p_values_are_scipy_s():
    rng = np.random.default_rng(4)
    for n, m, shift in ((50, 80, 0.0), (1000, 1000, 0.0), (2000, 3000, 0.05), (400, 400, 0.3)):
        a, b = rng.normal(size=n), rng.normal(shift, size=m)
        p = _statistics._kolmogorov_smirnov(a, b)
        assert p == pytest.approx(stats.ks_2samp(a, b, method="exact").pvalue, rel=0.2, abs=1e-6)
    same = np.repeat(1.0, 100)
    assert _statistics._kolmogorov_smirnov(same, same) == 1.0
    assert _statistics._kolmogorov_smirnov(same, same + 1) < 1e-30


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fastinit", "check", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command(directory, tmp_path):
    done = run(directory)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("equal        39 tensors, ")
    done = run(directory, "--statistics", "--json", "-o", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [each["name"] for each in found] == [s.name for s in checkpoint.statistics(directory)]
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in pictures] == ["histograms.png", "std.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    rules = tmp_path / "rules.toml"
    rules.write_text(RECIPE.replace("0.5", "0.6"))
    done = run(directory, "--statistics", "--recipe", rules)
    assert done.returncode == 3
    assert done.stdout.splitlines()[0].split()[:4] == ["tensor", "shape", "dtype", "mean"]
    assert done.stderr.startswith("fastinit: not as the recipe draws them: ")
    assert "--statistics too" in run(directory, "-o", tmp_path).stderr
    found = json.loads(run(directory, "--json").stdout)
    assert (found["equal"], found["difference"], found["tensors"]) == (True, None, 39)


def test_a_difference_is_status_3(directory, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(next(directory.glob("*.safetensors")).read_bytes())
    with file.open("r+b") as opened:
        opened.seek(-1, 2)
        last = opened.read(1)[0]
        opened.seek(-1, 2)
        opened.write(bytes([last ^ 1]))
    done = run(file)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("fastinit: ")
    done = run(file, "--json")
    assert done.returncode == 3
    found = json.loads(done.stdout)
    assert not found["equal"]
    assert found["difference"] in done.stderr


def test_show_prints_and_saves(tmp_path):
    command = [sys.executable, "-m", "fastinit", "show", "gpt2", "transformer.wte.weight[:2, -1]"]
    done = subprocess.run(
        [*command, "--seed", "3", "-o", str(tmp_path / "x.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values = checkpoint.values(
        checkpoint.load("gpt2"), "transformer.wte.weight", (slice(2), -1), seed=3
    )
    assert np.load(tmp_path / "x.npy").tobytes() == values.tobytes()
    assert done.stdout.splitlines()[:2] == [
        "transformer.wte.weight[:2, -1]  2  float32",
        str(values),
    ]


@pytest.mark.parametrize("size", [1e-200, 1e-100, 1e100, 1e200, 1.7e308])
def test_numbers_whose_powers_are_no_numbers(tmp_path, size):
    """A moment that float64 cannot hold is not known; nothing is infinite, and nothing raises."""
    n = 2**20  # several blocks, of different means
    x = np.where(np.arange(n) < n // 2, size, -size) * np.linspace(0.5, 1, n)
    header = {"w": {"dtype": "F64", "shape": [n], "data_offsets": [0, 8 * n]}}
    head = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + x.tobytes())
    (of_it,) = checkpoint.statistics(path)
    assert (of_it.min, of_it.max) == (x.min(), x.max())
    if size in (1e-100, 1e100):
        np.testing.assert_allclose(of_it.std, x.std(), rtol=1e-9)
    else:
        assert of_it.std is None
    assert of_it.kurtosis is None or math.isfinite(of_it.kurtosis)
    json.dumps(of_it.as_json(), allow_nan=False)
