"""Integer expressions of a description, evaluated on arrays: `tests/emulate.py` has an index for each thread of a block."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from costmodel.symbols import CeilDiv, FloorDiv, Maximum, Minimum, Mod, Xor, to_text

__all__ = ["Env", "Expressions", "evaluated"]

Env = dict[str, Any]
"""Indices by name: numbers, or arrays of them."""


def evaluated(e: Any, sizes: Mapping[str, int], env: Env) -> Any:
    """An expression at these sizes and indices; arrays of indices make arrays."""
    return Expressions(sizes).whole(e, env)


class Expressions:
    """Integer expressions of one kernel at fixed sizes, as functions of the environment: a numerator over a fixed denominator."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.known: dict[Any, tuple[Callable[[Env], Any], int]] = {}

    def whole(self, e: Any, env: Env) -> Any:
        """The value, which must be an integer."""
        top, bottom = self.compiled(e)
        value = top(env)
        if bottom == 1:
            return value
        if np.any(value % bottom):
            raise ArithmeticError(f"{to_text(e)} is not an integer at {env}")
        return value // bottom

    def holds(self, condition: tuple[str, Any, Any], env: Env) -> Any:
        op, left, right = condition
        (a, below_a), (b, below_b) = self.compiled(left), self.compiled(right)
        x, y = a(env) * below_b, b(env) * below_a
        return {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y, "==": x == y, "!=": x != y}[op]

    def compiled(self, e: Any) -> tuple[Callable[[Env], Any], int]:
        if e not in self.known:
            self.known[e] = self._compile(e)
        return self.known[e]

    def _compile(self, e: Any) -> tuple[Callable[[Env], Any], int]:
        if e.is_Rational:
            constant = int(e.p)
            return (lambda env: constant), int(e.q)
        if e.is_Symbol:
            name = str(e)
            if name in self.sizes:
                size = int(self.sizes[name])
                return (lambda env: size), 1
            return (lambda env: env[name]), 1
        parts = [self.compiled(a) for a in e.args]
        if e.is_Add:
            below = math.lcm(*(d for _, d in parts))
            terms = [(f, below // d) for f, d in parts]
            return (lambda env: sum(f(env) * scale for f, scale in terms)), below
        if e.is_Mul:
            factors = [f for f, _ in parts]
            return (lambda env: math.prod(f(env) for f in factors)), math.prod(d for _, d in parts)
        (a, below_a), (b, below_b) = parts
        if e.is_Pow:
            power = int(e.exp)
            if power >= 0:
                return (lambda env: a(env) ** power), below_a**power
            inverse, above = below_a**-power, int(a({})) ** -power  # of sizes alone: an index in a divisor is a KeyError
            return (lambda env: inverse), above
        return self._function(e, a, below_a, b, below_b)

    @staticmethod
    def _function(
        e: Any, a: Callable[[Env], Any], below_a: int, b: Callable[[Env], Any], below_b: int
    ) -> tuple[Callable[[Env], Any], int]:
        """Both operands over one denominator, which division forgets and the others keep."""
        below = below_a * below_b

        def x(env: Env) -> Any:
            return a(env) * below_b

        def y(env: Env) -> Any:
            return b(env) * below_a

        functions: dict[Any, tuple[Callable[[Env], Any], int]] = {
            FloorDiv: (lambda env: x(env) // y(env), 1),
            CeilDiv: (lambda env: -(-x(env) // y(env)), 1),
            Mod: (lambda env: x(env) % y(env), below),
            Minimum: (lambda env: np.minimum(x(env), y(env)), below),
            Maximum: (lambda env: np.maximum(x(env), y(env)), below),
            Xor: (lambda env: (x(env) // below) ^ (y(env) // below), 1),
        }
        if type(e) not in functions:
            raise TypeError(f"the emulator cannot evaluate {e!r}")
        return functions[type(e)]
