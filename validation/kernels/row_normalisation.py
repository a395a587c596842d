"""Softmax and layer normalisation over the rows of an M × N matrix, fp32, as written by hand: softmax.cu and layer_norm.cu.

A row belongs to a warp (`…_warp`), which keeps it in registers and reads it once, or to a block (`…_block`): STAGED keeps it in
shared memory, else it is read again for each pass. Softmax takes maximum and sum one after the other, or ONLINE in one pass
(Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018). Layer normalisation takes the mean, then the squares
of what is left; where it reads twice, sum and sum of squares in one pass. All move vectors of four.

A shuffle is described as what it is to the hardware: a pass through the crossbar of shared memory. Operations beside special
functions are counted in machine code (nvcc 13.0, sm_90).
"""

from contextlib import contextmanager

from costmodel import kernel
from costmodel.dtypes import f32

LANES = 32
VECTOR = 4
HALVINGS = 5
"""Steps of a reduction over a warp."""
EXP = 5
"""Beside the special function of one `__expf(x - m)`: the difference, times log₂e, and a comparison with two predicated
multiplications for results below the normal range."""
RECIPROCAL = 7
"""Of a reciprocal: four for the test for special cases, a Newton step."""
DIVIDE = 8
"""Of a division by a size: Newton steps, the test for special cases, and the conversion."""
ROOT = 3
"""Of `rsqrtf`: a comparison with two predicated multiplications."""
EPSILON = 1e-5


@kernel(static=("EACH",))
def row_softmax_warp(k, *, M, N, B, EACH):
    """A warp for each row, EACH vectors in the registers of each lane."""
    k.require(N % VECTOR == 0, B % LANES == 0, N <= EACH * LANES * VECTOR)
    k.require(N > (EACH - 1) * LANES * VECTOR)
    x, y = k.buffer("x", (M, N), f32, read_only=True), k.buffer("y", (M, N), f32)
    own, exchange = k.register("own", (EACH * VECTOR,), f32), k.exchange("exchange", LANES, f32)
    warps = B // LANES
    with k.blocks(-(-M // warps)) as block, k.threads(LANES, warps) as (lane, warp), k.when(block * warps + warp < M):
        row = block * warps + warp
        with _vectors(k, EACH, N, lane) as (e, v):
            k.do("load", loads=x[row, v * VECTOR].wide(VECTOR), stores=own[e * VECTOR].wide(VECTOR), work=k.add(f32, VECTOR))
        _of_warp(k, "maximum", exchange, lane, 1)
        with _vectors(k, EACH, N, lane) as (e, _), k.unrolled(VECTOR, "element") as element:
            held = own[e * VECTOR + element]
            k.do("exponential", loads=held, stores=held, work=[k.add(f32, EXP + 1), k.special(f32)])
        _of_warp(k, "sum", exchange, lane, 1)
        k.do("scale", work=[k.add(f32, RECIPROCAL), k.special(f32)])
        with _vectors(k, EACH, N, lane) as (e, v):
            k.do("store", loads=own[e * VECTOR].wide(VECTOR), work=k.add(f32, VECTOR), stores=y[row, v * VECTOR].wide(VECTOR))


@kernel(static=("STAGED", "ONLINE"))
def row_softmax_block(k, *, M, N, B, STAGED, ONLINE):
    """A block for each row, which it keeps in shared memory (STAGED) or reads for each pass: two (ONLINE) or three."""
    k.require(N % VECTOR == 0, B % LANES == 0)
    x, y = k.buffer("x", (M, N), f32, read_only=True), k.buffer("y", (M, N), f32)
    exchange = k.exchange("exchange", LANES, f32)
    most, total = (k.shared(f"partial_{name}", (LANES,), f32) for name in ("maximum", "sum"))
    staged = k.shared("staged", (N,), f32, dynamic=True) if STAGED else None
    exponentials = [k.add(f32, EXP * VECTOR), k.special(f32, VECTOR)]
    with k.blocks(M) as row, k.threads(LANES, B // LANES) as (lane, warp):
        t = lane + LANES * warp

        def held(v):
            return x[row, v * VECTOR].wide(VECTOR) if staged is None else staged[v * VECTOR].wide(VECTOR)

        with _trips(k, N, B, t) as v:
            once = [k.add(f32, VECTOR + EXP + 1), k.fma(f32), k.special(f32), *exponentials] if ONLINE else []
            kept = [] if staged is None else [staged[v * VECTOR].wide(VECTOR)]
            k.do("first pass", loads=x[row, v * VECTOR].wide(VECTOR), stores=kept, work=[k.add(f32, VECTOR), *once])
        _of_block(k, "maximum", exchange, most, lane, warp, B)
        if ONLINE:
            k.do("rescale", work=[k.add(f32, EXP + 1), k.special(f32)])
        else:
            with _trips(k, N, B, t) as v:
                again = [] if staged is None else [held(v)]
                k.do("exponentials", loads=held(v), stores=again, work=[*exponentials, k.add(f32, VECTOR)])
        _of_block(k, "sum", exchange, total, lane, warp, B)
        k.do("scale", work=[k.add(f32, RECIPROCAL), k.special(f32)])
        with _trips(k, N, B, t) as v:
            work = [k.add(f32, VECTOR), *(exponentials if ONLINE or staged is None else [])]
            k.do("result", loads=held(v), work=work, stores=y[row, v * VECTOR].wide(VECTOR))


@kernel(static=("EACH",))
def row_layer_norm_warp(k, *, M, N, B, EACH):
    """A warp for each row, EACH vectors in the registers of each lane."""
    k.require(N % VECTOR == 0, B % LANES == 0, N <= EACH * LANES * VECTOR)
    k.require(N > (EACH - 1) * LANES * VECTOR)
    x, gamma, beta, y = _arrays(k, M, N)
    own, exchange = k.register("own", (EACH * VECTOR,), f32), k.exchange("exchange", LANES, f32)
    warps = B // LANES
    with k.blocks(-(-M // warps)) as block, k.threads(LANES, warps) as (lane, warp), k.when(block * warps + warp < M):
        row = block * warps + warp
        with _vectors(k, EACH, N, lane) as (e, v):
            k.do("load", loads=x[row, v * VECTOR].wide(VECTOR), stores=own[e * VECTOR].wide(VECTOR), work=k.add(f32, VECTOR))
        _of_warp(k, "sum", exchange, lane, 1)
        k.do("mean", work=[k.add(f32, DIVIDE), k.special(f32)])
        with _vectors(k, EACH, N, lane) as (e, _):
            with k.unrolled(VECTOR, "element") as element:
                held = own[e * VECTOR + element]
                k.do("difference", loads=held, stores=held, work=k.add(f32))
            k.do("squares", loads=own[e * VECTOR].wide(VECTOR), work=[k.add(f32, 4), k.fma(f32, 2)])
        _of_warp(k, "squares", exchange, lane, 1)
        k.do("scale", work=[k.add(f32, DIVIDE + 1 + ROOT), k.special(f32, 2)])
        with _vectors(k, EACH, N, lane) as (e, v):
            loads = [own[e * VECTOR].wide(VECTOR), gamma[v * VECTOR].wide(VECTOR), beta[v * VECTOR].wide(VECTOR)]
            k.do("result", loads=loads, work=[k.add(f32, VECTOR), k.fma(f32, VECTOR)], stores=y[row, v * VECTOR].wide(VECTOR))


@kernel(static=("STAGED",))
def row_layer_norm_block(k, *, M, N, B, STAGED):
    """A block for each row, which it keeps in shared memory (STAGED) or reads twice."""
    k.require(N % VECTOR == 0, B % LANES == 0)
    x, gamma, beta, y = _arrays(k, M, N)
    exchange = k.exchange("exchange", LANES, f32)
    with k.blocks(M) as row, k.threads(LANES, B // LANES) as (lane, warp):
        t, squares = lane + LANES * warp, [k.add(f32, 4), k.fma(f32, 2)]
        if STAGED:
            staged = k.shared("staged", (N,), f32, dynamic=True)
            partial_sum, partial_squares = (k.shared(f"partial_{name}", (LANES,), f32) for name in ("sum", "squares"))
            with _trips(k, N, B, t) as v:
                kept = staged[v * VECTOR].wide(VECTOR)
                k.do("sum", loads=x[row, v * VECTOR].wide(VECTOR), stores=kept, work=k.add(f32, VECTOR))
            _of_block(k, "sum", exchange, partial_sum, lane, warp, B)
            k.do("mean", work=[k.add(f32, DIVIDE), k.special(f32)])
            with _trips(k, N, B, t) as v:
                k.do("squares", loads=staged[v * VECTOR].wide(VECTOR), work=[k.add(f32, VECTOR), *squares])
            _of_block(k, "squares", exchange, partial_squares, lane, warp, B)
            k.do("scale", work=[k.add(f32, DIVIDE + 1 + ROOT), k.special(f32, 2)])
        else:
            pairs = k.shared("partial", (LANES, 2), f32)
            with _trips(k, N, B, t) as v:
                k.do("moments", loads=x[row, v * VECTOR].wide(VECTOR), work=[k.add(f32, VECTOR), *squares])
            _of_block(k, "moments", exchange, pairs, lane, warp, B)
            k.do("scale", work=[k.add(f32, 2 * DIVIDE + 3 + ROOT), k.special(f32, 3)])
        with _trips(k, N, B, t) as v:
            held = staged[v * VECTOR].wide(VECTOR) if STAGED else x[row, v * VECTOR].wide(VECTOR)
            loads = [held, gamma[v * VECTOR].wide(VECTOR), beta[v * VECTOR].wide(VECTOR)]
            work = [k.add(f32, 2 * VECTOR), k.fma(f32, VECTOR)]
            k.do("result", loads=loads, work=work, stores=y[row, v * VECTOR].wide(VECTOR))


def _arrays(k, M, N):
    weights = (k.buffer(name, (N,), f32, read_only=True) for name in ("gamma", "beta"))
    return k.buffer("x", (M, N), f32, read_only=True), *weights, k.buffer("y", (M, N), f32)


@contextmanager
def _vectors(k, each, N, lane):
    """The vectors of a lane of a warp: which of its own, and which of the row."""
    with k.unrolled(each, "e") as e, k.when((e * LANES + lane) * VECTOR < N):
        yield e, e * LANES + lane


@contextmanager
def _trips(k, N, B, t):
    """Every B-th vector of the row, beginning with the thread's own."""
    with k.serial(-(-(N // VECTOR) // B), "trip") as trip, k.when((trip * B + t) * VECTOR < N):
        yield trip * B + t


def _of_warp(k, name, exchange, lane, values):
    """A reduction of some values over the lanes of a warp: each step needs the one before."""
    with k.unrolled(values, "value"), k.unrolled(HALVINGS, "step"):
        k.do(f"{name} by shuffles", loads=exchange[lane], work=k.add(f32))


def _of_block(k, name, exchange, partial, lane, warp, B):
    """Shuffles in every warp, one value or two of each through shared memory, shuffles in every warp again."""
    pairs = len(partial.buffer.shape) > 1
    values = 2 if pairs else 1
    _of_warp(k, name, exchange, lane, values)
    with k.when(lane < 1):
        k.store(partial[warp, 0].wide(2) if pairs else partial[warp], name=f"partial {name}")
    k.barrier()
    with k.when(lane < B // LANES):
        k.load(partial[lane, 0].wide(2) if pairs else partial[lane], name=f"partial {name}")
    _of_warp(k, name, exchange, lane, values)


_WARPS = {"M": [4096, 65536], "N": [128, 200, 256, 512, 1000, 1024, 2048], "B": [32, 64, 128, 256, 512], "EACH": [1, 2, 4, 8, 16]}
_BLOCKS = {"M": [1024, 8192], "N": [256, 1000, 4096, 12288], "B": [32, 128, 256, 512, 1024], "STAGED": [0, 1]}
SPACE = {
    "row_softmax_warp": _WARPS,
    "row_softmax_block": {**_BLOCKS, "ONLINE": [0, 1]},
    "row_layer_norm_warp": _WARPS,
    "row_layer_norm_block": _BLOCKS,
}


def _softmax(tensors, _sizes):
    return {"y": tensors["x"].softmax(dim=-1)}


def _normalised(tensors, sizes):
    from torch.nn.functional import layer_norm

    return {"y": layer_norm(tensors["x"], (sizes["N"],), tensors["gamma"], tensors["beta"], EPSILON)}


_SOFTMAX = {"cuda": "softmax.cu", "arguments": ("M", "N"), "reference": _softmax}
_LAYER_NORM = {"cuda": "layer_norm.cu", "arguments": ("M", "N"), "reference": _normalised}
CODE = {
    "row_softmax_warp": _SOFTMAX,
    "row_softmax_block": _SOFTMAX,
    "row_layer_norm_warp": _LAYER_NORM,
    "row_layer_norm_block": _LAYER_NORM,
}
