"""The configurations of a sweep: what the description admits, what the model predicts for it, and in which order it goes.

What the description itself refuses (`k.require`, an index beyond its array) is not measured, for it is no configuration
of this kernel; it is counted by reason. What the model says the *device* refuses is measured: that is a prediction too.
The order is random, so that clocks and temperatures that drift do not follow a tunable, and a sweep that is cut short
has a random sample; its seed is written down, so a resumed sweep goes on in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost import Scorer
from costmodel.cost.feasibility import reasons
from costmodel.cost.scorer import plan_for
from costmodel.device import Device
from costmodel.errors import MeasureError
from costmodel.ir import Description
from costmodel.measure.task import Settings, Task, plain_value

__all__ = ["Space", "kind_of", "predicted", "shuffled", "space_of"]


@dataclass(frozen=True, slots=True)
class Space:
    """What is to be measured."""

    tasks: tuple[Task, ...]
    """In the order of the table."""
    left_out: Mapping[str, int]
    """Why the description refuses a configuration, without its numbers, to how many."""


def space_of(description: Description, target: str, table: pd.DataFrame, settings: Settings) -> Space:
    """The configurations of a table, each once.

    Args:
        description: what is measured.
        target: how a process far away finds it.
        table: a column for each argument without a default.
        settings: how they are measured.

    Raises:
        MeasureError: none is left.
        SizeError: a value that is no size.
    """
    full = table.assign(**{n: v for n, v in description.defaults.items() if n not in table.columns})
    frame = full[list(description.arguments)].drop_duplicates(ignore_index=True)
    refused = _refused(description, frame)
    left_out = pd.Series([kind_of(r) for r in refused[refused != ""]], dtype=object).value_counts().to_dict()
    tasks = tuple(_task(target, row, settings) for row in frame[refused == ""].to_dict("records"))
    if not tasks:
        why = "; ".join(f"{n} × {reason}" for reason, n in left_out.items()) or "the table has no rows"
        raise MeasureError(f"{description.name}: no configuration to measure: {why}")
    return Space(tasks, left_out)


def predicted(description: Description, device: Device, space: Space) -> Space:
    """The same tasks with the model's times."""
    table = pd.DataFrame([dict(task.sizes) for task in space.tasks])
    seconds = Scorer(description, device).score(table).seconds
    return replace(space, tasks=tuple(replace(t, predicted_s=float(s)) for t, s in zip(space.tasks, seconds, strict=True)))


def shuffled(tasks: list[Task], seed: int) -> list[Task]:
    """In an order that depends on the seed and the tasks alone."""
    return [tasks[n] for n in np.random.default_rng(seed).permutation(len(tasks))]


def _task(target: str, row: Mapping[Any, Any], settings: Settings) -> Task:
    return Task(target, tuple((str(n), plain_value(v)) for n, v in row.items()), settings)


def _refused(description: Description, frame: pd.DataFrame) -> npt.NDArray[Any]:
    """[rows] why the description refuses each; an empty text where it does not."""
    found: npt.NDArray[Any] = np.full(len(frame), "", dtype=object)
    statics = frame[list(description.static)]
    groups = statics.groupby(list(description.static), sort=False).indices if description.static else {(): np.arange(len(frame))}
    for which in groups.values():
        values = {n: plain_value(statics[n].iloc[which[0]]) for n in description.static}
        plan = plan_for(description.trace(**values))
        columns = {n: frame[n].to_numpy()[which].astype(np.int64) for n in description.params}
        found[which] = reasons(plan, None, columns, len(which))
    return found


def kind_of(reason: str) -> str:
    """A reason without its numbers, unless it is a requirement; what stands in brackets at its end names a configuration."""
    if reason.startswith("requires "):
        return reason
    return re.sub(r"\d+", "…", re.sub(r" \([^()]*=[^()]*\)$", "", reason))
