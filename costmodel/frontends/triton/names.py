"""What a kernel's statements and shared arrays are called: the line they are at, and the tensor that they hold."""

from __future__ import annotations

from collections.abc import Iterable

from costmodel.frontends.triton.events import Event, Stage, Touch, inner
from costmodel.symbols import is_identifier

__all__ = ["at_line", "staged"]

_ORDINALS = {1: "st", 2: "nd", 3: "rd"}


def at_line(what: str, line: int, number: int) -> str:
    """`load x (line 53)`, and `load x (line 53, 2nd)` for the second such statement of a line."""
    if number == 1:
        return f"{what} (line {line})"
    ending = "th" if number % 100 in (11, 12, 13) else _ORDINALS.get(number % 10, "th")
    return f"{what} (line {line}, {number}{ending})"


def staged(events: Iterable[Event]) -> dict[str, tuple[str, int]]:
    """What each tile in shared memory holds, and the line that puts it there: an array, else a variable of the kernel.

    `staged_a`, or `tma_a` where a descriptor copies it.
    """
    arrays: dict[str, tuple[str, int]] = {}
    variables: dict[str, tuple[str, int]] = {}
    for event in inner(events):
        if isinstance(event, Touch) and event.tile is not None:
            arrays.setdefault(event.tile.name, (f"{'tma' if event.whole else 'staged'}_{event.buffer}", event.where.line))
        elif isinstance(event, Stage) and event.kind == "store":
            name = event.where.name if is_identifier(event.where.name) else "tile"
            variables.setdefault(event.tile.name, (f"staged_{name}", event.where.line))
    return variables | arrays
