/* TestU01's BigCrush over the 32-bit draws on standard input.
 *
 *     cc -O2 tests/deep/bigcrush.c -ltestu01 -lprobdist -lmylib -lm -o build/bigcrush
 *     python tests/deep/draws.py transposed:16 | build/bigcrush
 */
#include <stdio.h>
#include <stdlib.h>

#include "unif01.h"
#include "bbattery.h"

static unsigned int next_draw(void)
{
    unsigned int draw;
    if (fread(&draw, sizeof draw, 1, stdin) != 1) {
        fprintf(stderr, "bigcrush: standard input ended\n");
        exit(EXIT_FAILURE);
    }
    return draw;
}

int main(void)
{
    unif01_Gen *generator = unif01_CreateExternGenBits("standard input", next_draw);
    bbattery_BigCrush(generator);
    unif01_DeleteExternGenBits(generator);
    return EXIT_SUCCESS;
}
