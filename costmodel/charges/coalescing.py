"""Global memory: sectors and lines of each warp request, by enumerating its lanes.

A stride rule is wrong for 2-D blocks, so distinct sectors and lines are counted from the addresses.
The ratio of what is needed to what moves stays a number; nothing is called "coalesced" or not.
Source: CUDA C++ best practices guide, coalesced access; `gpuperfpredict` counters (nvprof).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from costmodel.counts import Requests

__all__ = ["Coalescing", "ascending", "coalesce", "distinct_granules"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Coalescing:
    """Totals over a launch, one for each configuration."""

    requests: Floats
    """Warp instructions with at least one active lane."""
    sectors: Floats
    """Distinct sectors of each request, summed."""
    lines: Floats
    """Distinct lines of each request, summed."""


def coalesce(requests: Requests, sector_bytes: int = 32, line_bytes: int = 128) -> Coalescing:
    """Count requests, sectors and lines.

    Args:
        requests: enumerated with a granule that both sizes divide.
        sector_bytes: what moves between caches.
        line_bytes: what a cache looks up.
    """
    sectors = distinct_granules(requests, sector_bytes)
    lines = distinct_granules(requests, line_bytes)
    return Coalescing(requests.totals(), requests.totals(sectors), requests.totals(lines))


def distinct_granules(requests: Requests, granule_bytes: int) -> npt.NDArray[np.int64]:
    """[n] distinct aligned pieces of `granule_bytes` that the active lanes of each request touch."""
    first = requests.address // granule_bytes
    last = (requests.address + (requests.lane_bytes[:, None] - 1)) // granule_bytes
    straddle = int(np.max(last - first, initial=0))
    keys = first if straddle == 0 else np.concatenate([np.minimum(first + j, last) for j in range(straddle + 1)], axis=1)
    active = requests.active if straddle == 0 else np.tile(requests.active, (1, straddle + 1))
    return distinct_per_row(keys, active)


def distinct_per_row(keys: npt.NDArray[np.int64], active: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """[n] distinct values among the active entries of each row; rows without one give 0."""
    if not active.all():
        # addresses are relative and may be negative: any active key serves as filler, none that is not there
        filler = np.max(keys, axis=1, keepdims=True, initial=np.iinfo(np.int64).min, where=active)
        keys = np.where(active, keys, filler)
    ordered = ascending(keys)
    count: npt.NDArray[np.int64] = np.count_nonzero(ordered[:, 1:] != ordered[:, :-1], axis=1) + 1
    return np.where(active.any(axis=1), count, 0)


def ascending(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The keys with each row sorted; most are already, for lanes mostly touch rising addresses."""
    falling = (keys[:, 1:] < keys[:, :-1]).any(axis=1)
    if not falling.any():
        return keys
    if falling.all():
        return np.sort(keys, axis=1)
    ordered = keys.copy()
    ordered[falling] = np.sort(keys[falling], axis=1)
    return ordered
