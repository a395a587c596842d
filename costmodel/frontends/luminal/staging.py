"""Shared memory: `SMEMLoad` brings one element for each thread there, `SMEMRead` reads what it brought, each after a barrier.

`(SMEM)` says only that a pointer is one of shared memory. Which array it is follows from what was loaded: each `SMEMLoad` has
its own, and `SMEMRead` names the load whose array it reads.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy

from costmodel.frontends.luminal.frames import Frame, Frames
from costmodel.frontends.luminal.operations import Gatherer, Value
from costmodel.frontends.luminal.scopes import Draft, Memory, Pointer, Scope
from costmodel.frontends.luminal.strides import expression
from costmodel.frontends.luminal.terms import Term
from costmodel.ir import Barrier
from costmodel.ir.types import Space
from costmodel.symbols import to_text

__all__ = ["Staging"]


class Staging:
    """The shared arrays of one kernel."""

    def __init__(
        self, gatherer: Gatherer, value: Callable[[Term, Frames], Value], memory: Callable[[str, Space], Memory], grid: int
    ) -> None:
        self._gatherer, self._value, self._memory, self._grid = gatherer, value, memory, grid
        self._done: dict[tuple[Term, Frames], Pointer] = {}

    def load(self, term: Term, frames: Frames) -> Pointer:
        """Where this thread's element lies after it was brought."""
        if (term, frames) not in self._done:
            place, source = _shared_first(term)
            scope, memory = _scope(term, frames), self._memory("shared", "shared")
            draft = Draft(scope, f"stage {memory.name}")
            self._gatherer.gather(self._value(source, frames), scope, draft, alone=True)
            to = Pointer(memory, self._offset(place, frames), scope)
            draft.store(to)
            scope.items += [Barrier(), draft]
            self._done[term, frames] = to
        return self._done[term, frames]

    def read(self, term: Term, frames: Frames) -> Pointer:
        """Where the element lies that this thread reads."""
        if (term, frames) not in self._done:
            place, load = _shared_first(term)
            if load.op != "SMEMLoad":
                term.refuse(f"expected what was brought (SMEMLoad) beside the place in shared memory, got {load.op}")
            memory, scope = self.load(load, frames).memory, _scope(term, frames)
            scope.items.append(Barrier())
            self._done[term, frames] = Pointer(memory, self._offset(place, frames), scope)
        return self._done[term, frames]

    def _offset(self, term: Term, frames: Frames) -> sympy.Expr:
        """How far the loops around it move a pointer to shared memory."""
        offset = sympy.Integer(0)
        while term.op == "LoopIn":
            frame = _innermost(term, frames)
            stride = expression(term.child(2), frame.index, {frame.index: frame.extent})
            if stride != 0 and len(frames) <= self._grid:
                term.refuse(f"it moves by {to_text(stride)} with the grid, but each block has its own shared memory")
            offset, frames, term = offset + stride, frames[:-1], term.child(0)
        return offset


def _scope(term: Term, frames: Frames) -> Scope:
    return _innermost(term, frames).scope


def _innermost(term: Term, frames: Frames) -> Frame:
    if not frames:
        term.refuse("it stands outside all loops")
    return frames[-1]


def _shared_first(term: Term) -> tuple[Term, Term]:
    """The place in shared memory and the other operand, which come in either order."""
    for n in range(2):
        inner = term.child(n)
        while inner.op == "LoopIn":
            inner = inner.child(0)
        if inner.op == "SMEM":
            return term.child(n), term.child(1 - n)
    return term.refuse("neither operand is a place in shared memory: (SMEM), entered through loops")
