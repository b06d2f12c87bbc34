"""The safetensors format: eight bytes of length, a JSON header, the tensors' bytes.

The library of that name reads and writes tensors. We need what it does not show: where in the
file each tensor is, and a header without its tensors. What is refused here is what it refuses,
and names that are there twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from fastinit._arguments import shown
from fastinit._files import contents, opened
from fastinit.recipe import DTYPES, RecipeError, Tensor, as_dtype, dtype_name

_NAMES = {code: name for name, code in DTYPES.items()}

_MAX_HEADER = 100_000_000  # bytes, as in the library
_MAX_BYTES = 2**63 - 1


class UnknownDtypeError(RecipeError):
    """A file, which may be sound, has a dtype that fastinit does not know."""


class Header(NamedTuple):
    """What a header says: the tensors, where each begins (in the file), and the metadata."""

    tensors: tuple[Tensor, ...]
    begins: tuple[int, ...]
    metadata: Mapping[str, str]


def make(tensors: Iterable[Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes before those of the tensors, a multiple of 8."""
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for tensor in tensors:
        begin, end = end, end + tensor.nbytes
        entries[tensor.name] = {
            "dtype": DTYPES[dtype_name(tensor.dtype)],
            "shape": tensor.shape,
            "data_offsets": (begin, end),
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read(path: Path) -> Header:
    """Return a file's header, checked against the file's size.

    Raises
    ------
    RecipeError
        If it is not a safetensors file.
    OSError
        If it cannot be read.
    """
    with opened(path) as file:
        nbytes = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if nbytes < 8 or length > min(nbytes - 8, _MAX_HEADER):
            raise _not(path, f"a header of {length:,} bytes in a file of {nbytes:,}")
        text = file.read(length)
    try:
        header = parse(loads(text), str(path), file=True)
    except UnknownDtypeError:
        raise
    except RecipeError as error:
        raise _not(path, str(error).removeprefix(f"{path}: ")) from None
    begins = tuple(begin + 8 + length for begin in header.begins)
    if 8 + length + sum(tensor.nbytes for tensor in header.tensors) != nbytes:
        raise _not(path, f"its tensors do not add up to its {nbytes:,} bytes")
    return header._replace(begins=begins)


def _not(path: Path, reason: object) -> RecipeError:
    return RecipeError(f"{path} is not a safetensors file: {reason}")


def load_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raise as `loads`, or OSError."""
    try:
        return loads(contents(path, _MAX_HEADER))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def loads(text: bytes) -> dict[str, Any]:
    """Return the object in a JSON text, in which no name is there twice.

    Raises
    ------
    RecipeError
        If it is none.
    """
    try:
        entries = json.loads(text.decode(), object_pairs_hook=_unique)
    except RecipeError:
        raise
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise RecipeError(f"not JSON: {error}") from None
    if not isinstance(entries, dict):
        raise RecipeError("the JSON must hold an object: tensor names, each with dtype and shape")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise RecipeError(f"the name {shown(name)} is there twice")
        entries[name] = value
    return entries


def parse(entries: Mapping[str, Any], origin: str, *, file: bool = False) -> Header:
    """Return what a header's JSON says, with the offsets as they are there.

    The tensors must lie side by side, without gaps. In a text that has no file (yet), none need
    have offsets.

    Raises
    ------
    RecipeError
        If it is not such a header.
    """
    metadata = entries.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise RecipeError(f"{origin}: __metadata__ must hold texts")
    entries = {name: entry for name, entry in entries.items() if name != "__metadata__"}
    tensors = tuple(_tensor(origin, name, entry) for name, entry in entries.items())
    if not file and not any("data_offsets" in entry for entry in entries.values()):
        ends = accumulate(tensor.nbytes for tensor in tensors)
        return Header(tensors, (0, *ends)[: len(tensors)], metadata)
    offsets = [_offsets(origin, name, entry) for name, entry in entries.items()]
    placed, end = zip(tensors, offsets, strict=True), 0
    for tensor, (begin, stop) in sorted(placed, key=lambda item: item[1]):
        if begin != end or stop != begin + tensor.nbytes:
            raise RecipeError(
                f"{origin}: {tensor} must begin at {end} and take {tensor.nbytes} bytes, "
                f"and has data_offsets {[begin, stop]}"
            )
        end = stop
    return Header(tensors, tuple(begin for begin, _ in offsets), metadata)


# Two numbers in a byte, or four in three. safetensors 0.8 reads F4 for PyTorch alone and F6 for
# nobody, and NumPy has no such arrays: there is nothing that could compare what was written.
_PACKED = {"F4", "F6_E2M3", "F6_E3M2"}


def _tensor(origin: str, name: str, entry: Any) -> Tensor:
    match entry:
        case {"dtype": str() as code, "shape": list() as shape} if all(map(_is_length, shape)):
            pass
        case _:
            raise RecipeError(
                f"{origin}: {shown(name)} must have a dtype and a shape, as in a safetensors header"
            )
    if code not in _NAMES:
        allowed = ", ".join(_NAMES)
        reason, advice = "which fastinit does not know", ""
        if code in _PACKED:
            reason = "whose numbers share bytes"
            advice = ". Write what such numbers are made from, and quantise it"
        raise UnknownDtypeError(
            f"{origin}: {shown(name)} has the dtype {shown(code)}, {reason}; allowed: {allowed}"
            f"{advice}"
        )
    tensor = Tensor(name, tuple(shape), as_dtype(_NAMES[code]))
    if tensor.nbytes > _MAX_BYTES:
        raise RecipeError(f"{origin}: {shown(name)} has more than 2**63 bytes")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise RecipeError(f"{origin}: the name {shown(name)} is no text: {error.reason}") from None
    return tensor


def _is_length(n: object) -> bool:
    return type(n) is int and 0 <= n <= _MAX_BYTES


def _offsets(origin: str, name: str, entry: Mapping[str, Any]) -> tuple[int, int]:
    match entry.get("data_offsets"):
        case [begin, end] if _is_length(begin) and _is_length(end):
            return begin, end
        case other:
            raise RecipeError(
                f"{origin}: {shown(name)} has data_offsets {shown(other)}; allowed: two places in "
                "the file"
            )
