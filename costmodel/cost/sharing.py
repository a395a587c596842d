"""Loads of one array that bring in the same elements: written side by side, or once more in a later loop.

A stencil written out by hand loads an array at several fixed distances; a softmax reads its row in three
loops. Loads whose indices differ by whole numbers only form a family. Those in the same loops touch
one union: a box where the distances fill one, a star where they lie on the axes through a point, else what
touches fewest sectors of several sums of boxes (see `cost.coverings`). A member in other loops repeats what an earlier
one fetched, as far as a cache kept it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import sympy

from costmodel.cost.coverings import Box, Term, coverings
from costmodel.counts.affine import affine_terms
from costmodel.counts.footprint import SHIFT, Footprint, footprint
from costmodel.ir import Access, Kernel, Loop, Site, Statement
from costmodel.symbols import index, to_text

__all__ = ["Part", "Role", "roles"]


@dataclass(frozen=True, slots=True)
class Part:
    """A term of a union of footprints."""

    times: int
    """How often it counts: negative for what two others have in common."""
    access: Access
    """What touches it, shifts of the family included."""
    footprint: Footprint


@dataclass(frozen=True, slots=True)
class Role:
    """What a global load does in its family."""

    members: tuple[Access, ...]
    """The loads fetched together, for the one that stands for them; empty for the others."""
    follows: Access | None
    """The load that stands for this one."""
    addressed: bool
    """False where an earlier member has computed the address up to a distance along the last dimension."""
    repeats: Access | None
    """An earlier load, in other loops, of the same elements."""
    distances: tuple[tuple[int, ...], ...] = ()
    """Of each member from the first, along each dimension."""

    def unions(self, kernel: Kernel, site: Site, over: tuple[Loop, ...]) -> tuple[tuple[Part, ...], ...]:
        """What the family touches while the loops `over` run, as sums of footprints of which the least counts."""
        known: dict[tuple[tuple[int, int], ...], Footprint] = {}
        return tuple(self._sum(terms, kernel, site, over, known) for terms in coverings(self.distances))

    def _sum(
        self,
        terms: tuple[Term, ...],
        kernel: Kernel,
        site: Site,
        over: tuple[Loop, ...],
        known: dict[tuple[tuple[int, int], ...], Footprint],
    ) -> tuple[Part, ...]:
        """The footprints of boxes; those that differ in whole rows only are one part."""
        parts: dict[tuple[object, ...], Part] = {}
        for times, box in terms:
            size = tuple((high - low, step) for low, high, step in box)
            wide, loops = _wide(self.members[0], box)
            if size not in known:
                known[size] = footprint(kernel, replace(site, loops=(*site.loops, *loops)), wide, (*over, *loops))
            key = (size, box[-1][0], times > 0)
            before = parts[key].times if key in parts else 0
            parts[key] = Part(before + times, parts[key].access if key in parts else wide, known[size])
        return tuple(parts.values())

    def singly(self, kernel: Kernel, site: Site, over: tuple[Loop, ...]) -> tuple[Part, ...]:
        """What each member touches by itself; those that differ in whole rows only are one part."""
        first = self.members[0]
        along = Counter(d[-1] for d in self.distances)
        rows = (0,) * (len(first.index) - 1)
        alone = footprint(kernel, site, first, over)
        return tuple(Part(times, _moved(first, (*rows, d)), alone) for d, times in along.items())


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


_Key = tuple[str, ...]
_Member = tuple[Site, Access, tuple[sympy.Expr, ...]]


def roles(kernel: Kernel) -> dict[int, Role]:
    """The role of each global load, by the identity of its access."""
    families: dict[_Key, dict[tuple[str, ...], list[_Member]]] = {}
    for site, access in _loads(kernel):
        key, distances = _family(site, access)
        place = tuple(loop.index.name for loop in site.loops)
        families.setdefault(key, {}).setdefault(place, []).append((site, access, distances))
    found: dict[int, Role] = {}
    for places in families.values():
        earlier: Access | None = None
        for members in places.values():
            _, access, own = members[0]
            apart = tuple(tuple(int(a - b) for a, b in zip(m[2], own, strict=True)) for m in members)
            found[id(access)] = Role(tuple(m[1] for m in members), None, True, earlier, apart)
            rows = {own[:-1]}
            for _, follower, distances in members[1:]:
                found[id(follower)] = Role((), access, distances[:-1] not in rows, None)
                rows.add(distances[:-1])
            earlier = earlier or access
    return found


def _loads(kernel: Kernel) -> Iterator[tuple[Site, Access]]:
    for site in kernel.statements():
        if isinstance(site.leaf, Statement):
            yield from ((site, a) for a in site.leaf.loads if a.buffer.space == "global")


def _family(site: Site, access: Access) -> tuple[_Key, tuple[sympy.Expr, ...]]:
    """What all members have in common, and the whole numbers in which they differ."""
    loops = {loop.index: loop for loop in site.loops}
    places = {loop.index: index(f"{loop.kind}{loop.axis}_{depth}") for depth, loop in enumerate(site.loops)}
    conditions = [c for g in site.guards for c in g.conditions]
    guards = [f"{to_text(a.xreplace(places))} {op} {to_text(b.xreplace(places))}" for op, a, b in conditions]
    guards += [str(g.fraction) for g in site.guards]
    shape: list[str] = [access.buffer.name, to_text(access.width), str(access.cached), *guards]
    distances: list[sympy.Expr] = []
    for position in access.index:
        terms = affine_terms(position, set(loops))
        if terms is None or not terms[1].is_Integer:
            shape.append(to_text(position))
            distances.append(sympy.Integer(0))
        else:
            moving = (f"{to_text(c)}*{loops[i].kind}{loops[i].axis}<{to_text(loops[i].extent)}" for i, c in terms[0].items())
            shape.append("+".join(sorted(moving)))
            distances.append(terms[1])
    return tuple(shape), tuple(distances)
