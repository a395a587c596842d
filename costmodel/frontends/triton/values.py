"""What a value of Triton's IR is known to be."""

from __future__ import annotations

from dataclasses import dataclass

from costmodel.frontends.triton.events import Condition, Tile
from costmodel.frontends.triton.polynomials import Polynomial

__all__ = ["Chosen", "Descriptor", "Mask", "Opaque", "Pointer", "Value"]


@dataclass(frozen=True, slots=True)
class Opaque:
    """A number that only the data tell, or no number at all."""

    reason: str
    end: Polynomial | None = None
    """What it is where that is positive; else both are at most 0: enough for the end of a loop that starts at 0 or later."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """A place in a global array, in elements from its start."""

    buffer: str
    offset: Polynomial


@dataclass(frozen=True, slots=True)
class Mask:
    """A truth value: all conditions hold."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """An index that is another one where conditions do not hold: `tl.where(at < n, at, 0)`."""

    conditions: tuple[Condition, ...]
    index: Polynomial
    """Where all conditions hold."""
    otherwise: Polynomial | None
    """None where that is not known."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A tensor descriptor: base, extents and strides, slowest dimension first."""

    buffer: str
    offset: Polynomial
    shape: tuple[Polynomial, ...]
    strides: tuple[Polynomial, ...]


Value = Polynomial | Chosen | Opaque | Pointer | Mask | Descriptor | Tile
