"""The Triton code that Helion generates for a configuration, compiled and read: registers, spills and shared bytes are exact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from costmodel.device import Device
from costmodel.errors import UnsupportedError
from costmodel.frontends.triton import TritonKernel, from_triton

__all__ = ["from_helion_code"]

_POINTERS = {
    "float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float8_e4m3fn": "fp8e4nv",
    "float8_e5m2": "fp8e5", "int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8", "uint8": "u8", "bool": "i1",
}  # fmt: skip


def from_helion_code(
    bound: Any,
    config: Mapping[str, Any] | Any,
    arguments: tuple[Any, ...],
    *,
    target: str | Device = "sm_90",
    cache: Path | str | bool = True,
) -> TritonKernel:
    """Generate the code for a configuration, compile it without a GPU, and read what it does.

    Args:
        bound: `kernel.bind(arguments)`.
        config: Helion's.
        arguments: what the kernel is called with, tensors of the CPU: the host's part of the code runs, the launch does not.
        target: `"sm_90"`, or a device or its name.
        cache: folder of analysed kernels; True for the user's, False for none.

    Returns:
        The kernel; integers among its arguments are its sizes.

    Raises:
        UnsupportedError: something in the code is not understood, or it launches several kernels.
    """
    launches: list[tuple[Any, Any, tuple[Any, ...], dict[str, Any]]] = []

    def launcher(fn: Any, grid: Any, *given: Any, **options: Any) -> None:
        launches.append((fn, grid, given, options))

    bound.compile_config(config, allow_print=False)(*arguments, _launcher=launcher)
    if len(launches) != 1:
        raise UnsupportedError(f"Helion kernel {bound.kernel.name}: {len(launches)} launches; expected one")
    fn, grid, given, options = launches[0]
    constants = {p.name: v for p, v in zip(fn.params, given, strict=True) if p.is_constexpr}
    signature = {p.name: _type(bound, p.name, v) for p, v in zip(fn.params, given, strict=True) if not p.is_constexpr}
    return from_triton(fn, signature, constants, grid, target=target, cache=cache, **options)


def _type(bound: Any, name: str, value: Any) -> str:
    """Triton's type of an argument."""
    if isinstance(value, float):
        return "fp32"
    if isinstance(value, int):
        return "i32:16" if value % 16 == 0 else "i32"
    dtype = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    if dtype not in _POINTERS:
        expected = ", ".join(_POINTERS)
        raise UnsupportedError(f"Helion kernel {bound.kernel.name}: argument {name} is {dtype}; expected numbers or {expected}")
    return f"*{_POINTERS[dtype]}"
