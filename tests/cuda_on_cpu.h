// CUDA C++ as host code: enough of the language for validation/kernels/*.cu, compiled by g++ -O0 -fsanitize=thread.
//
// Blocks run one after another on one thread of the machine; the threads of a block are fibers that change at barriers and
// shuffles (cuda_on_cpu.cpp). Shared arrays are thread_local, which is static within a function and may be `extern`. Every
// access to memory calls a hook of the thread sanitizer, which cuda_on_cpu.cpp takes over to count it; -O0 keeps all of them
// and a float4 in one piece.
#pragma once
#include <math.h>
#include <utility>

#define __global__
#define __device__
#define __constant__ __attribute__((section("constants")))
#define __shared__ thread_local
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __ldg(place) (*(place))

struct dim3 { unsigned x, y, z; };
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

void __syncthreads();
float exchanged(float own, int lane);  // the value that another lane of the warp brings to the same shuffle
int lane_of_warp();
void count_atomic(const void* place, int bytes);

static inline float __shfl_down_sync(unsigned, float value, int distance) {
    const int lane = lane_of_warp();
    return exchanged(value, lane + distance < 32 ? lane + distance : lane);
}
static inline float __shfl_xor_sync(unsigned, float value, int distance) { return exchanged(value, lane_of_warp() ^ distance); }

__attribute__((no_sanitize("thread"))) static inline float atomicAdd(float* place, float value) {
    count_atomic(place, sizeof value);
    const float before = *place;
    *place = before + value;
    return before;
}

#define __expf(x) expf(x)
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

// an entry with its arguments behind pointers, as cuLaunchKernel takes them
template <class... A, size_t... I>
__attribute__((no_sanitize("thread"))) static void call_entry(void (*entry)(A...), void** given, std::index_sequence<I...>) {
    entry(*static_cast<A*>(given[I])...);
}
template <class... A>
static void call_entry(void (*entry)(A...), void** given) {
    call_entry(entry, given, std::index_sequence_for<A...>{});
}
