"""`scf.for`: how many steps each block takes, what is carried from step to step, and what a loop leaves.

A loop that every block runs equally often, at least once, is a loop of that extent. So is one whose steps are a polynomial in
block indices and outer counters that is seen not to be negative. Any other is as long as its longest run, and its body is under
the condition that the counter has not reached the end; one that may have no steps at all is under the condition that it has.
A carried value is followed where it advances by a constant step, or where a step leaves what the start would be one step earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from costmodel.frontends.triton.comparisons import held
from costmodel.frontends.triton.events import Choice, Condition, Repeat
from costmodel.frontends.triton.module_text import Operation
from costmodel.frontends.triton.polynomials import ONE, ZERO, Algebra, Polynomial
from costmodel.frontends.triton.reading import Reader, result_names
from costmodel.frontends.triton.values import Chosen, Mask, Opaque, Pointer, Value

__all__ = ["extreme", "loop"]


def loop(reader: Reader, operation: Operation) -> None:
    """Read a loop."""
    lower, upper, step, *initial = operation.operands
    low, by = (_number(reader, operation, reader[n], w) for n, w in ((lower, "first value"), (step, "step")))
    high = _number(reader, operation, _end(reader.algebra, low, reader[upper]), "end")
    if not reader.algebra.not_negative(by):
        raise reader.fail(operation, "the loop's step may be negative; expected a constant, or sizes and their products")
    counter, *carried = operation.regions[0].arguments
    atom = f"%i{reader.loops}"
    reader.loops += 1
    extent, steps, guard, inside = _extent(reader, operation, atom, low, high, by)
    top = reader.algebra.bounds(extent)[1]
    reader.algebra.ranges[atom] = (0, None if top is None else max(top - 1, 0))
    reader.ends[atom] = extent - ONE
    reader.values[counter] = low + Polynomial.of(atom) * by
    followed = _carried(reader, operation, atom, carried, [reader[n] for n in initial])
    reader.values.update(zip(carried, followed, strict=True))
    outer, reader.events = reader.events, []
    reader.stages.append(1)
    reader.block(operation.regions[0].operations)
    repeat = Repeat(atom, extent, reader.where(operation), reader.stages.pop(), reader.events)
    if guard and inside:
        repeat.body = [Choice(guard, repeat.body)]
    reader.events = outer
    reader.emit(Choice(guard, [repeat]) if guard and not inside else repeat)
    for name, value in zip(result_names(operation), followed, strict=True):
        left = value if isinstance(value, Opaque) else replaced(reader.algebra, value, {atom: steps})
        reader.values[name] = left


def _number(reader: Reader, operation: Operation, value: Value, what: str) -> Polynomial:
    if isinstance(value, Polynomial):
        return value
    chosen = "an index that tl.where replaces" if isinstance(value, Chosen) else "no number"
    reason = value.reason if isinstance(value, Opaque) else chosen
    raise reader.fail(operation, f"the loop's {what} is {reason}; expected sizes and constants")


def _end(algebra: Algebra, low: Polynomial, high: Value) -> Value:
    """The loop's end, also one that is only known where it is positive: no loop from 0 on reaches any other."""
    known = isinstance(high, Opaque) and high.end is not None and algebra.not_negative(low)
    return high.end if known and isinstance(high, Opaque) and high.end is not None else high


def _extent(
    reader: Reader, operation: Operation, atom: str, low: Polynomial, high: Polynomial, by: Polynomial
) -> tuple[Polynomial, Polynomial, tuple[Condition, ...], bool]:
    """The loop's extent, the steps that a block takes, and the guard if one is needed, within the loop or around it."""
    algebra = reader.algebra
    extent = algebra.ceil(high - low, by)
    if algebra.mentions(extent, "%c"):  # of a carried value that is not followed yet: the loop is read once more
        return extent, extent, (), False
    moving = {a for a in algebra.every_atom(extent) if a.startswith(("%b", "%i"))}
    polynomial = not any(a in algebra.calls for a in extent.atoms()) and moving == {a for a in extent.atoms() if a[0] == "%"}
    least = extreme(algebra, extent, reader.ends, most=False)
    shortest = None if least is None else algebra.bounds(least)[0]
    if shortest is not None and shortest >= (0 if moving else 1) and (polynomial or not moving):
        return extent, extent, (), False
    steps = extent if shortest is not None and shortest >= 0 else algebra.maximum(extent, ZERO)
    most = extreme(algebra, extent, reader.ends, most=True)
    if most is None:
        raise reader.fail(
            operation, "the largest number of steps is no formula of sizes; expected bounds that rise or fall with blocks"
        )
    at = low + Polynomial.of(atom) * by if moving else low
    return algebra.maximum(most, ONE), steps, held(algebra, (("<", at, high),)).conditions, bool(moving)


# -- what is carried


def _carried(reader: Reader, operation: Operation, atom: str, names: list[str], initial: list[Value]) -> list[Value]:
    """Loop-carried values at step `atom`, found by reading the body once with an unknown in the place of each."""
    unknown = [Polynomial.of(f"%c{reader.loops}_{n}") for n in range(len(initial))]
    stand = [_unknown(v, u) for v, u in zip(initial, unknown, strict=True)]
    if all(isinstance(v, Opaque) for v in stand):
        return stand
    reader.algebra.ranges |= {a: (None, None) for u in unknown for a in u.atoms()}
    last = reader.tried(dict(zip(names, stand, strict=True)), operation.regions[0].operations)
    index, algebra = Polynomial.of(atom), reader.algebra
    found: list[Value | None] = [
        _advanced(algebra, start, value, end, atom) for start, value, end in zip(initial, stand, last, strict=True)
    ]
    by = {
        next(iter(u.atoms())): f.offset if isinstance(f, Pointer) else f
        for u, f in zip(unknown, found, strict=True)
        if isinstance(f, Polynomial | Pointer)
    }
    for n, (start, end) in enumerate(zip(initial, last, strict=True)):
        if found[n] is None:
            now = replaced(algebra, end, by)
            earlier = replaced(algebra, now, {atom: index - ONE})
            same = not _mentions(algebra, now, "%c") and replaced(algebra, now, {atom: Polynomial.of(-1)}) == start
            found[n] = earlier if same else Opaque("carried through a loop, but not advanced by a constant step")
    return [f for f in found if f is not None]


def _unknown(start: Value, atom: Polynomial) -> Value:
    if isinstance(start, Polynomial):
        return atom
    if isinstance(start, Pointer):
        return Pointer(start.buffer, atom)
    if isinstance(start, Mask):
        return Mask((("<", atom, ZERO),))
    return _REPLACED if isinstance(start, Chosen) else start


_REPLACED = Opaque("an index that tl.where replaces, carried through a loop")


def _advanced(algebra: Algebra, start: Value, value: Value, end: Value, atom: str) -> Value | None:
    """The value at each step where steps add a constant, or nothing; None where that is not so."""
    if value == _REPLACED or end == value:
        return value if value == _REPLACED else start
    if isinstance(value, Polynomial) and isinstance(start, Polynomial) and isinstance(end, Polynomial):
        step = end - value
        plain = not algebra.mentions(step, "%c") and not algebra.mentions(step, atom)
        return start + Polynomial.of(atom) * step if plain else None
    if isinstance(value, Pointer) and isinstance(start, Pointer) and isinstance(end, Pointer) and end.buffer == start.buffer:
        moved = _advanced(algebra, start.offset, value.offset, end.offset, atom)
        return Pointer(start.buffer, moved) if isinstance(moved, Polynomial) else None
    if isinstance(start, Opaque):
        return start
    if isinstance(end, Opaque):
        return Opaque("carried through a loop, and known only at its start")
    return None


def replaced(algebra: Algebra, value: Value, by: Mapping[str, Polynomial]) -> Value:
    """The value with atoms replaced."""
    if isinstance(value, Polynomial):
        return algebra.replaced(value, by)
    if isinstance(value, Pointer):
        return Pointer(value.buffer, algebra.replaced(value.offset, by))
    if isinstance(value, Mask):
        return held(algebra, [(op, algebra.replaced(a, by), algebra.replaced(b, by)) for op, a, b in value.conditions])
    return value


def _mentions(algebra: Algebra, value: Value, prefix: str) -> bool:
    parts: Sequence[Polynomial] = ()
    if isinstance(value, Polynomial):
        parts = (value,)
    elif isinstance(value, Pointer):
        parts = (value.offset,)
    elif isinstance(value, Mask):
        parts = [e for _, a, b in value.conditions for e in (a, b)]
    return any(algebra.mentions(p, prefix) for p in parts)


# -- extremes


def extreme(algebra: Algebra, p: Polynomial, ends: Mapping[str, Polynomial], *, most: bool) -> Polynomial | None:
    """A bound of an expression in sizes alone: no value is larger (`most`), or smaller. None where no bound is seen.

    `ends` are the largest values of block indices and counters, of which the smallest are 0.
    """
    total = ZERO
    for monomial, c in p.terms.items():
        term = Polynomial.of(c)
        moving = [a for a in monomial if _moves(algebra, a)]
        if moving and any(not algebra.not_negative(Polynomial.of(a)) for a in (*monomial,) if len(monomial) > 1):
            return None
        for atom in monomial:
            end = _extreme_atom(algebra, atom, ends, most=(c > 0) == most) if atom in moving else Polynomial.of(atom)
            if end is None:
                return None
            term = term * end
        total = total + term
    return total


def _moves(algebra: Algebra, atom: str) -> bool:
    return any(a.startswith("%") for a in algebra.every_atom(Polynomial.of(atom)))


def _extreme_atom(algebra: Algebra, atom: str, ends: Mapping[str, Polynomial], *, most: bool) -> Polynomial | None:
    if atom in ends:
        return extreme(algebra, ends[atom], ends, most=True) if most else ZERO
    if atom not in algebra.calls:
        known = algebra.ranges.get(atom, (None, None))[1 if most else 0]
        return None if known is None else Polynomial.of(known)
    kind, a, b = algebra.calls[atom]
    if kind == "mod":
        return _less_one(extreme(algebra, b, ends, most=True)) if most else ZERO
    of_a = extreme(algebra, a, ends, most=most)
    if kind in ("floor", "ceil"):
        fixed = not any(_moves(algebra, x) for x in b.atoms())
        return algebra.apply(kind, of_a, b) if of_a is not None and fixed else None
    of_b = extreme(algebra, b, ends, most=most)
    if of_a is None or of_b is None:
        return (of_b if of_a is None else of_a) if (kind == "min") == most else None
    return algebra.apply(kind, of_a, of_b)


def _less_one(p: Polynomial | None) -> Polynomial | None:
    return None if p is None else p - ONE
