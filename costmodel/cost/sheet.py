"""Formulas that are evaluated together, and the conditions a configuration must meet before any is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy

from costmodel.counts.affine import HasExtent, affine_terms, delinearised
from costmodel.counts.lanes import WIDEST_BYTES
from costmodel.ir import Access, Kernel, Site, Statement, facts_of
from costmodel.ir.checks import describe
from costmodel.symbols import Condition, Maximum, Minimum, Mod, Program, compile_program

__all__ = ["Checks", "Sheet", "make_checks", "three", "triangular"]


class Sheet:
    """Collects expressions; evaluates all of them at once."""

    def __init__(self) -> None:
        self.expressions: list[sympy.Expr] = []
        self.program: Program | None = None

    def add(self, expression: sympy.Expr) -> int:
        """Take an expression in; the result is its handle."""
        self.expressions.append(sympy.sympify(expression))
        return len(self.expressions) - 1

    def values(self, columns: Mapping[str, Any]) -> list[Any]:
        """Values of all expressions, by handle."""
        if self.program is None:
            self.program = compile_program(self.expressions)
        return self.program(columns)

    def floats(self, whole: list[Any], columns: Mapping[str, Any]) -> list[Any]:
        """The same in float64, where totals may exceed 63 bits: numbers where all columns are, else numbers and arrays."""
        if not any(np.ndim(c) for c in columns.values()):
            try:
                return [float(x) for x in whole]
            except OverflowError:  # which no float64 of numpy's raises
                return self.values({n: np.float64(c) for n, c in columns.items()})
        return self.values({n: np.asarray(c, np.float64) if np.ndim(c) else float(c) for n, c in columns.items()})


@dataclass(frozen=True, slots=True)
class Checks:
    """What must hold before anything is counted; handles into a sheet of its own."""

    sheet: Sheet
    requirements: tuple[tuple[Condition, int, int], ...]
    extents: tuple[tuple[str, int], ...]
    """Name and handle of what must be at least 1: loop extents and vector widths."""
    amounts: tuple[tuple[str, int], ...]
    """Name and handle of work of which the formula leaves open whether it is at least 0."""
    block: tuple[int, int, int]
    grid: tuple[int, int, int]
    static_shared_bytes: int
    dynamic_shared_bytes: int
    constant_bytes: int
    global_bytes: int
    reaches: tuple[Reach, ...]


def make_checks(kernel: Kernel) -> Checks:
    """The checks of a kernel."""
    sheet = Sheet()
    indices = {loop.index for loop in kernel.loops()}

    def total(space: str, dynamic: bool | None = None) -> sympy.Expr:
        chosen = (b for b in kernel.buffers if b.space == space and dynamic in (None, b.dynamic))
        return sum((b.reserved_bytes for b in chosen), sympy.Integer(0))

    extents = [(f"the extent of loop {o.index}", o.extent) for o in kernel.loops() if not o.extent.free_symbols & indices]
    for site in kernel.statements():
        for a in (*site.statement.loads, *site.statement.stores):
            if a.width != 1:
                extents.append((f"the width of {a.buffer.name}[…] in {site.statement.name!r}", a.width))
    amounts = [
        (f"the amount of {w.kind} in {site.statement.name!r}", w.amount)
        for site in kernel.statements()
        for w in site.statement.work
        if not w.amount.is_nonnegative
    ]
    return Checks(
        sheet,
        tuple((c, sheet.add(c[1]), sheet.add(c[2])) for c in kernel.requirements),
        tuple((text, sheet.add(e)) for text, e in dict.fromkeys(extents)),
        tuple((text, sheet.add(e)) for text, e in dict.fromkeys(amounts)),
        three(sheet, kernel.block_shape()),
        three(sheet, kernel.launch_shape()),
        sheet.add(total("shared", dynamic=False) if kernel.shared_bytes is None else sympy.Integer(0)),
        sheet.add(total("shared", dynamic=True) if kernel.shared_bytes is None else kernel.shared_bytes),
        sheet.add(total("constant")),
        sheet.add(total("global")),
        tuple(_reaches(kernel, sheet)),
    )


_program = lru_cache(compile_program)
_LONGEST_SHOWN = 60
"""Characters of an access in a message."""


@dataclass(frozen=True, slots=True)
class Pace:
    """A part of an index: where it starts, or how far a loop moves it."""

    verb: str
    times: sympy.Expr
    """The loop's extent; it does not matter where that is 1."""
    elements: sympy.Expr


@dataclass(frozen=True, slots=True)
class Reach:
    """Where one dimension of an unguarded access reaches; handles."""

    statement: str
    access: Access
    dimension: int
    smallest: int
    largest: int
    extent: int
    misaligned: int | None
    """0 where every position of a wide access is a multiple of its width."""
    paces: tuple[Pace, ...]
    unit: sympy.Expr
    """Elements of one instruction, of which all paces of a wide access have to be multiples."""

    @property
    def text(self) -> str:
        """For messages: `index 0 of A[i, j] in 'load'`, and `A[…]` where that is long."""
        access = describe(self.access)
        shown = access if len(access) <= _LONGEST_SHOWN else f"{self.access.buffer.name}[…]"
        return f"index {self.dimension} of {shown} in {self.statement!r}"

    def stray(self, columns: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """[rows] what breaks a wide access, for messages: `moves by`, 127, and the 8 of which it should be a multiple."""
        unit, *found = _program((self.unit, *(e for p in self.paces for e in (p.times, p.elements))))(columns)
        times, elements = found[::2], found[1::2]
        with np.errstate(all="ignore"):
            bad = [np.atleast_1d((t > 1) & (np.mod(e, unit) != 0)) for t, e in zip(times, elements, strict=True)]
        return np.select(bad, [np.array(p.verb) for p in self.paces], ""), np.select(bad, elements), unit


def _reaches(kernel: Kernel, sheet: Sheet) -> Iterator[Reach]:
    """What can be told of the range of each dimension of each access; guarded ones are only checked for alignment."""
    seen: set[tuple[sympy.Expr, ...]] = set()
    for site in kernel.statements():
        if triangular(site) or not isinstance(site.leaf, Statement):
            continue
        loops: dict[sympy.Symbol, HasExtent] = {loop.index: loop for loop in site.loops}
        for a in (*site.leaf.loads, *site.leaf.stores):
            for d, (i, extent) in enumerate(zip(a.index, a.buffer.shape, strict=True)):
                width = a.width if d == len(a.index) - 1 else sympy.Integer(1)
                (form,), _ = delinearised((i,), table := dict(loops), facts_of(kernel.requirements))
                terms = affine_terms(form, set(table))
                if terms is None or (form, extent, width) in seen:
                    continue
                seen.add((form, extent, width))
                smallest, largest = _range(*terms, table)
                paces = _paces(*terms, table)
                unit = Minimum(width, sympy.Integer(max(WIDEST_BYTES // a.buffer.dtype.itemsize, 1)))
                aligned = None if width == 1 else sheet.add(_misaligned(paces, unit))
                if site.guards:
                    smallest, largest = sympy.Integer(0), extent - width
                reach = (sheet.add(smallest), sheet.add(largest + width - 1), sheet.add(extent))
                yield Reach(site.leaf.name, a, d, *reach, aligned, paces, unit)


def _range(
    coefficients: dict[sympy.Symbol, sympy.Expr], rest: sympy.Expr, loops: dict[sympy.Symbol, HasExtent]
) -> tuple[sympy.Expr, sympy.Expr]:
    """Smallest and largest value of an affine index."""
    zero, smallest, largest = sympy.Integer(0), rest, rest
    for s, c in coefficients.items():
        reach = c * (loops[s].extent - 1)
        smallest, largest = smallest + Minimum(reach, zero), largest + Maximum(reach, zero)
    return smallest, largest


def _paces(
    coefficients: dict[sympy.Symbol, sympy.Expr], rest: sympy.Expr, loops: dict[sympy.Symbol, HasExtent]
) -> tuple[Pace, ...]:
    """The parts of an affine index."""
    return Pace("starts at", sympy.Integer(2), rest), *(Pace("moves by", loops[s].extent, c) for s, c in coefficients.items())


def _misaligned(paces: tuple[Pace, ...], unit: sympy.Expr) -> sympy.Expr:
    """0 where every value is a multiple of the width of one instruction."""
    return sum((Minimum(p.times - 1, sympy.Integer(1)) * Mod(p.elements, unit) for p in paces), sympy.Integer(0))


def three(sheet: Sheet, shape: tuple[sympy.Expr, sympy.Expr, sympy.Expr]) -> tuple[int, int, int]:
    """Handles of a shape along x, y, z."""
    x, y, z = (sheet.add(e) for e in shape)
    return x, y, z


def triangular(site: Site) -> bool:
    """Whether an extent depends on another loop."""
    indices = {loop.index for loop in site.loops}
    return any(loop.extent.free_symbols & indices for loop in site.loops)
