// Layer normalisation over the rows of an M x N matrix as in row_normalisation.py, fp32, N a multiple of four, blocks of
// (32, B / 32) threads. EACH: a warp keeps a row in registers, EACH vectors of four in each lane. Else STAGED: a block for each
// row, kept in N floats of dynamic shared memory (1), or read twice, with sum and sum of squares in one pass (0).
#if !defined(EACH) && !defined(STAGED)
#error "layer_norm.cu: define EACH (vectors of a lane) for row_layer_norm_warp, or STAGED (0 or 1) for row_layer_norm_block"
#endif

constexpr int LANES = 32, VECTOR = 4;
constexpr float EPSILON = 1e-5f;

#ifdef __HIP__
#define OF_LANE(value, distance) __shfl_xor(value, distance, LANES)
#else
#define OF_LANE(value, distance) __shfl_xor_sync(0xffffffffu, value, distance)
#endif

static __device__ __forceinline__ float sum_of_four(float4 v) { return (v.x + v.y) + (v.z + v.w); }

static __device__ __forceinline__ float squares_of_four(float4 v) { return (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w); }

static __device__ __forceinline__ float4 less(float4 v, float mean) { return {v.x - mean, v.y - mean, v.z - mean, v.w - mean}; }

static __device__ __forceinline__ float4 scaled(float4 v, float by, float4 gamma, float4 beta) {
    return {v.x * by * gamma.x + beta.x, v.y * by * gamma.y + beta.y, v.z * by * gamma.z + beta.z, v.w * by * gamma.w + beta.w};
}

static __device__ __forceinline__ float sum_of_warp(float sum) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) sum += OF_LANE(sum, distance);
    return sum;
}

#ifdef EACH

extern "C" __global__ void row_layer_norm_warp(const float* __restrict__ x, const float* __restrict__ gamma,
                                               const float* __restrict__ beta, float* y, int M, int N) {
    const int row = blockIdx.x * blockDim.y + threadIdx.y, lane = threadIdx.x;
    if (row >= M) return;
    const float4* const source = reinterpret_cast<const float4*>(x + (long long)row * N);
    float4* const target = reinterpret_cast<float4*>(y + (long long)row * N);
    float4 own[EACH];
    float sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int v = e * LANES + lane;
        if (v < N / VECTOR) {
            own[e] = source[v];
            sum += sum_of_four(own[e]);
        }
    }
    const float mean = sum_of_warp(sum) / N;
#pragma unroll
    for (int e = 0; e < EACH; ++e)
        if (e * LANES + lane < N / VECTOR) {
            own[e] = less(own[e], mean);
            squares += squares_of_four(own[e]);
        }
    const float scale = rsqrtf(sum_of_warp(squares) / N + EPSILON);
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        const int v = e * LANES + lane;
        if (v < N / VECTOR) {
            const float4 g = reinterpret_cast<const float4*>(gamma)[v], b = reinterpret_cast<const float4*>(beta)[v];
            const float4 four = scaled(own[e], scale, g, b);
            target[v] = four;
        }
    }
}

#else

extern __shared__ float4 dynamic_shared[];

// of a block: a value of each warp, or two, go through shared memory, and every warp adds them up
#if STAGED
static __device__ __forceinline__ float sum_of_block(float sum, float* partial) {
    sum = sum_of_warp(sum);
    if (threadIdx.x == 0) partial[threadIdx.y] = sum;
    __syncthreads();
    sum = threadIdx.x < blockDim.y ? partial[threadIdx.x] : 0.0f;
    return sum_of_warp(sum);
}
#else
static __device__ __forceinline__ float2 sums_of_block(float2 sums, float2* partial) {
    sums.x = sum_of_warp(sums.x);
    sums.y = sum_of_warp(sums.y);
    if (threadIdx.x == 0) partial[threadIdx.y] = sums;
    __syncthreads();
    const float2 none = {0.0f, 0.0f};
    sums = threadIdx.x < blockDim.y ? partial[threadIdx.x] : none;
    sums.x = sum_of_warp(sums.x);
    sums.y = sum_of_warp(sums.y);
    return sums;
}
#endif

extern "C" __global__ void row_layer_norm_block(const float* __restrict__ x, const float* __restrict__ gamma,
                                                const float* __restrict__ beta, float* y, int M, int N) {
    const int row = blockIdx.x, t = threadIdx.x + LANES * threadIdx.y, threads = LANES * blockDim.y, vectors = N / VECTOR;
    const float4* const source = reinterpret_cast<const float4*>(x + (long long)row * N);
    float4* const target = reinterpret_cast<float4*>(y + (long long)row * N);
    float2 sums = {0.0f, 0.0f};
#if STAGED
    __shared__ float partial_sum[LANES], partial_squares[LANES];
    float4* const staged = dynamic_shared;
#pragma unroll 1
    for (int v = t; v < vectors; v += threads) {
        const float4 four = source[v];
        staged[v] = four;
        sums.x += sum_of_four(four);
    }
    const float mean = sum_of_block(sums.x, partial_sum) / N;
#pragma unroll 1
    for (int v = t; v < vectors; v += threads) {
        const float4 four = staged[v];
        sums.y += squares_of_four(less(four, mean));
    }
    const float scale = rsqrtf(sum_of_block(sums.y, partial_squares) / N + EPSILON);
#else
    __shared__ float2 partial[LANES];
    const float4* const staged = source;
#pragma unroll 1
    for (int v = t; v < vectors; v += threads) {
        const float4 four = source[v];
        sums.x += sum_of_four(four);
        sums.y += squares_of_four(four);
    }
    sums = sums_of_block(sums, partial);
    const float mean = sums.x / N, scale = rsqrtf(sums.y / N - mean * mean + EPSILON);
#endif
#pragma unroll 1
    for (int v = t; v < vectors; v += threads) {
        const float4 g = reinterpret_cast<const float4*>(gamma)[v], b = reinterpret_cast<const float4*>(beta)[v];
        const float4 four = staged[v], result = scaled(less(four, mean), scale, g, b);
        target[v] = result;
    }
}

#endif
