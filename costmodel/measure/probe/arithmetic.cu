// Instruction throughput of one SM and latency of a dependent FMA.
//
// Each thread runs CHAINS independent chains of OP, STEPS links a trip. With enough warps and chains the unit is the bound;
// with one warp and one chain it is the latency. Operations of one link:
//   0 fp32 FMA            1
//   1 fp64 FMA            1
//   2 fp16 FMA, packed    2
//   3 int max, then xor   2   (adds would not do: the compiler writes half of them as IMAD, which runs on the FMA lanes, and
//                              merges pairs of them, or of xors, into three-input instructions)
//   4 int multiply-add    1
//   5 exponential         1   (ptxas folds a reciprocal of a reciprocal)
//   6 int to fp32 and back 2
//   7 two FMAs, an int max and a xor   4   (whether integers take the FMA's slots, and how many instructions issue)
#if !defined(OP) || !defined(CHAINS)
#error "arithmetic.cu: define OP as 0 to 7 and CHAINS"
#endif
#define STEPS 16

#if OP == 1
typedef double number;
#elif OP == 2 && !defined(__CUDA_ARCH__)
typedef _Float16 number __attribute__((ext_vector_type(2)));
#elif OP == 2 || OP == 3 || OP == 4
typedef unsigned number;
#elif OP == 6
typedef int number;
#else
typedef float number;
#endif

__device__ __forceinline__ void link(number& x, unsigned& u, unsigned& v, number a, number b) {
#if OP == 0
    x = fmaf(x, a, b);
#elif OP == 1
    x = fma(x, a, b);
#elif OP == 2 && defined(__CUDA_ARCH__)
    asm volatile("fma.rn.f16x2 %0, %0, %1, %2;" : "+r"(x) : "r"(a), "r"(b));
#elif OP == 2
    x = x * a + b;
#elif OP == 3
    u = u > v ? u : v;
    v ^= u;
#elif OP == 4
    x = x * a + b;
#elif OP == 5 && defined(__CUDA_ARCH__)
    asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x));
#elif OP == 5
    x = __builtin_amdgcn_rcpf(x);
#elif OP == 6 && defined(__CUDA_ARCH__)
    float f;
    asm volatile("cvt.rn.f32.s32 %0, %1;" : "=f"(f) : "r"(x));
    asm volatile("cvt.rzi.s32.f32 %0, %1;" : "=r"(x) : "f"(f));
#elif OP == 6
    float f;  // clang folds the pair
    asm volatile("v_cvt_f32_i32 %0, %1" : "=v"(f) : "v"(x));
    asm volatile("v_cvt_i32_f32 %0, %1" : "=v"(x) : "v"(f));
#else
    x = fmaf(x, a, b);
    u = u > v ? u : v;
    x = fmaf(x, a, b);
    v ^= u;
#endif
}

extern "C" __global__ void __launch_bounds__(1024)
arithmetic(int seed, int trips, long long* cycles, unsigned* sink) {
    number x[CHAINS], a = (number)seed, b = (number)(seed + 1);
    unsigned u[CHAINS], v[CHAINS];
    for (int j = 0; j < CHAINS; ++j) {
        x[j] = (number)(int)(threadIdx.x + j);
        u[j] = threadIdx.x + j;
        v[j] = seed + j;
    }
    __syncthreads();
    long long start = clock64();
#pragma unroll 1
    for (int i = 0; i < trips; ++i) {
#pragma unroll
        for (int s = 0; s < STEPS; ++s)
#pragma unroll
            for (int j = 0; j < CHAINS; ++j) link(x[j], u[j], v[j], a, b);
    }
    __syncthreads();
    if (threadIdx.x == 0) cycles[blockIdx.x] = clock64() - start;
    unsigned sum = 0;
    for (int j = 0; j < CHAINS; ++j) {
#if OP == 2 && !defined(__CUDA_ARCH__)
        sum += (unsigned)(float)(x[j][0] + x[j][1]);
#else
        sum += (unsigned)x[j];
#endif
        sum ^= u[j] + v[j];
    }
    if (sum == 0x5a5a5a5a) sink[0] = sum;
}
