"""How well predicted times agree with measured ones, for one kernel on one GPU.

Order: `rho`, `tau` and `top1/5/10`, which need no common unit. Seconds: `mape`, `median_abs_log2` and
`sigma`, with no scale fitted, so both arguments must be in the same unit. Resolution: `tie_rate` and
`same_kernel_rate`; two times are equal when their floats are. Assumes that rows which cannot run were
taken out before: every time is finite and positive.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from costmodel.errors import DataError

__all__ = ["Metrics", "metrics"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Agreement of predicted with measured times; every figure is dimensionless."""

    n: int
    """Rows compared."""
    rho: float
    """Spearman rank correlation; NaN where either side is constant, for it is undefined there."""
    tau: float
    """Kendall rank correlation, variant b; NaN where either side is constant."""
    top1: float
    """Best measured time over that of the row predicted fastest, in (0, 1]."""
    top5: float
    """The same for the best of the five predicted fastest; ties are taken in row order."""
    top10: float
    """The same for ten."""
    mape: float
    """Mean of |predicted - measured| / measured."""
    median_abs_log2: float
    """Median of |log2(predicted / measured)|: 1 is a factor of two."""
    sigma: float
    """Standard deviation (over n) of ln(predicted / measured): blind to a common factor."""
    tie_rate: float
    """Share of configurations whose predicted time equals another's; of distinct kernels, given `group`."""
    same_kernel_rate: float
    """Share of rows that describe exactly the kernel of another row; NaN without `group`."""

    def as_dict(self) -> dict[str, int | float | None]:
        """Return the figures as JSON knows them: NaN becomes None."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def metrics(predicted: ArrayLike, measured: ArrayLike, *, group: Any = None) -> Metrics:
    """Compare predicted with measured times.

    Args:
        predicted: Times, shape (n,), in the unit of `measured`.
        measured: Times, shape (n,).
        group: Identities, shape (n,): rows with the same one describe exactly the same kernel (a tunable that
            a flag makes inert). They cannot differ in time, so ties are then counted over distinct kernels.

    Returns:
        The figures. `rho` and `tau` are NaN where either side is constant (always for one row).

    Raises:
        DataError: Lengths differ, there are no rows, or a time is not finite and positive.

    Example:
        >>> figures = metrics([1.0, 2.0, 2.0, 5.0], [1.0, 3.0, 2.0, 4.0])
        >>> round(figures.rho, 3), figures.top1, figures.tie_rate
        (0.949, 1.0, 0.5)
    """
    model, truth = _times("predicted", predicted), _times("measured", measured)
    if len(model) != len(truth):
        raise DataError(f"metrics: {len(model)} predicted times for {len(truth)} measured ones; give one for each row")
    if not len(truth):
        raise DataError("metrics: no rows to compare; expected at least one that ran (were all filtered out?)")
    ids = None if group is None else _ids(group, len(truth))
    constant = bool(np.all(model == model[0]) or np.all(truth == truth[0]))
    log_ratio = np.log(model) - np.log(truth)
    best_first = np.argsort(model, kind="stable")
    with np.errstate(over="ignore"):  # a prediction 1e300 times too long is infinitely wrong, not an accident
        mape = float(np.mean(np.abs(model - truth) / truth))
    from scipy import stats  # half a second that only this function needs

    return Metrics(
        n=len(truth),
        rho=math.nan if constant else float(stats.spearmanr(model, truth).statistic),
        tau=math.nan if constant else float(stats.kendalltau(model, truth).statistic),
        top1=_top(truth, best_first, 1),
        top5=_top(truth, best_first, 5),
        top10=_top(truth, best_first, 10),
        mape=mape,
        median_abs_log2=float(np.median(np.abs(log_ratio))) / math.log(2),
        sigma=float(np.std(log_ratio)),
        tie_rate=_shared(model) if ids is None else _tied_kernels(model, ids),
        same_kernel_rate=math.nan if ids is None else _shared(ids),
    )


def _top(truth: NDArray[np.float64], best_first: NDArray[np.intp], k: int) -> float:
    """Best time over the best among the first k of the model."""
    return float(truth.min() / truth[best_first[:k]].min())


def _shared(values: NDArray[Any]) -> float:
    """Share of the entries that equal another entry."""
    counts = np.unique(values, return_counts=True)[1]
    return float(counts[counts > 1].sum() / len(values))


def _tied_kernels(model: NDArray[np.float64], ids: NDArray[np.intp]) -> float:
    """Share of the distinct kernels with a predicted time that another kernel has as well."""
    pairs = pd.DataFrame({"id": ids, "time": model}).drop_duplicates()
    tied = pairs["id"][pairs["time"].duplicated(keep=False)]
    return int(tied.nunique()) / (int(ids.max()) + 1)


def _times(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Check one column of times."""
    try:
        times = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"metrics: {name}: expected numbers, got something else ({error})") from None
    if times.ndim != 1:
        raise DataError(f"metrics: {name}: expected one dimension, got shape {times.shape}; pass one column")
    wrong = np.flatnonzero(~(np.isfinite(times) & (times > 0)))
    if len(wrong):
        raise DataError(
            f"metrics: {name}[{wrong[0]}]: expected a finite, positive time, got {times[wrong[0]]} "
            f"({len(wrong)} of {len(times)} rows); leave out rows that cannot run"
        )
    return times


def _ids(group: Any, n: int) -> NDArray[np.intp]:
    """Number the identities from 0."""
    column = pd.Series(group)
    if len(column) != n:
        raise DataError(f"metrics: group: {len(column)} identities for {n} rows; give one for each row")
    if column.isna().any():
        raise DataError(f"metrics: group[{int(column.isna().argmax())}]: the identity is missing; give one for each row")
    ids: NDArray[np.intp] = pd.factorize(column)[0].astype(np.intp)
    return ids
