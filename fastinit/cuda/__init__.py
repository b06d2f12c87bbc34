"""NVIDIA GPUs: fills by `src/fill.cu`, the text of the CPU kernels."""
