// Load-to-use latency: one thread follows a random cycle of addresses, so that each load needs the one before.
//
// SHARED 0: memory holds 64-bit addresses, 128 bytes apart or more, so that no load finds its line by a neighbour's fetch.
//   The walk goes on where the last launch ended; `warm` steps ahead of the clock fill L1, which a launch starts with empty.
//   BYPASS 1 leaves L1 out (ld.global.cg), for latencies of L2 and of memory.
// SHARED 1: `table` holds a cycle of byte offsets, which is copied to shared memory first.
// Cycles of the SM's clock, from a register that counts them; the loop's own instructions run in the shadow of the loads (an AMD GPU adds
// the base of shared memory to each offset, so that its latency there holds an addition more).
#if !defined(SHARED) || !defined(BYPASS)
#error "chase.cu: define SHARED and BYPASS as 0 or 1"
#endif
typedef unsigned long long word;

#if SHARED
typedef unsigned address;
extern __shared__ unsigned cells[];
__device__ __forceinline__ address follow(address at) { return *(const unsigned*)((const char*)cells + at); }
#else
typedef word address;
__device__ __forceinline__ address follow(address at) {
#ifdef __CUDA_ARCH__
    word next;
#if BYPASS
    asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(next) : "l"(at));
#else
    asm volatile("ld.global.u64 %0, [%1];" : "=l"(next) : "l"(at));
#endif
    return next;
#else
    return *(const volatile word __attribute__((address_space(1)))*)at;
#endif
}
#endif

extern "C" __global__ void chase(word* position, const unsigned* table, int entries, int warm, int steps, long long* cycles) {
#if SHARED
    for (int i = threadIdx.x; i < entries; i += blockDim.x) cells[i] = table[i];
    __syncthreads();
#endif
    address at = (address)position[0];
    for (int i = 0; i < warm; ++i) at = follow(at);
    long long start = clock64();
#pragma unroll 16
    for (int i = 0; i < steps; ++i) at = follow(at);
    position[0] = at;  // needs the last load
    cycles[0] = clock64() - start;
}
