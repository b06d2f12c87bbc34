"""The bit generator that puts NumPy's distributions on top of this stream.

It is imported when it is asked for: NumPy's bit generators take as long to import as this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from fastinit import _kernels
from fastinit._arguments import integer, shown
from fastinit._errors import type_error, value_error
from fastinit.random import Seed, as_seed_sequence, key_of, spawning


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

    __module__ = "fastinit"

    def __init__(self, seed: Seed = None) -> None:
        sequence = as_seed_sequence(seed)
        super().__init__(sequence)
        if not hasattr(self, "_stream"):  # else called again, and NumPy has the address
            self._stream = _kernels.BitStream()
        self._stream.move(key_of(sequence), 0)
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
            raise type_error(f"state={shown(value)} must be a mapping")
        try:
            if value["bit_generator"] != "PCG32":
                raise ValueError
            (k0, k1), position = value["state"]["key"], value["state"]["position"]
        except (KeyError, TypeError, ValueError):
            raise value_error(f"state={shown(value)} is not that of a PCG32") from None
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
        with spawning:
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
        other = type(self)(cast(np.random.SeedSequence, self.seed_seq))
        other.state = self.state
        return other.advance(ahead)
