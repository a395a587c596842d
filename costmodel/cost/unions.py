"""What loads of one array at fixed distances from each other touch together.

A box where the distances fill one, a star where they lie on the axes through a point, else what touches
fewest sectors of several sums of boxes (see `cost.coverings`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import sympy

from costmodel.cost.coverings import Box, Term, coverings
from costmodel.counts.footprint import SHIFT, Footprint, footprint
from costmodel.ir import Access, Kernel, Loop, Site
from costmodel.symbols import index

__all__ = ["Part", "Union"]


@dataclass(frozen=True, slots=True)
class Part:
    """A term of a union of footprints."""

    times: int
    """How often it counts: negative for what two others have in common."""
    access: Access
    """What touches it, shifts of the family included."""
    footprint: Footprint


@dataclass(frozen=True, slots=True)
class Union:
    """An access, and the others like it at whole numbers of elements from it."""

    site: Site
    """The access's place, its guards so loose that they let all of them pass."""
    access: Access
    distances: tuple[tuple[int, ...], ...]
    """Of each from the first, along each dimension."""

    def parts(self, kernel: Kernel, over: tuple[Loop, ...]) -> tuple[tuple[Part, ...], ...]:
        """What they touch while the loops `over` run, as sums of footprints of which the least counts."""
        known: dict[tuple[tuple[int, int], ...], Footprint] = {}
        return tuple(self._sum(terms, kernel, over, known) for terms in coverings(self.distances))

    def _sum(
        self, terms: tuple[Term, ...], kernel: Kernel, over: tuple[Loop, ...], known: dict[tuple[tuple[int, int], ...], Footprint]
    ) -> tuple[Part, ...]:
        """The footprints of boxes; those that differ in whole rows only are one part."""
        parts: dict[tuple[object, ...], Part] = {}
        for times, box in terms:
            size = tuple((high - low, step) for low, high, step in box)
            wide, loops = _wide(self.access, box)
            if size not in known:
                site = replace(self.site, loops=(*self.site.loops, *loops))
                known[size] = footprint(kernel, site, wide, (*over, *loops))
            key = (size, box[-1][0], times > 0)
            before = parts[key].times if key in parts else 0
            parts[key] = Part(before + times, parts[key].access if key in parts else wide, known[size])
        return tuple(parts.values())

    def singly(self, kernel: Kernel, over: tuple[Loop, ...]) -> tuple[Part, ...]:
        """What each of them touches by itself; those that differ in whole rows only are one part."""
        along = Counter(d[-1] for d in self.distances)
        rows = (0,) * (len(self.access.index) - 1)
        alone = footprint(kernel, self.site, self.access, over)
        return tuple(Part(times, _moved(self.access, (*rows, d)), alone) for d, times in along.items())


def _moved(access: Access, by: tuple[int | sympy.Expr, ...]) -> Access:
    return replace(access, index=tuple(i + d for i, d in zip(access.index, by, strict=True)))


def _wide(access: Access, box: Box) -> tuple[Access, tuple[Loop, ...]]:
    """The access at all distances in a box, and the loops that stand for these."""
    loops: list[Loop] = []
    by: list[int | sympy.Expr] = []
    for d, (low, high, step) in enumerate(box):
        by.append(low)
        if high > low:
            shift, extent = index(f"{SHIFT}{d}"), sympy.Integer((high - low) // step + 1)
            loops.append(Loop(shift, extent, "serial", (), 0, extent))
            by[d] = shift * step + low
    return _moved(access, tuple(by)), tuple(loops)
