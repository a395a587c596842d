"""Bandwidths: of memory by kind of stream and by resident blocks, of L2 by working set, of one SM's port to L2.

Memory: the best of read, copy, write and triad through sixteen times the L2. L2: the best of the working sets up to a
quarter of it; where the bandwidth falls below 0.9 of that is the capacity that one SM's loads can use.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

from costmodel.device import Device
from costmodel.measure.probe.lab import Figure, Lab, Sample, middle, rounded, spread_of
from costmodel.measure.probe.latencies import knee
from costmodel.measure.probe.limits import peak_dram_bytes_per_s

__all__ = ["Point", "bandwidths", "occupancy_curve"]

MODES = {0: ("read", 1), 1: ("copy", 2), 2: ("write", 1), 3: ("triad", 3)}
_THREADS, _BLOCKS = 256, 4  # 64 KiB in flight on an SM: several times what its share of any memory needs
_SIXTEENTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 24, 32)
_FALLS = 0.9
_RESIDENT = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)

Point = tuple[int, float]


def bandwidths(lab: Lab, base: Device) -> Iterator[Figure]:
    """Measure bandwidths; `base` only chooses what is run and gives the peak where the driver tells none."""
    facts = lab.facts()
    sms, l2_bytes = int(facts["sm_count"]), int(facts.get("l2_bytes") or base.l2.capacity_bytes)
    grid = sms * _BLOCKS
    large = min(max(16 * l2_bytes, 1 << 29), int(facts["memory_bytes"]) // 8)
    peak = peak_dram_bytes_per_s(facts) or base.dram.bandwidth_bytes_per_s
    streams = {name: (_stream(lab, mode, large, grid), count * large) for mode, (name, count) in MODES.items()}
    rates = {name: moved / middle(sample.seconds) for name, (sample, moved) in streams.items()}
    best = max(rates, key=lambda name: rates[name])
    said = ", ".join(f"{name} {rate / 1e9:.0f} GB/s" for name, rate in rates.items())
    fraction = min(rates[best] / peak, 1.0)
    yield Figure("dram.achievable_fraction", rounded(fraction), spread_of(streams[best][0].seconds), f"streams: {said}")

    points = []
    for n in _SIXTEENTHS:
        size = n * l2_bytes // 16
        passes = max(large // size, 4)
        sample = _stream(lab, 0, size, grid, passes=passes)
        points.append((size, _per_cycle(sample, size, passes)))
        spread = spread_of(sample.cycles)
    plateau = max(rate for size, rate in points if size <= l2_bytes // 4)
    yield Figure("l2.bandwidth_bytes_per_cycle", rounded(plateau), spread, "reads of up to a quarter of L2 by all SMs")
    kept = knee(points, _FALLS)
    how = f"reads by all SMs keep {_FALLS} of the plateau, in steps of a sixteenth"
    yield Figure("l2.effective_capacity_bytes", min(kept, l2_bytes), 1 / 16 * l2_bytes / kept, how)

    size = min(l2_bytes // 4, 1 << 20)
    port = _stream(lab, 0, size, 1, passes=4, threads=1024)
    yield Figure(
        "l2.sm_bytes_per_cycle",
        rounded(_per_cycle(port, size, 4)),
        spread_of(port.cycles),
        f"one block of 1024 threads reads {size} bytes, L1 left out",
    )


def occupancy_curve(lab: Lab, base: Device) -> list[Point]:
    """Measure memory's read bandwidth by resident blocks of two warps, each thread with 64 bytes in flight.

    Returns:
        (blocks on an SM, bytes/s); shared memory keeps the blocks from being more.
    """
    facts = lab.facts()
    sms, l2_bytes = int(facts["sm_count"]), int(facts.get("l2_bytes") or base.l2.capacity_bytes)
    large = min(max(16 * l2_bytes, 1 << 29), int(facts["memory_bytes"]) // 8)
    threads, curve = 2 * base.limits.warp_size, []
    for blocks in (b for b in _RESIDENT if b <= base.limits.blocks_per_sm):
        room = base.shared.capacity_bytes_per_sm // blocks - base.shared.reserved_bytes_per_block
        shared_bytes = min(room // 1024 * 1024, base.shared.max_bytes_per_block)
        sample = _stream(lab, 0, large, sms * blocks, threads=threads, shared_bytes=shared_bytes)
        curve.append((blocks, large / middle(sample.seconds)))
    return curve


def _stream(lab: Lab, mode: int, size: int, grid: int, passes: int = 1, threads: int = _THREADS, shared_bytes: int = 0) -> Sample:
    tiles = size // (16 * threads)
    while gcd(tiles, grid) > 1:  # so that each block comes by every tile
        tiles -= 1
    return lab.run("stream", mode=mode, tiles=tiles, threads=threads, grid=grid, passes=passes, shared_bytes=shared_bytes)


def _per_cycle(sample: Sample, size: int, passes: int) -> float:
    return size * passes / middle(sample.cycles)
