"""Charges a plan on a device for a table of sizes: one vectorised pass from counts to seconds.

Everything is counted for the whole launch and divided over the SMs. The steps are those of the
package: counts, occupancy, requests on each access, caches, unit cycles, latency chain, overlap, tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.charges.latency import tail_factor
from costmodel.charges.occupancy import Residency, residency
from costmodel.charges.overlap import Overlap, overlap
from costmodel.cost.ablation import ideal_access, uncached
from costmodel.cost.caching import fill_caches
from costmodel.cost.given_registers import GivenRegisters
from costmodel.cost.launch import Launch, warp_executions, whole_rows
from costmodel.cost.memory import AccessTotals, access_totals
from costmodel.cost.plan import Plan
from costmodel.cost.remembered import remembered
from costmodel.cost.unit_cycles import DEVICE_WIDE, UnitCycles, unit_cycles
from costmodel.cost.used_registers import used_registers
from costmodel.cost.waits import chain_and_waits
from costmodel.cost.warmth import BACK_TO_BACK, Warm
from costmodel.device import Device
from costmodel.ir import Barrier

__all__ = ["Charged", "evaluate"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Charged:
    """The price of every configuration, with what it is made of."""

    seconds: Floats
    overlap: Overlap
    """Were all SMs equally busy."""
    launch_s: float
    """Added to the time on the SMs."""
    cycles: Floats
    """SM cycles with the tail: SMs that idle while others finish."""
    units: dict[str, Floats]
    """SM cycles on each unit, in the whole launch."""
    amounts: dict[str, tuple[Floats, str, float]]
    """For each term: amount, its unit, and peak rate of the whole device."""
    parts: dict[str, dict[str, Floats]]
    """SM cycles of each term, by the unit it runs on."""
    chain: Floats
    waits: Floats
    """Cycles that one warp waits for its start and for what it loads."""
    tail: Floats
    residency: Residency
    threads: Ints
    blocks: Ints
    shared_bytes: Ints
    registers: Ints
    spilled: Floats
    accesses: list[AccessTotals]
    flops: Floats
    code_bytes: Floats
    """Instructions fetched from L2."""
    lacking: list[str] = field(default_factory=list)
    """What the kernel asks for that the device does not have: it cannot run."""


def evaluate(
    plan: Plan,
    device: Device,
    columns: Mapping[str, Any],
    rows: int,
    registers: GivenRegisters | None,
    without: frozenset[str] = frozenset(),
    warm: Warm | int = BACK_TO_BACK,
) -> Charged:
    """Price all rows; they must be feasible (`cost.feasibility`).

    Args:
        plan: of the kernel.
        device: the GPU.
        columns: sizes, ints or int64 arrays of `rows`.
        rows: number of configurations.
        registers: of a thread, if known.
        without: charges to leave out (`cost.ablation`).
        warm: what earlier launches left in L2 (`cost.warmth`).
    """
    launch = _launch(plan, device, columns, rows, registers, without)
    accesses = [access_totals(launch, a) for a in plan.accesses]
    for a in accesses if without else ():
        ideal_access(a, device, without)
    fill_caches(launch, accesses, warm)
    for a in accesses if "caches" in without else ():
        uncached(a, device)
    executed = warp_executions(launch)
    return _charged(launch, accesses, executed, unit_cycles(launch, accesses, executed, without), without)


def _launch(
    plan: Plan, device: Device, columns: Mapping[str, Any], rows: int, registers: GivenRegisters | None, without: frozenset[str]
) -> Launch:
    """Blocks, registers and residency of each configuration."""
    v = plan.sheet.values(columns)
    f = plan.sheet.floats(v, columns)
    x, y, z, across, along, deep = (whole_rows(v[h], rows) for h in (*plan.block, *plan.grid))
    threads, blocks = x * y * z, across * along * deep
    shared_bytes = whole_rows(v[plan.shared_bytes], rows)
    used, spilled = used_registers(plan, device, v, f, rows, registers)
    if "spills" in without:
        spilled = np.zeros(rows)
    free = "occupancy" in without
    held = residency(threads, np.minimum(used, 1) if free else used, 0 * shared_bytes if free else shared_bytes, blocks, device)
    warps = blocks.astype(np.float64) * held.warps_per_block
    return Launch(
        plan, device, remembered(device), columns, rows, v, f, threads, blocks, warps, shared_bytes, used, spilled, held
    )


def _taking_turns(launch: Launch) -> tuple[Floats, Ints]:
    """Who waits and works in turn, in the launch and at a time on an SM: blocks that barriers keep together, else warps."""
    sms, held = launch.device.sm_count, launch.held
    if any(isinstance(s.leaf, Barrier) for s in launch.plan.kernel.sites):
        return launch.blocks.astype(np.float64), np.maximum(np.minimum(held.blocks_per_sm, -(-launch.blocks // sms)), 1)
    on_sm = np.ceil(launch.warps / sms).astype(np.int64)
    return launch.warps, np.maximum(np.minimum(held.blocks_per_sm * held.warps_per_block, on_sm), 1)


def _charged(
    launch: Launch, accesses: list[AccessTotals], executed: list[Floats], terms: UnitCycles, without: frozenset[str]
) -> Charged:
    """Lay units, waits and the tail over each other."""
    device, held, sms = launch.device, launch.held, launch.device.sm_count
    units = terms.totals()
    chain, waits = chain_and_waits(launch, units, accesses, executed)
    if "latency" in without:
        chain = waits = np.zeros(launch.rows)
    tail = tail_factor(launch.blocks, held.blocks_per_sm, sms) if "tail" not in without else np.ones(launch.rows)
    customers, together = _taking_turns(launch)
    idle = [np.asarray(1.0) if n in DEVICE_WIDE else tail for n in units]
    background = [terms.engines[n] for n in units] if any(s.asynchronous for s in launch.plan.statements) else None
    even = overlap(list(units.values()), chain, waits, customers, together, background)
    background = None if background is None else [e * i for e, i in zip(background, idle, strict=True)]
    stretched = [c * i for c, i in zip(units.values(), idle, strict=True)]
    uneven = overlap(stretched, chain * tail, waits, customers, together, background)
    overhead = device.launch_overhead_s if "launch" not in without else 0.0
    return Charged(
        seconds=uneven.cycles / sms / device.clock.sustained_hz + overhead,
        overlap=even,
        launch_s=overhead,
        cycles=uneven.cycles,
        units=units,
        amounts=terms.amounts,
        parts=terms.parts,
        chain=chain,
        waits=waits,
        tail=tail,
        residency=held,
        threads=launch.threads,
        blocks=launch.blocks,
        shared_bytes=launch.shared_bytes,
        registers=launch.registers,
        spilled=launch.spilled,
        accesses=accesses,
        flops=terms.flops,
        code_bytes=terms.code_bytes,
        lacking=terms.lacking,
    )
