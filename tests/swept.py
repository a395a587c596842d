"""Sweeps that tests start in processes of their own, and kill."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from costmodel.measure.child import perform
from costmodel.measure.fake import FakeBench
from costmodel.measure.run import Outcome, Sweep, measure
from costmodel.measure.task import Settings, Slot
from costmodel.measure.worker import measured

CONFIGURATIONS = 60


def table(count: int = CONFIGURATIONS) -> pd.DataFrame:
    """Vector additions of many lengths."""
    return pd.DataFrame({"N": [(n + 1) << 16 for n in range(count)], "B": 256})


class Inside(Executor):
    """Does what a child does in this process, for sweeps that are to be cheap to start."""

    def __init__(self, gpu: str) -> None:
        self.bench = FakeBench(gpu.removeprefix("fake:"))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(measured(self.bench, args[0], lambda _: None) if fn is perform else self.bench.facts())
        return future


def sweep_to(
    out: str, gpu: str = "fake:h200", count: int = CONFIGURATIONS, jobs: int = 1, inside: bool = False, **settings: Any
) -> Outcome:
    """Measure them on a fake GPU, whose processes stay for the next sweep."""
    asked = Sweep("vector_add", table(count), Path(out), Settings(**settings))
    with Inside(gpu) if inside else ThreadPoolExecutor(jobs) as executor:
        return measure(asked, executor, [Slot(gpu, n) for n in range(jobs)])
