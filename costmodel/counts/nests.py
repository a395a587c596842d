"""How often statements run: symbolic executions and work.

Executions of a leaf are the product of the extents around it, a polynomial sum where an extent
depends on an outer loop. Guards on affine conditions are counted exactly: `Passing` is the number of
points of a box that meet them, simplified to `min(limit, extent)` where the condition is a dense
mixed-radix index (`block * B + thread < N`). A guard with a stated fraction multiplies by it.
"""

from __future__ import annotations

import sympy

from costmodel.counts.affine import (
    HasExtent,
    Virtual,
    affine_terms,
    below_zero,
    delinearised,
    dense_extent,
    digits,
    flattened,
    largest_extent,
    quotients,
)
from costmodel.errors import UnsupportedError
from costmodel.ir import Barrier, Kernel, Loop, Site, facts_of
from costmodel.symbols import CeilDiv, Condition, Maximum, Minimum, Passing, expanded, sum_over, to_text

__all__ = ["executions", "label", "passing", "work"]


def label(kernel: Kernel, site: Site) -> str:
    """`kernel K: statement 'S'`, for messages."""
    leaf = "barrier" if isinstance(site.leaf, Barrier) else f"statement {site.leaf.name!r}"
    return f"kernel {kernel.name}: {leaf}"


def executions(kernel: Kernel, site: Site, over: tuple[Loop, ...] | None = None) -> sympy.Expr:
    """Thread-level executions of a leaf in the whole grid, lanes that fail a guard left out.

    Args:
        kernel: for messages.
        site: the leaf.
        over: count over these loops only (guards on other loops are then ignored).

    Raises:
        UnsupportedError: a guard or an extent that cannot be counted; the message says what to do.
    """
    loops = site.loops if over is None else over
    indices = {loop.index: loop for loop in loops}
    conditions: list[Condition] = []
    share = sympy.Integer(1)
    for guard in site.guards:
        if guard.fraction is not None:
            share *= guard.fraction
        else:
            conditions += [
                c for c in guard.conditions if (c[1].free_symbols | c[2].free_symbols) & indices.keys() or over is None
            ]
    points, guarded = passing(kernel, site, conditions, indices)
    total = share * points
    for loop in reversed(loops):
        if loop.index not in guarded:
            try:
                total = sum_over(total, loop.index, loop.extent)
            except UnsupportedError as error:
                raise UnsupportedError(f"{label(kernel, site)}: {error}") from None
    return total


def work(kernel: Kernel, warp_size: int = 32) -> dict[tuple[str, str], sympy.Expr]:
    """Operations of the whole grid by kind and dtype name.

    `fma`, `add`, `integer`, `special` and `convert` count operations of threads; `mma` counts
    multiply-adds of warps, so its statement must be executed by whole warps of `warp_size` threads.
    """
    totals: dict[tuple[str, str], sympy.Expr] = {}
    for site in kernel.statements():
        count = None
        for item in site.statement.work:
            if count is None:
                count = executions(kernel, site)
            amount = count * item.amount if item.kind != "mma" else count * item.amount / warp_size
            key = (item.kind, item.dtype.name)
            totals[key] = totals.get(key, sympy.Integer(0)) + amount
    return totals


Row = tuple[dict[sympy.Symbol, sympy.Expr], sympy.Expr]
"""An affine form that must be below zero: coefficients and the rest."""


def passing(
    kernel: Kernel, site: Site, conditions: list[Condition], loops: dict[sympy.Symbol, Loop]
) -> tuple[sympy.Expr, set[sympy.Symbol]]:
    """Points that meet all conditions, and the loops they were counted over."""
    if not conditions:
        return sympy.Integer(1), set()
    tied = _tied(conditions, loops)
    return _unequal(kernel, site, conditions, loops, tied), tied


def _unequal(
    kernel: Kernel, site: Site, conditions: list[Condition], loops: dict[sympy.Symbol, Loop], tied: set[sympy.Symbol]
) -> sympy.Expr:
    """Count with `a != b` as everything less what has `a == b`."""
    unequal = next((n for n, c in enumerate(conditions) if c[0] == "!="), None)
    if unequal is None:
        return _either(kernel, site, conditions, loops, tied)
    rest = conditions[:unequal] + conditions[unequal + 1 :]
    equal: Condition = ("==", *conditions[unequal][1:])
    return _unequal(kernel, site, rest, loops, tied) - _unequal(kernel, site, [*rest, equal], loops, tied)


def _either(
    kernel: Kernel, site: Site, conditions: list[Condition], loops: dict[sympy.Symbol, Loop], tied: set[sympy.Symbol]
) -> sympy.Expr:
    """Count with a minimum or maximum of what moves as what has the one side the smaller, and what has the other."""
    sides = _sides(conditions)
    calls = [c for c in sides.atoms(Minimum, Maximum) if c.free_symbols & loops.keys() and not _holds_call(c, loops)]
    if not calls:
        return _points(kernel, site, conditions, loops, tied)
    call = min(calls, key=str)
    below, above = call.args if isinstance(call, Minimum) else call.args[::-1]
    first: Condition = ("<", *call.args)
    second: Condition = (">=", *call.args)
    return sum(
        (
            _either(kernel, site, [*_with(conditions, sides.xreplace({call: side})), when], loops, tied)
            for side, when in ((below, first), (above, second))
        ),
        sympy.Integer(0),
    )


def _holds_call(call: sympy.Expr, loops: dict[sympy.Symbol, Loop]) -> bool:
    """Whether another minimum or maximum of what moves is within."""
    return any(c != call and c.free_symbols & loops.keys() for c in call.atoms(Minimum, Maximum))


def _tied(conditions: list[Condition], loops: dict[sympy.Symbol, Loop]) -> set[sympy.Symbol]:
    """Loops that the conditions mention, and those that extents tie to them."""
    tied = {s for _, a, b in conditions for s in a.free_symbols | b.free_symbols if s in loops}
    while True:
        depending = {i for i, loop in loops.items() if loop.extent.free_symbols & tied}
        needed = {s for i in tied | depending for s in loops[i].extent.free_symbols if s in loops}
        if depending | needed <= tied:
            return tied
        tied |= depending | needed


def _points(
    kernel: Kernel, site: Site, conditions: list[Condition], loops: dict[sympy.Symbol, Loop], tied: set[sympy.Symbol]
) -> sympy.Expr:
    table: dict[sympy.Symbol, HasExtent] = {i: loops[i] for i in tied}
    ties: list[Condition] = []
    conditions = flattened(_with(conditions, digits(_sides(conditions), table, ties)), table)
    conditions += ties
    trial = dict(table)
    flat, equal = delinearised(tuple(_sides(conditions)), trial, facts_of(kernel.requirements))
    if all(expanded(a - b) == 0 for a, b in equal):
        table = trial
    else:
        flat = tuple(expanded(e) for e in _sides(conditions))
    flat, more = quotients(flat, table)
    conditions, flat = [*conditions, *more], (*flat, *_sides(more))
    replaced = {i for v in table.values() if isinstance(v, Virtual) for i in v.replaces}
    triangular = {i for i in tied if loops[i].extent.free_symbols & loops.keys()}
    split = {s for i in triangular for s in (i, *loops[i].extent.free_symbols)} & replaced
    rows = [affine_terms(e, set(table)) for c in _with(conditions, flat) for e in below_zero(c) or []]
    rows += [affine_terms(i - loops[i].extent, tied) for i in triangular]
    if split or any(r is None for r in rows):
        written = _texts([c for g in site.guards for c in g.conditions])
        raise UnsupportedError(
            f"{label(kernel, site)}: the guard {written} is not affine in the loop indices, so its passes cannot be "
            "counted; write it with + - and constant factors, or state its share with k.when(…, fraction=…)"
        )
    box = {i: table[i].extent for i in table if i not in replaced}
    for loop in site.loops:
        if loop.index in triangular:
            box[loop.index] = largest_extent(loop.extent, box)
    total = sympy.Integer(1)
    for group, members in _independent([r for r in rows if r is not None], set(box)):
        total *= _group(members, sorted(group, key=lambda s: s.name), box)
    return total


def _sides(conditions: list[Condition]) -> sympy.Tuple:
    return sympy.Tuple(*(e for c in conditions for e in c[1:]))


def _with(conditions: list[Condition], sides: sympy.Tuple) -> list[Condition]:
    return [(c[0], sides[2 * n], sides[2 * n + 1]) for n, c in enumerate(conditions)]


def _independent(rows: list[Row], indices: set[sympy.Symbol]) -> list[tuple[set[sympy.Symbol], list[Row]]]:
    """Partition conditions into groups that share no loop; loops without a condition stand alone."""
    groups: list[tuple[set[sympy.Symbol], list[Row]]] = [({i}, []) for i in indices]
    for row in rows:
        touched = [g for g in groups if g[0] & row[0].keys()]
        merged = (set().union(*(g[0] for g in touched)), [r for g in touched for r in g[1]] + [row])
        groups = [g for g in groups if g not in touched] + [merged]
    return groups


def _group(rows: list[Row], indices: list[sympy.Symbol], box: dict[sympy.Symbol, sympy.Expr]) -> sympy.Expr:
    extents = [box[i] for i in indices]
    if not rows:
        return sympy.Mul(*extents)
    if not indices:
        return sympy.Mul(*(Maximum(sympy.Integer(0), Minimum(-rest, sympy.Integer(1))) for _, rest in rows))
    if len(rows) == 1:
        (coefficients, rest), zero = rows[0], sympy.Integer(0)
        dense = dense_extent(coefficients, {i: Virtual(i, n) for i, n in box.items()})
        if coefficients and dense is not None:
            return Maximum(zero, Minimum(-rest, dense))
        if len(coefficients) == 1 and coefficients[indices[0]].is_positive:
            return Maximum(zero, Minimum(CeilDiv(-rest, coefficients[indices[0]]), extents[0]))
    flat = [a for coefficients, rest in rows for a in (rest, *(coefficients.get(i, sympy.Integer(0)) for i in indices))]
    return Passing(sympy.Integer(len(indices)), *extents, *flat)


def _texts(conditions: list[Condition]) -> str:
    return " and ".join(f"{to_text(a)} {op} {to_text(b)}" for op, a, b in conditions)
