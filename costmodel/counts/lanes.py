"""Which addresses the lanes of each warp touch: the ground truth under coalescing and bank conflicts.

An access's byte offset splits into a part of the thread id, evaluated for every lane of every warp of
a block, and a part of block and serial indices. Of the latter only the residue modulo the largest
granule (a 128-byte line, a bank word) matters; its distribution over the whole launch is found by
folding in one loop after the other, so nothing is sampled. Loops that cannot be folded (they stand in
a guard, in another extent, or under `//` and `%`) are enumerated; along one block loop of a guard only
the boundary is. Equal configurations are evaluated once and scattered.

Linear thread id: `x + y·Dx + z·Dx·Dy`; a warp is `warp_size` consecutive ids; the last may be partial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.counts.cases import MOST_CASES, Cases, TooManyCasesError, expand
from costmodel.counts.lane_plan import LanePlan, lane_plan
from costmodel.ir import Access, Kernel, Site

__all__ = [
    "WIDEST_BYTES",
    "Columns",
    "Requests",
    "distinct_parts",
    "distinct_rows",
    "fold_residues",
    "request_parts",
    "warp_requests",
]

WIDEST_BYTES = 16
"""Widest load or store instruction of one lane. Source: CUDA C++ programming guide, device memory accesses."""

Columns = Mapping[str, Any]
"""Sizes by name: ints, or equally long int64 arrays."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Requests:
    """Warp instructions of one access, distinct ones once with a weight.

    Arrays have one row for each distinct request; `totals` scatters to configurations.
    """

    address: Ints
    """[n, lanes] first byte of each lane, relative to a granule-aligned base."""
    active: npt.NDArray[np.bool_]
    """[n, lanes] lanes that take part."""
    lane_bytes: Ints
    """[n] bytes of each lane in this instruction."""
    weight: Floats
    """[n] how many times the request is issued, `outer` left out."""
    row: Ints
    """[n] distinct configuration of each request."""
    inverse: Ints | None
    """[R] distinct configuration of each given one; None for the identity."""
    outer: Any
    """[R] or scalar: iterations of loops that do not change the request."""
    distinct: int
    exact: bool

    def totals(self, value: npt.NDArray[Any] | float = 1.0) -> Floats:
        """Sum of `value` (one for each request) over the launch, for each configuration."""
        sums = np.bincount(self.row, self.weight * value, self.distinct)
        scattered = sums if self.inverse is None else sums[self.inverse]
        result: Floats = scattered * self.outer
        return result


def warp_requests(
    kernel: Kernel, site: Site, access: Access | None, columns: Columns, warp_size: int = 32, granule_bytes: int = 128
) -> Requests:
    """Enumerate the warp requests of an access.

    Args:
        kernel: the kernel, for its block shape.
        site: the statement's place in it.
        access: one of its accesses, or None for the statement itself (address 0): its warp instructions.
        columns: every size the kernel needs, already checked against its requirements.
        warp_size: lanes of a warp.
        granule_bytes: alignment that matters: the line for global memory, one bank word for shared.

    Raises:
        TooManyCasesError: loops would have to be enumerated beyond reason; the message says which.
    """
    (requests,) = request_parts(kernel, site, access, columns, warp_size, granule_bytes, at_once=2 * MOST_CASES)
    return requests


WARPS_AT_ONCE = 1 << 11
"""Warps of a part: their addresses stay in a processor's cache."""


def request_parts(
    kernel: Kernel,
    site: Site,
    access: Access | None,
    columns: Columns,
    warp_size: int = 32,
    granule_bytes: int = 128,
    at_once: int = WARPS_AT_ONCE,
) -> Iterator[Requests]:
    """The same, in parts of about `at_once` warps, of at least one case each; their totals add up."""
    plan = lane_plan(kernel, site, access, granule_bytes, columns)
    columns = plan.completed(columns)
    unique, inverse, count = distinct_rows(columns, plan)
    outer = plan.outer(columns)[0]
    for part in distinct_parts(plan, unique, count, warp_size, granule_bytes, at_once):
        yield replace(part, inverse=inverse, outer=outer)


def distinct_parts(
    plan: LanePlan, unique: Columns, count: int, warp_size: int, granule_bytes: int, at_once: int = WARPS_AT_ONCE
) -> Iterator[Requests]:
    """Requests of distinct configurations, for one pass of the loops that do not change them.

    Args:
        plan: of the access.
        unique: a number or `count` of them for each name of the plan.
        count: configurations.
        warp_size: lanes of a warp.
        granule_bytes: alignment that matters.
        at_once: warps of a part.
    """
    dx, dy, dz, width, *folded = plan.shape(unique)
    cases = expand(plan.expansion, unique, count, (dx, dy, dz))
    cases = _phases(cases, folded, plan.itemsize, granule_bytes)
    warps = -(-np.broadcast_to(_at(dx * dy * dz, cases.row), cases.row.shape) // warp_size)
    if cases.row.size > 1 and warps.sum() > MOST_CASES:
        raise TooManyCasesError(
            f"{plan.expansion.where}: {int(warps.sum()):,} warps would have to be enumerated, for their requests differ; "
            "make the index affine, or state a guard's share with k.when(…, fraction=…)"
        )
    blocks = _Blocks.of(dx, dy, dz, warp_size)
    for part in _parts(cases, warps, at_once):
        enumerated = _enumerated(plan, part, unique, width, blocks)
        yield Requests(*enumerated, None, 1.0, count, plan.exact and cases.exact)


def _parts(cases: Cases, warps: Ints, at_once: int) -> Iterator[Cases]:
    """Runs of cases that have about so many warps together."""
    total = np.cumsum(warps) if cases.row.size > 1 else warps
    if not total.size or total[-1] <= at_once:
        yield cases
        return
    ends = np.unique([*np.searchsorted(total, np.arange(at_once, total[-1], at_once)), total.size])
    for start, stop in zip([0, *ends[:-1]], ends, strict=True):
        if start < stop:
            yield cases.taken(slice(start, stop))


def _enumerated(
    plan: LanePlan, cases: Cases, unique: Mapping[str, Any], width: Any, blocks: _Blocks
) -> tuple[Ints, npt.NDArray[np.bool_], Ints, Floats, Ints]:
    """Addresses, active lanes, bytes of a lane, weights and rows of the requests of these cases."""
    tx, ty, tz, inside, of_case = blocks.lanes(cases.row)
    env: dict[str, Any] = {
        n: _at(unique[n], cases.row[of_case])[:, None] if np.ndim(unique[n]) else unique[n] for n in plan.names
    }
    env |= {n: v[of_case][:, None] for n, v in cases.values.items()}
    offset, *guards = plan.lane({**env, "thread_x": tx, "thread_y": ty, "thread_z": tz})
    active = inside
    for j, value in enumerate(guards):
        active = active & ((value < 0) | cases.passed[j][of_case][:, None] if j < len(cases.passed) else value != 0)
    address = np.broadcast_to(offset, inside.shape) + cases.phase[of_case][:, None]
    weight, row = cases.weight[of_case], cases.row[of_case]
    kept = active.any(axis=1)
    if not kept.all():
        address, active, weight, row = address[kept], active[kept], weight[kept], row[kept]
    lane_bytes = np.broadcast_to(np.asarray(_at(width, row)) * plan.itemsize, row.shape)
    return _split(address, active, lane_bytes, weight, row)


def distinct_rows(columns: Columns, plan: LanePlan) -> tuple[dict[str, Any], Ints | None, int]:
    """The distinct combinations of what a plan reads of the sizes, the index of each row's, and their number."""
    names = plan.names
    columns = plan.pitch.canonical(columns) if plan.pitch else columns
    varying = [n for n in names if np.ndim(columns[n])]
    unique = {n: columns[n] for n in names}
    if not varying:
        return unique, np.zeros(_length(columns), np.int64) if _length(columns) > 1 else None, 1
    code = np.zeros(_length(columns), np.int64)
    for n in varying:
        values, part = np.unique(columns[n], return_inverse=True)
        code = code * values.size + part
        code = np.unique(code, return_inverse=True)[1] if code.max() > 2**40 else code
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    unique |= {n: np.asarray(columns[n], np.int64)[first] for n in varying}
    return unique, inverse, first.size


def _length(columns: Columns) -> int:
    return max((np.size(v) for v in columns.values()), default=1)


def _at(value: Any, row: Ints) -> Any:
    return value[row] if np.ndim(value) else value


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Thread coordinates of every warp of each distinct block shape."""

    x: Ints
    """[s · most, lanes]"""
    y: Ints
    z: Ints
    inside: npt.NDArray[np.bool_]
    """Real threads."""
    warps: Ints
    """[s]"""
    of_row: Ints
    """Shape of each distinct configuration."""

    @classmethod
    def of(cls, dx: Any, dy: Any, dz: Any, warp_size: int) -> _Blocks:
        """Those of all configurations."""
        shapes, of_row = _block_shapes(dx, dy, dz)
        threads = shapes.prod(axis=1)
        warps = -(-threads // warp_size)
        tid = np.arange(int(warps.max(initial=1)) * warp_size)
        rest = tid // shapes[:, :1]
        coordinates = (tid % shapes[:, :1], rest % shapes[:, 1:2], rest // shapes[:, 1:2])
        x, y, z = (a.reshape(-1, warp_size) for a in coordinates)
        return cls(x, y, z, (tid < threads[:, None]).reshape(-1, warp_size), warps, of_row)

    def lanes(self, rows: Ints) -> tuple[Ints, Ints, Ints, npt.NDArray[np.bool_], Ints]:
        """Thread coordinates [n, lanes] of every warp of every case, the mask of real threads, and the case of each."""
        shape = self.of_row[rows] if self.of_row.size > 1 else np.zeros(rows.size, np.int64)
        count, most = self.warps[shape], len(self.x) // self.warps.size
        of_case = np.repeat(np.arange(shape.size), count)
        warp = np.arange(of_case.size) - (np.cumsum(count) - count)[of_case]
        source = shape[of_case] * most + warp
        return self.x[source], self.y[source], self.z[source], self.inside[source], of_case


def _block_shapes(dx: Any, dy: Any, dz: Any) -> tuple[Ints, Ints]:
    """[s, 3] distinct block shapes, and which each distinct configuration has."""
    shapes = np.stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(d, np.int64)) for d in (dx, dy, dz))), axis=1)
    if len(shapes) == 1:
        return shapes, np.zeros(1, np.int64)
    code = (shapes[:, 0] * (shapes[:, 1].max() + 1) + shapes[:, 1]) * (shapes[:, 2].max() + 1) + shapes[:, 2]
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return shapes[first], inverse


def _split(
    address: Ints, active: npt.NDArray[np.bool_], lane_bytes: Ints, weight: Floats, row: Ints
) -> tuple[Any, Any, Any, Any, Any]:
    """One row for each instruction: wide accesses become several of at most 16 bytes."""
    if not lane_bytes.size or lane_bytes.max() <= WIDEST_BYTES:
        return address, active, lane_bytes, weight, row
    parts = -(-lane_bytes // WIDEST_BYTES)
    source = np.repeat(np.arange(parts.size), parts)
    part = np.arange(source.size) - (np.cumsum(parts) - parts)[source]
    rest = np.minimum(WIDEST_BYTES, lane_bytes[source] - WIDEST_BYTES * part)
    return address[source] + (WIDEST_BYTES * part)[:, None], active[source], rest, weight[source], row[source]


def _phases(cases: Cases, folded: list[Any], itemsize: int, granule_bytes: int) -> Cases:
    """Fold loops that only shift the address: distribution of their sum modulo the granule."""
    modulus = max(granule_bytes // itemsize, 1) if granule_bytes % itemsize == 0 else granule_bytes
    weight = cases.weight
    spread: Floats | None = None
    for j in range(0, len(folded), 2):
        counted = cases.counts.get(str(j // 2))
        extent = _at(folded[j + 1], cases.row) if counted is None else counted
        if granule_bytes % itemsize:
            step = (_at(folded[j], cases.row) * itemsize) % granule_bytes
        else:
            step = _at(folded[j], cases.row) % modulus
        if modulus == 1 or not np.any(step):
            weight = weight * extent
            continue
        step, extent = np.broadcast_to(step, cases.row.shape), np.broadcast_to(extent, cases.row.shape)
        spread = _first_residues(step, extent, modulus) if spread is None else fold_residues(spread, step, extent, modulus)
    if spread is None:
        return cases.weighted(weight)
    where, residue = np.nonzero(spread)
    unit = itemsize if granule_bytes % itemsize == 0 else 1
    return cases.taken(where).weighted(weight[where] * spread[where, residue], residue * unit)


def fold_residues(spread: Floats, step: Ints, extent: Ints, modulus: int) -> Floats:
    """Distribution of `old + step·i`, `0 ≤ i < extent`, modulo `modulus`."""
    folded = np.zeros_like(spread)
    for start in range(0, step.size, WARPS_AT_ONCE):
        part = slice(start, start + WARPS_AT_ONCE)
        for at, times in _residues(step[part], extent[part], modulus):
            before = (np.arange(modulus) - at[:, None]) % modulus
            folded[part] += times[:, None] * np.take_along_axis(spread[part], before, axis=1)
    return folded


def _first_residues(step: Ints, extent: Ints, modulus: int) -> Floats:
    """Distribution of `step·i`, `0 ≤ i < extent`, modulo `modulus`."""
    folded, each = np.zeros((step.size, modulus)), np.arange(step.size)
    for at, times in _residues(step, extent, modulus):
        folded[each, at] += times
    return folded


def _residues(step: Ints, extent: Ints, modulus: int) -> Iterator[tuple[Ints, Floats]]:
    """Residues of `step·i`, and how often each occurs."""
    period = modulus // np.gcd(step, modulus)
    for i in range(int(min(period.max(initial=0), extent.max(initial=0)))):
        times = np.where(i < period, np.maximum((extent - i + period - 1) // period, 0), 0)
        yield step * i % modulus, times.astype(np.float64)
