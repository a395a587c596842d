"""What a statement asks for that a device does not have, each with what to write instead.

A rate of another unit is never taken for one that is missing: on such a device the kernel would be another one.
"""

from __future__ import annotations

from costmodel.charges.pipes import arithmetic_rate
from costmodel.device import Device
from costmodel.ir import Statement

__all__ = ["lacking"]


def lacking(statement: Statement, device: Device) -> tuple[str, ...]:
    """What keeps a statement from running on a device, one text for each reason; nothing where it can run."""
    asked = [(w.kind, w.dtype.name) for w in statement.work]
    found = [_no_unit(kind, dtype, device) for kind, dtype in asked if not arithmetic_rate(kind, dtype, device)[1]]
    multiplies = any(kind == "mma" for kind, _ in asked)
    if statement.asynchronous and multiplies and not device.throughput.asynchronous_matrix:
        found.append("the device's matrix instructions hold their warp (leave asynchronous=True out of the product)")
    if statement.asynchronous and statement.stores and not multiplies and not device.shared.asynchronous_copies:
        found.append("the device has no asynchronous copies (leave asynchronous=True out: they then pass through registers)")
    return tuple(found)


def _no_unit(kind: str, dtype: str, device: Device) -> str:
    if kind != "mma":
        return f"the device has no unit for {kind} {dtype} (use a narrower type)"
    inputs = ", ".join(device.throughput.matrix_fma)
    have = f"its matrix units take {inputs}" if inputs else "it has no matrix units"
    return f"the device has no unit for mma {dtype} ({have}; or write the product with k.fma)"
