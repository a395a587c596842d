"""A library that picks its best kernel: the price of a problem is the least over the schedules that the library has.

`best_schedule` crosses a table of problems with a table of schedules, prices all pairs in vectorised calls, and keeps the
fastest schedule of each problem that can run it. What the library really picks may be worse: this is what it could reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost.argument_columns import as_frame
from costmodel.cost.descriptions import DatasetMapping
from costmodel.cost.scorer import Scorer, Scores
from costmodel.device import Device
from costmodel.errors import SizeError
from costmodel.ir import Description

__all__ = ["best_schedule", "score_measured"]

_ROWS_AT_ONCE = 1 << 14
"""Problems crossed with all schedules in one call."""

Ints = npt.NDArray[np.int64]


def best_schedule(
    scorer: Scorer, problems: pd.DataFrame | Mapping[str, Any], schedules: pd.DataFrame | Mapping[str, Any]
) -> Scores:
    """Price each problem at its fastest schedule.

    Args:
        scorer: of the kernel on a device.
        problems: a column for each size that is the caller's.
        schedules: a column for each size that is the library's; a row for each kernel it has.

    Returns:
        Scores of the problems' rows, in their order; their table has the columns of the chosen schedule too. Where no
        schedule can run, the reason is that of the first.

    Raises:
        SizeError: no schedule, a column in both tables, or one that is missing.

    Example:
        >>> from costmodel import Scorer
        >>> from costmodel.cost import best_schedule, find_description
        >>> scorer = Scorer(find_description("vector_add"), "H100")
        >>> best = best_schedule(scorer, {"N": [1 << 10, 1 << 26]}, {"B": [64, 256, 4096]})
        >>> best.table["B"].tolist()
        [64, 64]
    """
    frame, choices = as_frame(problems), as_frame(schedules)
    both = sorted(set(frame.columns) & set(choices.columns))
    if choices.empty or both:
        raise SizeError(f"schedules: columns {', '.join(both)} are in both tables" if both else "schedules: no rows")
    needed = [n for n in scorer.arguments if n in frame.columns]
    distinct, inverse = _distinct(frame[needed])
    parts = [
        _best_of(scorer, distinct.iloc[start : start + _ROWS_AT_ONCE], choices)
        for start in range(0, len(distinct), _ROWS_AT_ONCE)
    ]
    best = _joined(parts)
    table = pd.concat([frame.reset_index(drop=True), best.table[choices.columns].iloc[inverse].reset_index(drop=True)], axis=1)
    return replace(_taken(best, inverse), table=table, same=inverse)


def score_measured(
    mapping: DatasetMapping,
    device: Device,
    arguments: pd.DataFrame | Mapping[str, Any],
    description: Description | None = None,
    **options: Any,
) -> Scores:
    """Price the rows of a data set in the way in which they were measured.

    Args:
        mapping: says which buffers were warm, what a launch cost, and which schedules a library had.
        device: the GPU.
        arguments: as for `Scorer.score`; what the library chose is left out.
        description: instead of the mapping's own.
        options: of `Scorer`.
    """
    launched = device if mapping.launch_s is None else replace(device, launch_overhead_s=mapping.launch_s)
    told = {"registers": mapping.registers, "warm": mapping.warm} | options
    scorer = Scorer(description or mapping.description, launched, **told)
    if mapping.schedules is None:
        return scorer.score(arguments)
    choices = mapping.schedules(device) if callable(mapping.schedules) else mapping.schedules
    frame = as_frame(arguments)
    return best_schedule(scorer, frame.drop(columns=[n for n in choices if n in frame.columns]), choices)


def _distinct(frame: pd.DataFrame) -> tuple[pd.DataFrame, Ints]:
    """The distinct rows, and which of them each row is."""
    which = frame.groupby(list(frame.columns), sort=False, dropna=False).ngroup().to_numpy()
    return frame[~frame.duplicated()].reset_index(drop=True), which


def _best_of(scorer: Scorer, problems: pd.DataFrame, schedules: pd.DataFrame) -> Scores:
    """All pairs, one schedule after the other, and the fastest of each problem."""
    rows, count = len(problems), len(schedules)
    each, choice = np.tile(np.arange(rows), count), np.repeat(np.arange(count), rows)
    pairs = {n: problems[n].to_numpy()[each] for n in problems.columns}
    pairs |= {n: schedules[n].to_numpy()[choice] for n in schedules.columns}
    scores = scorer.score(pd.DataFrame(pairs))
    best = scores.seconds.reshape(count, rows).argmin(axis=0)
    return _taken(scores, best * rows + np.arange(rows))


_ARRAYS = ("seconds", "reason", "bound", "same", "outside", "bytes", "unweighted_bytes", "roofline_s")


def _taken(scores: Scores, rows: Ints) -> Scores:
    """The scores of these rows."""
    return replace(
        scores,
        table=scores.table.iloc[rows].reset_index(drop=True),
        counters={name: values[rows] for name, values in scores.counters.items()},
        terms={name: values[rows] for name, values in scores.terms.items()},
        **{name: getattr(scores, name)[rows] for name in _ARRAYS},
    )


def _joined(parts: list[Scores]) -> Scores:
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        table=pd.concat([p.table for p in parts], ignore_index=True),
        counters={name: np.concatenate([p.counters[name] for p in parts]) for name in parts[0].counters},
        terms={name: _laid_end_to_end(name, parts) for name in dict.fromkeys(n for p in parts for n in p.terms)},
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in _ARRAYS},
    )


def _laid_end_to_end(term: str, parts: list[Scores]) -> npt.NDArray[np.float64]:
    """Seconds of a term in all parts; none where a part's kernels do not have it."""
    return np.concatenate([p.terms.get(term, np.zeros(len(p.table))) for p in parts])
