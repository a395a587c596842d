"""Charges that the textbook kernels of `gpuperfpredict` brought: rows of memory, sectors past L1, shared sectors, dependence."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from costmodel import Scorer, estimate, kernel
from costmodel.charges.crossbar import port_bytes
from costmodel.charges.pipes import l1_cycles
from costmodel.charges.rows import ACTIVATION_BYTES, ROW_BYTES, row_efficiency, run_bytes
from costmodel.cost import dataset_mapping, find_description
from costmodel.counts import Requests
from costmodel.device import find_device
from costmodel.dtypes import f32, i32

LANES = np.arange(32)


def one_request(address: np.ndarray) -> Requests:
    lanes = np.broadcast_to(address, (1, 32)).astype(np.int64)
    return Requests(lanes, np.ones((1, 32), bool), np.full(1, 4), np.ones(1), np.zeros(1, np.int64), None, 1.0, 1, True)


# -- rows of memory


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 5)), min_size=1, max_size=4), st.sampled_from([2, 4, 8]),
    st.sampled_from([32, 64]),
)  # fmt: skip
def test_the_first_run_ends_where_a_gap_of_a_sector_begins(loops, itemsize, sector):
    strides, extents = [s for s, _ in loops], [n for _, n in loops]
    starts = {
        itemsize * sum(s * i for s, i in zip(strides, at, strict=True)) for at in itertools.product(*(range(n) for n in extents))
    }
    end = 0
    for start in sorted(starts):
        if start >= end + sector:
            break
        end = max(end, start + itemsize)
    first = -(-end // sector) * sector
    (found,) = run_bytes(strides, extents, itemsize, sector)
    assert run_bytes([np.array([s]) for s in strides], extents, itemsize, sector).tolist() == [found]
    assert first <= found <= max(first, ROW_BYTES, first * (ROW_BYTES // sector))
    if max(starts) < end or min(s * itemsize for s in strides) >= ROW_BYTES:
        assert found == first


@given(st.integers(1, 64), st.integers(1, 600), st.integers(2, 40))
def test_runs_in_one_row_of_memory_count_together(elements, gap, pieces):
    """Pieces of consecutive floats, some sectors apart: those that end before the row does."""
    run = -(-4 * elements // 32) * 32
    step = run + 32 * gap
    together = sum((piece + 1) * step <= ROW_BYTES for piece in range(pieces)) or 1
    assert run_bytes([1, step // 4], [elements, pieces], 4, 32).tolist() == [run * together]
    assert run_bytes([np.array([1]), step // 4], [elements, pieces], 4, 32).tolist() == [run * together]


def test_runs_of_a_table_equal_those_of_its_rows():
    strides = [np.array([1, 4096, 1]), np.array([4096, 1, 8])]
    extents = [np.array([8, 16, 4]), np.array([32, 8, 5])]
    together = run_bytes(strides, extents, 4, 32)
    assert together.tolist() == [32, 32, 160]
    each = [run_bytes([int(s[i]) for s in strides], [int(n[i]) for n in extents], 4, 32)[0] for i in range(3)]
    assert together.tolist() == each


def test_short_runs_leave_the_channel_idle():
    assert row_efficiency(np.array([32.0, 64.0, ACTIVATION_BYTES, 4096.0])).tolist() == [0.25, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(("T", "slower"), [(8, 4.0), (16, 2.0), (32, 1.0)])
def test_a_sum_by_columns_reads_as_many_bytes_but_in_short_runs(T, slower):
    """At N = 8192 the blocks of a wave lie below each other: each row of the matrix gives T · 4 bytes to them."""
    rows, columns = (estimate(find_description(f"matrix_sum_{n}"), "Titan", N=8192, T=T)["dram"] for n in ("coalesced", "normal"))
    assert columns.amount == rows.amount
    assert rows.efficiency / columns.efficiency == pytest.approx(slower, rel=1e-6)


# -- sectors that L1 does not keep


@pytest.mark.parametrize(
    ("gpu", "cached", "address", "cycles"),
    [
        ("GTX-980", False, LANES * 128, 16.0),  # 32 sectors, two a cycle
        ("GTX-980", True, LANES * 128, 64.0),  # 32 lines of 128 bytes, 64 bytes a cycle
        ("GTX-980", False, LANES * 4, 2.0),
        ("GTX-980", True, LANES * 4, 2.0),
        ("Tesla-K40", False, LANES * 128, 64.0),  # a replay of two cycles for each line
        ("Tesla-K40", False, LANES * 4, 2.0),
        ("Tesla-K40", False, LANES // 8 * 4096, 8.0),
        ("V100", False, LANES * 132, 8.0),  # unified: the array is not split
        ("V100", True, LANES * 132, 8.0),
    ],
)
def test_what_passes_l1_by_moves_sectors(gpu, cached, address, cycles):
    assert l1_cycles(one_request(address), find_device(gpu), cached).tolist() == [cycles]


@pytest.mark.parametrize(
    "name", ["matMul_gpu", "matMul_gpu_uncoalesced", "matMul_gpu_sharedmem", "matMul_gpu_sharedmem_uncoalesced"]
)
def test_bytes_from_memory_against_nvprof(data_dir, name):
    """Titan, which has no ECC to count: sectors that neighbouring trips share come once. Without that the kernels with
    strided rows were four times too high."""
    found = dataset_mapping(name)
    assert found is not None
    rows = pd.read_parquet(data_dir / f"gpuperfpredict__{name}.parquet")
    rows = rows[(rows["gpu"] == "Titan") & rows["input_size"].isin([2048, 3072, 4096])]
    scores = Scorer(found.description, "Titan").score({a: rows[str(c)].to_numpy() for a, c in found.columns.items()})
    ratio = scores.counters["dram_read_bytes"] / (rows["Device.Memory.Read.Transactions"].to_numpy(np.float64) * 32)
    assert len(ratio) == 9
    assert 0.4 <= ratio.min() <= ratio.max() <= 1.05
    assert np.median(ratio) == pytest.approx(1.0, abs=0.15 if name != "matMul_gpu_uncoalesced" else 0.30)


# -- two directions between an SM and L2


@pytest.mark.parametrize(
    ("loaded", "load_lines", "stored", "store_lines", "flits"),
    [
        (8, 2, 0, 0, 8),  # two coalesced loads: a request each, four sectors back
        (8, 2, 4, 1, 8),  # and a coalesced store, on its way while they come
        (0, 0, 4, 1, 5),  # alone: header and four sectors
        (64, 64, 32, 32, 128),  # the sum by columns: 64 requests up, 32 headers and 32 sectors too
        (0, 0, 0, 0, 0),
    ],
)
def test_the_fuller_direction_of_a_port(loaded, load_lines, stored, store_lines, flits):
    down, asked, up, headers = (np.array([float(x)]) for x in (loaded * 32, load_lines, stored * 32, store_lines))
    assert port_bytes(down, asked, up, headers, flit_bytes=32).tolist() == [flits * 32.0]


# -- one operation after the other


@kernel(static=("SUMS",))
def series(k, *, N, SUMS):
    """N operations of one thread: on an accumulator each, or one that nothing is known about."""
    a, total = k.buffer("a", (32,), f32), k.register("total", (SUMS or 1,), f32)
    with k.blocks(1), k.threads(32) as t:
        with k.serial(N, "i", unroll=32), k.unrolled(SUMS or 1, "j") as j:
            if SUMS:
                k.do("sum", loads=total[j], work=k.fma(f32), stores=total[j])
            else:
                k.do("work", work=k.integer(i32))
        k.store(a[t], name="store")


def test_a_lone_warp_waits_for_every_operation_of_a_statement_without_accumulators():
    device, n = find_device("Tesla-K40"), 1 << 20
    alone, summed, spread = (estimate(series, device, N=n // max(s, 1), SUMS=s).seconds for s in (0, 1, 8))
    cycles = device.throughput.alu_latency_cycles * n / device.clock.sustained_hz
    assert alone == pytest.approx(cycles, rel=0.15)
    assert summed == pytest.approx(alone, rel=0.15)
    assert spread < 0.5 * alone


# -- the tree of a dot product


@given(st.sampled_from([32, 64, 128, 256, 512, 1024]), st.booleans())
def test_requests_of_a_dot_product(B, predicated):
    """By the steps of the tree: all warps where the step is predicated, else those with a lane below h."""
    blocks, warps = 5, B // 32
    steps = [B >> s for s in range(1, B.bit_length())]
    adding = sum(warps if predicated else -(-h // 32) for h in steps)
    assume(B >= 32)
    found = Scorer(find_description("dot_product"), "Tesla-K40").score({"N": [blocks * B], "B": [B], "PREDICATED": [predicated]})
    c = {n: float(v[0]) for n, v in found.counters.items()}
    assert c["global_load_requests"] == 2 * warps * blocks
    assert c["global_store_requests"] == c["l2_write_sectors"] == blocks
    assert c["shared_load_requests"] == c["shared_load_wavefronts"] == (2 * adding + 1) * blocks
    assert c["shared_store_requests"] == c["shared_store_wavefronts"] == (warps + adding) * blocks
