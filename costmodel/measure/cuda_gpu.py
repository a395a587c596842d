"""One live NVIDIA GPU: NVRTC compiles, the driver launches, torch gives memory, streams and events.

Launches go through `cuda.bindings.driver`, the driver's C functions one to one, and not through `cuda.core`: the C
functions have kept their names and arguments since CUDA 11, `cuda.core` was experimental until its release 1.0 and moved
its names. Arguments are laid out here (`packed`) and handed over as the address of `void **kernelParams`, which every
release takes. torch makes the device's primary context current; launches and torch's work share it, and torch's current stream.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import MeasureError
from costmodel.measure.live import Clocks, Launch, OutOfMemoryError, Program, StickyError
from costmodel.measure.nvml import Nvml
from costmodel.measure.nvrtc import compiled_binary, compiler_version
from costmodel.measure.streams import Flush, event_times_s, packed

__all__ = ["STICKY", "CudaGpu", "CudaProgram"]

STICKY = frozenset({214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999})
"""Results after which the process must end. Source: driver API reference, `CUresult` (`this leaves the process in an
inconsistent state`), with 214 and 220 (uncorrectable ECC and NVLink errors), 709 (context destroyed), 710 (a device-side
assert) and 999 (unknown)."""

_OUT_OF_MEMORY = 2
_LIMITS = {
    "sm_count": "MULTIPROCESSOR_COUNT",
    "warp_size": "WARP_SIZE",
    "memory_bus_bits": "GLOBAL_MEMORY_BUS_WIDTH",
    "l2_bytes": "L2_CACHE_SIZE",
    "threads_per_block": "MAX_THREADS_PER_BLOCK",
    "threads_per_sm": "MAX_THREADS_PER_MULTIPROCESSOR",
    "blocks_per_sm": "MAX_BLOCKS_PER_MULTIPROCESSOR",
    "registers_per_block": "MAX_REGISTERS_PER_BLOCK",
    "registers_per_sm": "MAX_REGISTERS_PER_MULTIPROCESSOR",
    "static_shared_bytes_per_block": "MAX_SHARED_MEMORY_PER_BLOCK",
    "shared_bytes_per_block": "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",
    "shared_bytes_per_sm": "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR",
    "reserved_shared_bytes_per_block": "RESERVED_SHARED_MEMORY_PER_BLOCK",
}


@dataclass(frozen=True, slots=True)
class CudaProgram:
    """One loaded entry."""

    registers: int
    """Of a thread."""
    static_shared_bytes: int
    """Of a block."""
    local_bytes: int
    """Of a thread."""
    binary: bytes
    """Cubin."""
    function: Any
    """CUfunction."""
    module: Any
    """CUmodule."""


class CudaGpu:
    """One NVIDIA GPU; `driver` is `cuda.bindings.driver`, handed in so that tests can record its calls."""

    def __init__(self, index: int, torch: Any, driver: Any) -> None:
        """Make the GPU's primary context and take it."""
        self._torch, self._driver, self._index = torch, driver, index
        torch.cuda.set_device(index)
        torch.zeros(1, device=f"cuda:{index}")
        self._ask("cuInit", 0)
        self._device = self._ask("cuDeviceGet", index)
        self._context = self._ask("cuDevicePrimaryCtxRetain", self._device)
        major, minor = self._attribute("COMPUTE_CAPABILITY_MAJOR"), self._attribute("COMPUTE_CAPABILITY_MINOR")
        self.name = str(torch.cuda.get_device_name(index))
        self.compute_capability = f"{major}.{minor}"
        self.architecture = f"sm_{major}{minor}"
        bus = self._ask("cuDeviceGetPCIBusId", 32, self._device)
        self._nvml = Nvml(bus.split(b"\0")[0].decode())
        self._flush: Flush | None = None

    def facts(self) -> dict[str, Any]:
        """Return versions, limits and state."""
        version = int(self._ask("cuDriverGetVersion"))
        return {
            "name": self.name,
            "vendor": "NVIDIA",
            "architecture": self.architecture,
            "compute_capability": self.compute_capability,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "cuda": f"{version // 1000}.{version % 1000 // 10}",
            "compiler": f"NVRTC {compiler_version()}",
            "torch": str(self._torch.__version__),
            "memory_bytes": int(self._ask("cuDeviceTotalMem", self._device)),
            **{key: self._attribute(name) for key, name in _LIMITS.items()},
            "boost_hz": self._attribute("CLOCK_RATE") * 1e3,  # NVML's highest clock lies above it on GeForce boards
            "max_memory_hz": self._attribute("MEMORY_CLOCK_RATE") * 1e3,
            "ecc": bool(self._attribute("ECC_ENABLED")),
            **{key: value for key, value in self._nvml.facts().items() if value is not None},
            "clocks": asdict(self.clocks()),
        }

    def clocks(self) -> Clocks:
        """Read clocks, power and temperature."""
        return self._nvml.clocks()

    def build(self, source: str, entry: str, macros: Mapping[str, int | str]) -> CudaProgram:
        """Compile by NVRTC and load one function."""
        binary = compiled_binary(source, entry, macros, self.architecture)
        self._enter()
        module = self._ask("cuModuleLoadData", binary)
        function = self._ask("cuModuleGetFunction", module, entry.encode())
        names = ("NUM_REGS", "SHARED_SIZE_BYTES", "LOCAL_SIZE_BYTES")
        registers, shared, local = (self._of(function, name) for name in names)
        return CudaProgram(registers, shared, local, binary, function, module)

    def start(self, program: Program, launch: Launch, arguments: Sequence[Any]) -> None:
        """Launch on torch's current stream and return at once."""
        assert isinstance(program, CudaProgram)
        self._enter()
        if launch.shared_bytes:
            self._set(program, "MAX_DYNAMIC_SHARED_SIZE_BYTES", launch.shared_bytes)
        if launch.shared_carveout is not None:
            self._set(program, "PREFERRED_SHARED_MEMORY_CARVEOUT", launch.shared_carveout)
        laid = packed(arguments)
        stream = self._driver.CUstream(int(self._torch.cuda.current_stream().cuda_stream))
        self._ask("cuLaunchKernel", program.function, *launch.grid, *launch.block, launch.shared_bytes, stream, laid.address, 0)

    def fill_constant(self, program: Program, name: str, values: NDArray[Any]) -> None:
        """Copy an array into a `__constant__` symbol."""
        assert isinstance(program, CudaProgram)
        self.synchronize()
        self._enter()
        address, length = self._ask("cuModuleGetGlobal", program.module, name.encode())
        content = np.ascontiguousarray(values)
        if content.nbytes != int(length):
            raise MeasureError(f"__constant__ {name}: it holds {int(length)} bytes, got {content.nbytes}; check shape and dtype")
        self._ask("cuMemcpyHtoD", address, content.ctypes.data, content.nbytes)

    def times_s(self, run: Callable[[], object], repeats: int, before: Callable[[], object] | None = None) -> NDArray[np.float64]:
        """Time a run several times by events."""
        try:
            return event_times_s(self._torch, run, repeats, before)
        except Exception as error:
            raise self.explain(error) or error from error

    def flush_l2(self) -> None:
        """Enqueue what displaces the content of the L2."""
        if self._flush is None:
            self._flush = Flush(self._torch, f"cuda:{self._index}", self._attribute("L2_CACHE_SIZE"))
        self._flush()

    def synchronize(self) -> None:
        """Wait for all work."""
        self._enter()
        self._ask("cuCtxSynchronize")

    def explain(self, error: Exception) -> MeasureError | None:
        """Return what an exception means; the driver is asked whether the context is lost."""
        if isinstance(error, MeasureError):
            return error
        if isinstance(error, self._torch.OutOfMemoryError):
            return OutOfMemoryError(f"{self.name}: {str(error).splitlines()[0]}")
        if not isinstance(error, RuntimeError):
            return None
        (result,) = self._driver.cuCtxSynchronize()
        return self._failure("cuCtxSynchronize", result) if int(result) else None

    def _enter(self) -> None:
        """Make the context current in this thread."""
        self._ask("cuCtxSetCurrent", self._context)

    def _attribute(self, name: str) -> int:
        attribute = getattr(self._driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._ask("cuDeviceGetAttribute", attribute, self._device))

    def _of(self, function: Any, name: str) -> int:
        attribute = getattr(self._driver.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        return int(self._ask("cuFuncGetAttribute", attribute, function))

    def _set(self, program: CudaProgram, name: str, value: int) -> None:
        attribute = getattr(self._driver.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        self._ask("cuFuncSetAttribute", program.function, attribute, value)

    def _ask(self, function: str, *arguments: Any) -> Any:
        """Call the driver and return what it gives beside the result."""
        result, *given = getattr(self._driver, function)(*arguments)
        if int(result):
            raise self._failure(function, result)
        return given[0] if len(given) == 1 else tuple(given)

    def _failure(self, function: str, result: Any) -> MeasureError:
        _, text = self._driver.cuGetErrorString(result)
        said = f"{self.__dict__.get('name', 'GPU')}: {function}: {getattr(result, 'name', int(result))}: {(text or b'').decode()}"
        if int(result) == _OUT_OF_MEMORY:
            return OutOfMemoryError(said)
        if int(result) in STICKY:
            return StickyError(f"{said}; the context is lost, start a new process")
        return MeasureError(said)
