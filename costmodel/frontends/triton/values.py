"""What a value of Triton's IR is known to be."""

from __future__ import annotations

from dataclasses import dataclass

from costmodel.frontends.triton.events import Condition, Tile
from costmodel.frontends.triton.polynomials import Polynomial

__all__ = ["Descriptor", "Mask", "Opaque", "Pointer", "Value"]


@dataclass(frozen=True, slots=True)
class Opaque:
    """A number that only the data tell, or no number at all."""

    reason: str


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
class Descriptor:
    """A tensor descriptor: base, extents and strides, slowest dimension first."""

    buffer: str
    offset: Polynomial
    shape: tuple[Polynomial, ...]
    strides: tuple[Polynomial, ...]


Value = Polynomial | Opaque | Pointer | Mask | Descriptor | Tile
