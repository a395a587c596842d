"""A table's columns as arguments of a kernel: checked, value by value."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost.feasibility import LARGEST_SIZE, ZERO_HINT
from costmodel.errors import SizeError
from costmodel.ir import Description, Kernel

__all__ = ["argument_columns", "argument_names", "as_frame", "groups_of_statics"]

Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[Any]


def as_frame(table: pd.DataFrame | Mapping[str, Any]) -> pd.DataFrame:
    """The table, single values repeated."""
    if isinstance(table, pd.DataFrame):
        return table
    if not isinstance(table, Mapping):
        raise SizeError(f"expected a DataFrame or a mapping of columns, got {type(table).__name__}")
    for name, column in table.items():
        if np.ndim(column) > 1:
            raise SizeError(f"column {name!r} has {np.ndim(column)} dimensions; expected one value for each row")
    plain = {n: list(v) if np.ndim(v) else v for n, v in table.items()}
    lengths = {len(v) for v in plain.values() if np.ndim(v)}
    if len(lengths) > 1:
        raise SizeError(f"the table's columns have {', '.join(map(str, sorted(lengths)))} rows; expected equal lengths")
    return pd.DataFrame(plain, index=range(lengths.pop() if lengths else 1))


def argument_names(kernel: Description | Kernel) -> tuple[str, ...]:
    """Columns that a table needs, those with a default among them."""
    return kernel.arguments if isinstance(kernel, Description) else kernel.params


def argument_columns(
    frame: pd.DataFrame, kernel: Description | Kernel, wrong: Texts | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The values of each argument: int64, but for static ones.

    Args:
        frame: the table.
        kernel: its arguments are looked for among the columns.
        wrong: [rows] takes in what is wrong with a row, whose value is then 1; None to raise it.

    Raises:
        SizeError: an argument has no column; or, where `wrong` is None, a value is not a whole number in range.
    """
    return {name: _column(frame, name, kernel, wrong) for name in argument_names(kernel)}


def groups_of_statics(
    kernel: Description | Kernel, columns: Mapping[str, npt.NDArray[Any]], rows: Ints
) -> list[tuple[dict[str, Any], Ints]]:
    """Static values, and which of these rows have them."""
    names = list(kernel.static) if isinstance(kernel, Description) else []
    if not names or not rows.size:
        return [({}, rows)] if rows.size else []
    groups = pd.DataFrame({n: columns[n][rows] for n in names}).groupby(names, sort=False, dropna=False).indices
    keys = groups if len(names) > 1 else {(key,): which for key, which in groups.items()}
    return [(dict(zip(names, map(_python, key), strict=True)), rows[which]) for key, which in keys.items()]


def _column(frame: pd.DataFrame, name: str, kernel: Description | Kernel, wrong: Texts | None) -> npt.NDArray[Any]:
    static = isinstance(kernel, Description) and name in kernel.static
    values: npt.NDArray[Any]
    if name in frame.columns:
        values, where = frame[name].to_numpy(), f"{kernel.name}: column {name!r}"
    elif isinstance(kernel, Description) and name in kernel.defaults:
        values, where = np.full(len(frame), kernel.defaults[name]), f"{kernel.name}: default of {name!r}"
    else:
        others = [str(c) for c in frame.columns if c not in argument_names(kernel)]
        near = difflib.get_close_matches(name, others, 1)
        hint = f" (did you mean column {near[0]!r}?)" if near else ""
        raise SizeError(
            f"{kernel.name}: no column for argument {name!r}{hint}; columns: {', '.join(map(str, frame.columns)) or 'none'}"
        )
    if not static and values.dtype.kind not in "iufO":
        if wrong is None:
            raise SizeError(f"{where}: expected whole numbers, got {values.dtype}")
        wrong[wrong == ""] = f"{where}: expected whole numbers, got {values.dtype}"
        return np.ones(len(frame), np.int64)
    for row, text in _unusable(values) if static else _no_sizes(values):
        if wrong is None:
            raise SizeError(f"{where}, row {row}: {text}")
        wrong[row] = wrong[row] or f"{where}: {text}"
    if static:
        return values
    return values.astype(np.int64) if wrong is None else np.where(wrong == "", values, 1).astype(np.int64)


def _unusable(values: npt.NDArray[Any]) -> Iterator[tuple[int, str]]:
    """Rows whose value cannot be a static argument, and why."""
    for row, value in enumerate(values) if values.dtype == object else ():
        if not isinstance(value, Hashable):
            yield row, f"expected a constant, got {value!r}"


def _no_sizes(values: npt.NDArray[Any]) -> Iterator[tuple[int, str]]:
    """Rows whose value is no size, a whole number between 1 and `LARGEST_SIZE`, and why."""
    if values.dtype.kind in "iuf":
        whole = np.isfinite(values) & (values == np.floor(values)) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    else:
        whole = np.array([isinstance(v, numbers.Real) and not isinstance(v, bool) and v % 1 == 0 for v in values], bool)
    fine = whole.copy()
    fine[whole] = (values[whole] >= 1) & (values[whole] <= LARGEST_SIZE)
    for row in np.flatnonzero(~fine).tolist():
        value = values[row]
        if whole[row]:
            yield row, f"expected a number from 1 to 2**40, got {value}{ZERO_HINT if value == 0 else ''}"
        else:
            yield row, f"expected a whole number, got {_python(value)!r}"


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
