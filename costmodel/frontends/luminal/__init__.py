"""luminal's loop language as kernels.

    program = from_luminal('(LoopOut (LoopOut (Exp2 (LoopIn (LoopIn (GMEM "A") …')
    program = from_luminal(egraph_json, root="out", choice={"IR-8": "function-3-LoopOut"})
    price(program, "H100").seconds

egglog for Python writes such JSON: `bindings.EGraph().serialize([], …).to_json()`. An extraction that asks for prices takes the
`choice` it is about to make, or costs of its own through `cheapest_nodes`, and drops what is refused, as luminal does.

Source: luminal, commit 7c259f4 (August 2025), crates/luminal_2: the language of code.lisp, as codegen.rs makes kernels of it.
"""

from costmodel.frontends.luminal.egraph import Choice, EGraph, cheapest_nodes, read_egraph
from costmodel.frontends.luminal.program import Feed, Program, ProgramCost, from_luminal, price

__all__ = ["Choice", "EGraph", "Feed", "Program", "ProgramCost", "cheapest_nodes", "from_luminal", "price", "read_egraph"]
