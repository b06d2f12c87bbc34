"""Keys and generators.

A value is a function of (stream version, key, index, distribution, dtype) and of nothing
else.  A `Generator` is a key and a position: the next index.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Union

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastinit import _kernels
from fastinit._arguments import Shape, integer, shape, shown
from fastinit._distributions import Distribution, normal_distribution, uniform_distribution
from fastinit._errors import SHAPE_AND_DTYPE, renamed, type_error, value_error, with_name
from fastinit._fill import as_dtype, empty, fill

# In quotes, so that NumPy's module of them is imported when the first seed is used: that takes as
# long as importing this package.
Seed = Union[int, Sequence[int], "np.random.SeedSequence", None]


def key_of(sequence: np.random.SeedSequence) -> tuple[int, int]:
    """Return the key that a seed sequence stands for."""
    k0, k1 = sequence.generate_state(2, np.uint64)
    return int(k0), int(k1)


def as_seed_sequence(seed: Seed, name: str = "seed") -> np.random.SeedSequence:
    """Return the seed sequence that an argument of this name stands for."""
    if isinstance(seed, np.random.SeedSequence):
        return seed
    try:
        if isinstance(seed, bool) or (isinstance(seed, list | tuple) and bool in map(type, seed)):
            raise TypeError
        return np.random.SeedSequence(seed)
    except (TypeError, ValueError) as error:
        text = (
            f"{name}={shown(seed)} is not a seed; allowed: a non-negative integer, a sequence of "
            "them, a SeedSequence, a Generator, or None"
        )
        raise type(error)(with_name(text)) from None


def _digest(name: object) -> bytes:
    """Return what stands for a name in a seed: BLAKE2b-128 of its UTF-8."""
    if not isinstance(name, str):
        raise type_error(f"name={shown(name)} must be a str")
    import hashlib  # it loads OpenSSL: a sixth of the time that importing fastinit takes

    try:
        return hashlib.blake2b(name.encode(), digest_size=16).digest()
    except UnicodeEncodeError as error:
        raise value_error(f"name={shown(name)} must be text: {error.reason}") from None


def _child(parent: np.random.SeedSequence, digest: bytes) -> np.random.SeedSequence:
    """Return the seed sequence of a name, whose digest is four words of the spawn key."""
    words = np.frombuffer(digest, "<u4").tolist()
    return np.random.SeedSequence(
        parent.entropy, spawn_key=(*parent.spawn_key, *words), pool_size=parent.pool_size
    )


# How NumPy mixes a seed's words into its pool: M. E. O'Neill, "Developing a seed_seq
# Alternative", 2015. Each use of a word multiplies the constant that the next one meets.
_FIRST, _FACTOR = 0x43B0D7E5, 0x931E8875


def _mixed(sequence: np.random.SeedSequence) -> tuple[NDArray[np.uint32], int] | None:
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
spawning = threading.RLock()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=spawning.acquire,
        after_in_parent=spawning.release,
        after_in_child=spawning.release,
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
    _named: tuple[np.random.SeedSequence, bytes]
    _seed_sequence: np.random.SeedSequence | None

    def __init__(self, seed_sequence: np.random.SeedSequence, position: int = 0) -> None:
        if not isinstance(seed_sequence, np.random.SeedSequence):
            raise type_error(f"seed_sequence={shown(seed_sequence)} must be a SeedSequence")
        super().__init__(key_of(seed_sequence), integer("position", position))
        self._seed_sequence = seed_sequence

    @property
    def seed_seq(self) -> np.random.SeedSequence:
        """The seed sequence of the key."""
        if self._seed_sequence is None:
            with spawning:  # one for all threads, as it counts its children
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
        with spawning:
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
            array = empty(lengths, np.float64 if dtype is None else dtype, "size")
            self._fill(distribution, array, SHAPE_AND_DTYPE)
            return array.item() if size is None else array
        if type(out) is not np.ndarray and not (hasattr(out, "dtype") and hasattr(out, "shape")):
            raise type_error(f"out={shown(out)} must be an array")
        if dtype is not None and as_dtype(dtype) != out.dtype:
            raise type_error(f"dtype={as_dtype(dtype).name} is not that of out, {out.dtype.name}")
        if size is not None and lengths != out.shape:
            raise value_error(f"size={shown(size)} is not the shape of out, {out.shape}")
        return self._fill(distribution, out, _OUT)

    def _fill(self, distribution: Distribution, x: NDArray[Any], names: Mapping[str, str]) -> Any:
        """Fill x; errors speak of it in the words of our callers."""
        try:
            return fill(distribution, x, self)
        except (TypeError, ValueError) as error:
            raise renamed(error, names) from None

    def __repr__(self) -> str:
        s = self.seed_seq
        return (
            f"fastinit.Generator(entropy={s.entropy}, spawn_key={s.spawn_key}, "
            f"position={self.position})"
        )

    def __reduce__(self) -> tuple[type[Generator], tuple[np.random.SeedSequence, int]]:
        return Generator, (self.seed_seq, self.position)


RNG = Union[Seed, Generator, "np.random.Generator", "np.random.BitGenerator"]

_OUT = {"x": "out"}
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
        return Generator(np.random.SeedSequence(entropy))
    return Generator(as_seed_sequence(rng, name))
