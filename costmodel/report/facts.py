"""What the text and the page say about a `Cost`, worded once: sentences and tables of finished text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.cost.result import AccessCharge, Cost, Level
from costmodel.device import Device, matrix_peak_flops_per_s, peak_flops_per_s
from costmodel.report import units

__all__ = ["Table", "access_table", "assignments", "headline", "launch", "level_table", "notes", "peak"]

_INPUTS = {"f64": "fp64", "f32": "fp32", "tf32": "tf32", "f16": "fp16", "bf16": "bf16", "f8": "fp8", "i8": "int8"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of finished text under their headings."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    """Leading columns that hold words; the others hold numbers and are set to the right."""


def assignments(sizes: dict[str, int | bool | str]) -> str:
    """Return sizes as they would be typed: `M=4096 N=4096`."""
    return " ".join(f"{name}={value}" for name, value in sizes.items())


def headline(cost: Cost) -> tuple[tuple[str, str], ...]:
    """Return the figures of the first lines, each with its label."""
    facts = [("time", units.seconds(cost.seconds)), ("bound by", cost.bound)]
    if cost.flops:
        label, flops_per_s = peak(cost)
        share = units.percent(cost.flops_per_s / flops_per_s)
        top = f"{share} of the {label} peak ({units.si(flops_per_s, 'FLOP/s')})"
        facts.append(("arithmetic", f"{units.si(cost.flops_per_s, 'FLOP/s')}, {top}"))
        ridge = units.ratio(flops_per_s / cost.device.dram.bandwidth_bytes_per_s)
        facts.append(("intensity", f"{units.ratio(cost.arithmetic_intensity)} FLOP per DRAM byte (ridge {ridge})"))
    return tuple(facts)


def peak(cost: Cost) -> tuple[str, float]:
    """Return the arithmetic peak the kernel is held against, with its name.

    It is that of the term that does most arithmetic; fp32 where none is recognised.
    """
    work = [term for term in cost.terms if term.name.partition(" ")[0] in ("mma", "fma", "add")]
    kind, _, dtype = max(work, key=lambda term: term.seconds).name.partition(" ") if work else ("fma", "", "f32")
    name = _INPUTS.get(dtype, "fp32")
    if kind == "mma" and cost.device.throughput.matrix_fma.get(name):
        return f"{name} matrix", matrix_peak_flops_per_s(cost.device, name)
    return _vector_peak(cost.device, name)


def _vector_peak(device: Device, name: str) -> tuple[str, float]:
    """Return the peak of ordinary lanes; types without lanes of their own run as fp32."""
    rates = {"fp64": device.throughput.fp64_fma, "fp16": device.throughput.fp16_fma}
    known = name if rates.get(name) else "fp32"
    return known, peak_flops_per_s(device, known)


def launch(cost: Cost) -> tuple[tuple[str, str], ...]:
    """Return what a launch takes from each SM, each with its label."""
    held = cost.occupancy
    grid = f"{units.count(cost.blocks)} {_blocks(cost.blocks)}"
    fitting = f"{held.blocks_per_sm} {_blocks(held.blocks_per_sm)}"
    resident = f"{held.warps_per_sm} of {held.max_warps_per_sm} warps per SM"
    resident = f"{resident} (room for {fitting})" if held.limiter == "grid" else f"{fitting} and {resident}"
    spills = f"{cost.spilled_registers} spilled" if cost.spilled_registers else "no spills"
    known = "given" if cost.registers_known else "estimated"
    return (
        ("grid", f"{grid} of {cost.threads_per_block} threads, {units.ratio(held.waves)} waves"),
        (
            "occupancy",
            f"{units.percent(held.fraction)}: {resident}, limited by {'the grid' if held.limiter == 'grid' else held.limiter}",
        ),
        ("registers", f"{cost.registers_per_thread} per thread ({known}), {spills}"),
        ("shared", f"{units.binary_bytes(cost.shared_bytes_per_block)} per block"),
    )


def notes(cost: Cost) -> tuple[tuple[str, str], ...]:
    """Return what the description and the terms have to say: warnings first."""
    return (*(("warning", text) for text in cost.warnings), *((term.name, term.note) for term in cost.terms if term.note))


def level_table(levels: Sequence[Level]) -> Table:
    """Return the traffic of each memory level."""
    return Table(
        "Traffic",
        ("level", "requested", "transferred", "footprint", "req./transf.", "transf./footpr."),
        tuple(
            (
                level.name,
                units.si_bytes(level.requested_bytes),
                units.si_bytes(level.transferred_bytes),
                units.si_bytes(level.footprint_bytes),
                units.ratio(_over(level.requested_bytes, level.transferred_bytes)),
                units.ratio(_over(level.transferred_bytes, level.footprint_bytes)),
            )
            for level in levels
        ),
    )


def issued(accesses: Sequence[AccessCharge]) -> tuple[AccessCharge, ...]:
    """Return the accesses that some warp comes to: the guards of the others rule them out at these sizes."""
    return tuple(access for access in accesses if access.requests)


def access_table(accesses: Sequence[AccessCharge], *, by_buffer: bool = False) -> Table:
    """Return what each access that is issued takes for one request of a warp; `by_buffer` leaves the indices out."""
    idle = len(accesses) - len(issued(accesses))
    return Table(
        f"Accesses, per request of a warp{f' ({idle} more are not reached at these sizes)' if idle else ''}",
        ("statement", "buffer" if by_buffer else "access", "kind", "requests", "sectors", "lines", "wavefronts", "eff."),
        tuple(
            (
                access.statement,
                access.access.partition("[")[0] if by_buffer else access.access,
                access.kind if access.space in ("global", "shared") else f"{access.kind} {access.space}",
                units.count(access.requests),
                *(_per_request(access, n) for n in (access.sectors, access.lines, access.wavefronts)),
                units.percent(access.efficiency),
            )
            for access in issued(accesses)
        ),
        words=3,
    )


def _blocks(number: int) -> str:
    """Return the noun for that many."""
    return "block" if number == 1 else "blocks"


def _per_request(access: AccessCharge, amount: float) -> str:
    """Return an amount of each request; a dash where the access has none of it."""
    return units.ratio(_over(amount, access.requests) if amount else float("nan"))


def _over(part: float, whole: float) -> float:
    """Return the quotient; NaN over nothing."""
    return part / whole if whole else float("nan")
