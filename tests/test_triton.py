"""The Triton front end against Triton itself: its interpreter's bytes, its layouts, its assembler's resources and its PTX."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel import find_device
from costmodel.cost import estimate
from costmodel.errors import DescriptionError, SizeError, UnsupportedError
from costmodel.frontends.triton import (
    TritonKernel,
    cache,
    compiling,
    from_triton,
    from_triton_configurations,
    kernel,
    layouts,
    module_text,
)  # fmt: skip
from costmodel.ir import Statement, from_json, to_json
from tests import oracle

triton = pytest.importorskip("triton")
pytest.importorskip("torch")

from tests import triton_cases, triton_kernels  # noqa: E402

CASES, REFUSED, Case = triton_cases.CASES, triton_cases.REFUSED, triton_cases.Case
LARGEST = 300_000
"""Thread-iterations of a statement up to which a kernel is walked."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("analysed")


@pytest.fixture(scope="module")
def converted(folder):
    """The kernels of all launches, converted once for each target."""
    known = {}

    def convert(name, target="sm_90", **changes) -> TritonKernel:
        key = (name, target, *changes.items())
        if key not in known:
            known[key] = conversion(replace(CASES[name], **changes), target, folder)
        return known[key]

    return convert


def conversion(case, target="sm_90", cache=False, **more) -> TritonKernel:
    fn = getattr(triton_kernels, case.kernel)
    options = {"num_warps": case.num_warps, "num_stages": case.num_stages, **more}
    found: TritonKernel = from_triton(fn, case.signature, case.constexprs, case.grid, target=target, cache=cache, **options)
    return found


@pytest.fixture(scope="module")
def interpreted():
    """Bytes that each launch asks for in Triton's interpreter."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.triton_interpreted"],
        env={**os.environ, "TRITON_INTERPRET": "1"}, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


# -- bytes


@pytest.mark.parametrize("name", CASES)
def test_requested_bytes_equal_the_interpreters(name, converted, interpreted):
    assert converted(name).requested_bytes(**CASES[name].sizes) == sum(interpreted[name].values())


@pytest.mark.parametrize(
    "name", ["matmul, odd", "causal attention", "descriptor matmul", "host descriptor matmul", "persistent matmul", "column sums"]
)
def test_they_do_on_ampere_too(name, converted, interpreted):
    assert converted(name, "sm_80").requested_bytes(**CASES[name].sizes) == sum(interpreted[name].values())


def test_block_pointers_are_pointers():
    if tuple(int(n) for n in triton.__version__.split(".")[:2]) > (3, 6):
        pytest.skip("Triton deprecated block pointers after 3.6, and removed them in 3.9")
    case = triton_cases.BLOCK_POINTER
    assert conversion(case).requested_bytes(**case.sizes) == 80 * 144 * 2 + 80 * 4


@pytest.mark.parametrize(
    "name", [n for n in CASES if n not in ("attention", "persistent matmul", "persistent matmul of many tiles")]
)
def test_walking_all_threads_stays_in_bounds_and_counts_the_same(name, converted):
    k, case = converted(name), CASES[name]
    counts = oracle.count(_without_shared(k.kernel), case.sizes, limit=LARGEST)
    times = dict(k.replicas)
    walked = 0
    for s in counts.statements:
        moved = sum(a.requested_bytes for a in (*s.loads, *s.stores) if a.access.buffer.space == "global")
        walked += moved // times.get(s.statement.name, 1)
    assert walked == k.requested_bytes(**case.sizes)


def _without_shared(k):
    """The kernel with only what touches global memory: the walk is long."""

    def kept(nodes):
        for n in nodes:
            if isinstance(n, Statement):
                loads, stores = ([a for a in group if a.buffer.space == "global"] for group in (n.loads, n.stores))
                if loads or stores:
                    yield replace(n, loads=tuple(loads), stores=tuple(stores), asynchronous=False)
            elif hasattr(n, "body"):
                body = tuple(kept(n.body))
                if body:
                    yield replace(n, body=body)

    return replace(k, body=tuple(kept(k.body)))


def test_swizzled_tiles_have_no_bank_conflicts(converted):
    """Copies into the ring and `ldmatrix` out of it: what swizzles are made for."""
    k = converted("matmul, many rows", "sm_80")
    counts = oracle.count(k.kernel, CASES["matmul, many rows"].sizes, limit=LARGEST)
    rings = [a for s in counts.statements for a in (*s.loads, *s.stores) if a.access.buffer.name.startswith("staged")]
    assert len(rings) == 4
    for a in rings:
        assert a.wavefronts == 4 * a.requests  # 16 bytes of 32 lanes are four passes of 128 bytes


# -- resources


@pytest.mark.parametrize(("name", "target"), [("matmul", "sm_90"), ("causal attention", "sm_80"), ("layer norm", "sm_90")])
def test_registers_and_shared_bytes_are_the_compilers(name, target, converted):
    k, case = converted(name, target), CASES[name]
    made = _compiled(case, target)
    assert k.shared_bytes == made.metadata.shared == int(k.kernel.shared_bytes)
    assert (k.registers, k.spilled_bytes) == _assembled(made.asm["ptx"], target)


def test_spills_are_the_compilers():
    case = CASES["attention"]
    k = conversion(case, maxnreg=64)
    assert k.spilled_bytes > 0
    assert (k.registers, k.spilled_bytes) == _assembled(_compiled(case, "sm_90", maxnreg=64).asm["ptx"], "sm_90")
    assert k.estimate("H100", **case.sizes).spilled_registers == k.spilled_bytes // 4


def _compiled(case, target, **more):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    fn = getattr(triton_kernels, case.kernel)
    types, divisors = compiling.parsed_signature(fn, case.signature, case.constexprs)
    hints = {(n,): [["tt.divisibility", 16]] for n, a in enumerate(types) if divisors.get(a) == 16}
    source, gpu = ASTSource(fn, types, case.constexprs, hints), GPUTarget("cuda", int(target[3:]), 32)
    return triton.compile(source, target=gpu, options={"num_warps": case.num_warps, "num_stages": case.num_stages, **more})


def _assembled(ptx, target):
    """Registers and spilled bytes as `ptxas` reports them."""
    folder = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    version = re.search(r"\.version (\d+)\.(\d+)", ptx)
    assert version is not None
    tool = folder / ("ptxas" if version.group(1, 2) < ("9", "0") else "ptxas-blackwell")  # that of CUDA 12 reads no PTX 9
    name = target + ("a" if target == "sm_90" else "")
    run = subprocess.run(
        [tool, "-v", f"--gpu-name={name}", "-o", os.devnull, "-"], input=ptx, capture_output=True, text=True, check=True
    )
    used, spilled = re.search(r"Used (\d+) registers", run.stderr), re.search(r"(\d+) bytes spill stores", run.stderr)
    assert used is not None
    assert spilled is not None
    return int(used.group(1)), int(spilled.group(1))


@pytest.mark.parametrize(
    "name", ["vector add", "vector add, even", "softmax", "dropout", "layer norm", "transposed", "column sums", "seeded dropout"]
)
def test_widths_are_those_of_the_machine_code(name, converted):
    """Instructions of each width that a thread has in the code, loads and stores of global memory apart."""
    ptx = _compiled(CASES[name], "sm_90").asm["ptx"]
    for kind, pattern in (("loads", r"ld\.global\S*?(?:\.v(\d))?\.b(\d+)"), ("stores", r"st\.global\S*?(?:\.v(\d))?\.b(\d+)")):
        found = re.findall(pattern, re.sub(r"\.L\w+::\w+(\.\w+)?", "", ptx))
        written = Counter(int(vector or 1) * int(bits) // 8 for vector, bits in found)
        assert _instructions(converted(name).kernel, kind) == written


def _instructions(k, kind):
    counts: Counter = Counter()
    for site in k.statements():
        copies = 1
        for loop in site.serial():
            copies *= int(loop.unroll)
        for access in getattr(site.statement, kind):
            if access.buffer.space == "global" and not site.statement.atomic:
                counts[int(access.width) * access.buffer.dtype.itemsize] += copies
    return counts


# -- layouts


def test_layouts_are_what_triton_says():
    gluon = pytest.importorskip("triton.experimental.gluon.language._layouts")
    from triton._C.libtriton import gluon_ir, ir, nvidia

    context = ir.context()
    ir.load_dialects(context)
    nvidia.load_dialects(context)
    builder = gluon_ir.GluonOpBuilder(context)
    blocked, ampere = gluon.BlockedLayout, gluon.NVMMADistributedLayout([2, 0], [2, 2], [16, 8])
    hopper, wide = (gluon.NVMMADistributedLayout([3, 0], warps, [16, 64, 16]) for warps in ([4, 1], [4, 2]))
    rows = blocked([1, 8], [8, 4], [4, 1], [1, 0])
    for layout, shape, warps in [
        (blocked([4], [32], [4], [0]), [1024], 4),
        (blocked([4], [32], [4], [0]), [64], 4),
        (blocked([1, 8], [2, 16], [4, 1], [1, 0]), [32, 128], 4),
        (blocked([4, 1], [8, 4], [1, 4], [0, 1]), [16, 16], 4),
        (rows, [128, 32], 4),
        (gluon.SliceLayout(1, rows), [128], 4),
        (gluon.SliceLayout(0, rows), [32], 4),
        (ampere, [128, 128], 4),
        (ampere, [16, 16], 4),
        (hopper, [128, 128], 4),
        (hopper, [64, 64], 4),
        (wide, [128, 128], 8),
        (gluon.SliceLayout(1, ampere), [64], 4),
        (gluon.SliceLayout(1, hopper), [128], 4),
        (gluon.DotOperandLayout(0, ampere, 2), [128, 32], 4),
        (gluon.DotOperandLayout(1, ampere, 2), [32, 128], 4),
        (gluon.DotOperandLayout(0, ampere, 1), [64, 32], 4),
        (gluon.DotOperandLayout(0, hopper, 2), [128, 64], 4),
    ]:
        told = builder.to_linear_layout(layout._to_ir(builder), shape)
        ours = layouts.layout_of(_printed(gluon, layout), tuple(shape), {}, warps)
        assert sorted(tuple(b) for b in told.reg_bases if any(b)) == sorted(b for b in ours.registers if any(b))
        assert [tuple(b) for b in told.lane_bases] == list(ours.lanes)
        assert [tuple(b) for b in told.warp_bases] == list(ours.warps)


def _printed(gluon, layout):
    if isinstance(layout, gluon.BlockedLayout):
        parts = (layout.size_per_thread, layout.threads_per_warp, layout.warps_per_cta, layout.order)
        return "#ttg.blocked<{{sizePerThread = {}, threadsPerWarp = {}, warpsPerCTA = {}, order = {}}}>".format(*parts)
    if isinstance(layout, gluon.SliceLayout):
        return f"#ttg.slice<{{dim = {layout.dim}, parent = {_printed(gluon, layout.parent)}}}>"
    if isinstance(layout, gluon.DotOperandLayout):
        parent = _printed(gluon, layout.parent)
        return f"#ttg.dot_op<{{opIdx = {layout.operand_index}, parent = {parent}, kWidth = {layout.k_width}}}>"
    major, warps, shape = layout.version[0], layout.warps_per_cta, layout.instr_shape
    return f"#ttg.nvidia_mma<{{versionMajor = {major}, versionMinor = 0, warpsPerCTA = {warps}, instrShape = {shape}}}>"


# -- what is refused


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_name_and_line(name):
    case, why = REFUSED[name]
    with pytest.raises(UnsupportedError, match=why) as refused:
        conversion(case)
    assert re.search(r"triton_kernels\.py:\d+ \([a-z]+\.\w+\)", str(refused.value))


def test_arguments_are_checked():
    case = CASES["vector add"]
    with pytest.raises(DescriptionError, match="no argument 'B'"):
        conversion(replace(case, constexprs={"BLOCK": 128, "B": 1}))
    with pytest.raises(DescriptionError, match="'n' has neither a type nor a value"):
        conversion(replace(case, signature={n: k for n, k in case.signature.items() if n != "n"}))
    with pytest.raises(DescriptionError, match="expected ':16'"):
        conversion(replace(case, signature={**case.signature, "n": "i32:8"}))
    with pytest.raises(DescriptionError, match="expected ':16'"):
        conversion(replace(case, signature={**case.signature, "n": "i32:x"}))
    with pytest.raises(DescriptionError, match=r"signature\['n'\]: expected a type such as 'i32:16', got 4096"):
        conversion(replace(case, signature={**case.signature, "n": 4096}))
    with pytest.raises(DescriptionError, match=r"write costmodel\.ir\.minimum"):
        conversion(replace(case, grid=lambda m: (min(m["n"], 4),)))
    with pytest.raises(DescriptionError, match="grid extent"):
        conversion(replace(case, grid=(1.5,)))
    with pytest.raises(UnsupportedError, match="not compiled for sm_90"):
        conversion(replace(case, constexprs={"BLOCK": 100}))


def test_lines_of_another_shape_are_errors():
    with pytest.raises(UnsupportedError, match="cannot read the line"):
        module_text.parse_module("module {\n  tt.func public @k() {\n    what is this\n  }\n}\n")
    with pytest.raises(UnsupportedError, match=r"expected a module with a tt\.func"):
        module_text.parse_module("module {\n}\n")


def test_a_size_that_was_to_be_a_multiple_of_16_has_to_be_one(converted):
    with pytest.raises(SizeError, match="requires n % 16 == 0"):
        converted("vector add, even").estimate("H100", n=1003)


def test_clusters_of_blocks_are_refused():
    with pytest.raises(UnsupportedError, match="num_ctas"):
        conversion(CASES["vector add"], num_ctas=2)


def test_warps_with_work_of_their_own_are_refused():
    case = CASES["descriptor matmul"]
    fn = getattr(triton_kernels, case.kernel)
    made = compiling.compiled(fn, case.signature, case.constexprs, 90, {"num_warps": 4, "num_stages": 3})
    copy = next(line for line in made.pipelined.splitlines() if "ttng.async_tma_copy_global_to_local" in line)
    special = made.pipelined.replace(copy, f"ttg.warp_specialize(%a)\ndefault {{\n{copy}\n}}")
    with pytest.raises(UnsupportedError, match=r"triton_kernels.py:\d+ \(ttg.warp_specialize\)"):
        kernel.described(replace(made, pipelined=special), case.kernel, (), {}, case.constexprs, 90)


def test_a_tuned_function_is_taken_for_what_it_tunes(converted):
    fn = triton.autotune(configs=[triton.Config({"BLOCK": 64})], key=["n"])(triton_kernels.vector_add)
    case = CASES["vector add"]
    assert from_triton(fn, case.signature, case.constexprs, case.grid, cache=False, num_stages=3) == converted("vector add")
    with pytest.raises(DescriptionError, match=r"expected a function under @triton\.jit"):
        from_triton(len, {}, {}, (1,))


def test_names_of_arguments_are_not_taken():
    case = Case("awkward", {"lanes": "*fp32", "i0": "i32", "r1": "i32"}, {"BLOCK": 256}, lambda m: (4,), {"i0": 700, "r1": 256})
    k = conversion(case)
    assert k.requested_bytes(**case.sizes) == 4 * 2 * 4 * 700
    assert k.estimate("H100", **case.sizes).seconds > 0


def test_configurations_are_converted_in_several_processes(tmp_path, converted):
    case = CASES["vector add"]
    configurations = [{"BLOCK": 256, "num_stages": 3}, {"BLOCK": 100}, {"BLOCK": 128, "num_warps": 2}]
    for workers in (2, 1):
        first, second, third = from_triton_configurations(
            triton_kernels.vector_add, case.signature, configurations, case.grid, cache=tmp_path / str(workers), workers=workers
        )
        assert first == converted("vector add")
        assert isinstance(second, UnsupportedError)
        assert isinstance(third, TritonKernel)
        assert int(third.kernel.block_shape()[1]) == 2
        assert len(list((tmp_path / str(workers)).glob("*.json"))) == 2


# -- pricing


def test_a_matrix_product_is_priced_by_its_lines(converted):
    case = triton_cases.matmul("matmul", 4096, 4096, 4096, 128, 128, 64, triton_cases.tiles, num_warps=8, num_stages=3)
    cost = conversion(case, "H100").estimate("H100", **case.sizes)
    names = {a.statement for a in cost.accesses}
    assert {"load a (line 53)", "load b (line 54)", "store c (line 60)"} <= names
    assert cost.flops == pytest.approx(2 * 4096**3, rel=0.01)
    assert cost.registers_known
    peak = 2 * 4096**3 / 989e12
    assert peak < cost.seconds < 4 * peak
    assert cost.blocks == 1024


def test_streaming_reaches_memory_bandwidth(converted):
    cost = converted("vector add, even").estimate("H100", n=1 << 26)
    moved = 3 * 2 * (1 << 26)
    assert cost.bound == "dram"
    assert moved / find_device("H100").dram.bandwidth_bytes_per_s < cost.seconds < 1.5 * moved / 3.35e12


def test_shared_bytes_limit_occupancy(converted):
    k = converted("matmul, many rows")
    more = replace(k.kernel, shared_bytes=k.kernel.shared_bytes * 4)
    sizes = {**CASES["matmul, many rows"].sizes, "M": 4096, "N": 4096}
    few, many = (estimate(x, "H100", **sizes).occupancy.blocks_per_sm for x in (more, k.kernel))
    assert few == 2  # of 96 KiB and the reserve each, in 228 KiB
    assert many > 2
    assert from_json(to_json(k.kernel)) == k.kernel


def test_the_loop_that_was_pipelined_is_counted_once(converted):
    for stages in (1, 2, 4):
        k = converted("matmul", num_stages=stages)
        loops = [loop for loop in k.kernel.loops() if loop.index.name == "i0"]
        assert [int(loop.stages) for loop in loops] == [stages]
        asynchronous = [s.statement.asynchronous for s in k.kernel.statements() if s.statement.name.startswith("load a (")]
        assert asynchronous == [stages > 1]


# -- cache


def test_a_kept_kernel_is_read_and_not_compiled(tmp_path, monkeypatch):
    case = CASES["softmax"]
    kernel._MEMORY.clear()
    first = conversion(case, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_text()
    monkeypatch.setattr(kernel, "compiled", lambda *a: pytest.fail("compiled again"))
    assert conversion(case, cache=tmp_path) == first
    kernel._MEMORY.clear()
    read = conversion(case, cache=tmp_path)
    assert (read, read.kernel.sites, to_json(read.kernel)) == (first, first.kernel.sites, to_json(first.kernel))
    monkeypatch.undo()
    other = json.dumps({**json.loads(whole)["content"], "registers": first.registers + 1})
    kept.write_text(cache._sealed(other))
    kernel._MEMORY.clear()
    assert conversion(case, cache=tmp_path).registers == first.registers + 1  # it is read, so what follows is not for nothing
    damaged = whole.replace(f'"registers": {first.registers}', f'"registers": {first.registers + 1}')
    assert damaged != whole
    for text in (
        "",
        "{",
        "[]",
        '{"kernel": "x"}',
        whole[:-9],
        damaged,
        *(cache._sealed(t) for t in ("", "[]", '{"kernel": "x"}')),
    ):
        kept.write_text(text)
        kernel._MEMORY.clear()
        assert conversion(case, cache=tmp_path) == first
    assert kept.read_text() == whole


def test_another_constant_is_another_kernel(tmp_path):
    case = CASES["vector add"]
    kernel._MEMORY.clear()
    conversion(case, cache=tmp_path)
    conversion(replace(case, constexprs={"BLOCK": 128}), cache=tmp_path)
    conversion(replace(case, num_warps=8), cache=tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 3
    assert not list(tmp_path.glob("*.part"))


def test_the_oldest_go_when_there_are_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MOST_FILES", 3)
    for n in range(5):
        cache.keep(tmp_path, f"k{n}", {"n": n})
        os.utime(tmp_path / f"k{n}.json", (n, n))
    assert sorted(f.stem for f in tmp_path.iterdir()) == ["k2", "k3", "k4"]
    assert cache.kept(tmp_path, "k4") == {"n": 4}
    assert cache.kept(tmp_path, "k0") is None
