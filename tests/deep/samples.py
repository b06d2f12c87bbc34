"""Samples of the stream, chunk by chunk, for the statistics of `measures.py`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from orders import drawn, order

import fastinit as fi

Array = NDArray[Any]
Source = Callable[[int], Array]

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def read(name: str, values: str, seed: int) -> Source:
    """Values such as normal-float32 in an order of `orders.py`."""
    distribution, dtype = values.split("-")
    return partial(_chunk, order(name, seed), distribution, dtype)


def _chunk(chunks: Any, distribution: str, dtype: str, i: int) -> Array:
    return np.asarray(chunks(i, distribution, dtype))


def first(values: str, seed: int, n: int) -> Source:
    """The first n values of a seed, as the only chunk."""
    distribution, dtype = values.split("-")
    return lambda _: drawn(distribution, dtype, fi.default_rng(seed).key, (n,))


def mix64(z: Array) -> Array:
    """SplitMix64's finaliser, as in pcg.h."""
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


def states(seed: int, n: int, stride: int = 1, start: int = 0) -> Array:
    """The states in which the generators of n blocks begin, `stride` blocks apart."""
    k0, _ = fi.default_rng(seed).key
    blocks = np.uint64(start) + np.arange(n, dtype=np.uint64) * np.uint64(stride)
    return mix64(np.uint64(k0) + blocks * GOLDEN_GAMMA)


def increments(seed: int, n: int) -> Array:
    """The 63 bits of their increments that vary, leading."""
    _, k1 = fi.default_rng(seed).key
    return mix64(np.uint64(k1) + np.arange(n, dtype=np.uint64) * GOLDEN_GAMMA)


def keys(kind: str, seed: int, n: int, word: int) -> Array:
    """A word of the keys of n seeds, from `seed` on, or of n names."""
    rng = fi.default_rng(seed)
    if kind == "seeds":
        made = (fi.default_rng(seed + i).key[word] for i in range(n))
    else:
        made = (rng.stream(f"layers.{i}.weight").key[word] for i in range(n))
    return np.fromiter(made, np.uint64, n)
