"""What a description computes with while it is traced: integers that are still symbols.

`Expr` behaves like a Python int (`+ - * // %` and comparisons) and builds sympy expressions.
Divisibility that the description requires (`k.require(M % BM == 0)`) turns later `M // BM` into the
exact quotient `M/BM` and `M % BM` into 0, which keeps formulas readable and counts exact.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn

import sympy

from costmodel.errors import DescriptionError
from costmodel.symbols import CeilDiv, Condition, FloorDiv, Maximum, Minimum, Mod, Xor, exact_quotient, quotient, to_text

__all__ = ["Comparison", "Divisibility", "Expr", "Integer", "ceil_div", "facts_of", "maximum", "minimum", "to_sympy"]


@dataclass(slots=True)
class Divisibility:
    """Pairs `(a, b)` for which the description requires `a % b == 0`."""

    facts: list[tuple[sympy.Expr, sympy.Expr]] = field(default_factory=list)

    def add(self, a: sympy.Expr, b: sympy.Expr) -> None:
        """Record that `b` divides `a`; either may be an exact quotient."""
        self.facts.append(_cross(a, b))
        self.facts = [_cross(self._resolve(fa), self._resolve(fb)) for fa, fb in self.facts]

    def _resolve(self, e: sympy.Expr) -> sympy.Expr:
        """Write floor divisions that are known to be exact as quotients."""
        return e.replace(lambda f: isinstance(f, FloorDiv) and self.divides(*f.args), lambda f: quotient(*f.args))

    def divides(self, a: sympy.Expr, b: sympy.Expr) -> bool:
        """Tell whether the recorded facts imply that `b` divides `a`."""
        top, bottom = _cross(a, b)
        pairs = [(top, bottom), sympy.fraction(top / bottom)]
        return any(_multiple(above, fa) and _multiple(fb, below) for above, below in pairs for fa, fb in self.facts)


@lru_cache(maxsize=256)
def facts_of(requirements: tuple[Condition, ...]) -> Divisibility:
    """The divisibility facts among a kernel's requirements; shared, so not to be added to."""
    facts = Divisibility()
    for op, left, right in requirements:
        if op == "==" and right == 0 and isinstance(left, Mod):
            facts.add(*left.args)
    return facts


def _cross(a: sympy.Expr, b: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    """Numerator and denominator of `a / b` without cancelling across the two."""
    an, ad = sympy.fraction(a)
    bn, bd = sympy.fraction(b)
    return an * bd, ad * bn


def _multiple(a: sympy.Expr, b: sympy.Expr) -> bool:
    return a == b or exact_quotient(a, b) is not None


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A condition on symbols; it has no truth value while the description is traced."""

    condition: Condition

    def __bool__(self) -> NoReturn:
        op, left, right = self.condition
        raise DescriptionError(
            f"the truth of '{to_text(left)} {op} {to_text(right)}' is not known while the description is traced: "
            "name the arguments in @kernel(static=…) if Python should decide, or use k.when(…) for a guard in the kernel"
        )


class Expr:
    """An integer expression over sizes and loop indices."""

    __slots__ = ("expression", "facts")

    def __init__(self, expression: sympy.Expr, facts: Divisibility) -> None:
        self.expression = expression
        self.facts = facts

    def _make(self, function: Callable[[sympy.Expr, sympy.Expr], sympy.Expr], a: Integer, b: Integer) -> Expr:
        return Expr(function(to_sympy(a), to_sympy(b)), self.facts)

    def __add__(self, other: Integer) -> Expr:
        return self._make(lambda a, b: a + b, self, other)

    def __radd__(self, other: Integer) -> Expr:
        return self._make(lambda a, b: a + b, other, self)

    def __sub__(self, other: Integer) -> Expr:
        return self._make(lambda a, b: a - b, self, other)

    def __rsub__(self, other: Integer) -> Expr:
        return self._make(lambda a, b: a - b, other, self)

    def __mul__(self, other: Integer) -> Expr:
        return self._make(lambda a, b: a * b, self, other)

    def __rmul__(self, other: Integer) -> Expr:
        return self._make(lambda a, b: a * b, other, self)

    def __neg__(self) -> Expr:
        return Expr(-self.expression, self.facts)

    def __floordiv__(self, other: Integer) -> Expr:
        return self._make(self._floor_div, self, other)

    def __rfloordiv__(self, other: Integer) -> Expr:
        return self._make(self._floor_div, other, self)

    def __mod__(self, other: Integer) -> Expr:
        return self._make(self._mod, self, other)

    def __rmod__(self, other: Integer) -> Expr:
        return self._make(self._mod, other, self)

    def __xor__(self, other: Integer) -> Expr:
        return self._make(Xor, self, other)

    def __rxor__(self, other: Integer) -> Expr:
        return self._make(Xor, other, self)

    def _floor_div(self, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
        _positive(a, b)
        return quotient(a, b) if self.facts.divides(a, b) else FloorDiv(a, b)

    def _mod(self, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr:
        _positive(a, b)
        return sympy.Integer(0) if self.facts.divides(a, b) else Mod(a, b)

    def __truediv__(self, other: object) -> NoReturn:
        raise DescriptionError(
            f"'/' on {self}: indices and sizes are integers; write // (and k.require(a % b == 0) if it is exact)"
        )

    __rtruediv__ = __truediv__

    def __lt__(self, other: Integer) -> Comparison:
        return Comparison(("<", self.expression, to_sympy(other)))

    def __le__(self, other: Integer) -> Comparison:
        return Comparison(("<=", self.expression, to_sympy(other)))

    def __gt__(self, other: Integer) -> Comparison:
        return Comparison((">", self.expression, to_sympy(other)))

    def __ge__(self, other: Integer) -> Comparison:
        return Comparison((">=", self.expression, to_sympy(other)))

    def __eq__(self, other: object) -> Comparison:  # type: ignore[override]
        return Comparison(("==", self.expression, to_sympy(other)))

    def __ne__(self, other: object) -> Comparison:  # type: ignore[override]
        return Comparison(("!=", self.expression, to_sympy(other)))

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> NoReturn:
        raise DescriptionError(
            f"'{self}' has no truth value while the description is traced: compare it in k.when(…), "
            "or name it in @kernel(static=…) if Python should decide"
        )

    def __index__(self) -> NoReturn:
        raise DescriptionError(
            f"'{self}' is symbolic and cannot be used where Python needs a number (range, list index): "
            "use k.serial(…) for a loop, or name it in @kernel(static=…)"
        )

    def __repr__(self) -> str:
        return to_text(self.expression)


Integer = Expr | int


def _positive(a: sympy.Expr, b: sympy.Expr) -> None:
    if b.is_number and int(b) < 1:
        raise DescriptionError(f"{to_text(a)} is divided by {b}; expected a divisor of at least 1")


def to_sympy(value: object) -> sympy.Expr:
    """The sympy expression of an `Expr` or int.

    Raises:
        DescriptionError: anything else (floats, strings, arrays).
    """
    if isinstance(value, Expr):
        return value.expression
    if isinstance(value, numbers.Integral):
        return sympy.Integer(int(value))
    raise DescriptionError(f"expected an integer or an expression of sizes and indices, got {value!r} ({type(value).__name__})")


def _binary(exact: type[sympy.Function], a: Integer, b: Integer) -> Expr:
    facts = a.facts if isinstance(a, Expr) else b.facts if isinstance(b, Expr) else Divisibility()
    left, right = to_sympy(a), to_sympy(b)
    if exact is CeilDiv:
        _positive(left, right)
    if exact is CeilDiv and facts.divides(left, right):
        return Expr(quotient(left, right), facts)
    return Expr(exact(left, right), facts)


def ceil_div(a: Integer, b: Integer) -> Expr:
    """`a` divided by `b`, rounded up."""
    return _binary(CeilDiv, a, b)


def minimum(a: Integer, b: Integer) -> Expr:
    """The smaller of the two."""
    return _binary(Minimum, a, b)


def maximum(a: Integer, b: Integer) -> Expr:
    """The larger of the two."""
    return _binary(Maximum, a, b)
