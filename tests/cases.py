"""What the tests fill: every distribution in every dtype of the kernels, with its reference."""

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest
import reference
from numpy.typing import NDArray

from fastinit import _kernels
from fastinit._distributions import truncated_normal_distribution
from fastinit._fill import as_dtype, in_dtype

Array = NDArray[Any]

KEY = reference.key(42, "tests")
ON_CPU = [*_kernels.isas(), "numba"]
# The text for GPUs by the host, with a stand-in for the grid; it needs a C++ compiler.
ISAS = [*ON_CPU, "cuda"] if shutil.which(os.environ.get("CXX", "c++")) else ON_CPU
_OTHERS = {"numba": "fastinit.numba._fill", "cuda": "cuda_host"}
backend: Any = _kernels  # the module that fills
POISON = 0xA5


@contextmanager
def using(isa: str) -> Iterator[None]:
    """Fill by that instruction set's kernels in C, by those in Numba, or by CUDA's on the host."""
    global backend
    if isa in _OTHERS:
        if isa == "numba":
            pytest.importorskip("numba")
        backend = import_module(_OTHERS[isa])
        try:
            yield
        finally:
            backend = _kernels
        return
    before = _kernels.isa()
    _kernels.use_isa(isa)
    try:
        yield
    finally:
        _kernels.use_isa(before)


class Case(NamedTuple):
    distribution: str
    dtype: str
    params: tuple[float, ...] = ()

    def __str__(self) -> str:
        return "-".join([self.distribution, self.dtype, *map(repr, self.params)])

    @property
    def pattern(self) -> np.dtype[Any]:
        """The unsigned integer of the dtype's size: arrays hold bit patterns."""
        return np.dtype(f"u{as_dtype(self.dtype).itemsize}")

    def kernel_params(self) -> Any:
        """What the entry point makes of the parameters."""
        if self.distribution == "constant":
            return int(self.params[0])
        if self.distribution == "truncated_normal":
            interval = truncated_normal_distribution(*self.params)
            return in_dtype(interval, as_dtype(self.dtype))[1]
        return self.params

    def poisoned(self, shape: int | tuple[int, ...]) -> Array:
        x = np.empty(shape, self.pattern)
        x.view(np.uint8)[...] = POISON
        return x

    def fill(
        self, x: Array, start: int = 0, threads: int = 1, index_steps: Sequence[int] | None = None
    ) -> Array:
        backend.fill(
            getattr(_kernels, self.distribution.upper()),
            getattr(_kernels, self.dtype.upper()),
            x,
            start,
            KEY,
            self.kernel_params(),
            threads,
            index_steps,
        )
        return x

    def filled(self, n: int, start: int = 0, threads: int = 1) -> Array:
        return self.fill(self.poisoned(n), start, threads)

    @lru_cache(maxsize=256)  # noqa: B019
    def expected(self, n: int, start: int = 0) -> Array:
        return np.array(
            reference.values(self.distribution, self.dtype, KEY, start, n, self.params),
            self.pattern,
        )


FLOAT8S = ("float8_e4m3fn", "float8_e5m2")
FLOATS = ("float32", "float64", "float16", "bfloat16", *FLOAT8S)
CASES = [
    Case("constant", "uint8", (0x10,)),
    Case("constant", "uint16", (0x3210,)),
    Case("constant", "uint32", (0x76543210,)),
    Case("constant", "uint64", (0xFEDCBA9876543210,)),
    Case("bits", "uint32"),
    Case("bits", "uint64"),
    *(Case("uniform", dtype, (-0.3, 0.7)) for dtype in FLOATS),
    *(Case("normal", dtype, (0.1, 2.5)) for dtype in FLOATS),
]
# In float32 by the methods central, wide, body, far and wide; in float64 by body and far.
TRUNCATED = [
    *(Case("truncated_normal", dtype, (0.1, 2.5, -2.0, 2.0)) for dtype in FLOATS),
    *(
        Case("truncated_normal", dtype, (0.0, 1.0, *bounds))
        for dtype in ("float32", "float64")
        for bounds in [(-3.0, 4.0), (2.0, 2.1), (-math.inf, -9.0), (-math.inf, math.inf)]
    ),
]
# Parameters that lead out of a format's normal numbers: to its subnormals, to infinity, to a
# zero with a sign; and to a shift that swallows the value, or the other way round.
EXTREMES = [
    Case(distribution, dtype, params)
    for distribution, dtypes, some in [
        ("normal", FLOATS, [(0.0, 1.0), (3.0, 0.0), (-0.0, 0.0), (1e4, 1e-3), (1e-3, 1e4)]),
        ("uniform", FLOATS, [(0.0, 1.0), (1.0, 1.0), (-0.0, 0.0), (-6e4, 6e4), (0.0, 6e-8)]),
        ("normal", ["float16"], [(0.0, 1e-4), (0.0, 1e-7), (0.0, 3e4)]),
        ("normal", FLOAT8S, [(0.0, 1e-1), (0.0, 1e-3), (0.0, 1e-5), (0.0, 200.0)]),
        ("normal", ["bfloat16", "float32"], [(0.0, 1e-38), (1e-40, 1e-39), (0.0, 3e38)]),
        # Around what may be converted by AVX-512's instruction, which has no subnormals.
        ("normal", ["bfloat16"], [(0.0, 2.0**-30), (2.0**-103, 2.0**-30), (-1e-38, 1e-36)]),
        ("uniform", ["bfloat16"], [(-1e-38, 1e-38), (-(2.0**-103), 2.0**-30), (0.0, 3e38)]),
        ("normal", ["float64"], [(0.0, 1e-308), (0.0, 5e-324), (0.0, 1.7e308)]),
    ]
    for dtype in dtypes
    for params in some
] + [
    Case("truncated_normal", dtype, params)
    for dtypes, some in [
        (FLOATS, [(0.1, 2.5, -3.0, 4.0), (0.1, 2.5, 5.0, 9.0), (0.1, 2.5, -math.inf, -9.0)]),
        (FLOATS, [(0.0, 1e-5, -3.0, 1.0), (3.0, 0.0, -2.0, 2.0)]),
        (FLOATS[:2], [(1e8, 1.0, -2.0, 2.0), (0.0, 1.0, 9.0, 9.01)]),
    ]
    for dtype in dtypes
    for params in some
]
