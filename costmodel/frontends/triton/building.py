"""From what a block does to an `ir.Kernel`: tensors spread over registers, lanes and warps as their layouts say."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import sympy

from costmodel.dtypes import DTYPES, DType
from costmodel.errors import UnsupportedError
from costmodel.frontends.triton import tiles
from costmodel.frontends.triton.arrays import Dimensions, dimensions, split
from costmodel.frontends.triton.conditions import Quotient, affine, moving_calls, remainders, spread
from costmodel.frontends.triton.events import (
    Choice,
    Condition,
    Effort,
    Event,
    Exchange,
    Multiply,
    Repeat,
    Shuffles,
    Stage,
    Sync,
    Tile,
    Touch,
    inner,
)  # fmt: skip
from costmodel.frontends.triton.handlers import dtype_name
from costmodel.frontends.triton.layouts import Layout, ThreadDigit
from costmodel.frontends.triton.module_text import Location, TensorType
from costmodel.frontends.triton.names import at_line, staged
from costmodel.frontends.triton.polynomials import Algebra, Polynomial, coordinate
from costmodel.frontends.triton.vectors import vector
from costmodel.ir import Access, Barrier, Buffer, Guard, Loop, Node, Statement, Work
from costmodel.symbols import FloorDiv, Mod, index

__all__ = ["Builder", "digit"]

LANE, WARP = index("thread_x"), index("thread_y")
_LANE_BITS = 5
_INTEGER = sympy.Integer


@cache
def digit(d: ThreadDigit, warp_bits: int) -> sympy.Expr:
    """A digit of the thread number, of lane and warp index; times its stride."""
    parts: list[sympy.Expr] = []
    inside = max(min(d.low + d.bits, _LANE_BITS) - d.low, 0)
    if inside:
        parts.append(sympy.Mul(d.stride, _bits(LANE, d.low, inside, _LANE_BITS)))
    if d.bits > inside:
        low = max(d.low - _LANE_BITS, 0)
        parts.append(sympy.Mul(d.stride << inside, _bits(WARP, low, d.bits - inside, warp_bits)))
    return sympy.Add(*parts)


def _bits(symbol: sympy.Symbol, low: int, bits: int, of: int) -> sympy.Expr:
    high = FloorDiv(symbol, _INTEGER(1 << low)) if low else symbol
    return high if low + bits == of else Mod(high, _INTEGER(1 << bits))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a thread is in a tensor."""

    points: Mapping[str, sympy.Expr]
    """Its coordinates."""
    extents: Mapping[sympy.Symbol, int]
    """Of the indices that they are made of."""


@dataclass
class Builder:
    """Makes the nodes of a kernel."""

    algebra: Algebra
    layout: Callable[[TensorType], Layout]
    warps: int
    symbols: dict[str, sympy.Expr]
    """A sympy expression for each size, block and loop atom."""
    aligned: Mapping[str, int]
    """Divisor of each array's address in bytes."""
    aliases: Mapping[str, str]
    ends: dict[str, Polynomial]
    """Largest value of each block and loop atom."""
    buffers: dict[str, Buffer] = field(default_factory=dict)
    replicas: dict[str, int] = field(default_factory=dict)
    """Threads that load the same element, by statement."""
    places: dict[str, Location] = field(default_factory=dict)
    """Where each statement stands in the source."""
    _shapes: dict[str, Dimensions] = field(default_factory=dict)
    _names: Counter[str] = field(default_factory=Counter)
    _staged: dict[str, tuple[str, int]] = field(default_factory=dict)
    """What each tile holds, and the line that puts it there."""
    _remainders: frozenset[Quotient] = frozenset()
    """Divisions of which conditions use remainders."""
    _registers: int = 0

    def arrays(self, events: list[Event], kinds: Mapping[str, str]) -> None:
        """Declare the global arrays that the events touch; `kinds` gives the element of each by name."""
        self._staged = staged(events)
        self._remainders = remainders(self.algebra, events)
        found: dict[str, list[tuple[Polynomial, tuple[Condition, ...]]]] = {}
        stored: set[str] = set()
        for touch in (e for e in inner(events) if isinstance(e, Touch)):
            found.setdefault(touch.buffer, []).append((touch.offset, touch.conditions))
            stored |= {touch.buffer} if touch.kind != "load" else set()
        for name, touches in found.items():
            self._shapes[name] = shape = dimensions(self.algebra, touches, self.ends)
            self.buffers[name] = Buffer(
                name,
                tuple(self.expression(shape.extents[s]) for s in shape.strides),
                _dtype(kinds[name]),
                "global",
                tuple(self.expression(Polynomial({s: 1})) for s in shape.strides),
                read_only=False,
            )

    def tile(self, tile: Tile) -> None:
        """Declare a shared array."""
        held, line = self._staged.get(tile.name, ("staged_tile", 0))
        alone = sum(h == held for h, _ in self._staged.values()) < 2
        taken = {b.name for b in self.buffers.values()}
        name = next(n for n in self._numbered(held if alone else f"{held}_line_{line}") if n not in taken)
        self.buffers[tile.name] = replace(tiles.buffer(tile, _dtype(tile.tensor.element), self.aliases), name=name)

    def expression(self, p: Polynomial) -> sympy.Expr:
        """The sympy expression."""
        return self.algebra.to_sympy(p, self.symbols)

    def body(self, events: list[Event]) -> tuple[Node, ...]:
        """The nodes of events in order; arithmetic of one source line is one statement."""
        nodes: list[Node] = []
        lines: dict[tuple[int, int], int] = {}
        for event in events:
            if isinstance(event, Effort):
                self._work(event, nodes, lines)
            else:
                nodes += self._nodes(event)
        return tuple(n for i, n in enumerate(nodes) if not (isinstance(n, Barrier) and i and isinstance(nodes[i - 1], Barrier)))

    def _nodes(self, event: Event) -> tuple[Node, ...]:
        match event:
            case Repeat():
                symbol = self.symbols[event.atom]
                body = self.body(event.body)
                stages, extent = _INTEGER(event.stages), self.expression(event.extent)
                return (Loop(symbol, extent, "serial", body, 0, _INTEGER(1), stages),) if body else ()
            case Choice():
                body = self.body(event.body)
                held = tuple(self._conditions(event.conditions, _Place({}, {})))
                return (Guard(held, body),) if held and body else body
            case Touch():
                return self._touch(event)
            case Sync():
                return (Barrier(),)
            case Shuffles():
                return self._shuffles(event)
            case Exchange():
                return self._exchange(event)
            case Stage():
                return self._stage(event)
            case Multiply():
                return self._multiply(event)
        raise AssertionError(event)

    # -- arithmetic

    def _work(self, event: Effort, nodes: list[Node], lines: dict[tuple[int, int], int]) -> None:
        """Arithmetic on registers that are updated one by one: none waits for another."""
        item = Work(event.kind, _dtype(event.dtype), _INTEGER(event.amount))
        key = (event.where.line, event.elements)
        if key in lines:
            before = nodes[lines[key]]
            assert isinstance(before, Loop)
            known = before.body[0]
            assert isinstance(known, Statement)
            nodes[lines[key]] = replace(before, body=(replace(known, work=_added(known.work, item)),))
            return
        lines[key] = len(nodes)
        name, symbol = self._unused(f"registers_{event.elements}"), self._counter()
        self.buffers.setdefault(name, _register(name, event.elements, DTYPES["f32"]))
        value = Access(self.buffers[name], (symbol,))
        nodes += _nested(
            [(symbol, event.elements)], Statement(self._name("arithmetic", event.where), (value,), (value,), (item,))
        )

    def _unused(self, name: str) -> str:
        """A name for registers or exchanges that no argument of the kernel has."""
        return f"{name}_" if name in self.symbols or name in self._shapes else name

    def _numbered(self, name: str) -> Iterator[str]:
        """A name, and that name with numbers."""
        yield self._unused(name)
        yield from (self._unused(f"{name}_{n}") for n in itertools.count(2))

    def _counter(self) -> sympy.Symbol:
        """The index of a further loop over registers."""
        self._registers += 1
        return index(self._unused(f"r{self._registers}"))

    def _name(self, what: str, where: Location) -> str:
        self._names[f"{what} {where.line}"] += 1
        name = at_line(what, where.line, self._names[f"{what} {where.line}"])
        self.places[name] = where
        return name

    # -- global memory

    def _touch(self, event: Touch) -> tuple[Node, ...]:
        dtype, layout = _dtype(event.tensor.element), self._layout_of(event)
        dimension, width = vector(self.algebra, event, layout, dtype.itemsize, self.aligned)
        if event.tile is not None and event.whole:
            width = tiles.piece(event.tile, dtype)
        elif event.tile is not None and dimension != tiles.fastest(event.tile, self.aliases):
            width = 1
        name = self._name(f"{event.kind} {event.buffer}", event.where)
        points, loops = self._coordinates(layout, dimension, width)
        place = _Place(points, {LANE: 32, WARP: self.warps, **dict(loops)})
        access = Access(self.buffers[event.buffer], self._index(event, place), _INTEGER(width), event.cached)
        copies: tuple[Access, ...] = ()
        if event.tile is not None:
            copies = (tiles.access(self.buffers[event.tile.name], event.tile, points, layout.shape, width, self.aliases),)
        loads, stores = ((access,), copies) if event.kind == "load" else (copies, (access,))
        statement = Statement(
            name, loads, stores, asynchronous=bool(copies) and event.kind == "load", atomic=event.kind == "atomic"
        )
        if event.kind == "load":
            self.replicas[name] = layout.replicas
        conditions = self._conditions(event.conditions, place)
        if event.kind != "load" or event.tile is not None:
            self.replicas[name] = 1
            conditions += self._first_of(layout)
        return _nested(loops, Guard(tuple(conditions), (statement,)) if conditions else statement)

    def _layout_of(self, event: Touch) -> Layout:
        """The layout of a touched tensor; copies by descriptor are taken in 16-byte pieces, a row of threads after the other."""
        if not event.whole or event.tile is None:
            return self.layout(event.tensor)
        return tiles.spread(event.tensor.shape, tiles.piece(event.tile, _dtype(event.tensor.element)), self.warps)

    def _coordinates(
        self, layout: Layout, dimension: int, width: int
    ) -> tuple[dict[str, sympy.Expr], list[tuple[sympy.Symbol, int]]]:
        """Each coordinate's first element in a thread, and the loops over its registers."""
        warp_bits = self.warps.bit_length() - 1
        parts = [[digit(t, warp_bits) for t in layout.thread_digits(d)] for d in range(len(layout.shape))]
        loops: list[tuple[sympy.Symbol, int]] = []
        for loop in layout.register_loops(dimension, width):
            symbol = self._counter()
            loops.append((symbol, loop.extent))
            parts[loop.dimension].append(sympy.Mul(loop.stride, symbol))
        return {f"{coordinate(d)}:{n}": sympy.Add(*parts[d]) for d, n in enumerate(layout.shape)}, loops

    def _index(self, event: Touch, place: _Place) -> tuple[sympy.Expr, ...]:
        strides = self._shapes[event.buffer].strides
        along = split(self.algebra, event.offset, strides)
        return tuple(self._at(along.get(s, Polynomial.of(0)), place) for s in strides)

    def _conditions(self, conditions: tuple[Condition, ...], place: _Place) -> list[tuple[str, sympy.Expr, sympy.Expr]]:
        simple = [c for condition in conditions for c in affine(self.algebra, condition, self._remainders)]
        return [(op, self._at(a, place), self._at(b, place)) for op, a, b in dict.fromkeys(simple)]

    def _at(self, p: Polynomial, place: _Place) -> sympy.Expr:
        """The expression for a thread's place; what is divided, in digits of it."""
        symbols = {**self.symbols, **place.points}
        if any(self.algebra.mentions(Polynomial.of(a), "%d") for a in moving_calls(self.algebra, p)):
            by, digits = spread(self.algebra, place.points, place.extents)
            p, symbols = self.algebra.replaced(p, by), {**symbols, **digits}
        return self.algebra.to_sympy(p, symbols)

    def _first_of(self, layout: Layout) -> list[tuple[str, sympy.Expr, sympy.Expr]]:
        """Of threads that hold the same element, the first one stores it."""
        idle = [bit for bit, basis in enumerate((*layout.lanes, *layout.warps)) if not any(basis)]
        found: list[ThreadDigit] = []
        for bit in idle:
            last = found[-1] if found else None
            if last and last.low + last.bits == bit and bit != _LANE_BITS:
                found[-1] = ThreadDigit(last.low, last.bits + 1, 1)
            else:
                found.append(ThreadDigit(bit, 1, 1))
        return [("<", *_bound(d, self.warps.bit_length() - 1)) for d in found]

    # -- between threads

    def _shuffles(self, event: Shuffles) -> tuple[Node, ...]:
        buffer = self._scratch("other_lanes", 32, DTYPES["f32"])
        work = tuple(Work(kind, _dtype(dtype), _INTEGER(n)) for kind, dtype, n in event.combine)
        name = self._name("shuffles", event.where)
        node: Node = Statement(name, (Access(buffer, (LANE,)),))
        body: tuple[Node, ...] = _nested([(self._counter(), event.words)], node) if event.words > 1 else (node,)
        if work:
            body = (*body, Statement(f"{name} combined", work=work))
        if event.steps == 1:
            return body
        return (Loop(self._counter(), _INTEGER(event.steps), "serial", body),)

    def _exchange(self, event: Exchange) -> tuple[Node, ...]:
        dtype = _dtype(event.dtype)
        nodes: list[Node] = [Barrier()]
        for what, count in (("written", event.written), ("read", event.read)):
            width = min(count, max(16 // dtype.itemsize, 1))
            elements = 32 * self.warps * max(event.written, event.read)
            buffer = self._scratch(f"exchange_line_{event.where.line}", elements, dtype)
            times, step = max(count // width, 1), self._counter()
            at = WARP * (32 * width) + LANE * width + (step * (32 * self.warps * width) if times > 1 else 0)
            access = Access(buffer, (at,), _INTEGER(width))
            name = self._name(f"exchange {what}", event.where)
            pair = ((), (access,)) if what == "written" else ((access,), ())
            nodes += _nested([(step, times)] if times > 1 else [], Statement(name, *pair))
            nodes += [Barrier()] if what == "written" else []
        return tuple(nodes)

    def _scratch(self, name: str, elements: int, dtype: DType) -> Buffer:
        """Space for exchanges; the block's shared memory as compiled holds it."""
        for unique in self._numbered(name):
            made = Buffer(unique, (_INTEGER(elements),), dtype, "shared", (_ONE,), exchange=True)
            if self.buffers.setdefault(unique, made) == made:
                return self.buffers[unique]
        raise AssertionError(name)

    def _stage(self, event: Stage) -> tuple[Node, ...]:
        dtype, layout = _dtype(event.tensor.element), self.layout(event.tensor)
        held, _ = self._staged.get(event.tile.name, ("staged_tile", 0))
        held = held.partition("_")[2]
        name = self._name(f"stage {held}" if event.kind == "store" else f"load staged {held}", event.where)
        buffer = self.buffers[event.tile.name]
        if event.kind == "load" and "dot_op" in event.tensor.encoding and "blocked" not in event.tensor.encoding:
            loops, access = tiles.fragments(buffer, event.tile, layout, self._counter, self.aliases)
            return _nested(loops, Statement(name, (access,)))
        dimension = tiles.fastest(event.tile, self.aliases)
        width = min(layout.side_by_side(dimension), tiles.piece(event.tile, dtype))
        points, loops = self._coordinates(layout, dimension, width)
        access = tiles.access(buffer, event.tile, points, layout.shape, width, self.aliases)
        pair = ((), (access,)) if event.kind == "store" else ((access,), ())
        node: Node = Statement(name, *pair)
        return _nested(loops, node)

    # -- matrix instructions

    def _multiply(self, event: Multiply) -> tuple[Node, ...]:
        name = self._name("multiply", event.where)
        return tiles.multiply(event, name, self.buffers, self._sums, self._counter, self.aliases, self.warps)

    def _sums(self, count: int) -> Buffer:
        """Accumulators of a thread, one for each matrix instruction that adds to others."""
        name = self._unused(f"accumulators_{count}")
        return self.buffers.setdefault(name, _register(name, count, DTYPES["f32"]))


_ONE = _INTEGER(1)


def _bound(d: ThreadDigit, warp_bits: int) -> tuple[sympy.Expr, sympy.Expr]:
    """A digit that is to be zero, as a comparison of whole indices where it is the highest."""
    symbol, low, of = (LANE, d.low, _LANE_BITS) if d.low < _LANE_BITS else (WARP, d.low - _LANE_BITS, warp_bits)
    if low + d.bits == of:
        return symbol, _INTEGER(1 << low)
    return _bits(symbol, low, d.bits, of), _ONE


def _nested(loops: list[tuple[sympy.Symbol, int]], node: Node) -> tuple[Node, ...]:
    """The node in unrolled loops."""
    for symbol, extent in reversed(loops):
        node = Loop(symbol, _INTEGER(extent), "serial", (node,), 0, _INTEGER(extent))
    return (node,)


def _added(work: tuple[Work, ...], item: Work) -> tuple[Work, ...]:
    for n, w in enumerate(work):
        if (w.kind, w.dtype) == (item.kind, item.dtype):
            return (*work[:n], replace(w, amount=w.amount + item.amount), *work[n + 1 :])
    return (*work, item)


def _register(name: str, count: int, dtype: DType) -> Buffer:
    return Buffer(name, (_INTEGER(count),), dtype, "register", (_ONE,))


def _dtype(element: str) -> DType:
    name = dtype_name(element)
    if name not in DTYPES:
        raise UnsupportedError(f"Triton element type {element}: expected one of {', '.join(DTYPES)}")
    return DTYPES[name]
