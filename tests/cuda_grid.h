/* The grid of a GPU for a host's compiler: one thread after the other.
 *
 * For kernels without a barrier and without shared memory, of which the order does not matter. */
#define __global__
#define __device__
#define __grid_constant__

struct place_in_grid {
    unsigned x;
};
static thread_local place_in_grid gridDim, blockDim, blockIdx, threadIdx;

template <typename Call> static void on_grid(unsigned blocks, unsigned threads, Call call)
{
    gridDim.x = blocks, blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++)
            call();
}
