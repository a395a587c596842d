"""Strides and extents of luminal's loops as index expressions, and how far an offset reaches.

A stride is an offset in elements as a function of z, the index of its loop; other variables are sizes. luminal writes C, whose
division rounds towards zero: what might be negative is refused where it is divided, for there C and floor differ.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from costmodel.errors import UnsupportedError
from costmodel.frontends.luminal.terms import Term
from costmodel.symbols import FloorDiv, Maximum, Minimum, Mod, is_identifier, size, to_text

__all__ = ["LARGEST", "Extents", "expression", "is_accumulator", "reach"]

Extents = Mapping[sympy.Symbol, sympy.Expr]
"""How many values each loop index takes, from 0."""
LARGEST = 2**58
"""Number of a program: beyond, bytes of as many elements leave 63 bits."""
_ZERO, _ONE = sympy.Integer(0), sympy.Integer(1)
_DEEPEST = 100
_TAKEN = frozenset({"kernel", "device", "registers", "spilled", "warm"}) | {
    f"{k}_{a}" for k in ("block", "thread") for a in "xyz"
}
"""Other arguments of `estimate`, and indices of the grid and the block."""


def is_accumulator(stride: Term) -> bool:
    """Whether a stride marks a loop that feeds its result back."""
    return stride.op == "MAccum"


def expression(term: Term, z: sympy.Expr | None, extents: Extents, depth: int = 0) -> sympy.Expr:
    """The integer expression of a stride at one index, or of an extent.

    Args:
        term: the expression.
        z: index of the loop; None where there is none, as in an extent.
        extents: of the loops whose indices z contains.
        depth: of the term in the whole.

    Raises:
        UnsupportedError: an accumulator inside an expression, a variable that cannot be a size, a negative dividend, or a number
            that is too large.
    """
    if depth > _DEEPEST:
        term.refuse(f"an expression nested deeper than {_DEEPEST}")
    if term.op == "MNum":
        number = term.args[0]
        assert not isinstance(number, Term)  # the reader of terms makes an integer of it
        if abs(int(number)) > LARGEST:
            term.refuse(f"{number} is too large; expected numbers up to 2**58")
        return sympy.Integer(int(number))
    if term.op == "MVar":
        return _variable(term, z)
    if term.op == "MAccum":
        term.refuse("an accumulator is a stride of its own; here it stands inside an expression (a merged or padded loop)")
    a, b = (expression(term.child(n), z, extents, depth + 1) for n in range(2))
    match term.op:
        case "MAdd":
            return a + b
        case "MSub":
            return a - b
        case "MMul":
            return a * b
        case "MMin":
            return Minimum(a, b)
        case "MMax":
            return Maximum(a, b)
        case "MGte":
            return _at_least(a, b)
        case "MLt":
            return 1 - _at_least(a, b)
        case "MAnd":
            return Minimum(_ONE, a) * Minimum(_ONE, b)
        case "MOr":
            return Minimum(_ONE, a + b)
    _check_division(term, a, b, extents)
    match term.op:
        case "MDiv":
            return FloorDiv(a, b)
        case "MMod":
            return Mod(a, b)
        case "MFloorTo":
            return FloorDiv(a, b) * b
    return term.refuse("expected an expression")


def _at_least(a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
    """1 where a ≥ b, else 0."""
    return Minimum(_ONE, Maximum(_ZERO, a - b + 1))


def _variable(term: Term, z: sympy.Expr | None) -> sympy.Expr:
    name = term.text()
    if name == "z":
        if z is None:
            term.refuse("z is the index of a loop, which an extent has none of")
        return z
    if not is_identifier(name) or name in _TAKEN:
        term.refuse(f"{name!r} cannot name a size; expected an identifier, none of {', '.join(sorted(_TAKEN))}")
    return size(name)


def _check_division(term: Term, a: sympy.Expr, b: sympy.Expr, extents: Extents) -> None:
    if reach(b, extents)[0].is_positive is not True:
        term.refuse(f"the divisor {to_text(b)} may be less than 1")
    if reach(a, extents)[0].is_nonnegative is not True:
        term.refuse(f"{to_text(a)} may be negative, where C rounds towards zero and this model down")


def reach(e: sympy.Expr, extents: Extents) -> tuple[sympy.Expr, sympy.Expr]:
    """Bounds of an expression over all indices: none is smaller or larger, and for a sum of strides they are reached.

    Raises:
        UnsupportedError: a product of factors whose signs are unknown.
    """
    if e in extents:
        return _ZERO, extents[e] - 1
    if not e.free_symbols & extents.keys():
        return e, e
    parts = [reach(a, extents) for a in e.args]
    if e.is_Add:
        return sympy.Add(*(low for low, _ in parts)), sympy.Add(*(high for _, high in parts))
    if e.is_Mul:
        return _product(e, parts)
    if e.is_Pow and e.exp.is_Integer and int(e.exp) > 0:
        return _product(e, parts[:1] * int(e.exp))
    (a_low, a_high), (b_low, b_high) = parts
    if isinstance(e, FloorDiv):
        return FloorDiv(a_low, b_high), FloorDiv(a_high, b_low)
    if isinstance(e, Mod):
        fits = (b_low - 1 - a_high).is_nonnegative is True
        return (a_low, a_high) if fits else (_ZERO, Minimum(a_high, b_high - 1))
    if isinstance(e, Minimum):
        return Minimum(a_low, b_low), Minimum(a_high, b_high)
    if isinstance(e, Maximum):
        return _known_sign(a_low, b_low), Maximum(a_high, b_high)
    raise UnsupportedError(f"luminal: the bounds of {to_text(e)} are unknown")


def _known_sign(a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
    """Lower bound of the larger of two: either is one, so the one that is known not to be negative."""
    if b.is_nonnegative and not a.is_nonnegative:
        return b
    return a if a.is_nonnegative and not b.is_nonnegative else Maximum(a, b)


def _product(e: sympy.Expr, parts: list[tuple[sympy.Expr, sympy.Expr]]) -> tuple[sympy.Expr, sympy.Expr]:
    low, high = _ONE, _ONE
    for next_low, next_high in parts:
        if next_low.is_nonnegative and low.is_nonnegative:
            low, high = low * next_low, high * next_high
        elif next_low == next_high and next_low.is_nonpositive and low.is_nonnegative:
            low, high = high * next_low, low * next_high
        elif low == high and low.is_nonpositive and next_low.is_nonnegative:
            low, high = low * next_high, high * next_low
        elif low == high and low.is_nonnegative:
            low, high = low * next_low, low * next_high
        else:
            raise UnsupportedError(f"luminal: the bounds of {to_text(e)} are unknown: factors of either sign")
    return low, high
