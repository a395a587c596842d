"""From a Triton module to what a block does: loops, branches, touched arrays, exchanges and arithmetic.

The module is one whose layouts are chosen, but whose loops are not yet pipelined: every load stands there once. Which loads
become asynchronous copies, and how many steps ahead, is told from the pipelined module of the same configuration.
Values are followed as expressions (`polynomials`); a loop-carried one must advance by a constant step. What addresses or masks
need but only the data tell is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.arguments import argument_values
from costmodel.frontends.triton.comparisons import NEVER, negated
from costmodel.frontends.triton.events import Choice, Condition, Event, Sync, Tile, Touch
from costmodel.frontends.triton.layouts import Layout, layout_of
from costmodel.frontends.triton.module_text import Location, Module, Operation, TensorType
from costmodel.frontends.triton.polynomials import ONE, Algebra, Polynomial, block
from costmodel.frontends.triton.values import Mask, Opaque, Value

__all__ = ["Handler", "Reader", "Reading", "Staged", "Staging", "result_names"]


@dataclass(frozen=True, slots=True)
class Staged:
    """A load that the compiler made an asynchronous copy."""

    stages: int
    """Steps of the loop's pipeline."""
    encoding: str
    """Layout of the ring in shared memory, spelt out."""


Staging = Mapping[tuple[str, int, int], Staged]
"""Asynchronous copies by where the load stands: file, line and column."""

Handler = Callable[["Reader", Operation], None]


@dataclass(slots=True)
class Reading:
    """What a block does, and the algebra of its expressions."""

    algebra: Algebra
    events: list[Event]
    tiles: list[Tile]
    notes: tuple[str, ...]


@dataclass
class Reader:
    """Walks over a module; `handlers` say what each operation means."""

    module: Module
    warps: int
    grid: tuple[Polynomial, ...]
    staging: Staging
    algebra: Algebra
    handlers: Mapping[str, Handler]
    values: dict[str, Value] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    rings: dict[str, Tile] = field(default_factory=dict)
    """Tiles that asynchronous loads fill, by the load's result."""
    loops: int = 0
    stages: list[int] = field(default_factory=lambda: [1])
    """Of the pipelines of the loops around, outermost first."""
    ends: dict[str, Polynomial] = field(default_factory=dict)
    """The largest value of each block index and loop counter."""
    quiet: bool = False
    """Whether values alone are followed: a first pass through a loop's body."""
    _layouts: dict[tuple[str, tuple[int, ...]], Layout] = field(default_factory=dict)

    def read(self) -> Reading:
        """Read the whole kernel.

        Raises:
            UnsupportedError: something is not understood; the message names the operation and the source line.
        """
        self.values |= argument_values(self.module)
        self.ends |= {block(n): extent - ONE for n, extent in enumerate(self.grid)}
        self.block(self.module.body.operations)
        return Reading(self.algebra, self.events, self.tiles, tuple(self.notes))

    # -- what handlers use

    def __getitem__(self, name: str) -> Value:
        return self.values.get(name, Opaque("computed from data"))

    def give(self, operation: Operation, value: Value) -> None:
        """Set the (first) result of an operation."""
        name, _, count = operation.results[0].partition(":")
        self.values[f"{name}#0" if count else name] = value

    def emit(self, *events: Event) -> None:
        """Record what the block does."""
        if not self.quiet:
            never = NEVER.conditions[0]
            self.events.extend(e for e in events if not isinstance(e, Touch | Choice) or never not in e.conditions)

    def where(self, operation: Operation) -> Location:
        """Its place in the source."""
        return self.module.location(operation.where)

    def fail(self, operation: Operation, why: str) -> UnsupportedError:
        """The error that names the operation and its line."""
        at = self.where(operation)
        return UnsupportedError(f"Triton kernel {self.module.name}: {at} ({operation.name}): {why}")

    def layout(self, tensor: TensorType) -> Layout:
        """The layout of a tensor type; a scalar is held by every thread."""
        key = (tensor.encoding, tensor.shape)
        if key not in self._layouts:
            bits = (5, self.warps.bit_length() - 1)
            scalar = Layout((), (), ((),) * bits[0], ((),) * bits[1])
            self._layouts[key] = layout_of(*key, self.module.aliases, self.warps) if tensor.shape else scalar
        return self._layouts[key]

    def conditions(self, operation: Operation, value: Value, what: str) -> tuple[Condition, ...]:
        """The conditions of a mask.

        Raises:
            UnsupportedError: the data decide it.
        """
        if isinstance(value, Mask):
            return value.conditions
        reason = value.reason if isinstance(value, Opaque) else type(value).__name__
        raise self.fail(operation, f"{what} is {reason}; expected comparisons of indices and sizes, joined by &")

    def tile(self, name: str, tensor: TensorType, stages: int = 1) -> Tile:
        """A new array in shared memory."""
        taken, unique, n = {*(t.name for t in self.tiles), *(a for _, _, a in self.module.arguments)}, name, 1
        while unique in taken:
            n += 1
            unique = f"{name}_{n}"
        tile = Tile(unique, tensor, stages)
        if not self.quiet:
            self.tiles.append(tile)
        return tile

    def staged(self, operation: Operation) -> Staged | None:
        """How the compiler pipelined a load; the loop around it takes as many stages."""
        at = self.where(operation)
        found = self.staging.get((at.file, at.line, at.column))
        if found is None or len(self.stages) == 1:
            return None
        self.stages[-1] = max(self.stages[-1], found.stages)
        return found

    def restaged(self, tile: Tile, stages: int) -> Tile:
        """The tile as a ring of so many."""
        ring = Tile(tile.name, tile.tensor, stages)
        self.tiles = [ring if t.name == tile.name else t for t in self.tiles]
        return ring

    @cached_property
    def operations(self) -> list[Operation]:
        """All of the module, outermost first."""
        return list(Operation("", (), (), "", "", "", [self.module.body]).inner())

    @cached_property
    def products(self) -> frozenset[str]:
        """Products that go into one sum only: the compiler fuses the two."""
        once = {o.results[0] for o in self.operations if o.name == "arith.mulf" and self.uses.get(o.results[0]) == 1}
        summed = {n for o in self.operations if o.name in ("arith.addf", "arith.subf") for n in o.operands}
        return frozenset(once & summed)

    @cached_property
    def allocated(self) -> frozenset[str]:
        """Values that are stored to shared memory as they are."""
        return frozenset(o.operands[0] for o in self.operations if o.name == "ttg.local_alloc" and o.operands)

    @cached_property
    def addressing(self) -> frozenset[str]:
        """Values that addresses, masks and loop bounds are made of."""
        return _slice(self.operations)

    @cached_property
    def uses(self) -> dict[str, int]:
        """How often each value is used."""
        counts: dict[str, int] = {}
        for operation in self.operations:
            for name in operation.operands:
                counts[name] = counts.get(name, 0) + 1
        return counts

    # -- control

    def block(self, operations: list[Operation]) -> None:
        """Read operations in order; in a first pass, what is not understood is a value that is not known."""
        for operation in operations:
            try:
                self.handlers.get(operation.name, _unknown)(self, operation)
            except UnsupportedError:
                if not self.quiet:
                    raise
                self.skip(operation)

    def tried(self, values: Mapping[str, Value], operations: list[Operation]) -> list[Value]:
        """What a loop's body would yield from these carried values; nothing is recorded."""
        saved, loops, stages, quiet, events = dict(self.values), self.loops, list(self.stages), self.quiet, self.events
        self.values |= values
        self.quiet, self.events = True, []
        self.stages.append(1)
        try:
            self.block(operations)
            return [self[n] for n in operations[-1].operands]
        finally:
            self.values, self.loops, self.stages, self.quiet, self.events = saved, loops, stages, quiet, events

    def branch(self, operation: Operation) -> None:
        """`scf.if`."""
        condition = self[operation.operands[0]]
        outer, ends, bodies = self.events, [], []
        for region in operation.regions:
            self.events = []
            self.block(region.operations)
            bodies.append(self.events)
            yields = region.operations[-1] if region.operations and region.operations[-1].name == "scf.yield" else None
            ends.append([self[n] for n in yields.operands] if yields else [])
        self.events = outer
        if any(bodies):
            held = Mask(self.conditions(operation, condition, "the condition of a branch"))
            then, otherwise, *_ = (*bodies, [])
            for side, body in ((held, then), *((other, otherwise) for other in negated(held))):
                self.emit(*([Choice(side.conditions, body)] * bool(body)))
        for n, name in enumerate(result_names(operation)):
            options = {e[n] for e in (ends[:1] if condition == Mask(()) else ends[1:] if condition == NEVER else ends)}
            self.values[name] = options.pop() if len(options) == 1 else Opaque("chosen by a branch")

    def skip(self, operation: Operation) -> None:
        """Nothing to count, and a result that no address needs."""
        for name in result_names(operation):
            self.values[name] = Opaque(f"the result of {operation.name}")

    def synchronise(self, _: Operation) -> None:
        """`gpu.barrier`."""
        self.emit(Sync())


def _unknown(reader: Reader, operation: Operation) -> None:
    raise reader.fail(operation, "this operation is not known to the front end; it cannot be left out of the count")


def result_names(operation: Operation) -> list[str]:
    """Of all results, `%5#1` for the second of several."""
    names = []
    for result in operation.results:
        name, _, count = result.partition(":")
        names += [f"{name}#{n}" for n in range(int(count))] if count else [name]
    return names


_MEMORY = ("tt.load", "tt.store", "tt.atomic_rmw", "tt.atomic_cas", "scf.for", "scf.if", "ttng.async_tma", "tt.descriptor")


def _slice(operations: list[Operation]) -> frozenset[str]:
    """Values behind addresses, masks and bounds, backwards from their uses."""
    made: dict[str, tuple[str, ...]] = {}
    wanted: list[str] = []
    for operation in operations:
        ends = [r.operations[-1].operands for r in operation.regions if r.operations]
        for n, name in enumerate(result_names(operation)):
            made[name] = operation.operands if not ends else tuple(e[n] for e in ends if n < len(e))
        if operation.name == "scf.for":
            carried = operation.regions[0].arguments[1:]
            for n, name in enumerate(carried):
                made[name] = (operation.operands[3 + n], *(e[n] for e in ends if n < len(e)))
            wanted += operation.operands[:3]
        elif operation.name == "scf.if":
            wanted += operation.operands[:1]
        elif operation.name == "tt.load":
            wanted += operation.operands[:2]
        elif operation.name in ("tt.store", "tt.atomic_rmw"):
            wanted += [operation.operands[0], *operation.operands[2:]]
        elif operation.name.startswith(_MEMORY):
            wanted += operation.operands
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            wanted += made.get(name, ())
    return frozenset(found)
