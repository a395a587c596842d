"""Helion kernels in, on a machine without a GPU and without compiling.

`from_helion(matmul.bind((x, y)), config)` reads the bound kernel's graphs and facts; `.estimate("H100")` prices it, and
`HelionSpace(bound).score(configs, "H100")` prices a whole space at once, since blocks, warps and stages are sizes of one kernel.
`from_helion_code` compiles the Triton code of one configuration instead, for its exact registers, spills and shared bytes.
Loops may start and end where a tile does (causal attention). What is not understood is an `UnsupportedError` that names it and
its line: loops whose ends are data, masks of the author's own, branches, atomics, several grids, fp32 products in IEEE precision.
Bytes are those that the Triton code asks for, without the second load of a tile, which Triton's compiler drops. Registers are
estimated from the tiles that live together (`kernel.py` says how well). Run with Helion 1.5.1 on Triton 3.6.0 and 3.7.1.
`costmodel.adapters.helion` puts this into Helion's own autotuner.
"""

from costmodel.frontends.helion.compiling import from_helion_code
from costmodel.frontends.helion.kernel import HelionKernel, HelionSpace, from_helion

__all__ = ["HelionKernel", "HelionSpace", "from_helion", "from_helion_code"]
