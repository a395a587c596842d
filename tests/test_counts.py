"""Symbolic counts and enumerated warps against the oracle, on generated kernels and on the shipped GEMM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel import kernel
from costmodel.charges import bank_wavefronts, coalesce
from costmodel.counts import Flow, executions, traffic, warp_requests, work
from costmodel.dtypes import f32
from costmodel.errors import SizeError, UnsupportedError
from costmodel.ir import Access, Kernel, Site, ceil_div, minimum
from costmodel.symbols import FloorDiv, Maximum, Minimum, Mod, compile_program
from tests.oracle import AccessCounts, Counts, Machine, count
from tests.strategies import Case, kernels, other_sizes
from validation.kernels.gemm_clblast import gemm_clblast

MACHINES = (
    Machine(),
    Machine(),
    Machine(warp_size=64),
    Machine(bank_bytes=8, pass_bytes=256),
    Machine(banks=16, sector_bytes=64),
)
RARE = 0.05
"""Share of generated kernels that may be refused: a guard or an extent on `t % D` or `t // D` (`pid % G`, `pid // G`) where D
does not divide, or that stands together with a guard or an extent on `t` itself."""
CHAINS = {
    "global": [("dram", "l2"), ("l2", "l1"), ("l1", "register")],
    "constant": [("constant", "register")],
    "shared": [("shared", "register")],
    "register": [],
}


def _accesses(kernel: Kernel, counts: Counts) -> Iterator[tuple[Site, bool, AccessCounts]]:
    """Every access with its site, whether it is a store, and what the oracle says."""
    for site, seen in zip(kernel.statements(), counts.statements, strict=True):
        assert site.leaf is seen.statement
        yield from ((site, False, a) for a in seen.loads)
        yield from ((site, True, a) for a in seen.stores)


def _flows(kernel: Kernel, flows: tuple[Flow, ...], counts: Counts) -> Iterator[tuple[Flow, AccessCounts]]:
    """Every flow with what the oracle says about its access."""
    left = list(flows)
    for site, store, seen in _accesses(kernel, counts):
        for levels in CHAINS[seen.access.buffer.space]:
            flow = left.pop(0)
            assert (flow.statement, flow.buffer) == (site.leaf.name, seen.access.buffer.name)  # type: ignore[union-attr]
            assert (flow.source, flow.target) == (levels[::-1] if store else levels)
            yield flow, seen
    assert not left


def _check_executions(kernel: Kernel, sizes: dict[str, int], counts: Counts) -> None:
    for site, seen in zip(kernel.statements(), counts.statements, strict=True):
        (got,) = compile_program([executions(kernel, site)])(sizes)
        assert got == seen.executions, f"{seen.statement.name}: {got} executions, the walk says {seen.executions}"


def _check_work(kernel: Kernel, sizes: dict[str, int], counts: Counts) -> None:
    totals = work(kernel)
    assert compile_program(totals.values())(sizes) == [counts.work[key] for key in totals]
    assert totals.keys() >= {key for key, amount in counts.work.items() if amount}


def _check_traffic(kernel: Kernel, sizes: dict[str, int], counts: Counts, tally: Counter) -> None:
    bound = traffic(kernel).bind(**sizes)
    sites = {site.leaf.name: site for site in kernel.statements()}  # type: ignore[union-attr]
    for flow, seen in _flows(kernel, bound.flows, counts):
        where = f"{flow.statement}: {flow.access}: {flow.source} to {flow.target}"
        assert all(type(v) is int for v in (flow.executions, flow.requested_bytes, flow.footprint_bytes)), where
        assert flow.requested_bytes == seen.requested_bytes, where
        whole_grid = {flow.source, flow.target} & {"dram", "constant"}
        footprint = seen.footprint_bytes if whole_grid else seen.block_footprint_bytes
        assert flow.footprint_bytes >= footprint, f"{where}: below {footprint}"
        assert not flow.exact or flow.footprint_bytes == footprint, f"{where}: said to be exact, is {footprint}"
        tally["flows"] += 1
        tally["exact flows"] += bool(flow.exact)
        if _plain(sites[flow.statement], seen.access):
            tally["plain flows"] += 1
            tally["exact plain flows"] += bool(flow.exact)


def _plain(site: Site, access: Access) -> bool:
    """Whether it is an affine access in a rectangular nest without guards."""
    triangular = any(loop.extent.free_symbols & {o.index for o in site.loops} for loop in site.loops)
    return not site.guards and not triangular and not any(e.has(FloorDiv, Mod, Minimum, Maximum) for e in access.index)


def _check_warps(case: Case, counts: Counts, machine: Machine, tally: Counter) -> None:
    kernel, sizes = case.kernel, case.sizes
    for site, statement in zip(kernel.statements(), counts.statements, strict=True):
        issued = warp_requests(kernel, site, None, sizes, machine.warp_size)
        assert _scalar(issued.totals()) == statement.warps
    for site, _, seen in _accesses(kernel, counts):
        where = f"{site.leaf.name}: {seen.access}"  # type: ignore[union-attr]
        if seen.access.buffer.space in ("global", "constant"):
            requests = warp_requests(kernel, site, seen.access, sizes, machine.warp_size)
            assert requests.exact
            got = coalesce(requests, machine.sector_bytes, machine.line_bytes)
            found = tuple(_scalar(v) for v in (got.requests, got.sectors, got.lines))
            assert found == (seen.requests, seen.sectors, seen.lines), f"{where}: {found}"
        elif seen.access.buffer.space == "shared":
            requests = warp_requests(kernel, site, seen.access, sizes, machine.warp_size, machine.bank_bytes)
            assert requests.exact
            found = tuple(_wavefronts(requests, machine, pairs) for pairs in (False, True))
            assert found == (seen.wavefronts, seen.paired_wavefronts), f"{where}: {found}"
        tally["accesses"] += 1


def _check_rows(case: Case) -> None:
    """Several sizes at once give what each gives alone, which is what the walk gives."""
    kernel = case.kernel
    rows = [case.sizes, *other_sizes(case)]
    walks = [count(kernel, sizes) for sizes in rows]
    columns: dict[str, Any] = {n: np.array([sizes[n] for sizes in rows]) for n in case.sizes}
    for n, values in columns.items():
        if len(set(values)) == 1:  # sizes that do not vary may be given once
            columns[n] = int(values[0])
    program = compile_program([executions(kernel, site) for site in kernel.statements()])
    for s, values in enumerate(program(columns)):
        expected = [walk.statements[s].executions for walk in walks]
        assert np.broadcast_to(values, len(rows)).tolist() == expected, f"executions of s{s}"
    for at, (site, _, seen) in enumerate(_accesses(kernel, walks[0])):
        where = f"{site.leaf.name}: {seen.access}"  # type: ignore[union-attr]
        each = [list(_accesses(kernel, walk))[at][2] for walk in walks]
        if seen.access.buffer.space == "global":
            got = coalesce(warp_requests(kernel, site, seen.access, columns))
            assert _row_values(got.requests, rows) == [e.requests for e in each], where
            assert _row_values(got.sectors, rows) == [e.sectors for e in each], where
            assert _row_values(got.lines, rows) == [e.lines for e in each], where
        elif seen.access.buffer.space == "shared":
            requests = warp_requests(kernel, site, seen.access, columns, granule_bytes=4)
            assert _row_values(bank_wavefronts(requests), rows) == [e.wavefronts for e in each], where


def _row_values(values: Any, rows: list[dict[str, int]]) -> list[float]:
    result: list[float] = np.broadcast_to(values, len(rows)).tolist()
    return result


def _wavefronts(requests: Any, machine: Machine, pairs: bool) -> float:
    return _scalar(bank_wavefronts(requests, machine.banks, machine.bank_bytes, machine.pass_bytes, pairs))


def _scalar(values: Any) -> float:
    (value,) = np.ravel(values)
    return float(value)


@pytest.mark.soak
def test_counts_equal_the_walk():
    tally: Counter = Counter()

    @given(kernels())
    def check(case: Case) -> None:
        counts = count(case.kernel, case.sizes)
        tally["kernels"] += 1
        try:
            _check_executions(case.kernel, case.sizes, counts)
            _check_work(case.kernel, case.sizes, counts)
            _check_traffic(case.kernel, case.sizes, counts, tally)
        except UnsupportedError:
            tally["unsupported"] += 1

    check()
    print(dict(tally))
    assert tally["unsupported"] <= RARE * tally["kernels"]
    assert tally["exact plain flows"] >= 0.95 * tally["plain flows"] > 0  # an upper bound is always possible, and no use


@pytest.mark.soak
def test_warps_equal_the_walk():
    tally: Counter = Counter()

    @given(kernels(), st.sampled_from(MACHINES))
    def check(case: Case, machine: Machine) -> None:
        tally["kernels"] += 1
        try:
            _check_warps(case, count(case.kernel, case.sizes, machine), machine, tally)
        except UnsupportedError:
            tally["unsupported"] += 1

    check()
    print(dict(tally))
    assert tally["unsupported"] <= RARE * tally["kernels"]


@pytest.mark.soak
def test_many_sizes_at_once_equal_one_at_a_time():
    tally: Counter = Counter()

    @given(kernels(small=True))
    def check(case: Case) -> None:
        tally["kernels"] += 1
        try:
            _check_rows(case)
        except UnsupportedError:
            tally["unsupported"] += 1

    check()
    assert tally["unsupported"] <= RARE * tally["kernels"]


# --- the shipped GEMM -----------------------------------------------------------------------------------------

_TILES = {
    "plain": {"M": 16, "N": 16, "K": 4, "MWG": 8, "NWG": 8, "KWG": 4, "MDIMC": 4, "NDIMC": 4, "MDIMA": 4, "NDIMB": 4, "KWI": 2, "VWM": 1, "VWN": 1},
    "wide": {"M": 32, "N": 32, "K": 8, "MWG": 32, "NWG": 16, "KWG": 4, "MDIMC": 8, "NDIMC": 4, "MDIMA": 8, "NDIMB": 8, "KWI": 4, "VWM": 4, "VWN": 2},
    "octet": {"M": 64, "N": 16, "K": 8, "MWG": 64, "NWG": 16, "KWG": 8, "MDIMC": 8, "NDIMC": 8, "MDIMA": 8, "NDIMB": 8, "KWI": 2, "VWM": 8, "VWN": 1},
    "odd": {"M": 24, "N": 12, "K": 6, "MWG": 12, "NWG": 12, "KWG": 3, "MDIMC": 3, "NDIMC": 4, "MDIMA": 4, "NDIMB": 4, "KWI": 1, "VWM": 1, "VWN": 3},
}  # fmt: skip


@pytest.mark.parametrize(
    "flags", [(0, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (0, 1, 0, 1), (1, 1, 1, 1)], ids=lambda f: "".join(map(str, f))
)
@pytest.mark.parametrize("tiles", _TILES)
def test_the_gemm_equals_the_walk(tiles, flags):
    case = Case(gemm_clblast.trace(**dict(zip(("SA", "SB", "STRM", "STRN"), flags, strict=True))), _TILES[tiles])
    counts = count(case.kernel, case.sizes)
    tally: Counter = Counter()
    _check_executions(case.kernel, case.sizes, counts)
    _check_work(case.kernel, case.sizes, counts)
    _check_traffic(case.kernel, case.sizes, counts, tally)
    _check_warps(case, counts, Machine(), tally)
    assert tally["exact flows"] == tally["flows"]
    assert counts.work["fma", "f32"] == _TILES[tiles]["M"] * _TILES[tiles]["N"] * (_TILES[tiles]["K"] + 1)


# --- made by hand -----------------------------------------------------------------------------------------------


@kernel
def scaled(k, *, N, B):
    x, y = k.buffer("x", (N,), f32), k.buffer("y", (N,), f32)
    with k.blocks(ceil_div(N, B)) as b, k.threads(B) as t, k.when(b * B + t < N):
        k.do("scale", loads=x[b * B + t], stores=y[b * B + t], work=k.fma(f32))


def test_a_guard_on_the_index_itself_is_counted_exactly():
    bound = traffic(scaled.trace()).bind(N=1000, B=128)
    dram = bound.where(buffer="x", source="dram")
    assert [(f.footprint_bytes, f.requested_bytes, f.exact) for f in dram] == [(4 * 1000, 4 * 1000, True)]
    (l1,) = bound.where(buffer="x", source="l1")
    assert l1.footprint_bytes >= 4 * 1000
    assert not l1.exact or l1.footprint_bytes == 4 * 1000  # the last block is smaller than the others


def test_other_guards_do_not_spoil_an_access_they_do_not_move():
    @kernel
    def apart(k, *, N):
        x = k.buffer("x", (N,), f32)
        with k.blocks(2), k.threads(N) as t, k.serial(6, "i") as i, k.when(i >= 2):
            k.load(x[t])

    for flow in traffic(apart.trace()).bind(N=32):
        assert flow.exact
        assert flow.executions == 2 * 32 * 4
        assert flow.footprint_bytes == 4 * 32 * (1 if flow.source == "dram" else 2)


def test_a_stated_fraction_multiplies():
    @kernel
    def sparse(k, *, N):
        x = k.buffer("x", (N,), f32)
        with k.threads(N) as t, k.when(fraction=0.25):
            k.do("some", loads=x[t], work=k.add(f32, 2))

    kern = sparse.trace()
    (site,) = kern.statements()
    assert compile_program([executions(kern, site)])({"N": 64}) == [16]
    assert compile_program(work(kern).values())({"N": 64}) == [32]
    for flow in traffic(kern).bind(N=64):
        assert (flow.requested_bytes, flow.exact) == (4 * 16, False)
        assert flow.footprint_bytes >= 4 * 16
    assert not warp_requests(kern, site, None, {"N": 64}).exact


@contextmanager
def _both(outer: Any, inner: Any) -> Iterator[None]:
    with outer, inner:
        yield


ODD_GUARDS: dict[str, Callable[..., Any]] = {
    "remainder": lambda k, b, t, n: k.when(t % 3 < 2),
    "quotient": lambda k, b, t, n: k.when(t // 3 < 4),
    "both": lambda k, b, t, n: k.when(t % 3 < 2, t // 3 < n),
    "quotient beside itself": lambda k, b, t, n: k.when(t // 8 < 2, t != 3),
    "product": lambda k, b, t, n: k.when(b * t < n),
    "minimum": lambda k, b, t, n: k.when(minimum(b, t) < 3),
    "extent": lambda k, b, t, n: k.serial(b // 2 + 1),
    "remainder as extent": lambda k, b, t, n: k.serial(b % 3 + 1),
    "extent beside a guard": lambda k, b, t, n: _both(k.serial(b // 2 + 1), k.when(b < 3)),
    "nothing passes": lambda k, b, t, n: k.when(t >= 40),
    "nothing passes anywhere": lambda k, b, t, n: k.when(b * 40 + t >= 200),
    "sizes": lambda k, b, t, n: k.when(n < 3),
}


def _refusal(kernel: Kernel) -> str | None:
    try:
        executions(kernel, kernel.sites[0])
    except UnsupportedError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ODD_GUARDS)
def test_odd_guards_are_counted_right_or_refused_by_name(name):
    @kernel(name="odd")
    def described(k, *, N):
        x = k.buffer("x", (64, 64), f32)
        with k.blocks(5) as b, k.threads(40) as t, ODD_GUARDS[name](k, b, t, N):
            k.load(x[b, t], name="load")

    case = Case(described.trace(), {"N": 7})
    refusal = _refusal(case.kernel)
    if refusal is None:
        _check_executions(case.kernel, case.sizes, count(case.kernel, case.sizes))
        _check_traffic(case.kernel, case.sizes, count(case.kernel, case.sizes), Counter())
    else:
        assert "kernel odd: statement 'load'" in refusal
        assert name not in ("nothing passes", "nothing passes anywhere", "sizes")
        with pytest.raises(UnsupportedError):
            traffic(case.kernel)
    _check_warps(case, count(case.kernel, case.sizes), Machine(), Counter())  # enumerates, so anything goes


def test_a_kernel_that_never_runs_has_no_requests_in_any_row():
    @kernel
    def never(k, *, N):
        x = k.buffer("x", (2,), f32)
        with k.blocks(1, 1, 1) as (bx, by, bz), k.threads(N), k.when(bx < 1), k.when(by < 0), k.when(bz < 1):
            k.load(x[2 * bx])

    kern = never.trace()
    (site,) = kern.statements()
    requests = warp_requests(kern, site, site.leaf.loads[0], {"N": np.array([1, 40])})
    assert _row_values(coalesce(requests).sectors, [{}, {}]) == [0, 0]
    assert compile_program([executions(kern, site)])({"N": 40}) == [0]


def test_the_table_of_flows():
    table = traffic(scaled.trace())
    assert {(f.source, f.target) for f in table.where(buffer="y")} == {("register", "l1"), ("l1", "l2"), ("l2", "dram")}
    assert list(table.by("buffer")) == ["x", "y"]
    assert sum(len(list(part)) for part in table.by("source").values()) == len(list(table)) == 6
    assert all(f.exact is None for f in table)
    bound = table.bind(N=1000, B=128)
    assert bound.where(source="l1", target="register").total() == 4 * 1000
    assert bound.where(target="dram").total("footprint_bytes") == 4 * 1000
    assert "dram → l2" in str(bound)
    assert "4,000" in str(bound)
    assert "<table>" in bound._repr_html_()
    assert "<table>" in table._repr_html_()
    with pytest.raises(KeyError, match="expected one of statement, access"):
        table.where(sauce="l1")
    with pytest.raises(KeyError, match=r"'l3'.*there are: .*dram"):
        table.where(source="l3")
    with pytest.raises(KeyError, match="expected one of executions"):
        table.total("bytes")
    with pytest.raises(SizeError, match="B"):
        table.bind(N=1000)


def test_addresses_before_a_dropped_block_offset_are_counted_right():
    """A halo reaches before its block; what is left of the address once the block's part is dropped is negative."""

    @kernel
    def halo(k, *, H, W, BX, BY):
        source = k.buffer("source", (H, W), f32)
        grid, block = k.blocks(ceil_div(W, BX), ceil_div(H, BY)), k.threads(BX, BY)
        with grid as (bx, by), block as (tx, ty), k.unrolled(2, "dy") as dy, k.unrolled(2, "dx") as dx:
            r, c = ty + dy * BY, tx + dx * BX
            with k.when(r < BY + 4, c < BX + 4, by * BY + r >= 2, by * BY + r < H + 2, bx * BX + c >= 2, bx * BX + c < W + 2):
                k.load(source[by * BY + r - 2, bx * BX + c - 2])

    traced = halo.trace()
    (site,) = traced.statements()
    for sizes in (
        {"H": 29, "W": 128, "BX": 32, "BY": 8},
        {"H": 29, "W": 127, "BX": 32, "BY": 8},
        {"H": 5, "W": 40, "BX": 8, "BY": 4},
    ):
        found = coalesce(warp_requests(traced, site, site.leaf.loads[0], sizes))
        seen = count(traced, sizes).statements[0].loads[0]
        assert (found.requests[0], found.sectors[0], found.lines[0]) == (seen.requests, seen.sectors, seen.lines)


def test_an_access_that_no_case_reaches_makes_no_requests():
    """Found by the soak run: guards that exclude each other leave nothing to enumerate, whatever the shape of the block."""

    @kernel
    def excluded(k, *, N):
        a = k.buffer("a", (4 * N,), f32)
        with k.blocks(1, 1, 1) as (bx, by, bz), k.threads(N), k.when(bx < 1), k.when(by < 0), k.when(bz < 1):
            k.load(a[2 * bx])

    traced = excluded.trace()
    (site,) = traced.statements()
    found = coalesce(warp_requests(traced, site, site.leaf.loads[0], {"N": np.array([1, 33])}))
    for sizes in (1, 33):
        assert count(traced, {"N": sizes}).statements[0].loads[0].requests == 0
    assert found.requests.tolist() == [0, 0]
