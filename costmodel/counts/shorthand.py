"""Sizes that only occur together get one name: fewer distinct configurations to enumerate.

The rows that a tile really holds, `ceil_div(M, ceil_div(M, BM))`, take a hundred values where `(M, BM)` takes ten
thousand; and what a warp does depends on the rows alone. Rounded quotients, minima and maxima of sizes are
replaced by symbols of their own, whose values are worked out for the whole table before distinct rows are sought.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy

from costmodel.symbols import CeilDiv, FloorDiv, Maximum, Minimum, Program, compile_program

__all__ = ["Shorthand"]


@dataclass(slots=True)
class Shorthand:
    """Replaces what it is called with, and remembers what it replaced."""

    indices: frozenset[sympy.Symbol]
    """Loop indices: expressions with them stay as they are."""
    names: dict[sympy.Expr, sympy.Symbol] = field(default_factory=dict)

    def __call__(self, e: sympy.Expr) -> sympy.Expr:
        """The expression with its largest index-free quotients, minima and maxima replaced."""
        if not e.args:
            return e
        if isinstance(e, CeilDiv | FloorDiv | Minimum | Maximum) and not e.free_symbols & self.indices:
            return self.names.setdefault(e, sympy.Symbol(f"_size_{len(self.names)}", integer=True, nonnegative=True))
        parts = [self(a) for a in e.args]
        return e if all(a is b for a, b in zip(parts, e.args, strict=True)) else e.func(*parts)

    def completion(self) -> Completion:
        """What works out the replaced expressions."""
        return Completion(tuple(s.name for s in self.names.values()), compile_program(list(self.names)))


@dataclass(frozen=True, slots=True)
class Completion:
    """The values of the new names."""

    names: tuple[str, ...]
    program: Program

    def __call__(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """The columns with those of the new names."""
        if not self.names:
            return columns
        return {**columns, **dict(zip(self.names, self.program(columns), strict=True))}
