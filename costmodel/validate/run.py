"""Correlate predicted with measured times: one report for each kernel × GPU of a file.

Rows become configurations by the data set's mapping (`cost.dataset_mapping`) or by equal names. A
configuration that ran although the model says it cannot is counted and left out of the figures; both
the baselines and the counters use the same rows as the model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost import DatasetMapping, Scores, dataset_mapping, find_description, score_measured
from costmodel.device import Device, find_device
from costmodel.errors import DataError
from costmodel.ir import Description
from costmodel.validate.data import Measured
from costmodel.validate.metrics import Metrics, metrics

__all__ = ["BASELINES", "Baseline", "Report", "validate"]

BASELINES = {
    "bytes": "requested global and shared bytes, each over its bandwidth (luminal's proposal)",
    "unweighted_bytes": "the same bytes, simply added",
    "roofline": "arithmetic, L2 and DRAM at their peaks, the slowest of them",
}
"""Name and meaning of what stands beside the model."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """How a simpler model ranks the same rows; NaN where it gives every row the same time."""

    rho: float
    tau: float
    top1: float
    top5: float
    top10: float


@dataclass(frozen=True, slots=True)
class Report:
    """Agreement of the model with one kernel × GPU of a file."""

    file: str
    kernel: str
    gpu: str
    device: str
    metrics: Metrics
    configs_per_s: float
    """Configurations priced per second on one core, tracing included."""
    counters: dict[str, dict[str, float]]
    """Column to median and mean relative error, over rows in which it was counted."""
    baselines: dict[str, Baseline]
    failed: int
    """Rows that did not run when measured."""
    failed_foreseen: int
    """Of these, rows that the model says cannot run."""
    infeasible_but_ran: dict[str, int] = field(default_factory=dict)
    """Reason to number of rows that ran although the model says they cannot."""


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
    mapping = _mapping(kernel or measured.kernel)
    found = device or find_device(measured.gpu)
    rows, failed = (_chosen(measured, t, mapping.where, query) for t in (measured.rows, measured.failed))
    if rows.empty:
        raise DataError(
            f"{measured.file}: {measured.kernel} on {measured.gpu}: no measured row is left; check status and --query"
        )
    scores, seconds = _priced(mapping, found, _arguments(measured, mapping, rows))
    ran = scores.feasible
    if not ran.any():
        raise DataError(
            f"{measured.file}: {measured.kernel} on {found.name}: the model says that no row can run: {scores.reason[0]}"
        )
    times = rows["time_ms"].to_numpy()[ran] * 1e-3
    return Report(
        file=measured.file,
        kernel=measured.kernel,
        gpu=measured.gpu,
        device=found.name,
        metrics=metrics(scores.seconds[ran], times, group=scores.same[ran]),
        configs_per_s=len(rows) / seconds,
        counters=_counter_errors(mapping.counters_for(found), rows[ran], scores, ran),
        baselines={
            "bytes": _baseline(scores.bytes[ran], times),
            "unweighted_bytes": _baseline(scores.unweighted_bytes[ran], times),
            "roofline": _baseline(scores.roofline_s[ran], times),
        },
        failed=len(failed),
        failed_foreseen=_foreseen(measured, mapping, found, failed),
        infeasible_but_ran=pd.Series(scores.reason[~ran]).value_counts().to_dict(),
    )


def _mapping(kernel: str) -> DatasetMapping:
    known = dataset_mapping(kernel)
    return known if known is not None else DatasetMapping(find_description(kernel), {}, {})


def _chosen(measured: Measured, table: pd.DataFrame, where: str, query: str | None) -> pd.DataFrame:
    for condition in (where, query):
        if condition:
            try:
                kept = table.eval(condition)
                if not (isinstance(kept, pd.Series) and kept.dtype == bool):
                    raise ValueError("expected a condition that is true or false for each row")
                table = table[kept]
            except Exception as error:  # pandas raises whatever its parser met
                columns = ", ".join(map(str, table.columns[:20]))
                raise DataError(f"{measured.file}: query {condition!r}: {error}; columns: {columns}") from None
    return table


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
    """Scores and the seconds they took, from a description that was never traced."""
    given = mapping.description
    fresh = Description(given.function, given.static, given.name)
    start = time.perf_counter()
    scores = score_measured(mapping, device, arguments, fresh)
    return scores, time.perf_counter() - start


def _foreseen(measured: Measured, mapping: DatasetMapping, device: Device, failed: pd.DataFrame) -> int:
    if failed.empty:
        return 0
    scores = score_measured(mapping, device, _arguments(measured, mapping, failed))
    return int((~scores.feasible).sum())


def _baseline(predicted: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> Baseline:
    m = metrics(predicted, times)
    return Baseline(m.rho, m.tau, m.top1, m.top5, m.top10)


def _counter_errors(
    names: Mapping[str, str], rows: pd.DataFrame, scores: Scores, ran: npt.NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    errors: dict[str, dict[str, float]] = {}
    for column, counter in names.items():
        if column not in rows.columns:
            continue
        counted = rows[column].to_numpy(np.float64)
        valid = np.isfinite(counted) & (counted > 0)
        if valid.any():
            relative = np.abs(scores.counters[counter][ran][valid] - counted[valid]) / counted[valid]
            errors[column] = {"median": float(np.median(relative)), "mean": float(relative.mean())}
    return errors
