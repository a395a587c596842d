"""What is worked out once for each access of a kernel: its bytes, and what it touches in each loop, wave and launch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy

from costmodel.cost.footprints import FootprintPlan, StepPlan, footprint_plan
from costmodel.cost.fresh import FreshPlan, fresh_plan
from costmodel.cost.scopes import common_depth, in_step, inside, inside_a_wave
from costmodel.cost.sharing import Role
from costmodel.cost.sheet import Sheet
from costmodel.cost.trips import mean_extent
from costmodel.cost.unions import Union
from costmodel.counts.affine import HasExtent, affine_terms, below_zero, delinearised
from costmodel.counts.footprint import footprint
from costmodel.counts.nests import executions
from costmodel.errors import UnsupportedError
from costmodel.ir import Access, Guard, Kernel, Loop, Site, Statement, facts_of
from costmodel.ir.checks import describe
from costmodel.symbols import Condition, FloorDiv, Maximum, Minimum, Mod, Program, compile_program

__all__ = ["AccessPlan", "ScopePlan", "Sheets", "access_plan"]


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
    """Of a wave whose blocks have drifted apart along their loops."""
    whole: FootprintPlan | None
    array: int
    """Handle: bytes of the whole array."""
    tile: Program | None
    """Where blocks are swizzled: the offset of a block's part from block indices `block_x`, `block_y`, `block_z`."""
    filled: tuple[int, int] | None
    """Handles: executions that guards on block indices let pass, and all; None where there are no such guards."""
    alive: int | None
    """Handle: blocks of which some thread may pass the guards, where a footprint does not know them; else None."""
    per_address: int
    """Handle: requests that share one computed address: unrolled steps along the last dimension are immediate offsets."""
    staged: bool
    """True for a global load whose statement stores to shared memory."""
    follows: Access | None
    """A load that brings in this one's elements too (see `cost.sharing`)."""
    addressed: bool
    """Whether its address is computed, not a known distance from another's."""
    alike: int
    """Handle: how often the same requests are made, in loops that neither move the access nor steer a guard."""
    repeats: Access | None
    """An earlier load, in other loops, of some of the same elements."""
    around: tuple[str, ...]
    """Serial loops around both."""
    fresh: FreshPlan | None
    """What is new of a load that repeats another; None where nothing is."""


@dataclass(frozen=True, slots=True)
class Sheets:
    """Formulas by what they need besides sizes."""

    sizes: Sheet
    waves: Sheet
    """The wave's shape."""
    spans: Sheet
    """A box of blocks, given as the wave's shape."""


def access_plan(
    kernel: Kernel, site: Site, access: Access, kind: str, count: sympy.Expr, role: Role | None, sheets: Sheets
) -> AccessPlan:
    """Add the formulas of one access to the sheets.

    Args:
        kernel: the kernel.
        site: the statement's place in it.
        access: one of its accesses.
        kind: `load` or `store`.
        count: thread-level executions of the statement.
        role: of a global load in its family.
        sheets: take the formulas.
    """
    sheet, waves, spans = sheets.sizes, sheets.waves, sheets.spans
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
        members=len(role.union.distances) if role and role.union else 1,
        span=None,
        step=None,
        whole=None,
        array=sheet.add(access.buffer.size_bytes),
        tile=None,
        filled=None,
        alive=None,
        per_address=sheet.add(_requests_per_address(site, access)),
        staged=staged,
        follows=role.follows if role else None,
        addressed=role.addressed if role else True,
        alike=sheet.add(_alike(site, access)),
        repeats=role.repeats.access if role and role.repeats else None,
        around=(),
        fresh=None,
    )
    if access.buffer.space != "global" or bare.follows is not None:
        return bare
    union = role.union if role and role.union else Union(site, access, ((0,) * len(access.index),))
    serial, blocks = site.serial(), in_step(site)

    def touched(over: tuple[Loop, ...], into: Sheet) -> FootprintPlan:
        return footprint_plan(union.parts(kernel, over), site, over, into)

    scopes, passes_of_wave = [], []
    for depth in range(len(serial) + 1):
        passes = sympy.Mul(*(mean_extent(loop, site.loops) for loop in serial[:depth]))
        plan = touched(inside(site, depth), sheet)
        straight = depth < len(serial) and all(loop.unroll != 1 for loop in serial[depth:])
        scopes.append(ScopePlan(plan, sheet.add(passes), tuple(loop.index.name for loop in serial[:depth]), straight))
        passes_of_wave.append(touched((*blocks, *inside_a_wave(site, depth)), waves))
    together = footprint(kernel, site, access, (*blocks, *inside(site, 0)))
    step = StepPlan(tuple(waves.add(e) for e in together.steps[::2]), tuple(waves.add(e) for e in together.steps[1::2]))
    threads, whole = inside(site, len(serial)), touched(site.loops, sheet)
    alive = None if whole.certain else _alive(kernel, union.site)
    depth = common_depth(role.repeats.site, site) if role and role.repeats else 0
    return replace(
        bare,
        scopes=tuple(scopes),
        wave=tuple(passes_of_wave),
        singly=footprint_plan((union.singly(kernel, threads),), site, threads, sheet) if kind == "load" else None,
        span=touched((*blocks, *inside_a_wave(site, 0)), spans),
        step=step,
        whole=whole,
        tile=_tile(site, access),
        filled=_filled(kernel, union.site, sheet),
        alive=None if alive is None else sheet.add(alive),
        around=tuple(loop.index.name for loop in serial[:depth]),
        fresh=fresh_plan(kernel, site, count, role.fresh, depth, (sheet, waves, spans)) if role and role.fresh else None,
    )


def _alive(kernel: Kernel, site: Site) -> sympy.Expr | None:
    """Blocks of which some thread may pass: each condition with all other loops where it is met most easily."""
    blocks = tuple(loop for loop in site.loops if loop.kind == "block")
    met: list[Condition] = []
    for form in (e for g in site.guards if g.fraction is None for c in g.conditions for e in below_zero(c) or []):
        table: dict[sympy.Symbol, HasExtent] = {loop.index: loop for loop in site.loops}
        (flat,), _ = delinearised((form,), table, facts_of(kernel.requirements))
        terms = affine_terms(flat, set(table))
        moving = {loop.index for loop in blocks} & (terms[0].keys() if terms else set())
        if terms is None or not moving:
            continue
        reach = [Minimum(c * (table[i].extent - 1), sympy.Integer(0)) for i, c in terms[0].items() if i not in moving]
        least = sum(reach, terms[1])
        if not least.free_symbols & table.keys():
            met.append(("<", sum((c * i for i, c in terms[0].items() if i in moving), least), sympy.Integer(0)))
    if not met:
        return None
    try:
        return executions(kernel, replace(site, guards=(Guard(tuple(met), ()),)), blocks)
    except UnsupportedError:
        return None


def _alike(site: Site, access: Access) -> sympy.Expr:
    """Iterations of loops over blocks and in threads that change nothing about a request, nor whether it is made."""
    if any(g.fraction is not None for g in site.guards):
        return sympy.Integer(1)
    felt = set().union(*(e.free_symbols for e in (*access.index, access.width, *(o.extent for o in site.loops))))
    felt |= {s for g in site.guards for c in g.conditions for e in c[1:] for s in e.free_symbols}
    others = (loop for loop in site.loops if loop.kind != "thread" and loop.index not in felt)
    return sympy.Mul(*(loop.extent for loop in others if not loop.extent.free_symbols & {o.index for o in site.loops}))


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
