"""Other systems' kernels as `ir.Kernel`."""

from costmodel.frontends.einsum import from_einsum

__all__ = ["from_einsum"]
