"""Checkpoints: a model's tensors, freshly initialised, as files; larger than memory if need be.

`load` says which tensors and rules, `write` makes the files, `check` proves what is in them, and
`values` has any slice of a tensor without any file.
Each tensor is drawn from the stream of (seed, its name), so neither the order of the tensors
nor the presence of others, nor how they are spread over files and processes changes its values.
"""

from fastinit.checkpoint._check import Checked, Difference, check
from fastinit.checkpoint._layout import (
    CONFIG,
    FORMATS,
    INDEX,
    MAX_SHARD_SIZE,
    MODEL,
    Layout,
    Shard,
    lay_out,
    shard_size,
)
from fastinit.checkpoint._old import Kept, keep
from fastinit.checkpoint._shard import write_shard
from fastinit.checkpoint._sources import load
from fastinit.checkpoint._statistics import Statistics, statistics, wrong
from fastinit.checkpoint._stored import read
from fastinit.checkpoint._virtual import parse as parse_slice
from fastinit.checkpoint._virtual import values
from fastinit.checkpoint._write import Written, begin, end, write

__all__ = [
    "CONFIG",
    "FORMATS",
    "INDEX",
    "MAX_SHARD_SIZE",
    "MODEL",
    "Checked",
    "Difference",
    "Kept",
    "Layout",
    "Shard",
    "Statistics",
    "Written",
    "begin",
    "check",
    "end",
    "keep",
    "lay_out",
    "load",
    "parse_slice",
    "read",
    "shard_size",
    "statistics",
    "values",
    "write",
    "write_shard",
    "wrong",
]
