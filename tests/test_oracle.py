"""The oracle itself, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from costmodel import kernel
from costmodel.dtypes import f16, f32, f64, i8
from costmodel.symbols import CeilDiv, FloorDiv, Maximum, Minimum, Mod, index, quotient, size
from tests.oracle import AccessCounts, Counts, Machine, OutOfBoundsError, count, evaluate, holds


def _only(counts: Counts) -> tuple[AccessCounts, AccessCounts]:
    """First load and first store of a kernel with one statement."""
    (statement,) = counts.statements
    return statement.loads[0], statement.stores[0]


# --- kernel 1: a copy by blocks of 4 × 8 threads ---------------------------------------------------


@kernel
def copy_2d(k, *, W, H, DX, DY):
    x, y = k.buffer("x", (H, W), f32), k.buffer("y", (H, W), f32)
    k.require(W % DX == 0, H % DY == 0)
    with k.blocks(W // DX, H // DY) as (bx, by), k.threads(DX, DY) as (tx, ty):
        k.do("copy", loads=x[by * DY + ty, bx * DX + tx], stores=y[by * DY + ty, bx * DX + tx], work=k.add(f32, 3))


def test_a_4_by_8_block_touches_8_sectors():
    counts = count(copy_2d.trace(), {"W": 64, "H": 16, "DX": 4, "DY": 8})
    load, store = _only(counts)
    assert counts.statements[0].executions == 64 * 16  # one for each element
    assert counts.statements[0].warps == 16 * 2  # 64/4 × 16/8 blocks of one warp
    assert counts.work == {("add", "f32"): 3 * 64 * 16}
    for access in (load, store):
        assert access.requested_bytes == access.footprint_bytes == access.block_footprint_bytes == 64 * 16 * 4
        assert access.requests == 32
        assert access.sectors == 32 * 8  # 8 rows, 16 bytes of each
        assert access.lines == 32 * 8  # rows are 256 bytes apart


def test_a_32_by_1_block_touches_4_sectors_of_one_line():
    load, _ = _only(count(copy_2d.trace(), {"W": 64, "H": 2, "DX": 32, "DY": 1}))
    assert (load.requests, load.sectors, load.lines) == (4, 4 * 4, 4 * 1)  # 128 bytes of 128-byte aligned memory


def test_the_last_warp_of_a_block_may_be_partial():
    load, _ = _only(count(copy_2d.trace(), {"W": 40, "H": 1, "DX": 40, "DY": 1}))
    assert load.requests == 2  # 32 and 8 lanes
    assert load.sectors == 4 + 1
    assert load.lines == 1 + 1
    assert _only(count(copy_2d.trace(), {"W": 40, "H": 1, "DX": 40, "DY": 1}, Machine(warp_size=64)))[0].requests == 1


# --- kernel 2: a transpose through shared memory -----------------------------------------------------


@kernel
def transpose(k, *, N, PAD):
    x, y = k.buffer("x", (N, N), f32), k.buffer("y", (N, N), f32)
    tile = k.shared("tile", (32, 32 + PAD), f32)
    with k.blocks(N // 32, N // 32) as (bx, by), k.threads(32, 4) as (tx, ty):
        with k.serial(8, "i") as i:
            row = ty + 4 * i
            k.copy(x[by * 32 + row, bx * 32 + tx], tile[row, tx], "in")
        k.barrier()
        with k.serial(8, "i") as i:
            row = ty + 4 * i
            k.copy(tile[tx, row], y[bx * 32 + row, by * 32 + tx], "out")


@pytest.mark.parametrize(
    ("pad", "column"),
    [
        (0, 32),  # a column of 32-word rows lies in one bank: 32 words of it
        (1, 1),  # 33-word rows: one word in each bank
        (2, 2),  # 34-word rows: the banks 0, 2, … 30, 2 words in each
    ],
)
def test_a_transpose_reads_shared_columns(pad, column):
    into, out = count(transpose.trace(), {"N": 64, "PAD": pad}).statements
    requests = 4 * 4 * 8  # blocks × warps × iterations
    assert (into.warps, into.executions) == (requests, 64 * 64)
    assert into.stores[0].requests == into.stores[0].wavefronts == requests  # a row is free of conflicts
    assert (out.loads[0].requests, out.loads[0].wavefronts) == (requests, requests * column)
    assert into.loads[0].sectors == out.stores[0].sectors == requests * 4
    assert into.stores[0].footprint_bytes == 32 * 32 * 4  # offsets, so blocks share it
    assert into.stores[0].block_footprint_bytes == 4 * 32 * 32 * 4


# --- kernel 3: a triangular loop under a guard ----------------------------------------------------------


@kernel
def triangular(k, *, N):
    a, x = k.buffer("a", (N, N), f32), k.buffer("x", (2, N), f32)
    with k.blocks(2) as b, k.threads(4) as t, k.serial(N, "i") as i, k.serial(i + 1, "j") as j, k.when(j + t < i):
        k.do("sweep", loads=[a[i, j + t], x[b, i]], stores=x[b, j], work=[k.fma(f32, N), k.mma(1, 1, 8, f16)])


def test_a_triangular_loop_under_a_guard():
    counts = count(triangular.trace(), {"N": 4})
    (sweep,) = counts.statements
    # j ≤ i and j + t < i: for i = 0, 1, 2, 3 the pairs (j, t) number 0, 1, 3, 6 (sums up to i - 1 < 4 threads)
    assert sweep.executions == 2 * (0 + 1 + 3 + 6)
    # a warp issues where j < i, since lane 0 passes there: 0, 1, 2, 3 times
    assert sweep.warps == 2 * (0 + 1 + 2 + 3)
    assert counts.work == {
        ("fma", "f32"): 2 * (0 + 1 + 3 + 6) * 4,
        ("mma", "f16"): 2 * (0 + 1 + 2 + 3) * 8,
    }
    a, x = sweep.loads
    assert a.requested_bytes == 2 * 10 * 4
    assert a.footprint_bytes == (1 + 2 + 3) * 4  # row i: columns 0 … i - 1
    assert a.block_footprint_bytes == 2 * a.footprint_bytes  # both blocks read all of it
    assert x.footprint_bytes == x.block_footprint_bytes == 2 * 3 * 4  # x[b, 1 … 3]
    assert sweep.stores[0].footprint_bytes == 2 * 3 * 4  # x[b, 0 … 2]
    # row i starts at byte 16·i: rows 0 and 1 lie in sector 0, rows 2 and 3 in sector 1, each request in one of them
    assert a.requests == a.sectors == a.lines == x.requests == 12


# --- rules of one request ---------------------------------------------------------------------------------


def _shared_access(dtype, width, stride, threads=32, spread=1, **machine: int) -> AccessCounts:
    """One warp reads `width` elements at `stride · (t // spread)`."""

    @kernel
    def one(k):
        s = k.shared("s", (4096,), dtype)
        with k.threads(threads) as t:
            k.load(s[stride * (t // spread)].wide(width))

    return count(one.trace(), {}, Machine(**machine)).statements[0].loads[0]


@pytest.mark.parametrize(
    ("dtype", "width", "stride", "requests", "wavefronts"),
    [
        (f32, 1, 1, 1, 1),
        (f32, 1, 2, 1, 2),  # 16 banks, two words each
        (f32, 1, 0, 1, 1),  # one word for all
        (f32, 2, 2, 1, 2),  # 256 bytes: two half-warp passes
        (f32, 4, 4, 1, 4),  # 512 bytes: four quarter-warp passes
        (f32, 8, 8, 2, 2 * 4 * 2),  # two instructions; in a pass 8 lanes 32 bytes apart: 64 words span, banks used twice
        (f64, 1, 1, 1, 2),
        (f64, 4, 4, 2, 2 * 4 * 2),
        (f16, 1, 1, 1, 1),  # two lanes share a word
        (f16, 8, 8, 1, 4),
        (i8, 1, 1, 1, 1),
        (i8, 8, 8, 1, 2),
        (i8, 1, 4, 1, 1),
        (i8, 1, 128, 1, 32),
    ],
)
def test_shared_wavefronts(dtype, width, stride, requests, wavefronts):
    access = _shared_access(dtype, width, stride)
    assert (access.requests, access.wavefronts) == (requests, wavefronts)


def _both(*args, **options):
    access = _shared_access(*args, **options)
    return access.wavefronts, access.paired_wavefronts


def test_passes_of_paired_lanes_are_merged():
    # four quarter-warps, each reading one address: two passes of 16 lanes, not four of 8 (Maxwell's counters)
    assert _both(f32, 4, 4, spread=8) == (4, 2)
    assert _both(f32, 4, 4, threads=24, spread=8) == (3, 2)  # three quarters
    assert _both(f32, 4, 4, spread=2) == (4, 2)  # a pass of 16 lanes: 8 addresses of 16 bytes, 32 banks
    assert _both(f32, 2, 2, spread=2) == (2, 1)  # one pass of 32 lanes: 16 addresses of 8 bytes
    assert _both(f32, 2, 64, spread=16) == (2, 2)  # one pass, but its two addresses are 256 bytes apart: same bank
    assert _both(f32, 4, 4) == (4, 4)  # no two lanes share an address
    assert _both(f32, 1, 1, spread=2) == (1, 1)  # 4 bytes a lane are one pass anyway
    assert _both(f32, 4, 4, threads=31, spread=2) == (4, 2)  # lane 30 has no active partner


def test_lanes_at_distance_two_are_paired_as_well():
    @kernel
    def alternating(k, *, D):
        s = k.shared("s", (64,), f32)
        with k.threads(32) as t:
            k.load(s[4 * (t % D)].wide(4))

    access = count(alternating.trace(), {"D": 2}).statements[0].loads[0]
    assert (access.wavefronts, access.paired_wavefronts) == (4, 2)
    access = count(alternating.trace(), {"D": 4}).statements[0].loads[0]  # lanes 0, 4, 8, …
    assert (access.wavefronts, access.paired_wavefronts) == (4, 4)


def test_other_banks():
    kepler = {"bank_bytes": 8, "pass_bytes": 256}
    assert _shared_access(f32, 1, 2, **kepler).wavefronts == 1  # 32 words of 8 bytes
    assert _shared_access(f64, 1, 1, **kepler).wavefronts == 1
    assert _shared_access(f32, 4, 4, **kepler).wavefronts == 2  # two half-warps
    assert _shared_access(f32, 1, 1, banks=16).wavefronts == 2


def test_wide_global_accesses_are_several_requests():
    @kernel
    def wide(k):
        x = k.buffer("x", (512,), f64)
        with k.threads(32) as t:
            k.load(x[t * 4].wide(4))

    load = count(wide.trace(), {}).statements[0].loads[0]
    assert load.requests == 2  # 32 bytes are two instructions
    assert load.sectors == 2 * 32  # each touches half of every sector
    assert load.lines == 2 * 8
    assert load.requested_bytes == load.footprint_bytes == 32 * 32


def test_a_request_needs_an_active_lane():
    @kernel
    def guarded(k, *, LIMIT):
        x = k.buffer("x", (96,), f32)
        with k.threads(96) as t, k.when(t < LIMIT):
            k.load(x[t])

    assert [count(guarded.trace(), {"LIMIT": n}).statements[0].loads[0].requests for n in (0, 1, 32, 33, 96)] == [0, 1, 1, 2, 3]


# --- its own complaints and evaluator ---------------------------------------------------------------------


def test_leaving_a_buffer_is_an_error():
    @kernel
    def shifted(k, *, N, SHIFT, WIDTH):
        x = k.buffer("x", (N,), f32)
        with k.threads(N) as t:
            k.load(x[t * WIDTH + SHIFT].wide(WIDTH))

    kern = shifted.trace()
    count(kern, {"N": 4, "SHIFT": 0, "WIDTH": 1})
    with pytest.raises(OutOfBoundsError):
        count(kern, {"N": 4, "SHIFT": 1, "WIDTH": 1})
    with pytest.raises(OutOfBoundsError, match="multiple of the width"):
        count(kern, {"N": 3, "SHIFT": 1, "WIDTH": 2})


def test_the_evaluator():
    a, b, i = size("a"), size("b"), index("i")
    env = {"a": 7, "b": 3, "i": 5}
    assert evaluate(a * b - i, env) == 16
    assert evaluate(FloorDiv(i - a, b), env) == -1  # -2 / 3 rounds down
    assert evaluate(CeilDiv(a, b), env) == 3
    assert evaluate(Mod(i - a, b), env) == 1
    assert evaluate(Minimum(a, i) + Maximum(a, i), env) == 12
    assert evaluate(quotient(a + i, b), env) == 4
    assert evaluate((a + i).expand() / b + a**2, env) == 53
    assert evaluate(a**2 * 10**30, env) == 49 * 10**30
    with pytest.raises(ArithmeticError):
        evaluate(quotient(a, b), env)
    assert holds(("<=", a, i + 2), env)
    assert not holds(("!=", a, i + 2), env)
