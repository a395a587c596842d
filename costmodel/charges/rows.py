"""Rows of memory: a channel cannot open rows as fast as it could empty them in small pieces.

What concurrent blocks touch falls into runs of consecutive bytes. Runs that lie apart are taken to lie in
different rows, each of which has to be activated; between two activations the channel could have moved
`ACTIVATION_BYTES`, so a shorter run leaves it idle for the rest. Runs that serial loops make longer count
as long, although they come piece by piece: a lower bound.
Source: minimum distance of activations, tRRD, in bursts of 32 bytes: GPGPU-Sim 4, tested-cfgs, `gpgpu_dram_timing_opt`
after the data sheet of Hynix H5GQ1H24AFR: GDDR5 6 cycles, a burst taking 2: 96 bytes; TITAN X 8 and 2: 128; HBM of
V100 3 and 1: 96. The four-activate window is four times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ACTIVATION_BYTES", "row_efficiency", "run_bytes"]

ACTIVATION_BYTES = 128.0
"""Bytes that a channel could move between two activations; the figure of the faster GDDR5, for all devices."""

Floats = npt.NDArray[np.float64]


def run_bytes(strides: Sequence[Any], extents: Sequence[Any], itemsize: int, sector_bytes: int) -> Floats:
    """Consecutive bytes that blocks touch while they run together, in whole sectors.

    Args:
        strides: elements from one value of a loop to the next: ints or arrays, one for each loop.
        extents: their trip counts.
        itemsize: bytes of an element.
        sector_bytes: smallest read from memory; gaps below it are no gaps.
    """
    if not strides:
        return np.full(1, float(sector_bytes))
    if all(isinstance(x, int) for x in (*strides, *extents)):
        end = itemsize
        for stride, extent in sorted((abs(s) * itemsize, n) for s, n in zip(strides, extents, strict=True)):
            end += stride * (extent - 1) if 0 < stride < end + sector_bytes else 0
        return np.full(1, -(-end // sector_bytes) * float(sector_bytes))
    c = np.abs(np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in strides)))).astype(np.int64) * itemsize
    n = np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in extents))).astype(np.int64)
    c, n = np.broadcast_arrays(c, n)
    order = np.argsort(c, axis=0, kind="stable")
    c, n = np.take_along_axis(c, order, 0), np.take_along_axis(n, order, 0)
    span = np.full(c.shape[1:], itemsize, np.int64)
    for step, count in zip(c, n, strict=True):
        joins = (step > 0) & (step < span + sector_bytes)
        span = span + np.where(joins, step * (count - 1), 0)
    whole: Floats = (-(-span // sector_bytes) * sector_bytes).astype(np.float64)
    return whole


def row_efficiency(run: Floats) -> Floats:
    """Share of its bandwidth that memory reaches on runs of this many bytes, in (0, 1]."""
    share: Floats = np.minimum(run / ACTIVATION_BYTES, 1.0)
    return share
