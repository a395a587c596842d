"""GPUs as data: `find_device("V100")` reads a YAML profile into a frozen `Device`."""

from __future__ import annotations

from costmodel.device.derived import (
    achievable_dram_bytes_per_s,
    l2_bytes_per_s,
    matrix_peak_flops_per_s,
    matrix_peaks_flops_per_s,
    peak_flops_per_s,
    ridge_flops_per_byte,
    vector_peaks_flops_per_s,
)
from costmodel.device.figures import figure_unit
from costmodel.device.json_schema import profile_schemas, write_schemas
from costmodel.device.model import (
    L1,
    L2,
    MATRIX_INPUTS,
    Clock,
    Device,
    Dram,
    Limits,
    MemorySideCache,
    Registers,
    Shared,
    Throughput,
)
from costmodel.device.profiles import device_names, find_device, load_profile, profile_folders

__all__ = [
    "L1",
    "L2",
    "MATRIX_INPUTS",
    "Clock",
    "Device",
    "Dram",
    "Limits",
    "MemorySideCache",
    "Registers",
    "Shared",
    "Throughput",
    "achievable_dram_bytes_per_s",
    "device_names",
    "figure_unit",
    "find_device",
    "l2_bytes_per_s",
    "load_profile",
    "matrix_peak_flops_per_s",
    "matrix_peaks_flops_per_s",
    "peak_flops_per_s",
    "profile_folders",
    "profile_schemas",
    "ridge_flops_per_byte",
    "vector_peaks_flops_per_s",
    "write_schemas",
]
