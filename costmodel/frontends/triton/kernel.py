"""`from_triton`: a function under `@triton.jit`, one configuration of it, as a kernel that can be counted and priced."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import sympy

from costmodel.cost import Cost, checked_sizes, estimate
from costmodel.counts import traffic
from costmodel.device import Device, find_device
from costmodel.errors import DescriptionError, SizeError, UnsupportedError
from costmodel.frontends.triton.analysis import analysed
from costmodel.frontends.triton.arguments import descriptor_sizes
from costmodel.frontends.triton.cache import default_folder, keep, kept, key_of
from costmodel.frontends.triton.compiling import Compiled, compiled, compute_capability, lowered, parsed_signature
from costmodel.ir import Divisibility, Expr, Kernel, packed, unpacked
from costmodel.symbols import compile_program, size

__all__ = ["Grid", "Resources", "TritonKernel", "extents_of", "from_triton", "jitted"]

Grid = Sequence[Any] | Callable[[Mapping[str, Any]], Sequence[Any]]
"""Extents of the grid, or a function from all arguments by name, sizes as symbols, to them."""
Resources = Literal["compiled", "estimated"]
"""Where registers and spills come from: from machine code, or from what lives together before there is any (`pressure`)."""


@dataclass(frozen=True, slots=True)
class TritonKernel:
    """One configuration of a Triton kernel: what it does, and what the compiler made of it."""

    kernel: Kernel
    """With runtime integers as its sizes; shared bytes are the compiler's."""
    capability: int
    """Of the target: 90 for sm_90."""
    registers: int
    """Of a thread."""
    spilled_bytes: int
    """Of a thread, stored to local memory."""
    shared_bytes: int
    """Of a block."""
    replicas: tuple[tuple[str, int], ...]
    """Threads that load the same element, by statement, where they are several."""
    notes: tuple[str, ...]
    """Where the description says something else than the kernel, and what."""
    resources: Resources = "compiled"
    """Whether registers and spills are the compiler's or estimated."""
    source: str = ""
    """File and line of the function."""
    scalars: tuple[str, ...] = ()
    """Arguments on which nothing that is counted depends, as seeds and scales: any value may be given, or none."""

    def requested_bytes(self, **sizes: int) -> int:
        """Bytes of the elements that the kernel loads and stores in global memory, each once for the whole tensor it is in.

        Args:
            sizes: every runtime integer argument.

        Raises:
            SizeError: a size is missing, unknown, out of range, or not the multiple of 16 that its type says.
        """
        sizes = checked_sizes(self.kernel, self._sizes(sizes))
        times = dict(self.replicas)
        with _at_these_sizes():
            flows = [f for f in traffic(self.kernel) if {f.source, f.target} == {"register", "l1"}]
            values = compile_program([sympy.sympify(f.requested_bytes) for f in flows])(sizes)
        return sum(int(value) // times.get(f.statement, 1) for f, value in zip(flows, values, strict=True))

    @property
    def told(self) -> dict[str, Any]:
        """Registers and spilled words of a thread, as options of `estimate`, `Scorer` and the adapters."""
        return {"registers": self.registers, "spilled": self.spilled_bytes / 4}

    def estimate(self, device: Device | str, **sizes: int) -> Cost:
        """Predict the time of one launch, with these registers and spills.

        Raises:
            SizeError: a size is missing, unknown or out of range, or code for this target does not run on the device.
        """
        found = device if isinstance(device, Device) else find_device(device)
        self._check(found)
        with _at_these_sizes():
            cost = estimate(self.kernel, found, **self.told, **self._sizes(sizes))
        where = f"{self.source}, " if self.source else ""
        made = "compiled" if self.resources == "compiled" else "lowered"
        title = f"{cost.kernel} ({where}{made} for sm_{self.capability})"
        known = self.resources == "compiled"
        return replace(cost, kernel=title, registers_known=known, warnings=(*cost.warnings, *self.notes))

    def _sizes(self, given: dict[str, int]) -> dict[str, int]:
        """What is given, without scalars; sizes begin at 1, and what the kernel decides may rest on that."""
        for name in self.kernel.params:
            if name in given and given[name] == 0:
                raise SizeError(
                    f"Triton kernel {self.kernel.name}: {name}=0: sizes are at least 1; convert launches in which one is 0 with "
                    f"it as a constant: leave {name!r} out of the signature, and add {name!r}: 0 to the constexprs"
                )
        return {n: v for n, v in given.items() if n not in self.scalars}

    def _check(self, device: Device) -> None:
        """Refuse a device that the code does not run on: of an older generation, or another one from sm_90 on.

        Source: Triton, `backends/nvidia/compiler.py` (`sm_arch_from_capability`): from 90 on the target is `sm_90a`, whose
        instructions other generations do not have (PTX ISA, `.target`).
        """
        try:
            there = compute_capability(device)
        except DescriptionError:
            there = 0
        if there == self.capability or (self.capability < 90 and there > self.capability):
            return
        which = f"sm_{there}" if there else f"{device.architecture}"
        raise SizeError(
            f"{self.kernel.name} was compiled for sm_{self.capability} and cannot run on {device.name} ({which}); "
            + (f"convert it with from_triton(…, target={device.name!r})" if there else "expected an NVIDIA device")
        )


@contextlib.contextmanager
def _at_these_sizes() -> Iterator[None]:
    """Errors of counting in terms of the launch: the advice on descriptions is no use for a compiled kernel."""
    try:
        yield
    except UnsupportedError as error:
        why, _, advice = str(error).partition("; ")
        if "k.when" not in advice:
            raise
        raise UnsupportedError(f"Triton {why}; give smaller sizes, or larger blocks") from error


def from_triton(
    fn: Any,
    signature: Mapping[str, str],
    constexprs: Mapping[str, Any],
    grid: Grid,
    *,
    target: str | Device = "sm_90",
    cache: Path | str | bool = True,
    resources: Resources = "compiled",
    **options: Any,
) -> TritonKernel:
    """Compile one configuration without a GPU, and read what it does.

    Args:
        fn: a function under `@triton.jit`.
        signature: Triton's types by argument name, `"*fp32"`, `"i32"`; `"i32:16"` says that only multiples of 16 are passed,
            which Triton specialises for. Integers on which counts depend become the kernel's sizes, from 1 on. Pointers are
            multiples of 16 bytes, unless `":1"`.
            A descriptor `d` made on the host, `"tensordesc<fp16[64, 32]>"`, has sizes `d_shape_0`, `d_shape_1`, `d_stride_0`.
        constexprs: values of all other arguments, 1 for strides that are 1, 0 for arguments that are 0.
        grid: extents, or a function from all arguments by name to them, as in a launch.
        target: `"sm_90"`, or a device or its name.
        cache: folder of analysed kernels; True for the user's, False for none.
        resources: `"compiled"`, or `"estimated"`, which stops before machine code: tens of milliseconds, even where
            a compiler spills for minutes. Registers are off by 7 to 17 (rms) in products and attentions (`pressure`), all else is
            the same.
        options: of Triton's compiler: `num_warps`, `num_stages`, `num_ctas`, `maxnreg`.

    Raises:
        DescriptionError: an argument is missing or unknown, or `resources` is neither.
        UnsupportedError: something in the kernel is not understood; the message names the operation and the source line.
    """
    fn, capability = jitted(fn), compute_capability(target)
    _, divisors = parsed_signature(fn, signature, constexprs)
    extents = extents_of(fn.__name__, grid, signature, constexprs)
    folder = None if cache is False else default_folder() if cache is True else Path(cache)
    if resources not in get_args(Resources):
        raise DescriptionError(f"Triton kernel {fn.__name__}: resources={resources!r}: expected 'compiled' or 'estimated'")
    estimated = resources == "estimated"
    key = key_of(fn, signature, constexprs, extents, capability, {**options, "resources": resources} if estimated else options)
    known = _MEMORY.get(key) if folder is not None else None
    if known is None and folder is not None:
        known = _read(kept(folder, key))
        known = known and replace(known, resources=resources)
    if known is None:
        result = (lowered if estimated else compiled)(fn, signature, constexprs, capability, options)
        known = described(result, fn.__name__, extents, divisors, constexprs, capability)
        arguments = (n for n, kind in signature.items() if not kind.startswith(("*", "tensordesc")))
        known = replace(known, scalars=tuple(n for n in arguments if n not in known.kernel.params))
        if folder is not None:
            keep(folder, key, _written(known))
    if folder is not None:
        _MEMORY[key] = known
        while len(_MEMORY) > _MOST_IN_MEMORY:
            _MEMORY.pop(next(iter(_MEMORY)))
    return known


def jitted(fn: Any) -> Any:
    """The function under `@triton.jit`, without what tunes it.

    Raises:
        DescriptionError: it is none.
    """
    while hasattr(fn, "fn") and hasattr(fn.fn, "arg_names"):
        fn = fn.fn
    if not hasattr(fn, "arg_names") or not hasattr(fn, "cache_key"):
        raise DescriptionError(f"{getattr(fn, '__name__', fn)!r}: expected a function under @triton.jit, got {type(fn).__name__}")
    return fn


_MEMORY: dict[str, TritonKernel] = {}
_MOST_IN_MEMORY = 1024


def described(
    result: Compiled,
    name: str,
    grid: tuple[sympy.Expr, ...],
    divisors: Mapping[str, int],
    constexprs: Mapping[str, Any],
    capability: int,
) -> TritonKernel:
    """What a compiled configuration does."""
    kernel, replicas, notes = analysed(result, name, grid, divisors, constexprs)
    return TritonKernel(
        kernel, capability, result.registers, result.spilled_bytes, result.shared_bytes, tuple(replicas.items()), notes,
        "estimated" if result.estimated else "compiled", _place(result.plain),
    )  # fmt: skip


def _place(module: str) -> str:
    """File and line of a module's function, from its table of locations."""
    found = re.search(r'^#loc = loc\("([^"]*)":(\d+)', module, re.MULTILINE)
    return f"{Path(found.group(1)).name}:{found.group(2)}" if found else ""


_NUMBERS = ("capability", "registers", "spilled_bytes", "shared_bytes")


def _written(k: TritonKernel) -> dict[str, Any]:
    numbers = {n: getattr(k, n) for n in _NUMBERS}
    return {
        "kernel": packed(k.kernel),
        **numbers,
        "replicas": [list(r) for r in k.replicas],
        "notes": list(k.notes),
        "source": k.source,
        "scalars": list(k.scalars),
    }


def _read(document: Mapping[str, Any] | None) -> TritonKernel | None:
    """What was written; None where it cannot be read."""
    if document is None:
        return None
    try:
        capability, registers, spilled, shared = (int(document[n]) for n in _NUMBERS)
        replicas = tuple((str(n), int(r)) for n, r in document["replicas"])
        notes = tuple(str(n) for n in document["notes"])
        source, scalars = str(document["source"]), tuple(str(n) for n in document["scalars"])
        made = unpacked(document["kernel"])
        return TritonKernel(made, capability, registers, spilled, shared, replicas, notes, source=source, scalars=scalars)
    except (LookupError, TypeError, ValueError):
        return None


def extents_of(name: str, grid: Grid, signature: Mapping[str, str], constexprs: Mapping[str, Any]) -> tuple[sympy.Expr, ...]:
    """The grid's extents over sizes."""
    facts = Divisibility()
    names = [n for n, kind in signature.items() if not kind.startswith(("*", "tensordesc"))]
    for argument, kind in signature.items():
        if kind.startswith("tensordesc"):
            names += descriptor_sizes(argument, kind.count(",") + 1)
    sizes = {n: Expr(size(n), facts) for n in names}
    try:
        given = grid({**dict.fromkeys(signature), **sizes, **constexprs}) if callable(grid) else grid
    except DescriptionError as error:
        hint = "write costmodel.ir.minimum(a, b) for min(a, b)"
        raise DescriptionError(f"Triton kernel {name}: grid: sizes are symbols here; {hint} ({error})") from None
    items = tuple(given) if isinstance(given, tuple | list) else (given,)
    if not 1 <= len(items) <= 3:
        raise DescriptionError(f"Triton kernel {name}: a grid of {len(items)} extents; expected one to three")
    found = []
    for item in items:
        if isinstance(item, sympy.Expr):
            found.append(item)
            continue
        if isinstance(item, bool) or not isinstance(item, int | Expr):
            raise DescriptionError(
                f"Triton kernel {name}: grid extent {item!r}: expected a whole number or an expression of sizes"
            )
        found.append(item.expression if isinstance(item, Expr) else sympy.Integer(item))
    return tuple(found)
