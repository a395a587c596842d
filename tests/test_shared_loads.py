"""Several loads of one array, at other places, in other loops, under other guards: against an enumeration of sectors.

The L2 keeps everything and is cold, so memory gives each sector once: no less than all distinct ones, no more than the
requests ask for; exactly the distinct ones where guards are alike or only keep to the array.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pytest

from costmodel import Scorer, kernel
from costmodel.device import Device, find_device
from costmodel.dtypes import f32

ITEM, HALO = 4, 64


@lru_cache
def endless(name: str) -> Device:
    """A GPU whose L2 keeps everything."""
    device = find_device(name)
    return replace(device, l2=replace(device.l2, effective_capacity_bytes=1 << 50, capacity_bytes=1 << 50))


@dataclass(frozen=True)
class Load:
    """One load of `x[row, i + column]`, `i` an element of the block."""

    loop: int
    """Loads of the same number share a loop."""
    row: int
    column: int
    guard: str
    """`` for none, or a name of `GUARDS`."""


GUARDS = {
    "inside": lambda i, t, b, n, c: [i + c >= HALO, i + c < n + HALO],
    "below": lambda i, t, b, n, c: [i + c < n + HALO],
    "above": lambda i, t, b, n, c: [i + c >= HALO],
    "few": lambda i, t, b, n, c: [t < 8],
    "others": lambda i, t, b, n, c: [t >= 8],
    "early": lambda i, t, b, n, c: [b < 2],
    "late": lambda i, t, b, n, c: [b >= 2],
}
EDGES = ("inside", "below", "above")


@dataclass(frozen=True)
class Case:
    loads: tuple[Load, ...]
    blocks: int
    threads: int
    trips: int
    short: int
    """Elements by which the array is shorter than what the blocks cover."""

    def described(self):
        @kernel(name="loads")
        def loads(k, *, N, T, R):
            x, y = k.buffer("x", (3, N + 2 * HALO), f32, read_only=True), k.buffer("y", (N,), f32)
            with k.blocks(self.blocks) as b, k.threads(T) as t:
                for number in dict.fromkeys(m.loop for m in self.loads):
                    with k.serial(R) as r:
                        i = (b * R + r) * T + t
                        for m in (m for m in self.loads if m.loop == number):
                            if m.guard:
                                with k.when(*GUARDS[m.guard](i, t, b, N, m.column)):
                                    k.load(x[m.row, i + m.column])
                            else:
                                k.load(x[m.row, i + m.column])
                with k.when(b * T + t < N):
                    k.store(y[b * T + t])

        return loads

    @property
    def sizes(self) -> dict[str, int]:
        return {"N": self.blocks * self.threads * self.trips - self.short, "T": self.threads, "R": self.trips}

    def enumerated(self, granule: int) -> tuple[int, int]:
        """Bytes of distinct granules of the whole launch, and of those of each warp's request."""
        n = self.sizes["N"]
        b, r, t = np.meshgrid(np.arange(self.blocks), np.arange(self.trips), np.arange(self.threads), indexing="ij")
        i = (b * self.trips + r) * self.threads + t
        distinct, asked = [np.zeros(0, int)], 0
        for m in self.loads:
            passing = np.ones(i.shape, bool)
            for condition in GUARDS[m.guard](i, t, b, n, m.column) if m.guard else []:
                passing &= condition
            where = (m.row * (n + 2 * HALO) + i + m.column) * ITEM // granule
            distinct.append(where[passing])
            for warp in range(0, self.threads, 32):
                rows, on = (a[..., warp : warp + 32].reshape(-1, min(32, self.threads - warp)) for a in (where, passing))
                asked += sum(len(np.unique(w[p])) for w, p in zip(rows, on, strict=True))
        return len(np.unique(np.concatenate(distinct))) * granule, asked * granule


def predicted(case: Case, device: Device) -> tuple[float, float]:
    """Bytes from memory and from L2."""
    scores = Scorer(case.described(), device, warm={}).score({n: [v] for n, v in case.sizes.items()})
    assert scores.feasible.all(), scores.reason
    return float(scores.counters["dram_read_bytes"][0]), float(scores.counters["l2_read_sectors"][0]) * device.l2.sector_bytes


def drawn(seed: int, guards: tuple[str, ...]) -> Case:
    rng = np.random.default_rng(seed)
    columns = rng.choice([[0, 0, 1, 2, 5, 8, 64], [0, 32, 64, 96, 128, 0, 64]][seed % 2], int(rng.integers(2, 5)))
    column = [int(c) for c in columns]
    loads = tuple(Load(int(rng.integers(0, 3)), int(rng.choice([0, 0, 0, 1, 2])), c, str(rng.choice(guards))) for c in column)
    return Case(
        loads, int(rng.integers(4, 9)), int(rng.choice([32, 64, 96])), int(rng.integers(1, 5)), int(rng.choice([0, 32, 5]))
    )


GPUS = ["V100", "H100"]
