"""What each access of a plan asks for: requests, path cycles, sectors, lines."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.charges.coalescing import coalesce, distinct_granules
from costmodel.charges.pipes import copy_cycles, l1_cycles, shared_cycles
from costmodel.cost.access_plan import AccessPlan
from costmodel.cost.plan import Plan
from costmodel.counts import Requests, request_parts
from costmodel.counts.lane_plan import LanePlan, lane_plan
from costmodel.device import Device
from costmodel.ir import Statement

__all__ = ["AccessTotals", "Memory", "access_totals", "in_l1", "is_asynchronous", "is_atomic", "memory_of"]

Floats = npt.NDArray[np.float64]


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
    side_bytes: Floats = field(default_factory=_nothing)
    """That L2 fetches and writes back, of a launch among others like it: from and to a memory-side cache where there is one."""
    dram_bytes: Floats = field(default_factory=_nothing)
    """The same of memory itself."""
    profiled_bytes: Floats = field(default_factory=_nothing)
    """The same while the launch itself runs: what it stored last is written when the next one needs its place."""
    l2_efficiency: Floats = field(default_factory=_one)
    footprint_bytes: Floats = field(default_factory=_nothing)
    array_bytes: Floats = field(default_factory=_nothing)
    """Of the whole array."""
    dram_efficiency: Floats = field(default_factory=_one)
    check_share: Floats = field(default_factory=_one)
    """Bytes of memory with their check bits over bytes; the achievable bandwidth is of bytes without them."""

    @property
    def checked_dram_bytes(self) -> Floats:
        """Bytes from memory with their check bits, as counters see them."""
        return self.profiled_bytes * self.check_share


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


def in_l1(a: AccessPlan, device: Device) -> bool:
    """Whether L1 keeps what the access loads."""
    keeps = a.access.cached and (device.l1.caches_global_loads or a.access.buffer.read_only)
    return a.kind == "load" and keeps


def _granule(a: AccessPlan, device: Device) -> int:
    """Alignment that matters to the requests of an access."""
    if a.access.buffer.space == "global":
        return max(device.l1.line_bytes, device.l2.line_bytes)
    return device.shared.bank_bytes if a.access.buffer.space == "shared" else a.access.buffer.dtype.itemsize


def _enumerated(plan: Plan, a: AccessPlan, device: Device, columns: Mapping[str, Any], *, once: bool = False) -> _Totals:
    """The figures of `_requests` for a whole table; `once` leaves out loops that change nothing."""
    parts = request_parts(plan.kernel, a.site, a.access, columns, device.limits.warp_size, _granule(a, device))
    figures = [_charged(a, replace(r, outer=1.0) if once else r, device) for r in parts]
    requests, cycles, sectors, lines, wavefronts = (sum(each[1:], each[0]) for each in zip(*figures, strict=True))
    return requests, cycles, sectors, lines, wavefronts


def _charged(a: AccessPlan, r: Requests, device: Device) -> _Totals:
    """The same of some requests."""
    space = a.access.buffer.space
    if space == "global":
        moved = coalesce(r, device.l2.sector_bytes, device.l1.line_bytes)
        cycles = copy_cycles(r, device) if is_asynchronous(a) else l1_cycles(r, device, in_l1(a, device))
        return moved.requests, r.totals(cycles), moved.sectors, moved.lines, _nothing()
    if space == "shared":
        wavefronts, cycles = shared_cycles(r, device)
        filled = is_asynchronous(a) and a.kind == "store"  # arrives as a line of L1 does, off the load/store path
        return r.totals(), r.totals(cycles) * (not filled), _nothing(), _nothing(), r.totals(wavefronts)
    serial = distinct_granules(r, a.access.buffer.dtype.itemsize).astype(np.float64)
    return r.totals(), r.totals(np.maximum(serial - 1.0, 0.0)), _nothing(), _nothing(), r.totals(serial)


def is_asynchronous(a: AccessPlan) -> bool:
    """Whether the access belongs to an asynchronous copy."""
    return isinstance(a.site.leaf, Statement) and a.site.leaf.asynchronous


def is_atomic(a: AccessPlan) -> bool:
    """Whether the access belongs to an atomic read-modify-write."""
    return isinstance(a.site.leaf, Statement) and a.site.leaf.atomic
