"""What a kernel's arguments are: sizes, pointers, and descriptors made on the host, which bring extents and strides along."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.module_text import Module, tensor_type
from costmodel.frontends.triton.polynomials import ONE, ZERO, Polynomial
from costmodel.frontends.triton.values import Descriptor, Opaque, Pointer, Value

__all__ = ["argument_values", "descriptor_sizes", "element_types", "named", "size_names"]


def descriptor_sizes(name: str, rank: int) -> tuple[str, ...]:
    """The sizes that a host's descriptor of so many dimensions has: extents, and all strides but the last, which is 1."""
    return (*(f"{name}_shape_{d}" for d in range(rank)), *(f"{name}_stride_{d}" for d in range(rank - 1)))


def named(module: Module, names: Sequence[str]) -> Module:
    """The module with the function's names of its arguments: a value that is assigned to another name is printed under that."""
    groups = [[a] for a in module.arguments]
    if len(groups) != len(names):
        groups = [list(g) for _, g in itertools.groupby(module.arguments, key=_argument)]
    if len(groups) != len(names):
        return module
    renamed = ((printed, kind, n) for n, group in zip(names, groups, strict=True) for printed, kind, _ in group)
    return replace(module, arguments=tuple(renamed))


def _argument(part: tuple[str, str, str]) -> str:
    """The argument that a value belongs to: a descriptor is several."""
    return part[2].split(".")[0]


def argument_values(module: Module) -> dict[str, Value]:
    """The value of each argument, by its name in the module.

    Raises:
        UnsupportedError: a descriptor is made up of something else than extents and strides.
    """
    values: dict[str, Value] = {}
    for name, group in itertools.groupby(module.arguments, key=_argument):
        (printed, kind, _), *parts = group
        if not parts:
            values[f"%{printed}"] = _plain(name, kind)
            continue
        kinds = [p[1] for p in parts]
        plain = [k for k in kinds if k != "i1"]
        rank = len(tensor_type(kind).shape) or len(plain) // 4
        extents, strides = _extents_and_strides(name, rank)
        if kind.startswith("!tt.tensordesc") and kinds == ["i32"] * rank + ["i64"] * rank:
            values[f"%{printed}"] = Descriptor(name, ZERO, extents, strides)
            known: list[Value] = [*extents, *strides]
        elif kind.startswith("!tt.ptr") and plain == ["i64"] * 2 * rank + ["i32"] * rank + ["i64"] * rank:
            values[f"%{printed}"] = Pointer(name, ZERO)
            flags = [Opaque("how the descriptor pads and rounds")] * kinds.count("i1")
            known = [*extents, *strides, *flags, *extents, *strides]
        else:
            raise UnsupportedError(f"Triton kernel {module.name}: argument {name}: a descriptor made up of {', '.join(kinds)}")
        values |= {f"%{p[0]}": v for p, v in zip(parts, known, strict=True)}
    return values


def _extents_and_strides(name: str, rank: int) -> tuple[tuple[Polynomial, ...], tuple[Polynomial, ...]]:
    sizes = [Polynomial.of(n) for n in descriptor_sizes(name, rank)]
    return tuple(sizes[:rank]), (*sizes[rank:], ONE)


def _plain(name: str, kind: str) -> Value:
    if kind.startswith("!tt.ptr"):
        return Pointer(name, ZERO)
    if re.match(r"^i(8|16|32|64)$", kind):
        return Polynomial.of(name)
    return Opaque(f"the argument {name}")


def size_names(values: dict[str, Value]) -> list[str]:
    """The sizes among them, in order."""
    return list(dict.fromkeys(a for v in values.values() if isinstance(v, Polynomial) for a in v.atoms()))


def element_types(module: Module) -> dict[str, str]:
    """The element of each array, by the argument's name."""
    found: dict[str, str] = {}
    for _, kind, name in module.arguments:
        if kind.startswith("!tt.tensordesc"):
            found[name] = tensor_type(kind).element
        elif kind.startswith("!tt.ptr"):
            found[name] = kind.removeprefix("!tt.ptr<").split(">")[0].split(",")[0]
    return found
