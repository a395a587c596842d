"""Kernels whose masks and bounds divide, wrap and take minima, and some that Triton or the front end refuses."""

import triton
import triton.language as tl


@triton.jit
def window(x, out, n, W, BM: tl.constexpr, BN: tl.constexpr):
    pid = tl.program_id(0)
    sums = tl.zeros([BN], tl.float32)
    for j in range(tl.maximum(0, pid * BM - W), tl.minimum(n, pid * BM + BM), BN):
        at = j + tl.arange(0, BN)
        sums += tl.load(x + at, mask=at < n, other=0.0)
    tl.store(out + pid * BN + tl.arange(0, BN), sums)


@triton.jit
def rows_per_block(x, out, M, N, ROWS: tl.constexpr, B: tl.constexpr):
    pid, at = tl.program_id(0), tl.arange(0, B)
    sums = tl.zeros([B], tl.float32)
    for row in range(pid * ROWS, tl.minimum((pid + 1) * ROWS, M)):
        sums += tl.load(x + row * N + at, mask=at < N, other=0.0)
    tl.store(out + pid * N + at, sums, mask=at < N)


@triton.jit
def even_elements(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    inside = (at % 2 == 0) & (at < n)
    tl.store(out + at, tl.load(x + at, mask=inside, other=0.0), mask=inside)


@triton.jit
def even_blocks(x, out, n, B: tl.constexpr):
    pid = tl.program_id(0)
    at = pid * B + tl.arange(0, B)
    if pid % 2 == 0:
        tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def pooled(x, out, H, W, OH, OW, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    most = tl.full([B], -1e30, tl.float32)
    for down in range(3):
        for right in range(3):
            row, column = at // OW * 2 + down - 1, at % OW * 2 + right - 1
            inside = (at < OH * OW) & (row >= 0) & (row < H) & (column >= 0) & (column < W)
            most = tl.maximum(most, tl.load(x + row * W + column, mask=inside, other=-1e30))
    tl.store(out + at, most, mask=at < OH * OW)


@triton.jit
def either_end(x, out, n, k, B: tl.constexpr):
    pid = tl.program_id(0)
    at = pid * B + tl.arange(0, B)
    inside = (at < tl.maximum(n - pid * B, k)) & (at < n)
    tl.store(out + at, tl.load(x + at, mask=inside, other=0.0), mask=inside)


@triton.jit
def reversed_sum(x, out, n, B: tl.constexpr):
    sums = tl.zeros([B], tl.float32)
    for j in range(n - B, -1, -B):
        sums += tl.load(x + j + tl.arange(0, B))
    tl.store(out + tl.program_id(0) * B + tl.arange(0, B), sums)


@triton.jit
def unrolled_sum(x, out, n, B: tl.constexpr):
    sums = tl.zeros([B], tl.float32)
    for j in tl.range(0, n, loop_unroll_factor=4):
        sums += tl.load(x + j * B + tl.arange(0, B))
    tl.store(out + tl.program_id(0) * B + tl.arange(0, B), sums)


@triton.jit
def unrolled_product(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows, columns = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    sums = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, 2 * BK):
        for half in tl.static_range(2):
            depth = k + half * BK + tl.arange(0, BK)
            left = tl.load(a + rows[:, None] * K + depth[None, :])
            sums = tl.dot(left, tl.load(b + depth[:, None] * N + columns[None, :]), sums)
    tl.store(c + rows[:, None] * N + columns[None, :], sums)


@triton.jit
def moving_divisor(x, out, n, B: tl.constexpr):
    pid = tl.program_id(0)
    at = pid * B + tl.arange(0, B)
    tl.store(out + at, tl.load(x + at, mask=at % (pid + 2) == 0, other=0.0), mask=at < n)


@triton.jit(noinline=True)
def _apart(x, out, n):
    tl.store(out + n, tl.load(x + n))


@triton.jit
def calling(x, out, n):
    _apart(x, out, tl.program_id(0))


@triton.jit
def _of_hundred(x):
    return x + tl.arange(0, 100)


@triton.jit
def not_a_power(x, out, n):
    tl.store(out + n, tl.load(_of_hundred(x)))


@triton.jit
def volatile_and_cached(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    values = tl.load(x + at, mask=at < n, cache_modifier=".cg", volatile=True)
    tl.store(out + at, values, mask=at < n)


@triton.jit
def rows_in_pieces(x, out, n, B: tl.constexpr):
    row, piece = tl.program_id(0) // (n // B), tl.program_id(0) % (n // B)
    at = row * n + piece * B + tl.arange(0, B)
    tl.store(out + at, tl.load(x + at))


@triton.jit
def forward_rows(x, out, n, B: tl.constexpr):
    for i in range(0, n, B):
        at = tl.program_id(0) * n + i + tl.arange(0, B)
        tl.store(out + at, tl.load(x + at))


@triton.jit
def backward_rows(x, out, n, B: tl.constexpr):
    for i in range(0, n, B):
        at = tl.program_id(0) * n + n - 1 - i - tl.arange(0, B)
        tl.store(out + at, tl.load(x + at))


@triton.jit
def last_piece(x, out, n, B: tl.constexpr):
    at = (tl.program_id(0) + 1) * n * B - B + tl.arange(0, B)
    tl.store(out + tl.program_id(0) * B + tl.arange(0, B), tl.load(x + at))


@triton.jit
def every_other(x, out, n, step, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.load(x + at * step, mask=at < n), mask=at < n)


@triton.jit
def specialised(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Warps that load and warps that multiply."""
    rows = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    columns = tl.make_tensor_descriptor(b, shape=[N, K], strides=[K, 1], block_shape=[BN, BK])
    out = tl.make_tensor_descriptor(c, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    total = tl.zeros((BM, BN), tl.float32)
    for k in tl.range(0, tl.cdiv(K, BK), warp_specialize=True, num_stages=3):
        total = tl.dot(rows.load([m, k * BK]), columns.load([n, k * BK]).T, total)
    out.store([m, n], total.to(tl.float16))
