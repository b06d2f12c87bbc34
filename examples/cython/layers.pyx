# cython: language_level=3
"""A library in Cython that fills its weights by fastinit's kernels, without Python or the GIL."""
from fastinit cimport FI_ABI, FI_FLOAT32, FI_NORMAL, fi_kernel, fi_key, fi_table_in_use

if fi_table_in_use().abi < FI_ABI:
    raise ImportError(f"fastinit has ABI {fi_table_in_use().abi}, this module needs {FI_ABI}")


cdef void he_normal(float[:, ::1] w, fi_key key) noexcept nogil:
    cdef double[2] mean_and_std
    cdef fi_kernel *normal = fi_table_in_use().kernel[<int> FI_NORMAL][<int> FI_FLOAT32]
    mean_and_std[0] = 0.0
    mean_and_std[1] = (2.0 / w.shape[0]) ** 0.5
    normal(&w[0, 0], w.shape[0] * w.shape[1], 0, key, mean_and_std)


def initialize(float[:, ::1] w, key):
    """Fill w as ``fastinit.he_normal_`` does."""
    cdef fi_key words
    words.k0, words.k1 = key
    with nogil:
        he_normal(w, words)
