"""How many blocks an SM holds at once, and what stops it from holding more.

Blocks per SM are the least of what threads, warps, block slots, registers (rounded up to the
allocation unit of a warp; each scheduler has its part of the file) and shared memory (rounded up, plus
the system's share) allow. Source: CUDA occupancy calculator and `cuda_occupancy.h` of CUDA 13; CUDA C++
programming guide, technical specifications per compute capability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from costmodel.device import Device

__all__ = ["LIMITERS", "Residency", "block_registers", "launch_granularity", "residency", "shared_allocation"]

LIMITERS = ("threads", "warps", "blocks", "registers", "shared memory", "grid")
_UNLIMITED = 1 << 30

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Residency:
    """Arrays, one entry for each configuration."""

    blocks_per_sm: Ints
    """0 where a block cannot launch."""
    warps_per_sm: Ints
    """Of resident blocks; a launch smaller than the device holds fewer."""
    warps_per_block: Ints
    limiter: Ints
    """Position in `LIMITERS`."""
    waves: npt.NDArray[np.float64]
    """Blocks of the launch over blocks the device holds."""


def block_registers(threads: Ints, registers: Ints, device: Device) -> Ints:
    """Registers that a block takes at launch, its warps rounded up to whole rounds over the schedulers."""
    r, limits = device.registers, device.limits
    warps = _round_up(_ceil(threads, limits.warp_size), launch_granularity(device))
    return warps * _round_up(registers * limits.warp_size, r.allocation_unit_per_warp)


def launch_granularity(device: Device) -> int:
    """Warps to which a block is rounded up when a launch checks its registers: always four on NVIDIA (`cuda_occupancy.h`)."""
    granularity = device.limits.warp_allocation_granularity
    return max(granularity, 4) if device.vendor.lower() == "nvidia" else granularity


def _blocks_by_registers(warps: Ints, threads: Ints, registers: Ints, device: Device) -> Ints:
    """Blocks whose warps find registers: each scheduler has its own part of the file; 0 where one block is too large."""
    r, limits = device.registers, device.limits
    each = np.maximum(_round_up(registers * limits.warp_size, r.allocation_unit_per_warp), 1)
    granularity = limits.warp_allocation_granularity
    fitting: Ints = r.per_sm // granularity // each * granularity // np.maximum(warps, 1)
    return np.where(block_registers(threads, registers, device) > r.per_block, 0, fitting)


def shared_allocation(shared_bytes: Ints, device: Device) -> Ints:
    """Shared bytes that a block takes, rounded and with the system's share."""
    s = device.shared
    return _round_up(shared_bytes, s.allocation_unit_bytes) + s.reserved_bytes_per_block


def residency(threads: Ints, registers: Ints, shared_bytes: Ints, blocks: Ints, device: Device) -> Residency:
    """Blocks and warps resident on an SM.

    Args:
        threads: of a block.
        registers: of a thread, after spilling.
        shared_bytes: of a block.
        blocks: of the launch.
        device: the GPU.
    """
    limits = device.limits
    warps = _ceil(threads, limits.warp_size)
    taken = shared_allocation(shared_bytes, device)
    by_limit = np.stack(
        np.broadcast_arrays(
            limits.threads_per_sm // np.maximum(threads, 1),
            limits.warps_per_sm // np.maximum(warps, 1),
            np.int64(limits.blocks_per_sm),
            _blocks_by_registers(warps, threads, registers, device),
            np.where(taken > 0, device.shared.capacity_bytes_per_sm // np.maximum(taken, 1), _UNLIMITED),
            np.maximum(_ceil(blocks, device.sm_count), 1),
        )
    )
    held = by_limit.min(axis=0)
    resident = by_limit[:-1].min(axis=0)
    waves = blocks / np.maximum(resident * device.sm_count, 1)
    return Residency(resident, held * warps, warps, by_limit.argmin(axis=0), waves)


def _ceil(a: Ints, b: int) -> Ints:
    return -(-a // b)


def _round_up(a: Ints, unit: int) -> Ints:
    return _ceil(a, unit) * unit
