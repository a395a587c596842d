"""The reduction ladder, and sums of the rows of a matrix.

The ladder of Mark Harris, "Optimizing parallel reduction in CUDA" (NVIDIA, 2007), rung by rung, B a power of two: the first
launch, which leaves one partial sum for each block (those after it are smaller by B), or with `reduce_grid_stride` the only one.
B is not known to the compiler, so the trees are loops. A step's guard is a predicate: what a warp without an active lane issues
of the guarded instructions (an address, two loads, an addition, a store) and throws away is not counted.

Integer instructions are counted in machine code (nvcc 13.0, sm_80), less those that the accesses make by themselves.
A shuffle is described as what it is to the hardware: a pass through the crossbar of shared memory.
"""

from contextlib import contextmanager

from costmodel import kernel
from costmodel.dtypes import f32, i32

LANES = 32
VECTOR = 4
"""Elements of a 16-byte load."""
START_OPERATIONS = 15
"""Before and after the tree: ids, bounds, constants, branches."""
MODULO_STEP, STRIDED_STEP, SEQUENTIAL_STEP = 19, 6, 4
"""A step of each tree: double or halve the distance, who adds, compare, branch. `t % (2 * step)` takes 13 of the first, with
a reciprocal and two conversions; an unsigned division has no instruction of its own."""
ADDRESS = 1
"""Of the partner, where a step adds."""
STRIDE_OPERATIONS = 5
"""A step of the loop over the grid: next index, bounds, branch."""


@kernel(static=("B",))
def reduce_interleaved(k, *, N, B):
    """Every second thread adds its neighbour, then every fourth, …: most lanes of every warp idle, and the modulo is slow."""
    with _blocks(k, N, B, 1) as (t, sums):
        step = 1
        while step < B:
            k.do(f"who adds {step}", work=[k.integer(i32, MODULO_STEP), k.convert(f32, 2), k.special(f32)])
            with k.when(t % (2 * step) == 0):
                _add(k, sums, t, step)
            k.barrier()
            step *= 2


@kernel(static=("B",))
def reduce_strided(k, *, N, B):
    """The first threads do the same additions: whole warps idle, but lanes lie `2 * step` words apart and share banks."""
    with _blocks(k, N, B, 1) as (t, sums):
        step = 1
        while step < B:
            k.do(f"who adds {step}", work=k.integer(i32, STRIDED_STEP))
            with k.when(2 * step * t < B):
                _add(k, sums, 2 * step * t, step)
            k.barrier()
            step *= 2


@kernel(static=("B",))
def reduce_sequential(k, *, N, B):
    """The first half adds the second: neighbouring lanes, neighbouring banks."""
    with _blocks(k, N, B, 1) as (t, sums):
        _halve(k, sums, t, B // 2, 1)


@kernel(static=("B",))
def reduce_first_add(k, *, N, B):
    """Every thread adds two elements on its way to shared memory: half as many blocks. It keeps its own sum in a register."""
    with _blocks(k, N, B, 2) as (t, sums):
        _halve(k, sums, t, B // 2, 1, kept=True)


@kernel(static=("B",))
def reduce_shuffle(k, *, N, B):
    """The last warp exchanges by shuffles, without barriers (Harris's last warp was in step by itself; since Volta none is)."""
    k.require(B >= 2 * LANES)
    with _blocks(k, N, B, 2) as (t, sums):
        _halve(k, sums, t, B // 2, LANES + 1, kept=True)
        with k.when(t < LANES):
            k.do("add the other half", loads=sums[t + LANES], work=k.add(f32))
            _shuffles(k, sums, t)


@kernel
def reduce_grid_stride(k, *, N, B, G):
    """G blocks walk over all elements, four at a time; shuffles in every warp, then in the first, and one atomic addition."""
    k.require(N % VECTOR == 0, B % LANES == 0)
    a, total = k.buffer("a", (N,), f32, read_only=True), k.buffer("total", (1,), f32)
    with k.blocks(G) as block, k.threads(LANES, B // LANES) as (lane, warp):
        k.do("ids", work=k.integer(i32, START_OPERATIONS))
        _walk(k, N // VECTOR, G * B, block * B + warp * LANES + lane, lambda at: a[at * VECTOR])
        _across_block(k, lane, warp, B)
        with k.when(lane + warp < 1):
            k.do("add to total", stores=total[0], work=k.add(f32), atomic=True)


@kernel
def row_sum_block(k, *, M, N, B):
    """s[i] = Σ a[i, j] over a row-major M × N matrix, a block of B threads for each row."""
    k.require(N % VECTOR == 0, B % LANES == 0)
    a, s = k.buffer("a", (M, N), f32, read_only=True), k.buffer("s", (M,), f32)
    with k.blocks(M) as row, k.threads(LANES, B // LANES) as (lane, warp):
        k.do("ids", work=k.integer(i32, START_OPERATIONS))
        _walk(k, N // VECTOR, B, warp * LANES + lane, lambda at: a[row, at * VECTOR])
        _across_block(k, lane, warp, B)
        with k.when(lane + warp < 1):
            k.store(s[row], name="store sum")


@kernel
def row_sum_warp(k, *, M, N, B):
    """The same with a warp for each row, B / 32 rows in a block: no shared memory, no barrier."""
    k.require(N % VECTOR == 0, B % LANES == 0)
    warps = B // LANES
    a, s = k.buffer("a", (M, N), f32, read_only=True), k.buffer("s", (M,), f32)
    exchange = k.exchange("exchange", LANES, f32)
    with k.blocks(-(-M // warps)) as block, k.threads(LANES, warps) as (lane, warp):
        row = block * warps + warp
        k.do("ids", work=k.integer(i32, START_OPERATIONS))
        with k.when(row < M):
            _walk(k, N // VECTOR, LANES, lane, lambda at: a[row, at * VECTOR])
            _shuffles(k, exchange, lane)
            with k.when(lane < 1):
                k.store(s[row], name="store sum")


@contextmanager
def _blocks(k, N, B, each):
    """`each` elements, B apart, go to shared memory as one; what the body leaves in the first is the block's sum."""
    k.require(B & (B - 1) == 0)
    blocks = -(-N // (B * each))
    a, partial = k.buffer("a", (N,), f32, read_only=True), k.buffer("partial", (blocks,), f32)
    sums = k.shared("sums", (B,), f32, dynamic=True)
    with k.blocks(blocks) as block, k.threads(B) as t:
        k.do("ids", work=k.integer(i32, START_OPERATIONS))
        with k.unrolled(each, "e") as e:
            i = block * (B * each) + e * B + t
            with k.when(i < N):
                k.do("load", loads=a[i], work=[k.add(f32)] * (each > 1))
        k.store(sums[t], name="store element")
        k.barrier()
        yield t, sums
        with k.when(t < 1):
            if each > 1:
                k.store(partial[block], name="store sum")
            else:
                k.copy(sums[0], partial[block], "store sum")


def _add(k, sums, to, step, kept=False):
    """sums[to] += sums[to + step], whose first operand may be in a register."""
    loads = [sums[to + step]] if kept else [sums[to], sums[to + step]]
    k.do(f"add {step}", loads=loads, work=[k.add(f32), k.integer(i32, ADDRESS)], stores=sums[to])


def _halve(k, sums, t, half, least, kept=False):
    """The tree from `half` threads down to no fewer than `least`."""
    while half >= least:
        k.do(f"who adds {half}", work=k.integer(i32, SEQUENTIAL_STEP))
        with k.when(t < half):
            _add(k, sums, t, half, kept)
        k.barrier()
        half //= 2


def _walk(k, vectors, stride, first, at):
    """A thread adds up every `stride`-th vector, beginning with its own."""
    total = k.register("sum", (1,), f32)
    with k.serial(-(-vectors // stride), "trip") as trip:
        v = trip * stride + first
        k.do("next", work=k.integer(i32, STRIDE_OPERATIONS))
        with k.when(v < vectors):
            k.do("add", loads=[at(v).wide(VECTOR), total[0]], work=k.add(f32, VECTOR), stores=total[0])


def _shuffles(k, exchange, lane):
    """A sum over the lanes of a warp: each of five steps needs the one before."""
    with k.serial(LANES.bit_length() - 1, "shuffle", unroll=LANES.bit_length() - 1):
        k.do("shuffle", loads=exchange[lane], work=k.add(f32))


def _across_block(k, lane, warp, B):
    """Shuffles in every warp, a value of each warp through shared memory, shuffles in the first."""
    partial = k.shared("partial", (LANES,), f32)
    _shuffles(k, partial, lane)
    with k.when(lane < 1):
        k.store(partial[warp], name="partial sum")
    k.barrier()
    with k.when(warp < 1):
        with k.when(lane < B // LANES):
            k.load(partial[lane], name="partial sums")
        _shuffles(k, partial, lane)


_LADDER = {"N": 1 << 26, "B": [64, 128, 256, 512, 1024]}
LADDER = (
    "reduce_interleaved", "reduce_strided", "reduce_sequential", "reduce_first_add", "reduce_shuffle", "reduce_grid_stride",
)  # fmt: skip
"""Rung by rung."""
SPACE = {
    **dict.fromkeys(LADDER, _LADDER),
    "reduce_grid_stride": {**_LADDER, "G": [108, 216, 432, 864, 1728]},
    "row_sum_block": {"M": 8192, "N": [256, 1024, 4096, 16384], "B": [32, 64, 128, 256, 512, 1024]},
    "row_sum_warp": {"M": 8192, "N": [256, 1024, 4096, 16384], "B": [32, 64, 128, 256, 512, 1024]},
}


def _partial_sums(tensors, sizes, each):
    from torch.nn.functional import pad

    a, share = tensors["a"], sizes["B"] * each
    return {"partial": pad(a, (0, -a.numel() % share)).reshape(-1, share).sum(dim=1)}


def _one_each(tensors, sizes):
    return _partial_sums(tensors, sizes, 1)


def _two_each(tensors, sizes):
    return _partial_sums(tensors, sizes, 2)


def _total(tensors, _sizes):
    return {"total": tensors["a"].sum().reshape(1)}


def _nothing_yet(_sizes, _random):
    import numpy as np

    return {"total": np.zeros(1)}


def _row_sums(tensors, _sizes):
    return {"s": tensors["a"].sum(dim=1)}


def _first_launch(reference):
    space = {**_LADDER, "N": [1 << 22, (1 << 24) + 77, 1 << 26]}
    return {"cuda": "reduction.cu", "arguments": ("N",), "reference": reference, "space": space}


_ROWS = {"M": [1024, 8192], "N": [256, 1000, 4096, 16384], "B": [32, 64, 128, 256, 512, 1024]}
CODE = {
    **{name: _first_launch(_one_each) for name in ("reduce_interleaved", "reduce_strided", "reduce_sequential")},
    **{name: _first_launch(_two_each) for name in ("reduce_first_add", "reduce_shuffle")},
    "reduce_grid_stride": {
        "cuda": "reduction.cu", "arguments": ("N",), "reference": _total, "inputs": _nothing_yet, "tolerance": 1e-3,
        "space": {"N": [1 << 20, 1 << 26], "B": [64, 128, 256, 512, 1024], "G": [66, 132, 264, 528, 1056, 2112]},
    },
    "row_sum_block": {"cuda": "reduction.cu", "arguments": ("M", "N"), "reference": _row_sums, "space": _ROWS},
    "row_sum_warp": {"cuda": "reduction.cu", "arguments": ("M", "N"), "reference": _row_sums, "space": _ROWS},
}  # fmt: skip
"""The atomic sum adds to what is there: `total` is zero before the launch that is checked. A sum of normal numbers may be near
zero itself, hence its tolerance."""
