import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

# Tests run side by side: NumPy's BLAS and PyTorch, with every core at work in each of them, would
# mostly wait. Both read this when they are first imported, NumPy by the next line.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import cases  # noqa: E402
import pytest  # noqa: E402
from flags import SRC, flags_for  # noqa: E402
from hypothesis import settings  # noqa: E402

# A shell script's `make test &` ignores Ctrl-C, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine, and no clock but where a test asks for one.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(params=cases.ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine in turn, Numba, and the text for GPUs."""
    with cases.using(request.param):
        yield request.param


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ctypes.CDLL]:
    """Compiles C text that includes our private headers, as setup.py compiles."""
    cc = shutil.which(os.environ.get("CC", "cc"))
    if cc is None:
        pytest.skip("needs a C compiler")

    def compile_(text: str) -> ctypes.CDLL:
        source = tmp_path_factory.mktemp("c") / "text.c"
        source.write_text(text)
        library = source.with_suffix(".so")
        flags = [*flags_for("optimize"), *flags_for("every"), "-fPIC", "-shared"]
        paths = [f"-I{SRC}", f"-I{SRC.parent / 'include'}"]
        subprocess.run([cc, *flags, *paths, source, "-o", library, "-lm"], check=True)
        return ctypes.CDLL(str(library))

    return compile_


# The matrices that take most of the time, by parts of their tests' names: `make test` leaves them
# to `make test-all`. Each has a smaller test of the same kind among the others.
EXHAUSTIVE = (
    "numba",
    "test_any_box_by_any_way",
    "test_builds.py",
    "test_capi.py",
    "test_cluster.py",
    "cuda",
    "test_deep.py",
    "test_extreme_parameters",
    "test_far_starts",
    "test_keras.py",
    "test_killed_at_random_moments",
    "test_objects.py",
    "test_torch_sharded.py",
    "test_everyone_fills_what_is_asked",
    "test_examples_run",
    "test_gpt2_loads_and_knows_nothing",
    "test_torch_devices.py",
    "test_torch_streaming.py",
    "test_transformers.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all that Numba compiles to one process: others would compile the same once more."""
    for item in items:
        if "numba" in item.nodeid and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("numba"))
        if any(part in item.nodeid for part in EXHAUSTIVE):
            item.add_marker(pytest.mark.exhaustive)
