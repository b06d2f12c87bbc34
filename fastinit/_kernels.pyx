# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# cython: freethreading_compatible=True
"""The C kernels as Python calls: an array's memory and a request, no checks.

Whoever calls this has checked everything (see ``_fill.py``); a wrong argument here is
memory corruption, as in C.
"""
cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from numpy.random cimport bitgen_t

cimport numpy as cnp

cnp.import_array()

cdef extern from "internal.h" nogil:
    const char *fi_isa_name(int i) noexcept
    int fi_use_isa(const char *name) noexcept
    int fi_cpus() noexcept

cdef extern from "bitgen.h" nogil:
    ctypedef struct fi_bitgen:
        fi_key key
        uint64_t position
        int stale
    uint64_t fi_next_uint64(void *state) noexcept
    uint32_t fi_next_uint32(void *state) noexcept
    double fi_next_double(void *state) noexcept

ABI = FI_ABI
BLOCK = FI_BLOCK
STREAM = FI_STREAM.decode()

FLOAT32, FLOAT64, FLOAT16, BFLOAT16 = fi_dtype.FI_FLOAT32, fi_dtype.FI_FLOAT64, fi_dtype.FI_FLOAT16, fi_dtype.FI_BFLOAT16
UINT8, UINT16, UINT32, UINT64 = fi_dtype.FI_UINT8, fi_dtype.FI_UINT16, fi_dtype.FI_UINT32, fi_dtype.FI_UINT64
CONSTANT, BITS, UNIFORM, NORMAL = fi_distribution.FI_CONSTANT, fi_distribution.FI_BITS, fi_distribution.FI_UNIFORM, fi_distribution.FI_NORMAL

_C_API = PyCapsule_New(<void *> fi_active(), "fastinit._kernels._C_API", NULL)


def isas():
    """Names of the instruction sets this machine runs, the plainest first."""
    names = []
    while fi_isa_name(len(names)) != NULL:
        names.append(fi_isa_name(len(names)).decode())
    return names


def isa():
    """Name of the instruction set in use."""
    return fi_active().isa.decode()


def use_isa(str name):
    """Switches to another instruction set of this machine (for tests and benchmarks)."""
    if fi_use_isa(name.encode()) != 0:
        raise ValueError(f"isa={name!r} does not run here; allowed: {isas()}")


def cpus():
    """CPUs this process may use: its affinity and its control group's quota."""
    return fi_cpus()


cdef int check_signals(void *context) noexcept nogil:
    with gil:
        return PyErr_CheckSignals()


cdef int raise_pending() except -1:
    # A signal handler raised inside check_signals, and its exception is still set.
    return -1


cdef enum:
    # Elements below which letting go of the GIL costs more than it gives.
    KEEP_GIL = 4096


def fill(int distribution, int dtype, cnp.ndarray x, uint64_t start, key, params, int threads,
         index_steps=None):
    """Fills x in place; its element at index (i0, i1, ...) gets the value of stream index
    ``start + sum(i * step)``, the steps being those of x's own shape in C order unless given.
    """
    cdef double numbers[4]
    cdef uint64_t pattern, step = 1
    cdef uint64_t steps[FI_MAX_NDIM]
    cdef fi_request r
    cdef int d, stopped, ndim = cnp.PyArray_NDIM(x)
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(x)

    r.distribution = <fi_distribution> distribution
    r.dtype = <fi_dtype> dtype
    r.key.k0, r.key.k1 = key
    r.params = numbers
    if distribution == fi_distribution.FI_CONSTANT:
        pattern = params
        r.params = &pattern
    else:
        for d in range(len(params)):
            numbers[d] = params[d]

    r.out = cnp.PyArray_DATA(x)
    r.start = start
    r.ndim = ndim
    r.shape = <const uint64_t *> shape
    r.strides = <const int64_t *> cnp.PyArray_STRIDES(x)
    r.index_steps = steps
    for d in range(ndim - 1, -1, -1):
        if index_steps is None:
            steps[d] = step
            step *= <uint64_t> shape[d]
        else:
            steps[d] = index_steps[d]

    if cnp.PyArray_SIZE(x) <= KEEP_GIL:
        fi_active().fill(&r, 1, NULL, NULL)
        return
    with nogil:
        stopped = fi_active().fill(&r, threads, check_signals, NULL)
    if stopped:
        raise_pending()


@cython.final
cdef class BitStream:
    """What a NumPy bit generator's function pointers work on: a key and a position."""

    cdef fi_bitgen state

    def __cinit__(self, key, uint64_t position=0):
        self.state.key.k0, self.state.key.k1 = key
        self.position = position

    @property
    def key(self):
        return self.state.key.k0, self.state.key.k1

    @property
    def position(self):
        return self.state.position

    @position.setter
    def position(self, uint64_t position):
        self.state.position = position
        self.state.stale = 1

    def attach(self, capsule):
        """Makes the ``bitgen_t`` in NumPy's capsule draw from this stream, which must
        outlive it."""
        cdef bitgen_t *bitgen = <bitgen_t *> PyCapsule_GetPointer(capsule, "BitGenerator")
        bitgen.state = &self.state
        bitgen.next_uint64 = fi_next_uint64
        bitgen.next_uint32 = fi_next_uint32
        bitgen.next_double = fi_next_double
        bitgen.next_raw = fi_next_uint64
