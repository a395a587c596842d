"""What each access of a plan moves: requests, path cycles, sectors, and bytes from L2 and from memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.charges.caches import Scope, dram_bytes, l1_share_bytes, l2_bytes, sector_inflation, wave_shape
from costmodel.charges.channels import channel_efficiency
from costmodel.charges.coalescing import distinct_granules
from costmodel.charges.occupancy import Residency, shared_allocation
from costmodel.charges.pipes import l1_cycles, shared_cycles
from costmodel.cost.plan import WAVE, AccessPlan, FootprintPlan, Plan
from costmodel.counts import warp_requests
from costmodel.device import Device
from costmodel.ir import Statement

__all__ = ["AccessTotals", "access_totals", "fill_caches"]

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
    plan: Plan, a: AccessPlan, device: Device, columns: Mapping[str, Any], f: list[Any], rows: int, single: bool
) -> AccessTotals:
    """Enumerate one access; bytes from caches are filled in later, when all accesses are known.

    Args:
        plan: of the kernel.
        a: the access.
        device: the GPU.
        columns: sizes.
        f: the plan's formulas in float64.
        rows: number of configurations.
        single: whether every size is one number; such configurations are remembered.
    """
    requested = np.broadcast_to(f[a.requested], (rows,))
    totals = _requests(plan, a, device, columns) if single else _enumerated(plan, a, device, columns)
    return AccessTotals(a, totals[0], totals[1], requested, totals[2], totals[3], totals[4])


_Totals = tuple[Floats, Floats, Floats, Floats, Floats]
_Memory = OrderedDict[tuple[Any, ...], tuple[AccessPlan, _Totals]]
_REMEMBERED: OrderedDict[Device, _Memory] = OrderedDict()
_MOST_DEVICES, _MOST_REMEMBERED = 64, 16_384


def _memory(device: Device) -> _Memory:
    """What was enumerated for single configurations on this device."""
    if device not in _REMEMBERED:
        _REMEMBERED[device] = OrderedDict()
        if len(_REMEMBERED) > _MOST_DEVICES:
            _REMEMBERED.popitem(last=False)
    return _REMEMBERED[device]


def _requests(plan: Plan, a: AccessPlan, device: Device, columns: Mapping[str, Any]) -> _Totals:
    """Requests, path cycles, sectors, lines, wavefronts of one configuration, remembered."""
    memory = _memory(device)
    key = (id(a), *(columns[n] for n in a.names))
    known = memory.get(key)
    if known is not None and known[0] is a:
        return known[1]
    totals = _enumerated(plan, a, device, columns)
    memory[key] = (a, totals)
    if len(memory) > _MOST_REMEMBERED:
        memory.popitem(last=False)
    return totals


def _enumerated(plan: Plan, a: AccessPlan, device: Device, columns: Mapping[str, Any]) -> _Totals:
    space = a.access.buffer.space
    warp = device.limits.warp_size
    if space == "global":
        r = warp_requests(plan.kernel, a.site, a.access, columns, warp, max(device.l1.line_bytes, device.l2.line_bytes))
        sectors, lines = distinct_granules(r, device.l2.sector_bytes), distinct_granules(r, device.l1.line_bytes)
        return r.totals(), r.totals(l1_cycles(r, device)), r.totals(sectors), r.totals(lines), _nothing()
    if space == "shared":
        r = warp_requests(plan.kernel, a.site, a.access, columns, warp, device.shared.bank_bytes)
        wavefronts, cycles = shared_cycles(r, device)
        return r.totals(), r.totals(cycles), _nothing(), _nothing(), r.totals(wavefronts)
    itemsize = a.access.buffer.dtype.itemsize
    r = warp_requests(plan.kernel, a.site, a.access, columns, warp, itemsize)
    serial = distinct_granules(r, itemsize).astype(np.float64)
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
    loads = [t for t in accesses if t.plan.kind == "load" and t.plan.access.buffer.space == "global"]
    prints = {id(t): [_footprint_bytes(s.footprint, v, f, t.plan, sector) for s in t.plan.scopes] for t in loads}
    sets: dict[tuple[str, ...], Floats] = {}
    for t in loads:
        for s, size in zip(t.plan.scopes, prints[id(t)], strict=True):
            sets[s.loops] = sets.get(s.loops, _nothing()) + size
    concurrent = np.minimum(blocks.astype(np.float64), np.maximum(held.blocks_per_sm.astype(np.float64), 1.0) * device.sm_count)
    gx, gy, gz = (np.broadcast_to(np.asarray(v[h], np.int64), blocks.shape) for h in plan.grid)
    wave = wave_shape(concurrent, (gx, gy, gz))
    waves = blocks.astype(np.float64) / (wave[0] * wave[1] * wave[2]).astype(np.float64)
    with_wave = {**columns, **dict(zip(WAVE, wave, strict=True))}
    w = plan.waves.values(with_wave)
    wf = plan.waves.floats(w, with_wave)
    whole = {id(t): _footprint_bytes(t.plan.whole, v, f, t.plan, sector) for t in accesses if t.plan.whole is not None}
    everything = _by_buffer(accesses, whole)
    for t in accesses:
        if t.plan.whole is None or t.plan.wave is None:
            continue
        t.footprint_bytes = whole[id(t)]
        if device.l2.channels and t.plan.step is not None:
            strides, extents = [w[h] for h in t.plan.step.strides], [w[h] for h in t.plan.step.extents]
            itemsize = t.plan.access.buffer.dtype.itemsize
            t.l2_efficiency = channel_efficiency(strides, extents, itemsize, device.l2.channels, device.l2.interleave_bytes)
        asked = t.sectors * sector
        if t.plan.kind == "store":
            t.l2_bytes = asked
            t.dram_bytes = np.minimum(asked, np.maximum(whole[id(t)], t.requested_bytes if _atomic(t.plan) else 0.0))
            continue
        cached = t.plan.access.cached and (device.l1.caches_global_loads or t.plan.access.buffer.read_only)
        scopes = [Scope(size, f[s.passes] * blocks, sets[s.loops]) for s, size in zip(t.plan.scopes, prints[id(t)], strict=True)]
        t.l2_bytes = l2_bytes(asked, scopes, share if cached else np.zeros(1))
        one_wave = _footprint_bytes(t.plan.wave, w, wf, t.plan, sector)
        t.dram_bytes = np.minimum(
            dram_bytes(one_wave, waves, whole[id(t)], everything, device), np.maximum(t.l2_bytes, whole[id(t)])
        )


def _atomic(a: AccessPlan) -> bool:
    return isinstance(a.site.leaf, Statement) and a.site.leaf.atomic


def _by_buffer(accesses: list[AccessTotals], whole: Mapping[int, Floats]) -> Floats:
    """Distinct bytes of all buffers: accesses of one buffer overlap, so the largest counts."""
    largest: dict[str, Floats] = {}
    for t in accesses:
        if id(t) in whole:
            name = t.plan.access.buffer.name
            largest[name] = np.maximum(largest.get(name, _nothing()), whole[id(t)])
    return sum(largest.values(), _nothing())
