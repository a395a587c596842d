"""A bound Helion kernel's graphs, as one configuration rolls its reductions, read as events.

Tiles are known by Helion's block numbers, which its facts give too (`config_spec.memory_op_facts`); graphs add the loops around
each access and the arithmetic between. Source: helion 1.5.1, `_compiler/device_ir.py` (`build_codegen_graphs`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from costmodel.errors import UnsupportedError
from costmodel.frontends.helion.events import Axis, Edge, Effort, Event, Multiply, Place, Reduce, Repeat, Tile, Touch
from costmodel.frontends.helion.operations import DTYPE_NAMES, FREE, PRODUCTS, efforts
from costmodel.frontends.helion.spreading import whole

__all__ = ["Reader", "Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read."""

    grid: tuple[Axis, ...]
    """Axes of the grid, fastest first."""
    events: tuple[Event, ...]
    bounded: tuple[Axis, ...]
    """Axes whose loops start or end at a tile's edge."""
    notes: tuple[str, ...]


class Reader:
    """Reads the graphs of one structure of configurations."""

    def __init__(self, bound: Any, config: Any) -> None:
        self.bound, self.env, self.config = bound, bound.env, config
        self.name = bound.kernel.name
        self.axes: dict[int, Axis] = {}
        self.notes: list[str] = []
        self.graphs: list[Any] = []
        self.bounded: list[Axis] = []
        self.line = ""

    def read(self) -> Reading:
        """The grid and what a program does.

        Raises:
            UnsupportedError: something is not understood.
        """
        ir = self.bound.host_function.device_ir
        if len(ir.root_ids) != 1:
            self._at(next(reversed(ir.graphs[ir.root_ids[1]].graph.nodes), None))
            raise self.unsupported(f"{len(ir.root_ids)} loops over the grid", "one hl.tile or hl.grid at the top")
        self.graphs = ir.build_codegen_graphs(self.config)
        numbers = list(ir.grid_block_ids[0])
        orders = [list(o) for o in self.config.loop_orders]
        order = next((o for o in orders if len(o) == len(numbers)), list(range(len(numbers))))
        grid = tuple(self.axis(numbers[n]) for n in order)
        events = self._graph(self.graphs[ir.root_ids[0]].graph)
        return Reading(grid, events, tuple(dict.fromkeys(self.bounded)), tuple(dict.fromkeys(self.notes)))

    def unsupported(self, what: str, expected: str) -> UnsupportedError:
        """An error that names the kernel and the line."""
        return UnsupportedError(f"Helion kernel {self.name}{self.line}: {what}; expected {expected}")

    def _at(self, node: Any) -> None:
        """Remember the source line of a node."""
        location = getattr(node, "meta", {}).get("location")
        if location is not None:
            self.line = f", {Path(location.filename).name}:{location.lineno}"

    # -- tiles

    def axis(self, number: int) -> Axis:
        """The axis of a block."""
        import torch

        number = self.env.canonical_block_id(number)
        if number not in self.axes:
            info = self.env.block_sizes[number]
            if not isinstance(info.size, int | torch.SymInt):
                raise self.unsupported(f"loop over block {number}: its end is data", "loops whose ends are sizes")
            self.axes[number] = Axis(number, max(self.env.size_hint(info.size), 1), self._fixed(info))
        return self.axes[number]

    def _fixed(self, info: Any) -> int | None:
        """The tile's length where no configuration of this structure changes it."""
        source = type(info.block_size_source).__name__
        length = info.from_config(self.config)
        if source == "LoopSpecBlockSizeSource":
            return 1 if self.env.known_equal(info.size, 1) else None
        if source == "ReductionLoopBlockSizeSource":
            loops = self.env.config_spec.reduction_loops
            chunk = loops.config_get(self.config.reduction_loops, info.block_id, None)
            return None if chunk is not None else int(length)
        if not isinstance(length, int):
            raise self.unsupported(f"block {info.block_id}: its size is {length}", "a number or a tunable")
        return length

    def tile(self, value: Any) -> Tile:
        """The axes of a value, without those of one element."""
        found = []
        for extent in value.shape:
            axis = self._dimension(extent)
            if axis.block != 1 or axis.number is not None:
                found.append(axis)
        return tuple(found)

    def _dimension(self, extent: Any) -> Axis:
        number = self.env.resolve_block_id(extent)
        if number is not None and (not isinstance(extent, int) or self.env.block_sizes[number].reduction):
            return self.axis(number)
        length = self.env.size_hint(extent)
        return Axis(None, length, 1 << (length - 1).bit_length() if length > 1 else 1)

    # -- graphs

    def _graph(self, graph: Any) -> tuple[Event, ...]:
        """What a body does; a tile that is loaded again with no store between is loaded once.

        Source: what Triton 3.7.1 compiles (`test_the_compiled_code_asks_for_the_same_bytes`), with one eviction policy for both.
        """
        found: list[Event] = []
        loads: dict[Touch, int] = {}
        for event in (e for node in graph.nodes if node.op == "call_function" for e in self._node(node)):
            if _stores(event):
                loads.clear()
            elif isinstance(event, Touch):
                known = loads.setdefault(replace(event, operand=False), len(found))
                if known < len(found):
                    if event.operand:
                        found[known] = event
                    self.notes.append(
                        f"array {event.array}: a tile that is loaded twice alike is loaded once, as Triton compiles it"
                    )
                    continue
            found.append(event)
        return tuple(found)

    def _node(self, node: Any) -> Iterator[Event]:
        name = _short(node.target)
        self._at(node)
        if name == "load" and _rearranged(node):
            return
        if name in ("load", "store") and "memory_ops" in str(getattr(node.target, "__module__", "")):
            yield self._touch(node, store=name == "store")
        elif name == "_for_loop":
            yield from self._loop(node)
        elif name in PRODUCTS:
            yield self._product(node, PRODUCTS[name])
        elif type(node.meta.get("lowering")).__name__ == "ReductionLowering":
            yield from self._reduction(node)
        elif name in ("_inductor_lowering_extra", "mean", "var", "var_mean"):
            yield from self._mean(node)
        elif name not in FREE:
            yield from self._pointwise(node, name)

    def _loop(self, node: Any) -> Iterator[Event]:
        number, begins, ends, *_ = node.args
        info = self.graphs[number]
        axes = [self._looped(*loop) for loop in zip(info.block_ids, begins, ends, strict=True)]
        body = self._graph(info.graph)
        for axis in reversed(axes):
            body = (Repeat(axis, body),)
        yield from body

    def _looped(self, number: int, begin: Any, end: Any) -> Axis:
        """The axis of a loop: from a number to a size, or up to a tile's edge, or from where a tile begins."""
        number, low, high = self.env.canonical_block_id(number), self._edge(begin), self._edge(end)
        if isinstance(high, Edge) and (low == 0 or low == Edge(high.axis, end=False)):
            extent = high.axis.extent
        elif isinstance(high, int) and (isinstance(low, int) or (low is not None and not low.end and low.axis.extent == high)):
            extent, high = high, None
        else:
            expected = (
                "loops between sizes, from 0 to a tile's begin or end, from a tile's begin to its end or to that of all tiles"
            )
            raise self.unsupported(f"a loop from {begin} to {end}", expected)
        axis = Axis(number, max(extent, 1), self._fixed(self.env.block_sizes[number]), low, high)
        self.axes[number] = axis
        if axis.edges():
            self.bounded.append(axis)
            if not whole(axis):
                self.notes.append("loops to the end of a tile take the steps of a full one at the last, for no bytes")
        return axis

    def _edge(self, value: Any) -> Edge | int | None:
        """Where a loop starts or ends; None if it is neither a size nor a tile's edge."""
        name = _short(value.target) if hasattr(value, "target") else ""
        if name in ("tile_begin", "tile_end"):
            number = self.env.resolve_block_id(value.args[0].meta["val"])
            return Edge(self.axis(number), name == "tile_end")
        return int(self.env.size_hint(value.meta["val"] if name else value)) if self._known(value) else None

    def _known(self, end: Any) -> bool:
        """Whether the end of a loop is a size that the arguments give."""
        import torch

        value = end.meta.get("val") if hasattr(end, "meta") else end
        if isinstance(value, int):
            return True
        from helion._compiler.compile_environment import _has_unbacked

        return isinstance(value, torch.SymInt) and not _has_unbacked(value._sympy_())

    def _pointwise(self, node: Any, name: str) -> Iterator[Event]:
        value = node.meta.get("val")
        if not hasattr(value, "shape"):
            if name in ("add", "sub", "mul", "floordiv", "mod", "neg", "sym_min", "sym_max"):
                return
            raise self.unsupported(f"operation {name} ({node.name})", "loads, stores, products, reductions, arithmetic")
        dtype = self.dtype(value)
        operands = [a.meta.get("val") for a in node.all_input_nodes]
        integers = all(self.dtype(v).startswith("i") for v in operands if hasattr(v, "dtype")) and dtype.startswith("i")
        found = efforts(name, dtype, integers)
        if found is None:
            raise self.unsupported(f"operation {name} ({node.name})", "loads, stores, products, reductions, arithmetic")
        for kind, of, amount in found:
            yield Effort(kind, of, self.tile(value), amount)

    def _reduction(self, node: Any) -> Iterator[Event]:
        """A sum, mean or maximum along axes of the largest tile that goes in."""
        inputs = [v for a in node.all_input_nodes if hasattr(v := a.meta.get("val"), "shape")]
        kept = _tensor(node.meta.get("val"))
        if not inputs or kept is None:
            raise self.unsupported(f"reduction {node.name}", "one of a tile")
        value = max(inputs, key=lambda v: len(self.tile(v)))
        left = [axis for axis in self.tile(value) if axis not in self.tile(kept)]
        yield Reduce(self.dtype(value), self.tile(value), left[0] if left else None)

    def _mean(self, node: Any) -> Iterator[Event]:
        """What follows a sum to make it a mean or a variance: a division."""
        kept = _tensor(node.meta.get("val"))
        if kept is not None:
            yield Effort("special", "f32", self.tile(kept), 1)

    def _product(self, node: Any, positions: tuple[int, int]) -> Event:
        left, right = (node.args[p].meta["val"] for p in positions)
        *batch, rows, depth = (self._dimension(e) for e in left.shape)
        columns = self._dimension(right.shape[-1])
        dtype = self.dtype(left)
        if dtype == "f32":
            dtype = self.env.settings.dot_precision
            if dtype != "tf32":
                raise self.unsupported(f"a product of fp32 in {dtype}", "dot_precision='tf32', or operands of 16 or 8 bits")
        return Multiply(dtype, tuple(batch), rows, columns, depth)

    # -- accesses

    def dtype(self, value: Any) -> str:
        """The name of a tensor's element type."""
        name = str(value.dtype).removeprefix("torch.")
        if name not in DTYPE_NAMES:
            raise self.unsupported(f"element type {name}", f"one of {', '.join(DTYPE_NAMES)}")
        return DTYPE_NAMES[name]

    def _touch(self, node: Any, *, store: bool) -> Touch:
        source = node.args[0]
        if _short(source.target) != "_host_tensor":
            raise self.unsupported(f"{node.name}: an access to {source}", "accesses to the kernel's arrays")
        array, held = str(source.args[0]), source.meta["val"]
        mask = node.args[3 if store else 2] if len(node.args) > (3 if store else 2) else None
        if mask is not None:
            raise self.unsupported(f"{node.name}: array {array} is masked by {mask}", "masks that tiles alone make")
        places = []
        gathered = any(self._by_data(s) for s in node.args[1])
        for position, subscript in enumerate(node.args[1]):
            places.append(self._place(array, held, position, subscript, gathered, store))
        axes: list[Axis] = []
        dimensions: list[int | None] = []
        for place in places:
            if place.axis is not None and (place.axis.number is None or place.axis not in axes):
                axes.append(place.axis)
                dimensions.append(len(axes) - 1)
            else:
                dimensions.append(None if place.axis is None else axes.index(place.axis))
        return Touch(
            store,
            array,
            self.dtype(held),
            tuple(self.env.size_hint(n) for n in held.shape),
            tuple(self.env.size_hint(n) for n in held.stride()),
            tuple(places),
            tuple(dimensions),
            tuple(axes),
            not store and self._multiplied(node),
        )

    def _by_data(self, subscript: Any) -> bool:
        value = subscript.meta.get("val") if hasattr(subscript, "meta") else None
        return hasattr(value, "shape") and self._affine(subscript) is None

    def _affine(self, subscript: Any) -> tuple[int, int, int] | None:
        """Block, factor and summand of an index that is a tile's."""
        from helion._compiler.device_ir_analysis import _subscript_affine

        number, scale, offset, single = _subscript_affine(self.env, self.bound.host_function, subscript)
        return None if number is None or offset is None or single else (number, scale, offset)

    def _place(self, array: str, held: Any, position: int, subscript: Any, gathered: bool, store: bool) -> Place:
        if not store and self.env.known_equal(held.shape[position], 1):
            affine = None if isinstance(subscript, slice) else self._affine(subscript)
            alone = affine is None or any(not self.env.known_equal(n, 1) for n in held.shape)
            return Place(None if affine is None or alone else self.axis(affine[0]), 0, 0, by_data=False)
        if isinstance(subscript, slice):
            if subscript != slice(None):
                raise self.unsupported(f"array {array}: the slice {subscript}", "whole dimensions or tiles")
            return Place(self._dimension(held.shape[position]), 1, 0, by_data=False)
        affine = self._affine(subscript)
        if affine is not None:
            return Place(self.axis(affine[0]), *affine[1:], by_data=False)
        value = subscript if isinstance(subscript, int) else subscript.meta.get("val")
        if isinstance(value, int):
            return Place(None, 1, value, by_data=False)
        if not hasattr(value, "shape"):
            number = self.env.resolve_block_id(value)
            if number is None or self.axis(number).block != 1:
                raise self.unsupported(f"array {array}: the index {subscript}", "tiles, whole dimensions, numbers or data")
            return Place(self.axis(number), 1, 0, by_data=False)
        axes = self.tile(value)
        if len(axes) != 1 or not gathered:
            raise self.unsupported(f"array {array}: data name {len(axes)} dimensions at once", "one dimension of a gather")
        self.notes.append(f"array {array}: data name its elements; taken to follow each other from the first")
        return Place(axes[0], 1, 0, by_data=True)

    def _multiplied(self, node: Any) -> bool:
        """Whether a load goes to a product, through nothing but conversions and views."""
        pending, seen = list(node.users), set()
        while pending:
            user = pending.pop()
            name = _short(user.target)
            if name in PRODUCTS:
                return True
            if user not in seen and name in ("permute", "transpose", "convert_element_type", "_mask_to", "subscript", "view"):
                seen.add(user)
                pending += list(user.users)
        return False


def _tensor(value: Any) -> Any:
    """The first tensor of a value."""
    if isinstance(value, list | tuple):
        return next((v for v in value if hasattr(v, "shape")), None)
    return value if hasattr(value, "shape") else None


def _stores(event: Event) -> bool:
    """Whether an event stores anything."""
    return event.store if isinstance(event, Touch) else isinstance(event, Repeat) and any(_stores(e) for e in event.body)


def _rearranged(node: Any) -> bool:
    """Whether a load is of a value and not of an array: dimensions added to a tile's indices."""
    return _short(node.args[0].target) != "_host_tensor" and all(s is None or s == slice(None) for s in node.args[1])


def _short(target: Any) -> str:
    """`add` of `aten.add.Tensor`; a function's name."""
    packet = getattr(target, "overloadpacket", None)
    return str(getattr(packet, "__name__", None) or getattr(target, "__name__", target))
