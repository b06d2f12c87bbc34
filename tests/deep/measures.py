"""The statistics: each sums up a sample, chunk by chunk, and makes p-values of the sum.

STATISTICS names them by the kind of sample that they read.  `measure` runs all of a kind.
"""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from p_values import (
    p_of_anderson_darling,
    p_of_counts,
    p_of_ks,
    p_of_poisson,
    p_of_z,
)
from scipy import stats
from scipy.special import factorial2, ndtr, ndtri

from fastinit._fill import as_dtype

Array = NDArray[Any]
P = dict[str, float]

jit = numba.njit(nogil=True)


class Statistic(NamedTuple):
    """Summaries of chunks add up to the sample's; `p` makes named p-values of that."""

    summary: Callable[[Array], Array]
    p: Callable[[Array], P]
    least: int = 2**14  # values, from which on the p-values are what they say


def measure(
    kind: str,
    source: Callable[[int], Array],
    chunks: int = 1,
    threads: int = 1,
    statistics: Iterable[str] | None = None,
) -> P:
    """All p-values of `kind` for so many chunks of a source."""
    chosen = {k: s for k, s in STATISTICS[kind].items() if statistics is None or k in statistics}

    def sums(i: int) -> list[Array]:
        chunk = source(i)
        return [s.summary(chunk) for s in chosen.values()]

    totals: list[Any] = [0] * len(chosen)
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, chunks, 64):  # so that results do not pile up
            for one in pool.map(sums, range(first, min(first + 64, chunks))):
                totals = [a + b for a, b in zip(totals, one, strict=True)]
    return {
        f"{name}{f' {part}' if part else ''}": float(p)
        for (name, s), a in zip(chosen.items(), totals, strict=True)
        for part, p in s.p(a).items()
    }


# Distribution functions, by counts in 2^16 cells.

CELLS = 2**16
GRID = 2**18  # steps of the table that finds a value's cell


class Cells(NamedTuple):
    """Of equal probability, but for the rounding of values to a dtype."""

    edges: Array  # the least value of each cell but the first; then infinity
    probabilities: Array
    low: float  # where the table begins
    per_unit: float  # steps of the table
    table: Array  # the first cell that a value in a step may lie in
    further: int  # how many cells further it may be


def cells(edges: Array, probabilities: Array) -> Cells:
    low, high = float(edges[0]), float(edges[-1])
    steps = low + np.arange(-1, GRID + 1) * ((high - low) / GRID)
    cell = np.searchsorted(edges, steps, side="right").astype(np.int32)
    # From a step too early to a step too late, since a value's own step is rounded.
    further = int(np.append(cell[2:] - cell[:-2], CELLS - 1 - cell[-3]).max())
    edges = np.append(edges, np.inf)
    return Cells(edges, probabilities, low, GRID / (high - low), cell[:-2], further)


@lru_cache
def cells_of(distribution: str, dtype: str) -> Cells:
    """A value x of the dtype is whatever rounds to x; a uniform's are rounded down, exactly."""
    at = np.arange(1, CELLS) / CELLS
    if distribution == "uniform":
        return cells(at, np.full(CELLS, 1 / CELLS))
    inside = stats.norm.cdf(2) - stats.norm.cdf(-2) if distribution == "truncated_normal" else 1.0
    below = stats.norm.cdf(-2) if distribution == "truncated_normal" else 0.0
    edges = ndtri(below + inside * at).astype(dtype)
    bounds = (edges.astype(np.longdouble) + np.nextafter(edges, edges.dtype.type(-9))) / 2
    cumulated = (ndtr(bounds.astype(np.float64)) - below) / inside
    return cells(edges.astype(np.float64), np.diff(cumulated, prepend=0.0, append=1.0))


@jit
def count_in(x, edges, low, per_unit, table, further, counts):  # type: ignore[no-untyped-def]
    last = table.size - 1.0
    for value in x:
        cell = table[np.int64(min(max((value - low) * per_unit, 0.0), last))]
        for _ in range(further):  # no branch on what cannot be foreseen
            cell += value >= edges[cell]
        counts[cell] += 1


def fit(distribution: str, dtype: str) -> Statistic:
    """Kolmogorov-Smirnov, Anderson-Darling and chi-square.

    A truncated normal in float32 is the quantile of a probability that is rounded to 24 bits:
    some 500 steps to a cell, which chi-square would see in 10^9 values.  It takes cells by
    sixteens.
    """
    together = 16 if (distribution, dtype) == ("truncated_normal", "float32") else 1

    def summary(x: Array) -> Array:
        c, counts = cells_of(distribution, dtype), np.zeros(CELLS, np.int64)
        count_in(x.astype(np.float64), c.edges, c.low, c.per_unit, c.table, c.further, counts)
        return counts

    def p(counts: Array) -> P:
        probabilities = cells_of(distribution, dtype).probabilities
        n = int(counts.sum())
        expected = np.cumsum(probabilities)[:-1]
        distance = np.cumsum(counts)[:-1] / n - expected
        a2 = n * np.sum(distance**2 / (expected * (1 - expected))) / CELLS
        return {
            "Kolmogorov-Smirnov": p_of_ks(float(np.abs(distance).max()), n),
            "Anderson-Darling": p_of_anderson_darling(float(a2)),
            "chi-square": p_of_counts(
                counts.reshape(-1, together).sum(axis=1),
                probabilities.reshape(-1, together).sum(axis=1),
            ),
        }

    return Statistic(summary, p)


# Moments and tails.

ORDERS_OF_MOMENTS = np.arange(1, 9)


@jit
def power_sums(x):  # type: ignore[no-untyped-def]
    sums = np.zeros(9)
    sums[0] = x.size
    for value in x:
        power = 1.0
        for k in range(1, 9):
            power *= value
            sums[k] += power
    return sums


def moments(expected: Array, variances: Array, orders: Array, least: int) -> Statistic:
    """The means of x^k, in their standard errors."""

    def p(sums: Array) -> P:
        n = sums[0]
        z = (sums[orders] / n - expected[orders - 1]) / np.sqrt(variances[orders - 1] / n)
        return {str(k): p for k, p in zip(orders, p_of_z(z), strict=True)}

    return Statistic(lambda x: power_sums(x.astype(np.float64)), p, least)


def even_moments(k: Array) -> Array:
    """Of the standard normal: 1 * 3 * ... * (k - 1), and 0 for odd k."""
    return np.where(k % 2 == 0, factorial2(k - 1, exact=False), 0.0)


K = ORDERS_OF_MOMENTS
NORMAL = even_moments(K), even_moments(2 * K) - even_moments(K) ** 2
UNIFORM = 1 / (K + 1), 1 / (2 * K + 1) - 1 / (K + 1) ** 2
TAILS = np.array([3, 3.5, 4, 4.5, 5, 5.5, 6, 6.5, 7])


def tail_counts(x: Array) -> Array:
    far = x[np.abs(x) >= TAILS[0]].astype(np.float64)
    sides = [(far <= -t).sum() for t in TAILS], [(far >= t).sum() for t in TAILS]
    return np.array([[x.size] * len(TAILS), *sides])


def tail_p(counts: Array) -> P:
    """Beyond 3, 3.5, ... 7 sigma, below and above."""
    means = counts[0] * ndtr(-TAILS)
    below, above = p_of_poisson(counts[1], means), p_of_poisson(counts[2], means)
    return {f"-{t:g}": p for t, p in zip(TAILS, below, strict=True)} | {
        f"+{t:g}": p for t, p in zip(TAILS, above, strict=True)
    }


# Values that should have nothing to do with each other.

LAGS = (1, 2, 3, 16, 64, 128, 256, 512, 1024, 2048, 4096)
COMPARED = ["sign-sign", "sign-size", "size-sign", "size-size"]


@jit
def products(x, lag, step):  # type: ignore[no-untyped-def]
    """Of x and x^2 - 1 with the same `lag` later, at every `step`."""
    sums = np.zeros(5)
    for t in range(0, x.size - lag, step):
        a, b = x[t], x[t + lag]
        a2, b2 = a * a - 1, b * b - 1
        sums[0] += 1
        sums[1] += a * b
        sums[2] += a * b2
        sums[3] += a2 * b
        sums[4] += a2 * b2
    return sums


def p_of_products(sums: Array) -> Array:
    """x has variance 1, x^2 - 1 has 2."""
    return p_of_z(sums[..., 1:] / np.sqrt(sums[..., :1] * np.array([1.0, 2.0, 2.0, 4.0])))


def at_lags(x: Array) -> Array:
    x = x.astype(np.float64)
    return np.array([products(x, lag, 1) for lag in LAGS])


def lag_p(sums: Array) -> P:
    p = p_of_products(sums)
    return {
        f"{lag} {what}": p[i, j] for i, lag in enumerate(LAGS) for j, what in enumerate(COMPARED)
    }


def pair_p(sums: Array) -> P:
    return dict(zip(COMPARED, p_of_products(sums), strict=True))


def polar_cells(x: Array) -> Array:
    """A pair's radius, through its distribution function, and its angle: 256 by 256 cells."""
    a, b = x.astype(np.float64).reshape(-1, 2).T
    radius = np.minimum(np.exp((a * a + b * b) * -0.5) * 256, 255).astype(np.int64)
    angle = np.minimum((np.arctan2(b, a) / (2 * np.pi) + 0.5) * 256, 255).astype(np.int64)
    return np.bincount(radius * 256 + angle, minlength=2**16)


def flat(counts: Array) -> P:
    return {"": p_of_counts(counts, np.full(counts.size, 1 / counts.size))}


def gram(x: Array) -> Array:
    """Of streams, the columns: the sums of their products, pair by pair; and how many."""
    x = x.reshape(-1, STREAMS).astype(np.float64)
    return np.append((x.T @ x)[np.triu_indices(STREAMS, 1)], x.shape[0])


STREAMS = 256


def gram_p(sums: Array) -> P:
    z = sums[:-1] / math.sqrt(sums[-1])
    largest = float(np.abs(z).max())
    return {
        "all pairs": 2 * min(stats.chi2.sf(z @ z, z.size), stats.chi2.cdf(z @ z, z.size)),
        "the worst pair": -math.expm1(z.size * math.log1p(-float(p_of_z(largest)))),
    }


# Bits.


@jit
def ones(x):  # type: ignore[no-untyped-def]
    sums = np.zeros(33, np.int64)
    sums[32] = x.size
    for value in x:
        for bit in range(32):
            sums[bit] += (value >> bit) & 1
    return sums


def ones_p(sums: Array) -> P:
    n = sums[32]
    return {str(bit): p for bit, p in enumerate(p_of_z((2 * sums[:32] - n) / math.sqrt(n)))}


@jit
def byte_pairs(x, lag, shift, counts):  # type: ignore[no-untyped-def]
    for t in range(x.size - lag):
        counts[((x[t] >> shift) & 255) << 8 | ((x[t + lag] >> shift) & 255)] += 1


@jit
def differing(x, lag, counts):  # type: ignore[no-untyped-def]
    """How many bits of a draw differ from those of the one `lag` later."""
    for t in range(x.size - lag):
        bits = x[t] ^ x[t + lag]
        bits = bits - ((bits >> 1) & 0x55555555)
        bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
        bits = (bits + (bits >> 4)) & 0x0F0F0F0F
        counts[(bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24 & 255)] += 1


def serial(shift: int) -> Statistic:
    """Eight bits and the same eight of a later draw."""

    def summary(x: Array) -> Array:
        counts = np.zeros((len(LAGS), 2**16), np.int64)
        for lag, row in zip(LAGS, counts, strict=True):
            byte_pairs(x, lag, shift, row)
        return counts

    def p(counts: Array) -> P:
        flat = np.full(2**16, 2.0**-16)
        return {str(lag): p_of_counts(c, flat) for lag, c in zip(LAGS, counts, strict=True)}

    return Statistic(summary, p)


def distances(x: Array) -> Array:
    counts = np.zeros((len(LAGS), 33), np.int64)
    for lag, row in zip(LAGS, counts, strict=True):
        differing(x, lag, row)
    return counts


def distance_p(counts: Array) -> P:
    binomial = stats.binom.pmf(np.arange(33), 32, 0.5)
    return {str(lag): p_of_counts(c, binomial) for lag, c in zip(LAGS, counts, strict=True)}


# Keys and states: one chunk is the sample.


def leading(words: Array, bits: int) -> Array:
    return words >> np.uint64(64 - bits)


def trailing(words: Array, bits: int) -> Array:
    return words & np.uint64(2**bits - 1)


def repeats(ascending: Array) -> int:
    return int(np.count_nonzero(ascending[1:] == ascending[:-1]))


def hashed(words: Array) -> P:
    """Collisions of so many bits that some 300 are expected, and birthday spacings likewise.

    G. Marsaglia, "A Current View of Random Number Generators", 1985: of m birthdays in a year
    of d days, m^3 / (4 d) spacings are expected to be there already.
    """
    m, result = words.size, {}
    for end, part in [("leading", leading), ("trailing", trailing)]:
        bits = round(math.log2(m * m / 2 / 300))
        d = 2.0**bits
        expected = m - d * -math.expm1(m * math.log1p(-1 / d))
        found = repeats(np.sort(part(words, bits)))
        result[f"collisions of {end} bits"] = float(p_of_poisson(found, expected))
        bits = min(round(math.log2(m**3 / 4 / 300)), 64)
        days = np.sort(part(words, bits))
        found = repeats(np.sort(np.diff(days)))
        result[f"spacings of {end} bits"] = float(p_of_poisson(found, m**3 / 2.0 ** (bits + 2)))
    return result


# Weight matrices.

ROWS, COLUMNS = 256, 1024
# The theory is that of large matrices: at this size, in 4096 matrices of NumPy's normals, it misses
# the variance by 1 to 2 % up to T4, by 4 % for T5, 18 % for T8.
DEGREES = np.arange(1, 5)


def spectra(x: Array) -> Array:
    """What the singular values' distribution differs by from Marchenko and Pastur's.

    With eigenvalues s of W W' / n put on [-1, 1] by y = (s - 1 - c) / (2 sqrt c), c being the
    matrix's rows by its columns, the sums over y of Chebyshev's polynomials T_k are independent
    normals of variance k / 2 around Marchenko and Pastur's mean plus (1 + (-1)^k) / 4: I.
    Dumitriu, A. Edelman, "Global Spectrum Fluctuations for the Beta-Hermite and Beta-Laguerre
    Ensembles", J. Math. Phys. 47 (2006).  Summed over matrices: their number, these, their squares.
    """
    w = x.astype(np.float64).reshape(-1, ROWS, COLUMNS)
    c = ROWS / COLUMNS
    s = np.linalg.eigvalsh(w @ w.transpose(0, 2, 1) / COLUMNS)
    y = (s - 1 - c) / (2 * math.sqrt(c))
    k, r = DEGREES, -math.sqrt(c)
    mean = (r**k - (r ** (k + 2) + r ** np.abs(k - 2)) / 2) / (1 - c)
    sums = np.array(
        [np.polynomial.chebyshev.chebval(y, np.eye(len(k) + 1)[d]).sum(axis=1) for d in k]
    )
    z = (sums.T - ROWS * mean - (1 + (-1.0) ** k) / 4) / np.sqrt(k / 2)
    z = np.column_stack([z, largest(s[:, -1])])
    return np.array([np.full(z.shape[1], len(w)), z.sum(axis=0), (z * z).sum(axis=0)])


def largest(s: Array) -> Array:
    """The largest eigenvalue, which follows Tracy and Widom's law, as a standard normal.

    Centre and scale of I. M. Johnstone, "On the Distribution of the Largest Eigenvalue in
    Principal Components Analysis", Ann. Statist. 29 (2001), with halves for its ones; the law by
    M. Chiani's gamma distribution, J. Multivariate Anal. 129 (2014), right to 1e-3.
    """
    a, b = math.sqrt(COLUMNS - 0.5), math.sqrt(ROWS - 0.5)
    centre, scale = (a + b) ** 2, (a + b) * (1 / a + 1 / b) ** (1 / 3)
    t = (s * COLUMNS - centre) / scale
    u = stats.gamma.cdf(t + 9.84801, 46.446, scale=0.186054)
    return ndtri(np.clip(u, 1e-15, 1 - 1e-15))


def spectra_p(sums: Array) -> P:
    n, first, second = sums
    means = p_of_z(first / np.sqrt(n))
    squares = 2 * np.minimum(stats.chi2.sf(second, n), stats.chi2.cdf(second, n))
    names = [*(f"T{k}" for k in DEGREES), "largest"]
    return {f"{name} mean": p for name, p in zip(names, means, strict=True)} | {
        f"{name} variance": p for name, p in zip(names, squares, strict=True)
    }


# Formats of 8 and 16 bits: how often each of their numbers comes.


@lru_cache
def numbers_of(dtype: str) -> tuple[Array, Array]:
    """All finite numbers, ascending, and their patterns; the negative zero is left out."""
    unsigned = np.dtype(f"u{as_dtype(dtype).itemsize}")
    patterns = np.arange(2 ** (8 * unsigned.itemsize), dtype=unsigned)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        numbers = patterns.view(as_dtype(dtype)).astype(np.float64)
    use = np.isfinite(numbers) & ~((numbers == 0) & np.signbit(numbers))
    ascending = np.argsort(numbers[use])
    return numbers[use][ascending], patterns[use][ascending]


@lru_cache
def probabilities_of(distribution: str, dtype: str, scale: float) -> Array:
    """Of every number, rounding to float32 and then, ties to even, to the dtype."""
    numbers, patterns = numbers_of(dtype)
    if distribution == "uniform":  # 2^24 values, each as likely
        u = (np.arange(2**24, dtype=np.float32) * np.float32(2.0**-24)).astype(as_dtype(dtype))
        counts = np.bincount(u.view(patterns.dtype), minlength=2 ** (8 * patterns.itemsize))
        return counts[patterns] / 2**24
    middles = ((numbers[1:] + numbers[:-1]) / 2).astype(np.float32)
    even = patterns[:-1] % 2 == 0  # the tie is the lower number's
    beyond = np.nextafter(middles, np.where(even, np.inf, -np.inf).astype(np.float32))
    bounds = (middles.astype(np.float64) + beyond) / 2
    return np.diff(ndtr(bounds / scale), prepend=0.0, append=1.0)


def patterns(distribution: str, dtype: str, scale: float = 1.0) -> Statistic:
    def summary(x: Array) -> Array:
        return np.bincount(x.view(f"u{x.itemsize}"), minlength=2 ** (8 * x.itemsize))

    def p(counts: Array) -> P:
        _, used = numbers_of(dtype)
        counts = counts.copy()
        zero = counts.size // 2
        counts[0], counts[zero] = counts[0] + counts[zero], 0
        outside = counts.sum() - counts[used].sum()
        fits = p_of_counts(counts[used], probabilities_of(distribution, dtype, scale))
        return {"": 0.0 if outside else fits}

    return Statistic(summary, p)


def halves(x: Array) -> Array:
    sixteen = x.astype("<u4").view("<u2").reshape(-1, 2)
    return np.array([np.bincount(half, minlength=2**16) for half in sixteen.T])


def halves_p(counts: Array) -> P:
    return {half: flat(c)[""] for half, c in zip(("low", "high"), counts, strict=True)}


def products_of_pairs(x: Array) -> Array:
    return np.asarray(products(x.astype(np.float64), 1, 2))


# By the kind of sample: a distribution and dtype, or what an array holds.


def continuous(distribution: str, dtype: str) -> dict[str, Statistic]:
    return {"fit": fit(distribution, dtype)}


def uniform(dtype: str) -> dict[str, Statistic]:
    return {**continuous("uniform", dtype), "moment": moments(*UNIFORM, K, 2**14)}


def normal(dtype: str) -> dict[str, Statistic]:
    return {
        **continuous("normal", dtype),
        "moment": moments(*NORMAL, K[:4], 2**14),
        "high moment": moments(*NORMAL, K[4:], 2**20),  # the mean of x^8 is slow to be normal
        "tail": Statistic(tail_counts, tail_p, 2**20),
        "lag": Statistic(at_lags, lag_p),
        "pair": Statistic(products_of_pairs, pair_p),
        "polar cells": Statistic(polar_cells, flat),
    }


SMALL = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")

STATISTICS: dict[str, dict[str, Statistic]] = {
    "bits": {
        "bit": Statistic(ones, ones_p),
        "half": Statistic(halves, halves_p),
        "high byte and that at lag": serial(24),
        "low byte and that at lag": serial(0),
        "bits differing at lag": Statistic(distances, distance_p),
    },
    **{f"uniform-{dtype}": uniform(dtype) for dtype in ("float32", "float64")},
    **{f"normal-{dtype}": normal(dtype) for dtype in ("float32", "float64")},
    **{
        f"truncated_normal-{dtype}": continuous("truncated_normal", dtype)
        for dtype in ("float32", "float64")
    },
    **{f"uniform-{dtype}": {"pattern": patterns("uniform", dtype)} for dtype in SMALL},
    **{f"normal-{dtype}": {"pattern": patterns("normal", dtype)} for dtype in SMALL},
    "streams": {"correlation": Statistic(gram, gram_p, 2**20)},
    "hashes": {"words": Statistic(lambda words: words, hashed)},
    "matrices": {"spectrum": Statistic(spectra, spectra_p, ROWS * COLUMNS)},
}
