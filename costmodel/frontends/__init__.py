"""Other systems' kernels as kernels of ours."""
