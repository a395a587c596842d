"""Measured timings from a file, split into one table for each kernel × GPU.

Parquet and CSV: required columns are `kernel`, `gpu` and `time_ms` (one launch); optional: `status` (`ok`, or why
the configuration failed). All others are tunables, sizes and counters and pass through. JSON of an autotuner
becomes such a table first (`tuners`). What the file does not say (`kernel`, `gpu`, a size) may be given. A row counts
as measured where its status is `ok` and it has a finite, positive time; every other row is kept apart as failed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from costmodel.errors import DataError
from costmodel.measure.table import metadata_of
from costmodel.validate.tuners import read_tuner_file

__all__ = ["READABLE", "REQUIRED", "Measured", "NotTimingsError", "load", "read"]

READABLE = (".parquet", ".csv", ".json")
"""Endings of the files that can be read."""
REQUIRED = {
    "kernel": "the description's name",
    "gpu": "the profile's name or alias",
    "time_ms": "the time of one launch in milliseconds",
}
_ADD = {"kernel": "add it, or give --kernel", "gpu": "add it, or give --device"}
_TEXT = ("kernel", "gpu", "status")
_SHOWN = 12


class NotTimingsError(DataError):
    """The file is a table, but of something else: it has no column of times."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What one file says about one kernel on one GPU; both tables are indexed by the file's row numbers."""

    file: str
    """Path as it was given."""
    kernel: str
    """Text of the column `kernel`."""
    gpu: str
    """Text of the column `gpu`: a profile's name or alias."""
    rows: pd.DataFrame
    """Configurations that ran, in file order; `time_ms` is finite and positive. May be empty."""
    failed: pd.DataFrame
    """Configurations that did not: status other than `ok`, or no time."""
    notes: tuple[str, ...] = ()
    """What had to be repaired or ignored when the file was read."""
    target: str = ""
    """What `costmodel measure` was told to measure, as `cost.find_description` takes it; empty in other files."""


def load(path: str | Path, given: Mapping[str, Any] | None = None) -> tuple[Measured, ...]:
    """Read a file of measurements, one entry for each kernel × GPU in order of appearance.

    Args:
        path: A `.parquet`, `.csv` or `.json` file.
        given: Columns that the file may lack, such as `{"kernel": "gemm", "M": 4096}`; its own are kept.

    Raises:
        DataError: The file cannot be used; see `read`.
    """
    frame, notes, target = _read(path, given or {})
    ran = _ran(frame)
    return tuple(
        Measured(str(path), str(kernel), str(gpu), table[ran[table.index]], table[~ran[table.index]], notes, target)
        for (kernel, gpu), table in frame.groupby(["kernel", "gpu"], sort=False)
    )


def read(path: str | Path, given: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Read and check a whole file, failed rows included.

    Integers are widened to int64, for sizes are multiplied; `time_ms` becomes float64.

    Args:
        path: A `.parquet`, `.csv` or `.json` file.
        given: Columns that the file may lack; its own are kept.

    Raises:
        DataError: The file is missing, unreadable or empty, lacks a column, or has text where a time belongs.
    """
    return _read(path, given or {})[0]


def _read(path: str | Path, given: Mapping[str, Any]) -> tuple[pd.DataFrame, tuple[str, ...], str]:
    """The checked table, what is to be said of it, and what was measured, if the file says so."""
    frame, notes, target = _table(Path(path))
    frame = frame.assign(**{name: value for name, value in given.items() if name not in frame.columns})
    kept = [name for name in given if name not in REQUIRED and (frame[name] != given[name]).any()]
    notes += tuple(f"the file has its own column '{name}': --set {name}={given[name]} was not used" for name in kept)
    for column, meaning in REQUIRED.items():
        if column not in frame.columns:
            kind = NotTimingsError if column == "time_ms" else DataError
            raise kind(_missing(path, column, meaning, [str(name) for name in frame.columns]))
    if frame.empty:
        raise DataError(f"{path}: no rows; expected at least one measured configuration")
    for column in ("kernel", "gpu"):
        if frame[column].isna().any():
            row = int(frame[column].isna().argmax())
            raise DataError(f"{path}: row {row}: column '{column}' is empty; write {REQUIRED[column]} into every row")
    narrow = {
        column: "Int64" if pd.api.types.is_extension_array_dtype(dtype) else np.int64
        for column, dtype in frame.dtypes.items()
        if pd.api.types.is_integer_dtype(dtype) and dtype.itemsize < 8
    }
    columns = {**narrow, **dict.fromkeys(("kernel", "gpu"), str)}
    return frame.astype(columns).assign(time_ms=_times(path, frame)), notes, target


def _table(path: Path) -> tuple[pd.DataFrame, tuple[str, ...], str]:
    """Read the file, turning whatever the readers raise into one error."""
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise DataError(f"{path}: expected a .parquet, .csv or .json file, got '{path.suffix or path.name}'; convert it first")
    if not path.is_file():
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        hint = f"; did you mean '{path.with_name(near[0])}'?" if near else "; check the path"
        raise DataError(f"{path}: {'is not a file' if path.exists() else 'no such file'}{hint}")
    if suffix == ".json":
        return read_tuner_file(path)
    try:
        if suffix == ".csv":
            return pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str), low_memory=False), (), ""
        frame = pd.read_parquet(path, engine="pyarrow")
        target = str(metadata_of(path).get("target", ""))
        return frame.reset_index(drop=list(frame.index.names) == [None]), (), target  # a named index is columns too
    except (OSError, ValueError) as error:  # pyarrow's and pandas' own errors are children of these
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(f"{path}: cannot be read as {suffix[1:]}: {first}; is it complete, and what its name says?") from None


def _siblings(path: Path) -> list[str]:
    """Names beside a file that was not found."""
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []


def _missing(path: str | Path, column: str, meaning: str, found: list[str]) -> str:
    """Say which column is missing, what there is, and which one may have been meant."""
    by_fold = {name.casefold(): name for name in found}
    near = difflib.get_close_matches(column, by_fold, n=1, cutoff=0.5)
    fix = f"rename '{by_fold[near[0]]}' to '{column}', if it is {meaning}" if near else f"{_ADD.get(column, 'add it')}: {meaning}"
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{path}: column '{column}' is missing; found {', '.join(found[:_SHOWN]) or 'none'}{more}; {fix}"


def _times(path: str | Path, frame: pd.DataFrame) -> pd.Series:
    """Return the times as float64; text that is no number is refused with its row."""
    given = frame["time_ms"]
    if given.dtype.kind in "bMm":
        raise DataError(f"{path}: time_ms: expected numbers, got {given.dtype}; write milliseconds as floats")
    times = pd.to_numeric(given, errors="coerce")
    wrong = times.isna() & given.notna()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: row {row}: time_ms: expected a number, got {given.iloc[row]!r}; leave it empty where nothing ran"
        )
    return times.astype(np.float64)


def _ran(frame: pd.DataFrame) -> pd.Series:
    """Mark the rows that count as measured."""
    timed = np.isfinite(frame["time_ms"]) & (frame["time_ms"] > 0)
    if "status" not in frame.columns:
        return timed
    return timed & frame["status"].astype("string").str.strip().str.casefold().eq("ok").fillna(False).astype(bool)
