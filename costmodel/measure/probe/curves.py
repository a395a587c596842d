"""What a profile has no field for: bandwidth and latency against working set and occupancy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from costmodel.device import Device
from costmodel.measure.probe.bandwidths import l2_bytes_of, l2_sweep, large_bytes, stream
from costmodel.measure.probe.lab import Lab, middle, rounded

__all__ = ["Curve", "curves"]

_RESIDENT = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_L1_KIB = (16, 32, 64, 96, 112, 128, 160, 192, 224, 240, 256, 320, 512)
_WARPS = (1, 2, 4, 8, 16, 32)
_STEPS, _L1_PASSES, _TRIPS, _LOADS = 4096, 64, 256, 8


@dataclass(frozen=True, slots=True)
class Curve:
    """One series of measurements."""

    name: str
    """What was run."""
    by: str
    """What was varied: `bytes`, or what is counted."""
    unit: str
    """Of the values."""
    points: tuple[tuple[int, float], ...]
    """(varied, median)."""


def curves(lab: Lab, base: Device) -> Iterator[Curve]:
    """Measure against working set and occupancy."""
    yield Curve("DRAM reads", "blocks of two warps on an SM", "B/s", tuple(_by_blocks(lab, base)))
    swept = tuple((size, rounded(rate)) for size, rate in l2_sweep(lab, base)[0])
    yield Curve("reads of all SMs, L1 left out", "bytes", "B/cycle", swept)
    yield Curve("reads of one SM through L1", "bytes", "B/cycle", tuple(_through_l1(lab)))
    yield Curve("shared memory, 16-byte loads", "warps on an SM", "B/cycle", tuple(_by_warps(lab)))
    yield Curve("load latency", "bytes", "cycles", tuple(_latency(lab, base)))


def _by_blocks(lab: Lab, base: Device) -> Iterator[tuple[int, float]]:
    """Shared memory keeps the blocks of an SM from being more; each thread has 64 bytes in flight."""
    sms, large, threads = int(lab.facts()["sm_count"]), large_bytes(lab.facts(), base), 2 * base.limits.warp_size
    for blocks in (b for b in _RESIDENT if b <= base.limits.blocks_per_sm):
        room = base.shared.capacity_bytes_per_sm // blocks - base.shared.reserved_bytes_per_block
        shared_bytes = min(room // 1024 * 1024, base.shared.max_bytes_per_block)
        sample, moved = stream(lab, 0, large, sms * blocks, threads=threads, shared_bytes=shared_bytes)
        yield blocks, rounded(moved / middle(sample.seconds))


def _through_l1(lab: Lab) -> Iterator[tuple[int, float]]:
    for size in (1024 * n for n in _L1_KIB):
        sample, moved = stream(lab, 4, size, 1, passes=_L1_PASSES, threads=1024)
        yield size, rounded(moved / middle(sample.cycles))


def _by_warps(lab: Lab) -> Iterator[tuple[int, float]]:
    warp = int(lab.facts()["warp_size"])
    for warps in (w for w in _WARPS if w * warp <= 1024):
        sample = lab.run("lanes", shared=1, width=4, stride=4, shift=0, trips=_TRIPS, threads=warps * warp)
        yield warps, rounded(16 * warp * warps * _LOADS * _TRIPS / middle(sample.cycles))


def _latency(lab: Lab, base: Device) -> Iterator[tuple[int, float]]:
    size, last = 4096, 8 * l2_bytes_of(lab.facts(), base)
    while size <= last:
        yield size, rounded(middle(lab.run("chase", bytes=size, bypass=0, steps=_STEPS).cycles) / _STEPS)
        size *= 2
