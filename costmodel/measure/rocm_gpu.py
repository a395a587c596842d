"""One live AMD GPU through torch: hiprtc compiles (`torch.cuda._compile_kernel`), HIP launches.

Written against torch 2.13's source (`torch/cuda/_utils.py`) and never run on such a GPU. torch's own launcher passes
Python ints and doubles only, so the launch goes through the HIP library that torch has loaded, with arguments laid out
as for CUDA. HIP numbers `hipFuncGetAttribute` as CUDA does.
"""

from __future__ import annotations

import ctypes
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import MeasureError
from costmodel.measure.live import Clocks, CompileError, Launch, OutOfMemoryError, Program, StickyError
from costmodel.measure.nvrtc import with_macros
from costmodel.measure.streams import Flush, event_times_s, packed

__all__ = ["RocmGpu", "RocmProgram"]

_NUM_REGS, _SHARED_SIZE_BYTES, _LOCAL_SIZE_BYTES = 4, 1, 3
_LOST = ("illegal memory access", "unspecified launch failure", "illegal address", "hipErrorLaunchFailure", "device-side assert")


@dataclass(frozen=True, slots=True)
class RocmProgram:
    """One loaded entry."""

    registers: int
    """Of a lane."""
    static_shared_bytes: int
    """Of a block."""
    local_bytes: int
    """Of a lane (scratch)."""
    kernel: Any
    """torch's handle, with `func` and `module`."""
    binary: bytes = b""
    """torch keeps it."""


class RocmGpu:
    """One AMD GPU; never run on one so far."""

    def __init__(self, index: int, torch: Any) -> None:
        """Take the GPU."""
        self._torch, self._index = torch, index
        torch.cuda.set_device(index)
        torch.zeros(1, device=f"cuda:{index}")
        self._hip = torch.cuda._utils._get_gpu_runtime_library()
        self._properties = torch.cuda.get_device_properties(index)
        self.name = str(torch.cuda.get_device_name(index))
        self.architecture = str(self._properties.gcnArchName).split(":")[0]
        self._flush: Flush | None = None

    def facts(self) -> dict[str, Any]:
        """Return versions, limits and state, as far as torch tells them."""
        p = self._properties
        given = {
            "sm_count": p.multi_processor_count,
            "warp_size": p.warp_size,
            "memory_bytes": p.total_memory,
            "threads_per_sm": p.max_threads_per_multi_processor,
            "l2_bytes": getattr(p, "L2_cache_size", None),
            "static_shared_bytes_per_block": getattr(p, "shared_memory_per_block", None),
            "shared_bytes_per_block": getattr(p, "shared_memory_per_block", None),
            "shared_bytes_per_sm": getattr(p, "shared_memory_per_multiprocessor", None),
            "memory_bus_bits": getattr(p, "memory_bus_width", None),
            "boost_hz": _times(getattr(p, "clock_rate", None), 1e3),
            "max_memory_hz": _times(getattr(p, "memory_clock_rate", None), 1e3),
        }
        return {
            "name": self.name,
            "vendor": "AMD",
            "architecture": self.architecture,
            "compute_capability": self.architecture,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "driver": f"HIP {self._torch.version.hip}",
            "compiler": f"hiprtc {self._torch.version.hip}",
            "torch": str(self._torch.__version__),
            **{key: value for key, value in given.items() if value is not None},
            "clocks": asdict(self.clocks()),
        }

    def clocks(self) -> Clocks:
        """Read the core clock and the power, which torch asks amdsmi for; None where that is not installed."""
        try:
            sm_hz = float(self._torch.cuda.clock_rate(self._index)) * 1e6
            power_w = float(self._torch.cuda.power_draw(self._index)) * 1e-3
        except Exception:
            return Clocks(None, None, None, None)
        return Clocks(sm_hz, None, power_w, None)

    def build(self, source: str, entry: str, macros: Mapping[str, int | str]) -> RocmProgram:
        """Compile by hiprtc and load one function."""
        try:
            kernel = self._torch.cuda._compile_kernel(with_macros(source, macros), entry)
        except RuntimeError as error:
            tried = "costmodel has never been tried on ROCm"
            raise CompileError(f"{entry} for {self.architecture}: hiprtc refuses it ({tried}): {error}") from None
        registers, shared, local = (self._of(kernel, n) for n in (_NUM_REGS, _SHARED_SIZE_BYTES, _LOCAL_SIZE_BYTES))
        return RocmProgram(registers, shared, local, kernel)

    def start(self, program: Program, launch: Launch, arguments: Sequence[Any]) -> None:
        """Launch on torch's current stream and return at once; HIP has no carve-out to ask for."""
        assert isinstance(program, RocmProgram)
        laid = packed(arguments)
        shape = [ctypes.c_uint(n) for n in (*launch.grid, *launch.block, launch.shared_bytes)]
        stream = ctypes.c_void_p(int(self._torch.cuda.current_stream().cuda_stream))
        pointers = ctypes.c_void_p(laid.address)
        self._check(self._hip.hipModuleLaunchKernel(program.kernel.func, *shape, stream, pointers, None), "hipModuleLaunchKernel")

    def fill_constant(self, program: Program, name: str, values: NDArray[Any]) -> None:
        """Copy an array into a `__constant__` symbol."""
        assert isinstance(program, RocmProgram)
        self.synchronize()
        address, length, content = ctypes.c_void_p(), ctypes.c_size_t(), np.ascontiguousarray(values)
        found = self._hip.hipModuleGetGlobal(ctypes.byref(address), ctypes.byref(length), program.kernel.module, name.encode())
        self._check(found, "hipModuleGetGlobal")
        if content.nbytes != length.value:
            raise MeasureError(f"__constant__ {name}: it holds {length.value} bytes, got {content.nbytes}; check shape and dtype")
        copied = self._hip.hipMemcpyHtoD(address, ctypes.c_void_p(content.ctypes.data), ctypes.c_size_t(content.nbytes))
        self._check(copied, "hipMemcpyHtoD")

    def times_s(self, run: Callable[[], object], repeats: int, before: Callable[[], object] | None = None) -> NDArray[np.float64]:
        """Time a run several times by events."""
        try:
            return event_times_s(self._torch, run, repeats, before)
        except Exception as error:
            raise self.explain(error) or error from error

    def flush_l2(self) -> None:
        """Enqueue what displaces the content of the L2; the 256 MiB behind it on CDNA 3 are displaced too."""
        if self._flush is None:
            self._flush = Flush(self._torch, f"cuda:{self._index}", 256 << 20)
        self._flush()

    def synchronize(self) -> None:
        """Wait for all work."""
        try:
            self._torch.cuda.synchronize()
        except RuntimeError as error:
            raise self.explain(error) or error from error

    def explain(self, error: Exception) -> MeasureError | None:
        """Return what an exception means, by its text: HIP has no way to ask later."""
        if isinstance(error, MeasureError):
            return error
        if isinstance(error, self._torch.OutOfMemoryError):
            return OutOfMemoryError(f"{self.name}: {str(error).splitlines()[0]}")
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _LOST):
            return StickyError(f"{self.name}: {str(error).splitlines()[0]}; the context is lost, start a new process")
        return None

    def _of(self, kernel: Any, number: int) -> int:
        value = ctypes.c_int()
        self._check(self._hip.hipFuncGetAttribute(ctypes.byref(value), number, kernel.func), "hipFuncGetAttribute")
        return value.value

    def _check(self, result: int, function: str) -> None:
        if result:
            self._hip.hipGetErrorString.restype = ctypes.c_char_p
            said = (self._hip.hipGetErrorString(result) or b"").decode()
            raise MeasureError(f"{self.name}: {function}: {result}: {said}")


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
