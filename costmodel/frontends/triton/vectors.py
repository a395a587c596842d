"""How many elements one instruction of a thread moves: what Triton's own analysis of axes lets it widen an access to.

A group of `w` registers side by side may become one access where the address of the first is a multiple of `w` elements, the
others follow, and the mask says the same for all of them. Source: Triton, `lib/Analysis/AxisInfo.cpp`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from costmodel.frontends.triton.events import Condition, Touch
from costmodel.frontends.triton.layouts import Layout
from costmodel.frontends.triton.polynomials import Algebra, Polynomial, coordinate

__all__ = ["vector"]

WIDEST_BYTES = 16


def vector(algebra: Algebra, touch: Touch, layout: Layout, itemsize: int, aligned: Mapping[str, int]) -> tuple[int, int]:
    """`(dimension, width)` of the widest access.

    Args:
        algebra: of the expressions.
        touch: the access.
        layout: of its tensor.
        itemsize: bytes of an element.
        aligned: known divisor of each array's address in bytes.
    """
    best = (max(len(touch.tensor.shape) - 1, 0), 1)
    for d, extent in enumerate(touch.tensor.shape):
        atom = f"{coordinate(d)}:{extent}"
        width = min(layout.side_by_side(d), max(WIDEST_BYTES // itemsize, 1))
        width = min(width, _power_of_two(aligned.get(touch.buffer, 1) // itemsize or 1))
        width = min(width, aligned_run(algebra, touch.offset, atom))
        for condition in touch.conditions:
            width = min(width, _even_for(algebra, condition, atom))
        if width > best[1]:
            best = (d, width)
    return best


def _power_of_two(n: int) -> int:
    """The largest power of two that divides a number; a large one for 0."""
    return n & -n if n else 1 << 30


def aligned_run(algebra: Algebra, p: Polynomial, atom: str) -> int:
    """Consecutive values along a coordinate, in groups that start at multiples of their length."""
    run, rest = 1 << 30, Polynomial.of(0)
    leading = False
    for m, c in p.terms.items():
        term = Polynomial({m: c})
        if atom not in algebra.every_atom(term):
            rest = rest + term
        elif m == (atom,) and c == 1 and not leading:
            leading = True
        elif len(m) == 1 and c == 1 and not leading and m[0] in algebra.calls:
            leading, run = True, min(run, _run_of_call(algebra, m[0], atom))
        else:
            return 1
    return min(run, _power_of_two(algebra.divisor(rest))) if leading else 1


def _run_of_call(algebra: Algebra, name: str, atom: str) -> int:
    kind, a, b = algebra.calls[name]
    if kind != "mod" or atom in algebra.every_atom(b):
        return 1
    return math.gcd(aligned_run(algebra, a, atom), _power_of_two(algebra.divisor(b)))


def _even_for(algebra: Algebra, condition: Condition, atom: str) -> int:
    """Elements along a coordinate for which a condition holds together, in aligned groups."""
    op, a, b = condition
    left, right = atom in algebra.every_atom(a), atom in algebra.every_atom(b)
    if not left and not right:
        return 1 << 30
    if left and not right and op in ("<", ">="):
        return min(aligned_run(algebra, a, atom), _power_of_two(algebra.divisor(b)))
    if right and not left and op in (">", "<="):
        return min(aligned_run(algebra, b, atom), _power_of_two(algebra.divisor(a)))
    return 1
