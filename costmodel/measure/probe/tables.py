"""Tables that the kernels read, and what is read off those they write."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPACING_BYTES", "address_cycle", "gaps", "offset_cycle"]

SPACING_BYTES = 128
"""Between two addresses of a chase: a whole line on every GPU so far."""

_SEED = 2026


def address_cycle(base: int, n_bytes: int) -> NDArray[np.int64]:
    """Return memory whose lines hold addresses: one random cycle through all of them.

    Args:
        base: address of the memory.
        n_bytes: its size, a multiple of `SPACING_BYTES`.
    """
    words = SPACING_BYTES // 8
    order = _order(n_bytes // SPACING_BYTES)
    table = np.zeros(n_bytes // 8, dtype=np.int64)
    table[order * words] = base + np.roll(order, -1) * SPACING_BYTES
    return table


def offset_cycle(n_bytes: int) -> NDArray[np.int32]:
    """Return 32-bit words that hold byte offsets: one random cycle through all of them."""
    order = _order(n_bytes // 4)
    table = np.zeros(n_bytes // 4, dtype=np.int32)
    table[order] = np.roll(order, -1) * 4
    return table


def gaps(record: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cycles between two blocks of one SM.

    Args:
        record: [blocks, 3] of SM, first and last reading of its clock.
    """
    ordered = record[np.lexsort((record[:, 1], record[:, 0]))]
    same = ordered[1:, 0] == ordered[:-1, 0]
    between: NDArray[np.int64] = (ordered[1:, 1] - ordered[:-1, 2])[same]
    return between


def _order(n: int) -> NDArray[np.int64]:
    """Return a random order of n cells that begins with the first, where a walk starts."""
    return np.concatenate(([0], 1 + np.random.default_rng(_SEED).permutation(n - 1)))
