// Element-wise sums of streaming.py, fp32: vector_add, and matrix_sum with neighbouring lanes along a row or down a column.
// Blocks of any one-dimensional size, or square ones that the matrix is whole multiples of.

extern "C" __global__ void vector_add(const float* __restrict__ a, const float* __restrict__ b, float* c, int N) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < N) c[i] = a[i] + b[i];
}

extern "C" __global__ void matrix_sum_coalesced(const float* a, const float* b, float* sum, int N) {
    const int i = blockIdx.y * blockDim.y + threadIdx.y, j = blockIdx.x * blockDim.x + threadIdx.x;
    sum[i * N + j] = a[i * N + j] + b[i * N + j];
}

extern "C" __global__ void matrix_sum_normal(const float* a, const float* b, float* sum, int N) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, j = blockIdx.y * blockDim.y + threadIdx.y;
    sum[i * N + j] = a[i * N + j] + b[i * N + j];
}
