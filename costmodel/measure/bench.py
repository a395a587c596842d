"""Measures configurations on a live GPU: compile, check the results, then time them warm and cold.

While one process runs on a GPU, others compile: the GPU's lock is held from the first launch on. Warm times are of
launches one after the other, cold ones follow an L2 flush each; both are medians of CUDA events. Nothing is timed
whose results were not checked first.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.cost import find_description
from costmodel.errors import MeasureError
from costmodel.ir import Description, Kernel
from costmodel.measure.arrays import Arrays, allocated, extent
from costmodel.measure.code import Code, find_code
from costmodel.measure.gpu import find_gpu
from costmodel.measure.live import CompileError, Gpu, OutOfMemoryError, StickyError
from costmodel.measure.runners import Built, CudaRunner, LaunchError, Runner, TritonRunner
from costmodel.measure.task import Row, Settings, Task

__all__ = ["GpuBench", "bench_of"]

_KEPT_BYTES = 4 << 30
"""Arrays of problems that are kept for further configurations; those of the latest one always are."""
_REASON = 300


class GpuBench:
    """One GPU, and what was made for it."""

    def __init__(self, gpu: Gpu, lock: Callable[[], contextlib.AbstractContextManager[None]], device: Any = "cuda") -> None:
        self.gpu, self.lock, self.device = gpu, lock, device
        self.arrays: list[tuple[tuple[Any, ...], Arrays]] = []
        self.runners: dict[str, Runner] = {}

    def facts(self) -> dict[str, Any]:
        """What the GPU is."""
        return self.gpu.facts()

    def measure(self, task: Task, stage: Callable[[str], None]) -> Row:
        """Measure one configuration."""
        try:
            return self._measured(task, stage)
        except Exception as error:
            row = _failure(self.gpu.explain(error) or error)
            if row is None:
                raise
            return row

    def ready(self, task: Task) -> tuple[Runner, Arrays]:
        """Compile a configuration and allocate its arrays: what needs no quiet GPU."""
        description = find_description(task.target)
        code, sizes = find_code(description), dict(task.sizes)
        kernel = _traced(description, sizes)
        arrays = self._arrays(kernel, code, sizes)
        runner = self.runners.get(task.target)
        if runner is None:
            runner = self.runners[task.target] = CudaRunner(self.gpu, code) if code.language == "cuda" else TritonRunner(code)
        runner.build(sizes, arrays)
        return runner, arrays

    def profiled(self, task: Task) -> str:
        """Launch a configuration once between the profiler's start and stop, after two launches that it does not see."""
        profiler = importlib.import_module("torch").cuda.profiler
        runner, arrays = self.ready(task)
        with self.lock():
            arrays.fill(task.settings.seed)
            runner.place(arrays)
            for _ in range(2):
                runner.start(arrays)
            self.gpu.synchronize()
            profiler.start()
            runner.start(arrays)
            self.gpu.synchronize()
            profiler.stop()
        return runner.built.name

    def _measured(self, task: Task, stage: Callable[[str], None]) -> Row:
        runner, arrays = self.ready(task)
        stage("waiting")
        with self.lock():
            stage("running")
            arrays.fill(task.settings.seed)
            runner.place(arrays)
            arrays.poison()
            runner.start(arrays)
            self.gpu.synchronize()
            error, wrong = arrays.check()
            _release()
            row = _compiled(runner.built) | {"error": error if np.isfinite(error) else None}
            if wrong:
                return {"status": "wrong_result", "reason": wrong, **row}
            return {"status": "ok", **row, **self._times(lambda: runner.start(arrays), task.settings)}

    def _times(self, run: Callable[[], None], settings: Settings) -> Row:
        """Warm and cold times, with the GPU's state around them."""
        first_s = float(self.gpu.times_s(run, 1)[0])
        self.gpu.times_s(run, settings.repeats(first_s))  # clocks rise under load
        before = self.gpu.clocks()
        warm = self.gpu.times_s(run, settings.repeats(first_s)) * 1e3
        cold = self.gpu.times_s(run, settings.repeats(first_s, settings.least_runs), self.gpu.flush_l2) * 1e3
        after = asdict(self.gpu.clocks())
        return {
            "time_ms": float(np.median(warm)),
            "time_min_ms": float(warm.min()),
            "time_mean_ms": float(warm.mean()),
            "time_std_ms": float(warm.std()),
            "time_first_ms": first_s * 1e3,
            "n_runs": len(warm),
            "cold_ms": float(np.median(cold)),
            "cold_std_ms": float(cold.std()),
            "sm_hz_before": before.sm_hz,
            "sm_hz_after": after["sm_hz"],
            **{n: after[n] for n in ("memory_hz", "power_w", "temperature_c")},
        }

    def _arrays(self, kernel: Kernel, code: Code, sizes: Mapping[str, Any]) -> Arrays:
        """Those of the same problem if there are any, else new ones."""
        shapes = tuple(
            (b.name, b.dtype.name, *(extent(e, sizes) for e in (*b.shape, *b.strides)))
            for b in kernel.buffers
            if b.space in ("global", "constant")
        )
        problem = (str(code.path), code.description.name, kernel.statics, shapes)
        for known, arrays in self.arrays:
            if known == problem and arrays.fits(sizes):
                return arrays
        while sum(a.size_bytes for _, a in self.arrays) > _KEPT_BYTES:
            del self.arrays[0]
        made = allocated(kernel, code, sizes, self.device)
        self.arrays.append((problem, made))
        return made


def bench_of(gpu: str) -> GpuBench:
    """The bench of the only GPU that this process sees.

    Raises:
        GpuError: there is none, or a library is missing.
    """
    name = os.environ.get("CUDA_VISIBLE_DEVICES") or os.environ.get("HIP_VISIBLE_DEVICES") or gpu
    path = Path(tempfile.gettempdir()) / f"costmodel-gpu-{name.replace(os.sep, '_')}.lock"
    return GpuBench(find_gpu(0), lambda: _locked(path))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock: one process at a time runs on a GPU."""
    import fcntl  # not on Windows

    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _traced(description: Description, sizes: Mapping[str, Any]) -> Kernel:
    return description.trace(**{n: sizes[n] for n in description.static})


def _failure(error: Exception) -> Row | None:
    """The fate of a configuration whose measuring raised this; None where nothing is known of it."""
    name = type(error).__name__
    reason = {"reason": " ".join(str(error).split())[:_REASON]}
    if isinstance(error, CompileError) or name in ("CompilationError", "PTXASError", "CompileTimeAssertionFailure"):
        return {"status": "compile_failed", **reason}
    if isinstance(error, LaunchError) or name == "OutOfResources":  # Triton's: shared memory or threads
        return {"status": "cannot_launch", **reason}
    if isinstance(error, OutOfMemoryError):
        return {"status": "out_of_memory", **reason, "restart": True}
    if isinstance(error, StickyError | MeasureError):
        return {"status": "runtime_failed", **reason, "restart": isinstance(error, StickyError)}
    return None


def _release() -> None:
    """Give back what a reference in double precision took: other processes have their arrays on this GPU too."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _compiled(built: Built) -> Row:
    return {
        "compile_s": built.compile_s,
        "regs_per_thread": built.registers,
        "shared_bytes": built.shared_bytes,
        "lmem_bytes_per_thread": built.local_bytes,
    }
