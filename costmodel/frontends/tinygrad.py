"""tinygrad's programs, as its code generator hands them to a renderer: one statement after the other, loops opened and closed.

`from_program` reads the linear list of a GPU program: `SPECIAL` are block and thread indices, `RANGE … END` loops, `PARAM` global
arrays, `BUFFER` shared and register arrays, `INDEX` and `SHRINK` (a vector) addresses. Loads that differ by a constant are one
unrolled loop; a multiplication that only an addition needs is one FMA. What is not understood is refused by name: addresses that
depend on data, tensor cores, sizes that are not numbers. Source: tinygrad 0.14.0, `codegen/`, `uop/ops.py`, `renderer/cstyle.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from costmodel.dtypes import DType, bf16, f16, f32, f64, i8, i16, i32, i64
from costmodel.errors import UnsupportedError
from costmodel.ir import Kernel, kernel
from costmodel.ir.builder import Builder
from costmodel.ir.expressions import to_sympy

__all__ = ["from_program"]

_DTYPES = {
    "float": f32, "half": f16, "__bf16": bf16, "double": f64, "bool": i8, "char": i8, "unsigned char": i8, "short": i16,
    "unsigned short": i16, "int": i32, "unsigned int": i32, "long": i64, "unsigned long": i64,
}  # fmt: skip
_SPECIAL = {"EXP2", "LOG2", "SIN", "SQRT", "RECIPROCAL", "FDIV"}
_PLAIN = {"ADD", "SUB", "MUL", "MAX", "NEG", "CMPLT", "CMPEQ", "CMPNE", "WHERE", "TRUNC"}
_INTEGER = _PLAIN | {"SHL", "SHR", "AND", "OR", "XOR", "IDIV", "MOD", "CDIV", "CMOD", "FLOORDIV", "FLOORMOD"}
_SILENT = {"CONST", "CAST", "BITCAST", "PARAM", "BUFFER", "SPECIAL", "INDEX", "SHRINK", "AFTER", "STACK", "GROUP", "SINK", "NOOP"}


def from_program(program: Any) -> Kernel:
    """The kernel of a program.

    Args:
        program: `tinygrad.codegen.to_program(ast, renderer)` for a renderer with blocks and threads (`DEV=NULL:OPENCL` has
            them and needs no GPU).

    Raises:
        UnsupportedError: an operation that is not understood, named.
    """
    uops = list(program.src[1].src)
    reader = _Reader(uops)
    made: Kernel = kernel(reader.describe, name=_identifier(program.arg.name)).trace()
    return made


@dataclass(slots=True)
class _Block:
    """Operations between an opening and its end."""

    opened_by: Any
    parts: list[Any] = field(default_factory=list)
    """Operations, and blocks within."""


@dataclass(frozen=True, slots=True)
class _Access:
    """One load or store."""

    array: Any
    """The `PARAM` or `BUFFER`."""
    store: bool
    offset: Any
    width: int
    gate: Any


class _Reader:
    """Describes one program to a builder."""

    def __init__(self, uops: Sequence[Any]) -> None:
        self.uops = uops
        self.consumers = Counter(source for u in uops for source in u.src)
        self.stored = {_array(u.src[0].src[0]) for u in uops if _op(u) == "STORE"}
        self.addresses = _addresses(uops)
        self.k: Builder
        self.arrays: dict[Any, Any] = {}
        self.values: dict[Any, Any] = {}

    def describe(self, k: Builder) -> None:
        """Arrays, the grid, then the body."""
        self.k, self.arrays, self.values = k, {}, {}
        for u in self.uops:
            if _op(u) in ("PARAM", "BUFFER"):
                self.arrays[u] = self._declared(u)
        special = {u.arg: u for u in self.uops if _op(u) == "SPECIAL"}
        for name in special:
            if name[:-1] not in ("gidx", "lidx"):
                raise UnsupportedError(
                    f"tinygrad: index {name}: expected gidx or lidx; render for a device with blocks and threads"
                )
        with ExitStack() as stack:
            for kind, open_ in (("gidx", k.blocks), ("lidx", k.threads)):
                mine = [special.get(f"{kind}{axis}") for axis in range(3)]
                extents = [1 if u is None else self._number(u.src[0]) for u in mine]
                while len(extents) > 1 and mine[len(extents) - 1] is None:
                    extents.pop()
                found = stack.enter_context(open_(*extents))
                for u, index in zip(mine, found if isinstance(found, tuple) else (found,), strict=False):
                    if u is not None:
                        self.values[u] = index
            self._block(_tree(self.uops))

    def _declared(self, u: Any) -> Any:
        size, dtype = self._number(u.src[0]), _dtype(u)
        if _op(u) == "PARAM":
            return self.k.buffer(f"data{u.arg.slot}", (size,), dtype, read_only=u not in self.stored)
        name, space = f"array{len(self.arrays)}", u.arg.addrspace.name
        if space == "LOCAL":
            return self.k.shared(name, (size,), dtype)
        if space == "REG":
            return self.k.register(name, (size,), dtype)
        raise UnsupportedError(f"tinygrad: an array in {space} is not understood; expected LOCAL or REG")

    # -- structure

    def _block(self, block: _Block) -> None:
        straight: list[Any] = []
        for part in block.parts:
            if isinstance(part, _Block) or _op(part) == "BARRIER":
                self._straight(straight)
                straight = []
                self._inner(part)
            else:
                straight.append(part)
        self._straight(straight)

    def _inner(self, part: Any) -> None:
        if not isinstance(part, _Block):
            self.k.barrier()
        elif _op(part.opened_by) == "IF":
            with self.k.when(*self._conditions(part.opened_by.src[0])):
                self._block(part)
        else:
            with self.k.serial(self._number(part.opened_by.src[0])) as index:
                self.values[part.opened_by] = index
                self._block(part)

    def _straight(self, uops: Sequence[Any]) -> None:
        """Operations without a loop or barrier between them: loads, arithmetic with what it accumulates, stores."""
        accesses = [self._access(u) for u in uops if _op(u) in ("LOAD", "STORE")]
        memory = [a for a in accesses if not self._held(a)]
        work = self._work(uops)
        for store in (False, True):
            if store and (work or len(memory) < len(accesses)):
                self._arithmetic(work, [a for a in accesses if self._held(a)])
            for first, offsets in self._alike([a for a in memory if a.store == store]):
                with ExitStack() as stack:
                    if first.gate is not None:
                        stack.enter_context(self.k.when(*self._conditions(first.gate)))
                    index = first.offset
                    for extent, stride in _progressions([o - offsets[0] for o in offsets]) or ():
                        index = index + stride * stack.enter_context(self.k.unrolled(extent))
                    reference = self.arrays[first.array][index].wide(first.width)
                    (self.k.store if store else self.k.load)(reference)

    def _arithmetic(self, work: dict[tuple[str, DType], int], held: Sequence[_Access]) -> None:
        """Operations, spread over the elements of the register array that takes the results."""
        arrays = list(dict.fromkeys(a.array for a in held))
        for array in arrays:
            read = {self._offset(a) for a in held if a.array is array and not a.store}
            written = {self._offset(a) for a in held if a.array is array and a.store}
            elements = sorted(read | written)
            fits = array is arrays[0] and all(n % len(elements) == 0 for n in work.values())
            mine = {key: n // len(elements) for key, n in work.items()} if fits else {}
            work = {} if fits else work
            with self.k.unrolled(len(elements)) as i:
                at = self.arrays[array][i]
                items = [_item(self.k, *key, n) for key, n in mine.items()]
                self.k.do("accumulate" if read else "start", loads=at if read else (), stores=at if written else (), work=items)
        if work:
            self.k.do("arithmetic", work=[_item(self.k, *key, n) for key, n in work.items()])

    # -- accesses

    def _access(self, u: Any) -> _Access:
        pointer = u.src[0]
        if _op(pointer) not in ("INDEX", "SHRINK"):
            raise UnsupportedError(f"tinygrad: {_op(u)} through {_op(pointer)} is not understood; expected INDEX or SHRINK")
        width = self._number(pointer.src[2]) if _op(pointer) == "SHRINK" else 1
        gate = u.src[2] if len(u.src) > 2 else None
        return _Access(_array(pointer.src[0]), _op(u) == "STORE", self._value(pointer.src[1]), width, gate)

    def _held(self, access: _Access) -> bool:
        return _op(access.array) == "BUFFER" and access.array.arg.addrspace.name == "REG"

    def _offset(self, access: _Access) -> int:
        if isinstance(access.offset, int):
            return access.offset
        raise UnsupportedError("tinygrad: a register array with an index that is not a number lies in local memory; unroll it")

    def _alike(self, accesses: Sequence[_Access]) -> Iterator[tuple[_Access, list[int]]]:
        """Accesses that differ by a constant, and the constants, where these are steps of unrolled loops; others alone."""
        found: dict[Any, dict[int, _Access]] = {}
        for access in accesses:
            constant, rest = to_sympy(access.offset).as_coeff_Add()
            found.setdefault((access.array, rest, access.width, access.gate), {})[int(constant)] = access
        for group in found.values():
            offsets = sorted(group)
            if _progressions([o - offsets[0] for o in offsets]) is None:
                yield from ((group[o], [o]) for o in offsets)
            else:
                yield group[offsets[0]], offsets

    # -- values

    def _number(self, u: Any) -> int:
        value = self._value(u)
        if not isinstance(value, int):
            raise UnsupportedError(f"tinygrad: a size {value} that is not a number; bind the variable before compiling")
        return value

    def _value(self, u: Any) -> Any:
        """An integer, or an expression of indices."""
        if u not in self.values:
            self.values[u] = self._computed(u)
        return self.values[u]

    def _computed(self, u: Any) -> Any:
        op = _op(u)
        if op == "CONST":
            return int(u.arg)
        if op in ("CAST", "AFTER"):
            return self._value(u.src[0])
        if op in _ARITHMETIC:
            return _ARITHMETIC[op](*(self._value(s) for s in u.src))
        raise UnsupportedError(f"tinygrad: an address depends on {op}, which is not understood; only indices and numbers are")

    def _conditions(self, u: Any) -> list[Any]:
        op = _op(u)
        if op == "AND":
            return [c for source in u.src for c in self._conditions(source)]
        if op in _COMPARISONS:
            return [_COMPARISONS[op](*(self._value(s) for s in u.src))]
        raise UnsupportedError(f"tinygrad: a condition by {op} is not understood; expected comparisons of indices")

    # -- work

    def _work(self, uops: Sequence[Any]) -> dict[tuple[str, DType], int]:
        """Operations of a thread, by kind and type."""
        found: Counter[tuple[str, DType]] = Counter()
        fused = set()
        for u in uops:
            product = next((s for s in u.src if _op(s) == "MUL" and self.consumers[s] == 1), None) if _op(u) == "ADD" else None
            if product is not None and _dtype(u).kind == "float":
                fused.add(product)
                found["fma", _dtype(u)] += 1
                found["add", _dtype(u)] -= 1
        for u in uops:
            op = _op(u)
            if u in self.addresses or op in ("LOAD", "STORE", "IF", "ENDIF") or u in fused:
                continue
            dtype = _dtype(u.src[0] if op in ("CMPLT", "CMPEQ", "CMPNE") else u) if op not in _SILENT else None
            if op == "CAST" and _op(u.src[0]) != "CONST":
                found["convert", _dtype(u)] += 1
            elif op == "MULACC":
                found["fma", _dtype(u)] += 1
            elif dtype and dtype.kind == "float" and op in _SPECIAL | _PLAIN:
                found["special" if op in _SPECIAL else "add", dtype] += 1
            elif dtype and dtype.kind == "integer" and op in _INTEGER:
                found["integer", dtype] += 1
            elif op not in _SILENT:
                raise UnsupportedError(f"tinygrad: {op} on {u.dtype} is not understood")
        return {key: n for key, n in found.items() if n}


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "ADD": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "MUL": lambda a, b: a * b,
    "NEG": lambda a: -a,
    "SHL": lambda a, b: a * 2**b,
    "SHR": lambda a, b: a // 2**b,
    "XOR": lambda a, b: a ^ b,
    **dict.fromkeys(("IDIV", "CDIV", "FLOORDIV"), lambda a, b: a // b),
    **dict.fromkeys(("MOD", "CMOD", "FLOORMOD"), lambda a, b: a % b),
    "AND": lambda a, b: _masked(a, b),
}
_COMPARISONS: dict[str, Callable[..., Any]] = {
    "CMPLT": lambda a, b: a < b,
    "CMPEQ": lambda a, b: a == b,
    "CMPNE": lambda a, b: a != b,
}


def _masked(value: Any, mask: Any) -> Any:
    """A remainder, where the mask is all ones."""
    if isinstance(mask, int) and mask & (mask + 1) == 0:
        return value % (mask + 1)
    raise UnsupportedError(f"tinygrad: an address masked with {mask} is not understood; expected a power of two less one")


def _progressions(offsets: Sequence[int]) -> list[tuple[int, int]] | None:
    """Extents and strides of nested loops that give these offsets (ascending, from 0); None where there are none."""
    if len(offsets) == 1:
        return []
    step, run = offsets[1] - offsets[0], 2
    while run < len(offsets) and offsets[run] - offsets[run - 1] == step:
        run += 1
    rows = [offsets[i : i + run] for i in range(0, len(offsets), run)]
    if any([o - row[0] for o in row] != [o - offsets[0] for o in rows[0]] for row in rows):
        return None
    outer = _progressions([row[0] for row in rows])
    return None if outer is None else [(run, step), *outer]


def _tree(uops: Sequence[Any]) -> _Block:
    """The list with each loop and branch as a block."""
    stack = [_Block(None)]
    for u in uops:
        if _op(u) in ("RANGE", "IF"):
            block = _Block(u)
            stack[-1].parts.append(block)
            stack.append(block)
        elif _op(u) in ("END", "ENDIF"):
            stack.pop()
        else:
            stack[-1].parts.append(u)
    return stack[0]


def _addresses(uops: Sequence[Any]) -> set[Any]:
    """Operations that only compute addresses, extents and conditions: costs of accesses, not of the algorithm."""
    found: set[Any] = set()
    waiting = [
        s for u in uops if _op(u) in ("INDEX", "SHRINK") and _op(_array(u.src[0])) in ("PARAM", "BUFFER") for s in u.src[1:]
    ]
    waiting += [s for u in uops if _op(u) in ("RANGE", "SPECIAL", "IF") for s in u.src[:1]]
    waiting += [u.src[2] for u in uops if _op(u) in ("LOAD", "STORE") and len(u.src) > 2]
    while waiting:
        u = waiting.pop()
        if u not in found and _op(u) not in ("LOAD", "RANGE", "SPECIAL"):
            found.add(u)
            waiting += u.src
    return found


def _array(u: Any) -> Any:
    """What an address points into."""
    while _op(u) == "AFTER":
        u = u.src[0]
    return u


def _op(u: Any) -> str:
    name: str = u.op.name
    return name


def _dtype(u: Any) -> DType:
    name = u.dtype.scalar().name if hasattr(u.dtype, "scalar") else u.dtype.name
    if name in _DTYPES:
        return _DTYPES[name]
    raise UnsupportedError(f"tinygrad: dtype {name!r} of {_op(u)} is not understood; known: {', '.join(_DTYPES)}")


def _item(k: Builder, kind: str, dtype: DType, amount: int) -> Any:
    return getattr(k, kind)(dtype, amount)


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name) or "tinygrad"
