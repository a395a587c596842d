"""Profiles load under every name and reproduce the vendors' peaks; each mistake gives one clear error."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from costmodel.device import (
    achievable_dram_bytes_per_s,
    device_names,
    figure_unit,
    find_device,
    l2_bytes_per_s,
    load_profile,
    matrix_peak_flops_per_s,
    matrix_peaks_flops_per_s,
    peak_flops_per_s,
    profile_folders,
    profile_schemas,
    ridge_flops_per_byte,
    vector_peaks_flops_per_s,
)
from costmodel.device.citations import figure_paths
from costmodel.device.schema import field_names, field_text
from costmodel.errors import ProfileError

SHIPPED = Path(__file__).resolve().parents[1] / "hardware_profiles"

# Names under which public data sets list GPUs.
NAMES = {
    "a10": ["NVIDIA A10"],
    "a100_pcie_40gb": ["A100", "A100_40GB", "A100_PCIE_40GB", "NVIDIA A100-PCIE-40GB"],
    "a100_pcie_80gb": ["A100_80GB", "A100_80GB_PCIe", "NVIDIA A100 80GB PCIe"],
    "a100_sxm4_40gb": ["NVIDIA A100-SXM4-40GB"],
    "a100_sxm4_80gb": ["NVIDIA A100-SXM4-80GB"],
    "a30": ["NVIDIA A30"],
    "a40": ["A40"],
    "b200": ["NVIDIA B200"],
    "gb200": ["NVIDIA GB200"],
    "gh200": ["NVIDIA GH200 480GB", "GH200"],
    "gtx_1070": ["GTX_1070"],
    "gtx_1080_ti": ["GTX_1080_Ti", "GTX 1080 Ti"],
    "gtx_1650": ["GTX 1650"],
    "gtx_680": ["GTX-680"],
    "gtx_970": ["GTX-970"],
    "gtx_980": ["GTX-980"],
    "gtx_titan": ["Titan"],
    "gtx_titan_black": ["TitanBlack"],
    "gtx_titan_x": ["GTX_TITAN_X", "TitanX", "NVIDIA GeForce GTX TITAN X"],
    "h100_nvl": ["NVIDIA H100 NVL"],
    "h100_pcie": ["H100_PCIe", "NVIDIA H100 PCIe"],
    "h100_sxm": ["NVIDIA H100 80GB HBM3"],
    "h20": ["NVIDIA H20"],
    "h200": ["H200", "NVIDIA H200"],
    "l4": ["L4", "NVIDIA L4"],
    "l40": ["L40"],
    "l40s": ["NVIDIA L40S"],
    "m1_max": ["M1 Max", "Apple M1 Max"],
    "max_1550": ["Data Center GPU Max 1550", "Intel(R) Data Center GPU Max 1550"],
    "mi100": ["MI100"],
    "mi210": ["MI210"],
    "mi250x": ["MI250X"],
    "mi300a": ["MI300A"],
    "mi300x": ["MI300X", "AMD Instinct MI300X"],
    "mi325x": ["MI325X"],
    "mi355x": ["MI355X"],
    "mi50": ["MI50"],
    "p100_pcie": ["P100", "Tesla P100-PCIE-16GB"],
    "p100_sxm2": ["Tesla P100-SXM2-16GB"],
    "p4": ["Tesla P4"],
    "quadro_k5200": ["Quadro"],
    "rtx_2060": ["RTX 2060"],
    "radeon_pro_w6600": ["Radeon_PRO_W6600"],
    "radeon_pro_w7800": ["Radeon_PRO_W7800"],
    "rtx_2070_super": ["RTX_2070_SUPER"],
    "rtx_2080_ti": ["RTX_2080_Ti", "NVIDIA GeForce RTX 2080 Ti"],
    "rtx_3060": ["RTX 3060"],
    "rtx_3060_laptop": ["RTX 3060 Laptop GPU", "RTX_3060_laptop"],
    "rtx_3060_ti": ["RTX 3060 Ti"],
    "rtx_3070": ["NVIDIA GeForce RTX 3070"],
    "rtx_3070_ti": ["RTX 3070 Ti"],
    "rtx_3080": ["RTX 3080"],
    "rtx_3090": ["RTX_3090"],
    "rtx_4060": ["NVIDIA GeForce RTX 4060"],
    "rtx_4070": ["NVIDIA GeForce RTX 4070"],
    "rtx_4070_ti": ["NVIDIA GeForce RTX 4070 Ti"],
    "rtx_4080": ["NVIDIA GeForce RTX 4080"],
    "rtx_4090": ["NVIDIA GeForce RTX 4090", "RTX_4090"],
    "rtx_5070": ["RTX_5070", "NVIDIA GeForce RTX 5070"],
    "rtx_5080": ["NVIDIA GeForce RTX 5080"],
    "rtx_5090": ["NVIDIA GeForce RTX 5090"],
    "rtx_6000_ada": ["NVIDIA RTX 6000 Ada Generation"],
    "rtx_a4000": ["RTX_A4000"],
    "rtx_a6000": ["RTX_A6000"],
    "rtx_pro_6000_server": ["NVIDIA RTX PRO 6000 Blackwell Server Edition"],
    "rtx_pro_6000_workstation": ["NVIDIA RTX PRO 6000 Blackwell Workstation Edition"],
    "rx_6900_xt": ["RX6900XT"],
    "rx_7900_xt": ["RX 7900 XT"],
    "rx_7900_xtx": ["RX 7900 XTX", "AMD Radeon RX 7900 XTX"],
    "rx_9070_xt": ["RX 9070 XT"],
    "t4": ["Tesla T4"],
    "tesla_k20": ["Tesla-K20", "Tesla_K20m"],
    "tesla_k40": ["Tesla-K40"],
    "titan_rtx": ["TITAN_RTX"],
    "titan_v": ["NVIDIA TITAN V"],
    "v100_pcie": ["V100", "Tesla V100-PCIE-32GB"],
    "v100_sxm2": ["V100 SXM2"],
}

# TFLOP/s as the vendors publish them: fp32, fp64 and matrix peaks by input.
PUBLISHED: dict[str, dict[str, float]] = {
    # NVIDIA A10 datasheet
    "a10": {"fp32": 31.2, "matrix fp16": 125, "matrix tf32": 62.5},
    "a100_pcie_40gb": {
        "fp32": 19.5,
        "fp64": 9.7,
        "matrix fp16": 312,
        "matrix tf32": 156,
        "matrix fp64": 19.5,
    },
    "a100_pcie_80gb": {"fp32": 19.5, "matrix bf16": 312, "matrix int8": 624},
    # NVIDIA A100 datasheet
    "a100_sxm4_40gb": {"fp32": 19.5, "fp64": 9.7, "matrix bf16": 312, "matrix int8": 624},
    "a100_sxm4_80gb": {"fp32": 19.5, "matrix bf16": 312, "matrix int8": 624},
    # NVIDIA A30 datasheet
    "a30": {"fp32": 10.3, "fp64": 5.2, "matrix fp16": 165, "matrix tf32": 82, "matrix fp64": 10.3, "matrix int8": 330},
    "a40": {"fp32": 37.4, "matrix fp16": 149.7, "matrix tf32": 74.8},
    # NVIDIA HGX B200 datasheet: of eight GPUs, matrix peaks with sparsity
    "b200": {
        "fp32": 600 / 8,
        "fp64": 296 / 8,
        "matrix fp64": 296 / 8,
        "matrix fp16": 36e3 / 16,
        "matrix fp8": 72e3 / 16,
        "matrix fp4": 144e3 / 16,
    },
    # NVIDIA GB200 NVL72 datasheet: of 72 GPUs, matrix peaks with sparsity
    "gb200": {
        "fp32": 5760 / 72,
        "fp64": 2880 / 72,
        "matrix tf32": 180e3 / 144,
        "matrix fp16": 360e3 / 144,
        "matrix fp8": 720e3 / 144,
        "matrix fp4": 1440e3 / 144,
    },
    # NVIDIA GH200 Grace Hopper superchip datasheet
    "gh200": {"fp32": 67, "fp64": 34, "matrix fp64": 67, "matrix fp16": 990, "matrix tf32": 494},
    "gtx_1070": {"fp32": 6.46},
    "gtx_1080_ti": {"fp32": 11.34},
    "gtx_1650": {"fp32": 2.98, "fp16": 5.97},
    "gtx_680": {"fp32": 3.09},
    "gtx_970": {"fp32": 3.92},
    "gtx_980": {"fp32": 4.98},
    "gtx_titan": {"fp32": 4.5},
    "gtx_titan_black": {"fp32": 5.1},
    "gtx_titan_x": {"fp32": 6.6},
    # NVIDIA H100 NVL datasheet, matrix peaks with sparsity
    "h100_nvl": {"fp32": 60, "fp64": 30, "matrix fp64": 60, "matrix bf16": 1671 / 2, "matrix fp8": 3341 / 2},
    "h100_pcie": {"fp32": 51.2, "fp64": 25.6, "matrix fp16": 756, "matrix fp64": 51.2, "matrix fp8": 1513},
    "h100_sxm": {
        "fp32": 66.9,
        "fp64": 33.5,
        "fp16": 133.8,
        "matrix fp16": 989.4,
        "matrix tf32": 494.7,
        "matrix fp64": 66.9,
    },
    # as the press lists them; the 44 of fp32 there fit no clock of the part
    "h20": {"matrix fp16": 148, "matrix tf32": 74, "matrix fp8": 296, "matrix int8": 296},
    "h200": {"fp32": 66.9, "matrix fp16": 989.5, "matrix fp8": 1979},
    "l4": {"fp32": 30.3, "matrix fp16": 121, "matrix fp8": 242},
    "l40": {"fp32": 90.5, "matrix fp16": 181.05, "matrix tf32": 90.5, "matrix fp8": 362, "matrix int8": 362},
    "l40s": {"fp32": 91.6, "matrix fp16": 362.05, "matrix tf32": 183, "matrix fp8": 733},
    # Apple event of 18 October 2021: 10.4 teraflops
    "m1_max": {"fp32": 10.4},
    # Intel Data Center GPU Max 1550 product brief, both stacks
    "max_1550": {"fp32": 52.4 / 2, "fp64": 52.4 / 2, "matrix tf32": 419 / 2, "matrix bf16": 839 / 2, "matrix int8": 1678 / 2},
    "mi100": {"fp32": 23.1, "fp64": 11.5, "matrix fp32": 46.1, "matrix fp16": 184.6, "matrix bf16": 92.3},
    "mi210": {"fp32": 22.6, "fp64": 22.6, "matrix fp32": 45.3, "matrix fp64": 45.3, "matrix fp16": 181},
    "mi250x": {"fp32": 47.9 / 2, "fp64": 47.9 / 2, "matrix fp64": 95.7 / 2, "matrix fp16": 383 / 2},
    # AMD Instinct MI300A data sheet
    "mi300a": {"fp32": 122.6, "fp64": 61.3, "matrix fp64": 122.6, "matrix fp16": 980.6, "matrix fp8": 1961.2},
    # AMD Instinct MI300X data sheet
    "mi300x": {
        "fp32": 163.4,
        "fp64": 81.7,
        "matrix fp64": 163.4,
        "matrix fp32": 163.4,
        "matrix tf32": 653.7,
        "matrix bf16": 1307.4,
        "matrix fp8": 2614.9,
        "matrix int8": 2614.9,
    },
    # AMD Instinct MI325X data sheet
    "mi325x": {"fp32": 163.4, "fp64": 81.7, "matrix fp16": 1307.4, "matrix fp8": 2614.9},
    # AMD Instinct MI355X data sheet, dense
    "mi355x": {
        "fp32": 157.3,
        "fp64": 78.6,
        "matrix fp64": 78.6,
        "matrix fp16": 2516.6,
        "matrix fp8": 5033.2,
        "matrix int8": 5033.2,
        "matrix fp6": 10066.3,
        "matrix fp4": 10066.3,
    },
    "mi50": {"fp32": 13.3, "fp64": 6.6, "fp16": 26.5},
    "p100_pcie": {"fp32": 9.3, "fp64": 4.7, "fp16": 18.7},
    # NVIDIA Tesla P100 whitepaper
    "p100_sxm2": {"fp32": 10.6, "fp64": 5.3, "fp16": 21.2},
    "p4": {"fp32": 5.5},
    "quadro_k5200": {"fp32": 3.1},
    # AMD Radeon PRO W6600 specifications
    "radeon_pro_w6600": {"fp32": 10.4, "fp16": 20.8},
    # AMD Radeon PRO W7800 specifications
    "radeon_pro_w7800": {"fp32": 45.2, "fp16": 90.5, "matrix fp16": 90.5},
    "rtx_2060": {"fp32": 6.45, "matrix fp16_into_fp16": 51.6},
    "rtx_2070_super": {"fp32": 9.1, "matrix fp16_into_fp16": 72.5},
    "rtx_2080_ti": {"fp32": 13.4, "matrix fp16_into_fp16": 107.6, "matrix fp16": 53.8, "matrix int8": 215.2},
    "rtx_3060": {"fp32": 12.74},
    "rtx_3060_laptop": {"fp32": 10.94},
    "rtx_3060_ti": {"fp32": 16.2},
    # NVIDIA GA102 whitepaper
    "rtx_3070": {"fp32": 20.3, "matrix fp16": 40.6, "matrix fp16_into_fp16": 81.3},
    "rtx_3070_ti": {"fp32": 21.75},
    "rtx_3080": {"fp32": 29.8, "matrix fp16": 59.5, "matrix fp16_into_fp16": 119},
    "rtx_3090": {
        "fp32": 35.6,
        "matrix fp16": 71,
        "matrix fp16_into_fp16": 142,
        "matrix tf32": 35.6,
        "matrix int8": 284,
    },
    # NVIDIA GeForce RTX 4060 specifications
    "rtx_4060": {"fp32": 15.1},
    "rtx_4070": {"fp32": 29.15, "matrix fp16": 58.3},
    # NVIDIA GeForce RTX 4070 Ti specifications
    "rtx_4070_ti": {"fp32": 40.1},
    # NVIDIA Ada whitepaper
    "rtx_4080": {"fp32": 48.7, "matrix fp16": 97.5, "matrix fp16_into_fp16": 194.9},
    # NVIDIA Ada whitepaper
    "rtx_4090": {"fp32": 82.6, "matrix fp16": 165.2, "matrix fp16_into_fp16": 330.3, "matrix tf32": 82.6, "matrix int8": 660.6},
    # NVIDIA RTX Blackwell whitepaper
    "rtx_5070": {"fp32": 30.9, "matrix fp16": 61.7, "matrix fp16_into_fp16": 123.5, "matrix fp4": 493.9},
    # NVIDIA RTX Blackwell whitepaper
    "rtx_5080": {"fp32": 56.3, "matrix fp16": 112.6, "matrix fp16_into_fp16": 225.1, "matrix int8": 450.2, "matrix fp4": 900.4},
    # NVIDIA RTX Blackwell whitepaper
    "rtx_5090": {
        "fp32": 104.8,
        "matrix fp16": 209.5,
        "matrix fp16_into_fp16": 419,
        "matrix tf32": 104.8,
        "matrix fp8": 419,
        "matrix int8": 838,
        "matrix fp4": 1676,
    },
    # NVIDIA RTX 6000 Ada datasheet, fp8 with sparsity
    "rtx_6000_ada": {"fp32": 91.1, "matrix fp8": 1457 / 2},
    "rtx_a4000": {"fp32": 19.2, "matrix fp16": 153.4 / 2},
    "rtx_a6000": {"fp32": 38.7, "matrix fp16": 154.8, "matrix tf32": 77.4},
    # NVIDIA RTX PRO 6000 Blackwell Server Edition datasheet; its 4 PFLOP/s of fp4 are rounded
    "rtx_pro_6000_server": {"fp32": 120},
    # NVIDIA RTX Blackwell PRO whitepaper, fp4 with sparsity
    "rtx_pro_6000_workstation": {"fp32": 125, "matrix fp16": 503.8, "matrix fp4": 4000 / 2},
    # AMD Radeon RX 6900 XT specifications
    "rx_6900_xt": {"fp32": 23.04, "fp64": 1.44, "fp16": 46.08},
    # AMD Radeon RX 7900 XT specifications
    "rx_7900_xt": {"fp32": 51.6, "fp16": 103},
    # AMD Radeon RX 7900 XTX specifications
    "rx_7900_xtx": {"fp32": 61.4, "fp64": 1.92, "fp16": 122.8, "matrix fp16": 122.8},
    # AMD Radeon RX 9070 XT specifications, dense
    "rx_9070_xt": {"fp32": 48.7, "fp16": 97.3, "matrix fp16": 195, "matrix fp8": 389, "matrix int8": 389},
    "t4": {"fp32": 8.1, "matrix fp16": 65, "matrix int8": 130},
    "tesla_k20": {"fp32": 3.52, "fp64": 1.17},
    "tesla_k40": {"fp32": 4.29, "fp64": 1.43},
    "titan_rtx": {"fp32": 16.3, "matrix fp16": 130.5},
    "titan_v": {"fp32": 14.9, "fp64": 7.45},
    "v100_pcie": {"fp32": 14, "fp64": 7, "matrix fp16": 112},
    "v100_sxm2": {"fp32": 15.7, "fp64": 7.8, "matrix fp16": 125},
}


@pytest.mark.parametrize("name", device_names())
def test_profile_loads_and_makes_sense(name: str) -> None:
    device = find_device(name)
    assert device.name == name
    assert device.architecture == find_device(device.title).architecture
    assert device.limits.warp_size in (16, 32, 64)
    # Latencies grow and capacities shrink towards the core.
    assert device.l1.latency_cycles < device.l2.latency_cycles < device.dram.latency_cycles
    assert device.l1.capacity_bytes < device.l2.capacity_bytes < device.dram.capacity_bytes
    # L2 is faster than memory, and a full SM can run a block of the largest size.
    l2_bytes_per_s = device.l2.bandwidth_bytes_per_cycle * device.clock.boost_hz
    assert l2_bytes_per_s > device.dram.bandwidth_bytes_per_s
    assert device.limits.threads_per_block <= device.limits.threads_per_sm
    if device.memory_side_cache is not None:  # between L2 and memory in size, speed and distance
        side = device.memory_side_cache
        assert device.l2.capacity_bytes < side.capacity_bytes < device.dram.capacity_bytes
        assert l2_bytes_per_s > side.bandwidth_bytes_per_s > device.dram.bandwidth_bytes_per_s
        assert device.l2.latency_cycles < side.latency_cycles < device.dram.latency_cycles
    # Sustained clocks lie near the quoted ones.
    assert 0.7 < device.clock.sustained_hz / device.clock.boost_hz < 1.2
    if device.l1.unified_with_shared:
        assert device.shared.capacity_bytes_per_sm < device.l1.capacity_bytes


@pytest.mark.parametrize("name", device_names())
def test_every_figure_has_a_source(name: str) -> None:
    device = find_device(name)
    data = dataclasses.asdict(device)
    del data["sources"]
    figures = set(figure_paths(data))
    assert figures == set(device.sources)
    assert all(len(text) > 10 for text in device.sources.values())


@pytest.mark.parametrize(("board", "alias"), [(b, a) for b, names in NAMES.items() for a in names])
def test_alias_finds_its_board(board: str, alias: str) -> None:
    variants = {alias, alias.upper(), alias.lower(), re.sub(r"[ _-]", "", alias), re.sub(r"[ _]", "-", alias)}
    assert {find_device(v).name for v in variants} == {board}


def test_names_of_the_public_data_sets_are_all_tried(data_dir: Path) -> None:
    """Those that the last section of the data's README lists."""
    section = (data_dir / "README.md").read_text(encoding="utf-8").rpartition("\n## ")[2]
    listed = {name for name in re.findall(r"`([^`]*)`", section) if len(name) > 1}
    assert len(listed) > 60
    assert listed - {alias for names in NAMES.values() for alias in names} == set()


@pytest.mark.parametrize("name", device_names())
def test_name_title_and_aliases_find_the_same_object(name: str) -> None:
    device = find_device(name)
    assert all(find_device(other) is device for other in (device.title, *device.aliases))


@pytest.mark.parametrize(("board", "kind", "tflops"), [(b, k, v) for b, peaks in PUBLISHED.items() for k, v in peaks.items()])
def test_peak_matches_the_published_one(board: str, kind: str, tflops: float) -> None:
    device = find_device(board)
    matrix = kind.startswith("matrix ")
    peak = matrix_peak_flops_per_s(device, kind[7:]) if matrix else peak_flops_per_s(device, kind)
    assert peak / 1e12 == pytest.approx(tflops, rel=0.02)


OCCUPANCY_HEADERS = sorted(Path("/usr/local").glob("cuda*/include/cuda_occupancy.h"))
"""The occupancy calculator of an installed CUDA."""


def by_compute_capability(function: str) -> dict[int, int]:
    """Major compute capability → value that a function of the occupancy calculator returns."""
    text = OCCUPANCY_HEADERS[-1].read_text(encoding="utf-8")
    body = re.search(rf"cudaOccError {function}\(int ?\*.*?\n}}", text, re.S)
    assert body
    found: dict[int, int] = {}
    majors: list[int] = []
    for major, value in re.findall(r"case (\d+):|value = (\d+);", body[0]):
        majors += [int(major)] if major else []
        found |= dict.fromkeys(majors if value else (), int(value or 0))
        majors = [] if value else majors
    return found


@pytest.mark.skipif(not OCCUPANCY_HEADERS, reason="needs cuda_occupancy.h: no CUDA under /usr/local")
def test_allocation_units_are_those_of_the_occupancy_calculator() -> None:
    shared = by_compute_capability("cudaOccSMemAllocationGranularity")
    registers = by_compute_capability("cudaOccRegAllocationGranularity")
    assert set(registers.values()) == {256}
    tried = set()
    for device in (find_device(name) for name in device_names()):
        major = int(device.compute_capability.partition(".")[0]) if device.vendor == "NVIDIA" else 0
        if major in shared:
            assert device.shared.allocation_unit_bytes == shared[major], device.name
            assert device.registers.allocation_unit_per_warp == registers[major], device.name
            tried.add(major)
    assert {8, 9, 10, 12} <= tried


def test_every_board_is_held_against_published_peaks() -> None:
    assert set(device_names()) == set(PUBLISHED)


def test_derived_figures() -> None:
    v100 = find_device("V100")
    assert ridge_flops_per_byte(v100) == pytest.approx(80 * 64 * 2 * 1.38e9 / 900e9)
    assert ridge_flops_per_byte(v100, 9e11) == 1.0
    assert achievable_dram_bytes_per_s(v100) == 900e9 * v100.dram.achievable_fraction
    with pytest.raises(ProfileError, match=r"^v100_pcie: no matrix rate for 'tf32'; it has fp16$"):
        matrix_peak_flops_per_s(v100, "tf32")
    with pytest.raises(ProfileError, match=r"^gtx_980: no vector rate for 'fp16'; it has fp32, fp64$"):
        peak_flops_per_s(find_device("GTX 980"), "fp16")
    with pytest.raises(ProfileError, match=r"^m1_max: no vector rate for 'fp64'; it has fp32, fp16$"):
        peak_flops_per_s(find_device("M1 Max"), "fp64")


def test_board_overrides_and_keeps_its_architecture() -> None:
    geforce, titan = find_device("RTX 2080 Ti"), find_device("TITAN RTX")
    assert geforce.throughput.matrix_fma == {"fp16": 256, "fp16_into_fp16": 512, "int8": 1024}
    assert titan.throughput.matrix_fma == {"fp16": 512, "fp16_into_fp16": 512, "int8": 1024}
    assert geforce.shared == titan.shared
    assert find_device("GTX 1650").throughput.matrix_fma == {}
    assert "GeForce" in geforce.sources["throughput.matrix_fma.fp16"]
    assert geforce.sources["throughput.matrix_fma.int8"] == titan.sources["throughput.matrix_fma.int8"]


def test_every_figure_has_a_unit() -> None:
    whole = profile_schemas()["board.schema.json"]["properties"]
    fields = {f"{g}.{n}": f for g, group in whole.items() for n, f in group.get("properties", {}).items()}
    fields |= {name: field for name, field in whole.items() if "properties" not in field}
    numbers = {path for path, field in fields.items() if re.search(r"'(number|integer)'", str(field))}
    assert {path for path in numbers if not figure_unit(path)} == {"sm_count", "dram.achievable_fraction"}
    units = {"clock.boost_hz": "Hz", "dram.bandwidth_bytes_per_s": "bytes/s", "l2.bandwidth_bytes_per_cycle": "bytes/cycle"}
    units |= {"l1.latency_cycles": "cycles", "launch_overhead_s": "s", "throughput.matrix_fma.fp16": "operations/cycle"}
    units |= {"shared.max_bytes_per_block": "bytes", "limits.blocks_per_sm": "blocks", "registers.per_block": "registers"}
    assert {path: figure_unit(path) for path in units} == units


def test_peaks_of_all_types() -> None:
    geforce = find_device("RTX 5090")
    assert list(vector_peaks_flops_per_s(geforce)) == ["fp32", "fp64", "fp16"]
    assert list(matrix_peaks_flops_per_s(geforce)) == ["tf32", "bf16", "fp16", "fp16_into_fp16", "fp8", "fp4", "int8"]
    assert all(peak == matrix_peak_flops_per_s(geforce, t) for t, peak in matrix_peaks_flops_per_s(geforce).items())
    assert list(vector_peaks_flops_per_s(find_device("GTX 980"))) == ["fp32", "fp64"]
    assert l2_bytes_per_s(find_device("V100")) == 1775 * 1.38e9


def test_device_is_an_immutable_value() -> None:
    device = find_device("H100")
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.sm_count = 1  # type: ignore[misc]
    faster = dataclasses.replace(device, clock=dataclasses.replace(device.clock, boost_hz=2.0e9))
    assert faster != device
    assert hash(faster) != hash(device)
    twin = copy.deepcopy(device)
    assert {device: 1}[twin] == 1
    assert pickle.loads(pickle.dumps(device)) == device


def test_unknown_name_lists_close_ones_and_the_way_to_add_one() -> None:
    with pytest.raises(ProfileError) as caught:
        find_device("RTX 2071 SUPER")
    assert "unknown GPU 'RTX 2071 SUPER'; did you mean rtx_2070_super" in str(caught.value)
    assert str(SHIPPED / "README.md") in str(caught.value)
    with pytest.raises(ProfileError, match="unknown GPU 'qqqqqqqq'; known: a10, a100_pcie_40gb, "):
        find_device("qqqqqqqq")
    with pytest.raises(ProfileError, match="unknown GPU ''"):
        find_device("")


def test_readme_states_the_schema() -> None:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", text, re.MULTILINE))
    expected = {}
    for name in field_names():
        inner = field_names((name,))
        paths: list[tuple[str, ...]] = [(name, i) for i in inner]
        for path in paths or [(name,)]:
            expected[".".join(path)] = field_text(path)
    assert rows == expected


# --- mistakes -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile folder with one board, `mine.yaml`, and its architecture; the only one searched."""
    root = tmp_path / "profiles"
    (root / "architectures").mkdir(parents=True)
    shutil.copy(SHIPPED / "architectures" / "volta.yaml", root / "architectures")
    board = (SHIPPED / "v100_pcie.yaml").read_text(encoding="utf-8").replace("name: v100_pcie", "name: mine")
    (root / "mine.yaml").write_text(re.sub(r"  - (.*)", r"  - My \1", board).replace("title: ", "title: My "))
    monkeypatch.setenv("COSTMODEL_PROFILES", str(root))
    return root


def edit(path: Path, change: Callable[[str], str]) -> None:
    """Change a file, which must really change."""
    before = path.read_text(encoding="utf-8")
    after = change(before)
    assert after != before
    path.write_text(after, encoding="utf-8")


def swap(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def drop(line: str) -> Callable[[str], str]:
    return lambda text: re.sub(rf"^ *{line}.*\n", "", text, count=1, flags=re.MULTILINE)


BANDWIDTH = "bandwidth_bytes_per_s: 900.0e+9"
MISTAKES: dict[str, tuple[Callable[[str], str], str]] = {
    "number without sign in the exponent": (
        swap(BANDWIDTH, "bandwidth_bytes_per_s: 3.35e12"),
        "dram.bandwidth_bytes_per_s: expected a number, got text '3.35e12' (write 3.35e+12)",
    ),
    "number without point": (
        swap(BANDWIDTH, "bandwidth_bytes_per_s: 9e11"),
        "dram.bandwidth_bytes_per_s: expected a number, got text '9e11' (write 9.0e+11)",
    ),
    "number with a unit": (
        swap(BANDWIDTH, "bandwidth_bytes_per_s: 900 GB/s"),
        "dram.bandwidth_bytes_per_s: expected a number, got text '900 GB/s' "
        "(write the plain number; its unit is in the field's name)",
    ),
    "quoted whole number": (
        swap("sm_count: 80", "sm_count: '80'"),
        "sm_count: expected a whole number, got text '80' (write 80)",
    ),
    "fraction for a whole number": (
        swap("sm_count: 80", "sm_count: 80.0"),
        "sm_count: expected a whole number, got 80.0 (write 80)",
    ),
    "flag for a number": (
        swap("sm_count: 80", "sm_count: yes"),
        "sm_count: expected a whole number, got true",
    ),
    "nothing for a number": (
        swap("sm_count: 80", "sm_count:"),
        "sm_count: expected a whole number, got nothing",
    ),
    "zero": (swap("sm_count: 80", "sm_count: 0"), "sm_count: expected a number > 0, got 0"),
    "negative": (
        swap(BANDWIDTH, "bandwidth_bytes_per_s: -1.0"),
        "dram.bandwidth_bytes_per_s: expected a number > 0, got -1.0",
    ),
    "infinite": (
        swap(BANDWIDTH, "bandwidth_bytes_per_s: .inf"),
        "dram.bandwidth_bytes_per_s: expected a finite number, got inf",
    ),
    "fraction above one": (
        swap("achievable_fraction: 0.962", "achievable_fraction: 96.2"),
        "dram.achievable_fraction: expected a fraction in (0, 1], got 96.2",
    ),
    "misspelt field": (
        swap(BANDWIDTH, "bandwith_bytes_per_s: 900.0e+9\n  " + BANDWIDTH),
        "dram.bandwith_bytes_per_s: unknown field (did you mean 'bandwidth_bytes_per_s'?)",
    ),
    "misspelt group": (
        swap("sources:", "clocks: 1\nsources:\n  clocks: a good source"),
        "clocks: unknown field (did you mean 'clock'?)",
    ),
    "group expected": (
        swap("sources:", "l1: 5\nsources:\n  l1: a good source"),
        "l1: expected a group of fields, got 5",
    ),
    "missing field": (
        drop("capacity_bytes: 34359738368"),
        "dram.capacity_bytes: missing (Installed memory); give it here or in profiles/architectures/volta.yaml",
    ),
    "missing aliases": (
        lambda text: re.sub(r"aliases:\n(  - .*\n)+", "", text),
        "aliases: missing (Other names it is found under); give it here or in profiles/architectures/volta.yaml",
    ),
    "aliases not a list": (
        lambda text: re.sub(r"aliases:\n(  - .*\n)+", "aliases: V9\n", text),
        "aliases: expected a list, got text 'V9'",
    ),
    "alias not text": (swap("  - My V100\n", "  - 680\n"), "aliases.0: expected text, got 680 (write '680')"),
    "unsourced figure": (
        drop('sm_count: "'),
        "sm_count: no source (add `sm_count: …` under `sources:`)",
    ),
    "unsourced group": (
        lambda text: drop('clock: "')(drop("clock.sustained_hz: ")(text)),
        "clock.boost_hz: no source (add `clock: …` or `clock.boost_hz: …` under `sources:`)\n"
        "profiles/mine.yaml: clock.sustained_hz: no source "
        "(add `clock: …` or `clock.sustained_hz: …` under `sources:`)",
    ),
    "source of nothing": (
        swap("sources:", "sources:\n  drams: datasheet"),
        "sources.drams: covers no figure of this file (did you mean 'dram'?)",
    ),
    "empty source": (
        lambda text: re.sub(r"  sm_count: \".*\"", "  sm_count: ''", text),
        "sources.sm_count: expected a citation, got ''",
    ),
    "sources not a mapping": (
        lambda text: text[: text.index("sources:")] + "sources: datasheet\n",
        "sources: expected `field: citation` lines, got str",
    ),
    "key given twice": (
        swap("sm_count: 80", "sm_count: 80\nsm_count: 84"),
        "line 17: sm_count: given twice, first on line 16 (keep one)",
    ),
    "nested key given twice": (
        swap(BANDWIDTH, BANDWIDTH + "\n  bandwidth_bytes_per_s: 1.0"),
        "line 23: dram.bandwidth_bytes_per_s: given twice, first on line 22 (keep one)",
    ),
    "key not text": (
        swap("sm_count: 80", "80: 80"),
        "line 16: expected a field name, got '80' (quote it if it is one)",
    ),
    "not YAML": (swap("sm_count: 80", "sm_count: [80"), "line 17: not valid YAML: "),
    "list instead of a mapping": (lambda _: "- 1\n", "expected `field: value` lines, got list"),
    "empty file": (lambda _: "# nothing\n", "expected `field: value` lines, got nothing"),
    "name is not the file name": (
        swap("name: mine", "name: V100"),
        "name: expected the file name 'mine', got 'V100'",
    ),
    "unknown architecture": (
        swap("architecture: volta", "architecture: voltaire"),
        "architecture: expected one of ada, ampere_ga100, ",
    ),
    "no architecture": (drop("architecture: volta"), "architecture: expected one of ada, "),
    "effective above nominal": (
        swap("effective_capacity_bytes: 6291456", "effective_capacity_bytes: 6291457"),
        "l2.effective_capacity_bytes: expected at most 6291456, got 6291457",
    ),
    "unknown matrix input": (
        swap("sources:", "throughput:\n  matrix_fma: {fp15: 1.0}\nsources:\n  throughput: a good source"),
        "throughput.matrix_fma.fp15: expected one of 'fp64', 'fp32', ",
    ),
    "optional figure": (
        swap("clock:\n", "clock:\n  matrix_boost_hz: fast\n"),
        "clock.matrix_boost_hz: expected a number, got text 'fast' (write the plain number",
    ),
    "optional group": (
        swap("sources:", "memory_side_cache: 5\nsources:\n  memory_side_cache: a good source"),
        "memory_side_cache: expected a group of fields, got 5",
    ),
    "incomplete optional group": (
        swap(
            "sources:",
            "memory_side_cache: {capacity_bytes: 1, bandwidth_bytes_per_s: 1.0}\nsources:\n  memory_side_cache: a good source",
        ),
        "memory_side_cache.latency_cycles: missing (Load-to-use, L2 miss that hits here, in core cycles); "
        "give it here or in profiles/architectures/volta.yaml",
    ),
    "missing group": (
        lambda text: re.sub(r"clock:\n(  \w+: .*\n)+", "", re.sub(r"  clock.*: \".*\n", "", text), count=1),
        "clock: missing (Core clocks); give it here or in profiles/architectures/volta.yaml",
    ),
    "wrong vendor": (
        swap("sources:", "vendor: Nvidia\nsources:"),
        "vendor: expected one of 'NVIDIA', 'AMD', 'Intel' or 'Apple', got text 'Nvidia'",
    ),
    "compute capability as a number": (
        swap("sources:", "compute_capability: 7.0\nsources:\n  compute_capability: guide"),
        "compute_capability: expected text, got 7.0 (write '7.0')",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_board(folder: Path, mistake: str) -> None:
    change, message = MISTAKES[mistake]
    edit(folder / "mine.yaml", change)
    with pytest.raises(ProfileError) as caught:
        load_profile(folder / "mine.yaml")
    text = str(caught.value)
    assert text.startswith(f"profiles/mine.yaml: {message}")
    assert text.count("profiles/mine.yaml: ") == 1 + message.count("profiles/mine.yaml: ")


ARCHITECTURE_MISTAKES: dict[str, tuple[Callable[[str], str], str]] = {
    "wrong type": (
        swap("banks: 32", "banks: '32'"),
        "shared.banks: expected a whole number, got text '32' (write 32)",
    ),
    "unsourced": (drop("limits: "), "limits.warp_size: no source (add `limits: …` or `limits.warp_size: …`"),
    "a board's field": (
        swap("vendor:", "title: Volta\nvendor:"),
        "title: belongs in a board's profile, not in an",
    ),
    "name": (
        swap("architecture: volta", "architecture: hopper"),
        "architecture: expected the file name 'volta', got",
    ),
    "threads": (
        swap("warps_per_sm: 64", "warps_per_sm: 48"),
        "limits.threads_per_sm: expected warps_per_sm * warp_s",
    ),
    "missing flag as text": (
        swap("caches_global_loads: true", "caches_global_loads: 'true'"),
        "l1.caches_global_loads: expected true or false, got text 'true'",
    ),
}


@pytest.mark.parametrize("mistake", ARCHITECTURE_MISTAKES)
def test_mistake_in_an_architecture_names_that_file(folder: Path, mistake: str) -> None:
    change, message = ARCHITECTURE_MISTAKES[mistake]
    edit(folder / "architectures" / "volta.yaml", change)
    with pytest.raises(ProfileError) as caught:
        find_device("mine")
    assert str(caught.value).startswith(f"profiles/architectures/volta.yaml: {message}")


def test_all_mistakes_are_reported_at_once(folder: Path) -> None:
    edit(folder / "mine.yaml", swap("sm_count: 80", "sm_count: 0"))
    edit(folder / "mine.yaml", swap(BANDWIDTH, "bandwidth_bytes_per_s: fast"))
    edit(folder / "architectures" / "volta.yaml", drop("line_bytes: 128"))
    edit(folder / "architectures" / "volta.yaml", drop("limits: "))
    with pytest.raises(ProfileError) as caught:
        find_device("mine")
    lines = str(caught.value).splitlines()
    assert lines[0] == "profiles/mine.yaml: sm_count: expected a number > 0, got 0"
    assert lines[1].startswith("profiles/mine.yaml: dram.bandwidth_bytes_per_s: expected a number, got text 'fast'")
    assert lines[2].startswith("profiles/mine.yaml: l2.line_bytes: missing (Bytes under one tag); give it here or in")
    unsourced = ("warp_size", "threads_per_block", "threads_per_sm", "warps_per_sm", "blocks_per_sm")
    assert [line.split(": ")[:3] for line in lines[3:]] == [
        ["profiles/architectures/volta.yaml", f"limits.{name}", "no source (add `limits"] for name in unsourced
    ]


def test_two_boards_with_one_alias(folder: Path) -> None:
    text = (folder / "mine.yaml").read_text(encoding="utf-8")
    (folder / "other.yaml").write_text(text.replace("name: mine", "name: other"), encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        find_device("mine")
    assert str(caught.value) == (
        "profiles/other.yaml: aliases: 'My Tesla V100-PCIE-32GB' also belongs to profiles/mine.yaml (keep one)"
    )


def test_unreadable_file(folder: Path) -> None:
    with pytest.raises(ProfileError, match=r"^profiles/none.yaml: no such file"):
        find_device(folder / "none.yaml")
    (folder / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProfileError, match=r"^profiles/mine.yaml: cannot be read \(.*utf-8"):
        find_device(str(folder / "mine.yaml"))


# --- where profiles are looked for ----------------------------------------------------------------


def test_own_folder_comes_first_and_the_shipped_one_stays(folder: Path) -> None:
    assert profile_folders() == (folder, SHIPPED)
    assert find_device("my v100").name == "mine"
    assert find_device("V100").name == "v100_pcie"
    assert {"mine", "v100_pcie"} <= set(device_names())
    edit(folder / "mine.yaml", swap("  - My V100\n", "  - V100\n"))
    assert find_device("V100").name == "mine"


def test_changed_file_is_read_again(folder: Path) -> None:
    before = find_device("mine")
    assert find_device("mine") is before
    edit(folder / "mine.yaml", swap("sm_count: 80", "sm_count: 100"))
    assert find_device("mine").sm_count == 100
    edit(folder / "architectures" / "volta.yaml", swap("fp64_fma: 32.0", "fp64_fma: 0.125"))
    assert find_device("mine").throughput.fp64_fma == 0.125


def test_path_outside_any_folder_uses_the_shipped_architectures(tmp_path: Path) -> None:
    path = tmp_path / "t4.yaml"
    shutil.copy(SHIPPED / "t4.yaml", path)
    assert find_device(path) == find_device(str(path)) == find_device("T4")


def test_missing_folder_in_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COSTMODEL_PROFILES", str(tmp_path / "gone"))
    with pytest.raises(ProfileError, match=r"^COSTMODEL_PROFILES: .*gone is not a folder$"):
        find_device("V100")
