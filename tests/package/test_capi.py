"""The doors for other libraries; the examples are built outside the source tree, against an
installed fastinit."""

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from itertools import product
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
import pytest
from adapters import adapter
from cases import FLOATS, using
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi
from fastinit import _kernels

# One worker installs, once.
pytestmark = pytest.mark.xdist_group("installed")

ROOT = Path(__file__).parents[2]
NOT_SOURCES = shutil.ignore_patterns(".*", "build", "dist", "*.so", "_kernels.c", "__pycache__")
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def run(*command, cwd, site=None):
    """The output of a program that finds only what is installed."""
    environment = {**os.environ, "PYTHONPATH": str(site)} if site else None
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A directory with fastinit installed from a wheel."""
    tmp = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT, tmp / "source", ignore=NOT_SOURCES)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", ".", "./source", cwd=tmp)
    (wheel,) = tmp.glob("*.whl")
    run(*pip, "install", "--no-deps", "--target", "site", wheel, cwd=tmp)
    return tmp / "site"


def test_the_sdist_has_all_that_a_wheel_is_built_from(tmp_path):
    shutil.copytree(ROOT, tmp_path / "source", ignore=NOT_SOURCES)
    hook = "from setuptools import build_meta; build_meta.build_sdist('..')"
    run(sys.executable, "-c", hook, cwd=tmp_path / "source")
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fastinit").rglob("*")
        if path.suffix in (".py", ".pyi", ".pyx", ".pxd", ".h", ".c", ".toml", ".html")
    }
    wanted = {*sources, "setup.py", "pyproject.toml", "LICENSE", "README.md"}
    assert wanted - {"fastinit/_kernels.c"} - packed == set()


@pytest.fixture
def examples(tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def cc():
    return os.environ.get("CC", "cc").split()


def test_the_installed_one_is_found(site, tmp_path):
    shown = run(
        sys.executable,
        "-c",
        "import fastinit; print(fastinit.get_include())",
        cwd=tmp_path,
        site=site,
    )
    assert Path(shown.strip()) == site / "fastinit" / "include"


# C.


def test_c_without_python(site, examples, cc):
    here = examples / "c"
    run("make", "-C", site / "fastinit" / "src", f"OUT={here}", "CFLAGS=-Werror -Wall", cwd=here)
    include = f"-I{site / 'fastinit' / 'include'}"
    flags = ["-Wall", "-Wextra", "-Werror", "-pthread"]
    run(*cc, *flags, include, "standalone.c", "libfastinit.a", "-lm", "-o", "standalone", cwd=here)
    stream, isa, value, same = run(here / "standalone", cwd=here).split()
    key = (0x1B38B0D1F8AE54A1, 0x5C1D4A2F90F16E3B)
    expected = np.empty(1, np.float32)
    _kernels.fill(_kernels.NORMAL, _kernels.FLOAT32, expected, 7000, key, (0.0, 0.02), 1)
    assert (stream, isa, same) == (_kernels.STREAM, _kernels.isa(), "same")
    assert np.float32(value) == expected[0]


def build_extension(here, cc, include):
    paths = [f"-I{include}", f"-I{sysconfig.get_path('include')}"]
    run(*cc, "-shared", "-fPIC", *paths, "extension.c", "-o", f"extension{SUFFIX}", cwd=here)


def test_c_extension_by_the_capsule(site, examples, cc):
    here = examples / "c"
    build_extension(here, cc, site / "fastinit" / "include")
    program = """
import extension, fastinit as fi, numpy as np
x, rng = np.empty((30, 40), np.float32), fi.default_rng(42)
extension.fill(x, *rng.key)
assert x.tobytes() == fi.normal((30, 40), 0.0, 0.02, rng=rng).tobytes()
"""
    run(sys.executable, "-c", program, cwd=here, site=f"{here}:{site}")


def test_a_newer_abi_is_refused(site, examples, cc):
    """By an extension compiled against the header of a later fastinit."""
    here = examples / "c"
    header = (site / "fastinit" / "include" / "fastinit.h").read_text()
    assert f"#define FI_ABI {_kernels.ABI}\n" in header
    later = header.replace(f"#define FI_ABI {_kernels.ABI}\n", "#define FI_ABI 99\n")
    (here / "fastinit.h").write_text(later)
    build_extension(here, cc, here)
    program = """
try:
    import extension
except ImportError as error:
    print(error)
"""
    shown = run(sys.executable, "-c", program, cwd=here, site=f"{here}:{site}")
    assert shown == f"fastinit has ABI {_kernels.ABI}, this module needs 99\n"


def test_cython(site, examples):
    here = examples / "cython"
    run(sys.executable, "setup.py", "build_ext", "--inplace", cwd=here, site=site)
    program = """
import fastinit as fi, numpy as np, layers
w, rng = np.empty((300, 200), np.float32), fi.default_rng(42)
layers.initialize(w, rng.key)
assert w.tobytes() == fi.he_normal((300, 200), rng=rng).tobytes()
"""
    run(sys.executable, "-c", program, cwd=here, site=f"{here}:{site}")


# Python.


@pytest.mark.parametrize("example", ["ctypes_fill.py", "numba_training.py"])
def test_examples(site, examples, example):
    if example.startswith("numba"):
        adapter("numba")
    assert run(sys.executable, "-W", "error", example, cwd=examples, site=site)


def test_every_kernel_has_an_address():
    api = fi.capi()
    assert (api.abi, api.stream, api.isa) == (_kernels.ABI, _kernels.STREAM, _kernels.isa())
    constants = product(["constant"], ["uint8", "uint16", "uint32", "uint64"])
    draws = product(["bits"], ["uint32", "uint64"])
    floats = product(["uniform", "normal", "truncated_normal"], FLOATS)
    assert set(api.kernels) == {*constants, *draws, *floats}
    assert len(set(api.kernels.values())) == len(api.kernels)
    assert ctypes.c_uint32.from_address(api.table).value == api.abi


@pytest.mark.parametrize("isa", _kernels.isas())
def test_addresses_are_those_of_the_instruction_set_in_use(isa):
    before, address = _kernels.isa(), fi.capi().table
    with using(isa):
        assert fi.capi().isa == isa
        assert (fi.capi().table == address) == (isa == before)


def test_truncate_by_its_address():
    double = ctypes.c_double
    truncate = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[double] * 4)(fi.capi().truncate)
    interval = (double * len(_kernels.truncate(0, 1, -2, 2)))()
    truncate(interval, 0.1, 2.0, -1.0, 3.0)
    assert tuple(interval) == _kernels.truncate(0.1, 2.0, -1.0, 3.0)


class Key(ctypes.Structure):
    """fi_key."""

    _fields_ = [("k0", ctypes.c_uint64), ("k1", ctypes.c_uint64)]


def test_orthogonal_by_its_address():
    """As docs/c-api.md has it, in ctypes."""
    pair, distances = ctypes.c_uint64 * 2, ctypes.c_int64 * 2
    indices, word = ctypes.POINTER(ctypes.c_uint64), ctypes.c_uint64

    class Matrix(ctypes.Structure):
        """fi_orthogonal."""

        _fields_ = [
            ("dtype", ctypes.c_int),
            ("key", Key),
            *((name, word) for name in ("start", "rows", "columns")),
            ("gain", ctypes.c_double),
            ("out", ctypes.c_void_p),
            ("ndim", ctypes.c_int),
            ("shape", indices),
            ("strides", ctypes.POINTER(ctypes.c_int64)),
            *((name, word) for name in ("row", "column")),
            *((name, indices) for name in ("row_steps", "column_steps")),
        ]

    x = np.empty((5, 3), np.float32)
    matrix = Matrix(
        _kernels.FLOAT32, Key(*fi.default_rng(42).key), 0, 5, 3, 2.0, x.ctypes.data, 2,
        pair(5, 3), distances(*x.strides), 0, 0, pair(1, 0), pair(0, 1),
    )  # fmt: skip
    function = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
    )(fi.capi().orthogonal)
    assert function(ctypes.addressof(matrix), 1, None, None) == 0
    assert x.tobytes() == fi.orthogonal((5, 3), 2.0, rng=42).tobytes()


def test_cffi_and_ctypes_and_lock_of_the_bit_generator():
    adapter("cffi")
    bits, expected = fi.PCG32(5), fi.PCG32(5).random_raw(3).tolist()
    with bits.lock:
        by_cffi = bits.cffi.next_uint64(bits.cffi.state)
        by_ctypes = bits.ctypes.next_uint64(bits.ctypes.state)
    assert [by_cffi, by_ctypes, bits.random_raw()] == expected
    assert "BitGenerator" in repr(bits.capsule)


# Values without an array.

DRAWS = {
    "normal": (fi.normal, {"mean": 0.1, "std": 2.5}),
    "uniform": (fi.uniform, {"low": -0.3, "high": 0.7}),
    "truncated_normal": (fi.truncated_normal, {"std": 0.5, "low": -1.0, "high": 2.0}),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("distribution", DRAWS)
@settings(max_examples=40)
@given(indices=st.lists(st.integers(0, 4999), max_size=40), run=st.integers(0, 2000))
def test_values_at(distribution, dtype, indices, run):
    fill, params = DRAWS[distribution]
    tensor = fill(5000, rng=7, dtype=dtype, **params)
    at = np.array([*indices, *range(1500, 1500 + run)], np.int32)
    values = fi.values_at(fi.default_rng(7).advance(99), at, distribution, dtype=dtype, **params)
    assert values.dtype == tensor.dtype
    assert values.tobytes() == tensor[at].tobytes()


def test_values_at_takes_any_shape():
    tensor = fi.normal(5000, rng=7)
    at = np.arange(24).reshape(2, 3, 4)[:, ::-1]
    assert (fi.values_at(7, at) == tensor[at]).all()
    assert fi.values_at(7, 3) == tensor[3]
    assert fi.values_at(7, []).shape == (0,)
    assert fi.values_at(7, range(5)).tolist() == tensor[:5].tolist()
    last = 2**63 - 1
    assert fi.values_at(7, [last]) == fi.normal(1, rng=fi.default_rng(7).advance(last))
    rng = fi.default_rng(7)
    fi.values_at(rng, [1, 2])
    assert rng.position == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fi.values_at(1, [-1]), ValueError, r"indices=\[-1\] must be 0 to 2\*\*63 - 1"),
        (lambda: fi.values_at(1, [2**63]), ValueError, r"must be 0 to 2\*\*63 - 1"),
        (lambda: fi.values_at(1, [0.5]), TypeError, r"indices=\[0\.5\] must be integers"),
        (lambda: fi.values_at(1, [True]), TypeError, r"indices=\[True\] must be integers"),
        (
            lambda: fi.values_at(1, [1], "cauchy"),
            ValueError,
            "distribution='cauchy' is unknown; allowed: uniform, normal, truncated_normal",
        ),
        (
            lambda: fi.values_at(1, [1], "uniform", std=1.0),
            TypeError,
            "std is no parameter of uniform; allowed: low, high",
        ),
        (lambda: fi.values_at(1, [1], std=-1.0), ValueError, "std=-1.0 must be 0 or greater"),
        (lambda: fi.values_at(1, [1], std=1e39), ValueError, "must be finite in float32"),
        (lambda: fi.values_at(1, [1], dtype="int8"), TypeError, "dtype='int8'; allowed: float32"),
    ],
)
def test_values_at_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Memory of others; test_fill.py has array.array, memoryview, the array interface and DLPack.

EXPECTED = fi.normal(1000, rng=9).tobytes()


def test_shared_memory():
    shared = SharedMemory(create=True, size=4000)
    try:
        x = shared.buf[:4000].cast("f")
        fi.normal_(x, rng=9)
        assert bytes(shared.buf[:4000]) == EXPECTED
        x.release()
    finally:
        shared.close()
        shared.unlink()


def test_memory_mapped_files(tmp_path):
    file = tmp_path / "w"
    x = np.memmap(file, np.float32, "w+", shape=1000)
    assert fi.normal_(x, rng=9) is x
    x.flush()
    assert file.read_bytes() == EXPECTED
    with pytest.raises(ValueError, match="x is read-only"):
        fi.normal_(np.memmap(file, np.float32, "r"), rng=1)
    with file.open("rb") as f:
        view = memoryview(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)).cast("f")
    with pytest.raises(ValueError, match="x is read-only"):
        fi.normal_(view, rng=1)
    assert file.read_bytes() == EXPECTED


def test_torch_tensors_on_the_cpu():
    torch = adapter("torch")
    x = torch.zeros(2, 500)
    assert fi.normal_(x, rng=9) is x
    assert x.numpy().tobytes() == EXPECTED
    y = torch.zeros(500, 4)[:, 1:3].T
    fi.normal_(y, rng=9)
    assert y.contiguous().numpy().tobytes() == EXPECTED
