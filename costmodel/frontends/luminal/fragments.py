"""Operands of register tiles: what unrolled loops load again and again, once into registers in front of them.

In `acc[m, n] += A[m]·B[n]` the loop over m loads B in each of its turns. Its copies stand in one block of code, in which a
compiler loads every element once. `from_einsum` writes kernels with the same parts in registers.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy

from costmodel.frontends.luminal.scopes import Draft, Memory, Pointer, Scope
from costmodel.ir.types import Space

__all__ = ["Fragments"]


class Fragments:
    """The register parts of one kernel."""

    def __init__(
        self,
        memory: Callable[[str, Space], Memory],
        index: Callable[[str], sympy.Symbol],
        extents: dict[sympy.Symbol, sympy.Expr],
    ) -> None:
        self._memory, self._index, self._extents = memory, index, extents
        self._made: dict[tuple[Memory, sympy.Expr], Memory] = {}

    def of(self, pointer: Pointer, scope: Scope) -> Pointer:
        """Where the element is loaded from: a register, if it was loaded there in front of the loops around `scope`."""
        reused = pointer.reuse(scope) if pointer.memory.space != "register" else None
        if reused is None:
            return pointer
        home, loops = reused
        key = (pointer.memory, pointer.offset)
        if key not in self._made:
            self._made[key] = self._loaded(pointer, home, loops)
        return Pointer(self._made[key], _place(loops, [loop.index for loop in loops]), None)

    def _loaded(self, pointer: Pointer, home: Scope, loops: tuple[Scope, ...]) -> Memory:
        """Loops of their own that load the part."""
        part = self._memory(f"part_{pointer.memory.name}", "register")
        opened, fresh = [home], list[sympy.Symbol]()
        for loop in loops:
            fresh.append(self._index(str(loop.index)))
            self._extents[fresh[-1]] = loop.extent
            opened.append(Scope(opened[-1], fresh[-1], loop.extent))
        moved = pointer.offset.xreplace(dict(zip((loop.index for loop in loops), fresh, strict=True)))
        draft = Draft(opened[-1], f"read {pointer.memory.name}")
        draft.load(Pointer(pointer.memory, moved, None))
        draft.store(Pointer(part, _place(loops, fresh), None))
        opened[-1].items.append(draft)
        for outer, inner in zip(reversed(opened[:-1]), reversed(opened[1:]), strict=True):
            outer.items.append(inner)
        return part


def _place(loops: tuple[Scope, ...], indices: list[sympy.Symbol | None]) -> sympy.Expr:
    """Row-major place of an element among those of the loops."""
    place = sympy.Integer(0)
    for loop, index in zip(loops, indices, strict=True):
        place = place * loop.extent + index
    return place
