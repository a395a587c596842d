"""Loops that start or end at the edge of a tile: whether steps are whole numbers and elements countable in some sizes.

Helion itself keeps the tiles of a loop up to a tile's end no larger than that tile (1.5.1, `ConfigSpec.normalized_config`).
"""

from __future__ import annotations

from costmodel.errors import UnsupportedError
from costmodel.frontends.helion.graphs import Reading
from costmodel.frontends.helion.spreading import whole

__all__ = ["check_edges"]

MOST_POINTS = 1 << 13
"""Points that a count of masked elements may have to enumerate: a thousand configurations are counted in seconds."""


def check_edges(name: str, reading: Reading, sizes: dict[str, int]) -> None:
    """Refuse sizes that the description of a loop to or from a tile's edge cannot have.

    Args:
        name: of the kernel.
        reading: what a program does.
        sizes: elements of a tile, by name.

    Raises:
        UnsupportedError: tiles are larger than those at whose edge their loop starts or ends, or too many are not full.
    """
    for axis in reading.bounded:
        outer = axis.edges()[0].axis
        length, other = axis.length(sizes), outer.length(sizes)
        where = f"Helion kernel {name}: a loop over tiles of {length} that starts or ends at the edge of a tile of {other}"
        if other % length:
            raise UnsupportedError(f"{where}; expected tiles that divide it")
        few, more, _ = sorted((-(-outer.extent // other), -(-axis.extent // length), length))
        if not whole(axis) and len(axis.edges()) == 1 and few * more > MOST_POINTS:
            raise UnsupportedError(f"{where}, {axis.extent} elements long; expected a power of two, or larger tiles")
