"""How a tile is spread over the threads of a block, in Triton's blocked layout, and what products of matrices read of it.

The fastest dimension comes first. A thread holds up to 16 bytes side by side, as many lanes as fit go along the fastest
dimension, the next ones along the others, and what is left is held again by each thread a tile further on. Threads beyond the
tile hold copies, which are left out. Source: Triton, `lib/Dialect/TritonGPU/Transforms/Coalesce.cpp` and `BlockedEncodingAttr`
(`TritonGPUAttrDefs.td`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from costmodel.frontends.helion.events import Axis, Multiply, Tile, Touch, elements

__all__ = ["Derived", "Spread", "fragments", "products", "spread_of", "whole"]

WIDEST_BYTES = 16
Derived = Callable[[dict[str, int]], int]
"""A size that follows from others."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A tile's layout, as names of sizes; equal tiles share one."""

    tile: Tile
    """Fastest first."""
    widest: int
    """Elements that a thread may take at once, as strides and ends of rows allow."""
    number: int

    def wide(self) -> str:
        """Size: elements at once."""
        return f"wide_{self.number}"

    def across(self, dimension: int) -> str:
        """Size: threads along a dimension."""
        return f"across_{self.number}_{dimension}"

    def steps(self, dimension: int) -> str:
        """Size: how often the threads take a stretch of a dimension."""
        return f"steps_{self.number}_{dimension}"

    def names(self) -> tuple[str, ...]:
        """All sizes."""
        pairs = [(self.across(d), self.steps(d)) for d in range(len(self.tile))]
        return (self.wide(), *(name for pair in pairs for name in pair))

    def sizes(self, given: dict[str, int]) -> dict[str, int]:
        """Values for a configuration's sizes."""
        threads = given["threads"]
        lengths = [axis.length(given) for axis in self.tile]
        wide = min(self.widest, lengths[0] if lengths else 1, max(1, elements(self.tile, given) // threads))
        found, left = {self.wide(): wide}, threads
        for d, length in enumerate(lengths):
            pieces = length // (wide if d == 0 else 1)
            across = min(left, pieces)
            left //= across
            found |= {self.across(d): across, self.steps(d): pieces // across}
        return found


def spread_of(touch: Touch, itemsize: int) -> tuple[tuple[int, ...], int]:
    """The order of the tile's axes, fastest first, and how many elements can be taken at once."""
    steps: dict[int, int] = {}
    for place, stride, n in zip(touch.places, touch.strides, touch.dimensions, strict=True):
        if n is not None:
            step = abs(stride * place.scale) if not place.by_data else 1 << 61
            steps[n] = min(steps.get(n, 1 << 62), step or 1 << 61)  # a dimension that repeats itself is not side by side
    order = tuple(sorted(range(len(touch.tile)), key=lambda n: (steps[n], -n)))
    if not order or steps[order[0]] != 1:
        return order, 1
    others = [s for s, n in zip(touch.strides, touch.dimensions, strict=True) if n != order[0]]
    offsets = [p.offset * s for p, s in zip(touch.places, touch.strides, strict=True)]
    ends = [e for e in (touch.tile[order[0]].low, touch.tile[order[0]].extent) if isinstance(e, int)]
    return order, math.gcd(max(WIDEST_BYTES // itemsize, 1), *others, *offsets, *ends)


def _matrix_warps(product: Multiply, sizes: dict[str, int]) -> tuple[int, int]:
    """Warps along rows and columns of a product.

    Source: Triton, `lib/Dialect/TritonGPU/Transforms/AccelerateMatmul.cpp`, `warpsPerTileV2`: tiles of 16 × 8;
    products that feed each other, which it gives all warps along rows, are not told apart.
    """
    warps, rows, columns = sizes["threads"] // 32, 1, 1
    tall, broad = product.rows.length(sizes), product.columns.length(sizes)
    while rows * columns < warps:
        if tall / 16 / rows >= broad / 16 / columns and rows < tall / 16:
            rows *= 2
        else:
            columns *= 2
    return rows, columns


def fragments(event: Multiply, axis: Axis, itemsize: int) -> Derived:
    """16-byte pieces of an operand that a thread reads: each warp the rows or columns that it works on."""

    def derive(given: dict[str, int]) -> int:
        rows, columns = _matrix_warps(event, given)
        read = elements((*event.batch, axis, event.depth), given) * (columns if axis is event.rows else rows)
        return max(read * itemsize // (16 * given["threads"]), 1)

    return derive


def products(event: Multiply) -> Derived:
    """Multiply-adds of a warp in a stretch of 16 of the inner dimension."""

    def derive(given: dict[str, int]) -> int:
        tiles = elements((*event.batch, event.rows, event.columns, event.depth), given)
        return max(tiles // max(event.depth.length(given) // 16, 1) // (given["threads"] // 32), 1)

    return derive


def whole(axis: Axis) -> bool:
    """Whether all tiles of an axis are full, whatever their length: its extent is a power of two that tiles do not exceed."""
    if axis.block is not None:
        return axis.extent % axis.block == 0 and axis.low == 0
    return (
        axis.extent >= LARGEST_OVERSHOOT and axis.extent & (axis.extent - 1) == 0 and not (isinstance(axis.low, int) and axis.low)
    )


LARGEST_OVERSHOOT = 64
"""A tile of a product may exceed its dimension up to here. Source: helion 1.5.1, `autotuner/config_spec.py`."""
