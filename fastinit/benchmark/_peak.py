"""The most fused multiply-adds that this machine does in a second, measured by Numba's compiler.

It is what the speed of orthogonal matrices is a share of: a loop of nothing else, in registers.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

# Twelve chains: two a cycle, each of four or five cycles. With three more registers for operands
# and a spare one they are all that AVX2 has.
_CHAINS = 12


def multiply_adds(operations: float, threads: int, vector_bytes: int) -> Callable[[], object]:
    """Return what does so many float32 operations on so many threads; two are one multiply-add.

    Raises
    ------
    ImportError
        If Numba is missing.
    """
    lanes = vector_bytes // 4
    loop, n = _loop(lanes), round(operations / (2 * _CHAINS * lanes * threads))
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(loop, [n] * threads))


@cache
def _loop(lanes: int) -> Callable[[int], float]:
    import numba
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.extending import intrinsic

    vector = ir.VectorType(ir.FloatType(), lanes)

    def all_of(value: float) -> Any:
        return ir.Constant(vector, [value] * lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        kind, name = ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32"
        fma = cgutils.get_or_insert_function(builder.module, kind, name)
        chains = [cgutils.alloca_once_value(builder, all_of(float(i))) for i in range(_CHAINS)]
        with cgutils.for_range(builder, arguments[0]):
            for chain in chains:
                operands = [builder.load(chain), all_of(0.5), all_of(1.0)]
                builder.store(builder.call(fma, operands), chain)
        total = builder.load(chains[0])
        for chain in chains[1:]:
            total = builder.fadd(total, builder.load(chain))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    @intrinsic  # type: ignore[untyped-decorator]
    def chains(typing_context: Any, n: Any) -> Any:  # noqa: ARG001
        return types.float32(types.int64), generate

    def loop(n: int) -> float:
        result: float = chains(n)
        return result

    compiled: Callable[[int], float] = numba.njit("float32(int64)", nogil=True)(loop)
    return compiled
