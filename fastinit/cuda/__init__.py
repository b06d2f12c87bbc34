"""NVIDIA GPUs: fills by `src/fill.cu`, the text of the CPU kernels."""

from fastinit.cuda._arrays import array_at
from fastinit.cuda._launch import fill, missing

__all__ = ["array_at", "fill", "missing"]
