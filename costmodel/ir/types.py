"""What a kernel is: buffers, accesses, statements, and the loops around them.

A kernel is a tree. Its leaves are statements (what one thread does once) and barriers; its inner
nodes are loops and guards. Block loops are the grid, thread loops the block; everything else runs
in each thread. All sizes and indices are sympy expressions over the kernel's parameters and the
loop indices, made by `costmodel.symbols`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import sympy

from costmodel.dtypes import DType
from costmodel.symbols import Condition

__all__ = [
    "Access",
    "Barrier",
    "Buffer",
    "Guard",
    "Kernel",
    "Loop",
    "LoopKind",
    "Node",
    "Site",
    "Space",
    "Statement",
    "Work",
    "WorkKind",
]

Space = Literal["global", "shared", "register", "constant"]
LoopKind = Literal["block", "thread", "serial"]
WorkKind = Literal["fma", "add", "mma", "integer", "special", "convert"]


@dataclass(frozen=True, slots=True)
class Buffer:
    """An array in one memory space."""

    name: str
    shape: tuple[sympy.Expr, ...]
    """Extents as stored, padding included, in elements."""
    dtype: DType
    space: Space
    strides: tuple[sympy.Expr, ...]
    """Elements from one index to the next, one for each dimension."""
    read_only: bool = False
    """True for `const __restrict__` global arrays, whose loads may take the read-only (texture) path into L1."""
    dynamic: bool = False
    """True for shared arrays sized at launch, which may use all of an SM's shared memory with opt-in."""
    exchange: bool = False
    """True for the registers of a warp's lanes as shuffles reach them: through the crossbar of shared memory."""

    @property
    def elements(self) -> sympy.Expr:
        """Number of elements from the first to the last."""
        return sum((s * (n - 1) for s, n in zip(self.strides, self.shape, strict=True)), sympy.Integer(1))

    @property
    def size_bytes(self) -> sympy.Expr:
        """Bytes from the first element to the last."""
        return self.elements * self.dtype.itemsize

    @property
    def reserved_bytes(self) -> sympy.Expr:
        """Bytes that it takes of its memory: none if it is an exchange of registers."""
        return sympy.Integer(0) if self.exchange else self.size_bytes


@dataclass(frozen=True, slots=True)
class Access:
    """A read or write of `width` consecutive elements by one thread."""

    buffer: Buffer
    index: tuple[sympy.Expr, ...]
    width: sympy.Expr = sympy.Integer(1)
    """Elements along the last dimension; more than 16 bytes become several instructions."""
    cached: bool = True
    """False for accesses that bypass L1 (volatile, `ld.cg`)."""

    @property
    def offset(self) -> sympy.Expr:
        """Element offset from the start of the buffer."""
        return sum((i * s for i, s in zip(self.index, self.buffer.strides, strict=True)), sympy.Integer(0))

    @property
    def bytes(self) -> sympy.Expr:
        """Bytes of one execution in one thread."""
        return self.width * self.buffer.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Work:
    """Arithmetic of one execution.

    `amount` counts operations of one thread; for `mma` it counts multiply-adds of one warp, since a
    matrix instruction belongs to a whole warp.
    """

    kind: WorkKind
    dtype: DType
    amount: sympy.Expr


@dataclass(frozen=True, slots=True)
class Statement:
    """What one thread does once: loads, work, stores."""

    name: str
    loads: tuple[Access, ...] = ()
    stores: tuple[Access, ...] = ()
    work: tuple[Work, ...] = ()
    asynchronous: bool = False
    """True for copies that do not pass through registers or block the thread (`cp.async`, TMA)."""
    atomic: bool = False
    """True where the stores are atomic read-modify-writes."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """All threads of the block wait for each other."""


@dataclass(frozen=True, slots=True)
class Loop:
    """`for index in range(extent)`, over blocks, threads, or in each thread."""

    index: sympy.Symbol
    extent: sympy.Expr
    kind: LoopKind
    body: tuple[Node, ...]
    axis: int = 0
    """Of a block or thread loop: 0 is x (fastest), 1 is y, 2 is z."""
    unroll: sympy.Expr = sympy.Integer(1)
    """Of a serial loop: copies of the body in one iteration of the machine loop; `extent` unrolls fully."""
    stages: sympy.Expr = sympy.Integer(1)
    """Of a serial loop: software pipeline stages; 1 is no pipelining."""


@dataclass(frozen=True, slots=True)
class Guard:
    """`if` all conditions hold: the body runs in the threads and iterations that pass."""

    conditions: tuple[Condition, ...]
    body: tuple[Node, ...]
    fraction: sympy.Expr | None = None
    """Share of executions that pass, where the author states it; None lets it be counted."""


Node = Loop | Guard | Statement | Barrier


@dataclass(frozen=True, slots=True)
class Site:
    """A leaf and everything around it, outermost first."""

    leaf: Statement | Barrier
    loops: tuple[Loop, ...]
    guards: tuple[Guard, ...]

    @property
    def statement(self) -> Statement:
        """The leaf of a site that is no barrier's, as `Kernel.statements` yields them."""
        assert isinstance(self.leaf, Statement)
        return self.leaf

    def serial(self) -> tuple[Loop, ...]:
        """The loops that run in each thread."""
        return tuple(loop for loop in self.loops if loop.kind == "serial")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A traced kernel: one description with its static arguments fixed."""

    name: str
    params: tuple[str, ...]
    """Names of the symbolic sizes, in the order of the description."""
    statics: tuple[tuple[str, int | bool | str], ...]
    """Static arguments and the values this trace was made with."""
    buffers: tuple[Buffer, ...]
    requirements: tuple[Condition, ...]
    """Conditions that sizes must meet; a row that breaks one is infeasible."""
    body: tuple[Node, ...]
    max_threads: sympy.Expr | None = None
    """Launch bound known to the compiler: it caps registers so that a block of this size fits."""
    registers: sympy.Expr | None = None
    """Registers of one thread where the author knows them; None lets them be estimated."""
    shared_bytes: sympy.Expr | None = None
    """Shared memory of one block where a compiler has told; None adds up the arrays, which a compiler may overlay."""
    launch_grid: tuple[sympy.Expr, sympy.Expr, sympy.Expr] | None = None
    """Blocks along x, y, z as the host launches them, where the block loops take their numbers apart; None where these are it."""
    sites: tuple[Site, ...] = field(default=(), compare=False, repr=False)
    """Every leaf with its loops and guards, in program order; filled in by `finish`."""

    def loops(self) -> Iterator[Loop]:
        """All loops, outermost first."""
        yield from _loops(self.body)

    def statements(self) -> Iterator[Site]:
        """Sites of statements, without barriers."""
        return (s for s in self.sites if isinstance(s.leaf, Statement))

    def block_shape(self) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
        """Threads of a block along x, y, z."""
        return _shape(self, "thread")

    def grid_shape(self) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
        """Blocks of the grid along x, y, z."""
        return _shape(self, "block")

    def launch_shape(self) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
        """The grid that limits of a launch hold for."""
        return self.launch_grid or self.grid_shape()


def sites_of(body: tuple[Node, ...], loops: tuple[Loop, ...] = (), guards: tuple[Guard, ...] = ()) -> Iterator[Site]:
    """Walk a body and yield its leaves with what is around them."""
    for node in body:
        if isinstance(node, Loop):
            yield from sites_of(node.body, (*loops, node), guards)
        elif isinstance(node, Guard):
            yield from sites_of(node.body, loops, (*guards, node))
        else:
            yield Site(node, loops, guards)


def _loops(body: tuple[Node, ...]) -> Iterator[Loop]:
    for node in body:
        if isinstance(node, Loop):
            yield node
        if isinstance(node, Loop | Guard):
            yield from _loops(node.body)


def _shape(kernel: Kernel, kind: LoopKind) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
    extents = {loop.axis: loop.extent for loop in kernel.loops() if loop.kind == kind}
    one = sympy.Integer(1)
    return extents.get(0, one), extents.get(1, one), extents.get(2, one)
