"""Holds what was measured against a stored profile.

What the driver states is exact. What is measured differs beyond three times the spread of its repeats, and beyond 3 %: repeats
in one process agree to 0.2 %, while boards of one name, their clocks and what a small kernel adds do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.device import Device
from costmodel.measure.probe.lab import Figure
from costmodel.measure.probe.profile import stored_value

__all__ = ["Difference", "differences"]

_SPREADS, _LEAST = 3.0, 0.03


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
    """True where the difference exceeds what may be expected; for a lower bound, where the stored figure is below it."""
    bound: bool
    """True where the measurement can only be too low."""


def differences(device: Device, figures: Sequence[Figure]) -> list[Difference]:
    """Compare each measured figure with the stored one, those first that the driver states."""
    return [_difference(device, figure) for figure in sorted(figures, key=lambda figure: not figure.stated)]


def _difference(device: Device, figure: Figure) -> Difference:
    stored = stored_value(device, figure.field)
    if stored is None or isinstance(stored, bool) or isinstance(figure.value, bool) or not stored:
        relative, differs = None, stored != figure.value
    else:
        relative = figure.value / stored - 1
        expected = 0.0 if figure.stated else max(_SPREADS * figure.spread, _LEAST)
        differs = (relative if figure.bound else abs(relative)) > expected
    return Difference(figure.field, stored, figure.value, relative, figure.spread, differs, figure.bound)
