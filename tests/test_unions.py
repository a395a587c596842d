"""Loads of one array written side by side: against the same loads in a loop, and against an enumeration of sectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from costmodel import estimate, kernel
from costmodel.cost.coverings import coverings
from costmodel.device import find_device
from costmodel.dtypes import f32

ENDLESS = replace(find_device("V100"), l1=replace(find_device("V100").l1, capacity_bytes=1 << 50))
"""A V100 whose L1 keeps all that a block reads."""


def levels(cost):
    return {level.name: level for level in cost.levels}


def columns(distances, in_loop=False):
    """A row for each thread, of which it reads some elements."""

    @kernel
    def records(k, *, N, W, B):
        x, y = k.buffer("x", (N, W), f32, read_only=True), k.buffer("y", (N,), f32)
        k.require(N % B == 0)
        with k.blocks(N // B) as b, k.threads(B) as t:
            if in_loop:
                with k.unrolled(len(distances)) as j:
                    k.load(x[b * B + t, j * (distances[1] - distances[0])])
            else:
                k.do("read", loads=[x[b * B + t, d] for d in distances])
            k.store(y[b * B + t])

    return records


def shifted(distances, in_loop=False):
    """Neighbouring threads read neighbours, at several distances."""

    @kernel
    def shifts(k, *, N, B):
        x, y = k.buffer("x", (N + 4096,), f32, read_only=True), k.buffer("y", (N,), f32)
        k.require(N % B == 0)
        with k.blocks(N // B) as b, k.threads(B) as t:
            if in_loop:
                with k.unrolled(len(distances)) as j:
                    k.load(x[b * B + t + j * (distances[1] - distances[0])])
            else:
                k.do("read", loads=[x[b * B + t + d] for d in distances])
            k.store(y[b * B + t])

    return shifts


def same_bytes(one, other):
    for level in ("l2", "dram"):
        assert levels(one)[level].transferred_bytes == pytest.approx(levels(other)[level].transferred_bytes, rel=0.02), level


RANDOM = np.random.default_rng(3)
CASES = [
    (int(members), int(step), int((members - 1) * step + RANDOM.integers(1, 64)))
    for members, step in zip(RANDOM.integers(2, 5, 7), RANDOM.choice([1, 2, 5, 7, 8, 9, 16, 31, 40, 64, 100], 7), strict=True)
]


@pytest.mark.parametrize(("members", "step", "width"), CASES)
def test_columns_by_hand_cost_what_a_loop_costs(members, step, width):
    sizes = {"N": 1 << 18, "W": width, "B": 256}
    distances = [step * m for m in range(members)]
    by_hand, by_loop = (estimate(columns(distances, in_loop), ENDLESS, **sizes) for in_loop in (False, True))
    same_bytes(by_hand, by_loop)
    assert by_hand.seconds == pytest.approx(by_loop.seconds, rel=0.1)


@pytest.mark.parametrize(("gpu", "width", "step"), [("V100", 128, 64), ("H100", 128, 64), ("RTX 3090", 16, 8)])
def test_two_columns_a_sector_apart_cost_two(gpu, width, step):
    by_hand, by_loop, one = (
        estimate(columns(d, in_loop), gpu, N=1 << 22, W=width, B=256)
        for d, in_loop in (((0, step), False), ((0, step), True), ((0,), False))
    )
    same_bytes(by_hand, by_loop)
    assert by_hand.seconds == pytest.approx(by_loop.seconds, rel=0.01)
    assert by_hand.seconds > 0.99 * one.seconds
    assert levels(by_hand)["l2"].transferred_bytes > 1.8 * levels(one)["l2"].transferred_bytes


@pytest.mark.parametrize(("members", "step"), [(2, 3), (4, 8), (3, 100), (2, 256), (4, 700), (3, 1300)])
def test_shifts_by_hand_cost_what_a_loop_costs(members, step):
    by_hand, by_loop = (
        estimate(shifted([step * m for m in range(members)], in_loop), ENDLESS, N=1 << 20, B=256) for in_loop in (False, True)
    )
    same_bytes(by_hand, by_loop)


def sectors_by_block(offsets: np.ndarray) -> int:
    """Sectors of elements of 4 bytes, of each block (row of `offsets`) by itself."""
    return sum(len(np.unique(row * 4 // 32)) for row in offsets)


APART = [(0, 64), (0, 5), (0, 1, 64), (0, 1, 64, 65), (0, 5, 7, 40), (0, 16, 17, 18, 100), (3, 90, 91)]


@pytest.mark.parametrize("distances", APART)
@pytest.mark.parametrize("width", [104, 128])
def test_sectors_of_columns_equal_enumeration(distances, width):
    n, b = 1024, 64
    cost = estimate(columns(distances), ENDLESS, N=n, W=width, B=b)
    rows = np.arange(n).reshape(-1, b, 1)
    exact = sectors_by_block((rows * width + np.array(distances)).reshape(n // b, -1)) * 32
    assert levels(cost)["l2"].transferred_bytes - 4 * n == pytest.approx(exact, rel=0.001)


@pytest.mark.parametrize("distances", [(0, 5, 7, 40), (0, 31, 200), (0, 64, 2000, 2064), (0, 8, 16, 1024)])
def test_sectors_of_shifts_equal_enumeration(distances):
    n, b = 1024, 64
    cost = estimate(shifted(distances), ENDLESS, N=n, B=b)
    exact = sectors_by_block((np.arange(n).reshape(-1, b, 1) + np.array(distances)).reshape(n // b, -1)) * 32
    assert levels(cost)["l2"].transferred_bytes - 4 * n == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("seed", range(40))
def test_coverings_cover(seed):
    """Every covering holds every distance as often as it counts, and nothing that is no distance less than never."""
    rng = np.random.default_rng(seed)
    dims = int(rng.integers(1, 4))
    points = {tuple(int(x) for x in rng.integers(-3, 4, dims) * rng.choice([1, 2, 5])) for _ in range(int(rng.integers(1, 7)))}
    for terms in coverings(points):
        held: dict[tuple[int, ...], int] = {}
        for times, box in terms:
            grids = np.meshgrid(*(np.arange(low, high + 1, step) for low, high, step in box), indexing="ij")
            for p in zip(*(g.ravel().tolist() for g in grids), strict=True):
                held[p] = held.get(p, 0) + times
        assert all(held.get(p, 0) >= 1 for p in points)
        assert min(held.values()) >= 0


def test_two_halves_of_an_array_are_all_of_it():
    @kernel
    def butterfly(k, *, N, B):
        x = k.buffer("x", (N,), f32)
        k.require(N % (2 * B) == 0)
        with k.blocks(N // (2 * B)) as b, k.threads(B) as t:
            k.do("swap", loads=[x[b * B + t], x[b * B + t + N // 2]])

    for level in estimate(butterfly, "H100", N=1 << 26, B=256).levels:
        assert level.footprint_bytes == pytest.approx(4 << 26, rel=0.001)
