/* NumPy's bit generator interface over the stream: one word per index.
 *
 * A word is what float64 values are made of; its high half is the draw that the 32-bit
 * types use.  Words are made a block at a time, so that NumPy's distributions run at
 * full speed on top. */
#ifndef FI_BITGEN_H
#define FI_BITGEN_H

#include "fastinit.h"

typedef struct {
    fi_key key;
    uint64_t position;          /* index of the next word */
    int stale;                  /* words[] is not the block of `position` */
    uint64_t words[FI_BLOCK];
} fi_bitgen;

static inline uint64_t fi_next_uint64(void *state)
{
    fi_bitgen *g = (fi_bitgen *)state;
    uint64_t e = g->position % FI_BLOCK;
    if (e == 0 || g->stale) {
        fi_active()->kernel[FI_BITS][FI_UINT64](g->words, FI_BLOCK, g->position - e, g->key, NULL);
        g->stale = 0;
    }
    g->position++;
    return g->words[e];
}

static inline uint32_t fi_next_uint32(void *state)
{
    return (uint32_t)(fi_next_uint64(state) >> 32);
}

static inline double fi_next_double(void *state)
{
    return (double)(fi_next_uint64(state) >> 11) * 0x1p-53;
}

#endif
