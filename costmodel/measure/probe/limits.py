"""What the driver states: limits, sizes and clocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from costmodel.device import Device
from costmodel.measure.probe.lab import Figure, Lab

__all__ = ["limits", "peak_dram_bytes_per_s"]

_STATED = {
    "sm_count": "sm_count",
    "dram.capacity_bytes": "memory_bytes",
    "l2.capacity_bytes": "l2_bytes",
    "shared.capacity_bytes_per_sm": "shared_bytes_per_sm",
    "shared.max_bytes_per_block": "shared_bytes_per_block",
    "shared.static_max_bytes_per_block": "static_shared_bytes_per_block",
    "shared.reserved_bytes_per_block": "reserved_shared_bytes_per_block",
    "registers.per_sm": "registers_per_sm",
    "registers.per_block": "registers_per_block",
    "limits.warp_size": "warp_size",
    "limits.threads_per_block": "threads_per_block",
    "limits.threads_per_sm": "threads_per_sm",
    "limits.blocks_per_sm": "blocks_per_sm",
    "clock.boost_hz": "boost_hz",
}


def limits(lab: Lab, _base: Device) -> Iterator[Figure]:
    """Read what the driver states."""
    facts = lab.facts()
    for field, key in _STATED.items():
        if key in facts:
            yield Figure(field, facts[key], 0.0, f"the driver's {key}")
    if {"threads_per_sm", "warp_size"} <= facts.keys():
        warps = int(facts["threads_per_sm"]) // int(facts["warp_size"])
        yield Figure("limits.warps_per_sm", warps, 0.0, "the driver's threads_per_sm over its warp_size")
    peak = peak_dram_bytes_per_s(facts)
    if peak is not None:
        how = f"two transfers a cycle of {facts['max_memory_hz'] / 1e6:.0f} MHz over {facts['memory_bus_bits']} bits"
        yield Figure("dram.bandwidth_bytes_per_s", peak, 0.0, how)


def peak_dram_bytes_per_s(facts: Mapping[str, Any]) -> float | None:
    """Return the peak that memory clock and bus width give; None where they are not known to.

    NVIDIA's driver states half of the data rate for HBM and for GDDR5 to GDDR7 alike (H100 SXM: 2619 MHz, 5120 bits:
    3.35 TB/s; RTX 3090: 9751 MHz, 384 bits: 936 GB/s). AMD's states it for HBM, and other fractions for GDDR6.
    """
    hz, bits = facts.get("max_memory_hz"), facts.get("memory_bus_bits")
    if not hz or not bits or (facts.get("vendor") == "AMD" and bits < 1024):
        return None
    return float(round(2.0 * hz * bits / 8, -6))
