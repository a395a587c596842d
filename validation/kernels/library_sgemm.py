"""Single-precision matrix products of vendor libraries on FMA lanes: PyTorch's `linear` and `bmm`.

A block of warps computes a BM × BN tile of Y in short steps of the depth: a step is loaded into registers while the one before is
multiplied (`stages=2`), then stored to shared memory; each thread keeps TM × TN sums. With `SLICES` > 1 as many groups of threads
take turns at the depth of a step (adding up their sums at the end is left out); with `SPLIT` > 1 as many blocks share the depth
of a tile. M is the slow dimension of Y, N the fast one; libraries name tiles the other way round (`sgemm_128x64` is
BN = 128, BM = 64). Tiles share rows and columns evenly, as in `library_gemm`, in whole groups of `EVEN`. Sources: kernel names
and grids in NeuSight's data; maxas, "SGEMM" (Scott Gray), for the inner loops.
"""

from costmodel import kernel
from costmodel.dtypes import f32
from costmodel.ir import maximum

VECTOR = 4
EVEN = 8
"""Rows and columns that a tile holds are a multiple of this: a sector of them."""
STEP = 8
"""Depth of a step of one slice."""


@kernel(static=("SPLITS", "V"))
def linear(k, *, M, N, K, BM, BN, TM, TN, SLICES, V, SPLIT=1, SPLITS=False):
    """Y = X·Wᵀ + bias: both operands with the depth K fastest, read `V` elements at a time and turned round in shared memory."""
    _product(k, 1, M, N, K, BM, BN, TM, TN, SLICES, V, SPLIT, SPLITS, by_depth=True)


@kernel(static=("SPLITS", "V"))
def bmm(k, *, B, M, N, K, BM, BN, TM, TN, SLICES, V, SPLIT=1, SPLITS=False):
    """B products of row-major matrices: X with the depth fastest, W with N fastest."""
    _product(k, B, M, N, K, BM, BN, TM, TN, SLICES, V, SPLIT, SPLITS, by_depth=False)


def _product(k, B, M, N, K, BM, BN, TM, TN, SLICES, V, SPLIT, SPLITS, by_depth):
    down, right = -(-M // BM), -(-N // BN)
    tall, wide = (-(-n // (tiles * EVEN)) * EVEN for n, tiles in ((M, down), (N, right)))
    each = (BM // TM) * (BN // TN)
    threads, deep = each * SLICES, STEP * SLICES
    steps = -(-K // (deep * SPLIT))
    depth = steps * SPLIT * deep
    k.require(BM % TM == 0, BN % TN == 0, TM % VECTOR == 0, TN % VECTOR == 0)
    uneven = maximum(K % VECTOR, N % VECTOR)
    k.require(uneven == 0 if V > 1 else uneven > 0)
    if SPLITS:
        k.require(SPLIT > 1, SPLIT * deep <= K)
    X = k.buffer("X", (B, down * tall, depth), f32, strides=(M * K, K, 1), read_only=True)
    if by_depth:
        W = k.buffer("W", (B, right * wide, depth), f32, strides=(N * K, K, 1), read_only=True)
    else:
        W = k.buffer("W", (B, depth, right * wide), f32, strides=(K * N, N, 1), read_only=True)
    Y = k.buffer("Y", (B, down * tall, right * wide + deep), f32, strides=(M * N, N, 1))
    partial = k.buffer("partial", (SPLIT, down * tall, right * wide + deep), f32) if SPLITS else None
    shX, shW = k.shared("shX", (2 * deep, BM), f32), k.shared("shW", (2 * deep, BN), f32)
    acc = k.register("acc", (TM, TN), f32)
    x_reg, w_reg = k.register("x_reg", (TM,), f32), k.register("w_reg", (TN,), f32)
    k.launch_bound(threads)
    quick = deep // V
    high = threads // quick
    with k.blocks(right, down, SPLIT if SPLITS else B) as (n, m, last), k.threads(quick, high) as (tx, ty):
        batch, part = (0 if SPLITS or by_depth else last), (last if SPLITS else 0)
        lane, own = (tx + quick * ty) % each, (tx + quick * ty) // each
        across, along = lane % (BN // TN), lane // (BN // TN)

        def by_depth_first(source, tile, origin, rows, full, start):
            with k.unrolled(-(-full // high), "s") as s, k.when(s * high + ty < rows):
                row = s * high + ty
                k.load(source[batch, origin + row, start + tx * V].wide(V), name="load")
                with k.unrolled(V, "v") as v:
                    k.store(tile[tx * V + v, row], name="stage")

        with k.serial(steps, "step", stages=2) as step:
            start = (part * steps + step) * deep
            by_depth_first(X, shX, m * tall, tall, BM, start)
            if by_depth:
                by_depth_first(W, shW, n * wide, wide, BN, start)
            else:
                with k.unrolled(V, "r") as r, k.unrolled(-(-BN // (high * V)), "s") as s, k.when((s * high + ty) * V < wide):
                    row, column = r * quick + tx, (s * high + ty) * V
                    k.copy(W[batch, start + row, n * wide + column].wide(V), shW[row, column].wide(V), "copy")
            k.barrier()
            with k.unrolled(STEP, "kk") as kk:
                row = own * STEP + kk
                with k.unrolled(TM // VECTOR, "i") as i:
                    k.copy(
                        shX[row, (along + i * (BM // TM)) * VECTOR].wide(VECTOR), x_reg[i * VECTOR].wide(VECTOR), "fragment of X"
                    )
                with k.unrolled(TN // VECTOR, "j") as j:
                    k.copy(
                        shW[row, (across + j * (BN // TN)) * VECTOR].wide(VECTOR), w_reg[j * VECTOR].wide(VECTOR), "fragment of W"
                    )
                with k.unrolled(TM, "i") as i, k.unrolled(TN, "j") as j:
                    k.do("multiply", loads=[x_reg[i], w_reg[j], acc[i, j]], stores=acc[i, j], work=k.fma(f32))

        def finish(act):
            with k.unrolled(-(-BM // high), "i") as i, k.unrolled(-(-wide // (quick * V)), "j") as j:
                row, column = i * high + ty, (j * quick + tx) * V
                with k.when(row < tall):
                    act(m * tall + row, n * wide + column)

        if SPLITS:
            finish(lambda r, c: k.store(partial[part, r, c].wide(V), name="partial sums"))
            k.barrier()
            finish(lambda r, c: k.do("sum", loads=partial[part, r, c].wide(V).uncached(), work=k.add(f32, V)))
            with k.when(part < 1):
                finish(lambda r, c: k.store(Y[0, r, c].wide(V), name="result"))
        else:
            finish(lambda r, c: k.store(Y[batch, r, c].wide(V), name="result"))


TILES = [
    (128, 128, 8, 8, 1),
    (64, 128, 8, 8, 1),
    (128, 64, 8, 8, 1),
    (64, 64, 8, 8, 1),
    (32, 128, 4, 4, 1),
    (128, 32, 4, 4, 1),
    (32, 64, 4, 8, 4),
    (32, 32, 4, 8, 4),
]
"""BM, BN, TM, TN, slices. Source: names of cuBLAS kernels and their block sizes (`volta_sgemm_128x64_tn`, 128 threads)."""
SPLIT = (1, 2, 3, 5, 8)


def _tiles(splits):
    rows = [(*tile, V, split, split > 1) for tile in TILES for V in (1, 4) for split in splits]
    names = ("BM", "BN", "TM", "TN", "SLICES", "V", "SPLIT", "SPLITS")
    return dict(zip(names, (list(column) for column in zip(*rows, strict=True)), strict=True))


CALL_S = 12e-6
"""As in `elementwise`."""
SPACE = {"linear": {"M": 4096, "N": 4096, "K": 4096} | {n: sorted(set(c)) for n, c in _tiles((1,)).items()}}
DATASETS = {
    "neusight_linear": {"description": linear, "columns": {"N": "K", "K": "N"}, "schedules": _tiles(SPLIT), "launch_s": CALL_S},
    "neusight_bmm": {"description": bmm, "columns": {"N": "K", "K": "N"}, "schedules": _tiles((1,)), "launch_s": CALL_S},
}
"""In the data N is the depth and K the width of the output."""
