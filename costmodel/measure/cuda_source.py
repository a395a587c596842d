"""A description as CUDA C++: the same loops, accesses, widths, guards, unrolling, barriers and amounts of work.

The values are arbitrary but depend on data, so that a compiler can leave nothing out. Sizes that must
be known at compile time (block shape, tiles in shared memory and registers, unrolling, widths) are
numbers, all others arguments of type int, as one writes such kernels. What no statement uses is used
at the end: accumulators by the stores that follow them, else by a sum that a branch never taken
stores. Work without an operand takes `scale` and `shift`, which are arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import sympy

from costmodel.errors import UnsupportedError
from costmodel.ir import Access, Barrier, Buffer, Guard, Kernel, Loop, Node, Statement
from costmodel.measure.c_expressions import Names
from costmodel.measure.cuda_values import C_TYPES, Pool, Values
from costmodel.symbols import free_names

__all__ = ["ENTRY", "Source", "cuda_source", "needed_at_compile_time"]

ENTRY = "kernel"
_HEADERS = {"f16": "#include <cuda_fp16.h>", "bf16": "#include <cuda_bf16.h>"}
_VECTOR = """\
template <class T, int W> struct alignas(sizeof(T) * W > 16 ? 16 : sizeof(T) * W) Vector { T v[W]; };
"""
_ASYNC = """\
template <int bytes> __device__ void copy_async(void* shared, const void* source) {
    const unsigned at = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(source), "n"(bytes));
}
"""


@dataclass(frozen=True, slots=True)
class Source:
    """CUDA C++ of one configuration."""

    text: str
    arguments: tuple[str, ...]
    """Of the entry, in order, as declared."""
    dynamic_shared_bytes: int
    """To be given at launch; what is static the compiler knows."""
    runtime: tuple[str, ...]
    """Sizes that are arguments."""


def needed_at_compile_time(kernel: Kernel) -> frozenset[str]:
    """Sizes that a compiler must know: of the block, of arrays it places, of what it unrolls."""
    found: list[sympy.Expr] = [kernel.max_threads] if kernel.max_threads is not None else []
    for loop in kernel.loops():
        found += [loop.unroll, loop.stages]
        if loop.kind == "thread" or loop.unroll != 1:
            found.append(loop.extent if loop.kind == "thread" or loop.unroll == loop.extent else loop.unroll)
    for buffer in kernel.buffers:
        if buffer.space in ("shared", "register", "constant"):
            found += [*buffer.shape, *buffer.strides]
    for site in kernel.statements():
        assert isinstance(site.leaf, Statement)
        found += [a.width for a in (*site.leaf.loads, *site.leaf.stores)]
        found += [w.amount for w in site.leaf.work]
    return free_names(*found) & frozenset(kernel.params)


def cuda_source(kernel: Kernel, sizes: Mapping[str, int], *, runtime: Collection[str] | None = None) -> Source:
    """Write one configuration of a kernel as CUDA C++ with the entry `kernel`.

    Args:
        kernel: traced.
        sizes: a value for each of its parameters.
        runtime: sizes that stay arguments of the entry; those that need not be known at compile time if None.

    Raises:
        UnsupportedError: matrix instructions, or something else that this cannot express.
    """
    needed = needed_at_compile_time(kernel)
    free = frozenset(kernel.params) - needed if runtime is None else frozenset(runtime)
    if free & needed:
        raise UnsupportedError(f"kernel {kernel.name}: {', '.join(sorted(free & needed))} must be known at compile time")
    return _Writer(kernel, Names(kernel.name, sizes, free)).source()


class _Writer:
    """Walks one kernel and writes its lines."""

    def __init__(self, kernel: Kernel, names: Names) -> None:
        self.kernel, self.names = kernel, names
        self.values = Values(kernel, names)
        self.pool = Pool(kernel, names)
        self.waiting_stages: int | None = None
        self.number = 0
        self.asynchronous = any(isinstance(s.leaf, Statement) and s.leaf.asynchronous for s in kernel.sites)
        self.branches = 0

    def source(self) -> Source:
        """The whole file."""
        constants, shared, dynamic_bytes = [], [], 0
        for b in self.kernel.buffers:
            count = self.names.number(b.elements, f"size of {b.name}")
            if b.space == "constant":
                constants.append(f"__constant__ {C_TYPES[b.dtype.name]} b_{b.name}[{count}];")
            elif b.space == "shared" and b.dynamic:
                start = -(-dynamic_bytes // 16) * 16
                pointer = f"{C_TYPES[b.dtype.name]}* b_{b.name}"
                shared.append(f"{pointer} = reinterpret_cast<{C_TYPES[b.dtype.name]}*>(dynamic_shared + {start});")
                dynamic_bytes = start + count * b.dtype.itemsize
            elif b.space == "shared":
                shared.append(f"__shared__ __align__(16) {C_TYPES[b.dtype.name]} b_{b.name}[{count}];")
            elif b.space == "register":
                shared.append(self.values.register_array(b, count))
        if dynamic_bytes:
            shared.insert(0, "extern __shared__ __align__(16) char dynamic_shared[];")
        body = [*shared, *self.values.held(), *self._body(self.kernel.body, ()), *self.pool.rest()]
        runtime = tuple(n for n in self.kernel.params if any(f"n_{n}" in line for line in body) and n in self.names.runtime)
        arguments = (
            *(self._pointer(b) for b in self.kernel.buffers if b.space == "global"),
            *(f"const int n_{n}" for n in runtime),
            *(f"const int passing_{n}" for n in range(self.branches)),
            *self.values.arguments(),
            *self.pool.arguments(),
        )
        bound = self.kernel.max_threads
        limit = "" if bound is None else f" __launch_bounds__({self.names.number(bound, 'launch bound')})"
        headers = [h for name, h in _HEADERS.items() if any(b.dtype.name == name for b in self.kernel.buffers)]
        lines = [*headers, _VECTOR + (_ASYNC if self.asynchronous else ""), *constants]
        lines += [f'extern "C" __global__ void{limit} {ENTRY}({", ".join(arguments)}) {{', *_indented(body), "}", ""]
        return Source("\n".join(lines), arguments, dynamic_bytes, runtime)

    def _pointer(self, buffer: Buffer) -> str:
        stored = any(a.buffer.name == buffer.name for s in self.kernel.statements() for a in s.statement.stores)
        plain = f"{C_TYPES[buffer.dtype.name]}*"
        if buffer.read_only:
            return f"const {plain} __restrict__ b_{buffer.name}"
        return f"{plain} b_{buffer.name}" if stored else f"const {plain} b_{buffer.name}"

    def _body(self, body: tuple[Node, ...], loops: tuple[Loop, ...]) -> Iterator[str]:
        for node in body:
            if isinstance(node, Loop):
                yield from self._loop(node, loops)
            elif isinstance(node, Guard):
                yield f"if ({self._guard(node)}) {{"
                yield from _indented(self._body(node.body, loops))
                yield "}"
            elif isinstance(node, Barrier):
                yield from self._barrier()
            else:
                yield from self._statement(node, loops)

    def _loop(self, loop: Loop, loops: tuple[Loop, ...]) -> Iterator[str]:
        index = f"i_{loop.index.name}"
        inner = _indented(self._body(loop.body, (*loops, loop)))
        if loop.kind != "serial":
            yield "{"
            yield f"    const int {index} = {loop.kind}Idx.{'xyz'[loop.axis]};"
        else:
            unroll = self.names.number(loop.unroll, f"unrolling of {loop.index.name}") if loop.unroll != loop.extent else 0
            yield f"#pragma unroll {unroll}" if unroll else "#pragma unroll"
            yield f"for (int {index} = 0; {index} < {self.names.text(loop.extent)}; ++{index}) {{"
        yield from inner
        yield "}"

    def _guard(self, guard: Guard) -> str:
        if guard.conditions:
            return " && ".join(self.names.condition(c) for c in guard.conditions)
        self.branches += 1
        return f"(int)threadIdx.x < passing_{self.branches - 1}"

    def _barrier(self) -> Iterator[str]:
        if self.waiting_stages is not None:
            yield 'asm volatile("cp.async.commit_group;");'
            yield f'asm volatile("cp.async.wait_group {max(self.waiting_stages - 1, 0)};");'
            self.waiting_stages = None
        yield "__syncthreads();"

    def _statement(self, leaf: Statement, loops: tuple[Loop, ...]) -> Iterator[str]:
        yield f"{{  // {leaf.name}"
        if leaf.asynchronous:
            yield from _indented(self._asynchronous(leaf, loops))
        else:
            spare = self.pool.for_statement(self.number, leaf, loops)
            yield from _indented(self.values.statement(leaf, spare))
        yield "}"
        self.number += 1

    def _asynchronous(self, leaf: Statement, loops: tuple[Loop, ...]) -> Iterator[str]:
        stages = [self.names.number(loop.stages, "stages") for loop in loops]
        self.waiting_stages = max(stages, default=1)
        for source, target in zip(leaf.loads, leaf.stores, strict=True):
            size = self.names.number(source.bytes, "width of an asynchronous copy")
            if size not in (4, 8, 16) or source.buffer.space != "global" or target.buffer.space != "shared":
                raise UnsupportedError(
                    f"kernel {self.kernel.name}: {leaf.name}: an asynchronous copy of {size} bytes from {source.buffer.space} "
                    f"to {target.buffer.space}; cp.async moves 4, 8 or 16 bytes from global to shared memory"
                )
            yield f"copy_async<{size}>(&{self._place(target)}, &{self._place(source)});"

    def _place(self, access: Access) -> str:
        return self.values.place(access)


def _indented(lines: Iterator[str] | list[str]) -> list[str]:
    return [line if line.startswith("#") else f"    {line}" for line in lines]
