"""Which configurations cannot run, and why: requirements, launch limits, memory.

Checks go in an order in which each makes the next one safe: extents, then what the description
requires, then the limits of the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.cost.plan import Plan
from costmodel.device import Device
from costmodel.symbols import COMPARISONS, CeilDiv, Condition, FloorDiv, Mod, compile_program, to_text

__all__ = ["LARGEST_SIZE", "ZERO_HINT", "reasons", "unmet"]

LARGEST_SIZE = 2**40
"""Sizes beyond this are refused: products of them leave 63 bits."""
_LARGEST_COUNT = 2.0**62
_TOO_LARGE = "sizes are too large: a count of threads, blocks or bytes exceeds 2**62"
ZERO_HINT = " (a flag or padding that can be 0 belongs in @kernel(static=…))"
_GRID_X = 2**31 - 1
_GRID_YZ = 65_535
_BLOCK_Z = 64
_CONSTANT = 65_536
_MOST_BLOCKS = 2.0**53
"""Limits of an NVIDIA launch, and of exact counting.

Source: CUDA C++ programming guide, technical specifications per compute capability.
"""

Texts = npt.NDArray[Any]


def reasons(plan: Plan, device: Device | None, columns: Mapping[str, Any], rows: int) -> Texts:
    """[rows] why each configuration cannot run on the device; an empty text where it can.

    Args:
        plan: of the kernel.
        device: None to check the description's own requirements only.
        columns: sizes, ints or int64 arrays of `rows`.
        rows: number of configurations.
    """
    found: Texts = np.full(rows, "", dtype=object)
    if rows == 1 and not any(np.ndim(c) for c in columns.values()) and _plainly_fine(plan, device, columns):
        return found
    full = {n: np.broadcast_to(np.asarray(c, np.int64), (rows,)) for n, c in columns.items()}
    with np.errstate(all="ignore"):
        v = [np.broadcast_to(np.asarray(x, np.int64), (rows,)) for x in plan.checks.sheet.values(full)]
        wide = plan.checks.sheet.values({n: c.astype(np.float64) for n, c in full.items()})
    checks = plan.checks
    large, unknown = np.zeros(rows, bool), np.zeros(rows, bool)
    for value in wide:
        size = np.abs(np.broadcast_to(np.asarray(value, np.float64), (rows,)))
        large |= np.isfinite(size) & (size >= _LARGEST_COUNT)
        unknown |= ~np.isfinite(size)
    found[large] = _TOO_LARGE

    def mark(bad: npt.NDArray[np.bool_], template: str, **values: Any) -> None:
        for row in np.flatnonzero(bad & (found == "")):
            found[row] = template.format(**{n: x[row] if np.ndim(x) else x for n, x in values.items()})

    for (op, left, right), x, y in checks.requirements:
        mark(~COMPARISONS[op](v[x], v[y]), "{text}", text=_required(op, left, right))
    for text, h in checks.extents:
        mark(v[h] < 1, "{text} is {n}, expected at least 1", text=text, n=v[h])
    for r in checks.reaches:
        template = "{text} reaches {at}, {side} the extent {extent}: guard it with k.when or pad the array"
        for bad, at, side in (
            (v[r.largest] >= v[r.extent], r.largest, "beyond"),
            (v[r.smallest] < 0, r.smallest, "before the start of"),
        ):
            if bad.any():
                mark(bad, template, text=r.text, at=v[at], side=side, extent=v[r.extent])
        if r.misaligned is not None and (bad := v[r.misaligned] != 0).any():
            verb, by, unit = (np.broadcast_to(x, (rows,)) for x in r.stray(full))
            what = "{text} is not always a multiple of the width of its access: a misaligned address"
            mark(bad, what + " (it {verb} {by}, expected a multiple of {unit})", text=r.text, verb=verb, by=by, unit=unit)
    mark(unknown, _TOO_LARGE)
    if device is not None:
        _limits(plan, device, v, mark)
    return found


def unmet(requirements: Sequence[Condition], sizes: Mapping[str, int]) -> str:
    """`requires M % 16 == 0` for the first requirement that these sizes do not meet; an empty text if they meet all."""
    values = compile_program([e for _, left, right in requirements for e in (left, right)])(sizes)
    for (op, left, right), x, y in zip(requirements, values[::2], values[1::2], strict=True):
        if not COMPARISONS[op](x, y):
            return _required(op, left, right)
    return ""


def _required(op: str, left: Any, right: Any) -> str:
    return f"requires {_readable(left)} {op} {_readable(right)}"


def _plainly_fine(plan: Plan, device: Device | None, columns: Mapping[str, Any]) -> bool:
    """Whether one configuration passes every check; False sends it to the checks that can say why."""
    checks = plan.checks
    try:
        v = checks.sheet.values(columns)
    except ZeroDivisionError:
        return False
    fine = (
        all(COMPARISONS[op](v[a], v[b]) for (op, _, _), a, b in checks.requirements)
        and all(v[h] >= 1 for _, h in checks.extents)
        and all(v[r.smallest] >= 0 and v[r.largest] < v[r.extent] for r in checks.reaches)
        and all(r.misaligned is None or v[r.misaligned] == 0 for r in checks.reaches)
        and all(abs(x) < _LARGEST_COUNT for x in v)
    )
    if device is None or not fine:
        return fine
    x, y, z = (v[h] for h in checks.block)
    gx, gy, gz = (v[h] for h in checks.grid)
    shared = v[checks.static_shared_bytes]
    launches = z <= _BLOCK_Z and gx <= _GRID_X and gy <= _GRID_YZ and gz <= _GRID_YZ and gx * gy * gz <= _MOST_BLOCKS
    fits: bool = (
        launches
        and x * y * z <= device.limits.threads_per_block
        and shared <= device.shared.static_max_bytes_per_block
        and shared + v[checks.dynamic_shared_bytes] <= device.shared.max_bytes_per_block
        and v[checks.constant_bytes] <= _CONSTANT
        and v[checks.global_bytes] <= device.dram.capacity_bytes
    )
    return fits


def _limits(plan: Plan, device: Device, v: list[Any], mark: Callable[..., None]) -> None:
    checks, limits = plan.checks, device.limits
    threads = math.prod(v[h].astype(np.float64) for h in checks.block)
    mark(
        threads > limits.threads_per_block, "{n:.0f} threads per block, at most {most}", n=threads, most=limits.threads_per_block
    )
    if device.vendor.lower() == "nvidia":
        for handle, most, what in (
            (checks.block[2], _BLOCK_Z, "threads along z"),
            (checks.grid[0], _GRID_X, "blocks along x"),
            (checks.grid[1], _GRID_YZ, "blocks along y"),
            (checks.grid[2], _GRID_YZ, "blocks along z"),
        ):
            mark(v[handle] > most, "{n} {what}, at most {most}", n=v[handle], what=what, most=most)
    blocks = math.prod(v[h].astype(np.float64) for h in checks.grid)
    mark(blocks > _MOST_BLOCKS, "{n:.3g} blocks, at most {most:.3g} can be counted", n=blocks, most=_MOST_BLOCKS)
    static, total = v[checks.static_shared_bytes], v[checks.static_shared_bytes] + v[checks.dynamic_shared_bytes]
    too_much = "{n} bytes of shared memory per block, at most {most}"
    most = device.shared.static_max_bytes_per_block
    raised = most < device.shared.max_bytes_per_block
    opt_in = " for static arrays (k.shared(…, dynamic=True) raises it)" if raised else ""
    mark(static > most, too_much + opt_in, n=static, most=most)
    mark(total > device.shared.max_bytes_per_block, too_much, n=total, most=device.shared.max_bytes_per_block)
    mark(
        v[checks.constant_bytes] > _CONSTANT,
        "{n} bytes of constant memory, at most {most}",
        n=v[checks.constant_bytes],
        most=_CONSTANT,
    )
    needed, there = v[checks.global_bytes], device.dram.capacity_bytes
    mark(needed > there, "global arrays need {n} bytes, the device has {most}", n=needed, most=there)


def _readable(e: Any) -> str:
    """As Python would write it: `a % b`, `a // b`."""
    if isinstance(e, Mod):
        return f"{_operand(e.args[0])} % {_operand(e.args[1])}"
    if isinstance(e, FloorDiv):
        return f"{_operand(e.args[0])} // {_operand(e.args[1])}"
    if isinstance(e, CeilDiv):
        return f"ceil_div({_readable(e.args[0])}, {_readable(e.args[1])})"
    return to_text(e)


def _operand(e: Any) -> str:
    text = _readable(e)
    return text if e.is_Symbol or e.is_Integer else f"({text})"
