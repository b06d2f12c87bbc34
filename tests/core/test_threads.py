"""The pool: any number of threads gives the same bits, whoever fills, forks or interrupts."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, TRUNCATED, Case
from commands import FINDS_TESTS
from golden import digest

from fastinit import _kernels

NORMAL = Case("normal", "float32", (0.0, 1.0))
N = 2**20 + 77  # 33 slices of work
EXPECTED = digest(NORMAL.filled(N, start=5))
HUNG = 120  # seconds after which a process counts as hung; they take some tenths

# Python 3.12 and later warn of what is tested here.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*fork:DeprecationWarning",  # Python's
    "ignore:.*fork.* was called:RuntimeWarning",  # JAX's, where another test imported it
)


def hash_of_fill(threads: int = 4) -> str:
    return digest(NORMAL.filled(N, start=5, threads=threads))


def forked_fill(depth: int = 1) -> int:
    """The exit status of a forked child that fills, and forks another: 0 if the bits are right."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(HUNG)
        right = hash_of_fill() == EXPECTED and (depth == 1 or forked_fill(depth - 1) == 0)
        os._exit(0 if right else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(program: str) -> None:
    """Runs a program in a new interpreter, beside this file; fails if it does."""
    command, here = [sys.executable, "-W", "ignore", "-c", program], Path(__file__).parent
    subprocess.run(command, cwd=here, env=FINDS_TESTS, timeout=HUNG, check=True)


@pytest.mark.parametrize("case", CASES + TRUNCATED, ids=str)
def test_any_number_of_threads(case: Case) -> None:
    expected = digest(case.filled(N, start=1000))
    for threads in [0, *range(2, 2 * _kernels.cpus() + 1), 37, 1024]:
        assert digest(case.filled(N, 1000, threads)) == expected, threads


def test_strides_with_threads() -> None:
    memory = NORMAL.poisoned((1100, 3, 1000))
    expected = memory.copy()
    expected[:, 1, ::2] = NORMAL.filled(1100 * 500, start=5).reshape(1100, 500)
    NORMAL.fill(memory[:, 1, ::2], start=5, threads=7)
    assert np.array_equal(memory, expected)


def test_many_callers() -> None:
    with ThreadPoolExecutor(16) as callers:
        hashes = list(callers.map(hash_of_fill, [1, 2, 4, 37] * 20))
    assert set(hashes) == {EXPECTED}


def test_fork() -> None:
    """A child has no threads of the pool that was started before the fork."""
    assert hash_of_fill() == EXPECTED
    assert [forked_fill() for _ in range(5)] == [0] * 5
    assert forked_fill(depth=3) == 0
    assert hash_of_fill() == EXPECTED


def test_fork_while_others_fill() -> None:
    done = threading.Event()

    def fill_until_done() -> set[str]:
        hashes = {hash_of_fill()}
        while not done.is_set():
            hashes.add(hash_of_fill())
        return hashes

    with ThreadPoolExecutor(3) as callers:
        filling = [callers.submit(fill_until_done) for _ in range(3)]
        statuses = [forked_fill() for _ in range(20)]
        done.set()
    assert statuses == [0] * 20
    assert [f.result() for f in filling] == [{EXPECTED}] * 3


def test_fork_inside_a_fill() -> None:
    """A signal handler forks while the fill that it interrupts goes on: in both processes."""
    run(f"""
import os, signal
from cases import Case
from golden import digest
from fastinit import _kernels

_kernels.use_isa("base")
case, n, forked = Case("normal", "float64", (0.0, 1.0)), 2**24, []
expected = digest(case.filled(n))
signal.signal(signal.SIGALRM, lambda *_: forked.append(os.fork()))
x = case.poisoned(n)
signal.setitimer(signal.ITIMER_REAL, 0.001)
case.fill(x, threads=3)
right = digest(x) == expected
if forked == [0]:
    signal.alarm({HUNG})
    os._exit(0 if right and digest(case.filled(n, threads=3)) == expected else 1)
assert right
assert [os.waitpid(child, 0)[1] for child in forked] == [0]
""")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method: str) -> None:
    assert hash_of_fill() == EXPECTED
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as processes:
        assert list(processes.map(hash_of_fill, [4] * 4, timeout=HUNG)) == [EXPECTED] * 4


@pytest.mark.parametrize("threads", [1, 4])
def test_interrupt(threads: int) -> None:
    """Ctrl-C ends a fill of 2^50 elements (all in one place of memory), and nothing else."""
    run(f"""
import signal
from test_threads import EXPECTED, NORMAL, hash_of_fill
from numpy.lib.stride_tricks import as_strided

endless = as_strided(NORMAL.poisoned(1), (2**50,), (0,))
for _ in range(3):
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        NORMAL.fill(endless, threads={threads})
    except KeyboardInterrupt:
        assert hash_of_fill() == EXPECTED
    else:
        raise AssertionError("the fill ended")
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_threads_are_started_when_needed() -> None:
    run("""
import os
from cases import Case

def started():
    return len(os.listdir("/proc/self/task")) - before

before, case = 0, Case("uniform", "float32", (0.0, 1.0))
before = started()
case.filled(2**20, threads=1)
case.filled(2**15, threads=8)
assert started() == 0
case.filled(2**20, threads=3)
assert started() == 2
case.filled(2**20, threads=2)
assert started() == 2
case.filled(2**20, threads=5)
assert started() == 4
child = os.fork()
if child == 0:
    before += started()
    case.filled(2**20, threads=3)
    os._exit(started() - 2)
assert os.waitpid(child, 0)[1] == 0
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_threads_are_refused() -> None:
    """Without memory for a thread's stack the caller fills alone."""
    run("""
import os, resource, threading
from test_threads import EXPECTED, N, NORMAL, digest

x = NORMAL.poisoned(N)
threads = os.listdir("/proc/self/task")
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**20, -1))
try:
    threading.Thread(target=print).start()
    raise AssertionError("a thread was started")
except RuntimeError:
    NORMAL.fill(x, start=5, threads=8)
assert os.listdir("/proc/self/task") == threads
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert digest(x) == EXPECTED
NORMAL.fill(x, start=5, threads=8)
assert len(os.listdir("/proc/self/task")) == len(threads) + 7
assert digest(x) == EXPECTED
""")


# What else may happen to a process.


def test_shutdown_during_a_fill() -> None:
    """Daemons fill without end while the interpreter shuts down, slowly."""
    run("""
import threading, time
import numpy as np
from numpy.lib.stride_tricks import as_strided
from test_threads import NORMAL

endless = as_strided(NORMAL.poisoned(1), (2**50,), (0,))
for threads in (1, 2, 4, 4, 4):
    threading.Thread(target=NORMAL.fill, args=(endless, 0, threads), daemon=True).start()

class Slow:
    def __del__(self):
        time.sleep(0.3)

slow = Slow()
time.sleep(0.1)
""")


@pytest.mark.parametrize("last", ["os._exit(0)", "sys.exit(0)", "os.abort()"])
def test_exit_during_a_fill(last: str) -> None:
    program = f"""
import os, resource, sys, threading, time
from numpy.lib.stride_tricks import as_strided
from test_threads import NORMAL

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
endless = as_strided(NORMAL.poisoned(1), (2**50,), (0,))
threading.Thread(target=NORMAL.fill, args=(endless, 0, 4), daemon=True).start()
time.sleep(0.1)
{last}
"""
    command, here = [sys.executable, "-W", "ignore", "-c", program], Path(__file__).parent
    done = subprocess.run(
        command, cwd=here, env=FINDS_TESTS, timeout=HUNG, capture_output=True, check=False
    )
    assert done.returncode == (-signal.SIGABRT if "abort" in last else 0), done.stderr


def test_exit_handlers_may_fill() -> None:
    """The last of the interpreter's own code, when other threads have been joined."""
    run("""
import atexit, os
from test_threads import EXPECTED, hash_of_fill

atexit.register(lambda: os._exit(0 if hash_of_fill() == EXPECTED else 1))
""")


def test_sixty_four_callers_at_once() -> None:
    begin = threading.Barrier(64)

    def fill(threads: int) -> str:
        begin.wait()
        return hash_of_fill(threads)

    with ThreadPoolExecutor(64) as callers:
        assert set(callers.map(fill, [1, 2, 3, 64] * 16)) == {EXPECTED}


def test_fork_from_a_thread() -> None:
    """The thread that forks is the child's main thread, and fills there."""
    assert hash_of_fill() == EXPECTED
    with ThreadPoolExecutor(3) as callers:
        statuses = list(callers.map(lambda _: forked_fill(depth=2), range(6)))
    assert statuses == [0] * 6
    assert hash_of_fill() == EXPECTED


def test_ctrl_c_in_the_child_of_a_thread() -> None:
    """Which is its main thread now, and so the one that asks for signals."""
    run(f"""
import os, signal, threading
from numpy.lib.stride_tricks import as_strided
from test_threads import NORMAL

endless = as_strided(NORMAL.poisoned(1), (2**50,), (0,))
statuses = []

def child():
    signal.alarm({HUNG})
    interrupt = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    try:
        NORMAL.fill(endless, threads=3)
    except KeyboardInterrupt:
        os._exit(0)

def fork():
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(1)
    statuses.append(os.waitpid(pid, 0)[1])

forking = threading.Thread(target=fork)
forking.start()
forking.join()
assert statuses == [0], statuses
""")


def test_signals_while_others_fill() -> None:
    """Two hundred signals: Python's handler runs, system calls are cut short, no write is lost."""
    run("""
import signal
from concurrent.futures import ThreadPoolExecutor
from test_threads import EXPECTED, hash_of_fill

handled, inside = [], []

def handle(*_):
    handled.append(1)
    if len(handled) % 50 == 0:
        inside.append(hash_of_fill(2))

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
with ThreadPoolExecutor(2) as callers:
    others = callers.map(hash_of_fill, [4] * 20)
    while len(handled) < 200:
        assert hash_of_fill(3) == EXPECTED
signal.setitimer(signal.ITIMER_REAL, 0)
assert set(others) == set(inside) == {EXPECTED}
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sets affinity")
def test_affinity_changes_midway() -> None:
    """While fills run, and between them: more threads than CPUs, and the reverse."""
    run("""
import os, threading
from test_threads import EXPECTED, hash_of_fill

cpus = sorted(os.sched_getaffinity(0))
done = threading.Event()

def change():
    while not done.is_set():
        for thread in map(int, os.listdir("/proc/self/task")):
            for some in (cpus[:1], cpus[-1:], cpus):
                try:
                    os.sched_setaffinity(thread, some)
                except ProcessLookupError:
                    pass

changing = threading.Thread(target=change)
changing.start()
try:
    assert {hash_of_fill(threads) for threads in [0, 1, 2, 4, 9] * 8} == {EXPECTED}
finally:
    done.set()
changing.join()
os.sched_setaffinity(0, cpus[:1])
from fastinit import _kernels
assert _kernels.cpus() == 1 and hash_of_fill(0) == EXPECTED
""")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts processes")
def test_processes_are_refused() -> None:
    """RLIMIT_NPROC: no thread may be started. It binds no one who is root."""
    run("""
import os, resource, threading
from test_threads import EXPECTED, hash_of_fill

if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
before = len(os.listdir("/proc/self/task"))
try:
    threading.Thread(target=print).start()
except RuntimeError:
    assert hash_of_fill(8) == EXPECTED
    assert len(os.listdir("/proc/self/task")) == before
""")


@pytest.mark.parametrize(
    ("limit", "cpus"), [("150000 100000", 2), ("100 100000", 1), ("max 100000", 0), ("", 0)]
)
def test_a_control_group_limits_the_threads(limit: str, cpus: int) -> None:
    """Its quota, rounded up; where there is none, affinity alone. In a place of its own, where
    the control group's files are ours."""
    place = ["unshare", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*place, ":"], check=False).returncode:
        pytest.skip("may not mount here")
    program = f"""
from fastinit import _kernels
from test_threads import EXPECTED, hash_of_fill
assert _kernels.cpus() == min({cpus or 1024}, {_kernels.cpus()}), _kernels.cpus()
assert hash_of_fill(0) == EXPECTED
"""
    mount = "mount -t tmpfs none /sys/fs/cgroup && echo $LIMIT > /sys/fs/cgroup/cpu.max"
    command = [*place, f'{mount} && exec "$PYTHON" -W ignore -c "$PROGRAM"']
    given = {"LIMIT": limit, "PYTHON": sys.executable, "PROGRAM": program}
    here = Path(__file__).parent
    subprocess.run(command, cwd=here, env=FINDS_TESTS | given, timeout=HUNG, check=True)


def test_no_memory() -> None:
    """A MemoryError, of which nothing is left: the next fill is as it should be."""
    run("""
import resource
import numpy as np
import fastinit as fi
from test_threads import EXPECTED, hash_of_fill

pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26, -1))
rng = fi.default_rng(1)
for make in (fi.normal, fi.he_normal, fi.orthogonal, fi.zeros):
    try:
        make((2**17, 2**10), rng=rng) if make is not fi.zeros else make((2**17, 2**10))
    except MemoryError:
        continue
    raise AssertionError(f"{make.__name__} had memory")
assert rng.position == 0
assert hash_of_fill() == EXPECTED
""")


def test_subinterpreters() -> None:
    """An ImportError, NumPy's or ours; the main interpreter's own fills go on."""
    run("""
from test_threads import EXPECTED, hash_of_fill
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
one = interpreters.create()
program = '''
try:
    import fastinit
except ImportError:
    pass
'''
interpreters.run_string(one, program)
assert hash_of_fill() == EXPECTED
interpreters.destroy(one)
assert hash_of_fill() == EXPECTED
""")
