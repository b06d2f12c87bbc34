"""Keys, generators, and the bit generator that puts NumPy on top of the same stream.

A value is a function of (stream version, key, index, distribution, dtype) and of nothing
else.  A `Generator` is a key and a position: the next index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import DTypeLike, NDArray

from fastinit import _kernels
from fastinit._check import Shape, integer, real, shape
from fastinit._fill import Distribution, empty, fill

Seed = int | Sequence[int] | SeedSequence | None


def _distribution(kernel: int, names: tuple[str, ...], params: tuple[float, ...]) -> Distribution:
    text = ", ".join(f"{name}={value!r}" for name, value in zip(names, params, strict=True))
    if not all(map(math.isfinite, params)):
        raise ValueError(f"{text} must be finite")
    return Distribution(kernel, params, max(map(abs, params)), text)


@lru_cache
def _normal(mean: float, std: float, names: tuple[str, str] = ("mean", "std")) -> Distribution:
    if not std >= 0.0:
        raise ValueError(f"{names[1]}={std!r} must be 0 or greater")
    return _distribution(_kernels.NORMAL, names, (mean, std))


@lru_cache
def _uniform(low: float, high: float) -> Distribution:
    if not low <= high:
        raise ValueError(f"low={low!r} must not be greater than high={high!r}")
    # The kernels need the width itself: of two finite bounds it can still be infinite.
    return _distribution(_kernels.UNIFORM, ("low", "high", "high - low"), (low, high, high - low))


@lru_cache
def _truncated_normal(mean: float, std: float, low: float, high: float) -> Distribution:
    names = ("mean", "std", "low", "high")
    text = ", ".join(f"{n}={v!r}" for n, v in zip(names, (mean, std, low, high), strict=True))
    if not (math.isfinite(mean) and math.isfinite(std)):
        raise ValueError(f"{text}: mean and std must be finite")
    if not std >= 0.0:
        raise ValueError(f"std={std!r} must be 0 or greater")
    if not low <= high or low == math.inf or high == -math.inf:
        raise ValueError(f"low={low!r} must not be greater than high={high!r}, nor infinite both")
    params = _kernels.truncate(mean, std, low, high)
    return Distribution(_kernels.TRUNCATED_NORMAL, params, max(abs(mean), std), text, bounded=True)


def normal_distribution(
    mean: float, std: float, names: tuple[str, str] | None = None
) -> Distribution:
    """Return the normal distribution; raise TypeError or ValueError if it is none."""
    # + 0.0 turns a mean of -0.0 into 0.0, which the cache cannot tell apart.
    if names is None and type(mean) is type(std) is float:  # the usual, in few steps
        return _normal(mean + 0.0, std)
    mean_name, std_name = names or ("mean", "std")
    return _normal(real(mean_name, mean) + 0.0, real(std_name, std), (mean_name, std_name))


def truncated_normal_distribution(mean: float, std: float, low: float, high: float) -> Distribution:
    """Return the normal within low to high standard deviations; raise if it is none."""
    return _truncated_normal(
        real("mean", mean) + 0.0, real("std", std), real("low", low) + 0.0, real("high", high) + 0.0
    )


@lru_cache
def _absolute_truncated_normal(mean: float, std: float, a: float, b: float) -> Distribution:
    _kernels.check_rounding()
    text = f"mean={mean!r}, std={std!r}, a={a!r}, b={b!r}"
    low, high = (_sigmas(bound - mean, std) for bound in (a, b))
    try:
        distribution = _truncated_normal(mean, std, low, high)
    except ValueError as error:
        raise ValueError(f"{text}: in standard deviations from the mean, {error}") from None
    # The bounds as given: mean + low * std may round to one beyond them.
    return distribution._replace(params=(a, b, *distribution.params[2:]), text=text)


def _sigmas(distance: float, std: float) -> float:
    """Return distance / std; with no spread, everything but the mean is infinitely far."""
    if std:
        return distance / std
    return math.copysign(math.inf, distance) if distance else 0.0


def absolute_truncated_normal_distribution(
    mean: float, std: float, a: float, b: float
) -> Distribution:
    """Return the normal within the values a and b; raise TypeError or ValueError if none."""
    return _absolute_truncated_normal(
        real("mean", mean) + 0.0, real("std", std), real("a", a) + 0.0, real("b", b) + 0.0
    )


@lru_cache
def truncated_std(low: float, high: float) -> float:
    """Return the standard deviation of the standard normal within low to high.

    By the Taylor series of the density, panel after panel away from its highest point, in plain
    arithmetic: the result enters values, and exp and erf differ from system to system. Relative
    error below 1e-14 (`tests/test_truncated.py`).
    """
    _kernels.check_rounding()
    low, high = real("low", low), real("high", high)
    if not low < high:
        raise ValueError(f"low={low!r} must be less than high={high!r} for a standard deviation")
    top = min(max(low, 0.0), high)
    reach = 45.0 / max(abs(top), 3.5)  # beyond it lies less than exp(-45) of the mass
    left = _moments(top, max(low - top, -reach))
    right = _moments(top, min(high - top, reach))
    mass, first, second = (r - m for m, r in zip(left, right, strict=True))
    return math.sqrt(second / mass - (first / mass) ** 2)


def _moments(start: float, length: float, panels: int = 64) -> list[float]:
    """Return the integrals over s from 0 to length of s^j f(start + s) / f(start), j = 0 to 2.

    f is the normal density: f' = -x f gives its Taylor coefficients at any x, one by one.
    """
    step, value, moments = length / panels, 1.0, [0.0, 0.0, 0.0]
    for panel in range(panels):
        at = panel * step
        previous, term, parts = 0.0, value, [0.0, 0.0, 0.0]
        value = 0.0
        for k in range(40):
            parts = [part + term * step / (k + 1 + j) for j, part in enumerate(parts)]
            value += term
            previous, term = term, -step * ((start + at) * term + step * previous) / (k + 1)
        zeroth, first, second = parts[0], parts[1] * step, parts[2] * step * step
        moments[0] += zeroth
        moments[1] += at * zeroth + first
        moments[2] += at * (at * zeroth + 2 * first) + second
    return moments


def uniform_distribution(low: float, high: float) -> Distribution:
    """Return the uniform distribution; raise TypeError or ValueError if it is none."""
    return _uniform(real("low", low), real("high", high))


def _key_of(sequence: SeedSequence) -> tuple[int, int]:
    k0, k1 = sequence.generate_state(2, np.uint64)
    return int(k0), int(k1)


def _seed_sequence(seed: Seed) -> SeedSequence:
    if isinstance(seed, SeedSequence):
        return seed
    try:
        if isinstance(seed, bool):
            raise TypeError
        return SeedSequence(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"seed={seed!r} is not a seed; allowed: a non-negative integer, a sequence of them, "
            "a SeedSequence, a Generator, or None"
        ) from None


def _child(parent: SeedSequence, name: object) -> SeedSequence:
    """Return the seed sequence of a name: BLAKE2b-128 of its UTF-8, as four words of spawn key."""
    if not isinstance(name, str):
        raise TypeError(f"name={name!r} must be a str")
    digest = blake2b(name.encode(), digest_size=16).digest()
    words = np.frombuffer(digest, "<u4").tolist()
    return SeedSequence(
        parent.entropy, spawn_key=(*parent.spawn_key, *words), pool_size=parent.pool_size
    )


class Generator(_kernels.Cursor):
    """A stream of random numbers: a key, and the position of the next index.

    Each fill takes as many indices as it has elements, so that two fills of n and m
    elements equal one of n + m. Which values an index gets depends on nothing else: not on
    threads, on the instruction set, nor on what was drawn before.

    Parameters
    ----------
    seed_sequence : numpy.random.SeedSequence
        Whence the key: ``generate_state(2, uint64)``.
    position : int
        The next index, 0 to 2**63.

    See Also
    --------
    default_rng : makes one from a seed.

    Examples
    --------
    >>> rng = fi.default_rng(42)
    >>> rng.normal(0.0, 0.02, size=(2, 3), dtype="float32").shape
    (2, 3)
    """

    __slots__ = ("_seed_sequence",)

    def __init__(self, seed_sequence: SeedSequence, position: int = 0) -> None:
        if not isinstance(seed_sequence, SeedSequence):
            raise TypeError(f"seed_sequence={seed_sequence!r} must be a SeedSequence")
        super().__init__(_key_of(seed_sequence), integer("position", position))
        self._seed_sequence = seed_sequence

    @property
    def seed_seq(self) -> SeedSequence:
        """The seed sequence of the key."""
        return self._seed_sequence

    def advance(self, n: int) -> Generator:
        """Move the position by n indices, backwards if n is negative; return self.

        Raises
        ------
        TypeError, ValueError
            If the new position is not an integer from 0 to 2**63.

        Examples
        --------
        >>> fi.default_rng(1).advance(1000).position
        1000
        """
        self.move(self.position + integer("n", n))
        return self

    def stream(self, name: str) -> Generator:
        """Return the generator of a name, such as a parameter's path in a model.

        It depends on this generator's seed and the name alone, not on the position, nor on
        which other names were asked for, nor in which order.

        Parameters
        ----------
        name : str
            Any text. Streams of streams are streams of their own.

        Raises
        ------
        TypeError
            If `name` is not a str.

        Examples
        --------
        >>> rng = fi.default_rng(42)
        >>> rng.stream("wte").key == rng.stream("wte").key != rng.stream("wpe").key
        True
        """
        return Generator(_child(self._seed_sequence, name))

    def spawn(self, n_children: int) -> list[Generator]:
        """Return new independent generators, as `numpy.random.Generator.spawn` does.

        Raises
        ------
        TypeError, ValueError
            If `n_children` is not an integer from 0 to 2**32 - 1.

        Examples
        --------
        >>> len(fi.default_rng(42).spawn(3))
        3
        """
        n = integer("n_children", n_children, 0, 2**32 - 1)
        return [Generator(child) for child in self._seed_sequence.spawn(n)]

    def random(
        self,
        size: Shape | None = None,
        dtype: DTypeLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> Any:
        """Draw uniforms on [0, 1): the same bits as NumPy's method over `PCG32`.

        Parameters
        ----------
        size : int or tuple of int, optional
            Shape of a new array. Neither `size` nor `out`: one number.
        dtype : dtype, optional
            float32, float64, float16 or bfloat16; `out`'s, or float64. In the 16-bit dtypes
            values near 1 round to 1.
        out : array, optional
            Filled in place instead of a new array.

        Returns
        -------
        float or ndarray
            `out`, the new array, or one number.

        Raises
        ------
        TypeError, ValueError
            If `size` or `dtype` is not that of `out`, or `out` cannot be filled.

        Examples
        --------
        >>> bool(0 <= fi.default_rng(1).random() < 1)
        True
        """
        return self._draw(_UNIT, size, dtype, out)

    def uniform(
        self,
        low: float = 0.0,
        high: float = 1.0,
        size: Shape | None = None,
        dtype: DTypeLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> Any:
        """Draw uniforms on [low, high): ``fma(u, high - low, low)``.

        As in NumPy, `high` itself can appear by rounding.

        Parameters
        ----------
        low, high : float
            The bounds, finite in the dtype.
        size, dtype, out
            As in `random`.

        Returns
        -------
        float or ndarray
            `out`, the new array, or one number.

        Raises
        ------
        TypeError, ValueError
            If a bound is not a finite number, if low > high, or as in `random`.

        Examples
        --------
        >>> fi.default_rng(1).uniform(-1, 1, size=3, dtype="float32").dtype
        dtype('float32')
        """
        return self._draw(uniform_distribution(low, high), size, dtype, out)

    def standard_normal(
        self,
        size: Shape | None = None,
        dtype: DTypeLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> Any:
        """Draw normals of mean 0 and standard deviation 1, by Box-Muller.

        Parameters
        ----------
        size, dtype, out
            As in `random`.

        Returns
        -------
        float or ndarray
            `out`, the new array, or one number.

        Raises
        ------
        TypeError, ValueError
            As in `random`.

        Examples
        --------
        >>> fi.default_rng(1).standard_normal(4).shape
        (4,)
        """
        return self._draw(_STANDARD_NORMAL, size, dtype, out)

    def normal(
        self,
        loc: float = 0.0,
        scale: float = 1.0,
        size: Shape | None = None,
        dtype: DTypeLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> Any:
        """Draw normals: ``fma(z, scale, loc)``, without a temporary.

        Parameters
        ----------
        loc, scale : float
            Mean and standard deviation, finite in the dtype; scale >= 0.
        size, dtype, out
            As in `random`.

        Returns
        -------
        float or ndarray
            `out`, the new array, or one number.

        Raises
        ------
        TypeError, ValueError
            If `loc` or `scale` is not such a number, or as in `random`.

        Examples
        --------
        >>> w = np.empty((4, 4), np.float32)
        >>> fi.default_rng(1).normal(0.0, 0.02, out=w) is w
        True
        """
        return self._draw(normal_distribution(loc, scale, ("loc", "scale")), size, dtype, out)

    def _draw(
        self,
        distribution: Distribution,
        size: Shape | None,
        dtype: DTypeLike | None,
        out: NDArray[Any] | None,
    ) -> Any:
        if out is None:
            array = empty(() if size is None else size, np.float64 if dtype is None else dtype)
            fill(distribution, array, self)
            return array.item() if size is None else array
        if dtype is not None and np.dtype(dtype) != out.dtype:
            raise TypeError(f"dtype={np.dtype(dtype).name} is not that of out, {out.dtype.name}")
        if size is not None and shape("size", size) != out.shape:
            raise ValueError(f"size={size!r} is not the shape of out, {out.shape}")
        return fill(distribution, out, self)

    def __repr__(self) -> str:
        s = self._seed_sequence
        return (
            f"fastinit.Generator(entropy={s.entropy}, spawn_key={s.spawn_key}, "
            f"position={self.position})"
        )

    def __reduce__(self) -> tuple[type[Generator], tuple[SeedSequence, int]]:
        return Generator, (self._seed_sequence, self.position)


RNG = Seed | Generator | np.random.Generator | np.random.BitGenerator

_UNIT = uniform_distribution(0.0, 1.0)
_STANDARD_NORMAL = normal_distribution(0.0, 1.0)


def default_rng(seed: RNG = None) -> Generator:
    """Return a `Generator`, as `numpy.random.default_rng` does.

    Parameters
    ----------
    seed : int, sequence of int, SeedSequence, Generator, or None
        A fastinit `Generator` is returned as it is. From a NumPy `Generator` (or
        `BitGenerator`) a new key is drawn, so each call gives another. None: fresh entropy
        from the system.

    Raises
    ------
    TypeError, ValueError
        If `seed` is none of these.

    Examples
    --------
    >>> fi.default_rng(42)
    fastinit.Generator(entropy=42, spawn_key=(), position=0)
    """
    if isinstance(seed, Generator):
        return seed
    if isinstance(seed, np.random.BitGenerator):
        seed = np.random.Generator(seed)
    if isinstance(seed, np.random.Generator):
        entropy: list[int] = seed.integers(0, 2**32, size=4, dtype=np.uint32).tolist()
        return Generator(SeedSequence(entropy))
    return Generator(_seed_sequence(seed))


class PCG32(np.random.BitGenerator):
    """NumPy's bit generator over this stream: ``numpy.random.Generator(fi.PCG32(42))``.

    One index is one 64-bit word, for ``next_double`` and ``next_uint64``, or its high half,
    for ``next_uint32``; so `numpy.random.Generator.random` gives, for float32 and for
    float64, the bits of `Generator.random`.

    Parameters
    ----------
    seed : int, sequence of int, SeedSequence, or None
        As `default_rng` takes them.

    References
    ----------
    M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good
    Algorithms for Random Number Generation", HMC-CS-2014-0905, 2014.

    Examples
    --------
    >>> float(np.random.Generator(fi.PCG32(42)).random()) == fi.default_rng(42).random()
    True
    """

    def __init__(self, seed: Seed = None) -> None:
        sequence = _seed_sequence(seed)
        super().__init__(sequence)
        if not hasattr(self, "_stream"):  # else called again, and NumPy has the address
            self._stream = _kernels.BitStream()
        self._stream.move(_key_of(sequence), 0)
        self._stream.attach(self.capsule)

    @property
    def state(self) -> Mapping[str, Any]:
        """The key and the position of the next index, in NumPy's form; may be set.

        Raises
        ------
        TypeError, ValueError
            If what it is set to is not the state of a PCG32; then nothing changes.
        """
        with self.lock:
            state = {"key": self._stream.key, "position": self._stream.position}
        return {"bit_generator": "PCG32", "state": state}

    @state.setter
    def state(self, value: Mapping[str, Any]) -> None:
        if not isinstance(value, Mapping):
            raise TypeError(f"state={value!r} must be a mapping")
        try:
            if value["bit_generator"] != "PCG32":
                raise ValueError
            (k0, k1), position = value["state"]["key"], value["state"]["position"]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"state={value!r} is not that of a PCG32") from None
        words = ("key[0]", k0), ("key[1]", k1), ("position", position)
        k0, k1, position = (integer(name, word, 0, 2**64 - 1) for name, word in words)
        with self.lock:
            self._stream.move((k0, k1), position)

    def advance(self, delta: int) -> PCG32:
        """Move the position by delta indices, modulo 2**64; return self.

        Parameters
        ----------
        delta : int
            Negative to move backwards.

        Raises
        ------
        TypeError
            If `delta` is not an integer.

        Examples
        --------
        >>> fi.PCG32(1).advance(1000).state["state"]["position"]
        1000
        """
        moved = integer("delta", delta)
        with self.lock:
            self._stream.move(self._stream.key, (self._stream.position + moved) % 2**64)
        return self

    def jumped(self, jumps: int = 1) -> PCG32:
        """Return a new bit generator, many indices ahead of this one.

        One jump is 0x9e3779b97f4a7c15 indices, modulo 2**64: the golden section of them all, so
        that the positions that any number of jumps lead to lie far from each other. To get
        independent generators, `spawn` is the better way.

        Parameters
        ----------
        jumps : int
            How many jumps.

        Returns
        -------
        PCG32
            The new bit generator; this one stays where it is.

        Raises
        ------
        TypeError
            If `jumps` is not an integer.

        Examples
        --------
        >>> bits = fi.PCG32(1)
        >>> bits.jumped(2).state == bits.jumped().jumped().state
        True
        """
        ahead = integer("jumps", jumps) * 0x9E3779B97F4A7C15
        other = type(self)(self.seed_seq)
        other.state = self.state
        return other.advance(ahead)
