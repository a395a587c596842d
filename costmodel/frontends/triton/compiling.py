"""Compile a Triton kernel for a named target, without a GPU, and keep what is read from it.

Two modules are kept: that of the configuration as it is, for what was pipelined and for the resources, and one lowered with a
single pipeline stage, in which every load stands once. Both have the same layouts. Registers and spills are what the wheel's own
`cuobjdump` finds in the cubin; shared bytes are the compiler's `metadata.shared`. Loops that `flatten=True` makes one stay two in
the second module: the same accesses, but what the pipeline carries over from one tile to the next is not seen.

`lowered` goes no further than these modules, which is what takes a compiler tens of milliseconds; machine code takes it seconds,
minutes where registers spill. Shared bytes come from the compiler's own allocation, and are the same; registers and spills are
estimated (`pressure`). Source for the passes: triton 3.6.0, 3.7.1 and 3.9.0, `backends/nvidia/compiler.py` (`make_llir`).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodel.device import Device, find_device
from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.frontends.triton.complaints import quiet, reason
from costmodel.frontends.triton.module_text import parse_lines
from costmodel.frontends.triton.pressure import MOST_REGISTERS, estimated_registers

__all__ = ["Compiled", "alike", "compiled", "compute_capability", "lowered", "parsed_signature"]

DIVISOR = 16
"""What `:16` in a signature says, and what Triton specialises for."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the compiler made of one configuration."""

    plain: str
    """Module with layouts, loops not pipelined."""
    pipelined: str
    """Module as it is lowered to machine code."""
    shared_bytes: int
    registers: int
    """Of a thread."""
    stack_bytes: int
    """Of a thread: what its registers spill to, and arrays that they cannot hold."""
    spilled_bytes: int
    """Stored of a thread to local memory, as the assembler reports it."""
    threads: int
    """Of a block."""
    estimated: bool = False
    """Whether registers and spills are: then the stack is what spills."""


def compute_capability(target: str | Device) -> int:
    """The number in `sm_90`, or a device's.

    Raises:
        DescriptionError: the target is neither.
    """
    if isinstance(target, str):
        named = re.match(r"^sm_?(\d+)a?$", target)
        if named:
            return int(named.group(1))
    device = target if isinstance(target, Device) else find_device(target)
    numbered = re.match(r"^(\d+)\.(\d)$", device.compute_capability)
    if numbered is None:
        raise DescriptionError(
            f"target {device.name}: its profile gives compute capability {device.compute_capability!r}; expected NVIDIA's"
        )
    return int(numbered.group(1) + numbered.group(2))


def parsed_signature(
    fn: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, int]]:
    """Types by argument, in order, and the known divisors.

    Args:
        fn: the kernel.
        signature: Triton's types by argument name, `"*fp32"` or `"i32"`; `":16"` after it says that a multiple of 16 is passed.
            Pointers are taken to be multiples of 16 bytes, as allocators give them, unless `":1"` is added.
        constexprs: values of the other arguments.

    Raises:
        DescriptionError: an argument has no type and no value, or both, or does not exist.
    """
    names, name = list(fn.arg_names), fn.__name__
    for given in (*signature, *constexprs):
        if given not in names:
            raise DescriptionError(f"Triton kernel {name}: no argument {given!r}; arguments: {', '.join(names)}")
    types: dict[str, str] = {}
    divisors: dict[str, int] = {}
    for argument in names:
        if (argument in signature) == (argument in constexprs):
            both = "both a type and a value" if argument in signature else "neither a type nor a value"
            raise DescriptionError(
                f"Triton kernel {name}: argument {argument!r} has {both}; give it in signature= or constexprs="
            )
        if argument in constexprs:
            types[argument] = "constexpr"
            continue
        if not isinstance(signature[argument], str):
            raise DescriptionError(
                f"Triton kernel {name}: signature[{argument!r}]: expected a type such as 'i32:16', got {signature[argument]!r}; "
                "values belong in constexprs="
            )
        kind, _, hint = signature[argument].partition(":")
        types[argument] = kind
        if hint not in ("", "1", str(DIVISOR)):
            raise DescriptionError(
                f"Triton kernel {name}: {argument}={signature[argument]!r}: expected ':16' or ':1' after the type"
            )
        divisors[argument] = int(hint) if hint else DIVISOR if kind.startswith("*") else 1
    return types, divisors


def compiled(
    fn: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any], capability: int, options: Mapping[str, Any]
) -> Compiled:
    """Compile.

    Args:
        fn: a function under `@triton.jit`.
        signature: Triton's types by argument.
        constexprs: values of the others.
        capability: 90 for sm_90.
        options: of the compiler: `num_warps`, `num_stages`, …

    Raises:
        UnsupportedError: Triton cannot compile it.
    """
    import triton

    source, target = _source(fn, signature, constexprs), _target(capability)
    try:
        with quiet() as said:
            kernel = triton.compile(source, target=target, options=dict(options))
            plain = _Lowering(target, {**options, "num_stages": 1}).with_layouts(_one_stage(kernel.asm["ttir"]))
    except Exception as error:
        why = reason(fn, error, said.getvalue())
        raise UnsupportedError(f"Triton kernel {fn.__name__}: not compiled for sm_{capability}: {why}") from error
    registers, stack = _used(kernel.asm["cubin"], kernel.metadata.name)
    return Compiled(
        str(plain),
        kernel.asm["ttgir"],
        int(kernel.metadata.shared),
        registers,
        stack,
        _spilled(kernel.asm["ptx"], capability) if stack else 0,
        32 * int(kernel.metadata.num_warps),
    )


def lowered(
    fn: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any], capability: int, options: Mapping[str, Any]
) -> Compiled:
    """Compile as far as layouts and shared memory are known; registers and spills are estimated.

    Args:
        fn: a function under `@triton.jit`.
        signature: Triton's types by argument.
        constexprs: values of the others.
        capability: 90 for sm_90.
        options: of the compiler.

    Raises:
        UnsupportedError: Triton cannot lower it, warps have different work, or a layout is not known.
    """
    source, target = _source(fn, signature, constexprs), _target(capability)
    try:
        lowering = _Lowering(target, options)
        ttir = lowering.of_source(source)
        text = str(ttir)
        module = lowering.with_layouts(ttir)
        pipelined = str(module)
        shared = lowering.shared_bytes(module, capability)
        plain = str(_Lowering(target, {**options, "num_stages": 1}).with_layouts(_one_stage(text)))
    except Exception as error:
        raise UnsupportedError(f"Triton kernel {fn.__name__}: not lowered for sm_{capability}: {reason(fn, error)}") from error
    alike(fn.__name__, pipelined)
    warps = int(lowering.options.num_warps)
    most = min(options.get("maxnreg") or MOST_REGISTERS, MOST_REGISTERS)
    registers, words = estimated_registers(pipelined, warps, most)
    return Compiled(plain, pipelined, shared, registers, 4 * words, 4 * words, 32 * warps, estimated=True)


def alike(name: str, pipelined: str) -> None:
    """Refuse warps with work of their own, naming the first line of it.

    Raises:
        UnsupportedError: there are such.
    """
    at = pipelined.find("ttg.warp_specialize(")
    if at >= 0:
        first = re.search(r"loc\((#loc\d*)\)", pipelined[at:])
        where = parse_lines(pipelined, ()).location(first.group(1) if first else "")
        raise UnsupportedError(f"Triton kernel {name}: {where} (ttg.warp_specialize): warps with different work; "
                               "expected loops without warp_specialize=True")  # fmt: skip


def _source(fn: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any]) -> Any:
    from triton.compiler import ASTSource

    types, divisors = parsed_signature(fn, signature, constexprs)
    attributes = {(n,): [["tt.divisibility", DIVISOR]] for n, a in enumerate(types) if divisors.get(a) == DIVISOR}
    return ASTSource(fn, types, dict(constexprs), attributes)


def _target(capability: int) -> Any:
    from triton.backends.compiler import GPUTarget

    return GPUTarget("cuda", capability, 32)


def _one_stage(ttir: str) -> str:
    """A module before layouts, its own stages taken out, and with the loops that were written: `flatten=True` makes two one."""
    text = re.sub(r"tt\.num_stages = \d+ : i32", "tt.num_stages = 1 : i32", ttir)
    return re.sub(r"tt\.flatten(?:, )?|, tt\.flatten(?=})", "", text)


class _Lowering:
    """Triton's compiler for a target and options, one step at a time."""

    def __init__(self, target: Any, options: Mapping[str, Any]) -> None:
        from triton._C.libtriton import ir
        from triton.backends.compiler import Language
        from triton.compiler.compiler import make_backend

        self.target, self.backend = target, make_backend(target)
        self.options = self.backend.parse_options(dict(options))
        self.context = ir.context()
        ir.load_dialects(self.context)
        self.backend.load_dialects(self.context)
        self.stages: dict[str, Any] = {}
        self.backend.add_stages(self.stages, self.options, Language.TRITON)
        self.metadata = {"target": target, **self.options.__dict__}

    def of_source(self, source: Any) -> Any:
        """The module before layouts."""
        functions, libraries = self.backend.get_codegen_implementation(self.options), self.backend.get_module_map()
        module = source.make_ir(self.target, self.options, functions, libraries, self.context)
        return self.stages["ttir"](module, self.metadata)

    def with_layouts(self, ttir: Any) -> Any:
        """The module with layouts, from the one without, or its text."""
        from triton._C.libtriton import ir

        module = ttir
        if isinstance(ttir, str):
            with tempfile.NamedTemporaryFile("w", suffix=".ttir") as file:
                file.write(ttir)
                file.flush()
                module = ir.parse_mlir_module(file.name, self.context)
            module.context = self.context
        return self.stages["ttgir"](module, self.metadata)

    def shared_bytes(self, module: Any, capability: int) -> int:
        """Of a block, by the compiler's allocation; the module with layouts is changed."""
        from triton._C.libtriton import ir, nvidia, passes
        from triton.backends.nvidia.compiler import get_ptx_version_from_options

        manager = ir.pass_manager(self.context)
        version = get_ptx_version_from_options(self.options, capability)
        passes.ttgpuir.add_combine_tensor_select_and_if(manager)
        passes.ttgpuir.add_allocate_warp_groups(manager)
        passes.convert.add_scf_to_cf(manager)
        passes.gluon.add_inliner(manager)
        nvidia.passes.ttgpuir.add_allocate_shared_memory_nv(manager, capability, version)
        manager.run(module, "allocate_shared_memory")
        return int(module.get_int_attr("ttg.shared"))


def _tool(name: str) -> str:
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    if not path.exists():
        raise UnsupportedError(f"{path}: not found; expected Triton's wheel with its NVIDIA tools")
    return str(path)


def _used(cubin: bytes, name: str) -> tuple[int, int]:
    """Registers and stack bytes of a thread."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [_tool("cuobjdump"), "--dump-resource-usage", file.name], capture_output=True, text=True, check=False
        )
    found = re.search(rf"Function {re.escape(name)}:\s*REG:(\d+) STACK:(\d+)", text.stdout)
    if found is None:
        raise UnsupportedError(f"Triton kernel {name}: cuobjdump gives no registers: {(text.stdout + text.stderr)[:200]!r}")
    return int(found.group(1)), int(found.group(2))


def _spilled(ptx: str, capability: int) -> int:
    """Bytes that a thread stores to local memory, from the assembler that Triton takes for this target."""
    from triton.backends.nvidia.compiler import get_ptxas

    suffix = "a" if capability >= 90 else ""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [
            get_ptxas(capability).path,
            "-v",
            f"--gpu-name=sm_{capability}{suffix}",
            str(source),
            "-o",
            str(source.with_suffix(".cubin")),
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) bytes spill stores", text.stderr + text.stdout)
    if found is None:
        raise UnsupportedError(f"{command[0]}: expected the bytes that spill, got {(text.stderr + text.stdout)[:200]!r}")
    return int(found.group(1))
