"""Triton kernels in: compiled for a named target without a GPU, read from their IR."""

from costmodel.frontends.triton.kernel import Grid, TritonKernel, from_triton
from costmodel.frontends.triton.many import from_triton_configurations

__all__ = ["Grid", "TritonKernel", "from_triton", "from_triton_configurations"]
