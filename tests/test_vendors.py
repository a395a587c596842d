"""GPUs of all vendors: no estimate beats the roofline, caches on the side of memory, wavefronts of 16 to 64, and what some lack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from costmodel import Scorer, estimate, kernel, rank
from costmodel.charges.occupancy import residency
from costmodel.charges.pipes import arithmetic_rate
from costmodel.charges.spills import spill_traffic
from costmodel.cost import find_description
from costmodel.device import Device, MemorySideCache, achievable_dram_bytes_per_s, device_names, find_device
from costmodel.dtypes import bf16, f16, f32, f64, i32
from costmodel.errors import SizeError

OTHERS = tuple(name for name in device_names() if find_device(name).vendor != "NVIDIA")
SIDE = tuple(name for name in device_names() if find_device(name).memory_side_cache is not None)


@kernel
def read(k, *, N, B=256, V=4, R=8):
    """Every thread reads R times V elements."""
    a = k.buffer("a", (N,), f32, read_only=True)
    k.require(N % (B * V * R) == 0)
    with k.blocks(N // (B * V * R)) as b, k.threads(B) as t, k.serial(R, "i", unroll=R) as i:
        k.do("read", loads=a[((b * R + i) * B + t) * V].wide(V), work=k.add(f32, V))


@kernel
def chase(k, *, N):
    """One warp walks over an array, a line at a time."""
    a = k.buffer("a", (N,), f32, read_only=True)
    with k.blocks(1), k.threads(32) as t, k.serial(N // 32, "i") as i:
        k.load(a[i * 32 + t])


@kernel
def staged_by_hand(k, *, N, B, WORDS):
    """WORDS words of static shared memory for each thread."""
    a, tile = k.buffer("a", (N,), f32, read_only=True), k.shared("tile", (WORDS, B), f32)
    k.require(N % B == 0)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.copy(a[b * B + t], tile[0, t])
        k.barrier()
        k.do("use", loads=tile[0, t], work=k.fma(f32))


@kernel
def stream_read(k, *, N, B):
    """gpu-benches' `read_kernel` of gpu-stream, as HIP compiles it: an array of 32 KiB, never used, keeps blocks away."""
    b = k.buffer("b", (N,), f64, read_only=True)
    k.shared("spoiler", (4 * 1024,), f64)
    with k.blocks(N // B) as block, k.threads(B) as t:
        k.do("read", loads=b[block * B + t], work=k.add(f64))


# --- every board --------------------------------------------------------------------------------------

N, EDGE, TILE = 1 << 26, 2048, {"BM": 64, "BN": 64, "BK": 16, "TM": 4, "TN": 4}
# Kernel, its sizes, bytes that must move at least once, and floating-point operations; counted by hand.
ROOFLINES = {
    "vector_add": ({"N": N, "B": 256}, 12 * N, N),
    "transpose_padded": ({"N": 4 * EDGE, "T": 32, "R": 8}, 8 * (4 * EDGE) ** 2, 0),
    "reduce_first_add": ({"N": N, "B": 256}, 4 * N, N),
    "gemm": ({"M": EDGE, "N": EDGE, "K": EDGE, **TILE}, 12 * EDGE**2, 2 * EDGE**3),
}


@pytest.mark.parametrize("name", ROOFLINES)
@pytest.mark.parametrize("gpu", device_names())
def test_no_estimate_beats_the_roofline(gpu: str, name: str) -> None:
    """With cold caches, against datasheet peaks at the higher of both clocks; and not far above it where memory is the limit."""
    device = find_device(gpu)
    sizes, least_bytes, flops = ROOFLINES[name]
    hz = max(device.clock.boost_hz, device.clock.sustained_hz)
    memory = least_bytes / device.dram.bandwidth_bytes_per_s
    arithmetic = flops / (2 * device.throughput.fp32_fma * device.sm_count * hz)
    cost = estimate(find_description(name), device, warm={}, **sizes)
    assert np.isfinite(cost.seconds)
    assert cost.seconds >= max(memory, arithmetic)
    dram = sum(level.transferred_bytes for level in cost.levels if level.name == "dram")
    assert dram >= least_bytes * 0.999
    if name == "vector_add":
        reached = least_bytes / (cost.seconds - device.launch_overhead_s) / achievable_dram_bytes_per_s(device)
        assert 0.6 < reached <= 1.0  # one word of each array at a time: the fastest memories want more in flight
    if name == "gemm":
        assert cost.seconds < 10 * max(memory, arithmetic)


@pytest.mark.parametrize("gpu", OTHERS)
def test_a_space_can_be_ranked_on_every_vendor(gpu: str) -> None:
    table = pd.DataFrame([{"M": 1024, "N": 1024, "K": 1024, **TILE, "BM": m, "BN": n} for m in (32, 64) for n in (32, 64)])
    best = rank(find_description("gemm"), gpu, table)
    assert len(best) == len(table)
    assert (best["seconds"] > 0).all()
    assert best["seconds"].is_monotonic_increasing


# --- a cache on the side of memory --------------------------------------------------------------------


def bandwidth(device: Device, size_bytes: int) -> float:
    """Bytes per second of reading an array over and over, without the launches."""
    elements = size_bytes // 4 // 8192 * 8192
    return 4 * elements / (estimate(read, device, N=elements).seconds - device.launch_overhead_s)


def test_infinity_cache_against_measured_bandwidth(data_dir: Path) -> None:
    """The profile holds two figures of this curve, its plateaus; where it falls from one to the other follows."""
    curve = pd.read_parquet(data_dir / "gpubenches__l2_cache_bw__multi.parquet").query("gpu == 'RX6900XT'")
    device = find_device("RX6900XT")
    cached = replace(device, memory_side_cache=None)
    for megabytes, measured in zip(curve["data_set_kB"] / 1024, curve["eff_bw_GBs"] * 1e9, strict=True):
        if 12 <= megabytes <= 90:
            assert bandwidth(device, int(megabytes * 2**20)) == pytest.approx(measured, rel=0.1)
            assert bandwidth(cached, int(megabytes * 2**20)) < 0.35 * measured
        elif megabytes >= 150:
            assert bandwidth(device, int(megabytes * 2**20)) == pytest.approx(measured, rel=0.12)


@pytest.mark.parametrize(("gpu", "within"), [("MI100", 0.12), ("MI210", 0.12), ("RX6900XT", 0.25)])
def test_bandwidth_against_occupancy_as_measured(data_dir: Path, gpu: str, within: float) -> None:
    """Every point of gpu-benches' `stream_read`, from 32 to 1024 threads of a block: of the curve a profile holds its end only."""
    curve = pd.read_parquet(data_dir / "gpubenches__stream_bw_vs_occupancy__multi.parquet")
    curve = curve.query("gpu == @gpu and kernel == 'stream_read'")
    assert len(curve) > 30
    for threads, measured in zip(curve["block_size"].astype(int), curve["bandwidth_GBs"] * 1e9, strict=True):
        elements = (1 << 27) // threads * threads
        seconds = estimate(stream_read, gpu, N=elements, B=threads, warm={}).seconds
        assert 8 * elements / seconds == pytest.approx(measured, rel=within), threads


def with_side(device: Device, capacity_bytes: int, bandwidth_bytes_per_s: float, latency_cycles: float) -> Device:
    return replace(device, memory_side_cache=MemorySideCache(capacity_bytes, bandwidth_bytes_per_s, latency_cycles))


@pytest.mark.parametrize(("name", "sizes"), [("vector_add", {"N": 1 << 22, "B": 256}), ("gemm", ROOFLINES["gemm"][0])])
def test_a_cache_that_holds_nothing_and_costs_nothing_changes_nothing(name: str, sizes: dict[str, int]) -> None:
    plain = find_device("A100")
    none = with_side(plain, 1, 1e30, plain.dram.latency_cycles)
    before, after = (estimate(find_description(name), d, **sizes) for d in (plain, none))
    assert after.seconds == pytest.approx(before.seconds, rel=1e-9)
    levels = {level.name: level for level in after.levels}
    assert levels["memory side"].transferred_bytes == levels["dram"].transferred_bytes == levels["dram"].requested_bytes


@pytest.mark.parametrize("gpu", SIDE)
def test_what_fits_comes_from_the_cache_and_the_rest_from_memory(gpu: str) -> None:
    device = find_device(gpu)
    assert device.memory_side_cache is not None
    capacity = device.memory_side_cache.capacity_bytes
    small, large = (max(int(share * capacity) // 4 // 8192 * 8192, 8192) for share in (0.4, 8.0))
    fits, streams = (estimate(read, device, N=n) for n in (small, large))
    assert [level.name for level in fits.levels] == ["l1", "l2", "memory side", "dram"]
    moved = {level.name: level.transferred_bytes for level in fits.levels}
    assert moved["memory side"] == pytest.approx(4 * small, rel=0.01)
    assert moved["dram"] < 0.01 * 4 * small
    moved = {level.name: level.transferred_bytes for level in streams.levels}
    assert moved["memory side"] == pytest.approx(4 * large, rel=1e-6)
    assert moved["dram"] == pytest.approx(4 * large, rel=1e-6)
    assert fits["memory side"].note == "100 % of what leaves L2 is found in this cache"
    assert streams["memory side"].note == "0 % of what leaves L2 is found in this cache"
    # A launch that finds nothing there streams, however small.
    cold = estimate(read, device, N=small, warm={})
    assert {level.name: level.transferred_bytes for level in cold.levels}["dram"] == pytest.approx(4 * small, rel=1e-6)


def test_one_warp_waits_for_the_cache_or_for_memory_by_hand() -> None:
    """One warp, 2¹⁷ lines of 128 bytes one after the other: 16 MiB pass 4 MiB of L2, but not 128 MiB behind it."""
    device, trips = find_device("RX6900XT"), 1 << 17
    assert device.memory_side_cache is not None
    warm = estimate(chase, device, N=32 * trips)["latency"].amount
    cold = estimate(chase, device, N=32 * trips, warm={})["latency"].amount
    assert warm == pytest.approx(trips * device.memory_side_cache.latency_cycles, rel=0.05)
    assert cold - warm == pytest.approx(trips * (device.dram.latency_cycles - device.memory_side_cache.latency_cycles), rel=0.001)


def test_a_larger_cache_is_never_slower() -> None:
    device = find_device("RX6900XT")
    assert device.memory_side_cache is not None
    times = []
    for mebibytes in (1, 8, 32, 128, 512):
        side = replace(device.memory_side_cache, capacity_bytes=mebibytes << 20)
        times.append(estimate(read, replace(device, memory_side_cache=side), N=1 << 24).seconds)
    assert times == sorted(times, reverse=True)
    assert times[0] > 2 * times[-1]


def test_without_caches_everything_comes_from_memory_through_all_levels() -> None:
    scores = Scorer(find_description("vector_add"), "RX6900XT", without=["caches"]).score({"N": 1 << 20, "B": 256})
    assert scores.counters["l2_read_sectors"][0] * 128 == 8 * 2**20
    assert scores.seconds[0] >= 12 * 2**20 / 512e9


def test_spilled_registers_stay_in_the_cache_by_hand() -> None:
    """16 MiB of spilled words: beside 4 MiB of L2 three quarters leave it, and none of them a cache of 128 MiB."""
    device, one = find_device("RX6900XT"), np.ones(1)
    per_sm = (16 << 20) / device.sm_count
    moved = spill_traffic(1e6 * one, per_sm * one, 1.0 * one, device)
    assert (moved.l2_bytes[0], moved.side_bytes[0], moved.dram_bytes[0]) == (2e6, 1.5e6, 0.0)
    bare = spill_traffic(1e6 * one, per_sm * one, 1.0 * one, replace(device, memory_side_cache=None))
    assert (bare.side_bytes[0], bare.dram_bytes[0]) == (1.5e6, 1.5e6)


# --- wavefronts, sub-groups, registers ----------------------------------------------------------------


@pytest.mark.parametrize(("gpu", "lanes"), [("Max 1550", 16), ("M1 Max", 32), ("RX 7900 XTX", 32), ("MI300X", 64)])
def test_requests_are_of_the_devices_own_warps(gpu: str, lanes: int) -> None:
    cost = estimate(find_description("vector_add"), gpu, N=1 << 20, B=256)
    assert {access.requests for access in cost.accesses} == {2**20 / lanes}


def waves(gpu: str, threads: int, registers: int) -> int:
    """Resident warps of an SM with blocks of this size, the launch being large."""
    block, regs, shared, blocks = (np.full(1, n, np.int64) for n in (threads, registers, 0, 1 << 20))
    return int(residency(block, regs, shared, blocks, find_device(gpu)).warps_per_sm[0])


@pytest.mark.parametrize(
    ("gpu", "lanes", "file", "granule", "most"),
    [("RX6900XT", 32, 1024, 16, 16), ("RX 7900 XTX", 32, 1536, 24, 16), ("MI300X", 64, 512, 8, 8), ("MI210", 64, 512, 8, 8)],
)
def test_occupancy_by_registers_is_llvms(gpu: str, lanes: int, file: int, granule: int, most: int) -> None:
    """`getNumWavesPerEUWithNumVGPRs` of LLVM's AMDGPU backend: waves of a SIMD, on each of four."""
    for registers in range(1, 257):
        rounded = -(-registers // granule) * granule
        assert waves(gpu, 4 * lanes, registers) == 4 * min(max(file // rounded, 1), most), registers


def test_static_arrays_are_told_of_dynamic_ones_only_where_these_may_be_larger() -> None:
    told = "at most 49152 for static arrays (k.shared(…, dynamic=True) raises it)"
    for gpu, most in (("M1 Max", "at most 32768"), ("RX6900XT", "at most 65536"), ("V100", told)):
        with pytest.raises(SizeError) as caught:
            estimate(staged_by_hand, gpu, N=1 << 20, B=1024, WORDS=17)
        assert f": 69632 bytes of shared memory per block, {most} (N=" in str(caught.value)


@pytest.mark.parametrize(("registers", "threads"), [(8, 64), (128, 64), (129, 32), (256, 32)])
def test_occupancy_of_an_xe_core_is_intels(registers: int, threads: int) -> None:
    """Hardware threads of the occupancy calculator: 8 × 8 in the small register mode, half of them in the large one."""
    assert waves("Max 1550", 256, registers) == threads


# --- what a device lacks ------------------------------------------------------------------------------


@kernel
def staged(k, *, N, B=256):
    a, tile = k.buffer("a", (N,), f32, read_only=True), k.shared("tile", (B,), f32)
    k.require(N % B == 0)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.copy(a[b * B + t], tile[t], asynchronous=True)
        k.barrier()
        k.do("use", loads=tile[t], work=k.fma(f32))


def product(dtype, asynchronous=False):
    @kernel
    def multiply(k, *, N):
        with k.blocks(N), k.threads(128), k.serial(N, "i"):
            k.do("multiply", work=k.mma(16, 16, 16, dtype), asynchronous=asynchronous)

    return multiply


def ordinary(dtype):
    @kernel
    def fused(k, *, N):
        with k.blocks(N), k.threads(128), k.serial(N, "i"):
            k.do("fuse", work=k.fma(dtype, 16))

    return fused


LACKING = [
    (staged, "V100", "the device has no asynchronous copies (leave asynchronous=True out"),
    (staged, "MI300X", "the device has no asynchronous copies"),
    (staged, "RX 7900 XTX", "the device has no asynchronous copies"),
    (staged, "Max 1550", "the device has no asynchronous copies"),
    (staged, "M1 Max", "the device has no asynchronous copies"),
    (product(bf16, asynchronous=True), "A100", "the device's matrix instructions hold their warp"),
    (product(bf16, asynchronous=True), "MI355X", "the device's matrix instructions hold their warp"),
    (product(f16), "RX6900XT", "the device has no unit for mma f16 (it has no matrix units; or write the product with k.fma)"),
    (product(f16), "M1 Max", "no unit for mma f16 (it has no matrix units"),
    (product(f64), "Max 1550", "no unit for mma f64 (its matrix units take tf32, bf16, fp16, int8; or"),
    (ordinary(f64), "M1 Max", "the device has no unit for fma f64 (use a narrower type)"),
]


@pytest.mark.parametrize(("description", "gpu", "reason"), LACKING, ids=[f"{d.name}-{g}" for d, g, _ in LACKING])
def test_what_a_device_lacks_is_refused_with_what_to_do(description, gpu: str, reason: str) -> None:
    with pytest.raises(SizeError) as caught:
        estimate(description, gpu, N=1024)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("description", "gpu"),
    [
        (staged, "A100"),
        (staged, "MI355X"),
        (product(bf16, asynchronous=True), "H100"),
        (product(f16), "MI300X"),
        (product(bf16), "RX 7900 XTX"),
        (product(f16), "Max 1550"),
        (ordinary(f64), "RX6900XT"),
    ],
)
def test_what_a_device_has_is_priced(description, gpu: str) -> None:
    assert estimate(description, gpu, N=1024).seconds > 0


@pytest.mark.parametrize("gpu", [name for name in device_names() if find_device(name).vendor == "NVIDIA"])
def test_asynchronous_features_follow_the_compute_capability(gpu: str) -> None:
    """CUDA C++ programming guide: cp.async from 8.0 on; PTX ISA: wgmma of sm_90a, tcgen05 of sm_100a to sm_103a."""
    device = find_device(gpu)
    major = int(device.compute_capability.partition(".")[0])
    assert device.shared.asynchronous_copies == (major >= 8)
    assert device.throughput.asynchronous_matrix == (major in (9, 10))


def test_integer_multiplies_have_a_rate_of_their_own() -> None:
    gtx, mi50 = find_device("GTX-680"), find_device("MI50")
    assert arithmetic_rate("fma", "i32", gtx) == ("fma", gtx.throughput.int32_mul)
    assert arithmetic_rate("integer", "i32", gtx) == arithmetic_rate("add", "i32", gtx) == ("fma", gtx.throughput.int32_add)
    assert arithmetic_rate("fma", "i32", mi50)[1] == mi50.throughput.int32_add / 4
    assert estimate(ordinary(i32), mi50, N=1024).seconds > 2 * estimate(ordinary(f32), mi50, N=1024).seconds
