"""Softmax and layer normalisation over the rows of a B × H array, as PyTorch's kernels walk over them.

Softmax gives a row of up to 1,024 elements to a warp, which keeps it in registers (a template for each power of two). A longer
row takes a block and is read three times: for the maximum, for the sum, for the result; 16 bytes at a time while all threads have
some, then element by element. Layer normalisation gives every row a block of 32 × 4 threads and reads it twice. Rows begin at
multiples of 16 bytes here. A shuffle is described as what it is to the hardware: a pass through the crossbar of shared memory.
Which kernel runs is the library's choice, in `SCHEDULES`. Sources: aten/src/ATen/native/cuda: PersistentSoftmax.cuh, SoftMax.cu
(`SoftMax_getBlockSize`, `ilpReduce`), layer_norm_kernel.cu (PyTorch 2.1).
"""

from costmodel import kernel
from costmodel.dtypes import f16, f32
from costmodel.ir import minimum

LANES = 32
VECTOR = 4
WARPS = 4
HALVINGS = 5
"""Steps of a reduction over a warp: a shuffle and the operation."""
EXP = 3
"""Operations around the special function of one `expf`: scaling, range reduction."""
DIVIDE = 7
WELFORD = 13
"""Operations of one online update of mean and variance, the reciprocal of the count among them (SASS, counted)."""
COMBINE = 24
"""Operations that merge two means and variances."""


@kernel(static=("WIDTH",))
def softmax(k, *, B, H, WIDTH, T):
    """Rows of `WIDTH` registers' worth of a warp, or (`WIDTH` = 0) a block of `T` threads for each row."""
    _softmax(k, B, H, WIDTH, T, f32)


@kernel(static=("WIDTH",))
def softmax_f16(k, *, M, N, WIDTH, T):
    """The same in half precision, computed in single precision."""
    _softmax(k, M, N, WIDTH, T, f16)


@kernel
def layer_norm(k, *, B, H):
    """Mean and variance in one pass (Welford), the result in a second."""
    _layer_norm(k, B, H, f32)


@kernel
def layer_norm_f16(k, *, M, N):
    """The same in half precision, computed in single precision."""
    _layer_norm(k, M, N, f16)


def _softmax(k, B, H, width, T, dtype):
    if width:
        _softmax_by_warps(k, B, H, width, dtype)
    else:
        _softmax_by_blocks(k, B, H, T, dtype)


def _softmax_by_warps(k, B, H, width, dtype):
    k.require(width >= H)
    k.require(width < 2 * H)
    each = width // LANES
    x, y = k.buffer("x", (B, H), dtype), k.buffer("y", (B, H), dtype)
    row, exchange = k.register("row", (each,), f32), k.exchange("exchange", LANES, f32)
    with k.blocks(-(-B // WARPS)) as block, k.threads(LANES, WARPS) as (lane, warp):
        i = block * WARPS + warp
        with k.when(i < B):
            with k.unrolled(each, "it") as it, k.when(it * LANES + lane < H):
                k.do("load", loads=x[i, it * LANES + lane], stores=row[it], work=k.add(f32))
            _shuffles(k, "maximum", exchange, lane, 1)
            with k.unrolled(each, "it") as it:
                k.do("exponential", loads=row[it], stores=row[it], work=[k.add(f32, EXP), k.special(f32)])
            _shuffles(k, "sum", exchange, lane, 1)
            with k.unrolled(each, "it") as it, k.when(it * LANES + lane < H):
                k.do("store", loads=row[it], work=[k.add(f32, DIVIDE), k.special(f32)], stores=y[i, it * LANES + lane])


def _softmax_by_blocks(k, B, H, T, dtype):
    vector = 16 // dtype.itemsize
    k.require(H > 1024, T % LANES == 0)
    most = minimum(H // vector, 1024)
    k.require(most <= 2 * T)
    k.require(most > T)
    x, y, _ = _rows(k, B, H, dtype, vector)
    exchange, partial = k.exchange("exchange", LANES, f32), k.shared("partial", (LANES,), f32)
    whole = H // (vector * T)
    passes = (
        ("maximum", [k.add(f32)], False),
        ("sum", [k.add(f32, EXP + 1), k.special(f32)], False),
        ("result", [k.add(f32, EXP + DIVIDE), k.special(f32, 2)], True),
    )
    with k.blocks(B) as i, k.threads(LANES, T // LANES) as (lane, warp):
        t = lane + LANES * warp
        for name, work, writes in passes:
            with k.serial(whole, "vectors") as trip, k.unrolled(1, "once"):
                at = (trip * T + t) * vector
                many = [k.add(f32, w.amount * vector) if w.kind == "add" else k.special(f32, w.amount * vector) for w in work]
                k.do(name, loads=x[i, at].wide(vector), work=many, stores=[y[i, at].wide(vector)] * writes)
            with k.serial(vector, "rest") as trip:
                at = whole * vector * T + trip * T + t
                with k.when(at < H):
                    k.do(name, loads=x[i, at], work=work, stores=[y[i, at]] * writes)
            if not writes:
                _across_block(k, name, exchange, partial, lane, warp, 1)


def _layer_norm(k, B, H, dtype):
    x, y, vectors = _rows(k, B, H, dtype, VECTOR)
    gamma, beta = (k.buffer(name, (vectors * VECTOR,), dtype, read_only=True) for name in ("gamma", "beta"))
    exchange, partial = k.exchange("exchange", LANES, f32), k.shared("partial", (LANES,), f32)
    threads = LANES * WARPS
    with k.blocks(B) as i, k.threads(LANES, WARPS) as (lane, warp):
        t = lane + LANES * warp
        with _Trips(k, vectors, threads, t) as at:
            k.do("moments", loads=x[i, at * VECTOR].wide(VECTOR), work=[k.add(f32, WELFORD * VECTOR), k.special(f32, VECTOR)])
        _across_block(k, "moments", exchange, partial, lane, warp, COMBINE)
        with _Trips(k, vectors, threads, t) as at:
            loads = [a.wide(VECTOR) for a in (x[i, at * VECTOR], gamma[at * VECTOR], beta[at * VECTOR])]
            k.do("result", loads=loads, work=k.fma(f32, 2 * VECTOR), stores=y[i, at * VECTOR].wide(VECTOR))


def _rows(k, B, H, dtype, vector):
    """Input and output with rows of whole vectors, and the vectors of a row."""
    vectors = -(-H // vector)
    return *(k.buffer(name, (B, vectors * vector), dtype) for name in "xy"), vectors


class _Trips:
    """A loop over the vectors of a row, `threads` at a time, and the guard of its last trip."""

    def __init__(self, k, vectors, threads, t):
        self.loop, self.k, self.vectors, self.threads, self.t = k.serial(-(-vectors // threads), "trip"), k, vectors, threads, t

    def __enter__(self):
        at = self.loop.__enter__() * self.threads + self.t
        self.guard = self.k.when(at < self.vectors)
        self.guard.__enter__()
        return at

    def __exit__(self, *error):
        self.guard.__exit__(*error)
        self.loop.__exit__(*error)


def _shuffles(k, name, exchange, lane, operations):
    """A reduction over the lanes of a warp: each step needs the one before."""
    with k.serial(HALVINGS, "step"):
        k.do(f"{name} by shuffles", loads=exchange[lane], work=k.add(f32, operations))


def _across_block(k, name, exchange, partial, lane, warp, operations):
    """Shuffles in every warp, one value of each warp through shared memory, shuffles again."""
    _shuffles(k, name, exchange, lane, operations)
    with k.when(lane < 1):
        k.store(partial[warp], name="partial")
    k.barrier()
    k.load(partial[lane], name="partials")
    _shuffles(k, name, exchange, lane, operations)
    k.barrier()


BLOCKS = [32, 64, 128, 256, 512]
WIDTHS = [32, 64, 128, 256, 512, 1024]
SCHEDULES = {"WIDTH": WIDTHS + [0] * len(BLOCKS), "T": [LANES * WARPS] * len(WIDTHS) + BLOCKS}
"""Kernels that the library has for softmax; its own rules (`k.require` above) leave one for each row length."""
SPACE = {"softmax": {"B": 8192, "H": [256, 1024, 4096, 16384], "WIDTH": [256, 1024, 0], "T": 512}}
CALL_S = 12e-6
"""Between events around a Python call, beside the kernel: 5 to 30 µs (description of NeuSight's data); their geometric mean."""
# The LLMCompass files do not say what their times hold beside the kernel: those are priced with the device's launch overhead.
LLMCOMPASS = {"A100": "a100_sxm4_80gb"}
"""Of 80 GB: `gelu_fp16` reads and writes 1561 GB/s there, and boards of 40 GB have 1555 at most."""
DATASETS = {
    "neusight_softmax": {"description": softmax, "schedules": SCHEDULES, "launch_s": CALL_S},
    "softmax_fp16": {"description": softmax_f16, "schedules": SCHEDULES, "gpus": LLMCOMPASS},
    "neusight_ln": {"description": layer_norm, "launch_s": CALL_S},
    "layernorm_fp16": {"description": layer_norm_f16, "gpus": LLMCOMPASS},
}
