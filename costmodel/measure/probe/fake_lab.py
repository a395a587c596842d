"""A machine that is not there: answers the benchmarks out of a stored profile, with noise.

Written apart from the analysis, which has to find the profile again: caches replace at random, a warp's banks are
counted lane by lane, instructions are dealt to units and issue slots, blocks start one after another. Noise is the same
on every run. Its clock adds up what a real GPU would have taken.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from costmodel.device import Device, matrix_peak_flops_per_s
from costmodel.errors import MeasureError
from costmodel.measure.probe.lab import Sample

__all__ = ["FakeLab"]

_REPEATS = 7
_NOISE = 0.004
_HOST_S = 0.4
"""Of one benchmark: compiling, filling buffers and waiting."""


class FakeLab:
    """A device's profile, made to answer like the GPU."""

    def __init__(self, device: Device, *, host_s: float = _HOST_S) -> None:
        """Take the profile."""
        self.device, self._host_s, self._now_s = device, host_s, 0.0

    def clock_s(self) -> float:
        """Return the seconds that a real GPU and its host would have taken."""
        return self._now_s

    def facts(self) -> Mapping[str, Any]:
        """Return what a driver would say of the device."""
        d = self.device
        return {
            "name": f"fake {d.title}",
            "vendor": d.vendor,
            "architecture": d.compute_capability,
            "compute_capability": d.compute_capability,
            "date": "2026-01-01T00:00:00+00:00",
            "driver": "none",
            "sm_count": d.sm_count,
            "warp_size": d.limits.warp_size,
            "memory_bytes": d.dram.capacity_bytes,
            "l2_bytes": d.l2.capacity_bytes,
            "threads_per_block": d.limits.threads_per_block,
            "threads_per_sm": d.limits.threads_per_sm,
            "blocks_per_sm": d.limits.blocks_per_sm,
            "registers_per_block": d.registers.per_block,
            "registers_per_sm": d.registers.per_sm,
            "static_shared_bytes_per_block": d.shared.static_max_bytes_per_block,
            "shared_bytes_per_block": d.shared.max_bytes_per_block,
            "shared_bytes_per_sm": d.shared.capacity_bytes_per_sm,
            "reserved_shared_bytes_per_block": d.shared.reserved_bytes_per_block,
            "boost_hz": d.clock.boost_hz,
            "memory_bus_bits": 4096,
            "max_memory_hz": d.dram.bandwidth_bytes_per_s * 8 / 2 / 4096,
            "ecc": False,
        }

    def run(self, benchmark: str, **parameters: int | str) -> Sample:
        """Answer one benchmark."""
        models: dict[str, Callable[..., tuple[float, float]]] = {
            "chase": self._chase,
            "shared_chase": self._shared_chase,
            "lanes": self._lanes,
            "stream": self._stream,
            "arithmetic": self._arithmetic,
            "launch": self._launch,
            "blocks": self._blocks,
            "matrix": self._matrix,
        }
        seconds, cycles = models[benchmark](**parameters)
        seed = zlib.crc32(repr((self.device.name, benchmark, sorted(parameters.items()))).encode())
        noise = 1 + _NOISE * np.abs(np.random.default_rng(seed).standard_normal((2, _REPEATS)))
        self._now_s += self._host_s + (_REPEATS + 2) * seconds
        hz = self.device.clock.sustained_hz
        done = tuple((cycles * noise[1]).tolist()) if cycles else ()
        return Sample(tuple((seconds * noise[0]).tolist()), done, (hz, hz))

    def _taking(self, cycles: float) -> tuple[float, float]:
        return cycles / self.device.clock.sustained_hz, cycles

    def _chase(self, bytes: int, bypass: int, steps: int) -> tuple[float, float]:
        d = self.device
        near = 0.0 if bypass or not d.l1.caches_global_loads else _kept(bytes, d.l1.capacity_bytes)
        middle = _kept(bytes, d.l2.effective_capacity_bytes)
        beyond = middle * d.l2.latency_cycles + (1 - middle) * d.dram.latency_cycles
        return self._taking(40 + steps * (near * d.l1.latency_cycles + (1 - near) * beyond))

    def _shared_chase(self, steps: int, **_: int) -> tuple[float, float]:
        return self._taking(40 + steps * self.device.shared.latency_cycles)

    def _arithmetic(self, op: int, chains: int, threads: int, trips: int, **_: int) -> tuple[float, float]:
        t, warp = self.device.throughput, self.device.limits.warp_size
        units = {
            0: (("fma", t.fp32_fma),),
            1: (("fp64", t.fp64_fma),),
            2: (("fp16", t.fp16_fma / 2),),
            3: (("int", t.int32_add),) * 2,
            4: (("mul", t.int32_mul),),
            5: (("special", t.special),),
            6: (("conversion", t.conversion),) * 2,
            7: (("fma", t.fp32_fma), ("int", t.int32_add)) * 2,
        }[op]
        busy: dict[str, float] = defaultdict(float)
        for unit, rate in units:
            if not rate:
                raise MeasureError(f"arithmetic: {self.device.name} has no such instruction")
            busy["fma" if unit == "int" and t.int32_on_fma_lanes else unit] += threads / rate
        issue = len(units) * threads / warp / t.issue_per_cycle
        links = 16 * trips * chains
        full = links * max(issue, *busy.values())
        alone = 16 * trips * len(units) * t.alu_latency_cycles
        return self._taking(60 + max(full, alone))

    def _lanes(self, shared: int, width: int, stride: int, shift: int, trips: int, threads: int) -> tuple[float, float]:
        d = self.device
        words = [(lane >> shift) * stride for lane in range(d.limits.warp_size)]
        cycles = d.limits.warp_size / d.throughput.load_store
        if shared:
            cycles = max(cycles, self._passes(words, width, bool(shift)) * d.shared.pass_bytes / d.shared.bytes_per_cycle)
        else:
            lines = len({4 * (word + w) // d.l1.line_bytes for word in words for w in range(width)})
            cycles = max(cycles, lines / d.l1.tags_per_cycle, 4 * width * len(words) / d.l1.bytes_per_cycle)
        warps = threads // d.limits.warp_size
        waits = (d.shared if shared else d.l1).latency_cycles + 8 * cycles
        return self._taking(200 + trips * max(warps * 8 * cycles, waits))

    def _passes(self, words: list[int], width: int, paired: bool) -> float:
        """Passes over the banks, each lane's words dealt to them one by one."""
        s = self.device.shared
        lanes = max(min(s.pass_bytes // (4 * width), len(words)), 1)
        if paired and s.merges_paired_lanes and width > 1:
            lanes *= 2
        passes = 0
        for first in range(0, len(words), lanes):
            asked = {(word + w) * 4 // s.bank_bytes for word in words[first : first + lanes] for w in range(width)}
            passes += max(Counter(cell % s.banks for cell in asked).values())
        if width == 1 and s.pass_bytes < 4 * len(words):
            return float(passes)
        full = s.pass_bytes / (s.banks * s.bank_bytes)
        return max(passes * full, 4 * width * len(set(words)) / s.pass_bytes if width > 1 else 0.0)

    def _stream(self, mode: int, tiles: int, threads: int, grid: int, passes: int, shared_bytes: int) -> tuple[float, float]:
        d = self.device
        streams, achieved = {0: (1, 1.0), 1: (2, 0.97), 2: (1, 0.93), 3: (3, 0.98), 4: (1, 1.0)}[mode]
        size = 16 * threads * tiles
        moved = streams * size * passes
        sms = min(grid, d.sm_count)
        room = d.shared.capacity_bytes_per_sm // max(shared_bytes + d.shared.reserved_bytes_per_block, 1)
        resident = min(grid / sms, room, d.limits.blocks_per_sm, d.limits.threads_per_sm / threads)
        in_flight = sms * resident * threads * 4 * 16
        kept = _kept(streams * size, d.l2.effective_capacity_bytes) if passes > 1 else 0.0
        hz = d.clock.sustained_hz
        l2 = min(d.l2.bandwidth_bytes_per_cycle, sms * d.l2.sm_bytes_per_cycle, in_flight / d.l2.latency_cycles) * hz
        dram = min(d.dram.bandwidth_bytes_per_s * d.dram.achievable_fraction * achieved, in_flight / d.dram.latency_cycles * hz)
        seconds = moved * (kept / l2 + (1 - kept) / min(dram, l2))
        if mode == 4 and d.l1.caches_global_loads:
            near = _kept(size, d.l1.capacity_bytes)
            seconds = near * moved / (sms * d.l1.bytes_per_cycle * hz) + (1 - near) * seconds
        return seconds + 2e-6, seconds * hz

    def _launch(self, kernels: int) -> tuple[float, float]:
        return 3e-6 + kernels * self.device.launch_overhead_s, 0.0

    def _blocks(self, grid: int, **_: int) -> tuple[float, float]:
        gap = self.device.block_launch_cycles
        return math.ceil(grid / self.device.sm_count) * (gap + 50) / self.device.clock.sustained_hz, gap

    def _matrix(self, dtype: str, n: int) -> tuple[float, float]:
        if dtype in ("fp4", "fp6", "fp16_into_fp16"):
            raise MeasureError(f"matrix product of {dtype}: torch has none")
        return 2 * n**3 / (0.8 * matrix_peak_flops_per_s(self.device, dtype)), 0.0


def _kept(size: int, capacity: int) -> float:
    """Hits of a cyclic walk under random replacement.

    A line survives the misses between two visits: kept = (1 - 1 / capacity) ^ (misses), misses = size (1 - kept).
    """
    if size <= capacity:
        return 1.0
    kept = 0.0
    for _ in range(200):
        kept = math.exp(-size / capacity * (1 - kept))
    return kept
