"""Generators with one thing wrong each.

FAULTS names them by the kind of sample; each makes a faulty sample, mostly of a healthy one.
Every p-value of `measures.py` must be tiny for one of them at least.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from measures import COLUMNS, LAGS, ROWS, SMALL, STREAMS
from numpy.typing import NDArray
from samples import GOLDEN_GAMMA, mix64

Array = NDArray[Any]
Fault = Callable[[Array], Array]


def rarely(n: int, share: float) -> Array:
    """Which of n values a fault strikes, by a generator that is not ours."""
    return np.random.default_rng(0).random(n) < share


# Of draws.


RIGHT = 6364136223846793005


def output(state: Array) -> Array:
    """PCG's XSH-RR."""
    x = (state >> np.uint64(18) ^ state) >> np.uint64(27) & np.uint64(2**32 - 1)
    r = state >> np.uint64(59)
    return (x >> r | x << (np.uint64(32) - r) & np.uint64(2**32 - 1)).astype(np.uint32)


def pcg(multiplier: int, repeated: bool = False) -> Fault:
    """PCG32 in blocks, as pcg.h has it but for what is given."""

    def draws(healthy: Array) -> Array:
        block = np.arange(healthy.size // 1024, dtype=np.uint64)
        if repeated:
            block //= np.uint64(2)
        state = mix64(block * GOLDEN_GAMMA)  # the key is (0, 1)
        inc = mix64(np.uint64(1) + block * GOLDEN_GAMMA) | np.uint64(1)
        out = np.empty((1024, block.size), np.uint32)
        for row in out:
            row[:] = output(state)
            state = state * np.uint64(multiplier) + inc
        return np.ascontiguousarray(out.T).reshape(-1)

    return draws


def one_sequence(power: int) -> Fault:
    """A single PCG32, without blocks, read down the columns of a matrix 2^power wide.

    What one sequence is n steps on is multiplied by RIGHT^n; it is rejected in DESIGN.md.
    """
    down, added = RIGHT, 1
    for _ in range(power):  # twice as many steps
        down, added = down * down % 2**64, added * (down + 1) % 2**64

    def draws(healthy: Array) -> Array:
        rows = 4096
        state = np.empty(healthy.size // rows, np.uint64)  # of every column
        first = 1
        for column in range(state.size):
            state[column] = first
            first = (first * RIGHT + 1) % 2**64
        out = np.empty((rows, state.size), np.uint32)
        for row in out:
            row[:] = output(state)
            state = state * np.uint64(down) + np.uint64(added)
        return np.ascontiguousarray(out.T).reshape(-1)

    return draws


def biased(bits: Array) -> Array:
    """Each bit is set a little too often."""
    rng = np.random.default_rng(0)
    few = [rng.integers(2**32, size=bits.size, dtype=np.uint32) for _ in range(6)]
    return bits | np.bitwise_and.reduce(few)


def echo(lag: int, share: float) -> Fault:
    """Some values come once more, `lag` later."""

    def repeated(x: Array) -> Array:
        y = x.copy()
        struck = np.flatnonzero(rarely(x.size - lag, share))
        y[struck + lag] = x[struck]
        return y

    return repeated


# Of values.


def scaled(factor: float) -> Fault:
    return lambda x: x * x.dtype.type(factor)


def shifted(by: float) -> Fault:
    return lambda x: x + x.dtype.type(by)


def cut_at(sigmas: float) -> Fault:
    """No values beyond; what was there is at the bound, or nearer."""
    return lambda x: np.clip(x, -sigmas, sigmas)


def outliers(x: Array) -> Array:
    """One in a thousand values is 8 times what it should be."""
    return np.where(rarely(x.size, 1e-3), 8 * x, x).astype(x.dtype)


def coarse(x: Array) -> Array:
    """Cells of the distribution function are empty."""
    return (np.floor(x * x.dtype.type(2**14)) * x.dtype.type(2.0**-14)).astype(x.dtype)


def entangled(lag: int, of_square: bool) -> Fault:
    """Sizes depend on the sign of what came before, or the other way round."""

    def mixed(x: Array) -> Array:
        y = x.copy()
        if of_square:  # the value, on the square of an earlier one
            y[lag:] += x.dtype.type(0.02) * (x[:-lag] ** 2 - 1)
        else:  # the size, on the sign of an earlier one
            y[lag:] *= 1 + x.dtype.type(0.02) * x[:-lag]
        return y

    return mixed


def crooked(x: Array) -> Array:
    """Box-Muller with a wrong 2 pi: the circle is not closed."""
    a, b = x.reshape(-1, 2).T
    radius, angle = np.hypot(a, b), np.arctan2(b, a) * x.dtype.type(0.99)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


# Of streams, words and matrices.


def correlated(x: Array) -> Array:
    """Every eighth stream has something of the first."""
    y = x.reshape(-1, STREAMS).copy()
    y[:, 8::8] = 0.99 * y[:, 8::8] + 0.14 * y[:, :1]
    return y.reshape(-1)


def two_alike(x: Array) -> Array:
    y = x.reshape(-1, STREAMS).copy()
    y[:, 1] = 0.9 * y[:, 1] + 0.43 * y[:, 0]
    return y.reshape(-1)


def same_shards(x: Array) -> Array:
    """Every rank of eight filled its rows with the same values."""
    w = x.reshape(-1, 8, ROWS // 8, COLUMNS)
    return np.repeat(w[:, :1], 8, axis=1).reshape(-1)


def arithmetic(words: Array) -> Array:
    """Words made from 0, 1, 2, ... without a hash."""
    return np.arange(words.size, dtype=np.uint64) * GOLDEN_GAMMA


def few(words: Array) -> Array:
    """Hashes of 20 bits."""
    return mix64(words & np.uint64(2**20 - 1))


def truncating(x: Array) -> Array:
    """Conversion that drops bits instead of rounding: every other magnitude is one less."""
    patterns = x.view(f"u{x.itemsize}")
    one, zero = patterns.dtype.type(1), patterns << 1 == 0
    return np.where(rarely(x.size, 0.5) & ~zero, patterns - one, patterns)


def last_bit_lost(x: Array) -> Array:
    patterns = x.view(f"u{x.itemsize}")
    return patterns & ~patterns.dtype.type(1)


def of_normals() -> dict[str, Fault]:
    at_lags = {
        f"{what} at {lag}": fault
        for lag in LAGS
        for what, fault in [
            ("an echo", echo(lag, 0.02)),
            ("sign from size", entangled(lag, True)),
            ("size from sign", entangled(lag, False)),
        ]
    }
    return {
        "a wrong constant in the logarithm": scaled(0.99),
        "a wrong mean": shifted(0.01),
        "a truncated tail": cut_at(2.99),
        "outliers": outliers,
        "a wrong 2 pi": crooked,
        **at_lags,
    }


FAULTS: dict[str, dict[str, Fault]] = {
    "bits": {
        "a wrong multiplier": pcg(RIGHT - 1),
        "a block again": pcg(RIGHT, repeated=True),
        "one sequence, 2^28 apart": one_sequence(28),
        "biased bits": biased,
        **{f"an echo at {lag}": echo(lag, 0.02) for lag in LAGS},
    },
    **{
        f"uniform-{dtype}": {"a wrong width": scaled(0.99), "14 bits": coarse}
        for dtype in ("float32", "float64")
    },
    **{f"normal-{dtype}": of_normals() for dtype in ("float32", "float64")},
    **{
        f"truncated_normal-{dtype}": {"a wrong mass": scaled(0.99), "14 bits": coarse}
        for dtype in ("float32", "float64")
    },
    **{
        f"{distribution}-{dtype}": {"no rounding": truncating, "a bit lost": last_bit_lost}
        for distribution in ("uniform", "normal")
        for dtype in SMALL
        if dtype != "float16"
    },
    **{
        f"{distribution}-float16": {"a bit lost": last_bit_lost}
        for distribution in ("uniform", "normal")
    },
    "streams": {"correlated names": correlated, "two names alike": two_alike},
    "hashes": {"no hash": arithmetic, "few hashes": few},
    "matrices": {"the same on all ranks": same_shards, "a wrong scale": scaled(0.97)},
}
