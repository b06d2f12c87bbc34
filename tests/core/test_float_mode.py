"""Other libraries set how a thread rounds, or that it flushes subnormals: the same bits, or an
error that says so.  (tests/deep/same_bits.py has more modes, and other machines.)"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL

import cases
import numpy as np
import pytest
from cases import Case
from commands import FINDS_TESTS
from golden import digest

import fastinit as fi
from fastinit import _kernels

# With subnormals among their values, or made of them.
CASES = [
    Case("normal", "float32", (1e-40, 1e-38)),
    Case("normal", "float64", (0.0, 1e-308)),
    Case("truncated_normal", "float32", (0.1, 0.02, -2.0, 2.0)),
]
N = 2**17 + 5

MODES = """
    #include <fenv.h>
    int upward(void) { return fesetround(FE_UPWARD); }
    int downward(void) { return fesetround(FE_DOWNWARD); }
    int towardzero(void) { return fesetround(FE_TOWARDZERO); }
    int nearest(void) { return fesetround(FE_TONEAREST); }
    #if defined(__x86_64__)
    int mode(void) { return __builtin_ia32_stmxcsr() & ~0x3fu; }
    int flush(void) { __builtin_ia32_ldmxcsr(mode() | 0x8040); return 0; }
    int keep(void) { __builtin_ia32_ldmxcsr(mode() & ~0x8040); return 0; }
    #elif defined(__aarch64__)
    static unsigned long fpcr(void)
    {
        unsigned long c;
        __asm__ volatile("mrs %0, fpcr" : "=r"(c));
        return c;
    }
    static void set(unsigned long c) { __asm__ volatile("msr fpcr, %0" ::"r"(c)); }
    int mode(void) { return (int)fpcr(); }
    int flush(void) { set(fpcr() | 1 << 24); return 0; }
    int keep(void) { set(fpcr() & ~(1ul << 24)); return 0; }
    #endif
"""


@pytest.fixture(scope="module")
def modes(compiled: Callable[[str], CDLL]) -> CDLL:
    return compiled(MODES)


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    """A thread to be spoilt: its mode is its own."""
    with ThreadPoolExecutor(1) as one:
        yield one


@pytest.mark.parametrize(
    ("before", "isa"), [("upward", "numba"), *(("flush", isa) for isa in cases.ON_CPU)]
)
def test_threads_inherit_a_mode(before: str, isa: str, modes: CDLL) -> None:
    """The pools' threads start from a thread in a mode, and then that thread sets it aside."""
    if isa == "numba":
        pytest.importorskip("numba")
    program = f"""
import ctypes, sys
import cases, numpy as np
from test_float_mode import CASES, N, digest

modes = ctypes.CDLL({modes._name!r})
with cases.using({isa!r}):
    if {isa!r} == "numba":
        import numba

        @numba.njit(parallel=True)
        def start_threads(x):
            for i in numba.prange(len(x)):
                x[i] = 1.0

        modes.{before}()
        start_threads(np.zeros(2**17))
    modes.{before}()
    if {before!r} == "flush":
        spoilt = modes.mode()
        print(*(digest(case.filled(N, threads=4)) for case in CASES))
        assert modes.mode() == spoilt
    modes.nearest(), modes.keep()
    print(*(digest(case.filled(N, threads=4)) for case in CASES))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=FINDS_TESTS,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    expected = " ".join(digest(case.filled(N)) for case in CASES)
    assert set(done.stdout.splitlines()) == {expected}


@pytest.mark.parametrize("mode", ["upward", "downward", "towardzero"])
def test_what_python_would_round_is_refused(
    mode: str, modes: CDLL, thread: ThreadPoolExecutor
) -> None:
    rng, x = fi.default_rng(3), np.full((300, 50), 7, np.float32)
    before = x.tobytes()
    fills: list[Callable[[], object]] = [
        lambda: fi.normal_(x, rng=rng),
        lambda: fi.he_truncated_normal_(x, rng=rng),
        lambda: fi.constant_(x, 0.1),
        lambda: fi.uniform_(x[:4], rng=rng, global_shape=(9, 50), offset=(1, 0)),
        lambda: fi.orthogonal_(x, rng=rng),
        lambda: fi.values_at(3, [5]),
        lambda: fi.trunc_normal_(x, 0.1, 0.7, -1.3, 1.9, rng=rng),
    ]
    thread.submit(getattr(modes, mode)).result()
    for fill in fills:
        with pytest.raises(FloatingPointError, match="does not round to nearest"):
            thread.submit(fill).result()
    assert x.tobytes() == before
    assert rng.position == 0
    # Nothing of what was refused is kept.
    thread.submit(modes.nearest).result()
    for fill in fills:
        thread.submit(fill).result()
    after = x.tobytes()
    spoilt, rng = rng.position, fi.default_rng(3)
    for fill in fills:
        fill()
    assert (x.tobytes(), rng.position) == (after, spoilt)


def test_the_kernels_keep_the_mode(modes: CDLL, thread: ThreadPoolExecutor) -> None:
    """As embedded: the C interface computes in its own mode, and gives back the caller's."""
    import ctypes

    expected = fi.normal(1000, rng=3)
    x = np.empty(1000, np.float32)
    k0, k1 = fi.default_rng(3).key

    class Key(ctypes.Structure):
        _fields_ = (("k0", ctypes.c_uint64), ("k1", ctypes.c_uint64))

    kernel = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64, Key, ctypes.c_void_p
    )(fi.capi().kernels["normal", "float32"])
    params = (ctypes.c_double * 2)(0.0, 1.0)
    for mode in ("upward", "downward", "towardzero", "flush"):
        x[:] = 7
        thread.submit(getattr(modes, mode)).result()
        spoilt = thread.submit(modes.mode).result()
        thread.submit(kernel, x.ctypes.data, 1000, 0, Key(k0, k1), params).result()
        assert thread.submit(modes.mode).result() == spoilt
        assert np.array_equal(x, expected), mode


def test_a_mode_shows_in_plain_arithmetic(modes: CDLL, thread: ThreadPoolExecutor) -> None:
    """That the tests above can fail: the modes do what their names say."""

    def third_and_subnormal() -> tuple[float, float]:
        one, three, small = np.array([1.0, 3.0, 1e-308])
        return float(one / three), float(small / three)

    usual = third_and_subnormal()
    thread.submit(modes.upward).result()
    assert thread.submit(third_and_subnormal).result()[0] > usual[0]
    thread.submit(modes.nearest).result()
    thread.submit(modes.flush).result()
    assert thread.submit(third_and_subnormal).result() == (usual[0], 0.0)
    assert _kernels.check_rounding() == 0


def test_numba_refuses_as_well(modes: CDLL) -> None:
    """And is not imported in such a mode: its compiled code, with its constants, is kept."""
    pytest.importorskip("numba")
    program = f"""
import ctypes, numba, numpy as np, fastinit as fi
modes, x, refused = ctypes.CDLL({modes._name!r}), np.zeros(5), []
for _ in range(2):
    modes.upward()
    try:
        fi.normal_(x, backend="numba")
    except FloatingPointError as error:
        refused.append(str(error))
    modes.nearest()
    import fastinit.numba._fill
assert len(refused) == 2 and not x.any(), refused
"""
    subprocess.run([sys.executable, "-c", program], check=True)
