"""The kernels of the stream in Numba: the bits that `src/kernels.inc.h` makes.

A function has the name and the arithmetic of its counterpart in the C headers, which cite the
sources and state the errors. What differs is what vectorises: LLVM wants loops over arrays,
first a block's draws, then the maths and the stores (measured: in chunks of 64 elements, as in
C, half as fast), and a choice as a conditional expression of two values computed before it.

The distribution and the format are types: an `overload` takes the function for them out of a
table. So one text is all kernels, and the cache on disk can tell them apart. That cache looks
at the date of the file of the function called, and at no other: what is compiled stands here.
"""

import math
import platform
import sys
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.core.cgutils import alloca_once, for_range, for_range_slice
from numba.extending import intrinsic, overload

from fastinit import _kernels

# Constants are computed below, and the cache on disk would keep wrong ones for ever.
_kernels.check_rounding()

F32, F64, I32, I64 = np.float32, np.float64, np.int32, np.int64
U8, U16, U32, U64 = np.uint8, np.uint16, np.uint32, np.uint64

BLOCK = _kernels.BLOCK
SLICE = 1 << 15  # elements, as in fill.c

# As in C, a division does not ask whether to raise.
OPTIONS = {"error_model": "numpy"}
# LLVM by itself leaves long functions as calls, and then does not vectorise the loop.
jit = njit(forceinline=True, **OPTIONS)
# Inlined by Numba: each function that is not costs an optimisation of all that it calls.
inlined = njit(inline="always", **OPTIONS)


def entry(**options):
    """Compile a function that Python calls: without the GIL, and kept on disk."""

    def decorate(function):
        try:
            return njit(function, cache=True, nogil=True, **OPTIONS, **options)
        except RuntimeError:  # no directory is writable
            return njit(function, nogil=True, **OPTIONS, **options)

    return decorate


# Distributions, and formats that Numba has not: named tuples, typed by their class.


class Constant(NamedTuple):
    """One bit pattern."""

    pattern: np.uint64


class Bits(NamedTuple):
    """The draws themselves, as uint32 or uint64."""


class Uniform(NamedTuple):
    """Uniforms on [low, high)."""

    low: float
    high: float


class Normal(NamedTuple):
    """Normals of this mean and standard deviation."""

    mean: float
    std: float


class Central(NamedTuple):
    """A truncated normal, `fi_truncated` of fastinit.h, by this method of truncated.h."""

    low: float
    high: float
    mean: float
    std: float
    method: float
    p_low: float
    q_high: float
    mass: float
    side: float
    bound: float
    inverse: float


class Wide(Central):
    """By this method."""


class Body(Central):
    """By this method."""


class Far(Central):
    """By this method."""


class Float16(NamedTuple):
    """An array of float16, as its bits in uint16."""

    bits: np.ndarray


class BFloat16(NamedTuple):
    """An array of bfloat16, as its bits in uint16."""

    bits: np.ndarray


class Float8E4M3FN(NamedTuple):
    """An array of float8_e4m3fn, as its bits in uint8."""

    bits: np.ndarray


class Float8E5M2(NamedTuple):
    """An array of float8_e5m2, as its bits in uint8."""

    bits: np.ndarray


# fma.h


@intrinsic
def fma(_, a, b, c):
    """LLVM's fma: the instruction, or where there is none the C library's, exact as well."""
    return a(a, a, a), lambda _context, builder, _signature, abc: builder.fma(*abc)


def bitcast(source, target):
    @intrinsic
    def cast(_, x):
        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(source), generate

    return cast


bits32, float_of = bitcast(types.float32, types.uint32), bitcast(types.uint32, types.float32)
bits64, double_of = bitcast(types.float64, types.uint64), bitcast(types.uint64, types.float64)


@jit
def horner(coefficients, x):
    """The polynomial, its highest power first, in fused steps."""
    q = coefficients[0]
    for i in range(1, len(coefficients)):
        q = fma(q, x, coefficients[i])
    return q


def floats32(text):
    return tuple(F32(float.fromhex(number)) for number in text.split())


def floats64(text):
    return tuple(F64(float.fromhex(number)) for number in text.split())


# float_mode.h


def _get_mode_x86_64(builder):
    mode = alloca_once(builder, I32_IR)
    builder.call(declared(builder, "llvm.x86.sse.stmxcsr"), [builder.bitcast(mode, BYTES_IR)])
    return builder.load(mode)


def _set_mode_x86_64(builder, mode):
    memory = alloca_once(builder, I32_IR)
    builder.store(mode, memory)
    builder.call(declared(builder, "llvm.x86.sse.ldmxcsr"), [builder.bitcast(memory, BYTES_IR)])


def declared(builder, name):
    return builder.module.declare_intrinsic(name, fnty=ir.FunctionType(ir.VoidType(), [BYTES_IR]))


def _get_mode_aarch64(builder):
    return builder.asm(ir.FunctionType(I64_IR, []), "mrs $0, fpcr", "=r", [], side_effect=True)


def _set_mode_aarch64(builder, mode):
    function = ir.FunctionType(ir.VoidType(), [I64_IR])
    builder.asm(function, "msr fpcr, $0", "r", [mode], side_effect=True)


I32_IR, I64_IR, BYTES_IR = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
GET_MODE, SET_MODE, OURS = {
    "x86_64": (_get_mode_x86_64, _set_mode_x86_64, ir.Constant(I32_IR, 0x1F80)),
    "aarch64": (_get_mode_aarch64, _set_mode_aarch64, ir.Constant(I64_IR, 0)),
}.get(platform.machine(), (lambda _: ir.Constant(I32_IR, 0), lambda *_: None, None))
MODE = types.uint64 if platform.machine() == "aarch64" else types.uint32


@intrinsic
def enter_float_mode(_):
    """Set the arithmetic that the stream is defined by, for this thread; return what was."""

    def generate(_context, builder, _signature, _arguments):
        before = GET_MODE(builder)
        SET_MODE(builder, OURS)
        return before

    return MODE(), generate


@intrinsic
def leave_float_mode(_, before):
    def generate(context, builder, _signature, arguments):
        SET_MODE(builder, arguments[0])
        return context.get_dummy_value()

    return types.none(before), generate


# pcg.h


def jumps(draws):
    """A^n and A^0 + ... + A^(n-1) modulo 2^64, for n up to the number of draws."""
    powers, sums = [1], [0]
    for _ in range(draws):
        sums.append((sums[-1] + powers[-1]) % 2**64)
        powers.append(powers[-1] * 6364136223846793005 % 2**64)
    return np.array(powers, np.uint64), np.array(sums, np.uint64)


LANES = 16  # pairs that are drawn together
CACHE_LINE = 64  # bytes, of most machines
POWERS, SUMS = jumps(BLOCK + 2 * LANES)
MULTIPLIER, TO_LOW_WORDS, PLUS_LOW_WORDS = POWERS[1], POWERS[BLOCK], SUMS[BLOCK]
# To the first draw of each pair.
PAIR_POWERS, PAIR_SUMS = POWERS[::2].copy(), SUMS[::2].copy()
GOLDEN_GAMMA = U64(0x9E3779B97F4A7C15)


@jit
def mix64(z):
    z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
    return z ^ (z >> U64(31))


@jit
def pcg_of_block(key, block):
    at = U64(block) * GOLDEN_GAMMA
    return mix64(U64(key[0]) + at), mix64(U64(key[1]) + at) | U64(1)


def rotated(builder, x, r):
    """LLVM's funnel shift (which finds the vector rotation of AVX-512 by no other name)."""
    lanes = f"v{LANES}" if isinstance(x.type, ir.VectorType) else ""
    shift = builder.module.declare_intrinsic(
        f"llvm.fshr.{lanes}i32", fnty=ir.FunctionType(x.type, [x.type] * 3)
    )
    return builder.call(shift, [x, x, r])


@intrinsic
def rotate_right(_, x, r):
    return x(x, x), lambda _context, builder, _signature, x_r: rotated(builder, *x_r)


@jit
def pcg_output(state):
    return rotate_right(U32(((state >> U64(18)) ^ state) >> U64(27)), U32(state >> U64(59)))


@jit
def draw_pair(state, inc, power, sum_):
    s = state * power + inc * sum_
    return pcg_output(s), pcg_output(s * MULTIPLIER + inc)


@jit
def word(high, low):
    return U64(high) << U64(32) | U64(low)


@jit
def word_pair(state, inc, power, sum_):
    high0, high1 = draw_pair(state, inc, power, sum_)
    low0, low1 = draw_pair(state * TO_LOW_WORDS + inc * PLUS_LOW_WORDS, inc, power, sum_)
    return word(high0, low0), word(high1, low1)


class Lanes(NamedTuple):
    """The states of LANES pairs: the lower halves, with anything above them, and the upper ones."""

    low: ir.Value
    high: ir.Value


WORDS_IR, STATES_IR = ir.VectorType(I32_IR, LANES), ir.VectorType(I64_IR, LANES)
# The pairs in a vector of states: the halves of two vectors of AVX2 come apart within each 16
# bytes, which is one instruction (see vectors.h), and then are in the pairs' own order.
LANE_ORDER = [8 * half + pair for half in (0, 1) for pair in (0, 1, 4, 5, 2, 3, 6, 7)]


def splat(builder, x, lanes=LANES):
    """A vector of one number."""
    vector = ir.Constant(ir.VectorType(x.type, lanes), ir.Undefined)
    vector = builder.insert_element(vector, x, I32_IR(0))
    return builder.shuffle_vector(vector, vector, ir.VectorType(I32_IR, lanes)([0] * lanes))


def all_lanes(vector, number):
    return vector([int(number) % 2**vector.element.width] * LANES)


def halves(builder, states, upper):
    """The lower or the upper halves of states, in the order of the pairs."""
    numbers = builder.bitcast(states, ir.VectorType(I32_IR, 2 * LANES))
    first = upper ^ (sys.byteorder == "big")
    order = WORDS_IR([2 * lane + first for lane in LANE_ORDER])
    return builder.shuffle_vector(numbers, numbers, order)


def first_lanes(builder, state, inc, power, sum_):
    """The states to which the tables lead from the block's."""

    def times(number, table):
        numbers = builder.load(builder.bitcast(table, STATES_IR.as_pointer()), align=8)
        return builder.mul(numbers, splat(builder, number))

    states = builder.add(times(state, power), times(inc, sum_))
    low = builder.shuffle_vector(states, states, WORDS_IR(LANE_ORDER))
    return Lanes(low, halves(builder, low, 1))


def stepped(builder, lanes, multiplier, plus):
    """The states times a number, plus another, as step_low and step_high."""
    multiplier = int(multiplier)
    low = builder.and_(lanes.low, all_lanes(STATES_IR, 2**32 - 1))
    low = builder.add(builder.mul(low, all_lanes(STATES_IR, multiplier % 2**32)), plus)
    by_low = builder.mul(halves(builder, lanes.low, 0), all_lanes(WORDS_IR, multiplier >> 32))
    by_high = builder.mul(lanes.high, all_lanes(WORDS_IR, multiplier))
    return Lanes(low, builder.add(halves(builder, low, 1), builder.add(by_low, by_high)))


def outputs(builder, lanes):
    low, high = halves(builder, lanes.low, 0), lanes.high

    def right(x, by):
        return builder.lshr(x, all_lanes(WORDS_IR, by))

    left = builder.shl(high, all_lanes(WORDS_IR, 5))
    return rotated(
        builder, builder.xor(builder.or_(left, right(low, 27)), right(high, 13)), right(high, 27)
    )


def prefetch(builder, items, itemsize):
    """Fetch the memory of LANES pairs into the cache for a write; past the end it does nothing."""
    byte = ir.IntType(8).as_pointer()
    fetch = builder.module.declare_intrinsic(
        "llvm.prefetch", (byte,), ir.FunctionType(ir.VoidType(), [byte, I32_IR, I32_IR, I32_IR])
    )
    to_write, keep, data = I32_IR(1), I32_IR(3), I32_IR(1)
    for line in range(0, 2 * LANES * itemsize, CACHE_LINE):
        at = builder.gep(builder.bitcast(items, byte), [I32_IR(line)])
        builder.call(fetch, [at, to_write, keep, data])


@intrinsic
def draw_pairs(_, even, odd, n, state, inc, power, sum_, to):
    """Draw n pairs, rounded up to LANES of them, into two arrays.

    The tables lead from the block's state to each pair's first draw. With the state in halves as
    in kernels.inc.h, which says why, and in vectors: LLVM makes neither of a loop over an array.

    Meanwhile the memory is fetched that the values go to. Drawing needs none, and storing would
    wait for it (measured in 134 MB: a uniform takes 0.63 of the time, a normal 0.88).
    """

    def generate(context, builder, signature, arguments):
        n, state, inc = arguments[2:5]
        even, odd, power, sum_, to = (
            vectors_of(context, builder, signature.args[i], arguments[i])[1]
            for i in (0, 1, 5, 6, 7)
        )
        itemsize = signature.args[7].dtype.bitwidth // 8
        plus, far_plus = (
            splat(builder, builder.mul(inc, I64_IR(int(SUMS[draws])))) for draws in (1, 2 * LANES)
        )
        lanes = first_lanes(builder, state, inc, power, sum_)
        places = Lanes(*(alloca_once(builder, half.type) for half in lanes))
        for half, place in zip(lanes, places, strict=True):
            builder.store(half, place)
        with for_range_slice(builder, n.type(0), n, n.type(LANES)) as (pair, _):
            prefetch(builder, builder.gep(to, [builder.add(pair, pair)]), itemsize)
            lanes = Lanes(*map(builder.load, places))
            after = stepped(builder, lanes, MULTIPLIER, plus)
            for array, states in ((even, lanes), (odd, after)):
                to = builder.bitcast(builder.gep(array, [pair]), WORDS_IR.as_pointer())
                builder.store(outputs(builder, states), to, align=4)
            far = stepped(builder, lanes, POWERS[2 * LANES], far_plus)
            for half, place in zip(far, places, strict=True):
                builder.store(half, place)
        return context.get_dummy_value()

    return types.none(even, odd, n, state, inc, power, sum_, to), generate


# normal.h

LOG32 = floats32(
    "0x1.292386p1 0x1.09438p1 0x1.80d21cp0 -0x1.a05cacp-4 0x1.142232p-1 -0x1.5419c4p-1"
    " 0x1.000338p0 -0x1p1"
)
LOG64 = floats64(
    "-0x1.2f1eb18cb8e09p-2 -0x1.399f3838deaf9p-2 -0x1.746657fd76585p-2 -0x1.c71c518cabffdp-2"
    " -0x1.2492494290e03p-1 -0x1.999999997f18bp-1 -0x1.5555555555595p0 -0x1p2"
)
SIN32 = floats32("-0x1.2f5992p-8 0x1.466b2p-4 -0x1.4abbecp-1 0x1.921fb6p0")
SIN64 = floats64(
    "0x1.5d8e4fb4e7ee1p-33 -0x1.ae5e54bf8deb3p-26 0x1.71de355f53bf5p-19"
    " -0x1.a01a019bf261fp-13 0x1.111111110f75ep-7 -0x1.5555555555548p-3"
)
COS32 = floats32("-0x1.4e84d8p-6 0x1.03b07cp-2 -0x1.3bd39cp0 0x1p0")
COS64 = floats64(
    "-0x1.9073edbb62cbp-37 0x1.1eeb586f405a7p-29 -0x1.27e4fa0384523p-22 0x1.a01a019f38ba5p-16"
    " -0x1.6c16c16c168ccp-10 0x1.5555555555555p-5 -0x1p-1 0x1p0"
)
(MINUS_2_LOG_2_32,) = floats32("-0x1.62e43p-23")
(MINUS_2_LOG_2_64,) = floats64("-0x1.62e42fefa39efp0")
(ANGLE64,) = floats64("0x1.921fb54442d18p-52")
HALF32, SQRT_HALF64 = U32(0x3F000000), U64(0x3FE6A09E667F3BCD)
ONE = F32(1.0)


@jit
def minus_2_log_parts32(e, t):
    return fma(F32(I32(e)), MINUS_2_LOG_2_32, horner(LOG32, t) * t)


@jit
def minus_2_log32(u, u_minus_1, near_1):
    e = (bits32(u) - HALF32) & U32(0xFF800000)
    f = float_of(bits32(u) & U32(0x7FFFFF) | HALF32)
    return minus_2_log_parts32(U32(0) if near_1 else e, u_minus_1 if near_1 else f - ONE)


@jit
def minus_2_log_signed32(v):
    exponent = bits32(v) & U32(0xFF800000)
    e = (exponent if exponent < HALF32 else HALF32) - HALF32
    f = I32(bits32(v) - e)
    f_minus_1 = I32(bits32(float_of(U32(f)) - ONE))
    return minus_2_log_parts32(e, float_of(U32(f if f < f_minus_1 else f_minus_1)))


@jit
def minus_2_log64(u, one_minus_u):
    scaled = bits64(u) - SQRT_HALF64
    e = I32(scaled >> U64(32)) >> 20
    f = double_of((scaled & U64(0xFFFFFFFFFFFFF)) + SQRT_HALF64)
    t = -one_minus_u if e == 0 else f - 1.0
    s = t / (2.0 + t)
    return fma(F64(e), MINUS_2_LOG_2_64, horner(LOG64, s * s) * s)


@jit
def normal_pair32(d0, d1):
    low = float_of(U32(0x37000000) | d1 & U32(0xFF)) - F32(2.0**-17 - 2.0**-41)
    v = fma(F32(I32(d0)), F32(2.0**-32), low)
    radius = math.sqrt(minus_2_log_signed32(v))

    r = float_of((d1 >> U32(7) & U32(0x7FFFFE)) ^ U32(0x3FC00001)) - F32(1.5)
    s = horner(SIN32, r * r) * r
    c = float_of(bits32(horner(COS32, r * r)) ^ (d1 & U32(0x80000000)))
    swap = (d1 & U32(0x40000000)) != 0
    return radius * (s if swap else c), radius * (c if swap else s)


@jit
def fractions64(w):
    """u and 1 - u, at the middle of their interval of 2^-64."""
    high, low = F64(w >> U64(32)), F64(w & U64(0xFFFFFFFF))
    u = fma(high, 2.0**-32, fma(low, 2.0**-64, 2.0**-65))
    low = fma(0xFFFFFFFF - low, 2.0**-64, 2.0**-65)
    return u, fma(0xFFFFFFFF - high, 2.0**-32, low)


@jit
def normal_pair64(w0, w1):
    u, one_minus_u = fractions64(w0)
    radius = math.sqrt(minus_2_log64(u, one_minus_u))

    x = F64(I64(w1 << U64(2)) >> 12 | 1) * ANGLE64
    s = fma(horner(SIN64, x * x), x * x * x, x)
    c = double_of(bits64(horner(COS64, x * x)) ^ (w1 & U64(1 << 63)))
    swap = (w1 & U64(1 << 62)) != 0
    return radius * (s if swap else c), radius * (c if swap else s)


# truncated.h

CENTRAL_RATIO = floats32(
    "0x1.567022p-33 0x1.047d8ep-28 -0x1.4e94aap-24 -0x1.a0b83p-23 0x1.4426fap-16 -0x1.d0ca24p-13"
    " -0x1.833274p-10 0x1.652c88p-3 0x1.0fc8bep+1"
)
TAIL_RATIO = floats32(
    "0x1.1dc9c4p-19 0x1.ded674p-20 -0x1.3178dap-15 0x1.53404ap-14 -0x1.0e612ep-13 0x1.5b0a9p-12"
    " -0x1.fda3b4p-11 0x1.1cd682p-9 0x1.01f1ep+0 0x1.312248p+2"
)
QUANTILE = """
    2.5090809287301226727e3 3.3430575583588128105e4 6.7265770927008700853e4 4.5921953931549871457e4
    1.3731693765509461125e4 1.9715909503065514427e3 1.3314166789178437745e2 3.3871328727963666080e0;
    5.2264952788528545610e3 2.8729085735721942674e4 3.9307895800092710610e4 2.1213794301586595867e4
    5.3941960214247511077e3 6.8718700749205790830e2 4.2313330701600911252e1 1.0;

    7.74545014278341407640e-4 2.27238449892691845833e-2 2.41780725177450611770e-1
    1.27045825245236838258e0 3.64784832476320460504e0 5.76949722146069140550e0
    4.63033784615654529590e0 1.42343711074968357734e0;
    1.05075007164441684324e-9 5.47593808499534494600e-4 1.51986665636164571966e-2
    1.48103976427480074590e-1 6.89767334985100004550e-1 1.67638483018380384940e0
    2.05319162663775882187e0 1.0;

    2.01033439929228813265e-7 2.71155556874348757815e-5 1.24266094738807843860e-3
    2.65321895265761230930e-2 2.96560571828504891230e-1 1.78482653991729133580e0
    5.46378491116411436990e0 6.65790464350110377720e0;
    2.04426310338993978564e-15 1.42151175831644588870e-7 1.84631831751005468180e-5
    7.86869131145613259100e-4 1.48753612908506148525e-2 1.36929880922735805310e-1
    5.99832206555887937690e-1 1.0
"""
RATIOS = [tuple(float(number) for number in half.split()) for half in QUANTILE.split(";")]
ABOVE, BELOW = tuple(RATIOS[::2]), tuple(RATIOS[1::2])
FAR_TERM = floats64(
    "0x1.3518eef4d1359p+24 -0x1.4e39d2dfe7ddap+21 0x1.c228145c373b4p+17 -0x1.1db6de1db277cp+14"
    " 0x1.97f34549e7e95p+10 -0x1.60ff18558eea9p+7 0x1.8aaaa7e54f8b2p+4 -0x1.3ffffffe5a506p+2"
    " 0x1.ffffffffffd67p+0"
)
LOG_NEAR_1 = (-1 / 6, -1 / 5, -1 / 4, -1 / 3, -1 / 2, -1.0)


@jit
def fractions_of_draw(d):
    high, low = F32(I32(d >> U32(16))), F32(I32(d & U32(0xFFFF)))
    u = fma(high, F32(2.0**-16), fma(low, F32(2.0**-32), F32(2.0**-33)))
    low = fma(F32(0xFFFF) - low, F32(2.0**-32), F32(2.0**-33))
    return u, fma(F32(0xFFFF) - high, F32(2.0**-16), low)


@jit
def centred(d, t):
    odd = I32((d ^ U32(0x80000000)) | U32(1))
    return fma(F32(odd), F32(t.mass * 2.0**-31), F32(t.p_low - t.q_high))


@jit
def two_w32(four_p_q, y):
    return minus_2_log32(four_p_q, -(y * y), y * y < F32(0.5))


@jit
def central_ratio32(two_w):
    return horner(CENTRAL_RATIO, two_w - F32(5.0))


@jit
def tail_ratio32(two_w):
    return horner(TAIL_RATIO, math.sqrt(two_w) - F32(5.0))


@jit
def central32(d, t):
    y = centred(d, t)
    return y * central_ratio32(two_w32(fma(-y, y, ONE), y))


@jit
def wide32(d, t):
    y, (u, rest) = centred(d, t), fractions_of_draw(d)
    p, q = fma(u, F32(t.mass), F32(t.p_low)), fma(rest, F32(t.mass), F32(t.q_high))
    two_w = two_w32(F32(4.0) * p * q, y)
    # A mask, as in C: of a conditional expression LLVM makes a branch around the root.
    central = U32(0xFFFFFFFF) if two_w < F32(10.0) else U32(0)
    r = bits32(central_ratio32(two_w)) & central | bits32(tail_ratio32(two_w)) & ~central
    return y * float_of(r)


@jit
def quantile64(p, q, deep):
    centre, tail = 0.5 * (p - q), p if p < q else q
    square, root = centre * centre, math.sqrt(0.5 * minus_2_log64(tail, 1.0 - tail))
    x0, x1, x2 = 0.180625 - square, root - 1.6, root - 5.0
    median, near = square <= 0.180625, root <= 5.0 or not deep
    above0, above1, above2 = horner(ABOVE[0], x0), horner(ABOVE[1], x1), horner(ABOVE[2], x2)
    below0, below1, below2 = horner(BELOW[0], x0), horner(BELOW[1], x1), horner(BELOW[2], x2)
    above, below = above1 if near else above2, below1 if near else below2
    r = (above0 if median else above) / (below0 if median else below)
    sign = double_of(bits64(1.0) | bits64(centre) & U64(1 << 63))
    return r * (centre if median else sign)


@jit
def far_term64(s):
    s2 = s * s
    s4 = s2 * s2
    upper = fma(fma(FAR_TERM[1], s, FAR_TERM[2]), s2, fma(FAR_TERM[3], s, FAR_TERM[4]))
    lower = fma(fma(FAR_TERM[5], s, FAR_TERM[6]), s2, fma(FAR_TERM[7], s, FAR_TERM[8]))
    return s * fma(fma(FAR_TERM[0], s4, upper), s4, lower)


@jit
def far_step64(w, per_w, known):
    d = per_w * w
    s = per_w / (1.0 - d)
    error = known - w + (horner(LOG_NEAR_1, d) * d + far_term64(s))
    return fma(error, fma(s, fma(s, fma(s, -14.0, 3.0), -1.0), 1.0), w)


@jit
def far_quantile64(two_e, a, inverse):
    e = two_e * inverse
    c = 1.0 / (1.0 + e)
    log_1_e, per_w = 0.5 * minus_2_log64(c, e * c), inverse * c
    known = log_1_e - far_term64(inverse)
    w = fma(per_w, 2.0 - log_1_e, fma(-2.0, inverse, log_1_e))
    w = far_step64(far_step64(w, per_w, known), per_w, known)
    return a * math.sqrt(1.0 + fma(-inverse, w, e))


@jit
def body64(u, rest, t):
    return quantile64(fma(u, t.mass, t.p_low), fma(rest, t.mass, t.q_high), True)


@jit
def near64(u, rest, t):
    return quantile64(fma(u, t.mass, t.p_low), fma(rest, t.mass, t.q_high), False)


@jit
def far64(u, rest, t):
    share, left = (u, rest) if t.side > 0 else (rest, u)
    two_e = minus_2_log64(fma(left, t.mass, t.q_high), share * t.mass)
    return t.side * far_quantile64(two_e, t.bound, t.inverse)


@jit
def clamp(x, low, high):
    x = x if x > low else low
    return x if x < high else high


# affine.h


@jit
def below32(x):
    other = float_of(bits32(x) + U32(1)) if x < F32(0.0) else F32(-(2.0**-149))
    return float_of(bits32(x) - U32(1)) if x > F32(0.0) else other


@jit
def below64(x):
    other = double_of(bits64(x) + U64(1)) if x < 0.0 else -(2.0**-1074)
    return double_of(bits64(x) - U64(1)) if x > 0.0 else other


@jit
def uniform_affine32(low, high):
    width, low, high = F32(high - low), F32(low), F32(high)
    last = below32(high) if low < high else low
    return last - low if fma(F32(1.0 - 2.0**-24), width, low) > last else width, low


@jit
def uniform_affine64(low, high):
    width, last = high - low, below64(high) if low < high else low
    return last - low if fma(1.0 - 2.0**-53, width, low) > last else width, low


# convert.h


@jit
def bfloat16_of(x):
    b = bits32(x)
    return U16((b + U32(0x7FFF) + ((b >> U32(16)) & U32(1))) >> U32(16))


@jit
def narrow_code(magnitude, mantissa, bias, top):
    shift, grid = U32(23 - mantissa), U32((151 - bias - mantissa) << 23)
    small = bits32(float_of(magnitude) + float_of(grid)) - grid
    half_up = (U32(1) << (shift - U32(1))) - U32(1) + ((magnitude >> shift) & U32(1))
    normal = U32(magnitude - U32((127 - bias) << 23) + half_up) >> shift
    code = U32(small if magnitude < U32((128 - bias) << 23) else normal)
    return code if code < U32(top) else U32(top)


@jit
def float16_of(x):
    b = bits32(x)
    sign = b >> U32(16) & U32(0x8000)
    return U16(sign | narrow_code(b & U32(0x7FFFFFFF), 10, 15, 0x7C00))


@jit
def float8_e5m2_of(x):
    b = bits32(x)
    sign = b >> U32(24) & U32(0x80)
    return U8(sign | narrow_code(b & U32(0x7FFFFFFF), 2, 15, 0x7C))


@jit
def float8_e4m3fn_of(x):
    b = bits32(x)
    sign = b >> U32(24) & U32(0x80)
    return U8(sign | narrow_code(b & U32(0x7FFFFFFF), 3, 7, 0x7F))


# kernels.inc.h: what a pair of draws or words becomes, in float32 or float64 ...


def bits_pair(_, w0, w1):
    return w0, w1


def uniform32(t, d0, d1):
    scale, shift = uniform_affine32(F64(t.low), F64(t.high))
    u0 = F32(I32(d0 >> U32(8))) * F32(2.0**-24)
    u1 = F32(I32(d1 >> U32(8))) * F32(2.0**-24)
    return fma(u0, scale, shift), fma(u1, scale, shift)


def uniform64(t, w0, w1):
    scale, shift = uniform_affine64(F64(t.low), F64(t.high))
    u0, u1 = F64(w0 >> U64(11)) * 2.0**-53, F64(w1 >> U64(11)) * 2.0**-53
    return fma(u0, scale, shift), fma(u1, scale, shift)


def normal32(t, d0, d1):
    scale, shift = F32(F64(t.std)), F32(F64(t.mean))
    z0, z1 = normal_pair32(d0, d1)
    return fma(z0, scale, shift), fma(z1, scale, shift)


def normal64(t, w0, w1):
    z0, z1 = normal_pair64(w0, w1)
    return fma(z0, F64(t.std), F64(t.mean)), fma(z1, F64(t.std), F64(t.mean))


def soft32(method):
    @jit
    def value(t, d):
        x = fma(method(d, t), F32(t.std), F32(t.mean))
        return clamp(x, F32(t.low), F32(t.high))

    return lambda t, d0, d1: (value(t, d0), value(t, d1))


def hard32(method):
    @jit
    def value(t, d):
        u, rest = (F64(d) + 0.5) * 2.0**-32, (F64(U32(0xFFFFFFFF) - d) + 0.5) * 2.0**-32
        x = F32(fma(method(u, rest, t), t.std, t.mean))
        return clamp(x, F32(t.low), F32(t.high))

    return lambda t, d0, d1: (value(t, d0), value(t, d1))


def hard64(method):
    @jit
    def value(t, w):
        u, rest = fractions64(w)
        return clamp(fma(method(u, rest, t), t.std, t.mean), t.low, t.high)

    return lambda t, w0, w1: (value(t, w0), value(t, w1))


PAIRS = {
    (Bits, "draws"): bits_pair,
    (Bits, "words"): bits_pair,
    (Uniform, "draws"): uniform32,
    (Uniform, "words"): uniform64,
    (Normal, "draws"): normal32,
    (Normal, "words"): normal64,
    (Central, "draws"): soft32(central32),
    (Wide, "draws"): soft32(wide32),
    (Body, "draws"): hard32(body64),
    (Far, "draws"): hard32(far64),
    (Far, "words"): hard64(far64),
    (Central, "words"): hard64(near64),
    **{(method, "words"): hard64(body64) for method in (Wide, Body)},
}

# ... and what of that is stored.
ROUNDED = {
    types.uint32: lambda out, x: x,
    types.uint64: lambda out, x: x,
    types.float32: lambda out, x: x,
    types.float64: lambda out, x: x,
    Float16: lambda out, x: float16_of(x),
    BFloat16: lambda out, x: bfloat16_of(x),
    Float8E4M3FN: lambda out, x: float8_e4m3fn_of(x),
    Float8E5M2: lambda out, x: float8_e5m2_of(x),
}


def format_of(out):
    """What an array, a named tuple that stands for one, or the class of a dtype stores."""
    return out.instance_class if isinstance(out, types.BaseNamedTuple) else out.dtype


def unit_of(out):
    return "words" if format_of(out) in (types.uint64, types.float64) else "draws"


def chosen(choose):
    """Make of a function of types, which returns a function of values, the latter."""

    def by_type(*_):
        raise NotImplementedError

    overload(by_type, jit_options=OPTIONS)(choose)
    return by_type


@chosen
def draws_of(out, state, inc, power, sum_):
    pair = {"draws": draw_pair, "words": word_pair}[unit_of(out)]
    return lambda out, state, inc, power, sum_: pair(state, inc, power, sum_)


@chosen
def values_of(out, distribution, w0, w1):
    pair = jit(PAIRS[distribution.instance_class, unit_of(out)])
    return lambda out, distribution, w0, w1: pair(distribution, w0, w1)


@chosen
def rounded(out, x):
    return ROUNDED[format_of(out)]


@chosen
def memory_of(out):
    """The array that holds what is stored."""
    return (lambda out: out.bits) if isinstance(out, types.BaseNamedTuple) else (lambda out: out)


@chosen
def draw(out, state, inc, power, sum_, draws, n, to):
    """Draw n pairs: those of a word's upper half, and where there are words, its lower one's."""
    if unit_of(out) == "draws":
        return lambda out, state, inc, power, sum_, draws, n, to: draw_pairs(
            draws[0], draws[1], n, state, inc, power, sum_, to
        )

    def words(out, state, inc, power, sum_, draws, n, to):
        draw_pairs(draws[0], draws[1], n, state, inc, power, sum_, to)
        state = state * TO_LOW_WORDS + inc * PLUS_LOW_WORDS
        draw_pairs(draws[2], draws[3], n, state, inc, power, sum_, to)

    return words


@chosen
def drawn(out, draws, p):
    """A pair's draws or words."""
    if unit_of(out) == "draws":
        return lambda out, draws, p: (draws[0, p], draws[1, p])

    return lambda out, draws, p: (word(draws[0, p], draws[2, p]), word(draws[1, p], draws[3, p]))


class Room(NamedTuple):
    """Memory for a block: its draws as `draw` leaves them, values, and those to be scattered."""

    draws: np.ndarray
    values: np.ndarray
    scattered: np.ndarray


@chosen
def room_for(out):
    return lambda out: Room(
        np.empty((4, BLOCK // 2), U32),
        np.empty(BLOCK, memory_of(out).dtype),
        np.empty(BLOCK, memory_of(out).dtype),
    )


# Indices without a sign, as those with one may count from the end: of these LLVM makes no vectors.


@jit
def pair_of(out, distribution, draws, p):
    w0, w1 = drawn(out, draws, U64(p))
    x0, x1 = values_of(out, distribution, w0, w1)
    return rounded(out, x0), rounded(out, x1)


@jit
def store_pair(to, p, pair):
    to[U64(2 * p)], to[U64(2 * p + 1)] = pair


@jit
def write_pairs(to, out, distribution, state, inc, first, room):
    """Fill an array with as many pairs of a block as it has room for.

    From both halves together: for constants, of which there are more than registers, LLVM then
    loads each once for two vectors (measured: a normal takes 0.68 of the time).
    """
    draws, n = room.draws, len(to) // 2
    half = n // 2
    draw(out, state, inc, PAIR_POWERS[first:], PAIR_SUMS[first:], draws, n, to)
    for p in range(half):
        one = pair_of(out, distribution, draws, p)
        other = pair_of(out, distribution, draws, half + p)
        store_pair(to, p, one)
        store_pair(to, half + p, other)
    if n % 2 == 1:
        store_pair(to, n - 1, pair_of(out, distribution, draws, n - 1))


@jit
def write_drawn(to, out, start, key, distribution, room):
    """Fill an array from an index on: block by block, what is not whole pairs by a detour."""
    done = 0
    while done < len(to):
        index = U64(start) + U64(done)
        e = np.intp(index % U64(BLOCK))
        count = min(BLOCK - e, len(to) - done)
        state, inc = pcg_of_block(key, index // U64(BLOCK))
        part = to[done : done + count]
        aligned = e % 2 == 0 and count % 2 == 0
        whole = part if aligned else room.values[: (e % 2 + count + 1) // 2 * 2]
        write_pairs(whole, out, distribution, state, inc, e // 2, room)
        if not aligned:
            part[:] = whole[e % 2 : e % 2 + count]
        done += count


@chosen
def write(to, out, start, key, distribution, room):
    if distribution.instance_class is not Constant:
        return lambda to, out, start, key, distribution, room: write_drawn(
            to, out, start, key, distribution, room
        )

    def constant(to, out, start, key, distribution, room):
        for i in range(len(to)):
            to[i] = distribution.pattern

    return constant


@jit
def value_of(key, index, distribution, dtype):
    state, inc = pcg_of_block(key, U64(index) // U64(BLOCK))
    e = np.intp(U64(index) % U64(BLOCK))
    w0, w1 = draws_of(dtype, state, inc, PAIR_POWERS[e // 2], PAIR_SUMS[e // 2])
    x0, x1 = values_of(dtype, distribution, w0, w1)
    return rounded(dtype, x0 if e % 2 == 0 else x1)


# fill.c


class Layout(NamedTuple):
    """Where an array's elements are in its memory, in items, and in the stream."""

    offset: int
    shape: np.ndarray
    strides: np.ndarray
    index_steps: np.ndarray


@inlined
def write_stretch(memory, at, stride, n, out, start, key, distribution, room):
    """Fill n elements of the last axis."""
    at_once = n if stride == 1 else BLOCK
    for done in range(0, n, at_once):
        count = min(at_once, n - done)
        part = memory[at : at + n] if stride == 1 else room.scattered[:count]
        write(part, out, start + U64(done), key, distribution, room)
        if stride != 1:
            for i in range(count):
                memory[at + (done + i) * stride] = part[i]


@inlined
def write_part(out, layout, start, key, distribution, begin, end):
    """Fill the elements begin to end of an array, counted in C order."""
    shape, strides, index_steps = layout.shape, layout.strides, layout.index_steps
    last = len(shape) - 1
    position = np.empty_like(shape)
    rest = begin
    for axis in range(last, -1, -1):
        position[axis] = rest % shape[axis]
        rest //= shape[axis]
    room = room_for(out)
    while begin < end:
        at, index = layout.offset, U64(start)
        for axis in range(last + 1):
            at += position[axis] * strides[axis]
            index += U64(position[axis] * index_steps[axis])
        n = min(shape[last] - position[last], end - begin)
        write_stretch(memory_of(out), at, strides[last], n, out, index, key, distribution, room)
        begin += n
        position[last] += n
        for axis in range(last, 0, -1):
            if position[axis] == shape[axis]:
                position[axis] = 0
                position[axis - 1] += 1


@inlined
def write_slice(out, layout, start, key, distribution, s):
    """Fill slice s; from the second on, slices of a contiguous array begin with a block."""
    skew, size = np.intp(U64(start) % U64(BLOCK)), layout.shape.prod()
    begin, end = max(s * SLICE - skew, 0), min((s + 1) * SLICE - skew, size)
    before = enter_float_mode()
    write_part(out, layout, start, key, distribution, begin, end)
    leave_float_mode(before)


@entry()
def write_slices(out, layout, start, key, distribution, first, last):
    for s in range(first, last):
        write_slice(out, layout, start, key, distribution, s)


@entry(parallel=True)
def write_slices_in_parallel(out, layout, start, key, distribution, first, last):
    for s in prange(first, last):
        write_slice(out, layout, start, key, distribution, s)


# orthogonal.inc.h

REFLECTIONS, SEGMENT = 48, 96
HEIGHT, TILE_BYTES = 6, 64  # of a tile: its rows, and its columns in bytes


def vectors_of(context, builder, type_, array):
    """The element type of an array and the address of its first element."""
    data = context.make_array(type_)(context, builder, array).data
    return context.get_data_type(type_.dtype), data


@intrinsic
def multiply(_, n, a, a_row, a_term, b, b_term, c, c_row):
    """c[HEIGHT][a tile's columns] += the sum of n products a b, taken in order, from 0.

    In vectors that LLVM keeps in registers, as it does not with an array's rows.
    """

    def generate(context, builder, signature, arguments):
        n, a, a_row, a_term, b, b_term, c, c_row = arguments
        element, a = vectors_of(context, builder, signature.args[1], a)
        _, b = vectors_of(context, builder, signature.args[4], b)
        _, c = vectors_of(context, builder, signature.args[6], c)
        size = signature.args[1].dtype.bitwidth // 8
        lanes = TILE_BYTES // size
        vector = ir.VectorType(element, lanes)
        zero = ir.Constant(vector, [0.0] * lanes)
        fused = builder.module.declare_intrinsic(
            f"llvm.fma.v{lanes}f{8 * size}", fnty=ir.FunctionType(vector, [vector] * 3)
        )

        def vector_at(address, index):
            return builder.bitcast(builder.gep(address, [index]), vector.as_pointer())

        def index_of(row, step, more):
            return builder.add(builder.mul(ir.Constant(row.type, more), step), row)

        sums = [alloca_once(builder, vector) for _ in range(HEIGHT)]
        for total in sums:
            builder.store(zero, total)
        with for_range(builder, n) as loop:
            column = builder.load(vector_at(b, builder.mul(loop.index, b_term)), align=size)
            term = builder.mul(loop.index, a_term)
            for r, total in enumerate(sums):
                x = builder.load(builder.gep(a, [index_of(term, a_row, r)]))
                terms = [splat(builder, x, lanes), column, builder.load(total)]
                builder.store(builder.call(fused, terms), total)
        zero_index = ir.Constant(c_row.type, 0)
        for r, total in enumerate(sums):
            to = vector_at(c, index_of(zero_index, c_row, r))
            x = builder.fadd(builder.load(to, align=size), builder.load(total))
            builder.store(x, to, align=size)
        return context.get_dummy_value()

    return types.none(n, a, a_row, a_term, b, b_term, c, c_row), generate


@jit
def inner(rows, first, n, x, b, c):
    """c[n] += x' b over a segment of rows that begins with the block's row `first`."""
    for a in range(0, n, HEIGHT):
        skip = max(a - first, 0)
        if skip < rows:
            multiply(
                rows - skip, x[skip, a:], 1, x.shape[1], b[skip], b.strides[0] // b.itemsize,
                c[a], c.strides[0] // c.itemsize,
            )  # fmt: skip


@entry()
def factor(x, rows, n, heads, triangle):
    """Make a block's first numbers and its matrix U from its normals."""
    before = enter_float_mode()
    lanes = TILE_BYTES // x.itemsize
    gram = np.zeros((REFLECTIONS, REFLECTIONS), x.dtype)
    for i in range(0, rows, SEGMENT):
        for a in range(0, n, lanes):
            inner(min(SEGMENT, rows - i), i, min(a + lanes, n), x[i:], x[i:, a:], gram[:, a:])
    t = np.zeros((REFLECTIONS, REFLECTIONS))  # t[e, c]: row c, column e
    total = np.empty(REFLECTIONS)
    for a in range(n):
        top, square = F64(x[a, a]), F64(gram[a, a])
        root = math.sqrt(square)
        heads[a] = top - root if top < 0 else top + root
        head = F64(heads[a])
        norm = square - top * top + head * head
        tau = 2 / norm if norm > 0 else 0.0
        total[:] = 0
        for e in range(a):
            s = F64(gram[e, a]) + F64(x[a, e]) * (head - top)
            for c in range(REFLECTIONS):
                total[c] += t[e, c] * s
        for c in range(a):
            t[a, c] = -tau * total[c]
        t[a, a] = tau
    for c in range(n):
        for e in range(REFLECTIONS):
            triangle[c, e] = -t[e, c]
    leave_float_mode(before)


@inlined
def reflect_tile(v, rows, n, u, tile):
    """tile += V U V' tile, from the block's first row on."""
    before = enter_float_mode()
    products = np.zeros((2, REFLECTIONS, tile.shape[1]), tile.dtype)
    of_v, of_u = products[0], products[1]
    for i in range(0, rows, SEGMENT):
        inner(min(SEGMENT, rows - i), i, n, v[i:], tile[i:], of_v)
    width = tile.shape[1]
    for a in range(0, n, HEIGHT):
        multiply(n - a, u[a, a:], REFLECTIONS, 1, of_v[a], width, of_u[a], width)
    for r in range(0, rows, HEIGHT):
        multiply(min(r + HEIGHT, n), v[r], REFLECTIONS, 1, of_u[0], width, tile[r], width)
    leave_float_mode(before)


@entry()
def reflect(v, rows, n, u, tiles):
    for j in range(len(tiles)):
        reflect_tile(v, rows, n, u, tiles[j])


@entry(parallel=True)
def reflect_in_parallel(v, rows, n, u, tiles):
    for j in prange(len(tiles)):
        reflect_tile(v, rows, n, u, tiles[j])


@entry()
def store_tiles(out, row, row_at, column_at, gain, tiles):
    """Store the given rows of the tiles' columns."""
    before = enter_float_mode()
    memory, lanes = memory_of(out), tiles.shape[2]
    for i in range(len(row)):
        for j in range(len(column_at)):
            q = F64(tiles[j // lanes, row[i], j % lanes])
            x = tiles.dtype.type(min(max(q, -1.0), 1.0) * gain)
            memory[row_at[i] + column_at[j]] = rounded(out, x)
    leave_float_mode(before)
