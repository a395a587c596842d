"""What caches make of repeated accesses: bytes from L2 to the SMs and from memory to L2.

L1. A block re-reads data inside its serial loops. For each loop, outermost first, the working set of one
pass through it is the footprint of all loads inside; where it fits the block's share of L1, an
access is fetched once per pass of that loop, else more often, at most once per request sector.
Stores write through, sector by sector.

L2. Blocks with consecutive ids run together, in step, and share what they read. The same rule holds for a
wave and the effective L2: what one wave touches in one pass through a loop is fetched once per pass as
far as it fits; as far as the whole launch fits, waves share too, down to the compulsory bytes.

Source: layer conditions as in warpspeed (Ernst et al., JPDC 173, 2023) and kerncraft; `fits` is our
piecewise-linear capacity curve: 1 up to the capacity, 0 from twice of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.device import Device
from costmodel.symbols import distinct_values

__all__ = ["Scope", "dram_bytes", "fits", "l1_share_bytes", "l2_bytes", "sector_inflation", "wave_shape"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scope:
    """One loop around an access: what the access touches in one pass through the loop, and how often that happens."""

    bytes: Floats
    """Distinct bytes in whole sectors, of one block."""
    passes: Floats
    """Passes in the whole launch."""
    working_set_bytes: Floats
    """Of all loads inside the loop, of one block."""


def fits(working_set_bytes: Floats, capacity_bytes: Floats | float) -> Floats:
    """Share of re-reads that a cache serves: 1 while the set fits, falling to 0 at twice the capacity."""
    share: Floats = np.minimum(np.maximum(2.0 - working_set_bytes / np.maximum(capacity_bytes, 1.0), 0.0), 1.0)
    return share


def l1_share_bytes(blocks_per_sm: Ints, shared_bytes_taken: Ints, device: Device) -> Floats:
    """L1 bytes that one resident block can count on."""
    used = blocks_per_sm * shared_bytes_taken if device.l1.unified_with_shared else 0
    share: Floats = np.maximum(device.l1.capacity_bytes - used, 0) / np.maximum(blocks_per_sm, 1)
    return share


def l2_bytes(requested_sector_bytes: Floats, scopes: Sequence[Scope], l1_share: Floats) -> Floats:
    """Bytes that L1 fetches from L2 for one load.

    Args:
        requested_sector_bytes: whole sectors of all requests: what moves without an L1.
        scopes: the whole block first, then each serial loop inwards.
        l1_share: L1 bytes of one block, 0 where L1 does not cache.
    """
    fetched: Floats = requested_sector_bytes
    for scope in reversed(scopes):
        kept = fits(scope.working_set_bytes, l1_share)
        fetched = kept * np.minimum(scope.bytes * scope.passes, fetched) + (1.0 - kept) * fetched
    return fetched


def wave_shape(concurrent: Floats, grid: tuple[Ints, Ints, Ints]) -> tuple[Ints, Ints, Ints]:
    """Blocks of one wave along x, y, z: consecutive ids, x first."""
    left = np.maximum(concurrent, 1.0)
    shape = []
    for extent in grid:
        here = np.clip(np.round(left), 1, extent).astype(np.int64)
        shape.append(here)
        left = left / here
    return shape[0], shape[1], shape[2]


def dram_bytes(
    asked_bytes: Floats, scopes: Sequence[Scope], footprint_bytes: Floats, all_footprints_bytes: Floats, device: Device
) -> Floats:
    """Bytes from memory for one load.

    Args:
        asked_bytes: what L2 is asked for: the most that can come from memory.
        scopes: of a wave: all it touches first, then each serial loop inwards; passes count all waves.
        footprint_bytes: distinct bytes of the whole launch.
        all_footprints_bytes: the same of everything the kernel reads and writes.
        device: the GPU.
    """
    capacity = np.asarray(float(device.l2.effective_capacity_bytes))
    unshared = l2_bytes(asked_bytes, scopes, capacity)
    innermost = scopes[-1]
    unshared = np.minimum(unshared, innermost.bytes * innermost.passes)
    compulsory = np.minimum(footprint_bytes, asked_bytes)
    kept = fits(all_footprints_bytes, capacity)
    result: Floats = compulsory + (1.0 - kept) * np.maximum(unshared - compulsory, 0.0)
    return result


def sector_inflation(strides: Sequence[Any], extents: Sequence[Any], itemsize: int, sector_bytes: int) -> Floats:
    """Bytes in whole sectors over bytes of elements, for elements laid out with these strides.

    Loops join into a run as long as the next stride leaves no whole sector out; a run fills its sectors
    up to its ends. Elements a sector or more apart take one each.

    Args:
        strides: elements from one value of a loop to the next: ints or arrays, one for each loop.
        extents: their trip counts.
        itemsize: bytes of an element.
        sector_bytes: bytes of a sector.
    """
    if all(isinstance(x, int) for x in (*strides, *extents)):
        return np.asarray(_inflation_of_ints(sorted(zip(map(abs, strides), extents, strict=True)), itemsize, sector_bytes))
    c = np.abs(np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in strides)))).astype(np.int64)
    n = np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in extents))).astype(np.int64)
    c, n = np.broadcast_arrays(c, n)
    order = np.argsort(c, axis=0, kind="stable")
    c, n = np.take_along_axis(c, order, 0), np.take_along_axis(n, order, 0)
    span = np.full(c.shape[1:], itemsize, np.int64)
    joined = np.zeros(c.shape, bool)
    for k in range(c.shape[0]):
        moves = (c[k] > 0) & (n[k] > 1)
        joined[k] = moves & (c[k] * itemsize < span + sector_bytes)
        span = span + np.where(joined[k], c[k] * itemsize * (n[k] - 1), 0)
    elements, _ = distinct_values(list(c), list(np.where(joined, n, 1)))
    inflated: Floats = -(-span // sector_bytes) * sector_bytes / (elements * itemsize)
    return np.clip(inflated, 1.0, max(sector_bytes / itemsize, 1.0))


def _inflation_of_ints(pairs: list[tuple[int, int]], itemsize: int, sector_bytes: int) -> float:
    """`sector_inflation` of one configuration: most estimates are of one."""
    moving = [(c, n) for c, n in pairs if c and n > 1]
    if len(moving) == 1:
        ((c, n),) = moving
        run = itemsize * (c * (n - 1) + 1) if c * itemsize < sector_bytes + itemsize else sector_bytes * n
        return float(max(-(-run // sector_bytes) * sector_bytes / (n * itemsize), 1.0))
    span, joined = itemsize, []
    for c, n in pairs:
        if c > 0 and n > 1 and c * itemsize < span + sector_bytes:
            span += c * itemsize * (n - 1)
            joined.append((c, n))
    elements, _ = distinct_values([c for c, _ in joined], [n for _, n in joined])
    inflated = -(-span // sector_bytes) * sector_bytes / (elements * itemsize)
    return float(min(max(inflated, 1.0), max(sector_bytes / itemsize, 1.0)))
