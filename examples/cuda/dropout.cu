/* Dropout whose mask is never stored: each thread draws its own element's uniform.
 *
 *     nvcc --fmad=false -c -I$(python -c "import fastinit; print(fastinit.get_include())") dropout.cu
 *
 * The values are those of fastinit.uniform with the same key, on any machine; so the backward pass
 * draws the mask again, and a test on a CPU knows it. The key is `fastinit.default_rng(seed).key`. */
#include "fastinit.cuh"

extern "C" __global__ void dropout(float *x, uint64_t n, uint64_t k0, uint64_t k1, float rate)
{
    const fi_key key = {k0, k1};
    const uint64_t threads = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += threads)
        x[i] = fi_uniform32(key, i, 0.0, 1.0) < rate ? 0.0f : x[i] / (1.0f - rate);
}
