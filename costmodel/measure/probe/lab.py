"""What the probe asks of a machine, and what it makes of the answer.

A `Lab` runs one named benchmark with integer parameters and returns the time of each repeat. A live GPU answers
(`LiveLab`), a journal of an earlier run, or a model of a stored profile (`FakeLab`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

__all__ = ["Figure", "Lab", "Sample", "middle", "rounded", "spread_of"]

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """The repeats of one benchmark."""

    seconds: tuple[float, ...]
    """Of each launch, by events of the GPU."""
    cycles: tuple[float, ...] = ()
    """Core cycles inside each launch, of its slowest block; empty where the benchmark counts none."""
    sm_hz: tuple[float | None, float | None] = (None, None)
    """Core clock as read before and after."""


class Lab(Protocol):
    """A machine, or something that answers like one."""

    def facts(self) -> Mapping[str, Any]:
        """Return versions, limits and state, as `Gpu.facts` names them."""

    def run(self, benchmark: str, **parameters: int | str) -> Sample:
        """Run one benchmark.

        Raises:
            MeasureError: it cannot run here.
        """

    def clock_s(self) -> float:
        """Return seconds since some start: real ones, or those a real machine would have taken."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure of a profile."""

    field: str
    """Its path: `l2.latency_cycles`."""
    value: float | int | bool
    """In the unit of the field."""
    spread: float
    """Interquartile range over the median, of the repeats; 0 for what the driver states."""
    how: str
    """What was run, for the source text."""
    bound: bool = False
    """True where it can only be too low, so that a higher figure of the vendor stands."""


def middle(values: tuple[float, ...]) -> float:
    """Return the median."""
    return float(np.median(values))


def spread_of(values: tuple[float, ...]) -> float:
    """Return the interquartile range over the median.

    Example:
        >>> spread_of((1.0, 1.0, 1.02, 1.02, 1.0))
        0.02
    """
    low, high = np.percentile(values, (25, 75))
    return float(np.round((high - low) / np.median(values), 6)) if np.median(values) else 0.0


def rounded(value: float) -> float:
    """Return a measured figure with the digits it deserves.

    Example:
        >>> rounded(127.48613)
        127.5
    """
    return float(f"{value:.{_DIGITS}g}")
