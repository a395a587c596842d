"""A `Cost` as plain values for JSON: SI units as in the dataclasses, what is no finite number as None."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from costmodel.cost.result import Cost

__all__ = ["as_dict", "jsonable"]


def as_dict(cost: Cost) -> dict[str, Any]:
    """Return everything a `Cost` holds and derives, the device by its name.

    Args:
        cost: what `estimate` returned.
    """
    terms = [{**asdict(term), "seconds": term.seconds} for term in cost.terms]
    values: dict[str, Any] = jsonable(
        {
            "kernel": cost.kernel,
            "device": cost.device.name,
            "sizes": cost.sizes,
            "seconds": cost.seconds,
            "bound": cost.bound,
            "flops": cost.flops,
            "flops_per_s": cost.flops_per_s,
            "arithmetic_intensity": cost.arithmetic_intensity,
            "blocks": cost.blocks,
            "threads_per_block": cost.threads_per_block,
            "shared_bytes_per_block": cost.shared_bytes_per_block,
            "registers_per_thread": cost.registers_per_thread,
            "registers_known": cost.registers_known,
            "spilled_registers": cost.spilled_registers,
            "occupancy": {**asdict(cost.occupancy), "fraction": cost.occupancy.fraction},
            "warnings": list(cost.warnings),
            "terms": terms,
            "levels": [asdict(level) for level in cost.levels],
            "accesses": [asdict(access) for access in cost.accesses],
        }
    )
    return values


def jsonable(value: Any) -> Any:
    """Return the value as JSON can hold it: NumPy scalars unwrapped, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
