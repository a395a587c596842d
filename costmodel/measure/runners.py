"""How a configuration is compiled and launched: CUDA C++ by a GPU's run-time compiler, Triton by itself."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from costmodel.errors import MeasureError
from costmodel.ir import Kernel
from costmodel.measure.arrays import Arrays, extent
from costmodel.measure.code import Code
from costmodel.measure.live import Gpu, Launch, OutOfMemoryError, Program, StickyError

__all__ = ["Built", "CudaRunner", "LaunchError", "Runner", "TritonRunner", "macros_of"]

_LARGEST_INT = 2**31 - 1
_ALIGNMENT = 16
_MOST_PROGRAMS = 256


class LaunchError(MeasureError):
    """The driver refuses a launch: a resource it asks for is not there."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a compiler made of a configuration."""

    registers: int
    """Of a thread."""
    shared_bytes: int
    """Of a block, static and dynamic."""
    local_bytes: int
    """Of a thread: spills, and arrays indexed at run time."""
    compile_s: float
    name: str
    """Of the function, as a profiler shows it."""


class Runner(Protocol):
    """Launches the configuration that it built last."""

    built: Built

    def build(self, sizes: Mapping[str, Any], arrays: Arrays) -> None:
        """Compile a configuration, without launching it."""

    def place(self, arrays: Arrays) -> None:
        """Put constants where the kernel reads them."""

    def start(self, arrays: Arrays) -> None:
        """Launch on the current stream and return at once.

        Raises:
            LaunchError: the driver refuses it.
        """


class CudaRunner:
    """CUDA C++ beside a description."""

    built: Built

    def __init__(self, gpu: Gpu, code: Code) -> None:
        self.gpu, self.code, self.source = gpu, code, code.path.read_text(encoding="utf-8")
        self.programs: dict[tuple[tuple[str, Any], ...], tuple[Program, float]] = {}

    def build(self, sizes: Mapping[str, Any], arrays: Arrays) -> None:
        """Compile, unless only run-time arguments differ from an earlier configuration."""
        kernel, macros = arrays.kernel, macros_of(self.code, sizes)
        key = tuple(macros.items())
        if key not in self.programs:
            started = time.perf_counter()
            program = self.gpu.build(self.source, self.code.entry, macros)
            self.programs[key] = (program, time.perf_counter() - started)
            if len(self.programs) > _MOST_PROGRAMS:
                del self.programs[next(iter(self.programs))]
        self.program, compile_s = self.programs[key]
        grid, block = ([extent(e, sizes) for e in shape] for shape in (kernel.grid_shape(), kernel.block_shape()))
        dynamic = dynamic_shared_bytes(kernel, sizes)
        self.launch = Launch((grid[0], grid[1], grid[2]), (block[0], block[1], block[2]), dynamic)
        self.numbers = tuple(_as_int(self.code, n, sizes[n]) for n in self.code.arguments)
        p = self.program
        self.built = Built(p.registers, p.static_shared_bytes + dynamic, p.local_bytes, compile_s, self.code.entry)

    def place(self, arrays: Arrays) -> None:
        """Fill `__constant__` symbols."""
        for name, values in arrays.constants.items():
            self.gpu.fill_constant(self.program, name, values.numpy())

    def start(self, arrays: Arrays) -> None:
        """Launch."""
        try:
            self.gpu.start(self.program, self.launch, (*arrays.tensors.values(), *self.numbers))
        except (OutOfMemoryError, StickyError):
            raise
        except MeasureError as error:
            raise LaunchError(str(error)) from None


class TritonRunner:
    """A module with `launch(tensors, sizes)`, which launches once and returns Triton's compiled kernel."""

    built: Built

    def __init__(self, code: Code) -> None:
        self.code, self.module = code, _imported(code)

    def build(self, sizes: Mapping[str, Any], arrays: Arrays) -> None:
        """Compile by a launch that Triton stops short of launching."""
        self.sizes = dict(sizes)
        started = time.perf_counter()
        with _compiling_only():
            compiled = self.module.launch(arrays.tensors, self.sizes)
        compiled._init_handles()  # loads it: registers and spills are known from here on
        seconds = time.perf_counter() - started
        local_bytes = 4 * int(compiled.n_spills)  # Triton counts words
        self.built = Built(int(compiled.n_regs), int(compiled.metadata.shared), local_bytes, seconds, str(compiled.name))

    def place(self, arrays: Arrays) -> None:
        """Triton has no constant memory."""

    def start(self, arrays: Arrays) -> None:
        """Launch."""
        self.module.launch(arrays.tensors, self.sizes)


def macros_of(code: Code, sizes: Mapping[str, Any]) -> dict[str, int | str]:
    """What is defined for the compiler: every argument of the description that is none of the entry."""
    return {n: int(v) if isinstance(v, bool) else v for n, v in sizes.items() if n not in code.arguments}


def dynamic_shared_bytes(kernel: Kernel, sizes: Mapping[str, Any]) -> int:
    """Of a block: its dynamic arrays one after the other, each aligned for vectors of 16 bytes."""
    total = 0
    for b in kernel.buffers:
        if b.space == "shared" and b.dynamic:
            total = -(-total // _ALIGNMENT) * _ALIGNMENT + extent(b.reserved_bytes, sizes)
    return total


def _as_int(code: Code, name: str, value: Any) -> np.int32:
    if not 0 <= int(value) <= _LARGEST_INT:
        raise LaunchError(f"{code.description.name}: {name}={value} does not fit the `int` that {code.path.name} takes")
    return np.int32(value)


def _imported(code: Code) -> ModuleType:
    name = f"costmodel_code_{code.path.stem}"
    spec = importlib.util.spec_from_file_location(name, code.path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "launch", None)):
        raise MeasureError(f"{code.path}: expected a function launch(tensors, sizes)")
    return module


@contextmanager
def _compiling_only() -> Iterator[None]:
    """`kernel[grid](…)` compiles as ever, for the very tensors given, but does not launch.

    Source: triton 3.6 `runtime/jit.py`: `kernel[grid](*a)` is `kernel.run(*a, grid=grid, warmup=False)`, and `warmup=True`
    leaves the launch out. `JITFunction.warmup` itself is of no use here: it is not what a `launch` function calls.
    """
    jit = importlib.import_module("triton.runtime.jit").JITFunction
    original = jit.run

    def compiled(self: Any, *args: Any, **named: Any) -> Any:
        return original(self, *args, **{**named, "warmup": True})

    jit.run = compiled
    try:
        yield
    finally:
        jit.run = original
