"""NVIDIA GPUs: fills by `src/fill.cu`, the text of the CPU kernels, where the memory is.

It needs NVIDIA's driver and the packages cuda-bindings and nvidia-cuda-nvrtc, which CUDA builds of
PyTorch bring; without them `missing` says why there are no such fills.
"""

from fastinit.cuda._arrays import OnGPU, array_at, on_gpu
from fastinit.cuda._launch import fill, missing

__all__ = ["OnGPU", "array_at", "fill", "missing", "on_gpu"]
