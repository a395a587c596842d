// Copies of items of V floats: streaming.py's `copy`, and `strided_copy` and `gathered_copy` of copies.py.
// Blocks of any one-dimensional size, one item for each thread; the gather's grid is whole.
#if !defined(V)
#error "copies.cu: define V (floats of an item: 1, 2 or 4), such as -DV=4"
#endif

#if V == 1
typedef float Item;
#elif V == 2
typedef float2 Item;
#elif V == 4
typedef float4 Item;
#else
#error "copies.cu: V must be 1, 2 or 4"
#endif

extern "C" __global__ void copy(const Item* __restrict__ a, Item* c, int elements) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i * V < elements) c[i] = a[i];
}

extern "C" __global__ void strided_copy(const Item* __restrict__ a, Item* c, int items, int stride) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < items) c[i] = a[(long long)i * stride];
}

extern "C" __global__ void gathered_copy(const int* __restrict__ index, const Item* __restrict__ a, Item* c) {
    const int i = ((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
    c[i] = a[index[i]];
}
