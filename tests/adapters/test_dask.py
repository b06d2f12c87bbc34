"""fastinit.dask: any chunks give the array of the NumPy face, from tasks that hold only keys."""

import doctest
import importlib
import inspect
import pickle

import numpy as np
import pytest
from adapters import adapter
from catalogue import NAMES, NOT_RANDOM, spec
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi

dask = adapter("dask")
adapter("dask.array")
fd = importlib.import_module("fastinit.dask")
RANDOM = sorted({*NAMES} - NOT_RANDOM)


def both(name, shape, chunks, rng=7, **options):
    """Return the NumPy face's array and ours, uncomputed."""
    random = {} if name in NOT_RANDOM else {"rng": rng}
    arguments = {**spec(name).arguments, **random, **options}
    return getattr(fi, name)(shape, **arguments), getattr(fd, name)(
        shape, chunks=chunks, **arguments
    )


def test_every_initializer_is_there():
    names = {n for n in fi.__all__ if f"{n}_" in fi.__all__}
    assert names == set(fd.__all__)
    for name in names:
        theirs = {n for n in names if getattr(fi, n) is getattr(fi, name)}
        assert {n for n in names if getattr(fd, n) is getattr(fd, name)} == theirs


@st.composite
def chunked(draw, name):
    ndim = draw(st.integers(spec(name).least, min(spec(name).most, 4)))
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=ndim, max_size=ndim)))
    if name == "delta_orthogonal":
        shape = (*shape[:-2], *sorted(shape[-2:]))
    cuts = [sorted(draw(st.sets(st.integers(1, n), max_size=3)) | {n}) for n in shape]
    return shape, tuple(tuple(np.diff([0, *cut]).tolist()) for cut in cuts)


@pytest.mark.parametrize("name", NAMES)
def test_any_chunks_give_the_same_array(name):
    @settings(max_examples=20)
    @given(chunked(name), st.sampled_from(["float32", "float64", "bfloat16"]))
    def check(given_chunks, dtype):
        shape, chunks = given_chunks
        expected, w = both(name, shape, chunks, dtype=dtype)
        assert w.chunks == chunks
        assert w.dtype == expected.dtype
        made = w.compute(scheduler="sync")
        assert made.dtype == expected.dtype
        assert made.tobytes() == expected.tobytes()

    check()


def test_threads_and_processes_too():
    expected, w = both("he_normal", (300, 200), (37, 41))
    assert w.compute(scheduler="threads").tobytes() == expected.tobytes()
    for key in list(w.__dask_graph__())[:3]:  # what another process gets
        task = pickle.loads(pickle.dumps(w.__dask_graph__()[key]))
        assert len(pickle.dumps(task)) < 1500


INDICES = [
    np.s_[10:20, 5],
    np.s_[40:60, ::-7],
    np.s_[99],
    np.s_[::3, 3:4],
    np.s_[5:5],
    np.s_[99:2:-9, 70],
]


@pytest.mark.parametrize("index", INDICES)
def test_slices(index, monkeypatch):
    """Those of the lazy array, and those that versions of Dask hand on to us."""
    expected, w = both("normal", (100, 80), (50, 80))
    np.testing.assert_array_equal(w[index].compute(scheduler="sync"), expected[index])
    virtual = []
    monkeypatch.setattr(fd.da, "from_array", lambda x, *_, **__: virtual.append(x))
    both("normal", (100, 80), 50)
    part = virtual[0][index if isinstance(index, tuple) else (index,)]
    np.testing.assert_array_equal(part, expected[index])


def test_an_array_larger_than_memory_costs_its_graph():
    w = fd.normal((2**20, 2**20), std=0.02, rng=42, chunks=(2**12, 2**10))  # 4 TiB in 2^18 chunks
    assert w.nbytes == 2**42
    assert len(pickle.dumps(w)) < 10**6
    row, columns = 2**19 + 12345, slice(2**19, 2**19 + 100)
    expected = fi.values_at(42, row * 2**20 + np.arange(columns.start, columns.stop), std=0.02)
    chunk = w.blocks[row // 2**12, columns.start // 2**10]
    np.testing.assert_array_equal(chunk[row % 2**12, :100].compute(scheduler="sync"), expected)


@pytest.mark.parametrize("name", RANDOM)
def test_a_generator_moves_on_by_the_whole_at_once(name):
    rng, other = fi.default_rng(7), fi.default_rng(7)
    arguments = spec(name).arguments
    for _ in range(2):
        w = getattr(fd, name)((6, 8), chunks=3, **arguments, rng=rng)
        expected = getattr(fi, name)((6, 8), **arguments, rng=other)
        assert rng.position == other.position
        assert w.compute(scheduler="threads").tobytes() == expected.tobytes()
    assert rng.position == other.position


def test_names_are_those_of_the_values():
    assert fd.normal((4, 4), rng=1).name == fd.normal((4, 4), rng=1).name
    others = [
        fd.normal((4, 4), rng=1),
        fd.normal((4, 4), rng=2),
        fd.normal((4, 4), rng=1, dtype="float64"),
        fd.normal((4, 4), 0.0, 0.5, rng=1),
        fd.normal((4, 4), rng=1, chunks=2),
        fd.uniform((4, 4), rng=1),
        fd.normal((4, 4), rng=fi.default_rng(1).advance(1)),
        fd.normal((4, 4)),
        fd.normal((4, 4)),
    ]
    assert len({w.name for w in others}) == len(others)


@pytest.mark.parametrize("shape", [(), (0, 3), 5])
def test_small_shapes(shape):
    w = fd.normal(shape, rng=42)
    assert w.compute(scheduler="sync").tobytes() == fi.normal(shape, rng=42).tobytes()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: fd.normal((3, 3), std=-1.0), ValueError, "std=-1.0 must be 0 or greater"),
        (lambda: fd.normal((3, 3), dtype=int), TypeError, "allowed: float32"),
        (lambda: fd.he_normal(3), ValueError, "in_axis=-2 is not an axis"),
        (lambda: fd.orthogonal(3), ValueError, "two axes or more"),
        (lambda: fd.normal((-3,)), ValueError, "must not be negative"),
        (lambda: fd.zeros((3,), rng=1), TypeError, "rng"),
        (lambda: fd.normal((3,), rng=-1), ValueError, "rng=-1 is not a seed"),
        (lambda: fd.normal((3,), sttd=1), TypeError, ": sttd is not an .*allowed: mean, std"),
        (lambda: fd.normal((3,), offset=(1,)), TypeError, ": offset is not an argument"),
        (lambda: fd.normal((3,), 0, mean=1), TypeError, r"^normal\(\): mean is given twice"),
        (lambda: fd.normal((3,), 0, 1, 2), TypeError, r"^normal\(\): too many positional"),
        (lambda: fd.constant((3,)), TypeError, "constant needs the argument value"),
    ],
)
def test_errors_come_before_the_graph(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("name", sorted(fd.__all__))
def test_docstring_examples(name):
    thing = getattr(fd, name)
    tests = doctest.DocTestFinder().find(thing, name, module=False, globs={"fd": fd})
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests:
        runner.run(test)
    results = runner.summarize(verbose=False)
    assert results.attempted > 0
    assert results.failed == 0
    assert "chunks" in inspect.signature(thing).parameters
