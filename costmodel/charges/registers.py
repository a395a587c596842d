"""Registers of a thread, estimated from what is live, and what spills above the cap.

    registers = 8 + 2·rolled loops + 2·global accesses in rolled loops + min(10, words in flight)
                + 1.03·accumulators + 0.66·fragments

Accumulators are register arrays that a statement reads and writes; fragments are the other register
arrays; words in flight are those that one pass through the innermost machine loop loads. A compiler
that knows the block size caps registers so that the block fits; what exceeds the cap spills and is
stored and loaded once for each sweep over the accumulators.

Source: slopes from 26 configurations of the CLBlast GEMM compiled for sm_80 (whole formula: rms error
6.5 registers, largest 14, on those; 4.2 and 7 on the textbook kernels); the rest from registers that
nvcc reported for vector add, dot product, matrix sum and matrix products on sm_30, sm_35, sm_52 (8 to
27) and a 15 × 15 convolution on sm_75 (28). Compiler output, not timings.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from costmodel.charges.occupancy import launch_granularity
from costmodel.device import Device

__all__ = ["BASE", "IN_FLIGHT_WORDS", "WORD", "estimate_registers", "register_cap"]

WORD = 4.0
"""Bytes of a register."""
BASE = 8.0
PER_LOOP = 2.0
PER_GLOBAL_ACCESS = 2.0
MOST_IN_FLIGHT = 10.0
IN_FLIGHT_WORDS = 16.0
"""Loaded words that a compiler keeps in flight before it waits: 15 to 30 in SASS of the convolution on sm_75."""
PER_ACCUMULATOR = 1.03
PER_FRAGMENT = 0.66

Floats = npt.NDArray[np.float64]


def estimate_registers(loops: int, global_accesses: int, in_flight: Floats, accumulators: Floats, fragments: Floats) -> Floats:
    """Registers that a thread would like to have.

    Args:
        loops: rolled loops of the kernel.
        global_accesses: distinct global accesses inside rolled loops.
        in_flight: 32-bit words loaded by one pass through the innermost machine loop.
        accumulators: 32-bit words of register arrays that are read and written.
        fragments: 32-bit words of the other register arrays.
    """
    base = BASE + PER_LOOP * loops + PER_GLOBAL_ACCESS * global_accesses
    total: Floats = base + np.minimum(in_flight, MOST_IN_FLIGHT) + PER_ACCUMULATOR * accumulators + PER_FRAGMENT * fragments
    return total


def register_cap(max_threads: npt.NDArray[np.int64] | None, device: Device) -> npt.NDArray[np.int64] | np.int64:
    """Most registers the compiler may give a thread.

    Args:
        max_threads: block size the compiler was told, if it was.
        device: the GPU.
    """
    r, limits = device.registers, device.limits
    if max_threads is None:
        return np.int64(r.max_per_thread)
    granularity = launch_granularity(device) * limits.warp_size
    lanes = -(-max_threads // granularity) * granularity
    unit = max(r.allocation_unit_per_warp // limits.warp_size, 1)
    cap: npt.NDArray[np.int64] = np.minimum(r.max_per_thread, r.per_block // np.maximum(lanes, 1) // unit * unit)
    return cap
