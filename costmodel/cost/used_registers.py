"""Registers of a thread and the words that spill: as a compiler told, as described, else estimated."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.charges.registers import WORD, Region, chosen_registers, demand, register_cap
from costmodel.cost.given_registers import GivenRegisters
from costmodel.cost.launch import whole_rows
from costmodel.cost.plan import Plan
from costmodel.cost.register_plan import RegionPlan
from costmodel.device import Device

__all__ = ["used_registers"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def used_registers(
    plan: Plan, device: Device, v: list[Any], f: list[Any], rows: int, given: GivenRegisters | None
) -> tuple[Ints, Floats]:
    """Registers of a thread, and the words that each sweep over its accumulators spills.

    Args:
        plan: of the kernel.
        device: the GPU.
        v: the plan's formulas, whole.
        f: the same in float64.
        rows: number of configurations.
        given: what a compiler told, NaN where it did not.
    """
    if given is not None and not np.isnan(given.registers).any():
        return given.registers.astype(np.int64), given.spilled
    if plan.registers is not None:
        used, spilled = whole_rows(v[plan.registers], rows), np.zeros(rows)
    else:
        used, spilled = _estimated(plan, device, v, f, rows)
    if given is None:
        return used, spilled
    open_ = np.isnan(given.registers)
    return np.where(open_, used, given.registers).astype(np.int64), np.where(open_, spilled, given.spilled)


def _estimated(plan: Plan, device: Device, v: list[Any], f: list[Any], rows: int) -> tuple[Ints, Floats]:
    asked = [demand(_region(r, f), device) for r in plan.live.regions]
    cap = register_cap(None if plan.max_threads is None else whole_rows(v[plan.max_threads], rows), device)
    used, spilled = chosen_registers(reduce(or_, asked), cap, device)
    return np.broadcast_to(used, (rows,)), np.broadcast_to(spilled, (rows,))


def _region(r: RegionPlan, f: list[Any]) -> Region:
    """A region's amounts in words."""
    return Region(
        kind=r.kind,
        loops=r.loops,
        pointers=r.pointers,
        accumulators=f[r.accumulators] / WORD,
        fragments=f[r.fragments] / WORD,
        gathered=f[r.gathered] / WORD,
        fetched=f[r.fetched] / WORD,
        addresses=f[r.addresses],
        staged=f[r.staged] / WORD,
        copies=f[r.copies],
        chains=f[r.chains],
        updates=f[r.updates],
    )
