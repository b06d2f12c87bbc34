/* THE kernels.  Included once per instruction set by a stub that has chosen the
 * compiler's target and defined
 *
 *   FI_TABLE    the name of the table to define
 *   FI_ISA      its name as text
 *   FI_HAS_FMA  whether the target has fused multiply-add
 *   FI_VECTOR   the bytes of its vectors: 16, 32 or 64
 *
 * Each hot loop runs over a fixed number of lanes and does one thing (draw, or compute,
 * or store): GCC vectorises that at -O3.  One lane makes one pair of elements, because
 * the normal makes two at a time; 32 lanes are the pairs of a chunk of 64 elements.
 * Measured: with 16 lanes GCC's AVX-512 code is 3 times slower, with two loops merged
 * it stops vectorising.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "affine.h"
#include "convert.h"
#include "float_mode.h"
#include "fma.h"
#include "internal.h"
#include "normal.h"
#include "orthogonal.h"
#include "pcg.h"
#include "truncated.h"
#include "uniform.h"
#include "vectors.h"

enum { LANES = 32, CHUNK = 2 * LANES, IN_VECTOR = FI_VECTOR / sizeof(uint32_t) };

/* Writes `chunks` chunks of the block g, the first one being its chunk number `chunk`. */
typedef void chunk_writer(void *out, unsigned chunks, pcg32 g, unsigned chunk, const void *params);

/* Cuts a run of indices into blocks, and the run's ragged ends out of whole chunks. */
static inline void run(chunk_writer *write, size_t itemsize, void *out, size_t n, uint64_t start,
                       fi_key key, const void *params)
{
    const fi_float_mode before = enter_float_mode();
    char *to = out;
    while (n > 0) {
        pcg32 g = pcg_of_block(key, start / FI_BLOCK);
        unsigned e = (unsigned)(start % FI_BLOCK), skip = e % CHUNK;
        size_t count = FI_BLOCK - e < n ? FI_BLOCK - e : n;
        if (skip == 0 && count >= CHUNK) {
            count -= count % CHUNK;
            write(to, (unsigned)(count / CHUNK), g, e / CHUNK, params);
        } else {
            FI_ALIGNED uint64_t whole[CHUNK];
            count = count < CHUNK - skip ? count : CHUNK - skip;
            write(whole, 1, g, e / CHUNK, params);
            memcpy(to, (const char *)whole + skip * itemsize, count * itemsize);
        }
        to += count * itemsize;
        start += count;
        n -= count;
    }
    leave_float_mode(before);
}

/* Said in so many words, as GCC inlines less the more there is in a file. */
#define FI_ALWAYS_INLINE __attribute__((always_inline)) static inline

static inline void rotate_lanes(uint32_t x[LANES], const uint32_t r[LANES])
{
#if defined(FI_ROTATE)
    for (int l = 0; l < LANES; l += IN_VECTOR)
        FI_ROTATE(x + l, r + l);
#else
    for (int l = 0; l < LANES; l++)
        x[l] = rotate_right(x[l], r[l]);
#endif
}

/* The halves of 64-bit lanes, in vectors.h's own order. */
static inline void split(const uint64_t whole[LANES], uint32_t high[LANES], uint32_t low[LANES])
{
    for (int l = 0; l < LANES; l += IN_VECTOR) {
        fi_vector a, b, first, second;
        memcpy(&a, whole + l, sizeof a);
        memcpy(&b, whole + l + IN_VECTOR / 2, sizeof b);
        first = FI_SPLIT(a, b, 0);
        second = FI_SPLIT(a, b, 1);
        memcpy((FI_BIG_ENDIAN ? high : low) + l, &first, sizeof first);
        memcpy((FI_BIG_ENDIAN ? low : high) + l, &second, sizeof second);
    }
}

/* Pairs of 32 bits each, in their natural order again. */
static inline void zip(const void *even, const void *odd, void *pairs)
{
    const char *from_even = even, *from_odd = odd;
    char *to = pairs;
    for (int at = 0; at < (int)(LANES * sizeof(uint32_t)); at += FI_VECTOR) {
        fi_vector a, b, first, second;
        memcpy(&a, from_even + at, sizeof a);
        memcpy(&b, from_odd + at, sizeof b);
        first = FI_ZIP(a, b, 0);
        second = FI_ZIP(a, b, 2);
        memcpy(to + 2 * at, &first, sizeof first);
        memcpy(to + 2 * at + FI_VECTOR, &second, sizeof second);
    }
}

FI_ALWAYS_INLINE void output(const uint32_t high[LANES], const uint32_t low[LANES],
                          uint32_t draw[LANES])
{
    FI_ALIGNED uint32_t by[LANES];
    for (int l = 0; l < LANES; l++) {
        draw[l] = pcg_xorshift(high[l], low[l]);
        by[l] = pcg_rotation(high[l]);
    }
    rotate_lanes(draw, by);
}

/* Two ways to hold the generator's states, one for each lane's pair.  `start_lanes` sets them to the
 * first draw of a pair, in chunk number `chunk`; `draw32` makes both draws and goes on to the
 * next chunk. */

#if defined(FI_MULTIPLY_LOW)

/* In halves.  The upper half of a product needs two products of 32 bits modulo 2^32, which are one
 * instruction for twice as many lanes; only the lower halves' product needs 64 bits (measured on
 * AVX2: draws take 0.72 of the time).  Whatever stands above `low` in its 64 bits is not read. */
typedef struct {
    FI_ALIGNED uint64_t low[LANES];
    FI_ALIGNED uint32_t high[LANES];
} lanes;

__attribute__((noinline)) static void start_lanes(lanes *s, pcg32 g, unsigned chunk)
{
    const uint64_t state = pcg_at_chunk(g, chunk);
    const fi_wide_vector zero = {0}, first = zero + state, inc = zero + g.inc;
    FI_ALIGNED uint32_t mul_high[LANES], mul_low[LANES], add_high[LANES], add_low[LANES];
    FI_ALIGNED uint32_t carry[LANES], unused[LANES];
    for (int l = 0; l < LANES; l += IN_VECTOR / 2) {
        fi_wide_vector mul, add, sum;
        memcpy(&mul, pcg_mul + l, sizeof mul);
        memcpy(&add, pcg_add + l, sizeof add);
        sum = FI_MULTIPLY_LOW(first, mul) + FI_MULTIPLY_LOW(inc, add);
        memcpy(s->low + l, &sum, sizeof sum);
    }
    split(s->low, carry, unused);
    split(pcg_mul, mul_high, mul_low);
    split(pcg_add, add_high, add_low);
    for (int l = 0; l < LANES; l++)
        s->high[l] = carry[l] + (uint32_t)state * mul_high[l] +
                     (uint32_t)(state >> 32) * mul_low[l] + (uint32_t)g.inc * add_high[l] +
                     (uint32_t)(g.inc >> 32) * add_low[l];
}

/* low * multiplier + inc: a state's lower half, and above it what it carries to the upper half. */
static inline void step_low(const uint64_t low[LANES], uint64_t multiplier, uint64_t inc,
                            uint64_t to[LANES])
{
    for (int l = 0; l < LANES; l += IN_VECTOR / 2) {
        fi_wide_vector a, zero = {0};
        memcpy(&a, low + l, sizeof a);
        a = FI_MULTIPLY_LOW(a, zero + multiplier) + inc;
        memcpy(to + l, &a, sizeof a);
    }
}

static inline void step_high(const uint32_t high[LANES], const uint32_t low[LANES],
                             uint64_t multiplier, const uint32_t carry[LANES], uint32_t to[LANES])
{
    for (int l = 0; l < LANES; l++)
        to[l] = carry[l] + low[l] * (uint32_t)(multiplier >> 32) + high[l] * (uint32_t)multiplier;
}

FI_ALWAYS_INLINE void draw32(lanes *s, uint64_t inc, uint32_t even[LANES], uint32_t odd[LANES])
{
    FI_ALIGNED uint64_t next[LANES];
    FI_ALIGNED uint32_t low[LANES], next_low[LANES], next_high[LANES], carry[LANES], unused[LANES];
    split(s->low, unused, low);
    output(s->high, low, even);
    step_low(s->low, PCG_MULTIPLIER, inc, next);
    step_low(s->low, PCG_MUL_64, inc * PCG_ADD_64, s->low);
    split(next, carry, next_low);
    step_high(s->high, low, PCG_MULTIPLIER, carry, next_high);
    output(next_high, next_low, odd);
    split(s->low, carry, unused);
    step_high(s->high, low, PCG_MUL_64, carry, s->high);
}

#else

typedef struct {
    FI_ALIGNED uint64_t state[LANES];
} lanes;

__attribute__((noinline)) static void start_lanes(lanes *s, pcg32 g, unsigned chunk)
{
    const uint64_t first = pcg_at_chunk(g, chunk);
    for (int l = 0; l < LANES; l++)
        s->state[l] = first * pcg_mul[l] + g.inc * pcg_add[l];
}

FI_ALWAYS_INLINE void split_output(const uint64_t state[LANES], uint32_t draw[LANES])
{
    FI_ALIGNED uint32_t high[LANES], low[LANES];
    split(state, high, low);
    output(high, low, draw);
}

FI_ALWAYS_INLINE void draw32(lanes *s, uint64_t inc, uint32_t even[LANES], uint32_t odd[LANES])
{
    const uint64_t step = inc * PCG_ADD_64;
    FI_ALIGNED uint64_t next[LANES];
    split_output(s->state, even);
    for (int l = 0; l < LANES; l++) {
        next[l] = s->state[l] * PCG_MULTIPLIER + inc;
        s->state[l] = s->state[l] * PCG_MUL_64 + step;
    }
    split_output(next, odd);
}

#endif

/* The same in a function of its own, for kernels that have too few registers for it and for the rest
 * (measured on AVX2: 0.93 of a truncated normal's time); with 32 registers none has.  `restrict` says
 * what a compiler could not see: else it also makes code for arrays that overlap, and asks at each call
 * (measured: with it a float64 normal takes 0.96 of the time). */
#if FI_VECTOR == 64
#define draw32_apart draw32
#else
__attribute__((noinline)) static void draw32_apart(lanes *restrict s, uint64_t inc,
                                                   uint32_t even[restrict LANES],
                                                   uint32_t odd[restrict LANES])
{
    draw32(s, inc, even, odd);
}
#endif

FI_ALWAYS_INLINE void draw64(lanes *high, lanes *low, uint64_t inc, uint64_t even[LANES],
                          uint64_t odd[LANES])
{
    FI_ALIGNED uint32_t high_even[LANES], high_odd[LANES], low_even[LANES], low_odd[LANES];
    draw32_apart(high, inc, high_even, high_odd);
    draw32_apart(low, inc, low_even, low_odd);
    zip(FI_BIG_ENDIAN ? high_even : low_even, FI_BIG_ENDIAN ? low_even : high_even, even);
    zip(FI_BIG_ENDIAN ? high_odd : low_odd, FI_BIG_ENDIAN ? low_odd : high_odd, odd);
}

/* Once a block, and not in the code of its chunks, where GCC would weave it in. */
#define AFFINE(NAME, WIDTH)                                                                        \
    __attribute__((noinline)) static affine##WIDTH NAME##_block##WIDTH(const void *params)         \
    {                                                                                              \
        return NAME##_affine##WIDTH(params);                                                       \
    }

AFFINE(uniform, 32)
AFFINE(uniform, 64)
AFFINE(integer, 32)
AFFINE(normal, 32)
AFFINE(normal, 64)

/* A kernel is: draws, a distribution, and what is stored, chunk by chunk; and the run over them. */

#define CHUNKS(NAME, T, START, DRAW, FILL)                                                         \
    static void NAME##_chunks(void *out, unsigned chunks, pcg32 g, unsigned chunk,                 \
                              const void *params)                                                  \
    {                                                                                              \
        T *restrict to = out;                                                                      \
        START;                                                                                     \
        for (; chunks > 0; chunks--, to += CHUNK) {                                                \
            DRAW;                                                                                  \
            FILL;                                                                                  \
        }                                                                                          \
        (void)params;                                                                              \
    }

#define RUN(NAME, T)                                                                               \
    static void NAME(void *out, size_t n, uint64_t start, fi_key key, const void *params)          \
    {                                                                                              \
        run(NAME##_chunks, sizeof(T), out, n, start, key, params);                                 \
    }


#define START32                                                                                    \
    lanes s;                                                                                       \
    start_lanes(&s, g, chunk)

#define DRAW32                                                                                     \
    FI_ALIGNED uint32_t even[LANES], odd[LANES];                                                   \
    draw32(&s, g.inc, even, odd)

#define DRAW32_APART                                                                               \
    FI_ALIGNED uint32_t even[LANES], odd[LANES];                                                   \
    draw32_apart(&s, g.inc, even, odd)

#define START64                                                                                    \
    lanes high, low;                                                                               \
    start_lanes(&high, g, chunk);                                                                  \
    start_lanes(&low, g, FI_BLOCK / CHUNK + chunk)

#define DRAW64                                                                                     \
    FI_ALIGNED uint64_t even[LANES], odd[LANES];                                                   \
    draw64(&high, &low, g.inc, even, odd)

/* Kernels between these two are computed in the order of their text.  GCC puts an expression to where
 * it is used, which in these few asks for more registers than AVX2 has (measured: a float64 normal
 * takes 0.96 of the time without, a bfloat16 one 0.98; raw draws and float16 would take more). */
#if FI_VECTOR == 32 && !defined(__clang__)
#define FI_IN_PLACE_BEGIN                                                                          \
    _Pragma("GCC push_options") _Pragma("GCC optimize(\"no-tree-ter\")")
#define FI_IN_PLACE_END _Pragma("GCC pop_options")
#else
#define FI_IN_PLACE_BEGIN
#define FI_IN_PLACE_END
#endif

/* Lanes of V that are computed in turns. All 32 doubles are eight vectors of AVX2, for which there are
 * too few registers, and of which GCC makes a loop of one: four take 0.93 of the time (measured). */
#define TOGETHER(V) (FI_VECTOR == 32 && sizeof(V) == sizeof(double) ? LANES / 2 : LANES)

#define FILL_PAIRS(V, PAIR, VALUE, STORE)                                                          \
    FI_ALIGNED V x0[LANES], x1[LANES];                                                             \
    _Pragma("GCC unroll 1") for (int i = 0; i < LANES; i += TOGETHER(V))                           \
    {                                                                                              \
        FI_IN_TURNS for (int l = i; l < i + TOGETHER(V); l++)                                      \
            PAIR(even[l], odd[l], &x0[l], &x1[l]);                                                 \
        for (int l = i; l < i + TOGETHER(V); l++) {                                                \
            x0[l] = VALUE(x0[l]);                                                                  \
            x1[l] = VALUE(x1[l]);                                                                  \
        }                                                                                          \
    }                                                                                              \
    STORE(x0, x1, to)

#define AFFINE32(x) fma32(x, a.scale, a.shift)
#define AFFINE64(x) fma64(x, a.scale, a.shift)

/* The 32-bit types are stored by `zip`; 64-bit ones already are in their natural order. */
#define STORE64(T)                                                                                 \
    static inline void store_##T(const T x0[LANES], const T x1[LANES], T to[CHUNK])                \
    {                                                                                              \
        for (int l = 0; l < LANES; l++) {                                                          \
            to[2 * l] = x0[l];                                                                     \
            to[2 * l + 1] = x1[l];                                                                 \
        }                                                                                          \
    }

STORE64(double)
STORE64(uint64_t)

#define STORE_NARROW(DTYPE, T)                                                                     \
    static inline void store_##DTYPE(const float x0[LANES], const float x1[LANES], T to[CHUNK])    \
    {                                                                                              \
        FI_ALIGNED float x[CHUNK];                                                                 \
        zip(x0, x1, x);                                                                            \
        FI_IN_MEMORY(x);                                                                           \
        for (int i = 0; i < CHUNK; i++)                                                            \
            to[i] = DTYPE##_of(x[i]);                                                              \
    }

STORE_NARROW(float16, uint16_t)
STORE_NARROW(float8_e4m3fn, uint8_t)
STORE_NARROW(float8_e5m2, uint8_t)

/* bfloat16 is a shift of float32: a pair makes 32 bits where it is (measured: 2 % less than by
 * STORE_NARROW on AVX-512, 7 % on AVX2). */
static inline void store_bfloat16(const float x0[LANES], const float x1[LANES], uint16_t to[CHUNK])
{
    FI_ALIGNED uint32_t pair[LANES];
    for (int l = 0; l < LANES; l++) {
        uint32_t first = bfloat16_of(x0[l]), second = bfloat16_of(x1[l]);
        pair[l] = FI_BIG_ENDIAN ? first << 16 | second : second << 16 | first;
    }
    for (int l = 0; l < LANES; l += IN_VECTOR) {
        fi_wide_vector a;
        memcpy(&a, pair + l, sizeof a);
        a = FI_NATURAL(a);
        memcpy(to + 2 * l, &a, sizeof a);
    }
}

#define FLOAT32_CHUNKS(NAME, DTYPE, T, STORE)                                                      \
    CHUNKS(NAME##_##DTYPE, T, START32; affine32 a = NAME##_block32(params), DRAW32,                 \
           FILL_PAIRS(float, NAME##_pair32, AFFINE32, STORE))

#define FLOAT32_KERNEL(NAME, DTYPE, T, STORE)                                                      \
    FLOAT32_CHUNKS(NAME, DTYPE, T, STORE)                                                          \
    RUN(NAME##_##DTYPE, T)

#if defined(FI_BFLOAT16_32)

static inline void convert_bfloat16(const float x0[LANES], const float x1[LANES],
                                    uint16_t to[CHUNK])
{
    FI_ALIGNED float x[CHUNK];
    zip(x0, x1, x);
    for (int i = 0; i < CHUNK; i += 32)
        FI_BFLOAT16_32(to + i, x + i);
}

/* The instruction takes numbers below 2^-126 for 0.  No x * scale + shift is one of them: x is
 * made of 2^-66, so the product, if scale is not less than 2^-30, of 2^-119; and a shift from
 * 2^-103 on is made of 2^-126. */
static inline int never_subnormal(affine32 a)
{
    float scale = __builtin_fabsf(a.scale), shift = __builtin_fabsf(a.shift);
    return scale >= 0x1p-30f && (shift == 0 || shift >= 0x1p-103f);
}

#define BFLOAT16_KERNEL(NAME)                                                                      \
    FLOAT32_CHUNKS(NAME, bfloat16_in_general, uint16_t, store_bfloat16)                            \
    FLOAT32_CHUNKS(NAME, bfloat16_by_instruction, uint16_t, convert_bfloat16)                      \
    static void NAME##_bfloat16_chunks(void *out, unsigned chunks, pcg32 g, unsigned chunk,        \
                                       const void *params)                                         \
    {                                                                                              \
        chunk_writer *way = never_subnormal(NAME##_block32(params))                                \
                                ? NAME##_bfloat16_by_instruction_chunks                            \
                                : NAME##_bfloat16_in_general_chunks;                               \
        way(out, chunks, g, chunk, params);                                                        \
    }                                                                                              \
    RUN(NAME##_bfloat16, uint16_t)

#else
#define BFLOAT16_KERNEL(NAME)                                                                      \
    FI_IN_PLACE_BEGIN                                                                              \
    FLOAT32_KERNEL(NAME, bfloat16, uint16_t, store_bfloat16)                                       \
    FI_IN_PLACE_END
#endif

#define FLOAT_KERNELS(NAME)                                                                        \
    FLOAT32_KERNEL(NAME, float16, uint16_t, store_float16)                                         \
    BFLOAT16_KERNEL(NAME)                                                                          \
    FLOAT32_KERNEL(NAME, float8_e4m3fn, uint8_t, store_float8_e4m3fn)                              \
    FLOAT32_KERNEL(NAME, float8_e5m2, uint8_t, store_float8_e5m2)                                  \
    FI_IN_PLACE_BEGIN                                                                              \
    CHUNKS(NAME##_float64, double, START64; affine64 a = NAME##_block64(params), DRAW64,           \
           FILL_PAIRS(double, NAME##_pair64, AFFINE64, store_double))                              \
    FI_IN_PLACE_END                                                                                \
    RUN(NAME##_float64, double)

CHUNKS(bits_uint32, uint32_t, START32, DRAW32, zip(even, odd, to))
RUN(bits_uint32, uint32_t)
CHUNKS(bits_uint64, uint64_t, START64, DRAW64, store_uint64_t(even, odd, to))
RUN(bits_uint64, uint64_t)

CHUNKS(uniform_float32_in_general, float, START32; affine32 a = uniform_block32(params), DRAW32,
       FILL_PAIRS(float, uniform_pair32, AFFINE32, zip))
FLOAT32_CHUNKS(integer, float32, float, zip)

/* The scale over 2^24 is exact, unless it is tiny (measured on AVX2: 5 % of a uniform). */
static void uniform_float32_chunks(void *out, unsigned chunks, pcg32 g, unsigned chunk,
                                   const void *params)
{
    const float scale = uniform_block32(params).scale;
    chunk_writer *way = scale == 0 || scale >= 0x1p-100f ? integer_float32_chunks
                                                         : uniform_float32_in_general_chunks;
    way(out, chunks, g, chunk, params);
}

RUN(uniform_float32, float)
FLOAT_KERNELS(uniform)
FLOAT32_KERNEL(normal, float32, float, zip)
FLOAT_KERNELS(normal)

/* The truncated normal: four ways for the 32-bit types, two for float64, chosen by interval.c. */

#define INTERVAL                                                                                   \
    const fi_truncated *t = params;                                                                \
    const interval32 i = interval32_of(t);                                                         \
    const float low = (float)t->low, high = (float)t->high;                                        \
    const float mean = (float)t->mean, std = (float)t->std

#define EASY(METHOD, d) clamp32(fma32(METHOD##32(d, i), std, mean), low, high)

#define FILL_EASY(METHOD, STORE)                                                                   \
    FI_ALIGNED float x0[LANES], x1[LANES];                                                         \
    FI_IN_TURNS for (int l = 0; l < LANES; l++) {                                                  \
        x0[l] = EASY(METHOD, even[l]);                                                             \
        x1[l] = EASY(METHOD, odd[l]);                                                              \
    }                                                                                              \
    STORE(x0, x1, to)

/* In float64, each in a function of its own, as there is more of it than of all the rest.  By halves: of
 * AVX2 that is four vectors, and all eight in turns would need far more registers than there are. */
#define HARD_VALUES(METHOD, UNIT, D, V)                                                            \
    __attribute__((noinline)) static void METHOD##_of_##UNIT##s(                                   \
        const D unit[restrict LANES], const fi_truncated *t, V x[restrict LANES])                  \
    {                                                                                              \
        const fi_truncated interval = *t;                                                          \
        for (int first = 0; first < LANES; first += LANES / 2)                                     \
            FI_IN_TURNS for (int l = first; l < first + LANES / 2; l++)                            \
                x[l] = METHOD##_of_##UNIT(unit[l], &interval);                                     \
    }

HARD_VALUES(body, draw, uint32_t, float)
HARD_VALUES(body, word, uint64_t, double)
HARD_VALUES(far, draw, uint32_t, float)
HARD_VALUES(far, word, uint64_t, double)
HARD_VALUES(near, word, uint64_t, double)

#define FILL_HARD(METHOD, UNIT, V, STORE)                                                          \
    FI_ALIGNED V x0[LANES], x1[LANES];                                                             \
    METHOD##_of_##UNIT##s(even, params, x0);                                                       \
    METHOD##_of_##UNIT##s(odd, params, x1);                                                        \
    STORE(x0, x1, to)

#define TRUNCATED_KERNEL(DTYPE, T, STORE)                                                          \
    CHUNKS(central_##DTYPE, T, START32; INTERVAL, DRAW32_APART, FILL_EASY(central, STORE))         \
    CHUNKS(wide_##DTYPE, T, START32; INTERVAL, DRAW32_APART, FILL_EASY(wide, STORE))               \
    CHUNKS(body_##DTYPE, T, START32, DRAW32, FILL_HARD(body, draw, float, STORE))                  \
    CHUNKS(far_##DTYPE, T, START32, DRAW32, FILL_HARD(far, draw, float, STORE))                    \
    static void truncated_##DTYPE##_chunks(void *out, unsigned chunks, pcg32 g, unsigned chunk,    \
                                           const void *params)                                     \
    {                                                                                              \
        const fi_truncated *t = params;                                                            \
        chunk_writer *way = t->method == FI_TRUNCATED_CENTRAL ? central_##DTYPE##_chunks           \
                            : t->method == FI_TRUNCATED_WIDE  ? wide_##DTYPE##_chunks              \
                            : t->method == FI_TRUNCATED_BODY  ? body_##DTYPE##_chunks              \
                                                              : far_##DTYPE##_chunks;              \
        way(out, chunks, g, chunk, params);                                                        \
    }                                                                                              \
    RUN(truncated_##DTYPE, T)

FI_IN_PLACE_BEGIN
TRUNCATED_KERNEL(float32, float, zip)
FI_IN_PLACE_END
TRUNCATED_KERNEL(float16, uint16_t, store_float16)
TRUNCATED_KERNEL(bfloat16, uint16_t, store_bfloat16)
TRUNCATED_KERNEL(float8_e4m3fn, uint8_t, store_float8_e4m3fn)
TRUNCATED_KERNEL(float8_e5m2, uint8_t, store_float8_e5m2)

CHUNKS(body_float64, double, START64, DRAW64, FILL_HARD(body, word, double, store_double))
CHUNKS(near_float64, double, START64, DRAW64, FILL_HARD(near, word, double, store_double))
CHUNKS(far_float64, double, START64, DRAW64, FILL_HARD(far, word, double, store_double))

static void truncated_float64_chunks(void *out, unsigned chunks, pcg32 g, unsigned chunk,
                                     const void *params)
{
    const fi_truncated *t = params;
    const int near = t->p_low >= 0x1p-34 && t->q_high >= 0x1p-34; /* exp(-25) is 2^-36 */
    chunk_writer *way = t->method == FI_TRUNCATED_FAR ? far_float64_chunks
                        : near                        ? near_float64_chunks
                                                      : body_float64_chunks;
    way(out, chunks, g, chunk, params);
}

RUN(truncated_float64, double)

#define CONSTANT_KERNEL(T)                                                                         \
    static void constant_##T(void *out, size_t n, uint64_t start, fi_key key, const void *params)  \
    {                                                                                              \
        T *restrict to = out, pattern = (T) * (const uint64_t *)params;                            \
        for (size_t i = 0; i < n; i++)                                                             \
            to[i] = pattern;                                                                       \
        (void)start, (void)key;                                                                    \
    }

CONSTANT_KERNEL(uint8_t)
CONSTANT_KERNEL(uint16_t)
CONSTANT_KERNEL(uint32_t)
CONSTANT_KERNEL(uint64_t)

/* Orthogonal matrices: tiles of as many sums as there are registers for, beside those of the
 * factors (measured: 6 x 16 of float32 on AVX2 reach 0.8 of what its multiply-adds could do). */
#if FI_VECTOR == 64
enum { FI_TILE_HEIGHT = 8, FI_TILE_VECTORS = 3 };
#elif defined(__aarch64__)
enum { FI_TILE_HEIGHT = 8, FI_TILE_VECTORS = 3 };
#else
enum { FI_TILE_HEIGHT = 6, FI_TILE_VECTORS = 2 };
#endif
enum { FI_SEGMENT = 96 }; /* rows of a chain of sums: part of the stream */
#define FI_UNROLL _Pragma("GCC unroll 8")

#define REAL float
#define FMA FI_FMA_float
#define NORMAL normal_float32
#include "orthogonal.inc.h"

#define REAL double
#define FMA FI_FMA_double
#define NORMAL normal_float64
#include "orthogonal.inc.h"

static int orthogonal(const fi_orthogonal *matrix, int threads, fi_poll *poll, void *context)
{
    static const fi_reflect *const reflect[] = {&reflections_float, &reflections_double};
    return fi_orthogonal_fill(matrix, reflect, threads, poll, context);
}

#define FLOAT_ROW(NAME)                                                                            \
    {[FI_FLOAT32] = NAME##_float32,                                                                \
     [FI_FLOAT64] = NAME##_float64,                                                                \
     [FI_FLOAT16] = NAME##_float16,                                                                \
     [FI_BFLOAT16] = NAME##_bfloat16,                                                              \
     [FI_FLOAT8_E4M3FN] = NAME##_float8_e4m3fn,                                                    \
     [FI_FLOAT8_E5M2] = NAME##_float8_e5m2}

const fi_table FI_TABLE = {
    .abi = FI_ABI,
    .stream = FI_STREAM,
    .isa = FI_ISA,
    .kernel =
        {
            [FI_CONSTANT] = {[FI_UINT8] = constant_uint8_t,
                             [FI_UINT16] = constant_uint16_t,
                             [FI_UINT32] = constant_uint32_t,
                             [FI_UINT64] = constant_uint64_t},
            [FI_BITS] = {[FI_UINT32] = bits_uint32, [FI_UINT64] = bits_uint64},
            [FI_UNIFORM] = FLOAT_ROW(uniform),
            [FI_NORMAL] = FLOAT_ROW(normal),
            [FI_TRUNCATED_NORMAL] = FLOAT_ROW(truncated),
        },
    .fill = fi_fill,
    .truncate = fi_truncate,
    .orthogonal = orthogonal,
};
