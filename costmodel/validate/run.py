"""Correlate predicted with measured times: one report for each kernel × GPU of a file.

A configuration that ran although the model says it cannot is counted and left out of the figures; the baselines and the
counters use the same rows as the model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost import CHARGES, DatasetMapping, Scores, score_measured
from costmodel.device import Device
from costmodel.errors import DataError
from costmodel.ir import Description
from costmodel.validate import baselines
from costmodel.validate.baselines import Baseline, Others
from costmodel.validate.case import Case, arguments_of, prepare
from costmodel.validate.counted import counter_errors
from costmodel.validate.data import Measured
from costmodel.validate.failures import Foresight, foresight
from costmodel.validate.metrics import Metrics, metrics
from costmodel.validate.samples import Outlier, Points, outliers, points
from costmodel.validate.vendor import matmul_heuristics

__all__ = ["ABLATION_ROWS", "Report", "compare", "validate"]

ABLATION_ROWS = {"most": 20_000, "slow": 1_000}
"""Of one kernel × GPU: beyond these a charge is switched off for a sample only; `slow` is for a kernel of which a second
prices fewer than `SLOW_PER_S`."""
SLOW_PER_S = 1_500.0


@dataclass(frozen=True, slots=True)
class Report:
    """Agreement of the model with one kernel × GPU of a file."""

    file: str
    kernel: str
    gpu: str
    device: str
    metrics: Metrics
    configs_per_s: float
    """Configurations priced per second of one core, tracing included."""
    counters: dict[str, dict[str, float]]
    """Column to its errors, see `counter_errors`."""
    baselines: dict[str, Baseline]
    failed: int
    """Rows that did not run when measured."""
    failed_foreseen: int
    """Of these, rows that the model says cannot run."""
    infeasible_but_ran: dict[str, int] = field(default_factory=dict)
    """Reason to number of rows that ran although the model says they cannot."""
    description: str = ""
    foresight: Foresight | None = None
    absent: dict[str, str] = field(default_factory=dict)
    """Baseline to why it is not there."""
    ablation: dict[str, Metrics] = field(default_factory=dict)
    """Charge to the figures without it; of a thorough comparison."""
    ablation_base: Metrics | None = None
    """The figures with all charges on the rows of the ablation."""
    outliers: tuple[Outlier, ...] = ()
    """The five worst; of a thorough comparison."""
    points: Points | None = None
    """What plots show; of a thorough comparison."""
    notes: tuple[str, ...] = ()


def validate(measured: Measured, kernel: str | None = None, device: Device | None = None, query: str | None = None) -> Report:
    """Price every measured configuration and compare.

    Args:
        measured: one kernel on one GPU.
        kernel: description to use; the one of the column `kernel` if None.
        device: profile to use; the one of the column `gpu` if None.
        query: pandas query that chooses rows.

    Raises:
        DataError: columns that the description needs are missing, or no row is left.
        DescriptionError: no description of that name.
        ProfileError: no profile of that name.
    """
    return compare(prepare(measured, kernel, device, query))


def compare(case: Case, others: Sequence[Others] = (), *, thorough: bool = False) -> Report:
    """Price every configuration of a case and compare.

    Args:
        case: what `prepare` made.
        others: the same kernel on other GPUs, for the baseline `other_gpu`.
        thorough: also train trees, and keep outliers and what plots show.

    Raises:
        DataError: the model says that no row can run.
    """
    measured, mapping, found, rows = case.measured, case.mapping, case.device, case.rows
    scores, seconds = _priced(mapping, found, case.arguments)
    ran = scores.feasible
    if not ran.any():
        raise DataError(
            f"{measured.file}: {measured.kernel} on {found.name}: the model says that no row can run: {scores.reason[0]}"
        )
    times = rows["time_ms"].to_numpy()[ran] * 1e-3
    failed_reasons = _failed_reasons(case)
    table = scores.table[[n for n in mapping.description.arguments if n in scores.table.columns]][ran]
    base, ablation = _ablated(case, scores, ran, times, len(rows) / seconds) if thorough else (None, {})
    beside, absent = _baselines(case, scores, ran, times, others, thorough)
    shown = (table, times, scores.seconds[ran], scores.bound[ran])
    return Report(
        file=measured.file,
        kernel=measured.kernel,
        gpu=measured.gpu,
        device=found.name,
        metrics=metrics(scores.seconds[ran], times, group=scores.same[ran]),
        configs_per_s=len(rows) / seconds,
        counters=counter_errors(mapping.counters_for(found), mapping.units, rows[ran], scores, ran),
        baselines=beside,
        failed=len(case.failed),
        failed_foreseen=int((failed_reasons != "").sum()),
        infeasible_but_ran=pd.Series(scores.reason[~ran]).value_counts().to_dict(),
        description=mapping.description.name,
        foresight=foresight(scores.reason, failed_reasons, case.failed.get("status", pd.Series("no time", case.failed.index))),
        absent=absent,
        ablation=ablation,
        ablation_base=base,
        outliers=outliers(mapping, found, *shown) if thorough else (),
        points=points(*shown) if thorough else None,
        notes=(*measured.notes, *case.notes),
    )


def _ablated(
    case: Case, scores: Scores, ran: npt.NDArray[np.bool_], times: npt.NDArray[np.float64], configs_per_s: float
) -> tuple[Metrics, dict[str, Metrics]]:
    """The figures with all charges and without each, on the same rows: all, or `ABLATION_ROWS` drawn at random."""
    rows = np.flatnonzero(ran)
    most = ABLATION_ROWS["slow" if configs_per_s < SLOW_PER_S else "most"]
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    measured = pd.Series(times, index=np.flatnonzero(ran))[rows].to_numpy()
    found: dict[str, Metrics] = {}
    for charge in CHARGES:
        without = _scored(case.mapping, case.device, case.arguments.iloc[rows], charge)
        if without.feasible.all():
            found[charge] = metrics(without.seconds, measured, group=without.same)
    return metrics(scores.seconds[rows], measured, group=scores.same[rows]), found


def _baselines(
    case: Case,
    scores: Scores,
    ran: npt.NDArray[np.bool_],
    times: npt.NDArray[np.float64],
    others: Sequence[Others],
    thorough: bool,
) -> tuple[dict[str, Baseline], dict[str, str]]:
    """The baselines there are, and why the others are not."""
    arguments = case.arguments[ran]
    found = baselines.counted(scores, case.device, ran, times)
    asked = {"other_gpu": baselines.other_gpu(arguments, times, others)}
    if thorough:
        asked["trees"] = baselines.trees(arguments, times)
        chosen = scores.table[[n for n in case.mapping.description.arguments if n in scores.table.columns]][ran]
        asked["nvidia_matmul_heuristics"] = matmul_heuristics(case.mapping, case.device, chosen, times)
    for more, _ in asked.values():
        found |= more
    return found, {name: why for name, (_, why) in asked.items() if why}


def _priced(mapping: DatasetMapping, device: Device, arguments: Mapping[str, Any]) -> tuple[Scores, float]:
    """Scores and the processor seconds they took, from a description that was never traced."""
    given = mapping.description
    fresh = replace(mapping, description=Description(given.function, given.static, given.name))
    start = time.process_time()
    scores = _scored(fresh, device, arguments)
    return scores, time.process_time() - start


def _scored(mapping: DatasetMapping, device: Device, arguments: Mapping[str, Any], without: str = "") -> Scores:
    """Scores of configurations as a data set has them, with a charge switched off if one is named."""
    return score_measured(mapping, device, arguments, without=(without,) if without else ())


def _failed_reasons(case: Case) -> npt.NDArray[Any]:
    """Why the model says that each row that failed cannot run; an empty text where it says that it can."""
    if case.failed.empty:
        return np.array([], dtype=object)
    return _scored(case.mapping, case.device, arguments_of(case.measured, case.mapping, case.failed)).reason
