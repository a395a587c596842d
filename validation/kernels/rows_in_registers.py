"""Softmax and layer normalisation over the rows of an M × N matrix as Triton 3.6 and 3.7 compile them, a row for each program.

What is described is what the compiler makes of `softmax_triton.py` and `layer_norm_triton.py`, read from its GPU IR, PTX and SASS
for sm_80 and sm_90 (triton.compile, no GPU). Every thread has W / threads elements of a row, in vectors of 16 bytes. A reduction
goes through the lanes of each warp by shuffles, one value of each warp through shared memory, the lanes of every warp again, and
back through shared memory to all. A shuffle is described as what it is to the hardware: a pass through the crossbar of shared
memory.
"""

from contextlib import contextmanager

from costmodel import kernel
from costmodel.dtypes import f16, f32
from costmodel.ir import ceil_div, minimum

LANES = 32
ALIGNED = 16
"""Triton specialises a kernel for sizes that are multiples of this, and knows then that rows begin at multiples of 16 bytes."""
EXPONENTIAL, QUOTIENT = 5, 3
"""Operations of one element: of `exp(x - m)` beside its special function, and of a `div.full.f32` whose reciprocal is known.
Source: SASS for sm_80, counted: each element more of a softmax takes 1 FMNMX, 2 FADD, 6 FMUL, 1 FSETP, 1 MUFU."""


@kernel(static=("WARPS", "DTYPE"))
def softmax_triton(k, *, M, N, W, WARPS, DTYPE="f32"):
    """W is the power of two that holds a row."""
    dtype, threads, vector = _threads(k, N, W, WARPS, DTYPE)
    k.require(N <= W)
    k.require(W < 2 * N)
    x, y = k.buffer("x", (M, N), dtype), k.buffer("y", (M, N), dtype)
    each = W // (threads * vector)
    own = k.register("own", (each * vector,), f32)
    with k.blocks(M) as row, k.threads(threads) as t:
        with _vectors(k, each, vector, threads, t, N) as (e, at):
            work = [k.add(f32, vector), *[k.convert(f32, vector)] * (dtype is f16)]
            k.do("load", loads=x[row, at].wide(vector), stores=own[e * vector].wide(vector), work=work)
        across = _Block(k, t, WARPS)
        across.reduce("maximum")
        k.barrier()
        with k.unrolled(each * vector, "element") as e:
            k.do("exponential", loads=own[e], stores=own[e], work=[k.add(f32, EXPONENTIAL + 1), k.special(f32)])
        across.reduce("sum")
        k.do("reciprocal", work=[k.add(f32, 2), k.special(f32)])
        with _vectors(k, each, vector, threads, t, N) as (e, at):
            work = [k.add(f32, QUOTIENT * vector), *[k.convert(f16, vector // 2)] * (dtype is f16)]
            k.do("result", loads=own[e * vector].wide(vector), work=work, stores=y[row, at].wide(vector))


@kernel(static=("WARPS", "DTYPE"))
def layer_norm_triton(k, *, M, N, W, WARPS, DTYPE="f32"):
    """A row is read three times, W elements at a time: for the mean, for the squares of what is left, for the result."""
    dtype, threads, vector = _threads(k, N, W, WARPS, DTYPE)
    x, y = k.buffer("x", (M, N), dtype), k.buffer("y", (M, N), dtype)
    gamma, beta = k.buffer("gamma", (N,), dtype), k.buffer("beta", (N,), dtype)
    each, trips, widened = W // (threads * vector), ceil_div(N, W), [k.convert(f32, vector)] * (dtype is f16)
    total, squares = (k.register(name, (each * vector,), f32) for name in ("total", "squares"))
    # ptxas unrolls loops of one or two vectors by four, and the last one, with three loads for each, only where there is one
    short, shortest = 1 + 3 * minimum(2 // each, 1), 1 + 3 * (1 // each)
    with k.blocks(M) as row, k.threads(threads) as t:
        across = _Block(k, t, WARPS)
        for name, sums, work in (
            ("sum", total, [k.add(f32, vector)]),
            ("squares", squares, [k.add(f32, 2 * vector), k.fma(f32, vector)]),
        ):
            with k.serial(trips, "trip", unroll=short) as trip, _vectors(k, each, vector, threads, t, N, trip * W) as (e, at):
                kept = sums[e * vector].wide(vector)
                k.do(name, loads=[x[row, at].wide(vector), kept], stores=kept, work=work + widened)
            k.do("add up", work=k.add(f32, each * vector - 1))
            across.reduce(name)
            if name == "sum":
                k.do("mean", work=[k.add(f32, QUOTIENT + 3), k.special(f32)])
                k.barrier()
        k.do("scale", work=[k.add(f32, 2 * QUOTIENT + 4), k.special(f32, 3)])
        with k.serial(trips, "trip", unroll=shortest) as trip, _vectors(k, each, vector, threads, t, N, trip * W) as (_, at):
            loads = [a.wide(vector) for a in (gamma[at], beta[at], x[row, at])]
            work = [k.add(f32, 2 * vector), k.fma(f32, vector), *widened * 3, *[k.convert(f16, vector // 2)] * (dtype is f16)]
            k.do("result", loads=loads, work=work, stores=y[row, at].wide(vector))


def _threads(k, N, W, WARPS, DTYPE):
    """Dtype, threads, and elements of 16 bytes."""
    dtype, threads = {"f32": f32, "f16": f16}[DTYPE], WARPS * LANES
    vector = 16 // dtype.itemsize
    k.require(N % ALIGNED == 0, W % (threads * vector) == 0)
    return dtype, threads, vector


@contextmanager
def _vectors(k, each, vector, threads, t, N, start=0):
    """The vectors of a thread, `threads` apart: which of its own, and where in the row it begins."""
    with k.unrolled(each, "e") as e:
        at = start + (e * threads + t) * vector
        with k.when(at < N):
            yield e, at


class _Block:
    """Reductions over the threads of a block."""

    def __init__(self, k, t, warps):
        self.k, self.t, self.warps, self.exchange = k, t, warps, k.exchange("exchange", LANES, f32)
        self.partial = k.shared("partial", (warps,), f32) if warps > 1 else None

    def reduce(self, name):
        """All threads know the result in the end."""
        k, t = self.k, self.t
        self._shuffles(name, LANES)
        if self.partial is None:
            return
        with k.when(t % LANES == 0):
            k.store(self.partial[t // LANES], name=f"partial {name}")
        k.barrier()
        with k.when(t < self.warps):
            k.load(self.partial[t], name=f"partials of {name}")
        self._shuffles(name, self.warps)
        with k.when(t < 1):
            k.store(self.partial[0], name=f"whole {name}")
        k.barrier()
        k.load(self.partial[0], name=f"{name} of the row")

    def _shuffles(self, name, lanes):
        with self.k.unrolled(lanes.bit_length() - 1, "step"):
            self.k.do(f"{name} by shuffles", loads=self.exchange[self.t % LANES], work=self.k.add(f32))


SPACE = {
    "softmax_triton": {
        "M": [4096, 16384], "N": [256, 1024, 2000, 4096, 12288], "W": [256, 1024, 2048, 4096, 16384], "WARPS": [1, 2, 4, 8, 16],
        "DTYPE": "f32",
    },
    "layer_norm_triton": {
        "M": [4096, 16384], "N": [256, 1024, 2000, 4096, 12288], "W": [256, 1024, 2048, 4096], "WARPS": [1, 4, 8, 16],
        "DTYPE": "f32",
    },
}  # fmt: skip
EPSILON = 1e-5


def _softmax(tensors, _sizes):
    return {"y": tensors["x"].softmax(dim=-1)}


def _layer_norm(tensors, sizes):
    from torch.nn.functional import layer_norm

    return {"y": layer_norm(tensors["x"], (sizes["N"],), tensors["gamma"], tensors["beta"], EPSILON)}


CODE = {
    "softmax_triton": {"triton": "softmax_triton.py", "reference": _softmax},
    "layer_norm_triton": {"triton": "layer_norm_triton.py", "reference": _layer_norm},
}
