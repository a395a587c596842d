"""What the registers of a thread hold, region by region, worked out once for a traced kernel.

A region is the straight code between barriers and the ends of loops that stay loops: a compiler moves
loads about inside it, not across its ends. Of each region the plan says how many words are live all
through it, and how many one pass through it loads. What a compiler makes of that is a charge
(`charges.registers`), for it depends on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy

from costmodel.charges.registers import Kind
from costmodel.cost.sheet import Sheet
from costmodel.cost.trips import rolled
from costmodel.ir import Access, Barrier, Kernel, Loop, Site, Statement

__all__ = ["RegionPlan", "RegisterPlan", "register_plan", "updated_arrays"]


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """Handles of one region; of one thread; loads and arrays in bytes."""

    kind: Kind
    loops: int
    """Loops around it that stay loops."""
    pointers: int
    """Global accesses whose address lives through it: all those in its loops, or else those that it stores to."""
    accumulators: int
    """Handle: arrays that statements read and write, and that hold something here."""
    fragments: int
    """Handle: other register arrays that it uses."""
    gathered: int
    """Handle: loaded by one pass for arithmetic, from shared memory or under a test."""
    fetched: int
    """Handle: loaded by one pass for arithmetic, from global memory and whatever happens."""
    addresses: int
    """Handle: of these loads, other than the first and its neighbours in a row."""
    staged: int
    """Handle: loaded by one pass only to be stored elsewhere."""
    copies: int
    """Handle: instructions that load these."""
    chains: int
    """Handle: elements updated in turn, none of which waits for another; 0 where nothing is updated."""
    updates: int
    """Handle: updates of one pass."""


@dataclass(frozen=True, slots=True)
class RegisterPlan:
    """Regions of a kernel, and how often a thread walks over all its accumulators."""

    regions: tuple[RegionPlan, ...]
    sweeps: int


@dataclass(slots=True)
class _Region:
    sites: list[Site] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)


def register_plan(kernel: Kernel, sheet: Sheet, sweeps: sympy.Expr) -> RegisterPlan:
    """Divide a kernel into regions and add their formulas to the sheet."""
    lives = _lives(kernel)
    regions = _regions(kernel)
    return RegisterPlan(
        tuple(_plan(kernel, sheet, loops, region, lives, regions) for (loops, _), region in regions.items()), sheet.add(sweeps)
    )


def updated_arrays(statement: Statement) -> set[str]:
    """Register arrays that a statement reads and writes."""
    return {a.buffer.name for a in statement.loads if a.buffer.space == "register"} & {a.buffer.name for a in statement.stores}


def _regions(kernel: Kernel) -> dict[tuple[tuple[Loop, ...], int], _Region]:
    found: dict[tuple[tuple[Loop, ...], int], _Region] = {}
    phase = 0
    for number, site in enumerate(kernel.sites):
        if isinstance(site.leaf, Barrier):
            phase += 1
            continue
        region = found.setdefault((rolled(site.loops), phase), _Region())
        region.sites.append(site)
        region.numbers.append(number)
    return found


@dataclass(slots=True)
class _Life:
    first: int
    last: int
    loops: set[str]


def _lives(kernel: Kernel) -> dict[str, _Life]:
    """For each accumulator: the first and last site that updates it, and the machine loops around these."""
    lives: dict[str, _Life] = {}
    for number, site in enumerate(kernel.sites):
        if not isinstance(site.leaf, Statement):
            continue
        for name in updated_arrays(site.leaf):
            life = lives.setdefault(name, _Life(number, number, set()))
            life.last = number
            life.loops |= {loop.index.name for loop in rolled(site.loops)}
    return lives


def _plan(
    kernel: Kernel,
    sheet: Sheet,
    loops: tuple[Loop, ...],
    region: _Region,
    lives: dict[str, _Life],
    regions: dict[tuple[tuple[Loop, ...], int], _Region],
) -> RegionPlan:
    names = {loop.index.name for loop in loops}
    zero = sympy.Integer(0)
    gathered, fetched, addresses, staged, copies, updates, chains = (zero,) * 7
    used: set[str] = set()
    for site in region.sites:
        leaf = site.leaf
        assert isinstance(leaf, Statement)
        used |= {a.buffer.name for a in (*leaf.loads, *leaf.stores) if a.buffer.space == "register"}
        moves = any(a.buffer.space in ("global", "shared") for a in leaf.stores) and not leaf.work
        for access in leaf.loads if not leaf.asynchronous else ():
            if access.buffer.space not in ("global", "shared"):
                continue
            times = _copies(site, access)
            if moves:
                staged, copies = staged + times * access.bytes, copies + times
            elif access.buffer.space == "shared" or site.guards:  # loads under a test are not issued early
                gathered += times * access.bytes
            else:
                fetched, addresses = fetched + times * access.bytes, addresses + _rows(site, access) - 1
        if updated_arrays(leaf):
            updates += sympy.Mul(*(loop.unroll for loop in site.serial()))
            chains = sum((b.elements for b in kernel.buffers if b.name in updated_arrays(leaf)), zero)
    live = {
        name
        for name, life in lives.items()
        if life.loops & names or (life.first <= max(region.numbers) and min(region.numbers) <= life.last)
    }
    fragments = used - lives.keys()
    return RegionPlan(
        kind="tiled" if fragments else "streamed" if chains != 0 else "plain",
        loops=len(loops),
        pointers=_pointers(names, region, regions),
        accumulators=sheet.add(_bytes(kernel, live)),
        fragments=sheet.add(_bytes(kernel, fragments)),
        gathered=sheet.add(gathered),
        fetched=sheet.add(fetched),
        addresses=sheet.add(addresses),
        staged=sheet.add(staged),
        copies=sheet.add(copies),
        chains=sheet.add(chains),
        updates=sheet.add(updates),
    )


def _copies(site: Site, access: Access) -> sympy.Expr:
    """Copies of a load in one pass: unrolled loops that move it; in the others it is loaded once."""
    moving = set().union(*(e.free_symbols for e in access.index))
    return sympy.Mul(*(loop.unroll for loop in site.serial() if loop.index in moving))


def _rows(site: Site, access: Access) -> sympy.Expr:
    """Rows that the copies of a load in one pass lie in: each has an address, along a row distances are immediate."""
    moving = set().union(*(e.free_symbols for e in access.index[:-1]))
    return sympy.Mul(*(loop.unroll for loop in site.serial() if loop.index in moving))


def _pointers(names: set[str], region: _Region, regions: dict[tuple[tuple[Loop, ...], int], _Region]) -> int:
    stores_only = not names
    sharing = [region] if stores_only else [r for (loops, _), r in regions.items() if names & {i.index.name for i in loops}]
    leaves = [s.leaf for r in sharing for s in r.sites if isinstance(s.leaf, Statement)]
    accesses = [a for leaf in leaves for a in (leaf.stores if stores_only else (*leaf.loads, *leaf.stores))]
    return len([a for a in accesses if a.buffer.space == "global"])


def _bytes(kernel: Kernel, names: set[str]) -> sympy.Expr:
    return sum((b.elements * b.dtype.itemsize for b in kernel.buffers if b.name in names), sympy.Integer(0))
