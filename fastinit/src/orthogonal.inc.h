/* Random orthogonal matrices in numbers of one type.  Included by kernels.inc.h with
 *
 *   REAL    float or double
 *   FMA     fused multiply-add of three vectors
 *   NORMAL  the kernel of standard normals
 *
 * Q = H_1 H_2 ... H_k D, where H_j is the reflection of a vector of independent normals that
 * begins with element j, and D are signs: G. W. Stewart, "The Efficient Generation of Random
 * Orthogonal Matrices with an Application to Condition Estimators", SIAM J. Numer. Anal. 17, 1980.
 * 48 reflections at a time are I - V T V': R. Schreiber, C. Van Loan, "A Storage-Efficient WY
 * Representation for Products of Householder Transformations", SIAM J. Sci. Stat. Comput. 10, 1989.
 *
 * tests/reference.py says in which order every sum is taken.  The lanes of a vector are different
 * elements, so that neither the width of a vector nor the shape of a tile changes a bit.  Terms
 * that are 0 may be left out: a sum begins with +0, and adding a zero of either sign to it leaves
 * what becomes of it, once it is added to +0 in its turn, as it is.
 *
 * Every array of `columns` lies in tiles: [tile][row][TILE]. */

#define FI_PASTE_(a, b) a##_##b
#define FI_PASTE(a, b) FI_PASTE_(a, b)
#define OF(name) FI_PASTE(name, REAL)

typedef REAL OF(vector) __attribute__((vector_size(FI_VECTOR)));
typedef REAL OF(unaligned)
    __attribute__((vector_size(FI_VECTOR), aligned(sizeof(REAL)), may_alias));

#define LANES_OF_REAL (int)(FI_VECTOR / sizeof(REAL))
#define TILE (FI_TILE_VECTORS * LANES_OF_REAL)

/* x in every lane. The loop is for where floats are computed in double (s390x): GCC takes the
 * other form for a loss of precision there. Elsewhere it makes more instructions of the loop. */
static inline __attribute__((always_inline)) OF(vector) OF(everywhere)(REAL x)
{
#if FLT_EVAL_METHOD == 0
    return x - (OF(vector)){0};
#else
    OF(vector) lanes;
    for (int i = 0; i < LANES_OF_REAL; i++)
        lanes[i] = x;
    return lanes;
#endif
}

/* c[FI_TILE_ROWS_HERE][TILE] += the sum of n products a b, which is taken in order, from 0. */
static inline __attribute__((always_inline)) void OF(multiply)(size_t n, const REAL *a,
                                                               size_t a_row, size_t a_term,
                                                               const REAL *b, size_t b_term,
                                                               REAL *c, size_t c_row)
{
    OF(vector) sum[FI_TILE_HEIGHT][FI_TILE_VECTORS] = {{{0}}};
    for (; n > 0; n--, a += a_term, b += b_term)
        FI_UNROLL for (int r = 0; r < FI_TILE_HEIGHT; r++)
        {
            FI_UNROLL for (int v = 0; v < FI_TILE_VECTORS; v++)
                sum[r][v] = FMA(OF(everywhere)(a[r * a_row]),
                                *(const OF(unaligned) *)(b + v * LANES_OF_REAL), sum[r][v]);
            FI_AFTER(a, sum[r][0]);
        }
    FI_UNROLL for (int r = 0; r < FI_TILE_HEIGHT; r++)
        FI_UNROLL for (int v = 0; v < FI_TILE_VECTORS; v++)
            *(OF(unaligned) *)(c + r * c_row + v * LANES_OF_REAL) += sum[r][v];
}

/* c[n][TILE] += x' b over a segment of rows that begins with the block's row `first`, above whose
 * diagonal x is 0. */
static inline void OF(inner)(size_t rows, size_t first, size_t n, const REAL *x, const REAL *b,
                             size_t b_row, REAL *c, size_t c_row)
{
    for (size_t a = 0; a < n; a += FI_TILE_HEIGHT) {
        const size_t skip = a > first ? a - first : 0;
        if (skip < rows)
            OF(multiply)(rows - skip, x + skip * FI_REFLECTIONS + a, 1, FI_REFLECTIONS,
                         b + skip * b_row, b_row, c + a * c_row, c_row);
    }
}

static inline size_t OF(rounded_up)(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* A block's normals, from its first row on: x[rows + FI_TILE_ROWS][FI_REFLECTIONS], with 0 above
 * the diagonal and where there are no more reflections or rows. */
static void OF(draw)(const fi_tall *q, uint64_t first, REAL *x, fi_participant *me)
{
    enum { ROWS = 1 << 14 }; /* a millisecond or less */
    static const double standard[2] = {0, 1};
    const size_t rows = q->rows - first, columns = q->columns - first;
    const size_t n = columns < FI_REFLECTIONS ? columns : FI_REFLECTIONS;
    const uint64_t start = q->start + first * (q->rows + n);
    for (size_t i = 0; i < rows && !fi_stopped(me); i += ROWS)
        NORMAL(x + i * n, (rows - i < ROWS ? rows - i : ROWS) * n, start + i * n, q->key,
               standard);
    for (size_t i = n < FI_REFLECTIONS ? rows : 0; i-- > 0;) {
        memmove(x + i * FI_REFLECTIONS, x + i * n, n * sizeof *x);
        memset(x + i * FI_REFLECTIONS + n, 0, (FI_REFLECTIONS - n) * sizeof *x);
    }
    for (size_t i = 0; i < rows && i < FI_REFLECTIONS; i++)
        memset(x + i * FI_REFLECTIONS + i + 1, 0, (FI_REFLECTIONS - 1 - i) * sizeof *x);
    memset(x + rows * FI_REFLECTIONS, 0, FI_TILE_ROWS * FI_REFLECTIONS * sizeof *x);
}

static void OF(factor)(const fi_tall *q, uint64_t block, void *scratch, fi_participant *me)
{
    const fi_float_mode before = enter_float_mode();
    const uint64_t first = block * FI_REFLECTIONS, rows = q->rows - first;
    const uint64_t columns = q->columns - first;
    const size_t n = columns < FI_REFLECTIONS ? columns : FI_REFLECTIONS;
    REAL gram[FI_REFLECTIONS][FI_REFLECTIONS] = {{0}}, *x = scratch;
    REAL *heads = (REAL *)q->heads + first;
    REAL *triangle = (REAL *)q->triangles + first * FI_REFLECTIONS;
    /* t[e][c] is row c and column e of the triangle T, so that its sums are taken side by side. */
    double t[FI_REFLECTIONS][FI_REFLECTIONS] = {{0}};

    OF(draw)(q, first, x, me);
    for (size_t i = 0; i < rows && !fi_stopped(me); i += FI_SEGMENT)
        for (size_t a = 0; a < n; a += TILE) /* the Gram matrix down to its diagonal */
            OF(inner)(rows - i < FI_SEGMENT ? rows - i : FI_SEGMENT, i,
                      a + TILE < n ? a + TILE : n, x + i * FI_REFLECTIONS,
                      x + i * FI_REFLECTIONS + a, FI_REFLECTIONS, *gram + a, FI_REFLECTIONS);
    for (size_t a = 0; a < n; a++) {
        const double top = x[a * FI_REFLECTIONS + a], square = gram[a][a];
        const REAL head = (REAL)(top < 0 ? top - sqrt(square) : top + sqrt(square));
        const double norm = square - top * top + (double)head * head;
        const double tau = norm > 0 ? 2 / norm : 0;
        double sum[FI_REFLECTIONS] = {0};
        heads[a] = head;
        for (size_t e = 0; e < a; e++) {
            const double s = gram[e][a] + x[a * FI_REFLECTIONS + e] * (head - top);
            for (size_t c = 0; c < FI_REFLECTIONS; c++)
                sum[c] += t[e][c] * s;
        }
        for (size_t c = 0; c < a; c++)
            t[a][c] = -tau * sum[c];
        t[a][a] = tau;
    }
    for (size_t c = 0; c < n; c++)
        for (size_t e = 0; e < FI_REFLECTIONS; e++)
            triangle[c * FI_REFLECTIONS + e] = (REAL)-t[e][c];
    leave_float_mode(before);
}

/* Columns += V U V' columns, of `tiles` tiles from the block's first row on. The scratch memory
 * has two arrays [tiles][FI_REFLECTIONS][TILE]. */
static void OF(reflect)(size_t rows, size_t n, const REAL *v, const REAL *u, size_t tiles,
                        size_t tile, REAL *columns, REAL *scratch, fi_participant *me)
{
    const size_t square = FI_REFLECTIONS * TILE;
    REAL *inner = scratch, *w = scratch + tiles * square;
    memset(scratch, 0, 2 * tiles * square * sizeof *scratch);
    for (size_t i = 0; i < rows && !fi_stopped(me); i += FI_SEGMENT)
        for (size_t j = 0; j < tiles; j++)
            OF(inner)(rows - i < FI_SEGMENT ? rows - i : FI_SEGMENT, i, n, v + i * FI_REFLECTIONS,
                      columns + j * tile + i * TILE, TILE, inner + j * square, TILE);
    for (size_t j = 0; j < tiles; j++)
        for (size_t a = 0; a < n; a += FI_TILE_HEIGHT)
            OF(multiply)(n - a, u + a * FI_REFLECTIONS + a, FI_REFLECTIONS, 1,
                         inner + j * square + a * TILE, TILE, w + j * square + a * TILE, TILE);
    for (size_t i = 0; i < rows && !fi_stopped(me); i += FI_SEGMENT)
        for (size_t j = 0; j < tiles; j++)
            for (size_t r = i; r < rows && r < i + FI_SEGMENT; r += FI_TILE_HEIGHT)
                OF(multiply)(r + FI_TILE_HEIGHT < n ? r + FI_TILE_HEIGHT : n,
                             v + r * FI_REFLECTIONS, FI_REFLECTIONS, 1, w + j * square, TILE,
                             columns + j * tile + r * TILE, TILE);
}

/* A stretch of n elements in the request's dtype. No element of an orthogonal matrix is past 1. */
static void OF(convert)(REAL *restrict x, size_t n, double gain, fi_dtype dtype,
                        void *restrict out)
{
    for (size_t i = 0; i < n; i++) {
        const double q = x[i] > 1 ? 1 : x[i] < -1 ? -1 : (double)x[i];
        x[i] = (REAL)(q * gain);
    }
    switch (dtype) {
    case FI_FLOAT16:
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)out)[i] = float16_of((float)x[i]);
        break;
    case FI_BFLOAT16:
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)out)[i] = bfloat16_of((float)x[i]);
        break;
    case FI_FLOAT8_E4M3FN:
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)out)[i] = float8_e4m3fn_of((float)x[i]);
        break;
    case FI_FLOAT8_E5M2:
        for (size_t i = 0; i < n; i++)
            ((uint8_t *)out)[i] = float8_e5m2_of((float)x[i]);
        break;
    default: memcpy(out, x, n * sizeof *x); break;
    }
}

/* Whether n lines lie side by side in memory, in their order. */
static inline int OF(adjacent)(const fi_line *line, size_t n, size_t itemsize)
{
    for (size_t i = 1; i < n; i++)
        if (line[i].at != line[i - 1].at + (int64_t)itemsize)
            return 0;
    return 1;
}

#define FI_SCATTER(T)                                                                              \
    if (OF(adjacent)(column, columns, sizeof(T))) {                                                \
        for (size_t i = 0; i < rows; i++)                                                          \
            memcpy(q->out + row[i].at + column->at, from + i * TILE * sizeof(T),                   \
                   columns * sizeof(T));                                                           \
    } else if (q->row_by_row) {                                                                    \
        for (size_t i = 0; i < rows; i++)                                                          \
            for (size_t j = 0; j < columns; j++)                                                   \
                memcpy(q->out + row[i].at + column[j].at, from + (i * TILE + j) * sizeof(T),       \
                       sizeof(T));                                                                 \
    } else {                                                                                       \
        for (size_t j = 0; j < columns; j++)                                                       \
            for (size_t i = 0; i < rows; i++)                                                      \
                memcpy(q->out + row[i].at + column[j].at, from + (i * TILE + j) * sizeof(T),       \
                       sizeof(T));                                                                 \
    }

/* Some wanted rows, at most FI_STORED, of a tile: of as many of its columns as are wanted. */
static void OF(store_tile)(const fi_tall *q, const REAL *tile, const fi_line *row, size_t rows,
                           const fi_line *column, size_t columns)
{
    REAL x[FI_STORED * TILE], converted[FI_STORED * TILE];
    const char *from = (const char *)converted;
    for (size_t i = 0; i < rows; i++)
        memcpy(x + i * TILE, tile + row[i].index * TILE, TILE * sizeof *x);
    OF(convert)(x, rows * TILE, q->gain, q->dtype, converted);
    switch (q->dtype) {
    case FI_FLOAT64: FI_SCATTER(uint64_t); break;
    case FI_FLOAT32: FI_SCATTER(uint32_t); break;
    case FI_FLOAT16:
    case FI_BFLOAT16: FI_SCATTER(uint16_t); break;
    default: FI_SCATTER(uint8_t); break;
    }
}

/* The wanted rows of `wanted` columns, in tiles, which begin with the wanted column `begin`. All
 * tiles of a few rows at a time: each row may be in a page of its own, and the processor remembers
 * where a few pages are (measured at 4096 x 4096: tile by tile takes 1.6 times as long). */
static void OF(store_panel)(const fi_tall *q, const REAL *columns, size_t tile, uint64_t begin,
                            size_t wanted)
{
    for (uint64_t done = 0; done < q->wanted_rows; done += FI_STORED)
        for (size_t j = 0; j < wanted; j += TILE)
            OF(store_tile)(q, columns + j / TILE * tile, q->row + done,
                           q->wanted_rows - done < FI_STORED ? q->wanted_rows - done : FI_STORED,
                           q->column + begin + j, wanted - j < TILE ? wanted - j : TILE);
}

static void OF(fill)(const fi_tall *q, uint64_t begin, uint64_t end, void *scratch,
                     fi_participant *me)
{
    const fi_float_mode before = enter_float_mode();
    const fi_line *column = q->column + begin;
    const REAL *heads = q->heads;
    const size_t wanted = end - begin, width = OF(rounded_up)(wanted, TILE), tiles = width / TILE;
    const size_t tile = (q->rows + FI_TILE_ROWS) * TILE; /* numbers */
    REAL *x = scratch, *products = x + (q->rows + FI_TILE_ROWS) * FI_REFLECTIONS;
    REAL *columns = products + 2 * FI_REFLECTIONS * width;

    memset(columns, 0, tiles * tile * sizeof *columns);
    for (size_t j = 0; j < wanted; j++)
        columns[j / TILE * tile + column[j].index * TILE + j % TILE] =
            heads[column[j].index] < 0 ? 1 : -1;
    for (uint64_t block = column[wanted - 1].index / FI_REFLECTIONS + 1; block-- > 0;) {
        const uint64_t first = block * FI_REFLECTIONS, left = q->columns - first;
        const size_t n = left < FI_REFLECTIONS ? left : FI_REFLECTIONS;
        size_t untouched = 0; /* tiles whose columns are all before the block */
        while ((untouched + 1) * TILE < wanted && column[(untouched + 1) * TILE - 1].index < first)
            untouched++;
        OF(draw)(q, first, x, me);
        for (size_t a = 0; a < n; a++)
            x[a * FI_REFLECTIONS + a] = heads[first + a];
        OF(reflect)(q->rows - first, n, x, (const REAL *)q->triangles + first * FI_REFLECTIONS,
                    tiles - untouched, tile, columns + untouched * tile + first * TILE, products,
                    me);
        if (fi_stopped(me))
            break;
    }
    if (!fi_stopped(me))
        OF(store_panel)(q, columns, tile, begin, wanted);
    leave_float_mode(before);
}

static const fi_reflect OF(reflections) = {
    .itemsize = sizeof(REAL),
    .tile = TILE,
    .factor = OF(factor),
    .fill = OF(fill),
};

#undef FI_SCATTER
#undef TILE
#undef LANES_OF_REAL
#undef OF
#undef FI_PASTE
#undef FI_PASTE_
#undef NORMAL
#undef FMA
#undef REAL
