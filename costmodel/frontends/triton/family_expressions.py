"""An expression taken apart: its text without numbers, the numbers, and what puts it together again from other numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import sympy

from costmodel.errors import UnsupportedError

__all__ = ["Opened", "opened", "sign"]

_Put = Callable[[Iterator[sympy.Expr]], sympy.Expr]


@dataclass(frozen=True, slots=True)
class Opened:
    """An expression without its numbers, and they."""

    text: str
    values: tuple[int, ...]
    put: _Put
    """Takes as many numbers as there are in `values`, and gives the expression of them."""


@lru_cache(maxsize=1 << 14)
def opened(e: sympy.Expr, fixed: bool) -> Opened:
    """A sum of products with a number each, and a number beside them.

    Args:
        e: the expression.
        fixed: whether the numbers that take thread indices apart are part of the text.
    """
    constant, terms = 0, list[tuple[str, tuple[int, ...], _Put]]()
    for term in sympy.Add.make_args(e):
        if term.is_Integer:
            constant += int(term)
            continue
        coefficient, rest = term.as_coeff_Mul()
        if not coefficient.is_Integer:
            raise UnsupportedError(f"expression {e}: {coefficient} is not a whole number")
        factors = sorted((_factor(f, fixed) for f in sympy.Mul.make_args(rest)), key=lambda f: (f.text, f.values))
        values = (int(coefficient), *(v for f in factors for v in f.values))
        text = sign(int(coefficient)) + "*".join(f.text for f in factors)
        terms.append((text, values, _product([f.put for f in factors])))
    terms.sort(key=lambda t: t[:2])

    def put(rest: Iterator[sympy.Expr]) -> sympy.Expr:
        parts = [p(rest) for _, _, p in terms]
        return sympy.Add(*parts, next(rest))

    text = f"({'+'.join(t for t, _, _ in terms)}{sign(constant)})"
    return Opened(text, (*(v for _, vs, _ in terms for v in vs), constant), put)


def _product(factors: list[_Put]) -> _Put:
    def put(rest: Iterator[sympy.Expr]) -> sympy.Expr:
        coefficient = next(rest)
        return sympy.Mul(coefficient, *(f(rest) for f in factors))

    return put


def _factor(f: sympy.Expr, fixed: bool) -> Opened:
    if f.is_Symbol:
        return Opened(f.name, (), lambda _: f)
    if f.is_Pow:
        base, power = _factor(f.base, fixed), f.exp
        return Opened(f"{base.text}^{power}", base.values, lambda rest: base.put(rest) ** power)
    if f.is_Add:
        return opened(f, fixed)
    if fixed and f.free_symbols and all(s.name.startswith("thread_") for s in f.free_symbols):
        return Opened(f"{{{f}}}", (), lambda _: f)
    parts = [opened(a, fixed) for a in f.args]
    text = f"{type(f).__name__}[{','.join(p.text for p in parts)}]"
    return Opened(text, tuple(v for p in parts for v in p.values), lambda rest: f.func(*(p.put(rest) for p in parts)))


def sign(n: int) -> str:
    """Of a number, as it stands in texts."""
    return "+" if n > 0 else "-" if n < 0 else "0"
