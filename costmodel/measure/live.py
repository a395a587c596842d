"""What the harness asks of one live GPU, with no vendor's library named.

`CudaGpu` and `RocmGpu` do it on hardware, a fake does it in tests. Buffers are torch tensors on every
GPU, so allocation, streams and events need no second interface.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import MeasureError

__all__ = ["Clocks", "CompileError", "Gpu", "GpuError", "Launch", "OutOfMemoryError", "Program", "StickyError"]


class GpuError(MeasureError):
    """There is no GPU to measure on, or a library is missing; says which and how to install it."""


class CompileError(MeasureError):
    """The run-time compiler refused a source; carries its log."""


class OutOfMemoryError(MeasureError):
    """Device memory is exhausted; the context survives."""


class StickyError(MeasureError):
    """The GPU's context is lost: every later call of this process fails, which only a new process heals."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Shape of one launch."""

    grid: tuple[int, int, int]
    """Blocks in x, y, z."""
    block: tuple[int, int, int]
    """Threads of a block in x, y, z."""
    shared_bytes: int = 0
    """Dynamic shared memory of a block."""
    shared_carveout: int | None = None
    """Share of the L1 storage asked for as shared memory, in percent; None leaves it to the driver."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """One reading of the GPU's state; None where it cannot be read."""

    sm_hz: float | None
    """Core clock."""
    memory_hz: float | None
    """Memory clock as the vendor's library names it (half of the data rate on DDR and HBM)."""
    power_w: float | None
    """Board power."""
    temperature_c: float | None
    """Of the core."""


class Program(Protocol):
    """One compiled entry."""

    @property
    def registers(self) -> int:
        """Of a thread."""

    @property
    def static_shared_bytes(self) -> int:
        """Of a block."""

    @property
    def local_bytes(self) -> int:
        """Of a thread: spills, and arrays that are indexed at run time."""

    @property
    def binary(self) -> bytes:
        """Machine code, empty where the library keeps it to itself."""


class Gpu(Protocol):
    """One live GPU."""

    @property
    def name(self) -> str:
        """As the driver tells it."""

    @property
    def architecture(self) -> str:
        """What is compiled for: `sm_90`, `gfx942`."""

    def facts(self) -> dict[str, Any]:
        """Return versions, limits and state: plain values, fit for JSON."""

    def clocks(self) -> Clocks:
        """Read clocks, power and temperature."""

    def build(self, source: str, entry: str, macros: Mapping[str, int | str]) -> Program:
        """Compile a source at run time and load one `extern "C" __global__` function of it.

        Raises:
            CompileError: the compiler refuses it; the message is its log.
        """

    def start(self, program: Program, launch: Launch, arguments: Sequence[Any]) -> None:
        """Launch on torch's current stream and return at once.

        Args:
            program: of `build`.
            launch: its shape.
            arguments: torch tensors (passed as pointers) and NumPy scalars (passed as they are).

        Raises:
            MeasureError: the driver refuses the launch (`OutOfMemoryError`, `StickyError` where it is one).
        """

    def fill_constant(self, program: Program, name: str, values: NDArray[Any]) -> None:
        """Copy an array into a `__constant__` symbol."""

    def times_s(self, run: Callable[[], object], repeats: int, before: Callable[[], object] | None = None) -> NDArray[np.float64]:
        """Time a run several times by events of the GPU.

        One run goes untimed ahead of them. Ahead of each timed run the stream is held long enough for the host
        to enqueue it whole, so that no time of the host lies between the two events.

        Args:
            run: enqueues work on torch's current stream.
            repeats: how many times are taken.
            before: is enqueued ahead of each first event.

        Returns:
            Seconds, in order.

        Raises:
            MeasureError: the work fails (`OutOfMemoryError`, `StickyError` where it is one).
        """

    def flush_l2(self) -> None:
        """Enqueue what leaves the L2 full of clean lines that no kernel under measurement reads."""

    def synchronize(self) -> None:
        """Wait for all work.

        Raises:
            MeasureError: some of it failed (`StickyError` where the context is lost).
        """

    def explain(self, error: Exception) -> MeasureError | None:
        """Return what an exception of torch, Triton or the driver means for a sweep; None if it is not the GPU's."""
