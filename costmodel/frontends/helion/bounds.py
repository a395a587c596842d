"""Loops that start or end at the edge of a tile, under one configuration: which of them take several of those tiles at once.

A loop over tiles of 64 up to the end of a tile of 128 takes two steps for each of those, a loop over tiles of 256 one for two:
its programs are then described two by two, so that the steps are as many as pairs, which the counts can sum.
"""

from __future__ import annotations

from costmodel.errors import UnsupportedError
from costmodel.frontends.helion.events import Axis, Edge
from costmodel.frontends.helion.graphs import Reading
from costmodel.frontends.helion.spreading import whole

__all__ = ["coarse_axes"]

MOST_GRID_AXES = 3
MOST_POINTS = 1 << 13
"""Points that a count of masked elements may have to enumerate: a thousand configurations are counted in seconds."""


def coarse_axes(name: str, reading: Reading, sizes: dict[str, int]) -> frozenset[Axis]:
    """Axes whose tiles are larger than those at whose edge their loops end.

    Args:
        name: of the kernel.
        reading: what a program does.
        sizes: elements of a tile, by name.

    Raises:
        UnsupportedError: the steps of a loop are not even in these sizes.
    """
    found: set[Axis] = set()
    together: set[tuple[Axis, int]] = set()
    for axis in reading.bounded:
        outer = axis.edges()[0].axis
        length, other = axis.length(sizes), outer.length(sizes)
        where = f"Helion kernel {name}: a loop over tiles of {length} that starts or ends at the edge of a tile of {other}"
        if max(length, other) % min(length, other):
            raise UnsupportedError(f"{where}; expected sizes that divide each other")
        uneven = length > other or not whole(axis)
        counts = sorted((-(-outer.extent // other), -(-axis.extent // length), length))
        if uneven and axis.edges() != (Edge(outer, end=False), Edge(outer, end=True)) and counts[0] * counts[1] > MOST_POINTS:
            raise UnsupportedError(f"{where}, {axis.extent} elements long; expected a power of two and larger tiles outside")
        if length <= other:
            continue
        found.add(axis)
        if axis.low == 0 and axis.high is not None and axis.high.end:
            together.add((outer, length))
        elif axis.high is None or axis.low == 0:
            raise UnsupportedError(f"{where}; expected tiles that are not larger, or a loop from 0 to a tile's end")
        if together and (len(together) > 1 or outer not in reading.grid or len(reading.grid) == MOST_GRID_AXES):
            raise UnsupportedError(f"{where}; expected tiles that are not larger, or one such size in a grid of one or two axes")
    return frozenset(found)
