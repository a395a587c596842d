"""Kernels that no constant of the register estimate was chosen on: it is judged on what nvcc makes of these.

They are written for the compiler to read: every load stands where the arithmetic needs it, and it merges equal addresses itself.
"""

from costmodel import kernel
from costmodel.dtypes import f32, f64


@kernel
def convolution_direct(k, *, N, BX, BY, TX, TY, F):
    """F × F taps from a shared tile, TX × TY outputs for each thread, BX and BY apart."""
    k.require(N % (BX * TX) == 0, N % (BY * TY) == 0)
    image, out = k.buffer("image", (N + F - 1, N + F - 1), f32, read_only=True), k.buffer("out", (N, N), f32)
    weights = k.constant("weights", (F, F), f32)
    tile = k.shared("tile", (BY * TY + F - 1, BX * TX + F - 1), f32)
    acc = k.register("acc", (TY, TX), f32)
    with k.blocks(N // (BX * TX), N // (BY * TY)) as (bx, by), k.threads(BX, BY) as (u, v):
        with k.serial(TY + 1, "r") as r, k.serial(TX + 1, "c") as c:
            row, column = v + r * BY, u + c * BX
            with k.when(row < BY * TY + F - 1, column < BX * TX + F - 1):
                k.copy(image[by * BY * TY + row, bx * BX * TX + column], tile[row, column])
        k.barrier()
        with k.unrolled(F, "i") as i, k.unrolled(F, "j") as j, k.unrolled(TY, "y") as y, k.unrolled(TX, "x") as x:
            k.do(
                "tap",
                loads=[tile[v + y * BY + i, u + x * BX + j], weights[i, j], acc[y, x]],
                work=k.fma(f32),
                stores=acc[y, x],
            )
        with k.unrolled(TY, "y") as y, k.unrolled(TX, "x") as x:
            k.store(out[by * BY * TY + v + y * BY, bx * BX * TX + u + x * BX])


@kernel(static=("R", "WIDE"))
def star_3d(k, *, N, BX, BY, BZ, R, WIDE):
    """A star of range R, one point for each thread, straight from global memory."""
    k.require(N % BX == 0, N % BY == 0, N % BZ == 0)
    dtype = f64 if WIDE else f32
    source = k.buffer("source", (N + 2 * R, N + 2 * R, N + 2 * R), dtype, read_only=True)
    target = k.buffer("target", (N + 2 * R, N + 2 * R, N + 2 * R), dtype)
    k.launch_bound(BX * BY * BZ)
    with k.blocks(N // BX, N // BY, N // BZ) as (bx, by, bz), k.threads(BX, BY, BZ) as (tx, ty, tz):
        x, y, z = bx * BX + tx + R, by * BY + ty + R, bz * BZ + tz + R
        loads = [source[z, y, x]]
        for d in range(1, R + 1):
            for sign in (-d, d):
                loads += [source[z + sign, y, x], source[z, y + sign, x], source[z, y, x + sign]]
        k.do("star", loads=loads, work=[k.add(dtype), k.fma(dtype, len(loads) - 1)], stores=target[z, y, x])


@kernel(static=("R",))
def box_2d(k, *, N, BX, BY, R):
    """A box of range R, one point for each thread."""
    k.require(N % BX == 0, N % BY == 0)
    source = k.buffer("source", (N + 2 * R, N + 2 * R), f32, read_only=True)
    target = k.buffer("target", (N + 2 * R, N + 2 * R), f32)
    with k.blocks(N // BX, N // BY) as (bx, by), k.threads(BX, BY) as (tx, ty):
        x, y = bx * BX + tx, by * BY + ty
        loads = [source[y + j, x + i] for j in range(2 * R + 1) for i in range(2 * R + 1)]
        k.do("box", loads=loads, work=[k.add(f32), k.fma(f32, len(loads) - 1)], stores=target[y + R, x + R])


@kernel
def saxpy_unrolled(k, *, N, B, U):
    """y += a·x, U elements for each thread, B apart."""
    k.require(N % (B * U) == 0)
    x, y = k.buffer("x", (N,), f32, read_only=True), k.buffer("y", (N,), f32)
    with k.blocks(N // (B * U)) as b, k.threads(B) as t, k.unrolled(U, "u") as u:
        i = b * B * U + u * B + t
        k.do("saxpy", loads=[x[i], y[i]], work=k.fma(f32), stores=y[i])


@kernel
def row_sums(k, *, N, B, U):
    """Sums of rows, one row for each thread, the loop unrolled U times."""
    k.require(N % B == 0)
    a, s = k.buffer("a", (N, N), f32, read_only=True), k.buffer("s", (N,), f32)
    total = k.register("total", (1,), f32)
    with k.blocks(N // B) as b, k.threads(B) as t:
        with k.serial(N, "j", unroll=U) as j:
            k.do("add", loads=[a[j, b * B + t], total[0]], work=k.add(f32), stores=total[0])
        k.store(s[b * B + t])


@kernel
def n_body(k, *, N, B, T):
    """Forces on T bodies of each thread from B bodies at a time in shared memory."""
    k.require(N % (B * T) == 0)
    bodies, forces = k.buffer("bodies", (N, 4), f32, read_only=True), k.buffer("forces", (N, 4), f32)
    tile = k.shared("tile", (B, 4), f32)
    mine, force = k.register("mine", (T, 4), f32), k.register("force", (T, 4), f32)
    with k.blocks(N // (B * T)) as b, k.threads(B) as t:
        with k.unrolled(T, "m") as m:
            k.copy(bodies[b * B * T + m * B + t, 0].wide(4), mine[m, 0].wide(4))
        with k.serial(N // B, "tile") as i:
            k.copy(bodies[i * B + t, 0].wide(4), tile[t, 0].wide(4))
            k.barrier()
            with k.serial(B, "j", unroll=8) as j, k.unrolled(T, "m") as m:
                k.do(
                    "interact",
                    loads=[tile[j, 0].wide(4), mine[m, 0].wide(4), force[m, 0].wide(4)],
                    work=[k.fma(f32, 16), k.special(f32)],
                    stores=force[m, 0].wide(4),
                )
            k.barrier()
        with k.unrolled(T, "m") as m:
            k.store(forces[b * B * T + m * B + t, 0].wide(4))


@kernel
def outer_product(k, *, M, N, K, B, T):
    """C = A·B with T × T tiles of registers and operands straight from global memory."""
    k.require(M % (B * T) == 0, N % (B * T) == 0)
    a, b, c = k.buffer("a", (K, M), f32, read_only=True), k.buffer("b", (K, N), f32, read_only=True), k.buffer("c", (M, N), f32)
    acc, x, y = k.register("acc", (T, T), f32), k.register("x", (T,), f32), k.register("y", (T,), f32)
    with k.blocks(N // (B * T), M // (B * T)) as (bx, by), k.threads(B, B) as (tx, ty):
        row, column = by * B * T + ty * T, bx * B * T + tx * T
        with k.serial(K, "kk", unroll=2) as kk:
            with k.unrolled(T, "i") as i:
                k.copy(a[kk, row + i], x[i])
            with k.unrolled(T, "j") as j:
                k.copy(b[kk, column + j], y[j])
            with k.unrolled(T, "i") as i, k.unrolled(T, "j") as j:
                k.do("multiply", loads=[x[i], y[j], acc[i, j]], work=k.fma(f32), stores=acc[i, j])
        with k.unrolled(T, "i") as i, k.unrolled(T, "j") as j:
            k.store(c[row + i, column + j])


CONFIGURATIONS = {
    "convolution_direct": [
        {"N": 4096, "BX": bx, "BY": by, "TX": tx, "TY": ty, "F": f}
        for f in (5, 9, 15) for bx, by in ((32, 4), (16, 16)) for tx, ty in ((1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4))
    ],
    "star_3d": [
        {"N": 512, "BX": 32, "BY": 4, "BZ": 8 if wide else 2, "R": r, "WIDE": wide} for r in (1, 2, 4) for wide in (0, 1)
    ],
    "box_2d": [{"N": 4096, "BX": 32, "BY": 8, "R": r} for r in (1, 2, 3, 4)],
    "saxpy_unrolled": [{"N": 1 << 24, "B": 256, "U": u} for u in (1, 2, 4, 8, 16)],
    "row_sums": [{"N": 4096, "B": 128, "U": u} for u in (1, 4, 8, 16)],
    "n_body": [{"N": 65536, "B": 128, "T": t} for t in (1, 2, 4)],
    "outer_product": [{"M": 4096, "N": 4096, "K": 4096, "B": 16, "T": t} for t in (1, 2, 4, 8)],
}  # fmt: skip
"""By name of the description."""
