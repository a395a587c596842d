"""The kernel that `softmax_triton` describes: the fused softmax of Triton's tutorial, a row for each program."""

import triton
import triton.language as tl


@triton.jit
def softmax(x, y, N, W: tl.constexpr):
    """Softmax of a row of N elements, padded to W in registers."""
    row = tl.program_id(0).to(tl.int64) * N
    i = tl.arange(0, W)
    own = tl.load(x + row + i, mask=i < N, other=float("-inf")).to(tl.float32)
    e = tl.exp(own - tl.max(own, 0))
    tl.store(y + row + i, (e / tl.sum(e, 0)).to(y.dtype.element_ty), mask=i < N)


def launch(tensors, sizes):
    """Launch once; returns the compiled kernel."""
    return softmax[(sizes["M"],)](tensors["x"], tensors["y"], sizes["N"], W=sizes["W"], num_warps=sizes["WARPS"])


def signature(sizes):
    """What `triton.compile` needs to compile it with no GPU: function, types, constants, options."""
    pointer = {"f32": "*fp32", "f16": "*fp16"}[sizes["DTYPE"]]
    return softmax, {"x": pointer, "y": pointer, "N": "i32", "W": "constexpr"}, {"W": sizes["W"]}, {"num_warps": sizes["WARPS"]}
