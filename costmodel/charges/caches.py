"""What caches make of repeated accesses: bytes from L2 to the SMs and from memory to L2.

Re-use is carried by a loop: from one load of a family to the next, from one iteration of a serial loop to
the next, from one wave to the next along x, y, z, from one launch to the next. Between two uses a cache
sees what one iteration touches: that is the distance. For each loop, outwards, what was fetched without
its re-use shrinks towards the distinct bytes by the share of lines that outlive the distance.

L1 replaces, in small sets, any line not used lately; L2 the least recently used of a set. Addresses are
hashed over the sets of both. Stores write through L1, sector by sector, and stay in L2
until it needs their place. Launches follow each other: what fits L2 is still there from the last one. A cache
on the side of memory (Infinity Cache) passes on what L2 would if it were as large.

Source: loops and distances as in the layer conditions of kerncraft and warpspeed (Ernst et al., JPDC 173, 2023).
Jia et al. 2018, Dissecting the NVIDIA Volta GPU architecture, chapter 3: L1 of Volta is not LRU.
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
    "L1_WAYS",
    "L2_WAYS",
    "check_share",
    "dirty_share",
    "l1_share_bytes",
    "lost_by_age",
    "lost_by_use",
    "reused",
    "sector_inflation",
    "wave_shape",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

L2_WAYS = 16
"""Lines of a set of L2, replaced least recently used: preferred among policies on the DRAM counters of the star stencil on a V100
(not on times); taken to hold elsewhere. Jia et al. 2018 are said to find 16 on Volta, which was not looked up."""


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


def lost_by_use(distinct: Floats, touched: Floats, intervals: Floats | float, capacity: Floats) -> Floats:
    """Share of lines gone from one use to the next where a set of `L1_WAYS` replaces any line not used lately.

    Marked lines stay; when all of a set are marked, all but the last lose the mark, and each fill takes one
    without. A line that is followed by x·ways lines of its set, a share f of them fills, is gone with
    probability x - (1 - (1 - x)^(1 + f)) / (1 + f) up to x = 1, and 1 - (2 - x)^(1 + f) / (1 + f) up to 2; the
    lines of a set are Poisson-distributed. Fills include those of lines that were lost, so f follows from the result.

    Args:
        distinct: lines fetched at least once.
        touched: lines fetched if none were kept.
        intervals: uses of a line: touches are spread evenly over them.
        capacity: lines of the cache; 0 keeps none.
    """
    every = np.maximum(touched, np.maximum(distinct, 1e-30))
    row = np.minimum(every / np.maximum(intervals * capacity, 1e-30) * _PER_X, float(_X_STEPS))
    above = np.minimum(row.astype(np.int64), _X_STEPS - 1)
    down, first = row - above, above * (_F_STEPS + 1)
    table, fills = _unmarked_tail(L1_WAYS), distinct / every
    again = np.maximum(1.0 - fills, 0.0)
    if every.size == 1 and capacity.size == 1:
        gone = _settled(table, int(first.item()), down.item(), fills.item(), again.item())
        return np.where(capacity > 0.0, np.full(every.shape, gone), 1.0)
    p = np.zeros_like(every)
    for _ in range(_ROUNDS):
        column = np.minimum(fills + again * p, 1.0) * _F_STEPS
        left = np.minimum(column.astype(np.int64), _F_STEPS - 1)
        at, right = first + left, column - left
        upper = table[at] * (1.0 - right) + table[at + 1] * right
        lower = table[at + _F_STEPS + 1] * (1.0 - right) + table[at + _F_STEPS + 2] * right
        p = upper + (lower - upper) * down
    return np.where(capacity > 0.0, p, 1.0)


def _settled(table: Floats, first: int, down: float, fills: float, again: float) -> float:
    """The same of one configuration: most estimates are of one."""
    p = 0.0
    for _ in range(_ROUNDS):
        column = min(fills + again * p, 1.0) * _F_STEPS
        left = min(int(column), _F_STEPS - 1)
        at, right = first + left, column - left
        upper, lower = (table.item(n) * (1.0 - right) + table.item(n + 1) * right for n in (at, at + _F_STEPS + 1))
        p = upper + (lower - upper) * down
    return p


L1_WAYS = 4
"""Lines of a set of L1, as far as replacement goes. Chosen with the rule above among random, least recently used and this one,
with 4, 8 and 16 ways, on the L2 counters of the star stencil on a V100; judged on those of the box stencil (see `validation`)."""
_X_STEPS, _PER_X, _F_STEPS, _ROUNDS = 160, 40, 64, 4


@lru_cache(maxsize=8)
def _unmarked_tail(ways: int) -> Floats:
    """Share of lines gone, row by row: x in steps of 1 / _PER_X, and f in steps of 1 / _F_STEPS within each."""
    x, f = np.arange(_X_STEPS + 1)[:, None] / _PER_X, np.arange(_F_STEPS + 1) / _F_STEPS
    term = np.exp(-ways * x)
    gone, left = np.zeros((_X_STEPS + 1, _F_STEPS + 1)), 1.0 - term
    for n in range(1, 2 * ways):
        term = term * (ways * x) / n
        left = left - term
        y = n / ways
        near = y - (1.0 - max(1.0 - y, 0.0) ** (1.0 + f)) / (1.0 + f)
        gone += term * (near if y <= 1.0 else 1.0 - (2.0 - y) ** (1.0 + f) / (1.0 + f))
    share: Floats = gone + np.maximum(left, 0.0)
    share[-1] = 1.0  # and beyond
    return share.ravel()


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


def dirty_share(everything_bytes: Floats, capacity_bytes: float) -> Floats:
    """Share of the stored bytes that are still in the last cache when the launch ends: it holds the last that was touched."""
    share: Floats = np.minimum(capacity_bytes / np.maximum(everything_bytes, 1.0), 1.0)
    return share


def check_share(burst_bytes: Floats, device: Device) -> Floats:
    """Bytes with their check bits over bytes, where `burst_bytes` are read or written at a time.

    Where ECC lives in the memory itself, each burst brings a sector of check bits along; neighbours that
    come much later bring it once more.
    """
    covers, sector = device.dram.ecc_covers_bytes, device.dram.sector_bytes
    if not covers:
        return np.ones_like(burst_bytes)
    share: Floats = 1.0 + sector / np.clip(burst_bytes, sector, covers)
    return share


def sector_inflation(
    strides: Sequence[Any],
    extents: Sequence[Any],
    itemsize: int,
    sector_bytes: int,
    start: Any = 0,
    shifts: Sequence[Any] | None = None,
) -> Floats | float:
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
        pairs = tuple(sorted(zip(map(abs, strides), extents, strict=True)))
        return _inflation_of_ints(pairs, itemsize, sector_bytes, start, None if shifts is None else tuple(shifts))
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


@lru_cache(maxsize=1 << 14)
def _inflation_of_ints(
    pairs: tuple[tuple[int, int], ...], itemsize: int, sector_bytes: int, start: int, shifts: tuple[int, ...] | None
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
