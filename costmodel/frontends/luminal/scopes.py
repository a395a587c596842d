"""The loops of one kernel while it is written: statements can still be put in front of a loop that is open.

Memory is flat, as luminal's is: its extent is known when all accesses to it are. A load or an operation whose operands do not
change in a loop is put in front of it, as a compiler does; not out of loops with barriers or stores to global memory, across
which it cannot (luminal's pointers are not `__restrict__`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import sympy

from costmodel.dtypes import DType
from costmodel.errors import UnsupportedError
from costmodel.frontends.luminal.strides import Extents, reach
from costmodel.ir import Access, Barrier, Buffer, Loop, Node, Statement, Work
from costmodel.ir.types import Space
from costmodel.symbols import Maximum, to_text

__all__ = ["Draft", "Layout", "Memory", "Pointer", "Reference", "Scope", "layout", "nodes_of"]

MOST_REGISTERS = 255
"""Of a thread. Source: CUDA programming guide, technical specifications per compute capability."""
UNROLL = 4
"""Copies of an innermost loop's body. inferred: the factor of this package's naive matrix product, whose loop nvcc unrolled."""


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
    items: list[Draft | Barrier | Scope] = field(default_factory=list)
    done: set[object] = field(default_factory=set)
    """Places that statements here have loaded, and operations that they have done."""

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


@dataclass(frozen=True, slots=True)
class Layout:
    """Arrays as large as their accesses reach, and where each thread has its own.

    An array of more elements than a thread has registers lies in memory of the thread's own, "organized such that consecutive
    32-bit words are accessed by consecutive thread IDs" (CUDA programming guide, device memory accesses, as quoted in NVIDIA's
    forum, topic 204288). inferred: no two threads of the grid share it; that of blocks which have ended is not used again.
    """

    buffers: dict[Memory, Buffer]
    threads: sympy.Expr
    """In the whole grid."""
    number: sympy.Expr
    """Of a thread among these, neighbours of a warp next to each other."""

    def access(self, r: Reference) -> Access:
        """The finished access."""
        buffer = self.buffers[r.memory]
        offset = r.offset if buffer.space == r.memory.space else r.offset * self.threads + self.number
        return Access(buffer, (offset,), sympy.Integer(r.width))

    def picks_registers(self, index: sympy.Symbol | None, drafts: Iterable[Draft]) -> bool:
        """Whether an index is part of the place of a register."""
        references = (r for d in drafts for r in (*d.loads, *d.stores) if index in r.offset.free_symbols)
        return any(self.buffers[r.memory].space == "register" for r in references)


def layout(memories: Iterable[Memory], extents: Extents, threads: sympy.Expr, number: sympy.Expr) -> Layout:
    """Arrays for all accesses that were noted.

    Raises:
        UnsupportedError: an access may lie before the start of its array, or registers or shared memory of unknown size.
    """
    return Layout({m: _buffer(m, _elements(m, extents), threads) for m in memories if m.reached}, threads, number)


def _elements(memory: Memory, extents: Extents) -> sympy.Expr:
    needed: list[sympy.Expr] = []
    for e in dict.fromkeys(memory.reached):
        low, high = reach(e - 1, extents)
        if low.is_nonnegative is not True:
            raise UnsupportedError(
                f"luminal: {memory.name}: offset {to_text(e - 1)} may lie before its start (down to {to_text(low)})"
            )
        needed.append(high + 1)
    elements = needed[0]
    for e in needed[1:]:
        elements = Maximum(elements, e)
    if memory.space != "global" and not elements.is_number:
        raise UnsupportedError(
            f"luminal: {memory.name}: {memory.space} memory of {to_text(elements)} elements; give it a size that is a number"
        )
    return elements


def _buffer(memory: Memory, elements: sympy.Expr, threads: sympy.Expr) -> Buffer:
    space = memory.space
    if space == "register" and int(elements) > MOST_REGISTERS:
        space, elements = "global", elements * threads
    return Buffer(memory.name, (elements,), memory.dtype, space, (sympy.Integer(1),), dynamic=space == "shared")


def nodes_of(scope: Scope, layout: Layout) -> tuple[Node, ...]:
    """The finished body of a scope."""
    return tuple(_nodes(scope, layout))


def _nodes(scope: Scope, layout: Layout) -> Iterator[Node]:
    for item in scope.items:
        if isinstance(item, Barrier):
            yield item
        elif isinstance(item, Draft):
            loads, stores = (tuple(layout.access(r) for r in refs) for refs in (item.loads, item.stores))
            if loads or stores or item.work:
                yield Statement(item.name, loads, stores, _added(item.work))
        else:
            body = nodes_of(item, layout)
            if body:
                assert item.index is not None
                yield Loop(item.index, item.extent, "serial", body, 0, _unroll(item, layout))


def _added(work: Sequence[Work]) -> tuple[Work, ...]:
    """One entry for each kind and dtype."""
    amounts: dict[tuple[str, DType], Work] = {}
    for w in work:
        before = amounts.get((w.kind, w.dtype))
        amounts[w.kind, w.dtype] = w if before is None else Work(w.kind, w.dtype, before.amount + w.amount)
    return tuple(amounts.values())


def _unroll(scope: Scope, layout: Layout) -> sympy.Expr:
    """All of a loop whose index picks registers, for these have no addresses; an innermost loop by a few."""
    if layout.picks_registers(scope.index, _drafts(scope)):
        return scope.extent
    if any(isinstance(item, Scope) for item in scope.items):
        return sympy.Integer(1)
    return sympy.Integer(min(UNROLL, int(scope.extent)) if scope.extent.is_number else UNROLL)


def _drafts(scope: Scope) -> Iterator[Draft]:
    for item in scope.items:
        if isinstance(item, Draft):
            yield item
        elif isinstance(item, Scope):
            yield from _drafts(item)
