"""Reading tinygrad's operations: names, types, structure, and which of them only compute addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from costmodel.dtypes import DType, bf16, f8, f16, f32, f64, i8, i16, i32, i64
from costmodel.errors import UnsupportedError

__all__ = ["Block", "addresses", "array_of", "dtype_of", "name_of", "tree"]

_DTYPES = {
    "float": f32, "half": f16, "__bf16": bf16, "double": f64, "bool": i8, "signed char": i8, "unsigned char": i8, "short": i16,
    "unsigned short": i16, "int": i32, "unsigned int": i32, "long": i64, "unsigned long": i64, "float8_e4m3": f8,
    "float8_e5m2": f8, "float8_e4m3fnuz": f8, "float8_e5m2fnuz": f8,
}  # fmt: skip


@dataclass(slots=True)
class Block:
    """Operations between an opening and its end."""

    opened_by: Any
    parts: list[Any] = field(default_factory=list)
    """Operations, and blocks within."""


def tree(uops: Sequence[Any]) -> Block:
    """The list with each loop and branch as a block."""
    stack = [Block(None)]
    for u in uops:
        if name_of(u) in ("RANGE", "IF"):
            block = Block(u)
            stack[-1].parts.append(block)
            stack.append(block)
        elif name_of(u) in ("END", "ENDIF"):
            stack.pop()
        else:
            stack[-1].parts.append(u)
    return stack[0]


def addresses(uops: Sequence[Any]) -> set[Any]:
    """Operations that only compute addresses, extents and conditions: costs of accesses, not of the algorithm."""
    found: set[Any] = set()
    waiting = [
        s
        for u in uops
        if name_of(u) in ("INDEX", "SHRINK") and name_of(array_of(u.src[0])) in ("PARAM", "BUFFER")
        for s in u.src[1:]
    ]
    waiting += [s for u in uops if name_of(u) in ("RANGE", "SPECIAL", "IF") for s in u.src[:1]]
    waiting += [u.src[2] for u in uops if name_of(u) in ("LOAD", "STORE") and len(u.src) > 2]
    while waiting:
        u = waiting.pop()
        if u not in found and name_of(u) not in ("LOAD", "RANGE", "SPECIAL"):
            found.add(u)
            waiting += u.src
    return found


def array_of(u: Any) -> Any:
    """What an address points into."""
    while name_of(u) == "AFTER":
        u = u.src[0]
    return u


def name_of(u: Any) -> str:
    """Of the operation, such as `ADD`."""
    name: str = u.op.name
    return name


def dtype_of(u: Any) -> DType:
    """Type of one element.

    Raises:
        UnsupportedError: there is none of ours.
    """
    name = u.dtype.scalar().name if hasattr(u.dtype, "scalar") else u.dtype.name
    if name in _DTYPES:
        return _DTYPES[name]
    raise UnsupportedError(f"tinygrad: dtype {name!r} of {name_of(u)} is not understood; known: {', '.join(_DTYPES)}")
