"""Sums over loop indices."""

from __future__ import annotations

import sympy

from costmodel.errors import UnsupportedError
from costmodel.symbols.algebra import expanded
from costmodel.symbols.text import to_text

__all__ = ["sum_over"]


def sum_over(expression: sympy.Expr, variable: sympy.Symbol, extent: sympy.Expr) -> sympy.Expr:
    """`Σ expression` for `variable = 0 … extent - 1`.

    Raises:
        UnsupportedError: the expression is not a polynomial in the variable.
    """
    if variable not in expression.free_symbols:
        return expression * extent
    poly = expanded(expression)
    if not poly.is_polynomial(variable):
        raise UnsupportedError(
            f"cannot sum {to_text(expression)} over {variable}: an extent that depends on an outer loop must be a "
            f"polynomial in it (i + 1, n - i); expected no division or minimum; split the loop or give the count as a size"
        )
    return expanded(sympy.summation(poly, (variable, 0, extent - 1)))
