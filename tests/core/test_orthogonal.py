"""Orthogonal matrices: the reference's bits by every way, any box of them, and Haar's law."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import cases
import golden
import numpy as np
import objects
import pytest
import reference
from cases import FLOATS, KEY, Array, Case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import qr
from scipy.stats import beta, chi2, ks_1samp, ks_2samp, ortho_group

import fastinit as fi
from fastinit import _kernels
from fastinit._settings import orthogonal_backend

GOLDEN = json.loads(golden.FILE.read_text())["orthogonal"]


def matrix(
    way: str,
    dtype: str,
    rows: int,
    columns: int,
    gain: float = 1.0,
    start: int = 0,
    threads: int = 1,
) -> Array:
    """The bits of a whole matrix by an instruction set's kernels in C, or by those in Numba."""
    x = Case("normal", dtype).poisoned((rows, columns))
    with cases.using(way):
        orthogonal_backend("numba" if way == "numba" else "c")(
            getattr(_kernels, dtype.upper()),
            x,
            start,
            KEY,
            (rows, columns, 0, 0, (1, 0), (0, 1)),
            gain,
            threads,
        )
    return x


@pytest.mark.parametrize("way", cases.ISAS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (7, 5), (5, 7), (50, 49), (100, 3), (3, 100)])
def test_the_references_bits(way: str, dtype: str, shape: tuple[int, int]) -> None:
    expected = reference.orthogonal(dtype, KEY, 2**40, *shape, -1.5)
    assert matrix(way, dtype, *shape, -1.5, 2**40).tolist() == expected


@pytest.mark.parametrize("way", cases.ISAS)
@pytest.mark.parametrize("entry", GOLDEN, ids=lambda e: f"{e['dtype']}-{e['shape']}")
def test_golden(way: str, entry: dict[str, Any]) -> None:
    x = matrix(way, entry["dtype"], *entry["shape"], entry["gain"], entry["start"], threads=2)
    assert golden.digest(x) == entry["sha256"]


@pytest.mark.parametrize("way", cases.ISAS[1:])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(331, 331), (1000, 130), (97, 700)])
def test_instruction_sets_and_threads_agree(way: str, dtype: str, shape: tuple[int, int]) -> None:
    outputs = {
        golden.digest(matrix(isa, dtype, *shape, threads=threads))
        for isa in (cases.ISAS[0], way)
        for threads in (1, 2, 3, 7)
    }
    assert len(outputs) == 1


# Parts. The whole of a tensor is made once.

TENSORS = [((130, 110), -1), ((130, 110), 0), ((7, 5, 60), -1), ((6, 7, 60), 0), ((5, 40, 4, 3), 1)]


@lru_cache
def whole_tensor(shape: tuple[int, ...], axis: int, dtype: str) -> Array:
    x: Array = fi.orthogonal(shape, 0.7, axis, rng=1, dtype=dtype)
    return x


@pytest.mark.parametrize("way", cases.ISAS)
@settings(max_examples=40)
@given(
    tensor=st.sampled_from(TENSORS),
    dtype=st.sampled_from(FLOATS),
    threads=st.integers(1, 3),
    order=st.sampled_from("CF"),
    data=st.data(),
)
def test_any_box(
    way: str,
    tensor: tuple[tuple[int, ...], int],
    dtype: str,
    threads: int,
    order: str,
    data: st.DataObject,
) -> None:
    shape, axis = tensor
    box = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    part: Array = np.empty([b - a for a, b in box], fi._fill.as_dtype(dtype), order=order)  # type: ignore[call-overload]
    rng = fi.default_rng(1)
    with cases.using(way):
        fi.orthogonal_(
            part,
            0.7,
            axis,
            rng=rng,
            threads=threads,
            backend="numba" if way == "numba" else "c",
            global_shape=shape,
            offset=[a for a, _ in box],
        )
    expected = whole_tensor(shape, axis, dtype)[tuple(slice(*pair) for pair in box)]
    assert part.tobytes() == expected.tobytes()
    assert rng.position == math.prod(shape)


def test_layouts_of_the_same_matrix() -> None:
    """A row's index counts through all axes but the columns', in C order."""
    x = fi.orthogonal((3, 4, 5, 70), 1.0, 1, rng=1)
    flat = np.moveaxis(x, 1, -1).reshape(-1, 4)
    assert (flat == fi.orthogonal(flat.shape, rng=1)).all()
    assert (fi.orthogonal((90, 60), rng=1) == fi.orthogonal((60, 90), rng=1).T).all()


def test_strides() -> None:
    expected = fi.orthogonal((100, 60), rng=1)
    memory = np.full((300, 240), 7, np.float32)
    view = memory[::-3, ::4]
    fi.orthogonal_(view, rng=1)
    assert (view == expected).all()
    view[...] = 7
    assert (memory == 7).all()
    turned = np.empty((60, 100), np.float32).T
    assert (fi.orthogonal_(turned, rng=1) == expected).all()


def test_leading_columns_do_not_need_the_later_ones() -> None:
    """A matrix with fewer columns is not the first columns of another: the signs' product is."""
    few, many = fi.orthogonal((90, 30), rng=1), fi.orthogonal((90, 48), rng=1)
    assert (few != many[:, :30]).any()


# Numbers.


def mean_error(make: Callable[[int], Array]) -> float:
    """The greatest element of Q'Q - 1, on the mean over five matrices."""

    def error(q: Array) -> float:
        exact = np.longdouble if q.dtype == np.float64 else np.float64
        q = (q if q.shape[0] >= q.shape[1] else q.T).astype(exact)
        return float(np.abs(q.T @ q - np.eye(q.shape[1])).max())

    return float(np.mean([error(make(seed)) for seed in range(5)]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(300, 300), (2000, 200), (100, 3000), (30, 20)])
def test_as_orthogonal_as_lapacks(dtype: str, shape: tuple[int, int]) -> None:
    def lapacks(seed: int) -> Array:
        normals = fi.normal((max(shape), min(shape)), rng=seed, dtype=dtype)
        q: Array = qr(normals, mode="economic")[0]
        assert q.dtype == dtype
        return q

    ours = mean_error(lambda seed: fi.orthogonal(shape, rng=seed, dtype=dtype))
    assert ours <= (1 if dtype == "float32" else 1.25) * mean_error(lapacks)


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_element_is_past_the_gain(dtype: str) -> None:
    known = fi._fill.FLOAT_FORMATS[dtype]
    for seed in range(50):
        x = fi.orthogonal((2, 1), known.max, rng=seed, dtype=dtype).astype(np.float64)
        assert (np.abs(x) <= known.max).all()
    one = fi.orthogonal((1, 1), -known.max, rng=1, dtype=dtype).astype(np.float64)
    assert abs(float(one[0, 0])) == known.max


def test_too_little_memory_is_said_before_the_first_element() -> None:
    x = np.full((1, 1), 7, np.float32)
    part = {"global_shape": (2**50, 2), "offset": (2**49, 1)}
    with pytest.raises(MemoryError, match=r"orthogonal matrix of shape \(1125899906842624, 2\)"):
        fi.orthogonal_(x, rng=1, **part)
    assert x == 7


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        check=True,
        timeout=100,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_what_the_header_says(threads: int) -> None:
    """Of the longer side: 4 * (240 + 48) bytes a thread."""
    rows, columns = 40_000, 700
    grown = run(f"""
import re
import numpy as np
import fastinit as fi

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

x = np.zeros(({rows}, {columns}), np.float32)
x.fill(1)
fi.orthogonal_(x[:1000], rng=1, threads={threads})
before = peak()
fi.orthogonal_(x, rng=1, threads={threads})
print(peak() - before)
""")
    said = threads * 4 * rows * (240 + 48) + 200 * columns + 16 * (rows + columns)
    assert said / 2 < int(grown) * 1024 < 1.1 * said


@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c(threads: int) -> None:
    """A panel of it alone takes minutes; afterwards all is as before."""
    run(f"""
import signal
import numpy as np
import fastinit as fi
signal.signal(signal.SIGINT, signal.default_int_handler)
expected = fi.orthogonal((300, 300), rng=1, threads={threads})
part = np.empty((1, 65536), np.float32)
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    fi.orthogonal_(part, rng=1, threads={threads}, global_shape=(65536, 65536), offset=(0, 0))
except KeyboardInterrupt:
    assert (fi.orthogonal((300, 300), rng=1, threads={threads}) == expected).all()
else:
    raise AssertionError("it ended")
""")


# Haar's law: see below for the law without the signs, which each of these must refuse.

N, COUNT = 6, 4000


@lru_cache
def sample(shape: tuple[int, int], *, signs: bool = True) -> Array:
    """COUNT matrices by fixed keys; without signs, D of Q = H_1 ... H_k D is left out."""
    rng = fi.default_rng(5).stream(repr(shape))
    found = np.stack([fi.orthogonal(shape, rng=rng, dtype="float64") for _ in range(COUNT)])
    return found if signs else np.stack([_without_signs(q) for q in found])


def _without_signs(q: Array) -> Array:
    """LAPACK's own Q of this one, whose R has the signs that its reflections chose."""
    return np.asarray(np.linalg.qr(q)[0])


@lru_cache
def scipys() -> Array:
    return np.asarray(ortho_group(N, seed=1).rvs(COUNT))


def phase_gaps(q: Array) -> Array:
    """The gaps between neighbouring eigenvalues' angles, and how far the first is from 1."""
    angles = np.sort(np.angle(np.linalg.eigvals(q)), axis=1)
    return np.concatenate([np.diff(angles, axis=1).ravel(), np.abs(angles).min(axis=1)])


def p_trace(q: Array) -> float:
    return float(ks_2samp(np.trace(q, axis1=1, axis2=2), np.trace(scipys(), axis1=1, axis2=2))[1])


def p_minors(q: Array) -> float:
    minors = [np.linalg.det(x[:, :3, :3]) for x in (q, scipys())]
    return float(ks_2samp(*minors)[1])


def p_determinant(q: Array) -> float:
    """Its sign is a fair coin."""
    up = int((np.linalg.det(q) > 0).sum())
    return float(chi2(1).sf((2 * up - COUNT) ** 2 / COUNT))


def p_entries(q: Array) -> float:
    """(1 + x) / 2 of an entry has the law Beta((n - 1) / 2, (n - 1) / 2): the worst of all."""
    law = beta((N - 1) / 2, (N - 1) / 2).cdf
    entries = ((1 + q) / 2).reshape(COUNT, -1).T
    return min(float(ks_1samp(entry, law).pvalue) for entry in entries) * len(entries)


def p_phases(q: Array) -> float:
    return float(ks_2samp(phase_gaps(q), phase_gaps(scipys()))[1])


LAWS: list[Callable[[Array], float]] = [p_trace, p_minors, p_determinant, p_entries, p_phases]


@pytest.mark.parametrize("law", LAWS)
def test_haar(law: Callable[[Array], float]) -> None:
    assert law(sample((N, N))) > 1e-3


@pytest.mark.parametrize("law", LAWS)
def test_haar_is_refused_without_the_signs(law: Callable[[Array], float]) -> None:
    assert law(sample((N, N), signs=False)) < 1e-9


def test_haar_beside_a_fixed_rotation() -> None:
    """The law is the same from the left, from the right, and of the inverse."""
    q, turn = sample((N, N)), np.linalg.qr(np.vander(np.arange(1.0, N + 1)))[0]
    for turned in (turn @ q, q @ turn, q.transpose(0, 2, 1)):
        for law in LAWS:
            assert law(turned) > 1e-4, law


@pytest.mark.parametrize("shape", [(9, 3), (3, 9), (60, 50)])
def test_entries_of_tall_and_wide_ones(shape: tuple[int, int]) -> None:
    """Any unit vector's entry in n dimensions, also across the border of two blocks."""
    n = max(shape)
    law = beta((n - 1) / 2, (n - 1) / 2).cdf
    q = sample(shape)
    for i, j in [(0, 0), (-1, 0), (0, -1), (-1, -1), (shape[0] // 2, shape[1] // 2)]:
        assert ks_1samp((1 + q[:, i, j]) / 2, law).pvalue > 1e-4


# Object code.


@pytest.mark.skipif(bool(objects.missing()), reason=objects.missing())
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
@pytest.mark.parametrize("real", ["float", "double"])
def test_the_sums_of_a_tile_stay_in_registers(isa: str, real: str) -> None:
    """Every innermost loop of fused multiply-adds is of full vectors, and leaves memory alone."""
    code = objects.compiled_code(isa)[f"reflect_{real}"]
    hot = [
        loop
        for loop in objects.loops(code)
        if sum("vfmadd" in i.name for i in loop) >= 12 and len(loop) < 80
    ]
    assert hot
    for loop in hot:
        fused = [i.operands for i in loop if "vfmadd" in i.name]
        assert all(objects.REGISTERS[isa] in operands for operands in fused)
        assert not [i for i in loop if i.name.startswith("vmov") and "(%rsp)" in i.operands]
        assert not [operands for operands in fused if "(%rsp)" in operands]
