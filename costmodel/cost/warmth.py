"""What earlier launches left in L2: said for each buffer.

Without a word, each launch uses the same memory as the one before (`warm=1`), as timing loops do. `warm={}` is a cold cache;
`warm={"X": 1, "W": 6}` says that the next launch touches the same X again, that six different W take turns, and that all else is
always new. Between two uses of a buffer the others pass through L2: one that comes back after n launches meets n of each that is
always new, and at most as many of the others as take turns. What all of them take gives the share of the buffer that is gone by
then. A buffer that the launch itself fills before it reads it (partial sums) is warm with n = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from costmodel.charges.caches import lost_by_age
from costmodel.cost.memory import AccessTotals
from costmodel.errors import SizeError
from costmodel.ir import Description, Kernel

__all__ = ["BACK_TO_BACK", "Warm", "checked_warm", "lost_between_launches", "reuse_distance", "scratch"]

Floats = npt.NDArray[np.float64]
Warm = Mapping[str, int]
"""Global buffer to launches until the same memory is used again: 1 for every launch, n where n copies take turns."""
BACK_TO_BACK = 1
"""Of all buffers, if nothing else is said."""


def checked_warm(warm: Warm | int, kernel: Kernel | Description) -> Warm | int:
    """What was given.

    Raises:
        SizeError: a name is no global buffer of the kernel, or a number is not at least 1.
    """
    for name, launches in (warm if isinstance(warm, Mapping) else {"": warm}).items():
        if isinstance(launches, bool) or not isinstance(launches, int) or launches < 1:
            what = f"warm[{name!r}]" if name else "warm"
            raise SizeError(f"{kernel.name}: {what}={launches!r}: expected launches until it is used again, at least 1")
        names = [b.name for b in kernel.buffers if b.space == "global"] if isinstance(kernel, Kernel) else [name]
        if name and name not in names:
            raise SizeError(f"{kernel.name}: warm: no global buffer {name!r}; it has {', '.join(names) or 'none'}")
    return warm


def scratch(accesses: Sequence[AccessTotals]) -> frozenset[str]:
    """Buffers that a launch fills before it reads them: later statements find them in L2."""
    first: dict[str, str] = {}
    for t in accesses:
        first.setdefault(t.plan.access.buffer.name, t.plan.kind)
    read = {t.plan.access.buffer.name for t in accesses if t.plan.kind == "load"}
    return frozenset(name for name, kind in first.items() if kind == "store" and name in read)


def reuse_distance(buffer: str, sizes: Mapping[str, Floats], warm: Warm) -> Floats:
    """Distinct bytes that are touched between two uses of a buffer, its own among them; infinite where it is cold.

    Args:
        buffer: its name.
        sizes: distinct bytes that one launch touches, of each buffer.
        warm: launches until a buffer is used again; others are always new.

    Example:
        >>> sizes = {"X": np.array([1e6]), "W": np.array([4e6])}
        >>> reuse_distance("W", sizes, {"X": 1, "W": 6})  # six W and one X
        array([25000000.])
        >>> reuse_distance("X", sizes, {"X": 1, "W": 6})  # one X and one W
        array([5000000.])
    """
    if buffer not in warm:
        return np.full(1, np.inf)
    launches = warm[buffer]
    return sum((min(warm.get(name, launches), launches) * size for name, size in sizes.items()), np.zeros(1))


def lost_between_launches(
    accesses: Sequence[AccessTotals], sizes: Mapping[str, Floats], warm: Warm | int, capacity_bytes: float
) -> dict[str, tuple[Floats, Floats]]:
    """For each buffer the reuse distance, and the share that L2 has lost when it is used again."""
    launches = warm if isinstance(warm, Mapping) else dict.fromkeys(sizes, warm)
    launches = dict.fromkeys(scratch(accesses), 1) | dict(launches)
    distances = {name: reuse_distance(name, sizes, launches) for name in sizes}
    return {name: (d, lost_by_age(np.minimum(d, _FAR * capacity_bytes), capacity_bytes)) for name, d in distances.items()}


_FAR = 1e6
"""Capacities after which nothing is left."""
