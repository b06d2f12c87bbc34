/* Uniforms on [0, 1), as NumPy makes them: the top 24 bits of a draw, or 53 of a word, over their
 * power of two. */
#ifndef FI_UNIFORM_H
#define FI_UNIFORM_H

#include "normal.h"

static inline void uniform_pair32(uint32_t d0, uint32_t d1, float *u0, float *u1)
{
    *u0 = (float)(int32_t)(d0 >> 8) * 0x1p-24f;
    *u1 = (float)(int32_t)(d1 >> 8) * 0x1p-24f;
}

/* The same times 2^24: exact integers, for a scale that has taken over the division. */
static inline void integer_pair32(uint32_t d0, uint32_t d1, float *n0, float *n1)
{
    *n0 = (float)(int32_t)(d0 >> 8);
    *n1 = (float)(int32_t)(d1 >> 8);
}

static inline double uniform64(uint64_t w)
{
    double high = double_of_uint32(w >> 32), low = double_of_uint32(w >> 11 & 0x1fffffu);
    return (high + low * 0x1p-21) * 0x1p-32;
}

static inline void uniform_pair64(uint64_t w0, uint64_t w1, double *u0, double *u1)
{
    *u0 = uniform64(w0);
    *u1 = uniform64(w1);
}

#endif
