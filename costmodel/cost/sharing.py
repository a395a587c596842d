"""Loads of one array that bring in the same elements: written side by side, or once more in a later loop.

A stencil written out by hand loads an array at several fixed distances; a softmax reads its row in three
loops. Loads whose indices differ by whole numbers only form a family. Those in the same loops touch
one union: a box where the distances fill one, a star where they lie on the axes through a point, else the
bounding box or the sum of its parts, if that is less. A member in other loops repeats what an earlier
one fetched, as far as a cache kept it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import sympy

from costmodel.counts.affine import affine_terms
from costmodel.counts.footprint import SHIFT, Footprint, footprint
from costmodel.ir import Access, Kernel, Loop, Site, Statement
from costmodel.symbols import Minimum, index, to_text

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

    def union(self, kernel: Kernel, site: Site, over: tuple[Loop, ...]) -> tuple[Part, ...]:
        """What the family touches while the loops `over` run, as a sum of footprints."""
        first = self.members[0]
        spans = [(min(d), max(d)) for d in zip(*self.distances, strict=True)]
        apart = [d for d, (low, high) in enumerate(spans) if high > low]
        if not apart:
            return (Part(1, first, footprint(kernel, site, first, over)),)
        centre = _centre(self.distances) if len(apart) > 1 else None
        if centre is not None:
            middle = _moved(first, centre)
            axes = [_box(kernel, site, middle, over, {d: (spans[d][0] - centre[d], spans[d][1] - centre[d])}) for d in apart]
            return (*axes, Part(1 - len(apart), middle, footprint(kernel, site, middle, over)))
        hull = _box(kernel, site, first, over, {d: spans[d] for d in apart})
        one = footprint(kernel, site, first, over).elements * len(self.members)
        return (replace(hull, footprint=replace(hull.footprint, elements=Minimum(hull.footprint.elements, one))),)

    def singly(self, kernel: Kernel, site: Site, over: tuple[Loop, ...]) -> tuple[Part, ...]:
        """What each member touches by itself; those that differ in whole rows only are one part."""
        first = self.members[0]
        along = Counter(d[-1] for d in self.distances)
        rows = (0,) * (len(first.index) - 1)
        alone = footprint(kernel, site, first, over)
        return tuple(Part(times, _moved(first, (*rows, d)), alone) for d, times in along.items())


def _centre(distances: tuple[tuple[int, ...], ...]) -> tuple[int, ...] | None:
    """The member on whose axes all others lie, if there is one."""
    for centre in distances:
        if all(sum(a != b for a, b in zip(other, centre, strict=True)) <= 1 for other in distances):
            return centre
    return None


def _moved(access: Access, by: tuple[int | sympy.Expr, ...]) -> Access:
    return replace(access, index=tuple(i + d for i, d in zip(access.index, by, strict=True)))


def _box(kernel: Kernel, site: Site, access: Access, over: tuple[Loop, ...], spans: dict[int, tuple[int, int]]) -> Part:
    """The access at all distances within the spans of some dimensions."""
    shifts = {d: index(f"{SHIFT}{d}") for d in spans}
    extra = tuple(
        Loop(shifts[d], sympy.Integer(high - low + 1), "serial", (), 0, sympy.Integer(high - low + 1))
        for d, (low, high) in spans.items()
    )
    wide = _moved(access, tuple(shifts[d] + spans[d][0] if d in spans else 0 for d in range(len(access.index))))
    return Part(1, wide, footprint(kernel, replace(site, loops=(*site.loops, *extra)), wide, (*over, *extra)))


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
