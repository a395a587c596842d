"""Memory bandwidth of reads and writes together.

The data bus of DRAM is turned round between reads and writes, so a mix of them moves less than either alone:

    rate = achievable · (1 - TURNAROUND · 4·r·w),     r, w: shares of reads and writes
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["TURNAROUND", "mixed_efficiency"]

TURNAROUND = 0.07
"""Lost where half of the bytes are written. Source: gpu-benches (te42kyfo), stream_scale over stream_read at full occupancy:
0.877 to 0.979, median 0.928, on A100 40 GB, A100 80 GB, A40, H100 PCIe, L40, MI100, RX 6900 XT, V100 (not H200 and MI210, whose
reads alone were slower)."""

Floats = npt.NDArray[np.float64]


def mixed_efficiency(read_bytes: Floats, written_bytes: Floats) -> Floats:
    """Rate of a mix over the rate of reads alone, in (0, 1].

    Example:
        >>> mixed_efficiency(np.array([4.0, 2.0]), np.array([0.0, 2.0])).round(6).tolist()
        [1.0, 0.93]
    """
    total = np.maximum(read_bytes + written_bytes, 1.0)
    efficiency: Floats = 1.0 - TURNAROUND * 4.0 * (read_bytes / total) * (written_bytes / total)
    return efficiency
