// The Jacobi step of jacobi.py: seven points of an NX x NY x NZ grid, fp32, boundary values left alone.
// Block (BX, BY): a thread walks over DEPTH planes of its column and keeps three of them in registers; the neighbours in the
// plane come from a shared tile (STAGED) or straight from memory.
#if !defined(BX) || !defined(BY) || !defined(DEPTH) || !defined(STAGED)
#error "jacobi.cu: define BX, BY (block), DEPTH (planes of a block) and STAGED (0 or 1)"
#endif

constexpr float OWN = 0.4f, NEIGHBOUR = 0.1f;

extern "C" __global__ void __launch_bounds__(BX * BY)
jacobi_3d(const float* __restrict__ source, float* target, int NX, int NY, int NZ) {
    const int tx = threadIdx.x, ty = threadIdx.y;
    const int x = blockIdx.x * BX + tx + 1, y = blockIdx.y * BY + ty + 1, z0 = blockIdx.z * DEPTH + 1;
    const int row = NX, plane = NX * NY;
    const bool inside = x < NX - 1 && y < NY - 1;
    int at = z0 * plane + y * row + x;
#if STAGED
    __shared__ float tile[BY + 2][BX + 2];
    const bool present = x < NX && y < NY;
    float below = 0.0f, own = 0.0f, above = 0.0f;
    if (present) {
        below = source[at - plane];
        own = source[at];
    }
#pragma unroll 1
    for (int z = 0; z < DEPTH; ++z, at += plane) {
        if (present) {
            above = source[at + plane];
            tile[ty + 1][tx + 1] = own;
            if (tx == 0) tile[ty + 1][0] = source[at - 1];
            if (ty == 0) tile[0][tx + 1] = source[at - row];
        }
        if (tx == BX - 1 && x < NX - 1 && y < NY) tile[ty + 1][BX + 1] = source[at + 1];
        if (ty == BY - 1 && y < NY - 1 && x < NX) tile[BY + 1][tx + 1] = source[at + row];
        __syncthreads();
        if (inside) {
            const float around = tile[ty + 1][tx] + tile[ty + 1][tx + 2] + tile[ty][tx + 1] + tile[ty + 2][tx + 1];
            target[at] = OWN * own + NEIGHBOUR * (below + above + around);
        }
        __syncthreads();
        below = own;
        own = above;
    }
#else
    if (inside) {
        float below = source[at - plane], own = source[at];
#pragma unroll 1
        for (int z = 0; z < DEPTH; ++z, at += plane) {
            const float above = source[at + plane];
            const float around = source[at - 1] + source[at + 1] + source[at - row] + source[at + row];
            target[at] = OWN * own + NEIGHBOUR * (below + above + around);
            below = own;
            own = above;
        }
    }
#endif
}
