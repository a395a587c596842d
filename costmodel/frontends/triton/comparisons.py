"""Comparisons: what masks, branches and ends of loops are made of."""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.frontends.triton.events import Condition
from costmodel.frontends.triton.module_text import Operation
from costmodel.frontends.triton.polynomials import ONE, ZERO, Algebra, Polynomial
from costmodel.frontends.triton.values import Chosen, Mask, Opaque, Value

__all__ = ["NEVER", "compared", "decided", "held", "negated"]

_SIGNS = {"slt": "<", "sle": "<=", "sgt": ">", "sge": ">=", "eq": "==", "ne": "!="}
_UNSIGNED = {"ult": "<", "ule": "<=", "ugt": ">", "uge": ">="}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}
NEVER = Mask((("<", ONE, ZERO),))
"""What is never true."""


def compared(algebra: Algebra, operation: Operation, a: Value, b: Value) -> Value:
    """`arith.cmpi`."""
    sign = operation.text.strip().split(",")[0].split(" ")[0]
    if isinstance(a, Opaque | Mask) or isinstance(b, Opaque | Mask):
        return a if isinstance(a, Opaque) else b if isinstance(b, Opaque) else Opaque("a comparison of truth values")
    if isinstance(a, Chosen) or isinstance(b, Chosen):
        return _chosen_compared(algebra, sign, a, b)
    if not isinstance(a, Polynomial) or not isinstance(b, Polynomial):
        return Opaque(f"comparison {sign} of pointers")
    return _comparison(algebra, sign, a, b)


def _comparison(algebra: Algebra, sign: str, a: Polynomial, b: Polynomial) -> Value:
    if sign in _SIGNS:
        return held(algebra, ((_SIGNS[sign], a, b),))
    if sign in ("ugt", "uge"):
        sign, a, b = {"ugt": "ult", "uge": "ule"}[sign], b, a
    if sign not in _UNSIGNED or not algebra.not_negative(b):
        return Opaque("a comparison, as unsigned, with what may be negative")
    return held(algebra, ((">=", a, ZERO), (_UNSIGNED[sign], a, b)))


def _chosen_compared(algebra: Algebra, sign: str, a: Value, b: Value) -> Value:
    """A comparison of an index that `tl.where` replaces: exact where the other value is seen to fail it, or never to."""
    chosen, other = (a, b) if isinstance(a, Chosen) else (b, a)
    unknown = Opaque("a comparison of an index that tl.where replaces by another")
    if not isinstance(chosen, Chosen) or not isinstance(other, Polynomial) or chosen.otherwise is None:
        return unknown
    pairs = [(i, other) if chosen is a else (other, i) for i in (chosen.index, chosen.otherwise)]
    inside, outside = (_comparison(algebra, sign, x, y) for x, y in pairs)
    if not isinstance(inside, Mask):
        return inside
    if outside == NEVER:
        return held(algebra, (*chosen.conditions, *inside.conditions))
    return Mask(()) if outside == Mask(()) and set(inside.conditions) <= set(chosen.conditions) else unknown


def held(algebra: Algebra, conditions: Sequence[Condition]) -> Mask:
    """The mask that all of them make, without those that are seen to hold."""
    open_: list[Condition] = []
    for condition in dict.fromkeys(conditions):
        known = decided(algebra, condition)
        if known is False:
            return NEVER
        if known is None:
            open_.append(condition)
    return Mask(tuple(open_))


def decided(algebra: Algebra, condition: Condition) -> bool | None:
    """Whether a comparison is seen to hold, or not to; None where it depends."""
    op, a, b = condition
    if op in ("<", ">=") and _is_remainder(algebra, a, b):
        return op == "<"
    low, high = algebra.bounds(a - b)
    if op in ("<", ">="):
        below = True if high is not None and high < 0 else False if low is not None and low >= 0 else None
        return below if below is None or op == "<" else not below
    if op in ("<=", ">"):
        below = True if high is not None and high <= 0 else False if low is not None and low > 0 else None
        return below if below is None or op == "<=" else not below
    apart = (low is not None and low > 0) or (high is not None and high < 0)
    equal = low == 0 and high == 0
    if apart or equal:
        return equal == (op == "==")
    return None


def _is_remainder(algebra: Algebra, a: Polynomial, b: Polynomial) -> bool:
    """Whether `a` is a remainder of a division by `b`."""
    (atom, *more) = a.atoms() or ("",)
    call = algebra.calls.get(atom)
    return not more and call is not None and call[0] == "mod" and call[2] == b and a == Polynomial.of(atom)


def negated(mask: Mask) -> tuple[Mask, ...]:
    """The opposite, as masks of which one holds: the first condition fails; it holds and the second fails; and so on."""
    if mask == NEVER:
        return (Mask(()),)
    failing = [(_OPPOSITE[op], a, b) for op, a, b in mask.conditions]
    return tuple(Mask((*mask.conditions[:n], c)) for n, c in enumerate(failing))
