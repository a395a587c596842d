"""The kernel that `layer_norm_triton` describes: the forward pass of Triton's tutorial, a row for each program."""

import triton
import triton.language as tl

EPSILON = 1e-5


@triton.jit
def layer_norm(x, gamma, beta, y, N, epsilon, W: tl.constexpr):
    """A row of N elements, W at a time: the mean, the squares of what is left, the result."""
    row = tl.program_id(0).to(tl.int64) * N
    i = tl.arange(0, W)
    total = tl.zeros((W,), tl.float32)
    for start in range(0, N, W):
        total += tl.load(x + row + start + i, mask=start + i < N, other=0.0).to(tl.float32)
    mean = tl.sum(total, 0) / N
    squares = tl.zeros((W,), tl.float32)
    for start in range(0, N, W):
        own = tl.load(x + row + start + i, mask=start + i < N, other=0.0).to(tl.float32)
        left = tl.where(start + i < N, own - mean, 0.0)
        squares += left * left
    scale = 1 / tl.sqrt(tl.sum(squares, 0) / N + epsilon)
    for start in range(0, N, W):
        inside = start + i < N
        weight = tl.load(gamma + start + i, mask=inside)
        shift = tl.load(beta + start + i, mask=inside)
        own = tl.load(x + row + start + i, mask=inside, other=0.0).to(tl.float32)
        tl.store(y + row + start + i, ((own - mean) * scale * weight + shift).to(y.dtype.element_ty), mask=inside)


def launch(tensors, sizes):
    """Launch once; returns the compiled kernel."""
    arrays = (tensors[name] for name in ("x", "gamma", "beta", "y"))
    return layer_norm[(sizes["M"],)](*arrays, sizes["N"], EPSILON, W=sizes["W"], num_warps=sizes["WARPS"])


def signature(sizes):
    """What `triton.compile` needs to compile it with no GPU: function, types, constants, options."""
    pointer = {"f32": "*fp32", "f16": "*fp16"}[sizes["DTYPE"]]
    types = dict.fromkeys(("x", "gamma", "beta", "y"), pointer) | {"N": "i32", "epsilon": "fp32", "W": "constexpr"}
    return layer_norm, types, {"W": sizes["W"]}, {"num_warps": sizes["WARPS"]}
