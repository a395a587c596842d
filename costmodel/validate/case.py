"""What of a file is compared: the description, the profile, and the rows as configurations of the description.

Rows become configurations by the data set's mapping (`cost.dataset_mapping`) or by equal names. A file of `costmodel
measure` names the description that it was measured with, which is imported as a `--kernel` would be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.cost import NSIGHT, DatasetMapping, dataset_mapping, find_description
from costmodel.device import Device, find_device
from costmodel.errors import DataError, DescriptionError
from costmodel.measure.fake import DRY
from costmodel.validate.baselines import Others
from costmodel.validate.data import Measured

__all__ = ["Case", "NoRowsError", "NotDescribedError", "arguments_of", "prepare"]

_DRY = "a dry run: its times are the model's own with a little noise, and the figures say nothing about the model"


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
    mapping = _mapping(measured, kernel)
    gpu = measured.gpu.removeprefix(DRY)
    found = device or find_device(mapping.gpus.get(gpu, gpu))
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
    notes: list[str] = []
    if out:
        notes.append(f"{measured.kernel} on {measured.gpu}: {out} of {len(measured.rows)} left out: {outside}")
    if gpu != measured.gpu:
        notes.append(f"{measured.gpu}: {_DRY}")
    arguments = {**mapping.description.defaults, **arguments_of(measured, mapping, rows)}
    return Case(measured, mapping, found, rows, failed, pd.DataFrame(arguments, index=range(len(rows))), tuple(notes))


def _mapping(measured: Measured, kernel: str | None) -> DatasetMapping:
    """What describes the kernel: what was asked for, else what the file says that it was measured with, else its name.

    A file of data is not let to name Python code that is then run: a description outside the package has to be asked for.
    """
    if kernel is None and ".py" in measured.target:
        raise DescriptionError(f"{measured.kernel} was measured with {measured.target}; give --kernel {measured.target}")
    named = kernel or measured.target or measured.kernel
    return dataset_mapping(named) or DatasetMapping(find_description(named), {}, NSIGHT)


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


def arguments_of(measured: Measured, mapping: DatasetMapping, rows: pd.DataFrame) -> dict[str, Any]:
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
