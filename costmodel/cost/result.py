"""What an estimate says: visible terms that add up to the seconds, and the facts behind them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from costmodel.device import Device

__all__ = ["AccessCharge", "Cost", "Level", "Occupancy", "Term"]


@dataclass(frozen=True, slots=True)
class Term:
    """One thing the kernel spends time on."""

    name: str
    """Such as `fma f32`, `issue`, `shared`, `l1`, `l2`, `memory side`, `dram`, `latency`, `spills`, `tail`, `launch`."""
    amount: float
    """How much of it there is in the whole launch, in `unit`."""
    unit: str
    rate: float
    """Peak of the whole device, `unit` per second."""
    efficiency: float
    """Share of the peak that can be reached, in (0, 1]."""
    share_s: float
    """Seconds of the total that this term accounts for once terms overlap; shares add up to the total."""
    note: str = ""
    """What a person should know: `4.0 sectors per request, 1.0 would do`."""

    @property
    def seconds(self) -> float:
        """Time if this were the only thing the kernel did."""
        return self.amount / (self.rate * self.efficiency) if self.amount else 0.0


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How many blocks and warps an SM holds, and why not more."""

    blocks_per_sm: int
    warps_per_sm: int
    max_warps_per_sm: int
    limiter: str
    """`threads`, `blocks`, `warps`, `registers`, `shared memory`, or `grid` where the launch does not fill the device."""
    waves: float
    """Blocks of the launch over blocks resident on the device."""

    @property
    def fraction(self) -> float:
        """Resident warps over the most there can be."""
        return self.warps_per_sm / self.max_warps_per_sm


@dataclass(frozen=True, slots=True)
class Level:
    """Bytes that cross into one memory level's consumer during the launch."""

    name: str
    """`shared`, `l1`, `l2`, `memory side` or `dram`: the level that serves."""
    requested_bytes: float
    """What the program asks of it, or what the level above misses in whole elements."""
    transferred_bytes: float
    """Whole sectors (or wavefronts of bank words) that move."""
    footprint_bytes: float
    """Distinct bytes: the least that could move."""


@dataclass(frozen=True, slots=True)
class AccessCharge:
    """One access of one statement: what its warps ask for and what that takes."""

    statement: str
    access: str
    space: str
    kind: str
    """`load` or `store`."""
    requests: float
    """Warp instructions."""
    requested_bytes: float
    sectors: float
    """Of global accesses; 0 otherwise."""
    lines: float
    wavefronts: float
    """Of shared accesses; 0 otherwise."""
    efficiency: float
    """Requested over transferred bytes (global), or least over actual wavefronts (shared); above 1 where lanes share words."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of one kernel on one device for one set of sizes."""

    kernel: str
    device: Device
    sizes: dict[str, int | bool | str]
    seconds: float
    terms: tuple[Term, ...]
    """In order of their share, largest first."""
    occupancy: Occupancy
    levels: tuple[Level, ...]
    accesses: tuple[AccessCharge, ...]
    threads_per_block: int
    blocks: int
    shared_bytes_per_block: int
    registers_per_thread: int
    registers_known: bool
    """True where the caller or the description gave the count, False where it was estimated."""
    spilled_registers: int
    flops: float
    """Floating-point operations of the launch (integer ones of matrix units), an FMA counted as two."""
    warnings: tuple[str, ...] = ()
    """What looks forgotten in the description."""

    @property
    def bound(self) -> str:
        """Name of the term with the largest share."""
        return self.terms[0].name

    @property
    def flops_per_s(self) -> float:
        """Achieved arithmetic rate."""
        return self.flops / self.seconds

    @property
    def arithmetic_intensity(self) -> float:
        """Operations per DRAM byte; infinite without DRAM traffic."""
        dram = sum(level.transferred_bytes for level in self.levels if level.name == "dram")
        return self.flops / dram if dram else float("inf")

    def __getitem__(self, name: str) -> Term:
        """The term of that name.

        Raises:
            KeyError: there is none; the message lists the names.
        """
        for term in self.terms:
            if term.name == name:
                return term
        raise KeyError(f"no term {name!r}; there are: {', '.join(t.name for t in self.terms)}")

    def __str__(self) -> str:
        """The breakdown as text, as `report.render` writes it."""
        return _written("render", self)

    def _repr_html_(self) -> str:
        """The breakdown as HTML, for a notebook."""
        return _written("to_html", self)


def _written(form: str, cost: Cost) -> str:
    """Render through the room above, bound by its name when first printed: pricing never loads it."""
    text: str = getattr(import_module("costmodel.report"), form)(cost)
    return text
