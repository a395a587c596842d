"""What NVIDIA's compiler makes of a kernel: registers, spills, shared bytes and instructions, with no GPU.

`nvcc` turns the generated source into PTX, `ptxas -v` turns that into machine code and reports what a
thread takes. Instructions are counted in the machine code where `cuobjdump` (or pip's
nvidia-cuda-cuobjdump with nvidia-cuda-nvdisasm) is found, else in PTX, whose loads and stores are the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sympy

from costmodel.cost.register_plan import updated_arrays
from costmodel.device import Device, find_device
from costmodel.errors import CostModelError, UnsupportedError
from costmodel.ir import Description, Kernel, Statement
from costmodel.measure.cuda_source import ENTRY, Source, cuda_source
from costmodel.measure.listing import counted_ptx, counted_sass
from costmodel.symbols import size

__all__ = ["Compiled", "compile_for", "compile_source", "compiled_registers", "found_tool", "resources"]

_TIMEOUT_S = 300
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compiler made of one configuration."""

    registers: int
    """Of a thread."""
    stack_bytes: int
    """Local memory of a thread: spills, and arrays whose indices are not known at compile time."""
    spill_store_bytes: int
    """Bytes that spill instructions store, each counted once wherever it stands in the code."""
    spill_load_bytes: int
    spilled_words: float
    """What one sweep over the accumulators stores: of spill stores, the share of one of the sweeps that are unrolled."""
    static_shared_bytes: int
    dynamic_shared_bytes: int
    instructions: Mapping[str, int]
    """Instructions in the code, by what they do and their bits: `load global 128`, `fma f32`, `barrier` …"""
    listing: str
    """`sass` or `ptx`: where the instructions were counted."""

    @property
    def shared_bytes(self) -> int:
        """Of a block, static and dynamic."""
        return self.static_shared_bytes + self.dynamic_shared_bytes


def resources(
    kernel: Kernel, sizes: Mapping[str, int], architecture: str, *, runtime: Collection[str] | None = None, listing: bool = True
) -> Compiled:
    """Compile one configuration and report what it takes.

    Args:
        kernel: traced.
        sizes: a value for each of its parameters.
        architecture: such as `sm_90`.
        runtime: sizes that stay arguments (see `cuda_source`).
        listing: whether to count instructions.

    Raises:
        UnsupportedError: the kernel cannot be written as CUDA.
        CostModelError: there is no compiler, it does not know the architecture, or it fails.
    """
    asynchronous = any(getattr(s.leaf, "asynchronous", False) for s in kernel.sites)
    if asynchronous and int(architecture.removeprefix("sm_").rstrip("af")) < 80:
        raise UnsupportedError(f"kernel {kernel.name}: asynchronous copies need sm_80 or later, got {architecture}")
    done = compile_source(cuda_source(kernel, sizes, runtime=runtime), architecture, listing=listing)
    return replace(done, spilled_words=done.spill_store_bytes / 4 / max(_unrolled_sweeps(kernel, sizes), 1.0))


def compiled_registers(
    description: Description | Kernel, device: Device | str, *, runtime: Collection[str] | None = None, **sizes: Any
) -> Compiled:
    """Ask the compiler about one configuration on one device.

    Args:
        description: a description or a traced kernel.
        device: a device, its name, or the path of a profile.
        runtime: sizes that stay arguments (see `cuda_source`).
        sizes: every argument of the description.

    Returns:
        The figures; hand `.registers` and `.spilled_words` to `estimate`.

    Raises:
        UnsupportedError: the kernel cannot be written as CUDA, or the device is not NVIDIA's.
        CostModelError: there is no compiler, it does not know the architecture, or it fails.
    """
    found = device if isinstance(device, Device) else find_device(device)
    if found.vendor.lower() != "nvidia":
        raise UnsupportedError(f"{found.name}: only NVIDIA's compiler can be asked; give registers=… if you know them")
    if isinstance(description, Kernel):
        kernel, given = description, dict(sizes)
    else:
        given = {**description.defaults, **sizes}
        kernel = description.trace(**{n: given.pop(n) for n in description.static if n in given})
    missing = [n for n in kernel.params if n not in given]
    if missing:
        raise UnsupportedError(f"{kernel.name}: no value for {', '.join(missing)}; pass {missing[0]}=…")
    architecture = f"sm_{found.compute_capability.replace('.', '')}"
    return resources(kernel, {n: int(given[n]) for n in kernel.params}, architecture, runtime=runtime, listing=False)


def _unrolled_sweeps(kernel: Kernel, sizes: Mapping[str, int]) -> float:
    """How often one pass through the code walks over all accumulators."""
    values, total = {size(n): v for n, v in sizes.items()}, 0.0
    for site in kernel.statements():
        assert isinstance(site.leaf, Statement)
        updated = updated_arrays(site.leaf)
        elements = sum(float(b.elements.subs(values)) for b in kernel.buffers if b.name in updated)
        if elements:
            total += float(sympy.Mul(*(loop.unroll for loop in site.serial())).subs(values)) / elements
    return total


def compile_source(source: Source, architecture: str, *, virtual: str = "", listing: bool = True) -> Compiled:
    """Compile CUDA C++ with the entry `kernel`.

    Args:
        source: the text.
        architecture: such as `sm_90`.
        virtual: architecture that PTX is made for, such as `compute_75`; that of `architecture` if empty.
        listing: whether to count instructions.

    Raises:
        CostModelError: there is no compiler, it does not know the architecture, or it fails.
    """
    return compile_for(source, (architecture,), virtual=virtual, listing=listing)[0]


def compile_for(source: Source, architectures: Sequence[str], *, virtual: str = "", listing: bool = False) -> list[Compiled]:
    """Compile CUDA C++ once to PTX, and that for each of some architectures.

    Raises:
        CostModelError: there is no compiler, it does not know the architecture, or it fails.
    """
    nvcc, ptxas = _tool("nvcc"), _tool("ptxas")
    with tempfile.TemporaryDirectory(prefix="costmodel-") as folder:
        cu, ptx, cubin = (Path(folder) / f"kernel.{end}" for end in ("cu", "ptx", "cubin"))
        cu.write_text(source.text)
        virtual = virtual or architectures[0].replace("sm_", "compute_")
        _run([nvcc, "-ptx", "-w", f"-arch={virtual}", str(cu), "-o", str(ptx)])
        done = []
        for architecture in architectures:
            said = _run([ptxas, "-v", f"-arch={architecture}", str(ptx), "-o", str(cubin)])
            counts, where = _instructions(ptx, cubin) if listing else (Counter[str](), "")
            done.append(_understood(said, source, counts, where))
    return done


def _understood(said: str, source: Source, counts: Counter[str], where: str) -> Compiled:
    """What `ptxas -v` reported."""
    used, spills, shared = _USED.search(said), _SPILLS.search(said), _SHARED.search(said)
    if used is None or spills is None:
        raise CostModelError(f"ptxas -v reported no registers; it said: {said[:200]}")
    stack, stores, loads = map(int, spills.groups())
    static = int(shared.group(1)) if shared else 0
    return Compiled(int(used.group(1)), stack, stores, loads, stores / 4, static, source.dynamic_shared_bytes, counts, where)


def _instructions(ptx: Path, cubin: Path) -> tuple[Counter[str], str]:
    disassembler = _disassembler()
    if disassembler is None:
        return counted_ptx(ptx.read_text()), "ptx"
    return counted_sass(_run([disassembler, "-sass", "-fun", ENTRY, str(cubin)], near=disassembler)), "sass"


def _disassembler() -> str | None:
    """`cuobjdump`, if `nvdisasm`, which it calls, is there too."""
    found = shutil.which("cuobjdump")
    return found if found and (shutil.which("nvdisasm") or (Path(found).parent / "nvdisasm").exists()) else None


def found_tool(name: str) -> str | None:
    """A program of the CUDA toolkit: on the PATH, or where CUDA_HOME or CUDA_PATH says; None where there is none."""
    places = [os.environ[v] + "/bin" for v in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(v)]
    return next(filter(None, (shutil.which(name, path=path) for path in (None, *places, "/usr/local/cuda/bin"))), None)


def _tool(name: str) -> str:
    found = found_tool(name)
    if found is None:
        raise CostModelError(
            f"{name}: not found; asking the compiler needs the CUDA toolkit: put it on the PATH or name its folder in CUDA_HOME"
        )
    return found


def _run(command: list[str], near: str | None = None) -> str:
    environment = dict(os.environ)
    if near is not None:
        environment["PATH"] = f"{Path(near).resolve().parent}{os.pathsep}{environment.get('PATH', '')}"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise CostModelError(f"{command[0]}: took more than {_TIMEOUT_S} s; try smaller tiles") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise CostModelError(f"{Path(command[0]).name} failed: {said[:500]}")
    return done.stdout + done.stderr
