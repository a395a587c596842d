"""Instructions that do not fit the cache of an SM: they come from L2 again for each block.

Straight code is walked once by every block; what exceeds the cache is gone before the next block comes,
so code - cache is fetched for each. Fetches are prefetched well enough not to be waited for.

Source: cache sizes as in Jia et al. 2018 and 2019 (Volta, Turing). The excess of L2 reads of a 15 × 15 convolution on an
RTX 2080 Ti starts at 46 KiB of code, as their microbenchmarks say, and is half of code - cache for each block (median,
kernels without spills, 48 to 300 KiB): we take the two SMs of a TPC to fetch together. That half is fitted to these
counters, and no time depends on it noticeably.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["INSTRUCTION_BYTES", "SMS_PER_FETCH", "refetched_bytes"]

INSTRUCTION_BYTES = 16
"""Source: Jia et al. 2018, chapter 2: 128 bits an instruction, control included, from Volta on."""
SMS_PER_FETCH = 2

Floats = npt.NDArray[np.float64]


def refetched_bytes(instructions: Floats, blocks: Floats, cache_bytes: int | None) -> Floats:
    """Bytes of code that all blocks fetch from L2.

    Args:
        instructions: of the kernel's machine code.
        blocks: of the launch.
        cache_bytes: of an SM, for instructions; None where it is not known: then nothing is charged.
    """
    if cache_bytes is None:
        return np.zeros(np.broadcast_shapes(np.shape(instructions), np.shape(blocks)))
    excess: Floats = np.maximum(instructions * INSTRUCTION_BYTES - cache_bytes, 0.0) * blocks / SMS_PER_FETCH
    return excess
