// The transpose ladder of streaming.py: target[x, y] = source[y, x] of an N x N matrix, fp32.
// Grid (N / T, N / T), block (T, R): a block moves a T x T tile, a thread T / R elements of it.
#if !defined(T) || !defined(R)
#error "transpose.cu: define T (edge of a tile) and R (rows of threads), such as -DT=32 -DR=8"
#endif

extern "C" __global__ void transpose_naive(const float* __restrict__ source, float* target, int N) {
    const int column = blockIdx.x * T + threadIdx.x;
#pragma unroll
    for (int j = 0; j < T; j += R) {
        const int row = blockIdx.y * T + threadIdx.y + j;
        target[column * N + row] = source[row * N + column];
    }
}

template <int PAD>
static __device__ __forceinline__ void through_shared(const float* __restrict__ source, float* target, int N) {
    __shared__ float tile[T][T + PAD];
    const int left = blockIdx.x * T, top = blockIdx.y * T, x = threadIdx.x;
#pragma unroll
    for (int j = 0; j < T; j += R) {
        const int y = threadIdx.y + j;
        tile[y][x] = source[(top + y) * N + left + x];
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < T; j += R) {
        const int y = threadIdx.y + j;
        target[(left + y) * N + top + x] = tile[x][y];
    }
}

extern "C" __global__ void transpose_shared(const float* __restrict__ source, float* target, int N) {
    through_shared<0>(source, target, N);
}

extern "C" __global__ void transpose_padded(const float* __restrict__ source, float* target, int N) {
    through_shared<1>(source, target, N);
}
