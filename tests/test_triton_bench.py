"""Triton kernels through the bench: compiled for a GPU that is not there, by a driver that sees what would be launched."""

from __future__ import annotations

from typing import Any

import pytest

from tests.stub_gpu import MODULE, bench_on, task

pytest.importorskip("torch")


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


def test_triton_compiles_without_a_launch_and_then_launches(tmp_path, monkeypatch):
    bench = bench_on("cpu")
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
    assert stages[-2:] == [("waiting", 0), ("running", 0)]  # compiled, and nothing launched, before the GPU is ours
    assert [n for n, _ in stages[:-2]] == ["waiting", "building"] * 2
    assert set(grids) == {(16, 1, 1)}
    assert (row["regs_per_thread"], row["lmem_bytes_per_thread"], row["shared_bytes"]) == (40, 12, 0)
    assert bench.runners[f"{tmp_path / 'double.py'}:added"].built.name == "double"
    assert row["compile_s"] > 0.0
