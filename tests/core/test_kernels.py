"""The kernels give the reference's bits: for every distribution, dtype and instruction set, for
any start, length, split and memory layout; and they write nothing else."""

import ctypes
import json
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import cases
import golden
import numpy as np
import pytest
import reference
from cases import CASES, EXTREMES, FLOATS, KEY, TRUNCATED, Array, Case
from conftest import SRC
from hypothesis import given, settings
from hypothesis import strategies as st
from test_truncated import INTERVALS

import fastinit as fi
from fastinit import _kernels
from fastinit._fill import as_dtype

BLOCK = _kernels.BLOCK
GOLDEN = json.loads(golden.FILE.read_text())
Compiled = Callable[[str], ctypes.CDLL]

METHODS = ("central", "wide", "body", "far")

every_case = pytest.mark.parametrize("case", CASES + TRUNCATED, ids=str)
DRAWS = settings(max_examples=60)


# The generator.


def test_stream_and_block_are_the_references() -> None:
    assert reference.STREAM == _kernels.STREAM
    assert reference.BLOCK == BLOCK


def test_pcg32_known_answers() -> None:
    """pcg-c's check-pcg32.out: pcg32_srandom_r(42, 54), six draws."""
    inc = 54 << 1 | 1
    state = reference.pcg32_step(reference.pcg32_step(0, inc) + 42, inc)
    drawn = []
    for _ in range(6):
        drawn.append(reference.pcg32_output(state))
        state = reference.pcg32_step(state, inc)
    assert drawn == [0xA15C02B7, 0x7B47F409, 0xBA1D3330, 0x83D2F293, 0xBFA4784B, 0xCBED606E]


def test_mix64_known_answers() -> None:
    """The first outputs of S. Vigna's splitmix64.c from state 0."""
    gamma = 0x9E3779B97F4A7C15
    outputs = [reference.mix64(i * gamma % 2**64) for i in (1, 2, 3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_jump_tables() -> None:
    """A^n and 1 + A + ... + A^(n-1), for the n that each table is said to hold."""
    text = (SRC / "pcg.h").read_text()
    multiplier = 6364136223846793005
    powers, sums = [1], [0]
    for _ in range(2 * BLOCK):
        sums.append((sums[-1] + powers[-1]) % 2**64)
        powers.append(powers[-1] * multiplier % 2**64)

    def table(name: str) -> list[int]:
        body = re.search(rf"{name}\[\d+\] = {{(.*?)}}", text, re.DOTALL)
        assert body
        return [int(number, 16) for number in re.findall(r"0x(\w+)u", body[1])]

    def constant(name: str) -> int:
        number = re.search(rf"#define {name} 0x(\w+)u", text)
        assert number
        return int(number[1], 16)

    assert constant("PCG_MULTIPLIER") == multiplier
    assert (constant("PCG_MUL_64"), constant("PCG_ADD_64")) == (powers[64], sums[64])
    assert (table("pcg_mul"), table("pcg_add")) == (powers[:64:2], sums[:64:2])
    assert table("pcg_mul_chunk") == powers[0 : 2 * BLOCK : 64]
    assert table("pcg_add_chunk") == sums[0 : 2 * BLOCK : 64]


@pytest.mark.parametrize(
    "names", [(), ("wte",), ("layers.0", "wörter.\N{GREEK SMALL LETTER ALPHA}")]
)
def test_key(names: tuple[str, ...]) -> None:
    rng = fi.default_rng(42)
    for name in names:
        rng = rng.stream(name)
    assert rng.key == reference.key(42, *names)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_is_an_oracle_for_the_uniforms(dtype: str) -> None:
    key = reference.key(7)
    numpy = np.random.Generator(fi.PCG32(7)).random(5000, dtype=np.dtype(dtype))
    x = np.empty(5000, dtype)
    code = getattr(_kernels, dtype.upper())
    cases.backend.fill(_kernels.UNIFORM, code, x, 0, key, (0.0, 1.0), 1)
    assert x.tobytes() == numpy.tobytes()
    unit = reference.FORMATS[dtype]
    assert x.tolist() == [reference.standard_uniform(key, i, unit) for i in range(5000)]


# Bits.


@pytest.mark.usefixtures("isa")
@every_case
def test_short_lengths(case: Case) -> None:
    """At every place in a chunk of 64 and around a block's end; the guards stay untouched."""
    line, guard = case.expected(BLOCK + 200), 67
    for n in range(71):
        for start in (0, 1, 2, 31, 62, 63, 64, 65, 127, BLOCK - 65, BLOCK - 1, BLOCK, BLOCK + 1):
            around = case.poisoned(n + 2 * guard)
            expected = around.copy()
            expected[guard : guard + n] = line[start : start + n]
            case.fill(around[guard : guard + n], start)
            assert np.array_equal(around, expected), (n, start)


@pytest.mark.usefixtures("isa")
@every_case
def test_lengths_around_blocks(case: Case) -> None:
    line = case.expected(4 * BLOCK + 70)
    for blocks in (1, 2, 3):
        for n in range(blocks * BLOCK - 2, blocks * BLOCK + 3):
            for start in (0, 1, 63, 64, BLOCK - 1, BLOCK):
                assert np.array_equal(case.filled(n, start), line[start : start + n]), (n, start)


@pytest.mark.usefixtures("isa")
@every_case
@pytest.mark.parametrize("edge", [2**32, 2**42, 2**63, 2**64], ids=["2^32", "2^42", "2^63", "wrap"])
def test_far_starts(case: Case, edge: int) -> None:
    """2^42 is where the block's number passes 32 bits; past 2^64 comes index 0."""
    for start in (edge - BLOCK, edge - 131, edge - 1, edge):
        n = 300
        assert np.array_equal(case.filled(n, start % 2**64), case.expected(n, start % 2**64)), start


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", EXTREMES, ids=str)
def test_extreme_parameters(case: Case) -> None:
    assert np.array_equal(case.filled(1000), case.expected(1000))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bounds", INTERVALS, ids=str)
def test_truncated_intervals(bounds: tuple[float, float], dtype: str) -> None:
    check_truncated(Case("truncated_normal", dtype, (0.0, 2.0, *bounds)))


def bounds() -> st.SearchStrategy[list[float]]:
    """Of every method, among them intervals without length and of next to none."""
    bound = st.floats(-12, 12) | st.sampled_from([-math.inf, math.inf]) | st.floats()
    narrow = st.tuples(st.floats(-12, 12), st.floats(1e-17, 0.3)).map(lambda x: (x[0], sum(x)))
    pairs = narrow | st.tuples(bound, bound).filter(lambda x: not any(map(math.isnan, x)))
    return pairs.map(sorted).filter(lambda x: x[0] < math.inf and x[1] > -math.inf)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", FLOATS)
@settings(DRAWS, max_examples=100)
@given(mean=st.floats(-100, 100), std=st.floats(0, 100), bounds=bounds())
def test_any_truncated_interval(dtype: str, mean: float, std: float, bounds: list[float]) -> None:
    check_truncated(Case("truncated_normal", dtype, (mean + 0.0, std, *bounds)))


def check_truncated(case: Case) -> None:
    """What is set up once a fill, the bounds in the dtype, and 50 values."""
    interval = reference.interval(*case.params)
    set_up = (*interval[:4], METHODS.index(interval.method), *interval[5:])
    assert _kernels.truncate(*case.params) == set_up
    low, high = reference.inward(interval, case.dtype)
    if low > high:
        with pytest.raises(ValueError, match=f"no {case.dtype} lies between"):
            case.filled(50)
    else:
        assert case.kernel_params()[:2] == (low, high)
        assert np.array_equal(case.filled(50), case.expected(50))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("entry", GOLDEN["outputs"], ids=lambda entry: entry["case"])
def test_golden(entry: dict[str, Any]) -> None:
    """SHA-256 of what the reference made (see golden.py), over several slices of work."""
    assert GOLDEN["stream"] == _kernels.STREAM
    assert GOLDEN["key"] == list(KEY)
    case = Case(entry["distribution"], entry["dtype"], tuple(entry["params"]))
    x = case.filled(entry["n"], entry["start"], threads=4)
    assert golden.digest(x) == entry["sha256"]


@every_case
@pytest.mark.parametrize("way", cases.ISAS[1:])
def test_instruction_sets_agree(case: Case, way: str) -> None:
    outputs = set()
    for isa in (cases.ISAS[0], way):
        with cases.using(isa):
            outputs.add(golden.digest(case.filled(10**6 + 7, 12345)))
    assert len(outputs) == 1


@pytest.mark.usefixtures("isa")
@every_case
@DRAWS
@given(start=st.integers(0, 2**64 - 1), n=st.integers(0, 100_000), data=st.data())
def test_any_split(case: Case, start: int, n: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, n))
    threads = data.draw(st.integers(1, 9))
    whole = case.filled(n, start)
    parts = case.poisoned(n)
    case.fill(parts[cut:], (start + cut) % 2**64, threads)
    case.fill(parts[:cut], start, threads)
    assert np.array_equal(parts, whole)


# Memory.

VIEWS: dict[str, Callable[[Array], Array]] = {
    "every other": lambda a: a[:, :, ::2],
    "backwards": lambda a: a[::-1, ::-1, ::-1],
    "columns": lambda a: a[:, :, 3:17],
    "rows": lambda a: a[5:9],
    "transposed": lambda a: a.T,
    "axes rolled": lambda a: a.transpose(1, 2, 0),
    "stepped backwards": lambda a: a[::3, ::-2, -2:1:-5],
    "one column": lambda a: a[:, :, 4],
    "length one": lambda a: a[:, 2:3, :],
    "new axes": lambda a: a[:, None, ::2, :, None],
    "one element": lambda a: a[3, 2, 1, ...],
    "no element": lambda a: a[:, 3:3],
}


@pytest.mark.usefixtures("isa")
@every_case
@pytest.mark.parametrize("shape", [(11, 7, 20), (50, 40, 90)], ids=["small", "threads"])
def test_strides(case: Case, shape: tuple[int, int, int]) -> None:
    """The elements in C order get consecutive indices; nothing between them is written."""
    start = BLOCK - 3
    line = case.filled(math.prod(shape), start)
    for name, view_of in VIEWS.items():
        memory, expected = case.poisoned(shape), case.poisoned(shape)
        view = view_of(memory)
        view_of(expected)[...] = line[: view.size].reshape(view.shape)
        case.fill(view, start, threads=3)
        assert np.array_equal(memory, expected), name


class Part(NamedTuple):
    """A box of a tensor, and how that box lies in memory: its axes' order and steps."""

    shape: tuple[int, ...]
    box: tuple[slice, ...]
    order: list[int]
    steps: list[int]

    @property
    def index_steps(self) -> list[int]:
        return [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]

    @property
    def first(self) -> int:
        return sum(s.start * step for s, step in zip(self.box, self.index_steps, strict=True))

    def laid_out(self, case: Case) -> tuple[Array, Array]:
        """The memory, poisoned, and the box in it."""
        lengths = [s.stop - s.start for s in self.box]
        memory = case.poisoned(tuple(lengths[axis] * abs(self.steps[axis]) for axis in self.order))
        steps = tuple(slice(None, None, step) for step in self.steps)
        return memory, memory.transpose(np.argsort(self.order))[steps]


@st.composite
def parts(draw: st.DrawFn) -> Part:
    shape = draw(st.lists(st.integers(1, 50), min_size=1, max_size=3))
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([-2, -1, 1, 3])) for _ in shape]
    return Part(tuple(shape), tuple(slice(*pair) for pair in ends), order, steps)


@pytest.mark.usefixtures("isa")
@every_case
@DRAWS
@given(part=parts(), start=st.integers(0, 2**64 - 1), threads=st.integers(1, 5))
def test_parts(case: Case, part: Part, start: int, threads: int) -> None:
    """A box of a tensor gets the tensor's values, however the box itself lies in memory."""
    whole = case.filled(math.prod(part.shape), start).reshape(part.shape)
    memory, box = part.laid_out(case)
    expected, expected_box = part.laid_out(case)
    expected_box[...] = whole[part.box]
    case.fill(box, (start + part.first) % 2**64, threads, part.index_steps)
    assert np.array_equal(memory, expected)


# Arithmetic on its own, where the distributions do not reach every corner.


def pointer(x: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.ctypes.data)


def test_fma32_without_the_instruction(compiled: Compiled) -> None:
    """The baseline's fma, made of float64 operations: ties, cancellation, all exponents."""
    library = compiled("""
        #define FI_HAS_FMA 0
        #include <stddef.h>
        #include "fma.h"
        void fma32s(size_t n, const float *a, const float *b, const float *c, float *out)
        {
            for (size_t i = 0; i < n; i++)
                out[i] = fma32(a[i], b[i], c[i]);
        }
    """)
    rng, n = np.random.default_rng(1), 30_000

    def numbers(exponents: Array) -> Any:
        """Of float32: half of them beside a power of two, where ties and near-ties come from."""
        any_, beside = rng.integers(2**23, 2**24, n), rng.choice([2**23, 2**23 + 1, 2**24 - 1], n)
        significand = np.where(rng.random(n) < 0.5, any_, beside) * rng.choice([-1, 1], n)
        return np.ldexp(significand.astype(float), exponents)

    a, b = (numbers(rng.integers(-90, 40, n)) for _ in range(2))
    c = numbers(np.minimum(np.frexp(a * b)[1] + rng.integers(-75, 30, n), 104))
    cancels = rng.random(n) < 0.1  # all but the product's last bits
    c[cancels] = np.clip(-(a * b)[cancels], -3e38, 3e38)
    a, b, c = (x.astype(np.float32) for x in (a, b, c))
    out = np.empty(n, np.float32)
    library.fma32s(ctypes.c_size_t(n), *map(pointer, (a, b, c, out)))
    abc = zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    exact = [reference.fma(*three, reference.FLOAT32) for three in abc]
    assert np.array_equal(out.view(np.uint32), np.array(exact, np.float32).view(np.uint32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_conversions(dtype: str, compiled: Compiled) -> None:
    """At every number of the dtype, halfway to the next, and one float32 beside both."""
    narrow = as_dtype(dtype)
    code = np.dtype(f"u{narrow.itemsize}")
    c_type = f"{code.name}_t"
    library = compiled(f"""
        #define FI_HAS_FMA 0
        #include <stddef.h>
        #include "convert.h"
        void convert(size_t n, const float *x, {c_type} *out)
        {{
            for (size_t i = 0; i < n; i++)
                out[i] = {dtype}_of(x[i]);
        }}
    """)
    past = {"float16": 0x7C00, "bfloat16": 0x7F80, "float8_e4m3fn": 0x7F, "float8_e5m2": 0x7C}
    numbers = np.arange(past[dtype], dtype=code).view(narrow).astype(np.float64)
    halfway = numbers + np.diff(numbers, append=2 * numbers[-1] - numbers[-2]) / 2
    at = np.concatenate([numbers, halfway, np.array([1e9, 3.4e38])]).astype(np.float32)
    x = np.concatenate([at, np.nextafter(at, np.float32(0)), np.nextafter(at, np.float32(3.4e38))])
    x = np.concatenate([x, -x])
    out = np.empty(x.size, code)
    library.convert(ctypes.c_size_t(x.size), pointer(x), pointer(out))
    to = reference.FORMATS[dtype]
    exact = [reference.pattern(reference.convert(number, to), dtype) for number in x.tolist()]
    assert out.tolist() == exact
