"""What each access of a plan moves: requests, path cycles, sectors, and bytes from L2 and from memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.charges.caches import Scope, dram_bytes, fits, l1_share_bytes, l2_bytes, sector_inflation, wave_shape
from costmodel.charges.channels import channel_efficiency
from costmodel.charges.coalescing import coalesce, distinct_granules
from costmodel.charges.occupancy import Residency, shared_allocation
from costmodel.charges.pipes import copy_cycles, l1_cycles, shared_cycles
from costmodel.cost.plan import WAVE, AccessPlan, FootprintPlan, Plan
from costmodel.counts import warp_requests
from costmodel.counts.lane_plan import LanePlan, lane_plan
from costmodel.device import Device
from costmodel.ir import Statement
from costmodel.symbols import Program

__all__ = ["AccessTotals", "Memory", "access_totals", "fill_caches", "is_asynchronous", "is_atomic", "memory_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def _nothing() -> Floats:
    return np.zeros(1)


def _one() -> Floats:
    return np.ones(1)


@dataclass(slots=True)
class AccessTotals:
    """Launch totals of one access, arrays for each configuration."""

    plan: AccessPlan
    requests: Floats
    cycles: Floats
    """SM cycles on the L1 or shared path."""
    requested_bytes: Floats
    sectors: Floats = field(default_factory=_nothing)
    lines: Floats = field(default_factory=_nothing)
    wavefronts: Floats = field(default_factory=_nothing)
    l2_bytes: Floats = field(default_factory=_nothing)
    dram_bytes: Floats = field(default_factory=_nothing)
    l2_efficiency: Floats = field(default_factory=_one)
    footprint_bytes: Floats = field(default_factory=_nothing)


def access_totals(
    plan: Plan, a: AccessPlan, device: Device, columns: Mapping[str, Any], f: list[Any], rows: int, memory: Memory | None
) -> AccessTotals:
    """Enumerate one access; bytes from caches are filled in later, when all accesses are known.

    Args:
        plan: of the kernel.
        a: the access.
        device: the GPU.
        columns: sizes.
        f: the plan's formulas in float64.
        rows: number of configurations.
        memory: what is remembered of single configurations; None where a size is a column.
    """
    requested = np.broadcast_to(f[a.requested], (rows,))
    totals = _enumerated(plan, a, device, columns) if memory is None else _requests(plan, a, device, columns, memory)
    return AccessTotals(a, totals[0], totals[1], requested, totals[2], totals[3], totals[4])


_Totals = tuple[Floats, Floats, Floats, Floats, Floats]
Memory = OrderedDict[tuple[Any, ...], tuple[LanePlan, _Totals]]
_REMEMBERED: OrderedDict[Device, Memory] = OrderedDict()
_MOST_DEVICES, _MOST_REMEMBERED = 64, 16_384


def memory_of(device: Device) -> Memory:
    """What was enumerated for single configurations on this device."""
    if device not in _REMEMBERED:
        _REMEMBERED[device] = OrderedDict()
        if len(_REMEMBERED) > _MOST_DEVICES:
            _REMEMBERED.popitem(last=False)
    return _REMEMBERED[device]


def _requests(plan: Plan, a: AccessPlan, device: Device, columns: Mapping[str, Any], memory: Memory) -> _Totals:
    """Requests, path cycles, sectors, lines, wavefronts of one configuration.

    What one pass of the loops that change a request takes is remembered; the other loops multiply it.
    """
    lanes = lane_plan(plan.kernel, a.site, a.access, _granule(a, device), columns)
    columns = lanes.completed(columns)
    times = float(lanes.outer(columns)[0])
    key = (id(lanes), *(columns[n] for n in lanes.names))
    known = memory.get(key)
    if known is None or known[0] is not lanes:
        known = memory[key] = (lanes, _enumerated(plan, a, device, columns, once=True))
        if len(memory) > _MOST_REMEMBERED:
            memory.popitem(last=False)
    requests, cycles, sectors, lines, wavefronts = known[1]
    return requests * times, cycles * times, sectors * times, lines * times, wavefronts * times


def _granule(a: AccessPlan, device: Device) -> int:
    """Alignment that matters to the requests of an access."""
    if a.access.buffer.space == "global":
        return max(device.l1.line_bytes, device.l2.line_bytes)
    return device.shared.bank_bytes if a.access.buffer.space == "shared" else a.access.buffer.dtype.itemsize


def _enumerated(plan: Plan, a: AccessPlan, device: Device, columns: Mapping[str, Any], *, once: bool = False) -> _Totals:
    """The figures of `_requests` for a whole table; `once` leaves out loops that change nothing."""
    space = a.access.buffer.space
    r = warp_requests(plan.kernel, a.site, a.access, columns, device.limits.warp_size, _granule(a, device))
    r = replace(r, outer=1.0) if once else r
    if space == "global":
        moved = coalesce(r, device.l2.sector_bytes, device.l1.line_bytes)
        return (
            moved.requests,
            r.totals(copy_cycles(r, device) if is_asynchronous(a) else l1_cycles(r, device)),
            moved.sectors,
            moved.lines,
            _nothing(),
        )
    if space == "shared":
        wavefronts, cycles = shared_cycles(r, device)
        filled = is_asynchronous(a) and a.kind == "store"  # arrives as a line of L1 does, off the load/store path
        return r.totals(), r.totals(cycles) * (not filled), _nothing(), _nothing(), r.totals(wavefronts)
    serial = distinct_granules(r, a.access.buffer.dtype.itemsize).astype(np.float64)
    return r.totals(), r.totals(np.maximum(serial - 1.0, 0.0)), _nothing(), _nothing(), r.totals(serial)


def _footprint_bytes(p: FootprintPlan, v: list[Any], f: list[Any], a: AccessPlan, sector: int) -> Floats:
    itemsize = a.access.buffer.dtype.itemsize
    inflation = sector_inflation([v[h] for h in p.strides], [v[h] for h in p.extents], itemsize, sector)
    bytes_ = f[p.elements] * itemsize * inflation
    whole: Floats = np.ceil(bytes_ / sector) * sector
    return whole


def fill_caches(
    plan: Plan,
    device: Device,
    columns: Mapping[str, Any],
    v: list[Any],
    f: list[Any],
    held: Residency,
    shared_bytes: Ints,
    blocks: Ints,
    accesses: list[AccessTotals],
) -> None:
    """Fill in bytes from L2 and from memory."""
    sector = device.l2.sector_bytes
    share = l1_share_bytes(held.blocks_per_sm, shared_allocation(shared_bytes, device), device)
    loads = [t for t in accesses if t.plan.kind == "load" and t.plan.whole is not None]
    asked_with = _asked(accesses)
    fetched: dict[int, tuple[Floats, Floats]] = {}
    prints = {id(t): [_footprint_bytes(s.footprint, v, f, t.plan, sector) for s in t.plan.scopes] for t in loads}
    sets: dict[tuple[str, ...], Floats] = {}
    for t in loads:
        for s, size in zip(t.plan.scopes, prints[id(t)], strict=True):
            sets[s.loops] = sets.get(s.loops, _nothing()) + size
    concurrent = np.minimum(blocks.astype(np.float64), np.maximum(held.blocks_per_sm.astype(np.float64), 1.0) * device.sm_count)
    gx, gy, gz = (np.broadcast_to(np.asarray(v[h], np.int64), blocks.shape) for h in plan.grid)
    wave = wave_shape(concurrent, (gx, gy, gz))
    waves = blocks.astype(np.float64) / (wave[0] * wave[1] * wave[2]).astype(np.float64)
    single = not any(np.ndim(c) for c in columns.values())
    with_wave = {**columns, **{n: int(e[0]) if single else e for n, e in zip(WAVE, wave, strict=True)}}
    w = plan.waves.values(with_wave)
    wf = plan.waves.floats(w, with_wave)
    coarse = device.dram.sector_bytes
    wave_prints = {id(t): [_footprint_bytes(p, w, wf, t.plan, coarse) for p in t.plan.wave] for t in loads}
    wave_sets: dict[tuple[str, ...], Floats] = {}
    for t in loads:
        for scope, size in zip(t.plan.scopes, wave_prints[id(t)], strict=True):
            wave_sets[scope.loops] = wave_sets.get(scope.loops, _nothing()) + size
    whole = {
        id(t): _footprint_bytes(t.plan.whole, v, f, t.plan, device.dram.sector_bytes)
        for t in accesses
        if t.plan.whole is not None
    }
    everything = _by_buffer(accesses, whole)
    stored = _stored(accesses, (v, f, sector), (w, wf, coarse))
    for t in accesses:
        if t.plan.whole is None:
            continue
        t.footprint_bytes = whole[id(t)]
        if device.l2.channels and t.plan.step is not None:
            strides, extents = [w[h] for h in t.plan.step.strides], [w[h] for h in t.plan.step.extents]
            itemsize = t.plan.access.buffer.dtype.itemsize
            t.l2_efficiency = channel_efficiency(strides, extents, itemsize, device.l2.channels, device.l2.interleave_bytes)
        asked = t.sectors * sector
        if t.plan.kind == "store":
            t.l2_bytes = asked
            t.dram_bytes = np.minimum(asked, np.maximum(whole[id(t)], t.requested_bytes if is_atomic(t.plan) else 0.0))
            continue
        cached = t.plan.access.cached and (device.l1.caches_global_loads or t.plan.access.buffer.read_only)
        scopes = [Scope(size, f[s.passes] * blocks, sets[s.loops]) for s, size in zip(t.plan.scopes, prints[id(t)], strict=True)]
        asked = asked_with[id(t.plan.access)] * sector
        own_share = share if cached else np.zeros(1)
        t.l2_bytes = l2_bytes(asked, scopes, own_share)
        in_wave = wave_prints[id(t)]
        if t.plan.tile is not None:
            tiles = _distinct_tiles(t.plan.tile, columns, wave, (gx, gy))
            in_wave = (
                in_wave if tiles is None else [np.minimum(w, tiles * p) for w, p in zip(in_wave, prints[id(t)], strict=True)]
            )
        steps = [
            Scope(size, f[s.passes] * np.maximum(waves, 1.0), wave_sets[s.loops])
            for s, size in zip(t.plan.scopes, in_wave, strict=True)
        ]
        coarser = max(device.dram.sector_bytes / sector, 1.0)
        t.dram_bytes = dram_bytes(t.l2_bytes * coarser, steps, whole[id(t)], everything, device)
        if t.plan.repeats is not None and id(t.plan.repeats) in fetched:
            block, one = fetched[id(t.plan.repeats)]
            t.l2_bytes = t.l2_bytes * (1.0 - fits(block + stored[0], own_share))
            kept = fits(one + stored[1], float(device.l2.effective_capacity_bytes))
            t.dram_bytes = np.minimum(t.dram_bytes * (1.0 - kept), t.l2_bytes * coarser)
        fetched[id(t.plan.access)] = (prints[id(t)][0], in_wave[0])


_Values = tuple[list[Any], list[Any], int]


def _stored(accesses: list[AccessTotals], block: _Values, wave: _Values) -> tuple[Floats, Floats]:
    """What a block and a wave write while they keep what they read: it passes through the same caches."""
    stores = [t.plan for t in accesses if t.plan.kind == "store" and t.plan.whole is not None]
    (v, f, sector), (w, wf, coarse) = block, wave
    own = sum((_footprint_bytes(p.scopes[0].footprint, v, f, p, sector) for p in stores), _nothing())
    return own, sum((_footprint_bytes(p.wave[0], w, wf, p, coarse) for p in stores), _nothing())


_MOST_BLOCKS = 1 << 22


def _distinct_tiles(
    tile: Program, columns: Mapping[str, Any], wave: tuple[Ints, Ints, Ints], grid: tuple[Ints, Ints]
) -> Floats | None:
    """Different parts of an array that the blocks of the first wave start from, by trying them; None where they are too many."""
    size = wave[0] * wave[1] * wave[2]
    if size.sum() > _MOST_BLOCKS:
        return None
    row = np.repeat(np.arange(size.size), size)
    block = np.arange(row.size) - (np.cumsum(size) - size)[row]
    rest = block // grid[0][row]
    env = {n: v[row] if np.ndim(v) else v for n, v in columns.items()}
    env |= {"block_x": block % grid[0][row], "block_y": rest % grid[1][row], "block_z": rest // grid[1][row]}
    offset = np.broadcast_to(np.asarray(tile(env)[0], np.int64), row.shape)
    pairs = np.unique(np.stack([row, offset]), axis=1)
    return np.bincount(pairs[0], minlength=size.size).astype(np.float64)


def _asked(accesses: list[AccessTotals]) -> dict[int, Floats]:
    """Sectors that each load's requests ask for, with those of the loads that follow it."""
    asked: dict[int, Floats] = {}
    for t in accesses:
        leader = id(t.plan.follows if t.plan.follows is not None else t.plan.access)
        asked[leader] = asked.get(leader, np.zeros(1)) + t.sectors
    return asked


def is_atomic(a: AccessPlan) -> bool:
    """Whether the access belongs to an atomic read-modify-write."""
    return isinstance(a.site.leaf, Statement) and a.site.leaf.atomic


def is_asynchronous(a: AccessPlan) -> bool:
    """Whether the access belongs to an asynchronous copy."""
    return isinstance(a.site.leaf, Statement) and a.site.leaf.asynchronous


def _by_buffer(accesses: list[AccessTotals], whole: Mapping[int, Floats]) -> Floats:
    """Distinct bytes of all buffers: accesses of one buffer overlap, so the largest counts."""
    largest: dict[str, Floats] = {}
    for t in accesses:
        if id(t) in whole:
            name = t.plan.access.buffer.name
            largest[name] = np.maximum(largest.get(name, _nothing()), whole[id(t)])
    return sum(largest.values(), _nothing())
