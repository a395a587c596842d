"""What one program of a Helion kernel does, in order: tiles of arrays that are read and written, arithmetic on tiles, loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Axis", "Edge", "Effort", "Event", "Multiply", "Place", "Reduce", "Repeat", "Tile", "Touch", "all_of", "elements"]


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension of tiles."""

    number: int | None
    """Of Helion's block; None for a dimension that no loop goes along."""
    extent: int
    """Elements of the whole dimension."""
    block: int | None
    """Elements of a tile, a power of two, where no configuration changes them."""
    low: Edge | int = 0
    """Where its loop starts."""
    high: Edge | None = None
    """Where its loop ends, if not at the extent."""

    @property
    def name(self) -> str:
        """Of the size that says how many elements a tile has."""
        return f"block_{self.number}"

    def length(self, sizes: dict[str, int]) -> int:
        """Elements of a tile for these sizes."""
        return sizes[self.name] if self.block is None else self.block

    def edges(self) -> tuple[Edge, ...]:
        """The tiles' edges at which its loop starts and ends."""
        return tuple(e for e in (self.low, self.high) if isinstance(e, Edge))


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a tile of an outer loop or of the grid begins or ends."""

    axis: Axis
    end: bool


Tile = tuple[Axis, ...]


def elements(tile: Tile, sizes: dict[str, int]) -> int:
    """Of a tile."""
    count = 1
    for axis in tile:
        count *= axis.length(sizes)
    return count


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tile lies along one dimension of an array."""

    axis: Axis | None
    """None for one element."""
    scale: int
    """0 where each element of the tile is the same one, and none is masked."""
    offset: int
    by_data: bool
    """Whether data say where; then the elements named are taken to follow each other from the first."""


@dataclass(frozen=True, slots=True)
class Touch:
    """A tile loaded or stored."""

    store: bool
    array: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    places: tuple[Place, ...]
    dimensions: tuple[int | None, ...]
    """For each place, the dimension of the tile that runs along it."""
    tile: Tile
    """All axes that its addresses and its mask run over."""
    operand: bool
    """Whether it goes to a product of matrices, through shared memory."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Arithmetic on each element of a tile."""

    kind: str
    dtype: str
    tile: Tile
    amount: int


@dataclass(frozen=True, slots=True)
class Reduce:
    """A tile made smaller along one axis."""

    dtype: str
    tile: Tile
    along: Axis | None


@dataclass(frozen=True, slots=True)
class Multiply:
    """A product of matrices of tiles."""

    dtype: str
    batch: Tile
    rows: Axis
    columns: Axis
    depth: Axis


@dataclass(frozen=True, slots=True)
class Repeat:
    """A loop over the tiles of an axis."""

    axis: Axis
    body: tuple[Event, ...]


Event = Touch | Effort | Reduce | Multiply | Repeat
_E = TypeVar("_E", Touch, Multiply)


def all_of(kind: type[_E], events: Sequence[Event]) -> list[_E]:
    """Events of one kind, those in loops among them."""
    found: list[_E] = []
    for event in events:
        if isinstance(event, Repeat):
            found += all_of(kind, event.body)
        elif isinstance(event, kind):
            found.append(event)
    return found
