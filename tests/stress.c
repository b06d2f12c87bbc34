/* Random fills from several threads at once, each compared with the kernel's own line of values:
 * what the request covers is written, and not one byte beside it.  To be built with the
 * sanitizers, or run under valgrind (tests/deep/sanitizers.py).
 *
 *   stress FILLS CALLERS SEED
 */
#include "platform.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitgen.h"
#include "internal.h"

enum { AXES = 3, ROOM = 1 << 19, SPAN = 1 << 18 }; /* elements: of memory, of the stream */

static const size_t itemsizes[FI_DTYPES] = {4, 8, 2, 2, 1, 1, 1, 2, 4, 8};
static long fills;

/* 31 random bits (D. Knuth's 64-bit multiplier and increment, high bits alone). */
static unsigned draw(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*seed >> 33);
}

static unsigned below(uint64_t *seed, unsigned n) { return draw(seed) % n; }

static void fail(const char *why, const fi_request *r)
{
    fprintf(stderr, "%s: distribution %d, dtype %d, start %llu, isa %s\n", why, (int)r->distribution,
            (int)r->dtype, (unsigned long long)r->start, fi_active()->isa);
    abort();
}

static int never(void *context)
{
    (void)context;
    return 0;
}

/* Any distribution and dtype that has a kernel; params is room for any. */
static void draw_kernel(uint64_t *seed, fi_request *r, fi_truncated *params)
{
    static const double bounds[][2] = {{-2, 2}, {-3, 4},       {-INFINITY, -4}, {5, 30},
                                       {30, 31}, {-1000, -999}, {1, 1.001},      {-INFINITY, INFINITY}};
    do {
        r->distribution = (fi_distribution)below(seed, FI_DISTRIBUTIONS);
        r->dtype = (fi_dtype)below(seed, FI_DTYPES);
    } while (fi_active()->kernel[r->distribution][r->dtype] == NULL);
    if (r->distribution == FI_TRUNCATED_NORMAL) {
        const double *b = bounds[below(seed, sizeof bounds / sizeof *bounds)];
        fi_truncate(params, 0.1, 1.5, b[0], b[1]);
    } else if (r->distribution == FI_CONSTANT) {
        memset(params, 0x3c, sizeof(uint64_t));
    } else {
        const double two[2] = {-0.25, 0.75};
        memcpy(params, two, sizeof two);
    }
    r->params = params;
    r->key = (fi_key){(uint64_t)draw(seed), (uint64_t)draw(seed) << 40};
    r->start = ((uint64_t)draw(seed) << 33) + below(seed, 5000);
    if (below(seed, 4) == 0)
        r->start = -(uint64_t)below(seed, 3000); /* over the stream's end, to index 0 */
}

/* Axes in any order in memory, with gaps, forwards or backwards; and of a larger tensor. */
static void draw_layout(uint64_t *seed, size_t itemsize, uint64_t shape[AXES],
                        int64_t strides[AXES], uint64_t steps[AXES], size_t *offset, size_t *bytes)
{
    static const int orders[][AXES] = {{2, 1, 0}, {2, 0, 1}, {1, 2, 0}, {1, 0, 2}, {0, 1, 2}, {0, 2, 1}};
    const int *order = orders[below(seed, 6)];
    const int large = below(seed, 8) == 0;
    shape[0] = below(seed, 4);
    shape[1] = 1 + below(seed, large ? 3 : 9);
    shape[2] = 1 + below(seed, large ? 30000 / (unsigned)shape[1] : 150);
    steps[2] = 1;
    steps[1] = shape[2] + below(seed, 3);
    steps[0] = steps[1] * shape[1] + below(seed, 70);

    int64_t stride = (int64_t)itemsize;
    *offset = 0;
    for (int i = 0; i < AXES; i++) {
        const int axis = order[i];
        if (below(seed, 3) == 0)
            stride += (int64_t)itemsize;
        const int64_t reach = stride * (int64_t)(shape[axis] ? shape[axis] - 1 : 0);
        strides[axis] = stride;
        if (below(seed, 3) == 0) {
            strides[axis] = -stride;
            *offset += (size_t)reach;
        }
        stride += reach;
    }
    *bytes = (size_t)stride;
}

static void check_fill(uint64_t *seed, unsigned char *memory, unsigned char *expected, void *line)
{
    fi_truncated params;
    fi_request r = {.ndim = AXES};
    uint64_t shape[AXES], steps[AXES];
    int64_t strides[AXES];
    size_t offset, bytes;
    draw_kernel(seed, &r, &params);
    const size_t itemsize = itemsizes[r.dtype];
    draw_layout(seed, itemsize, shape, strides, steps, &offset, &bytes);
    const size_t guard = 64 + itemsize * below(seed, 9), all = bytes + 2 * guard;
    if (all > ROOM * sizeof(uint64_t) || steps[0] * 4 > SPAN)
        fail("the program's own room is too small", &r);

    memset(memory, 0xa5, all);
    memset(expected, 0xa5, all);
    r.out = memory + guard + offset;
    r.shape = shape;
    r.strides = strides;
    r.index_steps = steps;
    if (fi_fill(&r, (int)below(seed, 7), below(seed, 2) ? never : NULL, NULL) != 0)
        fail("stopped", &r);

    fi_active()->kernel[r.distribution][r.dtype](line, steps[0] * 4, r.start, r.key, r.params);
    for (uint64_t i = 0; i < shape[0]; i++)
        for (uint64_t j = 0; j < shape[1]; j++)
            for (uint64_t k = 0; k < shape[2]; k++)
                memcpy(expected + guard + offset + (int64_t)i * strides[0] +
                           (int64_t)j * strides[1] + (int64_t)k * strides[2],
                       (char *)line + (i * steps[0] + j * steps[1] + k) * itemsize, itemsize);
    if (memcmp(memory, expected, all) != 0)
        fail("not what was asked for", &r);
}

static void check_bit_generator(uint64_t *seed)
{
    uint64_t words[100], start = (uint64_t)draw(seed) << below(seed, 30);
    fi_bitgen g = {.key = {7, 8}, .position = start, .stale = 1};
    fi_request r = {.distribution = FI_BITS, .dtype = FI_UINT64, .start = start};
    fi_active()->kernel[FI_BITS][FI_UINT64](words, 100, start, g.key, NULL);
    for (int i = 0; i < 100; i++)
        if (fi_next_uint64(&g) != words[i])
            fail("the bit generator differs", &r);
}

/* The callers that have begun, and those that have not ended. */
static fi_lock lock = FI_LOCK_INIT;
static fi_condition ended = FI_CONDITION_INIT;
static int begun, running;
static uint64_t first_seed;

static fi_thread_result FI_THREAD caller(void *unused)
{
    (void)unused;
    fi_acquire(&lock);
    uint64_t seed = first_seed + 1000u * (uint64_t)begun++;
    fi_release(&lock);
    unsigned char *memory = malloc(ROOM * sizeof(uint64_t));
    unsigned char *expected = malloc(ROOM * sizeof(uint64_t));
    void *line = malloc(SPAN * sizeof(uint64_t));
    if (memory == NULL || expected == NULL || line == NULL)
        abort();
    for (long i = 0; i < fills; i++)
        check_fill(&seed, memory, expected, line);
    check_bit_generator(&seed);
    free(memory);
    free(expected);
    free(line);
    fi_acquire(&lock);
    running--;
    fi_wake_all(&ended);
    fi_release(&lock);
    return 0;
}

static void call_from(int callers, uint64_t seed)
{
    first_seed = seed;
    begun = 0;
    running = callers;
    for (int i = 0; i < callers; i++)
        if (fi_start_thread(caller) != 0)
            abort();
    fi_acquire(&lock);
    while (running > 0)
        fi_wait(&ended, &lock);
    fi_release(&lock);
}

int main(int argc, char **argv)
{
    if (argc != 4 || atoi(argv[2]) < 1 || atoi(argv[2]) > 64) {
        fprintf(stderr, "usage: stress FILLS CALLERS SEED, CALLERS 1 to 64\n");
        return 2;
    }
    fills = atol(argv[1]);
    const uint64_t seed = (uint64_t)atoi(argv[3]);
    for (int i = 0; fi_isa_name(i) != NULL; i++) {
        fi_use_isa(fi_isa_name(i));
        call_from(atoi(argv[2]), seed);
        printf("%s: %ld fills by each of %d threads, as they should be\n", fi_active()->isa, fills,
               atoi(argv[2]));
        fflush(stdout);
    }
    return 0;
}
