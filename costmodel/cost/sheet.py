"""Formulas that are evaluated together, and the conditions a configuration must meet before any is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from costmodel.counts.affine import HasExtent, affine_terms, delinearised
from costmodel.ir import Kernel, Site, facts_of
from costmodel.ir.checks import describe
from costmodel.symbols import Condition, Maximum, Program, compile_program

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
            return [float(x) for x in whole]
        return self.values({n: np.asarray(c, np.float64) if np.ndim(c) else float(c) for n, c in columns.items()})


@dataclass(frozen=True, slots=True)
class Checks:
    """What must hold before anything is counted; handles into a sheet of its own."""

    sheet: Sheet
    requirements: tuple[tuple[Condition, int, int], ...]
    extents: tuple[tuple[str, int], ...]
    """Name and handle of what must be at least 1: loop extents and vector widths."""
    block: tuple[int, int, int]
    grid: tuple[int, int, int]
    static_shared_bytes: int
    dynamic_shared_bytes: int
    global_bytes: int
    bounds: tuple[tuple[str, int, int], ...]
    """For unguarded accesses in each dimension: text, handle of the largest index, handle of the extent."""


def make_checks(kernel: Kernel) -> Checks:
    """The checks of a kernel."""
    sheet = Sheet()
    indices = {loop.index for loop in kernel.loops()}

    def total(space: str, dynamic: bool | None = None) -> sympy.Expr:
        chosen = (b for b in kernel.buffers if b.space == space and dynamic in (None, b.dynamic))
        return sum((b.size_bytes for b in chosen), sympy.Integer(0))

    extents = [(f"the extent of loop {o.index}", o.extent) for o in kernel.loops() if not o.extent.free_symbols & indices]
    for site in kernel.statements():
        for a in (*site.leaf.loads, *site.leaf.stores):  # type: ignore[union-attr]
            if a.width != 1:
                extents.append((f"the width of {a.buffer.name}[…] in {site.leaf.name!r}", a.width))  # type: ignore[union-attr]
    return Checks(
        sheet,
        tuple((c, sheet.add(c[1]), sheet.add(c[2])) for c in kernel.requirements),
        tuple((text, sheet.add(e)) for text, e in dict.fromkeys(extents)),
        three(sheet, kernel.block_shape()),
        three(sheet, kernel.grid_shape()),
        sheet.add(total("shared", dynamic=False)),
        sheet.add(total("shared", dynamic=True)),
        sheet.add(total("global")),
        tuple(_bounds(kernel, sheet)),
    )


def _bounds(kernel: Kernel, sheet: Sheet) -> Iterator[tuple[str, int, int]]:
    """Largest index of each dimension of each unguarded access, where it can be told."""
    seen: set[tuple[sympy.Expr, sympy.Expr]] = set()
    for site in kernel.statements():
        if site.guards or triangular(site):
            continue
        loops: dict[sympy.Symbol, HasExtent] = {loop.index: loop for loop in site.loops}
        for a in (*site.leaf.loads, *site.leaf.stores):  # type: ignore[union-attr]
            for d, (i, extent) in enumerate(zip(a.index, a.buffer.shape, strict=True)):
                last = a.width - 1 if d == len(a.index) - 1 else sympy.Integer(0)
                (form,), _ = delinearised((i,), table := dict(loops), facts_of(kernel.requirements))
                terms = affine_terms(form, set(table))
                if terms is None or (form, extent) in seen:
                    continue
                seen.add((form, extent))
                largest = terms[1] + last
                for s, c in terms[0].items():
                    largest += Maximum(c * (table[s].extent - 1), sympy.Integer(0))
                text = f"index {d} of {describe(a)} in {site.leaf.name!r}"  # type: ignore[union-attr]
                yield text, sheet.add(largest), sheet.add(extent)


def three(sheet: Sheet, shape: tuple[sympy.Expr, sympy.Expr, sympy.Expr]) -> tuple[int, int, int]:
    """Handles of a shape along x, y, z."""
    x, y, z = (sheet.add(e) for e in shape)
    return x, y, z


def triangular(site: Site) -> bool:
    """Whether an extent depends on another loop."""
    indices = {loop.index for loop in site.loops}
    return any(loop.extent.free_symbols & indices for loop in site.loops)
