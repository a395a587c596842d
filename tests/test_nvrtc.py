"""NVRTC really compiles, where it is installed: machine code, and where macros are known."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from costmodel.measure import nvrtc
from costmodel.measure.live import CompileError, GpuError

SCALE = """
extern "C" __global__ void scale(float* a, int n, float x) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) a[i] = FACTOR * x * a[i];
}
"""


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90"])
def test_nvrtc_makes_machine_code(architecture: str):
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    try:
        binary = nvrtc.compiled_binary(SCALE, "scale", {"FACTOR": 3}, architecture)
    except GpuError as error:
        pytest.skip(str(error))
    assert binary[:4] == b"\x7fELF"
    assert b".text.scale\0" in binary
    assert int.from_bytes(binary[18:20], "little") == 190  # EM_CUDA
    with pytest.raises(CompileError, match=r'(?s)scale\.cu\(4\).*identifier "FACTOR" is undefined'):
        nvrtc.compiled_binary(SCALE, "scale", {}, architecture)


HALVES = """#ifndef T
#error "define T"
#endif
/* #include "a comment" */
  # include <cuda_fp16.h>
#if T > 64
#  include <none.h>
#else
#include <cuda_fp16.h>
#endif
extern "C" __global__ void fill(__half* to) {
    to[threadIdx.x % T] = __float2half(V);
}
"""


def test_macros_are_known_from_the_first_line_but_not_to_headers_whose_types_bear_their_names():
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    try:
        assert nvrtc.compiled_binary(HALVES, "fill", {"T": 32, "V": 1}, "sm_90")[:4] == b"\x7fELF"
    except GpuError as error:
        pytest.skip(str(error))
    with pytest.raises(CompileError, match=r'(?s)fill\.cu\(12\).*identifier "V" is undefined'):
        nvrtc.compiled_binary(HALVES, "fill", {"T": 32}, "sm_90")
    with pytest.raises(CompileError, match=r"(?s)fill\.cu\(7\).*none\.h"):
        nvrtc.compiled_binary(HALVES, "fill", {"T": 128, "V": 1}, "sm_90")
    with pytest.raises(CompileError, match=r"(?s)fill\.cu\(2\).*define T"):
        nvrtc.compiled_binary(HALVES, "fill", {"V": 1}, "sm_90")


def test_macros_are_no_other_around_an_include_for_any_preprocessor(tmp_path: Path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")
    (tmp_path / "mine.h").write_text(
        "template <typename T> struct Box { T held; };\nint T_seen =\n#ifdef T\n1\n#else\n0\n#endif\n;\n"
    )
    source = nvrtc.with_macros('int before = T;\n#include "mine.h"\nint after = T, at = __LINE__;', {"T": 7})
    (tmp_path / "all.cpp").write_text(source)
    seen = subprocess.run([compiler, "-E", "-P", "all.cpp"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert " ".join(seen.split()) == (
        "int before = 7; template <typename T> struct Box { T held; }; int T_seen = 0 ; int after = 7, at = 3;"
    )
