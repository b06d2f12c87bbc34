"""The benchmark is honest: everyone fills what is asked, all take turns, the sums are right.

No test asserts a time.
"""

import doctest
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import cases
import numpy as np
import pytest

from fastinit import _kernels, benchmark
from fastinit._fill import as_dtype
from fastinit.benchmark import (
    CONSTANT,
    Case,
    Contender,
    Report,
    Result,
    _job,
    _jobs,
    _measure,
    _peers,
)

N = 1 << 16
STD = {"normal": 1.0, "uniform": math.sqrt(1 / 12), "truncated_normal": 0.87962566}
MEAN = {"normal": 0.0, "uniform": 0.5, "truncated_normal": 0.0}
CASE = Case("normal", "float32", 1000, 1, cold=False)


@pytest.fixture(autouse=True)
def instruction_set():
    """That in use, which contenders change."""
    with cases.using(_kernels.isa()):
        yield


def values(x, dtype):
    """What a contender returned, as NumPy's float64."""
    if type(x).__module__ == "torch":
        x = x.view(__import__("torch").uint8).numpy().view(as_dtype(dtype))
    return np.asarray(x).astype(np.float64)


@pytest.mark.parametrize("cold", [False, True], ids=["touched", "cold"])
@pytest.mark.parametrize("threads", [1, 2, benchmark.all_threads()[-1]])
@pytest.mark.parametrize("dtype", benchmark.DTYPES)
@pytest.mark.parametrize("distribution", benchmark.DISTRIBUTIONS)
def test_everyone_fills_what_is_asked(distribution, dtype, threads, cold):
    case = Case(distribution, dtype, N, threads, cold)
    x = benchmark.touched(case)
    seen = set()
    for contender in benchmark.contenders(case, x):
        if x is not None:
            x[...] = 77
        contender.prepare()
        result = contender.fill()
        seen.add(contender.name)
        if contender.library == CONSTANT:
            bits = (result if result is not None else x).view(f"u{as_dtype(dtype).itemsize}")
            assert (bits == 1).all(), contender.name
            continue
        filled = values(x if result is None else result, dtype)
        assert filled.shape == (N,), contender.name
        assert abs(filled.mean() - MEAN[distribution]) < 0.02, contender.name
        assert abs(filled.std() - STD[distribution]) < 0.02, contender.name
    assert {f"fastinit {isa}" for isa in _kernels.isas()} < seen


def test_numpy_and_fastinit_fill_the_memory_given():
    x = benchmark.touched(CASE)
    for contender in benchmark.contenders(CASE, x):
        if contender.library in ("fastinit", CONSTANT) or contender.way in ("PCG64", "SFC64"):
            x[...] = 77
            contender.prepare()
            contender.fill()
            assert not (x == 77).any(), contender.name


def test_all_take_a_turn_before_anyone_takes_the_next():
    log = []
    those = [
        Contender("a", str(i), lambda: sum(range(20000)), lambda i=i: log.append(i))
        for i in range(5)
    ]
    times = benchmark.take_turns(those, 6)
    assert [len(seconds) for seconds in times] == [6] * 5
    warm_up, turns = log[:5], log[5:]
    rounds = [turns[i : i + 5] for i in range(0, 30, 5)]
    assert warm_up == [0, 1, 2, 3, 4]
    assert all(sorted(those) == warm_up for those in rounds)
    assert len({tuple(those) for those in rounds}) > 1


def test_who_is_slow_takes_fewer_turns(monkeypatch):
    monkeypatch.setattr(_measure, "_PATIENCE", 0.0)
    [seconds] = benchmark.take_turns([Contender("a", "", lambda: None)], 9)
    assert len(seconds) == 3


def test_the_instruction_set_is_as_before():
    _kernels.use_isa("base")
    benchmark.measure(CASE, 3)
    assert _kernels.isa() == "base"


def test_figures():
    result = Result(CASE, "NumPy", "PCG64", (3e-6, 2e-6, 6e-6, 5e-6), ceiling=1e-6)
    assert result.name == "NumPy PCG64"
    assert result.best == pytest.approx(2.0)
    assert result.median == pytest.approx(4.0)
    assert result.spread == pytest.approx((5.25 - 2.75) / 4)
    assert result.speed == pytest.approx(2.0)
    assert result.share == pytest.approx(0.5)


def test_the_ceiling_is_the_best_of_the_constants():
    results = benchmark.measure(CASE, 3)
    constants = [min(r.seconds) for r in results if r.library == CONSTANT]
    assert len(constants) == 2
    assert {r.ceiling for r in results} == {min(constants)}


def test_cases_are_all_combinations_that_memory_holds():
    some = benchmark.cases(["uniform"], ["float64", "float16"], [4, 23], [1, 3])
    assert len(some) == len(set(some)) == 10
    assert {(case.dtype, case.size) for case in some if case.cold} == {("float64", 2**23)}
    few = benchmark.cases(["uniform"], ["float32"], [4, 40], [1])
    assert [case.size for case in few] == [16]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"distributions": ["cauchy"]}, "distribution='cauchy' is unknown; allowed: normal, "),
        ({"dtypes": ["int8"]}, "dtype='int8' is unknown; allowed: float32, bfloat16"),
        ({"powers": [41]}, "power=41 must be 0 to 40"),
        ({"threads": [0]}, "threads=0 must be 1 to 1024"),
        ({"powers": [40]}, "free memory are too few for every size"),
    ],
)
def test_errors_name_the_argument(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        benchmark.cases(**arguments)
    with pytest.raises(ValueError, match="repeats=2 must be 3 to 1000"):
        benchmark.measure(CASE, 2)


def test_places():
    caches = max(benchmark.machine()["caches"].values(), default=0)
    inside = Case("normal", "float32", max(caches // 4, 1), 1, cold=False)
    assert benchmark.place(inside) == ("cache" if caches else "DRAM")
    assert benchmark.place(inside._replace(size=caches // 4 + 1)) == "DRAM"
    assert benchmark.place(inside._replace(cold=True)) == "cold"


@pytest.fixture(scope="module")
def report():
    threads = {1, 2}
    some = benchmark.cases(["normal", "truncated_normal"], ["float32"], [6, 10], threads)
    return Report(benchmark.machine(), [r for case in some for r in benchmark.measure(case, 3)])


def test_a_report_is_read_as_it_was_written(report, tmp_path):
    path = tmp_path / "results.json"
    benchmark.save(report, path)
    assert benchmark.load(path) == report
    row = json.loads(path.read_text())["results"][0]
    assert row["best_ns"] == report.results[0].best
    assert row["place"] == "cache"
    path.write_text('{"results": [{}]}')
    with pytest.raises(ValueError, match="not a report of fastinit's benchmark"):
        benchmark.load(path)


def test_plots(report, tmp_path):
    from fastinit.benchmark import _plots

    files = _plots.draw(report, tmp_path)
    names = {"share", *(f"{a}-{b}" for a in ("size", "threads") for b in ("normal-float32",))}
    assert names < {path.stem for path in files}
    assert _plots.draw(Report(report.machine, []), tmp_path) == []
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)


@pytest.fixture(scope="module")
def tables():
    path = Path(__file__).parents[2] / "bench" / "tables.py"
    spec = importlib.util.spec_from_file_location("tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_stand_between_their_marks(report, tables, tmp_path):
    document = tmp_path / "a.md"
    document.write_text(
        "before\n<!-- table libraries here -->\nold\n<!-- end of table -->\nbetween\n"
        "<!-- table sizes here -->\n<!-- end of table -->\nafter\n"
        "<!-- table machines -->\n<!-- end of table -->\n"
    )
    those = {"here": dict.fromkeys(tables.PARTS, report)}
    tables.write_tables(document, those)
    text = document.read_text()
    assert "old" not in text
    for kept in (
        *("before\n<!-- table libraries here -->\n| ns", "-->\nbetween\n<!--", "-->\nafter\n"),
        "| normal float32, all threads",
    ):
        assert kept in text
    best = min(
        r.best
        for r in report.results
        if r.library == "fastinit" and r.case == Case("normal", "float32", 1024, 1, cold=False)
    )
    [row] = [line for line in text.splitlines() if line.startswith("| fastinit, 1 thread")]
    assert row.split("|")[2].strip() == f"{best:.2f}"
    tables.write_tables(document, those)
    assert document.read_text() == text


def test_the_tables_of_the_document_are_those_of_what_was_measured(tables, tmp_path):
    those = tables.measured()
    assert len(those) >= 2
    text = tables.DOCUMENT.read_text("utf-8")
    (tmp_path / "a.md").write_text(text, "utf-8")
    tables.write_tables(tmp_path / "a.md", those)
    assert (tmp_path / "a.md").read_text("utf-8") == text
    marks = {name for _, name, _ in tables.MARKED.findall(text)}
    assert {"machines", *(f"libraries {name}" for name in those)} < marks


def test_what_is_kept_is_what_was_measured(tables, report, tmp_path):
    jobs = [benchmark.Job("write", 4.0, "GB", {"fastinit": (2.00004, 2.5), "limit": (1.0, 2.0)})]
    for part in tables.PARTS:
        (tmp_path / "build" / part).mkdir(parents=True)
        some = Report(report.machine, report.results, jobs)
        benchmark.save(some, tmp_path / "build" / part / "results.json")
    tables.keep(tmp_path / "build", tmp_path / "measured")
    [name] = tables.measured(tmp_path / "measured")
    assert name == _kernels.isas()[-1].removesuffix("bf16")
    machine = tables.measured(tmp_path / "measured")[name]
    assert machine.keys() == set(tables.PARTS)
    for ours, kept in zip(report.results, machine["large"].results, strict=True):
        assert (ours.case, ours.name) == (kept.case, kept.name)
        assert kept.best == pytest.approx(ours.best, rel=1e-3)
    assert "| fastinit | 2 " in tables.jobs(machine)


def test_an_unknown_table_is_refused_and_nothing_written(report, tables, tmp_path):
    document = tmp_path / "a.md"
    document.write_text("<!-- table speeds -->\n<!-- end of table -->\n")
    with pytest.raises(
        ValueError, match="table 'speeds' is unknown; allowed: machines, libraries here"
    ):
        tables.write_tables(document, {"here": dict.fromkeys(tables.PARTS, report)})
    assert list(tmp_path.iterdir()) == [document]


def test_jobs_are_read_as_they_were_written(report, tmp_path):
    job = benchmark.Job("write", 4.0, "GB", {"fastinit": (2.0, 2.5), "limit 1 thread": (1.0, 2.0)})
    some = Report(report.machine, [], [job])
    benchmark.save(some, tmp_path / "results.json")
    assert benchmark.load(tmp_path / "results.json") == some


def test_orthogonal_matrices_are_beside_their_limit():
    pytest.importorskip("torch")
    pytest.importorskip("numba")
    [job] = benchmark.orthogonal([(48, 16)], threads=2, repeats=3)
    assert list(job.seconds) == ["fastinit", "PyTorch 1 thread", "PyTorch 2 threads", "limit"]
    assert job.work == pytest.approx((2 * 48 * 16**2 - 2 / 3 * 16**3) / 1e9)
    [narrow] = benchmark.orthogonal([(48, 16)], "bfloat16", threads=1, repeats=3)
    assert list(narrow.seconds) == ["fastinit", "limit"]


def test_the_limit_does_the_operations_that_it_says():
    """By its own definition each chain is a multiply-add by 0.5 and 1, which tends to 2."""
    pytest.importorskip("numba")
    from fastinit.benchmark import _peak

    assert _peak._loop(8)(0) == sum(range(_peak._CHAINS))
    assert _peak._loop(8)(200) == 2 * _peak._CHAINS
    counted = []
    with mock.patch.object(_peak, "_loop", return_value=counted.append):
        _peak.multiply_adds(2 * _peak._CHAINS * 8 * 3 * 1000.0, 3, 32)()
    assert counted == [1000] * 3


def test_files_are_written_checked_and_removed(tmp_path):
    jobs = list(benchmark.files(tmp_path, 0.02, threads=2, repeats=3))
    assert [job.name.split(",")[0] for job in jobs] == ["init", "check"]
    for job in jobs:
        assert list(job.seconds) == ["fastinit", "limit 1 thread", "limit 2 threads"]
        assert job.work == pytest.approx(11008 * 4096 * 2 / 1e9)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "module", [_job, _jobs, _measure, _peers], ids=lambda module: module.__name__
)
def test_docstring_examples(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fastinit", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
        check=False,
    )


def test_command_prints_jobs_and_keeps_them(tmp_path):
    pytest.importorskip("torch")
    done = run("orthogonal", "--shape", "16x8", "--threads", 1, "-o", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| orthogonal 16 x 8 float32, 1 thread ")
    [job] = benchmark.load(tmp_path / "new" / "results.json").jobs
    assert job.name == "orthogonal 16 x 8 float32, 1 thread"


def test_alone_leaves_fastinit_and_the_limit():
    results = benchmark.measure(CASE, 3, alone=True)
    assert {r.library for r in results} == {CONSTANT, "fastinit"}
    assert {r.way for r in results if r.library == "fastinit"} == {_kernels.isas()[-1]}


def test_command_prints_tables_and_keeps_results(tmp_path):
    some = ("--distribution", "uniform", "--dtype", "float32", "--threads", 1, "--repeats", 3)
    done = run(*some, "--power", 5, "--power", 8, "-o", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert "uniform float32, 2^5 elements, cache, 1 thread\n| ns per element" in done.stdout
    assert "uniform float32, 2^8 elements, cache, 1 thread\n| ns per element" in done.stdout
    report = benchmark.load(tmp_path / "new" / "results.json")
    assert {r.case.size for r in report.results} == {32, 256}
    printed = done.stdout.splitlines()[-4:]
    assert sorted(printed) == sorted(map(str, (tmp_path / "new").iterdir()))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--dtype", "int8"], "dtype='int8' is unknown; allowed: float32"),
        (["--power", "41"], "power=41 must be 0 to 40"),
        (["--threads", "0"], "threads=0 must be 1 to 1024"),
        (["--power", "4", "--repeats", "2"], "repeats=2 must be 3 to 1000"),
        (["disks"], "what='disks' is unknown; allowed: fills, orthogonal, start, files"),
        (["orthogonal", "--shape", "4x0"], "shape='4x0' must be two lengths, such as 4096x1024"),
        (["orthogonal", "--dtype", "float64"], "--dtype is of fills, and not of orthogonal"),
        (["--shape", "4x4"], "--shape is of orthogonal, and not of fills"),
        (["start", "--all-threads"], "--all-threads is of fills, and not of start"),
        (["start", "--threads", "1"], "--threads is of fills, orthogonal, files, and not of start"),
        (["--memory", "warm"], "memory='warm' is unknown; allowed: touched, cold"),
    ],
)
def test_command_errors_are_one_line(arguments, reason):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_command_without_matplotlib_says_so_before_it_measures(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'matplotlib' else find(name, *rest)\n"
    )
    done = run("-o", tmp_path / "new", PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "needs the package matplotlib: pip install " in done.stderr
    assert not (tmp_path / "new").exists()


def test_ctrl_c_ends_it_and_nothing_is_written(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "fastinit", "bench", "--power", "4", "-o", tmp_path / "new"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()  # the first case is done, the second under way
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert errors == b""
    assert not (tmp_path / "new").exists()


def test_a_system_that_tells_little(tmp_path, monkeypatch):
    for index, told in enumerate(({"level": "1"}, {"level": "2", "size": "512K", "type": "Data"})):
        (tmp_path / f"index{index}").mkdir()
        for name, text in told.items():
            (tmp_path / f"index{index}" / name).write_text(f"{text}\n")
    monkeypatch.setattr(_measure, "_CACHES", tmp_path)
    monkeypatch.setattr(_measure, "_HUGE_PAGES", tmp_path)  # of which the text cannot be read
    machine = benchmark.machine()
    assert (machine["caches"], machine["huge_pages"]) == ({"L2": 2**19}, "")
