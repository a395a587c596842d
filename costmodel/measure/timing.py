"""Warm and cold times of a launch, at the clock that the GPU keeps under it.

Clocks are not locked. A GPU that was idle takes its time to raise its clock (an H200 showed 345 MHz idle and 1980 MHz
busy), and one that reaches its power limit lowers it; so a launch is repeated until two readings of the clock agree, and a
series of times before and after which they do not is taken again.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from costmodel.measure.live import Clocks, Gpu, Launch
from costmodel.measure.task import Row, Settings

__all__ = ["Timer"]

_IDLE_S, _LONGEST_S = 0.1, 1.0
"""Warming up after the GPU was idle takes the first at least, and never much more than the second."""
_SETTLED, _SAME, _BUSY = 0.01, 0.03, 0.9
"""Clocks differ by at most so much of the higher one after warming up, and around a series; one that is at least so much of
the highest seen is that of a GPU that was not idle."""
_SERIES = 3
_EMPTY = 'extern "C" __global__ void empty() {}'


class Timer:
    """Times launches on one GPU."""

    def __init__(self, gpu: Gpu, now: Callable[[], float] = time.perf_counter) -> None:
        self.gpu, self.now = gpu, now
        self.highest_hz = 0.0

    def row(self, run: Callable[[], None], settings: Settings) -> Row:
        """Columns of a launch: its times, and the GPU's state around the warm ones."""
        first_s = float(self.gpu.times_s(run, 1)[0])
        for _ in range(_SERIES):
            before, launch_s = self._warmed(run, first_s, settings)
            warm = self.gpu.times_s(run, settings.repeats(launch_s)) * 1e3
            after = self.gpu.clocks()
            steady = _steady(before, after)
            if steady != 0 or warm.sum() * 1e-3 > settings.longest_series_s:  # the time of a configuration is limited
                break
        cold = self.gpu.times_s(run, settings.repeats(launch_s, settings.least_runs), self.gpu.flush_l2) * 1e3
        return {
            "time_ms": float(np.median(warm)),
            "time_min_ms": float(warm.min()),
            "time_mean_ms": float(warm.mean()),
            "time_std_ms": float(warm.std()),
            "time_first_ms": first_s * 1e3,
            "n_runs": len(warm),
            "cold_ms": float(np.median(cold)),
            "cold_std_ms": float(cold.std()),
            "sm_hz_before": before.sm_hz,
            "sm_hz_after": after.sm_hz,
            "steady": steady,
            "memory_hz": after.memory_hz,
            "power_w": after.power_w,
            "temperature_c": after.temperature_c,
        }

    def empty_ms(self, settings: Settings) -> float:
        """Median time of a launch that does nothing, which every time taken contains: from one event to the next."""
        program = self.gpu.build(_EMPTY, "empty", {})

        def run() -> None:
            self.gpu.start(program, Launch((1, 1, 1), (32, 1, 1)), [])

        self._warmed(run, 0.0, settings)
        return float(np.median(self.gpu.times_s(run, settings.most_runs))) * 1e3

    def _warmed(self, run: Callable[[], None], launch_s: float, settings: Settings) -> tuple[Clocks, float]:
        """Repeat a launch until the clock is that of a busy GPU; returns the last reading, and what a launch takes then."""
        started, known, last_hz = self.now(), self.highest_hz, 0.0
        while True:
            launch_s = float(np.median(self.gpu.times_s(run, settings.repeats(launch_s))))
            clocks, spent_s = self.gpu.clocks(), self.now() - started
            hz = clocks.sm_hz
            if hz is None:
                enough = spent_s >= _IDLE_S
            else:
                enough = _alike(last_hz, hz, _SETTLED) and (spent_s >= _IDLE_S or 0.0 < _BUSY * known <= hz)
                last_hz, self.highest_hz = hz, max(self.highest_hz, hz)
            if enough or spent_s >= _LONGEST_S:
                return clocks, launch_s


def _steady(before: Clocks, after: Clocks) -> int | None:
    """1 or 0; None where the clock cannot be read."""
    if before.sm_hz is None or after.sm_hz is None:
        return None
    return int(_alike(before.sm_hz, after.sm_hz, _SAME))


def _alike(a_hz: float, b_hz: float, share: float) -> bool:
    return abs(a_hz - b_hz) <= share * max(a_hz, b_hz)
