"""What the requests of an access came to, remembered by all that its lanes read of the sizes.

A search asks for the same tiles again and again: at other problem sizes, in other orders, one by one or as a table. Distinct
requests are enumerated once for each device; the loops that change nothing multiply what is remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.counts import Requests
from costmodel.counts.lane_plan import LanePlan, lane_plan
from costmodel.counts.lanes import distinct_parts, distinct_rows
from costmodel.device import Device
from costmodel.ir import Access, Kernel, Site

__all__ = ["Remembered", "remembered"]

Floats = npt.NDArray[np.float64]
Figures = tuple[float, ...]

_MOST_DEVICES, _MOST_PLANS, _MOST_REQUESTS = 64, 1024, 1 << 14


@dataclass(slots=True)
class Remembered:
    """Figures of requests on one device: for each lane plan, by the values of the names it reads."""

    device: Device
    known: OrderedDict[int, tuple[LanePlan, dict[tuple[int, ...], Figures]]] = field(default_factory=OrderedDict)

    def totals(
        self,
        kernel: Kernel,
        site: Site,
        access: Access | None,
        columns: Mapping[str, Any],
        rows: int,
        granule_bytes: int,
        charge: Callable[[Requests], tuple[Floats, ...]],
    ) -> tuple[Floats, ...]:
        """Launch totals, [rows] for each figure of `charge`.

        Args:
            kernel: the kernel.
            site: the statement's place in it.
            access: one of its accesses, or None for the statement itself.
            columns: every size, ints or int64 arrays of `rows`.
            rows: number of configurations.
            granule_bytes: alignment that matters.
            charge: figures of some requests, for each configuration; always the same for one access.
        """
        lanes = lane_plan(kernel, site, access, granule_bytes, columns)
        columns = lanes.completed(columns)
        times = lanes.outer(columns)[0]
        if not any(np.ndim(columns[n]) for n in lanes.names):
            one = lanes.pitch.canonical(columns) if lanes.pitch else columns
            unique = {n: one[n] for n in lanes.names}
            (figures,) = self._figures(lanes, unique, [tuple(unique.values())], granule_bytes, charge)
            return tuple(np.full(rows, figure * times) for figure in figures)
        unique, inverse, count = distinct_rows(columns, lanes)
        keys = list(zip(*(v.tolist() if np.ndim(v) else [v] * count for v in unique.values()), strict=True))
        table = np.array(self._figures(lanes, unique, keys, granule_bytes, charge))[inverse]
        return tuple(table[:, n] * times for n in range(table.shape[1]))

    def _figures(
        self,
        lanes: LanePlan,
        unique: Mapping[str, Any],
        keys: list[tuple[int, ...]],
        granule_bytes: int,
        charge: Callable[[Requests], tuple[Floats, ...]],
    ) -> list[Figures]:
        """Figures of distinct configurations, the unknown ones enumerated together."""
        store = self._of(lanes)
        missing = [n for n, key in enumerate(keys) if key not in store]
        if missing:
            if len(store) + len(missing) > _MOST_REQUESTS:
                store.clear()
                missing = list(range(len(keys)))
            some = {n: v[missing] if np.ndim(v) else v for n, v in unique.items()}
            parts = distinct_parts(lanes, some, len(missing), self.device.limits.warp_size, granule_bytes)
            figures = zip(*map(charge, parts), strict=True)
            sums = [np.broadcast_to(sum(each[1:], each[0]), len(missing)).tolist() for each in figures]
            store.update(zip((keys[n] for n in missing), zip(*sums, strict=True), strict=True))
        return [store[key] for key in keys]

    def _of(self, lanes: LanePlan) -> dict[tuple[int, ...], Figures]:
        held = self.known.get(id(lanes))
        if held is None or held[0] is not lanes:
            held = self.known[id(lanes)] = (lanes, {})
            if len(self.known) > _MOST_PLANS:
                self.known.popitem(last=False)
        return held[1]


_BY_DEVICE: OrderedDict[Device, Remembered] = OrderedDict()


def remembered(device: Device) -> Remembered:
    """What was enumerated on this device."""
    found = _BY_DEVICE.get(device)
    if found is None:
        found = _BY_DEVICE[device] = Remembered(device)
        if len(_BY_DEVICE) > _MOST_DEVICES:
            _BY_DEVICE.popitem(last=False)
    return found
