// The correlation of convolution.py: out[y, x] = sum of image[y + i, x + j] * filter[i, j], fp32, the image padded by F - 1.
// Grid (NX / (BX TX), NY / (BY TY)) rounded up, block (BX, BY): a thread makes TX x TY outputs, BX and BY apart.
// As a tuner compiles it: every size is known at compile time.
#if !defined(NX) || !defined(NY) || !defined(BX) || !defined(BY) || !defined(TX) || !defined(TY) || !defined(F)
#error "convolution.cu: define NX, NY (outputs), BX, BY (block), TX, TY (outputs of a thread), F (edge of the filter)"
#endif
#if !defined(SHMEM) || !defined(PAD) || !defined(READ_ONLY) || !defined(ALIGNED)
#error "convolution.cu: define SHMEM, PAD, READ_ONLY and ALIGNED as 0 or 1"
#endif
#if !SHMEM && !ALIGNED
#error "convolution.cu: without SHMEM, the bounds tests leave out the taps: ALIGNED=0 would read beyond the image"
#endif

#if ALIGNED
#define INSIDE(condition) true
#else
#define INSIDE(condition) (condition)
#endif
#if READ_ONLY
#define READ(place) __ldg(&(place))
#else
#define READ(place) (place)
#endif

constexpr int HALO = F - 1, PITCH = NX + HALO;

__constant__ float filter[F * F];

extern "C" __global__ void convolution_2d(const float* image, float* out) {
    const int u = threadIdx.x, v = threadIdx.y;
    const int x0 = blockIdx.x * BX * TX, y0 = blockIdx.y * BY * TY;
    float acc[TY][TX] = {};

#if SHMEM
    constexpr int BANKS = 32, ROWS = BY * TY + HALO, WIDTH = BX * TX + HALO;
    // a row is padded so that the next row of threads starts on the bank after the last one's
    constexpr int PADDING = PAD && BX % BANKS ? (BANKS - (WIDTH - BX) % BANKS) % BANKS : 0;
    __shared__ float tile[ROWS][WIDTH + PADDING];
    for (int i = v; i < ROWS; i += BY)
        for (int j = u; j < WIDTH; j += BX)
            if (INSIDE(y0 + i < NY + HALO && x0 + j < NX + HALO)) tile[i][j] = READ(image[(y0 + i) * PITCH + x0 + j]);
    __syncthreads();
#endif

#pragma unroll
    for (int i = 0; i < F; ++i)
#pragma unroll
        for (int j = 0; j < F; ++j)
#pragma unroll
            for (int yi = 0; yi < TY; ++yi)
#pragma unroll
                for (int xi = 0; xi < TX; ++xi) {
                    const int y = v + yi * BY, x = u + xi * BX;
#if SHMEM
                    acc[yi][xi] += tile[y + i][x + j] * filter[i * F + j];
#else
                    acc[yi][xi] += READ(image[(y0 + y + i) * PITCH + x0 + x + j]) * filter[i * F + j];
#endif
                }

#pragma unroll
    for (int yi = 0; yi < TY; ++yi)
#pragma unroll
        for (int xi = 0; xi < TX; ++xi) {
            const int y = y0 + v + yi * BY, x = x0 + u + xi * BX;
            if (INSIDE(y < NY && x < NX)) out[y * NX + x] = acc[yi][xi];
        }
}
