"""Affine forms of loop indices: coefficients, density, and thread ids split by division."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import sympy

from costmodel.errors import UnsupportedError
from costmodel.ir import Divisibility
from costmodel.symbols import (
    CeilDiv,
    Condition,
    FloorDiv,
    Maximum,
    Minimum,
    Mod,
    exact_quotient,
    expanded,
    index,
    quotient,
    to_text,
)

__all__ = [
    "HasExtent",
    "Virtual",
    "affine_terms",
    "below_zero",
    "delinearised",
    "dense_extent",
    "digits",
    "flattened",
    "largest_extent",
    "quotients",
]


class HasExtent(Protocol):
    """A loop, or what stands for one."""

    @property
    def extent(self) -> sympy.Expr:
        """Trip count."""


@dataclass(frozen=True, slots=True)
class Virtual:
    """A loop that stands for `e % D` or `e // D` of a dense index `e`."""

    index: sympy.Symbol
    extent: sympy.Expr
    replaces: frozenset[sympy.Symbol] = frozenset()
    """The loops that `e` runs over."""


def affine_terms(e: sympy.Expr, indices: set[sympy.Symbol]) -> tuple[dict[sympy.Symbol, sympy.Expr], sympy.Expr] | None:
    """Split `e` into `{index: coefficient}` and the rest without indices; None where it is not affine."""
    coefficients: dict[sympy.Symbol, sympy.Expr] = {}
    rest = sympy.Integer(0)
    for term in sympy.Add.make_args(expanded(e)):
        used = term.free_symbols & indices
        if not used:
            rest += term
            continue
        if len(used) > 1:
            return None
        (i,) = used
        c = term / i
        if i in c.free_symbols:
            return None
        coefficients[i] = coefficients.get(i, sympy.Integer(0)) + c
    return {i: c for i, c in coefficients.items() if c != 0}, rest


def below_zero(condition: Condition) -> list[sympy.Expr] | None:
    """Expressions that must all be below zero for the condition to hold; None for `!=`."""
    op, left, right = condition
    d = left - right
    return {"<": [d], "<=": [d - 1], ">": [-d], ">=": [-d - 1], "==": [d - 1, -d - 1]}.get(op)


def dense_extent(coefficients: Mapping[sympy.Symbol, sympy.Expr], loops: Mapping[sympy.Symbol, HasExtent]) -> sympy.Expr | None:
    """Number of values if `Σ cᵢ·i` runs through 0, 1, 2, … without gap or repeat, else None."""
    left = dict(coefficients)
    stride = sympy.Integer(1)
    while left:
        step = next((i for i, c in left.items() if expanded(c - stride) == 0), None)
        if step is None:
            return None
        stride = stride * loops[step].extent
        del left[step]
    return stride


def largest_extent(extent: sympy.Expr, box: Mapping[sympy.Symbol, sympy.Expr]) -> sympy.Expr:
    """The largest value of an extent over a box of extents, at least 1: of an affine one exactly, else no smaller than that."""
    if isinstance(extent, Maximum | Minimum):
        return extent.func(*(largest_extent(e, box) for e in extent.args))
    terms = affine_terms(extent, set(box))
    largest = _bounds(extent, box)[1] if terms is None else terms[1]
    for i, c in (terms[0] if terms else {}).items():
        largest += Maximum(c * (box[i] - 1), sympy.Integer(0)) if not c.is_positive else c * (box[i] - 1)
    return largest if largest.is_positive else Maximum(largest, sympy.Integer(1))


def _bounds(e: sympy.Expr, box: Mapping[sympy.Symbol, sympy.Expr]) -> tuple[sympy.Expr, sympy.Expr]:
    """No more and no less than an expression is anywhere in a box of extents, by its parts.

    Raises:
        UnsupportedError: an operation of indices whose range is not known.
    """
    if not e.free_symbols & box.keys():
        return e, e
    if e in box:
        return sympy.Integer(0), box[e] - 1
    if isinstance(e, sympy.Pow) and e.exp.is_Integer and e.exp > 0:
        return _times([_bounds(e.base, box)] * int(e.exp))
    parts = [_bounds(a, box) for a in e.args]
    low, high = ([p[n] for p in parts] for n in (0, 1))
    if isinstance(e, sympy.Mul):
        return _times(parts)
    if isinstance(e, sympy.Add | Minimum | Maximum):
        return e.func(*low), e.func(*high)
    if isinstance(e, FloorDiv | CeilDiv | Mod) and not e.args[1].free_symbols & box.keys():
        divisor = e.args[1]
        return (sympy.Integer(0), divisor - 1) if isinstance(e, Mod) else (e.func(low[0], divisor), e.func(high[0], divisor))
    raise UnsupportedError(
        f"the extent of a loop is made of {to_text(e)}, whose range over the outer loops is not known; "
        "write it with + - *, minimum, maximum, and // and % by what no loop moves"
    )


def _times(parts: list[tuple[sympy.Expr, sympy.Expr]]) -> tuple[sympy.Expr, sympy.Expr]:
    """Bounds of a product."""
    low, high = sympy.Integer(1), sympy.Integer(1)
    for a, b in parts:
        if a.is_nonnegative and low.is_nonnegative:
            low, high = low * a, high * b
            continue
        corners = (low * a, low * b, high * a, high * b)
        low, high = reduce(Minimum, corners), reduce(Maximum, corners)
    return low, high


def digits(forms: sympy.Tuple, loops: dict[sympy.Symbol, HasExtent], ties: list[Condition] | None = None) -> sympy.Tuple:
    """Replace a loop's index that is taken apart at whole numbers, at several or beside itself, by a virtual loop for each digit.

    `t % 4`, `t // 4 % 2` and `t // 8` of 32 threads are digits at 4 and 8; `t` itself is then their sum. Where the extent is no
    number, or no multiple of the places, the digits make up more than the index has: `ties` gets the condition that cuts it.
    """
    cuts: dict[sympy.Symbol, set[int]] = {}
    for call in forms.atoms(Mod, FloorDiv):
        found = _cut(call)
        if found is not None and found[0] in loops:
            cuts.setdefault(found[0], set()).update(c for c in found[1:] if c)
    by: dict[sympy.Basic, sympy.Expr] = {}
    for i, places in cuts.items():
        at = sorted(places - {1})
        extent = loops[i].extent
        starts = [1, *(a for a in at if not extent.is_Integer or a < extent)]
        chain = all(b % a == 0 for a, b in itertools.pairwise(starts))
        even = extent.is_Integer and int(extent) % starts[-1] == 0
        used = forms.xreplace({c: sympy.Integer(0) for c in forms.atoms(Mod, FloorDiv) if (_cut(c) or (None,))[0] == i})
        if not chain or not (even or ties is not None) or (even and len(at) < 2 and i not in used.free_symbols):
            continue
        names = [index(f"_digit_{i}_{n}") for n in range(len(starts))]
        for name, low, high in zip(names, starts, starts[1:], strict=False):
            loops[name] = Virtual(name, sympy.Integer(high // low), frozenset({i}))
        loops[names[-1]] = Virtual(names[-1], CeilDiv(extent, sympy.Integer(starts[-1])), frozenset({i}))
        for call in forms.atoms(Mod, FloorDiv):
            found = _cut(call)
            if found is not None and found[0] == i:
                _, low, top = found
                inside = [(d, e) for d, e in zip(names, starts, strict=True) if e >= low and (not top or e < top)]
                by[call] = sum((d * (e // low) for d, e in inside), sympy.Integer(0))
        by[i] = sum((d * e for d, e in zip(names, starts, strict=True)), sympy.Integer(0))
        if not even and ties is not None:
            ties.append(("<", by[i], extent))
    return sympy.Tuple(*(expanded(f.xreplace(by)) for f in forms)) if by else forms


def _cut(call: sympy.Expr) -> tuple[sympy.Symbol, int, int] | None:
    """An index and the places of a digit of it: `t // 4 % 2` is what `t` has from 4 up to 8; 0 for no upper end."""
    base, divisor = call.args
    if not divisor.is_Integer:
        return None
    inner = (base, 1, 0) if base.is_Symbol else _cut(base) if isinstance(base, Mod | FloorDiv) else None
    if inner is None:
        return None
    i, low, top = inner
    place = low * int(divisor)
    if isinstance(call, Mod):
        return (i, low, min(place, top) if top else place) if not top or top % place == 0 or place % top == 0 else None
    return (i, place, top) if not top or top % place == 0 else None


def delinearised(
    given: tuple[sympy.Expr, ...], loops: dict[sympy.Symbol, HasExtent], facts: Divisibility
) -> tuple[tuple[sympy.Expr, ...], list[tuple[sympy.Expr, sympy.Expr]]]:
    """Replace `f % D` and `f // D` of a dense `f` by virtual loops, which are added to `loops`.

    Returns the expressions and the pairs that must be equal for the two loops to be independent and to
    make up `f` together.
    """
    forms = digits(sympy.Tuple(*(expanded(d) for d in given)), loops)
    equal: list[tuple[sympy.Expr, sympy.Expr]] = []
    seen: set[tuple[sympy.Expr, ...]] = set()
    while True:
        calls = {f.args for f in forms.atoms(Mod, FloorDiv) if f.free_symbols & loops.keys()} - seen
        if not calls:
            return tuple(expanded(d) for d in forms), equal
        for base, divisor in sorted(calls, key=str) if len(calls) > 1 else calls:
            seen.add((base, divisor))
            forms = _split(forms, base, divisor, loops, facts, equal, len(seen))


def _split(
    forms: sympy.Tuple,
    base: sympy.Expr,
    divisor: sympy.Expr,
    loops: dict[sympy.Symbol, HasExtent],
    facts: Divisibility,
    equal: list[tuple[sympy.Expr, sympy.Expr]],
    number: int,
) -> sympy.Tuple:
    """Replace `base % divisor` and `base // divisor`, where nothing else moves with what `base` is made of."""
    terms = affine_terms(base, set(loops))
    if terms is None or terms[1] != 0 or divisor.free_symbols & loops.keys():
        return forms
    dense = dense_extent(terms[0], loops)
    low, high = index(f"_mod_{number}"), index(f"_div_{number}")
    replaced = forms.xreplace({Mod(base, divisor): low, FloorDiv(base, divisor): high})
    if dense is None or replaced.free_symbols & terms[0].keys():
        return forms
    whole = exact_quotient(dense, divisor) is not None or facts.divides(dense, divisor)
    replaces = frozenset(terms[0])
    loops[low] = Virtual(low, divisor if whole else Minimum(dense, divisor), replaces)
    loops[high] = Virtual(high, quotient(dense, divisor) if whole else CeilDiv(dense, divisor), replaces)
    if not whole:
        equal.append((loops[low].extent * loops[high].extent, dense))
    return replaced


def quotients(
    forms: tuple[sympy.Expr, ...], loops: dict[sympy.Symbol, HasExtent]
) -> tuple[tuple[sympy.Expr, ...], list[Condition]]:
    """Replace what is left of `f // D` and `f % D` by an index `q` of its own and `f - D·q`.

    Returns the expressions and the conditions that tie each `q` to its `f`. Of an affine `f` that is plainly not negative, and a
    `D` that no loop moves; others stay.
    """
    ties: list[Condition] = []
    left = sympy.Tuple(*forms)
    kept: set[sympy.Basic] = set()
    while True:
        calls = [c for c in left.atoms(Mod, FloorDiv, CeilDiv) if c.free_symbols & loops.keys() and c not in kept]
        call = min((c for c in calls if not any(d != c and c.has(d) for d in calls)), key=str, default=None)
        if call is None:
            return tuple(expanded(f) for f in left), ties
        base, divisor = call.args
        if isinstance(call, CeilDiv):
            base = base + divisor - 1
        coefficients, rest = affine_terms(base, set(loops)) or ({}, sympy.Integer(-1))
        most = rest + sympy.Add(*(c * (loops[i].extent - 1) for i, c in coefficients.items()))
        plain = all(c.is_nonnegative for c in (*coefficients.values(), rest))
        if not plain or (most.free_symbols | divisor.free_symbols) & loops.keys():
            kept.add(call)
            continue
        q = index(f"_quotient_{len(ties) // 2}")
        loops[q] = Virtual(q, FloorDiv(most, divisor) + 1)
        ties += [("<=", divisor * q, base), ("<", base, divisor * (q + 1))]
        same = {FloorDiv(*call.args): q, Mod(*call.args): base - divisor * q}
        left = left.xreplace({call: q} if isinstance(call, CeilDiv) else same)


def _beyond(extent: sympy.Expr, limit: sympy.Expr) -> sympy.Expr:
    """The extent without a minimum that a limit on the sum makes idle: what is beyond fails the guard."""
    if isinstance(extent, Minimum) and limit in extent.args:
        return next(a for a in extent.args if a != limit)
    return extent


def flattened(conditions: list[Condition], loops: dict[sympy.Symbol, HasExtent]) -> list[Condition]:
    """Replace a dense `f` under a condition `f < L` by one virtual loop of `L`, where nothing else moves with what makes up `f`.

    A loop over flat tile numbers runs beyond the last tile; the coordinates of tiles are quotients and remainders of `f`.
    """
    for n, (op, f, limit) in enumerate(conditions):
        if op != "<" or limit.free_symbols & loops.keys():
            continue
        terms = affine_terms(f, set(loops))
        if terms is None or terms[1] != 0 or len(terms[0]) < 2:
            continue
        dense = dense_extent(terms[0], {i: Virtual(i, _beyond(loops[i].extent, limit)) for i in terms[0]})
        flat = index(f"_flat_{n}")
        others = [c for m, c in enumerate(conditions) if m != n]
        calls = {
            e for _, a, b in others for e in (*a.atoms(Mod, FloorDiv), *b.atoms(Mod, FloorDiv)) if expanded(e.args[0] - f) == 0
        }
        by = {e: e.func(flat, e.args[1]) for e in calls}
        replaced = [(o, a.xreplace(by), b.xreplace(by)) for o, a, b in others]
        if dense is None or not calls or any(e.free_symbols & terms[0].keys() for _, a, b in replaced for e in (a, b)):
            continue
        loops[flat] = Virtual(flat, Minimum(limit, dense), frozenset(terms[0]))
        return replaced
    return conditions
