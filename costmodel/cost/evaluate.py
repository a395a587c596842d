"""Charges a plan on a device for a table of sizes: one vectorised pass from counts to seconds.

Everything is counted for the whole launch and divided over the SMs. The steps are those of the
package: counts, occupancy, requests on each access, caches, unit cycles, latency chain, overlap, tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.charges.bandwidth import mixed_efficiency
from costmodel.charges.caches import l1_share_bytes
from costmodel.charges.crossbar import port_bytes
from costmodel.charges.instructions import refetched_bytes
from costmodel.charges.latency import load_wait, pipeline_wait, tail_factor
from costmodel.charges.occupancy import Residency, residency, shared_allocation
from costmodel.charges.overlap import Overlap, overlap
from costmodel.charges.pipes import ADDRESS_OPERATIONS, LOOP_OPERATIONS, arithmetic_rate
from costmodel.charges.registers import IN_FLIGHT_WORDS, WORD, Region, chosen_registers, demand, register_cap
from costmodel.charges.spills import spill_traffic
from costmodel.cost.ablation import ideal_access, uncached
from costmodel.cost.caching import fill_caches
from costmodel.cost.given_registers import GivenRegisters
from costmodel.cost.memory import AccessTotals, access_totals, is_asynchronous, is_atomic, memory_of
from costmodel.cost.plan import Plan
from costmodel.cost.register_plan import RegionPlan
from costmodel.cost.warmth import BACK_TO_BACK, Warm
from costmodel.counts import warp_requests
from costmodel.device import Device, achievable_dram_bytes_per_s

__all__ = ["Charged", "evaluate"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Charged:
    """The price of every configuration, with what it is made of."""

    seconds: Floats
    overlap: Overlap
    """Were all SMs equally busy."""
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
    matrix_missing: list[str] = field(default_factory=list)


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
    v = plan.sheet.values(columns)
    f = plan.sheet.floats(v, columns)
    threads, blocks = _product(v, plan.block, rows), _product(v, plan.grid, rows)
    shared_bytes = _ints(v[plan.shared_bytes], rows)
    used, spilled = _registers(plan, device, v, f, rows, registers)
    if "spills" in without:
        spilled = np.zeros(rows)
    free = "occupancy" in without
    held = residency(threads, np.minimum(used, 1) if free else used, 0 * shared_bytes if free else shared_bytes, blocks, device)
    warps = f_(blocks) * held.warps_per_block
    memory = None if any(np.ndim(c) for c in columns.values()) else memory_of(device)
    accesses = [access_totals(plan, a, device, columns, f, rows, memory) for a in plan.accesses]
    for a in accesses if without else ():
        ideal_access(a, device, without)
    fill_caches(plan, device, columns, v, f, held, shared_bytes, blocks, accesses, warm)
    for a in accesses if "caches" in without else ():
        uncached(a, device)
    return _charge(plan, device, columns, f, threads, blocks, shared_bytes, used, spilled, held, warps, accesses, rows, without)


def f_(a: Ints) -> Floats:
    """As float64."""
    return a.astype(np.float64)


def _ints(value: Any, rows: int) -> Ints:
    return np.broadcast_to(np.asarray(value, np.int64), (rows,))


def _product(v: list[Any], handles: tuple[int, int, int], rows: int) -> Ints:
    return _ints(v[handles[0]], rows) * _ints(v[handles[1]], rows) * _ints(v[handles[2]], rows)


def _registers(
    plan: Plan, device: Device, v: list[Any], f: list[Any], rows: int, given: GivenRegisters | None
) -> tuple[Ints, Floats]:
    """Registers of a thread and the words that spill: as given, as described, else estimated."""
    if given is not None and not np.isnan(given.registers).any():
        return given.registers.astype(np.int64), given.spilled
    if plan.registers is not None:
        used, spilled = _ints(v[plan.registers], rows), np.zeros(rows)
    else:
        used, spilled = _estimated(plan, device, v, f, rows)
    if given is None:
        return used, spilled
    open_ = np.isnan(given.registers)
    return np.where(open_, used, given.registers).astype(np.int64), np.where(open_, spilled, given.spilled)


def _estimated(plan: Plan, device: Device, v: list[Any], f: list[Any], rows: int) -> tuple[Ints, Floats]:
    asked = [demand(_region(r, f), device) for r in plan.live.regions]
    cap = register_cap(None if plan.max_threads is None else _ints(v[plan.max_threads], rows), device)
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


def _charge(
    plan: Plan,
    device: Device,
    columns: Mapping[str, Any],
    f: list[Any],
    threads: Ints,
    blocks: Ints,
    shared_bytes: Ints,
    used: Ints,
    spilled: Floats,
    held: Residency,
    warps: Floats,
    accesses: list[AccessTotals],
    rows: int,
    without: frozenset[str],
) -> Charged:
    t, lanes, hz, sms = device.throughput, device.limits.warp_size, device.clock.sustained_hz, device.sm_count
    parts: dict[str, dict[str, Floats]] = {}
    amounts: dict[str, tuple[Floats, str, float]] = {}
    zero = np.zeros(rows)
    instructions, flops = zero, zero
    missing: list[str] = []

    engines: dict[str, Floats | float] = {}

    def add(unit: str, term: str, cycles: Any, amount: Any, measure: str, rate: float, beside: Any = 0.0) -> None:
        part = parts.setdefault(unit, {})
        part[term] = part[term] + cycles if term in part else zero + cycles
        engines[unit] = engines.get(unit, 0.0) + beside * cycles
        amounts[term] = (amounts[term][0] + amount if term in amounts else zero + amount, measure, rate)

    executed = [_warp_executions(plan, s.site, s.executions, f, columns, warps, threads, blocks, lanes) for s in plan.statements]
    for s, issued in zip(plan.statements, executed, strict=True):
        for kind, dtype, handle in s.work:
            pipe, rate = arithmetic_rate(kind, dtype, device)
            if rate == 0.0:
                missing.append(f"{kind} {dtype}")
                continue
            operations = f[handle] * (issued if kind != "mma" else f[s.executions] / MATRIX_LANES)
            flops = flops + _flops(kind, dtype, f[handle], f[s.executions], operations)
            if kind == "mma":
                slower = min((device.clock.matrix_boost_hz or hz) / hz, 1.0)
                add(pipe, f"mma {dtype}", operations / rate / slower, operations, "FMA", rate * sms * hz * slower, s.asynchronous)
                instructions = instructions + issued
                continue
            packing = 2.0 if dtype in ("f16", "bf16") and t.fp16_fma > t.fp32_fma else 1.0
            add(pipe, f"{kind} {dtype}", operations * lanes / rate, operations * lanes, "op", rate * sms * hz)
            instructions = instructions + operations / packing
    for a in accesses:
        if a.plan.kind == "store" and is_atomic(a.plan) and a.plan.access.buffer.space == "global":
            operations = a.requested_bytes / a.plan.access.buffer.dtype.itemsize
            distinct = np.maximum(f[a.plan.whole.elements] if a.plan.whole else 1.0, 1.0)
            add("atomic", "atomic", operations / distinct * sms, operations, "op", np.inf)
    integers = LOOP_OPERATIONS * f[plan.trips] * warps
    for a in accesses:
        unit = {"global": "l1", "shared": "shared", "constant": "constant"}[a.plan.access.buffer.space]
        path = "memory path" if device.l1.unified_with_shared and unit != "constant" else unit
        add(
            path,
            unit,
            a.cycles,
            a.requests if unit != "shared" else a.wavefronts,
            "request" if unit != "shared" else "wavefront",
            np.inf,
            is_asynchronous(a.plan),
        )
        instructions = instructions + a.requests
        if unit == "l1" and a.plan.addressed:
            integers = integers + ADDRESS_OPERATIONS * a.requests / f[a.plan.per_address]
    if "addresses" in without:
        integers = zero
    pipe, rate = arithmetic_rate("integer", "i32", device)
    add(pipe, "integer", integers * lanes / rate, integers * lanes, "op", rate * sms * hz)
    moved = spilled * f[plan.live.sweeps] * warps * 2.0
    spills = spill_traffic(
        moved * lanes * WORD / 2.0,
        spilled * WORD * lanes * held.warps_per_sm,
        l1_share_bytes(held.blocks_per_sm, shared_allocation(shared_bytes, device), device) * held.blocks_per_sm,
        device,
    )
    spill_cycles = np.maximum(lanes / t.load_store, lanes * 4.0 / device.l1.bytes_per_cycle)
    add(
        "memory path" if device.l1.unified_with_shared else "l1", "spills", moved * spill_cycles, moved * lanes * 4.0, "B", np.inf
    )
    instructions = instructions + integers + moved + f[plan.barriers] * warps
    to_l2 = sum((a.l2_bytes for a in accesses), spills.l2_bytes)
    ports = device.l2.sm_bytes_per_cycle * np.minimum(blocks, sms)
    code = refetched_bytes(_machine_instructions(plan, f, executed, accesses, warps), f_(blocks), device.instruction_cache_bytes)
    slowed = sum((a.l2_bytes / a.l2_efficiency for a in accesses), spills.l2_bytes + code)
    through = np.maximum(slowed / device.l2.bandwidth_bytes_per_cycle, _port_bytes(device, accesses, spills.l2_bytes) / ports)
    add("l2", "l2", through * sms, to_l2 + code, "B", device.l2.bandwidth_bytes_per_cycle * hz, _beside(accesses, "l2_bytes"))
    to_dram = sum((a.dram_bytes for a in accesses), spills.dram_bytes)
    written = sum((a.dram_bytes for a in accesses if a.plan.kind == "store"), np.zeros(rows))
    dram_rate = np.minimum(achievable_dram_bytes_per_s(device) * mixed_efficiency(to_dram - written, written), ports * hz)
    scattered = sum((a.dram_bytes / a.dram_efficiency for a in accesses), spills.dram_bytes) if "rows" not in without else to_dram
    copied = _beside(accesses, "dram_bytes")
    add("dram", "dram", scattered / dram_rate * hz * sms, to_dram, "B", device.dram.bandwidth_bytes_per_s, copied)
    if "issue" in without:
        instructions = zero
    add("issue", "issue", instructions / t.issue_per_cycle, instructions, "instruction", t.issue_per_cycle * sms * hz)
    units = {name: sum(part.values(), np.zeros(rows)) for name, part in parts.items()}
    waiting = _dependent(plan, device, f, executed)
    chain, waits = _chain(plan, device, f, units, warps, held, accesses, waiting, executed)
    waits = waits + device.block_launch_cycles
    if "latency" in without:
        chain, waits = zero, zero
    tail = tail_factor(blocks, held.blocks_per_sm, sms) if "tail" not in without else np.ones(rows)
    together = np.maximum(np.minimum(held.blocks_per_sm, -(-blocks // sms)), 1)
    idle = [np.asarray(1.0) if n in _DEVICE_WIDE else tail for n in units]
    background = [engines[n] for n in units] if any(s.asynchronous for s in plan.statements) else None
    even = overlap(list(units.values()), chain, waits, f_(blocks), together, background)
    background = None if background is None else [e * i for e, i in zip(background, idle, strict=True)]
    stretched = [c * i for c, i in zip(units.values(), idle, strict=True)]
    uneven = overlap(stretched, chain * tail, waits, f_(blocks), together, background)
    seconds = uneven.cycles / sms / hz + (device.launch_overhead_s if "launch" not in without else 0.0)
    return Charged(
        seconds=seconds,
        overlap=even,
        cycles=uneven.cycles,
        units=units,
        amounts=amounts,
        parts=parts,
        chain=chain,
        waits=waits,
        tail=tail,
        residency=held,
        threads=threads,
        blocks=blocks,
        shared_bytes=shared_bytes,
        registers=used,
        spilled=spilled,
        accesses=accesses,
        flops=flops,
        code_bytes=code,
        matrix_missing=missing,
    )


def _beside(accesses: list[AccessTotals], name: str) -> Floats:
    """Share of these bytes that asynchronous copies move."""
    total = sum((getattr(a, name) for a in accesses), np.zeros(1))
    copied: Floats = sum((getattr(a, name) for a in accesses if is_asynchronous(a.plan)), np.zeros(1))
    return copied / np.maximum(total, 1.0)


def _machine_instructions(
    plan: Plan, f: list[Any], executed: list[Floats], accesses: list[AccessTotals], warps: Floats
) -> Floats:
    """Instructions of the machine code, without those before and after the loops."""
    total = np.zeros(warps.shape)
    once = {id(s.site): n / (warps * f[s.trips]) for s, n in zip(plan.statements, executed, strict=True)}
    trips = {id(s.site): warps * f[s.trips] for s in plan.statements}
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


def _warp_executions(
    plan: Plan,
    site: Any,
    handle: int,
    f: list[Any],
    columns: Mapping[str, Any],
    warps: Floats,
    threads: Ints,
    blocks: Ints,
    lanes: int,
) -> Floats:
    """Warp instructions of a statement: warps with at least one lane that passes its guards."""
    if site.guards:
        return np.broadcast_to(warp_requests(plan.kernel, site, None, columns, lanes).totals(), warps.shape)
    each: Floats = f[handle] / (f_(threads) * f_(blocks)) * warps
    return each


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


def _chain(
    plan: Plan,
    device: Device,
    f: list[Any],
    units: dict[str, Floats],
    warps: Floats,
    held: Residency,
    accesses: list[AccessTotals],
    dependent: Floats,
    executed: list[Floats],
) -> tuple[Floats, Floats]:
    """SM cycles in which all warps run their own chains, as many at a time as are resident.

    One warp alone issues on its own scheduler, holds the memory path for its requests, and waits for a
    round trip whenever it needs what it loaded.
    """
    arithmetic = sum((c for n, c in units.items() if n not in _NOT_ARITHMETIC), np.zeros(warps.shape))
    path = sum((c for n, c in units.items() if n in ("memory path", "l1", "shared")), np.zeros(warps.shape))
    busy = arithmetic * device.throughput.schedulers + path + dependent
    resident = np.maximum(held.warps_per_sm / held.warps_per_block, 1.0)
    turn = reduce(np.maximum, units.values()) / warps * held.warps_per_block * resident
    groups: dict[int, Floats] = {}
    for trip in plan.round_trips:
        trips, loaded = f[trip.trips], f[trip.bytes] / WORD
        if trip.guarded is not None:
            made = np.max(np.stack([executed[n] / (warps * f[copies]) for n, copies in trip.guarded]), axis=0)
            trips, loaded = np.minimum(made, trips), loaded * np.minimum(made / trips, 1.0)
        if trip.stages is not None:
            arrival = device.shared.latency_cycles if trip.space == "shared" else _arrival(device, accesses)
            wait = pipeline_wait(trips, f[trip.stages], arrival, np.maximum(busy / warps, turn))
        elif trip.space == "shared":
            wait = load_wait(trips, loaded, device.shared.latency_cycles, IN_FLIGHT_WORDS)
        elif trip.behind_barrier:
            wait = load_wait(trips, loaded, device.dram.latency_cycles, IN_FLIGHT_WORDS)
        else:
            wait = load_wait(trips, loaded, _load_latency(device, [accesses[n] for n in trip.loads]), IN_FLIGHT_WORDS)
        groups[trip.group] = np.maximum(groups.get(trip.group, 0.0), wait)
    waits = sum(groups.values(), np.zeros(warps.shape))
    own = busy + (waits + device.block_launch_cycles) * warps
    result: Floats = own / np.maximum(held.warps_per_sm, 1)
    return result, waits


MATRIX_LANES = 32
"""Threads that share one `k.mma`, on every device: a description does not know the warp size."""
_KINDS = ("load", "store")
_DEVICE_WIDE = frozenset({"l2", "dram", "atomic"})
_NOT_ARITHMETIC = _DEVICE_WIDE | {"issue", "memory path", "l1", "shared"}


def _dependent(plan: Plan, device: Device, f: list[Any], executed: list[Floats]) -> Floats:
    """SM cycles in which warps alone wait for their own results: latency that too few accumulators leave uncovered.

    Statements that update none do one operation after the other.
    """
    t, lanes = device.throughput, device.limits.warp_size
    total = np.zeros(1)
    for s, issued in zip(plan.statements, executed, strict=True):
        for kind, dtype, handle in s.work:
            _, rate = arithmetic_rate(kind, dtype, device)
            if kind != "mma" and rate:
                independent = 1.0 if s.independent is None else f[s.independent]
                uncovered = np.maximum(t.alu_latency_cycles / independent - lanes * t.schedulers / rate, 0.0)
                total = total + f[handle] * issued * uncovered
    return total


def _arrival(device: Device, accesses: list[AccessTotals]) -> Floats:
    """Load-to-use of what is loaded ahead: all of one step are waited for, so the buffer that comes from memory most counts."""
    share = np.zeros(1)
    for a in accesses:
        ahead = is_asynchronous(a.plan) or any(loop.stages != 1 for loop in a.plan.site.serial())
        if ahead and a.plan.kind == "load" and a.plan.access.buffer.space == "global":
            share = np.maximum(share, np.minimum(a.dram_bytes / np.maximum(a.l2_bytes, 1.0), 1.0))
    latency: Floats = device.l2.latency_cycles + share * (device.dram.latency_cycles - device.l2.latency_cycles)
    return latency


def _load_latency(device: Device, loads: list[AccessTotals]) -> Floats:
    """Mean load-to-use of global loads: by where their sectors come from."""
    asked = sum((a.sectors for a in loads), np.zeros(1)) * device.l2.sector_bytes
    from_l2 = np.minimum(sum((a.l2_bytes for a in loads), np.zeros(1)) / np.maximum(asked, 1.0), 1.0)
    from_dram = np.minimum(sum((a.dram_bytes for a in loads), np.zeros(1)) / np.maximum(asked, 1.0), from_l2)
    l1, l2, dram = device.l1.latency_cycles, device.l2.latency_cycles, device.dram.latency_cycles
    latency: Floats = l1 + from_l2 * (l2 - l1) + from_dram * (dram - l2)
    return latency
