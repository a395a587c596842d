"""What `costmodel devices` prints: the table of all GPUs, the sheet of one, and their values for JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from costmodel.device import (
    Device,
    achievable_dram_bytes_per_s,
    figure_unit,
    l2_bytes_per_s,
    matrix_peaks_flops_per_s,
    peak_flops_per_s,
    ridge_flops_per_byte,
    vector_peaks_flops_per_s,
)
from costmodel.device.model import VENDORS
from costmodel.report.text import Fitting, grid, pairs
from costmodel.report.units import binary_bytes, percent, rate, ratio, si

__all__ = ["device_sheet", "device_table", "device_values"]

_TEXTS = ("sources", "aliases", "name", "title", "vendor", "architecture", "compute_capability")
_INFERRED = "inferred"
"""How sources begin that nobody measured or published."""

_PEAKS_NOTE = "Dense, at the vendor's clocks; ridges at the datasheet's DRAM bandwidth and at that of L2 hits."


def _in_order(devices: Sequence[Device]) -> list[Device]:
    """Sort by vendor, then compute capability (9.0 before 10.0, gfx90a before gfx1030), then name with numbers by their value."""

    def key(device: Device) -> tuple[Any, ...]:
        capability = device.compute_capability
        return VENDORS.index(device.vendor), len(capability), capability, device.architecture, _natural(device.name)

    return sorted(devices, key=key)


def device_values(device: Device) -> dict[str, Any]:
    """A profile and its derived peaks."""
    vector, matrix = vector_peaks_flops_per_s(device), matrix_peaks_flops_per_s(device)
    return {
        **asdict(device),
        "peak_fp32_flops_per_s": peak_flops_per_s(device),
        "vector_peaks_flops_per_s": vector,
        "matrix_peaks_flops_per_s": matrix,
        "achievable_dram_bytes_per_s": achievable_dram_bytes_per_s(device),
        "l2_bytes_per_s": l2_bytes_per_s(device),
        "ridge_flops_per_byte": ridge_flops_per_byte(device),
        "ridges_flops_per_byte": {
            f"{kind} {dtype}": {"dram": ridge_flops_per_byte(device, peak), "l2": peak / l2_bytes_per_s(device)}
            for kind, peaks in (("vector", vector), ("matrix", matrix))
            for dtype, peak in peaks.items()
        },
    }


def device_table(devices: Sequence[Device]) -> RenderableType:
    """One line for each GPU under the name of its architecture; titles and capacities where there is room."""
    note = "fp32: vector units, fp16: matrix units, sums in fp32 and no sparsity; both in FLOP/s at the vendor's clocks."
    return Group(Fitting(_table(devices, wide=True), _table(devices, wide=False)), Text(""), Text(note, style="dim"))


def _table(devices: Sequence[Device], *, wide: bool) -> RichTable:
    built = grid()
    built.add_column("name", no_wrap=True)
    for head in ("SMs", "fp32", "fp16", "DRAM", *(("capacity",) if wide else ()), "L2"):
        built.add_column(head, justify="right", no_wrap=True)
    if wide:
        built.add_column("title", no_wrap=True)
    ordered = _in_order(devices)
    for n, (head, members) in enumerate(groupby(ordered, lambda d: f"{d.vendor} {d.architecture} ({d.compute_capability})")):
        if n:
            built.add_row()
        built.add_row(Text(head, style="bold"))
        for d in members:
            matrix = matrix_peaks_flops_per_s(d).get("fp16", float("nan"))
            figures = (str(d.sm_count), si(peak_flops_per_s(d)), si(matrix), rate(d.dram.bandwidth_bytes_per_s, "B"))
            size = (binary_bytes(d.dram.capacity_bytes),) if wide else ()
            built.add_row(f"  {d.name}", *figures, *size, binary_bytes(d.l2.capacity_bytes), *((d.title,) if wide else ()))
    return built


def device_sheet(device: Device) -> RenderableType:
    """Everything about one GPU: what follows from its figures, then each figure with its unit and source."""
    head = (
        ("GPU", f"{device.title} ({device.name})"),
        ("architecture", f"{device.vendor} {device.architecture}, {device.compute_capability}"),
        ("also known as", ", ".join(device.aliases) or "–"),
        *_memory(device),
        *_limits(device),
    )
    numbers = {source: str(n) for n, source in enumerate(dict.fromkeys(_sources(device)), 1)}
    built = grid()
    built.add_column("figure", no_wrap=True)
    built.add_column("value", justify="right", no_wrap=True)
    built.add_column("", no_wrap=True)
    built.add_column("source", justify="right", no_wrap=True)
    group = ""
    for path, value in _figures(asdict(device)):
        before, group = group, path.partition(".")[0] if "." in path else ""
        if group != before:
            built.add_row()
        source = device.sources.get(path, "")
        mark = _INFERRED if source.startswith(_INFERRED) else ""
        built.add_row(path, _figure(path, value), Text(mark, style="dim"), Text(numbers.get(source, ""), style="dim"))
    sources = pairs(tuple((f"{number:>6}", source) for source, number in numbers.items()))
    return Group(
        pairs(head, strong=1),
        *(Text(""), Text("Peaks", style="bold"), _peaks(device), Text(_PEAKS_NOTE, style="dim")),
        *(Text(""), Text("Figures", style="bold"), built),
        *(Text(""), Text("Sources", style="bold"), sources),
    )


def _memory(device: Device) -> tuple[tuple[str, str], ...]:
    """Bandwidths and sizes of the memories."""
    dram, l2, shared = device.dram, device.l2, device.shared
    achievable = f"{rate(achievable_dram_bytes_per_s(device), 'B')} ({percent(dram.achievable_fraction)}) achievable"
    effective = f"{binary_bytes(l2.effective_capacity_bytes)} of it effective"
    return (
        ("DRAM", f"{binary_bytes(dram.capacity_bytes)}, {rate(dram.bandwidth_bytes_per_s, 'B')}, {achievable}"),
        ("L2", f"{binary_bytes(l2.capacity_bytes)}, {effective}, {rate(l2_bytes_per_s(device), 'B')}"),
        (
            "shared",
            f"{binary_bytes(shared.capacity_bytes_per_sm)} an SM, at most {binary_bytes(shared.max_bytes_per_block)} a block",
        ),
    )


def _limits(device: Device) -> tuple[tuple[str, str], ...]:
    """What may be resident and may be launched."""
    limits, registers = device.limits, device.registers
    resident = f"{limits.threads_per_sm:,} threads, {limits.warps_per_sm} warps, {limits.blocks_per_sm} blocks"
    block = f"{limits.threads_per_block:,} threads, {registers.max_per_thread} registers each, {registers.per_block:,} in all"
    return ("an SM holds", f"{resident}; there are {device.sm_count} SMs"), ("a block has", f"at most {block}")


def _peaks(device: Device) -> RenderableType:
    """Arithmetic peaks, and the intensities above which a kernel is bound by them."""
    built = grid()
    built.add_column("units", no_wrap=True)
    for head in ("peak", "ridge to DRAM", "ridge to L2"):
        built.add_column(head, justify="right", no_wrap=True)
    for kind, peaks in (("vector", vector_peaks_flops_per_s(device)), ("matrix", matrix_peaks_flops_per_s(device))):
        for dtype, peak in peaks.items():
            unit = "OP" if dtype.startswith("int") else "FLOP"
            ridges = (ridge_flops_per_byte(device, peak), peak / l2_bytes_per_s(device))
            built.add_row(f"{kind} {dtype}", si(peak, f"{unit}/s"), *(f"{ratio(r)} {unit}/byte" for r in ridges))
    return built


def _sources(device: Device) -> list[str]:
    return [device.sources[path] for path, _ in _figures(asdict(device)) if path in device.sources]


def _figures(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict) and name not in _TEXTS:
            found += _figures(value, f"{prefix}{name}.")
        elif name not in _TEXTS:
            found.append((f"{prefix}{name}", value))
    return found


def _figure(path: str, value: Any) -> str:
    """A figure with its unit: bytes whole, seconds and rates with a prefix."""
    if isinstance(value, bool) or value is None:
        return "–" if value is None else "yes" if value else "no"
    if isinstance(value, str):
        return value
    unit = figure_unit(path)
    if unit in ("Hz", "bytes/s", "s"):
        return _prefixed(value, unit)
    return f"{value:,.6g} {unit}".rstrip() if isinstance(value, float) else f"{value:,} {unit}".rstrip()


def _prefixed(value: float, unit: str) -> str:
    """Six digits at most, with an SI prefix: nothing of what a profile states is rounded away."""
    prefixes = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9))
    prefix, scale = next((p for p in prefixes if abs(value) >= p[1]), prefixes[-1])
    return f"{value / scale:.6g} {prefix}{'B/s' if unit == 'bytes/s' else unit}"


def _natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key in which a30 comes before a100."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text) if part)
