"""Latencies, from chases: what a load waits where it hits, by working set.

L1 and shared memory: a set that fits them. L2: a set of an eighth of it, L1 left out. Memory: eight times the L2, of which
few lines are found there. The core's FMA: one warp, one chain. Whether L1 keeps global loads at all is read off a small set:
where it does not, the small set is as far away as L2.
"""

from __future__ import annotations

from collections.abc import Iterator

from costmodel.device import Device
from costmodel.measure.probe.lab import Figure, Lab, Sample, middle, rounded, spread_of

__all__ = ["knee", "latencies"]

_STEPS = 4096
_L1_BYTES = 8192
_STEP_LINKS = 16


def latencies(lab: Lab, base: Device) -> Iterator[Figure]:
    """Measure latencies.

    Args:
        lab: the machine.
        base: a device of the same architecture, for figures that only choose what is run.
    """
    l2_bytes = _power_of_two(int(lab.facts().get("l2_bytes") or base.l2.capacity_bytes))
    near = lab.run("chase", bytes=_L1_BYTES, bypass=0, steps=_STEPS)
    middle_of = lab.run("chase", bytes=max(l2_bytes // 8, 4 * _L1_BYTES), bypass=1, steps=_STEPS)
    far = lab.run("chase", bytes=8 * l2_bytes, bypass=1, steps=_STEPS)
    cached = _cycles(near) < 0.75 * _cycles(middle_of)
    if cached:
        yield _figure("l1.latency_cycles", near, f"chase through {_L1_BYTES} bytes")
    yield Figure("l1.caches_global_loads", cached, 0.0, "small chase against one that leaves L1 out")
    yield _figure("l2.latency_cycles", middle_of, "chase through an eighth of L2, L1 left out")
    yield _figure("dram.latency_cycles", far, f"chase through {8 * l2_bytes} bytes, L1 left out")
    shared = lab.run("shared_chase", bytes=4096, steps=_STEPS)
    yield _figure("shared.latency_cycles", shared, "chase through 4096 bytes of shared memory")
    alu = lab.run("arithmetic", op=0, chains=1, threads=base.limits.warp_size, grid=1, trips=256)
    per_fma = tuple(c / (256 * _STEP_LINKS) for c in alu.cycles)
    yield Figure("throughput.alu_latency_cycles", rounded(middle(per_fma)), spread_of(per_fma), "4096 dependent FMAs of a warp")


def knee(points: list[tuple[int, float]], fraction: float) -> int:
    """Return the last working set ahead of the first drop.

    Args:
        points: (bytes, bandwidth) in order of bytes.
        fraction: of the plateau; the plateau is the median of the first four points.

    Example:
        >>> knee([(1, 10.0), (2, 10.1), (3, 9.9), (4, 10.0), (5, 9.8), (6, 7.0), (7, 9.2)], 0.9)
        5
    """
    plateau = middle(tuple(value for _, value in points[:4]))
    kept = points[0][0]
    for size, value in points:
        if value < fraction * plateau:
            break
        kept = size
    return kept


def _cycles(sample: Sample) -> float:
    return middle(sample.cycles) / _STEPS


def _figure(field: str, sample: Sample, how: str) -> Figure:
    return Figure(field, rounded(_cycles(sample)), spread_of(sample.cycles), how)


def _power_of_two(n: int) -> int:
    """Round down to a power of two."""
    return 1 << (n.bit_length() - 1)
