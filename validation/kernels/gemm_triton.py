"""The kernel that `gemm_triton` describes: the product of Triton's tutorial, with masks at every edge."""

import triton
import triton.language as tl


@triton.jit
def product(A, B, C, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    """C = A·B, row-major; programs walk over the tiles of C in groups of GROUP rows of tiles."""
    pid = tl.program_id(0)
    down, right = tl.cdiv(M, BM), tl.cdiv(N, BN)
    first = pid // (GROUP * right) * GROUP
    rows = min(down - first, GROUP)
    m = (first + pid % (GROUP * right) % rows) * BM + tl.arange(0, BM)
    n = pid % (GROUP * right) // rows * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    a = A + m[:, None] * K + k[None, :]
    b = B + k[:, None] * N + n[None, :]
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        x = tl.load(a, mask=(m[:, None] < M) & (k[None, :] < K - start), other=0.0)
        y = tl.load(b, mask=(k[:, None] < K - start) & (n[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc)
        a += BK
        b += BK * N
    tl.store(C + m[:, None] * N + n[None, :], acc.to(C.dtype.element_ty), mask=(m[:, None] < M) & (n[None, :] < N))


def launch(tensors, sizes):
    """Launch once; returns the compiled kernel."""
    grid = (triton.cdiv(sizes["M"], sizes["BM"]) * triton.cdiv(sizes["N"], sizes["BN"]),)
    arrays = (tensors[name] for name in "ABC")
    return product[grid](*arrays, sizes["M"], sizes["N"], sizes["K"], **_constants(sizes), **_options(sizes))


def signature(sizes):
    """What `triton.compile` needs to compile it with no GPU: function, types, constants, options."""
    pointer = {"f16": "*fp16", "bf16": "*bf16"}[sizes["DTYPE"]]
    types = dict.fromkeys("ABC", pointer) | dict.fromkeys("MNK", "i32") | dict.fromkeys(_constants(sizes), "constexpr")
    return product, types, _constants(sizes), _options(sizes)


def _constants(sizes):
    return {name: sizes[name] for name in ("BM", "BN", "BK", "GROUP")}


def _options(sizes):
    return {"num_warps": sizes["WARPS"], "num_stages": sizes["STAGES"]}
