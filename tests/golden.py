"""Writes golden.json: SHA-256 of outputs of the stream, made by the reference, not by C.

``python tests/golden.py`` does it anew (some minutes).  A difference in the file is a new stream.
"""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import reference
from cases import FLOATS, KEY, Array, Case

FILE = Path(__file__).with_name("golden.json")
START, COUNT = 2**40 + 1, 2**17 + 3
CASES = [
    Case("bits", "uint32"),
    Case("bits", "uint64"),
    *(Case("uniform", dtype, params) for dtype in FLOATS for params in [(0.0, 1.0), (-0.3, 0.7)]),
    *(Case("normal", dtype, params) for dtype in FLOATS for params in [(0.0, 1.0), (0.1, 0.02)]),
    *(Case("truncated_normal", dtype, (0.1, 0.02, -2.0, 2.0)) for dtype in FLOATS),
    *(
        Case("truncated_normal", dtype, (0.0, 1.0, *bounds))
        for dtype in ("float32", "float64")
        for bounds in [(-8.0, 8.0), (5.0, 9.0), (-40.0, -9.0)]
    ),
]


# dtype, rows, columns, gain: chains and blocks that are whole, short, and of one; both ways up.
MATRICES = [
    (dtype, rows, columns, 1.5)
    for dtype in ("float32", "float64")
    for rows, columns in [(1, 1), (130, 97), (50, 104)]
] + [(dtype, 49, 130, 0.3) for dtype in FLOATS if dtype not in ("float32", "float64")]


def digest(x: Array) -> str:
    """SHA-256 of the little-endian bytes."""
    return sha256(x.astype(x.dtype.newbyteorder("<")).tobytes()).hexdigest()


def main() -> None:
    outputs = [
        {
            "case": str(case),
            "distribution": case.distribution,
            "dtype": case.dtype,
            "params": case.params,
            "start": START,
            "n": COUNT,
            "sha256": digest(case.expected(COUNT, START)),
        }
        for case in CASES
    ]
    provenance = "SHA-256 of little-endian outputs of tests/reference.py, by tests/golden.py"
    matrices = [
        {
            "dtype": dtype,
            "start": START,
            "shape": (rows, columns),
            "gain": gain,
            "sha256": digest(
                np.array(
                    reference.orthogonal(dtype, KEY, START, rows, columns, gain),
                    Case("normal", dtype).pattern,
                )
            ),
        }
        for dtype, rows, columns, gain in MATRICES
    ]
    golden = {
        "provenance": provenance,
        "stream": reference.STREAM,
        "numpy": np.__version__,
        "key": KEY,
        "outputs": outputs,
        "orthogonal": matrices,
    }
    FILE.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
