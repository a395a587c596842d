"""What loads touch that earlier ones of their family, in other loops, have not: handles, and shares of bytes.

In a block, a wave, a row of waves, a layer of rows and the whole launch, new is what the union of all loads has over that
of the earlier ones. Earlier loads under guards of their own brought in less: what may be missing counts as new.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from costmodel.cost.footprints import FootprintPlan, Values, footprint_plan
from costmodel.cost.scopes import in_step, inside
from costmodel.cost.sharing import Fresh
from costmodel.cost.sheet import Sheet
from costmodel.cost.unions import Union
from costmodel.counts.nests import executions
from costmodel.ir import Kernel, Loop, Site

__all__ = ["FreshPlan", "Pair", "fresh_plan", "missing_share", "new_share"]

Floats = npt.NDArray[np.float64]
Pair = tuple[FootprintPlan, FootprintPlan]
"""Of the earlier loads, and of all together."""


@dataclass(frozen=True, slots=True)
class FreshPlan:
    """Handles of what earlier loads touch, and these with them, on each level."""

    block: Pair
    """In one pass of the loops around all of them."""
    wave: Pair
    """The same, in the sheet `waves`."""
    span: Pair
    """In a box of blocks, in the sheet `spans`."""
    whole: Pair
    missing: tuple[int, ...]
    """Executions of each earlier place that meets what the later loads do not imply; then all without guards, in turn."""
    passing: tuple[int, int]
    """Executions of these loads, and all without guards."""
    covered: bool
    """Whether any one of the earlier places has all distances of these loads."""


def fresh_plan(
    kernel: Kernel, site: Site, count: sympy.Expr, fresh: Fresh, depth: int, sheets: tuple[Sheet, Sheet, Sheet]
) -> FreshPlan:
    """Put the unions into the sheets of sizes, waves and spans.

    Args:
        kernel: the kernel.
        site: of the later loads.
        count: executions of their statement.
        fresh: their unions.
        depth: serial loops around all of them.
        sheets: take the formulas.
    """
    sizes, waves, spans = sheets

    def both(over: tuple[tuple[Loop, ...], ...], into: Sheet) -> Pair:
        before, together = (_touched(kernel, u, o, into) for u, o in zip((fresh.before, fresh.together), over, strict=True))
        return before, together

    sites = (fresh.before.site, fresh.together.site)
    missing = [e for s in fresh.missing for e in (executions(kernel, s), executions(kernel, replace(s, guards=())))]
    return FreshPlan(
        both(tuple(inside(s, depth) for s in sites), sizes),
        both(tuple((*in_step(s), *inside(s, depth)) for s in sites), waves),
        both(tuple((*in_step(s), *inside(s, 0)) for s in sites), spans),
        both(tuple(s.loops for s in sites), sizes),
        tuple(sizes.add(e) for e in missing),
        (sizes.add(count), sizes.add(executions(kernel, replace(site, guards=())))),
        fresh.covered,
    )


def _touched(kernel: Kernel, union: Union, over: tuple[Loop, ...], into: Sheet) -> FootprintPlan:
    return footprint_plan(union.parts(kernel, over), union.site, over, into)


def missing_share(p: FreshPlan, f: list[Any]) -> Floats:
    """Part of the later loads that earlier ones, under guards of their own, may not have made."""
    pairs = zip(p.missing[::2], p.missing[1::2], strict=True)
    failing = [1.0 - f[some] / np.maximum(f[every], 1.0) for some, every in pairs]
    own, every = (f[h] for h in p.passing)
    share: Floats = reduce(np.minimum if p.covered else np.maximum, failing) * every / np.maximum(own, 1.0)
    return np.minimum(share, 1.0)


def new_share(values: Values, pair: Pair, own_bytes: Floats, missing: Floats, itemsize: int, granule: int) -> Floats:
    """Part of the later loads' bytes that the earlier ones did not bring in."""
    before, together = (values.bytes(p, itemsize, granule) for p in pair)
    share: Floats = np.clip((together - before) / np.maximum(own_bytes, float(granule)), 0.0, 1.0)
    return np.minimum(share + missing, 1.0)
