"""The probe's kernels: they compile, what is timed is still there, and the live lab passes what they declare.

Instructions are counted in PTX, and in machine code where `cuobjdump` is found (on the PATH or in Triton's package): the
assembler drops code too, such as a reciprocal of a reciprocal.
"""

import importlib.util
import re
import shutil
import subprocess
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.device import find_device
from costmodel.errors import MeasureError
from costmodel.measure import nvrtc
from costmodel.measure.compile import found_tool
from costmodel.measure.listing import counted_ptx, counted_sass
from costmodel.measure.live import Clocks, GpuError
from costmodel.measure.probe import FakeLab, live_lab, probe
from costmodel.measure.probe.live_lab import LiveLab, source_of

NVCC = found_tool("nvcc") or ""
needs_nvcc = pytest.mark.skipif(not NVCC, reason="no nvcc on this machine: the probe's kernels are not compiled")
ARCHITECTURES = ("sm_75", "sm_80", "sm_90")

# File, macros, and how often the PTX and the machine code hold what is timed (chains × links, loads ahead of and in the loop).
KERNELS = [
    ("arithmetic.cu", {"OP": 0, "CHAINS": 8}, {r"\bfma\.rn\.f32": 128}, {"FFMA": 128}),
    ("arithmetic.cu", {"OP": 0, "CHAINS": 1}, {r"\bfma\.rn\.f32": 16}, {"FFMA": 16}),
    ("arithmetic.cu", {"OP": 1, "CHAINS": 8}, {r"\bfma\.rn\.f64": 128}, {"DFMA": 128}),
    ("arithmetic.cu", {"OP": 2, "CHAINS": 8}, {r"\bfma\.rn\.f16x2": 128}, {"HFMA2": 128}),
    ("arithmetic.cu", {"OP": 3, "CHAINS": 8}, {r"\bmax\.u32": 128, r"\bxor\.b32": 128}, {"V?IMNMX": 128, "LOP3": 128}),
    ("arithmetic.cu", {"OP": 4, "CHAINS": 8}, {r"\bmad\.lo": 128}, {"IMAD": 128}),
    ("arithmetic.cu", {"OP": 5, "CHAINS": 8}, {r"\bex2\.approx": 128}, {"MUFU": 128}),
    (
        "arithmetic.cu",
        {"OP": 6, "CHAINS": 8},
        {r"cvt\.rn\.f32\.s32": 128, r"cvt\.rzi\.s32\.f32": 128},
        {"I2FP?": 128, "F2I": 128},
    ),
    ("arithmetic.cu", {"OP": 7, "CHAINS": 8}, {r"\bfma\.rn\.f32": 256, r"\bmax\.u32": 128}, {"FFMA": 256, "V?IMNMX": 128}),
    ("chase.cu", {"SHARED": 0, "BYPASS": 0}, {r"ld\.global\.u64": 17}, {"LDG": 17}),
    ("chase.cu", {"SHARED": 0, "BYPASS": 1}, {r"ld\.global\.cg\.u64": 17}, {"LDG": 17}),
    ("chase.cu", {"SHARED": 1, "BYPASS": 0}, {r"ld\.shared\.u32": 17}, {"LDS": 17}),
    *(
        ("lanes.cu", {"SHARED": shared, "WIDTH": width}, {rf"ld\.(?:{space})(?:\.nc)?(?:\.v{width})?\.u32": 16}, {code: 16})
        for shared, space, code in ((0, "global", "LDG"), (1, "shared", "LDS"))
        for width in (1, 2, 4)
    ),
    ("stream.cu", {"MODE": 0}, {r"ld\.global\.cg\.v4": 5}, {"LDG": 5}),
    ("stream.cu", {"MODE": 1}, {r"ld\.global\.cg\.v4": 5, r"st\.global\.v4": 5}, {"LDG": 5, "STG": 5}),
    ("stream.cu", {"MODE": 2}, {r"st\.global\.v4": 5}, {"STG": 5}),
    ("stream.cu", {"MODE": 3}, {r"ld\.global\.cg\.v4": 10, r"st\.global\.v4": 5}, {"LDG": 10, "STG": 5}),
    ("stream.cu", {"MODE": 4}, {r"ld\.global\.v4": 5}, {"LDG": 5}),
    ("blocks.cu", {}, {r"%smid": 1, r"%clock64": 2}, {"CS2R": 2, "STG": 3}),
]
ENTRIES = {
    "arithmetic.cu": ["arithmetic"],
    "chase.cu": ["chase"],
    "lanes.cu": ["lanes"],
    "stream.cu": ["stream"],
    "blocks.cu": ["empty", "blocks"],
}
IDS = [" ".join((file, *(f"{k}={v}" for k, v in macros.items()))) for file, macros, _, _ in KERNELS]


def disassembler():
    """`cuobjdump` with `nvdisasm` beside it or on the PATH."""
    spec = importlib.util.find_spec("triton")
    wheels = [str(Path(p) / "backends" / "nvidia" / "bin") for p in (spec.submodule_search_locations or ())] if spec else []
    for path in (None, *wheels):
        if shutil.which("cuobjdump", path=path) and shutil.which("nvdisasm", path=path):
            return shutil.which("cuobjdump", path=path) or ""
    return ""


def variant(number):
    """One kernel with its macros, in a namespace of its own."""
    file, macros, _, _ = KERNELS[number]
    names = [*macros, "STEPS", "LOADS", "ROW", "UNROLL", *ENTRIES[file]]
    before = [*(f"#define {k} {v}" for k, v in macros.items()), *(f"#define {e} {e}_{number}_" for e in ENTRIES[file])]
    body = re.sub(r"\bcells\b", f"cells_{number}_", source_of(file))
    return "\n".join([*before, f"namespace v{number} {{", body, "}", *(f"#undef {name}" for name in names)])


@pytest.fixture(scope="module")
def listings(tmp_path_factory):
    """By architecture: PTX, resources and, with a disassembler, machine code of every variant, compiled in one go."""
    found = {}
    for architecture in ARCHITECTURES:
        folder = tmp_path_factory.mktemp(architecture)
        (folder / "all.cu").write_text("\n".join(map(variant, range(len(KERNELS)))))
        options = f"-cubin -arch={architecture} -Xptxas -v --keep --keep-dir . all.cu -o all.cubin"
        command = [NVCC, *options.split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        sass = ""
        if disassembler():
            shown = [disassembler(), "-sass", str(folder / "all.cubin")]
            sass = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
        found[architecture] = (folder / "all.ptx").read_text(), done.stderr, sass
    return found


def part(text, start, entry):
    """What a listing says of one entry."""
    return next(piece for piece in re.split(start, text)[1:] if re.match(rf"\W*{entry}\b", piece))


@needs_nvcc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("number", range(len(KERNELS)), ids=IDS)
def test_what_is_timed_is_still_there(number, architecture, listings):
    file, macros, ptx, sass = KERNELS[number]
    entry = f"{ENTRIES[file][-1]}_{number}_"
    text, said, code = listings[architecture]
    listing = part(text, r"\.entry", entry)
    for pattern, count in ptx.items():
        assert len(re.findall(pattern, listing)) >= count, pattern
    if "WIDTH" in macros:
        space = "shared" if macros["SHARED"] else "global"
        assert counted_ptx(listing)[f"load {space} {32 * macros['WIDTH']}"] == 16
    used = part(said, "Compiling entry function", entry)
    assert re.search(r"\b0 bytes spill stores, 0 bytes spill loads", used)
    assert int(re.findall(r"Used (\d+) registers", used)[0]) <= 64, "a block of 1024 threads must fit the register file"
    if code:
        listing = part(code, "Function :", entry)
        assert sum(counted_sass(listing).values()) > 0
        for pattern, count in sass.items():
            assert len(re.findall(rf"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?{pattern}[. ]", listing, re.M)) >= count, pattern


@needs_nvcc
@pytest.mark.parametrize("file", ["arithmetic.cu", "chase.cu", "lanes.cu", "stream.cu"])
def test_a_missing_macro_is_named(file, tmp_path):
    (tmp_path / file).write_text(source_of(file))
    done = subprocess.run(
        [NVCC, "-ptx", str(tmp_path / file), "-o", str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"{file}: define" in done.stderr


@pytest.mark.parametrize(("file", "macros"), [kernel[:2] for kernel in KERNELS], ids=IDS)
def test_nvrtc_takes_them(file, macros):
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    entries = ENTRIES[file]
    try:
        binary = nvrtc.compiled_binary(source_of(file), entries[0], macros, "sm_90")
    except GpuError as error:
        pytest.skip(str(error))
    assert all(f".text.{entry}\0".encode() in binary for entry in entries)


class CheckingGpu:
    """Takes launches apart instead of running them: kinds, number and size of the arguments, as the source declares them."""

    name, architecture = "NVIDIA H200", "sm_90"
    chased: Any

    def __init__(self, facts):
        self._facts, self.launched = facts, []

    def facts(self):
        return self._facts

    def clocks(self):
        return Clocks(1.98e9, None, None, None)

    def build(self, source, entry, macros):
        (parameters,) = re.findall(rf'extern "C" __global__ void (?:__launch_bounds__\(1024\)\s+)?{entry}\(([^)]*)\)', source)
        for name in re.findall(r"!?defined\((\w+)\)", source.split("#error")[0]) if "#error" in source else ():
            assert name in macros
        declared = [" ".join(p.split()) for p in parameters.split(",") if p.strip()]
        return types.SimpleNamespace(entry=entry, declared=declared, macros=dict(macros))

    def start(self, program, launch, arguments):
        assert len(arguments) == len(program.declared), program.entry
        given = {}
        for declared, argument in zip(program.declared, arguments, strict=True):
            if "*" in declared:
                assert hasattr(argument, "data_ptr"), declared
                assert argument.is_contiguous()
                wide = {"word": 8, "long long": 8, "unsigned": 4, "uint4": 8}[
                    declared.rsplit("*", 1)[0].removeprefix("const ").strip()
                ]
                assert argument.element_size() >= min(wide, 4)
            else:
                assert declared.startswith("int ")
                assert isinstance(argument, np.int32), declared
            given[declared.split()[-1].lstrip("*")] = argument
        getattr(self, f"_{program.entry}")(program.macros, launch, given)
        self.launched.append(program.entry)

    def _chase(self, macros, launch, given):
        if macros["SHARED"]:
            assert given["table"].numel() * 4 == launch.shared_bytes == 4 * given["entries"]
        else:
            at = int(given["position"][0])
            table = self.chased  # the buffer, which the address lies in
            assert table.data_ptr() <= at < table.data_ptr() + 8 * table.numel()
            assert table.data_ptr() <= int(table[(at - table.data_ptr()) // 8]) < table.data_ptr() + 8 * table.numel()
        given["cycles"][0] = 34 * (int(given["steps"]) or 1)

    def _lanes(self, macros, launch, given):
        last = (31 >> int(given["shift"])) * int(given["stride"]) * 4 + 7 * 1040 + 4 * macros["WIDTH"]
        assert last <= 4 * given["words"]
        assert 4 * given["words"] <= given["source"].numel() * given["source"].element_size()
        assert not macros["SHARED"] or launch.shared_bytes >= 4 * given["words"]
        assert given["step"] == 0
        assert given["cycles"].numel() == launch.grid[0]
        conflicts = max(min(int(given["stride"]), 32), 1) if macros["WIDTH"] == 1 else 4
        given["cycles"][:] = conflicts * launch.block[0] // 32 * 8 * int(given["trips"])

    def _stream(self, macros, launch, given):
        need = int(given["tiles"]) * launch.block[0] * 16
        arrays = 1 if macros["MODE"] in (0, 4) else 3
        for name in "abc"[:arrays]:
            assert given[name].numel() * given[name].element_size() >= need
        pointers = {given[name].data_ptr() for name in "abc"}
        assert len(pointers) == arrays
        assert int(given["tiles"]) * int(given["passes"]) < 2**31
        assert np.gcd(int(given["tiles"]), launch.grid[0]) == 1
        given["cycles"][:] = 100_000

    def _arithmetic(self, macros, launch, given):
        assert given["cycles"].numel() == launch.grid[0]
        given["cycles"][:] = 1024 * 8 * 16 * int(given["trips"]) // 128

    def _empty(self, macros, launch, given):
        assert given == {}

    def _blocks(self, macros, launch, given):
        blocks = launch.grid[0]
        assert given["record"].numel() == 3 * blocks
        for b in range(blocks):
            given["record"][3 * b] = b % 132
            given["record"][3 * b + 1] = 1000 * (b // 132)
            given["record"][3 * b + 2] = 1000 * (b // 132) + 790

    def fill_constant(self, program, name, values):
        raise AssertionError

    def times_s(self, run, repeats, before=None):
        before = len(self.launched)
        for _ in range(2 + repeats):
            run()
        return np.full(repeats, 1e-3 + 2e-6 * (len(self.launched) - before) / (2 + repeats))

    def flush_l2(self):
        pass

    def synchronize(self):
        pass

    def explain(self, error):
        return error if isinstance(error, MeasureError) else None


def test_the_live_lab_launches_what_the_kernels_declare(monkeypatch, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for name in ("zeros", "full", "ones", "randn", "randint"):
        made = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda *a, made=made, device=None, **k: made(*a, **k))
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: None)
    products = []

    def product(torch, dtype, n):
        products.append((dtype, n))
        return lambda: None

    monkeypatch.setattr(live_lab, "product", product)
    kept = LiveLab._buffer

    def buffer(self, name, n_bytes):
        found = kept(self, name, n_bytes)
        if name == "chase":
            gpu.chased = found
        return found

    monkeypatch.setattr(LiveLab, "_buffer", buffer)
    h200 = find_device("h200")
    gpu = CheckingGpu({**FakeLab(h200).facts(), "name": "NVIDIA H200", "l2_bytes": 1 << 20, "memory_bytes": 1 << 28})
    found = probe(LiveLab(gpu), tmp_path / "mine.yaml")
    assert found.unmeasured == ()
    assert set(gpu.launched) == {"chase", "lanes", "stream", "arithmetic", "empty", "blocks"}
    assert found.device.l1.latency_cycles == 34
    assert found.device.throughput.fp32_fma == pytest.approx(128, rel=0.01)
    assert found.device.block_launch_cycles == 210
    assert ("fp64", 4096) in products
    assert ("bf16", 8192) in products
