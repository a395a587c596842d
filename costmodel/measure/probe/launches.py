"""What starting work costs: launches behind one another, and blocks on a free slot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from costmodel.device import Device
from costmodel.measure.probe.lab import Figure, Lab, middle, rounded, spread_of

__all__ = ["launches"]

_FEW, _MANY = 100, 400
_BLOCKS_PER_SM = 32


def launches(lab: Lab, base: Device) -> Iterator[Figure]:
    """Measure launches.

    The time of 400 empty kernels less that of 100, all enqueued before the first runs; then the clock of an SM between
    one block's last instruction and the next one's first, with room for one block at a time.
    """
    few, many = lab.run("launch", kernels=_FEW), lab.run("launch", kernels=_MANY)
    each = (np.array(many.seconds) - middle(few.seconds)) / (_MANY - _FEW)
    how = f"{_MANY} empty kernels behind one another less {_FEW}"
    yield Figure("launch_overhead_s", rounded(float(np.median(each))), spread_of(tuple(each)), how)
    grid = int(lab.facts()["sm_count"]) * _BLOCKS_PER_SM
    room = int(lab.facts().get("shared_bytes_per_block") or base.shared.max_bytes_per_block)
    gap = lab.run("blocks", grid=grid, shared_bytes=room)
    how = "gap on an SM's clock between blocks that fill it, a store and an exit among it"
    yield Figure("block_launch_cycles", rounded(middle(gap.cycles)), spread_of(gap.cycles), how)
