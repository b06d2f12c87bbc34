/* A fill of a strided array, cut into slices that any thread may do.
 *
 * Element (i0, i1, ...) lies at out + sum i*strides and holds the value of index
 * start + sum i*index_steps.  Along the last axis indices are consecutive, so a stretch of
 * it is one kernel call: straight into the array where its elements are adjacent, else
 * through a small buffer on the stack.  No temporary grows with the array.
 */
#include <string.h>

#include "internal.h"

/* Elements in one slice: long enough that the clock is cheap (some 20 us), short enough
 * that threads finish together and Ctrl-C is noticed at once. */
enum { SLICE = 1 << 15 };

/* Elements that are worth a second thread: waking one costs about what these take. */
enum { WORTH_A_THREAD = 1 << 15 };

static const size_t itemsizes[FI_DTYPES] = {4, 8, 2, 2, 1, 1, 1, 2, 4, 8};

typedef struct {
    uint64_t shape[FI_MAX_NDIM], index_steps[FI_MAX_NDIM];
    int64_t strides[FI_MAX_NDIM];
    int ndim;
} axes;

typedef struct {
    const fi_request *request;
    axes axes;
    fi_kernel *kernel;
    size_t itemsize;
    uint64_t size;  /* elements in all */
    uint64_t first; /* elements in the first slice, so that later ones start on a block */
} job;

/* The request's axes with those of length 1 left out and neighbours joined where they are
 * one axis in memory and in the stream: a contiguous array becomes a single stretch. */
static void join_axes(axes *a, const fi_request *r, size_t itemsize)
{
    a->ndim = 0;
    for (int d = 0; d < r->ndim; d++) {
        int64_t length = (int64_t)r->shape[d];
        int k = a->ndim - 1;
        if (length == 1)
            continue;
        if (k >= 0 && a->strides[k] == r->strides[d] * length &&
            a->index_steps[k] == r->index_steps[d] * (uint64_t)length)
            a->shape[k] *= (uint64_t)length;
        else
            a->shape[k = a->ndim++] = (uint64_t)length;
        a->strides[k] = r->strides[d];
        a->index_steps[k] = r->index_steps[d];
    }
    if (a->ndim == 0 || a->index_steps[a->ndim - 1] != 1) {
        a->shape[a->ndim] = 1;
        a->strides[a->ndim] = (int64_t)itemsize;
        a->index_steps[a->ndim++] = 1;
    }
}

#define COPY_STRIDED(T)                                                                            \
    for (size_t i = 0; i < n; i++, to += stride)                                                   \
        memcpy(to, from + i * sizeof(T), sizeof(T))

static void scatter(char *to, int64_t stride, const char *from, size_t n, size_t itemsize)
{
    switch (itemsize) {
    case 1: COPY_STRIDED(uint8_t); break;
    case 2: COPY_STRIDED(uint16_t); break;
    case 4: COPY_STRIDED(uint32_t); break;
    default: COPY_STRIDED(uint64_t); break;
    }
}

/* n adjacent elements of the last axis. */
static void fill_stretch(const job *j, char *to, uint64_t start, uint64_t n)
{
    const fi_request *r = j->request;
    int64_t stride = j->axes.strides[j->axes.ndim - 1];
    if (stride == (int64_t)j->itemsize) {
        j->kernel(to, n, start, r->key, r->params);
        return;
    }
    while (n > 0) {
        uint64_t buffer[FI_BLOCK];
        uint64_t room = FI_BLOCK - start % FI_BLOCK, count = n < room ? n : room;
        j->kernel(buffer, count, start, r->key, r->params);
        scatter(to, stride, (const char *)buffer, count, j->itemsize);
        to += (int64_t)count * stride;
        start += count;
        n -= count;
    }
}

static void fill_slice(const void *context, uint64_t slice)
{
    const job *j = context;
    const axes *a = &j->axes;
    uint64_t done = slice == 0 ? 0 : j->first + (slice - 1) * SLICE;
    uint64_t end = j->first + slice * SLICE;
    if (end > j->size)
        end = j->size;

    uint64_t at[FI_MAX_NDIM], rest = done;
    for (int d = a->ndim - 1; d >= 0; d--) {
        at[d] = rest % a->shape[d];
        rest /= a->shape[d];
    }
    const int last = a->ndim - 1;
    while (done < end) {
        char *to = j->request->out;
        uint64_t index = j->request->start;
        for (int d = 0; d < a->ndim; d++) {
            to += (int64_t)at[d] * a->strides[d];
            index += at[d] * a->index_steps[d];
        }
        uint64_t n = a->shape[last] - at[last];
        if (n > end - done)
            n = end - done;
        fill_stretch(j, to, index, n);
        done += n;
        at[last] += n;
        for (int d = last; d > 0 && at[d] == a->shape[d]; d--) {
            at[d] = 0;
            at[d - 1]++;
        }
    }
}

int fi_fill(const fi_request *r, int threads, fi_poll *poll, void *context)
{
    job j;
    j.request = r;
    j.kernel = fi_active()->kernel[r->distribution][r->dtype];
    j.itemsize = itemsizes[r->dtype];
    j.first = SLICE - r->start % FI_BLOCK;
    join_axes(&j.axes, r, j.itemsize);
    j.size = 1;
    for (int d = 0; d < j.axes.ndim; d++)
        j.size *= j.axes.shape[d];
    if (j.size == 0)
        return 0;
    uint64_t slices = j.size <= j.first ? 1 : 1 + (j.size - j.first + SLICE - 1) / SLICE;
    if (slices == 1) {
        fill_slice(&j, 0);
        return 0;
    }
    if (threads == 0)
        threads = fi_cpus();
    uint64_t worth = j.size / WORTH_A_THREAD;
    if ((uint64_t)threads > worth)
        threads = worth > 1 ? (int)worth : 1;
    return fi_parallel(fill_slice, &j, slices, threads, poll, context);
}
