"""What is measured once: a configuration of a description, with all that a process far away needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.errors import MeasureError

__all__ = ["FAULTS", "STATUSES", "Row", "Settings", "Slot", "Task", "key_of", "placed"]

Row = dict[str, Any]
"""Column to a number or text: what JSON can hold."""

STATUSES = {
    "ok": "ran, and the results are right",
    "compile_failed": "the compiler refused it",
    "cannot_launch": "the driver refused the launch",
    "wrong_result": "ran, and the results are not those of the reference",
    "out_of_memory": "its arrays do not fit",
    "runtime_failed": "the launch or its process died",
    "timed_out": "took longer than allowed",
}
"""Fates of a configuration."""
FAULTS = ("die", "hang", "sticky", "out_of_memory", "compile", "launch", "wrong")
"""What a fake GPU can be told to do with a configuration."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How each configuration is measured; a sweep is resumed with the same ones only."""

    seed: int = 0
    """Of the inputs, and of the order."""
    least_runs: int = 7
    most_runs: int = 200
    """Launches of one series of times."""
    series_s: float = 0.02
    """A series goes on for this long, within the bounds on its launches."""
    longest_series_s: float = 1.0
    """A series ends after this long, but for three launches."""
    timeout_s: float = 60.0
    """For all launches of one configuration."""
    compile_timeout_s: float = 300.0
    start_timeout_s: float = 300.0
    """For the process that holds the GPU to get ready: imports, driver, context."""
    fake_s: float = 0.0
    """Of a fake GPU: how long a configuration takes."""
    faults: tuple[tuple[str, str], ...] = ()
    """Of a fake GPU: part of a configuration's key to one of `FAULTS`."""

    def repeats(self, launch_s: float, least: int | None = None) -> int:
        """Launches of a series, where one takes `launch_s`."""
        wanted = int(np.ceil(self.series_s / max(launch_s, 1e-9)))
        affordable = int(self.longest_series_s / max(launch_s, 1e-9))
        bounded = min(max(wanted, least or self.least_runs), self.most_runs)
        return max(min(bounded, affordable), 3)


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where one configuration at a time is measured: a process that holds a GPU."""

    gpu: str
    """An index among the visible GPUs, or `fake:` and a profile."""
    number: int = 0
    """Several processes share a GPU: while one runs, the others compile."""


@dataclass(frozen=True, slots=True)
class Task:
    """One configuration."""

    target: str
    """As `cost.find_description` takes it; paths are absolute."""
    sizes: tuple[tuple[str, int | bool | str], ...]
    """Every argument of the description, in its order."""
    settings: Settings = field(default_factory=Settings)
    predicted_s: float | None = None
    """By the model; None where there is no profile, infinite where it says that it cannot run."""

    @property
    def key(self) -> str:
        """Names the configuration: `M=4096 N=4096`."""
        return key_of(dict(self.sizes))


def key_of(sizes: Mapping[str, Any]) -> str:
    """A configuration as text, the same for equal values of any integer type."""
    return " ".join(f"{n}={plain_value(v)}" for n, v in sizes.items())


def plain_value(value: Any) -> Any:
    """Without NumPy's types; whole numbers as int."""
    value = value.item() if isinstance(value, np.generic) else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def placed(target: str) -> str:
    """A target that means the same in another folder.

    Raises:
        MeasureError: a file that is not there.
    """
    path, colon, function = target.rpartition(":") if not target.endswith(".py") else (target, "", "")
    if not path.endswith(".py"):
        return target
    if not Path(path).is_file():
        raise MeasureError(f"{path}: no such file; expected a Python file with a function under @kernel")
    return f"{Path(path).resolve()}{colon}{function}"
