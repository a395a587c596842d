"""The loops of one kernel while it is written: statements can still be put in front of a loop that is open.

A load or an operation whose operands do not
change in a loop is put in front of it, as a compiler does; not out of loops with barriers or stores to global memory, across
which it cannot (luminal's pointers are not `__restrict__`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import sympy

from costmodel.dtypes import DType
from costmodel.ir import Barrier, Work
from costmodel.ir.types import Space

__all__ = ["MOST_REGISTERS", "Draft", "Memory", "Pointer", "Reference", "Scope"]

MOST_REGISTERS = 255
"""Of a thread. Source: CUDA programming guide, technical specifications per compute capability."""


@dataclass(eq=False, slots=True)
class Memory:
    """A flat array, of as many elements as accesses reach."""

    name: str
    space: Space
    dtype: DType
    reached: list[sympy.Expr] = field(default_factory=list)
    """Elements that each access needs."""


@dataclass(eq=False, slots=True)
class Scope:
    """The body of a loop in each thread, or of the thread itself."""

    parent: Scope | None = None
    index: sympy.Symbol | None = None
    extent: sympy.Expr = sympy.Integer(1)
    movable: bool = False
    """Whether what does not change may be put in front of the loop."""
    unrolled: bool = False
    """Whether its index picks registers, so that a compiler unrolls it completely."""
    items: list[Draft | Barrier | Scope] = field(default_factory=list)
    done: set[object] = field(default_factory=set)
    """Places that statements here have loaded, and operations that they have done."""

    def copies(self) -> float:
        """Of the body, once the unrolled loops around it are; without end if that is not known."""
        around = 1 if self.parent is None or not self.parent.unrolled else self.parent.copies()
        return around * int(self.extent) if self.extent.is_number else math.inf

    @property
    def depth(self) -> int:
        """Loops around it."""
        return 0 if self.parent is None else 1 + self.parent.depth


@dataclass(frozen=True, slots=True)
class Pointer:
    """A place in memory."""

    memory: Memory
    offset: sympy.Expr
    floor: Scope | None
    """Loads of it stay inside this scope, where what it points to is written; None while that goes on: then they stay put."""

    def shifted(self, by: sympy.Expr) -> Pointer:
        """So many elements further."""
        return Pointer(self.memory, self.offset + by, self.floor)

    def place(self, scope: Scope) -> Scope:
        """The outermost scope around `scope` in which a load of it can stand."""
        while self.floor is not None and scope is not self.floor and scope.parent is not None and scope.movable:
            if scope.index in self.offset.free_symbols:
                break
            scope = scope.parent
        return scope

    def reuse(self, scope: Scope) -> tuple[Scope, tuple[Scope, ...]] | None:
        """Around `scope`, the outermost in which all that unrolled loops load fits into registers, and these loops.

        None unless a loop outside them loads the same in each turn: then they have to stand in front of it.
        """
        found: tuple[Scope, tuple[Scope, ...]] | None = None
        loops: tuple[Scope, ...] = ()
        while self.floor is not None and scope is not self.floor and scope.parent is not None and scope.movable:
            moved = scope.index in self.offset.free_symbols
            if moved and not scope.unrolled:
                break
            loops, scope = (scope, *loops) if moved else loops, scope.parent
            if loops and not moved:
                found = scope, loops
        return found


@dataclass(frozen=True, slots=True)
class Reference:
    """An access to memory whose extent is not known yet."""

    memory: Memory
    offset: sympy.Expr
    width: int = 1


@dataclass(slots=True)
class Draft:
    """A statement that is being put together."""

    scope: Scope
    name: str
    loads: list[Reference] = field(default_factory=list)
    stores: list[Reference] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)

    def load(self, pointer: Pointer, width: int = 1) -> None:
        """Read consecutive elements."""
        _touch(self.loads, pointer, width)

    def store(self, pointer: Pointer, width: int = 1) -> None:
        """Write consecutive elements."""
        _touch(self.stores, pointer, width)


def _touch(references: list[Reference], pointer: Pointer, width: int) -> None:
    pointer.memory.reached.append(pointer.offset + width)
    references.append(Reference(pointer.memory, pointer.offset, width))
