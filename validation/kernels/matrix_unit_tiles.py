"""Products on matrix units as Triton 3.6 and 3.7 compile them: a GEMM and an attention, fp16 or bf16, sums in fp32.

What is described is what the compiler makes of `gemm_triton.py` and `attention_triton.py`, read from its GPU IR and PTX for sm_80
and sm_90 (triton.compile, no GPU). Loads inside the loop become `cp.async` of 16 bytes into a ring of tiles, swizzled so that
neither rows nor columns of pieces meet in a bank; a GEMM's threads keep a pointer to each of their pieces. INSTRUCTION "mma"
(sm_80, and sm_90 with fewer than 64 rows or 4 warps) is `ldmatrix` and `mma.sync.m16n8k16`, with a ring of STAGES − 1 tiles,
since all warps have their operands in registers before the next copy is issued. "wgmma" (sm_90) takes operands straight from a
ring of STAGES tiles. Two barriers a step: copies have landed, tiles may be overwritten. Results change their layout through
shared memory, where the tiles were, and leave in pieces of 16 bytes; smaller rings than the result are not described.

Rings are described as one slot. Elements beyond an edge cost no bytes; copies write zeros in their place (`zeros`) only where the
depth ends within a step, for what stands beyond the other edges is never stored.
"""

from contextlib import contextmanager, nullcontext
from typing import Literal

from costmodel import kernel
from costmodel.dtypes import bf16, f16, f32, i32, i64
from costmodel.ir import ceil_div, minimum

LANES = 32
VECTOR = 8
"""Elements of a 16-byte piece."""
DEPTH = 16
"""Of one matrix instruction."""
ALIGNED = 16
"""Triton specialises a kernel for sizes that are multiples of this, and knows then that rows begin at multiples of 16 bytes."""
QUOTIENT = 3
"""Products of one `div.full.f32` whose reciprocal is known: of an attention's sums, 32 in a thread, in SASS for sm_80."""


@kernel(static=("INSTRUCTION", "DTYPE"))
def gemm_triton(
    k,
    *,
    M,
    N,
    K,
    BM,
    BN,
    BK,
    GROUP,
    WARPS,
    DOWN,
    STAGES,
    INSTRUCTION: Literal["mma", "wgmma"] = "wgmma",
    DTYPE: Literal["f16", "bf16"] = "f16",
):
    """C = A·B, row-major, in tiles of BM × BN, grouped by GROUP rows of tiles. DOWN of the warps share a column of the tile.

    Triton's rule leaves one DOWN for each tile: warps are laid out so that their parts of it are as square as can be (mma), or
    down the rows of the tile first (wgmma).
    """
    dtype, threads, across = {"f16": f16, "bf16": bf16}[DTYPE], WARPS * LANES, WARPS // DOWN
    down, right = ceil_div(M, BM), ceil_div(N, BN)
    rows = minimum(GROUP, down)
    k.require(K % ALIGNED == 0, N % ALIGNED == 0, BK % 32 == 0, BN % 32 == 0, STAGES >= 2, WARPS % DOWN == 0, down % rows == 0)
    k.require(BM * BK % (threads * VECTOR) == 0, BN * BK % (threads * VECTOR) == 0, BM * BN % (threads * VECTOR) == 0)
    k.require(BN % BK == 0, threads * VECTOR % BN == 0)
    A, B = k.buffer("A", (M, K), dtype), k.buffer("B", (K, N), dtype)
    C = k.buffer("C", (M, N), dtype)
    slots = STAGES if INSTRUCTION == "wgmma" else STAGES - 1
    k.require(slots * (BM + BN) * BK >= BM * BN)
    tiles = _Tile(k, "shA", slots, BM, BK, dtype), _Tile(k, "shB", slots, BK, BN, dtype)
    acc = k.register("acc", (BM * BN // threads,), f32)
    pieces = (BM + BN) * BK // (threads * VECTOR)
    pointers = k.register("pointers", (pieces,), i64)
    k.launch_bound(threads)
    block = (BK // VECTOR, BN // BK, threads * VECTOR // BN)  # one axis: a row of A, how many of them make one of B, its rows
    with k.blocks(rows, right, down // rows) as (in_group, n, group), k.threads(*block) as (x, y, z):
        m, t = group * rows + in_group, x + block[0] * (y + block[1] * z)
        lane, warp = t % LANES, t // LANES
        places = (y + block[1] * z, x), (z, x + block[0] * y)
        with k.serial(ceil_div(K, BK), "step", stages=STAGES) as step:
            origins = (m * BM, step * BK), (step * BK, n * BN)
            for source, tile, place, (row0, column0), edge in zip((A, B), tiles, places, origins, (M, N), strict=True):
                with tile.pieces(place, threads) as (row, piece):
                    at, element = (row0 + row, column0 + piece * VECTOR), tile.at(row, piece).wide(VECTOR)
                    depth, other = (at[1], at[0]) if source is A else at
                    with k.when(depth < K, other < edge):
                        k.copy(source[at].wide(VECTOR), element, "copy", asynchronous=True)
                    with k.when(depth >= K):
                        k.store(element, name="zeros")
            with k.unrolled(pieces, "pointer") as e:
                k.do("advance", loads=pointers[e], stores=pointers[e], work=k.integer(i32, 2))
            k.barrier()
            if INSTRUCTION == "wgmma":
                k.require(WARPS % 4 == 0, BM >= 64, minimum(WARPS, BM // 16) == DOWN, BN // across % 64 == 0, BN // across <= 256)
                _wgmma(k, tiles[0], tiles[1], acc, warp, lane, DOWN, across, "A", "B")
            else:
                high, wide = BM // 16, BN // 8
                k.require(BM % (16 * DOWN) == 0, BN % (16 * across) == 0)
                k.require((DOWN - 1) * wide * DOWN <= (DOWN - 1) * 2 * high * across)
                k.require((across - 1) * high * across < (across - 1) * 2 * wide * DOWN + 1)
                _mma(k, tiles, acc, dtype, warp, lane, DOWN, across)
            k.barrier()
        _leave(k, C, (m * BM, n * BN), (M, N), (BM, BN), dtype, places[1], threads)


@kernel(static=("INSTRUCTION", "CAUSAL"))
def attention_triton(
    k, *, H, S, D, BM, BN, WARPS, STAGES, CAUSAL: Literal[0, 1] = 0, INSTRUCTION: Literal["mma", "wgmma"] = "wgmma"
):
    """Out = softmax(Q·Kᵀ / √D)·V for H heads of S rows of D, BM rows of a head in a block, BN keys in a step.

    Every warp has whole rows, 16 of them at a time; with `mma` Triton lays out its warps so where BM is no less than D. CAUSAL
    leaves out the steps whose keys all come after the rows; it is described for whole tiles.
    """
    threads, each = WARPS * LANES, BM // (16 * WARPS)
    k.require(D % 64 == 0, BM % (16 * WARPS) == 0, BN % 32 == 0, STAGES >= 2, BN * D % (threads * VECTOR) == 0)
    if CAUSAL:
        k.require(S % BM == 0, BM % BN == 0)
    Q, K, V = (k.buffer(name, (H, S, D), f16) for name in "QKV")
    out = k.buffer("Out", (H, S, D), f16)
    slots = STAGES if INSTRUCTION == "wgmma" else STAGES - 1
    query, keys, values = (_Tile(k, f"sh{n}", s, r, D, f16) for n, s, r in (("Q", 1, BM), ("K", slots, BN), ("V", slots, BN)))
    acc, scores = k.register("acc", (BM * D // threads,), f32), k.register("scores", (BM * BN // threads,), f32)
    # the second product is still under way when the next scores are computed: wgmma needs its weights until then
    weights = k.register("weights", (BM * BN // threads,), f16) if INSTRUCTION == "wgmma" else scores
    exchange = k.exchange("lanes", LANES, f32)
    k.launch_bound(threads)
    with k.blocks(ceil_div(S, BM), H) as (m, head), k.threads(D // VECTOR, threads * VECTOR // D) as (x, y):
        t, place = x + D // VECTOR * y, (y, x)
        lane, warp = t % LANES, t // LANES
        with query.pieces(place, threads) as (row, piece):
            with k.when(m * BM + row < S):
                k.copy(Q[head, m * BM + row, piece * VECTOR].wide(VECTOR), query.at(row, piece).wide(VECTOR), "query")
            with k.when(m * BM + row >= S):
                k.store(query.at(row, piece).wide(VECTOR), name="zeros")
        with k.serial((m + 1) * (BM // BN) if CAUSAL else ceil_div(S, BN), "step", stages=STAGES) as step:
            for source, tile in ((K, keys), (V, values)):
                with tile.pieces(place, threads) as (row, piece):
                    key, element = step * BN + row, tile.at(row, piece).wide(VECTOR)
                    with nullcontext() if CAUSAL else k.when(key < S):
                        k.copy(source[head, key, piece * VECTOR].wide(VECTOR), element, "copy", asynchronous=True)
                    if not CAUSAL:
                        with k.when(key >= S):
                            k.store(element, name="zeros")
            k.barrier()
            if INSTRUCTION == "wgmma":
                k.require(WARPS % 4 == 0)
                _wgmma_scores(k, query, keys, scores, warp, lane, WARPS)
            else:
                k.require(BM >= D)
                _mma_scores(k, query, keys, scores, warp, lane, WARPS)
            _softmax_step(k, scores, weights, acc, exchange, lane, each, BN, D)
            if INSTRUCTION == "wgmma":
                _wgmma_values(k, values, weights, acc, warp, lane, each)
            else:
                _mma_values(k, values, weights, acc, lane, each)
            k.barrier()
        with k.unrolled(each * 2, "row"):
            k.do("reciprocal", work=[k.add(f32, 2), k.special(f32)])
        with k.unrolled(BM * D // threads, "element") as e:
            k.do("divide", loads=acc[e], stores=acc[e], work=k.add(f32, QUOTIENT))
        _leave(k, out, (m * BM, 0), (S, D), (BM, D), f16, place, threads, head)


class _Tile:
    """A ring of row-major tiles in shared memory, in pieces of 16 bytes that are swizzled over 128 bytes."""

    def __init__(self, k, name, slots, rows, columns, dtype):
        self.k, self.rows, self.columns, self.across = k, rows, columns, columns // VECTOR
        self.array = k.shared(name, (slots * rows, self.across, VECTOR), dtype, dynamic=True)

    def at(self, row, piece, element=0):
        turns = minimum(self.across, 8)
        return self.array[row, piece ^ (row * turns // 8 % turns), element]

    @contextmanager
    def pieces(self, place, threads):
        """All pieces, `threads` at a time, of which a thread has the one at this place: row and piece of each."""
        with self.k.unrolled(self.rows * self.across // threads, "piece") as s:
            yield s * (threads // self.across) + place[0], place[1]


def _mma(k, tiles, acc, dtype, warp, lane, DOWN, across):
    """Warps take turns at rows and columns: each has every DOWN-th 16 rows and every `across`-th 8 columns."""
    x, y = tiles
    high, wide = x.rows // (16 * DOWN), y.columns // (8 * across)
    a, b = k.register("a", (high * VECTOR,), dtype), k.register("b", (wide * 4,), dtype)
    with k.unrolled(x.columns // DEPTH, "kk") as kk:
        with k.unrolled(high, "i") as i:
            row = (i * DOWN + warp // across) * 16 + lane % 16
            k.copy(x.at(row, kk * 2 + lane // 16).wide(VECTOR), a[i * VECTOR].wide(VECTOR), "fragment of A")
        with k.unrolled(wide // 2, "j") as j:
            piece = (2 * j + lane // 16) * across + warp % across
            k.copy(y.at(kk * DEPTH + lane % 16, piece).wide(VECTOR), b[j * VECTOR].wide(VECTOR), "fragment of B")
        with k.unrolled(high, "i") as i, k.unrolled(wide, "j") as j:
            sums = acc[(i * wide + j) * 4]
            k.do("multiply", loads=[a[i * VECTOR], b[j * 4], sums], stores=sums, work=k.mma(16, 8, DEPTH, dtype))


def _wgmma(k, x, y, acc, warp, lane, DOWN, across, first, second):
    """Four warps read 64 rows of the first operand, 16 each, and their columns of the second, once for all four."""
    columns = y.columns // across
    with k.unrolled(x.columns // DEPTH, "kk") as kk, k.unrolled(x.rows // (16 * DOWN), "i") as i:
        row = (i * DOWN + warp % DOWN) * 16 + lane % 16
        k.do(f"operand {first}", loads=x.at(row, kk * 2 + lane // 16).wide(VECTOR), asynchronous=True)
        _by_depth(k, y, kk, columns, warp // DOWN * (columns // VECTOR), warp, lane, second)
        k.do("multiply", loads=acc[i], stores=acc[i], work=k.mma(16, columns, DEPTH, y.array.buffer.dtype), asynchronous=True)


def _by_depth(k, tile, kk, columns, first, warp, lane, name):
    """An operand whose rows are the depth: four rows of 64 columns for each of four warps."""
    with k.unrolled(columns // 64, "j") as j:
        piece = first + j * 8 + lane % 8
        k.do(f"operand {name}", loads=tile.at(kk * DEPTH + warp % 4 * 4 + lane // 8, piece).wide(VECTOR), asynchronous=True)


def _mma_scores(k, query, keys, scores, warp, lane, WARPS):
    each, wide = query.rows // (16 * WARPS), keys.rows // 8
    q, b = k.register("q", (each * VECTOR,), f16), k.register("k", (wide * 4,), f16)
    with k.unrolled(query.columns // DEPTH, "kk") as kk:
        with k.unrolled(each, "i") as i:
            row = (i * WARPS + warp) * 16 + lane % 16
            k.copy(query.at(row, kk * 2 + lane // 16).wide(VECTOR), q[i * VECTOR].wide(VECTOR), "fragment of Q")
        with k.unrolled(wide // 2, "j") as j:
            row = j * 16 + lane % 16
            k.copy(keys.at(row, kk * 2 + lane // 16).wide(VECTOR), b[j * VECTOR].wide(VECTOR), "fragment of K")
        with k.unrolled(each, "i") as i, k.unrolled(wide, "j") as j:
            sums = scores[(i * wide + j) * 4]
            k.do("scores", loads=[q[i * VECTOR], b[j * 4], sums], stores=sums, work=k.mma(16, 8, DEPTH, f16))


def _wgmma_scores(k, query, keys, scores, warp, lane, WARPS):
    with k.unrolled(query.columns // DEPTH, "kk") as kk, k.unrolled(query.rows // (16 * WARPS), "i") as i:
        row = (i * WARPS + warp) * 16 + lane % 16
        k.do("operand Q", loads=query.at(row, kk * 2 + lane // 16).wide(VECTOR), asynchronous=True)
        with k.unrolled(keys.rows // 32, "j") as j:
            at = keys.at(j * 32 + warp % 4 * 8 + lane % 8, kk * 2 + lane // 8 % 2, lane // 16 * 4)
            k.do("operand K", loads=at.wide(4), asynchronous=True)
        k.do("scores", loads=scores[i], stores=scores[i], work=k.mma(16, keys.rows, DEPTH, f16))


def _softmax_step(k, scores, weights, acc, exchange, lane, each, BN, D):
    """Maximum of each row, exponentials and their sum; what was summed up before shrinks.

    Of every 16 rows a thread has two, of each a quarter.
    """

    @contextmanager
    def elements(columns):
        with k.unrolled(each, "i") as i, k.unrolled(2, "h") as h, k.unrolled(columns // 8, "j") as j, k.unrolled(2, "w") as w:
            yield (i * (columns // 8) + j) * 4 + h * 2 + w

    def over_lanes(name):
        with k.unrolled(each * 2, "row"), k.unrolled(2, "step_of_lanes"):
            k.do(f"{name} by shuffles", loads=exchange[lane], work=k.add(f32))

    with elements(BN) as e:
        k.do("maximum", loads=scores[e], stores=scores[e], work=k.add(f32, 3))  # scale, mask, maximum
    over_lanes("maximum")
    with k.unrolled(each * 2, "row"):
        k.do("shrink", work=[k.add(f32), k.fma(f32), k.special(f32)])
    with elements(BN) as e:
        k.do("exponential", loads=scores[e], stores=weights[e], work=[k.add(f32, 2), k.special(f32), k.convert(f16)])
    over_lanes("sum")
    with elements(D) as e:
        k.do("rescale", loads=acc[e], stores=acc[e], work=k.add(f32))


def _mma_values(k, values, weights, acc, lane, each):
    wide, keys = values.columns // 8, values.rows // 8
    b = k.register("v", (wide * 4,), f16)
    with k.unrolled(values.rows // DEPTH, "kk") as kk:
        with k.unrolled(wide // 2, "j") as j:
            k.copy(
                values.at(kk * DEPTH + lane % 16, 2 * j + lane // 16).wide(VECTOR), b[j * VECTOR].wide(VECTOR), "fragment of V"
            )
        with k.unrolled(each, "i") as i, k.unrolled(wide, "j") as j:
            sums = acc[(i * wide + j) * 4]
            p = weights[(i * keys + kk * 2) * 4]
            k.do("multiply", loads=[p, b[j * 4], sums], stores=sums, work=k.mma(16, 8, DEPTH, f16))


def _wgmma_values(k, values, weights, acc, warp, lane, each):
    """The first operand comes from registers."""
    keys = values.rows // 8
    with k.unrolled(values.rows // DEPTH, "kk") as kk, k.unrolled(each, "i") as i:
        _by_depth(k, values, kk, values.columns, 0, warp, lane, "V")
        p = weights[(i * keys + kk * 2) * 4]
        work = k.mma(16, values.columns, DEPTH, f16)
        k.do("multiply", loads=[p, acc[i]], stores=acc[i], work=work, asynchronous=True)


def _leave(k, target, origin, edges, tile, dtype, place, threads, *batch):
    """Sums become elements, pass from the threads that have them to those that store them, and leave by rows.

    They pass through the room of the tiles, which are done with: an exchange takes none of its own.
    """
    (rows, columns), across = tile, tile[1] // VECTOR
    exchange = k.exchange("exchange", rows * columns, dtype)
    high = threads // across

    def vector(s):
        return exchange[((s * high + place[0]) * across + place[1]) * VECTOR].wide(VECTOR)

    with k.unrolled(rows // high, "piece") as s:
        k.do("exchange", stores=vector(s), work=k.convert(dtype, VECTOR))
    k.barrier()
    with k.unrolled(rows // high, "piece") as s:
        row, column = origin[0] + s * high + place[0], origin[1] + place[1] * VECTOR
        with k.when(row < edges[0], column < edges[1]):
            k.copy(vector(s), target[(*batch, row, column)].wide(VECTOR), "result")


SPACE = {
    "gemm_triton": {
        "M": [1000, 4096], "N": 4096, "K": 4096, "BM": [64, 128, 256], "BN": [64, 128, 256], "BK": [32, 64],
        "GROUP": 8, "WARPS": [4, 8], "DOWN": [4, 8], "STAGES": [2, 3, 4], "INSTRUCTION": "wgmma", "DTYPE": "f16",
    },
    "attention_triton": {
        "H": 32, "S": [1024, 4096], "D": [64, 128], "BM": [64, 128], "BN": [32, 64, 128], "WARPS": [4, 8], "STAGES": [2, 3],
        "CAUSAL": [0, 1], "INSTRUCTION": "wgmma",
    },
}  # fmt: skip


def _product(tensors, _sizes):
    return {"C": tensors["A"] @ tensors["B"]}


def _attention(tensors, sizes):
    from torch.nn.functional import scaled_dot_product_attention

    return {"Out": scaled_dot_product_attention(*(tensors[name] for name in "QKV"), is_causal=bool(sizes["CAUSAL"]))}


CODE = {
    "gemm_triton": {"triton": "gemm_triton.py", "reference": _product},
    "attention_triton": {"triton": "attention_triton.py", "reference": _attention},
}
