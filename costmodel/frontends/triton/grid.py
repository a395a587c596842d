"""Program ids that stand for several coordinates: taken apart again, so that addresses are affine in the block indices.

`pid // n` and `pid % n` of a grid of `d·n` programs are two block indices. The grouped ordering of Triton's matrix products,
`G` tile rows at a time, is three: within a group, along the columns, over groups. The last group may be smaller; here groups have
as many rows as the largest power of two up to `G` that divides their number, so that every tile is computed once and in almost
that order.
A loop over tiles (a persistent kernel) keeps its flat tile number, of which the coordinates are quotients and remainders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from costmodel.frontends.triton.arrays import largest
from costmodel.frontends.triton.events import Choice, Condition, Event, Repeat, Touch
from costmodel.frontends.triton.polynomials import ONE, Algebra, Polynomial, block

__all__ = ["Axes", "mapped", "regrouped", "unwrapped"]

_DOWN, _ACROSS = "%m", "%n"


@dataclass(slots=True)
class Axes:
    """The block loops of a kernel; `%x0`, `%x1` … are their indices."""

    extents: list[Polynomial] = field(default_factory=list)
    meaning: dict[str, Polynomial] = field(default_factory=dict)
    """What stands for a program id or a coordinate, in the loops' indices."""
    ends: dict[str, Polynomial] = field(default_factory=dict)
    """The largest value of each."""
    notes: list[str] = field(default_factory=list)
    even: list[tuple[Polynomial, Polynomial]] = field(default_factory=list)
    """Pairs of which the second divides the first."""

    def add(self, extent: Polynomial) -> Polynomial:
        """A further loop's index."""
        self.extents.append(extent)
        return Polynomial.of(f"%x{len(self.extents) - 1}")


@dataclass(frozen=True, slots=True)
class _Grouped:
    """Tiles in groups of rows."""

    tile: Polynomial
    """The flat tile number."""
    group: int
    rows: Polynomial
    columns: Polynomial
    by: dict[str, Polynomial]
    """What replaces the calls that take the number apart."""


def regrouped(algebra: Algebra, events: list[Event], grid: tuple[Polynomial, ...]) -> tuple[list[Event], Axes]:
    """The events with program ids taken apart where they are seen to be coordinates, and the block loops."""
    axes, used = Axes(), sum(e != ONE for e in grid)
    found = _grouped(algebra, events)
    if found is not None:
        events = mapped(events, lambda p: algebra.replaced(p, found.by))
        size = _group_size(algebra, found.rows, found.group)
        axes.even.append((found.rows, size))
        axes.ends |= {_DOWN: found.rows - ONE, _ACROSS: found.columns - ONE}
        axes.notes.append(f"tiles are taken in groups of the largest power of two up to {found.group} that divides the tile rows")
    for n, extent in enumerate(grid):
        atom = block(n)
        program = Polynomial.of(atom)
        parts = _digits(algebra, events, program, extent) if used < 3 else None
        if extent == ONE and (n or any(e != ONE for e in grid[1:])):
            continue
        if found is not None and found.tile == program and extent == found.rows * found.columns and used == 1:
            x, y, z = axes.add(size), axes.add(found.columns), axes.add(algebra.floor(found.rows, size))
            axes.meaning |= {_DOWN: x + z * size, _ACROSS: y}
        elif parts is not None:
            low, high = parts
            by = {_name(algebra, "mod", program, low): f"%l{n}", _name(algebra, "floor", program, low): f"%h{n}"}
            events = mapped(events, partial(algebra.replaced, by={a: Polynomial.of(b) for a, b in by.items()}))
            axes.meaning |= {f"%l{n}": axes.add(low), f"%h{n}": axes.add(high)}
            axes.ends |= {f"%l{n}": low - ONE, f"%h{n}": high - ONE}
            used += 1
        else:
            axes.meaning[atom] = axes.add(extent)
            axes.ends[atom] = extent - ONE
    if found is not None and _DOWN not in axes.meaning:
        inner = algebra.mod(found.tile, found.columns * size)
        axes.meaning[_DOWN] = algebra.mod(inner, size) + algebra.floor(found.tile, found.columns * size) * size
        axes.meaning[_ACROSS] = algebra.floor(inner, size)
    return events, axes


def _name(algebra: Algebra, kind: str, a: Polynomial, b: Polynomial) -> str:
    return next(iter(algebra.apply(kind, a, b).atoms()))


def _grouped(algebra: Algebra, events: list[Event]) -> _Grouped | None:
    """The grouped ordering, if tiles are in it."""
    present = {a for p in _expressions(events) for a in algebra.every_atom(p) if a in algebra.calls}
    for name in sorted(present):
        kind, left, rows_left = algebra.calls[name]
        if kind != "mod" or len(rows_left.atoms()) != 1:
            continue
        (size,) = rows_left.atoms()
        least = algebra.calls.get(size)
        if least is None or least[0] != "min" or least[2].number is None or rows_left != Polynomial.of(size):
            continue
        group = least[2].number
        quotient = next((a for a in least[1].atoms() if algebra.calls.get(a, ("",))[0] == "floor"), None)
        if quotient is None:
            continue
        _, tile, whole = algebra.calls[quotient]
        rows = least[1] + Polynomial.of(group) * Polynomial.of(quotient)
        columns = algebra.floor(whole, Polynomial.of(group))
        inner = algebra.mod(tile, whole)
        if left not in (tile, inner) or columns * Polynomial.of(group) != whole:
            continue
        across = _name(algebra, "floor", inner, rows_left)
        down = Polynomial.of(_DOWN) - Polynomial.of(group) * Polynomial.of(quotient)
        algebra.ranges |= {_DOWN: (0, _less(algebra, rows)), _ACROSS: (0, _less(algebra, columns))}
        return _Grouped(tile, group, rows, columns, {name: down, across: Polynomial.of(_ACROSS)})
    return None


def _less(algebra: Algebra, extent: Polynomial) -> int | None:
    high = algebra.bounds(extent)[1]
    return None if high is None else high - 1


def _group_size(algebra: Algebra, rows: Polynomial, most: int) -> Polynomial:
    """All rows if they are no more than `most`, else the largest power of two up to it that divides them."""
    powers, n = ONE, 2
    while n <= most:
        powers = powers + Polynomial.of(n // 2) * (ONE - algebra.minimum(algebra.mod(rows, Polynomial.of(n)), ONE))
        n *= 2
    return algebra.maximum(powers, rows * algebra.minimum(algebra.floor(Polynomial.of(most), rows), ONE))


def _digits(
    algebra: Algebra, events: list[Event], program: Polynomial, extent: Polynomial
) -> tuple[Polynomial, Polynomial] | None:
    """Extents of the two coordinates that a program id is always divided into."""
    (atom,) = program.atoms()
    divisors: set[Polynomial] = set()
    for p in _expressions(events):
        for name in p.atoms():
            call = algebra.calls.get(name)
            if name == atom:
                return None
            if call is None or not algebra.mentions(Polynomial.of(name), atom):
                continue
            if call[0] not in ("floor", "mod") or call[1] != program:
                return None
            divisors.add(call[2])
    if len(divisors) != 1:
        return None
    (low,) = divisors
    high = algebra.floor(extent, low)
    return (low, high) if high * low == extent else None


def _expressions(events: list[Event]) -> Iterator[Polynomial]:
    for event in events:
        if isinstance(event, Touch):
            yield event.offset
            yield from (e for _, a, b in event.conditions for e in (a, b))
        elif isinstance(event, Repeat):
            yield event.extent
            yield from _expressions(event.body)
        elif isinstance(event, Choice):
            yield from (e for _, a, b in event.conditions for e in (a, b))
            yield from _expressions(event.body)


def mapped(events: list[Event], change: Callable[[Polynomial], Polynomial]) -> list[Event]:
    """The events with every expression changed."""

    def each(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        return tuple((op, change(a), change(b)) for op, a, b in conditions)

    found: list[Event] = []
    for event in events:
        if isinstance(event, Touch):
            found.append(replace(event, offset=change(event.offset), conditions=each(event.conditions)))
        elif isinstance(event, Repeat):
            found.append(replace(event, extent=change(event.extent), body=mapped(event.body, change)))
        elif isinstance(event, Choice):
            found.append(replace(event, conditions=each(event.conditions), body=mapped(event.body, change)))
        else:
            found.append(event)
    return found


def unwrapped(algebra: Algebra, events: list[Event], ends: dict[str, Polynomial]) -> tuple[list[Event], list[str]]:
    """Indices taken modulo a size that they pass in their last tile only, as they were before.

    `(pid·BM + i) % M` lets the rows beyond the end of the last tile be the first ones. They are counted as rows of their own.
    """
    by: dict[str, Polynomial] = {}
    notes: list[str] = []
    present = {a for p in _offsets(events) for a in algebra.every_atom(p)}
    for name in sorted(present & algebra.calls.keys()):
        kind, inner, size = algebra.calls[name]
        if kind != "mod" or len(size.terms) != 1 or size.number is not None:
            continue
        terms = (largest(algebra, inner, ends) + ONE).terms
        ((monomial, step),) = terms.items() if len(terms) == 1 else (((), 0),)
        call = algebra.calls.get(monomial[0]) if len(monomial) == 1 else None
        if call is not None and call == ("ceil", size, Polynomial.of(step)):
            by[name] = inner
            notes.append(
                f"rows beyond {'·'.join(next(iter(size.terms)))}, which wrap round to the first, are counted as rows of their own"
            )
    return (_moved(events, lambda p: algebra.replaced(p, by)) if by else events), list(dict.fromkeys(notes))


def _offsets(events: list[Event]) -> Iterator[Polynomial]:
    for event in events:
        if isinstance(event, Touch):
            yield event.offset
        elif isinstance(event, Repeat | Choice):
            yield from _offsets(event.body)


def _moved(events: list[Event], change: Callable[[Polynomial], Polynomial]) -> list[Event]:
    """The events with the places of touched elements changed; what conditions compare stays."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, Touch):
            found.append(replace(event, offset=change(event.offset)))
        elif isinstance(event, Repeat | Choice):
            found.append(replace(event, body=_moved(event.body, change)))
        else:
            found.append(event)
    return found
