/* The grid of a GPU for a host's compiler: src/fill.cu, run by one thread after the other.
 *
 * It has no barrier and no shared memory, so the order does not matter. */
#define __global__
#define __device__
#define __grid_constant__

struct place_in_grid {
    unsigned x;
};
static thread_local place_in_grid gridDim, blockDim, blockIdx, threadIdx;

#include "fill.cu"

extern "C" void launch(void (*kernel)(fi_device_fill), unsigned blocks, unsigned threads,
                       const fi_device_fill *fill)
{
    gridDim.x = blocks, blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++)
            kernel(*fill);
}

extern "C" size_t size_of_fill(void) { return sizeof(fi_device_fill); }
