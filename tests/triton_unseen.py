"""Kernels that the front end was not made for, most of them written by a reviewer who had not seen it; and how they are launched.

Loops whose bounds fall with the block or that have no steps, carried masks, what loops leave, signs, unsigned and narrow
integers, indices that `tl.where` or `%` replace, boxes that begin before an array; and what was right from the start.
"""

import triton
import triton.language as tl

from tests.triton_cases import Case, up


@triton.jit
def conv1d(x, w, y, n, KW: tl.constexpr, PAD: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros([BLOCK], tl.float32)
    for j in tl.static_range(KW):
        s = at + j - PAD
        acc += tl.load(x + s, mask=(s >= 0) & (s < n), other=0.0) * tl.load(w + j)
    tl.store(y + at, acc, mask=at < n)


@triton.jit
def stencil2d(x, y, H, W, BH: tl.constexpr, BW: tl.constexpr):
    r = tl.program_id(1) * BH + tl.arange(0, BH)
    c = tl.program_id(0) * BW + tl.arange(0, BW)
    inner = (r[:, None] > 0) & (r[:, None] < H - 1) & (c[None, :] > 0) & (c[None, :] < W - 1)
    p = x + r[:, None] * W + c[None, :]
    v = tl.load(p - W, mask=inner, other=0.0) + tl.load(p + W, mask=inner, other=0.0)
    v += tl.load(p - 1, mask=inner, other=0.0) + tl.load(p + 1, mask=inner, other=0.0)
    tl.store(y + r[:, None] * W + c[None, :], v * 0.25, mask=inner)


@triton.jit
def bmm(a, b, c, M, N, K, sab, sam, sbb, sbk, scb, scm, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    z = tl.program_id(2)
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    a += z * sab
    b += z * sbb
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        rk = k + tl.arange(0, BK)
        x = tl.load(a + rm[:, None] * sam + rk[None, :], mask=(rm[:, None] < M) & (rk[None, :] < K), other=0.0)
        y = tl.load(b + rk[:, None] * sbk + rn[None, :], mask=(rk[:, None] < K) & (rn[None, :] < N), other=0.0)
        acc += tl.dot(x, y)
    tl.store(c + z * scb + rm[:, None] * scm + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


@triton.jit
def cross_entropy(logits, labels, loss, V, stride, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    logits += row * stride
    m = -float("inf")
    d = 0.0
    for i in range(0, V, BLOCK):
        at = i + tl.arange(0, BLOCK)
        x = tl.load(logits + at, mask=at < V, other=-float("inf"))
        mb = tl.max(x)
        mn = tl.maximum(m, mb)
        d = d * tl.exp(m - mn) + tl.sum(tl.exp(x - mn))
        m = mn
    tl.store(loss + row, tl.log(d) + m)


@triton.jit
def early(x, y, n, lim, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    at = pid * BLOCK + tl.arange(0, BLOCK)
    if pid < lim:
        tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)
        return
    v = tl.load(x + at, mask=at < n)
    w = tl.load(x + n + at, mask=at < n)
    tl.store(y + at, v + w, mask=at < n)


@triton.jit
def _mul_add(a1, b1, a2, b2):
    return a1 * a2, b1 * a2 + b2


@triton.jit
def assoc(a, b, out, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK) + tl.program_id(0) * n
    m = tl.arange(0, BLOCK) < n
    x, y = tl.load(a + at, mask=m, other=1.0), tl.load(b + at, mask=m, other=0.0)
    _, r = tl.associative_scan((x, y), 0, _mul_add)
    tl.store(out + at, r, mask=m)


@triton.jit
def nested(x, out, T, B: tl.constexpr):
    pid = tl.program_id(0)
    acc = tl.zeros([B], tl.float32)
    for i in range(0, T):
        for j in range(0, i + 1):
            acc += tl.load(x + (i * T + j) * B + tl.arange(0, B))
    tl.store(out + pid * B + tl.arange(0, B), acc)


@triton.jit
def nested_ceil(x, out, T, B: tl.constexpr):
    pid = tl.program_id(0)
    acc = tl.zeros([B], tl.float32)
    for i in range(0, T):
        for j in range(0, i * 3 + 1, 4):
            acc += tl.load(x + j + tl.arange(0, B))
    tl.store(out + pid * B + tl.arange(0, B), acc)


@triton.jit
def anticausal(x, out, n, BM: tl.constexpr, BN: tl.constexpr):
    pid = tl.program_id(0)
    acc = tl.zeros([BN], tl.float32)
    for j in range(0, n - pid * BM, BN):
        at = j + tl.arange(0, BN)
        acc += tl.load(x + at, mask=at < n - pid * BM, other=0.0)
    tl.store(out + pid * BN + tl.arange(0, BN), acc)


@triton.jit
def from_low(x, out, n, BM: tl.constexpr, BN: tl.constexpr):
    pid = tl.program_id(0)
    acc = tl.zeros([BN], tl.float32)
    for j in range(n - pid * BM, n, BN):
        at = j + tl.arange(0, BN)
        acc += tl.load(x + at, mask=at < n, other=0.0)
    tl.store(out + pid * BN + tl.arange(0, BN), acc)


@triton.jit
def suffix(x, out, n, BM: tl.constexpr, BN: tl.constexpr):
    pid = tl.program_id(0)
    acc = tl.zeros([BN], tl.float32)
    for j in range(pid * BM, n, BN):
        at = j + tl.arange(0, BN)
        acc += tl.load(x + at, mask=at < n, other=0.0)
    tl.store(out + pid * BN + tl.arange(0, BN), acc)


@triton.jit
def empty_loop(x, out, n, k, B: tl.constexpr):
    acc = tl.zeros([B], tl.float32)
    for j in range(0, n - k, B):
        at = j + tl.arange(0, B)
        acc += tl.load(x + at)
    tl.store(out + tl.program_id(0) * B + tl.arange(0, B), acc)


@triton.jit
def backwards(x, out, n, B: tl.constexpr):
    acc = tl.zeros([B], tl.float32)
    for j in range(n - B, -1, -B):
        acc += tl.load(x + j + tl.arange(0, B))
    tl.store(out + tl.program_id(0) * B + tl.arange(0, B), acc)


@triton.jit
def carried_mask(x, out, n, T, B: tl.constexpr):
    at = tl.arange(0, B)
    m = at < n
    acc = tl.zeros([B], tl.float32)
    for t in range(T):
        acc += tl.load(x + t * B + at, mask=m, other=0.0)
        m = at < n - (t + 1) * 8
    tl.store(out + tl.program_id(0) * B + at, acc)


@triton.jit
def where_minus_one(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    i = tl.where(at < n, at, -1)
    tl.store(out + at, tl.load(x + i, mask=i >= 0, other=0.0), mask=i >= 0)


@triton.jit
def where_clamped(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    i = tl.where(at < n, at, 0)
    tl.store(out + at, tl.load(x + i, mask=i < n, other=0.0), mask=at < n)


@triton.jit
def wrapped_mask(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    i = at % n
    v = tl.load(x + i, mask=i < n, other=0.0)
    tl.store(out + at, v, mask=at < n)


@triton.jit
def negative_mod(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    m = (at - 4) % 8 < 4
    tl.store(out + at, tl.load(x + at, mask=m, other=0.0), mask=m)


@triton.jit
def negative_div(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    s = (at - 3) // 2
    m = (s >= 0) & (s < n)
    tl.store(out + at, tl.load(x + s, mask=m, other=0.0), mask=m)


@triton.jit
def unsigned_bound(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    s = at - 5
    m = s.to(tl.uint32) < n.to(tl.uint32)
    tl.store(out + at, tl.load(x + s, mask=m, other=0.0), mask=at < n)


@triton.jit
def narrow(x, out, n, B: tl.constexpr):
    at = tl.arange(0, B)
    m = at.to(tl.int8) >= 0
    tl.store(out + tl.program_id(0) * B + at, tl.load(x + at, mask=m, other=0.0))


@triton.jit
def tma_softmax(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    d = tl.make_tensor_descriptor(x, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    o = tl.make_tensor_descriptor(out, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    r = tl.program_id(0) * BM
    c = tl.program_id(1) * BN
    v = d.load([r, c])
    e = tl.exp(v - tl.max(v, 1)[:, None])
    o.store([r, c], e / tl.sum(e, 1)[:, None])


@triton.jit
def not_mask(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    m = ~(at >= n)
    tl.store(out + at, tl.load(x + at, mask=m, other=0.0), mask=m)


@triton.jit
def vec3d(x, out, A, Bs, C, BA: tl.constexpr, BB: tl.constexpr, BC: tl.constexpr):
    a = tl.program_id(0) * BA + tl.arange(0, BA)[:, None, None]
    b = tl.program_id(1) * BB + tl.arange(0, BB)[None, :, None]
    c = tl.program_id(2) * BC + tl.arange(0, BC)[None, None, :]
    m = (a < A) & (b < Bs) & (c < C)
    v = tl.load(x + (a * Bs + b) * C + c, mask=m)
    tl.store(out + (c * Bs + b) * A + a, v, mask=m)


@triton.jit
def groupnorm(x, w, out, C, HW, GS: tl.constexpr, B: tl.constexpr):
    n, g = tl.program_id(0), tl.program_id(1)
    c = g * GS + tl.arange(0, GS)
    s = tl.zeros([GS, B], tl.float32)
    for p in range(0, HW, B):
        q = p + tl.arange(0, B)
        s += tl.load(x + (n * C + c[:, None]) * HW + q[None, :], mask=(q[None, :] < HW) & (c[:, None] < C), other=0.0)
    mean = tl.sum(tl.sum(s, 1), 0) / (GS * HW)
    ws = tl.load(w + c, mask=c < C, other=0.0)
    for p in range(0, HW, B):
        q = p + tl.arange(0, B)
        m = (q[None, :] < HW) & (c[:, None] < C)
        v = tl.load(x + (n * C + c[:, None]) * HW + q[None, :], mask=m, other=0.0)
        tl.store(out + (n * C + c[:, None]) * HW + q[None, :], (v - mean) * ws[:, None], mask=m)


@triton.jit
def tail_branch(x, out, n, B: tl.constexpr):
    pid = tl.program_id(0)
    at = pid * B + tl.arange(0, B)
    if (pid + 1) * B <= n:
        tl.store(out + at, tl.load(x + at))
    else:
        tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def triangle_map(x, out, T, B: tl.constexpr):
    """Upper triangle by a mask of two block indices."""
    i, j = tl.program_id(0), tl.program_id(1)
    r, c = i * B + tl.arange(0, B), j * B + tl.arange(0, B)
    m = (r[:, None] <= c[None, :]) & (r[:, None] < T) & (c[None, :] < T)
    tl.store(out + r[:, None] * T + c[None, :], tl.load(x + r[:, None] * T + c[None, :], mask=m, other=0.0), mask=m)


@triton.jit
def running_mask(x, out, N, B: tl.constexpr):
    row = tl.program_id(0)
    cols = tl.arange(0, B)
    mask = cols < N
    acc = tl.zeros([B], tl.float32)
    for _ in range(0, N, B):
        acc += tl.load(x + row * N + cols, mask=mask, other=0.0)
        cols += B
        mask = cols < N
    tl.store(out + row, tl.sum(acc, 0))


@triton.jit
def main_tail(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.program_id(1) * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K // BK):
        x = tl.load(a + rm[:, None] * K + (rk + k * BK)[None, :], mask=rm[:, None] < M, other=0.0)
        y = tl.load(b + (rk + k * BK)[:, None] * N + rn[None, :], mask=rn[None, :] < N, other=0.0)
        acc = tl.dot(x, y, acc)
    if K % BK != 0:
        r = K // BK * BK + rk
        x = tl.load(a + rm[:, None] * K + r[None, :], mask=(rm[:, None] < M) & (r[None, :] < K), other=0.0)
        y = tl.load(b + r[:, None] * N + rn[None, :], mask=(rn[None, :] < N) & (r[:, None] < K), other=0.0)
        acc = tl.dot(x, y, acc)
    tl.store(c + rm[:, None] * N + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


@triton.jit
def attn_bwd_kv(q, k, v, do, lse, delta, dk, dv, CTX, stride, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    n, bh = tl.program_id(0), tl.program_id(1)
    base = bh * stride
    rn, rd = n * BN + tl.arange(0, BN), tl.arange(0, D)
    ks = tl.load(k + base + rn[:, None] * D + rd[None, :], mask=rn[:, None] < CTX, other=0.0)
    vs = tl.load(v + base + rn[:, None] * D + rd[None, :], mask=rn[:, None] < CTX, other=0.0)
    dks, dvs = tl.zeros((BN, D), tl.float32), tl.zeros((BN, D), tl.float32)
    for m in range(n * BN, CTX, BM):
        rm = m + tl.arange(0, BM)
        qs = tl.load(q + base + rm[:, None] * D + rd[None, :], mask=rm[:, None] < CTX, other=0.0)
        sums = tl.load(lse + bh * CTX + rm, mask=rm < CTX, other=0.0)
        p = tl.exp(tl.dot(qs, ks.T) - sums[:, None])
        p = tl.where(rm[:, None] >= rn[None, :], p, 0.0)
        dos = tl.load(do + base + rm[:, None] * D + rd[None, :], mask=rm[:, None] < CTX, other=0.0)
        dvs = tl.dot(p.to(tl.float16).T, dos, dvs)
        dl = tl.load(delta + bh * CTX + rm, mask=rm < CTX, other=0.0)
        ds = p * (tl.dot(dos, vs.T) - dl[:, None])
        dks = tl.dot(ds.to(tl.float16).T, qs, dks)
    tl.store(dk + base + rn[:, None] * D + rd[None, :], dks.to(tl.float16), mask=rn[:, None] < CTX)
    tl.store(dv + base + rn[:, None] * D + rd[None, :], dvs.to(tl.float16), mask=rn[:, None] < CTX)


@triton.jit
def first_iter(x, w, out, T, B: tl.constexpr):
    at = tl.arange(0, B)
    acc = tl.zeros([B], tl.float32)
    for t in range(T):
        if t == 0:
            acc += tl.load(w + at)
        if t < T - 2:
            acc += tl.load(x + t * B + at)
        else:
            acc += tl.load(w + t * B + at)
    tl.store(out + at, acc)


@triton.jit
def not_first(x, out, T, B: tl.constexpr):
    at = tl.arange(0, B)
    acc = tl.zeros([B], tl.float32)
    for t in range(T):
        if t != 1:
            acc += tl.load(x + t * B + at)
    tl.store(out + at, acc)


@triton.jit
def three_digits(x, out, H, W, B: tl.constexpr):
    pid = tl.program_id(0)
    nw = tl.cdiv(W, B)
    b, h, w = pid // (H * nw), pid // nw % H, pid % nw
    at = w * B + tl.arange(0, B)
    o = (b * H + h) * W + at
    tl.store(out + o, tl.load(x + o, mask=at < W), mask=at < W)


@triton.jit
def reshaped_index(x, out, n, B: tl.constexpr):
    at = tl.reshape(tl.program_id(0) * B + tl.arange(0, B), (B // 8, 8))
    tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def atomics(x, out, n, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + at, mask=at < n, other=0)
    tl.atomic_max(out + at % 16, v, mask=at < n)
    tl.atomic_xchg(out + 32 + at, v, mask=at < n)
    tl.atomic_add(out + 16, tl.sum(v, 0))


@triton.jit
def offset_arg(x, out, n, start, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.load(x + start + at, mask=at + start < n), mask=at < n)


@triton.jit
def peeled(x, out, n, B: tl.constexpr):
    at = tl.arange(0, B)
    acc = tl.zeros([B], tl.float32)
    p = x + at
    for _ in range(0, n // B):
        acc += tl.load(p)
        p += B
    r = n // B * B
    acc += tl.load(p, mask=at + r < n, other=0.0)
    tl.store(out + at, acc)


@triton.jit
def tma_neg(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    """A halo: boxes begin before the array."""
    d = tl.make_tensor_descriptor(x, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    r = tl.program_id(0) * BM - 4
    v = d.load([r, 0])
    rows, cols = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BN)
    tl.store(out + rows[:, None] * N + cols[None, :], v, mask=(rows[:, None] < M) & (cols[None, :] < N))


@triton.jit
def kv_split(x, out, n, S, B: tl.constexpr):
    """Flash-decoding style: each split takes cdiv(n, S) rounded up to B."""
    s = tl.program_id(0)
    per = tl.cdiv(tl.cdiv(n, S), B) * B
    lo = s * per
    acc = tl.zeros([B], tl.float32)
    for j in range(lo, lo + per, B):
        at = j + tl.arange(0, B)
        acc += tl.load(x + at, mask=at < n, other=0.0)
    tl.store(out + s * B + tl.arange(0, B), acc)


@triton.jit
def causal_two_stage(k, out, CTX, BM: tl.constexpr, BN: tl.constexpr):
    m = tl.program_id(0)
    acc = tl.zeros([BN], tl.float32)
    for n in range(0, m * BM, BN):
        acc += tl.load(k + n + tl.arange(0, BN))
    for n in range(m * BM, (m + 1) * BM, BN):
        at = n + tl.arange(0, BN)
        acc += tl.load(k + at, mask=at < CTX, other=0.0)
    tl.store(out + m * BN + tl.arange(0, BN), acc)


@triton.jit
def trunc_div(x, out, n, B: tl.constexpr):
    at = tl.arange(0, B)
    m = (at - 8) // 16 >= 0
    tl.store(out + at + tl.program_id(0) * B, tl.load(x + at, mask=m, other=0.0))


@triton.jit
def tail_rows(x, out, n, B: tl.constexpr):
    pid = tl.program_id(0)
    acc = tl.zeros([B], tl.float32)
    for r in range(pid, n):
        acc += tl.load(x + r * B + tl.arange(0, B))
    tl.store(out + pid * B + tl.arange(0, B), acc)


@triton.jit
def rows_per(x, out, n, R, B: tl.constexpr):
    pid = tl.program_id(0)
    acc = tl.zeros([B], tl.float32)
    for r in range(pid * R, n, 1):
        acc += tl.load(x + r * B + tl.arange(0, B))
    tl.store(out + pid * B + tl.arange(0, B), acc)


@triton.jit
def grouped_batched(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    pid, z = tl.program_id(0), tl.program_id(1)
    nm, nn = tl.cdiv(M, BM), tl.cdiv(N, BN)
    per = GROUP * nn
    g = pid // per
    first = g * GROUP
    size = min(nm - first, GROUP)
    pm, pn = first + (pid % per) % size, (pid % per) // size
    rm, rn, rk = pm * BM + tl.arange(0, BM), pn * BN + tl.arange(0, BN), tl.arange(0, BK)
    a += z * M * K
    b += z * K * N
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        x = tl.load(a + rm[:, None] * K + (k + rk)[None, :], mask=(rm[:, None] < M) & ((k + rk)[None, :] < K), other=0.0)
        y = tl.load(b + (k + rk)[:, None] * N + rn[None, :], mask=(rn[None, :] < N) & ((k + rk)[:, None] < K), other=0.0)
        acc = tl.dot(x, y, acc)
    tl.store(c + z * M * N + rm[:, None] * N + rn[None, :], acc, mask=(rm[:, None] < M) & (rn[None, :] < N))


@triton.jit
def two_returns(x, y, n, lo, hi, B: tl.constexpr):
    pid = tl.program_id(0)
    if pid < lo:
        return
    if pid >= hi:
        return
    at = pid * B + tl.arange(0, B)
    tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def mask_after_loop(x, y, n, B: tl.constexpr):
    at = tl.arange(0, B)
    acc = tl.zeros([B], tl.float32)
    for _ in range(0, n // B):
        acc += tl.load(x + at)
        at += B
    acc += tl.load(x + at, mask=at < n, other=0.0)
    tl.store(y + tl.arange(0, B), acc)


@triton.jit
def step_arg(x, y, n, step, B: tl.constexpr):
    acc = tl.zeros([B], tl.float32)
    for j in range(0, n, step):
        acc += tl.load(x + j + tl.arange(0, B))
    tl.store(y + tl.arange(0, B), acc)


@triton.jit
def gqa(q, k, out, S, HQ: tl.constexpr, HK: tl.constexpr, D: tl.constexpr, B: tl.constexpr):
    h = tl.program_id(0)
    kv = h // (HQ // HK)
    d = tl.arange(0, D)
    qs = tl.load(q + h * D + d)
    acc = tl.zeros([B], tl.float32)
    for s in range(0, S, B):
        r = s + tl.arange(0, B)
        ks = tl.load(k + (kv * S + r[:, None]) * D + d[None, :], mask=r[:, None] < S, other=0.0)
        acc += tl.sum(ks * qs[None, :], 1)
    tl.store(out + h * B + tl.arange(0, B), acc)


@triton.jit
def diag_mask(x, out, T, B: tl.constexpr):
    """Causal mask on loads within one block row."""
    i = tl.program_id(0)
    r = i * B + tl.arange(0, B)
    acc = tl.zeros([B], tl.float32)
    for j in range(0, T, B):
        c = j + tl.arange(0, B)
        acc += tl.sum(tl.load(x + r[:, None] * T + c[None, :], mask=(c[None, :] <= r[:, None]) & (r[:, None] < T), other=0.0), 1)
    tl.store(out + r, acc, mask=r < T)


@triton.jit
def shifted_div(x, out, n, pad, B: tl.constexpr):
    """Upsampling with padding: the source row of each output."""
    at = tl.program_id(0) * B + tl.arange(0, B)
    s = (at - pad) // 8
    m = (s >= 0) & (at < n)
    tl.store(out + at, tl.load(x + s, mask=m, other=0.0), mask=at < n)


@triton.jit
def shifted_mod(x, out, n, pad, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    m = ((at - pad) % 8 >= 0) & (at < n)
    tl.store(out + at, tl.load(x + at, mask=m, other=0.0), mask=at < n)


@triton.jit
def loop_bound_div(x, out, n, w, B: tl.constexpr):
    """Blocks before the window have none."""
    pid = tl.program_id(0)
    acc = tl.zeros([B], tl.float32)
    for j in range(0, (pid * B - w) // B):
        acc += tl.load(x + j * B + tl.arange(0, B))
    tl.store(out + pid * B + tl.arange(0, B), acc)


@triton.jit
def neg_offset(x, out, n, B: tl.constexpr):
    """From the end of the array."""
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.load(x + n - 1 - at, mask=at < n), mask=at < n)


@triton.jit
def minmask(x, out, n, m, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    k = at < tl.minimum(n, m)
    tl.store(out + at, tl.load(x + at, mask=k), mask=k)


@triton.jit
def two_phase(x, out, n, B: tl.constexpr):
    pid = tl.program_id(0)
    at = tl.arange(0, B)
    acc = tl.zeros([B], tl.float32)
    o = at
    for _ in range(0, pid * 3, 2):
        acc += tl.load(x + o, mask=o < n, other=0.0)
        o += B
    for _ in range(0, 2):
        acc += tl.load(x + o, mask=o < n, other=0.0)
        o += B
    tl.store(out + pid * B + at, acc)


@triton.jit
def window(x, out, n, W, BM: tl.constexpr, BN: tl.constexpr):
    pid = tl.program_id(0)
    acc = tl.zeros([BN], tl.float32)
    lo = tl.maximum(0, pid * BM - W)
    hi = tl.minimum(n, pid * BM + BM)
    for j in range(lo, hi, BN):
        at = j + tl.arange(0, BN)
        acc += tl.load(x + at, mask=at < n, other=0.0)
    tl.store(out + pid * BN + tl.arange(0, BN), acc)


@triton.jit
def shrinking(x, out, n, T, B: tl.constexpr):
    """Rows of a triangle that ends before the last steps of the outer loop."""
    for t in range(T):
        for j in range(0, n - t * 3, B):
            at = j + tl.arange(0, B)
            tl.store(out + t * n + at, tl.load(x + at, mask=at < n - t * 3), mask=at < n - t * 3)


@triton.jit
def byte_index(x, out, B: tl.constexpr):
    """A number of eight bits that holds the index."""
    at = tl.arange(0, B)
    keep = at.to(tl.int8) < 50
    tl.store(out + tl.program_id(0) * B + at, tl.load(x + at, mask=keep, other=0.0), mask=keep)


@triton.jit
def other_width(x, out, n, B: tl.constexpr):
    """Pairs of halves, read as words."""
    at = tl.program_id(0) * B + tl.arange(0, B)
    words = tl.load(x.to(tl.pointer_type(tl.int32)) + at, mask=at < n)
    tl.store(out + at, words, mask=at < n)


@triton.jit
def before_and_after(x, out, n, B: tl.constexpr):
    """Two masks, of which the second is that of the step before."""
    at = tl.arange(0, B)
    inside, earlier = at < n, at < n + B
    for start in range(0, n, B):
        tl.store(out + start + at, tl.load(x + start + at, mask=earlier), mask=inside)
        earlier = start + at < n
        inside = start + B + at < n


@triton.jit
def carried_pid(x, out, n, B: tl.constexpr):
    """Tile coordinates from a carried tile number."""
    pid, np = tl.program_id(0), tl.num_programs(0)
    t = pid - np
    for _ in range(pid, tl.cdiv(n, B) * 3, np):
        t += np
        r, c = t // 3, t % 3
        at = r * B + tl.arange(0, B)
        tl.store(out + c * n + at, tl.load(x + c * n + at, mask=at < n), mask=at < n)


@triton.jit
def else_loop(x, out, n, lo, hi, B: tl.constexpr):
    pid = tl.program_id(0)
    at = tl.arange(0, B)
    if (pid >= lo) & (pid < hi):
        tl.store(out + pid * B + at, 0.0)
    else:
        for j in range(0, n - pid * 7, B):
            tl.store(out + j + at, tl.load(x + j + at, mask=j + at < n), mask=j + at < n)


@triton.jit
def swa(k, out, CTX, W, BM: tl.constexpr, BN: tl.constexpr):
    """Sliding window: first value rounded down to a tile."""
    m = tl.program_id(0)
    lo = tl.maximum(m * BM - W, 0) // BN * BN
    acc = tl.zeros([BN], tl.float32)
    for j in range(lo, (m + 1) * BM, BN):
        at = j + tl.arange(0, BN)
        acc += tl.load(k + at, mask=at < CTX, other=0.0)
    tl.store(out + m * BN + tl.arange(0, BN), acc)


@triton.jit
def split_k_tail(a, out, K, S: tl.constexpr, BK: tl.constexpr):
    """cdiv of what may be negative as a loop's end."""
    s = tl.program_id(0)
    acc = tl.zeros([BK], tl.float32)
    for k in range(0, tl.cdiv(K - s * BK, BK * S)):
        at = (k * S + s) * BK + tl.arange(0, BK)
        acc += tl.load(a + at, mask=at < K, other=0.0)
    tl.store(out + s * BK + tl.arange(0, BK), acc)


@triton.jit
def nested_carry(x, out, R, C, B: tl.constexpr):
    """A pointer carried through two loops."""
    p = x + tl.arange(0, B)
    acc = tl.zeros([B], tl.float32)
    for _ in range(R):
        m = tl.arange(0, B) < C
        for j in range(0, C, B):
            acc += tl.load(p, mask=m, other=0.0)
            p += B
            m = tl.arange(0, B) < C - j - B
        p += 3
    acc += tl.load(p, mask=tl.arange(0, B) < 5, other=0.0)
    tl.store(out + tl.arange(0, B), acc)


@triton.jit
def two_where(x, out, n, m, B: tl.constexpr):
    r = tl.program_id(0) * B + tl.arange(0, B)
    c = tl.arange(0, B)
    i = tl.where(r < n, r, 0)
    j = tl.where(c < m, c, 0)
    v = tl.load(x + i[:, None] * m + j[None, :])
    tl.store(out + r[:, None] * m + c[None, :], v, mask=(r[:, None] < n) & (c[None, :] < m))


@triton.jit
def under_another_name(x, out, n, m, B: tl.constexpr):
    """Triton prints the arguments as `m` and `limit`."""
    pid = tl.program_id(0)
    at = pid * B + tl.arange(0, B)
    limit = m
    m = n
    if pid >= 0:
        limit = limit - 3
        m = m + 2
    tl.store(out + at, tl.load(x + at, mask=at < limit, other=0.0), mask=at < m)


F, H, N, J = "*fp32", "*fp16", "i32", "i32:16"
FLAT = {"x": F, "out": F, "n": N}


def by_n(m):
    return (up(m["n"], m.get("B") or m.get("BLOCK") or m["BM"]),)


def by_tiles(m):
    return (up(m["M"], m["BM"]), up(m["N"], m["BN"]))


def launches(kernel, signature, constexprs, grid, *sizes):
    """One kernel at several sizes."""
    return {kernel: [Case(kernel, signature, constexprs, grid, s) for s in sizes]}


BMM = {"a": H, "b": H, "c": F, "M": N, "N": N, "K": N, "sab": N, "sam": N, "sbb": N, "sbk": N, "scb": N, "scm": N}
PRODUCT = {"a": H, "b": H, "c": F, "M": N, "N": N, "K": N}
BACKWARD = {**dict.fromkeys(["q", "k", "v", "do", "dk", "dv"], H), "lse": F, "delta": F, "CTX": N, "stride": N}
SPAN = {"x": F, "y": F, "n": N, "lo": N, "hi": N}
TILES = {"BM": 32, "BN": 32, "BK": 32}

CASES = {
    **launches("conv1d", {"x": F, "w": F, "y": F, "n": N}, {"KW": 5, "PAD": 2, "BLOCK": 128}, by_n, {"n": 333}, {"n": 1}),
    **launches(
        "stencil2d", {"x": F, "y": F, "H": N, "W": N}, {"BH": 8, "BW": 32}, lambda m: (up(m["W"], m["BW"]), up(m["H"], m["BH"])),
        {"H": 37, "W": 71}, {"H": 2, "W": 64},
    ),
    **launches(
        "bmm", BMM, {"BM": 32, "BN": 32, "BK": 16}, lambda m: (*by_tiles(m), 3),
        {"M": 45, "N": 70, "K": 33, "sab": 1800, "sam": 40, "sbb": 2640, "sbk": 80, "scb": 3150, "scm": 70},
    ),
    **launches(
        "cross_entropy", {"logits": F, "labels": "*i64", "loss": F, "V": N, "stride": N}, {"BLOCK": 256}, lambda m: (5,),
        {"V": 1003, "stride": 1010}, {"V": 100, "stride": 100},
    ),
    **launches(
        "early", {"x": F, "y": F, "n": N, "lim": N}, {"BLOCK": 64}, by_n, {"n": 333, "lim": 2}, {"n": 333, "lim": 100}
    ),
    **launches("assoc", {"a": F, "b": F, "out": F, "n": N}, {"BLOCK": 256}, lambda m: (3,), {"n": 200}),
    **launches("nested", {"x": F, "out": F, "T": N}, {"B": 64}, (2,), {"T": 5}),
    **launches("nested_ceil", {"x": F, "out": F, "T": N}, {"B": 64}, (2,), {"T": 5}, {"T": 6}),
    **launches("anticausal", FLAT, {"BM": 32, "BN": 64}, by_n, {"n": 300}, {"n": 256}),
    **launches("suffix", FLAT, {"BM": 32, "BN": 64}, by_n, {"n": 300}, {"n": 256}),
    **launches("from_low", FLAT, {"BM": 32, "BN": 64}, by_n, {"n": 300}, {"n": 20}),
    **launches("empty_loop", {**FLAT, "k": N}, {"B": 64}, (2,), {"n": 100, "k": 300}, {"n": 300, "k": 7}),
    **launches("backwards", FLAT, {"B": 64}, (2,), {"n": 300}, {"n": 256}),
    **launches("carried_mask", {**FLAT, "T": N}, {"B": 64}, (2,), {"n": 50, "T": 5}),
    **launches("running_mask", {"x": F, "out": F, "N": N}, {"B": 128}, (3,), {"N": 300}, {"N": 256}, {"N": 100}),
    **launches("before_and_after", FLAT, {"B": 64}, (1,), {"n": 300}, {"n": 30}),
    **launches("where_minus_one", FLAT, {"B": 64}, by_n, {"n": 333}),
    **launches("where_clamped", FLAT, {"B": 64}, by_n, {"n": 333}),
    **launches("wrapped_mask", FLAT, {"B": 64}, by_n, {"n": 333}),
    **launches("unsigned_bound", FLAT, {"B": 64}, by_n, {"n": 333}),
    **launches("byte_index", {"x": F, "out": F}, {"B": 128}, (3,), {}),
    **launches(
        "tma_softmax", {"x": F, "out": F, "M": J, "N": J}, {"BM": 16, "BN": 32}, by_tiles, {"M": 48, "N": 80}
    ),
    **launches(
        "tma_neg", {"x": F, "out": F, "M": J, "N": J}, {"BM": 16, "BN": 32}, lambda m: (up(m["M"], m["BM"]),), {"M": 48, "N": 32}
    ),
    **launches("not_mask", FLAT, {"B": 64}, by_n, {"n": 333}),
    **launches(
        "vec3d", {"x": F, "out": F, "A": N, "Bs": N, "C": N}, {"BA": 4, "BB": 8, "BC": 16},
        lambda m: (up(m["A"], m["BA"]), up(m["Bs"], m["BB"]), up(m["C"], m["BC"])), {"A": 7, "Bs": 13, "C": 37},
    ),
    **launches(
        "groupnorm", {"x": F, "w": F, "out": F, "C": N, "HW": N}, {"GS": 8, "B": 64}, lambda m: (2, up(m["C"], m["GS"])),
        {"C": 20, "HW": 133},
    ),
    **launches("tail_branch", FLAT, {"B": 64}, by_n, {"n": 333}, {"n": 320}),
    **launches(
        "triangle_map", {"x": F, "out": F, "T": N}, {"B": 16}, lambda m: (up(m["T"], m["B"]), up(m["T"], m["B"])), {"T": 75}
    ),
    **launches(
        "main_tail", PRODUCT, TILES, by_tiles, {"M": 45, "N": 70, "K": 77}, {"M": 64, "N": 64, "K": 64}, {"M": 64, "N": 64, "K": 20}
    ),
    **launches(
        "attn_bwd_kv", BACKWARD, {"BM": 32, "BN": 64, "D": 64}, lambda m: (up(m["CTX"], m["BN"]), 2),
        {"CTX": 200, "stride": 200 * 64},
    ),
    **launches("first_iter", {"x": F, "w": F, "out": F, "T": N}, {"B": 64}, (1,), {"T": 5}, {"T": 1}),
    **launches("not_first", {"x": F, "out": F, "T": N}, {"B": 64}, (1,), {"T": 5}, {"T": 1}),
    **launches(
        "three_digits", {"x": F, "out": F, "H": N, "W": N}, {"B": 64}, lambda m: (2 * m["H"] * up(m["W"], m["B"]),),
        {"H": 3, "W": 133},
    ),
    **launches("reshaped_index", FLAT, {"B": 64}, by_n, {"n": 333}),
    **launches("atomics", {"x": "*i32", "out": "*i32", "n": N}, {"B": 64}, by_n, {"n": 333}),
    **launches("peeled", FLAT, {"B": 64}, (1,), {"n": 333}, {"n": 50}, {"n": 64}),
    **launches("mask_after_loop", {"x": F, "y": F, "n": N}, {"B": 64}, (1,), {"n": 333}, {"n": 50}),
    **launches("kv_split", {**FLAT, "S": N}, {"B": 64}, lambda m: (m["S"],), {"n": 1000, "S": 3}, {"n": 200, "S": 5}),
    **launches(
        "causal_two_stage", {"k": F, "out": F, "CTX": N}, {"BM": 96, "BN": 64}, lambda m: (up(m["CTX"], m["BM"]),),
        {"CTX": 1000}, {"CTX": 96},
    ),
    **launches("tail_rows", FLAT, {"B": 64}, (8,), {"n": 20}, {"n": 5}),
    **launches("rows_per", {**FLAT, "R": N}, {"B": 64}, (8,), {"n": 33, "R": 4}, {"n": 20, "R": 4}),
    **launches("carried_pid", FLAT, {"B": 64}, (4,), {"n": 300}, {"n": 20}),
    **launches(
        "else_loop", {**FLAT, "lo": N, "hi": N}, {"B": 32}, (6,), {"n": 100, "lo": 2, "hi": 4}, {"n": 20, "lo": 1, "hi": 2}
    ),
    **launches(
        "swa", {"k": F, "out": F, "CTX": N, "W": N}, {"BM": 64, "BN": 32}, lambda m: (up(m["CTX"], m["BM"]),),
        {"CTX": 640, "W": 100}, {"CTX": 100, "W": 500},
    ),
    **launches("split_k_tail", {"a": F, "out": F, "K": N}, {"BK": 32, "S": 4}, (4,), {"K": 300}, {"K": 50}),
    **launches("nested_carry", {"x": F, "out": F, "R": N, "C": N}, {"B": 32}, (1,), {"R": 5, "C": 70}, {"R": 3, "C": 20}),
    **launches("two_where", {**FLAT, "m": N}, {"B": 32}, by_n, {"n": 70, "m": 20}),
    **launches("under_another_name", {**FLAT, "m": N}, {"B": 64}, by_n, {"n": 333, "m": 200}),
    **launches("two_phase", FLAT, {"B": 64}, (4,), {"n": 333}, {"n": 1000}),
    **launches("window", {**FLAT, "W": N}, {"BM": 32, "BN": 64}, by_n, {"n": 300, "W": 100}, {"n": 256, "W": 64}),
    **launches(
        "grouped_batched", PRODUCT, {**TILES, "GROUP": 4}, lambda m: (up(m["M"], m["BM"]) * up(m["N"], m["BN"]), 3),
        {"M": 180, "N": 100, "K": 77},
    ),
    **launches("two_returns", SPAN, {"B": 64}, by_n, {"n": 333, "lo": 1, "hi": 4}, {"n": 333, "lo": 2, "hi": 2}),
    **launches("step_arg", {"x": F, "y": F, "n": N, "step": N}, {"B": 64}, (1,), {"n": 333, "step": 7}),
    **launches("gqa", {"q": F, "k": F, "out": F, "S": N}, {"HQ": 8, "HK": 2, "D": 64, "B": 32}, (8,), {"S": 100}),
    **launches("diag_mask", {"x": F, "out": F, "T": N}, {"B": 32}, lambda m: (up(m["T"], m["B"]),), {"T": 100}),
    **launches("shrinking", {**FLAT, "T": N}, {"B": 32}, (1,), {"n": 100, "T": 5}, {"n": 20, "T": 9}),
    **launches("loop_bound_div", {**FLAT, "w": N}, {"B": 64}, by_n, {"n": 640, "w": 128}, {"n": 640, "w": 100}),
    **launches("neg_offset", FLAT, {"B": 64}, by_n, {"n": 333}),
    **launches("minmask", {**FLAT, "m": N}, {"B": 64}, by_n, {"n": 333, "m": 200}),
    **launches("offset_arg", {**FLAT, "start": N}, {"B": 64}, by_n, {"n": 333, "start": 5}),
}  # fmt: skip
"""Launches whose bytes are compared with the interpreter's, by kernel."""

REFUSED = {
    "negative_mod": (Case("negative_mod", FLAT, {"B": 64}, by_n, {"n": 333}), "a remainder of what may be negative"),
    "negative_div": (Case("negative_div", FLAT, {"B": 64}, by_n, {"n": 333}), "a division of what may be negative"),
    "trunc_div": (Case("trunc_div", FLAT, {"B": 64}, (2,), {"n": 333}), "a division of what may be negative"),
    "shifted_div": (Case("shifted_div", {**FLAT, "pad": N}, {"B": 64}, by_n, {"n": 333, "pad": 100}), "a division of what may be"),
    "shifted_mod": (Case("shifted_mod", {**FLAT, "pad": N}, {"B": 64}, by_n, {"n": 333, "pad": 100}), "a remainder of what may"),
    "narrow": (Case("narrow", FLAT, {"B": 256}, (2,), {"n": 333}), "a number of 8 bits, which may not hold it"),
    "other_width": (Case("other_width", {"x": H, "out": "*i32", "n": N}, {"B": 64}, by_n, {"n": 333}), "elements of another width"),
}  # fmt: skip
"""Kernels that are refused, and what the error says."""
