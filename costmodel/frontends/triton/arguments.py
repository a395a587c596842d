"""What a kernel's arguments are: sizes, pointers, and descriptors made on the host, which bring extents and strides along."""

from __future__ import annotations

import re

from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.module_text import Module, tensor_type
from costmodel.frontends.triton.polynomials import ONE, ZERO, Polynomial
from costmodel.frontends.triton.values import Descriptor, Opaque, Pointer, Value

__all__ = ["argument_values", "descriptor_sizes", "element_types", "size_names"]


def descriptor_sizes(name: str, rank: int) -> tuple[str, ...]:
    """The sizes that a host's descriptor of so many dimensions has: extents, and all strides but the last, which is 1."""
    return (*(f"{name}_shape_{d}" for d in range(rank)), *(f"{name}_stride_{d}" for d in range(rank - 1)))


def argument_values(module: Module) -> dict[str, Value]:
    """The value of each argument, by its name in the module.

    Raises:
        UnsupportedError: a descriptor's extents and strides do not follow it.
    """
    values: dict[str, Value] = {}
    left = list(module.arguments)
    while left:
        name, kind, _ = left.pop(0)
        if not kind.startswith("!tt.tensordesc"):
            values[f"%{name}"] = _plain(name, kind)
            continue
        rank = len(tensor_type(kind).shape)
        parts, left = left[: 2 * rank], left[2 * rank :]
        if [p[1] for p in parts] != ["i32"] * rank + ["i64"] * rank:
            raise UnsupportedError(
                f"Triton kernel {module.name}: descriptor {name}: expected {rank} extents and strides after it"
            )
        known = [*(Polynomial.of(n) for n in descriptor_sizes(name, rank)), ONE]
        values |= {f"%{p[0]}": v for p, v in zip(parts, known, strict=True)}
        values[f"%{name}"] = Descriptor(name, ZERO, tuple(known[:rank]), tuple(known[rank:]))
    return values


def _plain(name: str, kind: str) -> Value:
    if kind.startswith("!tt.ptr"):
        return Pointer(name, ZERO)
    if re.match(r"^i(8|16|32|64)$", kind):
        return Polynomial.of(name)
    return Opaque(f"the argument {name}")


def size_names(values: dict[str, Value]) -> list[str]:
    """The sizes among them, in order."""
    return [next(iter(v.atoms())) for v in values.values() if isinstance(v, Polynomial) and v.number is None]


def element_types(module: Module) -> dict[str, str]:
    """The element of each array, by the argument's name."""
    found: dict[str, str] = {}
    for name, kind, _ in module.arguments:
        if kind.startswith("!tt.tensordesc"):
            found[name] = tensor_type(kind).element
        elif kind.startswith("!tt.ptr"):
            found[name] = kind.removeprefix("!tt.ptr<").split(">")[0].split(",")[0]
    return found
