"""Blocks resident on an SM: literal cases of the CUDA occupancy calculator, and NVIDIA's own header on random ones."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.charges.occupancy import LIMITERS, block_registers, residency, shared_allocation
from costmodel.device import Device, find_device

# One board for each NVIDIA architecture file, and the board whose numbers differ from it.
BOARDS = (
    "GTX-680", "Tesla-K40", "GTX-980", "P100", "GTX_1080_Ti", "V100", "T4", "A100", "RTX_3090", "RTX 4070", "H100",
)  # fmt: skip
RANDOM_CASES = 3000

PROGRAM = r"""
#include <cstdio>
#include <cuda_occupancy.h>

int main() {
    int version[2], threads_sm, registers_sm, registers_block, shared_sm, shared_block, optin, reserved, threads, registers, shared;
    while (std::scanf("%d %d %d %d %d %d %d %d %d %d %d %d", version, version + 1, &threads_sm, &registers_sm, &registers_block,
                      &shared_sm, &shared_block, &optin, &reserved, &threads, &registers, &shared) == 12) {
        cudaOccDeviceProp device;
        device.computeMajor = version[0];
        device.computeMinor = version[1];
        device.maxThreadsPerBlock = 1024;
        device.maxThreadsPerMultiprocessor = threads_sm;
        device.regsPerBlock = registers_block;
        device.regsPerMultiprocessor = registers_sm;
        device.warpSize = 32;
        device.sharedMemPerBlock = shared_block;
        device.sharedMemPerMultiprocessor = shared_sm;
        device.numSms = 1;
        device.sharedMemPerBlockOptin = optin;
        device.reservedSharedMemPerBlock = reserved;
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = 1024;
        kernel.numRegs = registers;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = shared;
        kernel.numBlockBarriers = 1;
        cudaOccDeviceState state;
        state.cacheConfig = CACHE_PREFER_SHARED;
        state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
        cudaOccResult found;
        int error = cudaOccMaxActiveBlocksPerMultiprocessor(&found, &device, &kernel, &state, threads, shared);
        std::printf("%d %d %u\n", error, found.activeBlocksPerMultiprocessor, found.limitingFactors);
    }
}
"""

# -- a few cases by hand: what the calculator's spreadsheet says


def resident(device: Device, threads: int, registers: int, shared: int, blocks: int = 1 << 20) -> tuple[int, str]:
    r = residency(np.array([threads]), np.array([registers]), np.array([shared]), np.array([blocks]), device)
    assert r.warps_per_block[0] == -(-threads // device.limits.warp_size)
    return int(r.blocks_per_sm[0]), LIMITERS[int(r.limiter[0])]


@pytest.mark.parametrize(
    ("gpu", "threads", "registers", "shared", "blocks", "limiter"),
    [
        ("V100", 256, 32, 0, 8, "threads"),  # 2048 / 256
        ("V100", 32, 32, 0, 32, "blocks"),  # 64 warps would fit
        ("V100", 96, 32, 0, 21, "threads"),  # 2048 / 96
        ("V100", 33, 16, 0, 32, "warps"),  # 2 warps for 33 threads; as many blocks fit as there are slots
        ("V100", 256, 64, 0, 4, "registers"),  # 65536 / (256 * 64)
        ("V100", 256, 65, 0, 3, "registers"),  # 72 after rounding to 256 a warp: 28 warps of 8 a block
        ("V100", 1024, 64, 0, 1, "registers"),
        ("V100", 1024, 65, 0, 0, "registers"),
        ("V100", 256, 32, 32 * 1024, 3, "shared memory"),  # 96 KiB
        ("V100", 256, 32, 32 * 1024 + 1, 2, "shared memory"),  # rounded to 256 bytes
        ("T4", 256, 32, 0, 4, "threads"),  # 1024 threads an SM
        ("T4", 32, 32, 0, 16, "blocks"),
        ("A100", 256, 32, 16 * 1024, 8, "threads"),
        ("A100", 256, 32, 40 * 1024, 4, "shared memory"),  # 41 KiB each with the system's 1 KiB, 164 KiB in all
        ("A100", 256, 32, 40 * 1024 + 1, 3, "shared memory"),
        ("RTX_3090", 32, 32, 0, 16, "blocks"),
        ("RTX_3090", 512, 40, 0, 3, "threads"),  # 1536 threads an SM
        ("RTX 4070", 32, 32, 0, 24, "blocks"),
        ("H100", 128, 168, 0, 3, "registers"),  # 12 warps of 5376
        ("H100", 128, 32, 227 * 1024, 1, "shared memory"),
        ("GTX-980", 64, 27, 0, 32, "threads"),  # 8 warps a scheduler of 16,384 registers hold 16 each
        ("Tesla-K40", 64, 17, 0, 16, "blocks"),
        ("P100", 96, 80, 0, 8, "registers"),  # 2 × 12 warps of 2560
    ],
)  # fmt: skip
def test_cases_of_the_occupancy_calculator(gpu, threads, registers, shared, blocks, limiter):
    assert resident(find_device(gpu), threads, registers, shared) == (blocks, limiter)


def test_a_small_launch_is_limited_by_its_grid():
    v100 = find_device("V100")
    r = residency(np.array([256]), np.array([32]), np.array([0]), np.array([160]), v100)
    assert (LIMITERS[r.limiter[0]], r.blocks_per_sm[0], r.warps_per_sm[0]) == ("grid", 8, 16)  # 2 blocks of 8 warps on each of 80
    assert r.waves[0] == 160 / (8 * 80)


def test_amd_registers_and_waves():
    """A CU of GCN holds 10 waves on each of 4 SIMDs, whose 256 registers a lane they share."""
    mi50 = find_device("MI50")
    assert mi50.limits.warp_size == 64
    assert resident(mi50, 256, 24, 0)[0] == 10
    assert resident(mi50, 256, 64, 0) == (4, "registers")
    assert resident(mi50, 256, 24, 32 * 1024) == (2, "shared memory")


# -- NVIDIA's header


def header_folder() -> Path | None:
    nvcc = shutil.which("nvcc")
    folders = [*Path("/usr/local").glob("cuda*/include"), *Path("/usr/local").glob("cuda*/targets/*/include")]
    if nvcc:
        folders.insert(0, Path(nvcc).resolve().parent.parent / "include")
    return next((f for f in folders if (f / "cuda_occupancy.h").is_file()), None)


@pytest.fixture(scope="session")
def calculator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program around NVIDIA's `cuda_occupancy.h`, which needs no GPU."""
    folder, compiler = header_folder(), shutil.which("g++") or shutil.which("clang++") or shutil.which("nvcc")
    if folder is None or compiler is None:
        pytest.skip("needs cuda_occupancy.h of a CUDA toolkit and a C++ compiler")
    source = tmp_path_factory.mktemp("occupancy") / "calculator.cpp"
    source.write_text(PROGRAM)
    program = source.with_suffix("")
    made = subprocess.run([compiler, "-O1", f"-I{folder}", str(source), "-o", str(program)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return program


def random_cases(device: Device, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Threads, registers and shared bytes a launch could have, edges included."""
    rng = np.random.default_rng(seed)
    threads = np.where(
        rng.random(RANDOM_CASES) < 0.5, 32 * rng.integers(1, 33, RANDOM_CASES), rng.integers(1, 1025, RANDOM_CASES)
    )
    registers = rng.integers(1, device.registers.max_per_thread + 1, RANDOM_CASES)
    most = device.shared.max_bytes_per_block
    shared = np.where(rng.random(RANDOM_CASES) < 0.3, 0, (most * rng.random(RANDOM_CASES) ** 3).astype(np.int64))
    shared[:20] = most
    shared = np.where(rng.random(RANDOM_CASES) < 0.2, shared // 1024 * 1024, shared)
    return threads.astype(np.int64), registers.astype(np.int64), shared.astype(np.int64)


FACTORS = {1: {"threads", "warps"}, 2: {"registers"}, 4: {"shared memory"}, 8: {"blocks"}}


def test_blocks_per_sm_equal_nvidias_header(calculator: Path):
    lines, ours, limiters = [], [], []
    for seed, name in enumerate(BOARDS):
        device = find_device(name)
        match = re.fullmatch(r"(\d+)\.(\d)", device.compute_capability)
        assert match
        s, r = device.shared, device.registers
        optin = s.max_bytes_per_block
        fixed = (*match.groups(), device.limits.threads_per_sm, r.per_sm, r.per_block, s.capacity_bytes_per_sm,
                 s.static_max_bytes_per_block, optin, s.reserved_bytes_per_block)  # fmt: skip
        threads, registers, shared = random_cases(device, seed)
        lines += [" ".join(map(str, (*fixed, *case))) for case in zip(threads, registers, shared, strict=True)]
        found = residency(threads, registers, shared, np.full(RANDOM_CASES, 1 << 30), device)
        ours += found.blocks_per_sm.tolist()
        limiters += [LIMITERS[i] for i in found.limiter]
    ran = subprocess.run([str(calculator)], input="\n".join(lines), capture_output=True, text=True, check=True)
    theirs = np.array([line.split() for line in ran.stdout.splitlines()], np.int64)
    assert theirs.shape == (len(BOARDS) * RANDOM_CASES, 3)
    assert not theirs[:, 0].any(), f"refused: {lines[int(np.flatnonzero(theirs[:, 0])[0])]}"
    wrong = np.flatnonzero(theirs[:, 1] != np.array(ours))
    text = "\n".join(f"{BOARDS[i // RANDOM_CASES]}: {lines[i]}: ours {ours[i]}, header {theirs[i, 1]}" for i in wrong[:5])
    assert not wrong.size, f"{wrong.size} of {len(ours)} differ\n{text}"
    named = [set().union(*(FACTORS.get(bit, set()) for bit in FACTORS if bits & bit)) for bits in theirs[:, 2].tolist()]
    other = [i for i, (limiter, names) in enumerate(zip(limiters, named, strict=True)) if limiter not in names and ours[i]]
    assert not other, "\n".join(f"{lines[i]}: ours {limiters[i]}, header {named[i]}" for i in other[:5])


# -- properties

launches = st.tuples(
    st.sampled_from([*BOARDS, "MI50", "MI250X"]),
    st.integers(1, 1024),
    st.integers(1, 128),
    st.integers(0, 64 * 1024),
    st.integers(1, 5000),
)


@given(launches)
def test_what_is_resident_fits(launch):
    name, threads, registers, shared, blocks = launch
    device = find_device(name)
    t, r, s = (np.array([x]) for x in (threads, registers, shared))
    held = residency(t, r, s, np.array([blocks]), device)
    n, limits = int(held.blocks_per_sm[0]), device.limits
    assert n * threads <= limits.threads_per_sm
    assert n * held.warps_per_block[0] <= limits.warps_per_sm
    assert n <= limits.blocks_per_sm
    assert n * shared_allocation(s, device)[0] <= device.shared.capacity_bytes_per_sm
    assert n * threads * registers <= device.registers.per_sm
    assert n == 0 or block_registers(t, r, device)[0] <= device.registers.per_block
    assert held.warps_per_sm[0] <= min(n, max(-(-blocks // device.sm_count), 1)) * held.warps_per_block[0]


@given(launches)
def test_more_of_anything_never_lets_more_blocks_in(launch):
    name, threads, registers, shared, blocks = launch
    device = find_device(name)

    def held(t: int, r: int, s: int, d: Device = device) -> int:
        return int(residency(np.array([t]), np.array([r]), np.array([s]), np.array([blocks]), d).blocks_per_sm[0])

    now = held(threads, registers, shared)
    assert held(min(threads + 17, 1024), registers, shared) <= now
    assert held(threads, registers + 5, shared) <= now
    assert held(threads, registers, shared + 700) <= now
    roomier = replace(device, shared=replace(device.shared, capacity_bytes_per_sm=2 * device.shared.capacity_bytes_per_sm))
    assert held(threads, registers, shared, roomier) >= now


def test_one_call_prices_each_row_alone():
    device = find_device("A100")
    threads, registers, shared = random_cases(device, 99)
    blocks = np.random.default_rng(7).integers(1, 4000, RANDOM_CASES)
    together = residency(threads, registers, shared, blocks, device)
    for i in range(0, RANDOM_CASES, 211):
        alone = residency(threads[i : i + 1], registers[i : i + 1], shared[i : i + 1], blocks[i : i + 1], device)
        for field in ("blocks_per_sm", "warps_per_sm", "warps_per_block", "limiter", "waves"):
            assert getattr(alone, field)[0] == getattr(together, field)[i]
