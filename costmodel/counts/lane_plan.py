"""What is known about an access's lanes before sizes are: which loops to fold, which to enumerate, compiled.

The offset is split once for each access and granule; traces are kept, so plans are found by identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import sympy

from costmodel.counts.affine import below_zero
from costmodel.counts.cases import Expansion
from costmodel.counts.nests import label
from costmodel.counts.pitch import Pitch, row_pitch
from costmodel.counts.shorthand import Completion, Shorthand
from costmodel.ir import Access, Kernel, Loop, Site
from costmodel.symbols import Condition, Program, compile_program, expanded, free_names

__all__ = ["LanePlan", "lane_plan"]


@dataclass(frozen=True, slots=True)
class LanePlan:
    """What is known about an access before sizes are."""

    shape: Program
    """Block shape (3), width, and the coefficient and extent of each folded loop."""
    outer: Program
    expansion: Expansion
    lane: Program
    """Byte offset of a lane, then the forms of the guards: those that must be below zero, then those that must not be zero."""
    names: tuple[str, ...]
    itemsize: int
    exact: bool
    completed: Completion
    """Adds the columns of names that stand for expressions of sizes."""
    pitch: Pitch | None
    """A size of which only the remainder matters where it is large."""


@dataclass(frozen=True, slots=True, eq=False)
class _Key:
    """Identity of an access in a traced kernel; traces are kept, so identity is enough."""

    kernel: Kernel
    site: Site
    access: Access | None
    granule_bytes: int
    irrelevant: tuple[int, ...] = ()

    def _identity(self) -> tuple[Any, ...]:
        return (id(self.site), id(self.access), self.granule_bytes, self.irrelevant)

    def __hash__(self) -> int:
        return hash(self._identity())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._identity() == other._identity()


@lru_cache(maxsize=4096)
def _uniform_terms(key: _Key) -> tuple[tuple[int, Program], ...]:
    """Terms of the offset in block and serial indices alone, with their constant factors."""
    if key.access is None:
        return ()
    indices = {loop.index for loop in key.site.loops}
    uniform = {loop.index for loop in key.site.loops if loop.kind != "thread"}
    found = []
    for n, term in enumerate(_terms(key.access.offset)):
        factor, rest = term.as_independent(*indices, as_Add=False)
        if rest.free_symbols & uniform and rest.free_symbols & indices <= uniform:
            found.append((n, compile_program([factor * key.access.buffer.dtype.itemsize])))
    return tuple(found)


def _irrelevant(
    kernel: Kernel, site: Site, access: Access | None, granule_bytes: int, columns: Mapping[str, Any]
) -> tuple[int, ...]:
    """Terms that are a multiple of the granule in every configuration, so that they cannot change a request."""
    uniform = _uniform_terms(_Key(kernel, site, access, granule_bytes))
    rests = ((n, factor(columns)[0] % granule_bytes) for n, factor in uniform)
    return tuple(n for n, rest in rests if not (rest if isinstance(rest, int) else rest.any()))


def _terms(offset: sympy.Expr) -> tuple[sympy.Expr, ...]:
    terms: tuple[sympy.Expr, ...] = sympy.Add.make_args(expanded(offset))
    return terms


def lane_plan(kernel: Kernel, site: Site, access: Access | None, granule_bytes: int, columns: Mapping[str, Any]) -> LanePlan:
    """The plan of an access, or of the statement itself where `access` is None.

    Args:
        kernel: the kernel.
        site: the statement's place in it.
        access: one of its accesses.
        granule_bytes: alignment that matters.
        columns: sizes, for terms that no configuration can feel: multiples of the granule.
    """
    return _plan_of(_Key(kernel, site, access, granule_bytes, _irrelevant(kernel, site, access, granule_bytes, columns)))


@lru_cache(maxsize=4096)
def _plan_of(key: _Key) -> LanePlan:
    return _build(key)


def _build(key: _Key) -> LanePlan:
    kernel, access = key.kernel, key.access
    short = Shorthand(frozenset(loop.index for loop in key.site.loops))
    site = replace(key.site, loops=tuple(replace(loop, extent=short(loop.extent)) for loop in key.site.loops))
    loops = {loop.index: loop for loop in site.loops if loop.kind != "thread"}
    threads = {loop.index: _LANE[loop.axis] for loop in site.loops if loop.kind == "thread"}
    conditions = [(op, short(a), short(b)) for g in site.guards if g.fraction is None for op, a, b in g.conditions]
    itemsize = access.buffer.dtype.itemsize if access else 1
    terms = [short(t) for n, t in enumerate(_terms(access.offset)) if n not in key.irrelevant] if access else []
    affine, lane, pinned = _decompose(terms, loops, set(threads))
    if itemsize % key.granule_bytes == 0:
        affine = {}
    for loop in site.loops:
        pinned |= loop.extent.free_symbols & loops.keys()
    slack, unequal, long = _conditions(conditions, loops, pinned, set(threads))
    pinned |= {s for e in (*slack, *unequal) for s in e.free_symbols if s in loops} - long.keys()
    dependent = {i for i, loop in loops.items() if loop.extent.free_symbols & loops.keys()}
    folded = [i for i in loops if i not in pinned and (i in affine or i in long or i in dependent)]
    outside = [loops[i].extent for i in loops if i not in pinned and i not in folded]
    lane = lane + sympy.Add(*(affine[i] * i for i in affine if i in pinned or i in long))
    rename = {i: sympy.Symbol(n, integer=True) for i, n in threads.items()}
    shape = [short(e) for e in (*kernel.block_shape(), access.width if access else sympy.Integer(1))]
    for i in folded:
        own = i not in long and i not in dependent
        shape += [affine.get(i, sympy.Integer(0)), loops[i].extent if own else sympy.Integer(1)]
    expansion = Expansion.of(
        label(kernel, site),
        list(loops.values()),
        pinned,
        {i: loops[i].extent for i in folded if i in dependent},
        {i: str(n) for n, i in enumerate(folded)},
        slack,
        long,
        {i: loops[i].extent for i in long},
        rename,
    )
    lane_forms = [(lane * itemsize).xreplace(rename), *(e.xreplace(rename) for e in (*slack, *unequal))]
    names = free_names(*shape, *lane_forms, *(loops[i].extent for i in (*pinned, *folded))) - {i.name for i in loops} - set(_LANE)
    extents = [loops[i].extent for i in (*pinned, *folded)]
    pitch = None
    if access is not None and access.buffer.space == "global":  # bank conflicts of shared memory repeat later than its granule
        others = [*shape[:4], *shape[5::2], *slack, *unequal, *extents]
        pitch = row_pitch(lane, others, list(threads), itemsize, key.granule_bytes)
    share = sympy.Mul(*(g.fraction for g in site.guards if g.fraction is not None))
    return LanePlan(
        shape=compile_program(shape),
        outer=_outer(outside, share),
        expansion=expansion,
        lane=compile_program(lane_forms, frozenset(_LANE)),
        names=tuple(sorted(names)),
        itemsize=itemsize,
        exact=all(g.fraction is None for g in site.guards),
        completed=short.completion(),
        pitch=pitch,
    )


_LANE = ("thread_x", "thread_y", "thread_z")


def _outer(extents: list[sympy.Expr], share: sympy.Expr) -> Program:
    program, fraction = compile_program(extents), float(share)

    def outer(columns: Mapping[str, Any]) -> list[Any]:
        total: Any = fraction
        for extent in program(columns):
            total = total * extent
        return [total]

    return outer


def _decompose(
    terms: list[sympy.Expr], loops: Mapping[sympy.Symbol, Loop], threads: set[sympy.Symbol]
) -> tuple[dict[sympy.Symbol, sympy.Expr], sympy.Expr, set[sympy.Symbol]]:
    """Coefficients of loops that only shift the address, the rest, and the loops the rest needs to know."""
    affine: dict[sympy.Symbol, sympy.Expr] = {}
    rest, pinned = sympy.Integer(0), set()
    for term in terms:
        used = term.free_symbols & loops.keys()
        other = next(iter(used)) if len(used) == 1 else None
        if other is not None and not (term / other).free_symbols & (loops.keys() | threads):
            affine[other] = affine.get(other, sympy.Integer(0)) + term / other
            continue
        rest += term
        pinned |= used
    return {i: c for i, c in affine.items() if c != 0}, rest, pinned


def _conditions(
    conditions: list[Condition],
    loops: Mapping[sympy.Symbol, Loop],
    pinned: set[sympy.Symbol],
    threads: set[sympy.Symbol],
) -> tuple[list[sympy.Expr], list[sympy.Expr], dict[sympy.Symbol, dict[int, sympy.Expr]]]:
    """Below-zero forms, non-zero forms, and the loops along which the ends are enough, with their coefficients."""
    slack: list[sympy.Expr] = []
    unequal: list[sympy.Expr] = []
    for condition in conditions:
        forms = below_zero(condition)
        if forms is None:
            unequal.append(expanded(condition[1] - condition[2]))
        else:
            slack += [expanded(e) for e in forms]
    long: dict[sympy.Symbol, dict[int, sympy.Expr]] = {}
    for kind in ("block", "serial"):
        taken: set[sympy.Symbol] = set()
        for i in (i for i in loops if loops[i].kind == kind and i not in pinned):
            guards = {j: e.coeff(i) for j, e in enumerate(slack) if i in e.free_symbols}
            even = all(
                not expanded(slack[j] - c * i).has(i)
                and not c.free_symbols & (loops.keys() | threads)
                and not slack[j].free_symbols & taken
                for j, c in guards.items()
            )
            if guards and even and not loops[i].extent.free_symbols & loops.keys() and not any(e.has(i) for e in unequal):
                long[i] = guards
                taken.add(i)
    return slack, unequal, long
