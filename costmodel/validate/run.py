"""Correlate predicted with measured times: one report for each kernel × GPU of a file.

Rows become configurations by the data set's mapping (`cost.dataset_mapping`) or by equal names. A
configuration that ran although the model says it cannot is counted and left out of the figures; the
baselines and the counters use the same rows as the model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost import CHARGES, NSIGHT, DatasetMapping, Scores, dataset_mapping, find_description, score_measured
from costmodel.device import Device, find_device
from costmodel.errors import DataError
from costmodel.ir import Description
from costmodel.validate import baselines
from costmodel.validate.baselines import Baseline, Others
from costmodel.validate.counted import counter_errors
from costmodel.validate.data import Measured
from costmodel.validate.failures import Foresight, foresight
from costmodel.validate.metrics import Metrics, metrics
from costmodel.validate.samples import Outlier, Points, outliers, points
from costmodel.validate.vendor import matmul_heuristics

__all__ = ["ABLATION_ROWS", "Case", "NoRowsError", "NotDescribedError", "Report", "compare", "prepare", "validate"]

ABLATION_ROWS = {"most": 20_000, "slow": 1_000}
"""Of one kernel × GPU: beyond these a charge is switched off for a sample only; `slow` is for a kernel of which a second
prices fewer than `SLOW_PER_S`."""
SLOW_PER_S = 1_500.0


class NoRowsError(DataError):
    """None of the rows of a kernel × GPU can be judged: none ran and has a time, or none was asked for."""


class NotDescribedError(NoRowsError):
    """The description holds for none of the rows that ran."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One kernel on one GPU, ready to be priced."""

    measured: Measured
    mapping: DatasetMapping
    device: Device
    rows: pd.DataFrame
    """Configurations that ran and were asked for."""
    failed: pd.DataFrame
    arguments: pd.DataFrame
    """Of the description, for each of `rows`."""
    notes: tuple[str, ...] = ()
    """What was left out."""

    @property
    def as_other(self) -> Others:
        """What it is to another GPU."""
        return Others(self.device.name, self.arguments.assign(time_ms=self.rows["time_ms"].to_numpy()))


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


def prepare(measured: Measured, kernel: str | None = None, device: Device | None = None, query: str | None = None) -> Case:
    """Find description and profile, choose the rows, and make arguments of them.

    Args:
        measured: one kernel on one GPU.
        kernel: as for `validate`.
        device: as for `validate`.
        query: as for `validate`.

    Raises:
        DataError: columns that the description needs are missing, or no row is left.
        DescriptionError: no description of that name.
        ProfileError: no profile of that name.
    """
    mapping = _mapping(kernel or measured.kernel)
    found = device or find_device(mapping.gpus.get(measured.gpu, measured.gpu))
    where = f"{measured.file}: {measured.kernel} on {measured.gpu}"
    if measured.rows.empty:
        raise NoRowsError(f"{where}: no measured row is left: {_unmeasured(measured.failed)}")
    described, failed = (_chosen(measured, t, mapping.where) for t in (measured.rows, measured.failed))
    outside = f"{mapping.where} does not hold: {mapping.otherwise}" if mapping.otherwise else f"{mapping.where} does not hold"
    if described.empty:
        raise NotDescribedError(f"{where}: {outside}")
    rows, failed = (_chosen(measured, t, query or "") for t in (described, failed))
    if rows.empty:
        raise NoRowsError(f"{where}: no measured row is left; check status and --query")
    out = len(measured.rows) - len(described)
    notes = (f"{measured.kernel} on {measured.gpu}: {out} of {len(measured.rows)} left out: {outside}",) if out else ()
    arguments = {**mapping.description.defaults, **_arguments(measured, mapping, rows)}
    return Case(measured, mapping, found, rows, failed, pd.DataFrame(arguments, index=range(len(rows))), notes)


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


def _mapping(kernel: str) -> DatasetMapping:
    known = dataset_mapping(kernel)
    return known if known is not None else DatasetMapping(find_description(kernel), {}, NSIGHT)


def _unmeasured(failed: pd.DataFrame) -> str:
    """Why no row counts as measured; `failed` are all there are."""
    status = failed.get("status", pd.Series("ok", failed.index)).astype("string").fillna("no status")
    said = ", ".join(f"{n} {name}" for name, n in status.value_counts().items())
    if status.str.strip().str.casefold().eq("ok").any():
        return f"{said}, but without a positive time_ms; give the time of one launch (of a rate: the work of a launch over it)"
    return said


def _chosen(measured: Measured, table: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows that meet a condition; all if it is empty."""
    if not condition:
        return table
    try:
        kept = table.eval(condition)
        if not (isinstance(kept, pd.Series) and kept.dtype == bool):
            raise ValueError("expected a condition that is true or false for each row")
        return table[kept]
    except Exception as error:  # pandas raises whatever its parser met
        columns = ", ".join(map(str, table.columns[:20]))
        raise DataError(f"{measured.file}: query {condition!r}: {error}; columns: {columns}") from None


def _arguments(measured: Measured, mapping: DatasetMapping, rows: pd.DataFrame) -> dict[str, Any]:
    """A column, or one value, for each argument of the description."""
    description = mapping.description
    found: dict[str, Any] = {}
    for name in description.arguments:
        source = mapping.columns.get(name, name)
        if not isinstance(source, str):
            found[name] = source
        elif source.startswith("="):
            found[name] = _computed(measured, rows, name, source[1:])
        elif source in rows.columns:
            found[name] = rows[source].to_numpy()
        elif name not in description.defaults and mapping.schedules is None:
            raise DataError(
                f"{measured.file}: {measured.kernel}: no column {source!r} for argument {name!r} of {description.name}; "
                f"columns: {', '.join(map(str, rows.columns))}"
            )
    return found


def _computed(measured: Measured, rows: pd.DataFrame, name: str, expression: str) -> npt.NDArray[Any]:
    try:
        values = rows.eval(expression)
    except Exception as error:  # pandas raises whatever its parser met
        raise DataError(
            f"{measured.file}: {measured.kernel}: argument {name!r} is {expression!r} of the columns: {error}"
        ) from None
    numbers: npt.NDArray[Any] = np.broadcast_to(np.asarray(values), (len(rows),))
    return numbers.astype(np.int64)


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
    return _scored(case.mapping, case.device, _arguments(case.measured, case.mapping, case.failed)).reason
