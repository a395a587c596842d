"""What is worked out once for a traced kernel, before any sizes: which formulas to evaluate, and for what.

A `Plan` is one compiled program for all scalar formulas, with handles into its results, and for each
access what is needed to charge it. Evaluating it for a million configurations is one call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import sympy

from costmodel.cost.footprints import FootprintPlan, StepPlan, footprint_plan
from costmodel.cost.register_plan import RegisterPlan, register_plan, updated_arrays
from costmodel.cost.sharing import Part, Role, roles
from costmodel.cost.sheet import Checks, Sheet, make_checks, three
from costmodel.counts.footprint import footprint
from costmodel.counts.nests import executions
from costmodel.ir import Access, Barrier, Kernel, Loop, Site, Statement, loose_ends
from costmodel.ir.checks import describe
from costmodel.symbols import CeilDiv, FloorDiv, Maximum, Minimum, Mod, Program, compile_program, free_names, size

__all__ = [
    "WAVE",
    "AccessPlan",
    "Plan",
    "RoundTrip",
    "ScopePlan",
    "StatementPlan",
    "make_plan",
]

WAVE = ("wave_x", "wave_y", "wave_z")
"""Columns that give the blocks of one wave along x, y, z."""


@dataclass(frozen=True, slots=True)
class ScopePlan:
    """A loop around a load: its footprint in one pass, the passes of one block, and the loop's identity."""

    footprint: FootprintPlan
    passes: int
    loops: tuple[str, ...]
    straight: bool
    """Whether a warp issues what is inside back to back: all loops inside are unrolled."""


@dataclass(frozen=True, slots=True)
class AccessPlan:
    """One access of one statement."""

    site: Site
    access: Access
    text: str
    """As its author wrote it."""
    kind: str
    """`load` or `store`."""
    requested: int
    """Handle: thread-level executions times bytes."""
    scopes: tuple[ScopePlan, ...]
    """Of global accesses: the whole block first, then each serial loop inwards."""
    wave: tuple[FootprintPlan, ...]
    """Of global accesses: what one wave touches in one pass through each scope."""
    singly: FootprintPlan | None
    """What the loads of a family touch in one pass of all serial loops, were nothing of it shared between them."""
    members: int
    """Loads of the family."""
    span: FootprintPlan | None
    """Of global accesses: what blocks touch, in the sheet `spans`."""
    step: StepPlan | None
    """Of a wave in one machine iteration."""
    whole: FootprintPlan | None
    array: int
    """Handle: bytes of the whole array."""
    tile: Program | None
    """Where blocks are swizzled: the offset of a block's part from block indices `block_x`, `block_y`, `block_z`."""
    filled: tuple[int, int] | None
    """Handles: executions that guards on block indices let pass, and all; None where there are no such guards."""
    per_address: int
    """Handle: requests that share one computed address: unrolled steps along the last dimension are immediate offsets."""
    staged: bool
    """True for a global load whose statement stores to shared memory."""
    follows: Access | None
    """A load that brings in this one's elements too (see `cost.sharing`)."""
    addressed: bool
    """Whether its address is computed, not a known distance from another's."""
    repeats: Access | None
    """An earlier load, in other loops, of the same elements."""


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
class RoundTrip:
    """Loads that a thread waits for together, once for each trip of the machine loop around them."""

    space: str
    trips: int
    """Handle: for one thread."""
    bytes: int
    """Handle: bytes that one thread loads in all trips together."""
    behind_barrier: bool
    stages: int | None
    """Handle: pipeline stages of asynchronous copies; None for loads into registers."""
    guarded: tuple[tuple[int, int], ...] | None
    """Where all of them are guarded: positions of their statements, and handles of the copies of each in one trip."""
    loads: tuple[int, ...]
    """Positions among the plan's accesses."""
    group: int
    """Batches of other spaces with the same number are issued in the same trips: the longest wait covers the others."""


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
    sheet, waves, spans, parts = Sheet(), Sheet(), Sheet(), roles(kernel)
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
        trips = sheet.add(_trips(site.loops))
        statements.append(StatementPlan(site, sheet.add(count), work, trips, independent, leaf.asynchronous))
        for kind, group in (("load", leaf.loads), ("store", leaf.stores)):
            for access in group:
                if access.buffer.space != "register":
                    role = parts.get(id(access)) if kind == "load" else None
                    accesses.append(_access(kernel, site, access, kind, count, role, (sheet, waves, spans)))
    rolled = _rolled(kernel)
    block, grid = kernel.block_shape(), kernel.grid_shape()
    return Plan(
        kernel=kernel,
        sheet=sheet,
        waves=waves,
        spans=spans,
        block=three(sheet, block),
        grid=three(sheet, grid),
        shared_bytes=sheet.add(sum((b.size_bytes for b in kernel.buffers if b.space == "shared"), sympy.Integer(0))),
        max_threads=None if kernel.max_threads is None else sheet.add(kernel.max_threads),
        registers=None if kernel.registers is None else sheet.add(kernel.registers),
        live=register_plan(kernel, sheet, _sweeps(kernel)),
        trips=sheet.add(sum((_trips(_outer_loops(kernel, loop)) for loop in rolled), sympy.Integer(0))),
        barriers=sheet.add(sum((_iterations(s) for s in kernel.sites if isinstance(s.leaf, Barrier)), sympy.Integer(0))),
        checks=make_checks(kernel),
        statements=tuple(statements),
        accesses=tuple(accesses),
        round_trips=_round_trips(kernel, sheet, accesses),
        names=_sizes_used(kernel),
        warnings=loose_ends(kernel),
    )


def _sizes_used(kernel: Kernel) -> frozenset[str]:
    """Sizes without which another kernel would be described; those that only requirements mention are left out."""
    found = [e for e in (kernel.max_threads, kernel.registers) if e is not None]
    for loop in kernel.loops():
        found += [loop.extent, loop.unroll, loop.stages]
    for site in kernel.sites:
        found += [e for g in site.guards for c in g.conditions for e in c[1:]]
        if isinstance(site.leaf, Statement):
            found += [w.amount for w in site.leaf.work]
            for access in (*site.leaf.loads, *site.leaf.stores):
                found += [*access.index, access.width, *access.buffer.shape, *access.buffer.strides]
    return free_names(*found) & frozenset(kernel.params)


def _access(
    kernel: Kernel,
    site: Site,
    access: Access,
    kind: str,
    count: sympy.Expr,
    role: Role | None,
    sheets: tuple[Sheet, Sheet, Sheet],
) -> AccessPlan:
    sheet, waves, spans = sheets
    assert isinstance(site.leaf, Statement)
    staged = kind == "load" and access.buffer.space == "global" and any(a.buffer.space == "shared" for a in site.leaf.stores)
    bare = AccessPlan(
        site=site,
        access=access,
        text=describe(access),
        kind=kind,
        requested=sheet.add(count * access.bytes),
        scopes=(),
        wave=(),
        singly=None,
        members=len(role.members) if role else 1,
        span=None,
        step=None,
        whole=None,
        array=sheet.add(access.buffer.size_bytes),
        tile=None,
        filled=None,
        per_address=sheet.add(_requests_per_address(site, access)),
        staged=staged,
        follows=role.follows if role else None,
        addressed=role.addressed if role else True,
        repeats=role.repeats if role else None,
    )
    if access.buffer.space != "global" or bare.follows is not None:
        return bare

    def touched(over: tuple[Loop, ...], into: Sheet) -> FootprintPlan:
        parts = role.union(kernel, site, over) if role else (Part(1, access, footprint(kernel, site, access, over)),)
        return footprint_plan(parts, site, over, into)

    serial = site.serial()
    threads = tuple(loop for loop in site.loops if loop.kind == "thread")
    truncated = tuple(replace(loop, extent=size(WAVE[loop.axis])) if loop.kind == "block" else loop for loop in site.loops)
    blocks = tuple(loop for loop in truncated if loop.kind == "block")
    scopes, passes_of_wave = [], []
    for depth in range(len(serial) + 1):
        passes = sympy.Mul(*(_mean_extent(loop, site.loops) for loop in serial[:depth]))
        plan = touched((*threads, *serial[depth:]), sheet)
        straight = depth < len(serial) and all(loop.unroll != 1 for loop in serial[depth:])
        scopes.append(ScopePlan(plan, sheet.add(passes), tuple(loop.index.name for loop in serial[:depth]), straight))
        passes_of_wave.append(touched((*blocks, *threads, *serial[depth:]), waves))
    at_once = tuple(loop for loop in truncated if loop.kind != "serial" or loop.unroll == loop.extent)
    together = footprint(kernel, site, access, at_once)
    step = StepPlan(tuple(waves.add(e) for e in together.steps[::2]), tuple(waves.add(e) for e in together.steps[1::2]))
    return replace(
        bare,
        scopes=tuple(scopes),
        wave=tuple(passes_of_wave),
        singly=footprint_plan(role.singly(kernel, site, threads), site, threads, sheet) if role else None,
        span=touched((*blocks, *threads, *serial), spans),
        step=step,
        whole=touched(site.loops, sheet),
        tile=_tile(site, access),
        filled=_filled(kernel, site, sheet),
    )


def _filled(kernel: Kernel, site: Site, sheet: Sheet) -> tuple[int, int] | None:
    """What blocks at the edge of the grid leave out."""
    blocks = {loop.index for loop in site.loops if loop.kind == "block"}
    edges = [
        replace(g, conditions=tuple(c for c in g.conditions if (c[1].free_symbols | c[2].free_symbols) & blocks))
        for g in site.guards
        if g.fraction is None
    ]
    edges = [g for g in edges if g.conditions]
    if not edges:
        return None
    every = executions(kernel, replace(site, guards=()))
    return sheet.add(executions(kernel, replace(site, guards=tuple(edges)))), sheet.add(every)


def _tile(site: Site, access: Access) -> Program | None:
    """The block's part of the offset, where it is not affine in the block indices."""
    blocks = {loop.index: sympy.Symbol(f"block_{'xyz'[loop.axis]}", integer=True) for loop in site.loops if loop.kind == "block"}
    calls = access.offset.atoms(Mod, FloorDiv, Minimum, Maximum)
    if not any(c.free_symbols & blocks.keys() for c in calls):
        return None
    still = {loop.index: sympy.Integer(0) for loop in site.loops if loop.kind != "block"}
    return compile_program([access.offset.xreplace({**still, **blocks})])


def _requests_per_address(site: Site, access: Access) -> sympy.Expr:
    """Steps of unrolled loops that move only along the last dimension, whose stride the compiler knows."""
    last, others = access.index[-1].free_symbols, set().union(*(e.free_symbols for e in access.index[:-1]))
    return sympy.Mul(*(loop.unroll for loop in site.serial() if loop.index in last and loop.index not in others))


def _rolled(kernel: Kernel) -> list[Loop]:
    """Serial loops that stay loops in machine code."""
    return [loop for loop in kernel.loops() if loop.kind == "serial" and loop.unroll != loop.extent]


def _outer_loops(kernel: Kernel, inner: Loop) -> tuple[Loop, ...]:
    """Loops from the outermost to this one."""
    site = next(s for s in kernel.sites if any(loop is inner for loop in s.loops))
    return site.loops[: next(n for n, loop in enumerate(site.loops) if loop is inner) + 1]


def _trips(loops: tuple[Loop, ...]) -> sympy.Expr:
    """Iterations of the serial machine loops among these, for one thread; triangular extents at their mean."""
    total = sympy.Integer(1)
    for loop in loops:
        if loop.kind == "serial":
            total *= CeilDiv(_mean_extent(loop, loops), loop.unroll)
    return total


def _mean_extent(loop: Loop, loops: tuple[Loop, ...]) -> sympy.Expr:
    """The extent with outer indices, of blocks too, at the middle of their range."""
    extent = loop.extent
    for other in loops:
        if other.index in extent.free_symbols:
            extent = extent.subs(other.index, (_mean_extent(other, loops) - 1) / 2)
    return extent


def _iterations(site: Site) -> sympy.Expr:
    return sympy.Mul(*(_mean_extent(loop, site.loops) for loop in site.serial()))


def _sweeps(kernel: Kernel) -> sympy.Expr:
    """How often one thread walks over all its accumulators."""
    sweeps = sympy.Integer(0)
    for site in kernel.statements():
        assert isinstance(site.leaf, Statement)
        updated = updated_arrays(site.leaf)
        if updated:
            sweeps += _iterations(site) / sum((b.elements for b in kernel.buffers if b.name in updated), sympy.Integer(0))
    return sweeps


def _round_trips(kernel: Kernel, sheet: Sheet, accesses: list[AccessPlan]) -> tuple[RoundTrip, ...]:
    """Groups of loads in the same machine loop, between the same barriers: they are issued together and waited for once."""
    barriers = [s for s in kernel.sites if isinstance(s.leaf, Barrier)]
    found: dict[tuple[tuple[str, ...], str, sympy.Expr | None, int], _Batch] = {}
    phase, position = 0, -1
    place = {id(a.access): n for n, a in enumerate(accesses) if a.kind == "load"}
    for site in kernel.sites:
        if isinstance(site.leaf, Barrier):
            phase += 1
            continue
        position += 1
        rolled = tuple(loop.index.name for loop in site.serial() if loop.unroll != loop.extent)
        behind = any(_shares_rolled(b, rolled) for b in barriers)
        for access in site.leaf.loads:
            if access.buffer.space not in ("global", "shared"):
                continue
            stages = next((loop.stages for loop in reversed(site.serial()) if loop.stages != 1), sympy.Integer(1))
            ahead = site.leaf.asynchronous or (access.buffer.space == "global" and stages != 1)
            key = (rolled, access.buffer.space, stages if ahead else None, phase)
            batch = found.setdefault(key, _Batch(_trips(site.loops)))
            batch.bytes += _iterations(site) * access.bytes
            batch.behind_barrier |= (
                behind and access.buffer.space == "global" and any(a.buffer.space == "shared" for a in site.leaf.stores)
            )
            batch.sites[position] = site
            batch.loads.append(place[id(access)])
    groups = {key: n for n, key in enumerate(dict.fromkeys((rolled, stages, phase) for rolled, _, stages, phase in found))}
    return tuple(
        RoundTrip(
            space,
            sheet.add(batch.trips),
            sheet.add(batch.bytes),
            batch.behind_barrier,
            None if stages is None else sheet.add(stages),
            tuple((n, sheet.add(sympy.Mul(*(loop.unroll for loop in s.serial())))) for n, s in batch.sites.items())
            if all(s.guards for s in batch.sites.values())
            else None,
            tuple(batch.loads),
            groups[rolled, stages, phase],
        )
        for (rolled, space, stages, phase), batch in found.items()
    )


@dataclass(slots=True)
class _Batch:
    """Loads that are issued together."""

    trips: sympy.Expr
    bytes: sympy.Expr = sympy.Integer(0)
    behind_barrier: bool = False
    sites: dict[int, Site] = field(default_factory=dict)
    loads: list[int] = field(default_factory=list)


def _shares_rolled(barrier: Site, rolled: tuple[str, ...]) -> bool:
    return rolled == tuple(loop.index.name for loop in barrier.serial() if loop.unroll != loop.extent)
