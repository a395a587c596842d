"""How many distinct elements an access touches while some loops run and the others stand still.

Dimensions that share no loop multiply. Within one, `t % D` and `t // D` of a dense thread id become
two independent virtual loops, and an affine form over a box has `Distinct` values (see
`symbols.distinct_values`). A guard `i < n` on a dimension whose index is that same `i` caps it.
Whatever is left is bounded by the number of iterations and by the size of the dimension; such a
count is flagged as an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from costmodel.counts.affine import HasExtent, Virtual, affine_terms, below_zero, delinearised, dense_extent, largest_extent
from costmodel.counts.nests import passing
from costmodel.errors import UnsupportedError
from costmodel.ir import Access, Divisibility, Kernel, Loop, Site, facts_of
from costmodel.symbols import Distinct, Maximum, Minimum, expanded, index

__all__ = ["SHIFT", "Footprint", "footprint", "merged"]

SHIFT = "_shift_"
"""Start of the names of loops that stand for accesses side by side: no guard knows them."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Distinct elements of one access."""

    elements: sympy.Expr
    certain: bool
    """True where nothing but `Distinct` terms can make the count an upper bound."""
    forms: tuple[tuple[sympy.Expr, ...], ...]
    """Arguments of the `Distinct` terms: the count is exact where each of them is."""
    equal: tuple[tuple[sympy.Expr, sympy.Expr], ...] = ()
    """Pairs that must be equal for the count to be exact (divisibility of a split thread id)."""
    row: tuple[sympy.Expr, ...] = ()
    """Strides (elements) and extents `c₁, n₁, …` along the last dimension: how contiguous the elements are."""
    steps: tuple[sympy.Expr, ...] = ()
    """Strides (elements of the buffer) and extents of all dimensions."""


def footprint(kernel: Kernel, site: Site, access: Access, over: tuple[Loop, ...]) -> Footprint:
    """Distinct elements of `access` while the loops `over` run through all their values.

    Exact where the result says so, otherwise an upper bound. An access of several elements adds a loop
    of its width.
    """
    facts, every = facts_of(kernel.requirements), {loop.index for loop in site.loops}
    table, certain = _loops_of(site, access, over)
    used = set(table)
    table[_WIDTH] = Virtual(_WIDTH, access.width)
    guards, apart, counted = _guards(kernel, site, used, every)
    dims, equal = delinearised(_with_width(access), table, facts)
    elements, certain = apart, certain and counted
    forms: list[tuple[sympy.Expr, ...]] = []
    used_guards: set[int] = set()
    row: tuple[sympy.Expr, ...] = ()
    steps: list[sympy.Expr] = []
    for members in _coupled(dims, set(table)):
        part = _component(access, members, dims, table, facts, guards, used_guards, every)
        elements, certain = elements * part.elements, certain and part.certain
        forms += part.forms
        scale = access.buffer.strides[members[0]] if len(members) == 1 else sympy.Integer(1)
        own = part.forms[0] if part.forms else (sympy.Integer(1), part.elements)
        scaled = [e for c, n in zip(own[::2], own[1::2], strict=True) for e in (c * scale, n)]
        steps += scaled
        if len(dims) - 1 in members:
            row = tuple(scaled)
    return Footprint(elements, certain and len(used_guards) == len(guards), tuple(forms), tuple(equal), row, tuple(steps))


_WIDTH = index("_element_of_vector")


def _loops_of(site: Site, access: Access, over: tuple[Loop, ...]) -> tuple[dict[sympy.Symbol, HasExtent], bool]:
    """The loops that move the access, triangular ones at their largest, and whether that box is exact."""
    running = {loop.index: loop for loop in over}
    every = {loop.index: running.get(loop.index, loop) for loop in site.loops}
    moving = {s for e in (*access.index, access.width) for s in e.free_symbols}
    table: dict[sympy.Symbol, HasExtent] = {}
    certain = True
    box: dict[sympy.Symbol, sympy.Expr] = {}
    for loop in every.values():
        outer = loop.extent.free_symbols & every.keys()
        box[loop.index] = largest_extent(loop.extent, box) if outer else loop.extent
        if loop.index in running and loop.index in moving:
            table[loop.index] = Virtual(loop.index, box[loop.index])
            certain = certain and not outer & moving and outer <= running.keys()
        certain = certain and not outer & moving
    return table, certain


def _guards(
    kernel: Kernel, site: Site, used: set[sympy.Symbol], every: set[sympy.Symbol]
) -> tuple[list[sympy.Expr], sympy.Expr, bool]:
    """Guards on the loops that move the access, 1 or 0 as all other guards pass somewhere, and whether all are counted."""
    conditions = [c for g in site.guards if g.fraction is None for c in g.conditions]
    counted = all(g.fraction is None for g in site.guards)
    touching = [c for c in conditions if (c[1].free_symbols | c[2].free_symbols) & used]
    apart = [c for c in conditions if c not in touching]
    tied = {s for c in apart for e in c[1:] for s in e.free_symbols & every}
    shared = {s for c in touching for e in c[1:] for s in e.free_symbols & every} & tied
    forms = [e for c in touching for e in below_zero(c) or [sympy.Integer(0)]]
    if not apart:
        return forms, sympy.Integer(1), counted
    try:
        points, box = passing(kernel, site, apart, {loop.index: loop for loop in site.loops})
    except UnsupportedError:
        return forms, sympy.Integer(1), False
    return forms, Minimum(sympy.Integer(1), points), counted and not shared and not box & used


def _with_width(access: Access) -> tuple[sympy.Expr, ...]:
    if access.width == 1:
        return access.index
    return (*access.index[:-1], access.index[-1] + _WIDTH)


def _coupled(dims: tuple[sympy.Expr, ...], indices: set[sympy.Symbol]) -> list[list[int]]:
    """Dimensions grouped so that no loop appears in two groups."""
    groups: list[tuple[list[int], set[sympy.Symbol]]] = []
    for d, e in enumerate(dims):
        used = e.free_symbols & indices
        touched = [g for g in groups if g[1] & used]
        merged = (sorted([d, *(i for g in touched for i in g[0])]), used.union(*(g[1] for g in touched)))
        groups = [g for g in groups if g not in touched] + [merged]
    return [g[0] for g in groups]


def _component(
    access: Access,
    members: list[int],
    dims: tuple[sympy.Expr, ...],
    loops: dict[sympy.Symbol, HasExtent],
    facts: Divisibility,
    guards: list[sympy.Expr],
    used_guards: set[int],
    every: set[sympy.Symbol],
) -> Footprint:
    """Distinct values of the dimensions in `members` taken together."""
    limit = sympy.Mul(*(access.buffer.shape[d] for d in members))
    form = dims[members[0]]
    if len(members) > 1:
        form = sum((dims[d] * access.buffer.strides[d] for d in members), sympy.Integer(0))
    terms = affine_terms(form, set(loops))
    if terms is None:
        iterations = sympy.Mul(*(loops[i].extent for i in form.free_symbols & loops.keys()))
        return Footprint(_least(iterations, limit, facts), False, ())
    if len(members) == 1:
        capped = _capped(terms[0], loops, guards, used_guards, every)
        if capped is not None:
            aside = any(i.name.startswith(SHIFT) for i in terms[0])
            return Footprint(_least(capped, limit, facts) if aside else capped, True, ())
    coefficients = merged(terms[0], loops)
    if not coefficients:
        return Footprint(sympy.Integer(1), True, ())
    args = tuple(a for pair in coefficients for a in pair)
    return Footprint(_least(Distinct(*args), limit, facts), True, (args,))


def _least(count: sympy.Expr, limit: sympy.Expr, facts: Divisibility) -> sympy.Expr:
    smaller = count == 1 or expanded(limit - count) == 0 or (count.is_number and limit.is_number and count <= limit)
    return count if smaller or facts.divides(limit, count) else Minimum(count, limit)


def _capped(
    coefficients: dict[sympy.Symbol, sympy.Expr],
    loops: dict[sympy.Symbol, HasExtent],
    guards: list[sympy.Expr],
    used_guards: set[int],
    every: set[sympy.Symbol],
) -> sympy.Expr | None:
    """The count under a guard `index < limit` on this very index, where the index is dense from 0 (and shifted on from there)."""
    aside = {i for i in coefficients if i.name.startswith(SHIFT)}
    guarded = {i: c for i, c in coefficients.items() if i not in aside}
    dense = dense_extent(guarded, loops) if guarded else None
    if dense is None or any(coefficients[i] != 1 for i in aside):
        return None
    total = sympy.Add(*(c * i for i, c in guarded.items()))
    beyond = sum((loops[i].extent - 1 for i in aside), sympy.Integer(0))
    for n, guard in enumerate(guards):
        bound = expanded(total - guard)
        if not bound.free_symbols & (every | loops.keys()):
            used_guards.add(n)
            return Maximum(sympy.Integer(0), Minimum(bound, dense)) + beyond
    return None


def merged(
    coefficients: dict[sympy.Symbol, sympy.Expr], loops: dict[sympy.Symbol, HasExtent]
) -> list[tuple[sympy.Expr, sympy.Expr]]:
    """`(stride, extent)` of loops, with dense neighbours joined: `i + 4·j` over 4 × n is one loop of 4·n."""
    pairs = [(-c if c.could_extract_minus_sign() else c, loops[i].extent) for i, c in coefficients.items()]
    pairs = [(c, n) for c, n in pairs if n != 1]
    joined = True
    while joined:
        joined = False
        for low in pairs:
            high = next((p for p in pairs if p is not low and expanded(p[0] - low[0] * low[1]) == 0), None)
            if high is not None:
                pairs = [p for p in pairs if p is not low and p is not high] + [(low[0], low[1] * high[1])]
                joined = True
                break
    return pairs
