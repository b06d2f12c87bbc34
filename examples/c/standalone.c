/* fastinit without Python: a static library from the shipped sources.
 *
 *     src=$(python -c 'import fastinit; print(fastinit.get_include() + "/../src")')
 *     make -C $src OUT=$PWD
 *     cc standalone.c -I$src/../include libfastinit.a -pthread -lm -o standalone && ./standalone
 */
#include <stdio.h>
#include <stdlib.h>

#include "fastinit.h"

int main(void)
{
    const fi_table *fi = fi_active();
    const fi_key key = {0x1b38b0d1f8ae54a1u, 0x5c1d4a2f90f16e3bu}; /* your own, or a Generator's */
    const double mean_and_std[] = {0.0, 0.02};

    /* Row 7 of a matrix of 1000 columns, by one call of a kernel. */
    float row[1000];
    fi->kernel[FI_NORMAL][FI_FLOAT32](row, 1000, 7 * 1000, key, mean_and_std);

    /* The whole matrix, on all threads; strides are in bytes. */
    enum { ROWS = 500, COLUMNS = 1000 };
    float *matrix = malloc(sizeof(float) * ROWS * COLUMNS);
    if (matrix == NULL)
        return 1;
    const uint64_t shape[] = {ROWS, COLUMNS}, index_steps[] = {COLUMNS, 1};
    const int64_t strides[] = {COLUMNS * sizeof(float), sizeof(float)};
    const fi_request request = {.distribution = FI_NORMAL,
                                .dtype = FI_FLOAT32,
                                .key = key,
                                .params = mean_and_std,
                                .out = matrix,
                                .start = 0,
                                .ndim = 2,
                                .shape = shape,
                                .strides = strides,
                                .index_steps = index_steps};
    fi->fill(&request, 0, NULL, NULL);

    int same = 1;
    for (int i = 0; i < COLUMNS; i++)
        same &= row[i] == matrix[7 * COLUMNS + i];
    printf("%s %s %.9g %s\n", fi->stream, fi->isa, (double)row[0], same ? "same" : "different");
    free(matrix);
    return !same;
}
