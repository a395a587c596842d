"""Bytes from L2 and from memory of each access of a plan.

What one block, a wave of blocks, a row of waves and a layer of rows touch, and what the caches keep of it from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.charges.caches import (
    check_share,
    dirty_share,
    l1_share_bytes,
    lost_by_age,
    lost_by_use,
    reused,
    wave_shape,
)
from costmodel.charges.channels import channel_efficiency
from costmodel.charges.occupancy import shared_allocation
from costmodel.charges.rows import row_efficiency
from costmodel.cost.footprints import Values
from costmodel.cost.fresh import missing_share, new_share
from costmodel.cost.launch import Launch, whole_rows
from costmodel.cost.memory import AccessTotals, in_l1, is_atomic
from costmodel.cost.scopes import WAVE
from costmodel.cost.warmth import BACK_TO_BACK, Warm, lost_between_launches
from costmodel.device import Device
from costmodel.symbols import Program

__all__ = ["fill_caches", "united_bytes"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_Loops = tuple[str, ...]


def _nothing() -> Floats:
    return np.zeros(1)


def fill_caches(launch: Launch, accesses: list[AccessTotals], warm: Warm | int = BACK_TO_BACK) -> None:
    """Fill in bytes from L2 and from memory.

    Args:
        launch: the configurations.
        accesses: all of them, with their requests.
        warm: what earlier launches left in L2 (`cost.warmth`).
    """
    device, sheet = launch.device, Values(launch.whole, launch.floats)
    used = [t for t in accesses if t.plan.whole is not None]
    loads = [t for t in used if t.plan.kind == "load"]
    coarse = device.dram.sector_bytes
    asked = _of_family(accesses, [t.sectors for t in accesses])
    most = _of_family(accesses, [t.asked_bytes / launch.floats[t.plan.alike] for t in accesses])
    from_memory = _of_family(accesses, [t.asked_bytes for t in accesses])
    for t in used:
        assert t.plan.whole is not None
        t.array_bytes = launch.floats[t.plan.array]
        t.footprint_bytes = np.minimum(sheet.bytes(t.plan.whole, _itemsize(t), coarse), most[id(t.plan.access)])
        if t.plan.alive is not None:
            of_block = sheet.bytes(t.plan.scopes[0].footprint, _itemsize(t), coarse)
            t.footprint_bytes = np.minimum(t.footprint_bytes, of_block * launch.floats[t.plan.alive])
        if t.plan.repeats is not None:
            t.new = _new(t, sheet, t.footprint_bytes, "whole", launch.floats, coarse)
    everything = united_bytes(used)
    share = l1_share_bytes(launch.held.blocks_per_sm, shared_allocation(launch.shared_bytes, device), device)
    prints = _from_l2(launch, sheet, share, asked, loads)
    beyond = [replace(t) for t in used] if device.memory_side_cache is not None else used
    for cached, capacity in zip((used, beyond), _capacities(device), strict=False):
        _missed(launch, cached, lost_between_launches(cached, everything, warm, capacity), prints, from_memory, share, capacity)
    for t, missed in zip(used, beyond, strict=True):
        t.side_bytes = t.dram_bytes
        t.dram_bytes = np.minimum(missed.dram_bytes, t.side_bytes)
        t.profiled_bytes = np.minimum(missed.profiled_bytes, t.profiled_bytes)
    if device.dram.ecc_covers_bytes:
        for t in used:
            t.check_share = check_share(_burst_bytes(t, launch.floats[launch.plan.trips] == 0, device), device)


def _capacities(device: Device) -> tuple[float, ...]:
    """Of L2, and of the cache behind it where there is one: it holds what L2 holds and more."""
    l2, side = device.l2.effective_capacity_bytes, device.memory_side_cache
    return (float(l2),) if side is None else (float(l2), float(max(side.capacity_bytes, l2)))


def _itemsize(t: AccessTotals) -> int:
    return t.plan.access.buffer.dtype.itemsize


def _from_l2(
    launch: Launch, sheet: Values, share: Floats, asked: Mapping[int, Floats], loads: list[AccessTotals]
) -> dict[int, list[Floats]]:
    """Fill in what L1 fetches; the result is what one block touches in one pass of each scope of a load, in sectors."""
    device, f = launch.device, launch.floats
    sector, line = device.l2.sector_bytes, device.l1.line_bytes
    prints = {id(t.plan): [sheet.bytes(s.footprint, _itemsize(t), sector) for s in t.plan.scopes] for t in loads}
    lines = {id(t.plan): [sheet.bytes(s.footprint, _itemsize(t), line) for s in t.plan.scopes] for t in loads}
    once, again = _Totals(), _Totals()
    for t in loads:
        own = lines[id(t.plan)]
        assert t.plan.singly is not None
        alone, there = sheet.bytes(t.plan.singly, _itemsize(t), line), asked[id(t.plan.access)] > 0.0
        for depth, s in enumerate(t.plan.scopes):
            last = depth + 1 == len(t.plan.scopes)
            key = (*s.loops, "") if last else s.loops
            once.add(key, own[depth] * there)
            again.add(key, (alone if last else own[depth + 1] * f[t.plan.scopes[depth + 1].passes] / f[s.passes]) * there)
            if last:
                once.members[key] = max(once.members.get(key, 1), t.plan.members)
    lost: dict[_Loops, Floats] = {}
    for t in loads:
        assert t.plan.singly is not None
        fetched = asked[id(t.plan.access)] * sector
        if in_l1(t.plan, device):
            scopes, full = t.plan.scopes, _full_blocks(t, f, launch.blocks)
            alone = sheet.bytes(t.plan.singly, _itemsize(t), sector) * full * f[scopes[-1].passes]
            fetched = np.minimum(fetched, np.maximum(alone, 1.0))
            for depth in range(len(scopes) - 1, -1, -1):
                last = depth + 1 == len(scopes)
                key = (*scopes[depth].loops, "") if last else scopes[depth].loops
                if key not in lost:
                    trips = once.members[key] if last else f[scopes[depth + 1].passes] / f[scopes[depth].passes]
                    room = share / line * (launch.held.blocks_per_sm if scopes[depth].straight else 1)
                    lost[key] = lost_by_use(once.sums[key] / line, again.sums[key] / line, trips, room)
                fetched = reused(fetched, prints[id(t.plan)][depth] * f[scopes[depth].passes] * full, lost[key])
            fetched = np.maximum(fetched, np.minimum(asked[id(t.plan.access)] * sector, t.footprint_bytes))
        t.l2_bytes = fetched
    return prints


def _full_blocks(t: AccessTotals, f: list[Any], blocks: Ints) -> Floats:
    """Blocks, those at the edge of the grid by the part of them that is inside."""
    share = 1.0 if t.plan.filled is None else f[t.plan.filled[0]] / f[t.plan.filled[1]]
    full: Floats = blocks * share
    return full


class _Totals:
    """Sums over all loads inside a loop."""

    def __init__(self) -> None:
        self.sums: dict[_Loops, Floats] = {}
        self.members: dict[_Loops, int] = {}

    def add(self, key: _Loops, value: Floats) -> None:
        self.sums[key] = self.sums.get(key, _nothing()) + value


def _missed(
    launch: Launch,
    used: list[AccessTotals],
    between: Mapping[str, tuple[Floats, Floats]],
    prints: dict[int, list[Floats]],
    from_memory: Mapping[int, Floats],
    share: Floats,
    capacity: float,
) -> None:
    """Fill in what a cache of this capacity, shared by all SMs, fetches and writes back."""
    plan, device, columns, f = launch.plan, launch.device, launch.columns, launch.floats
    sheet = Values(launch.whole, f)
    resident = np.maximum(launch.held.blocks_per_sm.astype(np.float64), 1.0) * device.sm_count
    concurrent = np.minimum(launch.blocks.astype(np.float64), resident)
    x, y, z = (whole_rows(launch.whole[h], launch.rows) for h in plan.grid)
    grid = (x, y, z)
    coarse = device.dram.sector_bytes
    coarser = max(coarse / device.l2.sector_bytes, 1.0)
    wave = wave_shape(concurrent, grid)
    waves = [g.astype(np.float64) / w for g, w in zip(grid, wave, strict=True)]
    inner = _evaluated(plan.waves, columns, wave)
    of_rows, of_layers = (_evaluated(plan.spans, columns, (grid[0], y, wave[2])) for y in (wave[1], grid[1]))
    rows, layers = _spans(of_rows, used, coarse), _spans(of_layers, used, coarse)
    steps = {id(t.plan): [np.minimum(inner.bytes(p, _itemsize(t), coarse), t.footprint_bytes) for p in t.plan.wave] for t in used}
    sets: dict[_Loops, Floats] = {}
    for t in used:
        for s, size in zip(t.plan.scopes, steps[id(t.plan)], strict=True):
            sets[s.loops] = sets.get(s.loops, _nothing()) + size
    outer = [(rows, waves[1] * waves[2], sets[()]), (layers, waves[2], _total(rows))] if used else []
    outer_lost = [lost_by_age(distance, capacity) for _, _, distance in outer]
    whole_lost = lost_by_age(_total(layers), capacity)
    inner_lost = {loops: lost_by_age(size, capacity) for loops, size in sets.items()}
    loads = [t for t in used if t.plan.kind == "load"]
    own_part, in_loops, around = _own_part(loads), _own_part_in_loops(loads), _around(loads)
    stored, together = _stored(used, steps), np.maximum(concurrent, 1.0)
    touched: dict[int, tuple[dict[_Loops, Floats], dict[_Loops, Floats]]] = {}
    for t in used:
        if device.l2.channels and t.plan.step is not None:
            strides, extents = [inner.whole[h] for h in t.plan.step.strides], [inner.whole[h] for h in t.plan.step.extents]
            t.l2_efficiency = channel_efficiency(strides, extents, _itemsize(t), device.l2.channels, device.l2.interleave_bytes)
        t.dram_efficiency = row_efficiency(np.maximum(inner.run_bytes(t.plan.wave[0], _itemsize(t), coarse), coarse))
        if t.plan.kind == "store":
            asked = t.sectors * device.l2.sector_bytes
            t.l2_bytes = asked
            distance, lost = between[t.plan.access.buffer.name]
            again = np.maximum(t.requested_bytes - t.footprint_bytes, 0.0) if is_atomic(t.plan) else 0.0
            written = np.minimum(asked, t.footprint_bytes + again * lost_by_age(t.footprint_bytes, capacity))
            t.dram_bytes = written * lost
            t.profiled_bytes = written * (1.0 - dirty_share(distance, capacity))
            continue
        own = steps[id(t.plan)]
        if t.plan.tile is not None:
            tiles = _distinct_tiles(t.plan.tile, columns, wave, (grid[0], grid[1]))
            own = own if tiles is None else [np.minimum(w, tiles * p) for w, p in zip(own, prints[id(t.plan)], strict=True)]
        scopes, count = t.plan.scopes, waves[0] * waves[1] * waves[2]
        asked = from_memory[id(t.plan.access)]
        fetched = np.minimum(np.minimum(t.l2_bytes * coarser, asked), own[-1] * f[scopes[-1].passes] * np.maximum(count, 1.0))
        for depth in range(len(scopes) - 2, -1, -1):
            lost = inner_lost[scopes[depth + 1].loops]
            fetched = reused(fetched, own[depth] * f[scopes[depth].passes] * np.maximum(count, 1.0), lost)
        for (span, times, _), lost in zip(outer, outer_lost, strict=True):
            fetched = reused(fetched, span[id(t.plan)] * np.maximum(times, 1.0), lost)
        fetched = reused(fetched, t.footprint_bytes, whole_lost)
        fetched = np.maximum(fetched, np.minimum(t.footprint_bytes, t.l2_bytes * coarser))  # where loops are of uneven length
        first = np.minimum(fetched, t.footprint_bytes)
        name, names = t.plan.access.buffer.name, [s.loops for s in scopes]
        shared = in_loops[names[-1]][name] - own_part[name]  # with other loops, through other indices
        lost = lost_by_age(own[around[name]], capacity)
        first_part = own_part[name] * between[name][1] + np.maximum(shared, 0.0) * lost
        t.dram_bytes = first * first_part + (fetched - first)
        if t.plan.repeats is not None:
            in_block, in_wave = (sizes[t.plan.around] for sizes in touched[id(t.plan.repeats)])
            depth, written = len(t.plan.around), stored.get(t.plan.around, _nothing())  # while they keep what they read
            new = _new(t, sheet, prints[id(t.plan)][depth], "block", f, device.l2.sector_bytes)
            gone = np.where(share > 0.0, lost_by_age((in_block + written / together) / np.maximum(share, 1.0), 1.0), 1.0)
            waves_ago = [*zip((of_rows, of_layers), (rows, layers), outer_lost, strict=True)]
            lost = lost_by_age(in_wave + written, capacity)
            once_more = fetched * _once_more(t, own[depth], inner, lost, waves_ago, whole_lost, f, coarse)
            t.l2_bytes = t.l2_bytes * (new + (1.0 - new) * gone)
            t.dram_bytes = np.minimum(t.dram_bytes * t.new + once_more, np.minimum(t.l2_bytes * coarser, asked))
        t.profiled_bytes = t.dram_bytes
        touched[id(t.plan.access)] = dict(zip(names, prints[id(t.plan)], strict=True)), dict(zip(names, own, strict=True))


def _new(t: AccessTotals, values: Values, own_bytes: Floats, level: str, f: list[Any], granule: int) -> Floats:
    """Part of what a load touches on a level that no earlier load of its family, in other loops, has."""
    p = t.plan.fresh
    if p is None:
        return _nothing()
    return new_share(values, getattr(p, level), own_bytes, missing_share(p, f), _itemsize(t), granule)


def _once_more(
    t: AccessTotals,
    of_wave: Floats,
    inner: Values,
    lost: Floats,
    waves_ago: Sequence[tuple[Values, Mapping[int, Floats], Floats]],
    whole_lost: Floats,
    f: list[Any],
    granule: int,
) -> Floats:
    """Part of a load's bytes that earlier loads of its family have brought in and the cache has lost.

    Args:
        t: the load.
        of_wave: what it touches in a wave.
        inner: formulas for a wave.
        lost: share of what earlier loads of the same wave brought in that is gone.
        waves_ago: formulas for a row of waves, what it touches in one, the share that is gone after a wave; the same of a layer.
        whole_lost: share that is gone after a layer.
        f: formulas of sizes.
        granule: bytes of a sector of memory.
    """
    new = np.maximum(_new(t, inner, of_wave, "wave", f, granule), t.new)
    gone = (1.0 - new) * lost
    for values, touched, lost_after in waves_ago:
        within = np.clip(_new(t, values, touched[id(t.plan)], "span", f, granule), t.new, new)
        gone, new = gone + (new - within) * lost_after, within
    total: Floats = gone + (new - t.new) * whole_lost
    return total


def _stored(used: list[AccessTotals], steps: Mapping[int, list[Floats]]) -> dict[_Loops, Floats]:
    """What a wave stores in one pass of some loops."""
    sums: dict[_Loops, Floats] = {}
    for t in (t for t in used if t.plan.kind == "store"):
        for s, size in zip(t.plan.scopes, steps[id(t.plan)], strict=True):
            sums[s.loops] = sums.get(s.loops, _nothing()) + size
    return sums


def _evaluated(sheet: Any, columns: Mapping[str, Any], box: Sequence[Ints]) -> Values:
    single = not any(np.ndim(c) for c in columns.values())
    given = {**columns, **{n: int(e[0]) if single else e for n, e in zip(WAVE, box, strict=True)}}
    whole = sheet.values(given)
    return Values(whole, sheet.floats(whole, given))


def _spans(values: Values, used: list[AccessTotals], granule: int) -> dict[int, Floats]:
    """What a box of blocks touches, by access."""
    return {
        id(t.plan): np.minimum(values.bytes(t.plan.span, _itemsize(t), granule), t.footprint_bytes)
        for t in used
        if t.plan.span is not None
    }


def _total(spans: Mapping[int, Floats]) -> Floats:
    return sum(spans.values(), _nothing())


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


def _of_family(accesses: list[AccessTotals], values: list[Floats]) -> dict[int, Floats]:
    """What belongs to each load, with that of the loads that follow it."""
    sums: dict[int, Floats] = {}
    for t, value in zip(accesses, values, strict=True):
        leader = id(t.plan.follows if t.plan.follows is not None else t.plan.access)
        sums[leader] = sums.get(leader, np.zeros(1)) + value
    return sums


def _summed(used: Iterable[AccessTotals]) -> dict[str, Floats]:
    """What the accesses of each buffer touch that is new, shared bytes counted by each."""
    sums: dict[str, Floats] = {}
    for t in used:
        name = t.plan.access.buffer.name
        sums[name] = sums.get(name, _nothing()) + t.footprint_bytes * t.new
    return sums


def united_bytes(used: Sequence[AccessTotals]) -> dict[str, Floats]:
    """Distinct bytes of each buffer: accesses of one buffer overlap, and touch no more than all of it."""
    sizes = {t.plan.access.buffer.name: np.maximum(t.array_bytes, t.footprint_bytes) for t in used}
    return {name: np.minimum(total, sizes[name]) for name, total in _summed(used).items()}


def _own_part(loads: Sequence[AccessTotals]) -> dict[str, Floats]:
    """Distinct bytes of each buffer over those that its loads touch, shared bytes counted by each."""
    alone, distinct = _summed(loads), united_bytes(loads)
    return {name: np.minimum(distinct[name] / np.maximum(alone[name], 1.0), 1.0) for name in distinct}


def _own_part_in_loops(loads: Sequence[AccessTotals]) -> dict[_Loops, dict[str, Floats]]:
    """The same among the loads that stand in the same serial loops, by these loops."""
    beside: dict[_Loops, list[AccessTotals]] = {}
    for t in loads:
        beside.setdefault(t.plan.scopes[-1].loops, []).append(t)
    return {loops: _own_part(members) for loops, members in beside.items()}


def _around(loads: Sequence[AccessTotals]) -> dict[str, int]:
    """How many serial loops are around all loads of each buffer."""
    shared: dict[str, set[_Loops]] = {}
    for t in loads:
        scopes = {s.loops for s in t.plan.scopes}
        shared[t.plan.access.buffer.name] = shared.get(t.plan.access.buffer.name, scopes) & scopes
    return {name: len(common) - 1 for name, common in shared.items()}


def _burst_bytes(t: AccessTotals, in_step: Any, device: Device) -> Floats:
    """Bytes side by side that come from memory at a time: of one request, of neighbouring blocks too where they are in step."""
    sector = device.l2.sector_bytes
    own = sector * t.sectors / np.maximum(t.lines, 1.0)
    whole = in_step & (t.requested_bytes >= t.sectors * sector)
    return np.where(whole, np.inf, own)
