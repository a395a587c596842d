"""Loads that are issued together and waited for once: those in the same machine loop, between the same barriers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import sympy

from costmodel.cost.access_plan import AccessPlan
from costmodel.cost.sheet import Sheet
from costmodel.cost.trips import iterations, machine_trips, rolled
from costmodel.ir import Barrier, Kernel, Site

__all__ = ["RoundTrip", "round_trips"]


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


def round_trips(kernel: Kernel, sheet: Sheet, accesses: Sequence[AccessPlan]) -> tuple[RoundTrip, ...]:
    """The groups of loads of a kernel, their formulas added to the sheet."""
    barriers = {_names(s) for s in kernel.sites if isinstance(s.leaf, Barrier)}
    found: dict[tuple[tuple[str, ...], str, sympy.Expr | None, int], _Batch] = {}
    phase, position = 0, -1
    place = {id(a.access): n for n, a in enumerate(accesses) if a.kind == "load"}
    for site in kernel.sites:
        if isinstance(site.leaf, Barrier):
            phase += 1
            continue
        position += 1
        around = _names(site)
        behind = around in barriers
        for access in site.leaf.loads:
            if access.buffer.space not in ("global", "shared"):
                continue
            stages = next((loop.stages for loop in reversed(site.serial()) if loop.stages != 1), sympy.Integer(1))
            ahead = site.leaf.asynchronous or (access.buffer.space == "global" and stages != 1)
            key = (around, access.buffer.space, stages if ahead else None, phase)
            batch = found.setdefault(key, _Batch(machine_trips(site.loops)))
            batch.bytes += iterations(site) * access.bytes
            batch.behind_barrier |= (
                behind and access.buffer.space == "global" and any(a.buffer.space == "shared" for a in site.leaf.stores)
            )
            batch.sites[position] = site
            batch.loads.append(place[id(access)])
    groups = {key: n for n, key in enumerate(dict.fromkeys((around, stages, phase) for around, _, stages, phase in found))}
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
            groups[around, stages, phase],
        )
        for (around, space, stages, phase), batch in found.items()
    )


def _names(site: Site) -> tuple[str, ...]:
    return tuple(loop.index.name for loop in rolled(site.loops))


@dataclass(slots=True)
class _Batch:
    """Loads that are issued together."""

    trips: sympy.Expr
    bytes: sympy.Expr = sympy.Integer(0)
    behind_barrier: bool = False
    sites: dict[int, Site] = field(default_factory=dict)
    loads: list[int] = field(default_factory=list)
