/* fastinit: the C interface.
 *
 * A value depends on nothing but (stream version, key, index, distribution and
 * its parameters, dtype).  A kernel therefore fills any run of indices, on any
 * thread, in any order; it does not allocate, lock, fail or call Python.
 *
 * The table below is at once what Cython calls, what the tests iterate over and
 * what other libraries get (the capsule fastinit._kernels._C_API).
 */
#ifndef FASTINIT_H
#define FASTINIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised by whatever is added: to the end of fi_table, of fi_dtype or of fi_distribution.
 * Nothing else ever changes, so a caller needs abi >= the one it was compiled with. */
#define FI_ABI 2

/* Raised, with a new name, by any change of a produced bit. */
#define FI_STREAM "fastinit-3"

/* Elements that share one PCG32 sequence. */
#define FI_BLOCK 1024

typedef struct {
    uint64_t k0, k1;
} fi_key;

typedef enum {
    FI_FLOAT32,
    FI_FLOAT64,
    FI_FLOAT16,
    FI_BFLOAT16,
    FI_FLOAT8_E4M3FN,
    FI_FLOAT8_E5M2,
    FI_UINT8,
    FI_UINT16,
    FI_UINT32,
    FI_UINT64,
    FI_DTYPES
} fi_dtype;

typedef enum {
    FI_CONSTANT, /* params: uint64_t pattern[1]; FI_UINT8 to FI_UINT64, any dtype of that width */
    FI_BITS,     /* params: none; FI_UINT32 and FI_UINT64: the draws themselves */
    FI_UNIFORM,  /* params: double {low, high}; every float dtype */
    FI_NORMAL,   /* params: double {mean, std}; every float dtype */
    FI_TRUNCATED_NORMAL, /* params: fi_truncated; every float dtype */
    FI_DISTRIBUTIONS
} fi_distribution;

/* An interval of a normal, made by fi_truncate.  Then low and high are its ends, which
 * every value is clamped to: the caller rounds them inwards to numbers of the dtype. */
typedef struct {
    double low, high;
    double mean, std;
    double method;      /* an FI_TRUNCATED_... */
    double p_low, q_high, mass; /* probability below, above and inside; far: see truncated.h */
    double side, bound, inverse; /* far: sign of the tail, its nearer bound, 1 / bound^2 */
} fi_truncated;

/* Doubles in the longest params. */
#define FI_MAX_PARAMS (sizeof(fi_truncated) / sizeof(double))

/* low and high in standard deviations from the mean, low <= high; infinite ends are allowed. */
#if !defined(__CUDACC_RTC__) /* NVRTC knows no functions of the host */
void fi_truncate(fi_truncated *interval, double mean, double std, double low, double high);
#endif

/* Writes the n values at indices start, start + 1, ... (mod 2^64) to out, which
 * is aligned to its dtype's size.  `key` is not read by FI_CONSTANT. */
typedef void fi_kernel(void *out, size_t n, uint64_t start, fi_key key, const void *params);

/* A fill of a (possibly strided) array; see src/fill.c. */
typedef struct {
    fi_distribution distribution;
    fi_dtype dtype;
    fi_key key;
    const void *params;
    void *out;                    /* address of element (0, ..., 0) */
    uint64_t start;               /* its index in the stream */
    int ndim;                     /* 0 to FI_MAX_NDIM - 1 */
    const uint64_t *shape;        /* elements per axis */
    const int64_t *strides;       /* bytes per axis; no two elements may overlap */
    const uint64_t *index_steps;  /* stream indices per axis */
} fi_request;

#define FI_MAX_NDIM 65

/* Called on the filling thread about every 50 ms; a non-zero answer stops the fill. */
typedef int fi_poll(void *context);

/* A random orthogonal matrix times `gain`, or a box of it; see src/orthogonal.inc.h.
 *
 * Of the matrix, which has `rows` rows and `columns` columns, the shorter side is orthonormal. The
 * array's axes go along its rows or along its columns: element (i0, i1, ...) is the matrix's element
 * (row + sum i*row_steps, column + sum i*column_steps). */
typedef struct {
    fi_dtype dtype; /* a float dtype */
    fi_key key;
    uint64_t start; /* the first of the rows * columns indices that the matrix is made of */
    uint64_t rows, columns;
    double gain; /* all singular values */
    void *out;   /* address of element (0, ..., 0) */
    int ndim;
    const uint64_t *shape;    /* elements per axis */
    const int64_t *strides;   /* bytes per axis; no two elements may overlap */
    uint64_t row, column;     /* of element (0, ..., 0) */
    const uint64_t *row_steps, *column_steps; /* per axis; one of both is 0, or the axis is 1 long */
} fi_orthogonal;

/* There is not enough memory for the work; nothing was written. */
#define FI_NO_MEMORY (-0x7fffffff - 1)

/* Rows and columns of the table below: more than there are, so that new ones move nothing. */
#define FI_ROOM 32

typedef struct {
    uint32_t abi;
    const char *stream;
    const char *isa;
    fi_kernel *kernel[FI_ROOM][FI_ROOM]; /* [fi_distribution][fi_dtype]; NULL: there is none */
    /* Fills on up to `threads` threads (0: as many as this process may use).
     * Returns 0, or the non-zero answer of `poll` (which may be NULL). */
    int (*fill)(const fi_request *request, int threads, fi_poll *poll, void *context);
    void (*truncate)(fi_truncated *interval, double mean, double std, double low, double high);
    /* As `fill`, of a matrix; or FI_NO_MEMORY. Beside the output it needs at most 4 * (240 + 48)
     * bytes a thread for each row of the taller side (twice that in float64), and a share of
     * 200 bytes for each of its columns. Since abi 2. */
    int (*orthogonal)(const fi_orthogonal *matrix, int threads, fi_poll *poll, void *context);
} fi_table;

/* The table in use: the best this CPU runs, unless lowered (see dispatch.c). */
#if !defined(__CUDACC_RTC__)
const fi_table *fi_active(void);
#endif

#ifdef __cplusplus
}
#endif
#endif
