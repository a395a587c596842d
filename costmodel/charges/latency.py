"""Latency that a warp waits for, and the tail that SMs wait for.

A warp waits once for each batch of loads that it needs before it can go on; a compiler keeps a bounded
number of loaded words in flight, so long batches wait several times. Asynchronous copies of S stages
have S - 1 iterations to arrive in: the first S - 1 are waited for together, and what an iteration takes of its
own covers that much of the latency of the others.

The tail: whole waves keep all SMs equally busy, the last one may not. SM-local work takes as long as on
the busiest SM; device-wide units (L2, DRAM) do not care which SM asks.
Source: software pipelines as in XLA's GPU performance model; partial waves as tritonBLAS issue 76 asks for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["load_wait", "pipeline_wait", "tail_factor"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def load_wait(trips: Any, words: Any, latency: Any, words_in_flight: float) -> Any:
    """Cycles that one warp waits for a group of loads.

    Args:
        trips: iterations of the machine loop around them.
        words: 32-bit words that a thread loads in all trips together.
        latency: load-to-use, in cycles.
        words_in_flight: most words that are on their way at once.
    """
    return np.maximum(trips, words / words_in_flight) * latency


def pipeline_wait(trips: Any, stages: Any, latency: Any, own_cycles: Any) -> Any:
    """Cycles that one warp waits for asynchronous copies.

    Args:
        trips: iterations of the pipelined loop.
        stages: buffers that copies rotate through; 1 is no pipeline.
        latency: of memory, in cycles.
        own_cycles: what the warp does itself in all trips together.
    """
    ahead = np.maximum(stages - 1.0, 1.0)
    covered = np.where(stages > 1.0, own_cycles / np.maximum(trips, 1.0), 0.0)
    return latency + np.maximum(trips - ahead, 0.0) * np.maximum(latency / ahead - covered, 0.0)


def tail_factor(blocks: Ints, blocks_per_sm: Ints, sm_count: int) -> Floats:
    """Blocks of the busiest SM over the mean; at least 1."""
    held = np.maximum(blocks_per_sm, 1)
    full, rest = blocks // (held * sm_count), blocks % (held * sm_count)
    factor: Floats = (full * held + -(-rest // sm_count)) * sm_count / blocks
    return factor
