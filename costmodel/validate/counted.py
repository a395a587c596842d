"""Predicted hardware counters, registers and occupancy against the columns in which they were counted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost import Scores

__all__ = ["COMPILED", "counter_errors"]

COMPILED = {"regs_per_thread": "registers", "smem_static_bytes": "shared_bytes", "shared_bytes": "shared_bytes"}
"""Columns that mean the same wherever they are: what the compiler said (of `costmodel measure`: `shared_bytes`)."""


def counter_errors(
    names: Mapping[str, str],
    units: Mapping[str, float],
    rows: pd.DataFrame,
    scores: Scores,
    ran: npt.NDArray[np.bool_],
) -> dict[str, dict[str, float]]:
    """Column to `median` and `mean` relative error, `n` rows, and 5 %, 50 % and 95 % of predicted over counted.

    Args:
        names: column to counter, as the description says; those of `COMPILED` are compared too.
        units: column to how much of the counter is one of it, where that is not 1.
        rows: that are judged; where a column is 0 or empty it was not counted.
        scores: of all rows.
        ran: which of those are judged.
    """
    errors: dict[str, dict[str, float]] = {}
    for column, counter in {**COMPILED, **names}.items():
        if column not in rows.columns:
            continue
        counted = rows[column].to_numpy(np.float64)
        valid = np.isfinite(counted) & (counted > 0)
        if valid.any():
            ratio = scores.counters[counter][ran][valid] / units.get(column, 1.0) / counted[valid]
            relative = np.abs(ratio - 1.0)
            low, middle, high = (float(q) for q in np.quantile(ratio, (0.05, 0.5, 0.95)))
            figures = {"median": float(np.median(relative)), "mean": float(relative.mean()), "n": int(valid.sum())}
            errors[column] = {**figures, "low": low, "middle": middle, "high": high}
    return errors
