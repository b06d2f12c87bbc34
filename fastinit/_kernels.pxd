from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "fastinit.h" nogil:
    enum:
        FI_ABI
        FI_BLOCK
        FI_MAX_NDIM
        FI_MAX_PARAMS
    const char *FI_STREAM

    ctypedef struct fi_key:
        uint64_t k0
        uint64_t k1

    ctypedef enum fi_dtype:
        FI_FLOAT32
        FI_FLOAT64
        FI_FLOAT16
        FI_BFLOAT16
        FI_FLOAT8_E4M3FN
        FI_FLOAT8_E5M2
        FI_UINT8
        FI_UINT16
        FI_UINT32
        FI_UINT64
        FI_DTYPES

    ctypedef enum fi_distribution:
        FI_CONSTANT
        FI_BITS
        FI_UNIFORM
        FI_NORMAL
        FI_TRUNCATED_NORMAL
        FI_DISTRIBUTIONS

    ctypedef struct fi_truncated:
        double low
        double high
        double mean
        double std
        double method
        double p_low
        double q_high
        double mass
        double side
        double bound
        double inverse

    ctypedef void fi_kernel(void *out, size_t n, uint64_t start, fi_key key,
                            const void *params) noexcept nogil
    ctypedef int fi_poll(void *context) noexcept nogil

    ctypedef struct fi_request:
        fi_distribution distribution
        fi_dtype dtype
        fi_key key
        const void *params
        void *out
        uint64_t start
        int ndim
        const uint64_t *shape
        const int64_t *strides
        const uint64_t *index_steps

    ctypedef struct fi_orthogonal:
        fi_dtype dtype
        fi_key key
        uint64_t start
        uint64_t rows
        uint64_t columns
        double gain
        void *out
        int ndim
        const uint64_t *shape
        const int64_t *strides
        uint64_t row
        uint64_t column
        const uint64_t *row_steps
        const uint64_t *column_steps

    enum:
        FI_NO_MEMORY

    ctypedef struct fi_table:
        uint32_t abi
        const char *stream
        const char *isa
        fi_kernel *kernel[32][32]
        int (*fill)(const fi_request *request, int threads, fi_poll *poll,
                    void *context) noexcept nogil
        void (*truncate)(fi_truncated *interval, double mean, double std, double low,
                         double high) noexcept nogil
        int (*orthogonal)(const fi_orthogonal *matrix, int threads, fi_poll *poll,
                          void *context) noexcept nogil

# fi_active for those who do not link with this library.
cdef const fi_table *fi_table_in_use() noexcept nogil
