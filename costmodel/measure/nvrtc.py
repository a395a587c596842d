"""Run-time compilation of CUDA C++ into machine code, by NVRTC through cuda-bindings; needs no GPU.

Machine code (cubin), not PTX: a cubin loads under any driver of the same major version, while PTX of a
newer compiler is refused by an older driver. Headers such as `cuda_fp16.h` do not come with NVRTC; they are
taken from the folder of the installed toolkit or of pip's nvidia-cuda-runtime.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from costmodel.measure.live import CompileError, GpuError

__all__ = ["compiled_binary", "compiler_version", "include_folders", "with_macros"]

_HEADER = "cuda_fp16.h"


def compiled_binary(source: str, entry: str, macros: Mapping[str, int | str], architecture: str) -> bytes:
    """Compile CUDA C++ to machine code.

    Args:
        source: the text.
        entry: name of its `extern "C" __global__` function, for messages.
        macros: values of the macros it takes.
        architecture: such as `sm_90`.

    Raises:
        CompileError: the compiler refuses it.
        GpuError: there is no compiler.
    """
    nvrtc = _nvrtc()
    options = [f"--gpu-architecture={architecture}", "-std=c++17"]
    options += [f"-I{folder}" for folder in include_folders()]
    encoded = [option.encode() for option in options]
    error, program = nvrtc.nvrtcCreateProgram(with_macros(source, macros).encode(), f"{entry}.cu".encode(), 0, [], [])
    _check(nvrtc, error, entry)
    try:
        (failed,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
        if int(failed):
            raise CompileError(f"{entry} for {architecture}: NVRTC refuses it with {dict(macros)}:\n{_log(nvrtc, program)}")
        error, length = nvrtc.nvrtcGetCUBINSize(program)
        _check(nvrtc, error, entry)
        binary = b"\0" * int(length)
        (error,) = nvrtc.nvrtcGetCUBIN(program, binary)
        _check(nvrtc, error, entry)
        return binary
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def with_macros(source: str, macros: Mapping[str, int | str]) -> str:
    """Return the source with its macros defined below its last `#include`; a bool is 1 or 0.

    Compilers define what `-D` says before their own headers, in which `T` and the like are names of types.

    Example:
        >>> print(with_macros("float f() { return T; }", {"T": 32, "VEC": True}))
        #define T 32
        #define VEC 1
        #line 1
        float f() { return T; }
    """
    lines = source.split("\n")
    above = max((n + 1 for n, line in enumerate(lines) if line.startswith("#include")), default=0)
    given = [f"#define {name} {int(value) if isinstance(value, bool) else value}" for name, value in macros.items()]
    return "\n".join([*lines[:above], *given, f"#line {above + 1}", *lines[above:]]) if given else source


def compiler_version() -> str:
    """Return NVRTC's version.

    Raises:
        GpuError: there is none.
    """
    nvrtc = _nvrtc()
    error, major, minor = nvrtc.nvrtcVersion()
    _check(nvrtc, error, "NVRTC")
    return f"{major}.{minor}"


@lru_cache(maxsize=1)
def include_folders() -> tuple[Path, ...]:
    """Return the folders of CUDA's headers, empty where there are none."""
    homes = [Path(os.environ[v]) / "include" for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    spec = importlib.util.find_spec("nvidia")
    places = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    wheels = [folder for place in places for folder in sorted(place.glob("*/include"))]
    for folder in (*homes, *wheels, Path("/usr/local/cuda/include")):
        if (folder / _HEADER).exists():
            return tuple(f for f in (folder, folder / "cccl") if f.is_dir())
    return ()


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        raise GpuError(
            f"NVRTC, the run-time compiler, is not there ({error}); pip install 'costmodel[measure]' nvidia-cuda-nvrtc"
        ) from None
    return nvrtc


def _check(nvrtc: Any, error: Any, entry: str) -> None:
    if int(error):
        _, text = nvrtc.nvrtcGetErrorString(error)
        raise CompileError(f"{entry}: NVRTC fails: {text.decode()}")


def _log(nvrtc: Any, program: Any) -> str:
    _, length = nvrtc.nvrtcGetProgramLogSize(program)
    log = b"\0" * int(length)
    nvrtc.nvrtcGetProgramLog(program, log)
    return log.rstrip(b"\0").decode(errors="replace").strip()
