"""Expressions over sizes and loop indices as C: what is known at compile time is a number, the rest a variable."""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from costmodel.errors import UnsupportedError
from costmodel.symbols import CeilDiv, Condition, FloorDiv, Maximum, Minimum, Mod, Xor, size, to_text

__all__ = ["Names"]

_CALLS = {
    FloorDiv: "({0} / {1})",
    CeilDiv: "(({0} + {1} - 1) / {1})",
    Mod: "({0} % {1})",
    Minimum: "min({0}, {1})",
    Maximum: "max({0}, {1})",
    Xor: "({0} ^ {1})",
}


class Names:
    """Prints expressions: `constants` as numbers, other sizes as `n_…`, loop indices as `i_…`.

    Dividends are taken to be non-negative, as a description's indices are.
    """

    def __init__(self, kernel: str, sizes: Mapping[str, int], runtime: frozenset[str]) -> None:
        self.kernel = kernel
        self.runtime = runtime
        self._sizes = {size(n): sympy.Integer(v) for n, v in sizes.items()}
        self._fixed = {size(n): sympy.Integer(v) for n, v in sizes.items() if n not in runtime}
        self._runtime = {size(n) for n in runtime}

    def number(self, expression: sympy.Expr, what: str) -> int:
        """The value of an expression that knows no loop index.

        Raises:
            UnsupportedError: it depends on one.
        """
        value = expression.xreplace(self._sizes)
        if not value.is_Integer:
            raise UnsupportedError(f"kernel {self.kernel}: {what} is {to_text(expression)}; expected a number that sizes give")
        return int(value)

    def text(self, expression: sympy.Expr, wide: bool = False) -> str:
        """C text; `wide` computes in 64 bits."""
        return self._c(expression.xreplace(self._fixed), "(long long)" if wide else "")

    def condition(self, condition: Condition) -> str:
        """A comparison."""
        op, left, right = condition
        return f"{self.text(left)} {op} {self.text(right)}"

    def _c(self, e: sympy.Expr, cast: str) -> str:
        if e.is_Integer:
            return str(e)
        if e.is_Symbol:
            return f"{cast}{'n_' if e in self._runtime else 'i_'}{e.name}"
        if type(e) in _CALLS:
            return _CALLS[type(e)].format(*(self._c(a, cast) for a in e.args))
        top, bottom = sympy.fraction(sympy.together(e))
        if bottom != 1:
            return f"({self._c(top, cast)} / {self._c(bottom, cast)})"
        if e.is_Pow and e.exp.is_Integer and 0 < int(e.exp) <= 8:
            return "(" + " * ".join([self._c(e.base, cast)] * int(e.exp)) + ")"
        if e.is_Add or e.is_Mul:
            terms = sorted(e.args, key=lambda a: (bool(a.is_number), sympy.default_sort_key(a)))
            return "(" + (" + " if e.is_Add else " * ").join(self._c(a, cast) for a in terms) + ")"
        raise UnsupportedError(f"kernel {self.kernel}: {to_text(e)} cannot be written in CUDA")
