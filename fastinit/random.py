"""Keys, generators, and the bit generator that puts NumPy on top of the same stream.

A value is a function of (stream version, key, index, distribution, dtype) and of nothing
else.  A `Generator` is a key and a position: the next index.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, cast

import numpy as np
from numpy.random import SeedSequence
from numpy.typing import DTypeLike, NDArray

from fastinit import _kernels
from fastinit._arguments import Shape, integer, shape, shown
from fastinit._distributions import Distribution, normal_distribution, uniform_distribution
from fastinit._fill import as_dtype, empty, fill, float_format

Seed = int | Sequence[int] | SeedSequence | None


def _key_of(sequence: SeedSequence) -> tuple[int, int]:
    k0, k1 = sequence.generate_state(2, np.uint64)
    return int(k0), int(k1)


def _seed_sequence(seed: Seed, name: str = "seed") -> SeedSequence:
    if isinstance(seed, SeedSequence):
        return seed
    try:
        if isinstance(seed, bool) or (isinstance(seed, list | tuple) and bool in map(type, seed)):
            raise TypeError
        return SeedSequence(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name}={shown(seed)} is not a seed; allowed: a non-negative integer, a sequence of "
            "them, a SeedSequence, a Generator, or None"
        ) from None


def _digest(name: object) -> bytes:
    """Return what stands for a name in a seed: BLAKE2b-128 of its UTF-8."""
    if not isinstance(name, str):
        raise TypeError(f"name={shown(name)} must be a str")
    try:
        return blake2b(name.encode(), digest_size=16).digest()
    except UnicodeEncodeError as error:
        raise ValueError(f"name={shown(name)} must be text: {error.reason}") from None


def _child(parent: SeedSequence, digest: bytes) -> SeedSequence:
    """Return the seed sequence of a name, whose digest is four words of the spawn key."""
    words = np.frombuffer(digest, "<u4").tolist()
    return SeedSequence(
        parent.entropy, spawn_key=(*parent.spawn_key, *words), pool_size=parent.pool_size
    )


# How NumPy mixes a seed's words into its pool: M. E. O'Neill, "Developing a seed_seq
# Alternative", 2015. Each use of a word multiplies the constant that the next one meets.
_FIRST, _FACTOR = 0x43B0D7E5, 0x931E8875


def _mixed(sequence: SeedSequence) -> tuple[NDArray[np.uint32], int] | None:
    """Return a seed's pool, and the constant that its next word meets; None if we cannot tell."""
    entropy = sequence.entropy
    parts = [entropy] if isinstance(entropy, int) else entropy
    if not isinstance(parts, list | tuple):
        return None
    if not all(type(part) is int for part in (*parts, *sequence.spawn_key)):
        return None
    words, more = (
        sum(max(1, -(-part.bit_length() // 32)) for part in group)
        for group in (parts, sequence.spawn_key)
    )
    # The pool's size of words at the least, of zeros if need be, and then the spawn key's.
    uses = sequence.pool_size * (max(words, sequence.pool_size) + more)
    return sequence.pool, _FIRST * pow(_FACTOR, uses, 2**32) % 2**32


# NumPy's `SeedSequence.spawn` counts its children without a lock: threads would get the same ones.
# One lock for all, as generators may share a sequence. Held while a process forks, so that its
# child does not find it held by a thread that it has not.
_spawning = threading.RLock()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_spawning.acquire,
        after_in_parent=_spawning.release,
        after_in_child=_spawning.release,
    )


class Generator(_kernels.Cursor):
    """A stream of random numbers: a key, and the position of the next index.

    Each fill takes as many indices as it has elements, so that two fills of n and m
    elements equal one of n + m. Which values an index gets depends on nothing else: not on
    threads, on the instruction set, nor on what was drawn before.

    Parameters
    ----------
    seed_sequence : numpy.random.SeedSequence
        The key is its ``generate_state(2, uint64)``.
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

    __slots__ = ("_mixed", "_named", "_seed_sequence")

    _mixed: tuple[NDArray[np.uint32], int] | None
    _named: tuple[SeedSequence, bytes]
    _seed_sequence: SeedSequence | None

    def __init__(self, seed_sequence: SeedSequence, position: int = 0) -> None:
        if not isinstance(seed_sequence, SeedSequence):
            raise TypeError(f"seed_sequence={shown(seed_sequence)} must be a SeedSequence")
        super().__init__(_key_of(seed_sequence), integer("position", position))
        self._seed_sequence = seed_sequence

    @property
    def seed_seq(self) -> SeedSequence:
        """The seed sequence of the key."""
        if self._seed_sequence is None:
            with _spawning:  # one for all threads, as it counts its children
                if self._seed_sequence is None:
                    self._seed_sequence = _child(*self._named)
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
        self.shift(integer("n", n))
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
        digest, parent = _digest(name), self.seed_seq
        if not hasattr(self, "_mixed"):
            self._mixed = _mixed(parent)
        if self._mixed is None:
            return Generator(_child(parent, digest))
        # A model has 10**5 names: the key is had in C, and the seed sequence if it is asked for.
        child = Generator.__new__(Generator)
        _kernels.Cursor.__init__(child, _kernels.child_key(*self._mixed, digest))
        child._seed_sequence, child._named = None, (parent, digest)
        return child

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
        with _spawning:
            children = self.seed_seq.spawn(n)
        return [Generator(child) for child in children]

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

        Parameters
        ----------
        low, high : float
            The bounds, finite in the dtype and rounded to it. In float32 and float64 each value
            is at least `low` and less than `high`; if both are the same number, each value is
            that number. A narrower format rounds float32's values to nearest, so that `high`
            appears where it is nearer than the number below it.
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
        lengths = () if size is None else shape("size", size)
        if out is None:
            known = np.dtype(np.float64) if dtype is None else as_dtype(dtype)
            float_format(known, "dtype=")  # before there is an array
            array = empty(lengths, known, "size")
            fill(distribution, array, self)
            return array.item() if size is None else array
        if not (hasattr(out, "dtype") and hasattr(out, "shape")):
            raise TypeError(f"out={shown(out)} must be an array")
        if dtype is not None and as_dtype(dtype) != out.dtype:
            raise TypeError(f"dtype={as_dtype(dtype).name} is not that of out, {out.dtype.name}")
        if size is not None and lengths != out.shape:
            raise ValueError(f"size={shown(size)} is not the shape of out, {out.shape}")
        try:
            return fill(distribution, out, self)
        except (TypeError, ValueError) as error:
            raise type(error)(re.sub(r"^x\b", "out", str(error))) from None

    def __repr__(self) -> str:
        s = self.seed_seq
        return (
            f"fastinit.Generator(entropy={s.entropy}, spawn_key={s.spawn_key}, "
            f"position={self.position})"
        )

    def __reduce__(self) -> tuple[type[Generator], tuple[SeedSequence, int]]:
        return Generator, (self.seed_seq, self.position)


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
    return as_generator(seed, "seed")


def as_generator(rng: RNG, name: str = "rng") -> Generator:
    """Return the generator that an argument of this name stands for, as `default_rng`."""
    if isinstance(rng, Generator):
        return rng
    if isinstance(rng, np.random.BitGenerator):
        rng = np.random.Generator(rng)
    if isinstance(rng, np.random.Generator):
        entropy: list[int] = rng.integers(0, 2**32, size=4, dtype=np.uint32).tolist()
        return Generator(SeedSequence(entropy))
    return Generator(_seed_sequence(rng, name))


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
            raise TypeError(f"state={shown(value)} must be a mapping")
        try:
            if value["bit_generator"] != "PCG32":
                raise ValueError
            (k0, k1), position = value["state"]["key"], value["state"]["position"]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"state={shown(value)} is not that of a PCG32") from None
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

    def spawn(self, n_children: int) -> list[PCG32]:
        """Return new independent bit generators, as NumPy's do; safe in threads.

        Parameters
        ----------
        n_children : int
            How many.

        Raises
        ------
        TypeError, ValueError
            If `n_children` is not an integer from 0 to 2**32 - 1.

        Examples
        --------
        >>> len(fi.PCG32(42).spawn(3))
        3
        """
        n = integer("n_children", n_children, 0, 2**32 - 1)
        with _spawning:
            return super().spawn(n)

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
        other = type(self)(cast(SeedSequence, self.seed_seq))
        other.state = self.state
        return other.advance(ahead)
