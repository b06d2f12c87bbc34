import ctypes
import os
import re
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


# What takes most of the time, by regular expressions that are found in tests' names: `make test`
# leaves it to `make test-all`. Of each matrix some smaller case stays among the others.
EXHAUSTIVE = (
    # Matrices of dtypes, shapes and ways; all that Numba compiles, but for one fill.
    "numba",
    "cuda",
    "test_a_check_names_the_first_difference_of_a_tensor_in_strips",
    "test_any_box_by_any_way",
    r"test_(any_split|any_truncated_interval|lengths_around_blocks|parts|short_lengths)\[base",
    "test_backends_do_not_matter",
    r"test_as_orthogonal_as_lapacks\[shape[0-2]",
    r"test_conversions\[(b?float16)",
    r"test_distribution\[(?!-2-2|2-3)",
    "test_everyone_fills_what_is_asked",
    "test_extreme_parameters",
    "test_far_starts",
    r"test_log\[float32",
    r"test_mean_field_theory_agrees_with_measurement\[(?!gelu)",
    "test_the_process_does_not_grow",
    r"test_the_other_backend_gives_the_same_bits\[normal",
    r"test_the_verdict_predicts_who_trains\[(?!relu-initializers2)",
    # What compiles, or reads what was compiled.
    "test_builds.py",
    "test_capi.py",
    "test_objects.py",
    "test_the_sums_of_a_tile_stay_in_registers",
    # Whole programs, processes and models.
    "test_both_guides_show_what_their_code_prints",
    r"test_command_errors_are_one_line\[arguments([2-9]|1.)",
    "test_checkpoint_statistics.py::test_the_command",
    "test_cluster.py",
    "test_command_prints_tables_and_keeps_results",
    "test_ctrl_c_ends_it_and_nothing_is_written",
    "test_deep.py",
    r"test_docstring_examples\[fastinit.benchmark._measure",
    r"test_the_page_of_errors_of_an_adapter",
    "test_every_picture_is_made_and_there",
    "test_examples_run",
    "test_fork_inside_a_fill",
    "test_gpt2_loads_and_knows_nothing",
    "test_keras.py",
    "test_hostile_headers_end_in_one_line",
    "test_imported_while_tensors_have_no_memory",
    "test_killed_at_random_moments",
    "test_numpy_and_fastinit_fill_the_memory_given",
    "test_orthogonal_tensors_are_written_checked_and_shown_in_parts",
    "test_report.py::test_the_command",
    "test_torch_devices.py",
    "test_torch_sharded.py",
    "test_torch_streaming.py",
    "test_transformers.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all that Numba compiles to one process: others would compile the same once more."""
    for item in items:
        if "numba" in item.nodeid and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("numba"))
        if any(re.search(pattern, item.nodeid) for pattern in EXHAUSTIVE):
            item.add_marker(pytest.mark.exhaustive)
