"""What holds for every initializer: parts, dtypes, memory, threads, arguments."""

import os
import subprocess
import sys
import tracemalloc
from itertools import pairwise

import cases
import catalogue
import numpy as np
import pytest
from catalogue import NAMES, NOT_RANDOM, fill, spec
from hypothesis import given, settings
from hypothesis import strategies as st

import fastinit as fi

RANDOM = sorted({*NAMES} - NOT_RANDOM)


@st.composite
def shapes(draw, name, longest):
    ndim = draw(st.integers(max(1, spec(name).least), spec(name).most))
    shape = draw(st.lists(st.integers(1, longest), min_size=ndim, max_size=ndim))
    if name == "delta_orthogonal":  # no fewer outputs than inputs
        shape[-2:] = sorted(shape[-2:])
    return tuple(shape)


@st.composite
def divisions(draw, name, longest=9):
    """A shape that an initializer takes, and where each of its axes is cut."""
    shape = draw(shapes(name, longest))
    cuts = [sorted(draw(st.sets(st.integers(0, n), max_size=3)) | {0, n}) for n in shape]
    return shape, [list(pairwise(c)) for c in cuts]


def boxes(cuts):
    if not cuts:
        yield ()
        return
    for piece in cuts[0]:
        for rest in boxes(cuts[1:]):
            yield (piece, *rest)


def assemble(shape, cuts, dtype, fill_part):
    whole = np.empty(shape, dtype)
    whole.view(np.uint8)[...] = 0xA5
    for box in boxes(cuts):
        part = np.empty([stop - start for start, stop in box], dtype)
        whole[tuple(slice(*piece) for piece in box)] = fill_part(part, [start for start, _ in box])
    return whole


@pytest.mark.parametrize("name", NAMES)
def test_parts_equal_the_whole(name):
    @settings(max_examples=40)
    @given(divisions(name), st.sampled_from(["float32", "float64", "bfloat16"]), st.integers(0, 99))
    def check(division, dtype, position):
        shape, cuts = division
        dtype = fi._fill.as_dtype(dtype)
        rng = fi.default_rng(7).advance(position)
        expected = fill(name, np.empty(shape, dtype), rng)
        end = rng.position
        positions = set()

        def fill_part(part, offset):
            rng = fi.default_rng(7).advance(position)
            fill(name, part, rng, global_shape=shape, offset=offset)
            positions.add(rng.position)
            return part

        assert assemble(shape, cuts, dtype, fill_part).tobytes() == expected.tobytes()
        assert positions == {end}

    check()


@pytest.mark.parametrize("name", NAMES)
def test_any_box_by_any_way(name):
    """Every initializer, without exception: threads, instruction sets, Numba, dtypes, boxes."""

    @settings(max_examples=60)
    @given(st.data(), st.integers(1, 3), st.sampled_from(cases.ISAS), st.sampled_from(cases.FLOATS))
    def check(data, threads, way, dtype):
        shape = data.draw(shapes(name, data.draw(st.sampled_from([5, 12]))))
        if len(shape) == 2 and data.draw(st.booleans()):  # so that its rows are of several blocks
            shape = tuple(length * 11 for length in shape)
        box = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
        whole = fill(name, np.empty(shape, fi._fill.as_dtype(dtype)), 7, threads=1, backend="c")
        part = np.empty([stop - start for start, stop in box], whole.dtype)
        where = {"global_shape": shape, "offset": [start for start, _ in box]}
        with cases.using(way):
            backend = "numba" if way == "numba" else "c"
            fill(name, part, 7, threads=threads, backend=backend, **where)
        assert part.tobytes() == whole[tuple(slice(*pair) for pair in box)].tobytes()

    check()


PYTORCH = {"in_axis": 1, "out_axis": 0}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dirac", {**PYTORCH, "groups": 2}),
        ("delta", PYTORCH),
        ("hadamard", PYTORCH),
        ("he_normal", {**PYTORCH, "mode": "fan_out"}),
        ("xavier_uniform", {"batch_axis": 0, "in_axis": 1, "out_axis": 2}),
    ],
)
def test_parts_equal_the_whole_in_other_layouts(name, options):
    shape = (6, 5, 4, 3)
    cuts = [[(0, 2), (2, 6)], [(0, 1), (1, 5)], [(0, 3), (3, 4)], [(0, 2), (2, 3)]]
    whole = fill(name, np.empty(shape, np.float32), 7, **options)
    parts = assemble(
        shape,
        cuts,
        np.float32,
        lambda x, offset: fill(name, x, 7, global_shape=shape, offset=offset, **options),
    )
    assert parts.tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_types_are_the_rounded_float32(name, dtype):
    shape = (64, 100)
    narrow = fill(name, np.empty(shape, fi._fill.as_dtype(dtype)), 5)
    wide = fill(name, np.empty(shape, np.float32), 5).astype(narrow.dtype)
    if "trunc" in name:  # where rounding leaves the bounds: the last number within
        wide = np.clip(wide, narrow.min(), narrow.max()).astype(narrow.dtype)
    assert narrow.tobytes() == wide.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_threads_and_strides_do_not_matter(name):
    shape = (300, 400)
    one = fill(name, np.empty(shape, np.float32), 5, threads=1)
    strided = np.empty((600, 800), np.float32)[::-2, ::2]
    for x in (strided, np.empty(shape[::-1], np.float32).T):
        assert np.array_equal(fill(name, x, 5, threads=4), one)


@pytest.mark.parametrize("name", NAMES)
def test_backends_do_not_matter(name):
    pytest.importorskip("numba")
    x = fill(name, np.empty((60, 70), np.float32), 5, backend="numba")
    assert x.tobytes() == fill(name, np.empty((60, 70), np.float32), 5, backend="c").tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_refused_arguments_leave_the_array_untouched(name):
    x = np.full((6, 8), 7, np.float32)
    rng = fi.default_rng(1)
    elsewhere = {"global_shape": (9, 9), "offset": (0, 2)}
    for options in ({"threads": 0}, {"backend": "x"}, {"global_shape": (6, 8)}, elsewhere):
        with pytest.raises(ValueError, match=r"threads=0|backend='x'|global_shape"):
            fill(name, x, rng, **options)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        fill(name, x, rng)
    assert (x == 7).all()
    assert rng.position == 0


@pytest.mark.parametrize("name", NAMES)
def test_zero_sizes(name):
    if spec(name).least == 0:
        assert fill(name, np.empty(0), 1).shape == (0,)
    refused = {("embedding", 0, 4), ("embedding", 0, 0), ("delta_orthogonal", 4, 0)}
    for shape in ((0, 4), (4, 0), (0, 0)):
        if (name, *shape) not in refused:  # no padding row; fewer outputs than inputs
            assert fill(name, np.empty(shape), 1).shape == shape


SIDE = 2**12  # 64 MB of float32


@pytest.mark.parametrize("name", NAMES)
def test_no_temporary_of_the_outputs_size(name):
    x = np.empty((SIDE, SIDE), np.float32)
    tracemalloc.start()
    try:
        fill(name, x, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 8


def test_the_process_does_not_grow():
    """As above, but of the whole process: also what no Python allocator sees."""
    code = f"""
import resource, sys
import numpy as np
from catalogue import NAMES, fill
x = np.zeros((2 * {SIDE}, {SIDE}), np.float32)
x.fill(1)
for name in NAMES:  # stacks, modules, pages of code
    if "orthogonal" not in name:  # see test_orthogonal.py
        fill(name, x[:64], 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in NAMES:
    if "orthogonal" not in name:  # see test_orthogonal.py
        fill(name, x, 1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    path = os.pathsep.join([os.path.dirname(catalogue.__file__), *sys.path])  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert int(done.stdout) * 1024 < 2 * SIDE * SIDE * 4 / 8, done.stderr
