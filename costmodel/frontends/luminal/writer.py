"""One kernel out of a term, as luminal's code generator writes it.

Going inwards from the result, a `LoopOut` opens a loop and moves the pointer that is written to; the first levels are the grid,
the next the block, the rest run in each thread. A `LoopIn` is met inside its loop and moves the pointer that is read from. A loop
marked with an accumulator copies what its `LoopIn` points to into registers, works on these, and copies them to the result.

Source: luminal, commit 7c259f4 (August 2025), crates/luminal_2/src/codegen.rs: make_kernel, split_kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy

from costmodel.dtypes import f32
from costmodel.frontends.luminal.fragments import Fragments
from costmodel.frontends.luminal.frames import (
    Frame,
    Frames,
    Levels,
    Part,
    accumulated,
    free_name,
    identifier,
    loop_extent,
    output_elements,
    synchronises,
    trips,
    unfused,
)
from costmodel.frontends.luminal.layout import layout, nodes_of
from costmodel.frontends.luminal.matrix import LANES, Product
from costmodel.frontends.luminal.operations import Gatherer, Value, operation_name
from costmodel.frontends.luminal.scopes import MOST_REGISTERS, Draft, Memory, Pointer, Scope
from costmodel.frontends.luminal.staging import Staging
from costmodel.frontends.luminal.strides import expression, is_accumulator
from costmodel.frontends.luminal.terms import Term
from costmodel.ir import Kernel, Loop
from costmodel.ir.checks import finish
from costmodel.ir.types import LoopKind, Space
from costmodel.symbols import free_names, index, to_text

__all__ = ["Writer"]


class Writer:
    """Writes one kernel."""

    def __init__(self, levels: Levels, taken: frozenset[str], names: Callable[[Part], str], labels: dict[str, str]) -> None:
        self.levels, self.names, self.labels = levels, names, labels
        self.thread = Scope()
        self.extents: dict[sympy.Symbol, sympy.Expr] = {}
        self.globals: dict[str, Memory] = {}
        self.inner: list[Memory] = []
        self.reads: list[Part] = []
        """Kernels whose results are read, in order of appearance."""
        self._taken = set(taken)
        self._parallel: list[tuple[sympy.Symbol, LoopKind, int]] = []
        self._gatherer = Gatherer(self.value, Fragments(self._memory, lambda name: index(self._free(name)), self.extents))
        self._staging = Staging(self._gatherer, self.value, self._memory, levels.grid)
        self._results: dict[tuple[Term, Frames], Pointer] = {}

    def write(self, part: Part, target: str, name: str) -> Kernel:
        """The kernel of a part, whose result goes to the global array `target`."""
        frames: Frames = ()
        for extent in part.around:
            frames += (self._frame(extent, len(frames), None),)
        self._descend(part.term, frames, Pointer(self._global(target), _turn(part, frames), self.thread))
        return self._kernel(name)

    def _descend(self, term: Term, frames: Frames, to: Pointer) -> None:
        """From the grid to what a thread does."""
        while (term := unfused(term)).op == "LoopOut" and len(frames) < self.levels.parallel:
            if is_accumulator(term.child(2)):
                term.refuse(f"it accumulates over loop {len(frames)}, one of the grid or the block: threads share no accumulator")
            frames += (self._frame(loop_extent(term), len(frames), term),)
            to = to.shifted(self._stride(term, frames[-1]))
            term = term.child(0)
        self._body(term, frames, to)

    def _frame(self, extent: sympy.Expr, level: int, out: Term | None) -> Frame:
        """A loop of the grid or the block."""
        kind: LoopKind = "block" if level < self.levels.grid else "thread"
        axis = level if kind == "block" else level - self.levels.grid
        made = index(f"{kind}_{'xyz'[axis]}")
        self.extents[made] = extent
        self._parallel.append((made, kind, axis))
        return Frame(made, extent, self.thread, out)

    # -- what is written

    def _body(self, term: Term, frames: Frames, to: Pointer) -> None:
        """Bring the value of a term to a place."""
        if (term := unfused(term)).op == "LoopOut":
            self._loop(term, frames, to)
        elif term.op == "TCMatmul":
            self._product(term, frames, to)
        else:
            scope = self.scope(frames)
            draft = Draft(scope, self._name(term, to))
            self._gatherer.gather(self.value(term, frames), scope, draft, alone=True)
            draft.store(to)
            scope.items.append(draft)

    @staticmethod
    def _name(term: Term, to: Pointer) -> str:
        what = operation_name(term)
        return (
            f"copy to {to.memory.name}" if what in ("LoopIn", "GMEM", "SMEMRead", "SMEMLoad") else f"{what} to {to.memory.name}"
        )

    def _loop(self, term: Term, frames: Frames, to: Pointer | None) -> Pointer:
        """A loop that each thread runs; where its result is."""
        if len(frames) < self.levels.parallel:
            term.refuse(
                f"it stands under an operation at level {len(frames)}, of the grid or the block, where no result can be kept"
            )
        outer = self.scope(frames)
        inside = Scope(outer, self.unique(term.child(1).text()), loop_extent(term))
        assert inside.index is not None
        self.extents[inside.index] = inside.extent
        frame = Frame(inside.index, inside.extent, inside, term)
        local = is_accumulator(term.child(2)) or to is None or to.memory.space == "register"
        inside.movable = local and not synchronises(term.child(0))
        if is_accumulator(term.child(2)):
            return self._accumulate(term, frames, frame, to)
        if to is None:
            to = Pointer(self._memory("kept", "register"), sympy.Integer(0), outer)
        stride = self._stride(term, frame)
        inside.unrolled = (
            to.memory.space == "register" and frame.index in stride.free_symbols and inside.copies() <= MOST_REGISTERS
        )
        self._body(term.child(0), (*frames, frame), to.shifted(stride))
        outer.items.append(inside)
        return Pointer(to.memory, to.offset, outer)

    def _accumulate(self, term: Term, frames: Frames, frame: Frame, to: Pointer | None) -> Pointer:
        """Fill the accumulator, run the loop, and bring it where the result belongs."""
        outer, marker = self.scope(frames), term.child(2).text()
        sources = accumulated(term.child(0), marker)
        if len(sources) != 1:
            term.refuse(f"{len(sources)} LoopIn of the loop are marked as accumulator {marker!r}; expected one")
        total = self._memory("acc", "register")
        frame.accumulator, frame.source = total, sources[0]
        self._sweep(term, outer, lambda at, scope: self._move(self.value(sources[0].child(0), frames), at, scope, total, "start"))
        self._body(term.child(0), (*frames, frame), Pointer(total, sympy.Integer(0), frame.scope))
        outer.items.append(frame.scope)
        result = Pointer(total, sympy.Integer(0), outer)
        if to is not None:
            self._sweep(term, outer, lambda at, scope: self._move(result, at, scope, to, "finish"))
        return result

    def _move(self, source: Value, at: sympy.Expr, scope: Scope, target: Memory | Pointer, name: str) -> None:
        """One element of the accumulator, in or out."""
        draft = Draft(scope, f"{name} {target.name}" if isinstance(target, Memory) else f"{name} {target.memory.name}")
        source = source.shifted(at) if isinstance(source, Pointer) else source
        self._gatherer.gather(source, scope, draft, alone=True)
        start = Pointer(target, sympy.Integer(0), scope) if isinstance(target, Memory) else target
        draft.store(start.shifted(at))
        scope.items.append(draft)

    def _sweep(self, term: Term, scope: Scope, visit: Callable[[sympy.Expr, Scope], None]) -> None:
        """Visit all elements that the loops inside an accumulating one write."""
        opened, at, term = [scope], sympy.Integer(0), term.child(0)
        while (term := unfused(term)).op == "LoopOut":
            if not is_accumulator(term.child(2)):
                inside = Scope(opened[-1], self.unique(term.child(1).text()), loop_extent(term))
                assert inside.index is not None
                self.extents[inside.index] = inside.extent
                at += self._stride(term, Frame(inside.index, inside.extent, inside))
                opened.append(inside)
            term = term.child(0)
        visit(at, opened[-1])
        for outer, inner in zip(reversed(opened[:-1]), reversed(opened[1:]), strict=True):
            outer.items.append(inner)

    def _product(self, term: Term, frames: Frames, to: Pointer) -> None:
        """A matrix product of one warp."""
        threads = frames[self.levels.grid : self.levels.parallel]
        if sympy.Mul(*(f.extent for f in threads)) != LANES:
            shape = " × ".join(to_text(f.extent) for f in threads)
            term.refuse(f"it is written for a block of {LANES} threads, got {shape or '1'}")
        if to.memory.space != "global":
            term.refuse("its result can go to global memory only")
        a, b = (self.value(term.child(n), frames) for n in range(2))
        if not (isinstance(a, Pointer) and isinstance(b, Pointer)):
            term.refuse("its operands have to lie in memory")
        lane = sympy.Integer(0)
        for frame in reversed(threads):
            lane = lane * frame.extent + frame.index
        scope = self.scope(frames)
        step = Scope(scope, self.unique("tc_loop"), trips(term, 7))
        assert step.index is not None
        self.extents[step.index] = step.extent
        registers = (self._memory("part_a", "register"), self._memory("part_b", "register"), self._memory("sum", "register"))
        Product(term, scope, step, lane, a, b, to, registers, self.levels.matrix).write()

    # -- what is read

    def value(self, term: Term, frames: Frames) -> Value:
        """Where the value of a term is, or the operation that makes it."""
        match (term := unfused(term)).op:
            case "GMEM":
                if frames:
                    term.refuse(f"it stands inside {len(frames)} loops that no LoopIn brings it into")
                return Pointer(self._global(self.labels[term.text()]), sympy.Integer(0), self.thread)
            case "LoopIn":
                return self._entry(term, frames)
            case "LoopOut":
                if (term, frames) not in self._results:
                    self._results[term, frames] = self._loop(term, frames, None)
                return self._results[term, frames]
            case "SMEMLoad":
                return self._staging.load(term, frames)
            case "SMEMRead":
                return self._staging.read(term, frames)
            case "SMEM" | "TCMatmul":
                return term.refuse("it can be read only through SMEMLoad and SMEMRead, or written to global memory")
        return self._gatherer.operation(term, frames, self.scope(frames))

    def _entry(self, term: Term, frames: Frames) -> Value:
        if not frames:
            term.refuse("it stands outside the loop that it enters")
        frame, outer, source = frames[-1], frames[:-1], unfused(term.child(0))
        if (extent := loop_extent(term)) != frame.extent:
            here = "" if frame.out is None else f" of {frame.out.where}"
            term.refuse(f"it enters a loop of {to_text(extent)} inside the loop{here}, of {to_text(frame.extent)}")
        if is_accumulator(term.child(2)):
            if frame.accumulator is None or frame.source is not term:
                term.refuse("it is marked as an accumulator, but the loop around it is not, or by another name")
            return Pointer(frame.accumulator, sympy.Integer(0), None)
        if source.op == "LoopOut" and len(outer) < self.levels.parallel:
            found: Value = self._other(source, outer)
        else:
            found = self.value(source, outer)
        stride = self._stride(term, frame)
        if isinstance(found, Pointer):
            return found.shifted(stride)
        if stride != 0:
            term.refuse(f"it moves by {to_text(stride)} in the value of {source.op}, which is a single one")
        return found

    def _other(self, term: Term, frames: Frames) -> Pointer:
        """The result of another kernel, one for each turn of the loops around it."""
        part = Part(term, tuple(f.extent for f in frames))
        self.reads.append(part)
        return Pointer(self._global(self.names(part)), _turn(part, frames), self.thread)

    # -- small parts

    def scope(self, frames: Frames) -> Scope:
        """Where statements inside these loops stand."""
        return frames[-1].scope if frames else self.thread

    def _memory(self, name: str, space: Space) -> Memory:
        """A new array of a block or a thread."""
        made = Memory(self._free(name), space, f32)
        self.inner.append(made)
        return made

    def unique(self, label: str) -> sympy.Symbol:
        """A loop index, named like luminal's loop."""
        return index(self._free(identifier(label, "i")))

    def _free(self, wanted: str) -> str:
        name = free_name(wanted, self._taken)
        self._taken.add(name)
        return name

    def _global(self, name: str) -> Memory:
        return self.globals.setdefault(name, Memory(name, "global", f32))

    def _stride(self, term: Term, frame: Frame) -> sympy.Expr:
        return expression(term.child(2), frame.index, {frame.index: frame.extent})

    def _kernel(self, name: str) -> Kernel:
        threads, number = sympy.Integer(1), sympy.Integer(0)
        innermost_first = sorted(self._parallel, key=lambda p: (p[1] == "block", p[2]))
        for symbol, _, _ in innermost_first:
            threads, number = threads * self.extents[symbol], number + symbol * threads
        found = layout((*self.globals.values(), *self.inner), self.extents, threads, number)
        buffers, body = tuple(found.buffers.values()), nodes_of(self.thread, found)
        for symbol, kind, axis in innermost_first:
            body = (Loop(symbol, self.extents[symbol], kind, body, axis),)
        sizes = free_names(*(e for b in buffers for e in b.shape), *self.extents.values())
        sizes -= {s.name for s in self.extents}
        return finish(Kernel(name, tuple(sorted(sizes)), (), buffers, (), body))


def _turn(part: Part, frames: Frames) -> sympy.Expr:
    """Where the result of one turn of the loops around a part begins."""
    each, offset = output_elements(part.term) if frames else sympy.Integer(0), sympy.Integer(0)
    for n, frame in enumerate(frames):
        offset += frame.index * each * sympy.Mul(*part.around[n + 1 :])
    return offset
