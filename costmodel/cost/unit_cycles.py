"""SM cycles on each unit, in the whole launch: what statements, accesses, spills and caches ask of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.charges.bandwidth import mixed_efficiency
from costmodel.charges.caches import l1_share_bytes
from costmodel.charges.crossbar import port_bytes
from costmodel.charges.instructions import refetched_bytes
from costmodel.charges.occupancy import shared_allocation
from costmodel.charges.pipes import ADDRESS_OPERATIONS, LOOP_OPERATIONS, arithmetic_rate
from costmodel.charges.registers import WORD
from costmodel.charges.spills import SpillTraffic, spill_traffic
from costmodel.charges.support import lacking
from costmodel.cost.launch import Launch
from costmodel.cost.memory import AccessTotals, is_asynchronous, is_atomic
from costmodel.device import Device, achievable_dram_bytes_per_s

__all__ = ["DEVICE_WIDE", "UnitCycles", "unit_cycles"]

Floats = npt.NDArray[np.float64]

DEVICE_WIDE = frozenset({"l2", "memory side", "dram", "atomic"})
"""Units that all SMs share."""
MATRIX_LANES = 32
"""Threads that share one `k.mma`, on every device: a description does not know the warp size."""


@dataclass(slots=True)
class UnitCycles:
    """Terms by the unit they run on, each an array over the configurations."""

    rows: int
    parts: dict[str, dict[str, Floats]] = field(default_factory=dict)
    """SM cycles of each term of each unit."""
    amounts: dict[str, tuple[Floats, str, float]] = field(default_factory=dict)
    """For each term: amount, its unit, and peak rate of the whole device."""
    engines: dict[str, Floats | float] = field(default_factory=dict)
    """SM cycles of each unit that no warp waits for."""
    instructions: Floats = field(default_factory=lambda: np.zeros(1))
    """Warp instructions issued."""
    flops: Floats = field(default_factory=lambda: np.zeros(1))
    code_bytes: Floats = field(default_factory=lambda: np.zeros(1))
    """Instructions fetched from L2."""
    lacking: list[str] = field(default_factory=list)
    """What the kernel asks for that the device does not have."""

    def add(self, unit: str, term: str, cycles: Any, amount: Any, measure: str, rate: float, beside: Any = 0.0) -> None:
        """Put cycles of a term on a unit; `beside` is the share that asynchronous engines do."""
        zero, part = np.zeros(self.rows), self.parts.setdefault(unit, {})
        part[term] = part[term] + cycles if term in part else zero + cycles
        self.engines[unit] = self.engines.get(unit, 0.0) + beside * cycles
        self.amounts[term] = (self.amounts[term][0] + amount if term in self.amounts else zero + amount, measure, rate)

    def totals(self) -> dict[str, Floats]:
        """SM cycles of each unit."""
        return {name: sum(part.values(), np.zeros(self.rows)) for name, part in self.parts.items()}


def unit_cycles(
    launch: Launch, accesses: list[AccessTotals], executed: list[Floats], without: frozenset[str] = frozenset()
) -> UnitCycles:
    """Charge everything that a launch asks for.

    Args:
        launch: the configurations.
        accesses: with their bytes from caches.
        executed: warp instructions of each statement.
        without: charges to leave out (`cost.ablation`).
    """
    units = UnitCycles(launch.rows)
    units.instructions, units.flops = np.zeros(launch.rows), np.zeros(launch.rows)
    _statements(units, launch, executed)
    _atomics(units, launch, accesses)
    integers = _paths(units, launch, accesses)
    if "addresses" in without:
        integers = np.zeros(launch.rows)
    t, lanes = launch.device.throughput, launch.device.limits.warp_size
    pipe, rate = arithmetic_rate("integer", "i32", launch.device)
    units.add(pipe, "integer", integers * lanes / rate, integers * lanes, "op", rate * _per_second(launch.device))
    spills, moved = _spills(units, launch)
    units.instructions = units.instructions + integers + moved + launch.floats[launch.plan.barriers] * launch.warps
    units.code_bytes = refetched_bytes(
        _machine_instructions(launch, executed, accesses),
        launch.blocks.astype(np.float64),
        launch.device.instruction_cache_bytes,
    )
    _levels(units, launch, accesses, spills, "rows" not in without)
    issued = units.instructions if "issue" not in without else np.zeros(launch.rows)
    units.add("issue", "issue", issued / t.issue_per_cycle, issued, "instruction", t.issue_per_cycle * _per_second(launch.device))
    return units


def _per_second(device: Device) -> float:
    """SM cycles of the whole device."""
    return device.sm_count * device.clock.sustained_hz


def _statements(units: UnitCycles, launch: Launch, executed: list[Floats]) -> None:
    """Arithmetic, on its pipes."""
    device, f = launch.device, launch.floats
    t, lanes, hz = device.throughput, device.limits.warp_size, device.clock.sustained_hz
    for s, issued in zip(launch.plan.statements, executed, strict=True):
        units.lacking += lacking(s.site.statement, device)
        for kind, dtype, handle in s.work:
            pipe, rate = arithmetic_rate(kind, dtype, device)
            if rate == 0.0:
                continue
            operations = f[handle] * (issued if kind != "mma" else f[s.executions] / MATRIX_LANES)
            units.flops = units.flops + _flops(kind, dtype, f[handle], f[s.executions], operations)
            if kind == "mma":
                slower = min((device.clock.matrix_boost_hz or hz) / hz, 1.0)
                peak = rate * _per_second(device) * slower
                units.add(pipe, f"mma {dtype}", operations / rate / slower, operations, "FMA", peak, s.asynchronous)
                units.instructions = units.instructions + issued
                continue
            packing = 2.0 if dtype in ("f16", "bf16") and t.fp16_fma > t.fp32_fma else 1.0
            units.add(pipe, f"{kind} {dtype}", operations * lanes / rate, operations * lanes, "op", rate * _per_second(device))
            units.instructions = units.instructions + operations / packing


def _atomics(units: UnitCycles, launch: Launch, accesses: list[AccessTotals]) -> None:
    """Updates of the same address, one after the other."""
    for a in accesses:
        if a.plan.kind == "store" and is_atomic(a.plan) and a.plan.access.buffer.space == "global":
            operations = a.requested_bytes / a.plan.access.buffer.dtype.itemsize
            distinct = np.maximum(launch.floats[a.plan.whole.elements] if a.plan.whole else 1.0, 1.0)
            units.add("atomic", "atomic", operations / distinct * launch.device.sm_count, operations, "op", np.inf)


def _paths(units: UnitCycles, launch: Launch, accesses: list[AccessTotals]) -> Floats:
    """Requests, on the path to L1, shared or constant memory; the result is the integer instructions for loops and addresses."""
    f = launch.floats
    integers: Floats = LOOP_OPERATIONS * f[launch.plan.trips] * launch.warps
    for a in accesses:
        unit = {"global": "l1", "shared": "shared", "constant": "constant"}[a.plan.access.buffer.space]
        path = _load_store_path(launch.device, unit) if unit != "constant" else unit
        amount, measure = (a.requests, "request") if unit != "shared" else (a.wavefronts, "wavefront")
        units.add(path, unit, a.cycles, amount, measure, np.inf, is_asynchronous(a.plan))
        units.instructions = units.instructions + a.requests
        if unit == "l1" and a.plan.addressed:
            integers = integers + ADDRESS_OPERATIONS * a.requests / f[a.plan.per_address]
    return integers


def _load_store_path(device: Device, unit: str) -> str:
    """The unit that moves data between registers and L1 or shared memory."""
    return "memory path" if device.l1.unified_with_shared else unit


def _spills(units: UnitCycles, launch: Launch) -> tuple[SpillTraffic, Floats]:
    """Words that do not fit: what they move, and the warp instructions that move them."""
    device, held = launch.device, launch.held
    t, lanes = device.throughput, device.limits.warp_size
    moved = launch.spilled * launch.floats[launch.plan.live.sweeps] * launch.warps * 2.0
    share = l1_share_bytes(held.blocks_per_sm, shared_allocation(launch.shared_bytes, device), device)
    spills = spill_traffic(
        moved * lanes * WORD / 2.0,
        launch.spilled * WORD * lanes * held.warps_per_sm,
        share * held.blocks_per_sm,
        device,
    )
    cycles = np.maximum(lanes / t.load_store, lanes * 4.0 / device.l1.bytes_per_cycle)
    units.add(_load_store_path(device, "l1"), "spills", moved * cycles, moved * lanes * 4.0, "B", np.inf)
    return spills, moved


def _levels(units: UnitCycles, launch: Launch, accesses: list[AccessTotals], spills: SpillTraffic, in_rows: bool) -> None:
    """Bytes from L2, from the cache behind it and from memory; `in_rows`: those scattered over rows of memory take longer."""
    device, sms, hz = launch.device, launch.device.sm_count, launch.device.clock.sustained_hz
    to_l2 = sum((a.l2_bytes for a in accesses), spills.l2_bytes)
    ports = device.l2.sm_bytes_per_cycle * np.minimum(launch.blocks, sms)
    code = units.code_bytes
    slowed = sum((a.l2_bytes / a.l2_efficiency for a in accesses), spills.l2_bytes + code)
    through = np.maximum(slowed / device.l2.bandwidth_bytes_per_cycle, _port_bytes(device, accesses, spills.l2_bytes) / ports)
    peak = device.l2.bandwidth_bytes_per_cycle * hz
    units.add("l2", "l2", through * sms, to_l2 + code, "B", peak, _beside(accesses, "l2_bytes"))
    side = device.memory_side_cache
    if side is not None:
        to_side = sum((a.side_bytes for a in accesses), spills.side_bytes)
        busy, past = to_side / side.bandwidth_bytes_per_s * hz * sms, _beside(accesses, "side_bytes")
        units.add("memory side", "memory side", busy, to_side, "B", side.bandwidth_bytes_per_s, past)
    to_dram = sum((a.dram_bytes for a in accesses), spills.dram_bytes)
    written = sum((a.dram_bytes for a in accesses if a.plan.kind == "store"), np.zeros(launch.rows))
    rate = np.minimum(achievable_dram_bytes_per_s(device) * mixed_efficiency(to_dram - written, written), ports * hz)
    scattered = sum((a.dram_bytes / a.dram_efficiency for a in accesses), spills.dram_bytes) if in_rows else to_dram
    copied, peak = _beside(accesses, "dram_bytes"), device.dram.bandwidth_bytes_per_s
    units.add("dram", "dram", scattered / rate * hz * sms, to_dram, "B", peak, copied)


def _beside(accesses: list[AccessTotals], name: str) -> Floats:
    """Share of these bytes that asynchronous copies move."""
    total = sum((getattr(a, name) for a in accesses), np.zeros(1))
    copied: Floats = sum((getattr(a, name) for a in accesses if is_asynchronous(a.plan)), np.zeros(1))
    return copied / np.maximum(total, 1.0)


def _machine_instructions(launch: Launch, executed: list[Floats], accesses: list[AccessTotals]) -> Floats:
    """Instructions of the machine code, without those before and after the loops."""
    plan, f, warps = launch.plan, launch.floats, launch.warps
    total = np.zeros(warps.shape)
    trips = {id(s.site): warps * np.maximum(f[s.trips], 1.0) for s in plan.statements}  # means may round to 0
    once = {id(s.site): n / trips[id(s.site)] for s, n in zip(plan.statements, executed, strict=True)}
    for s in plan.statements:
        for _, _, handle in s.work:
            total = total + f[handle] * once[id(s.site)]
    for a in accesses:
        own = ADDRESS_OPERATIONS / f[a.plan.per_address] if a.plan.addressed and a.plan.access.buffer.space == "global" else 0.0
        total = total + a.requests * (1.0 + own) / trips[id(a.plan.site)]
    return total


def _flops(kind: str, dtype: str, amount: Floats, executions: Floats, operations: Floats) -> Floats | float:
    if kind == "mma":
        return 2.0 * operations
    if dtype.startswith("i") or kind in ("integer", "convert"):
        return 0.0
    return (2.0 if kind == "fma" else 1.0) * amount * executions


def _port_bytes(device: Device, accesses: list[AccessTotals], spilled: Floats) -> Floats:
    """Bytes on the fuller direction between SMs and L2; spills fill each."""
    flit = device.l2.sector_bytes
    moved = {kind: [a for a in accesses if a.plan.kind == kind and a.plan.access.buffer.space == "global"] for kind in _KINDS}
    asked = [np.minimum(a.l2_bytes / np.maximum(a.sectors * flit, 1.0), 1.0) * a.lines for a in moved["load"]]
    return port_bytes(
        sum((a.l2_bytes / a.l2_efficiency for a in moved["load"]), spilled),
        sum(asked, np.zeros(1)),
        sum((a.l2_bytes / a.l2_efficiency for a in moved["store"]), spilled),
        sum((a.lines for a in moved["store"]), np.zeros(1)),
        flit,
    )


_KINDS = ("load", "store")
