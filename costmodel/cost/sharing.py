"""Loads of one array that bring in the same elements: written side by side, or once more in a later loop.

A stencil written out by hand loads an array at several fixed distances; a softmax reads its row in three
loops. Loads whose indices differ by whole numbers only form a family. Those in the same loops touch one union
(`cost.unions`). What those of a later loop touch of the union of the earlier ones is there already, as far as a
cache kept it; the rest is new (`cost.fresh`).

Guards of a family bound the same forms. Where a load's index stays within a bound (a mask at the edge of an
array), those of others may lie elsewhere or be missing: their union is taken under the loosest that all have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import sympy

from costmodel.cost.unions import Union
from costmodel.counts.affine import Virtual, affine_terms, below_zero
from costmodel.counts.footprint import merged
from costmodel.ir import Access, Guard, Kernel, Site
from costmodel.symbols import Condition, expanded, index, to_text

__all__ = ["Fresh", "Role", "roles"]


@dataclass(frozen=True, slots=True)
class Fresh:
    """What tells the part of some loads that no earlier ones brought in."""

    before: Union
    """Of the earlier loads."""
    together: Union
    """With these."""
    missing: tuple[Site, ...]
    """Places of earlier loads under those of their guards that these do not imply: who fails them brought nothing in."""
    covered: bool
    """Whether any one of the earlier places has all distances of these loads."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a global load does in its family."""

    union: Union | None
    """The loads fetched together, for the one that stands for them; None for the others."""
    follows: Access | None
    """The load that stands for this one."""
    addressed: bool
    """False where an earlier member has computed the address up to a distance along the last dimension."""
    repeats: Union | None = None
    """Earlier loads, in other loops, of some of the same elements: the last that may have touched all of them."""
    fresh: Fresh | None = None
    """Of a load that repeats another: what is new of it; None where nothing is."""


@dataclass(frozen=True, slots=True)
class _Bound:
    """A guard's condition as a form that must be below zero."""

    constant: sympy.Expr
    """The whole number in it."""
    condition: Condition

    def loosened(self, constant: sympy.Expr) -> Condition:
        """The condition with another whole number."""
        if constant == self.constant:
            return self.condition
        form = (below_zero(self.condition) or [sympy.Integer(0)])[0]
        return ("<", form - self.constant + constant, sympy.Integer(0))


_Bounds = dict[str, _Bound]
"""By the form without its whole number, loops named by their place."""
_Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    site: Site
    access: Access
    distances: tuple[int, ...]
    bounds: _Bounds
    inner: tuple[str, ...]
    """Of these, what does not keep the load's index within a bound."""
    still: tuple[bool, ...]
    """Dimensions that no loop moves."""


def roles(kernel: Kernel) -> dict[int, Role]:
    """The role of each global load, by the identity of its access."""
    families: dict[_Key, dict[tuple[str, ...], list[_Member]]] = {}
    for key, member in _members(kernel):
        families.setdefault(key, {}).setdefault(_place(member), []).append(member)
    found: dict[int, Role] = {}
    for places in families.values():
        earlier: list[list[_Member]] = []
        for members in places.values():
            first = members[0]
            met = [e for e in earlier if _may_meet(e, members)]
            repeats = _union(_latest(met, members)) if met else None
            found[id(first.access)] = Role(_union(members), None, True, repeats, _fresh(met, members) if met else None)
            rows = {first.distances[:-1]}
            for m in members[1:]:
                found[id(m.access)] = Role(None, first.access, m.distances[:-1] not in rows)
                rows.add(m.distances[:-1])
            earlier.append(members)
    return found


def _latest(earlier: list[list[_Member]], members: list[_Member]) -> list[_Member]:
    """The last of the earlier loads that have all distances of these; the first of all where none has."""
    own = {m.distances for m in members}
    return next((e for e in reversed(earlier) if own <= {m.distances for m in e}), earlier[0])


def _place(m: _Member) -> tuple[str, ...]:
    """The loops around a load, how they move it, and the guards that choose among threads, not among elements."""
    form = (to_text(i - d) for i, d in zip(m.access.index, m.distances, strict=True))
    return (*(loop.index.name for loop in m.site.loops), to_text(m.access.width), *form, *m.inner)


def _may_meet(earlier: list[_Member], later: list[_Member]) -> bool:
    """Whether they may touch the same sectors: not where a row that no loop moves is another."""
    rows = [d for d, still in enumerate(later[0].still[:-1]) if still]
    return bool({tuple(m.distances[d] for d in rows) for m in earlier} & {tuple(m.distances[d] for d in rows) for m in later})


def _union(members: list[_Member]) -> Union:
    first = members[0]
    apart = tuple(tuple(a - b for a, b in zip(m.distances, first.distances, strict=True)) for m in members)
    return Union(_loosest(members), first.access, apart)


def _loosest(members: list[_Member]) -> Site:
    """The first's place, under guards that let all of them pass."""
    first, others = members[0], members[1:]
    kept: list[Condition] = []
    same = True
    for form, bound in first.bounds.items():
        constants = [bound.constant, *(m.bounds[form].constant for m in others if form in m.bounds)]
        if len(constants) == len(members):
            kept.append(bound.loosened(min(constants)))
        same = same and len(constants) == len(members) and len(set(constants)) == 1
    if same:
        return first.site
    stated = tuple(g for g in first.site.guards if g.fraction is not None)
    return replace(first.site, guards=(*([Guard(tuple(kept), ())] if kept else []), *stated))


def _fresh(earlier: list[list[_Member]], members: list[_Member]) -> Fresh | None:
    """What tells what is new of loads; None where one of the earlier places has touched it all."""
    own = {m.distances for m in members}
    covering = [e for e in earlier if own <= {m.distances for m in e}]
    missing = [_missing(e, members) for e in covering or earlier]
    if covering and not all(site.guards for site in missing):
        return None
    every = [m for e in earlier for m in e]
    return Fresh(_union(every), _union([*every, *members]), tuple(missing), bool(covering))


def _missing(earlier: list[_Member], members: list[_Member]) -> Site:
    """The earlier place, under its conditions that the later loads may fail to meet."""
    first = earlier[0]
    implied = {
        form
        for form, bound in first.bounds.items()
        if all(form in m.bounds and m.bounds[form].constant >= bound.constant for m in members)
    }
    conditions = tuple(b.condition for form, b in first.bounds.items() if form not in implied)
    return replace(first.site, guards=(Guard(conditions, ()),) if conditions else ())


def _members(kernel: Kernel) -> Iterator[tuple[_Key, _Member]]:
    for site in kernel.statements():
        loads = [a for a in site.statement.loads if a.buffer.space == "global"]
        if not loads:
            continue
        places = {loop.index: index(f"{loop.kind}{loop.axis}_{depth}") for depth, loop in enumerate(site.loops)}
        bounds = _bounds(site, places)
        stated = [str(g.fraction) + _text(c, places) for g in site.guards if g.fraction is not None for c in g.conditions]
        for access in loads:
            yield _member(site, access, bounds, stated, places)


_Places = Mapping[sympy.Symbol, sympy.Symbol]


def _text(condition: Condition, places: _Places) -> str:
    op, left, right = condition
    return f"{to_text(left.xreplace(places))} {op} {to_text(right.xreplace(places))}"


def _bounds(site: Site, places: _Places) -> dict[str, tuple[_Bound, sympy.Expr | None]]:
    """Bounds of a place, and of each what moves it, where it is a bound of an affine form."""
    found: dict[str, tuple[_Bound, sympy.Expr | None]] = {}
    for condition in (c for g in site.guards if g.fraction is None for c in g.conditions):
        forms = below_zero(condition)
        terms = affine_terms(forms[0], set(places)) if forms is not None and len(forms) == 1 else None
        if terms is None:
            found[_text(condition, places)] = _Bound(sympy.Integer(0), condition), None
            continue
        constant, rest = terms[1].as_coeff_Add()
        moved = sympy.Add(*(c * places[i] for i, c in terms[0].items()))
        form = f"{to_text(moved)} + {to_text(rest)}"
        if form not in found or constant > found[form][0].constant:
            found[form] = _Bound(constant, condition), moved
    return found


def _member(
    site: Site, access: Access, bounds: Mapping[str, tuple[_Bound, sympy.Expr | None]], stated: list[str], places: _Places
) -> tuple[_Key, _Member]:
    """What all members of its family have in common, and a member."""
    distances: list[int] = []
    shape: list[str] = [access.buffer.name, str(access.cached), *stated]
    edges: set[sympy.Expr] = set()
    for d, position in enumerate(access.index):
        constant, rest = expanded(position).as_coeff_Add()
        distances.append(int(constant))
        width = access.width if d == len(access.index) - 1 else sympy.Integer(1)
        terms = affine_terms(rest, set(places))
        if terms is None:
            shape.append(f"{to_text(rest.xreplace(places))} by {to_text(width)}")
            continue
        moved = sympy.Add(*(c * places[i] for i, c in terms[0].items()))
        edges |= {moved, expanded(-moved)} if terms[0] else set()
        shape.append(_reach(terms[0], site, width) if terms[1] == 0 else f"{to_text(rest)} by {to_text(width)}")
    inner = tuple(sorted(form for form, (_, moved) in bounds.items() if moved is None or moved not in edges))
    still = tuple(not position.free_symbols & places.keys() for position in access.index)
    return tuple(shape), _Member(site, access, tuple(distances), {f: b for f, (b, _) in bounds.items()}, inner, still)


def _reach(coefficients: Mapping[sympy.Symbol, sympy.Expr], site: Site, width: sympy.Expr) -> str:
    """Where loops move an index: over blocks each by itself, in a block together, however threads and vectors divide it."""
    loops = {loop.index: loop for loop in site.loops}
    blocks = [f"{to_text(c)}*block{loops[i].axis}" for i, c in coefficients.items() if loops[i].kind == "block"]
    vector = Virtual(index("_element"), width)
    inner = {i: c for i, c in coefficients.items() if loops[i].kind != "block"} | {vector.index: sympy.Integer(1)}
    pairs = merged(inner, {**loops, vector.index: vector})
    return " + ".join(sorted([*blocks, *(f"{to_text(c)}*{to_text(n)}" for c, n in pairs)]))
