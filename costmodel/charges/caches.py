"""What caches make of repeated accesses: bytes from L2 to the SMs and from memory to L2.

Re-use is carried by a loop: from one load of a family to the next, from one iteration of a serial loop to
the next, from one wave to the next along x, y, z, from one launch to the next. Between two uses a cache
sees what one iteration touches: that is the distance. For each loop, outwards, what was fetched without
its re-use shrinks towards the distinct bytes by the share of lines that outlive the distance.

L1 replaces lines at random: each fill may hit any line. L2 replaces the least recently used of a few
ways, and addresses are hashed over its sets. Stores write through L1, sector by sector, and stay in L2
until it needs their place. Launches follow each other: what fits L2 is still there from the last one.

Source: loops and distances as in the layer conditions of kerncraft and warpspeed (Ernst et al., JPDC 173, 2023).
Jia et al. 2018, Dissecting the NVIDIA Volta GPU architecture, chapter 3: L1 of Volta is not LRU; L2 has 16 ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.device import Device
from costmodel.symbols import distinct_values

__all__ = [
    "L2_WAYS",
    "dirty_share",
    "l1_share_bytes",
    "lost_at_random",
    "lost_by_age",
    "reused",
    "sector_inflation",
    "wave_shape",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

L2_WAYS = 16
"""Lines of a set of L2. Source: Jia et al. 2018, section 3.4 (Volta); taken to hold elsewhere."""


def reused(fetched: Floats, distinct: Floats, lost: Floats | float) -> Floats:
    """Bytes fetched when a loop re-uses data: those of all iterations, less what is still there from earlier ones.

    Args:
        fetched: bytes of all iterations if none re-uses another's.
        distinct: bytes if each is fetched once.
        lost: share of re-uses that come too late.
    """
    kept: Floats = np.minimum(distinct, fetched)
    return kept + (fetched - kept) * lost


def lost_by_age(distance: Floats, capacity_bytes: float) -> Floats:
    """Share of lines gone after `distance` other bytes, where a set of `L2_WAYS` replaces the least recently used.

    The lines of a set among those touched are Poisson-distributed: P(at least `L2_WAYS` of them).
    """
    x, share = _poisson_tail(L2_WAYS)
    gone: Floats = np.interp(distance / max(capacity_bytes, 1.0), x, share)
    return gone


_ROUNDING = 1e-12


@lru_cache(maxsize=8)
def _poisson_tail(ways: int) -> tuple[Floats, Floats]:
    """P(N >= ways) for N Poisson-distributed around ways * x, on a grid of x."""
    x = np.linspace(0.0, 4.0, 401)
    term = np.exp(-ways * x)
    below = term.copy()
    for n in range(1, ways):
        term = term * (ways * x) / n
        below += term
    return x, np.where(below > 1.0 - _ROUNDING, 0.0, np.where(below < _ROUNDING, 1.0, 1.0 - below))


def lost_at_random(distinct: Floats, touched: Floats, intervals: Floats | float, capacity: Floats) -> Floats:
    """Share of lines gone from one use to the next where each fill replaces any line.

    A line outlives `n` fills with probability exp(-n / capacity); the fills between two uses include those
    of lines that were lost, so the share p solves p = 1 - exp(-(distinct + (touched - distinct)·p) / (intervals·capacity)).

    Args:
        distinct: lines fetched at least once.
        touched: lines fetched if none were kept.
        intervals: uses of a line: fills are spread evenly over them.
        capacity: lines of the cache; 0 keeps none.
    """
    room = np.maximum(intervals * capacity, 1e-30)
    once, again = distinct / room, np.maximum(touched - distinct, 0.0) / room
    p: Floats = -np.expm1(-once)
    for _ in range(_STEPS):
        kept = np.exp(-(once + again * p))
        slope = 1.0 - again * kept
        step = np.where(slope > 0.1, (p - 1.0 + kept) / np.maximum(slope, 0.1), p - 1.0 + kept)
        p = np.clip(p - step, 0.0, 1.0)
    return np.where(capacity > 0.0, p, 1.0)


_STEPS = 8


def l1_share_bytes(blocks_per_sm: Ints, shared_bytes_taken: Ints, device: Device) -> Floats:
    """L1 bytes that one resident block can count on."""
    used = blocks_per_sm * shared_bytes_taken if device.l1.unified_with_shared else 0
    share: Floats = np.maximum(device.l1.capacity_bytes - used, 0) / np.maximum(blocks_per_sm, 1)
    return share


def wave_shape(concurrent: Floats, grid: tuple[Ints, Ints, Ints]) -> tuple[Ints, Ints, Ints]:
    """Blocks of one wave along x, y, z: consecutive ids, x first."""
    left = np.maximum(concurrent, 1.0)
    shape = []
    for extent in grid:
        here = np.clip(np.round(left), 1, extent).astype(np.int64)
        shape.append(here)
        left = left / here
    return shape[0], shape[1], shape[2]


def dirty_share(everything_bytes: Floats, device: Device) -> Floats:
    """Share of the stored bytes that are still in L2 when the launch ends: it holds the last that was touched."""
    share: Floats = np.minimum(device.l2.effective_capacity_bytes / np.maximum(everything_bytes, 1.0), 1.0)
    return share


def sector_inflation(
    strides: Sequence[Any],
    extents: Sequence[Any],
    itemsize: int,
    sector_bytes: int,
    start: Any = 0,
    shifts: Sequence[Any] | None = None,
) -> Floats:
    """Bytes in whole sectors over bytes of elements, for elements laid out with these strides.

    Loops join into a run as long as the next stride leaves no whole sector out; a run fills its sectors
    up to its ends. Elements a sector or more apart take one each. Runs start where `start` and all
    multiples of what moves them say, each place within a sector as often as any other.

    Args:
        strides: elements from one value of a loop to the next: ints or arrays, one for each loop.
        extents: their trip counts.
        itemsize: bytes of an element.
        sector_bytes: bytes of a sector.
        start: element at which the first run starts.
        shifts: elements by which other loops move the start; None where every run starts with a sector.
    """
    if all(isinstance(x, int) for x in (*strides, *extents, start, *(shifts or ()))):
        pairs = sorted(zip(map(abs, strides), extents, strict=True))
        return np.asarray(_inflation_of_ints(pairs, itemsize, sector_bytes, start, shifts))
    c = np.abs(np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in strides)))).astype(np.int64)
    n = np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in extents))).astype(np.int64)
    c, n = np.broadcast_arrays(c, n)
    order = np.argsort(c, axis=0, kind="stable")
    c, n = np.take_along_axis(c, order, 0), np.take_along_axis(n, order, 0)
    span = np.full(c.shape[1:], itemsize, np.int64)
    unit = np.full(c.shape[1:], sector_bytes, np.int64)
    joined = np.zeros(c.shape, bool)
    for k in range(c.shape[0]):
        moves = (c[k] > 0) & (n[k] > 1)
        joined[k] = moves & (c[k] * itemsize < span + sector_bytes)
        span = span + np.where(joined[k], c[k] * itemsize * (n[k] - 1), 0)
        if shifts is not None:
            unit = np.gcd(unit, np.where(moves & ~joined[k], c[k] * itemsize, 0))
    for shift in shifts or ():
        unit = np.gcd(unit, np.asarray(shift, np.int64) * itemsize)
    elements, _ = distinct_values(list(c), list(np.where(joined, n, 1)))
    first = 0 if shifts is None else np.asarray(start, np.int64) * itemsize % unit
    sectors = 1.0 + (first + span - 1) // unit * unit / sector_bytes
    inflated: Floats = np.minimum(sectors, elements.astype(np.float64)) * sector_bytes / (elements * itemsize)
    return np.maximum(inflated, 1.0)


def _inflation_of_ints(
    pairs: list[tuple[int, int]], itemsize: int, sector_bytes: int, start: int, shifts: Sequence[int] | None
) -> float:
    """`sector_inflation` of one configuration: most estimates are of one."""
    span, unit, joined = itemsize, sector_bytes, []
    for c, n in pairs:
        if c > 0 and n > 1:
            if c * itemsize < span + sector_bytes:
                span += c * itemsize * (n - 1)
                joined.append((c, n))
            elif shifts is not None:
                unit = math.gcd(unit, c * itemsize)
    for shift in shifts or ():
        unit = math.gcd(unit, shift * itemsize)
    elements, _ = distinct_values([c for c, _ in joined], [n for _, n in joined])
    first = 0 if shifts is None else start * itemsize % unit
    sectors = 1.0 + (first + span - 1) // unit * unit / sector_bytes
    return float(max(min(sectors, elements) * sector_bytes / (elements * itemsize), 1.0))
