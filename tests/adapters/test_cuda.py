"""CUDA without a GPU: what NVRTC makes of fill.cu, and launches on a driver that is a stand-in.

That the text gives the CPU's bits is test_kernels's, by the host's compiler. What needs a GPU is in
test_on_a_gpu.py.
"""

import ctypes
import importlib
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import cuda_host
import numpy as np
import pytest
from adapters import adapter
from cases import CASES, KEY, TRUNCATED

import fastinit as fi
from fastinit import cuda
from fastinit._fill import FLOAT_FORMATS
from fastinit.cuda import _launch, _plan

SRC = Path(fi.__file__).parent / "src"
nvrtc_missing = ""
try:
    from fastinit.cuda import _compile

    _compile.version()
except (ImportError, RuntimeError) as error:
    nvrtc_missing = f"needs cuda-bindings and nvidia-cuda-nvrtc: {error}"

needs_nvrtc = pytest.mark.skipif(bool(nvrtc_missing), reason=nvrtc_missing)

NARROW = [name for name in FLOAT_FORMATS if name not in ("float32", "float64")]
NAMES32 = [name for name in FLOAT_FORMATS if name != "float64"]
KERNELS = [
    *(f"fi_constant_uint{bits}" for bits in (8, 16, 32, 64)),
    "fi_bits_uint32",
    "fi_bits_uint64",
    *(f"fi_{name}_{dtype}" for name in ("uniform", "normal", "hard") for dtype in FLOAT_FORMATS),
    *(f"fi_{name}_{dtype}" for name in ("central", "wide") for dtype in NAMES32),
]
HOT = [kernel for kernel in KERNELS if "hard" not in kernel]


def skip_or_fail():
    if nvrtc_missing and os.environ.get("FASTINIT_REQUIRE_ADAPTERS"):
        pytest.fail(nvrtc_missing)


def test_nvrtc_is_there_where_all_adapters_have_to_be():
    skip_or_fail()


# The compiled text.


@cache
def entries(architecture: str) -> dict[str, list[str]]:
    """The instructions of each kernel in PTX, without their operands; with those of `.local`."""
    ptx = _compile.compiled(None, architecture).decode()
    bodies = re.findall(r"\.entry (\w+)\(.*?\n\{(.*?)\n\}", ptx, re.DOTALL)
    return {name: _instructions(body) for name, body in bodies}


def _instructions(body: str) -> list[str]:
    return re.findall(r"^\s+(?:@!?%p\d+ )?(\.?[a-z][\w.]*)", body, re.MULTILINE)


FLOAT = re.compile(r"\.f(16|32|64)$|\.f(16|32|64)\.|bf16")
MOVES = re.compile(r"(mov|ld|st|selp|setp|abs|neg|testp)\b")
ROUNDED = re.compile(
    r"(add|sub|mul|fma|div|sqrt|rcp)\.rn\.f(32|64)$|cvt\.rn\.f(32|64)\.[suf](32|64)$|cvt\.f64\.f32$"
)


@needs_nvrtc
@pytest.mark.xdist_group("nvrtc")  # one process compiles all of it
class TestPTX:
    @pytest.fixture(params=["oldest", "newest"])
    def ptx(self, request):
        known = sorted(_compile.architectures())
        return entries(f"compute_{known[0] if request.param == 'oldest' else known[-1]}")

    def test_every_kernel_is_compiled(self, ptx):
        assert set(ptx) == set(KERNELS)
        assert min(_compile.architectures()) <= 75

    def test_arithmetic_is_correctly_rounded(self, ptx):
        """IEEE 754's operations, each rounded once: no flushing, no approximation, no calls."""
        for kernel, instructions in ptx.items():
            for instruction in instructions:
                assert not re.search(r"ftz|approx|^call|\.full", instruction), (kernel, instruction)
                if FLOAT.search(instruction) and not MOVES.match(instruction):
                    assert ROUNDED.match(instruction), (kernel, instruction)

    def test_fused_where_the_text_says_so(self, ptx):
        """As many fused multiply-adds as the functions in the headers have, and no others."""
        for kernel in HOT:
            count = Counter(ptx[kernel])
            fused = count["fma.rn.f32"] + count["fma.rn.f64"]
            assert fused == expected_fused(kernel), kernel

    def test_no_local_memory_in_hot_kernels(self, ptx):
        for kernel in HOT:
            assert not [i for i in ptx[kernel] if ".local" in i], kernel

    def test_fours_are_stored_at_once(self, ptx):
        for kernel in HOT:
            stores = {i for i in ptx[kernel] if i.startswith("st.")}
            together = [i for i in stores if re.search(r"\.v[24]\.", i)]
            assert together or "st.global.b32" in stores, (kernel, stores)


@needs_nvrtc
def test_every_architecture_has_machine_code():
    for architecture in _compile.architectures():
        code = _compile.compiled("fi_normal_bfloat16", f"sm_{architecture}")
        assert code.startswith(b"\x7fELF")


HEADERS = ("fma.h", "pcg.h", "affine.h", "uniform.h", "normal.h", "truncated.h", "convert.h")
TEXT = "\n".join((SRC / name).read_text() for name in HEADERS)


@cache
def fused_in(function: str) -> int:
    """Fused multiply-adds of a function of the headers, and of those that it calls."""
    found = re.search(rf"\b{function}\([^;{{]*\)\n\{{(.*?)\n\}}", TEXT, re.DOTALL)
    assert found, function
    calls = re.findall(r"\b([a-z]\w*)\(", re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL))
    return sum(1 if c in ("fma32", "fma64") else fused_in(c) for c in calls if c in defined())


@cache
def defined() -> frozenset[str]:
    names = re.findall(r"^static inline [\w ]+?\*?(\w+)\([^;{]*\)\n\{", TEXT, re.MULTILINE)
    return frozenset([*names, "fma32", "fma64"])


def expected_fused(kernel: str) -> int:
    _, name, dtype = kernel.split("_", 2)
    width = 64 if dtype == "float64" else 32
    if name in ("uniform", "normal"):
        once = fused_in(f"{name}_affine{width}")
        return once + 2 * fused_in(f"{name}_pair{width}") + 4
    if name in ("central", "wide"):
        return 4 * (fused_in(f"{name}32") + 1)
    return 0


@needs_nvrtc
class TestTheDisk:
    @pytest.fixture
    def compilations(self, monkeypatch):
        done, compiled = [], _compile.compiled
        monkeypatch.setattr(_compile, "compiled", lambda *a: (done.append(a), compiled(*a))[1])
        return done

    def test_machine_code_is_kept(self, tmp_path, monkeypatch, compilations):
        monkeypatch.setenv("FASTINIT_CACHE_DIR", str(tmp_path / "cache"))
        first = _compile.machine_code("fi_bits_uint32", 90)
        assert _compile.machine_code("fi_bits_uint32", 90) == first
        assert len(compilations) == 1
        assert len(list((tmp_path / "cache").iterdir())) == 1

    def test_without_a_place_to_write(self, tmp_path, monkeypatch, compilations):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("FASTINIT_CACHE_DIR", str(tmp_path / "file" / "cache"))
        assert _compile.machine_code("fi_bits_uint32", 90)
        assert _compile.machine_code("fi_bits_uint32", 90)
        assert len(compilations) == 2

    def test_without_a_home(self, monkeypatch, compilations):
        """As of a container's user who has no entry in /etc/passwd."""

        def home():
            raise RuntimeError("Could not determine home directory.")

        for name in ("FASTINIT_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(_compile.sys, "platform", "linux")
        monkeypatch.setattr(Path, "home", home)
        assert _compile.machine_code("fi_bits_uint32", 90)
        assert len(compilations) == 1

    def test_a_gpu_that_nvrtc_does_not_know_gets_ptx(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FASTINIT_CACHE_DIR", str(tmp_path))
        assert b".entry fi_bits_uint32(" in _compile.machine_code("fi_bits_uint32", 999)

    def test_errors_are_nvrtcs(self):
        with pytest.raises(RuntimeError, match="NVRTC cannot compile fi_bits_uint32 for sm_1"):
            _compile.compiled("fi_bits_uint32", "sm_1")


# The header for users' own kernels.

OF_THE_HEADER = [
    case
    for case in CASES + TRUNCATED
    if case.distribution != "constant" and re.search("32|64", case.dtype)
]


@pytest.mark.parametrize("case", OF_THE_HEADER, ids=str)
@pytest.mark.parametrize("start", [0, 1021, 2**64 - 9], ids=["0", "block", "wrap"])
def test_the_headers_functions(case, start):
    """fastinit.cuh, one index at a time."""
    function = getattr(cuda_host.library(), f"{case.distribution}_{case.dtype}")
    out, params = case.poisoned(50), (ctypes.c_double * 16)(*case.kernel_params())
    index = [ctypes.c_uint64(n) for n in (50, start)]
    key = (ctypes.c_uint64 * 2)(*KEY)
    function(ctypes.c_void_p(out.ctypes.data), *index, key, params, params)
    assert np.array_equal(out, case.filled(50, start))


def test_the_example():
    """Its mask is that of `fastinit.uniform`, and the bits are there to be compared."""
    x = np.ones(1000, np.float32)
    key = (ctypes.c_uint64 * 2)(*fi.default_rng(3).key)
    cuda_host.library().run_dropout(
        ctypes.c_void_p(x.ctypes.data), ctypes.c_uint64(1000), key, ctypes.c_float(0.25)
    )
    kept = fi.uniform(1000, rng=3) >= np.float32(0.25)
    assert np.array_equal(x, np.where(kept, np.float32(1) / np.float32(0.75), np.float32(0)))


# Launches.


class Driver:
    """A stand-in for `fastinit.cuda._driver`, whose one GPU is this machine's CPU."""

    def __init__(self):
        self.launched = []
        self.waited = []

    def device(self, number):
        assert number == 0
        return self

    def device_of(self, address):
        assert address
        return self

    def launch(self, plan, stream):
        self.launched.append((plan.kernel, stream))
        cuda_host.launch(plan)

    def wait(self, stream):
        self.waited.append(stream)


@pytest.fixture
def driver(monkeypatch):
    made = Driver()
    monkeypatch.setattr(_launch, "_driver", lambda: made)
    monkeypatch.setattr("fastinit.cuda._arrays.missing", lambda: None)
    return made


class Interfaced:
    """An array with the CUDA array interface, over the memory of one of NumPy's."""

    def __init__(self, array, **more):
        self.array = array
        interface = dict(array.__array_interface__)
        self.__cuda_array_interface__ = {**interface, "version": 3, "stream": 7, **more}


class Exchanged:
    """An array with DLPack alone."""

    def __init__(self, array, old=False):
        self.array, self.old = array, old

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream, **options):
        assert stream == 1
        if self.old and options:
            raise TypeError("unexpected keyword argument")
        return self.array.__dlpack__(**options)


WAYS = {
    "interface": Interfaced,
    "DLPack": Exchanged,
    "DLPack before 1.0": lambda array: Exchanged(array, old=True),
}


@pytest.mark.parametrize("way", WAYS)
class TestArraysOfOthers:
    @pytest.mark.parametrize("name", ["normal_", "uniform_", "truncated_normal_"])
    @pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
    def test_values_are_the_cpus(self, way, name, dtype, driver):
        array = np.zeros((37, 53), dtype)
        x = WAYS[way](array)
        assert getattr(fi, name)(x, rng=3) is x
        assert np.array_equal(array, getattr(fi, name)(np.zeros((37, 53), dtype), rng=3))
        assert len(driver.launched) == 1

    def test_streams(self, way, driver):
        """Of the interface, the array's own; of DLPack, which names none, it is waited for."""
        fi.normal_(WAYS[way](np.zeros(5, np.float32)), rng=3)
        assert driver.launched == [("fi_normal_float32", 7 if way == "interface" else 1)]
        assert driver.waited == ([] if way == "interface" else [1])

    def test_fans_parts_and_views(self, way, driver):  # noqa: ARG002
        memory = np.zeros((20, 30), np.float32)
        fi.he_normal_(WAYS[way](memory[::2, 4:14].T), rng=3, global_shape=(10, 40), offset=(0, 7))
        whole = fi.he_normal((10, 40), rng=3)
        expected = np.zeros((20, 30), np.float32)
        expected[::2, 4:14] = whole[:, 7:17].T
        assert np.array_equal(memory, expected)

    def test_lists_and_constants(self, way, driver):
        arrays = [np.zeros(n, np.float32) for n in (5, 3)]
        rng = fi.default_rng(3)
        fi.normal_([WAYS[way](arrays[0]), arrays[1]], rng=rng)
        assert rng.position == 8
        assert np.array_equal(np.concatenate(arrays), fi.normal(8, rng=3))
        fi.constant_(WAYS[way](arrays[0]), 2.5)
        assert (arrays[0] == 2.5).all()
        assert len(driver.launched) == 2

    def test_what_cannot_be_filled_is_refused(self, way, driver):
        strided = np.lib.stride_tricks.as_strided(np.zeros(9, np.float32), (3, 3), (4, 4))
        with pytest.raises(ValueError, match="overlapping"):
            fi.normal_(WAYS[way](strided), rng=3)
        with pytest.raises(TypeError, match="x has dtype 'int32'"):
            fi.normal_(WAYS[way](np.zeros(3, np.int32)), rng=3)
        with pytest.raises(TypeError, match="in the memory of another device"):
            fi.orthogonal_(WAYS[way](np.zeros((3, 3), np.float32)), rng=3)
        assert driver.launched == []

    def test_nothing_to_fill(self, way, driver):
        fi.normal_(WAYS[way](np.zeros((3, 0), np.float32)), rng=3)
        assert driver.launched == []

    def test_without_a_driver_it_says_so(self, way, monkeypatch):
        monkeypatch.setattr("fastinit.cuda._arrays.missing", lambda: "no driver")
        array = np.zeros(3, np.float32)
        with pytest.raises(RuntimeError, match="which fastinit cannot fill here: no driver"):
            fi.normal_(WAYS[way](array), rng=3)
        assert not array.any()


def test_read_only_arrays_are_refused(driver):
    array = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="x is read-only"):
        fi.normal_(Interfaced(array, data=(array.ctypes.data, True)), rng=3)
    assert driver.launched == []


def test_info_says_which_way_is_in_use(monkeypatch):
    assert fi.info()["cuda"] == "kernels" or "drawn on the CPU: " in fi.info()["cuda"]
    monkeypatch.setattr(cuda, "missing", lambda: None)
    assert fi.info()["cuda"] == "kernels"


def test_the_grid_grows_with_the_array_and_not_with_its_layout():
    x = np.zeros((1 << 10, 1 << 10), np.float32)
    steps = [1 << 10, 1]
    flat = _plan.plan(fi._kernels.NORMAL, 0, x, 0, (1, 2), (0.0, 1.0), steps)
    turned = _plan.plan(fi._kernels.NORMAL, 0, x.T, 0, (1, 2), (0.0, 1.0), steps)
    assert (flat.fill.rows, flat.fill.segments, flat.fill.team) == (1, 1 << 10, 32)
    assert flat.blocks * _plan.THREADS == x.size / _plan._SPAN * 32
    assert (turned.fill.rows_first, turned.fill.team) == (1, 1)
    assert turned.blocks * _plan.THREADS == x.size / 64


class TestJAX:
    """Parts filled where they are; here JAX's devices are CPUs, which do for the GPUs."""

    @pytest.fixture(autouse=True)
    def gpus(self, monkeypatch, driver):
        adapter("jax")
        module = importlib.import_module("fastinit.jax")
        monkeypatch.setattr(module, "_on_gpus", lambda _: True)
        self.launched = driver.launched

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_values_are_the_cpus(self, dtype):
        import jax

        import fastinit.jax as init

        key = jax.random.key(3)
        made = init.he_normal()(key, (37, 53), dtype)
        expected = fi.he_truncated_normal((37, 53), dtype=dtype, rng=init.generator(key))
        assert np.asarray(made).tobytes() == expected.tobytes()
        assert len(self.launched) == 1

    def test_sharded(self):
        import jax
        from jax.sharding import NamedSharding, PartitionSpec

        import fastinit.jax as init

        mesh = jax.make_mesh((1,), ("x",))
        sharding = NamedSharding(mesh, PartitionSpec(None, "x"))
        made = init.normal()(jax.random.key(3), (8, 6), out_sharding=sharding)
        assert made.sharding.is_equivalent_to(sharding, 2)
        assert np.array_equal(made, init.normal()(jax.random.key(3), (8, 6)))

    def test_complex_numbers_come_from_the_host(self):
        import jax

        import fastinit.jax as init

        key = jax.random.key(3)
        made = init.normal(1.0)(key, (37, 53), "complex64")
        expected = fi.normal((37, 53), dtype="complex64", rng=init.generator(key))
        assert np.asarray(made).tobytes() == expected.tobytes()
        assert not self.launched

    def test_matrices_come_from_the_host(self):
        import jax

        import fastinit.jax as init

        init.orthogonal()(jax.random.key(3), (8, 6))
        assert self.launched == []
