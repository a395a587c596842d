"""Does the model say, before anything runs, that a configuration cannot launch?

Judged are rows whose fate is known: those that ran, and those that failed when measured. Foretold is a failure where
the model names a resource (threads, shared or constant memory, registers, grid, capacity); a row that breaks a
requirement of the description is outside what it describes and foretells nothing. A row may fail for reasons no model
of resources knows (a compiler, a time limit), so recall has a ceiling that the statuses show.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Foresight", "foresight", "is_resource", "kind"]

_NOT_RESOURCES = re.compile(r"^(requires |the extent of |the width of |index \d|sizes are too large)|is not always a multiple")
"""How the reasons begin that the description gives, not the device."""

Texts = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Foresight:
    """Failures that were foretold, against those that happened."""

    precision: float
    """Of the rows foretold to fail, the share that did; NaN where none was foretold."""
    recall: float
    """Of the rows that failed, the share that was foretold; NaN where none failed."""
    foretold: int
    failed: int
    both: int
    reasons: dict[str, dict[str, int]]
    """Kind of reason to how many rows `failed` and how many `ran`."""
    statuses: dict[str, dict[str, int]]
    """Status of the file to how many rows `failed`, and of how many it was `foretold`."""


def is_resource(reason: str) -> bool:
    """Whether a reason names a resource of the device."""
    return bool(reason) and not _NOT_RESOURCES.search(reason)


def kind(reason: str) -> str:
    """A reason without its numbers: `… threads per block, at most …`."""
    return re.sub(r"\d[\d.,e+]*\d|\d", "…", reason)


def foresight(ran: Texts, failed: Texts, statuses: pd.Series) -> Foresight:
    """Compare what the model says with what happened.

    Args:
        ran: why the model says each row that ran cannot; an empty text where it says nothing.
        failed: the same of the rows that failed.
        statuses: of the rows that failed, as the file says.
    """
    told_failed, told_ran = (np.array([is_resource(r) for r in reasons], dtype=bool) for reasons in (failed, ran))
    both, foretold = int(told_failed.sum()), int(told_failed.sum() + told_ran.sum())
    reasons: dict[str, dict[str, int]] = {}
    for fate, texts in (("failed", failed), ("ran", ran)):
        for reason in texts[texts != ""]:
            counts = reasons.setdefault(kind(reason), {"failed": 0, "ran": 0})
            counts[fate] += 1
    table = pd.DataFrame({"status": statuses.astype(str).to_numpy(), "told": told_failed})
    return Foresight(
        precision=both / foretold if foretold else math.nan,
        recall=both / len(failed) if len(failed) else math.nan,
        foretold=foretold,
        failed=len(failed),
        both=both,
        reasons=dict(sorted(reasons.items(), key=lambda item: -sum(item[1].values()))),
        statuses={
            str(status): {"failed": len(part), "foretold": int(part["told"].sum())}
            for status, part in table.groupby("status", sort=False)
        },
    )
