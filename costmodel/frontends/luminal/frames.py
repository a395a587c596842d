"""Where a term stands: the loops around it, and what can be said of a term without writing a kernel."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

import sympy

from costmodel.dtypes import DType
from costmodel.frontends.luminal.scopes import Memory, Scope
from costmodel.frontends.luminal.strides import expression, is_accumulator, reach
from costmodel.frontends.luminal.terms import Term
from costmodel.symbols import index, is_identifier, to_text

__all__ = [
    "Frame",
    "Frames",
    "Levels",
    "Part",
    "accumulated",
    "free_name",
    "identifier",
    "loop_extent",
    "output_elements",
    "synchronises",
    "trips",
    "unfused",
]


@dataclass(frozen=True, slots=True)
class Levels:
    """How many loops, from outside, are dimensions of the grid and of a block; luminal's element types."""

    grid: int
    block: int
    matrix: DType
    """That matrix instructions multiply."""

    @property
    def parallel(self) -> int:
        """Loops that no thread runs."""
        return self.grid + self.block


@dataclass(frozen=True, slots=True)
class Part:
    """What becomes a kernel of its own: a term, and the loops around it."""

    term: Term
    around: tuple[sympy.Expr, ...]
    """Extents of the loops that the term stands in."""


@dataclass(eq=False, slots=True)
class Frame:
    """A loop around the term that is being read."""

    index: sympy.Symbol
    extent: sympy.Expr
    scope: Scope
    """Its body, or the thread's where the loop is one of the grid or the block."""
    out: Term | None = None
    """The `LoopOut` that opened it."""
    accumulator: Memory | None = None
    source: Term | None = None
    """The `LoopIn` whose place the accumulator takes."""


Frames = tuple[Frame, ...]
"""From the outermost loop inwards."""


def unfused(term: Term) -> Term:
    """The term, without the marks of loops that have been fused away."""
    while term.op == "FusedLoops":
        term = term.child(0)
    return term


def loop_extent(term: Term) -> sympy.Expr:
    """Iterations of the loop that a `LoopIn` or `LoopOut` names."""
    return trips(term.child(1), 1)


def trips(term: Term, n: int) -> sympy.Expr:
    """Iterations of a loop, which an argument of a term says.

    Raises:
        UnsupportedError: they are none.
    """
    extent = expression(term.child(n), None, {})
    if extent.is_nonpositive:
        term.refuse(f"its extent is {to_text(extent)}; expected at least 1")
    return extent


def output_elements(term: Term) -> sympy.Expr:
    """Elements of the array that a chain of `LoopOut` writes."""
    last, level = sympy.Integer(0), 0
    while (term := unfused(term)).op == "LoopOut":
        if not is_accumulator(term.child(2)):
            loop = index(f"level_{level}")
            extents = {loop: loop_extent(term)}
            last += reach(expression(term.child(2), loop, extents), extents)[1]
        term, level = term.child(0), level + 1
    return last + 1


def _inside(body: Term) -> Iterator[tuple[Term, int]]:
    """Terms inside a loop with the number of loops between, and the `LoopIn` that enter it, as 0."""
    seen: set[tuple[Term, int]] = set()
    queue = [(body, 1)]
    for term, level in queue:
        if (term, level) in seen:
            continue
        seen.add((term, level))
        inner = level + 1 if term.op == "LoopOut" else level - 1 if term.op == "LoopIn" else level
        yield term, min(inner, level)
        if inner >= 1:
            queue += [(a, inner) for a in term.args if isinstance(a, Term)]


def accumulated(body: Term, marker: str) -> list[Term]:
    """The `LoopIn` that bring an accumulator into the loop with this body."""
    entering = (t for t, level in _inside(body) if t.op == "LoopIn" and level == 0)
    return [t for t in entering if is_accumulator(t.child(2)) and t.child(2).text() == marker]


def synchronises(body: Term) -> bool:
    """Whether there is a barrier in the loop with this body."""
    return any(t.op in ("SMEMLoad", "SMEMRead", "TCMatmul") for t, _ in _inside(body))


def identifier(label: str, otherwise: str) -> str:
    """A label as a name: other characters become underscores, and one that begins with a digit is prefixed."""
    name = "".join(c if c.isalnum() and c.isascii() else "_" for c in label)
    return name if is_identifier(name) else f"{otherwise}_{name}"


def free_name(wanted: str, taken: Container[str]) -> str:
    """The name, or with a number where it is taken."""
    name, n = wanted, 1
    while name in taken:
        name, n = f"{wanted}_{n}", n + 1
    return name
