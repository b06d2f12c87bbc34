/* A fill of a (possibly strided) array on a GPU, by the text of the CPU's kernels.
 *
 * As in fill.c, element (i0, i1, ...) lies at out + sum i*strides and holds the value of index
 * start + sum i*index_steps; along the last axis, a row, indices are consecutive. The line of
 * indices is cut into segments of `span`, which divides a block. A team of threads makes what a
 * row has of a segment, four elements at a time: the generator is set up once for all of a
 * thread's fours, and neighbouring threads write neighbouring elements. Where another axis has
 * the smaller stride (a transposed matrix, channels last) neighbours take neighbouring rows
 * instead, and a team is one thread.
 *
 * fastinit/cuda/_plan.py chooses; the bits do not depend on what it chooses. There is no shared
 * memory and no barrier, so a host compiler runs the same text (tests/cuda_host.h).
 */
#include "fastinit.cuh"

enum { FOUR = 4 };

/* One fill; fastinit/cuda/_plan.py has the same fields. */
struct fi_device_fill {
    fi_key key;
    uint64_t params[FI_MAX_PARAMS]; /* as fi_kernel takes them */
    char *out;
    uint64_t start;
    uint64_t rows, segments; /* of all rows: of the last axis; and in the longest of them */
    uint32_t span;           /* elements of a segment: 4 times a power of two, at most FI_BLOCK */
    uint32_t team;           /* threads: a power of two, at most a warp */
    uint32_t rows_first;     /* whether neighbouring teams take neighbouring rows */
    uint32_t ndim;           /* at least 1 */
    uint64_t shape[FI_MAX_NDIM], index_steps[FI_MAX_NDIM];
    int64_t strides[FI_MAX_NDIM];
};

/* Four elements where they may be one store, or two. */
template <typename T> struct alignas(sizeof(T) * FOUR < 16 ? sizeof(T) * FOUR : 16) four {
    T x[FOUR];
};

/* The part of a row that is in a segment. */
struct piece {
    char *to;         /* address of the segment's first element, which may be outside the row */
    uint64_t index;   /* its index: a multiple of the span */
    uint32_t begin, end; /* the elements that are the row's, counted from there */
};

static __device__ inline piece piece_of(const fi_device_fill &f, uint64_t item)
{
    uint64_t row = f.rows_first ? item % f.rows : item / f.segments;
    const uint64_t segment = f.rows_first ? item / f.rows : item % f.segments;
    const uint32_t last = f.ndim - 1;
    char *to = f.out;
    uint64_t index = f.start;
    for (uint32_t d = last; d-- > 0; row /= f.shape[d]) {
        const uint64_t at = row % f.shape[d];
        to += (int64_t)at * f.strides[d];
        index += at * f.index_steps[d];
    }
    const uint64_t ahead = index % f.span, first = segment * f.span;
    const uint64_t end = ahead + f.shape[last] - first; /* wraps where the row has no such segment */
    piece p;
    p.to = to + (int64_t)(first - ahead) * f.strides[last];
    p.index = index - ahead + first;
    p.begin = segment == 0 ? (uint32_t)ahead : 0;
    p.end = first >= ahead + f.shape[last] ? 0 : end < f.span ? (uint32_t)end : f.span;
    return p;
}

template <typename T>
static __device__ inline void store(const T (&x)[FOUR], const piece &p, uint32_t at, int64_t stride)
{
    char *to = p.to + (int64_t)at * stride;
    if (stride == (int64_t)sizeof(T) && (uintptr_t)to % alignof(four<T>) == 0 && at >= p.begin &&
        at + FOUR <= p.end) {
        *(four<T> *)to = {{x[0], x[1], x[2], x[3]}};
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < FOUR; i++)
        if (at + i >= p.begin && at + i < p.end)
            *(T *)(to + (int64_t)i * stride) = x[i];
}

/* KIND makes four values of four draws or words, STORED is what becomes of each. */
template <class KIND, class STORED> static __device__ inline void fill(const fi_device_fill &f)
{
    const KIND kind(f.params);
    const uint64_t thread = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const uint64_t teams = (uint64_t)gridDim.x * blockDim.x / f.team, items = f.rows * f.segments;
    const uint32_t member = (uint32_t)thread & (f.team - 1);
    for (uint64_t item = thread / f.team; item < items; item += teams) {
        const piece p = piece_of(f, item);
        uint32_t at = (p.begin / FOUR + member) * FOUR;
        fi_draws draws(f.key, p.index + at, f.team * FOUR);
        for (; at < p.end; at += f.team * FOUR, draws.move()) {
            typename KIND::draw drawn[FOUR];
            typename KIND::value value[FOUR];
            typename STORED::type x[FOUR];
            draws.read(drawn);
            kind.make(drawn, value);
#pragma unroll
            for (int i = 0; i < FOUR; i++)
                x[i] = STORED::of(value[i]);
            store(x, p, at, f.strides[f.ndim - 1]);
        }
    }
}

/* What becomes of a value. */

template <typename T> struct as_it_is {
    typedef T type;
    static __device__ T of(T x) { return x; }
};

typedef as_it_is<float> float32;
typedef as_it_is<double> float64;

#define NARROW(DTYPE, T)                                                                           \
    struct DTYPE {                                                                                 \
        typedef T type;                                                                            \
        static __device__ T of(float x) { return DTYPE##_of(x); }                                  \
    };

NARROW(float16, uint16_t)
NARROW(bfloat16, uint16_t)
NARROW(float8_e4m3fn, uint8_t)
NARROW(float8_e5m2, uint8_t)

/* What is made of draws. */

template <typename T> struct constant {
    typedef uint32_t draw;
    typedef T value;
    T pattern;
    __device__ constant(const uint64_t *params) : pattern((T)params[0]) {}
    __device__ void make(const uint32_t (&)[FOUR], T (&x)[FOUR]) const
    {
        for (int i = 0; i < FOUR; i++)
            x[i] = pattern;
    }
};

template <typename T> struct bits {
    typedef T draw;
    typedef T value;
    __device__ bits(const uint64_t *) {}
    __device__ void make(const T (&drawn)[FOUR], T (&x)[FOUR]) const
    {
        for (int i = 0; i < FOUR; i++)
            x[i] = drawn[i];
    }
};

#define PAIRS(NAME, WIDTH, DRAW, V, PARAMS)                                                        \
    struct NAME##_kind##WIDTH {                                                                           \
        typedef DRAW draw;                                                                         \
        typedef V value;                                                                           \
        affine##WIDTH a;                                                                           \
        __device__ NAME##_kind##WIDTH(const uint64_t *params) : a(PARAMS) {}                              \
        __device__ void make(const DRAW(&drawn)[FOUR], V(&x)[FOUR]) const                          \
        {                                                                                          \
            NAME##_pair##WIDTH(drawn[0], drawn[1], &x[0], &x[1]);                                  \
            NAME##_pair##WIDTH(drawn[2], drawn[3], &x[2], &x[3]);                                  \
            for (int i = 0; i < FOUR; i++)                                                         \
                x[i] = fma##WIDTH(x[i], a.scale, a.shift);                                         \
        }                                                                                          \
    };

#define SINGLES(NAME, DRAW, V, CLAMP, VALUE)                                                       \
    struct NAME {                                                                                  \
        typedef DRAW draw;                                                                         \
        typedef V value;                                                                           \
        const fi_truncated *t;                                                                     \
        interval32 i;                                                                              \
        V low, high, mean, std;                                                                    \
        __device__ NAME(const uint64_t *params) : t((const fi_truncated *)params)                  \
        {                                                                                          \
            i = interval32_of(t);                                                                  \
            low = (V)t->low, high = (V)t->high, mean = (V)t->mean, std = (V)t->std;                \
        }                                                                                          \
        __device__ void make(const DRAW(&drawn)[FOUR], V(&x)[FOUR]) const                          \
        {                                                                                          \
            for (int n = 0; n < FOUR; n++) {                                                       \
                const DRAW d = drawn[n];                                                           \
                x[n] = CLAMP(VALUE, low, high);                                                    \
            }                                                                                      \
        }                                                                                          \
    };

PAIRS(uniform, 32, uint32_t, float, uniform_affine32(params))
PAIRS(uniform, 64, uint64_t, double, uniform_affine64(params))
PAIRS(normal, 32, uint32_t, float, normal_affine32(params))
PAIRS(normal, 64, uint64_t, double, normal_affine64(params))
SINGLES(central_normal, uint32_t, float, clamp32, fma32(central32(d, i), std, mean))
SINGLES(wide_normal, uint32_t, float, clamp32, fma32(wide32(d, i), std, mean))
SINGLES(hard_normal, uint32_t, float, clamp32, (float)fma64(hard_of_draw(d, t), t->std, t->mean))
SINGLES(truncated_normal, uint64_t, double, clamp64, fma64(hard_of_word(d, t), std, mean))

/* The kernels, by the names that fastinit/cuda/_plan.py knows. Where FI_ONLY is one of them, the
 * others have no code: all of them take half a minute to compile. */

#if defined(FI_ONLY)
static __device__ constexpr bool is_wanted(const char *name, const char *only = FI_ONLY)
{
    return *name == *only && (*name == '\0' || is_wanted(name + 1, only + 1));
}
#else
static __device__ constexpr bool is_wanted(const char *) { return true; }
#endif

#define KERNEL(NAME, KIND, STORED)                                                                 \
    extern "C" __global__ void fi_##NAME(const __grid_constant__ fi_device_fill f)                 \
    {                                                                                              \
        if constexpr (is_wanted(#NAME))                                                            \
            fill<KIND, STORED>(f);                                                                 \
    }

#define KERNELS32(NAME, KIND)                                                                      \
    KERNEL(NAME##_float32, KIND, float32)                                                          \
    KERNEL(NAME##_float16, KIND, float16)                                                          \
    KERNEL(NAME##_bfloat16, KIND, bfloat16)                                                        \
    KERNEL(NAME##_float8_e4m3fn, KIND, float8_e4m3fn)                                              \
    KERNEL(NAME##_float8_e5m2, KIND, float8_e5m2)

KERNEL(constant_uint8, constant<uint8_t>, as_it_is<uint8_t>)
KERNEL(constant_uint16, constant<uint16_t>, as_it_is<uint16_t>)
KERNEL(constant_uint32, constant<uint32_t>, as_it_is<uint32_t>)
KERNEL(constant_uint64, constant<uint64_t>, as_it_is<uint64_t>)
KERNEL(bits_uint32, bits<uint32_t>, as_it_is<uint32_t>)
KERNEL(bits_uint64, bits<uint64_t>, as_it_is<uint64_t>)
KERNELS32(uniform, uniform_kind32)
KERNEL(uniform_float64, uniform_kind64, float64)
KERNELS32(normal, normal_kind32)
KERNEL(normal_float64, normal_kind64, float64)
KERNELS32(central, central_normal)
KERNELS32(wide, wide_normal)
KERNELS32(hard, hard_normal)
KERNEL(hard_float64, truncated_normal, float64)
