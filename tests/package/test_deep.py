"""The programs of tests/deep, over short samples: do they pass sound generators, catch faulty
ones, and read what they say they read?

Seeds are fixed.  Of the p-values of a sound generator, some 900, one is below ALPHA once in a
thousand sets; those of a fault must be far below.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orders
import pytest
import reference
import samples
from adapters import adapter
from deep import second_level
from draws import VALUES, written
from faults import FAULTS, RIGHT, one_sequence, output, pcg
from measures import STATISTICS, cells_of, fit, measure
from p_values import p_of_anderson_darling, p_of_counts, p_of_poisson
from scipy import stats

import fastinit as fi

DEEP = Path(orders.__file__).parent
ALPHA, CAUGHT = 1e-6, 1e-9
SEED = 3


def sample(kind: str) -> Any:
    """A source of one chunk."""
    if kind == "hashes":
        return lambda _: samples.states(SEED, 2**20)
    if kind in ("streams", "matrices"):
        return samples.read("names", "normal-float32", SEED)
    return samples.read("natural", "bits-uint32" if kind == "bits" else kind, SEED)


@pytest.mark.parametrize("kind", STATISTICS)
def test_a_sound_sample_passes(kind: str) -> None:
    p = measure(kind, sample(kind))
    assert min(p.values()) > ALPHA, p


@pytest.mark.parametrize("kind", STATISTICS)
def test_every_statistic_can_fail(kind: str) -> None:
    source = sample(kind)
    healthy = source(0)
    least: dict[str, float] = {}
    for name, fault in FAULTS[kind].items():
        faulty = fault(healthy)
        p = measure(kind, lambda _, faulty=faulty: faulty)
        assert min(p.values()) < CAUGHT, f"{name} is not noticed"
        least = {k: min(v, least.get(k, 1.0)) for k, v in p.items()}
    blind = {k: v for k, v in least.items() if not v < CAUGHT}
    assert not blind


@pytest.mark.parametrize("kind", ["uniform-float32", "normal-float32", "normal-bfloat16"])
def test_p_values_of_many_seeds_are_uniform(kind: str) -> None:
    p = second_level(kind, kind, seeds=1000, n=2**14)
    assert min(p.values()) > ALPHA, p


# What the programs read.


def draws_at(indices: Any, seed: int = 1) -> list[int]:
    key = fi.default_rng(seed).key
    return [reference.draw(key, int(index)) for index in indices]


@pytest.mark.parametrize("power", [1, 5, 10, 32])
def test_transposed_order(power: int) -> None:
    """Down the columns of matrices of 4096 rows, one after the other."""
    chunk, width = 1, 2**power
    t = np.array([0, 1, 4095, 4096, 5000, 2**20 - 1]) + chunk * orders.CHUNK
    matrix, within = np.divmod(t, 4096 * width)
    column, row = np.divmod(within, 4096)
    found = orders.order(f"transposed:{power}")(chunk, "bits", "uint32")[t % orders.CHUNK]
    assert found.tolist() == draws_at(matrix * 4096 * width + row * width + column)


def test_blocks_order() -> None:
    found = orders.order("blocks")(0, "bits", "uint32")[[0, 1, 255, 256, 257]]
    assert found.tolist() == draws_at([0, 1024, 255 * 1024, 1, 1025])


@pytest.mark.parametrize("order", ["names", "layers", "model", "seeds", "children"])
def test_interleaved_orders(order: str) -> None:
    """Turns of one value each; chunks go on where the last one stopped."""
    rng = fi.default_rng(1)
    streams = {
        "names": lambda: [rng.stream(f"w{i}") for i in range(256)],
        "layers": lambda: [rng.stream(name) for name in orders.LAYERS],
        "model": lambda: [rng.stream(f"h.{i}.{k}") for i in range(64) for k in orders.KINDS],
        "seeds": lambda: [fi.default_rng(1 + i) for i in range(256)],
        "children": lambda: rng.spawn(256),
    }[order]()
    chunks, each = orders.order(order), orders.CHUNK // len(streams)
    x = np.concatenate([chunks(i, "normal", "float32") for i in range(2)])
    for i in (0, 1, len(streams) - 1):
        assert np.array_equal(x[i :: len(streams)], streams[i].standard_normal(2 * each, "float32"))


def test_dtypes_order() -> None:
    key = fi.default_rng(1).key
    first, second = (orders.order("dtypes")(i, "bits", "uint32") for i in range(2))
    words = [reference.word(key, 1024 + i) for i in range(2)]
    low_and_high = [half for word in words for half in (word & reference.MASK32, word >> 32)]
    assert first[:2].tolist() == draws_at([0, 1])
    assert first[1024:1028].tolist() == low_and_high
    assert first[3072:3074].tolist() == draws_at([2048, 2049])
    assert second[:2].tolist() == draws_at([342 * 2048, 342 * 2048 + 1])


def test_states_of_blocks_are_those_of_the_stream() -> None:
    """By what PCG32 makes of them, and its next draw of the increments."""
    n, key = 64, fi.default_rng(SEED).key
    state, inc = samples.states(SEED, n), samples.increments(SEED, n) | np.uint64(1)
    following = state * np.uint64(RIGHT) + inc
    expected = orders.drawn("bits", "uint32", key, (n, 2), 0, (1024, 1))
    assert np.array_equal(np.stack([output(state), output(following)], axis=1), expected)


def test_faulty_generators_are_right_but_for_the_fault() -> None:
    healthy = orders.drawn("bits", "uint32", (0, 1), (2**13,))
    assert np.array_equal(pcg(RIGHT)(healthy), healthy)
    state, sequence = 1, []
    for _ in range(4096 * 2):
        sequence.append(state)
        state = (state * RIGHT + 1) % 2**64
    read = output(np.array(sequence, np.uint64)).reshape(4096, 2).T.reshape(-1)
    assert np.array_equal(one_sequence(1)(read), read)


# What the statistics count.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("distribution", ["uniform", "normal", "truncated_normal"])
def test_values_are_counted_in_their_cells(distribution: str, dtype: str) -> None:
    edges = cells_of(distribution, dtype).edges[:-1].astype(dtype)
    x = np.concatenate([edges, np.nextafter(edges, edges.dtype.type(-9)), [-9, -3, 0, 3, 9]])
    expected = np.bincount(np.searchsorted(edges, x, side="right"), minlength=2**16)
    assert np.array_equal(fit(distribution, dtype).summary(x), expected)


def test_anderson_darling() -> None:
    """Quantiles of G. and J. Marsaglia, "Evaluating the Anderson-Darling Distribution", J. Stat.
    Softw. 9 (2004)."""
    for a2, p in [(1.9329578327, 0.10), (2.4923671600, 0.05), (3.8781250216, 0.01)]:
        assert p_of_anderson_darling(a2) == pytest.approx(p, rel=1e-8)
    assert 0 < p_of_anderson_darling(13.0) < 2e-6
    assert p_of_anderson_darling(0.05) == pytest.approx(1)


def test_poisson() -> None:
    """Uniform on average: half of a count's own probability is on its side."""
    counts = np.arange(400)
    weights = stats.poisson.pmf(counts, 100)
    assert weights @ p_of_poisson(counts, 100) == pytest.approx(0.5, abs=0.01)


# The programs.


def program(name: str, *arguments: object, **options: Any) -> Any:
    command = [sys.executable, str(DEEP / name), *map(str, arguments)]
    path = os.pathsep.join([str(DEEP.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, env=environment, **options)


def test_draws_are_written() -> None:
    done = program("draws.py", "transposed:8", "--bytes", 4 * 5000, check=True)
    expected = orders.order("transposed:8")(0, "bits", "uint32")[:5000]
    assert np.array_equal(np.frombuffer(done.stdout, "<u4"), expected)


def test_draws_end_with_their_reader() -> None:
    source = [sys.executable, str(DEEP / "draws.py"), "natural"]
    with subprocess.Popen(source, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as draws:
        assert draws.stdout
        assert draws.stderr
        assert len(draws.stdout.read(100)) == 100
        draws.stdout.close()
        assert draws.stderr.read() == b""
    assert draws.returncode == 0


def test_draws_refuse_other_orders() -> None:
    done = program("draws.py", "diagonal", text=True)
    assert done.returncode == 2
    assert "order='diagonal' is none of natural, transposed:K" in done.stderr


@pytest.mark.parametrize("values", VALUES)
def test_values_are_mapped_back_to_even_bytes(values: str) -> None:
    """Every byte of a value, which for normals is their distribution function's."""
    x = samples.read("natural", values, SEED)(0)
    octets = written(x, values).reshape(x.size, -1)
    assert octets.shape[1] == VALUES[values] // 8
    for column in octets.T:
        counts = np.bincount(column, minlength=256)
        assert p_of_counts(counts, np.full(256, 1 / 256)) > ALPHA


def test_the_long_run_over_short_samples(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    program("deep.py", "--quick", "--only", "truncated", "--output", path, check=True)
    results = json.loads(path.read_text("utf-8"))
    assert set(results) >= {"truncated_normal-float32", "second level, truncated_normal-float32"}
    for row in results.values():
        assert row["stream"] == reference.STREAM
        assert all(p > ALPHA for p in row["p"].values())


def test_dieharder(tmp_path: Path) -> None:
    if shutil.which("dieharder") is None:
        pytest.skip("needs dieharder (Debian: apt install dieharder)")
    path = tmp_path / "results.json"
    program("battery.py", "--quick", "blocks", "--output", path, check=True)
    rows = json.loads(path.read_text("utf-8"))["blocks/bits-uint32"]["p_values"]
    assert [row["test"] for row in rows] == [
        "diehard_birthdays",
        *2 * ["diehard_runs"],
        "sts_monobit",
    ]
    assert all(ALPHA < row["p"] < 1 - ALPHA for row in rows)


def test_the_tables_of_verdicts_are_those_of_the_records():
    """By the thresholds as they are: at least 95 % of the networks that were held out."""
    adapter("torch")
    verdicts = importlib.import_module("verdicts")
    found = verdicts.outcomes()
    assert len(found) > 600
    assert verdicts.BEGIN + verdicts.table(found) + verdicts.END in verdicts.PAGE.read_text("utf-8")
    held_out = [o for o in found if verdicts.GROUPS["held out"](o)]
    clear = [o for o in held_out if o.clear]
    assert len(clear) > 0.9 * len(held_out)
    assert sum(o.right for o in clear) >= 0.95 * len(clear)
