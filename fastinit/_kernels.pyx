# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# cython: freethreading_compatible=True
"""The C kernels as Python calls: an array's memory and a request, no checks.

Whoever calls this has checked everything (see ``_fill.py``); a wrong argument here is
memory corruption, as in C.
"""
from threading import get_ident, main_thread

from fastinit._arguments import shown
from fastinit._errors import value_error

cimport cython
from libc.float cimport DBL_MAX, FLT_MAX
from libc.stdint cimport uint8_t, uintptr_t
from libc.stdlib cimport getenv
from cpython.object cimport PyTypeObject
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_INCREF, PyObject
from cpython.weakref cimport PyWeakref_NewRef

cimport numpy as cnp

cnp.import_array()

cdef extern from "Python.h":
    # Unlike cpython.exc's, leaves the exception set: fill() raises it once the GIL is back.
    int PyErr_CheckSignals() noexcept

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(
        PyTypeObject *type, cnp.PyArray_Descr *dtype, int ndim, const cnp.npy_intp *shape,
        const cnp.npy_intp *strides, void *data, int flags, PyObject *made_from
    )

cdef extern from "internal.h" nogil:
    const fi_table *fi_active() noexcept
    void fi_truncate(fi_truncated *interval, double mean, double std, double low,
                     double high) noexcept
    const char *fi_known_isa(int i) noexcept
    const char *fi_isa_name(int i) noexcept
    int fi_use_isa(const char *name) noexcept
    int fi_cpus() noexcept
    void fi_advise_huge(void *start, size_t length) noexcept

cdef extern from "float_mode.h" nogil:
    bint rounds_to_nearest() noexcept

cdef extern from "numpy/random/bitgen.h":
    ctypedef struct bitgen_t:
        void *state
        uint64_t (*next_uint64)(void *state) noexcept nogil
        uint32_t (*next_uint32)(void *state) noexcept nogil
        double (*next_double)(void *state) noexcept nogil
        uint64_t (*next_raw)(void *state) noexcept nogil

cdef extern from "bitgen.h" nogil:
    ctypedef struct fi_bitgen:
        fi_key key
        uint64_t position
        int stale
    uint64_t fi_next_uint64(void *state) noexcept
    uint32_t fi_next_uint32(void *state) noexcept
    double fi_next_double(void *state) noexcept

cdef extern from * nogil:
    """
    #define load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
    #define store(p, value) __atomic_store_n(p, value, __ATOMIC_RELAXED)
    #define swap(p, expected, value) \\
        __atomic_compare_exchange_n(p, expected, value, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED)
    """
    uint64_t load(uint64_t *p) noexcept
    void store(uint64_t *p, uint64_t value) noexcept
    bint swap(uint64_t *p, uint64_t *expected, uint64_t value) noexcept

cdef uint64_t INDICES_C = 1ULL << 63
INDICES = INDICES_C

ABI = FI_ABI
BLOCK = FI_BLOCK
STREAM = FI_STREAM.decode()

FLOAT32 = fi_dtype.FI_FLOAT32
FLOAT64 = fi_dtype.FI_FLOAT64
FLOAT16 = fi_dtype.FI_FLOAT16
BFLOAT16 = fi_dtype.FI_BFLOAT16
FLOAT8_E4M3FN = fi_dtype.FI_FLOAT8_E4M3FN
FLOAT8_E5M2 = fi_dtype.FI_FLOAT8_E5M2
UINT8 = fi_dtype.FI_UINT8
UINT16 = fi_dtype.FI_UINT16
UINT32 = fi_dtype.FI_UINT32
UINT64 = fi_dtype.FI_UINT64

CONSTANT = fi_distribution.FI_CONSTANT
BITS = fi_distribution.FI_BITS
UNIFORM = fi_distribution.FI_UNIFORM
NORMAL = fi_distribution.FI_NORMAL
TRUNCATED_NORMAL = fi_distribution.FI_TRUNCATED_NORMAL

_C_API = PyCapsule_New(<void *> fi_active(), "fastinit._kernels._C_API", NULL)


cdef const fi_table *fi_table_in_use() noexcept nogil:
    return fi_active()


def addresses():
    """Addresses of the table in use, and of its functions fill, truncate and orthogonal."""
    cdef const fi_table *table = fi_active()
    return (
        <size_t> table, <size_t> table.fill, <size_t> table.truncate, <size_t> table.orthogonal
    )


def kernel_address(int distribution, int dtype):
    """Address of a kernel; 0 if there is none."""
    return <size_t> fi_active().kernel[distribution][dtype]


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


def known_isas():
    """Names of all instruction sets that there are kernels for, on any machine."""
    names = []
    while fi_known_isa(len(names)) != NULL:
        names.append(fi_known_isa(len(names)).decode())
    return names


if getenv("FASTINIT_ISA") != NULL and getenv("FASTINIT_ISA").decode() not in ("", *known_isas()):
    raise ImportError(
        f"FASTINIT_ISA={getenv('FASTINIT_ISA').decode()!r} is unknown; "
        f"allowed: {', '.join(known_isas())}"
    )


cpdef int check_rounding() except -1:
    """Raises FloatingPointError unless this thread's arithmetic rounds to nearest.

    The kernels see to themselves; but what Python has computed for them would be other numbers.
    """
    if not rounds_to_nearest():
        raise FloatingPointError(
            "this thread's arithmetic does not round to nearest: another library has set so "
            "(fesetround); allowed: FE_TONEAREST"
        )
    return 0


cdef int check_signals(void *context) noexcept nogil:
    with gil:
        return PyErr_CheckSignals()


cdef fi_poll *poll_of_this_thread() except? NULL:
    """Python handles signals on its main thread alone.  Another one does not ask, which would
    cost it the GIL; and a daemon that asks for it when the interpreter has shut down is ended
    there and then, with its job on its stack and the pool's threads at work on it.
    """
    if get_ident() != main_thread().ident:
        return NULL
    return check_signals


cdef int raise_pending() except -1:
    # A signal handler raised inside check_signals, and its exception is still set.
    return -1


cdef enum:
    # Elements below which letting go of the GIL costs more than it gives.
    KEEP_GIL = 4096


cdef class Cursor:
    """A key, and the position of the next index, which threads may take from at once."""

    cdef fi_key _key
    cdef uint64_t _position

    def __init__(self, key, position=0):
        self._key.k0, self._key.k1 = key
        self.move(position)

    @property
    def key(self):
        """The two 64-bit words of the key."""
        return self._key.k0, self._key.k1

    @property
    def position(self):
        """The next index; may be set."""
        return load(&self._position)

    def move(self, position):
        """Sets the position; a ValueError names the indices that there are."""
        if not 0 <= position <= INDICES:
            raise value_error(f"position={shown(position)} must be 0 to 2**63")
        store(&self._position, position)

    def shift(self, n):
        """Moves the position by n, which may be negative, as one step among threads."""
        cdef uint64_t position = load(&self._position)
        while True:
            to = position + n
            if not 0 <= to <= INDICES:
                raise value_error(
                    f"n={shown(n)} moves the position from {position} to {shown(to)}; "
                    "allowed: 0 to 2**63"
                )
            if swap(&self._position, &position, to):
                return

    def take(self, n):
        """Returns the next index and moves on by n."""
        if n > INDICES:
            raise value_error(f"{n} elements: a stream has 2**63 indices")
        return take(self, n)


def cursor_of(cnp.ndarray words):
    """Returns a cursor with the key that is in an array of two 64-bit words, at position 0."""
    cdef Cursor cursor = Cursor.__new__(Cursor)
    cdef const uint64_t *key = <const uint64_t *> cnp.PyArray_DATA(words)
    cursor._key.k0, cursor._key.k1 = key[0], key[1]
    return cursor


cdef uint64_t take(Cursor cursor, uint64_t n) except? 0xffffffffffffffff:
    cdef uint64_t first = load(&cursor._position)
    check_rounding()
    while True:
        if n > INDICES_C - first:
            raise value_error(f"{n} elements at position {first}: a stream has 2**63 indices")
        if swap(&cursor._position, &first, first + n):
            return first


def truncate(double mean, double std, double low, double high):
    """Returns the parameters of TRUNCATED_NORMAL; its first two are the bounds in units of x."""
    cdef fi_truncated t
    fi_truncate(&t, mean, std, low, high)
    return (t.low, t.high, t.mean, t.std, t.method, t.p_low, t.q_high, t.mass, t.side, t.bound,
            t.inverse)


def advise_huge(uintptr_t address, size_t nbytes):
    """Asks the system for huge pages where memory is first touched; it may not give them."""
    fi_advise_huge(<void *> address, nbytes)


cdef uint32_t hashed(uint32_t value, uint32_t *constant, uint32_t factor) noexcept:
    value ^= constant[0]
    constant[0] *= factor
    value *= constant[0]
    return value ^ value >> 16


def child_key(const uint32_t[::1] pool, uint32_t constant, const uint8_t[::1] digest):
    """Returns the key of a NumPy SeedSequence with 16 bytes more in its spawn key: the pool is
    the parent's, and the constant the one that its next word meets (see random.py).
    """
    cdef uint32_t mixed[64]
    cdef uint32_t word
    cdef uint32_t out[4]
    cdef int i, j, n = <int> pool.shape[0]
    if n > 64 or digest.shape[0] != 16:
        raise ValueError
    for i in range(n):
        mixed[i] = pool[i]
    for j in range(0, 16, 4):
        word = 0
        for i in range(4):
            word |= <uint32_t> digest[j + i] << (8 * i)
        for i in range(n):
            mixed[i] = 0xca01f9ddU * mixed[i] - 0x4973f715U * hashed(word, &constant, 0x931e8875U)
            mixed[i] ^= mixed[i] >> 16
    constant = 0x8b51f9ddU
    for i in range(4):
        out[i] = hashed(mixed[i % n], &constant, 0x58f38dedU)
    return out[0] | (<uint64_t> out[1]) << 32, out[2] | (<uint64_t> out[3]) << 32


cdef object hold(cnp.ndarray x):
    """Returns what keeps x's memory where it is, as long as it lives.

    A reference to x is not enough: ``resize(refcheck=False)`` would free the memory. But NumPy
    resizes no array that has a weak reference (array_resize in its shape.c).
    """
    cdef cnp.ndarray owner = x
    cdef PyObject *base = cnp.PyArray_BASE(x)
    while base != NULL and isinstance(<object> base, cnp.ndarray):
        owner = <cnp.ndarray> base
        base = cnp.PyArray_BASE(owner)
    return PyWeakref_NewRef(owner, None)


def view_of(cnp.ndarray x):
    """Returns an array of our own over x's memory, which is held as long as the array lives.

    Another thread, or the code of an argument's own, may change x's shape and dtype meanwhile.
    """
    held = hold(x)  # before its address is taken: Python may collect garbage here
    cdef cnp.PyArray_Descr *dtype = cnp.PyArray_DESCR(x)
    Py_INCREF(<object> dtype)  # which the call takes for itself
    cdef cnp.ndarray view = PyArray_NewFromDescr(
        <PyTypeObject *> cnp.ndarray, dtype, cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x),
        cnp.PyArray_STRIDES(x), cnp.PyArray_DATA(x), cnp.PyArray_FLAGS(x), NULL
    )
    cnp.set_array_base(view, (x, held))
    return view


cdef int store_params(double *numbers, tuple params) except -1:
    for i, number in enumerate(params):
        numbers[i] = number
    return 0


def gather(int distribution, int dtype, cnp.ndarray out, uint64_t[::1] indices, key, params):
    """Fills out, which is contiguous, with the values at any indices; runs of them at once."""
    cdef double numbers[FI_MAX_PARAMS]
    cdef fi_kernel *kernel = fi_active().kernel[distribution][dtype]
    cdef fi_key words
    cdef char *to = <char *> cnp.PyArray_DATA(out)
    cdef size_t itemsize = cnp.PyArray_ITEMSIZE(out)
    cdef Py_ssize_t begin = 0, end, n = len(indices)

    check_rounding()
    store_params(numbers, params)
    words.k0, words.k1 = key
    with nogil:
        while begin < n:
            end = begin + 1
            while end < n and indices[end] == indices[end - 1] + 1:
                end += 1
            kernel(to + begin * itemsize, end - begin, indices[begin], words, numbers)
            begin = end


cpdef fill(int distribution, int dtype, cnp.ndarray x, start, key, params, int threads,
           index_steps=None):
    """Fills x in place; its element at index (i0, i1, ...) gets the value of stream index
    ``start + sum(i * step)``. The steps are those of x's own shape in C order unless given;
    the key is two 64-bit words or a Cursor, whose next ``x.size`` indices a start of None takes.
    """
    cdef double numbers[FI_MAX_PARAMS]
    cdef uint64_t pattern, step = 1
    # Copies: while C writes, another thread may give x another shape.
    cdef uint64_t shape[FI_MAX_NDIM]
    cdef int64_t strides[FI_MAX_NDIM]
    cdef uint64_t steps[FI_MAX_NDIM]
    cdef uint64_t size = cnp.PyArray_SIZE(x)
    cdef fi_request r
    cdef int d, ndim = cnp.PyArray_NDIM(x)

    check_rounding()
    r.distribution = <fi_distribution> distribution
    r.dtype = <fi_dtype> dtype
    r.out = cnp.PyArray_DATA(x)
    r.ndim = ndim
    r.shape = shape
    r.strides = strides
    r.index_steps = steps
    for d in range(ndim - 1, -1, -1):
        shape[d] = cnp.PyArray_DIM(x, d)
        strides[d] = cnp.PyArray_STRIDE(x, d)
        if index_steps is None:
            steps[d] = step
            step *= shape[d]
        else:
            steps[d] = index_steps[d]
    if distribution == fi_distribution.FI_CONSTANT:
        pattern = params
        r.params = &pattern
        r.start = 0
    else:
        store_params(numbers, params)
        r.params = numbers
        if isinstance(key, Cursor):
            r.key = (<Cursor> key)._key
        else:
            r.key.k0, r.key.k1 = key
        r.start = take(<Cursor> key, size) if start is None else start

    run(&r, size, threads)


cdef struct fi_line:
    # Elements side by side.
    fi_dtype dtype
    void *out
    uint64_t n
    int64_t itemsize


cdef bint is_usual(x, double reach, double reach64, fi_line *line) noexcept:
    """Whether an array needs no closer look, as it is NumPy's, float32 or float64, in C order,
    writable, aligned, and able to hold the largest value; if so, the line is what it holds.
    """
    if not cnp.PyArray_CheckExact(x) or not cnp.PyArray_ISCARRAY(x):
        return False
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32 and reach <= FLT_MAX:
        line.dtype = fi_dtype.FI_FLOAT32
    elif cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64 and reach64 <= DBL_MAX:
        line.dtype = fi_dtype.FI_FLOAT64
    else:
        return False
    line.itemsize = cnp.PyArray_ITEMSIZE(x)
    line.out = cnp.PyArray_DATA(x)
    line.n = cnp.PyArray_SIZE(x)
    return True


cdef object hold_large(x):
    """Returns what holds an array that is filled without the GIL; None for others."""
    if cnp.PyArray_CheckExact(x) and cnp.PyArray_SIZE(x) > KEEP_GIL:
        return hold(x)
    return None


def fill_usual(distribution, x, rng, int threads):
    """Fills x, an array or a list of arrays, and returns True, if none needs a closer look, nor
    the distribution, whose parameters may depend on the dtype.

    Memory is held, and then taken down when it is checked: while a fill runs, another thread or a
    signal handler may change the list, or an array in it.
    """
    cdef double numbers[FI_MAX_PARAMS]
    cdef fi_line line
    cdef fi_line *lines = &line
    cdef uint64_t total = 0
    cdef Py_ssize_t i, count
    kernel, params, _, _, bounded, reach, reach64 = <tuple> distribution
    if bounded:
        return False
    if type(x) is not list:
        held = hold_large(x)
        if not is_usual(x, reach, reach64, lines):
            return False
        store_params(numbers, params)
        fill_lines(kernel, numbers, lines, 1, rng, line.n, threads)
        return True
    arrays = tuple(x)
    count = len(arrays)
    held = [hold_large(array) for array in arrays]
    lines = <fi_line *> PyMem_Malloc(count * sizeof(fi_line))
    if lines == NULL:
        raise MemoryError
    try:
        for i in range(count):
            if not is_usual(arrays[i], reach, reach64, &lines[i]):
                return False
            total += lines[i].n
        store_params(numbers, params)
        fill_lines(kernel, numbers, lines, count, rng, total, threads)
    finally:
        PyMem_Free(lines)
    return True


def fill_line(distribution, dtype, params_in, uintptr_t memory, uint64_t nbytes, uint64_t first,
              uint64_t n, Cursor cursor, int threads):
    """Fills n elements side by side, from the index `first` of a piece of memory on, and returns
    True, if they are aligned and lie within it. `params_in` is asked where the distribution's own
    parameters need a closer look.
    """
    cdef double numbers[FI_MAX_PARAMS]
    cdef fi_line line
    cdef uint64_t room
    kernel, params, _, _, bounded, _, reach64 = <tuple> distribution
    _, line.dtype, line.itemsize, largest, _, _ = <tuple> dtype
    line.out, line.n = <char *> memory + first * line.itemsize, n
    room = nbytes // <uint64_t> line.itemsize
    if n and (n > room or first > room - n or <uintptr_t> line.out % line.itemsize):
        return False
    if bounded or reach64 > largest:
        params = params_in(distribution, dtype)
    store_params(numbers, params)
    fill_lines(kernel, numbers, &line, 1, cursor, n, threads)
    return True


cdef int fill_lines(int distribution, const double *numbers, const fi_line *lines,
                    Py_ssize_t count, Cursor cursor, uint64_t total, int threads) except -1:
    """Fills lines one after the other with the cursor's next indices, `total` in all."""
    cdef uint64_t step = 1
    cdef fi_request r
    cdef Py_ssize_t i
    r.distribution = <fi_distribution> distribution
    r.params = numbers
    r.key = cursor._key
    r.start = take(cursor, total)
    r.ndim = 1
    r.index_steps = &step
    for i in range(count):
        r.dtype = lines[i].dtype
        r.out = lines[i].out
        r.shape = &lines[i].n
        r.strides = &lines[i].itemsize
        run(&r, lines[i].n, threads)
        r.start += lines[i].n
    return 0


def orthogonal(int dtype, cnp.ndarray x, start, key, matrix, double gain, int threads):
    """Fills x with a box of `gain` times an orthogonal matrix, which is made of the rows * columns
    stream indices from `start` on. `matrix` is (rows, columns, row, column, row_steps,
    column_steps): the lengths of the whole, and in it the place of x's first element and what each
    of x's axes adds to it.
    """
    cdef uint64_t row_steps[FI_MAX_NDIM]
    cdef uint64_t column_steps[FI_MAX_NDIM]
    cdef fi_orthogonal r
    cdef int stopped
    cdef fi_poll *poll = poll_of_this_thread()

    check_rounding()
    r.dtype = <fi_dtype> dtype
    r.key.k0, r.key.k1 = key
    r.start = start
    r.gain = gain
    r.rows, r.columns, r.row, r.column = matrix[:4]
    r.out = cnp.PyArray_DATA(x)
    r.ndim = cnp.PyArray_NDIM(x)
    r.shape = <const uint64_t *> cnp.PyArray_DIMS(x)
    r.strides = <const int64_t *> cnp.PyArray_STRIDES(x)
    r.row_steps, r.column_steps = row_steps, column_steps
    for axis, steps in enumerate(zip(matrix[4], matrix[5])):
        row_steps[axis], column_steps[axis] = steps
    with nogil:
        stopped = fi_active().orthogonal(&r, threads, poll, NULL)
    if stopped == FI_NO_MEMORY:
        raise MemoryError(f"no memory for an orthogonal matrix of shape ({r.rows}, {r.columns})")
    if stopped:
        raise_pending()


cdef int run(fi_request *r, uint64_t n, int threads) except -1:
    cdef int stopped
    cdef fi_poll *poll
    if n <= KEEP_GIL:
        fi_active().fill(r, 1, NULL, NULL)
        return 0
    poll = poll_of_this_thread()
    with nogil:
        stopped = fi_active().fill(r, threads, poll, NULL)
    if stopped:
        raise_pending()
    return 0


@cython.final
cdef class BitStream:
    """What a NumPy bit generator's function pointers work on: a key and a position.

    NumPy and Numba hold its address, so there is one for all of a bit generator's life, and
    `move` changes it in place. Whoever calls it holds the bit generator's lock.
    """

    cdef fi_bitgen state

    @property
    def key(self):
        """The two 64-bit words of the key."""
        return self.state.key.k0, self.state.key.k1

    @property
    def position(self):
        """The index of the next word."""
        return self.state.position

    def move(self, key, uint64_t position):
        """Sets the key and the position."""
        self.state.key.k0, self.state.key.k1 = key
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
