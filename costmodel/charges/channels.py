"""L2 channels that concurrent blocks keep busy.

Where addresses are dealt out to channels in fixed pieces (AMD: 256 bytes), blocks that walk through
memory in strides of a large power of two ask a few channels for everything and leave the others idle.
The share of the busiest channel, over all bytes that a wave touches while its blocks drift apart along
their loops, gives the efficiency. GPUs that hash addresses have no such term.
Source: AMD OpenCL optimisation guide, channel conflicts; ROCm documentation of the L2 cache (256-byte interleave).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from costmodel.counts.lanes import fold_residues

__all__ = ["channel_efficiency"]

_BINS_PER_CHANNEL = 4

Floats = npt.NDArray[np.float64]


def channel_efficiency(
    strides: Sequence[npt.ArrayLike], extents: Sequence[npt.ArrayLike], itemsize: int, channels: int, interleave_bytes: int
) -> Floats:
    """Mean load of a channel over the load of the busiest one.

    Args:
        strides: elements from one value of a loop to the next, for each loop of one step.
        extents: their trip counts.
        itemsize: bytes of an element.
        channels: number of channels.
        interleave_bytes: consecutive bytes in one channel.

    Returns:
        For each configuration, in (0, 1]: 1 where all channels are equally busy.
    """
    if not strides:
        return np.full(1, 1.0 / channels)
    s = np.abs(np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in strides)))).astype(np.int64) * itemsize
    n = np.stack(np.broadcast_arrays(*(np.atleast_1d(x) for x in extents))).astype(np.int64)
    s, n = np.broadcast_arrays(s, np.maximum(n, 1))
    table, inverse = np.unique(np.concatenate([s, n]), axis=1, return_inverse=True)
    s, n = table[: len(strides)], table[len(strides) :]
    bins = channels * _BINS_PER_CHANNEL
    width = interleave_bytes // _BINS_PER_CHANNEL
    near = s < width
    run = (np.where(near, s * (n - 1), 0).sum(axis=0) + itemsize)[:, None]
    circle = bins * width
    load = np.clip(run % circle - width * np.arange(bins), 0, width) + run // circle * width
    spread = load.astype(np.float64)
    for k in range(len(strides)):
        spread = fold_residues(spread, np.where(near[k], 0, s[k] // width % bins), np.where(near[k], 1, n[k]), bins)
    busy = spread.reshape(-1, channels, _BINS_PER_CHANNEL).sum(axis=2)
    efficiency: Floats = busy.mean(axis=1) / busy.max(axis=1)
    return efficiency[inverse.reshape(-1)]
