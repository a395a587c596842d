"""How often a thread comes by: iterations of the loops around a leaf, and of those that stay loops in machine code."""

from __future__ import annotations

import sympy

from costmodel.ir import Kernel, Loop, Site
from costmodel.symbols import CeilDiv

__all__ = ["iterations", "machine_trips", "mean_extent", "rolled", "through"]


def rolled(loops: tuple[Loop, ...]) -> tuple[Loop, ...]:
    """Serial loops among these that stay loops in machine code."""
    return tuple(loop for loop in loops if loop.kind == "serial" and loop.unroll != loop.extent)


def through(kernel: Kernel, inner: Loop) -> tuple[Loop, ...]:
    """Loops from the outermost to this one."""
    site = next(s for s in kernel.sites if any(loop is inner for loop in s.loops))
    return site.loops[: next(n for n, loop in enumerate(site.loops) if loop is inner) + 1]


def machine_trips(loops: tuple[Loop, ...]) -> sympy.Expr:
    """Iterations of the serial machine loops among these, for one thread; triangular extents at their mean."""
    total = sympy.Integer(1)
    for loop in loops:
        if loop.kind == "serial":
            total *= CeilDiv(mean_extent(loop, loops), loop.unroll)
    return total


def mean_extent(loop: Loop, loops: tuple[Loop, ...]) -> sympy.Expr:
    """The extent with outer indices, of blocks too, at the middle of their range."""
    extent = loop.extent
    for other in loops:
        if other.index in extent.free_symbols:
            extent = extent.subs(other.index, (mean_extent(other, loops) - 1) / 2)
    return extent


def iterations(site: Site) -> sympy.Expr:
    """How often a thread executes a leaf, were there no guards."""
    return sympy.Mul(*(mean_extent(loop, site.loops) for loop in site.serial()))
