"""How the units of a device overlap: from cycles on each to cycles in all.

Units work side by side, but warps queue for them, so a busy unit delays work bound for another. Issue
slots are a unit like the others:

    throughput = (Σ unitᵖ)^(1/p)                              p = 2.5
    served     = blocks of an SM (warps where no barrier keeps them together) waiting for memory and sharing
                 the throughput in turn: machine repair model
    chain      = one warp's own time, in order, over the warps that interleave
    cycles     = ( served^q + chain^q )^(1/q)                 q = 3

Asynchronous copies and matrix instructions hold no warp up, so they do not queue: a unit that serves
them takes no less than all of its work, and adds nothing to the others. p → ∞ would be a plain maximum
(perfect overlap), p = 1 a sum (none); one block alone waits and works after each other, many hide each
other's waits. Both exponents hold for all devices and kernels. They are fitted constants, chosen with the
CLBlast GEMM timings of RTX 2070 SUPER, V100, GTX 1080 Ti and MI50 in view (2026-11-21). Ranks hardly
depend on them: p from 2 to 3 moves the Spearman correlation by at most 0.011 on any of the four.
Source: machine repair model and its mean value analysis, Reiser & Lavenberg, J. ACM 27 (1980), with one
server; it has no free constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CHAIN_EXPONENT", "UNIT_EXPONENT", "Overlap", "overlap", "turns"]

UNIT_EXPONENT = 2.5
CHAIN_EXPONENT = 3.0

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Cycles of the whole and how they split, arrays for each configuration."""

    cycles: Floats
    unit_shares: tuple[Floats, ...]
    """Cycles that each unit accounts for, in the order given."""
    latency_share: Floats
    """Cycles that the chain adds to the throughput."""


def overlap(
    units: Sequence[Floats],
    chain: Floats,
    waits: Floats,
    blocks: Floats,
    resident: Ints,
    background: Sequence[Floats | float] | None = None,
) -> Overlap:
    """Combine cycles on units with waiting.

    Args:
        units: SM cycles on each unit in the whole launch, arrays that broadcast.
        chain: SM cycles in which the warps' own chains run through.
        waits: cycles that one customer waits in all.
        blocks: customers of the launch: blocks whose warps barriers keep together, else warps.
        resident: customers that share an SM, at least 1.
        background: of the cycles on each unit, those of asynchronous statements; none if left out.

    Returns:
        Shares that add up to the cycles.
    """
    stacked = np.stack(np.broadcast_arrays(*units))
    if background is None:
        throughput, powers = _norm(stacked, UNIT_EXPONENT)
    else:
        throughput, powers = _beside(stacked, np.stack(np.broadcast_arrays(*background, stacked[0])[:-1]))
    served = turns(throughput / blocks, waits, resident) * blocks
    cycles, _ = _norm(np.stack(np.broadcast_arrays(served, chain)), CHAIN_EXPONENT)
    total = np.maximum(powers.sum(axis=0), _TINY)
    return Overlap(cycles, tuple(throughput * p / total for p in powers), cycles - throughput)


def _beside(units: Floats, background: Floats) -> tuple[Floats, Floats]:
    """Throughput and shares where units also work for nobody who waits: the busier of the queue and of any such unit."""
    throughput, powers = _norm(units - background, UNIT_EXPONENT)
    engines = np.where(background > 0.0, units, 0.0)
    busiest = engines.max(axis=0)
    alone = busiest > throughput
    return np.maximum(throughput, busiest), np.where(alone, engines >= busiest, powers)


def turns(service: Floats, waits: Floats, resident: Ints) -> Floats:
    """Mean cycles from one block's end to the next one's, where `resident` blocks wait on their own and share one server.

    Args:
        service: cycles of the shared units that one block needs.
        waits: cycles that a block waits without holding any.
        resident: blocks at a time, at least 1.
    """
    if service.size == 1:
        return np.full(service.shape, _turns_of_one(float(service.flat[0]), float(np.max(waits)), int(np.max(resident))))
    queue, cycles = np.zeros(service.shape), service + waits
    for n in range(1, int(resident.max(initial=1)) + 1):
        response = service * (1.0 + queue)
        each = (waits + response) / n
        queue = response / np.maximum(each, _TINY)
        cycles = np.where(resident >= n, each, cycles)
    return cycles


def _turns_of_one(service: float, waits: float, resident: int) -> float:
    """`turns` of a single configuration: most estimates are of one."""
    queue = each = 0.0
    for n in range(1, resident + 1):
        response = service * (1.0 + queue)
        each = (waits + response) / n
        queue = response / max(each, _TINY)
    return each


_TINY = 1e-30


def _norm(values: Floats, exponent: float) -> tuple[Floats, Floats]:
    """`(Σ valuesᵉ)^(1/e)` over the first axis, and the scaled powers."""
    largest = np.maximum(values.max(axis=0), _TINY)
    powers = (values / largest) ** exponent
    return largest * powers.sum(axis=0) ** (1.0 / exponent), powers
