"""Matrix products as vendor libraries write them for matrix units: Y = X·Wᵀ in bf16 or fp16, sums in fp32.

A block computes a BM × BN tile in steps of BK, whose operands are copied asynchronously (cp.async, TMA) into a ring of `STAGES`
tiles of shared memory. X is M × K and W is N × K (a linear layer's weight), both with K fastest. Blocks are launched in groups of
tile columns, row after row, so that a wave shares rows and columns in L2. With `SPLIT` > 1 that many blocks share the depth of
one tile: they write partial sums in fp32 and read them again to add them up.

Rows of a tile that M does not fill are multiplied, not loaded: tiles share the M rows evenly here, which leaves the bytes and
multiplications of the whole as they are. Sources: CUTLASS 2.x `MmaMultistage` and `GemmIdentityThreadblockSwizzle`, CUTLASS 3.x
`sm90` warp-specialised main loop; PTX ISA, `mma.sync.m16n8k16`, `ldmatrix`, `wgmma.mma_async`.
"""

from contextlib import contextmanager
from fractions import Fraction

from costmodel import kernel
from costmodel.dtypes import bf16, f32
from costmodel.ir import maximum, minimum

LANES = 32
VECTOR = 8
"""Elements of a 16-byte copy."""
DEPTH = 16
"""Of one matrix instruction."""
WIDE = 4 * LANES
"""Threads that share a `wgmma`."""


@kernel(static=("SPLITS",))
def gemm_mma(k, *, M, N, K, BM, BN, BK, WM, WN, STAGES, SPLIT=1, SPLITS=False):
    """Ampere's way: warps of WM × WN load fragments from shared memory and multiply with mma.m16n8k16."""
    k.require(BM % WM == 0, BN % WN == 0, WM % 16 == 0, WN % 16 == 0)
    a, b = k.register("a", (WM * DEPTH // LANES,), bf16), k.register("b", (WN * DEPTH // LANES,), bf16)
    acc = k.register("acc", (WM * WN // LANES,), f32)
    across, pieces = BN // WN, BK // VECTOR
    with _tile(k, M, N, K, BM, BN, BK, across * (BM // WM) * LANES, STAGES, SPLIT, SPLITS) as (depth, t):
        lane, wn, wm = t % LANES, t // LANES % across, t // LANES // across
        with depth as (x, w), k.unrolled(BK // DEPTH, "kk") as kk:
            piece, row = kk * 2 + lane // 16, lane % 16
            with k.unrolled(WM // 16, "i") as i:
                k.copy(x[at := wm * WM + i * 16 + row, swizzled(piece, at, pieces), 0].wide(VECTOR), a[i * VECTOR].wide(VECTOR), "fragment of X")
            with k.unrolled(WN // 16, "j") as j:
                k.copy(w[at := wn * WN + j * 16 + row, swizzled(piece, at, pieces), 0].wide(VECTOR), b[j * VECTOR].wide(VECTOR), "fragment of W")
            with k.unrolled(WM // 16, "i") as i, k.unrolled(WN // 8, "j") as j:
                c = acc[(i * (WN // 8) + j) * 4]
                k.do("multiply", loads=[a[i * VECTOR], b[j * 4], c], stores=c, work=k.mma(16, 8, DEPTH, bf16))


@kernel(static=("SPLITS", "MULTICAST"))
def gemm_wgmma(k, *, M, N, K, BM, BN, BK, WM, WN, STAGES, SPLIT=1, SPLITS=False, MULTICAST=""):
    """Hopper's way: groups of four warps multiply WM × WN tiles, with both operands straight from shared memory.

    `MULTICAST="W"`: two blocks of a cluster need the same tile of W; each copies half of it, into both (X likewise).
    """
    k.require(BM % WM == 0, BN % WN == 0, WM % 64 == 0, WN % 32 == 0)
    acc = k.register("acc", (WM * WN // WIDE,), f32)
    across, pieces = BN // WN, BK // VECTOR
    with _tile(k, M, N, K, BM, BN, BK, across * (BM // WM) * WIDE, STAGES, SPLIT, SPLITS, MULTICAST) as (depth, t):
        lane, warp, wn, wm = t % LANES, t // LANES % 4, t // WIDE % across, t // WIDE // across
        with depth as (x, w), k.unrolled(BK // DEPTH, "kk") as kk:
            piece, row = kk * 2 + lane // 16, warp * 16 + lane % 16
            with k.unrolled(WM // 64, "i") as i:
                at = wm * WM + i * 64 + row
                k.do("operand X", loads=x[at, swizzled(piece, at, pieces), 0].wide(VECTOR), asynchronous=True)
                with k.unrolled(WN // 32, "j") as j:
                    at = wn * WN + j * 32 + warp * 8 + lane % 8
                    own = w[at, swizzled(kk * 2 + lane // 8 % 2, at, pieces), lane // 16 * 4]
                    k.do("operand W", loads=own.wide(4), asynchronous=True)
                k.do("multiply", loads=acc[i], stores=acc[i], work=k.mma(16, WN, DEPTH, bf16), asynchronous=True)


@contextmanager
def _tile(k, M, N, K, BM, BN, BK, threads, STAGES, SPLIT, SPLITS, multicast=""):
    """What all such kernels share: grid, asynchronous copies, and the stores of a tile. Yields the main loop and the thread."""
    pieces = BK // VECTOR
    high = threads // pieces
    k.require(BK % DEPTH == 0, K % VECTOR == 0, N % VECTOR == 0, threads % pieces == 0)
    down, right = -(-M // BM), -(-N // BN)
    tall, wide = -(-M // down), -(-N // right)
    steps = -(-K // (BK * SPLIT))
    X = k.buffer("X", (down * tall, steps * SPLIT * BK), bf16, strides=(K, 1), read_only=True)
    W = k.buffer("W", (right * wide, steps * SPLIT * BK), bf16, strides=(K, 1), read_only=True)
    Y = k.buffer("Y", (down * tall, right * wide), bf16, strides=(N, 1))
    shX = k.shared("shX", (STAGES * BM, pieces, VECTOR), bf16, dynamic=True)
    shW = k.shared("shW", (STAGES * BN, pieces, VECTOR), bf16, dynamic=True)
    k.launch_bound(threads)
    if multicast:
        k.require((down if multicast == "W" else right) >= 2)
    if SPLITS:
        k.require(SPLIT > 1, SPLIT * BK <= K)
        partial = k.buffer("partial", (SPLIT, down * tall, right * wide), f32, strides=(down * tall * N, N, 1))
        grid = (right, down, SPLIT)
    else:
        grid = (_group(right), down, right // _group(right))
    with k.blocks(*grid) as (first, m, last), k.threads(pieces, high) as (x, y):
        n, part = (first, last) if SPLITS else (last * _group(right) + first, 0)

        @contextmanager
        def depth():
            with k.serial(steps, "step", stages=STAGES) as step:
                for source, tile, origin, rows, full in ((X, shX, m * tall, tall, BM), (W, shW, n * wide, wide, BN)):
                    with k.unrolled(-(-full // high), "s") as s:
                        row = s * high + y
                        mine = Fraction(1, 2) if source.buffer.name == multicast else None
                        with k.when(row < rows, fraction=mine):
                            at = (part * steps + step) * BK + x * VECTOR
                            target = tile[row, swizzled(x, row, pieces), 0]
                            k.copy(source[origin + row, at].wide(VECTOR), target.wide(VECTOR), "copy", asynchronous=True)
                k.barrier()
                yield shX, shW

        yield depth(), x + pieces * y

        def finish(name, vector, act):
            """Every element of the tile, `vector` at a time: a row of lanes side by side, the others in further rows."""
            with k.unrolled(-(-BM // high), "i") as i, k.unrolled(-(-BN // (pieces * vector)), "j") as j:
                row, column = i * high + y, (j * pieces + x) * vector
                with k.when(row < tall, column < wide):
                    act(m * tall + row, n * wide + column)

        if SPLITS:
            finish("partial sums", 4, lambda r, c: k.store(partial[part, r, c].wide(4), name="partial sums"))
            k.barrier()
            add = k.add(f32, 4)
            finish("sum", 4, lambda r, c: k.do("sum", loads=partial[part, r, c].wide(4).uncached(), work=add))
            with k.when(part < 1):
                finish("result", VECTOR, lambda r, c: k.store(Y[r, c].wide(VECTOR), name="result"))
        else:
            finish("result", VECTOR, lambda r, c: k.store(Y[r, c].wide(VECTOR), name="result"))


def swizzled(piece, row, pieces):
    """Where a 16-byte piece of a row lies, so that neither rows nor columns of pieces meet in a bank."""
    return piece ^ (row * pieces // 8 % pieces)


def _group(tiles):
    """Tile columns launched together: all of up to 16, else the largest power of two up to 8 that divides them."""
    powers = 1 + sum(n // 2 * (1 - minimum(tiles % n, 1)) for n in (2, 4, 8))
    return maximum(powers, tiles * minimum(16 // tiles, 1))
