"""What a model must beat: bytes moved, and the roofline. Both use the same counts and no charges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from costmodel.cost.evaluate import Charged
from costmodel.device import Device, achievable_dram_bytes_per_s

__all__ = ["requested_bytes", "roofline_seconds", "weighted_bytes_seconds"]

Floats = npt.NDArray[np.float64]


def weighted_bytes_seconds(charged: Charged, device: Device) -> Floats:
    """Luminal's proposal: requested global and shared bytes, weighted by the bandwidth of each."""
    per_second = {
        "global": achievable_dram_bytes_per_s(device),
        "shared": device.shared.bytes_per_cycle * device.sm_count * device.clock.sustained_hz,
    }
    total = np.zeros(charged.seconds.shape)
    for a in charged.accesses:
        space = a.plan.access.buffer.space
        if space in per_second:
            total = total + a.requested_bytes / per_second[space]
    return total


def requested_bytes(charged: Charged) -> Floats:
    """Requested global and shared bytes, added without weights."""
    chosen = (a for a in charged.accesses if a.plan.access.buffer.space in ("global", "shared"))
    return sum((a.requested_bytes for a in chosen), np.zeros(charged.seconds.shape))


def roofline_seconds(charged: Charged, device: Device) -> Floats:
    """Hierarchical roofline: the slowest of arithmetic, block footprints from L2, and compulsory bytes from memory."""
    arithmetic = np.zeros(charged.seconds.shape)
    for name, (amount, unit, rate) in charged.amounts.items():
        if unit in ("op", "FMA") and name != "integer":
            arithmetic = arithmetic + amount / rate
    l2 = sum((a.l2_bytes for a in charged.accesses), np.zeros(charged.seconds.shape))
    dram: dict[tuple[str, str], Floats] = {}
    for a in charged.accesses:
        key = (a.plan.access.buffer.name, a.plan.kind)
        dram[key] = np.maximum(dram.get(key, np.zeros(1)), a.footprint_bytes)
    compulsory = sum(dram.values(), np.zeros(charged.seconds.shape)) / achievable_dram_bytes_per_s(device)
    from_l2 = l2 / (device.l2.bandwidth_bytes_per_cycle * device.clock.sustained_hz)
    slowest: Floats = np.maximum(np.maximum(arithmetic, from_l2), compulsory)
    return slowest
