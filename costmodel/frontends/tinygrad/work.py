"""Operations of the algorithm in tinygrad's programs, by kind and type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from costmodel.dtypes import DType
from costmodel.errors import UnsupportedError
from costmodel.frontends.tinygrad.uops import dtype_of, name_of

__all__ = ["work_of"]

_SPECIAL = {"EXP2", "LOG2", "SIN", "SQRT", "RECIPROCAL", "FDIV"}
_PLAIN = {"ADD", "SUB", "MUL", "MAX", "NEG", "CMPLT", "CMPEQ", "CMPNE", "WHERE", "TRUNC"}
_INTEGER = _PLAIN | {"SHL", "SHR", "AND", "OR", "XOR", "IDIV", "MOD", "CDIV", "CMOD", "FLOORDIV", "FLOORMOD"}
_SILENT = {"CONST", "CAST", "BITCAST", "PARAM", "BUFFER", "SPECIAL", "INDEX", "SHRINK", "AFTER", "STACK", "GROUP", "SINK", "NOOP"}


def work_of(uops: Sequence[Any], consumers: Mapping[Any, int], addresses: Collection[Any]) -> dict[tuple[str, DType], int]:
    """Operations of a thread, by kind and type; a multiplication that only an addition needs is one FMA.

    Args:
        uops: operations without a loop between them.
        consumers: of each operation of the program, how many need it.
        addresses: operations that only compute addresses.

    Raises:
        UnsupportedError: an operation that is not understood.
    """
    found: Counter[tuple[str, DType]] = Counter()
    fused = set()
    for u in uops:
        product = next((s for s in u.src if name_of(s) == "MUL" and consumers[s] == 1), None) if name_of(u) == "ADD" else None
        if product is not None and dtype_of(u).kind == "float":
            fused.add(product)
            found["fma", dtype_of(u)] += 1
            found["add", dtype_of(u)] -= 1
    for u in uops:
        op = name_of(u)
        if u in addresses or op in ("LOAD", "STORE", "IF", "ENDIF") or u in fused:
            continue
        dtype = dtype_of(u.src[0] if op in ("CMPLT", "CMPEQ", "CMPNE") else u) if op not in _SILENT else None
        if op == "CAST" and name_of(u.src[0]) != "CONST":
            found["convert", dtype_of(u)] += 1
        elif op == "MULACC":
            found["fma", dtype_of(u)] += 1
        elif dtype and dtype.kind == "float" and op in _SPECIAL | _PLAIN:
            found["special" if op in _SPECIAL else "add", dtype] += 1
        elif dtype and dtype.kind == "integer" and op in _INTEGER:
            found["integer", dtype] += 1
        elif op not in _SILENT:
            raise UnsupportedError(f"tinygrad: {op} on {u.dtype} is not understood")
    return {key: n for key, n in found.items() if n}
