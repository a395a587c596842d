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

    def failing(self) -> int:
        """Executions that fail a guard, over all loads."""
        n = self.sizes["N"]
        b, r, t = np.meshgrid(np.arange(self.blocks), np.arange(self.trips), np.arange(self.threads), indexing="ij")
        i = (b * self.trips + r) * self.threads + t
        guarded = (m for m in self.loads if m.guard)
        return sum(int(i.size - np.logical_and.reduce(GUARDS[m.guard](i, t, b, n, m.column)).sum()) for m in guarded)

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
    loads = [(int(rng.integers(0, 3)), int(rng.choice([0, 0, 0, 1, 2])), int(c), str(rng.choice(guards))) for c in columns]
    short = int(rng.choice([0, 32, 5]))
    bounded = all(guard in ("inside", "below") for *_, guard in loads)
    shape = int(rng.integers(4, 9)), int(rng.choice([32, 64, 96])), int(rng.integers(1, 5))
    return Case(tuple(Load(*load) for load in loads), *shape, short if bounded else 0)


def checked(case: Case, gpu: str) -> tuple[float, int, int]:
    """Predicted bytes from memory, distinct ones, and an allowance: both ends of each load's runs."""
    device = endless(gpu)
    granule = device.dram.sector_bytes
    distinct, asked = case.enumerated(granule)
    dram, l2 = predicted(case, device)
    allowance = 2 * granule * len(case.loads)
    assert distinct * 0.98 - allowance <= dram <= asked * (1 + 1e-9)
    assert l2 <= case.enumerated(device.l2.sector_bytes)[1] * (1 + 1e-9)
    return dram, distinct, allowance


GPUS = ["V100", "H100"]
"""Memory gives 32 bytes at a time, and 64."""


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_without_guards_memory_gives_each_sector_once(seed, gpu):
    dram, distinct, allowance = checked(drawn(seed, ("",)), gpu)
    assert dram <= distinct * 1.02 + allowance


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("seed", range(4))
def test_under_one_guard_memory_gives_each_sector_once(guard, seed, gpu):
    case = drawn(seed, (guard,))
    dram, distinct, allowance = checked(case, gpu)
    if guard in EDGES:
        assert dram <= distinct * 1.02 + allowance + 2 * ITEM * case.failing()


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("seed", range(20))
def test_masks_at_edges_cost_no_more_than_what_they_mask(seed, gpu):
    """What is masked counts as touched, and as missing of what earlier loads brought in: each at most once a load."""
    case = drawn(seed, (*EDGES, ""))
    dram, distinct, allowance = checked(case, gpu)
    assert dram <= distinct * 1.02 + allowance + 2 * ITEM * case.failing()


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("seed", range(100, 140))
def test_under_any_guards_memory_gives_what_is_asked_at_most_and_what_is_needed_at_least(seed, gpu):
    checked(drawn(seed, (*GUARDS, "")), gpu)


def exactly(case: Case, gpu: str, rel: float = 1e-3) -> None:
    distinct, _ = case.enumerated(endless(gpu).dram.sector_bytes)
    dram, _ = predicted(case, endless(gpu))
    assert dram == pytest.approx(distinct, rel=rel)


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("loops", [(0, 0, 0), (0, 1, 2)])
def test_halves_and_thirds_in_loops_of_their_own_are_read_each(loops, gpu):
    """SiLU of one half times the other, queries and keys and values packed: each row is another's, none is read again."""
    for rows in ((0, 1), (0, 1, 2)):
        exactly(Case(tuple(Load(loops[r], r, 0, "") for r in rows), 8, 64, 4, 0), gpu)
    exactly(Case((Load(0, 0, 0, ""), Load(1, 1, 0, ""), Load(2, 0, 0, ""), Load(3, 1, 0, "")), 8, 64, 4, 0), gpu)


@pytest.mark.parametrize("gpu", GPUS)
def test_what_blocks_or_threads_divide_among_themselves_is_read_once(gpu):
    """An early return with another load behind it; the first threads and the others; half of each block alone."""
    exactly(Case((Load(0, 0, 0, "early"), Load(1, 0, 0, "late")), 8, 64, 4, 0), gpu)
    exactly(Case((Load(0, 0, 0, "early"), Load(0, 1, 0, "late")), 8, 64, 4, 0), gpu)
    exactly(Case((Load(0, 0, 0, "early"), Load(0, 0, 0, "")), 8, 64, 4, 0), gpu)
    exactly(Case((Load(0, 0, 0, "few"),), 8, 64, 4, 0), gpu)


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("apart", [0, 1])
def test_taps_of_a_convolution_share_under_masks_of_their_own(apart, gpu):
    """Five taps, each masked to the array: together they read it once, side by side or each in a loop of its own."""
    case = Case(tuple(Load(apart * j, 0, HALO - 2 + j, "inside") for j in range(5)), 64, 128, 4, 0)
    exactly(case, gpu, rel=0.01)
    _, l2 = predicted(case, endless(gpu))
    asked = case.enumerated(32)[1]
    assert l2 <= 0.25 * asked


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("elementwise", [False, True])
def test_a_triangle_of_blocks_reads_half_of_a_square(elementwise, gpu):
    n, b = 1024, 32

    @kernel
    def triangle(k, *, N, B):
        x, y = k.buffer("x", (N, N), f32), k.buffer("y", (N,), f32)
        k.require(N % B == 0)
        with k.blocks(N // B, N // B) as (across, down), k.threads(B, B) as (i, j):
            row, column = down * B + j, across * B + i
            with k.when(column <= row if elementwise else across <= down), k.serial(3):
                k.load(x[row, column])
            with k.when(row < 1):
                k.store(y[column])

    device = endless(gpu)
    dram = float(Scorer(triangle, device, warm={}).score({"N": [n], "B": [b]}).counters["dram_read_bytes"][0])
    row, column = np.indices((n, n))
    inside = column <= row if elementwise else column // b <= row // b
    exact = len(np.unique((row * n + column)[inside] * ITEM // device.dram.sector_bytes)) * device.dram.sector_bytes
    assert exact <= dram <= exact * (1.05 if elementwise else 1.001)


@pytest.mark.parametrize("gpu", GPUS)
def test_a_row_is_read_once_however_wide_the_loads_are(gpu):
    """Vectors of four, then single elements in another order: the second loop finds all of it."""

    @kernel
    def twice(k, *, N, T):
        x, y = k.buffer("x", (N,), f32), k.buffer("y", (N,), f32)
        k.require(N % (4 * T) == 0)
        with k.blocks(N // (4 * T)) as b, k.threads(T) as t:
            k.load(x[b * 4 * T + 4 * t].wide(4))
            with k.serial(4) as r:
                k.load(x[b * 4 * T + r * T + t])
            k.store(y[b * T + t])

    scores = Scorer(twice, endless(gpu), warm={}).score({"N": [1 << 20], "T": [128]})
    assert float(scores.counters["dram_read_bytes"][0]) == pytest.approx(4 << 20, rel=0.01)
    assert float(scores.counters["l2_read_sectors"][0]) * 32 == pytest.approx(4 << 20, rel=0.01)
