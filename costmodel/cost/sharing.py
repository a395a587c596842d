"""Loads of one array that bring in the same elements: written side by side, or once more in a later loop.

A stencil written out by hand loads an array at several fixed distances; a softmax reads its row in three
loops. Loads whose indices differ by whole numbers only form a family. Those in the same loops touch
one union, whose bounding box (or the sum of its parts, if that is less) is fetched once; a family member
in other loops repeats what an earlier one fetched, as far as a cache kept it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import sympy

from costmodel.counts.affine import affine_terms
from costmodel.counts.footprint import Footprint, footprint
from costmodel.ir import Access, Kernel, Loop, Site, Statement
from costmodel.symbols import Minimum, index, to_text

__all__ = ["Role", "roles"]


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
    site: Site
    """Where the union is loaded: the load's own loops, and one for each dimension in which members are apart."""
    union: Access

    def footprint(self, kernel: Kernel, single: tuple[Site, Access], over: tuple[Loop, ...]) -> Footprint:
        """Distinct elements of the family while the loops `over` run."""
        extra = self.site.loops[len(single[0].loops) :]
        one = footprint(kernel, *single, over)
        if not extra:
            return one
        box = footprint(kernel, self.site, self.union, (*over, *extra))
        return replace(box, elements=Minimum(box.elements, one.elements * len(self.members)), certain=False)


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
            found[id(access)] = Role(tuple(m[1] for m in members), None, True, earlier, *_union(members))
            rows = {own[:-1]}
            for other, follower, distances in members[1:]:
                found[id(follower)] = Role((), access, distances[:-1] not in rows, None, other, follower)
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


def _union(members: list[_Member]) -> tuple[Site, Access]:
    """One load over all members' distances: a loop for each dimension in which they are apart."""
    site, access, own = members[0]
    loops, position = list(site.loops), list(access.index)
    for d in range(len(own)):
        values = [int(distances[d]) for _, _, distances in members]
        if max(values) > min(values):
            extent = sympy.Integer(max(values) - min(values) + 1)
            shift = index(f"_shift_{d}")
            loops.append(Loop(shift, extent, "serial", (), 0, extent))
            position[d] = position[d] - own[d] + min(values) + shift
    return replace(site, loops=tuple(loops)), replace(access, index=tuple(position))
