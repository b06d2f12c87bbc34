"""Values that no initializer draws: what a model's own code computes, or what a file holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.random import Generator
from fastinit.recipe._expressions import RecipeError
from fastinit.recipe._tensor import Tensor


class Values(ABC):
    """Where a tensor's values come from, if no rule draws them.

    `seeded` is whether they depend on the seed, and the text is what they are, for people.
    """

    seeded: bool

    @abstractmethod
    def check(self, tensor: Tensor) -> None:
        """Raise if a tensor cannot have these values; allocate nothing of its size.

        Raises
        ------
        RecipeError
            With the reason.
        """

    @abstractmethod
    def box(self, tensor: Tensor, root: Generator, box: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part of a tensor, in its dtype.

        Parameters
        ----------
        tensor : Tensor
            One that `check` takes.
        root : Generator
            That of the model: tensors have the streams of their names.
        box : tuple of slice
            With a start and a stop for each axis.

        Raises
        ------
        RecipeError
            If there are no such values.
        OSError
            If they cannot be read.
        """

    def whole_axes(self, tensor: Tensor) -> tuple[int, ...]:  # noqa: ARG002
        """Return the axes along which a part of a tensor costs as much as the whole."""
        return ()

    def whole(self, tensor: Tensor, root: Generator) -> NDArray[Any]:
        """Return all of a tensor."""
        return self.box(tensor, root, tuple(slice(0, length) for length in tensor.shape))


@dataclass(frozen=True)
class Computed(Values):
    """Values that the model's own code computes, as its author wrote it.

    Parameters
    ----------
    compute : callable
        Returns them for a model's generator.
    seeded : bool
        Whether they depend on it.

    Examples
    --------
    >>> tensor = Tensor("A_log", (3,), np.dtype("float32"))
    >>> Computed(lambda _: np.log([1.0, 2.0, 3.0]), False).whole(tensor, fi.default_rng(0))
    array([0.       , 0.6931472, 1.0986123], dtype=float32)
    """

    compute: Callable[[Generator], NDArray[Any]]
    seeded: bool

    def check(self, tensor: Tensor) -> None:
        """Refuse nothing: the model's code gives the shape."""

    def whole_axes(self, tensor: Tensor) -> tuple[int, ...]:
        """Return all axes: the code computes the whole."""
        return tuple(range(len(tensor.shape)))

    def box(self, tensor: Tensor, root: Generator, box: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part of a tensor, as `Values.box`."""
        return self.compute(root)[box].astype(tensor.dtype, copy=False)

    def __str__(self) -> str:
        return "computed by the model's code"


@dataclass(frozen=True)
class Missing(Values):
    """A tensor that has no values, and why."""

    reason: str
    seeded = False

    def check(self, tensor: Tensor) -> None:
        """Raise, with the reason."""
        raise RecipeError(f"{tensor}: {self.reason}")

    def box(self, tensor: Tensor, root: Generator, box: tuple[slice, ...]) -> NDArray[Any]:  # noqa: ARG002
        """Raise, with the reason."""
        raise RecipeError(f"{tensor}: {self.reason}")

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Held(Values):
    """Values that are in memory, whole.

    Examples
    --------
    >>> held = Held(np.arange(3), "three numbers", False)
    >>> held.box(Tensor("x", (3,), np.dtype("int32")), fi.default_rng(0), (slice(1, 3),))
    array([1, 2], dtype=int32)
    """

    array: NDArray[Any]
    text: str
    seeded: bool

    def check(self, tensor: Tensor) -> None:
        """Raise unless the shapes are the same."""
        if self.array.shape != tensor.shape:
            raise RecipeError(f"{tensor}: its values have the shape {self.array.shape}")

    def box(self, tensor: Tensor, root: Generator, box: tuple[slice, ...]) -> NDArray[Any]:  # noqa: ARG002
        """Return a part of a tensor, as `Values.box`."""
        return self.array[box].astype(tensor.dtype, copy=False)

    def __str__(self) -> str:
        return self.text


def digest(parts: Iterable[NDArray[Any]]) -> str:
    """Return the digest of a tensor's bytes: BLAKE2b of 16 bytes, as hexadecimal digits.

    Parameters
    ----------
    parts : iterable of array
        The tensor's values, part by part, in the order of their indices.

    Examples
    --------
    >>> digest([np.arange(3, dtype=np.uint8)])
    'a75c0b0d97360c1ba783496eb6a0395a'
    """
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return state.hexdigest()
