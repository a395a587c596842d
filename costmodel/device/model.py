"""What a GPU is, for the model: frozen figures in SI units, per SM cycle where vendors state them so.

A `Device` is read from a board profile merged with the profile of its architecture. Nothing here
computes a cost: `charges` takes a `Device` as an argument. Terms are CUDA's: an `sm` is what one
block runs on, its `shared` memory and its schedulers with it (a compute unit of GCN and CDNA, a
work-group processor of RDNA, an Xe-core, an Apple GPU core), a `warp` what runs in lockstep.

Every value is immutable, compares by value and is hashable, so a `Device` can be a cache key
(the two mappings are left out of the hash). Vary one with `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "L1",
    "L2",
    "MATRIX_INPUTS",
    "VENDORS",
    "Clock",
    "Device",
    "Dram",
    "Limits",
    "MemorySideCache",
    "Registers",
    "Shared",
    "Throughput",
]

VENDORS = ("NVIDIA", "AMD", "Intel", "Apple")

MATRIX_INPUTS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp16_into_fp16", "fp8", "fp6", "fp4", "int8")
"""Keys of `Throughput.matrix_fma`: the input type, accumulated in fp32 (fp64, int32); `fp16_into_fp16`
accumulates in fp16, which GeForce boards do at twice the rate."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Core clocks."""

    boost_hz: float
    """Clock the vendor quotes peaks at."""
    sustained_hz: float
    """Clock under an ordinary kernel load without locked clocks; equal to `boost_hz` where unknown."""
    matrix_boost_hz: float | None = None
    """Clock the vendor quotes matrix peaks at, fp64 excepted; None where it is `boost_hz` (not on Hopper)."""


@dataclass(frozen=True, slots=True)
class Dram:
    """Off-chip memory."""

    capacity_bytes: int
    """Installed memory."""
    bandwidth_bytes_per_s: float
    """Datasheet peak."""
    achievable_fraction: float
    """Best measured stream bandwidth (reads among it) over the peak, in (0, 1]."""
    latency_cycles: float
    """Load-to-use, L2 miss, in core cycles."""
    sector_bytes: int
    """Smallest read from memory."""
    ecc_covers_bytes: int | None = None
    """Bytes whose check bits one sector holds, where ECC lives in the memory itself; None where it does not, or is off."""


@dataclass(frozen=True, slots=True)
class L2:
    """Device-wide cache."""

    capacity_bytes: int
    """Nominal size."""
    effective_capacity_bytes: int
    """What one SM's working set can really use (half of the nominal on a two-partition A100)."""
    bandwidth_bytes_per_cycle: float
    """All slices together, read hits, per core cycle."""
    sm_bytes_per_cycle: float
    """One SM's port to L2."""
    latency_cycles: float
    """Load-to-use, L1 miss and L2 hit."""
    line_bytes: int
    """Bytes under one tag."""
    sector_bytes: int
    """Smallest transfer between L2 and L1."""
    channels: int
    """Channels that addresses are dealt out to in turn; 0 where they are hashed."""
    interleave_bytes: int
    """Consecutive bytes in one channel; 0 where they are hashed."""


@dataclass(frozen=True, slots=True)
class MemorySideCache:
    """Cache between L2 and memory, shared by all (AMD: Infinity Cache; Apple: system level cache)."""

    capacity_bytes: int
    """Nominal size."""
    bandwidth_bytes_per_s: float
    """All slices together, read hits; in seconds, for it has a clock of its own."""
    latency_cycles: float
    """Load-to-use, L2 miss that hits here, in core cycles."""


@dataclass(frozen=True, slots=True)
class L1:
    """First-level cache of one SM (AMD: vector L0/L1)."""

    capacity_bytes: int
    """Largest cache; on parts where it shares storage with `Shared`, the whole of that storage."""
    unified_with_shared: bool
    """True where shared memory is carved out of the same storage."""
    caches_global_loads: bool
    """False on parts where global loads bypass it by default (Kepler, Maxwell, GP10x Pascal)."""
    bytes_per_cycle: float
    """Data path on hits."""
    request_bytes: int
    """Bytes of neighbouring lanes that are looked up together; a warp that asks for more is split."""
    requests_per_cycle: float
    """Such groups of lanes taken per cycle."""
    tags_per_cycle: float
    """Distinct lines looked up per cycle."""
    latency_cycles: float
    """Load-to-use of a hit."""
    line_bytes: int
    """Bytes under one tag."""
    sector_bytes: int
    """Smallest fill."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Scratchpad memory of one SM."""

    capacity_bytes_per_sm: int
    """Largest carve-out, all resident blocks together."""
    max_bytes_per_block: int
    """With opt-in."""
    static_max_bytes_per_block: int
    """Without opt-in (48 KiB on NVIDIA)."""
    reserved_bytes_per_block: int
    """Taken by the system for each resident block; may be 0."""
    allocation_unit_bytes: int
    """A block's shared memory is rounded up to a multiple of this."""
    banks: int
    """Banks served in one pass."""
    bank_bytes: int
    """Width of one bank: 4, or 8 on Kepler."""
    pass_bytes: int
    """Most bytes that the lanes of one pass may request.

    128 where a 16-byte access takes quarter warps, 256 on Kepler.
    """
    merges_paired_lanes: bool
    """True where a pass serves twice the lanes if neighbouring lanes of a wide request read the same addresses."""
    bytes_per_cycle: float
    """Data path."""
    latency_cycles: float
    """Load-to-use without bank conflicts."""
    asynchronous_copies: bool
    """True where global data are copied here past the registers while threads go on (`cp.async`, TMA, LDS loads of gfx950)."""


@dataclass(frozen=True, slots=True)
class Registers:
    """Register file of one SM, counted in 32-bit registers per lane."""

    per_sm: int
    """All registers of an SM (CUDA: 65,536)."""
    per_block: int
    """Most that one block may take."""
    max_per_thread: int
    """Most that the instruction set can name; above it values spill."""
    allocation_unit_per_warp: int
    """A warp's registers are rounded up to a multiple of this."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Residency limits."""

    warp_size: int
    """Lanes of a warp."""
    threads_per_block: int
    """Largest block."""
    threads_per_sm: int
    """Resident threads."""
    warps_per_sm: int
    """Resident warps."""
    blocks_per_sm: int
    """Resident blocks."""
    warp_allocation_granularity: int
    """Warps of a block are rounded up to this many (one for each scheduler)."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Lane operations per cycle and SM (an FMA is one operation), and issue slots."""

    schedulers: int
    """Warp schedulers of an SM (AMD: SIMD units; Intel: vector engines)."""
    issue_per_cycle: float
    """Warp instructions issued per cycle and SM, dual issue included only where it is usually reached."""
    fp32_fma: float
    """Single precision."""
    fp64_fma: float
    """Double precision; 0 where there is none."""
    fp16_fma: float
    """Non-matrix half precision, in scalar operations; 0 where there is none (it then runs as fp32)."""
    int32_add: float
    """Integer add, compare, logic."""
    int32_on_fma_lanes: bool
    """True where integer operations take the slots of floating-point ones."""
    int32_mul: float
    """32-bit integer multiply and multiply-add, low half."""
    special: float
    """Reciprocal, exponential, sine and the like."""
    conversion: float
    """Between 32-bit types (the guide's `all other type conversions`)."""
    load_store: float
    """Lanes whose address the load/store units take per cycle."""
    alu_latency_cycles: float
    """Dependent issue of FMA after FMA."""
    matrix_fma: Mapping[str, float] = field(hash=False)
    """Matrix-unit multiply-adds per cycle and SM for an input of `MATRIX_INPUTS`, dense.

    Empty where there is no matrix unit.
    """
    asynchronous_matrix: bool
    """True where matrix instructions run while their warps go on (`wgmma`, `tcgen05`)."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU. `sources` says where each figure comes from, by field path."""

    name: str
    """Canonical name, equal to the file name of its profile."""
    title: str
    """Name as the vendor writes it."""
    vendor: str
    """One of `VENDORS`."""
    architecture: str
    """File name of the architecture's profile."""
    compute_capability: str
    """NVIDIA `major.minor`, AMD `gfx…`, Intel `xe-…`, Apple's GPU family."""
    aliases: tuple[str, ...]
    """Other names it is found under."""
    sm_count: int
    """SMs in use (GCN, CDNA: compute units; RDNA: work-group processors; Intel: Xe-cores; Apple: GPU cores)."""
    clock: Clock
    """Core clocks."""
    dram: Dram
    """Off-chip memory."""
    l2: L2
    """Device-wide cache."""
    l1: L1
    """First-level cache of one SM."""
    shared: Shared
    """Scratchpad memory of one SM."""
    registers: Registers
    """Register file of one SM."""
    limits: Limits
    """Residency limits."""
    throughput: Throughput
    """Operations per cycle and SM."""
    launch_overhead_s: float
    """Smallest time of an empty kernel, as a back-to-back launch sees it."""
    block_launch_cycles: float
    """From a free slot on an SM to the first instruction of the next block."""
    sources: Mapping[str, str] = field(hash=False, compare=False)
    """Citation of each figure, by its full path (`dram.bandwidth_bytes_per_s`)."""
    instruction_cache_bytes: int | None = None
    """Largest instruction cache of one SM; None where it is not known."""
    memory_side_cache: MemorySideCache | None = None
    """Cache between L2 and memory; None where there is none."""
