"""Conditions as they can be counted: affine in indices where they are not, but say the same as affine ones.

`x < min(a, b)` is `x < a` and `x < b`; `f // s >= k` is `f >= k·s`. What is left, remainders above all, `counts` takes apart by
digits. Threads hold coordinates as digits, too: of `(t + 32·w) % 2` only `t % 2` is left.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

import sympy

from costmodel.frontends.triton.arrays import largest
from costmodel.frontends.triton.events import Choice, Condition, Event, Repeat, Touch, inner
from costmodel.frontends.triton.polynomials import ONE, ZERO, Algebra, Polynomial
from costmodel.symbols import FloorDiv, Mod

__all__ = ["Quotient", "affine", "moving_calls", "plain", "remainders", "shorter", "spread"]

Quotient = tuple[Polynomial, Polynomial]
"""What is divided, and by what."""


def remainders(algebra: Algebra, events: Iterable[Event]) -> frozenset[Quotient]:
    """The divisions of which conditions use remainders."""
    conditions = [c for e in inner(events) if isinstance(e, Touch | Choice) for c in e.conditions]
    atoms = {n for _, a, b in conditions for e in (a, b) if moving_calls(algebra, e) for n in algebra.every_atom(e)}
    return frozenset(algebra.calls[n][1:] for n in atoms if n in algebra.calls and algebra.calls[n][0] == "mod")


def moving_calls(algebra: Algebra, p: Polynomial) -> list[str]:
    """Quotients, remainders, minima and maxima of what moves with blocks, loops or coordinates."""
    return [a for a in p.atoms() if a in algebra.calls and algebra.mentions(Polynomial.of(a), "%")]


def plain(algebra: Algebra, events: Iterable[Event]) -> bool:
    """Whether all conditions and extents are seen to be such as can be counted."""
    forms: list[Polynomial] = []
    for event in inner(events):
        if isinstance(event, Touch | Choice):
            forms += [e for _, a, b in event.conditions for e in (a, b)]
        elif isinstance(event, Repeat):
            if moving_calls(algebra, event.extent):
                return False
            forms.append(event.extent)
    return all(_is_plain(algebra, p) for p in forms)


def _is_plain(algebra: Algebra, p: Polynomial) -> bool:
    """Whether it is a sum of what moves times what does not, where quotients and remainders are of such sums from 0 on."""
    for monomial in p.terms:
        moving = [a for a in monomial if algebra.mentions(Polynomial.of(a), "%")]
        if len(moving) > 1:
            return False
        kind, a, b = algebra.calls.get(moving[0], ("", ONE, ONE)) if moving else ("", ONE, ONE)
        if kind in ("min", "max") and not (_is_plain(algebra, a) and _is_plain(algebra, b)):
            return False
        low = algebra.bounds(a)[0]
        if kind in ("floor", "ceil", "mod") and (low is None or low < 0 or algebra.mentions(b, "%") or not _is_plain(algebra, a)):
            return False
    return True


def affine(algebra: Algebra, condition: Condition, kept: Container[Quotient]) -> tuple[Condition, ...]:
    """Conditions that hold together where this one does, without minima, maxima and quotients as far as that can be.

    Args:
        algebra: of the expressions.
        condition: one comparison.
        kept: quotients that stay, for remainders of the same stand beside them.
    """
    op, a, b = condition
    if op == "!=" or not (moving_calls(algebra, a) or moving_calls(algebra, b)):
        return (condition,)
    above = {"<": [b - a], "<=": [b - a + ONE], ">": [a - b], ">=": [a - b + ONE], "==": [a - b + ONE, b - a + ONE]}[op]
    parts = [_above_zero(algebra, e, kept) for e in above]
    if all(p == (e,) for p, e in zip(parts, above, strict=True)):
        return (condition,)
    return tuple((">", e, ZERO) for e in dict.fromkeys(e for p in parts for e in p))


def _above_zero(algebra: Algebra, e: Polynomial, kept: Container[Quotient]) -> tuple[Polynomial, ...]:
    """Expressions that are all above zero where this one is, with as few calls that move as can be."""
    for atom in sorted(moving_calls(algebra, e)):
        found = e.linear(atom)
        factor = found[0].number if found is not None else None
        if found is not None and factor is not None and algebra.calls[atom][1:] not in kept:
            parts = _without(algebra, atom, factor, found[1])
            if parts:
                return tuple(q for p in parts for q in _above_zero(algebra, p, kept))
    return (e,)


def _without(algebra: Algebra, atom: str, factor: int, rest: Polynomial) -> tuple[Polynomial, ...]:
    """Expressions that are all above zero where `factor·atom + rest` is; empty where it takes one of several."""
    kind, a, b = algebra.calls[atom]
    if kind in ("min", "max"):
        times = Polynomial.of(factor)
        return (times * a + rest, times * b + rest) if (kind == "min") == (factor > 0) else ()
    if kind == "mod" or abs(factor) != 1:
        return ()
    if factor == 1:  # a quotient of at least 1 - rest
        return (a - (ONE - rest) * b + ONE if kind == "floor" else a + rest * b,)
    return (rest * b - a if kind == "floor" else (rest - ONE) * b - a + ONE,)


def shorter(algebra: Algebra, repeat: Repeat, ends: Mapping[str, Polynomial]) -> Polynomial:
    """The extent of a loop whose body is under conditions that its counter fails sooner: `a + i < min(a + R, M)` ends at `R`.

    Args:
        algebra: of the expressions.
        repeat: the loop.
        ends: largest values of blocks and of the counters of loops around it.
    """
    extent = repeat.extent
    if len(repeat.body) != 1 or not isinstance(repeat.body[0], Choice):
        return extent
    for condition in (c for whole in repeat.body[0].conditions for c in affine(algebra, whole, ())):
        op, a, b = condition
        found = (a - b if op in (">", ">=") else b - a).linear(repeat.atom)
        if op not in ("<", "<=", ">", ">=") or found is None or not found[0].terms or max(found[0].terms.values()) > 0:
            continue
        most = largest(algebra, algebra.ceil(found[1] + (ZERO if op in "<>" else ONE), -found[0]), ends)
        if not algebra.mentions(most, "%"):
            extent = algebra.minimum(algebra.maximum(most, ONE), extent)
    return extent


def spread(
    algebra: Algebra, points: Mapping[str, sympy.Expr], extents: Mapping[sympy.Symbol, int]
) -> tuple[dict[str, Polynomial], dict[str, sympy.Expr]]:
    """Coordinates as sums of digits of the thread and register indices, and what each digit is.

    Args:
        algebra: which is told the digits' ranges.
        points: coordinates as sums of digits.
        extents: of the indices that digits are taken from.
    """
    by: dict[str, Polynomial] = {}
    symbols: dict[str, sympy.Expr] = {}
    for coordinate, point in points.items():
        total = ZERO
        for factor, digit in _digits(point):
            atom = f"%t:{digit}"
            symbols[atom] = digit
            algebra.ranges[atom] = (0, _most(digit, extents))
            total = total + Polynomial({(atom,): factor})
        by[coordinate] = total
    return by, symbols


def _digits(point: sympy.Expr) -> Iterator[tuple[int, sympy.Expr]]:
    for term in sympy.Add.make_args(point):
        factor, digit = term.as_coeff_Mul()
        if term != 0:
            yield int(factor), digit


def _most(digit: sympy.Expr, extents: Mapping[sympy.Symbol, int]) -> int:
    if isinstance(digit, Mod):
        return min(_most(digit.args[0], extents), int(digit.args[1]) - 1)
    if isinstance(digit, FloorDiv):
        return _most(digit.args[0], extents) // int(digit.args[1])
    return extents[digit] - 1
