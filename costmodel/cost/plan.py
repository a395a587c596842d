"""What is worked out once for a traced kernel, before any sizes: which formulas to evaluate, and for what.

A `Plan` is one compiled program for all scalar formulas, with handles into its results, and for each
access what is needed to charge it. Evaluating it for a million configurations is one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from costmodel.cost.access_plan import AccessPlan, Sheets, access_plan
from costmodel.cost.register_plan import RegisterPlan, register_plan, updated_arrays
from costmodel.cost.round_trips import RoundTrip, round_trips
from costmodel.cost.sharing import roles
from costmodel.cost.sheet import Checks, Sheet, make_checks, three
from costmodel.cost.trips import iterations, machine_trips, rolled, through
from costmodel.counts.nests import executions
from costmodel.ir import Barrier, Kernel, Site, Statement, loose_ends
from costmodel.symbols import free_names

__all__ = ["Plan", "StatementPlan", "make_plan"]


@dataclass(frozen=True, slots=True)
class StatementPlan:
    """Arithmetic of one statement."""

    site: Site
    executions: int
    """Handle: thread-level."""
    work: tuple[tuple[str, str, int], ...]
    """Kind, dtype name, handle of operations for one execution."""
    trips: int
    """Handle: how often a thread comes by in machine loops."""
    independent: int | None
    """Handle: accumulators that a thread updates in turn, so that one need not wait for the other; None if it updates none."""
    asynchronous: bool
    """Whether the warp goes on while a unit works."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is known without sizes."""

    kernel: Kernel
    sheet: Sheet
    waves: Sheet
    """Formulas that also need the wave's shape."""
    spans: Sheet
    """What blocks touch, for any box of them given as the wave's shape."""
    block: tuple[int, int, int]
    grid: tuple[int, int, int]
    shared_bytes: int
    max_threads: int | None
    registers: int | None
    live: RegisterPlan
    """What registers hold, region by region."""
    trips: int
    """Handle: iterations of all rolled loops, for one thread."""
    barriers: int
    """Handle: barriers that one thread meets."""
    checks: Checks
    statements: tuple[StatementPlan, ...]
    accesses: tuple[AccessPlan, ...]
    round_trips: tuple[RoundTrip, ...]
    names: frozenset[str]
    """Sizes that the kernel depends on."""
    warnings: tuple[str, ...]
    """What looks forgotten in the description."""


def make_plan(kernel: Kernel) -> Plan:
    """Derive all formulas of a kernel.

    Raises:
        UnsupportedError: a guard or extent that cannot be counted.
    """
    sheets, parts = Sheets(Sheet(), Sheet(), Sheet()), roles(kernel)
    sheet = sheets.sizes
    accesses: list[AccessPlan] = []
    statements: list[StatementPlan] = []
    for site in kernel.statements():
        leaf = site.leaf
        assert isinstance(leaf, Statement)
        count = executions(kernel, site)
        work = tuple((w.kind, w.dtype.name, sheet.add(w.amount)) for w in leaf.work)
        updated = updated_arrays(leaf)
        accumulators = sum((b.elements for b in kernel.buffers if b.name in updated), sympy.Integer(0))
        independent = sheet.add(accumulators) if updated else None
        trips = sheet.add(machine_trips(site.loops))
        statements.append(StatementPlan(site, sheet.add(count), work, trips, independent, leaf.asynchronous))
        for kind, group in (("load", leaf.loads), ("store", leaf.stores)):
            for access in group:
                if access.buffer.space != "register":
                    role = parts.get(id(access)) if kind == "load" else None
                    accesses.append(access_plan(kernel, site, access, kind, count, role, sheets))
    looping = rolled(tuple(kernel.loops()))
    block, grid = kernel.block_shape(), kernel.grid_shape()
    return Plan(
        kernel=kernel,
        sheet=sheet,
        waves=sheets.waves,
        spans=sheets.spans,
        block=three(sheet, block),
        grid=three(sheet, grid),
        shared_bytes=sheet.add(_shared_bytes(kernel)),
        max_threads=None if kernel.max_threads is None else sheet.add(kernel.max_threads),
        registers=None if kernel.registers is None else sheet.add(kernel.registers),
        live=register_plan(kernel, sheet, _sweeps(kernel)),
        trips=sheet.add(sum((machine_trips(through(kernel, loop)) for loop in looping), sympy.Integer(0))),
        barriers=sheet.add(sum((iterations(s) for s in kernel.sites if isinstance(s.leaf, Barrier)), sympy.Integer(0))),
        checks=make_checks(kernel),
        statements=tuple(statements),
        accesses=tuple(accesses),
        round_trips=round_trips(kernel, sheet, accesses),
        names=_sizes_used(kernel),
        warnings=loose_ends(kernel),
    )


def _shared_bytes(kernel: Kernel) -> sympy.Expr:
    if kernel.shared_bytes is not None:
        return kernel.shared_bytes
    return sum((b.reserved_bytes for b in kernel.buffers if b.space == "shared"), sympy.Integer(0))


def _sizes_used(kernel: Kernel) -> frozenset[str]:
    """Sizes without which another kernel would be described; those that only requirements mention are left out."""
    found = [e for e in (kernel.max_threads, kernel.registers, kernel.shared_bytes) if e is not None]
    for loop in kernel.loops():
        found += [loop.extent, loop.unroll, loop.stages]
    for site in kernel.sites:
        found += [e for g in site.guards for c in g.conditions for e in c[1:]]
        if isinstance(site.leaf, Statement):
            found += [w.amount for w in site.leaf.work]
            for access in (*site.leaf.loads, *site.leaf.stores):
                found += [*access.index, access.width, *access.buffer.shape, *access.buffer.strides]
    return free_names(*found) & frozenset(kernel.params)


def _sweeps(kernel: Kernel) -> sympy.Expr:
    """How often one thread walks over all its accumulators."""
    sweeps = sympy.Integer(0)
    for site in kernel.statements():
        assert isinstance(site.leaf, Statement)
        updated = updated_arrays(site.leaf)
        if updated:
            sweeps += iterations(site) / sum((b.elements for b in kernel.buffers if b.name in updated), sympy.Integer(0))
    return sympy.floor(sweeps) if sweeps.is_number else sweeps  # whole, as compiled sums are
