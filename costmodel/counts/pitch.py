"""Distances between rows that no request can tell apart.

Where the lanes of a warp lie in several rows of an array, the row pitch decides which sectors they touch only through its
remainder in granules, once rows are further apart than what is touched within one. A pitch is then replaced by the smallest one
with the same remainder: a hundred matrix widths become one configuration to enumerate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from costmodel.symbols import Mod, Program, compile_program, expanded, free_names

__all__ = ["Pitch", "row_pitch"]

_LANES = 64
"""Most lanes of a warp: thread indices differ by less within it."""
_WIDEST_BYTES = 64
"""Of one lane's access, rounded up."""


@dataclass(frozen=True, slots=True)
class Pitch:
    """A size that only tells rows apart."""

    name: str
    modulus: int
    """Elements after which its remainder repeats."""
    reach: Program
    """Elements over which the lanes of a warp spread within a row, a granule and more added."""

    def canonical(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """The columns with the smallest pitch that asks for the same granules."""
        given, reach = columns[self.name], self.reach(columns)[0]
        far = -(-reach // self.modulus) * self.modulus  # from here on rows have no granule in common
        if isinstance(given, int) and isinstance(far, int):
            return columns if given < far else {**columns, self.name: far + given % self.modulus}
        return {**columns, self.name: np.where(given < far, given, far + given % self.modulus)}


def row_pitch(
    lane: sympy.Expr, others: Sequence[sympy.Expr], threads: Sequence[sympy.Symbol], itemsize: int, granule_bytes: int
) -> Pitch | None:
    """The row pitch of an access, if it has one and nothing else depends on it.

    Args:
        lane: its offset in elements.
        others: all else that is known about the lanes: block shape, guards, extents.
        threads: thread indices.
        itemsize: bytes of an element.
        granule_bytes: alignment that matters.
    """
    elsewhere = free_names(*others) if others else frozenset()
    modulus = granule_bytes // math.gcd(granule_bytes, itemsize)
    for size in sorted(lane.free_symbols - set(threads), key=str):
        rows = expanded(lane).coeff(size)
        within = expanded(lane - rows * size)
        if size.name in elsewhere or rows == 0 or within.has(size) or rows.has(size):
            continue
        reach = _reach(within, set(threads))
        if reach is not None:
            return Pitch(size.name, modulus, compile_program([reach + -(-_WIDEST_BYTES // itemsize) + 2 * modulus]))
    return None


def _reach(within: sympy.Expr, threads: set[sympy.Symbol]) -> sympy.Expr | None:
    """Elements between the lanes of a warp in one row, at most; None where no bound is seen."""
    reach = sympy.Integer(0)
    for term in sympy.Add.make_args(within):
        if not term.free_symbols & threads:
            continue
        factor, lanes = term.as_independent(*threads, as_Add=False)
        bound = sympy.Integer(_LANES) if lanes in threads else lanes.args[1] if isinstance(lanes, Mod) else None
        if not factor.is_Integer or bound is None or bound.free_symbols & threads:
            return None
        reach += abs(factor) * bound
    return reach
