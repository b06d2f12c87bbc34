"""Checkpoints on a disk: which tensors they hold, and where."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit._arguments import shown
from fastinit._files import PAGE, fits_page_cache, opened, read_direct
from fastinit.checkpoint import _safetensors
from fastinit.checkpoint._blocks import Block, as_block, memory, pieces
from fastinit.checkpoint._layout import CONFIG, INDEX, MODEL, npy_name
from fastinit.random import Generator, default_rng
from fastinit.recipe import DTYPES, RecipeError, Tensor, Values, as_dtype

_SHARD = re.compile(r"model-[0-9]{5,}-of-[0-9]{5,}\.safetensors")


class Stored(NamedTuple):
    """A tensor in a file, and where it begins there."""

    tensor: Tensor
    path: Path
    begin: int


@dataclass(frozen=True)
class Recorded(Values):
    """Values that no rule can draw again, in a file that says their digest.

    `origin` is what they are, for people. Those that are `seeded` are of this seed alone.
    """

    stored: Stored
    origin: str
    digest: str
    seeded: bool
    seed: int

    def check(self, tensor: Tensor) -> None:
        """Raise unless they are there, and of this shape."""
        if self.stored.path.suffix == ".json":
            raise RecipeError(f"{tensor}: it is {self.origin}; give the files, or its config.json")
        if self.stored.tensor.shape != tensor.shape:
            raise RecipeError(f"{tensor}: in the file it has shape {self.stored.tensor.shape}")

    def box(self, tensor: Tensor, root: Generator, box: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part of a tensor, as `Values.box`.

        Raises
        ------
        RecipeError
            If they are another seed's.
        """
        if self.seeded and root.key != default_rng(self.seed).key:
            raise RecipeError(
                f"{tensor}: it is {self.origin}, from the seed {self.seed} alone; for another "
                "seed give the model's config.json"
            )
        return mapped(self.stored)[box].astype(tensor.dtype, copy=False)

    def __str__(self) -> str:
        return self.origin


def mapped(stored: Stored) -> NDArray[Any]:
    """Return a tensor in a file, of which only what is looked at is read.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    tensor = stored.tensor
    if not tensor.nbytes:
        return np.empty(tensor.shape, tensor.dtype)
    data = np.memmap(stored.path, np.uint8, "r", stored.begin, (tensor.nbytes,))
    return data.view(np.ndarray).view(tensor.dtype).reshape(tensor.shape)


class Checkpoint(NamedTuple):
    """What a checkpoint holds: its tensors, the metadata, and the model's config if known."""

    path: Path
    stored: tuple[Stored, ...]
    metadata: Mapping[str, str]
    config: Mapping[str, Any]

    @property
    def direct(self) -> bool:
        """Whether to read all of it past the page cache: it is larger than that may be."""
        return not fits_page_cache(sum(each.tensor.nbytes for each in self.stored))


def is_stored(path: Path) -> bool:
    """Return whether there is a checkpoint at a path: a file, or a directory with one."""
    if path.is_dir():
        return any((path / name).is_file() for name in (MODEL, *INDEX.values()))
    return path.suffix == ".safetensors"


def belonging(directory: Path) -> list[str]:
    """Return the names of the files that are of a checkpoint, whole or not, in a directory.

    They are those that the format itself gives, and the arrays that an index of fastinit's names.
    """
    if not directory.is_dir():
        return []
    names = [path.name for path in directory.iterdir() if _SHARD.fullmatch(path.name)]
    names += [name for name in (MODEL, *INDEX.values()) if os.path.lexists(directory / name)]
    npy = directory / INDEX["npy"]
    if npy.is_file():
        names += _arrays_of_ours(npy)
    return names


def _arrays_of_ours(npy: Path) -> list[str]:
    """Return the files that an index names, if we have written it."""
    try:
        index = _Index.read(npy)
    except RecipeError:
        return []
    if "fastinit.version" not in index.metadata:
        return []
    return [file for name, file in index.weight_map.items() if file == npy_name(name)]


def read(path: Path) -> Checkpoint:
    """Return what a checkpoint holds: a safetensors file, or a directory.

    Raises
    ------
    RecipeError
        If it is not as its headers and its index say.
    OSError
        If it cannot be read, or a file that the index names is missing.
    """
    if not path.is_dir():
        return Checkpoint(path, *_safetensors_file(path), {})
    config = _safetensors.load_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    # A single file comes before an index, as transformers has it.
    if (path / MODEL).is_file():
        return Checkpoint(path, *_safetensors_file(path / MODEL), config)
    for name in INDEX.values():
        if (path / name).is_file():
            index = _Index.read(path / name)
            stored, metadata = index.arrays() if name == INDEX["npy"] else index.shards()
            index.check_total(stored)
            return Checkpoint(path, stored, metadata, config)
    raise RecipeError(f"{path} holds none of {', '.join((MODEL, *INDEX.values()))}")


def _safetensors_file(path: Path) -> tuple[tuple[Stored, ...], Mapping[str, str]]:
    header = _safetensors.read(path)
    places = zip(header.tensors, header.begins, strict=True)
    return tuple(Stored(tensor, path, begin) for tensor, begin in places), header.metadata


class _Index(NamedTuple):
    """Which file of a directory has which tensor."""

    path: Path
    metadata: Mapping[str, Any]
    weight_map: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> _Index:
        entries = _safetensors.load_json(path)
        files, metadata = entries.get("weight_map"), entries.get("metadata", {})
        if not isinstance(files, dict) or not isinstance(metadata, dict):
            raise RecipeError(f"{path} must hold a weight_map: tensor names, each with its file")
        for key, value in metadata.items():
            if key.startswith("fastinit.") and not isinstance(value, str):
                raise RecipeError(f"{path}: its metadata has {shown(key)}={shown(value)}: no text")
        for name, file in files.items():
            # A name that leads elsewhere would have us read, or replace, any file at all.
            if not isinstance(file, str) or not _PLAIN.fullmatch(file):
                raise RecipeError(
                    f"{path}: {shown(name)} is in {shown(file)}; allowed: a file beside it"
                )
            try:
                f"{name}{file}".encode()
            except UnicodeEncodeError as error:
                raise RecipeError(f"{path}: {shown(name)} is no text: {error.reason}") from None
        return cls(path, metadata, files)

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(self.weight_map.values()))

    def check_total(self, stored: Iterable[Stored]) -> None:
        """Raise if there is less, or more, than we wrote; others count otherwise."""
        nbytes = sum(each.tensor.nbytes for each in stored)
        if "fastinit.seed" in self.metadata and self.metadata.get("total_size") != nbytes:
            raise RecipeError(f"{self.path}: the tensors have {nbytes:,} bytes, not its total_size")

    def arrays(self) -> tuple[tuple[Stored, ...], Mapping[str, str]]:
        """Return the tensors in NumPy's files, and the index's metadata."""
        stored = (_array(name, self.path.with_name(f)) for name, f in self.weight_map.items())
        return tuple(stored), self.metadata

    def shards(self) -> tuple[tuple[Stored, ...], Mapping[str, str]]:
        """Return the tensors in the safetensors files, and these files' common metadata."""
        stored: list[Stored] = []
        metadata: Mapping[str, str] | None = None
        for file in self.files:
            tensors, own = _safetensors_file(self.path.with_name(file))
            metadata = own if metadata is None else metadata
            if own != metadata:
                raise RecipeError(f"{self.path}: {file} was written otherwise than {self.files[0]}")
            stored += tensors
        held = {s.tensor.name: s.path.name for s in stored}
        if held != self.weight_map or len(held) < len(stored):
            wrong = sorted({name for name, _ in held.items() ^ self.weight_map.items()})
            named = ", ".join(map(shown, wrong[:3]))
            raise RecipeError(f"{self.path}: the files do not hold {named} as it says")
        return tuple(stored), metadata or {}


_PLAIN = re.compile(r"[^/\\\0]*[^/\\\0.][^/\\\0]*")


# What NumPy's `save` writes. NumPy itself reads more, by Python's own parser, which a foreign text
# can bring to any error.
_HEADER = re.compile(
    rb"\{'descr': '([^'\\]+)', 'fortran_order': (False|True), "
    rb"'shape': \(([0-9]+(?:, ?[0-9]+)*|),?\), \} *\n"
)
_LONGEST = 2000  # bytes of a header, which has at most 64 lengths
_DTYPES = {
    np.dtype(name).str: name for name in DTYPES if not name.startswith(("bfloat", "float8"))
} | {f"{order}V2": "bfloat16" for order in "<>|"}  # of which NumPy knows the size alone


def _array(name: str, path: Path) -> Stored:
    """Return a tensor in NumPy's format."""
    with opened(path) as file:
        begin = file.read(10)
        length = int.from_bytes(begin[8:], "little")
        header = _HEADER.fullmatch(file.read(length)) if length <= _LONGEST else None
        nbytes = os.fstat(file.fileno()).st_size
    if len(begin) < 10 or begin[:8] != b"\x93NUMPY\x01\x00" or header is None:
        raise RecipeError(f"{path} is not a NumPy file, of version 1.0, as numpy.save writes it")
    code, fortran, lengths = header[1].decode("latin-1"), header[2] == b"True", header[3]
    dtype = _DTYPES.get(code)
    if fortran or dtype is None:
        raise RecipeError(
            f"{path} has the dtype {shown(code)} in {'Fortran' if fortran else 'C'} order; "
            f"allowed: in C order, one of {', '.join(_DTYPES.values())}"
        )
    tensor = Tensor(name, tuple(int(n) for n in lengths.split(b",") if n), as_dtype(dtype))
    if nbytes != 10 + length + tensor.nbytes:
        raise RecipeError(f"{path}: {tensor} does not add up to its size, {nbytes:,} bytes")
    return Stored(tensor, path, 10 + length)


def read_block(
    stored: Stored, block: Block, use: str = "read", *, direct: bool = False
) -> NDArray[Any]:
    """Return what a file holds of a tensor, until this thread's next call for that use.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return as_block(read_run([(block, stored)], use, direct=direct), block)


def read_run(
    run: Sequence[tuple[Block, Stored]], use: str = "read", *, direct: bool = False
) -> NDArray[np.uint8]:
    """Return what a file holds of blocks that lie there side by side: as `read_block`.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    nbytes, (_, stored), stretches = sum(block.nbytes for block, _ in run), run[0], pieces(run)
    if direct and len(stretches) == 1:
        pages, skip = divmod(stored.begin + stretches[0].at, PAGE)
        x = memory(-(-(skip + nbytes) // PAGE) * PAGE, use)
        if read_direct(stored.path, pages * PAGE, x) >= skip + nbytes:
            return x[skip : skip + nbytes]
    x = memory(nbytes, use)
    with opened(stored.path) as file:
        for begin, end, at in stretches:
            file.seek(stored.begin + at)
            left = x.data[begin:end]
            while left:
                n = file.readinto(left)
                if not n:
                    raise OSError(errno.EIO, "ends before its last tensor", str(stored.path))
                left = left[n:]
    return x
