"""Checkpoints: a model's tensors, freshly initialised, as a safetensors file.

The file is mapped and filled in place, tensor by tensor; it appears under its name only when
it is whole. Each tensor is drawn from the stream of (seed, its name), so neither the order of
the tensors nor the presence of others changes its values.
"""

from __future__ import annotations

import errno
import json
import operator
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

import fastinit
from fastinit._files import appearing
from fastinit._fill import as_dtype
from fastinit.recipe import DTYPES, FLOATS, Recipe, RecipeError, Tensor
from fastinit.recipe import load as load_recipe
from fastinit.recipe import parse as parse_recipe

__all__ = ["CONFIG", "MODEL", "Written", "load", "write"]

MODEL = "model.safetensors"
CONFIG = "config.json"

_NAMES = {code: name for name, code in DTYPES.items()}


class Written(NamedTuple):
    """What `write` wrote: the files, and how much in what time."""

    files: tuple[Path, ...]
    tensors: int
    parameters: int
    nbytes: int
    seconds: float


def load(
    source: str | Path,
    rules: str | Path | None = None,
    variables: Mapping[str, float] | None = None,
) -> Recipe:
    """Return the recipe for a source: which tensors, and how each is initialised.

    Parameters
    ----------
    source : str or Path
        A built-in recipe's name, a recipe (``.toml``), a ``.safetensors`` file, or the JSON of
        such a file's header (``.json``). Of a file only names, shapes and dtypes are used, and
        the recipe that fastinit wrote into it: to write the same file again, give the file.
    rules : str or Path, optional
        A recipe whose rules and seed to use; its tensors are ignored. Without it a recipe has
        its own, a file those it was written with, and otherwise the built-in "default".
    variables : mapping, optional
        Values for the variables that the source's recipe or the rules have or need. What the
        rules need and nobody gives, they take from the source's recipe.

    Returns
    -------
    Recipe
        With the source's tensors.

    Raises
    ------
    RecipeError
        If the source or the rules are not as described.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> len(load("gpt2").tensors)
    148
    """
    path, given = Path(source), dict(variables or {})
    if path.suffix not in (".safetensors", ".json"):
        if rules is None:
            return load_recipe(source, given)
        names = load_recipe(source).variables
        recipe = load_recipe(source, {k: given.pop(k) for k in [*given] if k in names})
        asked = load_recipe(rules, given, recipe.variables)
        return _over(asked, recipe.tensors, recipe.config)
    header = _read_header(path) if path.suffix == ".safetensors" else _read_json(path)
    tensors = tuple(_tensor(path, name, entry) for name, entry in header.entries.items())
    own = _recorded(path, header.metadata)
    if rules is not None or own is None:
        return _over(load_recipe(rules or "default", given), tensors, {})
    if given:
        raise RecipeError(f"{path} was written by a recipe of its own; give variables with rules")
    known = {(t.name, t.shape) for t in tensors} == {(t.name, t.shape) for t in own.tensors}
    return _over(own, tensors, own.config if known else {})


def _over(rules: Recipe, tensors: tuple[Tensor, ...], config: Mapping[str, Any]) -> Recipe:
    return replace(rules, tensors=tensors, config=config)


class _Header(NamedTuple):
    entries: dict[str, Any]
    metadata: dict[str, str]


def _read_header(path: Path) -> _Header:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
    try:
        with safe_open(path, "numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            entries = {
                name: {"dtype": part.get_dtype(), "shape": part.get_shape()}
                for name, part in slices.items()
            }
            return _Header(entries, file.metadata() or {})
    except SafetensorError as error:
        raise RecipeError(f"{path} is not a safetensors file: {error}") from None


def _read_json(path: Path) -> _Header:
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        raise RecipeError(f"{path} is not JSON: {error}") from None
    if not isinstance(entries, dict):
        raise RecipeError(f"{path} must hold an object: tensor names, each with dtype and shape")
    metadata = entries.pop("__metadata__", {})
    return _Header(entries, metadata if isinstance(metadata, dict) else {})


def _tensor(path: Path, name: str, entry: Any) -> Tensor:
    match entry:
        case {"dtype": str() as code, "shape": list() as shape} if all(
            type(n) is int and n >= 0 for n in shape
        ):
            pass
        case _:
            raise RecipeError(
                f"{path}: {name!r} must have a dtype and a shape, as in a safetensors header"
            )
    if code not in _NAMES:
        raise RecipeError(f"{path}: {name!r} has dtype {code!r}; allowed: {', '.join(_NAMES)}")
    return Tensor(name, tuple(shape), as_dtype(_NAMES[code]))


def _recorded(path: Path, metadata: Mapping[str, str]) -> Recipe | None:
    """Return the recipe that `write` recorded in a file, with the seed it used."""
    text, seed = metadata.get("fastinit.recipe"), metadata.get("fastinit.seed")
    if text is None or seed is None:
        return None
    if not seed.isdecimal():
        raise RecipeError(f"{path}: its metadata has fastinit.seed={seed!r}; allowed: a number")
    try:
        variables = json.loads(metadata.get("fastinit.variables", "{}"))
    except ValueError as error:
        raise RecipeError(f"{path}: its metadata has fastinit.variables: {error}") from None
    recipe = parse_recipe(text, f"recorded in {path}", variables)
    return replace(recipe, seed=int(seed))


def write(
    recipe: Recipe,
    directory: str | Path,
    *,
    seed: int | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: Callable[[Tensor], object] | None = None,
) -> Written:
    """Write a model's tensors, freshly initialised, to ``directory/model.safetensors``.

    Parameters
    ----------
    recipe : Recipe
        From `load`; ``recipe.astype("bfloat16")`` to write another dtype.
    directory : str or Path
        Made if missing. Gets ``config.json`` too if the recipe knows it.
    seed : int, optional
        Not negative; the recipe's if not given.
    threads : int, optional
        See `fastinit.set_num_threads`; the values do not depend on it.
    overwrite : bool
        Whether files that exist may be replaced.
    progress : callable, optional
        Called with each tensor when it is filled.

    Returns
    -------
    Written
        The files, and what they hold.

    Raises
    ------
    RecipeError
        If a tensor has no rule, or a rule does not fit its tensor.
    FileExistsError
        If a file is there already and `overwrite` is false.
    OSError
        If the files cannot be written; a full disk is noticed before the first value.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     write(load("gpt2"), directory, seed=1).tensors
    148
    """
    start = time.perf_counter()
    seed = recipe.seed if seed is None else operator.index(seed)
    rng = fastinit.default_rng(seed)
    # Wide items first: with the header a multiple of 8 long, every tensor is then aligned.
    plan = sorted(recipe.plan(), key=lambda item: (-item[0].dtype.itemsize, item[0].name))
    tensors = [tensor for tensor, _ in plan]
    header = _header(tensors, _metadata(recipe, seed))
    files = [Path(directory, name) for name in (MODEL, CONFIG)][: 2 if recipe.config else 1]
    _refuse_existing([] if overwrite else files)

    files[0].parent.mkdir(parents=True, exist_ok=True)
    with appearing(files[0]) as file:
        file.write(header)
        _allocate(file, len(header) + sum(tensor.nbytes for tensor in tensors))
        offset = len(header)
        for tensor, rule in plan:
            if tensor.size:
                x = np.memmap(file, tensor.dtype, "r+", offset, tensor.shape)
                rule.fill(np.asarray(x), rng=rng.stream(tensor.name), threads=threads)
                del x  # unmapped: its pages leave this process
            offset += tensor.nbytes
            if progress is not None:
                progress(tensor)
    for path in files[1:]:
        with appearing(path) as file:
            file.write(json.dumps(recipe.config, indent=2).encode() + b"\n")

    return Written(
        files=tuple(files),
        tensors=len(tensors),
        parameters=sum(tensor.size for tensor in tensors if tensor.dtype.name in FLOATS),
        nbytes=offset,
        seconds=time.perf_counter() - start,
    )


def _metadata(recipe: Recipe, seed: int) -> dict[str, str]:
    return {
        "format": "pt",  # transformers refuses a file without it
        "fastinit.version": fastinit.__version__,
        "fastinit.stream": fastinit.info()["stream"],
        "fastinit.seed": str(seed),
        "fastinit.recipe": recipe.text,
        "fastinit.variables": json.dumps(recipe.variables),
    }


def _header(tensors: Sequence[Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors header; the safetensors library writes none without the data."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.nbytes
        entries[tensor.name] = {
            "dtype": DTYPES[tensor.dtype.name],
            "shape": tensor.shape,
            "data_offsets": (begin, end),
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _refuse_existing(files: Sequence[Path]) -> None:
    for path in files:
        if path.exists():
            raise FileExistsError(errno.EEXIST, "file exists, and overwrite is not set", str(path))


def _allocate(file: BinaryIO, nbytes: int) -> None:
    """Give a file its size, on disk: a full disk met through the mapping would kill us."""
    file.flush()
    try:
        os.posix_fallocate(file.fileno(), 0, nbytes)
    except AttributeError:  # macOS
        file.truncate(nbytes)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # this file system cannot
            file.truncate(nbytes)
        else:
            raise OSError(
                error.errno, f"{error.strerror} for {nbytes:,} bytes", file.name
            ) from None
