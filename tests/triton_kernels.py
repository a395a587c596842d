"""Kernels of Triton's tutorials, re-written from their documentation: what the front end is tested on."""

import triton
import triton.language as tl


@triton.jit
def vector_add(x, y, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    tl.store(out + at, tl.load(x + at, mask=inside) + tl.load(y + at, mask=inside), mask=inside)


@triton.jit
def softmax(out, x, in_stride, out_stride, rows, columns, BLOCK: tl.constexpr, STAGES: tl.constexpr):
    first, step = tl.program_id(0), tl.num_programs(0)
    for row in tl.range(first, rows, step, num_stages=STAGES):
        at = tl.arange(0, BLOCK)
        inside = at < columns
        values = tl.load(x + row * in_stride + at, mask=inside, other=-float("inf"))
        shifted = tl.exp(values - tl.max(values, axis=0))
        tl.store(out + row * out_stride + at, shifted / tl.sum(shifted, axis=0), mask=inside)


@triton.jit
def softmax_by_row(out, x, in_stride, out_stride, columns, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    inside = at < columns
    values = tl.load(x + row * in_stride + at, mask=inside, other=-float("inf"))
    shifted = tl.exp(values - tl.max(values, axis=0))
    tl.store(out + row * out_stride + at, shifted / tl.sum(shifted, axis=0), mask=inside)


@triton.jit
def matmul(
    a, b, c, M, N, K, stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(axis=0)
    down, right = tl.cdiv(M, BM), tl.cdiv(N, BN)
    in_group = GROUP * right
    first = pid // in_group * GROUP
    size = min(down - first, GROUP)
    pid_m = first + (pid % in_group) % size
    pid_n = (pid % in_group) // size
    rows = (pid_m * BM + tl.arange(0, BM)) % M
    columns = (pid_n * BN + tl.arange(0, BN)) % N
    depth = tl.arange(0, BK)
    a_at = a + rows[:, None] * stride_am + depth[None, :] * stride_ak
    b_at = b + depth[:, None] * stride_bk + columns[None, :] * stride_bn
    sums = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK)):
        left = tl.load(a_at, mask=depth[None, :] < K - k * BK, other=0.0)
        right_tile = tl.load(b_at, mask=depth[:, None] < K - k * BK, other=0.0)
        sums = tl.dot(left, right_tile, sums)
        a_at += BK * stride_ak
        b_at += BK * stride_bk
    rows_c, columns_c = pid_m * BM + tl.arange(0, BM), pid_n * BN + tl.arange(0, BN)
    c_at = c + stride_cm * rows_c[:, None] + stride_cn * columns_c[None, :]
    tl.store(c_at, sums.to(tl.float16), mask=(rows_c[:, None] < M) & (columns_c[None, :] < N))


@triton.jit
def dropout(x, keep, out, n, p, BLOCK: tl.constexpr):
    at = tl.program_id(axis=0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    values, kept = tl.load(x + at, mask=inside), tl.load(keep + at, mask=inside)
    tl.store(out + at, tl.where(kept, values / (1 - p), 0.0), mask=inside)


@triton.jit
def seeded_dropout(x, out, n, p, seed, BLOCK: tl.constexpr):
    at = tl.program_id(axis=0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    values = tl.load(x + at, mask=inside)
    tl.store(out + at, tl.where(tl.rand(seed, at) > p, values / (1 - p), 0.0), mask=inside)


@triton.jit
def layer_norm(x, y, w, b, mean_of, rstd_of, stride, n, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    x += row * stride
    y += row * stride
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.load(x + at, mask=at < n, other=0.0).to(tl.float32)
    mean = tl.sum(total, axis=0) / n
    squares = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        centred = tl.where(at < n, tl.load(x + at, mask=at < n, other=0.0).to(tl.float32) - mean, 0.0)
        squares += centred * centred
    rstd = 1 / tl.sqrt(tl.sum(squares, axis=0) / n + eps)
    tl.store(mean_of + row, mean)
    tl.store(rstd_of + row, rstd)
    for start in range(0, n, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < n
        weight, bias = tl.load(w + at, mask=inside), tl.load(b + at, mask=inside)
        centred = (tl.load(x + at, mask=inside, other=0.0).to(tl.float32) - mean) * rstd
        tl.store(y + at, centred * weight + bias, mask=inside)


@triton.jit
def layer_norm_backward_dx(dx, dy, dw, db, x, w, mean_of, rstd_of, lock, stride, n, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    inside = at < n
    x += row * stride
    dy += row * stride
    dx += row * stride
    slot = row % GROUP
    lock += slot
    count = lock + GROUP
    dw = dw + slot * n + at
    db = db + slot * n + at
    xs = tl.load(x + at, mask=inside, other=0).to(tl.float32)
    dys = tl.load(dy + at, mask=inside, other=0).to(tl.float32)
    ws = tl.load(w + at, mask=inside).to(tl.float32)
    mean, rstd = tl.load(mean_of + row), tl.load(rstd_of + row)
    xhat = tl.where(inside, (xs - mean) * rstd, 0.0)
    wdy = tl.where(inside, ws * dys, 0.0)
    c1, c2 = tl.sum(xhat * wdy, axis=0) / n, tl.sum(wdy, axis=0) / n
    tl.store(dx + at, (wdy - (xhat * c1 + c2)) * rstd, mask=inside)
    partial_dw, partial_db = (dys * xhat).to(ws.dtype), dys.to(ws.dtype)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    seen = tl.load(count)
    if seen == 0:
        tl.atomic_xchg(count, 1)
    else:
        partial_dw += tl.load(dw, mask=inside)
        partial_db += tl.load(db, mask=inside)
    tl.store(dw, partial_dw, mask=inside)
    tl.store(db, partial_db, mask=inside)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@triton.jit
def layer_norm_backward_dwdb(dw, db, final_dw, final_db, M, N, BM: tl.constexpr, BN: tl.constexpr):
    columns = tl.program_id(0) * BN + tl.arange(0, BN)
    sum_w, sum_b = tl.zeros((BM, BN), dtype=tl.float32), tl.zeros((BM, BN), dtype=tl.float32)
    for i in range(0, M, BM):
        rows = i + tl.arange(0, BM)
        inside = (rows[:, None] < M) & (columns[None, :] < N)
        at = rows[:, None] * N + columns[None, :]
        sum_w += tl.load(dw + at, mask=inside, other=0.0)
        sum_b += tl.load(db + at, mask=inside, other=0.0)
    tl.store(final_dw + columns, tl.sum(sum_w, axis=0), mask=columns < N)
    tl.store(final_db + columns, tl.sum(sum_b, axis=0), mask=columns < N)


@triton.jit
def attention(
    q, k, v, out, lse, scale, stride_z, stride_h, stride_m, H, CTX,
    BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    start_m, batch_head = tl.program_id(0), tl.program_id(1)
    z, h = batch_head // H, batch_head % H
    base = z.to(tl.int64) * stride_z + h.to(tl.int64) * stride_h
    rows, columns, depth = start_m * BM + tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, D)
    queries = tl.load(q + base + rows[:, None] * stride_m + depth[None, :])
    most = tl.zeros([BM], dtype=tl.float32) - float("inf")
    total = tl.zeros([BM], dtype=tl.float32) + 1.0
    acc = tl.zeros([BM, D], dtype=tl.float32)
    scale *= 1.44269504
    end = CTX
    if CAUSAL:
        end = (start_m + 1) * BM
    for start_n in range(0, end, BN):
        start_n = tl.multiple_of(start_n, BN)
        keys = tl.load(k + base + (start_n + columns)[None, :] * stride_m + depth[:, None])
        scores = tl.dot(queries, keys) * scale
        if CAUSAL:
            scores = scores + tl.where(rows[:, None] >= (start_n + columns)[None, :], 0.0, -1.0e6)
        new = tl.maximum(most, tl.max(scores, 1))
        p = tl.math.exp2(scores - new[:, None])
        alpha = tl.math.exp2(most - new)
        total = total * alpha + tl.sum(p, 1)
        acc = acc * alpha[:, None]
        values = tl.load(v + base + (start_n + columns)[:, None] * stride_m + depth[None, :])
        acc = tl.dot(p.to(tl.float16), values, acc)
        most = new
    tl.store(lse + batch_head * CTX + rows, most + tl.math.log2(total))
    tl.store(out + base + rows[:, None] * stride_m + depth[None, :], (acc / total[:, None]).to(tl.float16))


@triton.jit
def grouped_matmul(
    a_pointers, b_pointers, c_pointers, sizes, strides, groups,
    SMS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    tile, end = tl.program_id(0), 0
    for g in range(groups):
        M, N, K = tl.load(sizes + g * 3), tl.load(sizes + g * 3 + 1), tl.load(sizes + g * 3 + 2)
        down, right = tl.cdiv(M, BM), tl.cdiv(N, BN)
        tiles = down * right
        while tile >= end and tile < end + tiles:
            lda, ldb, ldc = tl.load(strides + g * 3), tl.load(strides + g * 3 + 1), tl.load(strides + g * 3 + 2)
            a = tl.load(a_pointers + g).to(tl.pointer_type(tl.float16))
            b = tl.load(b_pointers + g).to(tl.pointer_type(tl.float16))
            c = tl.load(c_pointers + g).to(tl.pointer_type(tl.float16))
            mine = tile - end
            rows = mine // right * BM + tl.arange(0, BM)
            columns = mine % right * BN + tl.arange(0, BN)
            depth = tl.arange(0, BK)
            a_at, b_at = a + rows[:, None] * lda + depth[None, :], b + depth[:, None] * ldb + columns[None, :]
            sums = tl.zeros((BM, BN), dtype=tl.float32)
            for _ in range(0, tl.cdiv(K, BK)):
                sums += tl.dot(tl.load(a_at), tl.load(b_at))
                a_at += BK
                b_at += BK * ldb
            tl.store(c + rows[:, None] * ldc + columns[None, :], sums.to(tl.float16))
            tile += SMS
        end = end + tiles


@triton.jit
def _tile_of(tile, in_group, down, GROUP: tl.constexpr):
    first = tile // in_group * GROUP
    size = min(down - first, GROUP)
    return first + tile % size, tile % in_group // size


@triton.jit
def persistent_matmul(
    a, b, c, M, N, K, stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, SMS: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(axis=0)
    down, right, steps = tl.cdiv(M, BM), tl.cdiv(N, BN), tl.cdiv(K, BK)
    stored, in_tile = first - SMS, tl.arange(0, BK)
    for tile in tl.range(first, down * right, SMS, flatten=True):
        pid_m, pid_n = _tile_of(tile, GROUP * right, down, GROUP)
        rows, columns = pid_m * BM + tl.arange(0, BM), pid_n * BN + tl.arange(0, BN)
        rows, columns = tl.where(rows < M, rows, 0), tl.where(columns < N, columns, 0)
        rows = tl.max_contiguous(tl.multiple_of(rows, BM), BM)
        columns = tl.max_contiguous(tl.multiple_of(columns, BN), BN)
        sums = tl.zeros((BM, BN), dtype=tl.float32)
        for k in range(steps):
            depth = k * BK + tl.arange(0, BK)
            a_at = a + rows[:, None] * stride_am + depth[None, :] * stride_ak
            b_at = b + depth[:, None] * stride_bk + columns[None, :] * stride_bn
            left = tl.load(a_at, mask=in_tile[None, :] < K - k * BK, other=0.0)
            right_tile = tl.load(b_at, mask=in_tile[:, None] < K - k * BK, other=0.0)
            sums = tl.dot(left, right_tile, sums)
        stored += SMS
        pid_m, pid_n = _tile_of(stored, GROUP * right, down, GROUP)
        rows, columns = pid_m * BM + tl.arange(0, BM), pid_n * BN + tl.arange(0, BN)
        c_at = c + stride_cm * rows[:, None] + stride_cn * columns[None, :]
        tl.store(c_at, sums.to(tl.float16), mask=(rows[:, None] < M) & (columns[None, :] < N))


@triton.jit
def descriptor_matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    pid_m, pid_n = tl.program_id(1), tl.program_id(0)
    left = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    right = tl.make_tensor_descriptor(b, shape=[N, K], strides=[K, 1], block_shape=[BN, BK])
    result = tl.make_tensor_descriptor(c, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    sums = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(tl.cdiv(K, BK)):
        sums = tl.dot(left.load([pid_m * BM, k * BK]), right.load([pid_n * BN, k * BK]).T, sums)
    result.store([pid_m * BM, pid_n * BN], sums.to(tl.float16))


@triton.jit
def host_descriptor_matmul(a, b, c, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, K: tl.constexpr):
    pid_m, pid_n = tl.program_id(1), tl.program_id(0)
    sums = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(tl.cdiv(K, BK)):
        sums = tl.dot(a.load([pid_m * BM, k * BK]), b.load([pid_n * BN, k * BK]).T, sums)
    c.store([pid_m * BM, pid_n * BN], sums.to(tl.float16))


@triton.jit
def column_sums(x, out, rows, columns, BM: tl.constexpr, BN: tl.constexpr):
    at_row, at_column = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (at_row[:, None] < rows) & (at_column[None, :] < columns)
    values = tl.load(x + at_row[:, None] * columns + at_column[None, :], mask=inside, other=0.0)
    tl.atomic_add(out + at_column, tl.sum(values, axis=0), mask=at_column < columns)


@triton.jit
def transposed(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    rows, columns = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tile = tl.load(x + rows[:, None] * N + columns[None, :], mask=inside)
    tl.store(out + columns[:, None] * M + rows[None, :], tl.trans(tile), mask=tl.trans(inside))


@triton.jit
def left_early(x, out, n, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    if pid * BLOCK >= n:
        return
    at = pid * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def branched(x, out, n, BLOCK: tl.constexpr):
    pid = tl.program_id(0)
    at = pid * BLOCK + tl.arange(0, BLOCK)
    if pid == 0:
        tl.store(out + at, tl.load(x + at) + 1)
    else:
        tl.store(out + at, tl.load(x + at, mask=at < n), mask=at < n)


@triton.jit
def split_matmul(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SPLIT: tl.constexpr):
    pid, part = tl.program_id(0), tl.program_id(1)
    down = tl.cdiv(M, BM)
    rows, columns = (pid % down * BM + tl.arange(0, BM)) % M, (pid // down * BN + tl.arange(0, BN)) % N
    depth = part * BK + tl.arange(0, BK)
    a_at, b_at = a + rows[:, None] * K + depth[None, :], b + depth[:, None] * N + columns[None, :]
    sums = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, tl.cdiv(K, BK * SPLIT)):
        left = tl.load(a_at, mask=depth[None, :] < K - k * (BK * SPLIT), other=0.0)
        sums = tl.dot(left, tl.load(b_at, mask=depth[:, None] < K - k * (BK * SPLIT), other=0.0), sums)
        a_at += BK * SPLIT
        b_at += BK * SPLIT * N
    rows, columns = pid % down * BM + tl.arange(0, BM), pid // down * BN + tl.arange(0, BN)
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    tl.atomic_add(c + rows[:, None] * N + columns[None, :], sums, mask=inside)


@triton.jit
def pairs_swapped(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + at // 2 * 2 + (1 - at % 2), mask=at < n), mask=at < n)


@triton.jit
def running_sums(x, out, n, BLOCK: tl.constexpr):
    step = tl.num_programs(0) * BLOCK
    for start in range(tl.program_id(0) * BLOCK, n, step):
        at = start + tl.arange(0, BLOCK)
        tl.store(out + at, tl.cumsum(tl.load(x + at, mask=at < n, other=0.0), 0), mask=at < n)


@triton.jit
def row_sums_by_block_pointer(a, b, M, N, BM: tl.constexpr, BN: tl.constexpr):
    first = tl.program_id(0) * BM
    tile = tl.make_block_ptr(a, shape=(M, N), strides=(N, 1), offsets=(first, 0), block_shape=(BM, BN), order=(1, 0))
    sums = tl.zeros((BM,), dtype=tl.float32)
    for _ in range(0, N, BN):
        sums += tl.sum(tl.load(tile, boundary_check=(0, 1)).to(tl.float32), 1)
        tile = tl.advance(tile, (0, BN))
    rows = first + tl.arange(0, BM)
    tl.store(b + rows, sums, mask=rows < M)


@triton.jit
def awkward(lanes, i0, r1, BLOCK: tl.constexpr):
    for start in range(0, i0, BLOCK):
        at = start + tl.arange(0, BLOCK)
        values = tl.load(lanes + tl.program_id(0) * r1 + at, mask=at < i0, other=0.0)
        tl.store(lanes + tl.program_id(0) * r1 + at, values / tl.sum(values, 0), mask=at < i0)


@triton.jit
def gathered(table, where, out, n, width, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(table + tl.load(where + at)))
