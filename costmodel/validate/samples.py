"""Single configurations of a comparison: those that a plot shows, and those that the model gets most wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost import DatasetMapping, estimate
from costmodel.device import Device
from costmodel.errors import CostModelError

__all__ = ["MOST_POINTS", "Outlier", "Points", "outliers", "points"]

MOST_POINTS = 2_000
"""Configurations of one plot."""
_BEST, _WORST, _SEED, _BINS = 100, 20, 0, 48

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What the plots of one kernel × GPU show."""

    total: int
    """Configurations there are."""
    table: pd.DataFrame
    """Of at most `MOST_POINTS`: the arguments that vary."""
    constant: dict[str, Any]
    """Arguments that are the same in all rows."""
    measured_ms: Floats
    predicted_ms: Floats
    bound: npt.NDArray[Any]
    """Name of the term that takes most of the predicted time."""
    edges: Floats
    """Edges of the bins of log2(predicted / measured), over all rows; the outermost also hold what lies beyond."""
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outlier:
    """A configuration that the model gets wrong."""

    configuration: dict[str, Any]
    measured_ms: float
    predicted_ms: float
    ratio: float
    """Predicted over measured."""
    bound: str
    terms: dict[str, float]
    """Milliseconds of the prediction that each term accounts for, largest first."""


def points(arguments: pd.DataFrame, measured_s: Floats, predicted_s: Floats, bound: npt.NDArray[Any]) -> Points:
    """Choose what a plot shows: the best, the worst predicted, and a random sample of the rest, the same each time."""
    log2 = np.log2(predicted_s / measured_s)
    chosen = _chosen(measured_s, predicted_s, log2)
    varying = [n for n in arguments.columns if arguments[n].nunique() > 1]
    reach = max(float(np.quantile(np.abs(log2), 0.995)) * 1.05, 0.25)
    counts, edges = np.histogram(np.clip(log2, -reach, reach), bins=_BINS, range=(-reach, reach))
    return Points(
        total=len(log2),
        table=arguments[varying].iloc[chosen],
        constant={n: _python(arguments[n].iloc[0]) for n in arguments.columns if n not in varying},
        measured_ms=measured_s[chosen] * 1e3,
        predicted_ms=predicted_s[chosen] * 1e3,
        bound=bound[chosen],
        edges=edges,
        counts=counts,
    )


def _chosen(measured_s: Floats, predicted_s: Floats, log2: Floats) -> npt.NDArray[np.intp]:
    """Rows to show, in order."""
    if len(log2) <= MOST_POINTS:
        return np.arange(len(log2))
    must = {*np.argsort(measured_s)[:_BEST], *np.argsort(predicted_s)[:_BEST], *np.argsort(-np.abs(log2))[:_WORST]}
    rest = np.setdiff1d(np.arange(len(log2)), list(must))
    drawn = np.random.default_rng(_SEED).choice(rest, MOST_POINTS - len(must), replace=False)
    return np.sort(np.concatenate([np.array(sorted(must)), drawn]))


def outliers(
    mapping: DatasetMapping,
    device: Device,
    arguments: pd.DataFrame,
    measured_s: Floats,
    predicted_s: Floats,
    bound: npt.NDArray[Any],
    most: int = 5,
) -> tuple[Outlier, ...]:
    """The rows with the largest |log ratio|, worst first, with what the prediction consists of."""
    ratio = predicted_s / measured_s
    worst = np.argsort(-np.abs(np.log(ratio)), kind="stable")[:most]
    found = []
    for row in worst:
        configuration = {n: _python(v) for n, v in arguments.iloc[row].items()}
        terms = _terms(mapping, device, configuration)
        figures = float(measured_s[row] * 1e3), float(predicted_s[row] * 1e3), float(ratio[row]), str(bound[row])
        found.append(Outlier(configuration, *figures, terms))
    return tuple(found)


def _terms(mapping: DatasetMapping, device: Device, configuration: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of each term; empty where one configuration cannot be priced alone."""
    launched = device if mapping.launch_s is None else replace(device, launch_overhead_s=mapping.launch_s)
    try:
        cost = estimate(mapping.description, launched, registers=mapping.registers, warm=mapping.warm, **configuration)
    except CostModelError:
        return {}
    return {term.name: term.share_s * 1e3 for term in cost.terms}


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
