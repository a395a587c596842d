// What one warp's load costs the load/store path of an SM, when every load hits: shared memory or L1.
//
// Lane l reads WIDTH words at word (l >> shift) * stride. stride = WIDTH: neighbouring lanes, the data path is the bound;
// stride = 0: one address for all, only the lanes' addresses are taken; powers of two: bank conflicts; 33 on L1: a line for
// each lane and no conflict, the tag stage is the bound; shift = 1: pairs of lanes read the same address.
// Eight loads at fixed offsets stand in one trip; `step`, 0 at run time, keeps the compiler from
// loading once for all trips. All warps of the block run the same loads, and the block fills the SM.
#if !defined(SHARED) || !defined(WIDTH)
#error "lanes.cu: define SHARED as 0 or 1 and WIDTH as 1, 2 or 4"
#endif
#if WIDTH == 4
typedef uint4 vec;
__device__ __forceinline__ unsigned folded(vec v) { return v.x ^ v.y ^ v.z ^ v.w; }
#elif WIDTH == 2
typedef uint2 vec;
__device__ __forceinline__ unsigned folded(vec v) { return v.x ^ v.y; }
#else
typedef unsigned vec;
__device__ __forceinline__ unsigned folded(vec v) { return v; }
#endif
#define LOADS 8
#define ROW 1040  // bytes: no two loads within reach of one ds_read2 instruction, 16-byte aligned

extern __shared__ __align__(16) unsigned cells[];

extern "C" __global__ void __launch_bounds__(1024)
lanes(const unsigned* __restrict__ source, int words, int stride, int shift, int step, int trips,
      long long* cycles, unsigned* sink) {
    int lane = threadIdx.x % warpSize;
#if SHARED
    for (int i = threadIdx.x; i < words; i += blockDim.x) cells[i] = source[i];
    const char* at = (const char*)(cells + (lane >> shift) * stride);
#else
    const char* at = (const char*)(source + (lane >> shift) * stride);
#endif
    unsigned sum = 0;
    for (int j = 0; j < LOADS; ++j) sum ^= folded(*(const vec*)(at + j * ROW));  // L1 is warm before the clock starts
    __syncthreads();
    long long start = clock64();
#pragma unroll 1
    for (int i = 0; i < trips; ++i) {
#pragma unroll
        for (int j = 0; j < LOADS; ++j) sum ^= folded(*(const vec*)(at + j * ROW));
        at += step;
    }
    __syncthreads();
    if (threadIdx.x == 0) cycles[blockIdx.x] = clock64() - start;
    if (sum == 0x5a5a5a5a) sink[0] = sum;
}
