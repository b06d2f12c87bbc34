/* src/fill.cu and fastinit.cuh for a host's compiler. */
#include "cuda_grid.h"

#include "fill.cu"

extern "C" void launch(void (*kernel)(fi_device_fill), unsigned blocks, unsigned threads,
                       const fi_device_fill *fill)
{
    on_grid(blocks, threads, [=] { kernel(*fill); });
}

extern "C" size_t size_of_fill(void) { return sizeof(fi_device_fill); }

/* The functions of fastinit.cuh, for n indices from `start` on. */
#define VALUES(NAME, T, VALUE)                                                                     \
    extern "C" void NAME(T *out, uint64_t n, uint64_t start, const fi_key *key, const double *p,   \
                         const fi_truncated *t)                                                    \
    {                                                                                              \
        for (uint64_t i = 0; i < n; i++)                                                           \
            out[i] = VALUE;                                                                        \
        (void)p, (void)t;                                                                          \
    }

VALUES(bits_uint32, uint32_t, fi_bits32(*key, start + i))
VALUES(bits_uint64, uint64_t, fi_bits64(*key, start + i))
VALUES(uniform_float32, float, fi_uniform32(*key, start + i, p[0], p[1]))
VALUES(uniform_float64, double, fi_uniform64(*key, start + i, p[0], p[1]))
VALUES(normal_float32, float, fi_normal32(*key, start + i, p[0], p[1]))
VALUES(normal_float64, double, fi_normal64(*key, start + i, p[0], p[1]))
VALUES(truncated_normal_float32, float, fi_truncated_normal32(*key, start + i, t))
VALUES(truncated_normal_float64, double, fi_truncated_normal64(*key, start + i, t))

/* The example of examples/cuda. */
#include FI_EXAMPLE

extern "C" void run_dropout(float *x, uint64_t n, const fi_key *key, float rate)
{
    on_grid(3, 32, [=] { dropout(x, n, key->k0, key->k1, rate); });
}
