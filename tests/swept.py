"""Sweeps that tests start in processes of their own, and kill."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from costmodel.measure.run import Outcome, Sweep, measure
from costmodel.measure.task import Settings, Slot

CONFIGURATIONS = 60


def table(count: int = CONFIGURATIONS) -> pd.DataFrame:
    """Vector additions of many lengths."""
    return pd.DataFrame({"N": [(n + 1) << 16 for n in range(count)], "B": 256})


def sweep_to(out: str, gpu: str = "fake:h200", count: int = CONFIGURATIONS, jobs: int = 1, **settings: Any) -> Outcome:
    """Measure them on a fake GPU, whose processes stay for the next sweep."""
    asked = Sweep("vector_add", table(count), Path(out), Settings(**settings))
    with ThreadPoolExecutor(jobs) as executor:
        return measure(asked, executor, [Slot(gpu, n) for n in range(jobs)])
