"""Rows of memory: a channel cannot open rows as fast as it could empty them in small pieces.

What concurrent blocks touch falls into runs of consecutive bytes. Runs less than `ROW_BYTES` apart share
a row; the others lie in different rows, each of which has to be activated. Between two activations the
channel could have moved `ACTIVATION_BYTES`, so fewer in a row leave it idle for the rest. Runs that serial
loops make longer count as long, although they come piece by piece: a lower bound.
Source: minimum distance of activations, tRRD, in bursts of 32 bytes: GPGPU-Sim 4, tested-cfgs, `gpgpu_dram_timing_opt`
after the data sheet of Hynix H5GQ1H24AFR: GDDR5 6 cycles, a burst taking 2: 96 bytes; TITAN X 8 and 2: 128; HBM of
V100 3 and 1: 96. The four-activate window is four times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ACTIVATION_BYTES", "ROW_BYTES", "row_efficiency", "run_bytes"]

ACTIVATION_BYTES = 128.0
"""Bytes that a channel could move between two activations; the figure of the faster GDDR5, for all devices."""

ROW_BYTES = 1024
"""Of one channel. Source: JEDEC JESD235 (HBM2), 1 KiB in pseudo channel mode; GDDR5 and GDDR6 have 2 KiB."""

Floats = npt.NDArray[np.float64]


def run_bytes(strides: Sequence[Any], extents: Sequence[Any], itemsize: int, sector_bytes: int) -> Floats:
    """Bytes that blocks touch in one row of memory while they run together, in whole sectors.

    Args:
        strides: elements from one value of a loop to the next: ints or arrays, one for each loop.
        extents: their trip counts.
        itemsize: bytes of an element.
        sector_bytes: smallest read from memory; gaps below it are no gaps.
    """
    if not strides:
        return np.full(1, float(sector_bytes))
    if all(isinstance(x, int) for x in (*strides, *extents)):
        return np.full(1, _of_ints(tuple(strides), tuple(extents), itemsize, sector_bytes))
    c = np.abs(np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in strides)))).astype(np.int64) * itemsize
    n = np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in extents))).astype(np.int64)
    c, n = np.broadcast_arrays(c, n)
    order = np.argsort(c, axis=0, kind="stable")
    c, n = np.take_along_axis(c, order, 0), np.take_along_axis(n, order, 0)
    span, pieces = np.full(c.shape[1:], itemsize, np.int64), np.ones(c.shape[1:], np.int64)
    for step, count in zip(c, n, strict=True):
        joins = (step > 0) & (step < span + sector_bytes) & (pieces == 1)
        span = span + np.where(joins, step * (count - 1), 0)
        beside = ~joins & (step > 0) & (count > 1) & (step < ROW_BYTES)
        pieces = np.maximum(pieces, np.where(beside, np.minimum(count, ROW_BYTES // np.maximum(step, 1)), 1))
    whole: Floats = (-(-span // sector_bytes) * sector_bytes * pieces).astype(np.float64)
    return whole


@lru_cache(maxsize=4096)
def _of_ints(strides: tuple[int, ...], extents: tuple[int, ...], itemsize: int, sector_bytes: int) -> float:
    """`run_bytes` of a single configuration: most estimates are of one."""
    span, pieces = itemsize, 1
    for step, count in sorted((abs(s) * itemsize, n) for s, n in zip(strides, extents, strict=True)):
        if 0 < step < span + sector_bytes and pieces == 1:
            span += step * (count - 1)
        elif 0 < step < ROW_BYTES and count > 1:
            pieces = max(pieces, min(count, ROW_BYTES // step))
    return float(-(-span // sector_bytes) * sector_bytes * pieces)


def row_efficiency(run: Floats) -> Floats:
    """Share of its bandwidth that memory reaches on runs of this many bytes, in (0, 1]."""
    share: Floats = np.minimum(run / ACTIVATION_BYTES, 1.0)
    return share
