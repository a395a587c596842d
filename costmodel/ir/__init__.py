"""What a kernel is, and how it is described, checked, drawn and stored."""

from costmodel.ir.arrays import Array, Reference
from costmodel.ir.builder import Builder, Static
from costmodel.ir.expressions import Comparison, Divisibility, Expr, ceil_div, facts_of, maximum, minimum
from costmodel.ir.graph import loop_nest_graph, loose_ends
from costmodel.ir.packed import packed, unpacked
from costmodel.ir.serialize import from_json, to_json
from costmodel.ir.trace import Description, described, kernel
from costmodel.ir.types import Access, Barrier, Buffer, Guard, Kernel, Loop, Node, Site, Statement, Work

__all__ = [
    "Access",
    "Array",
    "Barrier",
    "Buffer",
    "Builder",
    "Comparison",
    "Description",
    "Divisibility",
    "Expr",
    "Guard",
    "Kernel",
    "Loop",
    "Node",
    "Reference",
    "Site",
    "Statement",
    "Static",
    "Work",
    "ceil_div",
    "described",
    "facts_of",
    "from_json",
    "kernel",
    "loop_nest_graph",
    "loose_ends",
    "maximum",
    "minimum",
    "packed",
    "to_json",
    "unpacked",
]
