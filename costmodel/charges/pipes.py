"""SM cycles that a kernel's instructions hold each unit, in the whole launch.

Every request of shared memory or L1 holds the load/store path for as long as the slowest of: taking
the lanes' addresses, moving their bytes, looking up lines (in groups of lanes on parts that split
requests), and serving bank conflicts (of L1 too, where it is the same array as shared memory).
Source: instruction throughput tables of the CUDA C++ programming guide; NVIDIA developer forum, threads
49571 and 77228; `gpu-benches` l1_strides on A100 (strides of 2 to 32 floats cost 2 to 32 cycles).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from costmodel.charges.banks import wavefronts_per_request
from costmodel.charges.coalescing import distinct_granules, distinct_per_row
from costmodel.counts import Requests
from costmodel.device import Device

__all__ = ["ADDRESS_OPERATIONS", "LOOP_OPERATIONS", "arithmetic_rate", "copy_cycles", "l1_cycles", "shared_cycles"]

ADDRESS_OPERATIONS = 4.0
"""Integer operations to compute a new 64-bit global address with a run-time stride (two wide multiply-adds).
Source: SASS of the CLBlast GEMM, two IMAD.WIDE and their operands for each row; not fitted."""
LOOP_OPERATIONS = 3.0
"""Instructions of one trip of a machine loop: IADD, ISETP, BRA in the SASS of any counted loop."""

Floats = npt.NDArray[np.float64]


def shared_cycles(requests: Requests, device: Device) -> tuple[Floats, Floats]:
    """[n] wavefronts of each shared-memory request and the cycles it holds the path."""
    s = device.shared
    wavefronts = wavefronts_per_request(requests, s.banks, s.bank_bytes, s.pass_bytes, s.merges_paired_lanes).astype(np.float64)
    address = device.limits.warp_size / device.throughput.load_store
    return wavefronts, np.maximum(address, wavefronts * (s.banks * s.bank_bytes / s.bytes_per_cycle))


def l1_cycles(requests: Requests, device: Device, cached: bool = True) -> Floats:
    """[n] cycles that each global request holds the L1 path.

    Args:
        requests: enumerated with a granule that lines, sectors and banks divide.
        device: the GPU.
        cached: whether L1 keeps what is asked for: a hit reads whole lines out of its array; what bypasses L1 passes by the
            sector, where L1 is not also shared memory.
    """
    l1, s = device.l1, device.shared
    lanes = requests.active.sum(axis=1)
    cycles: Floats = np.maximum(
        device.limits.warp_size / device.throughput.load_store, lanes * requests.lane_bytes / l1.bytes_per_cycle
    )
    cycles = np.maximum(cycles, _lookups(requests, device))
    if l1.unified_with_shared:
        wavefronts = wavefronts_per_request(requests, s.banks, s.bank_bytes, s.pass_bytes, s.merges_paired_lanes)
        cycles = np.maximum(cycles, wavefronts * (s.banks * s.bank_bytes / s.bytes_per_cycle))
    else:
        piece = l1.line_bytes if cached else l1.sector_bytes
        cycles = np.maximum(cycles, distinct_granules(requests, piece) * (piece / l1.bytes_per_cycle))
    return cycles


def copy_cycles(requests: Requests, device: Device) -> Floats:
    """[n] cycles that each asynchronous copy holds the L1 path: addresses and tags; its data pass by, into shared memory."""
    cycles: Floats = np.maximum(device.limits.warp_size / device.throughput.load_store, _lookups(requests, device))
    return cycles


def _lookups(requests: Requests, device: Device) -> Floats:
    """[n] cycles of the tag stage: groups of lanes, each at least one slot and its distinct lines."""
    l1 = device.l1
    warp = requests.address.shape[1]
    if warp * int(np.max(requests.lane_bytes, initial=1)) <= l1.request_bytes:
        return np.maximum(1.0 / l1.requests_per_cycle, distinct_granules(requests, l1.line_bytes) / l1.tags_per_cycle)
    cycles = np.zeros(requests.row.size)
    for size in np.unique(requests.lane_bytes):
        rows = np.flatnonzero(requests.lane_bytes == size)
        lanes = max(min(l1.request_bytes // int(size), warp), 1)
        lines = (requests.address[rows] // l1.line_bytes).reshape(-1, lanes)
        active = requests.active[rows].reshape(-1, lanes)
        each = np.where(
            active.any(axis=1), np.maximum(1.0 / l1.requests_per_cycle, distinct_per_row(lines, active) / l1.tags_per_cycle), 0.0
        )
        cycles[rows] = each.reshape(rows.size, -1).sum(axis=1)
    return cycles


def arithmetic_rate(kind: str, dtype: str, device: Device) -> tuple[str, float]:
    """The pipe that executes a kind of work, and its operations per cycle and SM.

    Returns:
        `(pipe, rate)`; for `mma` the rate counts multiply-adds. A rate of 0 means that the device has no such pipe.
    """
    t = device.throughput
    if kind == "mma":
        return "matrix", float(t.matrix_fma.get(_MATRIX_NAMES.get(dtype, dtype), 0.0))
    if kind in ("special", "convert"):
        return kind, t.special if kind == "special" else t.conversion
    if kind == "integer" or dtype.startswith("i"):
        return ("fma" if t.int32_on_fma_lanes else "integer"), t.int32_mul if kind == "fma" else t.int32_add
    if dtype == "f64":
        return "fma f64", t.fp64_fma
    if dtype in ("f16", "bf16") and t.fp16_fma:
        return "fma", t.fp16_fma
    return "fma", t.fp32_fma


_MATRIX_NAMES = {"f16": "fp16", "bf16": "bf16", "tf32": "tf32", "f64": "fp64", "i8": "int8", "f8": "fp8", "f32": "fp32"}
