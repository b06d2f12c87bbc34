"""An older checkpoint: its tensors are copied into a new one, and only the others are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit._errors import value_error
from fastinit.checkpoint._stored import Stored, mapped, read
from fastinit.random import Generator
from fastinit.recipe import FLOAT_DTYPES, Origin, Recipe, RecipeError, Rule, Tensor, Values


class Kept(NamedTuple):
    """A recipe that keeps an older checkpoint's tensors, and what becomes of which.

    `copied` are as they were, `grown` have new rows or columns, `drawn` are new, `misfits` are
    drawn since the old tensor of that name does not fit, and `unused` are in the old checkpoint
    alone.
    """

    recipe: Recipe
    copied: tuple[str, ...]
    grown: tuple[str, ...]
    drawn: tuple[str, ...]
    misfits: tuple[str, ...]
    unused: tuple[str, ...]

    def names(self) -> dict[str, tuple[str, ...]]:
        """Return which tensors had which fate, in words."""
        return {
            "copied": self.copied,
            "grown": self.grown,
            "drawn": self.drawn,
            "drawn, as the old one does not fit": self.misfits,
            "not used": self.unused,
        }


def keep(recipe: Recipe, path: str | Path) -> Kept:
    """Return a recipe whose tensors come from an older checkpoint, as far as it has them.

    A tensor of the same name stays if it has the same number of axes, none of them longer, and
    the same dtype; among floating dtypes the values are rounded to the new one. What it lacks of
    a longer axis, such as the rows of a larger vocabulary, is drawn by the tensor's rule.

    Parameters
    ----------
    recipe : Recipe
        From `load`.
    path : str or Path
        A safetensors file, or a directory of such files or of NumPy's with their index. It must
        stay as it is until the new files are written.

    Returns
    -------
    Kept
        With the recipe to give to `write`.

    Raises
    ------
    RecipeError
        If there is no such checkpoint, or it has none of the recipe's tensors.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     done = write(load("gpt2", variables={"layers": 1}), directory, seed=1)
    ...     kept = keep(load("gpt2", variables={"layers": 2}), directory)
    >>> len(kept.copied), len(kept.drawn)
    (16, 12)
    """
    checkpoint = read(Path(path).resolve())
    old = {stored.tensor.name: stored for stored in checkpoint.stored}
    plan = {tensor: origin for tensor, origin in recipe.plan() if tensor.name in old}
    if not plan:
        raise RecipeError(f"{path} has none of the tensors of recipe {recipe.name!r}")
    values: dict[str, Values] = {
        tensor.name: Copied(old[tensor.name], origin, old[tensor.name].tensor.shape != tensor.shape)
        for tensor, origin in plan.items()
        if _fits(old[tensor.name].tensor, tensor)
    }
    names = [tensor.name for tensor in recipe.tensors]
    grown = {t.name for t in plan if t.name in values and old[t.name].tensor.shape != t.shape}
    return Kept(
        replace(recipe, values={**recipe.values, **values}),
        tuple(name for name in names if name in values and name not in grown),
        tuple(name for name in names if name in grown),
        tuple(name for name in names if name not in old),
        tuple(name for name in names if name in old and name not in values),
        tuple(name for name in old if name not in set(names)),
    )


def _fits(old: Tensor, new: Tensor) -> bool:
    """Return whether a tensor may hold the values of an older one."""
    alike = old.dtype == new.dtype or {old.dtype.name, new.dtype.name} <= FLOAT_DTYPES.keys()
    no_longer = all(a <= b for a, b in zip(old.shape, new.shape, strict=False))
    return alike and no_longer and len(old.shape) == len(new.shape)


@dataclass(frozen=True)
class Copied(Values):
    """The values of an older tensor, and those that `rest` draws where it has none.

    `seeded` is whether there are any of these.
    """

    stored: Stored
    rest: Origin
    seeded: bool

    def whole_axes(self, tensor: Tensor) -> tuple[int, ...]:
        """Return those of the rest."""
        return self.rest.whole_axes(tensor)

    def check(self, tensor: Tensor) -> None:
        """Raise unless the older tensor fits, and the rest can be drawn.

        Raises
        ------
        RecipeError
            With the reason.
        """
        if not _fits(self.stored.tensor, tensor):
            raise RecipeError(
                f"{tensor}: {self.stored.tensor} of the older checkpoint does not fit"
            )
        self.rest.check(tensor)

    def box(self, tensor: Tensor, root: Generator, box: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part of a tensor, as `Values.box`."""
        old = mapped(self.stored)
        inner = tuple(slice(b.start, min(b.stop, n)) for b, n in zip(box, old.shape, strict=True))
        if inner == box:
            return old[box].astype(tensor.dtype)
        x = _drawn(self.rest, tensor, root, box)
        if all(part.start < part.stop for part in inner):
            at = tuple(slice(0, part.stop - part.start) for part in inner)
            x[at] = old[inner].astype(tensor.dtype)
        return x

    def __str__(self) -> str:
        new = f", its new rows or columns {self.rest}" if self.seeded else ""
        return f"copied from an older checkpoint{new}"


def _drawn(origin: Origin, tensor: Tensor, root: Generator, box: tuple[slice, ...]) -> NDArray[Any]:
    """Return a part of a tensor as its rule draws it, or its values are."""
    if not isinstance(origin, Rule):
        return np.array(origin.box(tensor, root, box))
    rng, fill = root.stream(tensor.name), origin.initializer.fill
    x = np.empty([part.stop - part.start for part in box], tensor.dtype)
    offset = tuple(part.start for part in box)
    return fill(x, rng=rng, threads=1, global_shape=tensor.shape, offset=offset)


def check_elsewhere(recipe: Recipe, directory: Path) -> None:
    """Raise if a recipe's values are in the directory that is to be written.

    Raises
    ------
    ValueError
        Since what is read would be replaced meanwhile.
    """
    for values in recipe.values.values():
        stored = getattr(values, "stored", None)
        if stored is not None and stored.path.resolve().parent == directory.resolve():
            raise value_error(
                f"{directory} holds the tensors that are copied; give another directory"
            )


def few(names: tuple[str, ...]) -> str:
    """Return how many names there are, and the first."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{len(names):,}: {', '.join(names[:3])}{more}"
