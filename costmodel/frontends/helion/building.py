"""From a Helion kernel's events to an `ir.Kernel` whose sizes are those of a configuration, and what follows from them."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import reduce
from typing import Any, Literal

from costmodel.dtypes import DTYPES
from costmodel.frontends.helion.events import Axis, Edge, Effort, Event, Multiply, Reduce, Repeat, Tile, Touch, all_of, elements
from costmodel.frontends.helion.graphs import Reading
from costmodel.frontends.helion.spreading import Derived, Spread, fragments, products, spread_of, whole
from costmodel.ir import Builder, Comparison, Divisibility, Expr, Kernel, Work, ceil_div
from costmodel.symbols import size

__all__ = ["GROUP", "Building", "Grid"]

WARP_GROUP = 128
GROUP = "group"
"""The size that says how many blocks of the grid's first axis are taken together."""
Grid = Literal["axes", "groups", "row"]
"""How blocks are numbered: along up to three axes of the launch; some of the first axis together; all of them in one row."""


class Building:
    """Describes one structure of configurations; `sizes` then tells the sizes of each."""

    def __init__(self, name: str, reading: Reading, registers: Derived, *, warp_groups: bool, numbered: Grid) -> None:
        self._reading, self._warp_groups, self._numbered = reading, warp_groups, numbered
        self._facts = Divisibility()
        self._k = Builder(name, self._facts)
        self._derived: dict[str, Derived] = {"thread_registers": registers}
        self._spreads: dict[tuple[Tile, int], Spread] = {}
        self._position: dict[Axis, Any] = {}
        self._number: dict[Axis, Expr] = {}
        self._arrays: dict[str, Any] = {}
        self._names: Counter[str] = Counter()
        self._given = {"threads": self._symbol("threads"), "stages": self._symbol("stages")}
        self.grid = reading.grid
        self.kernel = self._described()

    def sizes(self, given: dict[str, int]) -> dict[str, int]:
        """All sizes of the kernel, from blocks, threads and stages."""
        found = {n: given[n] for n in self._given}
        for spread in self._spreads.values():
            found |= spread.sizes(given)
        return found | {n: derive(given) for n, derive in self._derived.items()}

    # -- sizes

    def _symbol(self, name: str) -> Expr:
        return Expr(size(name), self._facts)

    def _derive(self, name: str, derive: Derived) -> Expr:
        self._derived[name] = derive
        return self._symbol(name)

    def _length(self, axis: Axis) -> Expr | int:
        if axis.block is not None:
            return axis.block
        if axis.name not in self._given:
            self._given[axis.name] = self._symbol(axis.name)
            if whole(axis):
                self._k.require(axis.extent % self._given[axis.name] == 0)
        return self._given[axis.name]

    def _each(self, tile: Tile) -> Expr:
        """Elements of a tile that a thread holds."""
        known = "_".join(str(a.number) if a.number is not None else f"x{a.block}" for a in tile)
        return self._derive(f"elements_{known or 'one'}", lambda given: max(elements(tile, given) // given["threads"], 1))

    # -- the whole

    def _described(self) -> Kernel:
        k, threads = self._k, self._given["threads"]
        for touch in all_of(Touch, self._reading.events):
            self._declare(touch)
        k.launch_bound(threads)
        k.registers_per_thread(self._symbol("thread_registers"))
        grid = self._reading.grid
        tiles = [ceil_div(a.extent, self._length(a)) for a in grid]
        with k.blocks(*self._extents(tiles)) as blocks, k.threads(threads) as thread:
            found = self._tiles(blocks if isinstance(blocks, tuple) else (blocks,), tiles)
            for axis, tile in zip(grid, found, strict=True):
                self._place(axis, tile)
            self._body(self._reading.events, thread)
        params = (*self._given, *(n for s in self._spreads.values() for n in s.names()), *self._derived)
        return k.result(params, ())

    def _extents(self, tiles: Sequence[Expr]) -> Sequence[Expr]:
        """Blocks along the axes of the launch."""
        if self._numbered == "row":
            return (reduce(operator.mul, tiles),)
        if self._numbered == "axes":
            return tiles
        group = self._symbol(GROUP)
        self._given[GROUP] = group
        self._k.require(tiles[0] % group == 0)
        return group, tiles[1], tiles[0] // group

    def _tiles(self, blocks: tuple[Expr, ...], tiles: Sequence[Expr]) -> tuple[Expr, ...]:
        """A block's tile along each axis of the grid.

        In groups: so many tiles of the first axis, then the next of the second, and when it is through the next so many.
        """
        if self._numbered == "axes":
            return blocks
        if self._numbered == "groups":
            return blocks[2] * self._symbol(GROUP) + blocks[0], blocks[1]
        found, left = [], blocks[0]
        for count in tiles[:-1]:
            found.append(left % count)
            left = left // count
        return (*found, left)

    # -- loops to the edge of a tile

    def _place(self, axis: Axis, tile: Expr) -> None:
        """Remember which tile of an axis a program or a step is at."""
        start = axis.low if isinstance(axis.low, int) else self._edge(axis.low)
        self._number[axis], self._position[axis] = tile, start + tile * self._length(axis)

    def _edge(self, edge: Edge) -> Any:
        return self._position[edge.axis] + (self._length(edge.axis) if edge.end else 0)

    def _steps(self, axis: Axis) -> Expr:
        low, high = axis.low, axis.high
        if isinstance(low, int) and high is None:
            return ceil_div(axis.extent - low, self._length(axis))
        outer = axis.edges()[0].axis
        parts = self._derive(f"{axis.name}_in_{outer.name}", lambda given: outer.length(given) // axis.length(given))
        if high is None:
            return ceil_div(axis.extent, self._length(axis)) - self._number[outer] * parts
        return parts if low != 0 else (self._number[outer] + int(high.end)) * parts

    # -- accesses

    def _declare(self, touch: Touch) -> None:
        if touch.array not in self._arrays:
            shape, strides = ([of[d] for d in _order(touch)] for of in (touch.shape, touch.strides))
            self._arrays[touch.array] = self._k.buffer(touch.array, shape, DTYPES[touch.dtype], strides=strides)

    def _body(self, events: Sequence[Event], thread: Expr) -> None:
        efforts: dict[Tile, list[Effort]] = {}
        for event in events:
            if isinstance(event, Effort):
                efforts.setdefault(event.tile, []).append(event)
                continue
            self._efforts(efforts)
            match event:
                case Touch():
                    self._touch(event, thread)
                case Reduce():
                    self._reduce(event, thread)
                case Multiply():
                    self._multiply(event, thread)
                case Repeat():
                    self._repeat(event, thread)
        self._efforts(efforts)

    def _repeat(self, event: Repeat, thread: Expr) -> None:
        axis = event.axis
        stages = self._given["stages"] if any(t.operand for t in all_of(Touch, event.body)) else 1
        with self._k.serial(self._steps(axis), f"tile_{axis.number}", stages=stages) as step:
            self._place(axis, step)
            self._body(event.body, thread)

    def _name(self, text: str) -> str:
        self._names[text] += 1
        return text if self._names[text] == 1 else f"{text} #{self._names[text]}"

    def _touch(self, touch: Touch, thread: Expr) -> None:
        k, item = self._k, DTYPES[touch.dtype]
        order, widest = spread_of(touch, item.itemsize)
        spread = self._spread(tuple(touch.tile[n] for n in order), widest)
        wide = self._symbol(spread.wide())
        with ExitStack() as stack:
            steps = [stack.enter_context(k.unrolled(self._symbol(spread.steps(d)), "r")) for d in range(len(spread.tile))]
            inside, rest = self._coordinates(spread, steps, thread)
            at: dict[int, Any] = {}
            for n, axis in enumerate(touch.tile):
                start = self._position.get(axis, 0) if axis.number is not None else 0
                at[n] = start + inside[order.index(n)]
            checks: list[Comparison | bool] = [rest < 1] if spread.tile else [thread < 1]
            masked = [n for n, axis in enumerate(touch.tile) if not whole(axis) and any(p.scale for p in touch.places)]
            checks += [at[n] < touch.tile[n].extent for n in masked]
            index = [self._index(touch, d, at) for d in _order(touch)]
            stack.enter_context(k.when(*checks))
            reference = self._arrays[touch.array][tuple(index)].wide(wide)
            name = self._name(f"{'store' if touch.store else 'load'} {touch.array}")
            if touch.operand and spread.tile:
                k.do(name, loads=reference, stores=self._staged(touch, spread, steps, thread).wide(wide), asynchronous=True)
            else:
                k.do(name, **{"stores" if touch.store else "loads": reference})

    def _spread(self, tile: Tile, widest: int) -> Spread:
        if (tile, widest) not in self._spreads:
            made = self._spreads[tile, widest] = Spread(tile, widest, len(self._spreads))
            left: Any = self._given["threads"]
            for d in range(len(tile)):
                self._k.require(left % self._symbol(made.across(d)) == 0)
                left = left // self._symbol(made.across(d))
        return self._spreads[tile, widest]

    def _coordinates(self, spread: Spread, steps: Sequence[Expr], thread: Expr) -> tuple[list[Any], Any]:
        """A thread's first element along each dimension of a tile, and the number of the copy that it holds."""
        found: list[Any] = []
        rest: Any = thread
        for d in range(len(spread.tile)):
            across = self._symbol(spread.across(d))
            wide: Any = self._symbol(spread.wide()) if d == 0 else 1
            found.append(steps[d] * (across * wide) + (rest % across) * wide)
            rest = rest // across
        return found, rest

    def _index(self, touch: Touch, dimension: int, at: dict[int, Any]) -> Any:
        place, number = touch.places[dimension], touch.dimensions[dimension]
        if place.axis is None or number is None:
            return place.offset
        position = at[number]
        if place.by_data:
            return position % touch.shape[dimension] if place.axis.extent > touch.shape[dimension] else position
        return position * place.scale + place.offset

    def _staged(self, touch: Touch, spread: Spread, steps: Sequence[Expr], thread: Expr) -> Any:
        """Where an operand's piece lies in shared memory: in the order of threads, as the swizzle spares bank conflicts."""
        name = self._name(f"staged_{touch.array}").replace(" #", "_")
        threads, buffers = self._given["threads"], self._derive("buffers", self._buffers)
        each = self._derive(f"{name}_pieces", lambda given: _product(spread.sizes(given), spread))
        wide = self._symbol(spread.wide())
        held = self._k.shared(name, (buffers * each * threads * wide,), DTYPES[touch.dtype], dynamic=True)
        step: Any = 0
        for d, r in enumerate(steps):
            step = step * self._symbol(spread.steps(d)) + r
        return held[(step * threads + thread) * wide]

    def _buffers(self, given: dict[str, int]) -> int:
        """Stages held in shared memory: one less than the pipeline has, but all of them for warp groups.

        Source: `metadata.shared` of Triton 3.7.1 on products of matrices, sm_80 and sm_90, 1 to 4 stages.
        """
        groups = (
            self._warp_groups
            and given["threads"] >= WARP_GROUP
            and any(p.rows.length(given) >= 64 for p in all_of(Multiply, self._reading.events))
        )
        return max(given["stages"] - (0 if groups else 1), 1)

    # -- arithmetic

    def _efforts(self, waiting: dict[Tile, list[Effort]]) -> None:
        for tile, efforts in waiting.items():
            each = self._each(tile)
            totals: Counter[tuple[str, str]] = Counter()
            for effort in efforts:
                totals[effort.kind, effort.dtype] += effort.amount
            work = [_work(self._k, kind, dtype, each * n) for (kind, dtype), n in totals.items()]
            self._k.do(self._name("arithmetic"), work=work)
        waiting.clear()

    def _reduce(self, event: Reduce, thread: Expr) -> None:
        """Each thread its own elements, then the lanes of a warp, then the warps."""
        k, item = self._k, DTYPES[event.dtype if event.dtype in ("f64", "i64", "i32") else "f32"]
        name = self._name("reduce")
        work = k.add(item, self._each(event.tile)) if item.kind == "float" else k.integer(item, self._each(event.tile))
        k.do(name, work=work)
        along = event.along
        number = self._names["reduce"]
        if along is None:
            return

        def threads_along(given: dict[str, int]) -> int:
            others = elements(event.tile, given) // along.length(given)
            return max(min(along.length(given), given["threads"] // min(others, given["threads"])), 1)

        def kept(given: dict[str, int]) -> int:
            return max(elements(event.tile, given) // along.length(given) * threads_along(given) // given["threads"], 1)

        words = self._derive(f"kept_{number}", kept)
        rounds = self._derive(f"shuffles_{number}", lambda given: max(min(threads_along(given), 32).bit_length() - 1, 1))
        sharing = self._derive(f"sharing_{number}", threads_along)
        lanes = k.exchange(f"lanes_{number}", 32, item)
        with k.when(sharing > 1), k.serial(rounds, "shuffle"), k.unrolled(words, "word"):
            k.do(f"{name}: shuffle", loads=lanes[thread % 32], work=k.add(item) if item.kind == "float" else k.integer(item))
        partial = k.shared(f"partial_{number}", (self._given["threads"],), item)
        with k.when(sharing > 32):
            k.store(partial[thread], name=f"{name}: of each warp")
            k.barrier()
            k.load(partial[thread], name=f"{name}: of all warps")
            k.barrier()

    def _multiply(self, event: Multiply, thread: Expr) -> None:
        k, number = self._k, self._names["multiply"]
        name = self._name("multiply")
        item = DTYPES[event.dtype]
        k.barrier()
        for side, axis in (("left", event.rows), ("right", event.columns)):
            each = self._derive(f"{side}_{number}", fragments(event, axis, item.itemsize))
            wide = 16 // item.itemsize
            lanes = k.exchange(f"operand_{side}_{number}", 32 * wide, item)
            with k.unrolled(each, "piece"):
                k.load(lanes[thread % 32 * wide].wide(wide), name=f"{name}: {side} operand")
        depth = self._derive(f"depth_{number}", lambda given: max(event.depth.length(given) // 16, 1))
        share = self._derive(f"products_{number}", products(event))
        with k.unrolled(depth, "inner"):
            k.do(name, work=k.mma(share, 1, 1, item))


def _order(touch: Touch) -> list[int]:
    """An array's dimensions as they lie in memory, the fastest last."""
    return sorted(range(len(touch.shape)), key=lambda d: (-(touch.strides[d] or 1 << 62), touch.shape[d]))


def _product(sizes: dict[str, int], spread: Spread) -> int:
    count = 1
    for d in range(len(spread.tile)):
        count *= sizes[spread.steps(d)]
    return count


def _work(k: Builder, kind: str, dtype: str, amount: Expr) -> Work:
    return {"add": k.add, "special": k.special, "convert": k.convert, "integer": k.integer}[kind](DTYPES[dtype], amount)
