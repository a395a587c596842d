"""Registers of a thread, from what is live, as a scheduler that minds occupancy would choose them; and what spills.

Of each region (`cost.register_plan`) two figures in 32-bit words:

    least = 8 + 2·(loops + pointers) + accumulators + max(operands of two steps, staged / 2)
    most  = 8 + 2·(loops + pointers) + accumulators + max(all loads worth issuing early, staged)

A compiler finds how many warps `least` lets it keep, never asks for more than the SM can hold, and then issues loads early
until it has used up the registers which that many warps leave it: the *budget*. So

    registers = min(most, budget(least)), at most the cap of the launch bound,

and full occupancy is free up to 64 registers on Turing, 32 on V100, A100 and H100, 40 on GA10x and Ada. Accumulators with the
operands of two steps that exceed the cap spill: the excess is stored and loaded in each sweep over the accumulators.

Source: registers that `ptxas -v` of CUDA 13.0 reports, never timings. All constants were chosen on the set `seen` and on KTT's
convolution; `held out` was looked at once (then two terms for global loads were added: 91 % within 8 before, 92 % after), `blind`
was compiled when all was finished. Registers, sm_75, sm_80, sm_86 and sm_90 together (tests/golden/registers.csv):

    set       kernels, compilations           rms   worst   within 8   median error
    seen      9 of this package,       544    12.7     96       78 %              3
    held out  7 stencils, products …,  248     9.9   −118       92 %              2
    blind     5 others,                 68     9.7     40       87 %              1

KTT's convolution as measured (RTX 2080 Ti, RTX 3090; half of its rows): occupancy within 2 % of the counter in the median (7 %
on the mean), 98 and 100 % of the launches refused did fail, 97 and 96 % of the failures are refused. Words spilled by 16 × 16
accumulators: 0.9 to 1.1 of what ptxas reports for a step.

Beyond that large tiles are the compiler's mood. A body of 3,000 to 5,100 updates whose values are used again far apart takes
anything from 60 to 255 registers; we say all. A launch bound that cannot be met may be answered with 32 registers and tenfold
spills. And sm_90 takes up to 150 registers for values that are used again where sm_80 makes do with 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from costmodel.charges.occupancy import launch_granularity
from costmodel.device import Device

__all__ = ["BASE", "IN_FLIGHT_WORDS", "WORD", "Demand", "Kind", "Region", "budget", "chosen_registers", "demand", "register_cap"]

WORD = 4.0
"""Bytes of a register."""
BASE = 8.0
PER_LOOP = 2.0
PER_POINTER = 2.0
IN_FLIGHT_WORDS = 16.0
"""Loaded words that a compiler keeps in flight before it waits: 15 to 30 in SASS of the convolution on sm_75."""
FEW_WORDS = 4.0
"""Loaded words that code without accumulators cannot do without."""
HOISTED_WORDS = 34.0
"""Words from shared memory worth loading early: its latency is covered then."""
HOISTED_AT_LEAST, HOISTED_PER_CHAIN = 9.0, 8.0
"""The same where a chain of dependent updates is the limit: so many words, and for each independent chain so many more."""
STAGED_AT_ONCE = 0.5
"""Share of staged words that are in registers together beside accumulators, or when registers are short."""
OPERAND_SETS = 3.0
"""Steps of an unrolled loop whose operands are in registers together."""
LARGE_BODY, LARGEST_BODY = 3000.0, 5100.0
"""Updates in one region from which on a scheduler no longer shortens the lives of values that are used again, and from which on
compilers leave a loop rolled, pragma or not (LLVM: 16,384 instructions, some three an update)."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


Kind = Literal["tiled", "streamed", "plain"]
"""Operands in register arrays of their own; loads that feed accumulators directly; no accumulators."""


@dataclass(frozen=True, slots=True)
class Region:
    """Straight code between barriers; words of one thread, one entry for each configuration."""

    kind: Kind
    loops: int
    pointers: int
    accumulators: Floats | float
    fragments: Floats | float
    gathered: Floats | float
    fetched: Floats | float
    addresses: Floats | float
    staged: Floats | float
    copies: Floats | float
    chains: Floats | float
    updates: Floats | float


@dataclass(frozen=True, slots=True)
class Demand:
    """Registers that a region, or the region that asks for most, could do with."""

    least: Floats | float
    """Without fewer it would not be compiled."""
    most: Floats | float
    """With all loads issued as early as is worth it."""
    every_step: Floats | float
    """What each step over the accumulators passes through: what of it has no register is stored and loaded."""

    def __or__(self, other: Demand) -> Demand:
        """The larger of both, for registers are reused between regions."""
        return Demand(
            np.maximum(self.least, other.least),
            np.maximum(self.most, other.most),
            np.maximum(self.every_step, other.every_step),
        )


def demand(r: Region, device: Device) -> Demand:
    """Registers that a region could do with on a device, whose occupancy a compiler knows."""
    base = BASE + PER_LOOP * r.loops + PER_POINTER * r.pointers + r.accumulators
    least, most, every_step = {"tiled": _tiled, "streamed": _streamed, "plain": _plain}[r.kind](r, base, device)
    beside = np.where(np.greater(r.accumulators, 0), STAGED_AT_ONCE, 1.0)
    return Demand(
        base + np.maximum(least, STAGED_AT_ONCE * r.staged),
        base + np.maximum(most + r.addresses, beside * (r.staged + r.copies)),
        base + every_step,
    )


_Words = tuple[Floats | float, Floats | float, Floats | float]
"""Beyond what is live throughout: least, most, and what each step passes through."""


def _plain(r: Region, base: Floats | float, device: Device) -> _Words:  # noqa: ARG001 - the three kinds are called alike
    loaded = r.gathered + r.fetched
    few = np.minimum(loaded, FEW_WORDS)
    return few, loaded, few


def _tiled(r: Region, base: Floats | float, device: Device) -> _Words:  # noqa: ARG001 - the three kinds are called alike
    loaded = r.gathered + r.fetched
    steps = loaded / r.fragments
    most = np.maximum(r.fragments * np.clip(steps, 1.0, OPERAND_SETS), np.minimum(loaded, HOISTED_WORDS))
    return r.fragments * np.clip(steps - 1.0, 1.0, OPERAND_SETS - 1.0), most, r.fragments * (OPERAND_SETS - 1.0)


def _streamed(r: Region, base: Floats | float, device: Device) -> _Words:
    loaded = r.gathered + r.fetched
    free, few = budget(0.0, device), np.minimum(loaded, IN_FLIGHT_WORDS)
    early = np.minimum(r.gathered, HOISTED_WORDS) + r.fetched
    needed = np.minimum(r.gathered, np.minimum(HOISTED_AT_LEAST + HOISTED_PER_CHAIN * r.chains, HOISTED_WORDS)) + r.fetched
    again = np.greater(r.updates, loaded)  # values are used again, and kept as long as that costs no warp
    lost = again & np.greater(r.updates, LARGE_BODY) & np.less(r.updates, LARGEST_BODY)
    kept = np.maximum(needed, np.minimum(loaded, free - base))
    least = np.where(base + few > free, early, few)
    all_ = np.minimum(loaded, np.maximum(device.registers.max_per_thread - base, 0.0))
    least = np.where(lost, all_, least)
    return least, np.where(lost, all_, np.where(again, kept, needed)), few


def budget(least: Floats | float, device: Device) -> Floats:
    """Most registers with which as many warps are resident as with `least`."""
    r, limits = device.registers, device.limits
    unit = max(r.allocation_unit_per_warp // limits.warp_size, 1)
    granularity = limits.warp_allocation_granularity
    file = r.per_sm // (granularity * limits.warp_size)
    asked = np.ceil(np.maximum(least, 1.0) / unit) * unit
    warps = np.clip(file // asked, 1, max(limits.warps_per_sm // granularity, 1))
    most: Floats = np.minimum(file // warps // unit * unit, r.max_per_thread)
    return most


def chosen_registers(d: Demand, cap: Ints | np.int64, device: Device) -> tuple[Ints, Floats]:
    """Registers of a thread, and the words that each sweep over the accumulators stores and loads for want of more.

    Args:
        d: of all regions together.
        cap: most registers that a thread may have.
        device: the GPU.
    """
    wanted = np.maximum(np.minimum(d.most, budget(d.least, device)), np.minimum(d.least, d.most))
    return np.minimum(np.ceil(wanted), cap).astype(np.int64), np.maximum(d.every_step - cap, 0.0)


def register_cap(max_threads: Ints | None, device: Device) -> Ints | np.int64:
    """Most registers the compiler may give a thread.

    Args:
        max_threads: block size the compiler was told, if it was.
        device: the GPU.
    """
    r, limits = device.registers, device.limits
    if max_threads is None:
        return np.int64(r.max_per_thread)
    granularity = launch_granularity(device) * limits.warp_size
    lanes = -(-max_threads // granularity) * granularity
    unit = max(r.allocation_unit_per_warp // limits.warp_size, 1)
    cap: Ints = np.minimum(r.max_per_thread, r.per_block // np.maximum(lanes, 1) // unit * unit)
    return cap
