"""Price one kernel for one set of sizes, with everything visible."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from costmodel.charges.occupancy import LIMITERS
from costmodel.cost.caching import united_bytes
from costmodel.cost.evaluate import Charged, evaluate
from costmodel.cost.feasibility import LARGEST_SIZE, ZERO_HINT, reasons, unmet
from costmodel.cost.given_registers import checked_registers
from costmodel.cost.memory import AccessTotals
from costmodel.cost.result import AccessCharge, Cost, Level, Occupancy, Term
from costmodel.cost.scorer import launch_reasons, plan_for
from costmodel.cost.shares import term_shares_s
from costmodel.cost.warmth import BACK_TO_BACK, Warm, checked_warm
from costmodel.device import Device, find_device
from costmodel.errors import SizeError
from costmodel.ir import Description, Kernel, described

__all__ = ["checked_sizes", "estimate"]


def estimate(
    kernel: Description | Kernel,
    device: Device | str,
    *,
    registers: int | None = None,
    spilled: float = 0.0,
    warm: Warm | int = BACK_TO_BACK,
    **sizes: Any,
) -> Cost:
    """Predict the time of one launch.

    Args:
        kernel: a description or a traced kernel.
        device: a device, its name, or the path of a profile.
        registers: of a thread, if a compiler has told (`measure.compiled_registers` asks it); estimated otherwise.
        spilled: words that each sweep over the accumulators stores and loads, if it told.
        warm: what earlier launches left in L2, see `cost.warmth`; {} for nothing.
        sizes: every argument of the description.

    Returns:
        The cost, whose terms add up to its seconds. `print` it.

    Raises:
        DescriptionError: the kernel is no description, or tracing fails.
        SizeError: a size is missing, unknown or out of range, or the configuration cannot run.
        ProfileError: the device is unknown.

    Example:
        >>> from costmodel import estimate
        >>> from costmodel.cost import find_description
        >>> cost = estimate(find_description("vector_add"), "H100", N=1 << 26, B=256)
        >>> cost.bound
        'dram'
    """
    found = device if isinstance(device, Device) else find_device(device)
    kernel = described(kernel)
    traced, values, statics = _bind(kernel, sizes)
    given = checked_registers(registers, spilled, kernel.name, found)
    plan = plan_for(traced)
    why = reasons(plan, found, values, 1)[0]
    if why:
        raise SizeError(f"{kernel.name} cannot run on {found.name}: {why} ({_text(values | statics)})")
    charged = evaluate(plan, found, values, 1, given, warm=checked_warm(warm, traced))
    why = launch_reasons(charged, found)[0]
    if why:
        raise SizeError(f"{kernel.name} cannot run on {found.name}: {why} ({_text(values | statics)})")
    return _cost(kernel.name, found, statics | values, plan.warnings, charged, given is not None or plan.registers is not None)


def checked_sizes(kernel: Kernel, sizes: dict[str, Any]) -> dict[str, int]:
    """Sizes to count a traced kernel for.

    Raises:
        SizeError: a size is missing, unknown or out of range, or a requirement of the kernel is not met.
    """
    _, values, _ = _bind(kernel, sizes)
    why = unmet(kernel.requirements, values)
    if why:
        raise SizeError(f"{kernel.name}: {why} ({_text(values)})")
    return values


def _bind(kernel: Description | Kernel, sizes: dict[str, Any]) -> tuple[Kernel, dict[str, int], dict[str, Any]]:
    """The traced kernel, its sizes and its static values."""
    defaults = kernel.defaults if isinstance(kernel, Description) else {}
    static = kernel.static if isinstance(kernel, Description) else ()
    given = {**defaults, **sizes}
    expected = (*static, *kernel.params)
    for name in given:
        if name not in expected:
            near = difflib.get_close_matches(name, expected, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise SizeError(f"{kernel.name}: unknown size {name!r}{hint}; expected {', '.join(expected)}")
    missing = [n for n in expected if n not in given]
    if missing:
        raise SizeError(f"{kernel.name}: no value for {', '.join(missing)}; pass {missing[0]}=…")
    values = {n: _whole(kernel.name, n, given[n]) for n in kernel.params}
    statics = {n: given[n].item() if isinstance(given[n], np.generic) else given[n] for n in static}
    traced = kernel.trace(**statics) if isinstance(kernel, Description) else kernel
    return traced, values, statics


def _whole(kernel: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise SizeError(f"{kernel}: {name}={value!r}: expected a whole number, got {type(value).__name__}")
    if not 1 <= value <= LARGEST_SIZE:
        raise SizeError(f"{kernel}: {name}={value}: expected a number from 1 to 2**40{ZERO_HINT if value == 0 else ''}")
    return int(value)


def _text(sizes: dict[str, Any]) -> str:
    return ", ".join(f"{n}={v}" for n, v in sizes.items())


def _one(value: Any) -> float:
    return float(value.item(0) if isinstance(value, np.ndarray) else value)


def _cost(name: str, device: Device, sizes: dict[str, Any], warnings: tuple[str, ...], c: Charged, known: bool) -> Cost:
    r = c.residency
    occupancy = Occupancy(
        int(r.blocks_per_sm[0]), int(r.warps_per_sm[0]), device.limits.warps_per_sm, LIMITERS[int(r.limiter[0])], _one(r.waves)
    )
    return Cost(
        kernel=name,
        device=device,
        sizes=sizes,
        seconds=_one(c.seconds),
        terms=_terms(device, c),
        occupancy=occupancy,
        levels=_levels(device, c),
        accesses=tuple(_access(device, a) for a in c.accesses),
        threads_per_block=int(c.threads[0]),
        blocks=int(c.blocks[0]),
        shared_bytes_per_block=int(c.shared_bytes[0]),
        registers_per_thread=int(c.registers[0]),
        registers_known=known,
        spilled_registers=int(np.ceil(_one(c.spilled))),
        flops=_one(c.flops),
        warnings=warnings,
    )


def _terms(device: Device, c: Charged) -> tuple[Term, ...]:
    """Terms with their shares, largest first."""
    per_second = device.sm_count * device.clock.sustained_hz
    shares = {name: _one(share) for name, share in term_shares_s(c, device).items()}
    terms: list[Term] = []
    for parts in c.parts.values():
        for term, cycles in parts.items():
            amount, measure, rate = _one(c.amounts[term][0]), c.amounts[term][1], c.amounts[term][2]
            busy = _one(cycles)
            if not busy:
                continue
            peak = rate if np.isfinite(rate) else amount * per_second / busy
            efficiency = min(amount * per_second / (busy * peak), 1.0)
            terms.append(Term(term, amount, measure, peak, efficiency, shares[term], _note(term, c, device)))
    terms.append(Term("latency", _one(c.chain), "cycle", per_second, 1.0, shares["latency"], _note("latency", c, device)))
    waves = _one(c.residency.waves)
    terms.append(Term("tail", shares["tail"], "s", 1.0, 1.0, shares["tail"], f"{waves:.2f} waves"))
    if c.launch_s:
        terms.append(Term("launch", 1.0, "launch", 1.0 / c.launch_s, 1.0, c.launch_s))
    return tuple(sorted(terms, key=lambda t: -t.share_s))


def _note(term: str, c: Charged, device: Device) -> str:
    if term == "dram":
        return f"{device.dram.achievable_fraction * 100:.0f} % of the datasheet rate can be reached"
    if term == "memory side":
        missed = _one(c.amounts["dram"][0]) / max(_one(c.amounts[term][0]), 1.0)
        return f"{(1.0 - missed) * 100:.0f} % of what leaves L2 is found in this cache"
    if term == "l1":
        return _ratio(c, "global", "sectors", "sectors per request")
    if term == "shared":
        return _ratio(c, "shared", "wavefronts", "wavefronts per request")
    if term == "spills":
        return f"{_one(c.spilled):.0f} registers of a thread do not fit"
    if term == "latency":
        held = int(c.residency.warps_per_sm[0])
        return f"{held} warps per SM hide it" if held > 1 else "one warp per SM: nothing hides it"
    return ""


def _ratio(c: Charged, space: str, field: str, text: str) -> str:
    chosen = [a for a in c.accesses if a.plan.access.buffer.space == space]
    requests = sum(_one(a.requests) for a in chosen)
    return f"{sum(_one(getattr(a, field)) for a in chosen) / requests:.2f} {text}" if requests else ""


def _levels(device: Device, c: Charged) -> tuple[Level, ...]:
    sector = device.l2.sector_bytes
    glob = [a for a in c.accesses if a.plan.access.buffer.space == "global"]
    shared = [a for a in c.accesses if a.plan.access.buffer.space == "shared"]
    requested = sum(_one(a.requested_bytes) for a in glob)
    touching = [a for a in glob if a.plan.whole is not None]
    kinds = [[a for a in touching if a.plan.kind == kind] for kind in ("load", "store")]
    footprint = sum(_one(bytes_) for accesses in kinds for bytes_ in united_bytes(accesses).values())
    asked = sum(_one(a.sectors) for a in glob) * sector
    from_l2, from_dram = (_one(c.amounts[name][0]) for name in ("l2", "dram"))
    behind = [_one(c.amounts[name][0]) for name in ("memory side",) if name in c.amounts]
    levels = [
        Level("l1", requested, asked, footprint),
        Level("l2", asked, from_l2, footprint),
        *(Level("memory side", from_l2, bytes_, footprint) for bytes_ in behind),
        Level("dram", behind[0] if behind else from_l2, from_dram, footprint),
    ]
    if shared:
        moved = sum(_one(a.wavefronts) for a in shared) * device.shared.banks * device.shared.bank_bytes
        bytes_ = sum(_one(a.requested_bytes) for a in shared)
        levels.insert(0, Level("shared", bytes_, moved, _one(c.shared_bytes) * _one(c.blocks)))
    return tuple(levels)


def _access(device: Device, a: AccessTotals) -> AccessCharge:
    space = a.plan.access.buffer.space
    requested, sectors, wavefronts = _one(a.requested_bytes), _one(a.sectors), _one(a.wavefronts)
    moved = sectors * device.l2.sector_bytes if space == "global" else wavefronts * device.shared.banks * device.shared.bank_bytes
    return AccessCharge(
        a.plan.site.statement.name,
        a.plan.text,
        space,
        a.plan.kind,
        _one(a.requests),
        requested,
        sectors,
        _one(a.lines),
        wavefronts,
        requested / moved if moved else 1.0,
    )
