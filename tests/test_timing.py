"""Which launches are timed at which clock, on a stub whose clock is told beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from costmodel.measure.live import Clocks
from costmodel.measure.task import Settings
from costmodel.measure.timing import Timer

LOW, HIGH = 345e6, 1980e6


class Clocked:
    """Its launch takes so many cycles, and its clock is raised so long after the first of them."""

    name, architecture = "clocked", "sm_90"

    def __init__(self, idle: bool = True, rise_s: float = 0.06, cycles: float = 1.98e6) -> None:
        self.now_s, self.high_from_s, self.cycles = 0.0, rise_s if idle else 0.0, cycles
        self.given: list[float] = []
        self.series = 0
        self.flushes = 0

    def hz(self) -> float:
        return HIGH if self.now_s >= self.high_from_s else LOW

    def clocks(self) -> Clocks:
        return Clocks(self.given.pop(0) if self.given else self.hz(), 2.6e9, 300.0, 50.0)

    def times_s(self, run: Any, repeats: int, before: Any = None) -> Any:
        self.series += 1
        taken = []
        for _ in range(repeats):
            run()
            taken.append(self.cycles / self.hz())
            self.now_s += taken[-1]
        return np.array(taken)

    def flush_l2(self) -> None:
        self.flushes += 1


def timer_of(gpu: Any) -> Timer:
    return Timer(gpu, lambda: gpu.now_s)


def row_of(timer: Timer) -> dict[str, Any]:
    return timer.row(lambda: None, Settings())


def test_a_gpu_that_was_idle_is_timed_at_the_clock_of_a_busy_one():
    gpu = Clocked()
    row = row_of(timer_of(gpu))
    assert row["time_first_ms"] == pytest.approx(1.98e6 / LOW * 1e3)
    assert (row["time_ms"], row["time_std_ms"], row["n_runs"]) == pytest.approx((1.0, 0.0, 20))  # 20 ms at the high clock
    assert (row["sm_hz_before"], row["sm_hz_after"], row["steady"]) == (HIGH, HIGH, 1)
    assert gpu.now_s >= 0.1


def test_the_clock_of_the_gpu_decides_how_long_it_is_warmed_up():
    gpu = Clocked()
    timer = timer_of(gpu)
    row_of(timer)
    before = gpu.series
    row_of(timer)
    assert gpu.series - before == 1 + 2 + 2  # the first, two to see that the clock stays, warm and cold
    gpu.high_from_s = gpu.now_s + 0.06  # idle again
    row = row_of(timer)
    assert (row["time_ms"], row["sm_hz_before"]) == (pytest.approx(1.0), HIGH)


def test_a_series_around_which_the_clock_moves_is_taken_again():
    gpu = Clocked(idle=False)
    timer = timer_of(gpu)
    row_of(timer)
    gpu.given = [HIGH, HIGH, 0.9 * HIGH, HIGH, HIGH, HIGH]
    series = gpu.series
    row = row_of(timer)
    assert gpu.series - series == 1 + (2 + 1) * 2 + 1
    assert row["steady"] == 1
    gpu.given = [HIGH, HIGH, 0.9 * HIGH] * 3
    row = row_of(timer)
    assert (row["sm_hz_before"], row["sm_hz_after"], row["steady"]) == (HIGH, 0.9 * HIGH, 0)
    assert not gpu.given


def test_long_launches_are_not_repeated_for_the_sake_of_the_clock():
    gpu = Clocked(idle=False, cycles=2 * HIGH)
    gpu.given = [HIGH, 0.9 * HIGH] * 3
    row = row_of(timer_of(gpu))
    assert (row["n_runs"], row["steady"], gpu.series) == (3, 0, 4)  # the first, warming up, warm and cold
    assert gpu.now_s < 60.0


def test_a_clock_that_never_rests_does_not_hold_up_a_sweep():
    gpu = Clocked(idle=False)
    gpu.given = [HIGH, LOW] * 1000
    row = row_of(timer_of(gpu))
    assert row["steady"] == 0
    assert gpu.now_s < 3 * 1.1 + 0.2


def test_without_a_clock_to_read_a_tenth_of_a_second_is_enough(monkeypatch):
    gpu = Clocked()
    monkeypatch.setattr(gpu, "clocks", lambda: Clocks(None, None, None, None))
    row = row_of(timer_of(gpu))
    assert row["time_ms"] == pytest.approx(1.0)
    assert (row["sm_hz_before"], row["steady"]) == (None, None)


def test_an_empty_launch_is_timed_as_all_others_are():
    gpu: Any = Clocked(cycles=2.97e3)
    started: list[Any] = []
    gpu.build = lambda source, entry, macros: (source, entry, macros)
    gpu.start = lambda program, launch, arguments: started.append((program, launch.grid, tuple(arguments)))
    assert timer_of(gpu).empty_ms(Settings()) == pytest.approx(1.5e-3)
    assert set(map(str, started)) == {str((('extern "C" __global__ void empty() {}', "empty", {}), (1, 1, 1), ()))}
