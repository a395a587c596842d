"""The finished arrays and statements of a kernel, when all accesses are known.

Memory is flat, as luminal's is, and as large as accesses reach. Of an array in registers only the elements that are used take a
register: luminal places them as in the result, rows apart, but a compiler has no use for what lies between.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sympy

from costmodel.dtypes import DType
from costmodel.errors import UnsupportedError
from costmodel.frontends.luminal.scopes import MOST_REGISTERS, Draft, Memory, Reference, Scope
from costmodel.frontends.luminal.strides import LARGEST, Extents, reach
from costmodel.ir import Access, Barrier, Buffer, Loop, Node, Statement, Work
from costmodel.symbols import Maximum, expanded, to_text

__all__ = ["Layout", "layout", "nodes_of"]

UNROLL = 4
"""Copies of an innermost loop's body. inferred: the factor of this package's naive matrix product, whose loop nvcc unrolled."""
Digits = tuple[tuple[int, int, sympy.Symbol], ...]
"""An offset as digits, the slowest first: distance, how many values, index."""


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
    extents: Extents
    packed: frozenset[Memory]
    """Arrays whose elements are numbered without gaps."""

    def access(self, r: Reference) -> Access:
        """The finished access."""
        buffer = self.buffers[r.memory]
        offset = r.offset
        if r.memory in self.packed:
            offset = sympy.Integer(0)
            for _, n, index in _digits(r.offset, self.extents) or ():
                offset = offset * n + index
        if buffer.space != r.memory.space:
            offset = offset * self.threads + self.number
        return Access(buffer, (offset,), sympy.Integer(r.width))

    def picks_registers(self, index: sympy.Symbol | None, drafts: Iterable[Draft]) -> bool:
        """Whether an index is part of the place of a register."""
        references = (r for d in drafts for r in (*d.loads, *d.stores) if index in r.offset.free_symbols)
        return any(self.buffers[r.memory].space == "register" for r in references)


def layout(memories: Iterable[Memory], extents: Extents, threads: sympy.Expr, number: sympy.Expr) -> Layout:
    """Arrays for all accesses that were noted.

    Raises:
        UnsupportedError: an access may lie before the start of its array, registers or shared memory of unknown size, or numbers
            too large to count with.
    """
    _check_number("turns of all loops", sympy.Mul(*extents.values()))
    buffers: dict[Memory, Buffer] = {}
    packed: set[Memory] = set()
    for memory in (m for m in memories if m.reached):
        elements = _elements(memory, extents)
        if memory.space == "register" and (used := _used(memory, extents)) is not None:
            packed.add(memory)
            elements = sympy.Integer(used)
        _check_number(f"elements of {memory.name}", elements)
        buffers[memory] = _buffer(memory, elements, threads)
    return Layout(buffers, threads, number, extents, frozenset(packed))


def _check_number(what: str, e: sympy.Expr) -> None:
    if any(abs(n) > LARGEST for n in e.atoms(sympy.Integer)):
        raise UnsupportedError(f"luminal: {what}: {to_text(e)} is too large; expected numbers up to 2**58")


def _used(memory: Memory, extents: Extents) -> int | None:
    """How many elements are used, if all accesses number them alike: by digits of the same distances and values."""
    found = {_digits(e - 1, extents) for e in dict.fromkeys(memory.reached)}
    shapes = {None if digits is None else tuple((step, n) for step, n, _ in digits) for digits in found}
    shape = shapes.pop()
    return None if shapes or shape is None else math.prod(n for _, n in shape)


def _digits(offset: sympy.Expr, extents: Extents) -> Digits | None:
    """The digits of an offset; None if it is no sum of them, each larger than all smaller ones together."""
    digits: list[tuple[int, int, sympy.Symbol]] = []
    for term in sympy.Add.make_args(expanded(offset)) if offset != 0 else ():
        step, index = term.as_coeff_Mul()
        if index not in extents or not extents[index].is_number or not step.is_Integer:
            return None
        if extents[index] != 1:
            digits.append((int(step), int(extents[index]), index))
    digits.sort(key=lambda d: d[0])
    span = 0
    for step, n, _ in digits:
        if step <= span:
            return None
        span += step * (n - 1)
    return tuple(reversed(digits))


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
