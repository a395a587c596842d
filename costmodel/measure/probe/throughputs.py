"""What an SM executes a cycle: arithmetic by kind, the load/store path on hits, matrix products by the vendor's library.

Arithmetic: a full block on every SM, eight independent chains a thread. Load/store path: cycles of one warp's load
(see lanes.cu) - one address for all lanes gives the lanes taken a cycle, neighbouring 16-byte lanes the data path, strides of
powers of two the width of the banks, pairs of lanes on one address whether those merge, a line for each lane the tag stage.
"""

from __future__ import annotations

from collections.abc import Iterator

from costmodel.device import Device
from costmodel.errors import MeasureError
from costmodel.measure.live import StickyError
from costmodel.measure.probe.lab import Figure, Lab, Sample, middle, rounded, spread_of

__all__ = ["arithmetic", "clocks", "lanes", "matrix"]

_THREADS, _CHAINS, _LINKS, _TRIPS = 1024, 8, 16, 64
_LONG_TRIPS = 100_000
_OPERATIONS = {
    "throughput.fp32_fma": (0, 1, "FMA"),
    "throughput.fp64_fma": (1, 1, "FMA"),
    "throughput.fp16_fma": (2, 2, "packed FMA"),
    "throughput.int32_add": (3, 2, "max and xor, which only the integer lanes execute"),
    "throughput.int32_mul": (4, 1, "multiply-add"),
    "throughput.special": (5, 1, "exponential"),
    "throughput.conversion": (6, 2, "int to fp32 and back"),
}
_MIXED, _MIXED_FMA, _MIXED_INT = 7, 2, 2
_LOADS, _LOAD_TRIPS = 8, 256
_LINE_APART = 33
_MATRIX_ROWS = {"fp64": 4096}


def clocks(lab: Lab, _base: Device) -> Iterator[Figure]:
    """Measure the core clock under fp32 load: cycles over seconds of a long run of FMAs on every SM."""
    sms = int(lab.facts()["sm_count"])
    sample = lab.run("arithmetic", op=0, chains=_CHAINS, threads=_THREADS, grid=sms, trips=_LONG_TRIPS)
    hz = tuple(c / s for c, s in zip(sample.cycles, sample.seconds, strict=True))
    how = "cycles over seconds of a long run of FMAs on every SM"
    yield Figure("clock.sustained_hz", rounded(middle(hz)), spread_of(hz), how)


def arithmetic(lab: Lab, base: Device) -> Iterator[Figure]:
    """Measure instruction throughput."""
    rates: dict[str, float] = {}
    for field, (op, count, name) in _OPERATIONS.items():
        if not getattr(base.throughput, field.removeprefix("throughput.")):
            continue  # the architecture has none
        sample = _run(lab, op)
        rates[field] = _rate(sample, count)
        yield Figure(field, rounded(rates[field]), spread_of(sample.cycles), f"{name}, eight chains, a full block on every SM")
    sample = _run(lab, _MIXED)
    together = _rate(sample, _MIXED_FMA + _MIXED_INT)
    fma, integer, warp = rates["throughput.fp32_fma"], rates["throughput.int32_add"], base.limits.warp_size
    issued = max(together, fma, integer) / warp
    how = "most instructions of the FMA, integer and mixed runs"
    yield Figure("throughput.issue_per_cycle", rounded(issued), spread_of(sample.cycles), how, bound=True)
    if fma < 0.9 * warp * base.throughput.schedulers:  # else FMAs alone fill the issue slots, and nothing can be told
        alone = 1 / max(1 / fma, 1 / integer)  # as many of each
        shared = 1 / (1 / fma + 1 / integer)
        yield Figure(
            "throughput.int32_on_fma_lanes",
            together / 2 < (alone + shared) / 2,
            0.0,
            f"as many FMAs as integer operations: {together / 2:.1f} of each a cycle, {alone:.1f} if apart, {shared:.1f} if not",
        )


def lanes(lab: Lab, base: Device) -> Iterator[Figure]:
    """Measure the load/store path on hits."""
    warp = base.limits.warp_size
    taken, per_taken = _load(lab, shared=1, width=1, stride=0)
    yield Figure("throughput.load_store", rounded(warp / taken), per_taken, "4-byte loads of one shared word by all lanes")
    wide, per_wide = _load(lab, shared=1, width=4, stride=4)
    how = "16-byte loads of neighbouring lanes from shared memory"
    yield Figure("shared.bytes_per_cycle", rounded(16 * warp / wide), per_wide, how)
    paired, _ = _load(lab, shared=1, width=4, stride=4, shift=1)
    merges = paired < 0.75 * wide
    how = f"pairs of lanes on one address: {paired:.2f} cycles, {wide:.2f} apart"
    yield Figure("shared.merges_paired_lanes", merges, 0.0, how)
    strides = {stride: _load(lab, shared=1, width=1, stride=stride)[0] for stride in (1, 2, 4, 8, 16, 32, 64)}
    worst = max(strides.values())
    row = min(stride for stride, cycles in strides.items() if cycles > 0.9 * worst)
    said = ", ".join(f"{stride}: {cycles:.1f}" for stride, cycles in strides.items())
    yield Figure("shared.bank_bytes", 4 * row // base.shared.banks, 0.0, f"cycles of a load by stride in words: {said}")
    hits, per_hits = _load(lab, shared=0, width=4, stride=4)
    yield Figure("l1.bytes_per_cycle", rounded(16 * warp / hits), per_hits, "16-byte loads of neighbouring lanes that hit L1")
    lines, per_lines = _load(lab, shared=0, width=1, stride=_LINE_APART)
    touched = len({4 * _LINE_APART * lane // base.l1.line_bytes for lane in range(warp)})
    yield Figure(
        "l1.tags_per_cycle", rounded(touched / lines), per_lines, f"4-byte loads {4 * _LINE_APART} bytes apart that hit L1"
    )


def matrix(lab: Lab, base: Device) -> Iterator[Figure]:
    """Measure matrix products, at the boost clock: a lower bound of the units, since library and clock both fall short."""
    sms, hz = int(lab.facts()["sm_count"]), base.clock.boost_hz
    for dtype in base.throughput.matrix_fma:
        n = _MATRIX_ROWS.get(dtype, 8192)
        try:
            sample = lab.run("matrix", dtype=dtype, n=n)
        except StickyError:
            raise
        except MeasureError:
            continue  # the library has no such product
        per_cycle = n**3 / (middle(sample.seconds) * sms * hz)
        how = f"torch, {n}³, {2 * n**3 / middle(sample.seconds) / 1e12:.0f} TFLOP/s; a lower bound"
        yield Figure(f"throughput.matrix_fma.{dtype}", rounded(per_cycle), spread_of(sample.seconds), how, bound=True)


def _run(lab: Lab, op: int) -> Sample:
    grid = int(lab.facts()["sm_count"])
    return lab.run("arithmetic", op=op, chains=_CHAINS, threads=_THREADS, grid=grid, trips=_TRIPS)


def _rate(sample: Sample, count: int) -> float:
    """Operations of all lanes per cycle, `count` of them in a link."""
    return _THREADS * _CHAINS * _LINKS * _TRIPS * count / middle(sample.cycles)


def _load(lab: Lab, shared: int, width: int, stride: int, shift: int = 0) -> tuple[float, float]:
    """Cycles that one warp's load holds the path, and their spread."""
    sample = lab.run("lanes", shared=shared, width=width, stride=stride, shift=shift, trips=_LOAD_TRIPS, threads=_THREADS)
    warps = _THREADS // int(lab.facts()["warp_size"])
    return middle(sample.cycles) / (warps * _LOADS * _LOAD_TRIPS), spread_of(sample.cycles)
