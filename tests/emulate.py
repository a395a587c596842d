"""Runs a description on data: every block of a small grid in NumPy, the threads of a block in lock step.

What a statement computes is not in a description; `compute` says it by the statement's name (`tests/emulations.py`). Everything
else is the description's own: which thread reads and writes which element when. So a wrong index, extent, guard or barrier shows
in the result. In particular

* shared memory and registers begin as NaN (integers: as the lowest value), so that a read before a write shows;
* indices must lie inside their buffers, vectors must be aligned;
* an element of shared memory that one thread writes and another touches must have a barrier between;
* threads that store to one element in one statement must store the same, unless it is atomic (which adds);
* blocks run first to last and last to first, and the results must agree.

Expressions are evaluated by `tests/array_expressions.py`, on arrays over the active threads; nothing is shared with `costmodel.counts`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from costmodel.dtypes import DType
from costmodel.ir import Access, Barrier, Buffer, Guard, Kernel, Loop, Statement
from costmodel.symbols import to_text
from tests.array_expressions import Env, Expressions

__all__ = ["EmulationError", "Point", "emulate", "filled", "rounded"]

Compute = Mapping[str, Callable[..., Any]]


class EmulationError(AssertionError):
    """The description does something that a GPU, or its author, would not like."""


@dataclass(frozen=True)
class Point:
    """Where a statement runs: what a `compute` function may know beside the values that were loaded."""

    index: Env
    """Sizes, static arguments and loop indices by name (`thread_x`, `block_y`, the names of serial loops): numbers, or arrays over active threads."""
    threads: np.ndarray
    """Number in its block of each active thread."""
    count: int
    """Threads of the block, active or not."""
    registers: dict[str, np.ndarray]
    """Register arrays of all threads of the block, threads × elements: for instructions of whole warps."""
    state: dict[Any, Any]
    """Whatever the functions keep for the time of a block."""

    def named(self, name: str) -> list[Any]:
        """Sizes and indices of this name, innermost loop last; the builder may have made a loop's name unique, as `i_1`."""
        return [v for n, v in self.index.items() if n == name or (n.startswith(f"{name}_") and n[len(name) + 1 :].isdigit())]

    def __getitem__(self, name: str) -> Any:
        return self.named(name)[-1]

    def of_block(self, values: Any) -> np.ndarray:
        """Values of the active threads among those of the block; NaN for the others."""
        everyone = np.full((self.count, *np.shape(values)[1:]), np.nan)
        everyone[self.threads] = values
        return everyone


# --- memory ------------------------------------------------------------------------------------

_STORED = {
    "f64": np.float64, "f32": np.float32, "tf32": np.float32, "f16": np.float16, "bf16": np.float32,
    "i64": np.int64, "i32": np.int32, "i16": np.int16, "i8": np.int8,
}  # fmt: skip


def rounded(values: Any, dtype: DType) -> np.ndarray:
    """Values as an element of this type holds them; bf16 is kept in single precision."""
    stored = np.asarray(values).astype(_STORED[dtype.name])
    if dtype.name != "bf16":
        return stored
    bits = stored.view(np.uint32)
    nearest = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return np.asarray(np.where(np.isnan(stored), stored, nearest.view(np.float32)))


def filled(shape: Any, dtype: DType) -> np.ndarray:
    """An array that nothing was written to: NaN, or the lowest integer."""
    stored = np.dtype(_STORED[dtype.name])
    return np.full(shape, np.nan if stored.kind == "f" else np.iinfo(stored.name).min, stored)


@dataclass
class _Shared:
    """Who touched each element of a shared array last, and how many barriers had been passed by then."""

    elements: int
    writer: np.ndarray = field(init=False)
    written: np.ndarray = field(init=False)
    reader: np.ndarray = field(init=False)
    read: np.ndarray = field(init=False)

    MANY = -2

    def __post_init__(self) -> None:
        self.writer, self.written, self.reader, self.read = (np.full(self.elements, -1) for _ in range(4))

    def touch(self, where: np.ndarray, threads: np.ndarray, epoch: int, writes: bool) -> np.ndarray:
        """Elements among `where` on which two threads meet."""
        own = np.broadcast_to(threads.reshape(-1, *[1] * (where.ndim - 1)), where.shape)
        clash = (self.written[where] == epoch) & (self.writer[where] != own)
        if writes:
            clash |= (self.read[where] == epoch) & (self.reader[where] != own)
            self.writer[where], self.written[where] = own, epoch
        else:
            seen = where[(self.read[where] == epoch) & (self.reader[where] != own)]
            self.reader[where] = own
            self.reader[where[self.reader[where] != own]] = self.MANY  # lanes that read one element together
            self.reader[seen] = self.MANY
            self.read[where] = epoch
        return np.asarray(where[clash])


# --- the walk ----------------------------------------------------------------------------------


def emulate(
    kernel: Kernel,
    sizes: Mapping[str, int],
    buffers: Mapping[str, np.ndarray],
    compute: Compute,
    *,
    start: Mapping[str, float] | None = None,
    races: bool = True,
) -> None:
    """Run a kernel on `buffers`, in place.

    Args:
        kernel: traced.
        sizes: values of its parameters, which its requirements must accept.
        buffers: global and constant arrays by name, with as many elements as the description gives them.
        compute: by name of the statement, `f(point, *loaded) -> stored`: one array (active threads, or × width) for each access.
            A copy needs none. More than one store takes a tuple.
        start: what a register or shared array holds in the beginning, where its author did not write that down (sums: 0).
        races: whether shared elements need barriers between the threads that touch them.

    Raises:
        EmulationError: the description breaks a rule at the top of this module.
    """
    names = {s.statement.name for s in kernel.statements()}
    if unknown := sorted(compute.keys() - names):
        raise EmulationError(f"no statement is called {', '.join(unknown)}; statements: {', '.join(sorted(names))}")
    given = {name: np.array(values) for name, values in buffers.items()}
    results = []
    for backwards in (False, True):
        memory = {name: values.copy() for name, values in given.items()}
        _Walk(kernel, sizes, memory, compute, start or {}, races).run(backwards)
        results.append(memory)
    atomic = any(s.statement.atomic for s in kernel.statements())
    for name, values in results[0].items():
        same = np.allclose if atomic else np.array_equal
        if not same(values, results[1][name], equal_nan=values.dtype.kind == "f"):
            raise EmulationError(f"{name} depends on the order of the blocks")
        buffers[name][...] = values


class _Walk:
    def __init__(
        self,
        kernel: Kernel,
        sizes: Mapping[str, int],
        buffers: dict[str, np.ndarray],
        compute: Compute,
        start: Mapping[str, float],
        races: bool,
    ) -> None:
        self.kernel, self.sizes, self.compute, self.start, self.races = kernel, sizes, compute, start, races
        self.expressions = Expressions(sizes)
        for condition in kernel.requirements:
            if not self.expressions.holds(condition, {}):
                op, left, right = condition
                raise EmulationError(f"{dict(sizes)} breaks the requirement {to_text(left)} {op} {to_text(right)}")
        self.grid, self.block = (
            [int(self.expressions.whole(n, {})) for n in shape] for shape in (kernel.grid_shape(), kernel.block_shape())
        )
        self.count = math.prod(self.block)
        self.shape = {b.name: [int(self.expressions.whole(n, {})) for n in b.shape] for b in kernel.buffers}
        self.strides = {b.name: [int(self.expressions.whole(n, {})) for n in b.strides] for b in kernel.buffers}
        self.memory: dict[str, np.ndarray] = {}
        for b in kernel.buffers:
            if b.space in ("global", "constant") and b.name in buffers:
                if buffers[b.name].size != self.elements(b):
                    raise EmulationError(f"{b.name}: {self.elements(b)} elements expected, {buffers[b.name].size} given")
                self.memory[b.name] = buffers[b.name].reshape(-1)

    def elements(self, b: Buffer) -> int:
        return 1 + sum(s * (n - 1) for n, s in zip(self.shape[b.name], self.strides[b.name], strict=True))

    def run(self, backwards: bool) -> None:
        positions = list(itertools.product(*(range(n) for n in self.grid[::-1])))
        number = np.arange(self.count)
        across, down, _ = self.block
        lanes = (number % across, number // across % down, number // (across * down))
        for position in reversed(positions) if backwards else positions:
            self.epoch = 0
            self.state: dict[Any, Any] = {}
            self.traces: dict[str, _Shared] = {}
            self.registers: dict[str, np.ndarray] = {}
            for b in self.kernel.buffers:
                if b.space in ("shared", "register"):
                    shape = (self.count, self.elements(b)) if b.space == "register" else (self.elements(b),)
                    values = filled(shape, b.dtype)
                    if b.name in self.start:
                        values[...] = self.start[b.name]
                    self.memory[b.name] = values
                    if b.space == "register":
                        self.registers[b.name] = values
                    elif self.races:
                        self.traces[b.name] = _Shared(values.size)
            self.body(self.kernel.body, {}, number, {"block": position[::-1], "thread": lanes})

    def body(self, nodes: Any, env: Env, threads: np.ndarray, parallel: dict[str, Any]) -> None:
        for node in nodes:
            if isinstance(node, Statement):
                self.statement(node, env, threads)
            elif isinstance(node, Barrier):
                self.epoch += 1
            elif isinstance(node, Guard):
                self.guard(node, env, threads, parallel)
            elif node.kind == "serial":
                self.serial(node, env, threads, parallel)
            else:
                self.body(node.body, {**env, str(node.index): parallel[node.kind][node.axis]}, threads, parallel)

    def serial(self, loop: Loop, env: Env, threads: np.ndarray, parallel: dict[str, Any]) -> None:
        trips = int(self.expressions.whole(loop.extent, env))
        if trips < 0:
            raise EmulationError(f"loop {loop.index} has {trips} iterations")
        for i in range(trips):
            self.body(loop.body, {**env, str(loop.index): i}, threads, parallel)

    def guard(self, guard: Guard, env: Env, threads: np.ndarray, parallel: dict[str, Any]) -> None:
        if guard.fraction is not None:
            raise EmulationError("a guard passes a stated share of executions: which ones, the description does not say")
        passing: Any = np.ones(threads.size, bool)
        for condition in guard.conditions:
            passing = passing & self.expressions.holds(condition, env)
        if passing.all():
            self.body(guard.body, env, threads, parallel)
        elif passing.any():
            fewer = {n: v[passing] if isinstance(v, np.ndarray) else v for n, v in env.items()}
            self.body(guard.body, fewer, threads[passing], parallel)

    def statement(self, statement: Statement, env: Env, threads: np.ndarray) -> None:
        where = [self.place(a, env, threads, statement) for a in statement.loads]
        loaded = [self.read(a, at, threads, statement) for a, at in zip(statement.loads, where, strict=True)]
        function = self.compute.get(statement.name)
        if function is not None:
            point = Point({**dict(self.kernel.statics), **self.sizes, **env}, threads, self.count, self.registers, self.state)
            stored = function(point, *loaded)
        elif statement.stores and (len(loaded), len(statement.stores), statement.work) != (1, 1, ()):
            raise EmulationError(f"statement {statement.name!r} computes: name a function for it")
        else:
            stored = loaded[0] if statement.stores else None
        if (stored is None) != (not statement.stores):
            raise EmulationError(
                f"statement {statement.name!r} stores {len(statement.stores)} values, its function returned {stored}"
            )
        values = stored if isinstance(stored, tuple) else (stored,)
        for a, value in zip(statement.stores, values, strict=True) if statement.stores else ():
            self.write(a, self.place(a, env, threads, statement), value, threads, statement)

    # -- accesses

    def place(self, access: Access, env: Env, threads: np.ndarray, statement: Statement) -> np.ndarray:
        """Elements that each active thread touches."""
        name, width = access.buffer.name, int(self.expressions.whole(access.width, {}))
        offset: Any = 0
        last = len(access.index) - 1
        for d, (e, extent, stride) in enumerate(zip(access.index, self.shape[name], self.strides[name], strict=True)):
            at = self.expressions.whole(e, env)
            if np.any((np.asarray(at) < 0) | (np.asarray(at) > extent - (width if d == last else 1))):
                raise EmulationError(
                    f"{statement.name}: {name}, dimension {d}: {to_text(e)} leaves 0 to {extent - 1} (width {width})"
                )
            offset = offset + at * stride
        offset = np.broadcast_to(offset, threads.shape)
        if np.any(offset % width):
            raise EmulationError(f"{statement.name}: {name}: an offset is not a multiple of the width {width}")
        return np.asarray(offset if width == 1 else offset[:, None] + np.arange(width))

    def found(self, access: Access) -> np.ndarray:
        name = access.buffer.name
        if name not in self.memory:
            raise EmulationError(f"no contents of {name} were given")
        return self.memory[name]

    def read(self, access: Access, where: np.ndarray, threads: np.ndarray, statement: Statement) -> np.ndarray:
        values = self.found(access)
        self.meet(access, where, threads, statement, writes=False)
        if access.buffer.space == "register":
            return np.array(values[threads.reshape(-1, *[1] * (where.ndim - 1)), where])
        return np.array(values[where])

    def write(self, access: Access, where: np.ndarray, value: Any, threads: np.ndarray, statement: Statement) -> None:
        memory = self.found(access)
        value = np.broadcast_to(rounded(value, access.buffer.dtype), where.shape)
        if access.buffer.space == "register":
            memory[threads.reshape(-1, *[1] * (where.ndim - 1)), where] = value
        elif statement.atomic:
            np.add.at(memory, where, value)
        else:
            self.meet(access, where, threads, statement, writes=True)
            memory[where] = value
            if not np.array_equal(memory[where], value, equal_nan=memory.dtype.kind == "f"):
                raise EmulationError(f"{statement.name}: threads store different values to one element of {access.buffer.name}")

    def meet(self, access: Access, where: np.ndarray, threads: np.ndarray, statement: Statement, *, writes: bool) -> None:
        trace = self.traces.get(access.buffer.name)
        if trace is not None and (clash := trace.touch(where, threads, self.epoch, writes)).size:
            verb = "writes" if writes else "reads"
            raise EmulationError(
                f"{statement.name}: {verb} {access.buffer.name} at {clash.flat[0]} with no barrier since another thread touched it"
            )
