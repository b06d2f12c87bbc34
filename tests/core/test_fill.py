"""The door: what may be filled, what is refused, and that a refusal writes nothing."""

import array
import mmap
import warnings
from itertools import permutations

import numpy as np
import pytest

import fastinit as fi

DTYPES = ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
NARROW = DTYPES[2:]
POISON = 171  # a byte


def poisoned(shape, dtype="float32"):
    dtype = fi._fill.as_dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.full(size, POISON, np.uint8).view(dtype).reshape(shape)


def untouched(x):
    return bytes(POISON for _ in range(x.nbytes)) == x.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float8_e5m2"])
@pytest.mark.parametrize("order", [*permutations(range(3))])
@pytest.mark.parametrize("lengths", [(5, 70, 600), (300, 1, 65), (17, 9, 257), (3, 40000, 2)])
def test_tiles_have_the_values_of_a_contiguous_array(lengths, order, dtype):
    whole = fi.normal(lengths, dtype=dtype, rng=3)
    # Every second element along one axis, backwards along another; all around is poison.
    memory = poisoned(
        [n * (2 if axis == 1 else 1) for axis, n in enumerate(np.take(lengths, order))], dtype
    )
    x = memory[::-1, 1::2].transpose(np.argsort(order))
    fi.normal_(x, rng=3, threads=2)
    assert x.tobytes() == whole.tobytes()
    assert untouched(memory[:, ::2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "draw",
    [fi.normal_, fi.uniform_, fi.truncated_normal_, fi.xavier_uniform_, fi.he_normal_],
)
def test_layout_does_not_matter(draw, dtype):
    whole = draw(fi.zeros((37, 53), dtype=dtype), rng=7)
    strided = draw(fi.zeros((74, 106), dtype=dtype)[::-2, ::2], rng=7)
    transposed = draw(fi.zeros((53, 37), dtype=dtype).T, rng=7)
    assert strided.tobytes() == whole.tobytes() == transposed.tobytes()
    assert len(np.unique(whole.view(f"u{whole.itemsize}"))) > 30


@pytest.mark.parametrize("shape", [(37, 53), (1, 53), (37, 1), (1, 1), (0, 53)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_part_equals_that_part_of_the_whole(shape, dtype):
    whole = fi.he_normal((64, 70), rng=7, dtype=dtype)
    rng = fi.default_rng(7)
    part = fi.he_normal_(
        fi.zeros(shape, dtype=dtype), rng=rng, global_shape=(64, 70), offset=(20, 11)
    )
    expected = whole[20 : 20 + shape[0], 11 : 11 + shape[1]]
    assert part.tobytes() == np.ascontiguousarray(expected).tobytes()
    assert rng.position == 64 * 70


def test_parts_of_a_large_tensor_are_reached_directly():
    shape = (2**20, 2**20, 8)
    one = fi.normal((1, 1, 8), rng=3, global_shape=shape, offset=(2**19, 12345, 0), dtype="float64")
    index = (2**19 * 2**20 + 12345) * 8
    assert (fi.default_rng(3).advance(index).standard_normal(8) == one.ravel()).all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (1, 1, 1)])
def test_small_shapes(shape):
    x = poisoned(shape)
    assert fi.normal_(x, rng=1) is x
    assert x.shape == shape
    if x.size:
        assert x.ravel()[0] == fi.normal(1, rng=1)[0]


def test_zero_size_takes_no_index():
    rng = fi.default_rng(1)
    fi.normal_(np.empty((0, 5)), rng=rng)
    assert rng.position == 0


def codes(x):
    """The bits, so that NaN equals NaN and -0 is not 0."""
    return x.view(f"u{x.itemsize}")


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("draw", [fi.normal, fi.uniform, fi.truncated_normal])
def test_narrow_floats_are_the_rounded_float32(draw, dtype):
    narrow, wide = draw(10**5, rng=5, dtype=dtype), draw(10**5, rng=5)
    assert np.array_equal(codes(narrow), codes(wide.astype(narrow.dtype)))


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("std", [1e-8, 1e-7, 1e-5, 1e-3, 1e-2, 100.0, 440.0])
def test_narrow_subnormals_and_overflow_round_as_numpy(std, dtype):
    narrow = fi.normal(10**5, std=std, rng=5, dtype=dtype)
    with np.errstate(over="ignore"):
        expected = fi.normal(10**5, std=std, rng=5).astype(narrow.dtype)
    assert np.array_equal(codes(narrow), codes(expected))


class Interface:
    def __init__(self, x):
        self.x = x  # whose memory it is: the interface alone does not keep it
        self.__array_interface__ = x.__array_interface__


OLD_NUMPY = np.lib.NumpyVersion(np.__version__) < "2.1.0"
TAKES_DLPACK = pytest.mark.skipif(OLD_NUMPY, reason="NumPy 2.0 takes DLPack's memory read-only")


class DLPack:
    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


@pytest.mark.parametrize(
    "of",
    [
        lambda: array.array("f", bytes(4 * 100)),
        lambda: memoryview(bytearray(4 * 100)).cast("f"),
        lambda: memoryview(mmap.mmap(-1, 4 * 100)).cast("f"),
        lambda: Interface(np.zeros(100, np.float32)),
        pytest.param(lambda: DLPack(np.zeros(100, np.float32)), marks=TAKES_DLPACK),
        lambda: np.zeros(100, np.float32).view(np.recarray),
    ],
    ids=["array", "memoryview", "mmap", "interface", "dlpack", "subclass"],
)
def test_whatever_shows_its_memory(of):
    x = of()
    assert fi.normal_(x, rng=9) is x
    filled = np.asarray(getattr(x, "x", x))
    assert filled.tobytes() == fi.normal(100, rng=9).tobytes()


@pytest.mark.skipif(not OLD_NUMPY, reason="NumPy 2.1 and later take DLPack's memory as it is")
def test_an_old_numpy_is_named_where_it_takes_memory_as_read_only():
    x = DLPack(np.zeros(100, np.float32))
    with pytest.raises(ValueError, match=r"x is a DLPack, whose memory NumPy 2\.0.* 2\.1 or later"):
        fi.normal_(x, rng=9)
    assert not x.x.any()


def read_only():
    x = poisoned(10)
    x.flags.writeable = False
    return x


def misaligned():
    record = np.dtype([("a", "u1"), ("b", "f4")])
    return poisoned(10 * record.itemsize, "uint8").view(record)["b"]


def overlapping():
    return np.lib.stride_tricks.as_strided(poisoned(10), (4, 4), (4, 4))


@pytest.mark.parametrize(
    ("of", "error", "message"),
    [
        (read_only, ValueError, "x is read-only"),
        (misaligned, ValueError, "x is not aligned"),
        (overlapping, ValueError, r"x has overlapping elements: shape \(4, 4\)"),
        (lambda: poisoned(10).astype(">f4"), TypeError, "x has dtype '>f4'; allowed: float32"),
        (lambda: poisoned(10, "int32"), TypeError, "x has dtype 'int32'; allowed: float32"),
        (lambda: poisoned(10).astype(">c8"), TypeError, "x has dtype '>c8'; allowed: complex64"),
        (lambda: np.full(3, None), TypeError, "x has dtype 'object'"),
        (lambda: [1.0, 2.0], TypeError, "x=.* is no array; allowed: a NumPy array"),
        (lambda: 1.0, TypeError, "x=1.0 is no array"),
        (lambda: memoryview(bytes(8)).cast("f"), ValueError, "x is read-only"),
    ],
)
@pytest.mark.parametrize("draw", [fi.normal_, fi.uniform_, fi.lecun_normal_])
def test_refused_arrays_are_untouched(draw, of, error, message):
    x = of()
    before = memoryview(x).tobytes() if hasattr(x, "itemsize") else repr(x)
    rng = fi.default_rng(1)
    options = {"fan_in": 1} if draw is fi.lecun_normal_ else {}
    with pytest.raises(error, match=message):
        draw(x, rng=rng, **options)
    assert (memoryview(x).tobytes() if hasattr(x, "itemsize") else repr(x)) == before
    assert rng.position == 0


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: fi.normal_(x, std=-1), ValueError, r"std=-1.0 must be 0 or greater"),
        (lambda x: fi.normal_(x, std=NAN), ValueError, "std=nan"),
        (lambda x: fi.normal_(x, std=INF), ValueError, "std=inf must be finite"),
        (lambda x: fi.normal_(x, std=1e39), ValueError, r"std=1e\+39 must be finite in float32"),
        (lambda x: fi.normal_(x, mean=NAN), ValueError, "mean=nan"),
        (lambda x: fi.normal_(x, mean="1"), TypeError, "mean='1' must be a real number"),
        (lambda x: fi.normal_(x, mean=[1.0]), TypeError, r"mean=\[1.0\] must be a real number"),
        (lambda x: fi.normal_(x, mean=True), TypeError, "mean=True"),
        (lambda x: fi.truncated_normal_(x, low=1, high=-1), ValueError, "low=1.0 must not be gr"),
        (lambda x: fi.truncated_normal_(x, low=NAN), ValueError, "low=nan"),
        (lambda x: fi.truncated_normal_(x, low=INF, high=INF), ValueError, "low=inf"),
        (lambda x: fi.truncated_normal_(x, std=-1), ValueError, r"std=-1\.0 must be 0 or"),
        (lambda x: fi.truncated_normal_(x, mean=INF), ValueError, "mean and std must be finite"),
        (lambda x: fi.truncated_normal_(x, std=1e39), ValueError, "must be finite in float32"),
        (lambda x: fi.truncated_normal_(x, 1, 1e-9, 1, 2), ValueError, "no float32 lies between"),
        (lambda x: fi.truncated_normal_(x, 0, 1e38, 4, 5), ValueError, "no float32 lies between"),
        (lambda x: fi.uniform_(x, 2, 1), ValueError, "low=2.0 must not be greater than high=1.0"),
        (lambda x: fi.uniform_(x, 0, INF), ValueError, "high=inf"),
        (lambda x: fi.uniform_(x, NAN, 1), ValueError, "low=nan"),
        (lambda x: fi.uniform_(x, -3e38, 3e38), ValueError, r"high - low=6e\+38 must be finite in"),
        (lambda x: fi.constant_(x, 1e39), ValueError, r"value=1e\+39 must be finite in float32"),
        (lambda x: fi.constant_(x, "1"), TypeError, "value='1'"),
        (lambda x: fi.normal_(x, rng=-1), ValueError, "rng=-1 is not a seed; allowed: a non-neg"),
        (lambda x: fi.normal_(x, rng=1.5), TypeError, "rng=1.5 is not a seed"),
        (lambda x: fi.normal_(x, rng="one"), TypeError, "rng='one' is not a seed"),
        (lambda x: fi.normal_(x, rng=True), TypeError, "rng=True is not a seed"),
        (lambda x: fi.normal_(x, threads=0), ValueError, "threads=0 must be 1 to 1024"),
        (lambda x: fi.normal_(x, threads=1025), ValueError, "threads=1025 must be 1 to 1024"),
        (lambda x: fi.normal_(x, threads=2.0), TypeError, "threads=2.0 must be an integer"),
        (lambda x: fi.normal_(x, global_shape=(9, 9)), ValueError, "give both, or neither"),
        (lambda x: fi.normal_(x, offset=(0, 0)), ValueError, "give both, or neither"),
        (
            lambda x: fi.normal_(x, global_shape=(9, 9), offset=(6, 0)),
            ValueError,
            r"x of shape \(4, 6\) at offset=\(6, 0\) does not fit into global_shape=\(9, 9\)",
        ),
        (
            lambda x: fi.normal_(x, global_shape=(9, 9), offset=(-1, 0)),
            ValueError,
            r"offset=\(-1, 0\) must not be negative",
        ),
        (
            lambda x: fi.normal_(x, global_shape=(9, 9, 9), offset=(0, 0)),
            ValueError,
            "must have as many axes as x",
        ),
        (
            lambda x: fi.normal_(x, global_shape=(2**32, 2**31), offset=(0, 0)),
            ValueError,
            r"global_shape=.* has 9223372036854775808 elements; allowed: < 2\*\*63",
        ),
        (
            lambda x: fi.normal_(x, rng=fi.default_rng(1).advance(2**63 - 5)),
            ValueError,
            r"24 elements at position 9223372036854775803: a stream has 2\*\*63 indices",
        ),
        (
            lambda x: fi.he_normal_(x, nonlinearity="swoosh"),
            ValueError,
            "nonlinearity='swoosh' is unknown; allowed: linear, .*, sigmoid, tanh, relu",
        ),
        (
            lambda x: fi.he_normal_(x, mode="fan_around"),
            ValueError,
            "mode='fan_around' is unknown; allowed: fan_in, fan_out, fan_avg",
        ),
        (
            lambda x: fi.variance_scaling_(x, 1.0, "fan_in", "cauchy"),
            ValueError,
            "distribution='cauchy' is unknown; allowed: normal, truncated_normal, uniform",
        ),
        (lambda x: fi.variance_scaling_(x, 0.0), ValueError, "scale=0.0 must be positive"),
        (lambda x: fi.xavier_normal_(x, gain=-1), ValueError, "gain=-1 must be positive"),
        (lambda x: fi.xavier_normal_(x, fan_in=0), ValueError, "fan_in=0 must be positive"),
        (lambda x: fi.xavier_normal_(x, fan_inn=1), TypeError, "fan_inn"),
        (lambda x: fi.lecun_normal_(x, in_axis=2), ValueError, "in_axis=2 is not an axis"),
        (lambda x: fi.lecun_normal_(x, in_axis=-1), ValueError, "must be different axes"),
        (lambda x: fi.lecun_normal_(x[0]), ValueError, "give fan_in and fan_out"),
        (lambda x: fi.default_rng(1).normal(size=(6, 4), out=x), ValueError, r"size=\(6, 4\)"),
        (lambda x: fi.default_rng(1).normal(dtype="f8", out=x), TypeError, "dtype=float64"),
        (lambda x: fi.default_rng(1).normal(scale=-1, out=x), ValueError, "scale=-1.0"),
    ],
)
def test_refused_arguments_leave_the_array_untouched(call, error, message):
    x = poisoned((4, 6))
    with pytest.raises(error, match=message):
        call(x)
    assert untouched(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fi.normal((2, -1)), ValueError, r"shape=\(2, -1\) must not be negative"),
        (lambda: fi.normal(2**63), ValueError, r"allowed: < 2\*\*63"),
        (lambda: fi.normal(2.5), TypeError, "shape=2.5 must be an integer or"),
        (lambda: fi.normal("ab"), TypeError, "shape='ab'"),
        (lambda: fi.normal(3, dtype="float23"), TypeError, "dtype='float23' is not a dtype"),
        (lambda: fi.normal(3, dtype="int8"), TypeError, "dtype='int8'; allowed: float32"),
        (
            lambda: fi.normal(2**61),
            ValueError,
            r"shape=2305843009213693952 of float32 has .* bytes",
        ),
        (lambda: fi.normal(2**53), MemoryError, "shape=9007199254740992 of float32 .* no memory"),
        (
            lambda: fi.default_rng(1).random(2**61),
            ValueError,
            r"size=\(2305843009213693952,\) of f",
        ),
        (
            lambda: fi.default_rng(1).normal(dtype="int8"),
            TypeError,
            r"^Generator.normal\(\): dtype='int8'; allowed: float32",
        ),
        (lambda: fi.default_rng(1).normal(out=np.int8([3])), TypeError, ": out has dtype 'int8'"),
        (lambda: fi.default_rng(1).normal(out=read_only()), ValueError, ": out is read-only"),
        (lambda: fi.values_at(1, [3], dtype="int8"), TypeError, r"^values_at\(\): dtype='int8'; "),
        (lambda: fi.set_num_threads(0), ValueError, "n=0 must be 1 to 1024"),
        (lambda: fi.calculate_gain("leaky_relu", INF), ValueError, "param=inf must be finite"),
    ],
)
def test_refused_without_an_array(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", 0.1),
        ("float64", 0.1),
        ("float16", 0.1),
        ("bfloat16", 0.1),
        ("float8_e4m3fn", 0.1),
        ("float8_e5m2", 0.1),
        ("float32", -0.0),
        ("float32", NAN),
        ("float64", -INF),
        ("int8", -128),
        ("uint64", 2**64 - 1),
        ("int64", -(2**63)),
        ("bool", 1),
    ],
)
@pytest.mark.parametrize("n", [0, 1, 77, 100_001])
def test_constant(dtype, value, n):
    x = fi.constant_(poisoned(n, dtype), value)
    assert x.tobytes() == np.full(n, value, fi._fill.as_dtype(dtype)).tobytes()
    strided = fi.constant_(poisoned(2 * n, dtype)[::2], value)
    assert strided.tobytes() == x.tobytes()


@pytest.mark.parametrize(
    ("dtype", "value", "error"),
    [
        ("int8", 128, ValueError),
        ("uint8", -1, ValueError),
        ("int32", 0.5, TypeError),
        ("bool", 2, ValueError),
        ("complex64", 1j, TypeError),
        ("complex64", 1e39, ValueError),
        ("complex128", 1, TypeError),
        ("S4", 1, TypeError),
        ("datetime64[s]", 1, TypeError),
        (">i4", 1, TypeError),
        ("float16", 7e4, ValueError),
    ],
)
def test_constants_that_do_not_fit_write_nothing(dtype, value, error):
    x = poisoned(5 * np.dtype(dtype).itemsize, "uint8").view(dtype)
    with pytest.raises(error):
        fi.constant_(x, value)
    assert untouched(x)


@pytest.mark.parametrize(
    ("x", "usual"),
    [
        (np.zeros((3, 5), np.float32), True),
        (np.zeros((3, 5)), True),
        (np.zeros((), np.float32), True),
        ([np.zeros(3, np.float32), np.zeros((2, 2))], True),
        ([np.zeros(3, np.float32), np.zeros((3, 4)).T], False),
        (np.zeros((3, 5), np.float16), False),
        (np.zeros((3, 5), np.int32), False),
        (np.zeros(5, ">f4"), False),
        (np.zeros(10, np.float32)[::2], False),
        (np.zeros(13, np.uint8)[1:].view(np.float32), False),
        (np.frombuffer(bytes(12), np.float32), False),
        (np.zeros((3, 5), np.float32).view(np.recarray), False),
        (array.array("f", [0, 0]), False),
        (3, False),
    ],
)
def test_the_usual_arrays_take_the_short_way_to_the_same_values(x, usual):
    distribution, rng = fi._distributions.normal_distribution(0.5, 2.0), fi.default_rng(7)
    before = str(x)
    assert fi._kernels.fill_usual(distribution, x, rng, 1) is usual
    if not usual:
        assert (str(x), rng.position) == (before, 0)
        return
    arrays = x if isinstance(x, list) else [x]
    assert rng.position == sum(a.size for a in arrays)
    other = fi.default_rng(7)
    for a in arrays:
        expected = np.empty((*a.shape, 2), a.dtype)[..., 0]  # strided: goes the long way
        assert (fi.normal_(expected, 0.5, 2.0, rng=other) == a).all()


@pytest.mark.parametrize(
    "distribution",
    [
        fi._distributions.normal_distribution(1e39, 0.0),
        fi._distributions.truncated_normal_distribution(0, 1, 0, 1),
    ],
)
def test_what_depends_on_the_dtype_takes_the_long_way(distribution):
    x, rng = np.zeros(3, np.float32), fi.default_rng(7)
    assert not fi._kernels.fill_usual(distribution, x, rng, 1)
    assert not x.any()


@pytest.mark.parametrize("fill", [fi.uniform_, fi.normal_, fi.truncated_normal_])
def test_a_list_is_filled_as_if_it_were_one_array(fill):
    lengths = [3, 0, 5000, 1, 64]
    arrays = [np.zeros(n, np.float32) for n in lengths]
    rng = fi.default_rng(7)
    assert fill(arrays, rng=rng) is arrays
    assert rng.position == sum(lengths)
    whole = fill(np.zeros(sum(lengths), np.float32), rng=7)
    assert np.concatenate(arrays).tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("second", "options", "error", "message"),
    [
        (3, {}, TypeError, r"x\[1\]: x=3 is no array; allowed"),
        (np.zeros(3, np.int32), {}, TypeError, r"x\[1\]: x has dtype 'int32'; allowed"),
        (np.broadcast_to(np.float32(0), 3), {}, ValueError, r"x\[1\]: x is read-only"),
        (np.zeros(3, np.float16), {"mean": 1e9}, ValueError, r"x\[1\]: mean=.* finite in float16"),
        (np.zeros(3), {"global_shape": 9, "offset": 0}, ValueError, "are for one array"),
    ],
)
def test_a_list_with_one_bad_array_is_untouched(second, options, error, message):
    first, rng = np.zeros(3, np.float32), fi.default_rng(7)
    with pytest.raises(error, match=message):
        fi.normal_([first, second], rng=rng, **options)
    assert not first.any()
    assert rng.position == 0


def test_threads_setting():
    try:
        fi.set_num_threads(3)
        assert fi.get_num_threads() == 3 == fi.info()["threads"]
    finally:
        fi.set_num_threads(None)
    assert fi.get_num_threads() == fi._kernels.cpus()


# float32's draws and float64's reach 7.54 and 9.5 standard deviations.
@pytest.mark.parametrize(
    ("dtype", "largest", "radius", "becomes"),
    [
        ("float16", 65504.0, 7.55, "infinity"),
        ("bfloat16", float.fromhex("0x1.fep127"), 7.55, "infinity"),
        ("float8_e4m3fn", 448.0, 7.55, "NaN"),
        ("float8_e5m2", 57344.0, 7.55, "infinity"),
        ("float32", float(np.finfo("f4").max), 7.55, "infinity"),
        ("float64", float(np.finfo("f8").max), 9.5, "infinity"),
    ],
)
def test_normals_that_may_not_fit_say_so_before_they_are_written(dtype, largest, radius, becomes):
    fits, beyond = largest / radius * 0.999, largest / radius * 1.001
    x = poisoned(1000, dtype)
    for arrays in (x, [x], x[::2]):
        words = rf"{dtype}, become {becomes}; truncated_normal_ keeps them"
        with pytest.warns(RuntimeWarning, match=words):
            fi.normal_(arrays, 0.0, beyond, rng=1)
        x.view(np.uint8)[...] = POISON
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning, match=words):
                fi.normal_(arrays, largest / 2, beyond / 1.99, rng=1)
            assert untouched(x)
            fi.normal_(arrays, 0.0, fits, rng=1)
            fi.truncated_normal_(x, 0.0, beyond, rng=1)
            fi.uniform_(x, -largest, 0, rng=1)
        assert np.isfinite(x.astype(float)).all()
        x.view(np.uint8)[...] = POISON
