// The kernels of reduction.py: the reduction ladder, and sums of the rows of a matrix, fp32.
// Blocks of B threads (a power of two on the ladder), (32, B / 32) where warps exchange; on the ladder B floats of dynamic
// shared memory. B is taken from the launch, so that the trees stay loops.
constexpr int LANES = 32, VECTOR = 4;

extern __shared__ float4 dynamic_shared[];

#ifdef __HIP__
#define OF_LANE_BELOW(value, distance) __shfl_down(value, distance, LANES)
#else
#define OF_LANE_BELOW(value, distance) __shfl_down_sync(0xffffffffu, value, distance)
#endif

static __device__ __forceinline__ float sum_of_warp(float sum) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) sum += OF_LANE_BELOW(sum, distance);
    return sum;  // in lane 0
}

static __device__ __forceinline__ float sum_of_block(float sum) {
    __shared__ float partial[LANES];
    const int lane = threadIdx.x, warp = threadIdx.y;
    sum = sum_of_warp(sum);
    if (lane == 0) partial[warp] = sum;
    __syncthreads();
    if (warp == 0) {
        sum = lane < (int)blockDim.y ? partial[lane] : 0.0f;
        sum = sum_of_warp(sum);
    }
    return sum;  // in thread 0
}

static __device__ __forceinline__ float sum_of_vectors(const float* __restrict__ a, int first, int vectors, int stride) {
    float sum = 0.0f;
#pragma unroll 1
    for (int v = first; v < vectors; v += stride) {
        const float4 four = reinterpret_cast<const float4*>(a)[v];
        sum += (four.x + four.y) + (four.z + four.w);
    }
    return sum;
}

extern "C" __global__ void reduce_interleaved(const float* __restrict__ a, float* partial, int N) {
    float* const sums = reinterpret_cast<float*>(dynamic_shared);
    const unsigned t = threadIdx.x;
    const int i = blockIdx.x * blockDim.x + t;
    sums[t] = i < N ? a[i] : 0.0f;
    __syncthreads();
    for (unsigned step = 1; step < blockDim.x; step *= 2) {
        if (t % (2 * step) == 0) sums[t] += sums[t + step];
        __syncthreads();
    }
    if (t == 0) partial[blockIdx.x] = sums[0];
}

extern "C" __global__ void reduce_strided(const float* __restrict__ a, float* partial, int N) {
    float* const sums = reinterpret_cast<float*>(dynamic_shared);
    const unsigned t = threadIdx.x;
    const int i = blockIdx.x * blockDim.x + t;
    sums[t] = i < N ? a[i] : 0.0f;
    __syncthreads();
    for (unsigned step = 1; step < blockDim.x; step *= 2) {
        const unsigned to = 2 * step * t;
        if (to < blockDim.x) sums[to] += sums[to + step];
        __syncthreads();
    }
    if (t == 0) partial[blockIdx.x] = sums[0];
}

extern "C" __global__ void reduce_sequential(const float* __restrict__ a, float* partial, int N) {
    float* const sums = reinterpret_cast<float*>(dynamic_shared);
    const unsigned t = threadIdx.x;
    const int i = blockIdx.x * blockDim.x + t;
    sums[t] = i < N ? a[i] : 0.0f;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) sums[t] += sums[t + half];
        __syncthreads();
    }
    if (t == 0) partial[blockIdx.x] = sums[0];
}

static __device__ __forceinline__ float sum_of_two(const float* __restrict__ a, int N) {
    const int i = blockIdx.x * (blockDim.x * 2) + threadIdx.x;
    float sum = 0.0f;
    if (i < N) sum += a[i];
    if (i + (int)blockDim.x < N) sum += a[i + blockDim.x];
    return sum;
}

extern "C" __global__ void reduce_first_add(const float* __restrict__ a, float* partial, int N) {
    float* const sums = reinterpret_cast<float*>(dynamic_shared);
    const unsigned t = threadIdx.x;
    float sum = sum_of_two(a, N);
    sums[t] = sum;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) sums[t] = sum = sum + sums[t + half];
        __syncthreads();
    }
    if (t == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void reduce_shuffle(const float* __restrict__ a, float* partial, int N) {
    float* const sums = reinterpret_cast<float*>(dynamic_shared);
    const unsigned t = threadIdx.x;
    float sum = sum_of_two(a, N);
    sums[t] = sum;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > LANES; half /= 2) {
        if (t < half) sums[t] = sum = sum + sums[t + half];
        __syncthreads();
    }
    if (t < LANES) {
        sum += sums[t + LANES];
        sum = sum_of_warp(sum);
    }
    if (t == 0) partial[blockIdx.x] = sum;
}

extern "C" __global__ void reduce_grid_stride(const float* __restrict__ a, float* total, int N) {
    const int threads = blockDim.x * blockDim.y, t = threadIdx.x + threadIdx.y * LANES;
    float sum = sum_of_vectors(a, blockIdx.x * threads + t, N / VECTOR, gridDim.x * threads);
    sum = sum_of_block(sum);
    if (t == 0) atomicAdd(total, sum);
}

extern "C" __global__ void row_sum_block(const float* __restrict__ a, float* s, int M, int N) {
    const int row = blockIdx.x, t = threadIdx.x + threadIdx.y * LANES;
    float sum = sum_of_vectors(a + (long long)row * N, t, N / VECTOR, blockDim.x * blockDim.y);
    sum = sum_of_block(sum);
    if (t == 0) s[row] = sum;
}

extern "C" __global__ void row_sum_warp(const float* __restrict__ a, float* s, int M, int N) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
    if (row < M) {
        float sum = sum_of_vectors(a + (long long)row * N, lane, N / VECTOR, LANES);
        sum = sum_of_warp(sum);
        if (lane == 0) s[row] = sum;
    }
}
