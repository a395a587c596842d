"""Lines of JSON that `costmodel score` answers with: prices of rows, prices of lists, errors.

Nothing but JSON leaves: what is not a finite time is `null` with a reason. Messages are bounded, whatever a request holds.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from costmodel.cost.scorer import Scores
from costmodel.errors import CostModelError

__all__ = ["as_error", "as_lists", "as_rows"]

_NO_TIME = "what was computed is no time: an expression of the kernel leaves its range at these sizes"
_NOT_MODELLED = ', "modelled": false'
_LONGEST, _END = 2000, 500
"""Characters of a message, and of its end, where the remedy stands, if it has to be cut."""


def as_rows(scores: Scores, breakdown: bool) -> list[str]:
    """What is said of each row, without braces.

    Args:
        scores: prices.
        breakdown: whether the seconds of each term, occupancy and registers are said too.
    """
    more = _breakdowns(scores) if breakdown else [""] * len(scores.table)
    reasons, modelled = _verdicts(scores)
    return [
        f'"seconds": null, "reason": {_text(reason)}{"" if known else _NOT_MODELLED}'
        if reason
        else f'"seconds": {seconds!r}, "bound": "{bound}"{text}'
        for seconds, bound, reason, known, text in zip(
            scores.seconds.tolist(), scores.bound, reasons, modelled, more, strict=True
        )
    ]


def as_lists(scores: Scores, breakdown: bool) -> str:
    """What is said of all rows together, in lists without braces around them."""
    reasons, modelled = _verdicts(scores)
    fine = [not reason for reason in reasons]

    def where_fine(values: list[Any]) -> list[Any]:
        return [v if ok else None for v, ok in zip(values, fine, strict=True)]

    answer: dict[str, Any] = {"seconds": where_fine(scores.seconds.tolist()), "bound": where_fine(list(scores.bound))}
    if not all(fine):
        answer["reason"] = [_bounded(reason) or None for reason in reasons]
        answer["modelled"] = modelled
    if breakdown:
        answer["terms"] = {name: where_fine(values.tolist()) for name, values in scores.terms.items()}
        answer["occupancy"] = where_fine(_counter(scores, "occupancy"))
        answer["registers"] = [None if n is None else round(n) for n in where_fine(_counter(scores, "registers"))]
    return json.dumps(answer, allow_nan=False)[1:-1]


def as_error(own: str, error: Exception) -> str:
    """A whole line that says what is wrong: with the request, or with the model.

    Args:
        own: the beginning of the answer, with the identifier.
        error: what was raised.
    """
    if isinstance(error, CostModelError):
        return f'{{{own}"error": {_text(str(error))}, "kind": "{type(error).__name__.removesuffix("Error")}"}}'
    what = f"the model failed, please report it: {type(error).__name__}: {error}"
    return f'{{{own}"error": {_text(what)}, "kind": "Internal"}}'


def _verdicts(scores: Scores) -> tuple[list[str], list[bool]]:
    """Why a row has no time, an empty text where it has one; whether the model has a say in it at all."""
    timeless = scores.feasible & ~(np.isfinite(scores.seconds) & (scores.seconds >= 0))
    return np.where(timeless, _NO_TIME, scores.reason).tolist(), (~(scores.outside | timeless)).tolist()


def _breakdowns(scores: Scores) -> list[str]:
    """Seconds of each term that takes some, occupancy and registers."""
    names = [json.dumps(name) for name in scores.terms]
    columns = [values.tolist() for values in scores.terms.values()]
    terms = zip(*columns, strict=True) if columns else [()] * len(scores.table)
    return [
        f', "terms": {{{", ".join(f"{n}: {v!r}" for n, v in zip(names, row, strict=True) if v)}}}'
        f', "occupancy": {held!r}, "registers": {count:.0f}'
        for row, held, count in zip(terms, _counter(scores, "occupancy"), _counter(scores, "registers"), strict=True)
    ]


def _counter(scores: Scores, name: str) -> list[float]:
    """A counter of each row; NaN where no row has any."""
    values = scores.counters.get(name, np.full(len(scores.table), np.nan))
    found: list[float] = values.tolist()
    return found


def _text(message: str) -> str:
    return json.dumps(_bounded(message))


def _bounded(message: str) -> str:
    """A message that can be read by anyone: its middle left out if it is long, surrogates replaced."""
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST - _END]} … {message[-_END:]}"
    return message if message.isascii() else message.encode(errors="replace").decode()
