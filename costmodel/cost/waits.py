"""What one warp waits for, and the cycles in which all warps run their own chains, as many at a time as are resident."""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt

from costmodel.charges.latency import load_wait, pipeline_wait
from costmodel.charges.pipes import arithmetic_rate
from costmodel.charges.registers import IN_FLIGHT_WORDS, WORD
from costmodel.cost.launch import Launch
from costmodel.cost.memory import AccessTotals, is_asynchronous
from costmodel.cost.unit_cycles import DEVICE_WIDE
from costmodel.device import Device

__all__ = ["chain_and_waits"]

Floats = npt.NDArray[np.float64]

_NOT_ARITHMETIC = DEVICE_WIDE | {"issue", "memory path", "l1", "shared"}


def chain_and_waits(
    launch: Launch, units: dict[str, Floats], accesses: list[AccessTotals], executed: list[Floats]
) -> tuple[Floats, Floats]:
    """SM cycles of all warps' chains, and cycles that one warp waits for its start and for what it loads.

    One warp alone issues on its own scheduler, holds the memory path for its requests, and waits for a
    round trip whenever it needs what it loaded.

    Args:
        launch: the configurations.
        units: SM cycles of each unit.
        accesses: with their bytes from caches.
        executed: warp instructions of each statement.
    """
    device, warps, held = launch.device, launch.warps, launch.held
    arithmetic = sum((c for n, c in units.items() if n not in _NOT_ARITHMETIC), np.zeros(warps.shape))
    path = sum((c for n, c in units.items() if n in ("memory path", "l1", "shared")), np.zeros(warps.shape))
    busy = arithmetic * device.throughput.schedulers + path + _dependent(launch, executed)
    resident = np.maximum(held.warps_per_sm / held.warps_per_block, 1.0)
    turn = reduce(np.maximum, units.values()) / warps * held.warps_per_block * resident
    waits = _waits(launch, accesses, executed, np.maximum(busy / warps, turn)) + device.block_launch_cycles
    chain: Floats = (busy + waits * warps) / np.maximum(held.warps_per_sm, 1)
    return chain, waits


def _waits(launch: Launch, accesses: list[AccessTotals], executed: list[Floats], step: Floats) -> Floats:
    """Cycles that one warp waits for what it loads; `step` is what covers the latency of copies that run ahead."""
    device, f, warps = launch.device, launch.floats, launch.warps
    groups: dict[int, Floats] = {}
    for trip in launch.plan.round_trips:
        trips, loaded = f[trip.trips], f[trip.bytes] / WORD
        if trip.guarded is not None:
            made = np.max(np.stack([executed[n] / (warps * f[copies]) for n, copies in trip.guarded]), axis=0)
            trips, loaded = np.minimum(made, trips), loaded * np.minimum(made / trips, 1.0)
        if trip.stages is not None:
            arrival = device.shared.latency_cycles if trip.space == "shared" else _arrival(device, accesses)
            wait = pipeline_wait(trips, f[trip.stages], arrival, step)
        elif trip.space == "shared":
            wait = load_wait(trips, loaded, device.shared.latency_cycles, IN_FLIGHT_WORDS)
        elif trip.behind_barrier:
            wait = load_wait(trips, loaded, _staged_latency(device, [accesses[n] for n in trip.loads]), IN_FLIGHT_WORDS)
        else:
            wait = load_wait(trips, loaded, _load_latency(device, [accesses[n] for n in trip.loads]), IN_FLIGHT_WORDS)
        groups[trip.group] = np.maximum(groups.get(trip.group, 0.0), wait)
    return sum(groups.values(), np.zeros(warps.shape))


def _dependent(launch: Launch, executed: list[Floats]) -> Floats:
    """SM cycles in which warps alone wait for their own results: latency that too few accumulators leave uncovered.

    Statements that update none do one operation after the other.
    """
    device, f = launch.device, launch.floats
    t, lanes = device.throughput, device.limits.warp_size
    total = np.zeros(1)
    for s, issued in zip(launch.plan.statements, executed, strict=True):
        for kind, dtype, handle in s.work:
            _, rate = arithmetic_rate(kind, dtype, device)
            if kind != "mma" and rate:
                independent = 1.0 if s.independent is None else f[s.independent]
                uncovered = np.maximum(t.alu_latency_cycles / independent - lanes * t.schedulers / rate, 0.0)
                total = total + f[handle] * issued * uncovered
    return total


def _arrival(device: Device, accesses: list[AccessTotals]) -> Floats:
    """Load-to-use of what is loaded ahead: all of one step are waited for, so the buffer that comes from farthest counts."""
    latency = np.full(1, device.l2.latency_cycles)
    for a in accesses:
        ahead = is_asynchronous(a.plan) or any(loop.stages != 1 for loop in a.plan.site.serial())
        if ahead and a.plan.kind == "load" and a.plan.access.buffer.space == "global":
            beyond, missed = (np.minimum(b / np.maximum(a.l2_bytes, 1.0), 1.0) for b in (a.side_bytes, a.dram_bytes))
            latency = np.maximum(latency, _beyond_l2(device, device.l2.latency_cycles, beyond, missed))
    return latency


def _staged_latency(device: Device, loads: list[AccessTotals]) -> Floats | float:
    """Load-to-use of what is staged between barriers: the slowest of many lanes comes from beyond L2."""
    if device.memory_side_cache is None:
        return device.dram.latency_cycles
    beyond, missed = sum((a.side_bytes for a in loads), np.zeros(1)), sum((a.dram_bytes for a in loads), np.zeros(1))
    return _beyond_l2(device, device.l2.latency_cycles, np.ones(1), missed / np.maximum(beyond, 1.0))


def _load_latency(device: Device, loads: list[AccessTotals]) -> Floats:
    """Mean load-to-use of global loads: by where their sectors come from."""
    asked = sum((a.sectors for a in loads), np.zeros(1)) * device.l2.sector_bytes
    from_l2 = np.minimum(sum((a.l2_bytes for a in loads), np.zeros(1)) / np.maximum(asked, 1.0), 1.0)
    from_side = np.minimum(sum((a.side_bytes for a in loads), np.zeros(1)) / np.maximum(asked, 1.0), from_l2)
    from_dram = np.minimum(sum((a.dram_bytes for a in loads), np.zeros(1)) / np.maximum(asked, 1.0), from_side)
    l1, l2 = device.l1.latency_cycles, device.l2.latency_cycles
    return _beyond_l2(device, l1 + from_l2 * (l2 - l1), from_side, from_dram)


def _beyond_l2(device: Device, within: Floats | float, beyond: Floats, missed: Floats) -> Floats:
    """Mean load-to-use where these shares are served beyond L2, and of these by memory itself.

    Args:
        device: the GPU.
        within: load-to-use if L2 served them all.
        beyond: share that leaves L2.
        missed: share that a memory-side cache does not hold either.
    """
    l2, dram, side = device.l2.latency_cycles, device.dram.latency_cycles, device.memory_side_cache
    behind = dram if side is None else side.latency_cycles
    latency: Floats = within + beyond * (behind - l2) + missed * (dram - behind)
    return latency
