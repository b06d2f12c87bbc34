"""The contenders of a benchmark: fastinit and its peers, where installed, each at its best.

Each library has one function here. It yields its ways to make a case's values: into the
memory given, or, where there is none or the library cannot, into an array of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastinit as fi
from fastinit import _kernels
from fastinit._fill import as_dtype

Array = NDArray[Any]
Fill = Callable[[], object]

CONSTANT = "memory-write limit"


class Case(NamedTuple):
    """What is compared: so many values, into such memory, by so many threads.

    Examples
    --------
    >>> Case("normal", "bfloat16", 2**20, 1, cold=False).nbytes
    2097152
    """

    distribution: str
    dtype: str
    size: int
    threads: int
    cold: bool  # into memory that the process has not touched yet

    @property
    def nbytes(self) -> int:
        """Bytes that are filled."""
        return self.size * as_dtype(self.dtype).itemsize


class Contender(NamedTuple):
    """One way to fill: `prepare` before each turn, untimed; `fill` returns the values."""

    library: str
    way: str
    fill: Fill
    prepare: Callable[[], object] = lambda: None

    @property
    def name(self) -> str:
        """Library and way."""
        return f"{self.library} {self.way}".strip()


def contenders(case: Case, x: Array | None) -> list[Contender]:
    """Return all that can do a case, into x, or into new memory if it is None.

    Those that know one thread alone are there if `case.threads` is 1.
    """
    return [contender for library in LIBRARIES for contender in library(case, x)]


def _constant(case: Case, x: Array | None) -> Iterator[Contender]:
    """Yield the ceiling: a constant, and not 0, for which a machine may have shortcuts."""
    pattern = np.dtype(f"u{as_dtype(case.dtype).itemsize}")
    if x is None:
        ours = partial(fi.constant, case.size, 1, dtype=pattern, threads=case.threads)
        numpys: Fill = partial(np.full, case.size, 1, pattern)
    else:
        bits = x.view(pattern)
        ours, numpys = partial(fi.constant_, bits, 1, threads=case.threads), partial(bits.fill, 1)
    yield Contender(CONSTANT, "fastinit", ours, partial(_kernels.use_isa, _kernels.isas()[-1]))
    yield Contender(CONSTANT, "NumPy", numpys)


def _fastinit(case: Case, x: Array | None) -> Iterator[Contender]:
    options: dict[str, Any] = {"rng": fi.default_rng(1), "threads": case.threads}
    in_place = partial(getattr(fi, f"{case.distribution}_"), **options)
    new = partial(getattr(fi, case.distribution), case.size, dtype=case.dtype, **options)
    fill = new if x is None else partial(in_place, x)
    for isa in reversed(_kernels.isas()):
        yield Contender("fastinit", isa, fill, partial(_kernels.use_isa, isa))
    if module("numba") is not None:
        yield Contender("fastinit", "Numba", partial(fill, backend="numba"))
    if x is None:
        use_best = partial(_kernels.use_isa, _kernels.isas()[-1])
        for name, allocate in {"np.empty": np.empty, "np.zeros": np.zeros}.items():
            memory = partial(allocate, case.size, as_dtype(case.dtype))
            yield Contender("fastinit", f"in {name}", partial(_new, memory, in_place), use_best)


def _new(allocate: Callable[[], Any], fill: Callable[[Any], object]) -> object:
    x = allocate()
    fill(x)
    return x


def _numpy(case: Case, x: Array | None) -> Iterator[Contender]:
    if case.distribution == "truncated_normal":
        return
    if case.threads > 1:
        yield from _numpy_in_threads(case, x)
        return
    generators = {"PCG64": np.random.PCG64(1), "SFC64": np.random.SFC64(1)}
    for way, bits in generators.items():
        yield from _numpy_generator(case, x, "NumPy", way, np.random.Generator(bits))
    if case.dtype != "float64":
        draw = _numpy_draw(case, np.random.default_rng(1))
        wide = "float64" if case.dtype == "float32" else "float32"
        yield Contender("NumPy", f"{wide}, cast", partial(_cast, case, partial(draw, dtype=wide)))


def _numpy_draw(case: Case, rng: np.random.Generator) -> Callable[..., Any]:
    """Return NumPy's method for a distribution: the one that can fill in place."""
    return rng.standard_normal if case.distribution == "normal" else rng.random


def _numpy_generator(
    case: Case, x: Array | None, library: str, way: str, rng: np.random.Generator
) -> Iterator[Contender]:
    if case.dtype in ("float32", "float64"):
        draw = _numpy_draw(case, rng)
        yield Contender(library, way, partial(draw, case.size, case.dtype, x))


def _cast(case: Case, draw: Callable[[int], Any]) -> object:
    return draw(case.size).astype(as_dtype(case.dtype))


def _numpy_in_threads(case: Case, x: Array | None) -> Iterator[Contender]:
    """Yield NumPy's recipe "Multithreaded generation": for each thread a generator and a part."""
    if case.dtype not in ("float32", "float64"):
        return
    seeds = np.random.SeedSequence(1).spawn(case.threads)
    generators = [np.random.Generator(np.random.SFC64(seed)) for seed in seeds]
    pool = _threads(case.threads)

    def fill() -> Array:
        whole = np.empty(case.size, case.dtype) if x is None else x
        parts = np.array_split(whole, case.threads)
        jobs = [
            pool.submit(_numpy_draw(case, rng), part.size, case.dtype, part)
            for rng, part in zip(generators, parts, strict=True)
        ]
        for job in jobs:
            job.result()
        return whole

    yield Contender("NumPy", "SFC64, its recipe for threads", fill)


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n)


def _randomgen(case: Case, x: Array | None) -> Iterator[Contender]:
    """Yield NumPy's distributions over randomgen's fastest bit generator."""
    randomgen = module("randomgen")
    if randomgen is None or case.threads > 1 or case.distribution == "truncated_normal":
        return
    rng = np.random.Generator(randomgen.SFC64(1))
    yield from _numpy_generator(case, x, "randomgen", "SFC64", rng)


def _mkl_random(case: Case, _: Array | None) -> Iterator[Contender]:
    """Yield what there is: only float64, and never in place."""
    mkl_random = module("mkl_random")
    if mkl_random is None or case.threads > 1 or case.dtype != "float64":
        return
    rng = mkl_random.MKLRandomState(1, brng="SFMT19937")  # its fastest for normals
    draw = {
        "normal": partial(rng.standard_normal, case.size, method="ICDF"),
        "uniform": partial(rng.random_sample, case.size),
    }.get(case.distribution)
    if draw is not None:
        yield Contender("mkl_random", "ICDF" if case.distribution == "normal" else "", draw)


def _torch(case: Case, x: Array | None) -> Iterator[Contender]:
    """Yield PyTorch's fill; threads serve its truncated normal alone."""
    torch = module("torch")
    if torch is None:
        return
    dtype = getattr(torch, case.dtype)
    fill = {
        "normal": torch.Tensor.normal_,
        "uniform": torch.Tensor.uniform_,
        "truncated_normal": torch.nn.init.trunc_normal_,
    }[case.distribution]
    use_threads = partial(torch.set_num_threads, case.threads)
    if x is None:
        new = partial(torch.empty, case.size, dtype=dtype, device="cpu")
        yield Contender("PyTorch", "", partial(_new, new, fill), use_threads)
    else:
        tensor = torch.from_numpy(x.view(np.uint8)).view(dtype)
        yield Contender("PyTorch", "", partial(fill, tensor), use_threads)


def _jax(case: Case, x: Array | None) -> Iterator[Contender]:
    """Yield JAX on all the threads, as XLA takes them when it starts; in place by donation."""
    jax = module("jax")
    if jax is None or case.threads != fi.get_num_threads():
        return
    jax.config.update("jax_enable_x64", True)
    cpu = jax.local_devices(backend="cpu")[0]
    shape, dtype = (case.size,), as_dtype(case.dtype)

    def draw(key: Any) -> Any:
        if case.distribution == "truncated_normal":
            return jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)
        return getattr(jax.random, case.distribution)(key, shape, dtype)

    for way in ("threefry2x32", "unsafe_rbg"):
        key = jax.device_put(jax.random.key(1, impl=way), cpu)
        if x is None:
            new = jax.jit(draw)
            fill = partial(_jax_new, new, key)
        else:
            again = jax.jit(lambda _, key: draw(key), donate_argnums=0, keep_unused=True)
            fill = partial(_jax_again, again, [jax.device_put(x, cpu, may_alias=False)], key)
        yield Contender("JAX", way, fill)


def _jax_new(draw: Callable[..., Any], key: object) -> object:
    return draw(key).block_until_ready()


def _jax_again(draw: Callable[..., Any], donated: list[Any], key: object) -> object:
    donated[0] = draw(donated[0], key).block_until_ready()
    return donated[0]


def _numba(case: Case, x: Array | None) -> Iterator[Contender]:
    """Yield np.random as Numba compiles it, in a parallel loop."""
    numba = module("numba")
    if numba is None or case.dtype not in ("float32", "float64"):
        return
    if case.distribution == "truncated_normal" or case.threads > numba.config.NUMBA_NUM_THREADS:
        return
    fill = _numba_loops(numba)[case.distribution]
    new = partial(np.empty, case.size, case.dtype)
    into = partial(_new, new, fill) if x is None else partial(fill, x)
    yield Contender("Numba", "np.random", into, partial(numba.set_num_threads, case.threads))


@cache
def _numba_loops(numba: Any) -> dict[str, Callable[[Array], None]]:
    def normal(x: Array) -> None:
        for i in numba.prange(x.size):
            x[i] = np.random.standard_normal()  # noqa: NPY002  the one that Numba knows

    def uniform(x: Array) -> None:
        for i in numba.prange(x.size):
            x[i] = np.random.random()  # noqa: NPY002

    compiled = numba.njit(parallel=True)
    return {"normal": compiled(normal), "uniform": compiled(uniform)}


@cache
def module(name: str) -> Any | None:
    """Return a module if it is installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


LIBRARIES = (_constant, _fastinit, _numpy, _torch, _jax, _mkl_random, _randomgen, _numba)
