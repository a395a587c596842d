// Bandwidth of L2 and of memory: blocks that all stay resident sweep a working set in tiles of one 16-byte element a thread.
//
// MODE 0 reads, 1 copies, 2 writes, 3 computes c = a ^ 3b (three streams, as STREAM's triad). Loads bypass L1 (ld.global.cg).
// MODE 4 reads and keeps L1: for one block, whose working set then lies there while it fits.
// `passes` sweeps follow one another with no barrier: block b takes tiles b, b + blocks, b + 2 blocks … of the endless row of
// sweeps. The host keeps `tiles` and the number of blocks free of common factors, so that a tile is read by another SM each
// time: no SM keeps to one part of a partitioned L2, and the working set is what one SM can reach.
// Cycles are those of each block, seconds those of the launch.
#ifndef MODE
#error "stream.cu: define MODE as 0 (read), 1 (copy), 2 (write), 3 (triad) or 4 (read through L1)"
#endif
#define UNROLL 4

__device__ __forceinline__ uint4 load(const uint4* at) {
#ifdef __CUDA_ARCH__
    uint4 v;
#if MODE == 4
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
#else
    asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
#endif
    return v;
#else
    return *at;
#endif
}

__device__ __forceinline__ uint4 fetch(const uint4* a, const uint4* b, long long i) {
#if MODE < 2 || MODE == 4
    return load(a + i);
#elif MODE == 2
    return make_uint4((unsigned)i, 0, 0, 0);
#else
    uint4 v = load(a + i), w = load(b + i);
    return make_uint4(v.x ^ 3 * w.x, v.y ^ 3 * w.y, v.z ^ 3 * w.z, v.w ^ 3 * w.w);
#endif
}

__device__ __forceinline__ unsigned put(uint4* c, long long i, uint4 v) {
#if MODE == 0 || MODE == 4
    return v.x ^ v.y ^ v.z ^ v.w;
#else
    c[i] = v;
    return 0;
#endif
}

extern "C" __global__ void __launch_bounds__(1024)
stream(const uint4* a, const uint4* b, uint4* c, int tiles, int passes, long long* cycles,
       unsigned* sink) {
    int tile = blockIdx.x % tiles, step = gridDim.x % tiles;
    int trips = ((long long)tiles * passes - blockIdx.x + gridDim.x - 1) / gridDim.x;
    unsigned sum = 0;
    __syncthreads();
    long long start = clock64();
    int k = 0;
    for (; k + UNROLL <= trips; k += UNROLL) {
        long long at[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; ++j) {
            at[j] = (long long)tile * blockDim.x + threadIdx.x;
            tile += step;
            if (tile >= tiles) tile -= tiles;
        }
        uint4 v[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; ++j) v[j] = fetch(a, b, at[j]);
#pragma unroll
        for (int j = 0; j < UNROLL; ++j) sum ^= put(c, at[j], v[j]);
    }
    for (; k < trips; ++k) {
        long long at = (long long)tile * blockDim.x + threadIdx.x;
        sum ^= put(c, at, fetch(a, b, at));
        tile += step;
        if (tile >= tiles) tile -= tiles;
    }
    __syncthreads();
    if (threadIdx.x == 0) cycles[blockIdx.x] = clock64() - start;
    if (sum == 0x5a5a5a5a) sink[0] = sum;
}
