"""Integers in tinygrad's programs: numbers, and expressions of block, thread and loop indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from costmodel.errors import UnsupportedError
from costmodel.frontends.tinygrad.uops import name_of

__all__ = ["Values"]


class Values:
    """What is known of integers while a program is described."""

    def __init__(self) -> None:
        self.known: dict[Any, Any] = {}

    def number(self, u: Any) -> int:
        """A size.

        Raises:
            UnsupportedError: it is an expression.
        """
        value = self.value(u)
        if not isinstance(value, int):
            raise UnsupportedError(f"tinygrad: a size {value} that is not a number; bind the variable before compiling")
        return value

    def value(self, u: Any) -> Any:
        """An integer, or an expression of indices.

        Raises:
            UnsupportedError: it depends on data, or on an operation that is not understood.
        """
        if u not in self.known:
            self.known[u] = self._computed(u)
        return self.known[u]

    def _computed(self, u: Any) -> Any:
        op = name_of(u)
        if op == "CONST":
            return int(u.arg)
        if op in ("CAST", "AFTER"):
            return self.value(u.src[0])
        if op in _ARITHMETIC:
            return _ARITHMETIC[op](*(self.value(s) for s in u.src))
        raise UnsupportedError(f"tinygrad: an address depends on {op}, which is not understood; only indices and numbers are")

    def conditions(self, u: Any) -> list[Any]:
        """Comparisons that all have to hold.

        Raises:
            UnsupportedError: they are joined or compared in another way.
        """
        op = name_of(u)
        if op == "AND":
            return [c for source in u.src for c in self.conditions(source)]
        if op in _COMPARISONS:
            return [_COMPARISONS[op](*(self.value(s) for s in u.src))]
        raise UnsupportedError(f"tinygrad: a condition by {op} is not understood; expected comparisons of indices")


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "ADD": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "MUL": lambda a, b: a * b,
    "NEG": lambda a: -a,
    "SHL": lambda a, b: a * 2**b,
    "SHR": lambda a, b: a // 2**b,
    "XOR": lambda a, b: a ^ b,
    **dict.fromkeys(("IDIV", "CDIV", "FLOORDIV"), lambda a, b: a // b),
    **dict.fromkeys(("MOD", "CMOD", "FLOORMOD"), lambda a, b: a % b),
    "AND": lambda a, b: _masked(a, b),
}
_COMPARISONS: dict[str, Callable[..., Any]] = {
    "CMPLT": lambda a, b: a < b,
    "CMPEQ": lambda a, b: a == b,
    "CMPNE": lambda a, b: a != b,
}


def _masked(value: Any, mask: Any) -> Any:
    """A remainder, where the mask is all ones."""
    if isinstance(mask, int) and mask & (mask + 1) == 0:
        return value % (mask + 1)
    raise UnsupportedError(f"tinygrad: an address masked with {mask} is not understood; expected a power of two less one")
