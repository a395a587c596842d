"""What each access of a plan asks for: requests, path cycles, sectors, lines."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from costmodel.charges.coalescing import Coalescing, coalesce, distinct_granules
from costmodel.charges.pipes import copy_cycles, l1_cycles, shared_cycles
from costmodel.cost.access_plan import AccessPlan
from costmodel.cost.launch import Launch
from costmodel.counts import Requests
from costmodel.device import Device
from costmodel.ir import Statement

__all__ = ["AccessTotals", "access_totals", "in_l1", "is_asynchronous", "is_atomic"]

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
    asked_bytes: Floats = field(default_factory=_nothing)
    """Of global accesses: what the requests ask for in sectors of memory, those of L2 at least."""
    l2_bytes: Floats = field(default_factory=_nothing)
    side_bytes: Floats = field(default_factory=_nothing)
    """That L2 fetches and writes back, of a launch among others like it: from and to a memory-side cache where there is one."""
    dram_bytes: Floats = field(default_factory=_nothing)
    """The same of memory itself."""
    profiled_bytes: Floats = field(default_factory=_nothing)
    """The same while the launch itself runs: what it stored last is written when the next one needs its place."""
    l2_efficiency: Floats = field(default_factory=_one)
    footprint_bytes: Floats = field(default_factory=_nothing)
    new: Floats = field(default_factory=_one)
    """Part of the footprint that no earlier load in other loops has touched."""
    array_bytes: Floats = field(default_factory=_nothing)
    """Of the whole array."""
    dram_efficiency: Floats = field(default_factory=_one)
    check_share: Floats = field(default_factory=_one)
    """Bytes of memory with their check bits over bytes; the achievable bandwidth is of bytes without them."""

    @property
    def checked_dram_bytes(self) -> Floats:
        """Bytes from memory with their check bits, as counters see them."""
        return self.profiled_bytes * self.check_share


def access_totals(launch: Launch, a: AccessPlan) -> AccessTotals:
    """Enumerate one access; bytes from caches are filled in later, when all accesses are known."""
    device, rows = launch.device, launch.rows
    requests, cycles, sectors, lines, wavefronts, asked = launch.memory.totals(
        launch.plan.kernel, a.site, a.access, launch.columns, rows, _granule(a, device), lambda r: _charged(a, r, device)
    )
    requested = np.broadcast_to(launch.floats[a.requested], (rows,))
    return AccessTotals(a, requests, cycles, requested, sectors, lines, wavefronts, asked)


def in_l1(a: AccessPlan, device: Device) -> bool:
    """Whether L1 keeps what the access loads."""
    keeps = a.access.cached and (device.l1.caches_global_loads or a.access.buffer.read_only)
    return a.kind == "load" and keeps


def _granule(a: AccessPlan, device: Device) -> int:
    """Alignment that matters to the requests of an access."""
    if a.access.buffer.space == "global":
        return max(device.l1.line_bytes, device.l2.line_bytes)
    return device.shared.bank_bytes if a.access.buffer.space == "shared" else a.access.buffer.dtype.itemsize


def _charged(a: AccessPlan, r: Requests, device: Device) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Requests, path cycles, sectors, lines, wavefronts, bytes in sectors of memory of some requests."""
    space = a.access.buffer.space
    if space == "global":
        moved = coalesce(r, device.l2.sector_bytes, device.l1.line_bytes)
        cycles = copy_cycles(r, device) if is_asynchronous(a) else l1_cycles(r, device, in_l1(a, device))
        return moved.requests, r.totals(cycles), moved.sectors, moved.lines, _nothing(), _from_memory(r, moved, device)
    if space == "shared":
        wavefronts, cycles = shared_cycles(r, device)
        filled = is_asynchronous(a) and a.kind == "store"  # arrives as a line of L1 does, off the load/store path
        return r.totals(), r.totals(cycles) * (not filled), _nothing(), _nothing(), r.totals(wavefronts), _nothing()
    serial = distinct_granules(r, a.access.buffer.dtype.itemsize).astype(np.float64)
    return r.totals(), r.totals(np.maximum(serial - 1.0, 0.0)), _nothing(), _nothing(), r.totals(serial), _nothing()


def _from_memory(r: Requests, moved: Coalescing, device: Device) -> Floats:
    """Bytes that some requests ask for in sectors of memory, or of L2 where these are larger."""
    granule, sector = max(device.dram.sector_bytes, device.l2.sector_bytes), device.l2.sector_bytes
    asked: Floats = (moved.sectors if granule == sector else r.totals(distinct_granules(r, granule))) * granule
    return asked


def is_asynchronous(a: AccessPlan) -> bool:
    """Whether the access belongs to an asynchronous copy."""
    return isinstance(a.site.leaf, Statement) and a.site.leaf.asynchronous


def is_atomic(a: AccessPlan) -> bool:
    """Whether the access belongs to an atomic read-modify-write."""
    return isinstance(a.site.leaf, Statement) and a.site.leaf.atomic
