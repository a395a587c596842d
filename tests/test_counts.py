"""Symbolic counts and enumerated warps against the oracle, on generated kernels and on the shipped GEMM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.charges import bank_wavefronts, coalesce
from costmodel.counts import Flow, executions, traffic, warp_requests, work
from costmodel.errors import UnsupportedError
from costmodel.ir import Access, Kernel, Site
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
