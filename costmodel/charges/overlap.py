"""How the units of a device overlap: from cycles on each to cycles in all.

Units work side by side, but warps queue for them, so a busy unit delays work bound for another. Issue
slots are a unit like the others:

    throughput = (Σ unitᵖ)^(1/p)                              p = 2.5
    chain      = one warp's own time, in order, over the warps that interleave
    cycles     = ( throughput^q + chain^q )^(1/q)             q = 3

p → ∞ would be a plain maximum (perfect overlap), p = 1 a sum (none). Both exponents hold for all
devices and kernels. They are fitted constants: chosen with the CLBlast GEMM timings of RTX 2070 SUPER,
V100, GTX 1080 Ti and MI50 in view (2026-11-21). Ranks hardly depend on them: p from 2 to 3 moves the
Spearman correlation by at most 0.011 on any of the four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CHAIN_EXPONENT", "UNIT_EXPONENT", "Overlap", "overlap"]

UNIT_EXPONENT = 2.5
CHAIN_EXPONENT = 3.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Cycles of the whole and how they split, arrays for each configuration."""

    cycles: Floats
    unit_shares: tuple[Floats, ...]
    """Cycles that each unit accounts for, in the order given."""
    latency_share: Floats
    """Cycles that the chain adds to the throughput."""


def overlap(units: Sequence[Floats], chain: Floats, background: Sequence[Floats | float] | None = None) -> Overlap:
    """Combine cycles on units with the latency chain.

    Args:
        units: cycles on each unit, arrays that broadcast.
        chain: cycles in which the warps' own chains run through.
        background: of the cycles on each unit, those of asynchronous statements; none if left out.

    Returns:
        Shares that add up to the cycles.
    """
    stacked = np.stack(np.broadcast_arrays(*units))
    beside = np.zeros_like(stacked) if background is None else np.stack(np.broadcast_arrays(*background, stacked[0])[:-1])
    throughput, powers = _norm(stacked - beside, UNIT_EXPONENT)
    engine = np.where(beside > 0.0, stacked, 0.0)
    alone = engine.max(axis=0) > throughput
    throughput = np.where(alone, engine.max(axis=0), throughput)
    powers = np.where(alone, engine >= throughput, powers)
    cycles, _ = _norm(np.stack(np.broadcast_arrays(throughput, chain)), CHAIN_EXPONENT)
    total = np.maximum(powers.sum(axis=0), _TINY)
    return Overlap(cycles, tuple(throughput * p / total for p in powers), cycles - throughput)


_TINY = 1e-30


def _norm(values: Floats, exponent: float) -> tuple[Floats, Floats]:
    """`(Σ valuesᵉ)^(1/e)` over the first axis, and the scaled powers."""
    largest = np.maximum(values.max(axis=0), _TINY)
    powers = (values / largest) ** exponent
    return largest * powers.sum(axis=0) ** (1.0 / exponent), powers
