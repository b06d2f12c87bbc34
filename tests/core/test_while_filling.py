"""What is changed while it is filled: what has been checked is what is written.

A fill of a large array lets other threads run. Each change below is made by one, in the middle of
a fill, and must not reach it.
"""

import contextlib
import threading

import numpy as np
import pytest

import fastinit as fi
from fastinit import _kernels

# NumPy 2.5 and later discourage some of the changes, but make them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting the (shape|dtype) on a NumPy array:DeprecationWarning"
)

BIG, SMALL = 10**7, 5000
CHANGES = {
    "append": lambda arrays: arrays.append(object()),
    "clear": lambda arrays: arrays.clear(),
    "replace": lambda arrays: arrays.__setitem__(slice(None), [None] * 3),
    "shorter": lambda arrays: arrays.__setitem__(2, arrays[2][:5]),
    "reshape": lambda arrays: [setattr(x, "shape", (-1, 10)) for x in arrays],
    "dtype": lambda arrays: [setattr(x, "dtype", np.uint8) for x in arrays],
    "flags": lambda arrays: [x.setflags(write=False) for x in arrays],
    "resize": lambda arrays: [refused_resize(x) for x in arrays],
}
OF_ARRAYS = ("reshape", "dtype", "flags", "resize")


class TooLateError(Exception):
    """The fill was over."""


def refused_resize(x):
    with contextlib.suppress(ValueError):
        x.resize(0, refcheck=False)
        raise TooLateError


class Memory:
    """An array's memory, whatever becomes of the array."""

    def __init__(self, x):
        self.owner = x
        self.__array_interface__ = {
            "data": (x.ctypes.data, False),
            "shape": (x.nbytes,),
            "typestr": "|u1",
            "version": 3,
        }


def during(fill, memory, change):
    """Fill while another thread makes a change as soon as the first bytes are written.

    Return whether the last were not then; if so, and only if so, the memory is still there.
    """
    left = []

    def watch():
        while not memory[:64].any():
            pass
        with contextlib.suppress(TooLateError):
            change()
            left.append(not memory[-64:].any())

    memory[:] = 0
    thread = threading.Thread(target=watch)
    thread.start()
    fill()
    thread.join()
    return left == [True]


TURNS = 30  # of which one has to be in time, on a busy machine too


@pytest.mark.parametrize("backend", ["c", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", CHANGES)
def test_lists(change, dtype, backend):
    if backend == "numba":
        pytest.importorskip("numba")
    expected = fi.uniform(BIG + 2 * SMALL, dtype=dtype, rng=3).view(np.uint8)

    def turn():
        arrays = [fi.zeros(n, dtype=dtype) for n in (SMALL, BIG, SMALL)]
        memory = [np.asarray(Memory(x)) for x in arrays]
        rng, given = fi.default_rng(3), [*arrays]
        in_time = during(
            lambda: fi.uniform_(given, rng=rng, threads=1, backend=backend),
            memory[1],
            lambda: CHANGES[change](given),
        )
        if in_time:
            assert rng.position == BIG + 2 * SMALL
            assert np.array_equal(np.concatenate(memory), expected)
        return in_time

    assert any(turn() for _ in range(TURNS))


@pytest.mark.parametrize("change", OF_ARRAYS)
@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("fill", [fi.uniform_, fi.constant_])
def test_one_array(change, part, fill):
    shape, value = (2, BIG // 2), {"value": 2.5} if fill is fi.constant_ else {"rng": 3}
    place = {"global_shape": shape, "offset": (0, 0)} if part else {}
    expected = fill(np.empty(shape, np.float32), **value).view(np.uint8).ravel()

    def turn():
        x = np.zeros(shape, np.float32)
        memory = np.asarray(Memory(x))
        in_time = during(
            lambda: fill(x, threads=1, **value, **place), memory, lambda: CHANGES[change]([x])
        )
        assert not in_time or np.array_equal(memory, expected)
        return in_time

    assert any(turn() for _ in range(TURNS))


def test_lists_that_threads_append_to():
    done = threading.Event()
    given = [np.empty(SMALL, np.float32) for _ in range(3)]

    def change():
        while not done.is_set():
            given.append(object())
            given.pop()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            with contextlib.suppress(TypeError):  # of the object
                fi.normal_(given, rng=3)
    finally:
        done.set()
        thread.join()
    assert np.concatenate(given).tobytes() == fi.normal(3 * SMALL, dtype="float32", rng=3).tobytes()


def test_lists_are_as_one_also_where_threads_share_a_generator():
    rng = fi.default_rng(3)
    lists = [[np.empty(n, np.float32) for n in (10, SMALL, 10**6)] for _ in range(8)]
    threads = [
        threading.Thread(target=fi.normal_, args=(each,), kwargs={"rng": rng}) for each in lists
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    size = 10**6 + SMALL + 10
    stream = fi.normal(8 * size, dtype="float32", rng=3).reshape(8, size)
    drawn = {np.concatenate(each).tobytes() for each in lists}
    assert drawn == {line.tobytes() for line in stream}


class Resizing(float):
    """A number whose own code resizes an array."""

    def __new__(cls, x):
        number = super().__new__(cls, 1.5)
        number.x = x
        return number

    def __float__(self):
        self.x.resize(0, refcheck=False)
        return 1.5


class Shown:
    """An object that resizes an array while its own memory is asked for."""

    def __init__(self, x):
        self.x, self.own = x, np.zeros(5, np.float32)

    @property
    def __array_interface__(self):
        self.x.resize(0, refcheck=False)
        return self.own.__array_interface__


@pytest.mark.parametrize(
    "fill",
    [
        lambda x: fi.constant_(x, Resizing(x)),
        lambda x: fi.eye_(x, Resizing(x)),
        lambda x: fi.orthogonal_(x, Resizing(x)),
        lambda x: fi.sparse_(x, Resizing(x)),
        lambda x: fi.uniform_([x, Shown(x)]),
        lambda x: fi.uniform_([np.zeros(3, np.float16), x, Shown(x)]),
    ],
)
def test_arguments_whose_code_resizes_the_array(fill):
    """Its memory would be gone, and the fill would write there."""
    x = np.zeros((4, 6), np.float32)
    with pytest.raises(ValueError, match="cannot resize an array"):
        fill(x)
    assert not x.any()


def test_a_view_holds_the_memory_as_long_as_it_lives():
    x = np.zeros((4, 6), np.float32)
    for array in (x, x[::-1, 1:], np.asarray(x).view(np.matrix)):
        view = _kernels.view_of(array)
        assert type(view) is np.ndarray
        assert (view.shape, view.strides, view.dtype) == (array.shape, array.strides, array.dtype)
        assert view.ctypes.data == array.ctypes.data
        part = view[1:]
        del view, array
        with pytest.raises(ValueError, match="cannot resize"):
            x.resize(0, refcheck=False)
        part[...] = 3
        del part
    assert x[3, 1] == 3
    x.resize(5, refcheck=False)
    readonly = np.broadcast_to(x, (3, 5))
    assert not _kernels.view_of(readonly).flags.writeable


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_numpys_scalars_are_refused(dtype):
    for fill in (fi.normal_, fi.zeros_, fi.uniform_):
        with pytest.raises(TypeError, match=r"x is a NumPy scalar, float.*allowed: an array"):
            fill(dtype(3))
    with pytest.raises(TypeError, match=r"x\[0\]: x is a NumPy scalar"):
        fi.normal_([dtype(3)])
