// The stencils of stencil.py, fp64: the star on an NX x NY x NZ grid and the box on an NX x NY one, halos of R.
// One point for each thread of a block of BX x BY x BZ (at most 64 deep), or BX x BY. Rows begin LINE elements early, so that
// the first interior element of each lies at the start of a line.
#if !defined(R) || !defined(BX) || !defined(BY)
#error "stencil.cu: define R (range), BX, BY and, for the star, BZ (block)"
#endif

constexpr int LINE = 16;

#if defined(BZ)
extern "C" __global__ void __launch_bounds__(BX * BY * (BZ < 64 ? BZ : 64))
star3d(const double* __restrict__ source, double* target, int NX, int NY, int NZ) {
    const int tx = blockIdx.x * blockDim.x + threadIdx.x;
    const int ty = blockIdx.y * blockDim.y + threadIdx.y;
    const int tz = blockIdx.z * blockDim.z + threadIdx.z;
    if (tx < NX - 2 * R && ty < NY - 2 * R && tz < NZ - 2 * R) {
        const double weight = 0.25;
        const long long row = NX, plane = row * NY, at = (tz + R) * plane + (ty + R) * row + tx + LINE;
        double sum = weight * source[at - R * plane];
#pragma unroll
        for (int d = 1 - R; d < 0; ++d) sum += weight * source[at + d * plane];
#pragma unroll
        for (int d = -R; d < 0; ++d) sum += weight * source[at + d * row];
#pragma unroll
        for (int d = -R; d <= R; ++d) sum += weight * source[at + d];
#pragma unroll
        for (int d = 1; d <= R; ++d) sum += weight * source[at + d * row];
#pragma unroll
        for (int d = 1; d <= R; ++d) sum += weight * source[at + d * plane];
        target[at] = sum;
    }
}
#else
extern "C" __global__ void __launch_bounds__(BX * BY)
box2d(const double* __restrict__ source, double* target, int NX, int NY) {
    const int tx = blockIdx.x * BX + threadIdx.x, ty = blockIdx.y * BY + threadIdx.y;
    if (tx < NX && ty < NY) {
        const double weight = 0.25;
        const int pitch = (NX + 2 * LINE + LINE - 1) / LINE * LINE;
        const long long at = (long long)(ty + R) * pitch + tx + LINE;
        double sum = weight * source[at - R * pitch - R];
#pragma unroll
        for (int j = -R; j <= R; ++j)
#pragma unroll
            for (int i = -R; i <= R; ++i)
                if (j > -R || i > -R) sum += weight * source[at + j * pitch + i];
        target[at] = sum;
    }
}
#endif
