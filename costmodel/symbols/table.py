"""Many expressions as one table in which each distinct part stands once: read back a hundred times faster than text.

A row is a whole number, or a tag with the numbers of earlier rows. Sums and products are put together as they were written, with
nothing simplified or sorted again: a table is for the reader who wrote it, with the same sympy. Nothing in it is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sympy

from costmodel.errors import DescriptionError
from costmodel.symbols.algebra import CeilDiv, FloorDiv, Maximum, Minimum, Mod, Xor, index, size

__all__ = ["Table", "read_table"]

_FUNCTIONS: dict[str, Any] = {"floor": FloorDiv, "ceil": CeilDiv, "mod": Mod, "min": Minimum, "max": Maximum, "xor": Xor}
_TAGS = {**{function: tag for tag, function in _FUNCTIONS.items()}, sympy.Pow: "power"}
_SUMS: dict[str, Any] = {"+": sympy.Add, "*": sympy.Mul}
_NAMED = {"size": size, "index": index}


class Table:
    """Rows of expressions, filled one expression after the other."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._places: dict[sympy.Basic, int] = {}

    def put(self, e: sympy.Basic) -> int:
        """The row of an expression.

        Raises:
            DescriptionError: it is not made of sizes, indices and integer functions.
        """
        if e not in self._places:
            row = self._row(e)
            self._places[e] = len(self.rows)
            self.rows.append(row)
        return self._places[e]

    def put_all(self, expressions: Iterable[sympy.Basic]) -> list[int]:
        """The rows of several."""
        return [self.put(e) for e in expressions]

    def _row(self, e: sympy.Basic) -> Any:
        if isinstance(e, sympy.Integer):
            return int(e)
        if isinstance(e, sympy.Symbol):
            for kind, made in _NAMED.items():
                if made(e.name) == e:
                    return [kind, e.name]
        if isinstance(e, sympy.Rational):
            return ["/", int(e.p), int(e.q)]
        tag = "+" if e.is_Add else "*" if e.is_Mul else _TAGS.get(type(e))
        if tag is None:
            raise DescriptionError(f"expression {str(e)[:80]}: expected sizes, indices and integer functions of them")
        return [tag, *self.put_all(e.args)]


def read_table(rows: Sequence[Any]) -> list[sympy.Expr]:
    """The expressions of a table's rows.

    Raises:
        LookupError, TypeError or ValueError: it is no table.
    """
    found: list[sympy.Expr] = []
    for row in rows:
        if isinstance(row, int):
            found.append(sympy.Integer(row))
            continue
        tag, *rest = row
        if tag in _NAMED:
            found.append(_NAMED[tag](str(rest[0])))
        elif tag == "/":
            found.append(sympy.Rational(int(rest[0]), int(rest[1])))
        elif tag == "power":
            found.append(sympy.Pow(found[rest[0]], found[rest[1]]))
        elif tag in _SUMS:
            found.append(_SUMS[tag]._from_args([found[n] for n in rest], is_commutative=True))
        else:
            found.append(sympy.Expr.__new__(_FUNCTIONS[tag], found[rest[0]], found[rest[1]]))
    return found
