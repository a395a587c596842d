"""Element types: a name, a width in bytes, and the arithmetic they belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DTYPES", "DType", "bf16", "f8", "f16", "f32", "f64", "i8", "i16", "i32", "i64", "tf32"]


@dataclass(frozen=True, slots=True)
class DType:
    """An element type."""

    name: str
    itemsize: int
    """Bytes of one element in memory."""
    kind: Literal["float", "integer"]

    def __repr__(self) -> str:
        return self.name


f64 = DType("f64", 8, "float")
f32 = DType("f32", 4, "float")
tf32 = DType("tf32", 4, "float")
f16 = DType("f16", 2, "float")
bf16 = DType("bf16", 2, "float")
f8 = DType("f8", 1, "float")
i64 = DType("i64", 8, "integer")
i32 = DType("i32", 4, "integer")
i16 = DType("i16", 2, "integer")
i8 = DType("i8", 1, "integer")

DTYPES: dict[str, DType] = {t.name: t for t in (f64, f32, tf32, f16, bf16, f8, i64, i32, i16, i8)}
"""Every dtype by its name."""
