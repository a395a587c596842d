"""Symbols, integer functions, and sums of them.

Sizes are positive integer symbols, loop indices non-negative ones; both are made here, since
`Symbol("M") != Symbol("M", positive=True)`. Division is integer division through `FloorDiv`,
`CeilDiv` and `Mod`: sympy's `ceiling(M/B)` becomes float division when compiled and is wrong above 2**53.
"""

from __future__ import annotations

import keyword
import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import sympy

from costmodel.errors import UnsupportedError
from costmodel.symbols.points import distinct_values, passing_points

__all__ = [
    "COMPARISONS",
    "CeilDiv",
    "Condition",
    "Distinct",
    "FloorDiv",
    "Maximum",
    "Minimum",
    "Mod",
    "Passing",
    "Xor",
    "exact_quotient",
    "expanded",
    "free_names",
    "index",
    "is_identifier",
    "quotient",
    "size",
]

Condition = tuple[str, sympy.Expr, sympy.Expr]
"""A comparison `(operator, left, right)` with operator one of `< <= > >= == !=`."""

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def is_identifier(name: str) -> bool:
    """Tell whether `name` can name a size, a buffer or a loop."""
    return name.isidentifier() and not keyword.iskeyword(name)


@cache
def size(name: str) -> sympy.Symbol:
    """The positive integer symbol of a size or tunable."""
    return sympy.Symbol(name, integer=True, positive=True)


@cache
def index(name: str) -> sympy.Symbol:
    """The non-negative integer symbol of a loop index."""
    return sympy.Symbol(name, integer=True, nonnegative=True)


def exact_quotient(a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:
    """`a / b` where `b` divides every term of `a`, else None."""
    if b.is_Integer and all(_is_plain(t) for t in sympy.Add.make_args(a)):
        coefficients = (t.as_coeff_Mul()[0] for t in sympy.Add.make_args(a))
        if any(c.is_Integer and int(c) % int(b) for c in coefficients):
            return None
    if expanded_terms(a) > MOST_TERMS:
        return None
    terms = sympy.Add.make_args(a if _is_expanded(a) else sympy.expand(a))
    out = [t / b for t in terms]
    if all(
        q.as_coeff_Mul()[0].is_Integer and not any(f.is_Pow and f.exp.is_negative for f in sympy.Mul.make_args(q)) for q in out
    ):
        return sympy.Add(*out)
    return None


def _is_plain(term: sympy.Expr) -> bool:
    """Whether a term has no sum to multiply out."""
    return not any(f.is_Add or f.is_Pow for f in sympy.Mul.make_args(term))


def _is_expanded(e: sympy.Expr) -> bool:
    """Whether a sum of products has nothing to multiply out, inside calls too."""
    if e.is_Mul or e.is_Pow:
        return not e.is_Pow and all(not f.is_Add and _is_expanded(f) for f in e.args)
    return all(_is_expanded(a) for a in e.args)


MOST_TERMS = 4096
"""Expressions that would expand to more terms are left alone, or refused."""


def expanded_terms(e: sympy.Expr) -> int:
    """Upper bound for the number of terms after expansion."""
    if e.is_Add:
        return sum(expanded_terms(a) for a in e.args)
    if e.is_Mul:
        return math.prod(expanded_terms(a) for a in e.args)
    if e.is_Pow and e.exp.is_Integer and int(e.exp) > 1:
        return int(min(expanded_terms(e.base), MOST_TERMS + 1) ** min(int(e.exp), 64))
    return 1


def expanded(e: sympy.Expr) -> sympy.Expr:
    """The expression as a sum of products.

    Raises:
        UnsupportedError: it would have more than `MOST_TERMS` terms.
    """
    if expanded_terms(e) > MOST_TERMS:
        raise UnsupportedError(f"an index or extent expands to more than {MOST_TERMS} terms; simplify it: {str(e)[:80]}…")
    return sympy.expand(e)


class _IntegerFunction(sympy.Function):
    is_integer = True
    is_real = True

    def __new__(cls: Any, *args: Any) -> Any:
        """A call; sympy's own way to it asks about floats and numbers of arguments, and takes ten times as long."""
        return _called(cls, *args)

    def _eval_is_integer(self) -> bool:
        return True


@lru_cache(maxsize=1 << 14, typed=True)
def _called(function: Any, *args: Any) -> sympy.Expr:
    given = [sympy.sympify(a) for a in args]
    found = function.eval(*given)
    return sympy.Expr.__new__(function, *given) if found is None else found


class FloorDiv(_IntegerFunction):
    """`a // b` on integers, `b > 0`."""

    nargs = (2,)

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:  # noqa: D102 - a hook of sympy's
        if a.is_Integer and b.is_Integer:
            return sympy.Integer(int(a) // int(b))
        if b == 1 or a == 0:
            return a
        return exact_quotient(a, b)


class CeilDiv(_IntegerFunction):
    """`-(-a // b)` on integers, `b > 0`."""

    nargs = (2,)

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:  # noqa: D102 - a hook of sympy's
        if a.is_Integer and b.is_Integer:
            return sympy.Integer(-(-int(a) // int(b)))
        if b == 1 or a == 0:
            return a
        return exact_quotient(a, b)


class Mod(_IntegerFunction):
    """`a % b` on integers, `b > 0`."""

    nargs = (2,)

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:  # noqa: D102 - a hook of sympy's
        if a.is_Integer and b.is_Integer:
            return sympy.Integer(int(a) % int(b))
        if b == 1 or exact_quotient(a, b) is not None:
            return sympy.Integer(0)
        return None


class Minimum(_IntegerFunction):
    """The smaller of two integers."""

    nargs = (2,)

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:  # noqa: D102 - a hook of sympy's
        if _at_most(a, b):
            return a
        return b if _at_most(b, a) else None


class Maximum(_IntegerFunction):
    """The larger of two integers."""

    nargs = (2,)

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:  # noqa: D102 - a hook of sympy's
        if _at_most(a, b):
            return b
        return a if _at_most(b, a) else None


def _at_most(a: sympy.Expr, b: sympy.Expr) -> bool:
    """Whether `a <= b` is plain to see: a constant apart, one of a minimum, or rounded up to a multiple."""
    if a == b or (a.is_Integer and b.is_Integer):
        return bool(a <= b)
    if isinstance(a, Minimum) and b in a.args:
        return True
    if any(f.args[0] == a and b == f * f.args[1] for f in b.atoms(CeilDiv)):
        return True
    apart = b - a
    return not _falls_below_zero(apart) and bool(apart.is_nonnegative)


_HIGH = 1 << 40


def _falls_below_zero(e: sympy.Expr) -> bool:
    """Whether it plainly does for some values: sympy, which finds no sign then, would seek it for milliseconds.

    An integer function, of which no sign is known, that is a factor of one term only lets that term be anything. Without
    functions, the least values of all symbols are tried, and large ones.
    """
    least, most = 0, 0
    times: dict[sympy.Expr, int] = {}
    for term in sympy.Add.make_args(e):
        low, high = 1, 1
        for factor in sympy.Mul.make_args(term):
            if isinstance(factor, _IntegerFunction):
                times[factor] = times.get(factor, 0) + 1
            elif factor.is_Integer:
                low, high = low * int(factor), high * int(factor)
            elif factor.is_Symbol and factor.is_integer and factor.is_nonnegative:
                low, high = low * bool(factor.is_positive), high * _HIGH
            else:
                return False
        least, most = least + low, most + high
    return 1 in times.values() if times else least < 0 or most < 0


class Xor(_IntegerFunction):
    """`a ^ b` on non-negative integers: swizzled shared memory."""

    nargs = (2,)

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:  # noqa: D102 - a hook of sympy's
        if a == 0 or b == 0:
            return a + b
        if a == b:
            return sympy.Integer(0)
        return sympy.Integer(int(a) ^ int(b)) if a.is_Integer and b.is_Integer else None


class Distinct(_IntegerFunction):
    """Distinct values of `Σ cₖ·iₖ`, `0 ≤ iₖ < nₖ`: arguments `c₁, n₁, c₂, n₂, …` (an upper bound where not exact).

    See `distinct_values` for the rule.
    """

    @classmethod
    def eval(cls, *args: sympy.Expr) -> sympy.Expr | None:  # noqa: D102 - a hook of sympy's
        if len(args) == 2 and args[0] != 0 and (args[0].is_Integer or args[0].is_positive):
            return args[1]
        if args and all(a.is_Integer for a in args):
            return sympy.Integer(int(distinct_values([int(a) for a in args[::2]], [int(a) for a in args[1::2]])[0]))
        return None


class Passing(_IntegerFunction):
    """Points of a box `0 ≤ iₖ < nₖ` with `Σₖ cⱼₖ·iₖ + bⱼ < 0` for every j.

    Arguments: the number of loops K, the K extents, then for each condition `bⱼ, cⱼ₁, …, cⱼK`.
    """

    @classmethod
    def eval(cls, *args: sympy.Expr) -> sympy.Expr | None:  # noqa: D102 - a hook of sympy's
        if args and all(a.is_Integer for a in args):
            return sympy.Integer(int(passing_points(*(int(a) for a in args))))
        return None


def quotient(a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
    """`a / b` where the caller knows that it is an integer.

    A sum stays whole, since its terms need not be divisible one by one.
    """
    return FloorDiv(a, b) if a.is_Add else a / b


def free_names(*expressions: sympy.Expr) -> frozenset[str]:
    """Names of all symbols in the expressions."""
    return frozenset().union(*(_names_in(e) for e in expressions))


@lru_cache(maxsize=1 << 14)
def _names_in(e: sympy.Expr) -> frozenset[str]:
    return frozenset(s.name for s in e.free_symbols)
