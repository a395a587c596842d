"""What a live GPU is asked to do, and in which order: on a stub whose kernels run on torch's CPU tensors."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.cost import find_description
from costmodel.errors import MeasureError
from costmodel.measure.arrays import TOLERANCES, Watched
from costmodel.measure.bench import GpuBench
from costmodel.measure.code import find_code, measured_space, source_digest
from costmodel.measure.live import Clocks, CompileError, OutOfMemoryError, StickyError
from costmodel.measure.runners import macros_of
from costmodel.measure.task import Settings, Task

torch = pytest.importorskip("torch")

MODULE = '''
import numpy as np
from costmodel import kernel
from costmodel.dtypes import bf16, f16, f32, i32


@kernel(static=("FLAG",), name="scaled")
def scaled(k, *, N, B, S=2, FLAG=True):
    """y = w·x, with a staged buffer for the sake of its bytes."""
    k.require(N % B == 0)
    y = k.buffer("y", (N,), f32)
    x = k.buffer("x", (N,), f32, read_only=True)
    w = k.constant("w", (4,), f32)
    tile = k.shared("tile", (B + 1,), f32, dynamic=True)
    more = k.shared("more", (B,), f16, dynamic=True)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.copy(x[b * B + t], tile[t], "stage")
        k.do("scale", loads=[tile[t], w[0]], work=k.fma(f32), stores=y[b * B + t])


@kernel
def added(k, *, N, B):
    """y += x."""
    x, y = k.buffer("x", (N,), bf16), k.buffer("y", (N,), bf16)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.do("add", loads=[x[b * B + t], y[b * B + t]], work=k.add(f32), stores=y[b * B + t])


@kernel
def total(k, *, N, B):
    """The sum of x, and how often it was added to."""
    x, s, n = k.buffer("x", (N,), f32), k.buffer("s", (1,), f32), k.buffer("n", (1,), i32)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.do("sum", loads=[x[b * B + t]], work=k.add(f32), stores=s[0], atomic=True)
        k.do("count", work=k.add(f32), stores=n[0], atomic=True)


@kernel
def gathered(k, *, N, B, STEP):
    """y[i] = x[p[i]]."""
    p, x, y = k.buffer("p", (N,), i32, read_only=True), k.buffer("x", (N,), f32), k.buffer("y", (N,), f32)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.load(p[b * B + t], x[b * B + t])
        k.store(y[b * B + t])


def _permutation(sizes, random):
    return {"p": random.permutation(sizes["N"]).astype(np.int32) // sizes["STEP"]}


CODE = {
    "scaled": {
        "cuda": "all.cu", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] * t["w"][0]},
        "space": {"N": [1024, 2048], "B": [64, 128]},
    },
    "added": {"cuda": "all.cu", "entry": "plus", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] + t["y"]}},
    "total": {
        "cuda": "all.cu", "arguments": ("N",), "tolerance": 1e-3,
        "reference": lambda t, s: {"s": t["x"].sum()[None], "n": t["n"] + s["N"]},
    },
    "gathered": {
        "cuda": "all.cu", "arguments": ("N",), "inputs": _permutation, "reference": lambda t, s: {"y": t["x"][t["p"].long()]},
    },
}
'''


class Program:
    registers, static_shared_bytes, local_bytes, binary = 32, 128, 8, b""

    def __init__(self, entry: str, macros: dict) -> None:
        self.entry, self.macros, self.constants = entry, macros, dict[str, np.ndarray]()


class Stub:
    """A GPU that does what `kernels` say, and keeps what it was asked."""

    name, architecture = "stub", "sm_90"

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.builds: list[dict] = []
        self.errors: dict[str, Exception] = {}
        self.broken = False
        self.flushes = 0

    def _say(self, what: str, *about: Any) -> None:
        self.asked.append((what, *about))
        if what in self.errors:
            raise self.errors[what]

    def facts(self):
        return {"name": self.name, "architecture": self.architecture}

    def clocks(self):
        return Clocks(1.98e9, 2.6e9, 300.0, None)

    def build(self, source, entry, macros):
        self.builds.append(dict(macros))
        self._say("build", entry, source)
        return Program(entry, dict(macros))

    def fill_constant(self, program, name, values):
        program.constants[name] = values

    def start(self, program, launch, arguments):
        self._say("start", program.entry, launch, tuple(arguments))
        if not self.broken:
            getattr(self, program.entry)(program, *arguments)

    def scaled(self, program, y, x, n):
        y.copy_(x * float(program.constants["w"][0]))

    def plus(self, program, x, y, n):
        y.add_(x)

    def total(self, program, x, s, n, size):
        s.add_(x.sum())
        n.add_(int(size))

    def gathered(self, program, p, x, y, n):
        y.copy_(x[p.long()])

    def times_s(self, run, repeats, before=None):
        for _ in range(repeats):
            if before is not None:
                before()
            run()
        return np.linspace(1.0, 2.0, repeats) * 1e-3

    def flush_l2(self):
        self.flushes += 1

    def synchronize(self):
        self._say("synchronize")

    def explain(self, error):
        return error if isinstance(error, MeasureError) else None


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "all.cu").write_text("// all of them")
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path / "mine.py"


@pytest.fixture
def bench() -> GpuBench:
    return GpuBench(Stub(), contextlib.nullcontext, "cpu")


def task(module: Path, name: str, **sizes: Any) -> Task:
    description = find_description(f"{module}:{name}")
    full: dict[str, Any] = {n: sizes.get(n, description.defaults.get(n)) for n in description.arguments}
    return Task(f"{module}:{name}", tuple(full.items()), Settings(series_s=0.01))


def measured(bench: GpuBench, one: Task) -> tuple[dict, list[str]]:
    stages: list[str] = []
    return bench.measure(one, stages.append), stages


def test_a_cuda_kernel_is_launched_as_its_description_says(module, bench):
    row, stages = measured(bench, task(module, "scaled", N=1024, B=128, FLAG=True))
    assert row["status"] == "ok", row
    assert stages == ["waiting", "running"]
    assert bench.gpu.builds == [{"B": 128, "S": 2, "FLAG": 1}]
    _, entry, launch, arguments = next(a for a in bench.gpu.asked if a[0] == "start")
    assert entry == "scaled"
    assert (launch.grid, launch.block) == ((8, 1, 1), (128, 1, 1))
    assert launch.shared_bytes == 528 + 256  # 129 words, then 128 halves that start at a multiple of 16
    y, x, n = arguments  # in the order of declaration, then the sizes
    assert (tuple(y.shape), tuple(x.shape), n) == ((1024,), (1024,), np.int32(1024))
    assert isinstance(n, np.int32)
    assert (row["regs_per_thread"], row["shared_bytes"], row["lmem_bytes_per_thread"]) == (32, 128 + 784, 8)
    assert row["error"] < 1e-6
    assert 0.9 < float(x.std()) < 1.1
    assert float(x.mean()) == pytest.approx(0.0, abs=0.2)


def test_times_are_medians_and_cold_ones_follow_a_flush_each(module, bench):
    row, _ = measured(bench, task(module, "scaled", N=1024, B=128))
    assert (row["time_ms"], row["time_min_ms"], row["time_first_ms"]) == pytest.approx((1.5, 1.0, 1.0))
    assert row["n_runs"] == 10  # 10 ms of launches that take 1 ms
    assert row["cold_ms"] == pytest.approx(1.5)
    assert bench.gpu.flushes == 10
    assert (row["sm_hz_before"], row["memory_hz"], row["temperature_c"]) == (1.98e9, 2.6e9, None)
    launches = sum(a[0] == "start" for a in bench.gpu.asked)
    assert launches == 1 + 1 + 10 + 10 + 10  # the check, the first, warming up, warm, cold


def test_series_are_bounded():
    settings = Settings()
    assert settings.repeats(1e-6) == settings.most_runs
    assert settings.repeats(1e-3) == 20
    assert settings.repeats(5e-3) == settings.least_runs
    assert settings.repeats(0.2) == 5
    assert settings.repeats(2.0) == 3


def test_a_kernel_that_writes_nothing_is_wrong_even_on_its_second_problem(module, bench):
    assert measured(bench, task(module, "scaled", N=1024, B=64))[0]["status"] == "ok"
    bench.gpu.broken = True
    row, _ = measured(bench, task(module, "scaled", N=1024, B=128))
    assert (row["status"], row["error"]) == ("wrong_result", None)
    assert row["reason"] == "y: error inf, at most 0.0001"
    assert "time_ms" not in row


def test_where_a_reference_is_nan_nothing_may_be_written(module, bench):
    borders = MODULE.replace(
        '{"y": t["x"] * t["w"][0]}', '{"y": (t["x"] * t["w"][0]).index_fill(0, __import__("torch").tensor([0]), float("nan"))}'
    )
    module.write_text(borders)
    one = task(module, "scaled", N=1024, B=64)
    row, _ = measured(bench, one)
    assert (row["status"], row["reason"]) == ("wrong_result", "y: error inf, at most 0.0001")
    bench.gpu.scaled = lambda program, y, x, n: y[1:].copy_(x[1:] * float(program.constants["w"][0]))
    row, _ = measured(bench, one)
    assert row["status"] == "ok", row
    assert row["error"] < 1e-6


def test_a_result_that_is_a_little_off_is_wrong(module, bench):
    bench.gpu.scaled = lambda program, y, x, n: y.copy_(x * float(program.constants["w"][0]) * 1.001)
    row, _ = measured(bench, task(module, "scaled", N=1024, B=64))
    assert row["status"] == "wrong_result"
    assert row["error"] == pytest.approx(1e-3, rel=1e-2)


def test_buffers_that_are_read_and_written_start_from_the_same_contents_each_time(module, bench):
    first, _ = measured(bench, task(module, "added", N=4096, B=64))
    second, _ = measured(bench, task(module, "added", N=4096, B=128))
    assert (first["status"], second["status"]) == ("ok", "ok")
    assert 0 < second["error"] < TOLERANCES["bf16"]
    assert second["error"] == first["error"]
    assert bench.gpu.asked[0][:2] == ("build", "plus")


def test_atomics_add_to_zero_and_integers_are_compared_exactly(module, bench):
    assert measured(bench, task(module, "total", N=4096, B=64))[0]["status"] == "ok"
    bench.gpu.total = lambda program, x, s, n, size: (s.add_(x.sum()), n.add_(int(size) - 1))
    row, _ = measured(bench, task(module, "total", N=4096, B=128))
    assert (row["status"], row["reason"]) == ("wrong_result", "n: error 1, at most 0")


def test_inputs_of_the_code_are_used_and_kept_by_what_they_depend_on(module, bench):
    rows = [measured(bench, task(module, "gathered", N=2048, B=b, STEP=s))[0] for b, s in ((64, 1), (128, 1), (64, 2))]
    assert [r["status"] for r in rows] == ["ok"] * 3
    contents = [arrays.tensors["p"].max().item() for _, arrays in bench.arrays]
    assert contents == [2047, 1023]  # one set for each STEP, none for B
    find_code(find_description(f"{module}:gathered"))
    (module.parent / "mine.py").write_text(MODULE.replace('"inputs": _permutation, ', ""))
    row = measured(GpuBench(Stub(), contextlib.nullcontext, "cpu"), task(module, "gathered", N=2048, B=64, STEP=1))[0]
    assert row["status"] == "runtime_failed"
    assert "give them by 'inputs' in CODE" in row["reason"]


def test_programs_are_compiled_once_for_several_sizes(module, bench):
    for n in (1024, 2048, 1024):
        assert measured(bench, task(module, "scaled", N=n, B=64))[0]["status"] == "ok"
    assert len(bench.gpu.builds) == 1


@pytest.mark.parametrize(
    ("where", "error", "status", "restart"),
    [
        ("build", CompileError("no such type"), "compile_failed", False),
        ("start", MeasureError("too many resources"), "cannot_launch", False),
        ("start", OutOfMemoryError("none left"), "out_of_memory", True),
        ("synchronize", StickyError("illegal address"), "runtime_failed", True),
        ("build", OutOfMemoryError("none left"), "out_of_memory", True),
    ],
)
def test_each_error_has_its_status(module, bench, where, error, status, restart):
    bench.gpu.errors[where] = error
    row, _ = measured(bench, task(module, "scaled", N=1024, B=64))
    assert (row["status"], row["reason"], row.get("restart", False)) == (status, str(error), restart)


def test_an_unknown_error_is_left_to_the_worker(module, bench):
    bench.gpu.errors["synchronize"] = RuntimeError("?")
    with pytest.raises(RuntimeError):
        measured(bench, task(module, "scaled", N=1024, B=64))


def test_a_size_beyond_int_cannot_be_launched(module, bench):
    code = find_code(find_description(f"{module}:scaled"))
    assert macros_of(code, {"N": 4, "B": 2, "FLAG": True, "S": "fast"}) == {"B": 2, "FLAG": 1, "S": "fast"}
    sizes = {"N": 2**31, "B": 64}
    bench._arrays = lambda kernel, code, sizes: type("None", (), {"kernel": kernel, "tensors": {}, "constants": {}})()
    row, _ = measured(bench, task(module, "scaled", **sizes))
    assert row["status"] == "cannot_launch"
    assert "does not fit the `int`" in row["reason"]


class Driver:
    """Enough of Triton's driver to compile for a GPU that is not there, and to see what would be launched."""

    def __init__(self, target: Any, on_launch: Any) -> None:
        self.target, self.on_launch, self.utils = target, on_launch, self

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return self.target

    def get_device_properties(self, device):
        return {"max_shared_mem": 227 << 10, "multiprocessor_count": 132, "warpSize": 32, "max_num_regs": 65536}

    def load_binary(self, name, kernel, shared, device):
        return "module", "function", 40, 3, 1024  # registers, words of local memory, threads

    def launcher_cls(self, source, metadata):
        return self.on_launch


TRITON = """
import triton
import triton.language as tl


@triton.jit
def double(y, x, N, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + at, 2 * tl.load(x + at, mask=at < N), mask=at < N)


def launch(tensors, sizes):
    return double[(sizes["N"] // sizes["B"],)](tensors["y"], tensors["x"], sizes["N"], B=sizes["B"], num_warps=2)
"""


def test_triton_compiles_without_a_launch_and_then_launches(tmp_path, monkeypatch, bench):
    compiler = pytest.importorskip("triton.backends.compiler")
    active = pytest.importorskip("triton.runtime").driver
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    grids: list[tuple[int, ...]] = []

    def launched(*arguments: Any) -> None:
        grids.append(arguments[:3])
        _, arrays = bench.arrays[-1]
        arrays.tensors["y"].copy_(2 * arrays.tensors["x"])

    before = active._active
    active.set_active(Driver(compiler.GPUTarget("cuda", 90, 32), launched))
    try:
        (tmp_path / "double_triton.py").write_text(TRITON)
        text = MODULE[: MODULE.index("@kernel\ndef total")].replace(", y[b * B + t]], work", "], work").replace("bf16", "f32")
        code = '{"triton": "double_triton.py", "reference": lambda t, s: {"y": 2 * t["x"]}}'
        (tmp_path / "double.py").write_text(f"{text}\nCODE = {{'added': {code}}}\n")
        stages: list[tuple[str, int]] = []
        row = bench.measure(task(tmp_path / "double.py", "added", N=1024, B=64), lambda name: stages.append((name, len(grids))))
    finally:
        active._active = before
    assert row["status"] == "ok", row
    assert stages == [("waiting", 0), ("running", 0)]  # compiled, and nothing launched, before the GPU is ours
    assert set(grids) == {(16, 1, 1)}
    assert (row["regs_per_thread"], row["lmem_bytes_per_thread"], row["shared_bytes"]) == (40, 12, 0)
    assert bench.runners[f"{tmp_path / 'double.py'}:added"].built.name == "double"
    assert row["compile_s"] > 0.0


# -- CODE


def test_code_says_what_is_wrong_with_it(module):
    def refused(old: str, new: str) -> str:
        module.write_text(MODULE.replace(old, new))
        with pytest.raises(MeasureError) as found:
            find_code(find_description(f"{module}:scaled"))
        return str(found.value)

    assert "nothing to run" in refused('"scaled": {', '"scoled": {')
    assert "unknown key 'argument'" in refused(
        '"all.cu", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] * t',
        '"all.cu", "argument": ("N",), "reference": lambda t, s: {"y": t["x"] * t',
    )
    assert "no such file" in refused(
        '"cuda": "all.cu", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] * t',
        '"cuda": "none.cu", "arguments": ("N",), "reference": lambda t, s: {"y": t["x"] * t',
    )
    assert "'FLAG' is no size" in refused(
        '("N",), "reference": lambda t, s: {"y": t["x"] * t', '("FLAG",), "reference": lambda t, s: {"y": t["x"] * t'
    )


def test_the_digest_covers_both_files_and_the_space_may_be_the_code_s_own(module):
    description = find_description(f"{module}:scaled")
    before = source_digest(description)
    assert measured_space(description) == {"N": [1024, 2048], "B": [64, 128]}
    (module.parent / "all.cu").write_text("// changed")
    assert source_digest(description) != before


def test_watched_sizes_remember():
    sizes = Watched({"N": 1, "B": 2})
    assert (sizes["N"], sizes.get("X"), len(sizes)) == (1, None, 2)
    assert sizes.seen == {"N"}
    assert dict(sizes) == {"N": 1, "B": 2}
    assert "B" in sizes.seen
