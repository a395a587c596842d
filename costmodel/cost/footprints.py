"""Handles of footprints in a sheet, and their bytes in whole sectors or lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from costmodel.charges.caches import sector_inflation
from costmodel.charges.rows import run_bytes
from costmodel.cost.sheet import Sheet
from costmodel.cost.unions import Part
from costmodel.counts.affine import affine_terms
from costmodel.counts.footprint import SHIFT
from costmodel.ir import Loop, Site
from costmodel.symbols import Minimum

__all__ = ["FootprintPlan", "PartPlan", "StepPlan", "Values", "footprint_plan"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PartPlan:
    """Handles of one term of a footprint: elements, strides and extents along the last dimension, and where rows start."""

    times: int
    """How often it counts; negative for what other terms have in common."""
    elements: int
    strides: tuple[int, ...]
    extents: tuple[int, ...]
    start: int | None
    """Elements from the start of the array to that of the first row; None where rows are taken to start with a sector."""
    shifts: tuple[int, ...]
    """Elements by which each other loop moves the start of a row."""


@dataclass(frozen=True, slots=True)
class FootprintPlan:
    """A footprint: handle of its elements, and the sums of terms of which the least is its size."""

    elements: int
    sums: tuple[tuple[PartPlan, ...], ...]
    certain: bool
    """Whether all guards and extents are counted, not bounded."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Handles of the strides and extents, over all dimensions, of what runs at once."""

    strides: tuple[int, ...]
    extents: tuple[int, ...]


def footprint_plan(sums: tuple[tuple[Part, ...], ...], site: Site, over: tuple[Loop, ...], sheet: Sheet) -> FootprintPlan:
    """Put a union of footprints, of what runs while the loops `over` do, into a sheet."""
    elements = [sum((part.times * part.footprint.elements for part in parts), sympy.Integer(0)) for parts in sums]
    plans = tuple(tuple(_part_plan(part, site, over, sheet) for part in parts) for parts in sums)
    certain = all(part.footprint.certain for parts in sums for part in parts)
    return FootprintPlan(sheet.add(reduce(Minimum, elements)), plans, certain)


def _part_plan(part: Part, site: Site, over: tuple[Loop, ...], sheet: Sheet) -> PartPlan:
    row, access = part.footprint.row, part.access
    first = {i: sympy.Integer(0) for i in access.offset.free_symbols if i.name.startswith(SHIFT)}
    terms = affine_terms(access.offset.xreplace(first), {loop.index for loop in site.loops})
    along = {loop.index for loop in over} & access.index[-1].free_symbols
    return PartPlan(
        part.times,
        sheet.add(part.footprint.elements),
        tuple(sheet.add(e) for e in row[::2]),
        tuple(sheet.add(e) for e in row[1::2]),
        None if terms is None else sheet.add(terms[1]),
        () if terms is None else tuple(sheet.add(c) for i, c in terms[0].items() if i not in along),
    )


@dataclass(frozen=True, slots=True)
class Values:
    """Values of a sheet, whole and in float64."""

    whole: list[Any]
    floats: list[Any]

    def bytes(self, p: FootprintPlan, itemsize: int, granule: int) -> Floats:
        """Bytes of a footprint in whole sectors or lines of `granule` bytes, the mean over where rows start."""
        least = self._sum(p.sums[0], itemsize, granule)
        for parts in p.sums[1:]:
            least = np.minimum(least, self._sum(parts, itemsize, granule))
        bytes_: Floats = np.maximum(least, np.full(1, float(granule)))
        return bytes_

    def run_bytes(self, p: FootprintPlan, itemsize: int, granule: int) -> Floats:
        """Consecutive bytes of the first term of a footprint's least sum, in whole sectors."""
        runs = [self._run(parts[0], itemsize, granule) for parts in p.sums]
        if len(runs) == 1:
            return runs[0]
        sizes = [self._sum(parts, itemsize, granule) for parts in p.sums]
        every = np.broadcast_arrays(*runs, *sizes)
        least = np.argmin(np.stack(every[len(runs) :]), axis=0)
        run: Floats = np.take_along_axis(np.stack(every[: len(runs)]), least[None], 0)[0]
        return run

    def _run(self, p: PartPlan, itemsize: int, granule: int) -> Floats:
        v = self.whole
        return run_bytes([v[h] for h in p.strides], [v[h] for h in p.extents], itemsize, granule)

    def _sum(self, parts: tuple[PartPlan, ...], itemsize: int, granule: int) -> Floats | float:
        return sum(self._part(part, itemsize, granule) for part in parts)

    def _part(self, p: PartPlan, itemsize: int, granule: int) -> Floats | float:
        v = self.whole
        start = 0 if p.start is None else v[p.start]
        shifts = None if p.start is None else [v[h] for h in p.shifts]
        wider = sector_inflation([v[h] for h in p.strides], [v[h] for h in p.extents], itemsize, granule, start, shifts)
        bytes_: Floats | float = p.times * self.floats[p.elements] * itemsize * wider
        return bytes_
