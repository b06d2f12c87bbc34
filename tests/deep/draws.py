"""Writes draws to standard output, without end, for batteries of tests that read them there.

    python tests/deep/draws.py natural | dieharder -a -g 200
    python tests/deep/draws.py transposed:16 | RNG_test stdin32 -tlmax 32GB
    python tests/deep/draws.py seeds --values normal-float64 | RNG_test stdin32

Uniforms and normals are mapped back to bits by their distribution functions: as many leading
bits as the values' precision leaves evenly spread.
"""

import argparse
import os
import sys
from collections.abc import Iterator

import numpy as np
from orders import ORDERS, Array, order
from scipy.special import ndtr

# What is drawn, and how many bits of each value are written.
VALUES = {
    "bits-uint32": 32,
    "bits-uint64": 64,
    "uniform-float32": 24,
    "uniform-float64": 32,
    "normal-float32": 8,
    "normal-float64": 32,
    "truncated_normal-float32": 8,
    "truncated_normal-float64": 32,
}


def leading_bits(u: Array, bits: int) -> Array:
    """Of numbers on [0, 1], as little-endian bytes; a u that rounded to 1 has all bits set."""
    fields = np.minimum(u * 2.0**bits, 2**bits - 1).astype("<u4")
    return fields.view(np.uint8).reshape(-1, 4)[:, : bits // 8]


def written(x: Array, values: str) -> Array:
    """The bytes for an array of such values."""
    distribution = values.partition("-")[0]
    if distribution == "bits":
        return x.astype(x.dtype.newbyteorder("<"), copy=False).view(np.uint8)
    u = x.astype(np.float64)
    if distribution != "uniform":
        u = ndtr(u)
    if distribution == "truncated_normal":
        u = (u - ndtr(-2)) / (ndtr(2) - ndtr(-2))
    return leading_bits(u, VALUES[values])


def stream(name: str, values: str, seed: int) -> Iterator[bytes]:
    chunks, i = order(name, seed), 0
    while True:
        yield written(chunks(i, *values.split("-")), values).tobytes()
        i += 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="orders:\n" + "\n".join(f"  {k:<14} {v}" for k, v in ORDERS.items()),
    )
    parser.add_argument("order", help="one of the orders below")
    parser.add_argument("--values", default="bits-uint32", choices=VALUES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bytes", type=int, help="stop after so many; else at a closed pipe")
    given = parser.parse_args()
    try:
        chunks = stream(given.order, given.values, given.seed)
        left = given.bytes
        for chunk in chunks:
            sys.stdout.buffer.write(chunk if left is None else chunk[:left])
            if left is not None and (left := left - len(chunk)) <= 0:
                break
        sys.stdout.flush()
    except ValueError as error:
        parser.error(str(error))
    except (BrokenPipeError, KeyboardInterrupt):  # the battery has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
