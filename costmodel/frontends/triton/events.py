"""What a block of a Triton kernel does, in program order: what is read from its IR, before it is spread over threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from costmodel.frontends.triton.module_text import Location, TensorType
from costmodel.frontends.triton.polynomials import Polynomial
from costmodel.ir.types import WorkKind

__all__ = [
    "Choice", "Condition", "Effort", "Event", "Exchange", "Multiply", "Repeat", "Shuffles", "Stage", "Sync", "Tile", "Touch",
    "inner",
]  # fmt: skip

Condition = tuple[str, Polynomial, Polynomial]
"""A comparison of two expressions; all conditions of a list hold together."""


@dataclass(frozen=True, slots=True)
class Tile:
    """An array in shared memory that operands of matrix instructions are read from."""

    name: str
    tensor: TensorType
    stages: int = 1
    """Copies of it in a ring."""


@dataclass(frozen=True, slots=True)
class Touch:
    """Elements of a global array that are loaded, stored or updated, one for each of a tensor."""

    kind: str
    """`load`, `store` or `atomic`."""
    buffer: str
    offset: Polynomial
    """In elements, of the tensor's coordinates."""
    conditions: tuple[Condition, ...]
    tensor: TensorType
    cached: bool
    where: Location
    tile: Tile | None = None
    """Where asynchronous copies bring it."""
    whole: tuple[Polynomial, ...] = ()
    """Extents of the array where a descriptor gives them."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Arithmetic of one thread on each element that it holds."""

    kind: WorkKind
    dtype: str
    amount: int
    """Operations of one element."""
    elements: int
    where: Location


@dataclass(frozen=True, slots=True)
class Shuffles:
    """Steps of a reduction over the lanes of a warp: in each, registers are exchanged and combined."""

    steps: int
    words: int
    """Exchanged in each step by one thread."""
    combine: tuple[tuple[WorkKind, str, int], ...]
    """Kind, dtype and amount of the work of one step."""
    where: Location


@dataclass(frozen=True, slots=True)
class Exchange:
    """Elements handed from thread to thread through shared memory, between barriers."""

    dtype: str
    written: int
    """By one thread."""
    read: int
    where: Location


@dataclass(frozen=True, slots=True)
class Stage:
    """A tensor in registers stored to a tile (`store`), or a tile's operand loaded into registers (`load`)."""

    kind: str
    tile: Tile
    tensor: TensorType
    where: Location


@dataclass(frozen=True, slots=True)
class Multiply:
    """A product of two matrices that is added to a third."""

    m: int
    n: int
    depth: int
    batch: int
    dtype: str
    encoding: str
    """Layout of the sums."""
    left: Tile | None
    """None for an operand in registers."""
    right: Tile | None
    where: Location


@dataclass(frozen=True, slots=True)
class Sync:
    """All threads of the block wait for each other."""


@dataclass(slots=True)
class Repeat:
    """A loop."""

    atom: str
    extent: Polynomial
    where: Location
    stages: int = 1
    body: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Choice:
    """A branch that is taken where all conditions hold."""

    conditions: tuple[Condition, ...]
    body: list[Event] = field(default_factory=list)


Event = Touch | Effort | Shuffles | Exchange | Stage | Multiply | Sync | Repeat | Choice


def inner(events: Iterable[Event]) -> Iterator[Event]:
    """All events in order, each loop or branch before what is in it."""
    for event in events:
        yield event
        if isinstance(event, Repeat | Choice):
            yield from inner(event.body)
