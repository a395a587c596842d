"""Bandwidths: of memory by kind of stream and by resident blocks, of L2 by working set, of one SM's port to L2.

Memory: the best of read, copy, write and triad through sixteen times the L2. L2: the best of the working sets up to a
quarter of it; where the bandwidth falls below 0.9 of that is the capacity that one SM's loads can use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import gcd
from typing import Any

from costmodel.device import Device
from costmodel.measure.probe.lab import Figure, Lab, Sample, middle, rounded, spread_of
from costmodel.measure.probe.latencies import knee
from costmodel.measure.probe.limits import peak_dram_bytes_per_s

__all__ = ["bandwidths", "l2_bytes_of", "l2_sweep", "large_bytes", "stream"]

MODES = {0: ("read", 1), 1: ("copy", 2), 2: ("write", 1), 3: ("triad", 3)}
_THREADS, _BLOCKS = 256, 4  # 64 KiB in flight on an SM: several times what its share of any memory needs
_SIXTEENTHS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 24, 32)
_FALLS = 0.9


def bandwidths(lab: Lab, base: Device) -> Iterator[Figure]:
    """Measure bandwidths; `base` only chooses what is run and gives the peak where the driver tells none."""
    facts = lab.facts()
    l2_bytes, large = l2_bytes_of(facts, base), large_bytes(facts, base)
    grid = int(facts["sm_count"]) * _BLOCKS
    peak = peak_dram_bytes_per_s(facts) or base.dram.bandwidth_bytes_per_s
    streams = {name: (*stream(lab, mode, large, grid), count) for mode, (name, count) in MODES.items()}
    rates = {name: count * moved / middle(sample.seconds) for name, (sample, moved, count) in streams.items()}
    best = max(rates, key=lambda name: rates[name])
    said = ", ".join(f"{name} {rate / 1e9:.0f} GB/s" for name, rate in rates.items())
    fraction = min(rates[best] / peak, 1.0)
    yield Figure("dram.achievable_fraction", rounded(fraction), spread_of(streams[best][0].seconds), f"streams: {said}")

    points, spread = l2_sweep(lab, base)
    plateau = max(rate for size, rate in points if size <= l2_bytes // 4)
    yield Figure("l2.bandwidth_bytes_per_cycle", rounded(plateau), spread, "reads of up to a quarter of L2 by all SMs")
    kept = knee(points, _FALLS)
    how = f"reads by all SMs keep {_FALLS} of the plateau, in steps of a sixteenth"
    yield Figure("l2.effective_capacity_bytes", min(kept, l2_bytes), 1 / 16 * l2_bytes / kept, how)

    size = min(l2_bytes // 4, 1 << 20)
    port, moved = stream(lab, 0, size, 1, passes=4, threads=1024)
    yield Figure(
        "l2.sm_bytes_per_cycle",
        rounded(moved / middle(port.cycles)),
        spread_of(port.cycles),
        f"one block of 1024 threads reads {size} bytes, L1 left out",
    )


def l2_sweep(lab: Lab, base: Device) -> tuple[list[tuple[int, float]], float]:
    """Measure reads by all SMs against the working set.

    Returns:
        (bytes, bytes a cycle) through the L2 and beyond, and the spread of the first.
    """
    facts = lab.facts()
    l2_bytes, large, grid = l2_bytes_of(facts, base), large_bytes(facts, base), int(facts["sm_count"]) * _BLOCKS
    points, spreads = [], []
    for size in (n * l2_bytes // 16 for n in _SIXTEENTHS):
        passes = max(large // size, 4)
        sample, moved = stream(lab, 0, size, grid, passes=passes)
        points.append((size, moved / middle(sample.cycles)))
        spreads.append(spread_of(sample.cycles))
    return points, spreads[0]


def stream(
    lab: Lab, mode: int, size: int, grid: int, passes: int = 1, threads: int = _THREADS, shared_bytes: int = 0
) -> tuple[Sample, int]:
    """Run one stream through `size` bytes, less what keeps tiles and blocks free of common factors.

    Returns:
        The sample, and the bytes of all passes through one of the arrays.
    """
    tiles = size // (16 * threads)
    while gcd(tiles, grid) > 1:  # so that each block comes by every tile
        tiles -= 1
    sample = lab.run("stream", mode=mode, tiles=tiles, threads=threads, grid=grid, passes=passes, shared_bytes=shared_bytes)
    return sample, 16 * threads * tiles * passes


def l2_bytes_of(facts: Mapping[str, Any], base: Device) -> int:
    """Return the L2's size as the driver states it, or as stored."""
    return int(facts.get("l2_bytes") or base.l2.capacity_bytes)


def large_bytes(facts: Mapping[str, Any], base: Device) -> int:
    """Return a working set of which the L2 keeps little: sixteen times its size, if an eighth of the memory holds it."""
    return min(max(16 * l2_bytes_of(facts, base), 1 << 29), int(facts["memory_bytes"]) // 8)
