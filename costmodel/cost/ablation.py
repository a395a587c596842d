"""Charges that can be switched off, to see what each is worth."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from costmodel.cost.memory import AccessTotals
from costmodel.device import Device
from costmodel.errors import SizeError

__all__ = ["CHARGES", "checked_charges", "ideal_access", "uncached"]

CHARGES = {
    "coalescing": "global requests touch more sectors and lines than their bytes need",
    "bank conflicts": "shared requests take more wavefronts than their bytes need",
    "caches": "re-reads are served by L1 and L2; off: every requested sector comes from memory",
    "rows": "memory opens rows for pieces too short to hide it",
    "occupancy": "registers, shared memory and slots limit the resident warps; off: as many as the SM has places for",
    "spills": "registers above the cap are stored and loaded",
    "issue": "instructions share issue slots",
    "addresses": "integer work of addresses and loops",
    "latency": "warps wait for memory and for their own results",
    "tail": "SMs idle while others finish",
    "launch": "a launch takes time of its own",
}
"""Name of each charge and what it stands for; `Scorer(without=…)` takes the names."""


def checked_charges(without: Iterable[str]) -> frozenset[str]:
    """The names as a set.

    Raises:
        SizeError: one of them is no charge.
    """
    names = frozenset([without] if isinstance(without, str) else without)
    for unknown in sorted(names - CHARGES.keys()):
        raise SizeError(f"without={unknown!r}: no such charge; there are: {', '.join(CHARGES)}")
    return names


def ideal_access(a: AccessTotals, device: Device, without: frozenset[str]) -> None:
    """Take coalescing, or bank conflicts, out of an access."""
    space = a.plan.access.buffer.space
    issue = a.requests * (device.limits.warp_size / device.throughput.load_store)
    if space == "global" and "coalescing" in without:
        a.sectors = np.minimum(a.sectors, a.requested_bytes / device.l2.sector_bytes)
        a.lines = np.minimum(a.lines, a.requested_bytes / device.l1.line_bytes)
        a.asked_bytes = np.minimum(a.asked_bytes, a.requested_bytes)
        a.cycles = np.minimum(a.cycles, np.maximum(issue, a.requested_bytes / device.l1.bytes_per_cycle))
    if space == "shared" and "bank conflicts" in without:
        a.wavefronts = np.minimum(a.wavefronts, a.requested_bytes / (device.shared.banks * device.shared.bank_bytes))
        a.cycles = np.minimum(a.cycles, np.maximum(issue, a.requested_bytes / device.shared.bytes_per_cycle))


def uncached(a: AccessTotals, device: Device) -> None:
    """Every requested sector comes from memory."""
    if a.plan.access.buffer.space == "global":
        a.l2_bytes = a.side_bytes = a.dram_bytes = a.sectors * device.l2.sector_bytes
