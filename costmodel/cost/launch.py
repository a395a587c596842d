"""What the steps of pricing share: the plan, the device, the sizes, and what they make of a launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.charges.occupancy import Residency
from costmodel.cost.plan import Plan
from costmodel.cost.remembered import Remembered
from costmodel.counts import Requests
from costmodel.device import Device

__all__ = ["Launch", "warp_executions", "whole_rows"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Launch:
    """Configurations of one kernel on one device; arrays have one entry for each."""

    plan: Plan
    device: Device
    memory: Remembered
    columns: Mapping[str, Any]
    """Sizes."""
    rows: int
    whole: list[Any]
    """The plan's formulas, by handle."""
    floats: list[Any]
    """The same in float64."""
    threads: Ints
    blocks: Ints
    warps: Floats
    """Of all blocks."""
    shared_bytes: Ints
    """Of a block."""
    registers: Ints
    """Of a thread."""
    spilled: Floats
    """Words of a thread."""
    held: Residency


def whole_rows(value: Any, rows: int) -> Ints:
    """A number, or a column, as int64 for each row."""
    return np.broadcast_to(np.asarray(value, np.int64), (rows,))


def warp_executions(launch: Launch) -> list[Floats]:
    """Warp instructions of each statement: warps with at least one lane that passes its guards."""
    threads = launch.threads.astype(np.float64) * launch.blocks
    return [
        launch.memory.totals(launch.plan.kernel, s.site, None, launch.columns, launch.rows, 1, _requests)[0]
        if s.site.guards
        else launch.floats[s.executions] / threads * launch.warps
        for s in launch.plan.statements
    ]


def _requests(r: Requests) -> tuple[Floats]:
    return (r.totals(),)
