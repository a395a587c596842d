"""Library operators: schedules, warm buffers, asynchronous work, and hand counts of the shipped descriptions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from costmodel import Scorer, estimate, kernel
from costmodel.charges.bandwidth import mixed_efficiency
from costmodel.charges.coalescing import coalesce
from costmodel.charges.latency import pipeline_wait
from costmodel.charges.overlap import overlap
from costmodel.cost import best_schedule, dataset_mapping, find_description, score_measured
from costmodel.cost.scorer import plan_for
from costmodel.cost.warmth import reuse_distance
from costmodel.counts import warp_requests
from costmodel.counts.lane_plan import lane_plan
from costmodel.counts.lanes import distinct_parts
from costmodel.device import find_device
from costmodel.dtypes import f32
from costmodel.errors import DataError, DescriptionError, SizeError
from costmodel.validate import Report, load, validate
from costmodel.validate.suite import Choice, Skipped, load_files, reports

TILE = {"BM": 64, "BN": 64, "BK": 64, "WM": 32, "WN": 32, "STAGES": 4}


# -- schedules


def test_the_best_schedule_is_the_least_over_all() -> None:
    problems = pd.DataFrame({"N": [1 << 12, 1 << 20, 1 << 12, 1 << 26], "note": list("abcd")})
    schedules = {"B": [32, 128, 1024, 4096]}
    scorer = Scorer(find_description("vector_add"), "A100")
    best = best_schedule(scorer, problems, schedules)
    for row, n in enumerate(problems["N"]):
        each = [scorer.score({"N": int(n), "B": b}).seconds[0] for b in schedules["B"]]
        assert best.seconds[row] == min(each)
        assert best.table["B"][row] == schedules["B"][int(np.argmin(each))]
    assert best.table["note"].tolist() == list("abcd")
    assert best.same.tolist() == [0, 1, 0, 2]
    assert len(best.counters["occupancy"]) == 4


def test_a_problem_that_no_schedule_can_run_says_why() -> None:
    best = best_schedule(Scorer(find_description("vector_add"), "A100"), {"N": [64]}, {"B": [4096, 8192]})
    assert math.isinf(best.seconds[0])
    assert best.reason[0] == "4096 threads per block, at most 1024"


@pytest.mark.parametrize(("schedules", "message"), [({"N": [1], "B": [2]}, "columns N are in both"), ({"B": []}, "no rows")])
def test_schedules_that_make_no_sense_are_refused(schedules: dict[str, list[int]], message: str) -> None:
    with pytest.raises(SizeError, match=message):
        best_schedule(Scorer(find_description("vector_add"), "A100"), {"N": [64]}, schedules)


def test_a_data_set_is_priced_as_it_was_measured() -> None:
    mapping = dataset_mapping("neusight_softmax")
    assert mapping is not None
    assert mapping.launch_s is not None
    device = find_device("V100")
    scores = score_measured(mapping, device, {"B": [8192, 8192], "H": [700, 1600]})
    assert scores.table["WIDTH"].tolist() == [1024, 0]
    assert scores.table["T"].tolist() == [128, 256]  # as grid and block of NeuSight's V100 rows say
    plain = Scorer(mapping.description, device).score({"B": 8192, "H": 700, "WIDTH": 1024, "T": 128})
    assert scores.seconds[0] == pytest.approx(plain.seconds[0] - device.launch_overhead_s + mapping.launch_s)


# -- rows that a description does not hold for


@pytest.fixture
def two_gpus(tmp_path: Path) -> Path:
    """Products of two libraries, one of which is described, and a kernel whose times are missing."""
    product = {
        "kernel": "matmul_fp16",
        "M": 512,
        "N": [1024, 2048, 4096],
        "K": 1024,
        "time_ms": [0.02, 0.03, 0.05],
        "status": "ok",
    }
    rate = {"kernel": "vectorAdd", "gpu": "V100", "input_size": [1 << 20], "block_x": 128, "status": "ok"}
    tables = [pd.DataFrame({**product, "gpu": gpu}) for gpu in ("MI210", "A100")]
    pd.concat(tables).to_csv(tmp_path / "two.csv", index=False)
    pd.concat([*tables, pd.DataFrame(rate)]).to_csv(tmp_path / "three.csv", index=False)
    return tmp_path


def test_a_gpu_that_is_not_described_is_named_and_the_others_are_judged(two_gpus: Path) -> None:
    measured, _ = load_files([two_gpus / "three.csv"], Choice())
    product, report, rate = reports(measured, Choice(), alone=True)
    assert isinstance(product, Skipped)
    assert (product.what, product.gpu, product.rows) == ("not described", "MI210", 3)
    assert product.reason.startswith("gpu == 'A100' does not hold: rocBLAS's kernels")
    assert isinstance(report, Report)
    assert (report.gpu, report.metrics.n) == ("A100", 3)
    assert isinstance(rate, Skipped)
    assert (rate.what, rate.gpu) == ("no rows", "V100")
    assert "1 ok, but without a positive time_ms" in rate.reason


def test_a_data_set_may_mean_another_gpu_by_a_name(two_gpus: Path) -> None:
    _, measured = load(two_gpus / "two.csv")
    assert validate(measured).device == "a100_sxm4_80gb"
    assert validate(measured, device=find_device("A100")).device == "a100_pcie_40gb"


def test_where_nothing_else_is_left_it_is_an_error(two_gpus: Path) -> None:
    choice = Choice(gpus=("MI*",))
    measured, _ = load_files([two_gpus / "two.csv"], choice)
    with pytest.raises(DataError, match=r"two.csv: matmul_fp16 on MI210: gpu == 'A100' does not hold: rocBLAS"):
        list(reports(measured, choice, alone=True))


def test_rows_of_one_gpu_that_are_left_out_are_counted(two_gpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = dataset_mapping("matmul_fp16")
    assert mapping is not None
    partly = replace(mapping, where="N > 1024", otherwise="it is too small")
    monkeypatch.setattr("costmodel.validate.case.dataset_mapping", lambda name: partly)
    report = validate(load(two_gpus / "two.csv")[1])
    assert report.metrics.n == 2
    assert report.notes == ("matmul_fp16 on A100: 1 of 3 left out: N > 1024 does not hold: it is too small",)


# -- warm buffers


def test_reuse_distances_by_hand() -> None:
    sizes = {"X": np.array([1.0]), "W": np.array([10.0]), "Y": np.array([100.0])}
    assert reuse_distance("X", sizes, {"X": 1, "W": 6}) == 1 + 10 + 100
    assert reuse_distance("W", sizes, {"X": 1, "W": 6}) == 1 + 60 + 600  # Y is new each time
    assert np.isinf(reuse_distance("Y", sizes, {"X": 1, "W": 6}))


def test_small_arrays_stay_in_l2_and_large_ones_do_not() -> None:
    add = find_description("vector_add")
    small, large = ({"N": n, "B": 256} for n in (1 << 18, 1 << 26))

    def read(sizes: dict[str, int], **how: object) -> float:
        return float(Scorer(add, "A100", **how).score(sizes).counters["dram_read_bytes"][0])  # type: ignore[arg-type]

    assert read(small, warm={}) == 2 * 4 * (1 << 18)
    assert read(small) == read(small, warm=1) < 0.01 * read(small, warm={})
    assert 0 < read(small, warm={"a": 1}) == pytest.approx(4 * (1 << 18), rel=0.01)
    assert read(small, warm={"a": 100, "b": 100}) > 0.9 * read(small, warm={})
    assert read(large) == pytest.approx(read(large, warm={}), rel=0.01)


@pytest.mark.parametrize(
    ("warm", "message"), [({"q": 1}, "no global buffer 'q'; it has a, b, c"), ({"a": 0}, "at least 1"), (0, "at least 1")]
)
def test_warm_buffers_are_checked(warm: dict[str, int] | int, message: str) -> None:
    with pytest.raises(SizeError, match=message):
        estimate(find_description("vector_add"), "A100", warm=warm, N=1024, B=128)


def test_what_a_launch_writes_first_it_reads_from_l2() -> None:
    @kernel
    def twice(k, *, N):
        a, b = k.buffer("a", (N,), f32), k.buffer("b", (N,), f32)
        with k.blocks(N // 128) as block, k.threads(128) as t:
            k.store(a[block * 128 + t])
            k.barrier()
            k.copy(a[block * 128 + t].uncached(), b[block * 128 + t])

    assert Scorer(twice, "A100", warm={}).score({"N": 1 << 16}).counters["dram_read_bytes"][0] < 1.0


# -- charges


def test_a_mix_of_reads_and_writes_by_hand() -> None:
    assert mixed_efficiency(np.array([2.0, 1.0]), np.array([1.0, 0.0])).tolist() == pytest.approx([1 - 0.07 * 8 / 9, 1.0])


def test_asynchronous_work_does_not_queue() -> None:
    one = np.ones(1)
    units = [3.0 * one, 4.0 * one]
    queued = overlap(units, 0 * one, 0 * one, one, np.ones(1, np.int64))
    beside = overlap(units, 0 * one, 0 * one, one, np.ones(1, np.int64), [3.0 * one, 0 * one])
    assert queued.cycles[0] == pytest.approx((3**2.5 + 4**2.5) ** 0.4)
    assert beside.cycles[0] == pytest.approx(4.0)
    assert overlap(units, 0 * one, 0 * one, one, np.ones(1, np.int64), [0 * one, 4 * one]).unit_shares[1][0] == pytest.approx(4.0)


def test_a_pipeline_waits_for_its_first_copies_and_then_for_what_is_not_covered() -> None:
    assert pipeline_wait(10.0, 1.0, 600.0, 5000.0) == 600 + 9 * 600  # one buffer: every step waits
    assert pipeline_wait(10.0, 4.0, 600.0, 0.0) == 600 + 7 * 200
    assert pipeline_wait(10.0, 4.0, 600.0, 1500.0) == 600 + 7 * 50
    assert pipeline_wait(10.0, 4.0, 600.0, 5000.0) == 600
    assert pipeline_wait(1.0, 4.0, 600.0, 0.0) == 600


def test_asynchronous_copies_fill_shared_memory_off_the_path() -> None:
    scored = estimate(find_description("library_gemm"), "A100", M=128, N=128, K=128, **TILE)
    steps, per_step = 2, 64 * 64 * 2 // 512  # requests of 512 bytes, for each operand and tile
    copies = [a for a in scored.accesses if a.statement == "copy" and a.space == "global"]
    assert [a.requests for a in copies] == [4 * steps * per_step] * 2
    fragments = [a for a in scored.accesses if a.statement.startswith("fragment")]
    assert all(a.wavefronts == 4 * a.requests for a in fragments)  # free of bank conflicts
    assert sum(a.requests for a in fragments) == 4 * 4 * steps * (64 // 16) * (2 + 2)


def test_only_copies_and_matrix_instructions_are_asynchronous() -> None:
    @kernel
    def wrong(k, *, N):
        a, b = k.buffer("a", (N,), f32), k.buffer("b", (N,), f32)
        with k.blocks(N) as block, k.threads(1) as t:
            k.copy(a[block + t], b[block + t], asynchronous=True)

    with pytest.raises(DescriptionError, match="asynchronous copies go from one global access to one shared access"):
        wrong.trace()


# -- what need not be told apart


@pytest.mark.parametrize("name", ["library_gemm", "linear", "bmm", "gemm", "transpose_padded"])
def test_pitches_and_joined_sizes_change_no_request(name: str) -> None:
    """A table, whose pitches are replaced, asks for the sectors and lines of each row by itself, as it stands."""
    description = find_description(name)
    rng = np.random.default_rng(7)
    statics, fixed, table = _wide_and_narrow(name, rng)
    traced = description.trace(**statics)
    replaced = 0
    for access in plan_for(traced).accesses:
        if access.access.buffer.space != "global":
            continue
        many = coalesce(warp_requests(traced, access.site, access.access, {**fixed, **table}))
        for row in range(12):
            one = {**fixed, **{n: int(c[row]) for n, c in table.items()}}
            lanes = lane_plan(traced, access.site, access.access, 128, one)
            replaced += lanes.pitch is not None
            sizes = lanes.completed(one)
            (as_it_stands,) = distinct_parts(replace(lanes, pitch=None), sizes, 1, 32, 128, 1 << 20)
            found = coalesce(replace(as_it_stands, outer=lanes.outer(sizes)[0]))
            for figure in ("requests", "sectors", "lines"):
                expected = float(getattr(found, figure)[0])
                assert np.broadcast_to(getattr(many, figure), 12)[row] == pytest.approx(expected), figure
    assert replaced


def _wide_and_narrow(name: str, rng: np.random.Generator) -> tuple[dict[str, int], dict[str, int], dict[str, Any]]:
    """Statics, fixed sizes, and twelve problem sizes around those at which rows come to lie far apart."""
    if name == "library_gemm":
        table = {n: rng.integers(1, 40, 12) * 64 for n in "NK"} | {"M": rng.integers(1, 700, 12)}
        return {}, {**TILE, "SPLIT": 1, "FEW": 1}, table
    if name == "gemm":
        return {}, {"BM": 32, "BN": 64, "BK": 8, "TM": 4, "TN": 8}, {n: rng.integers(1, 30, 12) * 64 for n in "MNK"}
    if name == "transpose_padded":
        return {}, {"T": 32, "R": 8}, {"N": rng.integers(1, 30, 12) * 32}
    fixed = {"BM": 64, "BN": 128, "TM": 8, "TN": 8, "SLICES": 1, "SPLIT": 1} | ({"B": 2} if name == "bmm" else {})
    return {"V": 1}, fixed, {n: rng.integers(1, 3000, 12) for n in "MNK"}


@pytest.mark.parametrize("gpu", ["H100", "A100"])
def test_a_wider_product_costs_no_less_and_at_most_one_more_wave(gpu: str) -> None:
    """All widths in steps of a vector: tiles that share 4,160 columns hold whole vectors of them, not 127 elements."""
    mapping, device = dataset_mapping("gemm_bf16"), find_device(gpu)
    assert mapping is not None
    scores = score_measured(mapping, device, {"M": 4096, "N": np.arange(4096, 4353, 8), "K": 4096})
    assert scores.feasible.all()
    table = scores.table
    waves = -(-table.M // table.BM) * -(-table.N // table.BN) * table.SPLIT / device.sm_count
    rise = scores.seconds[1:] / scores.seconds[:-1]
    assert rise.min() >= 0.97
    assert (rise <= 1 + 1 / waves.to_numpy()[:-1]).all()


def test_no_tile_is_refused_for_its_width() -> None:
    table = {**TILE, "M": 512, "N": np.arange(64, 8193, 64), "K": 1024, "BN": 128, "WN": 64}
    assert Scorer(find_description("library_gemm"), "A100").score(table).feasible.all()


def test_shuffles_take_no_shared_memory_and_need_no_store() -> None:
    sizes = {"B": 8192, "H": 1000, "WIDTH": 1024, "T": 128}
    soft = estimate(find_description("softmax"), "A100", **sizes)
    shuffles = [a for a in soft.accesses if a.access.startswith("exchange")]
    assert [a.wavefronts for a in shuffles] == [5 * 8192] * 2  # five halvings of each warp, twice
    assert sum(level.footprint_bytes for level in soft.levels if level.name == "shared") == 0
    norm = estimate(find_description("layer_norm"), "A100", B=8192, H=4096)
    assert not soft.warnings
    assert not norm.warnings


# -- hand counts


@pytest.mark.parametrize(("M", "padded"), [(1, 64), (33, 64), (64, 64), (65, 128), (256, 256)])
def test_a_matrix_product_multiplies_padding_and_loads_none(M: int, padded: int) -> None:
    N, K = 512, 1024
    cost = estimate(find_description("library_gemm"), "A100", M=M, N=N, K=K, warm={}, **TILE)
    assert cost.flops == 2 * padded * N * K
    dram = next(level for level in cost.levels if level.name == "dram")
    rows = math.ceil(M / (padded // 64)) * (padded // 64)  # shared evenly: 65 rows are 2 × 33
    assert dram.footprint_bytes == 2 * (rows * K + N * K + rows * N)


def test_split_products_write_and_read_partial_sums() -> None:
    M, N, K = 128, 512, 4096
    cost = estimate(find_description("library_gemm"), "A100", M=M, N=N, K=K, warm={}, SPLITS=True, SPLIT=4, **TILE)
    partial = [a for a in cost.accesses if a.access.startswith("partial")]
    assert [a.requested_bytes for a in partial] == [4 * 4 * M * N] * 2
    assert cost.flops >= 2 * M * N * K


def test_hopper_reads_operands_once_for_four_warps() -> None:
    sizes = {"M": 128, "N": 256, "K": 64, "BM": 128, "BN": 256, "BK": 64, "WM": 64, "WN": 256, "STAGES": 4}
    cost = estimate(find_description("library_gemm"), "H100", INSTRUCTION="wgmma", **sizes)
    read = {a.statement: a.requested_bytes for a in cost.accesses if a.space == "shared" and a.kind == "load"}
    assert read == {"operand X": 128 * 64 * 2, "operand W": 2 * 256 * 64 * 2}  # two groups of four warps share W, not X


@pytest.mark.parametrize(("op", "per_element"), [("add", 12), ("mulu", 8), ("gelu", 8)])
def test_element_wise_bytes(op: str, per_element: int) -> None:
    cost = estimate(find_description("elementwise"), "V100", op=op, B=1024, H=1000, warm={})
    dram = next(level for level in cost.levels if level.name == "dram")
    assert dram.footprint_bytes == per_element * 1024 * 1000
    assert cost.blocks == 1024 * 1000 // 512


def test_rows_are_read_twice_or_three_times() -> None:
    B, H = 4096, 2048
    norm = estimate(find_description("layer_norm"), "V100", B=B, H=H, warm={})
    assert sum(a.requested_bytes for a in norm.accesses if a.access.startswith("x[")) == 2 * 4 * B * H
    soft = estimate(find_description("softmax"), "V100", B=B, H=H, WIDTH=0, T=256, warm={})
    assert sum(a.requested_bytes for a in soft.accesses if a.access.startswith("x[")) == 3 * 4 * B * H
    warp = estimate(find_description("softmax"), "V100", B=B, H=1000, WIDTH=1024, T=128, warm={})
    assert sum(a.requested_bytes for a in warp.accesses if a.access.startswith("x[")) == 4 * B * 1000


def test_linear_by_hand() -> None:
    M, N, K = 2048, 6144, 512  # NeuSight's worked example: 1536 tiles of 128 × 64
    cost = estimate(find_description("linear"), "A100", M=M, N=N, K=K, BM=64, BN=128, TM=8, TN=8, SLICES=1, V=4, warm={})
    assert cost.blocks == 1536
    assert cost.flops == 2 * M * N * K
    dram = next(level for level in cost.levels if level.name == "dram")
    assert dram.footprint_bytes == pytest.approx(4 * (M * K + N * K + M * N), rel=0.01)
