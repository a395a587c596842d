"""Other systems' kernels as `ir.Kernel`."""

from costmodel.frontends.einsum import from_einsum
from costmodel.frontends.luminal import from_luminal
from costmodel.frontends.triton import from_triton

__all__ = ["from_einsum", "from_luminal", "from_triton"]
