"""Instructions of a listing, PTX or SASS, by what they do and how many bits they move."""

from __future__ import annotations

import re
from collections import Counter

__all__ = ["counted_ptx", "counted_sass"]

_PTX_MEMORY = re.compile(
    r"\b(ld|st)(?:\.\w+)*?\.(global|shared|local)(?:\.(?!v[24]\b)[a-zA-Z_]\w*)*?(?:\.v([24]))?\.[a-z]+(\d+)\s"
)
_PTX_ARITHMETIC = re.compile(r"\b(fma|add|mul|sub|ex2|sqrt)(?:\.(?:rn|approx|ftz|rz|lo|wide|sat))*\.(f64|f32|f16|bf16)\s")
_SASS = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+|@!?U?PT\s+)?([A-Z0-9_]+)((?:\.[A-Za-z0-9_]+)*)")
_SASS_MEMORY = {
    "LDG": "load global", "STG": "store global", "LDS": "load shared", "STS": "store shared",
    "LDL": "load local", "STL": "store local",
}  # fmt: skip
_SASS_ARITHMETIC = {
    "FFMA": "fma f32", "FADD": "add f32", "FMUL": "add f32", "DFMA": "fma f64", "DADD": "add f64", "DMUL": "add f64",
    "BAR": "barrier", "MUFU": "special",
}  # fmt: skip
_SASS_BITS = {"128": 128, "64": 64, "U16": 16, "S16": 16, "U8": 8, "S8": 8}
_KINDS = {"fma": "fma", "add": "add", "mul": "add", "sub": "add", "ex2": "special", "sqrt": "special"}


def counted_ptx(text: str) -> Counter[str]:
    """Count the instructions of PTX.

    Example:
        >>> counted_ptx("ld.global.nc.v4.f32 {a, b, c, d}, [x];")
        Counter({'load global 128': 1})
    """
    found: Counter[str] = Counter()
    for line in text.splitlines():
        memory, arithmetic = _PTX_MEMORY.search(line), _PTX_ARITHMETIC.search(line)
        if memory:
            way, space, vector, bits = memory.groups()
            found[f"{'load' if way == 'ld' else 'store'} {space} {int(vector or 1) * int(bits)}"] += 1
        elif arithmetic:
            kind = _KINDS[arithmetic.group(1)]
            found["special" if kind == "special" else f"{kind} {arithmetic.group(2)}"] += 1
        elif re.search(r"\bbar(rier)?\.", line):
            found["barrier"] += 1
    return found


def counted_sass(text: str) -> Counter[str]:
    """Count the instructions of `cuobjdump -sass`.

    Example:
        >>> counted_sass("        /*0080*/                   LDG.E.128.CONSTANT R4, [R2] ;")
        Counter({'load global 128': 1})
    """
    found: Counter[str] = Counter()
    for line in text.splitlines():
        matched = _SASS.match(line)
        if not matched:
            continue
        name, modifiers = matched.group(1), matched.group(2).split(".")[1:]
        if name in _SASS_MEMORY:
            bits = next((_SASS_BITS[m] for m in modifiers if m in _SASS_BITS), 32)
            found[f"{_SASS_MEMORY[name]} {bits}"] += 1
        elif name in _SASS_ARITHMETIC:
            found[_SASS_ARITHMETIC[name]] += 1
        elif name == "NOP":
            continue
        else:
            found["other"] += 1
    return found
