// Softmax over the rows of an M x N matrix as in row_normalisation.py, fp32, N a multiple of four, blocks of (32, B / 32)
// threads. EACH: a warp keeps a row in registers, EACH vectors of four in each lane. Else STAGED and ONLINE: a block for each
// row, which STAGED keeps in N floats of dynamic shared memory; ONLINE takes maximum and sum in one pass over it.
#if !defined(EACH) && !(defined(STAGED) && defined(ONLINE))
#error "softmax.cu: define EACH (vectors of a lane) for row_softmax_warp, or STAGED and ONLINE (0 or 1) for row_softmax_block"
#endif

constexpr int LANES = 32, VECTOR = 4;
constexpr float LOWEST = -3.402823466e38f;

#ifdef __HIP__
#define OF_LANE(value, distance) __shfl_xor(value, distance, LANES)
#else
#define OF_LANE(value, distance) __shfl_xor_sync(0xffffffffu, value, distance)
#endif

static __device__ __forceinline__ float maximum_of_four(float4 v) { return fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)); }

static __device__ __forceinline__ float sum_of_four(float4 v) { return (v.x + v.y) + (v.z + v.w); }

static __device__ __forceinline__ float4 scaled(float4 v, float by) { return {v.x * by, v.y * by, v.z * by, v.w * by}; }

static __device__ __forceinline__ float4 exponentials(float4 v, float most) {
    return {__expf(v.x - most), __expf(v.y - most), __expf(v.z - most), __expf(v.w - most)};
}

static __device__ __forceinline__ float maximum_of_warp(float most) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) most = fmaxf(most, OF_LANE(most, distance));
    return most;
}

static __device__ __forceinline__ float sum_of_warp(float sum) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) sum += OF_LANE(sum, distance);
    return sum;
}

#ifdef EACH

extern "C" __global__ void row_softmax_warp(const float* __restrict__ x, float* y, int M, int N) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
    if (row >= M) return;
    const float4* const source = reinterpret_cast<const float4*>(x + (long long)row * N);
    float4* const target = reinterpret_cast<float4*>(y + (long long)row * N);
    float4 own[EACH];
    float most = LOWEST, sum = 0.0f;
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int v = e * LANES + lane;
        if (v < N / VECTOR) {
            own[e] = source[v];
            most = fmaxf(most, maximum_of_four(own[e]));
        }
    }
    most = maximum_of_warp(most);
#pragma unroll
    for (int e = 0; e < EACH; ++e)
        if (e * LANES + lane < N / VECTOR) {
            own[e] = exponentials(own[e], most);
            sum += sum_of_four(own[e]);
        }
    const float scale = 1.0f / sum_of_warp(sum);
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int v = e * LANES + lane;
        if (v < N / VECTOR) {
            const float4 four = scaled(own[e], scale);
            target[v] = four;
        }
    }
}

#else

extern __shared__ float4 dynamic_shared[];

// the same of a block: one value of each warp goes through shared memory, and every warp reduces them
static __device__ __forceinline__ float maximum_of_block(float most) {
    __shared__ float partial_maximum[LANES];
    most = maximum_of_warp(most);
    if (threadIdx.x == 0) partial_maximum[threadIdx.y] = most;
    __syncthreads();
    most = threadIdx.x < blockDim.y ? partial_maximum[threadIdx.x] : LOWEST;
    return maximum_of_warp(most);
}

static __device__ __forceinline__ float sum_of_block(float sum) {
    __shared__ float partial_sum[LANES];
    sum = sum_of_warp(sum);
    if (threadIdx.x == 0) partial_sum[threadIdx.y] = sum;
    __syncthreads();
    sum = threadIdx.x < blockDim.y ? partial_sum[threadIdx.x] : 0.0f;
    return sum_of_warp(sum);
}

extern "C" __global__ void row_softmax_block(const float* __restrict__ x, float* y, int M, int N) {
    const int row = blockIdx.x, t = threadIdx.x + LANES * threadIdx.y, threads = LANES * blockDim.y, vectors = N / VECTOR;
    const float4* const source = reinterpret_cast<const float4*>(x + (long long)row * N);
    float4* const target = reinterpret_cast<float4*>(y + (long long)row * N);
    float4* const staged = dynamic_shared;
    float most = LOWEST, sum = 0.0f;
#pragma unroll 1
    for (int v = t; v < vectors; v += threads) {
        const float4 four = source[v];
        if (STAGED) staged[v] = four;
        const float now = fmaxf(most, maximum_of_four(four));
        if (ONLINE) sum = sum * __expf(most - now) + sum_of_four(exponentials(four, now));
        most = now;
    }
    const float own = most;
    most = maximum_of_block(most);
    if (ONLINE) {
        sum *= __expf(own - most);
    } else {
#pragma unroll 1
        for (int v = t; v < vectors; v += threads) {
            float4 four = STAGED ? staged[v] : source[v];
            four = exponentials(four, most);
            if (STAGED) staged[v] = four;
            sum += sum_of_four(four);
        }
    }
    const float scale = 1.0f / sum_of_block(sum);
#pragma unroll 1
    for (int v = t; v < vectors; v += threads) {
        float4 four = STAGED ? staged[v] : source[v];
        if (!STAGED || ONLINE) four = exponentials(four, most);
        four = scaled(four, scale);
        target[v] = four;
    }
}

#endif
