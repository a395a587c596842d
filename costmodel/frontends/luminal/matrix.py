"""luminal's `TCMatmul`: the 32 threads of a block multiply 8 × 8 tiles with matrix instructions.

luminal writes Metal's simdgroup_load, simdgroup_multiply_accumulate and simdgroup_store, in a loop over k with a barrier in each
step; "each thread in the matmul does 2 elements" (code.lisp). inferred: lane l has the elements (l // 4, 2·(l % 4)) and the next
one, as NVIDIA's accumulators of 8 columns have it (PTX ISA, mma.m16n8k8: row lane / 4, columns 2·(lane % 4) and the next).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy

from costmodel.dtypes import DType
from costmodel.frontends.luminal.scopes import Draft, Memory, Pointer, Scope
from costmodel.frontends.luminal.strides import expression
from costmodel.frontends.luminal.terms import Term
from costmodel.ir import Barrier, Work
from costmodel.symbols import FloorDiv, Mod, exact_quotient

__all__ = ["LANES", "Product"]

SIDE = 8
"""Rows and columns of a tile."""
LANES = 32
EACH = SIDE * SIDE // LANES
"""Elements of a tile that a thread has."""


@dataclass(frozen=True, slots=True)
class Product:
    """A `TCMatmul` and where it stands."""

    term: Term
    scope: Scope
    step: Scope
    """Of its loop over k."""
    lane: sympy.Expr
    a: Pointer
    b: Pointer
    to: Pointer
    registers: tuple[Memory, Memory, Memory]
    """Parts of A, B and the result."""
    dtype: DType
    """That is multiplied."""

    def write(self) -> None:
        """Load, multiply, add in a loop; then store."""
        part_a, part_b, total = self.registers
        steps = {self.step.index: self.step.extent} if self.step.index is not None else {}
        self.step.items.append(Barrier())
        for source, part, stride, row in ((self.a, part_a, 2, 4), (self.b, part_b, 3, 5)):
            moved = source.shifted(expression(self.term.child(stride), self.step.index, steps))
            loading = self._draft(self.step, f"load {source.memory.name}")
            self._tile(moved, row, loading.load)
            loading.store(self._start(part, self.step), EACH)
        multiply = self._draft(self.step, "multiply")
        for part in self.registers:
            multiply.load(self._start(part, self.step), EACH)
        multiply.store(self._start(total, self.step), EACH)
        multiply.work.append(Work("mma", self.dtype, sympy.Integer(SIDE**3)))
        self.scope.items.append(self.step)
        storing = self._draft(self.scope, f"TCMatmul to {self.to.memory.name}")
        storing.load(self._start(total, self.scope), EACH)
        self._tile(self.to, 6, storing.store)

    @staticmethod
    def _draft(scope: Scope, name: str) -> Draft:
        made = Draft(scope, name)
        scope.items.append(made)
        return made

    @staticmethod
    def _start(memory: Memory, scope: Scope) -> Pointer:
        return Pointer(memory, sympy.Integer(0), scope)

    def _tile(self, start: Pointer, row: int, access: Callable[[Pointer, int], None]) -> None:
        """A thread's elements of a tile whose rows lie as far apart as argument `row` says, at once if they are aligned."""
        pitch = expression(self.term.child(row), sympy.Integer(1), {})
        at = start.shifted(FloorDiv(self.lane, sympy.Integer(4)) * pitch + Mod(self.lane, sympy.Integer(4)) * EACH)
        if exact_quotient(at.offset, sympy.Integer(EACH)) is not None:
            access(at, EACH)
        else:
            for n in range(EACH):
                access(at.shifted(sympy.Integer(n)), 1)
