"""Runs the benchmarks on a live GPU.

Each is warmed up, kept on a busy stream (so that the core clock is up and no time of the host is measured) and repeated
seven times. Cycles come from the kernels themselves; a launch's are those of its slowest block.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.errors import MeasureError
from costmodel.measure.live import Gpu, Launch, Program
from costmodel.measure.probe.lab import Sample
from costmodel.measure.probe.matrix import product
from costmodel.measure.probe.tables import SPACING_BYTES, address_cycle, gaps, offset_cycle

__all__ = ["REPEATS", "LiveLab", "source_of"]

REPEATS = 7
_UNTIMED = 2  # runs of `times_s` ahead of the repeats
_WAKE_CYCLES = 40_000_000
_MOST_WARM_STEPS = 4096
_LANES_WORDS = 8192
_READ, _READ_THROUGH_L1 = 0, 4


def source_of(file: str) -> str:
    """Return the CUDA C++ of one benchmark."""
    return (Path(__file__).parent / file).read_text()


class LiveLab:
    """A live GPU; programs and buffers are kept between benchmarks."""

    def __init__(self, gpu: Gpu) -> None:
        """Take the GPU."""
        self._gpu, self._torch = gpu, importlib.import_module("torch")
        self._facts = gpu.facts()
        self._programs: dict[tuple[Any, ...], Program] = {}
        self._buffers: dict[str, Any] = {}
        self._sink = self._torch.zeros(4, dtype=self._torch.int32, device="cuda")

    def facts(self) -> Mapping[str, Any]:
        """Return versions, limits and state."""
        return self._facts

    def clock_s(self) -> float:
        """Return seconds."""
        return time.perf_counter()

    def run(self, benchmark: str, **parameters: int | str) -> Sample:
        """Run one benchmark."""
        runners: dict[str, Callable[..., Sample]] = {
            "chase": self._chase,
            "shared_chase": self._shared_chase,
            "lanes": self._lanes,
            "stream": self._stream,
            "arithmetic": self._arithmetic,
            "launch": self._launch,
            "blocks": self._blocks,
            "matrix": self._matrix,
        }
        before = self._gpu.clocks().sm_hz
        self._torch.cuda._sleep(_WAKE_CYCLES)
        try:
            done = runners[benchmark](**parameters)
        except MeasureError:
            raise
        except Exception as error:
            raise self._gpu.explain(error) or _refused(benchmark, error) from error
        return Sample(done.seconds, done.cycles, (before, self._gpu.clocks().sm_hz))

    def _chase(self, bytes: int, bypass: int, steps: int) -> Sample:
        program = self._program("chase.cu", "chase", SHARED=0, BYPASS=bypass)
        memory = self._buffer("chase", bytes)
        memory[: bytes // 8].copy_(self._torch.from_numpy(address_cycle(memory.data_ptr(), bytes)))
        position = self._torch.full((1,), memory.data_ptr(), dtype=self._torch.int64, device="cuda")
        launch, lines, nowhere = Launch((1, 1, 1), (1, 1, 1), 0, 0), bytes // SPACING_BYTES, self._sink.view(self._torch.int64)
        self._gpu.flush_l2()
        if bytes <= int(self._facts.get("l2_bytes", 0)):
            whole = [position, self._sink, np.int32(0), np.int32(lines), np.int32(0), nowhere]
            self._gpu.start(program, launch, whole)
        rest = [self._sink, np.int32(0), np.int32(min(lines, _MOST_WARM_STEPS)), np.int32(steps)]
        return self._timed(program, launch, 1, lambda row: [position, *rest, row])

    def _shared_chase(self, bytes: int, steps: int) -> Sample:
        program = self._program("chase.cu", "chase", SHARED=1, BYPASS=0)
        table = self._torch.from_numpy(offset_cycle(bytes)).cuda()
        position = self._torch.zeros(1, dtype=self._torch.int64, device="cuda")
        rest = [table, np.int32(bytes // 4), np.int32(0), np.int32(steps)]
        return self._timed(program, Launch((1, 1, 1), (1, 1, 1), bytes), 1, lambda row: [position, *rest, row])

    def _lanes(self, shared: int, width: int, stride: int, shift: int, trips: int, threads: int) -> Sample:
        program = self._program("lanes.cu", "lanes", SHARED=shared, WIDTH=width)
        source, sms = self._buffer("lanes", 4 * _LANES_WORDS), int(self._facts["sm_count"])
        sizes = [np.int32(n) for n in (_LANES_WORDS, stride, shift, 0, trips)]
        launch = Launch((sms, 1, 1), (threads, 1, 1), shared * 4 * _LANES_WORDS, None if shared else 0)
        return self._timed(program, launch, sms, lambda row: [source, *sizes, row, self._sink])

    def _stream(self, mode: int, tiles: int, threads: int, grid: int, passes: int, shared_bytes: int) -> Sample:
        program = self._program("stream.cu", "stream", MODE=mode)
        count = 1 if mode in (_READ, _READ_THROUGH_L1) else 3
        streams = [self._buffer(name, 16 * threads * tiles) for name in ("a", "b", "c")[:count]]
        a, b, c = (streams * 3)[:3]
        sizes = [np.int32(tiles), np.int32(passes)]
        launch = Launch((grid, 1, 1), (threads, 1, 1), shared_bytes, 0 if mode == _READ_THROUGH_L1 else None)
        return self._timed(program, launch, grid, lambda row: [a, b, c, *sizes, row, self._sink])

    def _arithmetic(self, op: int, chains: int, threads: int, grid: int, trips: int) -> Sample:
        program = self._program("arithmetic.cu", "arithmetic", OP=op, CHAINS=chains)
        given = [np.int32(1), np.int32(trips)]
        return self._timed(program, Launch((grid, 1, 1), (threads, 1, 1)), grid, lambda row: [*given, row, self._sink])

    def _launch(self, kernels: int) -> Sample:
        program, shape = self._program("blocks.cu", "empty"), Launch((1, 1, 1), (32, 1, 1))

        def several() -> None:
            for _ in range(kernels):
                self._gpu.start(program, shape, [])

        return Sample(tuple(self._gpu.times_s(several, REPEATS).tolist()))

    def _blocks(self, grid: int, shared_bytes: int) -> Sample:
        program = self._program("blocks.cu", "blocks")
        rows = self._torch.zeros((REPEATS + _UNTIMED, 3 * grid), dtype=self._torch.int64, device="cuda")
        seconds = self._repeat(program, Launch((grid, 1, 1), (32, 1, 1), shared_bytes), rows, lambda row: [row])
        cycles = [float(np.median(gaps(row.reshape(grid, 3)))) for row in rows[_UNTIMED:].cpu().numpy()]
        return Sample(seconds, tuple(cycles))

    def _matrix(self, dtype: str, n: int) -> Sample:
        return Sample(tuple(self._gpu.times_s(product(self._torch, dtype, n), REPEATS).tolist()))

    def _timed(self, program: Program, launch: Launch, blocks: int, arguments: Callable[[Any], Sequence[Any]]) -> Sample:
        """Repeat a launch whose blocks note their cycles, each repeat in a row of its own."""
        rows = self._torch.zeros((REPEATS + _UNTIMED, blocks), dtype=self._torch.int64, device="cuda")
        seconds = self._repeat(program, launch, rows, arguments)
        return Sample(seconds, tuple(rows[_UNTIMED:].max(dim=1).values.tolist()))

    def _repeat(
        self, program: Program, launch: Launch, rows: Any, arguments: Callable[[Any], Sequence[Any]]
    ) -> tuple[float, ...]:
        row = iter(range(len(rows)))
        times = self._gpu.times_s(lambda: self._gpu.start(program, launch, arguments(rows[next(row)])), REPEATS)
        return tuple(times.tolist())

    def _program(self, file: str, entry: str, **macros: int) -> Program:
        key = (file, entry, *sorted(macros.items()))
        if key not in self._programs:
            self._programs[key] = self._gpu.build(source_of(file), entry, macros)
        return self._programs[key]

    def _buffer(self, name: str, n_bytes: int) -> Any:
        """Return a buffer of zeros kept under a name, large enough."""
        have = self._buffers.get(name)
        if have is None or have.numel() * 8 < n_bytes:
            self._buffers.pop(name, None)
            have = self._torch.zeros(-(-n_bytes // 8), dtype=self._torch.int64, device="cuda")
            self._buffers[name] = have
        return have


def _refused(benchmark: str, error: Exception) -> MeasureError:
    return MeasureError(f"{benchmark}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}")
