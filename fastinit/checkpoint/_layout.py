"""What a checkpoint consists of: which files, what they begin with, where each tensor is.

Files are as the Hugging Face ecosystem has them. Nothing here touches a disk.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

import fastinit
from fastinit._arguments import choice
from fastinit._errors import value_error
from fastinit._files import PART_LENGTH
from fastinit._settings import count_threads
from fastinit.checkpoint import _safetensors
from fastinit.checkpoint._blocks import blocks, in_order
from fastinit.initializer import Initializer
from fastinit.recipe import Held, Origin, Recipe, RecipeError, Rule, Tensor, Values, digest

MODEL = "model.safetensors"
CONFIG = "config.json"
INDEX = {"safetensors": "model.safetensors.index.json", "npy": "model.npy.index.json"}
FORMATS = tuple(INDEX)

MAX_SHARD_SIZE = "5GB"  # as in huggingface_hub
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

_LONGEST_NAME = 255  # of a file, in bytes


class Item(NamedTuple):
    """A tensor, its rule, and where in its file it begins."""

    tensor: Tensor
    rule: Origin
    begin: int


class Shard(NamedTuple):
    """A file of a checkpoint, and the unit of work: one process writes it, and on its own.

    `nbytes` is its size, `head` what comes before the tensors.
    """

    name: str
    seed: int
    head: bytes
    items: tuple[Item, ...]
    nbytes: int


class Small(NamedTuple):
    """A small file, known before any shard is written."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Layout:
    """A checkpoint's files. There is no index where one file holds everything."""

    shards: tuple[Shard, ...]
    config: Small | None
    index: Small | None

    @property
    def names(self) -> tuple[str, ...]:
        """All files' names, in the order in which they are finished."""
        files = [*self.shards, self.config, self.index]
        return tuple(file.name for file in files if file)


def lay_out(
    recipe: Recipe,
    seed: int,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    format: str = "safetensors",  # noqa: A002
) -> Layout:
    """Return which files a recipe's checkpoint consists of.

    Raises
    ------
    RecipeError
        If a tensor has no rule, or a rule cannot fill its tensor.
    ValueError
        If there is no such size or format.
    """
    choice("format", format, FORMATS)
    limit = shard_size(max_shard_size)
    plan, given = _with_digests(recipe.plan(), seed)
    _say_zeros(plan)
    metadata = _metadata(recipe, seed, given)
    if format == "npy":
        shards = [_npy(tensor, rule, seed) for tensor, rule in plan]
    else:
        groups = _groups(plan, limit)
        names = [f"model-{i:05}-of-{len(groups):05}.safetensors" for i in range(1, len(groups) + 1)]
        shards = [
            _shard(name, group, seed, metadata)
            for name, group in zip(names if len(groups) > 1 else [MODEL], groups, strict=True)
        ]
    index = None
    if len(shards) > 1 or format == "npy":
        index = Small(INDEX[format], _index(shards, metadata))
    config = Small(CONFIG, _json(recipe.config)) if recipe.config else None
    return Layout(tuple(shards), config, index)


def shard_size(size: int | str) -> int:
    """Return a number of bytes, given as such or as "5GB": as Hugging Face has it, of 10**9.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> shard_size("1.5GB")
    1500000000
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) *([KMGT]B)?", str(size).strip().upper())
    nbytes = int(float(match[1]) * _UNITS.get(match[2], 1)) if match else 0
    if nbytes < 1:
        raise value_error(
            f"max_shard_size={size!r} must be a number of bytes, or such as {MAX_SHARD_SIZE!r}, "
            f"with one of {', '.join(_UNITS)}"
        )
    return nbytes


Plan = Sequence[tuple[Tensor, Origin]]


def _say_zeros(plan: Plan) -> None:
    """Warn of tensors whose dtype makes zeros of most of what their rule draws."""
    checked: dict[tuple[Any, Initializer], bool] = {}
    for tensor, origin in plan:
        if not isinstance(origin, Rule) or origin.whole_axes(tensor):
            continue  # what has them takes too long
        if origin.initializer.random:
            case = tensor.dtype, origin.initializer
            if case not in checked:
                checked[case] = _mostly_zeros(tensor, origin)
                if checked[case]:
                    warnings.warn(
                        f"{tensor}: most of what {origin} draws is zero in {tensor.dtype.name}",
                        stacklevel=2,
                    )


def _mostly_zeros(tensor: Tensor, rule: Rule) -> bool:
    if tensor.dtype.itemsize > 2 or not tensor.size:
        return False
    shares = []
    for dtype in (tensor.dtype, np.dtype(np.float32)):
        line = next(iter(blocks(Tensor(tensor.name, tensor.shape, dtype), nbytes=4096)))
        x = np.empty(line.shape, dtype)
        rule.initializer.fill(x, rng=0, global_shape=tensor.shape, offset=line.offset)
        shares.append(1 - np.count_nonzero(x) / x.size)
    return bool(shares[0] > 0.5 >= shares[1])


_HELD = 2**24  # bytes of a computed tensor that is not computed again when it is written


def _with_digests(plan: Plan, seed: int) -> tuple[Plan, dict[str, dict[str, Any]]]:
    """Return a plan, and what a file says of the values in it that no rule can draw again."""
    root = fastinit.default_rng(seed)

    def prove(item: tuple[Tensor, Values]) -> tuple[Values, dict[str, Any]]:
        tensor, origin = item
        if not origin.whole_axes(tensor):
            proof = digest(origin.box(tensor, root, block.box) for block in blocks(tensor))
        else:  # whole, since a digest is of the values in their order
            values = origin.whole(tensor, root)
            proof = digest([values])
            if tensor.nbytes <= _HELD:
                origin = Held(values, str(origin), origin.seeded)
        said = {"digest": proof, "origin": str(origin), "seeded": origin.seeded}
        return origin, said

    given = [(tensor, origin) for tensor, origin in plan if isinstance(origin, Values)]
    names = [tensor.name for tensor, _ in given]
    proven = dict(zip(names, in_order(prove, given, count_threads(None)), strict=True))
    return (
        [(t, proven[t.name][0] if t.name in proven else origin) for t, origin in plan],
        {name: said for name, (_, said) in proven.items()},
    )


def _groups(plan: Plan, limit: int) -> list[Plan]:
    """Cut a plan where the next tensor is too much, as huggingface_hub does.

    A tensor that is too much alone does not end the group that others are collected in.
    """
    groups: list[Plan] = []
    group: list[tuple[Tensor, Origin]] = []
    held = 0
    for tensor, rule in plan:
        if tensor.nbytes > limit:
            groups.append([(tensor, rule)])
            continue
        if held + tensor.nbytes > limit:
            groups.append(group)
            group, held = [], 0
        group.append((tensor, rule))
        held += tensor.nbytes
    return [*groups, group] if group else groups


def _shard(name: str, plan: Plan, seed: int, metadata: Mapping[str, str]) -> Shard:
    # Wide items first: with the header a multiple of 8 long, every tensor is then aligned.
    plan = sorted(plan, key=lambda item: (-item[0].dtype.itemsize, item[0].name))
    head = _safetensors.make([tensor for tensor, _ in plan], metadata)
    items, begin = [], len(head)
    for tensor, rule in plan:
        items.append(Item(tensor, rule, begin))
        begin += tensor.nbytes
    return Shard(name, seed, head, tuple(items), begin)


def _npy(tensor: Tensor, rule: Origin, seed: int) -> Shard:
    if tensor.dtype.name.startswith("float8"):  # three dtypes, and NumPy's format has but one byte
        raise RecipeError(f"{tensor}: NumPy's format has no such dtype; allowed: safetensors")
    head = BytesIO()
    header = {
        "descr": np.lib.format.dtype_to_descr(tensor.dtype),
        "fortran_order": False,
        "shape": tensor.shape,
    }
    np.lib.format.write_array_header_1_0(head, header)
    # A tensor's name may have what a file's must not, such as a path's separators.
    name = npy_name(tensor.name)
    if len(name) + PART_LENGTH > _LONGEST_NAME:
        raise RecipeError(f"{tensor}: its name is too long for a file's, {_LONGEST_NAME} bytes")
    begin = head.tell()
    item = Item(tensor, rule, begin)
    return Shard(name, seed, head.getvalue(), (item,), begin + tensor.nbytes)


def npy_name(tensor: str) -> str:
    """Return the name of the file of a tensor in NumPy's format."""
    return f"{quote(tensor, safe=' ')}.npy"


def _metadata(recipe: Recipe, seed: int, given: Mapping[str, Any]) -> dict[str, str]:
    values = {"fastinit.values": json.dumps(given)} if given else {}
    return {
        "format": "pt",  # transformers refuses a file without it
        "fastinit.version": fastinit.__version__,
        "fastinit.stream": fastinit.info()["stream"],
        "fastinit.seed": str(seed),
        "fastinit.recipe": recipe.text,
        "fastinit.variables": json.dumps(recipe.variables),
        **values,
    }


def _index(shards: Iterable[Shard], metadata: Mapping[str, str]) -> bytes:
    items = [(item.tensor, shard.name) for shard in shards for item in shard.items]
    total = sum(tensor.nbytes for tensor, _ in items)
    return _json(
        {
            "metadata": {"total_size": total, **metadata},
            "weight_map": {tensor.name: name for tensor, name in items},
        }
    )


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except ValueError as error:  # an infinity, a NaN, half of a character
        raise RecipeError(f"no JSON can hold what the config or a name is: {error}") from None
