"""Where spilled registers go: through L1 to L2, and on to memory where L2 cannot hold what all resident threads have spilled.

    L2 bytes   = stores + loads · min(1, 2·S / L1 left beside shared memory)      S: spilled bytes of an SM's threads
    DRAM bytes = L2 bytes · max(0, 1 − L2 / A)                                    A: those of all SMs

and past a memory-side cache alike, with its capacity for that of L2.

Source: Nsight Compute counters (no timings) of the 86 spilling configurations of KTT's convolution on an RTX 2080 Ti. There L2
writes are 1.00 of the local store sectors everywhere. L2 reads are 0.0, 0.5, 1.0 and 1.0 of the local load sectors at S of 0.13,
0.36, 0.9 and 1.3 of what shared memory leaves of L1. DRAM reads are 0.00, 0.16, 0.37, 0.74 and 0.89 of the loads at A of 4.4,
6.6, 10, 17 and 33 MiB, beside 5.5 MiB of L2. DRAM writes are more there (0.26 at 0.8 MiB), for images stream through L2 and drive
out what was written once; of values that each step writes anew we assume that they stay as readable ones do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from costmodel.device import Device

__all__ = ["SpillTraffic", "spill_traffic"]

Floats = npt.NDArray[np.float64]
EVICTED_AT = 0.5
"""Share of L1 in which spilled words survive until they are loaded again."""


@dataclass(frozen=True, slots=True)
class SpillTraffic:
    """Bytes of the whole launch."""

    l2_bytes: Floats
    side_bytes: Floats
    """That leave L2."""
    dram_bytes: Floats


def spill_traffic(stored_bytes: Floats, spilled_bytes_per_sm: Floats, l1_left_bytes: Floats, device: Device) -> SpillTraffic:
    """Bytes that spills move beyond L1 and L2.

    Args:
        stored_bytes: that the launch stores; it loads as many.
        spilled_bytes_per_sm: in the local memory of an SM's resident threads.
        l1_left_bytes: of an SM, beside its shared memory.
        device: the GPU.
    """
    everywhere = np.maximum(spilled_bytes_per_sm * device.sm_count, 1.0)
    l2 = float(device.l2.effective_capacity_bytes)
    loaded = stored_bytes * np.minimum(1.0, spilled_bytes_per_sm / np.maximum(EVICTED_AT * l1_left_bytes, 1.0))
    moved = stored_bytes + loaded
    behind = l2 if device.memory_side_cache is None else max(l2, float(device.memory_side_cache.capacity_bytes))
    beyond, missed = (moved * np.maximum(0.0, 1.0 - held / everywhere) for held in (l2, behind))
    return SpillTraffic(moved, beyond, missed)
