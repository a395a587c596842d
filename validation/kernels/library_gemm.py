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
from typing import Literal

from costmodel import kernel
from costmodel.dtypes import bf16, f32
from costmodel.ir import maximum, minimum

LANES = 32
VECTOR = 8
"""Elements of a 16-byte copy."""
DEPTH = 16
"""Of one matrix instruction."""
WARPGROUP = 4 * LANES
"""Threads that share a `wgmma`."""


@kernel(static=("INSTRUCTION", "SPLITS", "MULTICAST"))
def library_gemm(
    k,
    *,
    M,
    N,
    K,
    BM,
    BN,
    BK,
    WM,
    WN,
    STAGES,
    SPLIT=1,
    SPLITS=False,
    INSTRUCTION: Literal["mma", "wgmma"] = "mma",
    MULTICAST: Literal["", "X", "W"] = "",
    FEW=1 << 20,
):
    """Y = X·Wᵀ with matrix instructions: `mma` of a warp, or `wgmma` of four.

    `SPLITS` says whether `SPLIT` is more than 1. With `MULTICAST="W"` the two blocks of a cluster need the same tile of W, and
    each copies half of it into both (X likewise). Libraries choose tiles no taller than four times M (or 64 rows), and split
    the depth only of fewer than `FEW` tiles.
    """
    group = WARPGROUP if INSTRUCTION == "wgmma" else LANES
    threads = BM // WM * (BN // WN) * group
    k.require(BM % WM == 0, BN % WN == 0, maximum(4 * M, 64) >= BM)
    acc = k.register("acc", (WM * WN // group,), f32)
    with _tile(k, M, N, K, BM, BN, BK, threads, STAGES, SPLIT, SPLITS, MULTICAST, FEW) as (depth, t):
        wn, wm = t // group % (BN // WN) * WN, t // group // (BN // WN) * WM
        if INSTRUCTION == "wgmma":
            _wgmma(k, depth, acc, t, BK, WM, WN, wm, wn)
        else:
            _mma(k, depth, acc, t % LANES, BK, WM, WN, wm, wn)


def _mma(k, depth, acc, lane, BK, WM, WN, wm, wn):
    """Warps load fragments into registers (`ldmatrix`) and multiply 16 × 8 tiles."""
    pieces = BK // VECTOR
    k.require(WM % 16 == 0, WN % 16 == 0)
    a, b = k.register("a", (WM * DEPTH // LANES,), bf16), k.register("b", (WN * DEPTH // LANES,), bf16)
    with depth as (x, w), k.unrolled(BK // DEPTH, "kk") as kk:
        piece = kk * 2 + lane // 16
        with k.unrolled(WM // 16, "i") as i:
            row = wm + i * 16 + lane % 16
            k.copy(x[row, swizzled(piece, row, pieces), 0].wide(VECTOR), a[i * VECTOR].wide(VECTOR), "fragment of X")
        with k.unrolled(WN // 16, "j") as j:
            row = wn + j * 16 + lane % 16
            k.copy(w[row, swizzled(piece, row, pieces), 0].wide(VECTOR), b[j * VECTOR].wide(VECTOR), "fragment of W")
        with k.unrolled(WM // 16, "i") as i, k.unrolled(WN // 8, "j") as j:
            c = acc[(i * (WN // 8) + j) * 4]
            k.do("multiply", loads=[a[i * VECTOR], b[j * 4], c], stores=c, work=k.mma(16, 8, DEPTH, bf16))


def _wgmma(k, depth, acc, t, BK, WM, WN, wm, wn):
    """The matrix units read 64 rows of X, 16 for each of four warps, and WN rows of W, once for all four, from shared memory."""
    pieces = BK // VECTOR
    k.require(WM % 64 == 0, WN % 32 == 0)
    lane, warp = t % LANES, t // LANES % (WARPGROUP // LANES)
    with depth as (x, w), k.unrolled(BK // DEPTH, "kk") as kk, k.unrolled(WM // 64, "i") as i:
        row = wm + i * 64 + warp * 16 + lane % 16
        operand = x[row, swizzled(kk * 2 + lane // 16, row, pieces), 0]
        k.do("operand X", loads=operand.wide(VECTOR), asynchronous=True)
        with k.unrolled(WN // 32, "j") as j:
            row = wn + j * 32 + warp * 8 + lane % 8
            operand = w[row, swizzled(kk * 2 + lane // 8 % 2, row, pieces), lane // 16 * 4]
            k.do("operand W", loads=operand.wide(4), asynchronous=True)
        k.do("multiply", loads=acc[i], stores=acc[i], work=k.mma(16, WN, DEPTH, bf16), asynchronous=True)


@contextmanager
def _tile(k, M, N, K, BM, BN, BK, threads, STAGES, SPLIT, SPLITS, multicast, few):
    """What all such kernels share: grid, asynchronous copies, and the stores of a tile. Yields the main loop and the thread."""
    pieces = BK // VECTOR
    high = threads // pieces
    k.require(BK % DEPTH == 0, K % VECTOR == 0, N % VECTOR == 0, threads % pieces == 0)
    down, right = -(-M // BM), -(-N // BN)
    tall, wide = -(-M // down), -(-N // (right * VECTOR)) * VECTOR
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
        k.require(SPLIT > 1, SPLIT * BK <= K, down * right < few)
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

        def finish(vector, act):
            """Every element of the tile, `vector` at a time: a row of lanes side by side, the others in further rows."""
            with k.unrolled(-(-BM // high), "i") as i, k.unrolled(-(-BN // (pieces * vector)), "j") as j:
                row, column = i * high + y, (j * pieces + x) * vector
                with k.when(row < tall, column < wide):
                    act(m * tall + row, n * wide + column)

        if SPLITS:
            finish(4, lambda r, c: k.store(partial[part, r, c].wide(4), name="partial sums"))
            k.barrier()
            add = k.add(f32, 4)
            finish(4, lambda r, c: k.do("sum", loads=partial[part, r, c].wide(4).uncached(), work=add))
            with k.when(part < 1):
                finish(VECTOR, lambda r, c: k.store(Y[r, c].wide(VECTOR), name="result"))
        else:
            finish(VECTOR, lambda r, c: k.store(Y[r, c].wide(VECTOR), name="result"))


def swizzled(piece, row, pieces):
    """Where a 16-byte piece of a row lies, so that neither rows nor columns of pieces meet in a bank."""
    return piece ^ (row * pieces // 8 % pieces)


def _group(tiles):
    """Tile columns launched together: all of up to 16, else the largest power of two up to 8 that divides them."""
    powers = 1 + sum(n // 2 * (1 - minimum(tiles % n, 1)) for n in (2, 4, 8))
    return maximum(powers, tiles * minimum(16 // tiles, 1))


AMPERE = [
    (128, 256, 32, 64, 64, 3), (256, 128, 32, 64, 64, 3), (128, 128, 32, 64, 64, 4), (64, 128, 64, 32, 64, 4),
    (128, 64, 64, 64, 32, 4), (64, 64, 64, 32, 32, 5), (32, 64, 64, 32, 16, 6), (16, 64, 128, 16, 16, 4),
]  # fmt: skip
"""BM, BN, BK, WM, WN, stages. Source: tiles in the names of cuBLAS 11 and 12 kernels for sm_80, such as
`ampere_bf16_s16816gemm_bf16_256x128_ldg8_f2f_stages_32x3_tn`, and of CUTLASS's profiler."""
HOPPER = [
    (128, 256, 64, 64, 256, 4), (256, 128, 64, 128, 128, 4), (128, 128, 64, 64, 128, 5), (64, 256, 64, 64, 256, 4),
    (64, 128, 64, 64, 128, 6), (64, 64, 64, 64, 64, 8), (64, 32, 64, 64, 32, 10),
]  # fmt: skip
"""The same for sm_90, such as `sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x256x64_warpgroupsize2x1x1`."""
SPLIT = (1, 2, 4, 8, 16)
LARGEST_SPLIT = 128 * 128
"""Elements of the largest tile whose depth is shared."""


def tiles(device):
    """The library's kernels for a device."""
    hopper = device.throughput.matrix_fma.get("fp8") and device.architecture == "hopper"
    rows = []
    for BM, BN, BK, WM, WN, stages in HOPPER if hopper else AMPERE:
        for split in SPLIT if BM * BN <= LARGEST_SPLIT else SPLIT[:1]:
            shared = ["", "W" if BN >= BM else "X"] if hopper and BM * BN >= LARGEST_SPLIT else [""]
            rows += [
                (BM, BN, BK, WM, WN, stages, split, split > 1, "wgmma" if hopper else "mma", multicast, 2 * device.sm_count)
                for multicast in shared
            ]
    names = ("BM", "BN", "BK", "WM", "WN", "STAGES", "SPLIT", "SPLITS", "INSTRUCTION", "MULTICAST", "FEW")
    return dict(zip(names, (list(column) for column in zip(*rows, strict=True)), strict=True))


SPACE = {
    "library_gemm": {
        "M": 8192, "N": 8192, "K": 8192, "BM": [64, 128, 256], "BN": [64, 128, 256], "BK": [32, 64], "WM": 64, "WN": [32, 64],
        "STAGES": [2, 3, 4, 5], "SPLIT": 1, "SPLITS": False, "INSTRUCTION": "mma", "MULTICAST": "",
    },
}  # fmt: skip
DATASETS = {
    "gemm_bf16": {"description": library_gemm, "schedules": tiles, "warm": {"X": 1, "W": 6}},
    "matmul_fp16": {
        "description": library_gemm,
        "schedules": tiles,
        "gpus": {"A100": "a100_sxm4_80gb"},
        "where": "gpu == 'A100'",
        "otherwise": "rocBLAS's kernels copy through registers, not asynchronously, and are not described",
    },
}
"""The first was measured in a graph of six layers with six weights and one X (ai-dynamo/aiconfigurator). The A100 of the second
has 80 GB: its element-wise operators read and write 1561 GB/s, and boards of 40 GB have 1555 at most."""
