"""Holds what was measured against a stored profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.device import Device
from costmodel.measure.probe.lab import Figure
from costmodel.measure.probe.profile import stored_value

__all__ = ["Difference", "differences"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure, stored and measured."""

    field: str
    """Its path."""
    stored: float | int | bool | None
    """None where the profile has none."""
    measured: float | int | bool
    """Median."""
    relative: float | None
    """Measured over stored, less one; None for flags and what is not stored."""
    spread: float
    """Of the repeats, relative; 0 for what the driver states."""
    differs: bool
    """True where the difference exceeds the spread; for a lower bound, where the stored figure is below it."""
    bound: bool
    """True where the measurement can only be too low."""


def differences(device: Device, figures: Sequence[Figure]) -> list[Difference]:
    """Compare each measured figure with the stored one."""
    return [_difference(device, figure) for figure in figures]


def _difference(device: Device, figure: Figure) -> Difference:
    stored = stored_value(device, figure.field)
    if stored is None or isinstance(stored, bool) or isinstance(figure.value, bool) or not stored:
        relative, differs = None, stored != figure.value
    else:
        relative = figure.value / stored - 1
        differs = relative > figure.spread if figure.bound else abs(relative) > figure.spread
    return Difference(figure.field, stored, figure.value, relative, figure.spread, differs, figure.bound)
