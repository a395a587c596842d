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

from costmodel.counts.affine import affine_terms
from costmodel.symbols import expanded, free_names

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
    far: int
    """Elements, a multiple of the modulus, from which rows have no granule in common."""

    def canonical(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """The columns with the smallest pitch that asks for the same granules."""
        given = columns[self.name]
        if isinstance(given, int):
            return columns
        near = np.where(given < self.far, given, self.far + given % self.modulus)
        return {**columns, self.name: near}


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
    for size in sorted(lane.free_symbols - set(threads), key=str):
        rows = lane.coeff(size)
        within = expanded(lane - rows * size)
        if size.name in elsewhere or rows == 0 or within.has(size) or rows.has(size):
            continue
        terms = affine_terms(within, set(threads))
        if terms is None or not all(c.is_Integer for c in (*terms[0].values(), terms[1])):
            continue
        reach = sum(abs(int(c)) for c in terms[0].values()) * _LANES
        modulus = granule_bytes // math.gcd(granule_bytes, itemsize)
        far = reach + -(-_WIDEST_BYTES // itemsize) + 2 * modulus
        return Pitch(size.name, modulus, -(-far // modulus) * modulus)
    return None
