"""Registers that somebody knows: one number for all configurations, or one for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.device import Device
from costmodel.errors import SizeError

__all__ = ["GivenRegisters", "checked_registers", "is_many", "registers_of_rows"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GivenRegisters:
    """Registers of a thread, one entry for each row; NaN where they are to be estimated."""

    registers: Floats
    spilled: Floats
    """Words that each sweep over the accumulators stores and loads."""

    def of(self, which: npt.NDArray[np.int64]) -> GivenRegisters:
        """The same for some of the rows."""
        return GivenRegisters(self.registers[which], self.spilled[which])


def checked_registers(registers: int | None, spilled: float, kernel: str, device: Device) -> GivenRegisters | None:
    """Registers and spilled words of one configuration.

    Raises:
        SizeError: a thread of the device cannot have so many, or words spill though no registers are given.
    """
    _check_spilled(np.asarray(spilled), registers is not None, kernel)
    if registers is None:
        return None
    most = device.registers.max_per_thread
    if isinstance(registers, bool) or not isinstance(registers, int | np.integer) or not 1 <= registers <= most:
        raise SizeError(f"{kernel}: registers={registers!r}: expected 1 to {most} of a thread")
    return GivenRegisters(np.array([float(registers)]), np.array([float(spilled)]))


def registers_of_rows(
    registers: Any, spilled: Any, table: pd.DataFrame, kernel: str, device: Device, wrong: npt.NDArray[Any] | None = None
) -> GivenRegisters | None:
    """Registers and spilled words of each row of a table.

    Args:
        registers: a number, the name of a column, or one number for each row (NaN where they are to be estimated);
            None estimates all.
        spilled: a number, the name of a column, or one number for each row.
        table: the configurations.
        kernel: its name, for messages.
        device: the GPU.
        wrong: [rows] takes in that a thread of a row cannot have so many; None to raise it.

    Raises:
        SizeError: there is no such column, the numbers are not as many as the rows, or a thread cannot have so many.
    """
    if registers is None:
        checked_registers(None, 0.0 if is_many(spilled) else spilled, kernel, device)
        return None
    if is_many(registers):
        each = _column(registers, table, kernel, "registers")
        most = device.registers.max_per_thread
        fine = np.isnan(each) | ((each >= 1) & (each <= most) & (each == np.floor(each)))
        _blame(~fine, each, f"{kernel}: registers", f"expected 1 to {most} of a thread or NaN", wrong)
    else:
        checked_registers(registers, 0.0, kernel, device)
        each = np.full(len(table), float(registers))
    if not is_many(spilled):
        _check_spilled(np.asarray(spilled), True, kernel)
        return GivenRegisters(each, np.full(len(table), float(spilled)))
    words = _column(spilled, table, kernel, "spilled")
    _blame((words < 0) | np.isinf(words), words, f"{kernel}: spilled", "expected words, 0 or more", wrong)
    return GivenRegisters(each, np.nan_to_num(words))


def _blame(bad: npt.NDArray[np.bool_], values: Floats, where: str, expected: str, wrong: npt.NDArray[Any] | None) -> None:
    for row in np.flatnonzero(bad):
        if wrong is None:
            raise SizeError(f"{where} of row {row}: {expected}, got {values[row]:g}")
        wrong[row] = wrong[row] or f"{where}: {expected}, got {values[row]:g}"


def is_many(given: Any) -> bool:
    """Whether this is a column, or its name, rather than one number."""
    return isinstance(given, str) or np.ndim(given) > 0


def _column(given: Any, table: pd.DataFrame, kernel: str, what: str) -> Floats:
    if isinstance(given, str):
        if given not in table.columns:
            raise SizeError(f"{kernel}: {what}={given!r}: no such column; columns: {', '.join(map(str, table.columns))}")
        given = table[given]
    try:
        each = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise SizeError(f"{kernel}: {what}: expected a number for each row, got {type(given).__name__}") from None
    if each.shape != (len(table),):
        raise SizeError(f"{kernel}: {what}: {each.shape} numbers for {len(table)} rows; give one for each row")
    return each


def _check_spilled(spilled: npt.NDArray[Any], known: bool, kernel: str) -> None:
    if spilled.dtype.kind not in "if" or (spilled < 0).any():
        raise SizeError(f"{kernel}: spilled={spilled}: expected words, 0 or more")
    if not known and spilled.any():
        raise SizeError(f"{kernel}: spilled={spilled} without registers: give registers=… too, or neither")
