"""p-values, two-sided, of what was counted or summed up."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special, stats

Array = NDArray[Any]


def p_of_z(z: Any) -> Any:
    """Of numbers of standard errors."""
    return 2 * stats.norm.sf(np.abs(z))


def p_of_poisson(count: Any, mean: Any) -> Any:
    """Half of the probability of the count itself is on either side."""
    half = stats.poisson.pmf(count, mean) / 2
    below, above = stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean)
    return 2 * np.minimum(below, above) - 2 * half


def p_of_chi_square(square: float, degrees: int) -> float:
    """One-sided: too good a fit is not looked for here, but by the second level."""
    return float(stats.chi2.sf(square, degrees))


def p_of_counts(counts: Array, probabilities: Array) -> float:
    """Chi-square; neighbours with few expected are taken together, to make some 50."""
    if counts[probabilities == 0].any():
        return 0.0
    counts, probabilities = counts[probabilities > 0], probabilities[probabilities > 0]
    expected = probabilities * counts.sum()
    cell = np.minimum((np.cumsum(expected) - expected / 2) // 50, counts.sum() // 50 - 1)
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    expected = np.add.reduceat(expected, starts)
    square = (np.add.reduceat(counts, starts) - expected) ** 2 / expected
    return p_of_chi_square(square.sum(), square.size - 1)


def p_of_ks(distance: float, n: int) -> float:
    return float(stats.kstwobign.sf(math.sqrt(n) * distance))


@lru_cache(maxsize=2**16)
def p_of_anderson_darling(a2: float) -> float:
    """Of a large sample, whose law is known.

    The series of T. W. Anderson and D. A. Darling, "Asymptotic Theory of Certain 'Goodness of
    Fit' Criteria Based on Stochastic Processes", Ann. Math. Statist. 23 (1952), equation 4.35.
    It is exact to about 1e-12, which is the probability of more than 26.
    """
    if a2 > 26:
        return 0.0
    total = 0.0
    for j in range(20):
        b = (4 * j + 1) ** 2 * math.pi**2 / (8 * a2)
        if b > 700:
            break
        area, _ = integrate.quad(
            lambda w, b=b: math.exp(a2 / (8 * (w * w + 1)) - b * w * w),
            0, 6 / math.sqrt(b), epsabs=1e-13, epsrel=1e-12,
        )  # fmt: skip
        total += special.binom(-0.5, j) * (4 * j + 1) * math.exp(-b) * area
    return max(0.0, 1 - math.sqrt(2 * math.pi) / a2 * total)


def p_of_uniformity(p: Array) -> float:
    """Second level: of p-values that should be uniform themselves."""
    return float(stats.kstest(p, stats.uniform.cdf).pvalue)
