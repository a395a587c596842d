"""The CUDA kernels of validation/kernels as nvcc compiles them: shared memory, instructions, registers, spills."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from costmodel import estimate
from costmodel.ir import Barrier
from costmodel.measure.compile import found_tool
from tests.cuda_suite import KERNELS, Configuration, compiled, of, one_folder

needs_nvcc = pytest.mark.skipif(found_tool("nvcc") is None, reason="needs nvcc: put the CUDA toolkit on the PATH")
_FIRST = ("reduce_interleaved", "reduce_strided", "reduce_sequential", "reduce_first_add", "reduce_shuffle")
_BOTH = [{"STAGED": staged, "ONLINE": online} for staged in (0, 1) for online in (0, 1)]
GPUS = {"sm_75": "RTX 2080 Ti", "sm_80": "A100", "sm_90": "H100"}
_PRODUCT = {"M": 4096, "N": 4096, "K": 4096}
_IMAGE = {"NX": 4096, "NY": 4096, "PAD": 0, "READ_ONLY": 0}
_GRID = {"NX": 514, "NY": 514, "NZ": 514, "BX": 32, "BY": 8}
_VOLUME = {"NX": 640, "NY": 512, "NZ": 256, "BX": 32, "BY": 4}
_TILES = [(64, 64, 16, 4, 4), (128, 128, 8, 8, 8), (128, 64, 16, 8, 4), (256, 128, 8, 16, 8), (128, 128, 8, 16, 16)]
LARGE = [
    *(of("gemm", **_PRODUCT, BM=bm, BN=bn, BK=bk, TM=tm, TN=tn) for bm, bn, bk, tm, tn in _TILES),
    of("vector_add", N=1 << 20, B=256),
    of("matrix_sum_normal", N=1024, T=16),
    *(of("copy", N=1 << 20, B=256, V=v) for v in (1, 4)),
    *(of("transpose_naive", N=4096, T=t, R=r) for t, r in ((32, 8), (64, 2))),
    of("transpose_shared", N=4096, T=32, R=8),
    *(of("transpose_padded", N=4096, T=t, R=r) for t, r in ((32, 8), (64, 4))),
    *(of(name, N=1 << 20, B=256) for name in _FIRST),
    of("reduce_grid_stride", N=1 << 20, B=256, G=128),
    *(of(name, M=1024, N=1024, B=256) for name in ("row_sum_block", "row_sum_warp")),
    of("convolution_2d", **_IMAGE, BX=32, BY=4, TX=1, TY=2, SHMEM=1, ALIGNED=1),
    of("convolution_2d", **_IMAGE, BX=16, BY=8, TX=4, TY=1, SHMEM=1, ALIGNED=1),
    of("convolution_2d", **_IMAGE, BX=32, BY=8, TX=2, TY=2, SHMEM=1, ALIGNED=1),
    of("convolution_2d", **_IMAGE, BX=32, BY=4, TX=1, TY=1, SHMEM=0, ALIGNED=1),
    of("convolution_2d", **(_IMAGE | {"PAD": 1}), BX=48, BY=4, TX=1, TY=1, SHMEM=1, ALIGNED=0),
    *(of("star3d", **_VOLUME, R=r, BZ=bz) for r, bz in ((4, 8), (2, 2), (1, 4))),
    *(of("box2d", NX=4000, NY=4000, R=r, BX=32, BY=8) for r in (1, 2, 4)),
    *(of("strided_copy", N=1 << 20, B=256, V=v, S=4) for v in (1, 4)),
    *(of("gathered_copy", N=1 << 20, B=256, V=v, R=256, C=4) for v in (1, 4)),
    *(of("jacobi_3d", **_GRID, DEPTH=d, STAGED=s) for d, s in ((8, 0), (8, 1), (1, 0))),
    *(of("row_softmax_warp", M=4096, N=128 * each, B=128, EACH=each) for each in (1, 4, 16)),
    *(of("row_softmax_block", M=4096, N=4096, B=256, **flags) for flags in _BOTH),
    *(of("row_layer_norm_warp", M=4096, N=128 * each, B=128, EACH=each) for each in (1, 4, 16)),
    *(of("row_layer_norm_block", M=4096, N=4096, B=256, STAGED=staged) for staged in (0, 1)),
]  # fmt: skip
_TREE = {"load global 32": 1, "store shared 32": 2, "barrier": 2, "load shared 32": 3, "store global 32": 1}
LOOPS = {
    "reduce_interleaved": _TREE,
    "reduce_strided": _TREE,
    "reduce_sequential": _TREE,
    "reduce_first_add": {"load global 32": 2, "store shared 32": 2, "barrier": 2, "load shared 32": 1, "store global 32": 1},
    "reduce_shuffle": {"load global 32": 2, "store shared 32": 2, "barrier": 2, "load shared 32": 2, "store global 32": 1},
}
"""Instructions where a tree is a loop in the code and steps in the description."""


@pytest.fixture(scope="session")
def taken(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What nvcc makes of each configuration for each architecture, beside what is estimated."""
    done = compiled(
        LARGE, list(GPUS), one_folder(tmp_path_factory.getbasetemp(), os.environ.get("PYTEST_XDIST_WORKER", ""), "nvcc")
    )
    rows = []
    for number, c in enumerate(LARGE):
        for architecture, gpu in GPUS.items():
            found, cost = done[number, architecture], estimate(c.description, gpu, **c.all)
            rows.append(
                {
                    "c": c, "kernel": c.name, "architecture": architecture, "found": found, "cost": cost,
                    "registers": found.registers, "error": cost.registers_per_thread - found.registers,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


@needs_nvcc
def test_shared_bytes_are_those_of_the_description(taken: pd.DataFrame) -> None:
    for row in taken.itertuples():
        assert row.found.static_shared_bytes == row.c.shared_bytes(dynamic=False), str(row.c)
        assert row.cost.shared_bytes_per_block == row.found.static_shared_bytes + row.c.shared_bytes(dynamic=True), str(row.c)


@needs_nvcc
def test_instructions_are_those_of_the_description(taken: pd.DataFrame) -> None:
    """Loads and stores by width, barriers and multiply-adds in the code, loops that stay rolled counted once."""
    for row in taken[taken.architecture == "sm_75"].itertuples():
        kinds = ("load", "store", "barrier", "fma")
        found = {k: n for k, n in row.found.instructions.items() if k.startswith(kinds)}
        expected = _taps(row.c) if row.kernel == "convolution_2d" else LOOPS.get(row.kernel) or _instructions(row.c)
        assert found == expected, str(row.c)


def _taps(c: Configuration) -> dict[str, int]:
    """Of the convolution: distinct taps of a thread, and a staging loop in groups of four with a rest of up to three."""
    F, BX, BY, TX, TY = (c.all[n] for n in ("F", "BX", "BY", "TX", "TY"))
    rows, columns = ({t * step + i for t in range(tiles) for i in range(F)} for tiles, step in ((TY, BY), (TX, BX)))
    found = {"fma f32": F * F * TX * TY, "store global 32": TX * TY}
    if not c.all["SHMEM"]:
        return found | {"load global 32": len(rows) * len(columns)}
    return found | {"load global 32": 7, "store shared 32": 7, "barrier": 1, "load shared 32": len(rows) * len(columns)}


def _instructions(c: Configuration) -> dict[str, int]:
    found: Counter[str] = Counter()
    for site in c.kernel.sites:
        copies = 1
        for loop in site.serial():
            copies *= c.value(loop.unroll)
        if isinstance(site.leaf, Barrier):
            found["barrier"] += copies
            continue
        for kind, accesses in (("load", site.leaf.loads), ("store", site.leaf.stores)):
            for a in accesses:
                passed = a.buffer.exchange or site.leaf.name == "shuffle" or (site.leaf.atomic and kind == "store")
                if a.buffer.space in ("global", "shared") and not passed:
                    found[f"{kind} {a.buffer.space} {8 * c.value(a.bytes)}"] += copies
        for work in site.leaf.work:
            if work.kind == "fma":
                found[f"fma {work.dtype.name}"] += copies * c.value(work.amount)
    return dict(found)


WORST_REGISTERS = {
    "gemm": 25, "convolution_2d": 172, "star3d": 26, "box2d": 2, "jacobi_3d": 12, "transpose_naive": 4, "transpose_shared": 8,
    "transpose_padded": 22, "row_softmax_warp": 16, "row_softmax_block": 12, "row_layer_norm_warp": 18,
}  # fmt: skip
"""Largest errors of the estimate by kernel, as found with nvcc 13.0 and PTX for compute_75. The convolution of 2 × 2 outputs takes
204 registers on sm_90, where 32 are estimated (59 and 32 on sm_75 and sm_80); the next worst is 64 where 32 are estimated. The
star of range 4 states 58 registers, near what it takes on sm_75; on sm_80 and sm_90 it takes 32."""
FEW = 5
"""Of the kernels that are not listed."""


@needs_nvcc
def test_the_register_estimate_errs_as_published(taken: pd.DataFrame) -> None:
    worst = taken.error.abs().groupby(taken.kernel).max()
    for name, error in worst.items():
        assert error <= WORST_REGISTERS.get(str(name), FEW), name
    one = (taken.kernel == "convolution_2d") & (taken.registers > 200)
    assert one.sum() <= 1
    others = taken[~one].error
    assert np.sqrt((others**2).mean()) <= 8.0
    assert (taken.error.abs() <= 8).mean() >= 0.8
    assert taken.error.abs().median() <= 2


@needs_nvcc
def test_spills_are_foreseen(taken: pd.DataFrame) -> None:
    """Only the product with 16 × 16 accumulators spills, as estimated: words that each of its steps of K stores."""
    spills = taken[[row.found.spilled_bytes > 0 for row in taken.itertuples()]]
    assert {(row.kernel, row.c.all["TM"], row.c.all["TN"]) for row in spills.itertuples()} == {("gemm", 16, 16)}
    assert [bool(row.cost.spilled_registers) for row in taken.itertuples()] == [
        row.found.spilled_bytes > 0 for row in taken.itertuples()
    ]
    for row in spills.itertuples():
        assert row.cost.spilled_registers == pytest.approx(row.found.spilled_bytes / 4 / row.c.all["BK"], rel=0.1)


@needs_nvcc
@pytest.mark.parametrize("file", sorted(path.name for path in KERNELS.glob("*.cu")))
def test_a_missing_macro_is_named(file: str, tmp_path: Path) -> None:
    """By the file itself: nvcc alone says what to define."""
    told = re.findall(r'#error "(.*?)"', (KERNELS / file).read_text())
    assert all(text.startswith(f"{file}: ") for text in told)
    needed = set().union(*(c.macros.keys() for c in LARGE if c.code["cuda"] == file))
    used = {n for n in needed if re.search(rf"#(if|ifdef) .*\b{n}\b", (KERNELS / file).read_text())}
    nvcc = found_tool("nvcc")
    assert nvcc
    done = subprocess.run(
        [nvcc, "-ptx", "-w", KERNELS / file, "-o", tmp_path / "x.ptx"], capture_output=True, text=True, check=False
    )
    assert bool(done.returncode) == bool(used)
    assert not used or f"{file}: define" in done.stderr
