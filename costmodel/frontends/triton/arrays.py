"""Global arrays as the kernel walks over them: a flat offset split into dimensions, one for each stride.

The terms of an offset that share a product of sizes as their factor belong to one dimension with that stride, if an index moves
along it; terms with numbers alone make up the last one, if there are any. Sizes that are only added are offsets: along the
slowest dimension whose stride divides them, but for what a faster one that is walked backwards starts from. Extents are what
masks say, else how far the kernel reaches.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from costmodel.frontends.triton.events import Condition
from costmodel.frontends.triton.polynomials import ONE, ZERO, Algebra, Polynomial

__all__ = ["Dimensions", "dimensions", "split"]

Stride = tuple[str, ...]
"""Sizes whose product it is, sorted; empty for 1."""


@dataclass(slots=True)
class Dimensions:
    """An array's strides, slowest first, with the extent of each."""

    strides: tuple[Stride, ...]
    extents: dict[Stride, Polynomial]


def split(algebra: Algebra, offset: Polynomial, strides: Iterable[Stride]) -> dict[Stride, Polynomial]:
    """The index along each dimension, of which `strides` has at least those that the offset moves along."""
    found: dict[Stride, dict[tuple[str, ...], int]] = {}
    for m, c in offset.terms.items():
        sizes, index = _parts(algebra, m)
        if not index:
            sizes = max((s for s in strides if not Counter(s) - Counter(m)), key=len, default=())
            index = tuple(sorted((Counter(m) - Counter(sizes)).elements()))
        found.setdefault(sizes, {})[index] = c
    return _borrowed(algebra, {stride: Polynomial(terms) for stride, terms in found.items()})


def _borrowed(algebra: Algebra, along: dict[Stride, Polynomial]) -> dict[Stride, Polynomial]:
    """`n - 1 - i` of row r, rather than `-1 - i` of row r + 1: whole strides that a slower index adds start a backward walk."""
    for fast in sorted(along, key=len):
        down = any(c < 0 and m for m, c in along[fast].terms.items()) or _before_the_start(algebra, along[fast])
        slower = [s for s in along if len(s) > len(fast) and not Counter(fast) - Counter(s)]
        start = next((s for s in sorted(slower, key=len) if along[s].terms.get((), 0) > 0), None)
        if down and start is not None and not any(c > 0 and not _parts(algebra, m)[1] for m, c in along[fast].terms.items()):
            whole = Polynomial.of(along[start].terms[()])
            ratio = Polynomial({tuple(sorted((Counter(start) - Counter(fast)).elements())): 1})
            along = {**along, start: along[start] - whole, fast: along[fast] + whole * ratio}
    return along


def _before_the_start(algebra: Algebra, p: Polynomial) -> bool:
    """Whether an index is seen to be negative wherever it is."""
    top = 0
    for m, c in p.terms.items():
        tops = [algebra.ranges.get(atom, (None, None))[1] for atom in m]
        if c > 0 and None in tops:
            return False
        top += c * math.prod(t for t in tops if t is not None) if c > 0 or not m else 0
    return top < 0


def _parts(algebra: Algebra, monomial: tuple[str, ...]) -> tuple[Stride, tuple[str, ...]]:
    """The sizes of a product, and what moves."""
    return tuple(a for a in monomial if not _moves(algebra, a)), tuple(a for a in monomial if _moves(algebra, a))


def _moves(algebra: Algebra, atom: str) -> bool:
    """Whether an atom depends on blocks, loops or coordinates."""
    return algebra.mentions(Polynomial.of(atom), "%") if atom[0] == "@" else atom[0] == "%"


def dimensions(
    algebra: Algebra, touches: Iterable[tuple[Polynomial, tuple[Condition, ...]]], ends: Mapping[str, Polynomial]
) -> Dimensions:
    """The dimensions of an array that these offsets under these conditions reach; `ends` are the largest values of indices."""
    touches = list(touches)
    parts = (_parts(algebra, m) for offset, _ in touches for m in offset.terms)
    moved = {sizes for sizes, index in parts if index}
    plain = any(not m for offset, _ in touches for m in offset.terms)
    strides = sorted(moved | ({()} if plain or not moved else set()), key=lambda s: (-len(s), s))
    extents = dict.fromkeys(strides, ONE)
    for offset, conditions in touches:
        for stride, index in split(algebra, offset, strides).items():
            reach = _limit(algebra, index, conditions) or largest(algebra, index, ends) + ONE
            extents[stride] = algebra.maximum(extents[stride], reach)
    return Dimensions(tuple(strides), extents)


def _limit(algebra: Algebra, index: Polynomial, conditions: tuple[Condition, ...]) -> Polynomial | None:
    """What a mask `index < limit` says."""
    for op, a, b in conditions:
        if op in ("<", "<="):
            bound = index - a + b + (ONE if op == "<=" else ZERO)
            if not any(_moves(algebra, atom) for atom in bound.atoms()) and bound.number is None:
                return bound
    return None


def largest(algebra: Algebra, p: Polynomial, ends: Mapping[str, Polynomial]) -> Polynomial:
    """An upper bound of an index in sizes alone."""
    total = ZERO
    for m, c in p.terms.items():
        if c < 0 and any(_moves(algebra, a) for a in m):
            continue
        term = Polynomial.of(c)
        for atom in m:
            term = term * _largest_atom(algebra, atom, ends)
        total = total + term
    return total


def _largest_atom(algebra: Algebra, atom: str, ends: Mapping[str, Polynomial]) -> Polynomial:
    if not _moves(algebra, atom):
        return Polynomial.of(atom)
    if atom in ends:
        return largest(algebra, ends[atom], ends)
    if atom not in algebra.calls:
        top = algebra.ranges[atom][1]
        assert top is not None
        return Polynomial.of(top)
    kind, a, b = algebra.calls[atom]
    top_a = largest(algebra, a, ends)
    if kind == "mod" and not any(_moves(algebra, x) for x in b.atoms()):
        return algebra.minimum(top_a, b - ONE)
    if kind in ("floor", "ceil") and not any(_moves(algebra, x) for x in b.atoms()):
        return algebra.apply(kind, top_a, b)
    if kind == "min":
        return algebra.minimum(top_a, largest(algebra, b, ends))
    if kind == "max":
        return algebra.maximum(top_a, largest(algebra, b, ends))
    return top_a
