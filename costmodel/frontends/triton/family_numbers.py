"""A kernel taken apart: what is not a number, and the numbers in it; and put together again from other numbers.

Two configurations of a Triton kernel have the same skeleton where the compiler decided alike: the same statements, loops, arrays
and terms of every index. What differs then are numbers: extents, coefficients, divisors, widths, amounts. Signs and zeros belong
to the skeleton. So do divisors of thread indices under a test, whose passes are counted lane by lane.
Shared memory is what the arrays take, or those of them that the compiler keeps at once, and the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import sympy

from costmodel.errors import UnsupportedError
from costmodel.frontends.triton.family_expressions import opened, sign
from costmodel.frontends.triton.kernel import TritonKernel
from costmodel.ir import Access, Barrier, Buffer, Guard, Kernel, Loop, Node, Statement
from costmodel.ir.checks import finish
from costmodel.symbols import Condition, FloorDiv, index

__all__ = ["Numbers", "Role", "put_together", "taken_apart"]

Role = Literal["", "amount", "stages", "steps", "named", "divided", "scratch"]
"""What a number is: nothing special, operations, stages of a loop, rows of a ring of tiles, what an array is named by, warps
whose index is taken apart under a test, shared bytes beside the arrays."""
_Change = Callable[[sympy.Expr, Role, bool], sympy.Expr]
_WARP = index("thread_y")
_BARRIER_BYTES = 8
"""Source: PTX ISA, `mbarrier`: an opaque 64-bit object in shared memory."""
_NAMED = re.compile(r"(accumulators|registers)_(\d+)(_?)")


@dataclass(frozen=True, slots=True)
class Numbers:
    """A configuration's kernel, taken apart."""

    skeleton: Hashable
    values: tuple[int, ...]
    """In the order of the tree; the last is shared bytes beside the arrays."""
    roles: tuple[Role, ...]
    held_bytes: int
    """Of the shared arrays kept at once; of configurations that were not compiled, no more than that."""
    elsewhere_bytes: int
    """Of the largest thing that takes their place when they are done: a tensor that changes its layout, with more than one
    element of a thread, or another array; of configurations that were not compiled, no less than that."""

    @property
    def divided(self) -> int:
        """Warps of a block whose index is taken apart under a test, which is counted for a known number of them; else 0."""
        return max((v for v, role in zip(self.values, self.roles, strict=True) if role == "divided"), default=0)


def taken_apart(known: TritonKernel) -> Numbers:
    """The skeleton and the numbers of a configuration."""
    texts: list[str] = []
    values: list[int] = []
    roles: list[Role] = []

    def note(e: sympy.Expr, role: Role, fixed: bool) -> sympy.Expr:
        found = opened(e, fixed)
        texts.append(found.text)
        values.extend(found.values)
        roles.extend([role] * len(found.values))
        return sympy.Integer(1)

    tree = _mapped(replace(known.kernel, shared_bytes=None), note, _Names(known.kernel))
    bases = _bases(known.kernel)
    form = _form(bases, known.shared_bytes)
    scratch = int(known.shared_bytes - bases[form])
    values += [times for _, times in known.replicas] + [scratch]
    roles.extend([""] * len(known.replicas))
    roles.append("scratch")
    skeleton = (
        replace(tree, statics=()), tuple(texts), tuple(n for n, _ in known.replicas), known.notes, known.capability,
        (form, sign(scratch)),
    )  # fmt: skip
    return Numbers(skeleton, tuple(values), tuple(roles), int(bases[form]), _elsewhere_bytes(known.kernel, form))


def _elsewhere_bytes(kernel: Kernel, form: str) -> int:
    """Of the largest thing that shares the memory of the arrays: a tensor that changes its layout, or an array not counted."""
    threads, rings = kernel.max_threads or 0, _rings(kernel)
    tensors = [b for b in kernel.buffers if b.exchange and b.name.startswith("exchange_line_") and b.elements > threads]
    tiles = [b for b in kernel.buffers if "rings" in form and b.space == "shared" and not b.exchange and b.name not in rings]
    return max((int(b.size_bytes) for b in (*tensors, *tiles)), default=0)


def put_together(
    pattern: TritonKernel, values: Sequence[sympy.Expr], params: Iterable[str] = ()
) -> tuple[Kernel, tuple[tuple[str, int], ...]]:
    """The kernel with other numbers, in the order of `Numbers.values`, and how many threads load the same element.

    Args:
        pattern: a configuration with the same skeleton.
        values: its numbers, or expressions of them.
        params: further sizes of the kernel.

    Raises:
        UnsupportedError: two arrays come to be one.
    """
    form = _form(_bases(pattern.kernel), pattern.shared_bytes)
    rest = iter(values)

    def put(e: sympy.Expr, _: Role, fixed: bool) -> sympy.Expr:
        return opened(e, fixed).put(rest)

    concrete = all(v.is_Integer for v in values)
    tree = _mapped(replace(pattern.kernel, shared_bytes=None), put, _Names(pattern.kernel, by_extent=concrete))
    replicas = tuple((name, next(rest)) for name, _ in pattern.replicas)
    shared = _bases(tree)[form] + next(rest)
    kernel = replace(tree, params=(*tree.params, *params), statics=(), registers=None, shared_bytes=shared)
    return finish(kernel), tuple((n, int(v) if v.is_Integer else 1) for n, v in replicas)


def _bases(kernel: Kernel) -> dict[str, sympy.Expr]:
    """What shared memory may hold at once.

    All arrays, all less one step of the rings, or rings alone, which the others replace later; where copies go by descriptor,
    each with a barrier for each step or without.
    """
    shared, rings = [b for b in kernel.buffers if b.space == "shared"], _rings(kernel)
    whole = sum((b.reserved_bytes for b in shared), sympy.Integer(0))
    if not rings:
        return {"all": whole}
    step = sum((FloorDiv(b.size_bytes, rings[b.name]) for b in shared if b.name in rings), sympy.Integer(0))
    found = {"all": whole, "all, less a step": whole - step, "rings": sum(b.size_bytes for b in shared if b.name in rings)}
    if any(name.startswith("staged_") for name in rings):  # filled by lanes, not by descriptor
        return found
    barriers = _BARRIER_BYTES * next(iter(rings.values()))
    return found | {f"{name}, and barriers": held + barriers for name, held in found.items()}


def _form(bases: Mapping[str, sympy.Expr], shared_bytes: int) -> str:
    """What is in shared memory: exactly this, or as much of it as fits."""
    exact = [name for name, held in bases.items() if held == shared_bytes]
    below = [name for name, held in bases.items() if held <= shared_bytes and "barriers" not in name]
    return (exact or below or ["all"])[0]


def _rings(kernel: Kernel) -> dict[str, sympy.Expr]:
    """Arrays that copies fill ahead, and how many steps they hold."""
    found: dict[str, sympy.Expr] = {}

    def walk(nodes: Iterable[Node], stages: sympy.Expr) -> None:
        for node in nodes:
            if isinstance(node, Loop):
                walk(node.body, node.stages if node.stages != 1 else stages)
            elif isinstance(node, Guard):
                walk(node.body, stages)
            elif isinstance(node, Statement) and node.asynchronous and stages != 1:
                found.update({a.buffer.name: stages for a in node.stores if a.buffer.space == "shared"})

    walk(kernel.body, sympy.Integer(1))
    return found


# -- the tree


class _Names:
    """Names of arrays, those that have a number in it by their place instead, or by their extent again."""

    def __init__(self, kernel: Kernel, *, by_extent: bool = False) -> None:
        self.by_extent = by_extent
        self.stems: dict[str, str] = {}
        self.tails: dict[str, str] = {}
        self.order: dict[str, str] = {}
        for b in kernel.buffers:
            found = _NAMED.fullmatch(b.name) if b.space == "register" or b.exchange else None
            if found is not None and b.shape == (sympy.Integer(int(found.group(2))),):
                self.stems[b.name], self.tails[b.name] = found.group(1), found.group(3)
        taken = {b.name for b in kernel.buffers if b.name not in self.stems} | set(kernel.params)
        for name, stem in self.stems.items():
            number = 1
            while f"{stem}_{number}" in taken:
                number += 1
            taken.add(f"{stem}_{number}")
            self.order[name] = f"{stem}_{number}"

    def of(self, name: str, extent: sympy.Expr) -> str:
        if name not in self.stems:
            return name
        return f"{self.stems[name]}_{extent}{self.tails[name]}" if self.by_extent else self.order[name]


def _mapped(kernel: Kernel, change: _Change, names: _Names) -> Kernel:
    """The kernel with every expression changed, in one order."""
    rings = _rings(kernel)
    divided = any(_divides_warps(e) for s in kernel.sites for g in s.guards for c in g.conditions for e in c[1:])

    def each(e: sympy.Expr, role: Role = "") -> sympy.Expr:
        return change(e, role, False)

    def array(b: Buffer) -> Buffer:
        first: Role = "steps" if b.name in rings else "named" if b.name in names.stems else ""
        shape = (each(b.shape[0], first), *(each(n) for n in b.shape[1:]))
        return replace(b, name=names.of(b.name, shape[0]), shape=shape, strides=tuple(each(s) for s in b.strides))

    buffers = {b.name: array(b) for b in kernel.buffers}
    if len({b.name for b in buffers.values()}) < len(buffers):
        raise UnsupportedError(f"kernel {kernel.name}: with these numbers two of its arrays are one")

    def tests(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
        return tuple((op, change(a, "", True), change(b, "", True)) for op, a, b in conditions)

    def accesses(found: Iterable[Access]) -> tuple[Access, ...]:
        return tuple(Access(buffers[a.buffer.name], tuple(each(i) for i in a.index), each(a.width), a.cached) for a in found)

    def node(n: Node) -> Node:
        match n:
            case Barrier():
                return n
            case Loop():
                warps: Role = "divided" if divided and n.index.name == "thread_y" else ""
                extent, unroll, stages = each(n.extent, warps), each(n.unroll), each(n.stages, "stages")
                return Loop(n.index, extent, n.kind, tuple(node(m) for m in n.body), n.axis, unroll, stages)
            case Guard():
                return Guard(tests(n.conditions), tuple(node(m) for m in n.body), n.fraction)
            case Statement():
                work = tuple(replace(w, amount=each(w.amount, "amount")) for w in n.work)
                return replace(n, loads=accesses(n.loads), stores=accesses(n.stores), work=work)

    body = tuple(node(n) for n in kernel.body)
    most = None if kernel.max_threads is None else each(kernel.max_threads)
    return Kernel(
        kernel.name, kernel.params, kernel.statics, tuple(buffers.values()), tests(kernel.requirements), body, most, None,
        kernel.shared_bytes,
    )  # fmt: skip


def _divides_warps(e: sympy.Expr) -> bool:
    return any(f.args and not (f.is_Add or f.is_Mul) and f.has(_WARP) for f in sympy.preorder_traversal(e))
