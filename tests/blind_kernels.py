"""Kernels compiled once, after the register estimate was finished: nothing was changed for what they showed."""

from costmodel import kernel
from costmodel.dtypes import f32, f64


@kernel
def softmax_rows(k, *, N, B, U):
    """Three passes over a row that a block holds in registers: maximum, sum of exponentials, quotients."""
    k.require(N % (B * U) == 0)
    a, c = k.buffer("a", (N, N), f32, read_only=True), k.buffer("c", (N, N), f32)
    part = k.shared("part", (B,), f32)
    x = k.register("x", (U,), f32)
    with k.blocks(N) as row, k.threads(B) as t:
        with k.unrolled(U, "u") as u:
            k.copy(a[row, u * B + t], x[u])
        with k.unrolled(U, "u") as u:
            k.do("exponential", loads=x[u], work=[k.fma(f32), k.special(f32)], stores=x[u])
        k.store(part[t])
        k.barrier()
        k.load(part[0])
        with k.unrolled(U, "u") as u:
            k.do("divide", loads=x[u], work=k.fma(f32), stores=c[row, u * B + t])


@kernel
def jacobi_shared(k, *, N, B, U):
    """A five-point stencil on a shared tile, U rows for each thread."""
    k.require(N % B == 0, N % (8 * U) == 0)
    a, c = k.buffer("a", (N + 2, N + 2), f32, read_only=True), k.buffer("c", (N + 2, N + 2), f32)
    tile = k.shared("tile", (8 * U + 2, B + 2), f32)
    with k.blocks(N // B, N // (8 * U)) as (bx, by), k.threads(B, 8) as (tx, ty):
        with k.unrolled(U, "u") as u:
            k.copy(a[by * 8 * U + u * 8 + ty, bx * B + tx], tile[u * 8 + ty, tx])
        k.barrier()
        with k.unrolled(U, "u") as u:
            y = u * 8 + ty
            loads = [tile[y, tx + 1], tile[y + 1, tx], tile[y + 1, tx + 1], tile[y + 1, tx + 2], tile[y + 2, tx + 1]]
            k.do("relax", loads=loads, work=[k.add(f32, 3), k.fma(f32)], stores=c[by * 8 * U + y + 1, bx * B + tx + 1])


@kernel
def gemm_double(k, *, N, T, BK):
    """16 × 16 threads, T × T doubles for each, operands in shared memory."""
    k.require(N % (16 * T) == 0, N % BK == 0)
    A, B, C = k.buffer("A", (N, N), f64, read_only=True), k.buffer("B", (N, N), f64, read_only=True), k.buffer("C", (N, N), f64)
    a, b = k.shared("a", (BK, 16 * T), f64), k.shared("b", (BK, 16 * T), f64)
    acc, x, y = k.register("acc", (T, T), f64), k.register("x", (T,), f64), k.register("y", (T,), f64)
    with k.blocks(N // (16 * T), N // (16 * T)) as (bx, by), k.threads(16, 16) as (tx, ty):
        with k.serial(N // BK, "kt") as kt:
            with k.unrolled(BK // 16, "r") as r, k.unrolled(T, "s") as s:
                k.copy(A[kt * BK + r * 16 + ty, by * 16 * T + s * 16 + tx], a[r * 16 + ty, s * 16 + tx])
                k.copy(B[kt * BK + r * 16 + ty, bx * 16 * T + s * 16 + tx], b[r * 16 + ty, s * 16 + tx])
            k.barrier()
            with k.unrolled(BK, "kk") as kk:
                with k.unrolled(T, "i") as i:
                    k.copy(a[kk, i * 16 + ty], x[i])
                    k.copy(b[kk, i * 16 + tx], y[i])
                with k.unrolled(T, "i") as i, k.unrolled(T, "j") as j:
                    k.do("multiply", loads=[x[i], y[j], acc[i, j]], work=k.fma(f64), stores=acc[i, j])
            k.barrier()
        with k.unrolled(T, "i") as i, k.unrolled(T, "j") as j:
            k.store(C[by * 16 * T + i * 16 + ty, bx * 16 * T + j * 16 + tx])


@kernel
def matrix_vector(k, *, N, B, U):
    """A row for each block of threads, U vectors of four at a time for each thread, then a tree in shared memory."""
    k.require(N % (B * 4 * U) == 0)
    A, x, y = k.buffer("A", (N, N), f32, read_only=True), k.buffer("x", (N,), f32, read_only=True), k.buffer("y", (N,), f32)
    part, total = k.shared("part", (B,), f32), k.register("total", (1,), f32)
    with k.blocks(N) as row, k.threads(B) as t:
        with k.serial(N // (B * 4), "j", unroll=U) as j:
            i = (j * B + t) * 4
            k.do("multiply", loads=[A[row, i].wide(4), x[i].wide(4), total[0]], work=k.fma(f32, 4), stores=total[0])
        k.store(part[t])
        k.barrier()
        with k.when(t < 1):
            k.do("last", loads=part[t], stores=y[row])


@kernel
def histogram(k, *, N, B, U):
    """Counts by atomics, U elements for each thread."""
    k.require(N % (B * U) == 0)
    a, c = k.buffer("a", (N,), f32, read_only=True), k.buffer("c", (B,), f32)
    with k.blocks(N // (B * U)) as b, k.threads(B) as t, k.unrolled(U, "u") as u:
        k.do("count", loads=a[(b * U + u) * B + t], work=k.add(f32), stores=c[t], atomic=True)


CONFIGURATIONS = {
    "softmax_rows": [{"N": 4096, "B": b, "U": 4096 // b} for b in (128, 256, 512, 1024)],
    "jacobi_shared": [{"N": 4096, "B": 32, "U": u} for u in (1, 2, 4)],
    "gemm_double": [{"N": 4096, "T": t, "BK": 16} for t in (1, 2, 4)],
    "matrix_vector": [{"N": 8192, "B": 128, "U": u} for u in (1, 2, 4, 8)],
    "histogram": [{"N": 1 << 24, "B": 256, "U": u} for u in (1, 4, 16)],
}
"""By name of the description."""
