"""How much of a launch's time each term takes: units share what they work through, waiting, the tail and the launch are added."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from costmodel.cost.evaluate import Charged
from costmodel.device import Device

__all__ = ["term_shares_s"]

Floats = npt.NDArray[np.float64]


def term_shares_s(charged: Charged, device: Device) -> dict[str, Floats]:
    """Seconds of each term, [rows]; they add up to `charged.seconds`."""
    second = 1.0 / (device.sm_count * device.clock.sustained_hz)
    rows = charged.seconds.shape
    shares: dict[str, Floats] = {}
    for (unit, parts), share in zip(charged.parts.items(), charged.overlap.unit_shares, strict=True):
        total = np.maximum(charged.units[unit], np.finfo(np.float64).tiny)
        for term, cycles in parts.items():
            shares[term] = np.broadcast_to(share * second * cycles / total, rows)
    shares["latency"] = np.broadcast_to(charged.overlap.latency_share * second, rows)
    shares["tail"] = np.broadcast_to((charged.cycles - charged.overlap.cycles) * second, rows)
    shares["launch"] = np.full(rows, charged.launch_s)
    return shares
