"""Numba: its kernels by every public name, inside a user's jitted code, and on its threads.

That the kernels give the reference's bits is tested in test_kernels.py, as for C.
"""

import doctest
import importlib
import inspect
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import FLOATS
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit._fill import as_dtype

numba = pytest.importorskip("numba")
fin = importlib.import_module("fastinit.numba")

HUNG = 600  # seconds after which a process counts as hung; compiling takes some tens


def has_layer(module: str) -> bool:
    try:
        importlib.import_module(f"numba.np.ufunc.{module}")
    except ImportError:
        return False
    return True


POOLS = {"omp": "omppool", "workqueue": "workqueue", "tbb": "tbbpool"}
LAYERS = [layer for layer, module in POOLS.items() if has_layer(module)]
FORMATS = {
    "float16": fin.Float16,
    "bfloat16": fin.BFloat16,
    "float8_e4m3fn": fin.Float8E4M3FN,
    "float8_e5m2": fin.Float8E5M2,
}


def run(program: str, **environment: str) -> str:
    """Runs a program in a new interpreter, beside this file; fails if it does."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **environment},
        timeout=HUNG,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The backend.

INITIALIZERS = [
    fi.normal_,
    fi.uniform_,
    fi.truncated_normal_,
    fi.xavier_uniform_,
    fi.he_normal_,
    fi.lecun_truncated_normal_,
    fi.zeros_,
    fi.ones_,
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("fill", INITIALIZERS, ids=lambda fill: fill.__name__)
def test_backends_agree(fill, dtype):
    options = {} if fill in (fi.zeros_, fi.ones_) else {"rng": 7}
    for part in ({}, {"global_shape": (100, 800), "offset": (3, 5)}):
        views = [np.zeros((60, 3, 720), as_dtype(dtype))[::-1, 1, ::2] for _ in range(2)]
        for x, backend in zip(views, ("c", "numba"), strict=True):
            fill(x, backend=backend, **options, **part)
        assert views[0].tobytes() == views[1].tobytes()
        assert views[0].any() == (fill is not fi.zeros_)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64"])
def test_constants_of_any_dtype(dtype):
    assert (fi.ones_(np.zeros(100_001, dtype), backend="numba") == 1).all()


def test_a_generator_moves_on_as_with_c():
    rngs = fi.default_rng(1), fi.default_rng(1)
    for rng, backend in zip(rngs, ("c", "numba"), strict=True):
        fi.normal(1777, rng=rng, backend=backend)
        fi.normal((2, 3), rng=rng, backend=backend, global_shape=(4, 5), offset=(1, 1))
        fi.zeros(0, backend=backend)
    assert rngs[0].position == rngs[1].position == 1777 + 20


def test_choosing():
    x = np.empty(3, np.float32)
    with pytest.raises(ValueError, match="backend='cuda' is unknown; allowed: c, numba"):
        fi.normal_(x, backend="cuda")
    with pytest.raises(ValueError, match="name='cuda' is unknown; allowed: c, numba"):
        fi.set_backend("cuda")
    try:
        fi.set_backend("numba")
        assert fi.info()["backend"] == "numba"
        assert fi.normal_(x, rng=1).tobytes() == fi.normal(3, rng=1, backend="c").tobytes()
    finally:
        fi.set_backend("c")


def test_environment():
    show = "import fastinit as fi, sys; print(fi.info()['backend'], 'numba' in sys.modules)"
    assert run(show, FASTINIT_BACKEND="numba").split() == ["numba", "True"]
    assert run(show).split() == ["c", "False"]
    with pytest.raises(AssertionError, match="FASTINIT_BACKEND='cuda' is unknown; allowed: c, num"):
        run(show, FASTINIT_BACKEND="cuda")


def test_without_numba():
    run("""
import sys
sys.modules["numba"] = None
import numpy as np, fastinit as fi
x = np.zeros(3)
try:
    fi.normal_(x, backend="numba")
except ImportError as error:
    assert str(error).startswith("backend='numba' needs the package numba"), error
assert not x.any()
""")


def test_without_a_writable_directory():
    """Numba then refuses to cache. (Root may write everywhere, so that is made believe.)"""
    run("""
import tempfile
def refused(*args, **options):
    raise PermissionError
tempfile.TemporaryFile = refused
import fastinit as fi
assert (fi.uniform(3, rng=1, backend="numba") == fi.uniform(3, rng=1)).all()
""")


def test_the_cache_on_disk_is_used(tmp_path):
    program = """
import fastinit as fi
from fastinit.numba import _kernels as _numba
fi.uniform(3, backend="numba")
print(sum(_numba.write_slices.stats.cache_hits.values()))
"""
    assert [run(program, NUMBA_CACHE_DIR=str(tmp_path)).strip() for _ in range(2)] == ["0", "1"]


def test_a_cpu_without_fma():
    """LLVM then calls the C library's, which is exact."""
    run(
        """
import numpy as np, fastinit as fi
for dtype in ("float32", "float64"):
    x = fi.normal(5000, 0.3, 0.7, rng=1, dtype=dtype)
    assert x.tobytes() == fi.normal(5000, 0.3, 0.7, rng=1, dtype=dtype, backend="numba").tobytes()
""",
        NUMBA_CPU_NAME="generic",
        NUMBA_CPU_FEATURES="",
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 assembly")
def test_hot_kernels_are_vectorised(tmp_path):
    """In wide registers: rotations or shifts, fused multiply-adds, and square roots."""
    text = run(
        """
import fastinit as fi
from fastinit.numba import _kernels as _numba
fills = [
    lambda dtype: fi.uniform(3, dtype=dtype, backend="numba"),
    lambda dtype: fi.normal(3, dtype=dtype, backend="numba"),
    lambda dtype: fi.truncated_normal(3, dtype=dtype, backend="numba"),
    lambda dtype: fi.truncated_normal(3, low=-4, high=4, dtype=dtype, backend="numba"),
]
kernels = [(0, "float32"), *((1, dtype) for dtype in ("float32", "float64", "bfloat16"))]
kernels += [(2, "float32"), (3, "float32")]
for kernel, dtype in kernels:
    fills[kernel](dtype)
for (kernel, dtype), asm in zip(kernels, _numba.write_slices.inspect_asm().values(), strict=True):
    print("=====", kernel, dtype)
    print(asm)
""",
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    for kernel in text.split("=====")[1:]:
        name = kernel.splitlines()[0]
        last = "d" if "float64" in name else "s"
        assert re.search(rf"vfmadd\w+p{last}\b.*%[yz]mm", kernel), name
        if name.split()[0] in "13":
            assert re.search(rf"vsqrtp{last}\b.*%[yz]mm", kernel), name


# Functions for jitted code.


@pytest.mark.parametrize("name", ["__doc__", *fin.__all__])
def test_docstrings(name):
    thing = getattr(fin, name)
    text = thing if isinstance(thing, str) else inspect.getdoc(thing)
    test = doctest.DocTestParser().get_doctest(text, {"fi": fi, "np": np}, name, None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 0
    assert test.examples or inspect.isclass(thing)


def drawn(distribution, dtype):
    """A distribution for jitted code, and what fills by it at the door."""
    if distribution == "normal":
        return fin.Normal(0.1, 2.5), lambda x, rng: fi.normal_(x, 0.1, 2.5, rng=rng)
    if distribution == "uniform":
        return fin.Uniform(-1, 3), lambda x, rng: fi.uniform_(x, -1, 3, rng=rng)
    interval = fin.truncated_normal(0.1, 2.5, -1.0, 2.0, dtype)
    return interval, lambda x, rng: fi.truncated_normal_(x, 0.1, 2.5, -1.0, 2.0, rng=rng)


@pytest.mark.parametrize(
    ("distribution", "dtype"),
    [
        *(("normal", dtype) for dtype in FLOATS),
        *(("truncated_normal", dtype) for dtype in ("float32", "bfloat16")),
        ("uniform", "float32"),
    ],
)
@pytest.mark.parametrize("fill", [fin.fill, fin.fill_parallel], ids=["sequential", "parallel"])
@pytest.mark.parametrize("start", [0, 2**40 + 77])
def test_fill_in_jitted_code(fill, distribution, dtype, start):
    shape = (130, 3, 301)
    jitted, at_the_door = drawn(distribution, dtype)
    out = np.zeros(shape, as_dtype(dtype))
    bits = out.view(f"u{out.itemsize}")
    fill(FORMATS[dtype](bits) if dtype in FORMATS else out, fin.key_of(3), start, jitted)
    expected = at_the_door(np.zeros(shape, out.dtype), fi.default_rng(3).advance(start))
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal"])
@settings(max_examples=60)
@given(index=st.integers(0, 2**63 - 1))
def test_value_at(distribution, dtype, index):
    jitted, at_the_door = drawn(distribution, dtype)
    value = fin.value_at(fin.key_of(3), index, jitted, dtype)
    assert value == at_the_door(np.zeros(1, dtype), fi.default_rng(3).advance(index))[0]


def test_parameters_may_be_made_in_jitted_code():
    @numba.njit
    def layer(key, n):
        w = np.empty((n, n), np.float32)
        fin.fill(w, key, 0, fin.Normal(0, n**-0.5))
        return w, fin.value_at(key, 7, fin.Normal(0, n**-0.5), np.float32)

    for seed in (1, 2):  # keys below and above 2**63
        w, seventh = layer(fin.key_of(seed), 20)
        assert w.tobytes() == fi.lecun_normal((20, 20), rng=seed).tobytes()
        assert seventh == w.ravel()[7]
    assert len(layer.signatures) == 1


# Threads.

FILL = """
import os, signal, sys
import numba, numpy as np
from concurrent.futures import ThreadPoolExecutor
import fastinit as fi

N = 2**20 + 77
EXPECTED = fi.normal(N, rng=5).tobytes()

def right(threads=None):
    return fi.normal(N, rng=5, threads=threads, backend="numba").tobytes() == EXPECTED
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_many_callers(layer):
    run(
        FILL
        + f"""
with ThreadPoolExecutor(8) as callers:
    assert all(callers.map(right, [None, 1, 2, 3, 1000] * 20))
assert numba.threading_layer() == {layer!r}
""",
        NUMBA_THREADING_LAYER=layer,
        NUMBA_NUM_THREADS="4",
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_fork(layer):
    """Also of a child's child, of a child that is the first to fill, and while others fill."""
    run(
        FILL
        + f"""
def child(depth=1):
    pid = os.fork()
    if pid == 0:
        signal.alarm({HUNG})
        os._exit(0 if right() and (depth == 1 or child(depth - 1) == 0) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

right(1)  # imports the backend
assert child() == 0
assert right()
assert child(depth=3) == 0
with ThreadPoolExecutor(2) as callers:
    filling = callers.map(right, [None] * 100)
    assert [child() for _ in range(5)] == [0] * 5
    assert all(filling)
assert right()
""",
        NUMBA_THREADING_LAYER=layer,
        NUMBA_NUM_THREADS="4",
    )


@pytest.mark.parametrize("threads", [1, 4])
def test_interrupt(threads):
    """Ctrl-C ends a fill of 2^50 elements (all in one place of memory), and nothing else."""
    run(
        FILL
        + f"""
from numpy.lib.stride_tricks import as_strided
from fastinit import _kernels
from fastinit.numba._fill import fill

endless = as_strided(np.zeros(1, np.float32), (2**50,), (0,))
request = 0, (1, 2), (0.0, 1.0), {threads}
fill(_kernels.NORMAL, _kernels.FLOAT32, endless[:N], *request)  # compiled, which can swallow it
for _ in range(3):
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        fill(_kernels.NORMAL, _kernels.FLOAT32, endless, *request)
    except KeyboardInterrupt:
        assert right()
    else:
        raise AssertionError("the fill ended")
"""
    )


def test_numbers_of_threads():
    """Numba's own setting holds, and is the caller's again after a fill with another."""
    run(
        FILL
        + """
from fastinit.numba import _kernels as _numba
used = []
original = _numba.write_slices_in_parallel
def recorded(*request):
    used.append(numba.get_num_threads())
    original(*request)
_numba.write_slices_in_parallel = recorded

assert right() and right(3) and right(1) and right(1000)
assert set(used) == {3, 4}, used
numba.set_num_threads(2)
used.clear()
assert right() and right(4) and right()
assert (used[0], used[-1], max(used)) == (2, 2, 4)
assert numba.get_num_threads() == 2
fi.set_num_threads(3)
used.clear()
assert right() and set(used) == {3}
""",
        NUMBA_NUM_THREADS="4",
    )
