/* fastinit's values inside your own CUDA kernels: the bits that the CPU's kernels write.
 *
 * Include it in what nvcc, NVRTC or Clang compiles for a GPU, with this directory on the include
 * path. Compile with --fmad=false, and without --use_fast_math: a multiplication that is fused
 * with an addition, where the text does not say so, rounds once instead of twice.
 *
 * A value depends on nothing but (stream version, key, index, distribution and its parameters,
 * dtype), so any thread may make any element. The functions below take one index. Those who
 * make many neighbouring values save most of the work by fi_draws, as src/fill.cu does.
 */
#ifndef FASTINIT_CUH
#define FASTINIT_CUH

/* NVRTC tells how it compiles; nvcc does not. */
#if (defined(__USE_FAST_MATH__) && __USE_FAST_MATH__) || (defined(__CUDA_FTZ) && __CUDA_FTZ)
#error "fastinit.cuh: --use_fast_math and --ftz=true change bits; compile without them"
#endif

/* NVRTC has no system headers: whoever compiles with it names some for it, as fastinit.cuda does. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fastinit.h"

/* The very text of the CPU's kernels. Neither nvcc nor Clang has an option that makes plain
 * functions and tables the GPU's own; while these headers are read, the word `static` does. */
#define FI_HAS_FMA 1
#define static static __device__
#if defined(__CUDACC__)
#define __builtin_fmaf __fmaf_rn
#define __builtin_fma __fma_rn
#define __builtin_sqrtf __fsqrt_rn
#define __builtin_sqrt __dsqrt_rn
#define __builtin_fabsf fabsf
#endif
#include "../src/pcg.h"

#include "../src/affine.h"
#include "../src/convert.h"
#include "../src/normal.h"
#include "../src/truncated.h"
#include "../src/uniform.h"
#if defined(__CUDACC__)
#undef __builtin_fmaf
#undef __builtin_fma
#undef __builtin_sqrtf
#undef __builtin_sqrt
#undef __builtin_fabsf
#endif
#undef static

/* Where a thread is in the draws of a block, and by what it moves on. */
struct fi_draws {
    uint64_t high, low; /* the generator's states: of 32-bit draws, and of the words' low halves */
    uint64_t inc;
    uint64_t factor, step; /* one move is state * factor + step */

    /* At an index; each move goes on by so many draws, less than 1024. */
    __device__ fi_draws(fi_key key, uint64_t index, unsigned stride)
    {
        const pcg32 g = pcg_of_block(key, index / FI_BLOCK);
        const pcg32 one = {1, 0}, sum = {0, g.inc};
        const unsigned e = (unsigned)(index % FI_BLOCK);
        high = pcg_jump(g, e);
        low = pcg_jump(g, FI_BLOCK + e);
        inc = g.inc;
        factor = pcg_jump(one, stride);
        step = pcg_jump(sum, stride);
    }

    __device__ void move()
    {
        high = high * factor + step;
        low = low * factor + step;
    }

    static __device__ uint32_t output(uint64_t state)
    {
        const uint32_t half = (uint32_t)(state >> 32);
        return rotate_right(pcg_xorshift(half, (uint32_t)state), pcg_rotation(half));
    }

    /* The next n draws, from here on, without a move; all have to be in this block. */
    template <int n> __device__ void read(uint32_t (&draw)[n]) const
    {
        uint64_t state = high;
#pragma unroll
        for (int i = 0; i < n; i++, state = state * PCG_MULTIPLIER + inc)
            draw[i] = output(state);
    }

    template <int n> __device__ void read(uint64_t (&word)[n]) const
    {
        uint64_t upper = high, lower = low;
#pragma unroll
        for (int i = 0; i < n; i++) {
            word[i] = (uint64_t)output(upper) << 32 | output(lower);
            upper = upper * PCG_MULTIPLIER + inc;
            lower = lower * PCG_MULTIPLIER + inc;
        }
    }
};

/* The raw draws at an index. */
static __device__ inline uint32_t fi_bits32(fi_key key, uint64_t index)
{
    uint32_t draw[1];
    fi_draws(key, index, 0).read(draw);
    return draw[0];
}

static __device__ inline uint64_t fi_bits64(fi_key key, uint64_t index)
{
    uint64_t word[1];
    fi_draws(key, index, 0).read(word);
    return word[0];
}

/* Uniform on [low, high). */
static __device__ inline float fi_uniform32(fi_key key, uint64_t index, double low, double high)
{
    const double params[2] = {low, high};
    const affine32 a = uniform_affine32(params);
    float u, other;
    uniform_pair32(fi_bits32(key, index), 0, &u, &other);
    return fma32(u, a.scale, a.shift);
}

static __device__ inline double fi_uniform64(fi_key key, uint64_t index, double low, double high)
{
    const double params[2] = {low, high};
    const affine64 a = uniform_affine64(params);
    return fma64(uniform64(fi_bits64(key, index)), a.scale, a.shift);
}

/* Normal; the indices 2p and 2p + 1 are made together, and either is returned. */
static __device__ inline float fi_normal32(fi_key key, uint64_t index, double mean, double std)
{
    uint32_t draw[2];
    fi_draws(key, index & ~(uint64_t)1, 0).read(draw);
    float z0, z1;
    normal_pair32(draw[0], draw[1], &z0, &z1);
    return fma32(index & 1 ? z1 : z0, (float)std, (float)mean);
}

static __device__ inline double fi_normal64(fi_key key, uint64_t index, double mean, double std)
{
    uint64_t word[2];
    fi_draws(key, index & ~(uint64_t)1, 0).read(word);
    double z0, z1;
    normal_pair64(word[0], word[1], &z0, &z1);
    return fma64(index & 1 ? z1 : z0, std, mean);
}

/* Truncated normal, of an interval that the CPU's fi_truncate has made. */
static __device__ inline float fi_truncated_normal32(fi_key key, uint64_t index,
                                                     const fi_truncated *t)
{
    const uint32_t draw = fi_bits32(key, index);
    const interval32 i = interval32_of(t);
    const float mean = (float)t->mean, std = (float)t->std;
    const float x = t->method == FI_TRUNCATED_CENTRAL ? fma32(central32(draw, i), std, mean)
                    : t->method == FI_TRUNCATED_WIDE
                        ? fma32(wide32(draw, i), std, mean)
                        : (float)fma64(hard_of_draw(draw, t), t->std, t->mean);
    return clamp32(x, (float)t->low, (float)t->high);
}

static __device__ inline double fi_truncated_normal64(fi_key key, uint64_t index,
                                                      const fi_truncated *t)
{
    const double z = hard_of_word(fi_bits64(key, index), t);
    return clamp64(fma64(z, t->std, t->mean), t->low, t->high);
}

#endif
