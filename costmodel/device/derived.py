"""Peaks that follow from a device's figures: units × SMs × clock, an FMA being two operations."""

from __future__ import annotations

from costmodel.device.model import MATRIX_INPUTS, Device
from costmodel.errors import ProfileError

__all__ = [
    "achievable_dram_bytes_per_s",
    "l2_bytes_per_s",
    "matrix_peak_flops_per_s",
    "matrix_peaks_flops_per_s",
    "peak_flops_per_s",
    "ridge_flops_per_byte",
    "vector_peaks_flops_per_s",
]


def peak_flops_per_s(device: Device, dtype: str = "fp32") -> float:
    """Return the vector peak in FLOP/s at the boost clock.

    Args:
        device: the GPU.
        dtype: `fp32`, `fp64` or `fp16`.

    Raises:
        ProfileError: the device has no such vector rate.
    """
    return 2 * _rate(device, _vector_rates(device), dtype, "vector") * device.sm_count * device.clock.boost_hz


def vector_peaks_flops_per_s(device: Device) -> dict[str, float]:
    """Return the vector peaks that the device has, by dtype."""
    return {dtype: peak_flops_per_s(device, dtype) for dtype, rate in _vector_rates(device).items() if rate > 0}


def matrix_peak_flops_per_s(device: Device, dtype: str = "fp16") -> float:
    """Return the dense peak of the matrix units in FLOP/s (integer operations for `int8`).

    Args:
        device: the GPU.
        dtype: one of `MATRIX_INPUTS`.

    Raises:
        ProfileError: the device's matrix units do not take that input.
    """
    lower_hz = device.clock.matrix_boost_hz if dtype != "fp64" else None
    clock_hz = lower_hz or device.clock.boost_hz
    return 2 * _rate(device, dict(device.throughput.matrix_fma), dtype, "matrix") * device.sm_count * clock_hz


def matrix_peaks_flops_per_s(device: Device) -> dict[str, float]:
    """Return the dense peaks of the matrix units, by input in the order of `MATRIX_INPUTS`."""
    return {dtype: matrix_peak_flops_per_s(device, dtype) for dtype in MATRIX_INPUTS if dtype in device.throughput.matrix_fma}


def ridge_flops_per_byte(device: Device, flops_per_s: float | None = None) -> float:
    """Return the arithmetic intensity above which a kernel is bound by arithmetic, at datasheet peaks.

    Args:
        device: the GPU.
        flops_per_s: the arithmetic peak; the fp32 vector peak if None.
    """
    peak = peak_flops_per_s(device) if flops_per_s is None else flops_per_s
    return peak / device.dram.bandwidth_bytes_per_s


def achievable_dram_bytes_per_s(device: Device) -> float:
    """Return the memory bandwidth a stream of reads reaches, in bytes/s."""
    return device.dram.bandwidth_bytes_per_s * device.dram.achievable_fraction


def l2_bytes_per_s(device: Device) -> float:
    """Return the bandwidth of reads that hit L2, in bytes/s at the boost clock."""
    return device.l2.bandwidth_bytes_per_cycle * device.clock.boost_hz


def _vector_rates(device: Device) -> dict[str, float]:
    """Return the FMA of one SM and cycle by dtype, 0 for those it does not have."""
    t = device.throughput
    return {"fp32": t.fp32_fma, "fp64": t.fp64_fma, "fp16": t.fp16_fma}


def _rate(device: Device, rates: dict[str, float], dtype: str, kind: str) -> float:
    """Return the rate of a dtype, refusing those the device does not have."""
    have = [name for name, rate in rates.items() if rate > 0]
    if dtype not in have:
        raise ProfileError(f"{device.name}: no {kind} rate for {dtype!r}; it has {', '.join(have) or 'none'}")
    return rates[dtype]
