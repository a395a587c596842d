"""From expressions to straight-line Python.

The same program runs on ints (exact, any size), on int64 columns, or on float64 columns (for totals that
overflow 63 bits). Equal subexpressions are computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import sympy

from costmodel.errors import UnsupportedError
from costmodel.symbols.algebra import CeilDiv, Distinct, FloorDiv, Maximum, Minimum, Mod, Passing, Xor
from costmodel.symbols.points import distinct_values, passing_points

__all__ = ["Program", "compile_program"]

Program = Callable[[Mapping[str, Any]], list[Any]]
"""Takes a mapping from symbol name to int or array, returns the values in order."""

_RUNTIME: dict[str, Any] = {
    "__builtins__": {},
    "_min": lambda a, b: min(a, b) if isinstance(a, int) and isinstance(b, int) else np.minimum(a, b),
    "_max": lambda a, b: max(a, b) if isinstance(a, int) and isinstance(b, int) else np.maximum(a, b),
    "_passing": passing_points,
    "_distinct": lambda *a: distinct_values(a[::2], a[1::2])[0],
}


class _Emitter:
    """Turns expressions into three-address code, each distinct subexpression once."""

    def __init__(self, wide: frozenset[str]) -> None:
        self.wide = wide
        self.lines: list[str] = []
        self.names: dict[sympy.Basic, str] = {}
        self.inputs: dict[str, str] = {}

    def define(self, key: sympy.Basic, code: str) -> str:
        name = self.names[key] = f"t{len(self.names)}"
        self.lines.append(f"    {name} = {code}")
        return name

    def emit(self, e: sympy.Basic) -> str:
        if e in self.names:
            return self.names[e]
        if e.is_Integer:
            return f"({int(e)})" if int(e) < 0 else str(int(e))
        if e.is_Symbol:
            self.inputs[e.name] = name = self.names[e] = f"v{len(self.inputs)}"
            return name
        if e.is_Add:
            return self.define(e, self._sum(e))
        if e.is_Mul or (e.is_Pow and e.exp.is_Integer and int(e.exp) < 0):
            return self.define(e, self._product(e))
        if e.is_Pow and e.exp.is_Integer and int(e.exp) > 0:
            return self.define(e, " * ".join([self.emit(e.base)] * int(e.exp)))
        if isinstance(e, FloorDiv):
            return self.define(e, f"{self.emit(e.args[0])} // {self.emit(e.args[1])}")
        if isinstance(e, CeilDiv):
            return self.define(e, f"-(-{self.emit(e.args[0])} // {self.emit(e.args[1])})")
        if isinstance(e, Mod):
            return self.define(e, f"{self.emit(e.args[0])} % {self.emit(e.args[1])}")
        if isinstance(e, Xor):
            return self.define(e, f"{self.emit(e.args[0])} ^ {self.emit(e.args[1])}")
        for kind, function in ((Minimum, "_min"), (Maximum, "_max"), (Distinct, "_distinct"), (Passing, "_passing")):
            if isinstance(e, kind):
                return self.define(e, f"{function}({', '.join(self.emit(a) for a in e.args)})")
        raise UnsupportedError(f"cannot compile {e!r}: expected integer arithmetic with + - * // % min max")

    def _is_wide(self, e: sympy.Basic) -> bool:
        return bool(self.wide) and any(s.name in self.wide for s in e.free_symbols)

    def _product(self, e: sympy.Basic) -> str:
        above, below = [], []
        for f in sorted(sympy.Mul.make_args(e), key=self._is_wide):
            if f.is_Rational and not f.is_Integer:
                above += [sympy.Integer(f.p)] if f.p != 1 else []
                below.append(sympy.Integer(f.q))
            elif f.is_Pow and f.exp.is_Integer and int(f.exp) < 0:
                below += [f.base] * -int(f.exp)
            else:
                above.append(f)
        code = " * ".join(self.emit(f) for f in above) or "1"
        return f"({code}) // ({' * '.join(self.emit(f) for f in below)})" if below else code

    def _sum(self, e: sympy.Basic) -> str:
        """A sum, over the common denominator: the sum is whole, its terms need not be."""
        terms = sorted(sympy.Add.make_args(e), key=self._is_wide)
        common = sympy.Integer(math.lcm(*(int(t.as_coeff_Mul()[0].q) for t in terms)))
        powers: dict[sympy.Basic, int] = {}
        for term in terms:
            for f in sympy.Mul.make_args(term):
                if f.is_Pow and f.exp.is_Integer and int(f.exp) < 0:
                    powers[f.base] = max(powers.get(f.base, 0), -int(f.exp))
        common = common * sympy.Mul(*(base**n for base, n in powers.items()))
        if common == 1:
            return " + ".join(self.emit(t) for t in terms)
        return f"({' + '.join(self.emit(t * common) for t in terms)}) // {self.emit(common)}"


def compile_program(expressions: Iterable[sympy.Expr], wide: frozenset[str] = frozenset()) -> Program:
    """Compile integer expressions into one function with shared subexpressions.

    The function evaluates on Python ints exactly, and element by element on int64 or float64 arrays
    (whole numbers up to 2**53 stay exact in float64). Symbols named in `wide` stand for larger arrays than the others:
    they come last in sums and products.

    Example:
        >>> from costmodel.symbols import size
        >>> M, B = size("M"), size("B")
        >>> compile_program([CeilDiv(M, B), M * B])({"M": 2**60 + 1, "B": 2})
        [576460752303423489, 2305843009213693954]
    """
    emitter = _Emitter(wide)
    results = [emitter.emit(sympy.sympify(e)) for e in expressions]
    reads = [f"    {code} = c[{name!r}]" for name, code in emitter.inputs.items()]
    source = "\n".join(["def program(c):", *reads, *emitter.lines, f"    return [{', '.join(results)}]"])
    scope = dict(_RUNTIME)
    exec(compile(source, "<costmodel expression>", "exec"), scope)  # generated from vetted nodes only
    program: Program = scope["program"]
    return program
