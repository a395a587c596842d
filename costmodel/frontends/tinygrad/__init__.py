"""tinygrad's programs, as its code generator hands them to a renderer: one statement after the other, loops opened and closed.

`from_program` reads the linear list of a GPU program: `SPECIAL` are block and thread indices, `RANGE … END` loops, `PARAM` global
arrays, `BUFFER` shared and register arrays, `INDEX` and `SHRINK` (a vector) addresses. Loads that differ by a constant are one
unrolled loop; a multiplication that only an addition needs is one FMA. What is not understood is refused by name: addresses that
depend on data, tensor cores, sizes that are not numbers. Source: tinygrad 0.14.0, `codegen/`, `uop/ops.py`, `renderer/cstyle.py`.
"""

from costmodel.frontends.tinygrad.program import from_program

__all__ = ["from_program"]
