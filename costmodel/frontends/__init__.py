"""Other systems' kernels as `ir.Kernel`."""
