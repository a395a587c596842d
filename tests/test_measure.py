"""Descriptions compiled by nvcc: what it takes and issues must be what the description, and the estimate, say."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from costmodel import Scorer, estimate, kernel
from costmodel.cost import find_description
from costmodel.device import find_device
from costmodel.dtypes import f16, f32
from costmodel.errors import CostModelError, UnsupportedError
from costmodel.measure import compiled_registers, cuda_source, resources
from costmodel.measure.compile import found_tool
from tests import held_out_kernels

GPUS = {"sm_75": "RTX_2080_Ti", "sm_80": "A100", "sm_90": "H100"}
needs_nvcc = pytest.mark.skipif(found_tool("nvcc") is None, reason="needs nvcc: put the CUDA toolkit on the PATH")

_GEMM = {"M": 4096, "N": 4096, "K": 4096, "BM": 128, "BN": 128, "BK": 8, "TM": 8, "TN": 8}
_CLBLAST = {"M": 4096, "N": 4096, "K": 4096, "MWG": 64, "NWG": 64, "KWG": 32, "KWI": 2, "STRM": 0, "STRN": 0}
_CLBLAST |= dict.fromkeys(("MDIMC", "NDIMC", "MDIMA", "NDIMB"), 16) | {"VWM": 4, "VWN": 4}
_TRANSPOSE = {"N": 4096, "T": 32, "R": 8}

# description, sizes, and what one thread issues where the code is straight (both ends of loops that are left rolled counted once)
CASES = [
    ("vector_add", {"N": 1 << 20, "B": 256}, {"load global 32": 2, "add f32": 1, "store global 32": 1}),
    ("copy", {"N": 1 << 20, "B": 256, "V": 4}, {"load global 128": 1, "store global 128": 1}),
    ("matrix_sum_normal", {"N": 4096, "T": 16}, {"load global 32": 2, "add f32": 1, "store global 32": 1}),
    (
        "transpose_padded",
        _TRANSPOSE,
        {"load global 32": 4, "store shared 32": 4, "barrier": 1, "load shared 32": 4, "store global 32": 4},
    ),
    (
        "matmul_shared",
        {"N": 4096, "T": 16},  # a row of 16 in four loads, a column in sixteen
        {"load global 32": 2, "store shared 32": 2, "load shared 128": 4, "load shared 32": 16, "fma f32": 16, "barrier": 2, "store global 32": 1},
    ),
    (
        "gemm",
        _GEMM,  # per step of K: 2 + 2 loads of four, 64 multiply-adds
        {"load global 128": 2, "store shared 128": 2, "load shared 128": 8 * 4, "fma f32": 8 * 64, "barrier": 2, "store global 128": 16},
    ),
    (
        "gemm_clblast",
        {**_CLBLAST, "SA": 1, "SB": 1},  # two loads of each operand, C read and written: 16 products and 16 multiply-adds
        {"load global 128": 4 + 4, "store shared 128": 4, "load shared 128": 64, "fma f32": 32 * 16 + 16, "add f32": 16, "barrier": 2, "store global 128": 4},
    ),
    ("star_3d", {"N": 512, "BX": 32, "BY": 4, "BZ": 8, "R": 4, "WIDE": 1}, {"load global 64": 25, "add f64": 1, "fma f64": 24, "store global 64": 1}),
    ("box_2d", {"N": 4096, "BX": 32, "BY": 8, "R": 3}, {"load global 32": 49, "add f32": 1, "fma f32": 48, "store global 32": 1}),
    ("saxpy_unrolled", {"N": 1 << 24, "B": 256, "U": 8}, {"load global 32": 16, "fma f32": 8, "store global 32": 8}),
    (
        "convolution_direct",  # 15 rows of 15 for each output, merged where outputs four rows apart share them: 19 · 15
        {"N": 4096, "BX": 32, "BY": 4, "TX": 1, "TY": 2, "F": 15},
        {"load global 32": 1, "store shared 32": 1, "load shared 32": 285, "fma f32": 450, "barrier": 1, "store global 32": 2},
    ),
]  # fmt: skip


def description(name):
    return getattr(held_out_kernels, name, None) or find_description(name)


def traced(name, sizes):
    found = description(name)
    given = {**found.defaults, **sizes}
    return found.trace(**{n: given[n] for n in found.static}), {n: given[n] for n in found.params}


def compiled_for(name):
    """All architectures for three kernels, one in turn for the others: compilers take their time."""
    at = [case[0] for case in CASES].index(name)
    return list(GPUS) if name in ("gemm", "transpose_padded", "convolution_direct") else [list(GPUS)[at % 3]]


@pytest.fixture(scope="session")
def compiled():
    """Every case, compiled side by side."""
    jobs = [(name, architecture, *traced(name, sizes)) for name, sizes, _ in CASES for architecture in compiled_for(name)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(lambda job: resources(job[2], job[3], job[1]), jobs)
    return {job[:2]: result for job, result in zip(jobs, done, strict=True)}


@needs_nvcc
@pytest.mark.parametrize(("name", "sizes", "expected"), CASES, ids=[c[0] for c in CASES])
def test_the_compiler_issues_what_the_description_says(compiled, name, sizes, expected):
    for architecture in compiled_for(name):
        found = compiled[name, architecture].instructions
        kinds = {k for k in found if k.startswith(("load", "store", "fma", "barrier"))} | expected.keys()
        assert {k: found[k] for k in kinds} == expected, architecture


@needs_nvcc
@pytest.mark.parametrize(("name", "sizes"), [c[:2] for c in CASES], ids=[c[0] for c in CASES])
def test_shared_bytes_and_registers(compiled, name, sizes):
    """The published error of the estimate: within 8 registers, but for a kernel whose loads outputs share."""
    for architecture in compiled_for(name):
        found, gpu = compiled[name, architecture], find_device(GPUS[architecture])
        cost = estimate(description(name), gpu, **sizes)
        assert found.shared_bytes == cost.shared_bytes_per_block
        assert found.spill_store_bytes == 0
        shared_by_outputs = name == "convolution_direct" and architecture != "sm_80"
        allowed = 40 if shared_by_outputs else 20 if name.startswith("gemm") else 9
        assert abs(cost.registers_per_thread - found.registers) <= allowed, (architecture, found.registers)


@needs_nvcc
def test_what_the_compiler_says_goes_into_the_price():
    sizes: dict[str, Any] = {**_GEMM, "TM": 16, "TN": 16}
    told = compiled_registers(find_description("gemm"), "RTX_2080_Ti", **sizes)
    assert told.registers == 255
    assert told.spilled_words == told.spill_store_bytes / 4 / 8  # eight steps of K, each walks over all accumulators
    by_estimate = estimate(find_description("gemm"), "RTX_2080_Ti", **sizes)
    assert told.spilled_words == pytest.approx(by_estimate.spilled_registers, rel=0.2)
    priced = estimate(find_description("gemm"), "RTX_2080_Ti", registers=255, spilled=told.spilled_words, **sizes)
    assert priced.seconds == pytest.approx(by_estimate.seconds, rel=0.3)
    assert priced.registers_known


def test_a_source_reads_like_the_description():
    source = cuda_source(*traced("gemm_clblast", {**_CLBLAST, "SA": 1, "SB": 0}))
    assert source.runtime == ("M", "N", "K")
    assert "__launch_bounds__(256)" in source.text
    assert "__shared__ __align__(16) float b_shA[2048];" in source.text
    assert source.text.count("__syncthreads();") == 2
    assert source.dynamic_shared_bytes == 0
    every = cuda_source(*traced("gemm_clblast", {**_CLBLAST, "SA": 1, "SB": 0}), runtime=())
    assert every.runtime == ()
    assert "n_K" not in every.text


@kernel
def with_matrices(k, *, N):
    a, c = k.buffer("a", (N,), f16), k.buffer("c", (N,), f16)
    with k.blocks(N // 32) as b, k.threads(32) as t:
        k.do("multiply", loads=a[b * 32 + t], work=k.mma(16, 8, 16, f16), stores=c[b * 32 + t])


@kernel
def with_copies(k, *, N):
    a, c = k.buffer("a", (N,), f32), k.buffer("c", (N,), f32)
    tile = k.shared("tile", (128,), f32)
    with k.blocks(N // 32) as b, k.threads(32) as t:
        k.copy(a[b * 32 + t], tile[t], asynchronous=True)
        k.barrier()
        k.copy(tile[t], c[b * 32 + t])


def test_what_cannot_be_compiled_says_why(monkeypatch):
    with pytest.raises(UnsupportedError, match=r"matrix instructions .* registers="):
        cuda_source(with_matrices.trace(), {"N": 1024})
    with pytest.raises(UnsupportedError, match="T must be known at compile time"):
        cuda_source(*traced("transpose_padded", _TRANSPOSE), runtime=["N", "T"])
    with pytest.raises(UnsupportedError, match="asynchronous copies need sm_80"):
        resources(with_copies.trace(), {"N": 1024}, "sm_75")
    with pytest.raises(UnsupportedError, match="only NVIDIA's compiler"):
        compiled_registers(find_description("copy"), "MI50", N=1024, B=64)
    with pytest.raises(UnsupportedError, match="no value for B"):
        compiled_registers(find_description("copy"), "A100", N=1024)
    monkeypatch.setattr("costmodel.measure.compile.found_tool", lambda name: None)
    with pytest.raises(CostModelError, match=r"nvcc: not found; .* CUDA_HOME"):
        compiled_registers(find_description("copy"), "A100", N=1024, B=64)


@needs_nvcc
def test_asynchronous_copies_and_unknown_architectures():
    assert resources(with_copies.trace(), {"N": 1024}, "sm_80").static_shared_bytes == 512
    with pytest.raises(CostModelError, match=r"nvcc failed: .*compute_11"):
        resources(with_copies.trace(), {"N": 1024}, "sm_111")


def test_registers_may_be_a_column():
    description = find_description("vector_add")
    table = {"N": 1 << 20, "B": [64, 128, 256], "told": [16, float("nan"), 64]}
    scores = Scorer(description, "H100", registers="told").score(table)
    assert scores.counters["registers"].tolist() == [16, 12, 64]
    listed = Scorer(description, "H100", registers=[16, np.nan, 64]).score(table)
    assert listed.seconds.tolist() == scores.seconds.tolist()
    alone = [estimate(description, "H100", N=1 << 20, B=b, registers=r).seconds for b, r in ((64, 16), (128, None), (256, 64))]
    assert scores.seconds.tolist() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"registers": "regs"}, "registers='regs': no such column; columns: N, B"),
        ({"registers": [8, 8, 8]}, "3,.* numbers for 2 rows"),
        ({"registers": [8, 300]}, "registers of row 1: expected 1 to 255"),
        ({"registers": ["many", "few"]}, "expected a number for each row"),
        ({"registers": 8, "spilled": -1}, "spilled=-1: expected words, 0 or more"),
        ({"spilled": 4}, "spilled=4 without registers"),
    ],
)
def test_a_column_that_cannot_be_registers(given, message):
    with pytest.raises(CostModelError, match=message):
        Scorer(find_description("vector_add"), "H100", **given).score({"N": 1 << 20, "B": [64, 128]})
