"""Triton kernels before machine code: the same kernel and the same shared bytes, registers nearly, and a ranking that launches."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.errors import CostModelError, DescriptionError, SizeError, UnsupportedError
from costmodel.frontends.triton import (
    TritonKernel,
    compiling,
    from_triton,
    from_triton_configurations,
    kernel,
    rank_triton_configurations,
)

triton = pytest.importorskip("triton")
pytest.importorskip("torch")

from tests import triton_cases, triton_kernels  # noqa: E402

CASES, REFUSED = triton_cases.CASES, triton_cases.REFUSED
MATMUL = triton_cases.matmul("matmul", 4096, 4096, 4096, 128, 128, 64, triton_cases.tiles)
SHARED, THREADS, REGISTERS = 232_448, 1024, 65_536
"""Most of a block on H100. Source: CUDA C++ programming guide, technical specifications, compute capability 9.0."""


def conversion(case, resources, target="sm_90", cache=False, **options):
    fn = getattr(triton_kernels, case.kernel)
    options = {"num_warps": case.num_warps, "num_stages": case.num_stages, **options}
    return from_triton(fn, case.signature, case.constexprs, case.grid, target=target, cache=cache, resources=resources, **options)


def launch(BM, BN, BK, stages, warps):
    constants = {n: v for n, v in MATMUL.constexprs.items() if n.startswith(("GROUP", "stride"))}
    return {**constants, "BM": BM, "BN": BN, "BK": BK, "num_stages": stages, "num_warps": warps}


def ranked(configurations, cache, case=MATMUL, **options):
    fn, settings = getattr(triton_kernels, case.kernel), {"workers": 1, "cache": cache, **options}
    return rank_triton_configurations(fn, case.signature, configurations, case.grid, "H100", case.sizes, **settings)


# -- against the whole compiler


def test_all_but_registers_is_what_the_whole_compiler_makes():
    """And registers within 20 of the compiler's (rms): 13 with Triton 3.7.1, 18 with 3.9.0."""
    errors, fine = [], 0
    targets = [*((name, "sm_90") for name in CASES), *((name, "sm_80") for name in ("matmul", "causal attention", "column sums"))]
    for name, target in targets:
        try:
            whole = conversion(CASES[name], "compiled", target)
        except UnsupportedError as error:  # a Triton that has a descriptor made up of other things
            with pytest.raises(UnsupportedError, match=re.escape(str(error).rsplit("/", 1)[-1])):
                conversion(CASES[name], "estimated", target)
            continue
        early = conversion(CASES[name], "estimated", target)
        assert (early.resources, whole.resources) == ("estimated", "compiled")
        assert early.shared_bytes == whole.shared_bytes == int(early.kernel.shared_bytes)
        assert replace(early.kernel, registers=None) == replace(whole.kernel, registers=None)
        assert early.replicas == whole.replicas
        assert [Path(n).name for n in early.notes] == [
            Path(n).name for n in whole.notes
        ]  # a module in Triton's cache has its own
        assert early.spilled_bytes == whole.spilled_bytes == 0
        errors.append(early.registers - whole.registers)
        fine += 1
    assert fine >= 0.9 * len(targets)
    assert np.sqrt(np.mean(np.square(errors))) <= 20


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_without_machine_code_too(name):
    case, why = REFUSED[name]
    with pytest.raises(UnsupportedError, match=why):
        conversion(case, "estimated")
    with pytest.raises(UnsupportedError, match="not lowered for sm_90"):
        conversion(replace(CASES["vector add"], constexprs={"BLOCK": 100}), "estimated")


def test_rows_that_spill_for_half_a_minute_are_seen_in_milliseconds(tmp_path, monkeypatch):
    """A warp alone with 32,768 elements: 1024 words a thread. The compiler is never asked."""
    monkeypatch.setattr(kernel, "compiled", lambda *a: pytest.fail("compiled"))
    case = replace(CASES["softmax"], sizes={"in_stride": 32768, "out_stride": 32768, "columns": 32768})
    rows = ranked([{"BLOCK": 32768, "num_warps": w} for w in (1, 4, 16)], tmp_path, case, compile_top=0)
    spilled = {r.configuration["num_warps"]: r.kernel.spilled_bytes / 4 for r in rows}
    assert spilled[1] >= 1024 - 255
    assert spilled[1] > spilled[4] > spilled[16] == 0
    assert [r.configuration["num_warps"] for r in rows] == [16, 4, 1]


def test_a_limit_of_registers_is_kept():
    free, capped = (conversion(CASES["attention"], "estimated", **o) for o in ({}, {"maxnreg": 64}))
    assert free.registers > capped.registers == 64
    assert capped.spilled_bytes == 4 * (free.registers - 64)


def test_estimated_and_compiled_kernels_are_kept_apart(tmp_path):
    case = CASES["softmax"]
    for _ in range(2):
        for resources in ("estimated", "compiled"):
            assert conversion(case, resources, cache=tmp_path).resources == resources
        kernel._MEMORY.clear()
    assert len(list(tmp_path.glob("*.json"))) == 2
    with pytest.raises(DescriptionError, match="expected 'compiled' or 'estimated'"):
        conversion(case, "guessed")


# -- ranking


TUTORIAL = [
    (128, 256, 64, 3, 8), (64, 256, 32, 4, 4), (128, 128, 32, 4, 4), (128, 64, 32, 4, 4), (64, 128, 32, 4, 4), (128, 32, 32, 4, 4),
    (64, 32, 32, 5, 2), (32, 64, 32, 5, 2), (128, 128, 64, 3, 8), (256, 64, 64, 4, 4), (64, 128, 64, 4, 4), (256, 128, 64, 3, 8),
]  # fmt: skip
"""Tiles as in Triton's tutorial: rows, columns, depth, stages, warps."""
LARGE = [
    (256, 256, 64, 4, 8), (256, 256, 64, 6, 8), (128, 256, 64, 5, 8), (128, 256, 64, 6, 4), (128, 128, 128, 4, 8), (256, 128, 128, 3, 8),
    (64, 64, 64, 4, 64), (256, 128, 128, 2, 8),
]  # fmt: skip
"""Of these most cannot launch on H100."""


def shared_by_triton(tile):
    """Bytes of a block that Triton's own stages allocate, down to LLVM."""
    from triton.backends.compiler import GPUTarget, Language
    from triton.compiler import ASTSource
    from triton.compiler.compiler import ir, make_backend

    from costmodel.frontends.triton.compiling import parsed_signature

    given = launch(*tile)
    options = {n: given.pop(n) for n in ("num_stages", "num_warps")}
    types, divisors = parsed_signature(triton_kernels.matmul, MATMUL.signature, given)
    hints = {(n,): [["tt.divisibility", 16]] for n, a in enumerate(types) if divisors.get(a) == 16}
    target = GPUTarget("cuda", 90, 32)
    backend = make_backend(target)
    parsed, context = backend.parse_options(options), ir.context()
    stages: dict[str, Any] = {}
    ir.load_dialects(context)
    backend.load_dialects(context)
    backend.add_stages(stages, parsed, Language.TRITON)
    metadata = {"target": target, **parsed.__dict__}
    functions, libraries = backend.get_codegen_implementation(parsed), backend.get_module_map()
    module = ASTSource(triton_kernels.matmul, types, given, hints).make_ir(target, parsed, functions, libraries, context)
    for stage in ("ttir", "ttgir", "llir"):
        module = stages[stage](module, metadata)
    return metadata["shared"]


def test_what_cannot_launch_is_never_among_the_best(tmp_path):
    """The order of a wide list against what Triton says of shared memory and threads; it does not change the others' order."""
    tiles = [t for pair in itertools.zip_longest(TUTORIAL, LARGE) for t in pair if t]
    fits = {t: shared_by_triton(t) <= SHARED and 32 * t[4] <= THREADS for t in LARGE}
    fits |= dict.fromkeys(TUTORIAL, True)
    assert 5 <= list(fits.values()).count(False) < len(LARGE)
    rows = ranked([launch(*t) for t in tiles], tmp_path, compile_top=0)
    order = [tiles[r.position] for r in rows]
    launching = sum(fits.values())
    for k in range(1, len(tiles) + 1):
        assert all(fits[t] for t in order[: min(k, launching)])
    assert [r.reason == "" and math.isfinite(r.seconds) for r in rows] == [fits[t] for t in order]
    assert {r.reason.split(", at most")[0].split(" ", 1)[1] for r in rows[launching:]} == {
        "bytes of shared memory per block", "threads per block",
    }  # fmt: skip
    alone = [t for t in tiles if fits[t]]
    assert [alone[r.position] for r in ranked([launch(*t) for t in alone], tmp_path, compile_top=0)] == order[:launching]


def test_only_the_best_are_compiled_and_the_order_holds(tmp_path, monkeypatch):
    """Compiled ones first; where all are compiled, by the compiler's registers, the order is nearly the same."""
    tiles = [*(TUTORIAL[n] for n in (2, 3, 5, 6, 8, 10)), LARGE[0], LARGE[6]]
    configurations = [launch(*t) for t in tiles]
    asked = []

    def compiled(fn, signature, constexprs, capability, options):
        asked.append((constexprs["BM"], constexprs["BN"], constexprs["BK"], options["num_stages"], options["num_warps"]))
        return original(fn, signature, constexprs, capability, options)

    original = compiling.compiled
    monkeypatch.setattr(kernel, "compiled", compiled)
    screened = ranked(configurations, tmp_path, compile_top=0)
    assert not asked
    few = ranked(configurations, tmp_path, compile_top=2)
    assert asked == [tiles[r.position] for r in screened[:2]]
    assert [r.kernel.resources for r in few[:6]] == ["compiled"] * 2 + ["estimated"] * 4
    every = ranked(configurations, tmp_path, compile_top=1.0)
    assert len(asked) == 6  # two more cannot launch
    for r in every[:6]:
        assert r.kernel.resources == "compiled"
        assert r.kernel.shared_bytes <= SHARED
        assert 32 * r.configuration["num_warps"] * r.kernel.registers <= REGISTERS
    assert {tiles[r.position] for r in every[6:]} == {LARGE[0], LARGE[6]}
    early, late = ([r.position for r in rows[:6]] for rows in (screened, every))
    moved = sum((early.index(p) - late.index(p)) ** 2 for p in early)
    assert 1 - 6 * moved / (6 * 35) >= 0.9  # Spearman


def test_ranking_in_two_processes_says_why_not(tmp_path):
    case = CASES["vector add"]
    configurations = [{"BLOCK": 256}, {"BLOCK": 100}, {"BLOCK": 1024, "num_warps": 64}, {"BLOCK": 512}]
    rows = ranked(configurations, tmp_path, case, compile_top=1, workers=2)
    assert rows[0].kernel.resources == "compiled"
    assert {rows[0].position, rows[1].position} == {0, 3}
    assert [r.position for r in rows[2:]] == [2, 1]
    assert rows[2].seconds == math.inf
    assert rows[2].reason == "2048 threads per block, at most 1024"
    assert math.isnan(rows[3].seconds)
    assert "arange" in rows[3].reason
    assert rows[3].kernel is None
    early = from_triton_configurations(
        triton_kernels.vector_add, case.signature, configurations[:1], case.grid, cache=tmp_path, workers=1, resources="estimated"
    )
    assert isinstance(early[0], TritonKernel)
    assert early[0].resources == "estimated"


def test_sizes_and_shares_are_checked(tmp_path):
    case = CASES["vector add"]
    with pytest.raises(SizeError, match="no value for n"):
        ranked([{"BLOCK": 256}], tmp_path, replace(case, sizes={}), compile_top=0)
    for top in (-1, 1.5, True):
        with pytest.raises(SizeError, match="compile_top="):
            ranked([{"BLOCK": 256}], tmp_path, case, compile_top=top)
    assert rank_triton_configurations(triton_kernels.vector_add, case.signature, [], case.grid, "H100", case.sizes) == []


def test_a_fault_of_the_model_names_the_configuration(monkeypatch):
    def failing(*_, **__):
        raise KeyError("block_x")

    monkeypatch.setattr("costmodel.frontends.triton.many.Scorer", failing)
    with pytest.raises(CostModelError, match=r"matmul: .*'BM': 128.*'num_stages': 3.*KeyError: 'block_x'") as raised:
        ranked([launch(128, 128, 64, 3, 8)], False)
    assert isinstance(raised.value.__cause__, KeyError)
