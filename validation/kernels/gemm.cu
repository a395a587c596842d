// The GEMM of gemm.py: C[m, n] = sum over k of A[k, m] * B[k, n], fp32, all row-major.
// Grid (N / BN, M / BM), block (BN / TN, BM / TM), dynamic shared memory for BK rows of both tiles.
#if !defined(BM) || !defined(BN) || !defined(BK) || !defined(TM) || !defined(TN)
#error "gemm.cu: define BM, BN (tile of a block), BK (its depth), TM and TN (tile of a thread), such as -DBM=128"
#endif

constexpr int VECTOR = 4;
constexpr int ACROSS = BN / TN, DOWN = BM / TM, THREADS = ACROSS * DOWN;

extern __shared__ float4 dynamic_shared[];

// BK rows of a tile, WIDTH wide, out of a matrix whose rows are `pitch` apart
template <int WIDTH>
static __device__ __forceinline__ void stage(const float* __restrict__ source, int pitch, float* tile, int t) {
#pragma unroll
    for (int s = 0; s < BK * WIDTH / (THREADS * VECTOR); ++s) {
        const int v = (t + s * THREADS) * VECTOR, row = v / WIDTH, column = v % WIDTH;
        const float4 four = *reinterpret_cast<const float4*>(source + row * pitch + column);
        *reinterpret_cast<float4*>(tile + v) = four;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
gemm(const float* __restrict__ A, const float* __restrict__ B, float* C, int M, int N, int K) {
    float* const shA = reinterpret_cast<float*>(dynamic_shared);
    float* const shB = shA + BK * BM;
    const int tx = threadIdx.x, ty = threadIdx.y, t = tx + ty * ACROSS;
    const int top = blockIdx.y * BM, left = blockIdx.x * BN;
    float acc[TM][TN] = {};
    float a_reg[TM], b_reg[TN];

#pragma unroll 1
    for (int kt = 0; kt < K; kt += BK) {
        stage<BM>(A + kt * M + top, M, shA, t);
        stage<BN>(B + kt * N + left, N, shB, t);
        __syncthreads();
#pragma unroll
        for (int kk = 0; kk < BK; ++kk) {
#pragma unroll
            for (int i = 0; i < TM; i += VECTOR) {
                const float4 four = *reinterpret_cast<const float4*>(shA + kk * BM + ty * VECTOR + i * DOWN);
                a_reg[i] = four.x, a_reg[i + 1] = four.y, a_reg[i + 2] = four.z, a_reg[i + 3] = four.w;
            }
#pragma unroll
            for (int j = 0; j < TN; j += VECTOR) {
                const float4 four = *reinterpret_cast<const float4*>(shB + kk * BN + tx * VECTOR + j * ACROSS);
                b_reg[j] = four.x, b_reg[j + 1] = four.y, b_reg[j + 2] = four.z, b_reg[j + 3] = four.w;
            }
#pragma unroll
            for (int m = 0; m < TM; ++m)
#pragma unroll
                for (int n = 0; n < TN; ++n) acc[m][n] += a_reg[m] * b_reg[n];
        }
        __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < TM; i += VECTOR)
#pragma unroll
        for (int e = 0; e < VECTOR; ++e)
#pragma unroll
            for (int j = 0; j < TN; j += VECTOR) {
                const int row = top + ty * VECTOR + i * DOWN + e, column = left + tx * VECTOR + j * ACROSS;
                const float4 four = {acc[i + e][j], acc[i + e][j + 1], acc[i + e][j + 2], acc[i + e][j + 3]};
                *reinterpret_cast<float4*>(C + row * N + column) = four;
            }
}
