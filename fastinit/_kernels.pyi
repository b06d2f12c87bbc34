from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

ABI: int
INDICES: int
BLOCK: int
STREAM: str

FLOAT32: int
FLOAT64: int
FLOAT16: int
BFLOAT16: int
FLOAT8_E4M3FN: int
FLOAT8_E5M2: int
UINT8: int
UINT16: int
UINT32: int
UINT64: int

CONSTANT: int
BITS: int
UNIFORM: int
NORMAL: int
TRUNCATED_NORMAL: int

_C_API: object

def isas() -> list[str]: ...
def known_isas() -> list[str]: ...
def isa() -> str: ...
def use_isa(name: str) -> None: ...
def cpus() -> int: ...
def check_rounding() -> int: ...
def addresses() -> tuple[int, int, int, int]: ...
def kernel_address(distribution: int, dtype: int) -> int: ...
def gather(
    distribution: int,
    dtype: int,
    out: NDArray[Any],
    indices: NDArray[np.uint64],
    key: tuple[int, int],
    params: tuple[float, ...],
) -> None: ...
def truncate(mean: float, std: float, low: float, high: float) -> tuple[float, ...]: ...

@disjoint_base
class Cursor:
    def __init__(self, key: tuple[int, int], position: int = 0) -> None: ...
    @property
    def key(self) -> tuple[int, int]: ...
    @property
    def position(self) -> int: ...
    def move(self, position: int) -> None: ...
    def shift(self, n: int) -> None: ...
    def take(self, n: int) -> int: ...

def cursor_of(words: NDArray[np.int64]) -> Cursor: ...
def child_key(pool: NDArray[np.uint32], constant: int, digest: bytes) -> tuple[int, int]: ...
def view_of(x: NDArray[Any]) -> NDArray[Any]: ...
def advise_huge(address: int, nbytes: int) -> None: ...
def fill(
    distribution: int,
    dtype: int,
    x: NDArray[Any],
    start: int | None,
    key: Cursor | tuple[int, int] | None,
    params: tuple[float, ...] | int,
    threads: int,
    index_steps: Sequence[int] | None = None,
) -> None: ...
def fill_usual(distribution: tuple[Any, ...], x: object, rng: Cursor, threads: int) -> bool: ...
def fill_line(
    distribution: tuple[Any, ...],
    dtype: tuple[Any, ...],
    params_in: Callable[..., tuple[float, ...]],
    memory: int,
    nbytes: int,
    first: int,
    n: int,
    cursor: Cursor,
    threads: int,
) -> bool: ...
def orthogonal(
    dtype: int,
    x: NDArray[Any],
    start: int,
    key: tuple[int, int],
    matrix: tuple[int, int, int, int, Sequence[int], Sequence[int]],
    gain: float,
    threads: int,
) -> None: ...

@final
class BitStream:
    @property
    def key(self) -> tuple[int, int]: ...
    @property
    def position(self) -> int: ...
    def move(self, key: tuple[int, int], position: int) -> None: ...
    def attach(self, capsule: object) -> None: ...
