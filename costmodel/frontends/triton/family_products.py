"""Columns of numbers as products of as few sizes as do.

Strides and extents of the tensors of one kernel are products of each other; a footprint is told exactly where that shows. So the
smallest numbers that differ become sizes, and larger ones products of them and a constant, as far as that is so in every row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import sympy

from costmodel.symbols import size

__all__ = ["Products", "expressed"]

Column = tuple[int, ...]
_MOST_FACTORS = 4


@dataclass(slots=True)
class Products:
    """Sizes, and the columns as products of them."""

    sizes: dict[str, Column] = field(default_factory=dict)
    expressions: dict[Column, sympy.Expr] = field(default_factory=dict)

    def reciprocal(self) -> Column | None:
        """A size that shrinks as another grows: their product is the same in every row, and no expression shows it."""
        for a, b in itertools.combinations(self.sizes.values(), 2):
            if len({x * y for x, y in zip(a, b, strict=True)}) == 1:
                return min(a, b, key=lambda c: len(set(c)))
        return None


def expressed(columns: Iterable[Column], named: Callable[[Column], str]) -> Products:
    """Write columns as products.

    Args:
        columns: of whole numbers, all positive or all zero.
        named: a new name for a column that becomes a size.
    """
    found = Products()
    bases: list[tuple[sympy.Symbol, Column]] = []
    for column in sorted(columns, key=lambda c: (sum(c), c)):
        if len(set(column)) == 1:
            found.expressions[column] = sympy.Integer(column[0])
            continue
        product = _product(column, bases)
        if product is None:
            name = named(column)
            found.sizes[name] = column
            product = size(name)
            bases.append((size(name), column))
        found.expressions[column] = product
    return found


def _product(column: Column, bases: Sequence[tuple[sympy.Symbol, Column]]) -> sympy.Expr | None:
    """A constant times the fewest of the bases that give this column."""
    for count in range(1, _MOST_FACTORS + 1):
        for chosen in itertools.combinations_with_replacement(bases, count):
            product = [math.prod(c[row] for _, c in chosen) for row in range(len(column))]
            times, rest = divmod(column[0], product[0])
            if not rest and all(v == times * p for v, p in zip(column, product, strict=True)):
                return times * sympy.Mul(*(s for s, _ in chosen))
    return None
