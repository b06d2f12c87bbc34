/* A random orthogonal matrix, or a box of it, cut into pieces that threads do independently:
 * first the blocks of reflections, each made of its own normals; then panels of columns, each of
 * which draws the normals again.  So no thread waits for another within either loop, and who
 * wants some columns of the taller side alone makes no others.
 */
#include <stdlib.h>

#include "orthogonal.h"

/* Fused multiply-adds that are worth a second thread: some 50 us. */
enum { WORTH_A_THREAD = 1 << 21 };

/* Numbers in a panel of a very tall matrix: narrower than FI_PANEL, but of NARROWEST columns. */
enum { TALL_PANEL = 1 << 24, NARROWEST = 96 };

enum { ALIGNMENT = 64 };

typedef struct {
    const fi_tall *tall;
    const fi_reflect *reflect;
    const uint64_t *cut; /* panel i has the wanted columns cut[i + 1] to cut[i] - 1 */
    char *scratch;
    uint64_t scratch_bytes; /* of each thread */
} job;

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t ceiling(uint64_t n, uint64_t of) { return n / of + (n % of != 0); }

/* The product of the lengths of the axes that have a step; `any`: of all axes. */
static uint64_t count(const fi_orthogonal *r, const uint64_t *steps, int any)
{
    uint64_t n = 1;
    for (int d = 0; d < r->ndim; d++)
        if (any || steps[d] != 0)
            n *= r->shape[d];
    return n;
}

/* The rows or columns that the axes with a step lead to, in C order. */
static void list(fi_line *line, const fi_orthogonal *r, const uint64_t *steps, uint64_t first)
{
    uint64_t n = 1;
    line[0] = (fi_line){first, 0};
    for (int d = r->ndim; d-- > 0;) {
        if (steps[d] == 0)
            continue;
        for (uint64_t i = 1; i < r->shape[d]; i++)
            for (uint64_t l = 0; l < n; l++)
                line[i * n + l] = (fi_line){line[l].index + i * steps[d],
                                            line[l].at + (int64_t)i * r->strides[d]};
        n *= r->shape[d];
    }
}

static int by_index(const void *a, const void *b)
{
    const uint64_t i = ((const fi_line *)a)->index, j = ((const fi_line *)b)->index;
    return (i > j) - (i < j);
}

static void sort(fi_line *line, uint64_t n)
{
    for (uint64_t i = 1; i < n; i++)
        if (line[i].index < line[i - 1].index) {
            qsort(line, n, sizeof *line, by_index);
            return;
        }
}

static uint64_t distance(const fi_line *line, uint64_t n)
{
    return n < 2 ? UINT64_MAX : (uint64_t)llabs(line[1].at - line[0].at);
}

/* Rows that the reflections of a column go through: those of all blocks up to its own. */
static uint64_t work(const fi_tall *q, uint64_t column)
{
    const uint64_t before = column / FI_REFLECTIONS;
    return (before + 1) * (q->rows - before * FI_REFLECTIONS / 2);
}

/* Cuts the wanted columns into panels, from the last, which takes longest, to the first, and
 * returns how many there are: of equal work if they are for several threads. */
static uint64_t cut_panels(uint64_t *cut, const fi_tall *q, unsigned tile, uint64_t widest,
                           uint64_t work_of_a_panel)
{
    uint64_t panels = 0, at = q->wanted_columns;
    cut[0] = at;
    while (at > 0) {
        uint64_t done = 0, width = 0;
        do {
            for (unsigned i = 0; i < tile && at > 0; i++, width++)
                done += work(q, q->column[--at].index);
        } while (at > 0 && width + tile <= widest && done < work_of_a_panel);
        cut[++panels] = at;
    }
    return panels;
}

static void factor(const void *context, uint64_t slice, fi_participant *me)
{
    const job *j = context;
    char *scratch = j->scratch + (uint64_t)fi_number(me) * j->scratch_bytes;
    j->reflect->factor(j->tall, slice, scratch, me);
}

static void fill(const void *context, uint64_t slice, fi_participant *me)
{
    const job *j = context;
    char *scratch = j->scratch + (uint64_t)fi_number(me) * j->scratch_bytes;
    j->reflect->fill(j->tall, j->cut[slice + 1], j->cut[slice], scratch, me);
}

/* Memory in one piece: parts of it are handed out, each aligned; first they are only added up. */
typedef struct {
    char *base;
    uint64_t used;
    int overflow;
} arena;

static void *take(arena *a, uint64_t n, uint64_t itemsize)
{
    uint64_t bytes, end;
    a->overflow |= __builtin_mul_overflow(n, itemsize, &bytes) || bytes > UINT64_MAX / 2;
    bytes = ceiling(bytes, ALIGNMENT) * ALIGNMENT;
    void *taken = a->base == NULL ? NULL : a->base + a->used;
    a->overflow |= __builtin_add_overflow(a->used, bytes, &end);
    a->used = end;
    return taken;
}

static uint64_t *take_lists(arena *a, fi_tall *q, const fi_reflect *reflect)
{
    q->row = take(a, q->wanted_rows, sizeof *q->row);
    q->column = take(a, q->wanted_columns, sizeof *q->column);
    q->heads = take(a, q->columns, reflect->itemsize);
    q->triangles = take(a, ceiling(q->columns, FI_REFLECTIONS) * FI_REFLECTIONS,
                        FI_REFLECTIONS * reflect->itemsize);
    return take(a, ceiling(q->wanted_columns, reflect->tile) + 1, sizeof(uint64_t));
}

static void *allocate(uint64_t bytes)
{
    return bytes > SIZE_MAX - ALIGNMENT ? NULL : malloc((size_t)bytes + ALIGNMENT);
}

static char *aligned(void *memory)
{
    return (char *)(((uintptr_t)memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

/* Fills what is wanted of a matrix whose lists are made. */
static int fill_lists(const fi_tall *q, const fi_reflect *reflect, uint64_t *cut, int threads,
                      fi_poll *poll, void *context)
{
    const uint64_t last = q->column[q->wanted_columns - 1].index;
    const uint64_t blocks = last / FI_REFLECTIONS + 1;
    const uint64_t tall = TALL_PANEL / q->rows, tile = reflect->tile;
    uint64_t widest = least(FI_PANEL, tall < NARROWEST ? NARROWEST : tall);
    widest = least(widest / tile, ceiling(q->wanted_columns, tile)) * tile;

    uint64_t all = blocks * q->rows; /* in rows of 48 terms; the Gram matrices are half a column */
    for (uint64_t i = 0; i < q->wanted_columns; i++)
        all += 2 * work(q, q->column[i].index);
    if (threads == 0)
        threads = fi_cpus();
    const uint64_t worth = all / (WORTH_A_THREAD / FI_REFLECTIONS);
    threads = (int)least((uint64_t)threads, worth > 1 ? worth : 1);

    const uint64_t each = q->wanted_columns / widest / (uint64_t)threads;
    const uint64_t panels_wanted = (uint64_t)threads * (each > 0 ? each : 1);
    const uint64_t panels =
        cut_panels(cut, q, reflect->tile, widest, threads > 1 ? all / 2 / panels_wanted : UINT64_MAX);
    threads = (int)least((uint64_t)threads, panels > blocks ? panels : blocks);

    job j = {.tall = q, .reflect = reflect, .cut = cut};
    arena need = {NULL, 0, 0};
    take(&need, fi_scratch(q->rows, widest), reflect->itemsize);
    j.scratch_bytes = need.used;
    need.overflow |= __builtin_mul_overflow(need.used, (uint64_t)threads, &need.used);
    void *memory = need.overflow ? NULL : allocate(need.used);
    if (memory == NULL)
        return FI_NO_MEMORY;
    j.scratch = aligned(memory);
    int stopped = fi_parallel(factor, &j, blocks, threads, poll, context);
    if (stopped == 0)
        stopped = fi_parallel(fill, &j, panels, threads, poll, context);
    free(memory);
    return stopped;
}

int fi_orthogonal_fill(const fi_orthogonal *r, const fi_reflect *const kinds[2], int threads,
                       fi_poll *poll, void *context)
{
    const fi_reflect *reflect = kinds[r->dtype == FI_FLOAT64];
    const int turned = r->columns > r->rows;
    const uint64_t *row_steps = turned ? r->column_steps : r->row_steps;
    const uint64_t *column_steps = turned ? r->row_steps : r->column_steps;
    if (count(r, NULL, 1) == 0)
        return 0;
    fi_tall q = {
        .rows = turned ? r->columns : r->rows,
        .columns = turned ? r->rows : r->columns,
        .key = r->key,
        .start = r->start,
        .wanted_rows = count(r, row_steps, 0),
        .wanted_columns = count(r, column_steps, 0),
        .out = r->out,
        .gain = r->gain,
        .dtype = r->dtype,
    };
    arena lists = {NULL, 0, 0};
    take_lists(&lists, &q, reflect);
    void *memory = lists.overflow ? NULL : allocate(lists.used);
    if (memory == NULL)
        return FI_NO_MEMORY;
    lists = (arena){aligned(memory), 0, 0};
    uint64_t *cut = take_lists(&lists, &q, reflect);
    list(q.row, r, row_steps, turned ? r->column : r->row);
    list(q.column, r, column_steps, turned ? r->row : r->column);
    sort(q.column, q.wanted_columns);
    q.row_by_row = distance(q.column, q.wanted_columns) <= distance(q.row, q.wanted_rows);
    const int stopped = fill_lists(&q, reflect, cut, threads, poll, context);
    free(memory);
    return stopped;
}
