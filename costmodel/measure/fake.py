"""A GPU that is not there: times are the model's, with a little noise that each configuration always has alike.

For dry runs and tests of everything around the measuring. Its rows name the GPU `fake …`, so that nobody takes them
for measurements. `Settings.faults` says which configurations go wrong, and how.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from costmodel.cost import estimate, find_description
from costmodel.device import find_device
from costmodel.errors import SizeError
from costmodel.measure.task import Row, Task

__all__ = ["FakeBench"]

_NOISE = 0.02
"""Largest relative deviation of a time from the model's."""


class FakeBench:
    """Stands in for a `bench.Bench`."""

    def __init__(self, profile: str) -> None:
        self.device = find_device(profile)

    def facts(self) -> dict[str, Any]:
        """Name and architecture; nothing was read from any GPU."""
        return {"name": f"fake {self.device.title}", "architecture": self.device.compute_capability, "fake": True}

    def measure(self, task: Task, stage: Callable[[str], None]) -> Row:
        """What a GPU might have said."""
        fault = next((name for part, name in task.settings.faults if part in task.key), "")
        stage("waiting")
        stage("running")
        time.sleep(task.settings.fake_s)
        if fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(task.settings.timeout_s * 10)
        if fault:
            return _failure(fault)
        try:
            sizes: dict[str, Any] = dict(task.sizes)
            cost = estimate(find_description(task.target), self.device, **sizes)
        except SizeError as error:
            return {"status": "cannot_launch", "reason": str(error)}
        ms = cost.seconds * 1e3 * (1.0 + _NOISE * _noise(task.key))
        return {
            "status": "ok",
            "time_ms": ms,
            "time_min_ms": ms * 0.99,
            "time_mean_ms": ms,
            "time_std_ms": ms * 0.005,
            "time_first_ms": ms * 1.1,
            "n_runs": task.settings.repeats(ms * 1e-3),
            "cold_ms": ms * 1.05,
            "cold_std_ms": ms * 0.005,
            "compile_s": 0.0,
            "regs_per_thread": cost.registers_per_thread,
            "shared_bytes": cost.shared_bytes_per_block,
            "lmem_bytes_per_thread": 4 * cost.spilled_registers,
            "error": 0.0,
            "sm_hz_before": self.device.clock.sustained_hz,
            "sm_hz_after": self.device.clock.sustained_hz,
            "memory_hz": None,
            "power_w": None,
            "temperature_c": None,
        }

    def profiled(self, task: Task) -> str:
        """Nothing runs, and nothing is counted."""
        return find_description(task.target).name


def _noise(key: str) -> float:
    """Between -1 and 1, always the same for a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**31 - 1.0


def _failure(fault: str) -> Row:
    statuses = {"compile": "compile_failed", "launch": "cannot_launch", "wrong": "wrong_result", "out_of_memory": "out_of_memory"}
    lost = {"restart": True} if fault in ("sticky", "out_of_memory") else {}
    return {"status": statuses.get(fault, "runtime_failed"), "reason": f"fault {fault!r}, as asked", **lost}
