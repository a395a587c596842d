"""Prices: one estimate and a whole table agree, terms add up, what cannot run says why, and the order is that of measurements."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel import Cost, Device, Scorer, SizeError, estimate, find_device, kernel, rank
from costmodel.cost import CHARGES, COUNTERS, find_description, search_space
from costmodel.dtypes import f16, f32, i32
from costmodel.errors import DescriptionError
from costmodel.ir import ceil_div
from costmodel.validate import load, metrics

GEMM = find_description("gemm_clblast")
GPUS = ("V100", "RTX_2070_SUPER", "GTX_1080_Ti", "A100", "H100", "MI50", "Tesla-K40")
SIZES = {
    "M": 4096, "N": 4096, "K": 4096, "MWG": 64, "NWG": 64, "KWG": 32, "MDIMC": 16, "NDIMC": 16, "MDIMA": 16, "NDIMB": 16,
    "KWI": 2, "VWM": 2, "VWN": 2, "SA": 1, "SB": 1,
}  # fmt: skip
ADD = {"N": 1 << 20, "B": 256}


def drawn(name: str, rows: int, seed: int = 0) -> pd.DataFrame:
    """Random configurations of a description's default space."""
    space = search_space(find_description(name))
    assert space is not None
    rng = np.random.default_rng(seed)
    return pd.DataFrame({n: rng.choice(np.atleast_1d(v), rows) for n, v in space.items()})


@pytest.fixture(scope="module")
def gemm_rows() -> pd.DataFrame:
    return drawn("gemm_clblast", 400)


@kernel
def copy_tile(k, *, N, X=32, Y=1, Z=1, S=1, D=1):
    """A kernel that can go wrong in many ways: N blocks, each of X × Y × Z threads, with two shared arrays."""
    a = k.buffer("a", (N, 1024), f32)
    static, dynamic = k.shared("static", (S,), f32), k.shared("dynamic", (D,), f32, dynamic=True)
    k.require(X % 8 == 0)
    with k.blocks(N) as b, k.threads(X, Y, Z) as (tx, _ty, _tz):
        k.copy(a[b, tx], static[0], "in")
        k.copy(a[b, 0], dynamic[0], "more")


@kernel
def grid_of(k, *, X, Y=1, Z=1):
    a = k.buffer("a", (32,), f32)
    with k.blocks(X, Y, Z), k.threads(32) as t:
        k.load(a[t])


@kernel
def halves(k, *, N):
    """N // 2 trips and vectors of N // 4."""
    a = k.buffer("a", (1024,), f32)
    with k.blocks(1), k.threads(32) as t, k.serial(N // 2, "i"):
        k.load(a[t * (N // 4)].wide(N // 4))


@kernel
def corner(k, *, N):
    """One row of an N × N matrix."""
    a = k.buffer("a", (N, N), f32)
    with k.blocks(1), k.threads(32) as t:
        k.load(a[0, t])


@kernel
def square(k, *, N, S=1, B=1, G=1):
    """Shared arrays of S × S, blocks of B × B and a grid of G × G."""
    a, s = k.buffer("a", (N,), f32), k.shared("s", (S, S), f32)
    with k.blocks(G, G), k.threads(B, B) as (t, _):
        k.copy(a[t * 0], s[0, t * 0])


@kernel
def tensor(k, *, N):
    a = k.buffer("a", (32,), f16)
    with k.blocks(N), k.threads(32) as t:
        k.do("mma", loads=a[t], work=k.mma(16, 8, 16, f16))


# -- a table and one estimate


@pytest.mark.parametrize("gpu", GPUS)
def test_an_estimate_equals_its_row(gpu, gemm_rows):
    scores = Scorer(GEMM, gpu).score(gemm_rows)
    assert 10 <= scores.feasible.sum() < len(gemm_rows), "both kinds are wanted here"
    for i in [*np.flatnonzero(scores.feasible)[:12], *np.flatnonzero(~scores.feasible)[:12]]:
        sizes = {str(n): int(v) for n, v in gemm_rows.iloc[i].items()}
        if scores.reason[i]:
            assert scores.seconds[i] == math.inf
            with pytest.raises(SizeError, match=re.escape(str(scores.reason[i]))):
                estimate(GEMM, gpu, **sizes)
            continue
        cost = estimate(GEMM, gpu, **sizes)
        assert cost.seconds == pytest.approx(scores.seconds[i], rel=1e-12)
        assert cost.occupancy.fraction == pytest.approx(scores.counters["occupancy"][i])
        assert (cost.registers_per_thread, cost.shared_bytes_per_block) == (
            scores.counters["registers"][i],
            scores.counters["shared_bytes"][i],
        )


@pytest.mark.parametrize("name", ["gemm", "matmul_shared", "matmul_naive_uncoalesced", "vector_add", "copy", "transpose_padded"])
@pytest.mark.parametrize("gpu", ["H100", "GTX-980", "MI210"])
def test_other_kernels_too(name, gpu):
    description, table = find_description(name), drawn(name, 60, seed=3)
    if name == "gemm":
        table = table.assign(M=2048, N=1024, K=512)
    scores = Scorer(description, gpu).score(table)
    assert scores.feasible.any()
    for i in np.flatnonzero(scores.feasible)[:5]:
        cost = estimate(description, gpu, **{str(n): int(v) for n, v in table.iloc[i].items()})
        assert cost.seconds == pytest.approx(scores.seconds[i], rel=1e-12)


def test_each_row_is_priced_alone(gemm_rows):
    whole = Scorer(GEMM, "V100").score(gemm_rows)
    mixed = gemm_rows.sample(frac=1.0, random_state=1)
    assert Scorer(GEMM, "V100").score(mixed).seconds == pytest.approx(whole.seconds[mixed.index.to_numpy()], rel=1e-12)
    for i in range(0, len(gemm_rows), 40):
        alone = Scorer(GEMM, "V100").score(gemm_rows.iloc[i : i + 1])
        assert alone.seconds[0] == pytest.approx(whole.seconds[i], rel=1e-12)
        assert alone.reason[0] == whole.reason[i]


def test_a_traced_kernel_works_in_place_of_its_description(gemm_rows):
    traced = GEMM.trace(SA=1, SB=0, STRM=0, STRN=0)
    rows = gemm_rows.assign(SA=1, SB=0, STRM=0, STRN=0)
    assert Scorer(traced, "V100").score(rows).seconds.tolist() == Scorer(GEMM, "V100").score(rows).seconds.tolist()
    sizes = {n: v for n, v in SIZES.items() if n not in ("SA", "SB")}
    assert estimate(traced, "V100", **sizes).seconds == estimate(GEMM, "V100", SA=1, SB=0, **sizes).seconds
    assert len(rank(traced, "V100", rows, top=3)) == 3
    with pytest.raises(SizeError, match="unknown size 'SA'"):
        estimate(traced, "V100", **SIZES)


def test_columns_of_every_kind():
    """Lists, ranges, arrays, Series of any index and nullable integers are all columns; one value is for all rows."""
    add = find_description("vector_add")
    expected = [estimate(add, "H100", N=n, B=256).seconds for n in (4096, 1 << 24, 1 << 20)]
    numbers = [4096, 1 << 24, 1 << 20]
    for column in (
        numbers, tuple(numbers), np.array(numbers, np.int32), np.array(numbers, np.uint64), pd.Series(numbers, index=[2, 0, 1]),
        pd.Series(numbers, index=[7, 8, 9]), pd.array(numbers, dtype="Int64"), np.array(numbers, np.float64), np.array(numbers, object),
    ):  # fmt: skip
        assert Scorer(add, "H100").score({"N": column, "B": 256}).seconds.tolist() == pytest.approx(expected, rel=1e-12)
    filtered = pd.DataFrame({"N": [1, *numbers], "B": 256, "time": 0.5}).iloc[1:]
    scores = Scorer(add, "H100").score(filtered)
    assert scores.seconds.tolist() == pytest.approx(expected, rel=1e-12)
    assert scores.frame()["seconds"].tolist() == scores.seconds.tolist()
    assert scores.frame()["time"].tolist() == [0.5] * 3, "other columns are kept"
    assert len(Scorer(add, "H100").score({"N": range(1024, 1027), "B": 64}).seconds) == 3


def test_a_default_fills_a_missing_column():
    copy = find_description("copy")
    table = {"N": [1 << 20, 1 << 22], "B": 128}
    assert Scorer(copy, "H100").score(table).seconds.tolist() == Scorer(copy, "H100").score({**table, "V": 1}).seconds.tolist()
    assert estimate(copy, "H100", N=1 << 20, B=128).sizes["V"] == 1


def test_an_empty_table_has_no_prices():
    empty = pd.DataFrame({"N": np.array([], np.int64), "B": np.array([], np.int64)})
    assert Scorer(find_description("vector_add"), "H100").score(empty).seconds.shape == (0,)
    assert rank(find_description("vector_add"), "H100", empty).empty


# -- what a cost says


@pytest.mark.parametrize("gpu", GPUS)
def test_terms_add_up(gpu, gemm_rows):
    scores = Scorer(GEMM, gpu).score(gemm_rows)
    for i in np.flatnonzero(scores.feasible)[:15]:
        check_cost(estimate(GEMM, gpu, **{str(n): int(v) for n, v in gemm_rows.iloc[i].items()}))


@pytest.mark.parametrize("name", ["vector_add", "copy", "matmul_shared", "transpose_naive", "transpose_padded"])
def test_terms_of_other_kernels_add_up(name):
    table = drawn(name, 30, seed=5)
    scores = Scorer(find_description(name), "A100").score(table)
    for i in np.flatnonzero(scores.feasible)[:8]:
        check_cost(estimate(find_description(name), "A100", **{str(n): int(v) for n, v in table.iloc[i].items()}))


def check_cost(cost: Cost) -> None:
    shares = [t.share_s for t in cost.terms]
    assert math.isclose(sum(shares), cost.seconds, rel_tol=1e-9)
    assert shares == sorted(shares, reverse=True)
    assert min(shares) >= -1e-12 * cost.seconds
    assert cost.bound == cost.terms[0].name
    assert len({t.name for t in cost.terms}) == len(cost.terms)
    assert {"latency", "tail", "launch", "dram", "issue"} <= {t.name for t in cost.terms}
    for term in cost.terms:
        assert 0 < term.efficiency <= 1
        assert term.rate > 0
        assert math.isfinite(term.rate)
        assert cost[term.name] is term
        if term.name not in ("tail", "latency", "launch"):
            assert term.share_s <= term.seconds * (1 + 1e-9), f"{term.name}: overlapping hides time and adds none"
            assert term.seconds <= cost.seconds * (1 + 1e-9), f"{term.name} alone takes longer than the whole"
    o = cost.occupancy
    assert o.blocks_per_sm >= 1
    assert o.warps_per_sm <= o.max_warps_per_sm
    assert 0 < o.fraction <= 1
    assert o.warps_per_sm <= o.blocks_per_sm * -(-cost.threads_per_block // cost.device.limits.warp_size)
    for level in cost.levels:
        assert level.requested_bytes > 0
        assert level.transferred_bytes > 0
    names = [level.name for level in cost.levels]
    assert names in (["l1", "l2", "dram"], ["shared", "l1", "l2", "dram"])
    l1, l2, dram = cost.levels[-3:]
    assert l1.footprint_bytes == l2.footprint_bytes == dram.footprint_bytes
    assert (l2.requested_bytes, dram.requested_bytes) == (l1.transferred_bytes, l2.transferred_bytes)
    for access in cost.accesses:
        assert access.requests > 0
        assert access.kind in ("load", "store")
        assert access.efficiency > 0
        assert (access.sectors > 0) == (access.space == "global")
        assert (access.wavefronts > 0) == (access.space == "shared")
    assert cost.flops_per_s == cost.flops / cost.seconds
    assert cost.flops_per_s <= 2 * 4 * cost.device.throughput.fp32_fma * cost.device.sm_count * cost.device.clock.boost_hz
    assert cost.arithmetic_intensity == cost.flops / dram.transferred_bytes


def test_a_cost_by_hand():
    cost = estimate(GEMM, "V100", **SIZES)
    assert cost.flops == 2 * 4096**3 + 3 * 4096**2  # and alpha, beta of C
    assert (cost.threads_per_block, cost.blocks, cost.shared_bytes_per_block) == (256, 64 * 64, 2 * 32 * 64 * 4)
    assert cost.sizes == {**SIZES, "STRM": 0, "STRN": 0}
    assert (cost.kernel, cost.device.name) == ("gemm_clblast", "v100_pcie")
    assert not cost.registers_known
    assert cost.occupancy.waves == 4096 / (cost.occupancy.blocks_per_sm * 80)
    assert cost["fma f32"].amount == 4096**3 + 4096**2
    assert cost["fma f32"].rate == pytest.approx(64 * 80 * cost.device.clock.sustained_hz)
    with pytest.raises(KeyError, match=r"no term 'tensor'; there are: .*dram"):
        cost["tensor"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        cost.seconds = 1.0  # type: ignore[misc]


def test_registers_a_compiler_told():
    told = estimate(GEMM, "V100", registers=128, **SIZES)
    assert (told.registers_known, told.registers_per_thread, told.spilled_registers) == (True, 128, 0)
    assert (told.occupancy.blocks_per_sm, told.occupancy.limiter) == (2, "registers")
    assert Scorer(GEMM, "V100", registers=128).score({**SIZES}).seconds[0] == pytest.approx(told.seconds, rel=1e-12)
    numpys: Any = np.int64(128)
    assert estimate(GEMM, "V100", registers=numpys, **SIZES).seconds == told.seconds
    for bad in (0, -1, 256, 32.0, True, "32"):
        with pytest.raises(SizeError, match="registers"):
            estimate(GEMM, "V100", registers=bad, **SIZES)  # type: ignore[arg-type]
        with pytest.raises(SizeError, match="registers"):
            Scorer(GEMM, "V100", registers=bad).score(SIZES)


# -- what cannot run


REFUSED: list[tuple[Any, str, dict[str, int], str]] = [
    (copy_tile, "V100", {"N": 4, "X": 12}, "requires X % 8 == 0"),
    (copy_tile, "V100", {"N": 4, "X": 1032}, "index 1 of a[block_x, thread_x] in 'in' reaches 1031, beyond the extent 1024"),
    (copy_tile, "V100", {"N": 4, "X": 1024, "Y": 2}, "2048 threads per block, at most 1024"),
    (copy_tile, "V100", {"N": 4, "X": 8, "Z": 65}, "65 threads along z, at most 64"),
    (copy_tile, "V100", {"N": 4, "S": 12289}, "49156 bytes of shared memory per block, at most 49152 for static arrays"),
    (copy_tile, "V100", {"N": 4, "D": 24577}, "98312 bytes of shared memory per block, at most 98304"),
    (copy_tile, "A100", {"N": 4, "S": 12288, "D": 29441}, "166916 bytes of shared memory per block, at most 166912"),
    (copy_tile, "GTX-980", {"N": 4, "D": 12289}, "49160 bytes of shared memory per block, at most 49152"),
    (copy_tile, "V100", {"N": 1 << 24}, "global arrays need 68719476736 bytes, the device has "),
    (grid_of, "V100", {"X": 1 << 31}, "2147483648 blocks along x, at most 2147483647"),
    (grid_of, "V100", {"X": 1, "Y": 65536}, "65536 blocks along y, at most 65535"),
    (grid_of, "V100", {"X": 1, "Z": 65536}, "65536 blocks along z, at most 65535"),
    (halves, "V100", {"N": 1}, "is 0, expected at least 1"),
    (halves, "V100", {"N": 2}, "the width of a[…]"),
    (tensor, "GTX_1080_Ti", {"N": 4}, "the device has no unit for mma f16"),
]  # fmt: skip


@pytest.mark.parametrize(("description", "gpu", "sizes", "reason"), REFUSED, ids=[f"{r[0].name}-{r[3][:30]}" for r in REFUSED])
def test_what_cannot_run_says_why(description, gpu, sizes, reason):
    """The same text from one estimate, from a table of one row, and among rows that can run."""
    with pytest.raises(SizeError) as caught:
        estimate(description, gpu, **sizes)
    assert str(caught.value).startswith(f"{description.name} cannot run on {find_device(gpu).name}: ")
    assert reason in str(caught.value)
    assert all(f"{n}={v}" in str(caught.value) for n, v in sizes.items())
    scorer = Scorer(description, gpu)
    assert reason in scorer.score(sizes).reason[0]
    fine = {"N": 4} if "N" in description.params else {"X": 4}
    names = {**{n: description.defaults.get(n, 4) for n in description.params}, **fine}
    table = pd.DataFrame([{**names, **sizes}, names, {**names, **sizes}])
    scores = scorer.score(table)
    assert reason in scores.reason[0]
    assert scores.reason[2] == scores.reason[0]
    assert not scores.feasible[[0, 2]].any()
    assert (scores.seconds[[0, 2]] == np.inf).all()
    for name in scores.counters:
        assert np.isnan(scores.counters[name][[0, 2]]).all(), name
    if gpu != "GTX_1080_Ti":
        assert scores.reason[1] == ""
        assert scores.seconds[1] < np.inf


def test_what_just_fits_runs():
    estimate(copy_tile, "V100", N=4, S=12288, X=1024)
    estimate(copy_tile, "V100", N=4, D=24575)
    estimate(copy_tile, "A100", N=4, S=12288, D=29440)
    estimate(grid_of, "V100", X=2**31 - 1)
    estimate(grid_of, "V100", X=1, Y=65535, Z=1)
    estimate(tensor, "V100", N=4)
    estimate(grid_of, "MI50", X=1, Y=65536)


def test_registers_that_no_block_finds():
    reason = "262144 registers per block, at most 65536"
    sizes = {"N": 4, "X": 1024}
    with pytest.raises(SizeError, match=reason):
        estimate(copy_tile, "V100", registers=255, **sizes)
    scores = Scorer(copy_tile, "V100", registers=255).score({**sizes, "X": [1024, 32]})
    assert scores.reason.tolist() == [reason, ""]
    assert (scores.seconds == np.inf).tolist() == [True, False]


def test_a_device_on_which_no_block_is_resident():
    v100 = find_device("V100")
    small = replace(v100, shared=replace(v100.shared, capacity_bytes_per_sm=16 * 1024))
    with pytest.raises(SizeError, match="no block fits an SM: shared memory"):
        estimate(copy_tile, small, N=4, S=8192)
    assert Scorer(copy_tile, small).score({"N": 4, "S": [8192, 64]}).reason.tolist() == ["no block fits an SM: shared memory", ""]


@pytest.mark.parametrize("n", [2**32, 2**33, 2**40])
@pytest.mark.parametrize("what", ["array", "S", "B", "G"])
@pytest.mark.parametrize("gpu", ["H100", "MI50"])
def test_sizes_far_too_large_for_64_bits_are_refused(what, gpu, n):
    """Products that wrap around to something small must not look as if they ran."""
    description, given = (corner, {"N": n}) if what == "array" else (square, {"N": 64, what: n})
    with pytest.raises(SizeError, match="cannot run on"):
        estimate(description, gpu, **given)
    columns = {name: [value, 64 if name == "N" else 1] for name, value in given.items()}
    scores = Scorer(description, gpu).score(columns)
    assert scores.reason[0]
    assert scores.reason[1] == ""
    assert Scorer(description, gpu).score(given).reason[0] == scores.reason[0]


# -- bad input


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"MGW": 64}, "unknown size 'MGW' (did you mean 'MWG'?); expected "),
        ({"completely_else": 64}, "unknown size 'completely_else'; expected "),
        ({"MWG": True}, "MWG=True: expected a whole number, got bool"),
        ({"MWG": 64.0}, "MWG=64.0: expected a whole number, got float"),
        ({"MWG": "64"}, "MWG='64': expected a whole number, got str"),
        ({"MWG": None}, "MWG=None: expected a whole number, got NoneType"),
        ({"MWG": [64]}, "MWG=[64]: expected a whole number, got list"),
        ({"MWG": 0}, "MWG=0: expected a number from 1 to 2**40"),
        ({"MWG": -64}, "MWG=-64: expected a number from 1 to 2**40"),
        ({"M": 2**60}, f"M={2**60}: expected a number from 1 to 2**40"),
        ({"M": 2**40 + 1}, "M=1099511627777: expected a number from 1 to 2**40"),
        ({"M": 10**30}, f"M={10**30}: expected a number from 1 to 2**40"),
    ],
)
def test_bad_sizes_of_an_estimate(changed, message):
    with pytest.raises(SizeError, match=re.escape(f"gemm_clblast: {message}")):
        estimate(GEMM, "V100", **{**SIZES, **changed})


def test_missing_sizes_are_all_named():
    with pytest.raises(SizeError, match=re.escape("gemm_clblast: no value for SB, MWG; pass SB=…")):
        estimate(GEMM, "V100", **{n: v for n, v in SIZES.items() if n not in ("MWG", "SB")})


def test_numpy_integers_are_numbers():
    plain = estimate(GEMM, "V100", **SIZES)
    for kind in (np.int32, np.int64, np.uint8):
        sizes: dict[str, Any] = {n: kind(v) if v < 200 else np.int64(v) for n, v in SIZES.items()}
        found = estimate(GEMM, "V100", **sizes)
        assert (found.seconds, found.sizes) == (plain.seconds, plain.sizes)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([64.5, 64.0], "column 'MWG', row 0: expected a whole number, got 64.5"),
        ([64.0, math.nan], "column 'MWG', row 1: expected a whole number, got nan"),
        ([64.0, math.inf], "column 'MWG', row 1: expected a whole number, got inf"),
        ([64, None], "column 'MWG', row 1: expected a whole number, got "),
        (pd.array([64, None], dtype="Int64"), "column 'MWG', row 1: expected a whole number, got "),
        ([True, False], "column 'MWG': expected whole numbers, got bool"),
        (np.array([64, True], object), "column 'MWG', row 1: expected a whole number, got True"),
        (["64", "32"], "column 'MWG'"),
        ([64, 0], "column 'MWG', row 1: expected a number from 1 to 2**40, got 0"),
        ([-1, 64], "column 'MWG', row 0: expected a number from 1 to 2**40, got -1"),
        ([64, 2**60], f"column 'MWG', row 1: expected a number from 1 to 2**40, got {2**60}"),
        ([64, 2**80], "column 'MWG', row 1: expected a number from 1 to 2**40, got "),
        ([64 + 0j, 32 + 1j], "column 'MWG'"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "column 'MWG': expected whole numbers, got datetime"),
        ([64, 64, 64], "rows; expected equal lengths"),
        (np.ones((2, 2), np.int64), "column 'MWG' has 2 dimensions"),
    ],
)
def test_bad_columns(column, message):
    with pytest.raises(SizeError, match=re.escape(message)):
        Scorer(GEMM, "V100").score({**SIZES, "VWM": [1, 2], "MWG": column})


def test_a_missing_column_is_named_with_a_suggestion():
    table = pd.DataFrame([SIZES])
    with pytest.raises(
        SizeError, match=re.escape("gemm_clblast: no column for argument 'MWG' (did you mean column 'MVG'?); columns: ")
    ):
        Scorer(GEMM, "V100").score(table.rename(columns={"MWG": "MVG"}))
    with pytest.raises(SizeError, match=re.escape("no column for argument 'SA'; columns: M, ")):
        Scorer(GEMM, "V100").score(table[["M", "N"]])
    with pytest.raises(SizeError, match="columns: none"):
        Scorer(GEMM, "V100").score({})
    with pytest.raises(SizeError, match="expected a DataFrame or a mapping"):
        Scorer(GEMM, "V100").score([1, 2])


@kernel
def half_default(k, *, N=2.5):
    a = k.buffer("a", (1024,), f32)
    with k.blocks(N), k.threads(32) as t:
        k.load(a[t])


def test_a_default_is_checked_like_any_size():
    for ask in (lambda: estimate(half_default, "V100"), lambda: Scorer(half_default, "V100").score({"other": [1]})):
        with pytest.raises(SizeError, match="expected a whole number"):
            ask()


# -- static arguments, equal kernels, order


@kernel(static=("staged", "how"))
def either(k, *, N, B, U, staged, how):
    """U matters only where `staged`."""
    a = k.buffer("a", (N,), f32)
    k.require(N % B == 0)
    if staged:
        s = k.shared("s", (U,), f32)
    with k.blocks(N // B) as b, k.threads(B) as t:
        if staged:
            k.copy(a[b * B + t], s[t * 0], "stage")
        k.store(a[b * B + t] if how == "rows" else a[b + t * (N // B)])


def test_mixed_statics_come_back_in_their_rows():
    rng = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "N": 1 << 16, "B": rng.choice([64, 128], 40), "U": rng.choice([16, 4096, 8192], 40),
            "staged": rng.choice([True, False], 40), "how": rng.choice(["rows", "columns"], 40),
        }
    )  # fmt: skip
    scores = Scorer(either, "V100").score(table)
    assert scores.feasible.all()
    for i, row in enumerate(table.itertuples(index=False)):
        cost = estimate(either, "V100", N=1 << 16, B=int(row.B), U=int(row.U), staged=bool(row.staged), how=str(row.how))
        assert cost.seconds == pytest.approx(scores.seconds[i], rel=1e-12)
    # the same number exactly where the kernel is the same: U is inert without the staging
    identity = [(r.B, r.U if r.staged else 0, r.staged, r.how) for r in table.itertuples(index=False)]
    for i in range(40):
        for j in range(i):
            assert (scores.same[i] == scores.same[j]) == (identity[i] == identity[j])


def test_rows_of_the_same_number_have_the_same_price(gemm_rows):
    table = pd.concat([gemm_rows, gemm_rows.assign(MDIMA=32), gemm_rows.assign(NDIMB=8)], ignore_index=True)
    table = table[(table["SA"] == 0) | (table["SB"] == 0)]
    scores = Scorer(GEMM, "RTX_2070_SUPER").score(table)
    good = scores.feasible
    frame = pd.DataFrame({"same": scores.same[good], "seconds": scores.seconds[good]})
    assert (frame.groupby("same")["seconds"].nunique() == 1).all()
    assert frame["same"].nunique() < len(frame)
    inert = table[good & (table["SA"] == 0).to_numpy() & (table["SB"] == 0).to_numpy()]
    others = inert.drop(columns=["MDIMA", "NDIMB"]).drop_duplicates()
    assert len(set(scores.same[table.index.get_indexer(inert.index)])) == len(others)


def test_statics_of_the_wrong_kind_are_refused():
    for bad in (math.nan, 0.5, None):
        with pytest.raises(Exception, match="static argument staged") as caught:
            Scorer(either, "V100").score({"N": 1024, "B": 64, "U": 1, "staged": [bad], "how": "rows"})
        assert type(caught.value).__name__ in ("DescriptionError", "SizeError")


def test_rank_is_in_order_and_counts_the_rest(gemm_rows):
    scores = Scorer(GEMM, "V100").score(gemm_rows)
    best = rank(GEMM, "V100", gemm_rows, top=None)
    assert len(best) == scores.feasible.sum()
    assert best["seconds"].tolist() == sorted(scores.seconds[scores.feasible])
    assert list(best.columns) == [*gemm_rows.columns, "seconds", "bound", "occupancy"]
    assert best.index.tolist() == list(range(len(best)))
    assert rank(GEMM, "V100", gemm_rows, top=7).equals(best.head(7))
    assert len(rank(GEMM, "V100", gemm_rows)) == 10
    assert rank(GEMM, "V100", gemm_rows, top=0).empty
    counted = best.attrs["infeasible"]
    assert sum(counted.values()) == len(gemm_rows) - len(best)
    assert counted == pd.Series(scores.reason[~scores.feasible]).value_counts().to_dict()
    assert any(reason.startswith("requires MWG % ") for reason in counted)
    first = best.iloc[0]
    again = estimate(GEMM, "V100", **{n: int(first[n]) for n in gemm_rows.columns})
    assert again.seconds == pytest.approx(first["seconds"], rel=1e-12)


def test_nothing_feasible_is_an_empty_ranking():
    found = rank(find_description("vector_add"), "H100", {"N": 1024, "B": [2048, 4096, 4096]})
    assert found.empty
    assert [(reason.split()[:2], n) for reason, n in found.attrs["infeasible"].items()] == [
        (["4096", "threads"], 2),
        (["2048", "threads"], 1),
    ]


def test_scores_have_every_counter():
    scores = Scorer(GEMM, "V100").score(SIZES)
    assert set(scores.counters) == set(COUNTERS)
    assert scores.bytes[0] > 0
    assert scores.roofline_s[0] > 0
    assert scores.roofline_s[0] < scores.seconds[0]


# -- devices


def vary(device: Device, path: str, factor: float) -> Device:
    """The device with one figure multiplied."""
    *parents, name = path.split(".")
    if not parents:
        return replace(device, **{name: getattr(device, name) * factor})
    part: Any = getattr(device, parents[0])
    return replace(device, **{parents[0]: replace(part, **{name: getattr(part, name) * factor})})


CASES: list[tuple[str, dict[str, int]]] = [
    ("gemm_clblast", SIZES),
    ("gemm_clblast", {**SIZES, "SA": 0, "SB": 0, "VWM": 4, "VWN": 1}),
    ("gemm_clblast", {**SIZES, "MWG": 128, "NWG": 128, "MDIMC": 8, "NDIMC": 8, "MDIMA": 8, "NDIMB": 8}),
    ("vector_add", {"N": 1 << 22, "B": 128}),
    ("matmul_naive_uncoalesced", {"N": 2048, "T": 16}),
    ("matmul_shared", {"N": 1024, "T": 32}),
    ("transpose_shared", {"N": 2048, "T": 32, "R": 8}),
]
RATES = (
    "dram.bandwidth_bytes_per_s", "l2.bandwidth_bytes_per_cycle", "l2.sm_bytes_per_cycle", "l1.bytes_per_cycle",
    "l1.requests_per_cycle", "l1.tags_per_cycle", "shared.bytes_per_cycle", "clock.sustained_hz", "throughput.issue_per_cycle",
    "throughput.fp32_fma", "throughput.fp64_fma", "throughput.fp16_fma", "throughput.int32_add", "throughput.int32_mul",
    "throughput.special", "throughput.conversion", "throughput.load_store",
)  # fmt: skip
LATENCIES = (
    "dram.latency_cycles",
    "l2.latency_cycles",
    "l1.latency_cycles",
    "shared.latency_cycles",
    "block_launch_cycles",
    "launch_overhead_s",
)


@settings(max_examples=120)
@given(st.sampled_from(GPUS), st.sampled_from(CASES), st.sampled_from(RATES), st.sampled_from([1.5, 2.0, 8.0]))
def test_a_higher_rate_never_makes_a_kernel_slower(gpu, case, path, factor):
    name, sizes = case
    device = find_device(gpu)
    before = estimate(find_description(name), device, **sizes).seconds
    after = estimate(find_description(name), vary(device, path, factor), **sizes).seconds
    assert after <= before * (1 + 1e-12), f"{name} on {gpu}: {path} × {factor}: {before} s to {after} s"
    assert after >= before / factor * (1 - 1e-9), "one rate buys at most its factor"


@settings(max_examples=60)
@given(st.sampled_from(GPUS), st.sampled_from(CASES), st.sampled_from(LATENCIES), st.sampled_from([0.0, 0.5, 2.0]))
def test_a_longer_latency_never_makes_a_kernel_faster(gpu, case, path, factor):
    name, sizes = case
    device = find_device(gpu)
    before = estimate(find_description(name), device, **sizes).seconds
    after = estimate(find_description(name), vary(device, path, factor), **sizes).seconds
    assert (after >= before * (1 - 1e-12)) if factor >= 1 else (after <= before * (1 + 1e-12))


def test_devices_that_differ_in_one_figure_share_nothing():
    """Prices of single configurations are remembered by device; a table of two shapes is worked out anew."""
    v100 = find_device("V100")
    slower = [
        vary(v100, p, 0.25)
        for p in ("l1.tags_per_cycle", "l1.bytes_per_cycle", "shared.bytes_per_cycle", "throughput.load_store")
    ]
    other = replace(v100, l1=replace(v100.l1, line_bytes=64), l2=replace(v100.l2, sector_bytes=64))
    sizes = {"N": 1024, "T": 16}
    for name in ("matmul_naive_uncoalesced", "matmul_shared_uncoalesced"):
        description = find_description(name)
        prices = []
        for device in (v100, *slower, other, v100, other):
            alone = estimate(description, device, **sizes).seconds
            table = Scorer(description, device).score({"N": [1024, 2048], "T": [16, 8]})
            assert alone == pytest.approx(table.seconds[0], rel=1e-12)
            prices.append(alone)
        assert prices[0] == prices[-2]
        assert prices[-3] == prices[-1] != prices[0]
        assert all(p >= prices[0] for p in prices[1:5])
        assert len(set(prices[:5])) > 2
    assert find_device("V100") == v100


def test_devices_that_differ_in_a_mapping_share_nothing():
    """The mapping of matrix rates is left out of a device's hash."""
    h100 = find_device("H100")
    slow = replace(h100, throughput=replace(h100.throughput, matrix_fma={**h100.throughput.matrix_fma, "fp16": 1.0}))
    assert hash(slow) == hash(h100)
    fast = estimate(tensor, h100, N=1 << 16).seconds
    assert estimate(tensor, slow, N=1 << 16).seconds > 10 * fast
    assert estimate(tensor, h100, N=1 << 16).seconds == fast


def test_a_device_by_name_path_or_value():
    device = find_device("V100")
    by_value = estimate(find_description("vector_add"), device, **ADD)
    assert estimate(find_description("vector_add"), "tesla v100-pcie-32gb", **ADD).seconds == by_value.seconds
    assert Scorer(find_description("vector_add"), device).score(ADD).seconds[0] == by_value.seconds


# -- measured


def _published() -> dict[str, list[float]]:
    """Spearman, top1, top10 and mean error (%) of GEMM in the README's table, by GPU."""
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in readme.splitlines() if line.startswith("|")]
    first = next(n for n, row in enumerate(rows) if row[0].startswith("CLBlast GEMM"))
    return {row[1]: [float(cell.rstrip(" %")) for cell in row[2:7]] for row in rows[first : first + 4]}


@pytest.mark.parametrize("gpu", ["RTX 2070 SUPER", "V100", "GTX 1080 Ti", "MI50"])
def test_the_readme_says_what_is_found_of_measured_gemms(data_dir, gpu):
    (measured,) = load(data_dir / f"gpubench21__gemm_clblast_opencl__{gpu.replace(' ', '_')}.parquet")
    scores = Scorer(GEMM, gpu).score(measured.rows)
    assert scores.feasible.mean() > 0.999, "what ran must be feasible"
    good = scores.feasible
    seconds = measured.rows["time_ms"].to_numpy()[good] / 1e3
    found = metrics(scores.seconds[good], seconds, group=scores.same[good])
    rho, top1, top10, error, baseline = _published()[gpu]
    assert found.rho == pytest.approx(rho, abs=0.0011)
    assert (found.top1, found.top10) == pytest.approx((top1, top10), abs=0.011)
    assert 100 * found.mape == pytest.approx(error, abs=1.0)
    assert found.tie_rate <= 0.10
    others = [metrics(b[good], seconds).rho for b in (scores.bytes, scores.unweighted_bytes, scores.roofline_s)]
    assert max(others) == pytest.approx(baseline, abs=0.011)
    assert found.rho >= max(others) + 0.15


# -- what a reviewer tried


@kernel
def triangle(k, *, N):
    a = k.buffer("a", (N, N), f32, read_only=True)
    with k.blocks(N // 32) as b, k.threads(32) as t, k.serial(b + 1, "j") as j:
        k.load(a[b * 32 + t, j])


@kernel
def pipelined(k, *, N, S, B=256):
    a = k.buffer("a", (N,), f32, read_only=True)
    tile = k.shared("tile", (S, B), f32, dynamic=True)
    k.require(N % B == 0)
    with k.threads(B) as t, k.serial(N // B, "i", stages=S) as i:
        k.copy(a[i * B + t], tile[i % S, t], asynchronous=True)
        k.barrier()
        k.do("use", loads=tile[i % S, t], work=k.fma(f32, 16))


@kernel
def count_all(k, *, N, BINS):
    a, h = k.buffer("a", (N,), i32, read_only=True), k.buffer("h", (BINS,), i32)
    with k.blocks(N // 256) as b, k.threads(256) as t:
        k.load(a[b * 256 + t])
        k.do("count", stores=h[t % BINS], work=k.integer(i32), atomic=True)


@kernel
def haloed(k, *, N, B):
    a, c = k.buffer("a", (N, N), f32, read_only=True), k.buffer("c", (N, N), f32)
    with k.blocks(ceil_div(N, B), ceil_div(N, B)) as (bx, by), k.threads(B, B) as (tx, ty):
        i, j = by * B + ty, bx * B + tx
        with k.when(i >= 1, i < N - 1, j >= 1, j < N - 1):
            k.do("copy", loads=a[i, j], stores=c[i, j])


@kernel
def grouped(k, *, M, G):
    a = k.buffer("a", (M, 4096), f32, read_only=True)
    k.require(M % 128 == 0)
    k.require((M // 128) % G == 0)
    rows = M // 128
    with k.blocks(rows * 32) as pid, k.threads(128) as t, k.serial(4096, "i") as i:
        row = pid // (G * 32) * G + pid % G
        k.load(a[row * 128 + t, i])


def test_triangular_nests_over_blocks_lie_between_half_and_whole_boxes():
    cost = estimate(triangle, "H100", N=4096)
    loads = cost.accesses[0].requests
    assert loads == 128 * 129 / 2
    (l2,) = (level for level in cost.levels if level.name == "l2")
    assert 4 * 4096 * 128 / 2 <= l2.transferred_bytes <= 32 * 4096 * 129


def test_pipeline_stages_hide_latency():
    times = [estimate(pipelined, "H100", N=1 << 16, S=s).seconds for s in (1, 2, 3, 5)]
    assert times == sorted(times, reverse=True)
    assert times[0] > 1.3 * times[-1]


def test_atomics_on_one_address_take_turns():
    one, many = (estimate(count_all, "H100", N=1 << 24, BINS=bins) for bins in (1, 256))
    assert one.bound == "atomic"
    assert one["atomic"].seconds == pytest.approx((1 << 24) / find_device("H100").clock.sustained_hz)
    assert many.seconds < one.seconds / 4


def test_halo_guards_on_both_sides_are_enumerated_at_their_ends_only():
    cost = estimate(haloed, "H100", N=8192, B=32)
    assert cost.accesses[0].requested_bytes == 4 * 8190**2
    assert cost.accesses[0].requests == 256 * 8190  # 256 warps of 32 lanes in each of 8190 rows


def test_a_swizzle_changes_what_a_wave_reads():
    few, all_ = (estimate(grouped, "V100", M=128 * 4096, G=g) for g in (1, 4096))
    dram = [next(level for level in c.levels if level.name == "dram").transferred_bytes for c in (few, all_)]
    assert dram[0] < dram[1]


def test_one_block_more_than_fits_does_not_double_a_memory_bound_kernel():
    copy = find_description("copy")
    even, odd = (estimate(copy, "H100", N=n * 4096, B=1024, V=4).seconds for n in (132, 133))
    assert odd < 1.05 * even


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (lambda k, x, t: k.load(x[t - 1]), "before the start"),
        (lambda k, x, t: k.load(x[t * 4 + 1].wide(4)), "misaligned"),
        (lambda k, x, t: k.load(x[t + 1024]), "beyond the extent"),
    ],
)
def test_accesses_that_leave_their_array_or_their_alignment_are_refused(body, part):
    @kernel
    def wrong(k, *, N):
        x = k.buffer("x", (N,), f32)
        with k.threads(32) as t:
            body(k, x, t)

    with pytest.raises(SizeError, match=part):
        estimate(wrong, "H100", N=1024)


def test_rows_that_differ_in_guard_or_unrolling_are_not_the_same_kernel():
    @kernel
    def varied(k, *, U, LIMIT):
        x = k.buffer("x", (1024,), f32)
        with k.threads(32) as t, k.serial(32, unroll=U) as i, k.when(t < LIMIT):
            k.load(x[i * 32 + t])

    scores = Scorer(varied, "H100").score({"U": [1, 2, 1], "LIMIT": [8, 8, 16]})
    assert len(set(scores.same)) == 3


def test_a_description_and_a_scorer_travel_to_another_process():
    gemm = find_description("gemm")
    assert pickle.loads(pickle.dumps(Scorer(gemm, "H100"))).kernel.arguments == gemm.arguments
    assert pickle.loads(pickle.dumps(triangle)) is triangle


def _stencil(by_hand):
    @kernel
    def cross(k, *, N, B):
        source, target = k.buffer("source", (N + 4, N + 4), f32, read_only=True), k.buffer("target", (N, N), f32)
        k.require(N % B == 0)
        with k.blocks(N // B, N // B) as (bx, by), k.threads(B, B) as (tx, ty):
            i, j = by * B + ty, bx * B + tx
            if by_hand:
                for di in range(5):
                    for dj in range(5):
                        k.load(source[i + di, j + dj])
            else:
                with k.unrolled(5, "di") as di, k.unrolled(5, "dj") as dj:
                    k.load(source[i + di, j + dj])
            k.store(target[i, j])

    return cross


def test_a_stencil_written_out_costs_what_a_loop_costs():
    by_hand, by_loop = (estimate(_stencil(b), "H100", N=8192, B=32) for b in (True, False))
    for one, other in zip(by_hand.levels, by_loop.levels, strict=True):
        assert one.transferred_bytes == pytest.approx(other.transferred_bytes, rel=0.01), one.name
    assert by_hand.seconds == pytest.approx(by_loop.seconds, rel=0.25)


def test_a_row_read_three_times_comes_from_memory_once():
    @kernel
    def passes(k, *, R, N, P, B=256):
        x, y = k.buffer("x", (R, N), f32, read_only=True), k.buffer("y", (R, N), f32)
        k.require(N % B == 0)
        with k.blocks(R) as row, k.threads(B) as t:
            for _ in range(3):
                with k.serial(N // B, "c", unroll=P) as c:
                    k.load(x[row, c * B + t])
            with k.serial(N // B, "c") as c:
                k.store(y[row, c * B + t])

    cost = estimate(passes, "H100", R=65536, N=1024, P=1)
    (dram,) = (level for level in cost.levels if level.name == "dram")
    assert dram.transferred_bytes == pytest.approx(2 * 4 * 65536 * 1024, rel=0.04)  # a part of y stays in L2


def test_matrix_work_does_not_depend_on_the_warp_size():
    @kernel
    def tiles(k, *, N):
        with k.blocks(N), k.threads(64), k.serial(64):
            k.do("mma", work=k.mma(16, 8, 16, f16))

    assert estimate(tiles, "H100", N=1024).flops == estimate(tiles, "MI250X", N=1024).flops == 2 * 1024 * 2 * 64 * 16 * 8 * 16


def test_a_fraction_takes_its_share_of_memory_traffic():
    @kernel(static=("SHARE",))
    def some(k, *, N, SHARE):
        a = k.buffer("a", (N,), f32, read_only=True)
        with k.blocks(N // 256) as b, k.threads(256) as t, k.when(fraction=SHARE):
            k.load(a[b * 256 + t])

    def dram(cost):
        return next(level.transferred_bytes for level in cost.levels if level.name == "dram")

    whole, nothing = (dram(estimate(some, "H100", N=1 << 28, SHARE=s)) for s in (1, 0))
    assert whole == pytest.approx(4 << 28)
    assert nothing == 0


def test_an_array_larger_than_l2_comes_from_memory_each_time_it_is_read():
    @kernel
    def again(k, *, N, P):
        a = k.buffer("a", (N,), f32, read_only=True)
        k.require(N % 65536 == 0)
        with k.blocks(64) as b, k.threads(1024) as t, k.serial(P, "p"), k.serial(N // 65536, "i") as i:
            k.load(a[i * 65536 + b * 1024 + t])

    def dram(n, p):
        cost = estimate(again, "V100", N=n, P=p)
        return next(level.transferred_bytes for level in cost.levels if level.name == "dram")

    assert dram(1 << 19, 10) < 4 << 9  # 2 MiB stay in the L2, from launch to launch
    assert dram(1 << 26, 10) == pytest.approx(10 * (4 << 26))  # 256 MiB do not


def test_a_row_and_a_cost_name_the_same_bound_and_terms():
    table = pd.DataFrame({"N": [8192, 8192, 8192, 32], "T": [16, 32, 32, 32], "R": [4, 8, 2, 8]})
    for name in ("transpose_naive", "transpose_shared", "transpose_padded"):
        scores = Scorer(find_description(name), "V100").score(table)
        costs = [estimate(find_description(name), "V100", **row) for row in table.to_dict("records")]
        assert list(scores.bound) == [cost.bound for cost in costs]
        assert scores.bound[3] == "launch"
        assert sum(scores.terms.values()) == pytest.approx(scores.seconds, rel=1e-12)
        for row, cost in enumerate(costs):
            shares = {name: values[row] for name, values in scores.terms.items() if values[row]}
            assert shares == pytest.approx({term.name: term.share_s for term in cost.terms if term.share_s})


def _plain(k, *, N):
    """A description without its decorator."""


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (_plain, "_plain: expected a description, got a plain function; decorate it with @kernel"),
        ("softmax", r"got the name 'softmax'; pass find_description\('softmax'\)"),
        (3, "expected a function under @kernel or a traced kernel, got int"),
    ],
)
def test_what_is_no_description_is_refused(wrong, message):
    calls = (lambda: estimate(wrong, "H100", N=1), lambda: Scorer(wrong, "H100"), lambda: rank(wrong, "H100", {"N": [1]}))
    for call in calls:
        with pytest.raises(DescriptionError, match=message):
            call()


def test_a_misaligned_access_says_what_breaks_it():
    @kernel
    def strided(k, *, N, S, FIRST_ELEMENT_OF_THE_ROW_THAT_IS_READ):
        x, y = k.buffer("x", (N, 8 * S), f32), k.buffer("y", (N,), f32)
        with k.blocks(N) as b, k.threads(4) as t:
            k.do("load", loads=x[b, t * S + FIRST_ELEMENT_OF_THE_ROW_THAT_IS_READ].wide(4), stores=y[b])

    def what(element):
        where = f"index 1 of {element} in 'load' is not always a multiple of the width of its access: a misaligned address"
        return [f"{where} (it {verb}, expected a multiple of 4)" for verb in ("moves by 3", "starts at 5", "starts at 1")]

    table = {"N": 64, "S": [3, 4, 8, 4], "FIRST_ELEMENT_OF_THE_ROW_THAT_IS_READ": [4, 5, 4, 1]}
    first, second, fine, last = Scorer(strided, "H100").score(table).reason
    assert fine == ""
    assert [first, second, last] == what("x[…]")


def test_a_forgotten_store_is_pointed_out():
    @kernel
    def forgetful(k, *, N):
        x, tile = k.buffer("x", (N,), f32), k.shared("tile", (32,), f32)
        spare = k.register("spare", (4,), f32)
        with k.threads(32) as t:
            k.do("read", loads=[tile[t], x[t]], stores=spare[0])

    cost = estimate(forgetful, "H100", N=32)
    assert cost.warnings == ("shared tile is read, but nothing writes it", "register spare is written, but nothing reads it")
    assert "shared tile is read, but nothing writes it" in str(cost)
    assert not estimate(find_description("transpose_shared"), "H100", N=1024, T=32, R=8).warnings


@pytest.mark.parametrize("charge", sorted(CHARGES))
def test_a_charge_that_is_switched_off_never_costs(charge: str) -> None:
    table = {"N": 4096, "T": [16, 32], "R": 8}
    for name in ("transpose_naive", "transpose_shared", "transpose_padded"):
        description = find_description(name)
        full = Scorer(description, "V100").score(table).seconds
        less = Scorer(description, "V100", without={charge}).score(table).seconds
        assert (less >= full).all() if charge == "caches" else (less <= full * (1 + 1e-9)).all()


def test_ablation_takes_out_what_it_names() -> None:
    columns, rows = find_description("matrix_sum_normal"), find_description("matrix_sum_coalesced")
    table = {"N": 4096, "T": 32}
    price = lambda d, **k: Scorer(d, "V100", **k).score(table).seconds[0]  # noqa: E731
    assert price(columns) > 1.5 * price(rows)
    assert price(columns, without=["coalescing"]) == pytest.approx(price(rows, without=["coalescing"]), rel=0.02)
    shared, padded = find_description("transpose_shared"), find_description("transpose_padded")
    table = {"N": 4096, "T": 32, "R": 8}
    assert price(shared) > 1.2 * price(padded)
    assert price(shared, without=["bank conflicts"]) == pytest.approx(price(padded, without=["bank conflicts"]), rel=0.02)
    with pytest.raises(SizeError, match="no such charge; there are: coalescing"):
        Scorer(shared, "V100", without=["bank"])
