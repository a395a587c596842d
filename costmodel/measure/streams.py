"""Timing by torch's events, the L2 flush, and arguments as a driver takes them: alike on CUDA and ROCm."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import MeasureError

__all__ = ["Flush", "Packed", "event_times_s", "packed"]

_HOLD_HZ = 2.0e9
_EVENTS_S = 60e-6
"""Host's time to enqueue the hold and two events, with room: some 10 µs each through torch."""
_LONGEST_HOLD_S = 20e-3


@dataclass(frozen=True, slots=True)
class Packed:
    """Arguments of one launch in memory; `address` is that of an array of pointers to them (`void **kernelParams`)."""

    address: int
    """0 where there are none."""
    kept: tuple[Any, ...]
    """What must outlive the call."""


def packed(arguments: Sequence[Any]) -> Packed:
    """Lay out arguments for `cuLaunchKernel` and `hipModuleLaunchKernel`.

    Args:
        arguments: tensors (anything with `data_ptr`) become 64-bit pointers; NumPy scalars keep their bytes.

    Raises:
        MeasureError: a Python number, whose width a kernel cannot know, or something else.
    """
    cells = []
    for position, argument in enumerate(arguments):
        if hasattr(argument, "data_ptr"):
            content = int(argument.data_ptr()).to_bytes(8, "little")
        elif isinstance(argument, np.generic):
            content = argument.tobytes()
        else:
            raise MeasureError(
                f"argument {position}: expected a tensor or a NumPy scalar, got {argument!r} ({type(argument).__name__}); "
                "write np.int32(…), np.int64(…) or np.float32(…) as the kernel declares it"
            )
        cells.append(ctypes.create_string_buffer(content, len(content)))
    if not cells:
        return Packed(0, ())
    pointers = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(cell) for cell in cells))
    return Packed(ctypes.addressof(pointers), (pointers, *cells))


class Flush:
    """Two buffers of twice the L2: one is overwritten, then the other read.

    The overwriting alone would leave the L2 full of dirty lines, whose eviction the kernel under measurement would pay for.
    """

    def __init__(self, torch: Any, device: Any, l2_bytes: int) -> None:
        """Take the buffers."""
        elements = max(2 * l2_bytes, 32 << 20) // 4
        self._written = torch.zeros(elements, dtype=torch.int32, device=device)
        self._read = torch.zeros(elements, dtype=torch.int32, device=device)

    def __call__(self) -> None:
        """Enqueue the overwriting and the reading."""
        self._written.zero_()
        self._read.max()


def event_times_s(
    torch: Any, run: Callable[[], object], repeats: int, before: Callable[[], object] | None = None
) -> NDArray[np.float64]:
    """Time `run` as `Gpu.times_s` says; exceptions are torch's."""
    run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    if before is not None:
        before()
    run()
    host_s = time.perf_counter() - start
    torch.cuda.synchronize()
    hold = int(_HOLD_HZ * min(2 * host_s + _EVENTS_S, _LONGEST_HOLD_S))
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for first, last in pairs:
        torch.cuda._sleep(hold)
        if before is not None:
            before()
        first.record()
        run()
        last.record()
    torch.cuda.synchronize()
    return np.array([first.elapsed_time(last) * 1e-3 for first, last in pairs])
