"""The reader of a program: its list of operations to a builder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from costmodel.dtypes import DType
from costmodel.errors import DescriptionError, UnsupportedError
from costmodel.frontends.tinygrad.uops import Block, addresses, array_of, dtype_of, name_of, tree
from costmodel.frontends.tinygrad.values import Values
from costmodel.frontends.tinygrad.work import work_of
from costmodel.ir import Kernel, kernel
from costmodel.ir.builder import Builder
from costmodel.ir.expressions import to_sympy

__all__ = ["from_program"]


def from_program(program: Any) -> Kernel:
    """The kernel of a program.

    Args:
        program: `tinygrad.codegen.to_program(ast, renderer)` for a renderer with blocks and threads (`DEV=NULL:OPENCL` has
            them and needs no GPU).

    Raises:
        DescriptionError: this is no compiled program.
        UnsupportedError: an operation that is not understood, named.
    """
    if not _is(program, "PROGRAM") or len(program.src) < 2 or not _is(program.src[1], "LINEAR"):
        raise DescriptionError(
            "tinygrad: expected a PROGRAM with its LINEAR list, as codegen.to_program makes it, "
            f"got {getattr(program, 'op', program)!r:.80}"
        )
    uops = list(program.src[1].src)
    reader = _Reader(uops)
    made: Kernel = kernel(reader.describe, name=_identifier(program.arg.name)).trace()
    return made


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
        self.stored = {array_of(u.src[0].src[0]) for u in uops if name_of(u) == "STORE"}
        self.addresses = addresses(uops)
        self.k: Builder
        self.arrays: dict[Any, Any] = {}
        self.values = Values()

    def describe(self, k: Builder) -> None:
        """Arrays, the grid, then the body."""
        self.k, self.arrays, self.values = k, {}, Values()
        for u in self.uops:
            if name_of(u) in ("PARAM", "BUFFER"):
                self.arrays[u] = self._declared(u)
        special = {u.arg: u for u in self.uops if name_of(u) == "SPECIAL"}
        for name in special:
            if name[:-1] not in ("gidx", "lidx"):
                raise UnsupportedError(
                    f"tinygrad: index {name}: expected gidx or lidx; render for a device with blocks and threads"
                )
        with ExitStack() as stack:
            for kind, open_ in (("gidx", k.blocks), ("lidx", k.threads)):
                mine = [special.get(f"{kind}{axis}") for axis in range(3)]
                extents = [1 if u is None else self.values.number(u.src[0]) for u in mine]
                while len(extents) > 1 and mine[len(extents) - 1] is None:
                    extents.pop()
                found = stack.enter_context(open_(*extents))
                for u, index in zip(mine, found if isinstance(found, tuple) else (found,), strict=False):
                    if u is not None:
                        self.values.known[u] = index
            self._block(tree(self.uops))

    def _declared(self, u: Any) -> Any:
        size, dtype = self.values.number(u.src[0]), dtype_of(u)
        if name_of(u) == "PARAM":
            return self.k.buffer(f"data{u.arg.slot}", (size,), dtype, read_only=u not in self.stored)
        name, space = f"array{len(self.arrays)}", u.arg.addrspace.name
        if space == "LOCAL":
            return self.k.shared(name, (size,), dtype)
        if space == "REG":
            return self.k.register(name, (size,), dtype)
        raise UnsupportedError(f"tinygrad: an array in {space} is not understood; expected LOCAL or REG")

    # -- structure

    def _block(self, block: Block) -> None:
        straight: list[Any] = []
        for part in block.parts:
            if isinstance(part, Block) or name_of(part) == "BARRIER":
                self._straight(straight)
                straight = []
                self._inner(part)
            else:
                straight.append(part)
        self._straight(straight)

    def _inner(self, part: Any) -> None:
        if not isinstance(part, Block):
            self.k.barrier()
        elif name_of(part.opened_by) == "IF":
            with self.k.when(*self.values.conditions(part.opened_by.src[0])):
                self._block(part)
        else:
            with self.k.serial(self.values.number(part.opened_by.src[0])) as index:
                self.values.known[part.opened_by] = index
                self._block(part)

    def _straight(self, uops: Sequence[Any]) -> None:
        """Operations without a loop or barrier between them: loads, arithmetic with what it accumulates, stores."""
        accesses = [self._access(u) for u in uops if name_of(u) in ("LOAD", "STORE")]
        memory = [a for a in accesses if not self._held(a)]
        work = work_of(uops, self.consumers, self.addresses)
        for store in (False, True):
            if store and (work or len(memory) < len(accesses)):
                self._arithmetic(work, [a for a in accesses if self._held(a)])
            for first, offsets in self._alike([a for a in memory if a.store == store]):
                with ExitStack() as stack:
                    if first.gate is not None:
                        stack.enter_context(self.k.when(*self.values.conditions(first.gate)))
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
        if name_of(pointer) not in ("INDEX", "SHRINK"):
            raise UnsupportedError(
                f"tinygrad: {name_of(u)} through {name_of(pointer)} is not understood; expected INDEX or SHRINK"
            )
        width = self.values.number(pointer.src[2]) if name_of(pointer) == "SHRINK" else 1
        gate = u.src[2] if len(u.src) > 2 else None
        return _Access(array_of(pointer.src[0]), name_of(u) == "STORE", self.values.value(pointer.src[1]), width, gate)

    def _held(self, access: _Access) -> bool:
        return name_of(access.array) == "BUFFER" and access.array.arg.addrspace.name == "REG"

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


def _item(k: Builder, kind: str, dtype: DType, amount: int) -> Any:
    return getattr(k, kind)(dtype, amount)


def _is(u: Any, op: str) -> bool:
    return getattr(getattr(u, "op", None), "name", None) == op


def _identifier(name: str) -> str:
    """Without the colours that tinygrad's names have."""
    from tinygrad.helpers import ansistrip

    return "".join(c if c.isalnum() else "_" for c in ansistrip(name)) or "tinygrad"
