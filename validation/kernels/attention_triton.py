"""The kernel that `attention_triton` describes: attention block by block with an online softmax, forward only."""

import math

import triton
import triton.language as tl

ARRAYS = ("Q", "K", "V", "Out")


@triton.jit
def attention(Q, K, V, Out, S, scale, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr, CAUSAL: tl.constexpr):
    """Out = softmax(Q·Kᵀ·scale)·V of one head for BM rows, in blocks of BN keys; `scale` includes log₂e."""
    head = tl.program_id(1).to(tl.int64) * S * D
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.arange(0, BN)
    d = tl.arange(0, D)
    q = tl.load(Q + head + m[:, None] * D + d[None, :], mask=m[:, None] < S, other=0.0)
    most = tl.full((BM,), float("-inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    end = tl.minimum(S, (tl.program_id(0) + 1) * BM) if CAUSAL else S
    for start in range(0, end, BN):
        keys = start + n
        k = tl.load(K + head + keys[None, :] * D + d[:, None], mask=keys[None, :] < S, other=0.0)
        v = tl.load(V + head + keys[:, None] * D + d[None, :], mask=keys[:, None] < S, other=0.0)
        s = tl.dot(q, k) * scale
        seen = (keys[None, :] < S) & (m[:, None] >= keys[None, :]) if CAUSAL else keys[None, :] < S
        s = tl.where(seen, s, float("-inf"))
        higher = tl.maximum(most, tl.max(s, 1))
        p = tl.exp2(s - higher[:, None])
        shrink = tl.exp2(most - higher)
        total = total * shrink + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None])
        most = higher
    tl.store(Out + head + m[:, None] * D + d[None, :], (acc / total[:, None]).to(Out.dtype.element_ty), mask=m[:, None] < S)


def launch(tensors, sizes):
    """Launch once; returns the compiled kernel."""
    grid = (triton.cdiv(sizes["S"], sizes["BM"]), sizes["H"])
    arrays, scale = (tensors[name] for name in ARRAYS), math.log2(math.e) / math.sqrt(sizes["D"])
    return attention[grid](*arrays, sizes["S"], scale, **_constants(sizes), **_options(sizes))


def signature(sizes):
    """What `triton.compile` needs to compile it with no GPU: function, types, constants, options."""
    types = dict.fromkeys(ARRAYS, "*fp16") | {"S": "i32", "scale": "fp32"} | dict.fromkeys(_constants(sizes), "constexpr")
    return attention, types, _constants(sizes), _options(sizes)


def _constants(sizes):
    return {name: sizes[name] for name in ("BM", "BN", "D", "CAUSAL")}


def _options(sizes):
    return {"num_warps": sizes["WARPS"], "num_stages": sizes["STAGES"]}
