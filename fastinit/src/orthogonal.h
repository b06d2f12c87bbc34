/* What orthogonal.c, which cuts the work up, and orthogonal.inc.h, which does it, both know. */
#ifndef FI_ORTHOGONAL_H
#define FI_ORTHOGONAL_H

#include "internal.h"

/* Reflections in a block, and columns in a panel at most. Every instruction set's tile divides
 * both. The first is part of the stream: see tests/reference.py. */
enum { FI_REFLECTIONS = 48, FI_PANEL = 240 };

/* Rows that a tile has at most: so many zeros follow the last row of what tiles are made of. */
enum { FI_TILE_ROWS = 8 };

/* Rows that are stored together. */
enum { FI_STORED = 64 };

/* A row or a column of the matrix, and how far it is from the array's first element. */
typedef struct {
    uint64_t index;
    int64_t at; /* bytes */
} fi_line;

/* A matrix that has no more columns than rows; a request for another one is turned. */
typedef struct {
    uint64_t rows, columns;
    fi_key key;
    uint64_t start;
    void *heads;     /* [columns]: the first number of each reflection's vector */
    void *triangles; /* [columns][FI_REFLECTIONS]: of each block the matrix U */

    /* What is wanted of it, and where that goes; the columns' indices ascend. */
    fi_line *row, *column;
    uint64_t wanted_rows, wanted_columns;
    int row_by_row; /* whether a row's elements are nearer to each other than a column's */
    char *out;
    double gain;
    fi_dtype dtype;
} fi_tall;

/* What an instruction set does, in float32 or in float64. `scratch` is aligned to 64 bytes and
 * holds fi_scratch(...) numbers. */
typedef struct {
    size_t itemsize;
    unsigned tile; /* columns */
    /* Makes the heads and the triangle of a block. */
    void (*factor)(const fi_tall *q, uint64_t block, void *scratch, fi_participant *me);
    /* Makes the wanted columns begin to end - 1, and stores them. */
    void (*fill)(const fi_tall *q, uint64_t begin, uint64_t end, void *scratch, fi_participant *me);
} fi_reflect;

/* A block's vectors, `width` columns (a multiple of the tile), and two products with them. */
static inline uint64_t fi_scratch(uint64_t rows, uint64_t width)
{
    return (rows + FI_TILE_ROWS) * (FI_REFLECTIONS + width) + 2 * FI_REFLECTIONS * width;
}

/* `reflect`: of float32 and of float64. */
int fi_orthogonal_fill(const fi_orthogonal *request, const fi_reflect *const reflect[2],
                       int threads, fi_poll *poll, void *context);

#endif
