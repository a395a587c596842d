"""What earlier launches left in L2: cold is the default, warm is said for each buffer.

`warm=1` says that each launch uses the same memory as the one before; `warm={"X": 1, "W": 6}` that the next launch touches the same
X again, and that six different W take turns. Between two uses of a buffer the other ones pass through L2: a buffer that comes back
after n launches meets n of each that is always new, and at most as many of the others as take turns. What all of them take against
the effective L2 gives the share of the buffer that is still there; reads of that share never reach memory, and neither do writes,
for the next ones replace them. A buffer that the launch itself fills before it reads it (partial sums) is warm with n = 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from costmodel.charges.caches import fits
from costmodel.cost.memory import AccessTotals
from costmodel.device import Device
from costmodel.errors import SizeError
from costmodel.ir import Kernel

__all__ = ["Warm", "checked_warm", "keep_warm", "resident_share"]

Floats = npt.NDArray[np.float64]
Warm = Mapping[str, int]
"""Global buffer to launches until the same memory is used again: 1 for every launch, n where n copies take turns."""


def checked_warm(warm: Warm | int | None, kernel: Kernel) -> dict[str, int]:
    """The buffers that are warm; one number holds for all of them.

    Raises:
        SizeError: a name is no global buffer of the kernel, or a number is not at least 1.
    """
    names = [b.name for b in kernel.buffers if b.space == "global"]
    given = {} if warm is None else warm if isinstance(warm, Mapping) else dict.fromkeys(names, warm)
    for name, launches in given.items():
        if isinstance(launches, bool) or not isinstance(launches, int) or launches < 1:
            raise SizeError(f"{kernel.name}: warm[{name!r}]={launches!r}: expected launches until it is used again, at least 1")
        if name not in names:
            raise SizeError(f"{kernel.name}: warm: no global buffer {name!r}; it has {', '.join(names) or 'none'}")
    return dict(given)


def resident_share(buffer: str, sizes: Mapping[str, Floats], warm: Warm, capacity_bytes: float) -> Floats:
    """Share of a buffer that L2 still holds when a launch starts.

    Args:
        buffer: its name; cold unless it is in `warm`.
        sizes: distinct bytes that one launch touches, of each buffer.
        warm: launches until a buffer is used again.
        capacity_bytes: of L2.

    Example:
        >>> sizes = {"X": np.array([1e6]), "W": np.array([4e6])}
        >>> resident_share("W", sizes, {"X": 1, "W": 6}, 20e6)  # 6 W and one X: 25 MB
        array([0.75])
        >>> resident_share("X", sizes, {"X": 1, "W": 6}, 20e6)  # one X and one W
        array([1.])
    """
    if buffer not in warm:
        return np.zeros(1)
    launches = warm[buffer]
    between = sum((min(warm.get(name, launches), launches) * size for name, size in sizes.items()), np.zeros(1))
    return fits(between, capacity_bytes)


def _scratch(accesses: Sequence[AccessTotals]) -> list[str]:
    """Buffers that a launch fills before it reads them: later statements find them in L2."""
    first: dict[str, str] = {}
    read = set()
    for t in accesses:
        if t.plan.whole is not None:
            first.setdefault(t.plan.access.buffer.name, t.plan.kind)
            read |= {t.plan.access.buffer.name} if t.plan.kind == "load" else set()
    return [name for name, kind in first.items() if kind == "store" and name in read]


def keep_warm(accesses: Sequence[AccessTotals], warm: Warm, device: Device) -> None:
    """Take away the memory traffic of what is in L2 already."""
    warm = dict.fromkeys(_scratch(accesses), 1) | dict(warm)
    if not warm:
        return
    sizes: dict[str, Floats] = {}
    for t in accesses:
        if t.plan.whole is not None:
            name = t.plan.access.buffer.name
            sizes[name] = np.maximum(sizes.get(name, np.zeros(1)), t.footprint_bytes)
    for t in accesses:
        name = t.plan.access.buffer.name
        if name in sizes and name in warm:
            t.dram_bytes = t.dram_bytes * (1.0 - resident_share(name, sizes, warm, float(device.l2.effective_capacity_bytes)))
