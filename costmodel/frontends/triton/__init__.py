"""Triton kernels in: compiled for a named target without a GPU, read from their IR.

`from_triton(matmul, {"a": "*fp16", …, "M": "i32:16", …}, {"BM": 128, …}, grid, target="H100", num_warps=8, num_stages=3)` gives a
kernel whose sizes are the runtime integers; `.estimate("H100", M=4096, …)` prices it with the compiler's registers, spills and
shared bytes, each access named by its source line. Masks and bounds may divide by constants and sizes, and take minima. What is
not understood is an `UnsupportedError` that names the operation and the line: `while` loops; branches, masks and addresses that
only data decide; divisors that move; clusters, warp specialisation, Blackwell matrix instructions.
`rank_triton_configurations` compiles only the best of many, `from_triton_family` only those the others follow from. Run with
Triton 3.6.0, 3.7.1 and 3.9.0.
"""

from costmodel.frontends.triton.family import TritonFamily, TritonSpace, from_triton_family
from costmodel.frontends.triton.kernel import Grid, TritonKernel, from_triton
from costmodel.frontends.triton.many import RankedConfiguration, from_triton_configurations, rank_triton_configurations

__all__ = [
    "Grid", "RankedConfiguration", "TritonFamily", "TritonKernel", "TritonSpace", "from_triton", "from_triton_configurations",
    "from_triton_family", "rank_triton_configurations",
]  # fmt: skip
